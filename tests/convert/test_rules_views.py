"""Every way to write a flatten, and every regrouping of axes: nothing of it is left in the map."""

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from dense2conv.convert.errors import FileError
from dense2conv.convert.verification import verify

from .nets import FLOAT, INT64, Net, assert_map, left

SIZE = 3 * 7 * 6  # the flattened features of conv(3, kernel 3) on (2, 9, 8)


def gathered(net, x, index, axis=0):
    return net("Gather", net("Shape", x), net.tensor(index, np.int64), axis=axis)


def constant_node(net, *values):
    return net("Constant", value=numpy_helper.from_array(np.asarray(values, np.int64)))


def reshape(*target, node=False, **attributes):
    def build(net, x):
        shape = constant_node(net, *target) if node else net.integers(*target)
        return net("Reshape", x, shape, **attributes)

    return build


def by_gather(net, x):
    """torch: x.view(x.size(0), -1)."""
    batch = net.axes("Unsqueeze", gathered(net, x, 0), [0])
    return net("Reshape", x, net("Concat", batch, net.integers(-1), axis=0))


def by_slice(net, x):
    shape = net("Shape", x)
    if net.opset >= 10:
        batch = net("Slice", shape, net.integers(0), net.integers(1))
    else:
        batch = net("Slice", shape, starts=[0], ends=[1])
    return net("Reshape", x, net("Concat", batch, net.integers(-1), axis=0))


def by_product(net, x):
    """torch without folding: four Shape/Gather pairs and Mul."""
    sizes = [gathered(net, x, i) for i in range(1, 4)]
    count = net("Mul", net("Mul", sizes[0], sizes[1]), sizes[2])
    parts = [net.axes("Unsqueeze", n, [0]) for n in (gathered(net, x, 0), count)]
    return net("Reshape", x, net("Concat", *parts, axis=0))


def by_casts(net, x):
    """Keras 3: the shape goes through int32."""
    shape = net("Cast", net("Shape", x), to=TensorProto.INT32)
    batch = net("Gather", shape, net.tensor([0], np.int64))
    target = net("Concat", batch, net.tensor([-1], np.int32), axis=0)
    return net("Reshape", x, net("Cast", target, to=INT64))


def by_size(net, x):
    """Size over the batch."""
    batch = gathered(net, x, [0])
    return net("Reshape", x, net("Concat", batch, net("Div", net("Size", x), batch), axis=0))


def by_shape_attributes(net, x):
    """Shape with start and end (operator set 15)."""
    return net("Reshape", x, net("Concat", net("Shape", x, start=0, end=1), net.integers(-1), axis=0))


def by_reduce_prod(net, x):
    rest = net("Slice", net("Shape", x), net.integers(1), net.integers(4))
    count = net("ReduceProd", rest, keepdims=1, axes=[0])
    return net("Reshape", x, net("Concat", net.integers(-1), count, axis=0))


def by_squeezes(net, x):
    x = net("AveragePool", x, kernel_shape=[7, 6])
    return net.axes("Squeeze", net.axes("Squeeze", x, [3]), [2])


def by_one_squeeze(net, x):
    return net.axes("Squeeze", net("MaxPool", x, kernel_shape=[7, 6]), [-2, -1])


def by_squeeze_without_axes(net, x):
    return net("Squeeze", net("MaxPool", x, kernel_shape=[7, 6]))


def channels_last_then(op):
    def build(net, x):
        x = net("Transpose", x, perm=[0, 2, 3, 1])
        return net.flat(x) if op == "Flatten" else net("Reshape", x, net.integers(-1, SIZE))

    return build


def transposed(*perm):
    return lambda net, x: net.flat(net("Transpose", x, perm=list(perm)))


def in_two_steps(net, x):
    """(N, C, H, W) -> (N, C, H*W) -> (N, H*W, C) -> flat."""
    x = net("Transpose", net("Reshape", x, net.integers(0, 3, -1)), perm=[0, 2, 1])
    return net("Reshape", x, net.integers(-1, SIZE))


def there_and_back(net, x):
    x = net("Reshape", net.flat(x), net.integers(-1, 3, 7, 6))
    return net.flat(net("Relu", net("Transpose", x, perm=[0, 1, 3, 2])))


