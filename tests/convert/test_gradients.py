"""Gradients of a dense layer and of the convolution that it became: numpy in float64 and finite differences say what is
right, plain ONNX Runtime runs both forms, and each wrong gradient is caught."""

import functools
import json
from itertools import product

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from dense2conv.convert.backward import convolution_backward, dense_backward
from dense2conv.convert.conversion import convert
from dense2conv.convert.gradients import LIMIT, gradient_check
from dense2conv.convert.metadata import KEY, read_metadata
from dense2conv.convert.sliding import Sliding
from dense2conv.convert.verification import verify

from .nets import FLOAT16, Net, session

# kernel, strides, dilations, rest: s < k, s = k, s > k, s = 1, r > 0, r beyond a dilation; one to three axes
CASES = {
    "1-D, overlapping": ((4,), (3,), (1,), (2,)),
    "1-D, dilated": ((4,), (2,), (3,), (1,)),
    "2-D, stride 1": ((3, 2), (1, 1), (1, 1), (0, 0)),
    "2-D, side by side": ((4, 4), (4, 4), (1, 1), (3, 1)),
    "2-D, apart": ((2, 3), (5, 4), (1, 1), (4, 2)),
    "2-D, dilated": ((4, 3), (3, 5), (1, 2), (2, 4)),
    "2-D, 1x1": ((1, 1), (1, 1), (1, 1), (0, 0)),
    "3-D": ((2, 3, 2), (2, 1, 3), (2, 1, 1), (1, 0, 2)),
}


def by_the_slow_way(x, w, dy, strides, dilations):
    """dX, dW and db, window by window, in float64."""
    x, w, dy = (a.astype(np.float64) for a in (x, w, dy))
    dx, dw = np.zeros(x.shape), np.zeros(w.shape)
    for place in product(*map(range, dy.shape[2:])):
        axes = zip(place, w.shape[2:], strides, dilations, strict=True)
        pixels = tuple(slice(i * s, i * s + d * (k - 1) + 1, d) for i, k, s, d in axes)
        at = dy[(slice(None), slice(None), *place)]  # (N, O)
        dx[(slice(None), slice(None), *pixels)] += np.einsum("no,oc...->nc...", at, w)
        dw += np.einsum("no,nc...->oc...", at, x[(slice(None), slice(None), *pixels)])
    return dx, dw, dy.sum((0, *range(2, dy.ndim)))


def tensors(kernel, strides, dilations, rest, dtype, counts=(3, 2, 2)):
    random = np.random.default_rng(5)
    counts = counts[: len(kernel)]
    axes = zip(kernel, strides, dilations, rest, counts, strict=True)
    size = [d * (k - 1) + 1 + s * (p - 1) + r for k, s, d, r, p in axes]
    return tuple(
        random.standard_normal(shape).astype(dtype)
        for shape in ((2, 3, *size), (4, 3, *kernel), (2, 4, *counts))
    )


@pytest.mark.parametrize("case", CASES)
def test_the_convolutions_graph_in_onnx_runtime(case):
    kernel, strides, dilations, rest = CASES[case]
    x, w, dy = tensors(kernel, strides, dilations, rest, "float32")
    graph = convolution_backward(kernel, strides, dilations, rest)
    found = session(graph.SerializeToString()).run(["dx", "dw", "db"], {"x": x, "w": w, "dy": dy})
    for array, expected in zip(found, by_the_slow_way(x, w, dy, strides, dilations), strict=True):
        assert array.shape == expected.shape
        assert np.abs(array - expected).max() < 3e-6 * np.abs(expected).max()


