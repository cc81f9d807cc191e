"""Layers that slide: what they do with strides that do not tile, pads, dilations and crops."""

import numpy as np
import pytest

from dense2conv.convert.conversion import convert
from dense2conv.convert.errors import FileError

from .nets import Net, assert_map, difference, noise, on_the_map, run, scan, serialised, uneven

LAST = 2**63 - 1


def head(net, x):
    return net.dense(net.flat(x))


def sliced(net, x, starts, ends, axes, steps=None):
    if net.opset >= 10:
        lists = [starts, ends, axes, *([steps] if steps else [])]
        return net("Slice", x, *(net.integers(*v) for v in lists))
    return net("Slice", x, starts=starts, ends=ends, axes=axes)


def padded(net, x, pads, value=None, mode="constant"):
    if net.opset >= 11:
        extra = [] if value is None else [net.tensor(value, np.float32)]
        return net("Pad", x, net.integers(*pads), *extra, mode=mode)
    return net("Pad", x, pads=pads, mode=mode, **({} if value is None else {"value": value}))


def pool(kind="MaxPool", k=2, s=2, **attributes):
    sizes = {"kernel_shape": [k, k], "strides": [s, s]}
    return lambda net, x: net(kind, x, **{**sizes, **attributes})


def residual(net, x):
    """A valid convolution and its cropped input."""
    y = net.conv(x, channels=3)
    return net("Add", y, sliced(net, x, [1, 1], [-1, -1], [2, 3]))


def residual_by_sizes(net, x):
    """The crop counted from the front, as an exporter writes it: right on a patch only."""
    h, w = net.shape_of(x)[2:]
    return net("Add", net.conv(x, channels=3), sliced(net, x, [1, 1], [h - 1, w - 1], [2, 3]))


def residual_by_negative_pads(net, x):
    return net("Add", net.conv(x, channels=3), padded(net, x, [0, 0, -1, -1, 0, 0, -1, -1]))