def split_channels(net, x):
    """(N, C, H, W) -> (N, 1, 3, H, W) -> (N, H, 1, W, 3) -> flat: the channel in two, one of them empty."""
    x = net("Reshape", x, net.integers(0, 1, 3, 7, 6))
    return net.flat(net("Transpose", x, perm=[0, 3, 1, 4, 2]))


def with_dropout(net, x):
    x = net("Dropout", net("Identity", x))
    return net("Identity", net("Dropout", net.flat(x)))


def unsqueezed(net, x):
    return net.flat(net.axes("Unsqueeze", x, [1, 5]))


FLATTENS = {
    "Flatten without attribute": lambda net, x: net("Flatten", x),
    "Flatten axis=1": lambda net, x: net("Flatten", x, axis=1),
    "Flatten axis=-3": lambda net, x: net("Flatten", x, axis=-3),
    "Flatten twice": lambda net, x: net("Flatten", net("Flatten", x)),
    "Reshape (-1, K)": reshape(-1, SIZE),
    "Reshape (0, -1)": reshape(0, -1),
    "Reshape (0, K)": reshape(0, SIZE),
    "Reshape (-1, K), a Constant node": reshape(-1, SIZE, node=True),
    "Reshape (-1, K), allowzero": reshape(-1, SIZE, allowzero=1),
    "Reshape (0, 3, -1), then (0, -1)": lambda net, x: reshape(0, -1)(net, reshape(0, 3, -1)(net, x)),
    "Reshape (0, 0, 42), then Flatten": lambda net, x: net.flat(reshape(0, 0, 42)(net, x)),
    "Shape, Gather, Unsqueeze, Concat": by_gather,
    "Shape, Slice, Concat": by_slice,
    "Shape, Gather, Mul": by_product,
    "Shape, Cast, Gather, Concat, Cast": by_casts,
    "Size over the batch": by_size,
    "Shape with start and end": by_shape_attributes,
    "Shape, Slice, ReduceProd": by_reduce_prod,
    "Squeeze twice": by_squeezes,
    "Squeeze of negative axes": by_one_squeeze,
    "Squeeze without axes": by_squeeze_without_axes,
    "Transpose HWC, Flatten": channels_last_then("Flatten"),
    "Transpose HWC, Reshape": channels_last_then("Reshape"),
    "Transpose WHC": transposed(0, 3, 2, 1),
    "Transpose CWH": transposed(0, 1, 3, 2),
    "Transpose HCW": transposed(0, 2, 1, 3),
    "Transpose WCH": transposed(0, 3, 1, 2),
    "two regroupings": in_two_steps,
    "flat, unflat and transposed": there_and_back,
    "channels in two axes": split_channels,
    "Dropout and Identity all around": with_dropout,
    "Unsqueeze, Flatten": unsqueezed,
}


@pytest.mark.parametrize("flatten", FLATTENS.values(), ids=FLATTENS)
def test_every_flatten(flatten):
    net = Net()
    x = flatten(net, net("Relu", net.conv()))
    inputs = 3 if flatten in (by_squeezes, by_one_squeeze, by_squeeze_without_axes) else SIZE
    conversion = assert_map(net.model(net.dense(x, inputs=inputs)), natural=(1, 1))
    assert left(conversion)[-1] == "Conv"
    assert not {"Transpose", "Dropout", "Identity", "Squeeze", "Unsqueeze", "Concat"} & set(left(conversion))


COMPUTED = (by_gather, by_slice, by_product, by_casts, by_squeezes)


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12, 13, 15, 18, 20, 22])
@pytest.mark.parametrize("flatten", COMPUTED, ids=[f.__name__ for f in COMPUTED])
def test_computed_shapes_in_every_operator_set(opset, flatten):
    net = Net(opset=opset)
    x = flatten(net, net("Relu", net.conv()))
    assert_map(net.model(net.dense(x, inputs=3 if flatten is by_squeezes else SIZE)))


def test_flatten_of_a_negative_axis_on_flat_features():
    net = Net()
    assert_map(net.model(net.dense(net("Flatten", net.flat(net.conv()), axis=-1))))


def test_a_vector_with_single_positions():
    """The head's vector as (N, D, 1, 1), and as (N, 1, D)."""
    for shape in ((0, 4, 1, 1), (-1, 1, 4)):
        net = Net()
        y = net("Reshape", net.dense(net.flat(net.conv())), net.integers(*shape))
        assert_map(net.model(net("Relu", y)))


