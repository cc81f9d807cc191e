"""Dense layers: every spelling of them, behind every flatten, is a convolution that equals the scan."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from dense2conv.convert.conversion import convert
from dense2conv.convert.errors import NegativeAnswer

from .nets import FLOAT16, Net, assert_map, left, run, scan, serialised


def features(net):
    """A small trunk, flattened."""
    return net.flat(net("Relu", net.conv()))


def gemm(*, shape=None, data=False, value=None, bias=True, transposed=1, **attributes):
    """Gemm with C of ``shape`` (or a value of the network)."""

    def build(net):
        x = features(net)
        k = net.shape_of(x)[-1]
        inputs = [x, net.weight(*((3, k) if transposed else (k, 3)), fan=k)]
        if data:
            inputs.append(net("Tanh", net.dense(x, 3)))
        elif value is not None:
            inputs.append(net.tensor(np.full(3, value, np.float32)))
        elif bias:
            inputs.append(net.tensor(net.random.standard_normal(shape or (3,)).astype(np.float32)))
        return net("Gemm", *inputs, transB=transposed, **attributes)

    return build


def matmul(*, bias=None, swapped=False):
    def build(net):
        x = features(net)
        k = net.shape_of(x)[-1]
        y = net("MatMul", x, net.weight(k, 3, fan=k))
        if bias is not None:
            c = net.tensor(net.random.standard_normal(bias).astype(np.float32))
            y = net("Add", *((c, y) if swapped else (y, c)))
        return y

    return build


def units_equal_the_width(op):
    """A bias of D units on a map with D columns: left as it is, it would be added along the columns, silently."""

    def build(net):
        x = features(net)
        k = net.shape_of(x)[-1]
        if op == "Gemm":
            return net("Gemm", x, net.weight(3, k), net.weight(3, fan=1), transB=1, alpha=0.5)
        return net(op, net("MatMul", x, net.weight(k, 3, fan=k)), net.weight(3, fan=1))

    return build


def several(net):
    return net.dense(net("Relu", net.dense(net("Tanh", net.dense(features(net), 7)), 5)), 3)


def time_distributed(net):
    """A dense layer on (N, H, W, C): at every position of the patch."""
    x = net("Transpose", net.conv(), perm=[0, 2, 3, 1])
    x = net("Relu", net("Add", net("MatMul", x, net.weight(3, 5)), net.weight(5, fan=1)))
    return net.dense(net.flat(x))


def rows_as_samples(net):
    """A dense layer on (N*H*W, C), and back: per-pixel, as some exporters write it."""
    x = net("Transpose", net.conv(), perm=[0, 2, 3, 1])
    x = net("Reshape", x, net.integers(-1, 3))
    x = net("Relu", net("Gemm", x, net.weight(3, 5), net.weight(5, fan=1)))
    return net.dense(net.flat(net("Reshape", x, net.integers(-1, 7, 6, 5))), inputs=7 * 6 * 5)


def computed_bias(net):
    return net("Gemm", features(net), net.weight(3, 126), net("Neg", net.weight(3, fan=1)), transB=1)


CASES = {
    "Gemm transB=1 with bias": gemm(),
    "Gemm transB=0 with bias": gemm(transposed=0),
    "Gemm without C": gemm(bias=False),
    "Gemm alpha, no C": gemm(bias=False, alpha=0.25),
    "Gemm alpha with bias": gemm(alpha=-1.5),
    "Gemm beta with bias": gemm(beta=0.5),
    "Gemm alpha and beta": gemm(alpha=2.0, beta=-3.0, transposed=0),
    "Gemm alpha=0": gemm(alpha=0.0, data=True),
    "Gemm beta=0 does not read a C of NaN": gemm(value=np.nan, beta=0.0),
    "Gemm beta=0 and alpha, C of NaN": gemm(value=np.nan, beta=0.0, alpha=0.5),
    "Gemm C of shape ()": gemm(shape=()),
    "Gemm C of shape (1,)": gemm(shape=(1,)),
    "Gemm C of shape (3,)": gemm(shape=(3,)),
    "Gemm C of shape (1,3)": gemm(shape=(1, 3)),
    "Gemm C of shape (1,1)": gemm(shape=(1, 1)),
    "Gemm C of shape () with alpha, beta": gemm(shape=(), alpha=2.0, beta=0.5),
    "Gemm C of shape (1,) with beta": gemm(shape=(1,), beta=0.5),
    "Gemm C of shape (1,3) with alpha, beta": gemm(shape=(1, 3), alpha=2.0, beta=0.5),
    "Gemm C is a value of the network": gemm(data=True),
    "Gemm C is a value, with alpha and beta": gemm(data=True, alpha=0.5, beta=2.0),
    "Gemm C is computed of a constant": computed_bias,
    "MatMul": matmul(),
    "MatMul + Add (3,)": matmul(bias=(3,)),
    "MatMul + Add (1,3)": matmul(bias=(1, 3)),
    "MatMul + Add ()": matmul(bias=()),
    "MatMul + Add, bias first": matmul(bias=(3,), swapped=True),
    "bias as wide as the map, MatMul + Add": units_equal_the_width("Add"),
    "scale as wide as the map, MatMul + Mul": units_equal_the_width("Mul"),
    "bias as wide as the map, Gemm with alpha": units_equal_the_width("Gemm"),
    "one unit": lambda net: net.dense(features(net), 1),
    "one unit, then a dense layer on it": lambda net: net.dense(net("Tanh", net.dense(features(net), 1)), 3),
    "several dense layers": several,
    "a dense layer at every position": time_distributed,
    "positions as samples, and back": rows_as_samples,
}


@pytest.mark.parametrize("build", CASES.values(), ids=CASES)
def test_a_dense_layer_is_a_convolution(build):
    net = Net()
    assert_map(net.model(build(net)))


def test_the_bias_trap_is_set():
    """The case above is the trap: its map has as many columns as the layer has units."""
    net = Net()
    model = net.model(units_equal_the_width("Add")(net))
    conversion = assert_map(model)
    assert conversion.stride == (1, 1)  # so the test's input, 2 steps wider, gives 3 columns


OPSETS = (7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("op", ["Gemm", "MatMul"])
def test_every_operator_set(opset, op):
    net = Net(opset=opset)
    x = net.flat(net("MaxPool", net("Relu", net.conv()), kernel_shape=[2, 2], strides=[2, 2]))
    if op == "MatMul":
        x = net("Add", net("MatMul", x, net.weight(net.shape_of(x)[-1], 4, fan=36)), net.weight(4, fan=1))
    else:
        x = net("Gemm", x, net.weight(4, net.shape_of(x)[-1]), net.weight(4, fan=1), transB=1, alpha=0.5)
    assert_map(net.model(net("Softmax", net("Relu", x), axis=1)), natural=(2, 2))


RANKS = {
    "1-D": (None, 2, 21),
    "2-D": (None, 2, 9, 8),
    "3-D": (None, 2, 6, 7, 8),
}


@pytest.mark.parametrize("shape", RANKS.values(), ids=RANKS)
@pytest.mark.parametrize("op", ["Flatten", "Reshape", "HWC", "W reversed"])
def test_every_rank_and_order(shape, op):
    """Axes may be flattened in any order: the kernel follows it."""
    net = Net(shape)
    rank = len(shape)
    x = net("AveragePool", net.conv(), kernel_shape=[2] * (rank - 2), strides=[2] * (rank - 2))
    if op == "HWC":
        x = net("Transpose", x, perm=[0, *range(2, rank), 1])
    elif op == "W reversed":
        x = net("Transpose", x, perm=[0, *range(rank - 1, 0, -1)])
    x = net("Reshape", x, net.integers(0, -1)) if op == "Reshape" else net.flat(x)
    k = int(np.prod(net.shape_of(x)[1:]))
    assert_map(net.model(net.dense(x, inputs=k)), natural=(2,) * (rank - 2))


STRIDES = {
    "the network's own": None,
    "twice": (4, 4),
    "three times": (6, 6),
    "uneven": (2, 6),
    "uneven the other way": (8, 4),
    "patch": "patch",
}


@pytest.mark.parametrize("stride", STRIDES.values(), ids=STRIDES)
@pytest.mark.parametrize("head", ["dense", "pool", "single position", "rows, then columns"])
@pytest.mark.parametrize("opset", [9, 17])
def test_strides(stride, head, opset):
    """Any multiple of the network's own stride; the head's window takes it."""
    net = Net((None, 2, 10, 8), opset=opset)
    x = net("Relu", net.conv(strides=[2, 2]))
    if head == "dense":
        y = net.dense(net.flat(x))
    elif head == "pool":
        y = net.dense(net.flat(net("GlobalMaxPool", x)))
    elif head == "single position":
        y = net.flat(net.conv(x, kernel=(4, 3)))
    else:
        x = net("ReduceMean", x, axes=[2], keepdims=0)
        y = net.dense(net.flat(x))
    assert_map(net.model(y), stride=stride, natural=(2, 2))


@pytest.mark.parametrize("size", [(10, 8), (11, 9), (17, 8), (13, 22)])
@pytest.mark.parametrize("batch", [None, 1, 3])
@pytest.mark.parametrize("method", ["conv", "patches"])
def test_fixed_size_and_batch(size, batch, method):
    net = Net((None, 2, 10, 8))
    x = net("Reshape", net("MaxPool", net.conv(), kernel_shape=[2, 2], strides=[2, 2]), net.integers(-1, 36))
    model = net.model(net("Softmax", net.dense(x, inputs=36)))
    stride = "patch" if method == "patches" else None  # at another, patches need a loop
    conversion = assert_map(model, size=size, batch=batch, method=method, stride=stride)
    proto = conversion.map.proto
    assert not {"Shape", "Size", "Loop", "ConstantOfShape"} & set(left(conversion))
    dims = [d.dim_value or d.dim_param for d in proto.graph.input[0].type.tensor_type.shape.dim]
    assert dims == [batch or "batch", 2, *size]


def test_the_bytes_of_a_kernel_are_the_dense_weight():
    """The kernel is the dense matrix in another order: the same numbers, each once."""
    net = Net()
    x = features(net)
    w = net.weight(4, net.shape_of(x)[-1])
    model = net.model(net("Gemm", x, w, transB=1))
    conversion = convert(model)
    last = conversion.map.proto.graph.node[-1]
    assert last.op_type == "Conv"
    kernel = conversion.map.weights[last.input[1]]
    np.testing.assert_array_equal(kernel, net.tensors[w].reshape(4, 3, 7, 6))  # CHW
    assert np.shares_memory(kernel, model.weights[w])


def test_float16():
    net = Net(kind=FLOAT16)
    assert_map(net.model(net.dense(features(net))), tolerance=1e-2)


def test_float16_weights_behind_a_cast():
    """onnxruntime's conversion to float16 casts the input and the output."""
    net = Net()
    w = net.tensor(net.random.standard_normal((126, 3)).astype(np.float16) / 11)
    x = net("Cast", features(net), to=FLOAT16)
    y = net("Cast", net("MatMul", x, w), to=TensorProto.FLOAT)
    assert_map(net.model(y), tolerance=1e-2)