def inception(net, x):
    """Branches whose strides leave different remainders, joined."""
    a = net.conv(x, kernel=3, strides=[2, 2], out=2)
    b = net("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    b = sliced(net, b, [0, 0], net.shape_of(a)[2:], [2, 3])
    return net("Concat", a, b, axis=1)


def pooled_and_convolved(op):
    """A pool over the patch meets a convolution with one position a patch."""

    def build(net, x):
        y = net.conv(x, kernel=net.shape_of(x)[2:], channels=3)
        return net(op, net("GlobalMaxPool", x), y, **({"axis": 1} if op == "Concat" else {}))

    return build


def remainders(net, x):
    """Two branches of one stride and size that read different ends of the patch."""
    a = net("MaxPool", x, kernel_shape=[2, 2], strides=[3, 3])
    b = net("AveragePool", x, kernel_shape=[3, 3], strides=[3, 3])
    return net("Add", sliced(net, a, [0, 0], net.shape_of(b)[2:], [2, 3]), b)


CASES = {
    "convolution": lambda net, x: net.conv(x),
    "convolution of stride 2": lambda net, x: net.conv(x, strides=[2, 2]),
    "convolution of stride 3x2, kernel 2x4": lambda net, x: net.conv(x, strides=[3, 2], kernel=(2, 4)),
    "dilated": lambda net, x: net.conv(x, dilations=[2, 2]),
    "dilated 3x1, stride 2": lambda net, x: net.conv(x, dilations=[3, 1], strides=[2, 2]),
    "grouped": lambda net, x: net.conv(x, out=6, group=3),
    "depthwise": lambda net, x: net.conv(x, out=3, group=3, bias=False),
    "depthwise with multiplier, then 1x1": lambda net, x: net.conv(net.conv(x, out=6, group=3), kernel=1),
    "stride larger than kernel": lambda net, x: net.conv(x, kernel=1, strides=[3, 3]),
    "MaxPool": pool(),
    "MaxPool, overlapping": pool(k=3),
    "MaxPool, dilated": pool(k=2, dilations=[2, 3]),
    "MaxPool of stride 1": pool(s=1),
    "AveragePool": pool("AveragePool"),
    "AveragePool, overlapping": pool("AveragePool", k=3),
    "AveragePool, count_include_pad without pads": pool("AveragePool", count_include_pad=1),
    "LpPool": pool("LpPool", p=2),
    "LpPool p=1": pool("LpPool", p=1, k=3),
    "ceil_mode that divides": lambda net, x: pool(ceil_mode=1)(net, sliced(net, x, [0, 0], [12, 10], [2, 3])),
    "auto_pad VALID": lambda net, x: net.conv(x, auto_pad="VALID", strides=[2, 2]),
    "MaxPool, auto_pad VALID": pool(auto_pad="VALID", k=3),
    "SAME that leaves pixels out": lambda net, x: net.conv(x, kernel=1, auto_pad="SAME_LOWER", strides=[5, 4]),
    "LpPool SAME that leaves pixels out": pool("LpPool", k=1, s=5, auto_pad="SAME_UPPER"),
    "auto_pad SAME that pads nothing": lambda net, x: net.conv(x, kernel=1, auto_pad="SAME_UPPER", strides=[2, 2]),
    "floor remainders at three layers": lambda net, x: pool(k=2)(net, net.conv(pool(k=2)(net, x), kernel=2)),
    "floor remainder, stride 3 on 2": lambda net, x: pool("AveragePool", k=2, s=3)(net, pool(k=2)(net, x)),
    "residual with Slice": residual,
    "residual with Slice by sizes": residual_by_sizes,
    "residual with negative pads": residual_by_negative_pads,
    "residual twice, then pool": lambda net, x: pool()(net, residual(net, residual(net, x))),
    "branches of different remainders": inception,
    "branches that read different ends": remainders,
    "pooled and convolved, joined": pooled_and_convolved("Concat"),
    "pooled and convolved, added": pooled_and_convolved("Add"),
    "Slice with steps": lambda net, x: sliced(net, x, [1, 0], [LAST, LAST], [2, 3], [2, 3]),
    "Slice of the end": lambda net, x: sliced(net, x, [3, -9], [LAST, LAST], [2, 3]),
    "Slice of channels": lambda net, x: sliced(net, x, [1], [3], [1]),
    "Slice of channels with steps": lambda net, x: sliced(net, x, [0], [3], [1], [2]),
    "Slice without axes": lambda net, x: net("Slice", x, net.integers(0, 0, 2), net.integers(LAST, 3, -2)),
    "Pad that a crop takes away": lambda net, x: sliced(
        net, padded(net, x, [0, 0, 2, 1, 0, 0, 1, 2]), [2, 1], [-1, -2], [2, 3]
    ),
    "Pad of channels": lambda net, x: padded(net, x, [0, 1, 0, 0, 0, 2, 0, 0], 0.5),
    "Pad with axes": lambda net, x: net(
        "Pad", x, net.integers(-1, -2, 0, -1), "", net.integers(2, -1)
    ),
    "LRN": lambda net, x: net("LRN", net.conv(x, out=6), size=3, alpha=0.3, beta=0.5, bias=1.5),
    "BatchNormalization": lambda net, x: net(
        "BatchNormalization", x, net.weight(3, fan=1), net.weight(3, fan=1), net.weight(3, fan=1),
        net.tensor([0.5, 1.0, 2.0], np.float32), epsilon=0.1,
    ),
    "PRelu, one slope a channel": lambda net, x: net("PRelu", x, net.weight(3, 1, 1, fan=1)),
    "PRelu, one slope": lambda net, x: net("PRelu", x, net.weight(1, fan=1)),
    "scale and shift a channel": lambda net, x: net(
        "Add", net("Mul", x, net.weight(1, 3, 1, 1, fan=1)), net.weight(3, 1, 1, fan=1)
    ),
    "gate of one channel": lambda net, x: net("Mul", x, net("Sigmoid", net.conv(x, out=1, kernel=1))),
    "swish, by Mul": lambda net, x: net("Mul", x, net("Sigmoid", x)),
    "Clip": lambda net, x: net("Clip", x, net.tensor(-0.5, np.float32), net.tensor(0.7, np.float32)),
    "Max of two": lambda net, x: net("Max", x, net.conv(x, kernel=1), net.tensor(0.1, np.float32)),
    "Gather of channels": lambda net, x: net("Gather", x, net.integers(2, 0, 2), axis=1),
    "Gather of a negative channel": lambda net, x: net("Gather", x, net.integers(-1, 0), axis=1),
    "Gather of the last column": lambda net, x: net("Gather", x, net.tensor(-1, np.int64), axis=3),
    "Gather of a row": lambda net, x: net("Gather", x, net.tensor(4, np.int64), axis=2),
    "Softmax over the channels of each position": lambda net, x: net("Softmax", x, axis=1),
    "LayerNormalization of each position": lambda net, x: net(
        "Transpose",
        net(
            "LayerNormalization", net("Transpose", x, perm=[0, 2, 3, 1]), net.weight(3, fan=1),
            net.weight(3, fan=1), axis=-1, epsilon=0.01,
        ),
        perm=[0, 3, 1, 2],
    ),
}  # fmt: skip


@pytest.mark.parametrize("build", CASES.values(), ids=CASES)
@pytest.mark.parametrize("behind", ["dense", "pool"])
def test_a_layer_that_slides(build, behind):
    """Patch 15x14: no stride divides it."""
    net = Net((None, 2, 15, 14), opset=18)
    x = build(net, net("Tanh", net.conv()))
    shape = net.shape_of(x)
    if behind == "pool":
        axes = list(range(2, len(shape)))
        y = net.dense(net.axes("ReduceMean", x, axes, since=18, keepdims=0))
    else:
        y = head(net, x)
    assert_map(net.model(y))


OLD = ("convolution of stride 2", "MaxPool", "AveragePool, overlapping", "LpPool", "residual with Slice",
       "residual with negative pads", "Slice of channels", "PRelu, one slope a channel", "LRN", "Gather of channels",
       "Gather of the last column", "scale and shift a channel", "floor remainders at three layers")  # fmt: skip


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12, 13, 18, 20, 22])
@pytest.mark.parametrize("case", OLD)
def test_every_operator_set(case, opset):
    net = Net((None, 2, 15, 14), opset=opset)
    assert_map(net.model(head(net, CASES[case](net, net("Tanh", net.conv())))))