def test_dropout_with_a_ratio_and_training_off():
    net = Net()
    x = net("Dropout", net.conv(), net.tensor(0.25, np.float32), net.tensor(False))
    assert_map(net.model(net.dense(net.flat(x))))


def last_interface(net):
    """tf2onnx: channels last at the interface, first inside."""
    x = net("Transpose", "x", perm=[0, 3, 1, 2])
    x = net("Relu", net.conv(x))
    return net.dense(net.flat(net("Transpose", x, perm=[0, 2, 3, 1])), inputs=SIZE)


def last_all_through(net):
    """Keras 3: channels last between all layers."""
    x = "x"
    for kernel in (3, 2):
        x = net("Transpose", x, perm=[0, 3, 1, 2])
        x = net("Transpose", net.conv(x, kernel=kernel, bias=False), perm=[0, 2, 3, 1])
        x = net("Relu", net("Add", x, net.weight(3, fan=1)))
    return net.dense(net("Reshape", x, net.integers(-1, 90)), inputs=90)


def one_channel_by_reshape(net):
    """tf2onnx: a Transpose of one channel is a Reshape, with the patch baked in."""
    x = net("Reshape", "x", net.integers(-1, 1, 9, 8))
    x = net("Transpose", net.conv(x), perm=[0, 2, 3, 1])
    return net.dense(net.flat(x), inputs=SIZE)


CHANNELS_LAST = {
    "Transpose at the interface": ((None, 9, 8, 2), last_interface),
    "between all layers": ((None, 9, 8, 2), last_all_through),
    "one channel, by Reshape": ((None, 9, 8, 1), one_channel_by_reshape),
}


@pytest.mark.parametrize(("shape", "build"), CHANNELS_LAST.values(), ids=CHANNELS_LAST)
@pytest.mark.parametrize("size", [None, (12, 10)])
def test_channels_last(shape, build, size):
    net = Net(shape)
    conversion = assert_map(net.model(build(net)), axes=(1, 2), size=size)
    assert conversion.analysis.layout == "channels last"


def test_transposes_between_layers_cancel():
    net = Net((None, 9, 8, 2))
    conversion = assert_map(net.model(last_all_through(net)), axes=(1, 2))
    assert left(conversion).count("Transpose") == 2  # one at each end


def series_as_image(place):
    """tf2onnx's Conv1D: a 2-D convolution with one row (or one column)."""

    def build(net):
        x = net.axes("Unsqueeze", "x", [place])
        kernel = (1, 3) if place == 2 else (3, 1)
        x = net("Relu", net.conv(x, kernel=kernel, strides=[1, 2] if place == 2 else [2, 1]))
        x = net("MaxPool", x, kernel_shape=[1, 2] if place == 2 else [2, 1])
        x = net.axes("Squeeze", x, [place])
        return net.dense(net.flat(net("Add", x, net.weight(1, 3, 1, fan=1))))

    return build


def time_last(net):
    """(N, T, C) made (N, C, T), as torch models of series do."""
    x = net.conv(net("Transpose", "x", perm=[0, 2, 1]))
    return net.dense(net.flat(x))


SERIES = {
    "one row": ((None, 2, 15), (2,), series_as_image(2)),
    "one column": ((None, 2, 15), (2,), series_as_image(3)),
    "(N, T, C)": ((None, 15, 2), (1,), time_last),
}


@pytest.mark.parametrize(("shape", "axes", "build"), SERIES.values(), ids=SERIES)
def test_series(shape, axes, build):
    net = Net(shape)
    assert_map(net.model(build(net)), axes=axes)