def test_nodes_out_of_order():
    """Some exporters append nodes behind those that read them: the map is in order."""
    net = Net()
    y = net("Softmax", net.dense(features(net)))
    model = net.model(y)
    shuffled = list(model.proto.graph.node)[::-1]
    expected = scan(model, np.ones((1, 2, 10, 9), np.float32), (9, 8), (1, 1), (2, 3))
    del model.proto.graph.node[:]
    model.proto.graph.node.extend(shuffled)
    conversion = convert(model)
    found = run(serialised(conversion.map), np.ones((1, 2, 10, 9), np.float32))[y]
    np.testing.assert_allclose(np.moveaxis(found, 1, -1), expected[y], atol=1e-6)


def heads_on_one_flatten(net):
    x = features(net)
    return [net("Softmax", net.dense(x, 3)), net("Sigmoid", net.dense(x, 1)), net.dense(x, 5)]


def heads_at_two_depths(net):
    """The second head reads a deeper grid: the map is at the common multiple of both strides."""
    first = net("MaxPool", net.conv(), kernel_shape=[2, 2], strides=[2, 3])
    second = net("MaxPool", first, kernel_shape=[2, 2], strides=[3, 1])
    return [net.dense(net.flat(first)), net.dense(net.flat(second), 2)]


def features_and_their_softmax(net):
    """An output in the middle of the head."""
    z = net.dense(features(net))
    return [z, net("Softmax", z)]