def rank(n, k, s):
    return {"kernel_shape": [k] * n, "strides": [s] * n}


LAYERS = {
    "MaxPool": lambda net, n: net("MaxPool", net.conv(), **rank(n, 2, 2)),
    "AveragePool": lambda net, n: net("AveragePool", net.conv(), **rank(n, 3, 2)),
    "LpPool": lambda net, n: net("LpPool", net.conv(), **rank(n, 2, 2)),
    "strided": lambda net, n: net.conv(strides=[2] * n),
    "dilated": lambda net, n: net.conv(dilations=[2] * n, kernel=2),
    "BatchNormalization": lambda net, _: net(
        "BatchNormalization", net.conv(), *(net.weight(3, fan=1) for _ in range(3)), net.tensor([1, 2, 3], np.float32)
    ),
}  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("shape", [(None, 2, 20), (None, 2, 8, 9, 10)], ids=["1-D", "3-D"])
def test_other_ranks(layer, shape):
    net = Net(shape)
    assert_map(net.model(head(net, layer(net, len(shape) - 2))))


PADDED = {
    "pads": lambda net, x: net.conv(x, pads=[1, 1, 1, 1]),
    "pads on one side": lambda net, x: net.conv(x, pads=[0, 0, 0, 2]),
    "SAME_UPPER": lambda net, x: net.conv(x, auto_pad="SAME_UPPER"),
    "SAME_LOWER, even kernel": lambda net, x: net.conv(x, kernel=2, auto_pad="SAME_LOWER"),
    "SAME_UPPER, even kernel": lambda net, x: net.conv(x, kernel=4, auto_pad="SAME_UPPER"),
    "SAME_UPPER, stride 2": lambda net, x: net.conv(x, strides=[2, 2], auto_pad="SAME_UPPER"),
    "SAME_LOWER, stride 2": lambda net, x: net.conv(x, strides=[2, 2], auto_pad="SAME_LOWER"),
    "MaxPool pads": pool(k=3, pads=[1, 1, 1, 1]),
    "MaxPool SAME": pool(k=3, auto_pad="SAME_LOWER"),
    "MaxPool ceil_mode": pool(k=3, ceil_mode=1),
    "MaxPool ceil_mode, pads": pool(k=3, ceil_mode=1, pads=[1, 1, 1, 1]),
    "MaxPool ceil_mode, stride 3": pool(k=2, s=3, ceil_mode=1),
    "MaxPool ceil_mode, dilated": pool(k=3, s=2, ceil_mode=1, dilations=[2, 3]),
    "MaxPool ceil_mode, VALID": pool(k=3, s=2, ceil_mode=1, auto_pad="VALID"),
    "AveragePool pads, not counted": pool("AveragePool", k=3, pads=[1, 1, 1, 1]),
    "AveragePool pads, counted": pool("AveragePool", k=3, pads=[1, 1, 1, 1], count_include_pad=1),
    "AveragePool ceil_mode": pool("AveragePool", k=3, ceil_mode=1),
    "AveragePool ceil_mode, k=2 s=3": pool("AveragePool", k=2, s=3, ceil_mode=1),
    "AveragePool SAME, counted": pool("AveragePool", k=3, auto_pad="SAME_UPPER", count_include_pad=1),
    "LpPool pads": pool("LpPool", k=3, pads=[1, 1, 0, 0]),
    "Pad constant": lambda net, x: padded(net, x, [0, 0, 1, 2, 0, 0, 2, 1], 0.5),
    "Pad reflect": lambda net, x: padded(net, x, [0, 0, 1, 2, 0, 0, 2, 1], mode="reflect"),
    "Pad edge": lambda net, x: padded(net, x, [0, 0, 1, 1, 0, 0, 1, 1], mode="edge"),
    "Pad and crop at once": lambda net, x: padded(net, x, [0, 0, 2, -1, 0, 0, -1, 2]),
    "Pad wider than the kernel": lambda net, x: net.conv(
        padded(net, x, [0, 0, 4, 0, 0, 0, 0, 4]), channels=3
    ),
    "deep": lambda net, x: net.conv(
        pool(k=3, pads=[1, 1, 1, 1])(net, net.conv(x, pads=[1] * 4)), pads=[1] * 4
    ),
}


