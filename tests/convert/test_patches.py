"""``--method patches``: any network at all, run by the map itself on every patch of its input."""

import numpy as np
import pytest
from onnx import TensorProto

from dense2conv.convert.conversion import convert
from dense2conv.convert.errors import FileError, RequestError

from .nets import Net, assert_map

K = 3 * 7 * 6


def assert_patches(model, **how):
    return assert_map(model, method="patches", tolerance=1e-6, **how)


def by_value_ints(net, *target):
    return net("Constant", value_ints=target)


def by_concat(net, *target):
    return net("Concat", *(net.integers(n) for n in target), axis=0)


def by_identity(net, *target):
    return net("Identity", net.integers(*target))


def by_initializer(net, *target):
    return net.integers(*target)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("rest", [K, -1])
@pytest.mark.parametrize("written", [by_initializer, by_value_ints, by_concat, by_identity])
def test_a_batch_baked_into_a_reshape(written, rest, batch):
    """However the file writes the target, the reshape takes as many patches as there are."""
    net = Net((batch, 2, 9, 8))
    x = net("Reshape", net("Tanh", net.conv()), written(net, batch, rest))
    assert_patches(net.model(net.dense(x, inputs=K)))


@pytest.mark.parametrize("target", [(1, -1), (1, -1, 1, 1)], ids=["(1, C)", "(1, C, 1, 1)"])
def test_a_reshape_of_a_weight_is_not_one_of_the_batch(target):
    """A bias ``(C, 1)`` becomes a row: that its target begins with the file's batch, 1, is chance."""
    net = Net((1, 2, 9, 8))
    bias = net("Reshape", net.weight(3, 1, fan=1), net.integers(*target))
    if len(target) == 2:
        y = net("Add", net("MatMul", net.flat(net("Tanh", net.conv())), net.weight(K, 3, fan=K)), bias)
    else:
        y = net.dense(net.flat(net("Add", net("Tanh", net.conv()), bias)), inputs=K)
    assert_patches(net.model(y))


def by_a_computed_shape(net, x):
    batch = net("Gather", net("Shape", x), net.integers(0))
    return net("Reshape", x, net("Concat", batch, net.integers(-1), axis=0))


@pytest.mark.parametrize("declared", ["nothing", "names"])
@pytest.mark.parametrize("head", ["dense", "pool"])
def test_outputs_whose_sizes_the_file_leaves_free(head, declared):
    """With dynamic axes exporters leave the output's sizes free too; on a patch they are known."""
    net = Net((None, 2, "rows", "columns"))
    x = net("InstanceNormalization", net.conv(), net.weight(3, fan=1), net.weight(3, fan=1))
    if head == "dense":
        y = net.dense(by_a_computed_shape(net, x), inputs=K)
    else:
        y = by_a_computed_shape(net, net("GlobalMaxPool", x))
    model = net.model(y)
    shape = model.proto.graph.output[0].type.tensor_type.shape
    del shape.dim[:]
    if declared == "names":
        shape.dim.add().dim_param, shape.dim.add().dim_param = "samples", "sizes"
    assert_patches(model, patch=(9, 8))


def test_a_constant_that_is_not_computed():
    """Range, Expand and Tile are not computed: no convolution, but the network runs on patches as it is."""
    net = Net()
    numbers = net("Range", *(net.tensor(n, np.int64) for n in (0, K, 1)))
    numbers = net("Div", net("Cast", numbers, to=TensorProto.FLOAT), net.tensor(100.0, np.float32))
    y = net.dense(net("Add", net.flat(net("Tanh", net.conv())), numbers), inputs=K)
    assert_patches(net.model(y))


def test_a_constant_that_onnx_does_not_compute():
    """onnx's reference has no DequantizeLinear of operator set 17; ONNX Runtime has."""
    net = Net()
    numbers = net.tensor(net.random.integers(-9, 9, (K, 4)), np.int8)
    weight = net("DequantizeLinear", numbers, net.tensor(0.1, np.float32), net.tensor(0, np.int8))
    model = net.model(net("Gemm", net.flat(net("Tanh", net.conv())), weight))
    assert_patches(model)
    with pytest.raises(FileError, match="DequantizeLinear cannot be computed"):
        convert(model)


def recurrent(net):
    x = net("Transpose", "x", perm=[1, 0, 2])
    y, *_ = net("LSTM", x, net.weight(1, 16, 5), net.weight(1, 16, 4), outputs=3, hidden_size=4)
    return net("Gather", net.axes("Squeeze", y, [1]), net.tensor(-1, np.int64), axis=0)


def test_axes_that_no_layer_names_are_asked_for():
    """The trace stops at the LSTM whatever the axes are; a guess would cut the input along its channels."""
    net = Net((None, 6, 5))
    model = net.model(recurrent(net))
    for method in ("patches", "exact"):
        with pytest.raises(RequestError, match="cannot tell") as caught:
            convert(model, method=method)
        assert "--order CL or --order LC" in caught.value.hint
    assert_patches(model, order="LC", axes=(1,))


def test_axes_that_a_layer_has_named_are_not_asked_for():
    """A convolution in front of what is refused says which axis is the channel."""
    net = Net()
    x = net("InstanceNormalization", net.conv(), net.weight(3, fan=1), net.weight(3, fan=1))
    conversion = assert_patches(net.model(net.dense(net.flat(x), inputs=K)))
    assert conversion.analysis.exactness == "not convertible"