def one_value_under_two_names(net):
    z = net.dense(features(net))
    return [z, net("Identity", z)]


def branches(net, strides, flatten):
    a = net("MaxPool", net.conv(), kernel_shape=[2, 2], strides=strides[0])
    b = net("AveragePool", net.conv(kernel=2, out=2), kernel_shape=[2, 2], strides=strides[1])
    parts = [flatten(net, a), flatten(net, b)]
    return net("Concat", *parts, axis=1)


def hwc(net, x):
    return net.flat(net("Transpose", x, perm=[0, 2, 3, 1]))


def product_of_branches(net):
    x = branches(net, [[2, 2], [2, 2]], Net.flat)
    return net("Add", net("MatMul", x, net.weight(net.shape_of(x)[-1], 3, fan=150)), net.weight(3, fan=1))


BRANCHES = {
    "the same stride": lambda n: n.dense(branches(n, [[2, 2], [2, 2]], Net.flat)),
    "least common multiple": lambda n: n.dense(branches(n, [[2, 1], [3, 2]], Net.flat)),
    "channels last": lambda n: n.dense(branches(n, [[1, 1], [2, 2]], hwc)),
    "MatMul, bias": product_of_branches,
    "activation and Dropout between": lambda n: n.dense(
        n("Dropout", n("Relu", branches(n, [[2, 2], [2, 2]], Net.flat)))
    ),
    "ReLU6 between": lambda n: n.dense(
        n("Clip", branches(n, [[2, 2], [2, 2]], Net.flat), n.tensor(0.0, np.float32), n.tensor(0.6, np.float32))
    ),
    "Clip at one end between": lambda n: n.dense(
        n("Clip", branches(n, [[2, 2], [2, 2]], Net.flat), "", n.tensor(0.2, np.float32))
    ),
    "Concat of Concat": lambda n: n.dense(
        n("Concat", branches(n, [[2, 2], [2, 2]], Net.flat), n.flat(n.conv(kernel=4)), axis=1)
    ),
    "Flatten again": lambda n: n.dense(n.flat(branches(n, [[2, 2], [2, 2]], Net.flat))),
    "Flatten again, negative axis": lambda n: n.dense(
        n("Flatten", branches(n, [[2, 2], [2, 2]], Net.flat), axis=-1)
    ),
    "Concat axis=-1": lambda n: n.dense(n("Concat", n.flat(n.conv()), n.flat(n.conv(kernel=2)), axis=-1)),
    "flattened and pooled": lambda n: n.dense(
        n("Concat", n.flat(n.conv()), n.flat(n("GlobalAveragePool", n.conv(kernel=2))), axis=1)
    ),
    "flattened and a dense layer": lambda n: n.dense(
        n("Concat", n.flat(n.conv()), n.dense(n.flat(n.conv(kernel=2))), axis=1)
    ),
    "a dense layer and flattened, two heads": lambda n: n(
        "Add",
        n.dense(n("Concat", n.dense(n.flat(n.conv(kernel=2))), n.flat(n.conv(strides=[2, 2])), axis=1)),
        n.dense(n.flat(n.conv())),
    ),
}  # fmt: skip