PADDED_SETS = [
    (case, opset)
    for case in PADDED
    for opset in (7, 9, 11, 13, 17, 18, 19, 22)
    if opset >= 10 or "ceil_mode" not in case  # which operator set 10 brought
]


@pytest.mark.parametrize(("case", "opset"), PADDED_SETS)
def test_padding_is_a_border_effect_and_exact_on_a_patch(case, opset):
    """The pads are frozen where they are on a patch: there the map equals the network, and only there."""
    # 18 columns: where a last window of ceil_mode starts in the pads, onnx before set 22 and ONNX Runtime differ.
    patch = (15, 14) if opset == 22 else (15, 18)
    net = Net((None, 2, *patch), opset=opset)
    model = net.model(head(net, PADDED[case](net, net("Tanh", net.conv()))))
    conversion = convert(model)
    assert conversion.exactness == "border effect"
    assert conversion.analysis.border
    name = model.proto.graph.output[0].name
    for size, same in ((patch, True), (uneven(patch, conversion.stride), False)):
        image = noise(model, size, (2, 3))
        found = on_the_map(run(serialised(conversion.map), image)[name], False, 2)
        expected = scan(model, image, patch, conversion.stride, (2, 3))[name]
        assert (difference(found, expected) < 1e-5) == same
    assert_map(model, size=patch)  # exact, and says so


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_dilated_same_is_what_onnx_runtime_makes_of_it(mode):
    """ONNX Runtime's pools forget the dilation where they work out SAME, and onnx's inference does not."""
    net = Net((None, 2, 15, 14))
    x = pool(k=3, s=2, dilations=[2, 3], auto_pad=mode)(net, net.conv())
    model = net.model(net.dense(net.axes("ReduceMax", x, [2, 3], since=18, keepdims=0), inputs=3))
    assert convert(model).exactness == "border effect"
    assert_map(model, size=(15, 14))


def test_ceil_mode_that_counts_what_sticks_out_is_refused_or_right():
    """count_include_pad with an overhanging window: its divisor cannot be frozen."""
    net = Net((None, 2, 15, 14))
    x = pool("AveragePool", k=3, ceil_mode=1, count_include_pad=1)(net, net.conv())
    with pytest.raises(FileError, match="count_include_pad"):
        assert_map(net.model(head(net, x)), size=(15, 14))


def test_a_pad_whose_value_is_computed_by_the_network():
    net = Net((None, 2, 9, 8))
    value = net("Squeeze", net("ReduceMean", "x", keepdims=1))
    x = net("Pad", net.conv(), net.integers(0, 0, 1, 1, 0, 0, 1, 1), value)
    with pytest.raises(FileError, match="not convertible"):
        assert_map(net.model(head(net, x)))


def test_a_pool_that_gives_out_indices_nobody_reads():
    net = Net((None, 2, 9, 8))
    x, _ = net("MaxPool", net.conv(), kernel_shape=[2, 2], outputs=2)
    model = net.model(head(net, x))
    model.proto.graph.node[1].output[1] = ""
    assert_map(model)
