"""Global pools and reductions over the patch: windows as large as the patch's map, with a dense layer behind or not."""

import onnxruntime
import pytest

from dense2conv.convert.errors import FileError

from .nets import DOUBLE, FLOAT16, Net, assert_map, left

POOLS = {
    "GlobalAveragePool": "AveragePool",
    "GlobalMaxPool": "MaxPool",
    "GlobalLpPool": "LpPool",
}
REDUCTIONS = {
    "ReduceMean": "AveragePool",
    "ReduceMax": "MaxPool",
    "ReduceMin": "MaxPool",
    "ReduceSum": "AveragePool",
    "ReduceL1": "LpPool",
    "ReduceL2": "LpPool",
}
SINCE = {"ReduceSum": 13}  # axes became an input; of all others with set 18


def trunk(net, x="x"):
    rank = len(net.shape) - 2
    return net("Tanh", net.conv(x, out=4, strides=[2] + [1] * (rank - 1)))


def reduced(net, op, x, axes, keepdims):
    return net.axes(op, x, axes, since=SINCE.get(op, 18), keepdims=keepdims)


RANKS = [(None, 2, 14), (None, 2, 9, 8), (None, 2, 6, 7, 5)]


@pytest.mark.parametrize("shape", RANKS, ids=["1-D", "2-D", "3-D"])
@pytest.mark.parametrize("behind", ["dense", "Flatten", "nothing"])
@pytest.mark.parametrize("op", POOLS)
def test_global_pools(op, behind, shape):
    net = Net(shape)
    x = net(op, trunk(net), **({"p": 3} if op == "GlobalLpPool" else {}))
    if behind != "nothing":
        x = net.flat(x)
    conversion = assert_map(net.model(net.dense(x) if behind == "dense" else x))
    # ONNX Runtime has no fast LpPool: a norm is a convolution of powers.
    assert ("Tile" if POOLS[op] == "LpPool" else POOLS[op]) in left(conversion)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 18, 20])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("behind", ["dense", "nothing"])
@pytest.mark.parametrize("op", REDUCTIONS)
def test_reductions(op, behind, keepdims, opset):
    """Over the spatial axes; those that old operator sets knew as attributes too."""
    net = Net(opset=opset)
    x = reduced(net, op, trunk(net), [2, 3], keepdims)
    if behind == "dense":
        x = net.dense(net.flat(x) if keepdims else x)
    # ONNX Runtime's LpPool is slow, and its AveragePool from operator set 19 on: there they are convolutions.
    slow = REDUCTIONS[op] == "LpPool" or (REDUCTIONS[op] == "AveragePool" and opset >= 19)
    form = "Tile" if slow else REDUCTIONS[op]
    assert form in left(assert_map(net.model(x)))


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("shape", [RANKS[0], RANKS[2]], ids=["1-D", "3-D"])
def test_reductions_of_other_ranks(op, shape):
    net = Net(shape)
    assert_map(net.model(net.dense(reduced(net, op, trunk(net), range(2, len(shape)), 0))))


AXES = {
    "negative axes": ([-1, -2], 0),
    "rows": ([2], 0),
    "columns, kept": ([3], 1),
    "channels": ([1], 1),
    "channels, dropped": ([1], 0),
    "channels and rows": ([1, 2], 1),
    "everything but the batch": ([1, 2, 3], 1),
}


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize(("axes", "keepdims"), AXES.values(), ids=AXES)
def test_reductions_over_other_axes(op, axes, keepdims):
    net = Net(opset=18)
    x = net.flat(reduced(net, op, trunk(net), axes, keepdims))
    assert_map(net.model(net("Tanh", net.dense(x))))


def channels_last(net, x):
    """Keras: GlobalAveragePooling2D on (N, H, W, C)."""
    return net.axes("ReduceMean", net("Transpose", x, perm=[0, 2, 3, 1]), [1, 2], since=18, keepdims=0)


def flattened(net, x):
    """(N, C, H*W), reduced over its last axis."""
    return net.axes("ReduceMean", net("Reshape", x, net.integers(0, 4, -1)), [2], since=18, keepdims=0)


def rows_then_columns(net, x):
    x = net.axes("ReduceMean", x, [3], since=18, keepdims=0)
    return net.axes("ReduceMax", x, [2], since=18, keepdims=0)


def rows_then_convolution(net, x):
    """One row left: a 1-D convolution over the columns."""
    x = net.axes("ReduceMean", x, [2], since=18, keepdims=0)
    return net.dense(net.flat(net.conv(x, kernel=3)))


def mean_and_maximum(net, x):
    parts = [net("GlobalAveragePool", x), net("GlobalMaxPool", x)]
    return net.flat(net("Concat", *parts, axis=1))


def mean_plus_maximum(net, x):
    return net.flat(net("Add", net("GlobalAveragePool", x), net("GlobalMaxPool", x)))