def shuffled(groups):
    """ShuffleNet: channels in groups, transposed."""

    def build(net):
        x = net("Relu", net.conv(out=6))
        x = net("Reshape", x, net.integers(-1, groups, 6 // groups, 7, 6))
        return net("Reshape", net("Transpose", x, perm=[0, 2, 1, 3, 4]), net.integers(-1, 6, 7, 6))

    return build


SHUFFLES = {
    "then a grouped convolution": lambda net, x: net.dense(net.flat(net.conv(x, out=4, group=2))),
    "then a dense layer": lambda net, x: net.dense(net.flat(x)),
    "then a pool": lambda net, x: net.flat(net("GlobalAveragePool", x)),
    "added to what was not shuffled": lambda net, x: net.dense(
        net.flat(net("Add", x, net.nodes[1].output[0]))
    ),
    "joined to what was not shuffled": lambda net, x: net.dense(
        net.flat(net("Concat", x, net.nodes[1].output[0], axis=1))
    ),
    "then one scale a channel": lambda net, x: net.dense(net.flat(net("Mul", x, net.weight(6, 1, 1, fan=1)))),
    "as the output": lambda net, x: net("Reshape", net("GlobalMaxPool", x), net.integers(0, -1)),
}


@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.parametrize("behind", SHUFFLES.values(), ids=SHUFFLES)
def test_channel_shuffle(groups, behind):
    net = Net()
    assert_map(net.model(behind(net, shuffled(groups)(net))))


def test_shuffled_vector():
    """Features behind the head, in groups and transposed: an order of channels that only a Gather can give."""
    net = Net()
    x = net.dense(net.flat(net.conv()), 6)
    x = net("Transpose", net("Reshape", x, net.integers(-1, 2, 3)), perm=[0, 2, 1])
    assert_map(net.model(net("Reshape", x, net.integers(-1, 6))))


def rows_and_columns_swapped(net):
    """Two branches, one with rows and columns in each other's place: on a square map sizes cannot tell."""
    x = net.conv()
    return x, net("Transpose", x, perm=[0, 1, 3, 2])


@pytest.mark.parametrize("op", ["Add", "Concat"])
def test_rows_do_not_meet_columns(op):
    """Refused, or right; never a map that adds rows to columns."""
    net = Net((None, 2, 9, 9))
    x, y = rows_and_columns_swapped(net)
    z = net(op, x, y, **({"axis": 1} if op == "Concat" else {}))
    model = net.model(net.dense(net.flat(z)))
    with pytest.raises(FileError, match=op):
        assert_map(model)


def test_numbers_computed_from_the_size_of_the_patch():
    """The network divides by its own height and by its number of features: what they are on a patch."""
    net = Net()
    x = net("Div", "x", net("Cast", gathered(net, "x", 2), to=FLOAT))
    x = net.flat(net("Relu", net.conv(x, channels=2)))
    count = net("Div", net("Size", x), gathered(net, x, 0))
    y = net.dense(net("Mul", x, net("Cast", count, to=FLOAT)), inputs=SIZE)
    assert_map(net.model(y))


OUTPUTS = {  # axes of one element that the output has beside (N, D): where the map stands, what else is left
    "(N, D, 1, 1)": ([2, 3], "behind", ()),
    "(N, 1, 1, D)": ([1, 2], "in front", ()),
    "(N, 1, D)": ([1], "as the input", (0,)),
    "(N, D, 1)": ([2], "as the input", (1,)),
    "(N, 1, D, 1)": ([1, 3], "as the input", (0, 2)),
}


@pytest.mark.parametrize("method", ["conv", "patches"])
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize(("axes", "place", "left_over"), OUTPUTS.values(), ids=OUTPUTS)
def test_outputs_with_axes_of_one(axes, place, left_over, last, method):
    """A single position an axis is where the map goes, whatever the input's layout; other axes of one stay."""
    net = Net((None, 9, 8, 2) if last else (None, 2, 9, 8))
    x = net("Transpose", "x", perm=[0, 3, 1, 2]) if last else "x"
    y = net.dense(net.flat(net("Tanh", net.conv(x))), 5)
    model = net.model(net.axes("Unsqueeze", y, axes))
    in_front = last if place == "as the input" else place == "in front"
    conversion = assert_map(model, axes=(1, 2) if last else (2, 3), last=in_front, method=method)
    features = [1] * (len(left_over) + 1)
    features[next(i for i in range(3) if i not in left_over)] = 5
    dims = conversion.map.proto.graph.output[0].type.tensor_type.shape.dim
    sizes = [d.dim_value or "map" for d in dims]
    assert sizes[1:] == (["map"] * 2 + features if in_front else features + ["map"] * 2)
    report = verify(model, conversion.map, analysis=conversion.analysis)
    assert report.verdict == "equivalent", report.checks[-1].text


def test_output_types():
    net = Net()
    y = net("Cast", net.dense(net.flat(net.conv())), to=TensorProto.INT32)
    z = net("Greater", net.nodes[-2].output[0], net.tensor(0.0, np.float32))
    model = net.model(y, net("Cast", z, to=FLOAT), z)
    assert_map(model)