@pytest.mark.parametrize("case", CASES)
def test_the_convolutions_graph_in_float64(case):
    """onnx's own reference, which has what ONNX Runtime lacks: a convolution in double precision."""
    kernel, strides, dilations, rest = CASES[case]
    x, w, dy = tensors(kernel, strides, dilations, rest, "float64")
    graph = convolution_backward(kernel, strides, dilations, rest, TensorProto.DOUBLE)
    found = ReferenceEvaluator(graph).run(None, {"x": x, "w": w, "dy": dy})
    for array, expected in zip(found, by_the_slow_way(x, w, dy, strides, dilations), strict=True):
        np.testing.assert_allclose(array, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("transposed", [False, True])
def test_the_dense_layers_graph_in_double(transposed):
    random = np.random.default_rng(1)
    x, w, dy = (random.standard_normal(shape) for shape in ((5, 7), (7, 3), (5, 3)))
    graph = session(dense_backward(transposed, TensorProto.DOUBLE).SerializeToString())
    dx, dw, db = graph.run(["dx", "dw", "db"], {"x": x, "w": w.T.copy() if transposed else w, "dy": dy})
    np.testing.assert_allclose(dx, dy @ w.T, atol=1e-13)
    np.testing.assert_allclose(dw.T if transposed else dw, x.T @ dy, atol=1e-13)
    np.testing.assert_allclose(db, dy.sum(0), atol=1e-13)


@pytest.mark.parametrize("case", CASES)
def test_windows_and_their_adjoint(case):
    """``image`` is the adjoint of ``windows``: <windows(x), v> = <x, image(v)> for every x and v."""
    kernel, strides, dilations, _ = CASES[case]
    sliding = Sliding.over(kernel, strides, dilations, 2)
    random = np.random.default_rng(2)
    x = random.integers(-9, 10, (2, 3, *sliding.size))
    windows = sliding.windows(x)
    v = random.integers(-9, 10, windows.shape)
    assert (windows * v).sum() == (x * sliding.image(v)).sum()
    assert windows.shape[0] == 2 * np.prod(sliding.counts)
    last = tuple(slice(s * (p - 1), s * (p - 1) + d * (k - 1) + 1, d) for k, s, d, p in zip(
        kernel, sliding.strides, dilations, sliding.counts, strict=True))  # fmt: skip
    np.testing.assert_array_equal(windows[-1], x[(1, slice(None), *last)])


# -- the check -----------------------------------------------------------------------------------------------------


def classifier(shape=(None, 2, 9, 8), last=False, branches=False, transposed=True, **how):
    """Convolution, pool, flatten, two dense layers; ``branches``: two feature maps behind one dense layer."""
    net = Net(shape, **how)
    rank = len(shape) - 2
    x = "x"
    if last:
        x = net("Transpose", "x", perm=[0, rank + 1, *range(1, rank + 1)])
    x = net("Relu", net.conv(x))
    if last:
        back = net("Transpose", x, perm=[0, *range(2, rank + 2), 1])
        flat = net.flat(back)
    else:
        flat = net.flat(x)
    if branches:
        flat = net("Concat", flat, net.flat(net("MaxPool", x, kernel_shape=[2] * rank)), axis=1)
    inputs = net.shape_of(flat)[-1]
    y = net.dense(flat, 5) if transposed else net("MatMul", flat, net.weight(inputs, 5, fan=9))
    return net.model(net.dense(net("Relu", y), 3))


NETWORKS = {
    "channels first": classifier,
    "channels last": lambda: classifier((None, 9, 8, 2), last=True),
    "a weight (K, O)": lambda: classifier(transposed=False),
    "channels last, a weight (K, O)": lambda: classifier((None, 9, 8, 2), last=True, transposed=False),
    "1-D": lambda: classifier((None, 2, 30)),
    "3-D": lambda: classifier((None, 2, 5, 6, 4)),
    "two branches": lambda: classifier(branches=True),
    "float16": lambda: classifier(kind=FLOAT16),
}


def checked(model, candidate, seed=0):
    return gradient_check(model, candidate, read_metadata(candidate.proto), seed)


@pytest.mark.parametrize("stride", [(1,), (3,), "patch", (40,)], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_right_map(name, stride):
    model = NETWORKS[name]()
    check = checked(model, convert(model, stride=stride).map)
    assert check.verdict == "equivalent", check.text
    layers = check.details["layers"]
    assert len(layers) == (3 if name == "two branches" else 2)
    for layer in layers:
        assert max(layer["errors"].values()) < 2  # of at most 8
        assert {key.split()[0] for key in layer["errors"]} == {"dX", "dW", "db"}
        assert layer["finite_differences"] < 3e-7
    assert json.dumps(check.to_json())


def test_blocks_of_units_are_the_whole_layer(monkeypatch):
    model = classifier()
    monkeypatch.setattr("dense2conv.convert.gradients._BLOCK", 300)  # two units of 126 inputs at a time
    candidate = convert(model).map
    assert checked(model, candidate).verdict == "equivalent"
    changed(candidate, lambda kernel: np.concatenate([kernel[:-1], kernel[-1:] * 1.01]))
    assert checked(model, candidate).verdict == "different"


def changed(candidate, change):
    """Change the kernel of the first rewritten layer, and nothing that says so."""
    for tensor in candidate.proto.graph.initializer:
        if tensor.name.endswith("/kernel"):
            array = np.array(candidate.array(tensor))
            after = np.ascontiguousarray(change(array))
            assert after.shape == array.shape
            assert not np.array_equal(after, array)
            candidate.weights[tensor.name] = after
            tensor.ClearField("raw_data")
            return
    raise AssertionError


WRONG = {
    "flipped": lambda k: k[:, :, ::-1, ::-1],
    "flipped on one axis": lambda k: k[..., ::-1],
    "rows permuted": lambda k: k[np.r_[1:len(k), 0]],
    "channels permuted": lambda k: k[:, [1, 0, *range(2, k.shape[1])]],
    "read as HWC": lambda k: k.reshape(len(k), *k.shape[2:], k.shape[1]).transpose(0, 3, 1, 2),
    "transposed": lambda k: k.transpose(0, 1, 3, 2).reshape(k.shape),
    "half as large": lambda k: k / 2,
    "one weight": lambda k: k + (np.arange(k.size).reshape(k.shape) == 77),
}  # fmt: skip


@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_kernel_has_wrong_gradients(how):
    model = classifier()
    candidate = convert(model).map
    changed(candidate, WRONG[how])
    check = checked(model, candidate)
    assert check.verdict == "different"
    assert "dX of the convolution is " in check.text
    assert "where it should be " in check.text
    report = verify(model, candidate, gradients=True)
    assert next(c for c in report.checks if c.name == "gradients").verdict == "different"


@pytest.mark.parametrize("gradient", ["dx", "dw", "db"])
@pytest.mark.parametrize("form", ["convolution_backward", "dense_backward"])
def test_a_wrong_formula_is_caught(form, gradient, monkeypatch):
    """Either form's graph gives one gradient that is off in its first element."""
    from dense2conv.convert import gradients

    right = getattr(gradients, form)

    def wrong(*args):
        graph = right(*args)
        node = next(n for n in graph.graph.node if gradient in n.output)
        node.output[0] = "right"
        ranks = {"dx": 4, "dw": 4, "db": 1} if form.startswith("conv") else {"dx": 2, "dw": 2, "db": 1}
        one = [1] * ranks[gradient]
        graph.graph.initializer.append(
            helper.make_tensor("zero", TensorProto.INT64, [len(one)], [0] * len(one))
        )
        graph.graph.initializer.append(helper.make_tensor("first", TensorProto.FLOAT, one, [1.0]))
        nodes = [
            helper.make_node("Shape", ["right"], ["shape"]),
            helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
            helper.make_node("Unsqueeze", ["zero", "axis"], ["place"]),
            helper.make_node("ScatterND", ["zeros", "place", "value"], ["off"]),
            helper.make_node("Add", ["right", "off"], [gradient]),
        ]
        graph.graph.initializer.append(helper.make_tensor("axis", TensorProto.INT64, [1], [0]))
        graph.graph.initializer.append(helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0]))
        graph.graph.node.extend(nodes)
        return graph

    model = classifier()
    candidate = convert(model).map
    monkeypatch.setattr(gradients, form, wrong)
    check = checked(model, candidate)
    assert check.verdict == "different"
    who = "convolution" if form.startswith("conv") else "dense layer"
    letter = {"dx": "dX", "dw": "dW", "db": "db"}[gradient]
    assert f"{letter} of the {who} is " in check.text