def of_two_depths(net, x):
    """Pools over grids of different strides, joined."""
    y = net("MaxPool", x, kernel_shape=[2, 2], strides=[3, 2])
    return net.flat(net("Concat", net("GlobalAveragePool", x), net("GlobalMaxPool", y), axis=1))


def two_squeezes(net, x):
    x = net("GlobalAveragePool", x)
    return net.axes("Squeeze", net.axes("Squeeze", x, [3]), [2])


def whole_average(net, x):
    """A plain AveragePool as large as the map, as frameworks write F.avg_pool2d(x, x.shape)."""
    return net.flat(net("AveragePool", x, kernel_shape=net.shape_of(x)[2:]))


def adaptive(net, x):
    """AdaptiveAvgPool(2): an AveragePool with a dense layer behind."""
    h, w = net.shape_of(x)[2:]
    return net.dense(net.flat(net("AveragePool", x, kernel_shape=[h - 1, w - 2], strides=[1, 2])))


def l2_normalised(net, x):
    y = net.axes("ReduceL2", x, [2, 3], since=18, keepdims=0)
    return net("Div", y, net.axes("ReduceL2", y, [1], since=18, keepdims=1))


def default_axes_of_one_position(net, x):
    return net.flat(net("GlobalMaxPool", net("GlobalAveragePool", x)))


def needs_reductions_of_nothing():
    version = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    if version < (1, 24):
        pytest.skip(f"ONNX Runtime {onnxruntime.__version__} does not run noop_with_empty_axes itself")


def without_operation(net, x):
    needs_reductions_of_nothing()
    return net.flat(net("GlobalAveragePool", net("ReduceSum", x, noop_with_empty_axes=1)))


SHAPES = [
    channels_last, flattened, rows_then_columns, rows_then_convolution, mean_and_maximum, mean_plus_maximum,
    of_two_depths, two_squeezes, whole_average, adaptive, l2_normalised, default_axes_of_one_position,
    without_operation,
]  # fmt: skip


@pytest.mark.parametrize("dense", [True, False], ids=["dense", "nothing"])
@pytest.mark.parametrize("build", SHAPES, ids=[f.__name__ for f in SHAPES])
@pytest.mark.parametrize("stride", [None, "patch"])
def test_pools_in_other_shapes(build, dense, stride):
    net = Net((None, 2, 12, 12))
    x = build(net, trunk(net))
    assert_map(net.model(net.dense(x) if dense else x), stride=stride)


def of_one_channel(net, op):
    return reduced(net, op, net("Tanh", net.conv(out=1)), [1], 1)


def of_single_positions(net, op):
    return reduced(net, op, net("GlobalAveragePool", trunk(net)), [2, 3], 0)


def of_an_axis_just_made(net, op):
    return reduced(net, op, net.axes("Unsqueeze", net.dense(net.flat(trunk(net))), [2]), [2], 0)


def of_every_number(net, op):
    needs_reductions_of_nothing()
    return net(op, trunk(net), noop_with_empty_axes=1)


@pytest.mark.parametrize(
    "build", [of_one_channel, of_single_positions, of_an_axis_just_made, of_every_number]
)
@pytest.mark.parametrize("op", REDUCTIONS)
def test_reductions_of_one_number(op, build):
    """The mean, sum or extreme of one number is that number; its norm is its absolute value."""
    net = Net(opset=18)
    assert_map(net.model(net.dense(net.flat(build(net, op)))))


@pytest.mark.parametrize("op", [*POOLS, "ReduceMean", "ReduceSum"])
def test_float16(op):
    net = Net(kind=FLOAT16)
    x = trunk(net)
    x = net(op, x) if op in POOLS else reduced(net, op, x, [2, 3], 1)
    assert_map(net.model(net.dense(net.flat(x))), tolerance=1e-2)


@pytest.mark.parametrize("op", REDUCTIONS)
def test_double_is_refused_where_the_runtime_has_no_pool_for_it(op):
    """ONNX Runtime reduces float64, and has MaxPool for it only: never a map that it cannot load."""
    net = Net(kind=DOUBLE)
    x = net("MaxPool", "x", kernel_shape=[2, 2])
    model = net.model(reduced(net, op, x, [2, 3], 0))
    if REDUCTIONS[op] == "MaxPool":
        assert_map(model)
        return
    with pytest.raises(FileError, match=f"{op}: its input is float64") as caught:
        assert_map(model)
    assert caught.value.layer.startswith("the_reduce")


@pytest.mark.parametrize("ceil_mode", [0, 1])
def test_one_pixel_maps(ceil_mode):
    """A pool over a map of one position, at a stride of its own."""
    net = Net((None, 2, 8, 8))
    x = net("MaxPool", net.conv(kernel=7), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=ceil_mode)
    assert_map(net.model(net.dense(net.flat(net("GlobalAveragePool", x)))), natural=(2, 2))
