"""Behind the head: everything that treats features alike, or works along them, moves to the map's channel axis."""

import numpy as np
import pytest

from dense2conv.convert.errors import FileError

from .nets import Net, assert_map

D = 6


def logits(net, units=D):
    return net.dense(net.flat(net("Tanh", net.conv())), units)


def with_constants(op, *shapes, offset=0.0):
    """An operator with constants of these shapes behind the features."""
    return lambda net, y: net(op, y, *(net.weight(*s, fan=1, offset=offset) for s in shapes))


def swapped(op, *shape):
    return lambda net, y: net(op, net.weight(*shape, fan=1), y)


def scalar(op, value):
    return lambda net, y: net(op, y, net.tensor(value, np.float32))


def along(op, **attributes):
    return lambda net, y: net(op, y, **attributes)


def normalised(net, y):
    constants = [net.weight(D, fan=1) for _ in range(3)]
    return net("BatchNormalization", y, *constants, net.tensor(np.arange(1, D + 1), np.float32), epsilon=0.1)


def clip(net, y):
    if net.opset < 11:
        return net("Clip", y, min=-0.2, max=0.4)
    return net("Clip", y, net.tensor(-0.2, np.float32), net.tensor(0.4, np.float32))


def clip_one_end(net, y):
    return net("Clip", y, "", net.tensor(0.4, np.float32))


def top_k(net, y, k=3, **attributes):
    if net.opset < 10:
        return net("TopK", y, k=k, outputs=2, **attributes)
    return net("TopK", y, net.integers(k), outputs=2, **attributes)


def split(sizes=None, count=2, **attributes):
    def build(net, y):
        if sizes and net.opset >= 13:
            return net("Split", y, net.integers(*sizes), outputs=count, axis=1)
        if sizes:
            return net("Split", y, split=list(sizes), outputs=count, axis=1)
        return net("Split", y, outputs=count, axis=-1 if net.opset >= 11 else 1, **attributes)

    return build


def joined(net, y):
    return net("Concat", net("Relu", y), net("Neg", logits(net, 2)), y, axis=-1 if net.opset >= 11 else 1)


def sliced(net, y):
    if net.opset >= 10:
        return net("Slice", y, net.integers(-4), net.integers(2**63 - 1), net.integers(-1), net.integers(2))
    return net("Slice", y, starts=[-4], ends=[5], axes=[1])


def gelu_of_erf(net, y):
    erf = net("Erf", net("Div", y, net.tensor(2**0.5, np.float32)))
    return net(
        "Mul", net("Mul", y, net("Add", erf, net.tensor(1.0, np.float32))), net.tensor(0.5, np.float32)
    )


def layer_norm(net, y):
    return net("LayerNormalization", y, net.weight(D, fan=1), net.weight(D, fan=1), axis=-1, epsilon=0.01)


def layer_norm_by_hand(net, y):
    """The same in single operators, as older operator sets need it."""
    centred = net("Sub", y, net.axes("ReduceMean", y, [-1], since=18, keepdims=1))
    square = net("Pow", centred, net.tensor(2.0, np.float32))
    mean = net.axes("ReduceMean", square, [-1], since=18, keepdims=1)
    deviation = net("Sqrt", net("Add", mean, net.tensor(1e-3, np.float32)))
    return net("Add", net("Mul", net("Div", centred, deviation), net.weight(D, fan=1)), net.weight(D, fan=1))


def unit_length(net, y):
    """F.normalize: x / max(norm, eps)."""
    norm = net.axes("ReduceL2", y, [1], since=18, keepdims=1)
    return net("Div", y, net("Max", norm, net.tensor(1e-3, np.float32)))


def glu(net, y):
    a, b = net("Split", y, outputs=2, axis=1)
    return net("Mul", a, net("Sigmoid", b))


def where(net, y):
    return net(
        "Where", net("Greater", y, net.tensor(0.0, np.float32)), y, net("Mul", y, net.weight(D, fan=1))
    )


def prelu_of_tf2onnx(net, y):
    negative = net("Mul", net("Relu", net("Neg", y)), net.weight(D, fan=1))
    return net("Add", net("Relu", y), negative)