def test_finite_differences_find_a_wrong_formula_by_themselves(monkeypatch):
    """Where all three computations agree on a wrong weight, the loss itself does not."""
    from dense2conv.convert import gradients

    model = classifier()
    candidate = convert(model).map
    held = gradients._Found.hold

    def only_differences(self, gradient, who, found, expected, unit):
        if "finite" in who:
            held(self, gradient, who, found * 1.001, expected, unit)

    monkeypatch.setattr(gradients._Found, "hold", only_differences)
    check = checked(model, candidate)
    assert check.verdict == "different"
    assert "(finite differences)" in check.text


def test_a_map_of_patches_has_nothing_to_compare():
    model = classifier()
    check = checked(model, convert(model, method="patches", stride="patch").map)
    assert check.verdict is None
    assert check.text == "no dense layer became a convolution"


def test_without_metadata_nothing_is_proven():
    model = classifier()
    candidate = convert(model).map
    kept = [p for p in candidate.proto.metadata_props if p.key != KEY]
    del candidate.proto.metadata_props[:]
    candidate.proto.metadata_props.extend(kept)
    check = checked(model, candidate)
    assert check.verdict == "inconclusive"
    assert "metadata does not say" in check.text


def test_a_layer_that_is_not_found_again_is_inconclusive():
    model = classifier()
    candidate = convert(model).map
    node = next(
        n for n in candidate.proto.graph.node if n.op_type == "Conv" and n.input[1].endswith("/kernel")
    )
    node.input[1] = "elsewhere"
    check = checked(model, candidate)
    assert check.verdict == "inconclusive"
    assert "no convolution has the weight" in check.text