@pytest.mark.parametrize("build", BRANCHES.values(), ids=BRANCHES)
@pytest.mark.parametrize("stride", [None, "patch"])
def test_a_dense_layer_behind_branches(build, stride):
    net = Net((None, 2, 12, 14))
    assert_map(net.model(build(net)), stride=stride)


HEADS = {
    f.__name__.replace("_", " "): f
    for f in (
        heads_on_one_flatten, heads_at_two_depths, features_and_their_softmax, one_value_under_two_names
    )
}  # fmt: skip


@pytest.mark.parametrize("build", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_several_outputs(build, last):
    net = Net((None, 9, 8, 2) if last else (None, 2, 9, 8))
    if last:
        first = net("Transpose", "x", perm=[0, 3, 1, 2])
        original = net.conv
        net.conv = lambda x=first, **how: original(x, **how)
    assert_map(net.model(*build(net)), axes=(1, 2) if last else (2, 3))


def test_least_common_multiple_of_two_heads():
    net = Net((None, 2, 14, 15))
    assert_map(net.model(*heads_at_two_depths(net)), natural=(6, 3))


@pytest.mark.parametrize("order", ["CHW", "HWC", "DHW"])
def test_only_dense_layers(order):
    """Nothing says which axis is the channel: the user does."""
    net = Net((None, 3, 5, 4))
    model = net.model(net.dense(net("Relu", net.dense(net.flat("x"), 6))))
    axes = {"CHW": (2, 3), "HWC": (1, 2), "DHW": (1, 2, 3)}[order]
    assert_map(model, axes=axes, order=order, natural=(1,) * len(axes))


@pytest.mark.parametrize("order", ["CL", "LC", "HW"])
def test_only_dense_layers_of_a_series(order):
    net = Net((None, 6, 4))
    model = net.model(net.dense(net("Reshape", "x", net.integers(-1, 24)), inputs=24))
    axes = {"CL": (2,), "LC": (1,), "HW": (1, 2)}[order]
    assert_map(model, axes=axes, order=order)


@pytest.mark.parametrize("how", [{}, {"stride": "patch"}, {"size": (40,)}, {"method": "patches"}], ids=str)
@pytest.mark.parametrize("trunk", ["dense", "convolution"])
def test_a_series_without_channels(trunk, how):
    """(N, L) might as well be features: that it is a series is for the user to say."""
    net = Net((None, 21))
    x = "x"
    if trunk == "convolution":
        x = net.flat(net("Tanh", net.conv(net.axes("Unsqueeze", x, [1]))))
    model = net.model(net("Softmax", net.dense(x)))
    assert_map(model, axes=(1,), last=False, order="L", **how)
    with pytest.raises(NegativeAnswer, match="nothing to convert") as caught:
        convert(model)
    assert "--order L" in caught.value.hint


def test_only_dense_layers_with_one_channel():
    """One channel can only be the axis of one element."""
    net = Net((None, 1, 5, 4))
    assert_map(net.model(net.dense(net.flat("x"))))


def test_a_patch_size_that_the_file_leaves_free():
    net = Net((None, 2, "rows", "columns"))
    y = net.dense(net.flat(net.conv()), inputs=126)
    assert_map(net.model(y), patch=(9, 8))


def test_no_channel_axis():
    """(N, H, W), and the network makes the channel."""
    net = Net((None, 9, 8))
    x = net("Relu", net.conv(net.axes("Unsqueeze", "x", [1])))
    assert_map(net.model(net.dense(net.flat(x))), axes=(1, 2), last=False)


def test_a_batch_that_the_file_has_baked():
    net = Net((1, 2, 9, 8))
    x = net("Reshape", net.conv(), net.integers(1, -1))
    assert_map(net.model(net.dense(x, inputs=126)))


def test_a_batch_of_four():
    net = Net((4, 2, 9, 8))
    x = net("Reshape", net.conv(), net.integers(4, 126))
    assert_map(net.model(net.dense(x, inputs=126)))


def test_helper_make_node_is_not_needed_for_the_kernel_shape():
    """Conv without kernel_shape reads it off the kernel; the map says it."""
    net = Net()
    conversion = convert(net.model(net.dense(features(net))))
    for node in conversion.map.proto.graph.node:
        if node.op_type == "Conv":
            assert len(helper.get_node_attr_value(node, "kernel_shape")) == 2