ANY = (7, 9, 11, 12, 13, 17, 18, 20)
CASES = {  # builder, operator sets
    "Relu": (along("Relu"), ANY),
    "LeakyRelu": (along("LeakyRelu", alpha=0.2), ANY),
    "Elu": (along("Elu", alpha=0.5), ANY),
    "Selu": (along("Selu"), ANY),
    "Sigmoid": (along("Sigmoid"), ANY),
    "HardSigmoid": (along("HardSigmoid", alpha=0.3), ANY),
    "Tanh": (along("Tanh"), ANY),
    "Softplus": (along("Softplus"), ANY),
    "Softsign": (along("Softsign"), ANY),
    "Gelu": (along("Gelu", approximate="tanh"), (20, 22)),
    "HardSwish": (along("HardSwish"), (14, 22)),
    "Mish": (along("Mish"), (18, 22)),
    "Erf chain": (gelu_of_erf, (9, 13, 17)),
    "BatchNormalization": (normalised, (7, 8, 9, 13, 14, 15, 17)),
    "Add (D,)": (with_constants("Add", (D,)), ANY),
    "Add (1,D)": (with_constants("Add", (1, D)), ANY),
    "Mul (D,)": (with_constants("Mul", (D,)), ANY),
    "Mul (1,D)": (with_constants("Mul", (1, D)), ANY),
    "Add scalar": (scalar("Add", 0.7), ANY),
    "Mul scalar (1,)": (scalar("Mul", [0.7]), ANY),
    "Mul scalar (1,1)": (scalar("Mul", [[0.7]]), ANY),
    "Sub of a constant": (swapped("Sub", D), ANY),
    "Div of a constant (1,D)": (swapped("Div", 1, D), (13,)),
    "Pow": (lambda net, y: net("Pow", net("Exp", y), net.weight(D, fan=1)), (7, 13)),
    "Max of (D,)": (with_constants("Max", (D,)), (8, 13)),
    "Min of several": (with_constants("Min", (D,), (1,), (1, D)), (8, 13)),
    "Sum of several": (with_constants("Sum", (D,), (1, D)), (8, 13)),
    "Clip": (clip, ANY),
    "Clip, one end": (clip_one_end, (11, 13)),
    "Clip by Max and Min": (
        lambda net, y: net("Min", net("Max", y, net.tensor([-0.2], np.float32)), net.tensor(0.3, np.float32)), (8, 13)
    ),
    "PRelu (D,)": (with_constants("PRelu", (D,)), ANY),
    "PRelu (1,)": (with_constants("PRelu", (1,)), ANY),
    "PRelu as Relu, Neg, Relu, Mul, Add": (prelu_of_tf2onnx, (11,)),
    "Where": (where, (9, 16)),
    "Softmax axis=1": (along("Softmax", axis=1), (7, 9, 11, 12, 13, 17)),
    "Softmax axis=-1": (along("Softmax", axis=-1), (11, 12, 13, 17)),
    "Softmax without axis": (along("Softmax"), (7, 9, 11, 12, 13, 17)),
    "LogSoftmax axis=1": (along("LogSoftmax", axis=1), (7, 9, 11, 12, 13, 17)),
    "LogSoftmax axis=-1": (along("LogSoftmax", axis=-1), (11, 12, 13, 17)),
    "Hardmax axis=1": (along("Hardmax", axis=1), (7, 9, 11, 12, 13, 17)),
    "Hardmax axis=-1": (along("Hardmax", axis=-1), (11, 12, 13, 17)),
    "ArgMax": (along("ArgMax", axis=1), (7, 11, 13)),
    "ArgMax keepdims=0": (along("ArgMax", axis=1, keepdims=0), (7, 11, 13)),
    "ArgMax axis=-1, last index": (along("ArgMax", axis=-1, keepdims=0, select_last_index=1), (12, 13)),
    "ArgMin": (along("ArgMin", axis=1, keepdims=0), (7, 13)),
    "ArgMax of Softmax": (lambda net, y: net("ArgMax", net("Softmax", y, axis=1), axis=1, keepdims=0), (9, 13)),
    "TopK": (top_k, (7, 9, 10, 11, 17)),
    "TopK, smallest": (lambda net, y: top_k(net, y, axis=1, largest=0), (11, 17)),
    "Split, equal": (split(), (7, 11, 13, 17)),
    "Split, given": (split((1, 5)), (7, 11, 13, 17, 18)),
    "Split, given in three": (split((1, 3, 2), 3), (11, 13)),
    "Split, num_outputs": (split(count=3, num_outputs=3), (18, 20)),
    "Split, num_outputs, uneven": (lambda net, _: split(count=3, num_outputs=3)(net, logits(net, 7)), (18, 20)),
    "Concat": (joined, (7, 11, 13)),
    "Slice": (sliced, (7, 9, 10, 13)),
    "Gather": (lambda net, y: net("Gather", y, net.integers(3, 0, -2), axis=1), (11, 13)),
    "Gather one feature": (lambda net, y: net("Gather", y, net.tensor(2, np.int64), axis=1), (7, 13)),
    "Gather one feature, keeping the axis": (lambda net, y: net("Gather", y, net.integers(2), axis=-1), (11, 13)),
    "LayerNormalization": (layer_norm, (17, 20)),
    "LayerNormalization by hand": (layer_norm_by_hand, (11, 13, 18)),
    "ReduceL2 over the features": (unit_length, (8, 13, 18)),
    "ReduceMax over the features": (
        lambda net, y: net("Sub", y, net.axes("ReduceMax", y, [1], since=18, keepdims=1)), (11, 18)
    ),
    "ReduceSum over the features": (lambda net, y: net.axes("ReduceSum", y, [1], keepdims=0), (11, 13)),
    "gated linear unit": (glu, (11, 13)),
    "Identity and Dropout": (lambda net, y: net("Identity", net("Dropout", net("Identity", y))), (7, 12, 13)),
    "Unsqueeze and Squeeze": (lambda net, y: net.axes("Squeeze", net.axes("Unsqueeze", y, [1]), [1]), (11, 13)),
    "Unsqueeze to (N, D, 1, 1)": (lambda net, y: net.axes("Unsqueeze", y, [2, 3]), (11, 13)),
    "convolution on (N, D, 1, 1)": (
        lambda net, y: net.flat(net.conv(net.axes("Unsqueeze", y, [2, 3]), kernel=1)), (11, 13)
    ),
    "pool over (N, D, 1, 1)": (
        lambda net, y: net.flat(net("GlobalAveragePool", net.axes("Unsqueeze", y, [2, 3]))), (11, 13)
    ),
    "Reshape to groups and back": (
        lambda net, y: net("Reshape", net("Reshape", y, net.integers(-1, 2, 3)), net.integers(-1, D)), (11, 13)
    ),
    "one scale a group": (
        lambda net, y: net(
            "Reshape", net("Mul", net("Reshape", y, net.integers(-1, 2, 3)), net.weight(2, 1, fan=1)),
            net.integers(-1, D),
        ), (11, 13)
    ),
    "two values added": (lambda net, y: net("Add", net("Relu", y), net("Tanh", logits(net))), (11, 13)),
    "one unit times many": (lambda net, y: net("Mul", net("Sigmoid", logits(net, 1)), y), (11, 13)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("case", "opset"), [(name, opset) for name, (_, sets) in CASES.items() for opset in sets]
)
def test_what_follows_the_head(case, opset):
    net = Net(opset=opset)
    y = CASES[case][0](net, logits(net))
    outputs = y if isinstance(y, list) else [y]
    assert_map(net.model(*outputs))


@pytest.mark.parametrize("case", ["Softmax axis=1", "ArgMax keepdims=0", "TopK", "Add (D,)", "Split, given"])
@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("size", [None, (12, 11)])
def test_behind_the_head_of_a_channels_last_network(case, opset, size):
    net = Net((None, 9, 8, 2), opset=opset)
    x = net("Tanh", net.conv(net("Transpose", "x", perm=[0, 3, 1, 2])))
    y = CASES[case][0](net, net.dense(net.flat(net("Transpose", x, perm=[0, 2, 3, 1])), D))
    assert_map(net.model(*(y if isinstance(y, list) else [y])), axes=(1, 2), size=size)


@pytest.mark.parametrize("shape", [(None, 2, 15), (None, 2, 6, 7, 5)], ids=["1-D", "3-D"])
@pytest.mark.parametrize(
    "case", ["Softmax axis=-1", "ArgMax keepdims=0", "Add (D,)", "LayerNormalization", "PRelu (D,)", "TopK"]
)
@pytest.mark.parametrize("opset", [12, 17])
def test_behind_the_head_in_other_ranks(case, shape, opset):
    if case == "LayerNormalization" and opset < 17:
        opset = 20
    net = Net(shape, opset=opset)
    y = CASES[case][0](net, logits(net))
    assert_map(net.model(*(y if isinstance(y, list) else [y])))


@pytest.mark.parametrize("opset", [7, 9, 11, 12, 13, 17])
def test_softmax_in_front_of_the_flatten(opset):
    """On (N, D, 1, 1), the head a convolution: below set 13 Softmax takes D, 1 and 1 together."""
    net = Net(opset=opset)
    y = net("Softmax", net.conv(kernel=(9, 8), out=5), axis=1)
    assert_map(net.model(net.flat(y)))


@pytest.mark.parametrize("opset", [9, 13])
@pytest.mark.parametrize("stride", [(2, 2), (4, 6), "patch"])
def test_argmax_of_a_convolution_at_other_strides(opset, stride):
    net = Net((None, 2, 10, 8), opset=opset)
    x = net("MaxPool", net.conv(), kernel_shape=[2, 2], strides=[2, 2])
    y = net("ArgMax", net.conv(x, kernel=(4, 3), out=5), axis=1, keepdims=0)
    assert_map(net.model(net.flat(net("Cast", y, to=1))), stride=stride)


def test_a_scalar_with_more_axes_than_the_value():
    """(N, D) times (1, 1, 1) is (1, N, D): not a vector a patch any more."""
    net = Net()
    model = net.model(net("Mul", logits(net), net.tensor([[[0.5]]], np.float32)))
    with pytest.raises(FileError, match="more axes"):
        assert_map(model)


def test_batch_normalization_of_one_number_a_position():
    """spatial=0, which operator sets 7 and 8 had: each position has its own statistics."""
    net = Net((None, 2, 6, 5), opset=7)
    x = net.conv(kernel=1)
    constants = [net.weight(3, 6, 5, fan=1) for _ in range(3)] + [net.tensor(np.ones((3, 6, 5)), np.float32)]
    y = net.dense(net.flat(net("BatchNormalization", x, *constants, spatial=0)))
    with pytest.raises(FileError, match="BatchNormalization"):
        assert_map(net.model(y))