def test_a_weight_of_nan_is_inconclusive():
    net = Net()
    weight = np.full((4, 126), np.nan, np.float32)
    model = net.model(net("Gemm", net.flat(net.conv("x")), net.tensor(weight), transB=1))
    check = checked(model, convert(model).map)
    assert check.verdict == "inconclusive"
    assert "NaN" in check.text


def test_a_constant_in_front_is_no_part_of_the_layer():
    """A normalisation of each position goes into the kernel by a Mul; the layer's own weight is still found."""
    net = Net()
    flat = net.flat(net("Relu", net.conv("x")))
    scaled = net("Mul", flat, net.weight(1, 126, offset=1.0))
    model = net.model(net.dense(scaled, 5))
    candidate = convert(model).map
    assert [n.op_type for n in candidate.proto.graph.node].count("Mul") == 1
    assert checked(model, candidate).verdict == "equivalent"


def test_verify_asks_for_gradients_only_if_told():
    model = classifier()
    candidate = convert(model).map
    assert "gradients" not in [c.name for c in verify(model, candidate).checks]
    report = verify(model, candidate, gradients=True)
    assert report.verdict == "equivalent"
    assert [c.name for c in report.checks][-4:] == ["gradients", "levels", "adequacy", "providers"]


@pytest.mark.parametrize("features", [64, 784, 4096, 25088])
def test_the_tolerance_is_far_from_what_rounding_does(features):
    """Wide layers, weights over twelve decades: the errors stay below a quarter of what passes."""
    net = Net((None, features // 16, 4, 4))
    random = np.random.default_rng(features)
    weight = random.standard_normal((24, features)) * 10.0 ** random.uniform(-6, 6, (24, 1))
    model = net.model(
        net("Gemm", net.flat(net("Relu", "x")), net.tensor(weight.astype(np.float32)), transB=1)
    )
    check = checked(model, convert(model, order="CHW", stride=(1,)).map)
    assert check.verdict == "equivalent"
    assert max(check.details["layers"][0]["errors"].values()) < LIMIT / 4


# -- worked case 4: two dense layers and one ReLU, trained ------------------------------------------------------------

N, D_IN, HIDDEN, D_OUT, STEPS, RATE = 64, 1000, 100, 10, 500, 1e-6


def data(dtype=np.float64):
    random = np.random.default_rng(0)
    shapes = ((N, D_IN), (N, D_OUT), (D_IN, HIDDEN), (HIDDEN, D_OUT))
    return [random.standard_normal(shape).astype(dtype) for shape in shapes]


def trained(x, t, w1, w2, product, by_input, by_weight):
    """The loss at each step. ``product(x, w)``, its ``by_input(dy, w)`` and ``by_weight(x, dy)``: one layer's form."""
    losses = []
    for _ in range(STEPS):
        h = product(x, w1)
        h_relu = np.maximum(h, 0)
        y = product(h_relu, w2)
        losses.append(float(np.square((y - t).astype(np.float64)).sum()))
        dy = 2 * (y - t)
        dw2 = by_weight(h_relu, dy)
        dh = by_input(dy, w2) * (h > 0)
        w1, w2 = w1 - x.dtype.type(RATE) * by_weight(x, dh), w2 - x.dtype.type(RATE) * dw2
    return np.array(losses)


@functools.cache
def as_dense():
    """The two dense layers in numpy, float64."""
    return trained(*data(), np.matmul, lambda dy, w: dy @ w.T, lambda x, dy: x.T @ dy)


# A patch flattened rows, columns, channels: x (N, 10, 10, 10) and W (K, O) to ONNX's axes.
FORMS = {
    "a 1x1 image with 1000 channels": (
        lambda x: x.reshape(N, D_IN, 1, 1),
        lambda w: w.T.reshape(HIDDEN, D_IN, 1, 1),
    ),
    "a 10x10x10 patch": (
        lambda x: x.reshape(N, 10, 10, 10).transpose(0, 3, 1, 2),
        lambda w: w.reshape(10, 10, 10, HIDDEN).transpose(3, 2, 0, 1),
    ),
}


def tap_by_tap():
    """A convolution as large as its input, and its gradients, in numpy: one tap of the kernel after the other."""

    def product(x, w):
        y = np.zeros((len(x), len(w), 1, 1), x.dtype)
        for i, j in np.ndindex(*w.shape[2:]):
            y[:, :, 0, 0] += x[:, :, i, j] @ w[:, :, i, j].T
        return y

    def by_input(dy, w):
        return np.einsum("no,ochw->nchw", dy[:, :, 0, 0], w, optimize=True)

    def by_weight(x, dy):
        dw = np.empty((dy.shape[1], *x.shape[1:]), x.dtype)
        for i, j in np.ndindex(*x.shape[2:]):
            dw[:, :, i, j] = dy[:, :, 0, 0].T @ x[:, :, i, j]
        return dw

    return product, by_input, by_weight


def arranged(form, x, t, w1, w2):
    image, kernel = FORMS[form]
    parts = (image(x), t.reshape(N, D_OUT, 1, 1), kernel(w1), w2.T.reshape(D_OUT, HIDDEN, 1, 1))
    return [np.ascontiguousarray(part) for part in parts]


@pytest.mark.parametrize("form", FORMS)
def test_case_4_in_float64(form):
    dense = as_dense()
    convolved = trained(*arranged(form, *data()), *tap_by_tap())
    assert dense[0] > 1e7
    assert dense[-1] < 1e-5  # it learns: a constant curve would prove nothing
    assert np.abs(dense / convolved - 1).max() <= 2e-9  # 2.3e-10 was measured


@pytest.mark.parametrize("form", FORMS)
def test_case_4_in_onnx_runtime(form):
    """Both forms by this library's graphs, in float32: together while the loss is above 100, where it is compared."""
    plain = session(dense_backward().SerializeToString())
    random = data(np.float32)
    dense = trained(*random, np.matmul, *gradients_of(plain))
    convolved = trained(*arranged(form, *random), *in_onnx_runtime(FORMS[form][1](random[2]).shape[2:]))
    exact = as_dense()
    above = exact > 100
    assert 50 < above.sum() < STEPS
    # 1.1e-5 and 1.5e-5 were measured; near zero the two drift apart (1 % at the end).
    assert np.abs(dense / convolved - 1)[above].max() < 5e-5
    assert np.abs(convolved / exact - 1)[above].max() < 5e-5


def gradients_of(backward):
    """``by_input`` and ``by_weight`` of one graph, which computes both: what is not asked for gets zeros."""

    def by_input(dy, w):
        x = np.zeros((len(dy), len(w)), dy.dtype)
        return backward.run(["dx"], {"x": x, "w": w, "dy": dy})[0]

    def by_weight(x, dy):
        w = np.zeros((x.shape[1], dy.shape[1]), x.dtype)
        return backward.run(["dw"], {"x": x, "w": w, "dy": dy})[0]

    return by_input, by_weight


def in_onnx_runtime(patch):
    """The forward Conv and ``convolution_backward``, for the first layer's kernel and for the 1x1 behind it."""
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    shapes = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * 4) for n in ("x", "w", "y")]
    made = helper.make_graph([node], "forward", shapes[:2], shapes[2:])
    imports = [helper.make_opsetid("", 17)]
    forward = session(helper.make_model(made, opset_imports=imports, ir_version=8).SerializeToString())
    backward = {
        size: session(convolution_backward(size, (1, 1), (1, 1), (0, 0)).SerializeToString())
        for size in {tuple(patch), (1, 1)}
    }

    def by_input(dy, w):
        x = np.zeros((len(dy), *w.shape[1:]), dy.dtype)
        return backward[w.shape[2:]].run(["dx"], {"x": x, "w": w, "dy": dy})[0]

    def by_weight(x, dy):
        w = np.zeros((dy.shape[1], *x.shape[1:]), x.dtype)
        return backward[x.shape[2:]].run(["dw"], {"x": x, "w": w, "dy": dy})[0]

    return lambda x, w: forward.run(None, {"x": x, "w": w})[0], by_input, by_weight


def test_case_4_the_graph_in_float64():
    """One step's dW of the 10x10x10 patch by the library's graph in onnx's reference, in double precision."""
    x, t, w1, w2 = arranged("a 10x10x10 patch", *data())
    product, _, by_weight = tap_by_tap()
    dy = 2 * (product(np.maximum(product(x, w1), 0), w2) - t)
    dh = np.einsum("no,oc->nc", dy[:, :, 0, 0], w2[:, :, 0, 0])[:, :, None, None] * (product(x, w1) > 0)
    graph = convolution_backward((10, 10), (1, 1), (1, 1), (0, 0), TensorProto.DOUBLE)
    dx, dw, db = ReferenceEvaluator(graph).run(None, {"x": x, "w": w1, "dy": dh})
    expected = by_weight(x, dh)
    np.testing.assert_allclose(dw, expected, rtol=0, atol=1e-13 * np.abs(expected).max())
    np.testing.assert_allclose(dx, np.einsum("no,ochw->nchw", dh[:, :, 0, 0], w1), atol=1e-8)
    np.testing.assert_allclose(db, dh.sum((0, 2, 3)), atol=1e-8)
