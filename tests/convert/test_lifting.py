"""Maps of one spatial axis that are computed in two: where the measured rule says so, and then right everywhere."""

import numpy as np
import pytest

from dense2conv.convert import assemble
from dense2conv.convert.conversion import convert
from dense2conv.convert.verification import verify

from .nets import FLOAT, Net, assert_map, left
from .test_fuzz import Maker
from .test_strides import hold

SERIES = [seed for seed in range(2000, 2060) if Maker(seed).rank == 1]


@pytest.mark.parametrize("seed", SERIES)
def test_random_series_networks_in_two_dimensions(seed, monkeypatch):
    monkeypatch.setattr(assemble, "worth_lifting", lambda _: True)
    hold(seed)


@pytest.mark.parametrize(
    ("units", "kernel", "lifted"),
    [(16, 3, True), (64, 3, True), (6, 5, False), (8, 9, False), (32, 1, False)],
)
def test_where_it_is_worth_it(units, kernel, lifted):
    net = Net((None, 2, 40), opset=17)
    x = net.conv(net("Relu", net.conv(out=units, kernel=kernel)), out=3, kernel=3, strides=[2])
    conversion = assert_map(net.model(net.dense(net.flat(x))))
    assert ("Unsqueeze" in left(conversion)) is lifted
    # A chain is lifted once, and comes back once.
    assert left(conversion).count("Unsqueeze") == left(conversion).count("Squeeze") == lifted


@pytest.mark.parametrize("opset", [7, 10, 13, 22])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_each_kind_of_layer(opset, stride):
    """Windows, constants of every shape, channels, crops and what has no form in two dimensions."""
    net = Net((None, 2, 41), opset=opset)
    x = net("Relu", net.conv(out=16, kernel=5, strides=[2]))
    x = net("MaxPool", x, kernel_shape=[2])
    x = net("Add", net("Mul", x, net.weight(16, 1, fan=1)), net.weight(1, 16, 1, fan=1))
    x = net("PRelu", x, net.weight(16, 1, fan=1))
    x = net("Mul", x, net.tensor(0.5, np.float32))
    if opset >= 10:
        y = net("Slice", x, *(net.integers(v) for v in (1, -1, 2)))
    else:
        y = net("Slice", x, starts=[1], ends=[-1], axes=[2])
    z = net("AveragePool", x, kernel_shape=[3])
    x = net("Concat", y, z, axis=1)
    first = net.dense(net.flat(x), 4)
    second = net("Softmax", net.dense(net.flat(net.conv(x, out=16, kernel=3)), 5), axis=1)
    model = net.model(first, second)
    conversion = assert_map(model, stride=(stride,))
    assert "Unsqueeze" in left(conversion)
    assert verify(model, conversion.map, analysis=conversion.analysis).verdict.value == "equivalent"


def test_constants_that_are_the_same_for_several_channels():
    """Such a constant is computed by nodes, and its shape is not known: the operator stays in one dimension."""
    net = Net((None, 2, 30), opset=17)
    x = net("Relu", net.conv(out=16, kernel=3))
    x = net("Reshape", x, net.integers(-1, 4, 4, 28))
    x = net("Mul", x, net.weight(4, 1, 1, fan=1))
    x = net("Reshape", x, net.integers(-1, 16, 28))
    assert_map(net.model(net.dense(net.flat(x))), stride=(2,))


def test_channels_last_and_a_fixed_size():
    net = Net((None, 40, 3), opset=17)
    x = net("Transpose", "x", perm=[0, 2, 1])
    x = net("Relu", net.conv(x, out=16, kernel=4, channels=3, strides=[3]))
    y = net.dense(net.flat(net("Transpose", x, perm=[0, 2, 1])))
    assert_map(net.model(y), axes=(1,), stride=(2,), size=(59,))


def test_kernels_are_the_files_own_bytes():
    """In one more axis; a kernel that two convolutions share is changed once."""
    net = Net((None, 2, 30), opset=17)
    x = net("Relu", net.conv(out=16, kernel=3, name="first"))
    weight, bias = net.weight(5, 448), net.weight(5, fan=1)
    a, b = (net("Gemm", net.flat(v), weight, bias, transB=1) for v in (x, net("Tanh", x)))
    conversion = convert(net.model(net("Add", a, b)))
    kernels = {t.name: tuple(t.dims) for t in conversion.map.proto.graph.initializer if len(t.dims) > 2}
    assert set(kernels.values()) == {(16, 2, 1, 3), (5, 16, 1, 28)}
    assert all(t.data_type == FLOAT for t in conversion.map.proto.graph.initializer if len(t.dims) > 2)
    assert_map(net.model(net("Add", a, b)))
