"""Where a dense weight may come from, and that a shared one serves every reader in its own order."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from dense2conv.convert.conversion import convert

from .nets import Net, assert_map, left, serialised, session

K = 3 * 7 * 6


def weight(net, *shape):
    return (net.random.standard_normal(shape) / np.sqrt(K)).astype(np.float32)


def constant(net, array):
    return net("Constant", value=numpy_helper.from_array(array))


def initializer(net):
    return net.tensor(weight(net, K, 4))


def of_zeros(net):
    shape = net.integers(K, 4)
    return net("ConstantOfShape", shape, value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.25]))


def of_a_computed_shape(net):
    """ConstantOfShape of a shape that a chain computes."""
    shape = net("Concat", net("Shape", net.tensor(np.zeros(K, np.float32))), net.integers(4), axis=0)
    return net("ConstantOfShape", shape, value=helper.make_tensor("v", TensorProto.FLOAT, [1], [-0.5]))


def through_transposes(net):
    x = net("Transpose", net.tensor(weight(net, 4, K)))
    return net("Identity", net("Transpose", net("Transpose", x), perm=[1, 0]))


def unsqueezed(net):
    return net.axes("Squeeze", net.axes("Unsqueeze", net.tensor(weight(net, K, 4)), [0]), [0])


SOURCES = {
    "initializer": initializer,
    "Constant": lambda net: constant(net, weight(net, K, 4)),
    "Constant, small": lambda net: net("Transpose", constant(net, np.float32([[0.5] * K, [-1] * K] * 2))),
    "Identity": lambda net: net("Identity", initializer(net)),
    "Identity of Identity of Constant": lambda net: net("Identity", net("Identity", constant(net, weight(net, K, 4)))),
    "Cast of float16": lambda net: net("Cast", net.tensor(weight(net, K, 4).astype(np.float16)), to=TensorProto.FLOAT),
    "Cast of float64": lambda net: net("Cast", net.tensor(weight(net, K, 4).astype(np.float64)), to=TensorProto.FLOAT),
    "Cast of int8": lambda net: net(
        "Cast", net.tensor(np.round(9 * weight(net, K, 4)).astype(np.int8)), to=TensorProto.FLOAT
    ),
    "Transpose": lambda net: net("Transpose", net.tensor(weight(net, 4, K))),
    "Transposes and Identity": through_transposes,
    "Reshape": lambda net: net("Reshape", net.tensor(weight(net, 7, 18, 4)), net.integers(-1, 4)),
    "Squeeze of Unsqueeze": unsqueezed,
    "ConstantOfShape": of_zeros,
    "ConstantOfShape of a computed shape": of_a_computed_shape,
    "product of two constants": lambda net: net("Mul", initializer(net), net.weight(4, fan=1)),
    "Slice of a larger one": lambda net: net(
        "Slice", net.tensor(weight(net, K + 5, 4)), net.integers(5), net.integers(999)
    ),
    "Concat of two": lambda net: net("Concat", net.tensor(weight(net, 100, 4)), net.tensor(weight(net, 26, 4)), axis=0),
}  # fmt: skip


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("order", ["CHW", "HWC"])
def test_weight_sources(source, order):
    net = Net()
    x = net("Tanh", net.conv())
    if order == "HWC":
        x = net("Transpose", x, perm=[0, 2, 3, 1])
    w = source(net)
    conversion = assert_map(net.model(net("Gemm", net.flat(x), w, net.weight(4, fan=1))))
    assert set(left(conversion)) <= {"Conv", "Tanh"}


@pytest.mark.parametrize("source", ["Constant", "Identity", "Cast of float16", "Transpose", "Reshape"])
def test_sources_of_a_convolution(source):
    """A convolution's kernel and bias may come from the same places."""
    net = Net()
    k = net.tensor(weight(net, 3, 2, 3, 3) * 3)
    bias = net("Identity", net.weight(3, fan=1))
    if source == "Constant":
        k = constant(net, weight(net, 3, 2, 3, 3))
    elif source == "Cast of float16":
        k = net("Cast", net.tensor(weight(net, 3, 2, 3, 3).astype(np.float16)), to=TensorProto.FLOAT)
    elif source == "Transpose":
        k = net("Transpose", net.tensor(weight(net, 3, 3, 2, 3)), perm=[3, 2, 0, 1])
    elif source == "Reshape":
        k = net("Reshape", net.tensor(weight(net, 3, 18)), net.integers(3, 2, 3, 3))
    else:
        k = net("Identity", k)
    x = net("Conv", "x", k, bias)
    assert_map(net.model(net.dense(net.flat(x), inputs=K)))


@pytest.mark.parametrize("ir", [3, 4, 8])
@pytest.mark.parametrize("listed", [True, False])
def test_initializers_that_are_listed_as_inputs(ir, listed):
    """Before IR version 4 every initializer was an input too; since then one that is can be overridden."""
    if ir == 3 and not listed:
        pytest.skip("not valid: IR version 3 wants them listed")
    net = Net(opset=8 if ir == 3 else 9, ir=ir, listed=listed)
    x = net(
        "BatchNormalization",
        net.conv(),
        *(net.weight(3, fan=1) for _ in range(3)),
        net.tensor(np.ones(3), np.float32),
    )
    conversion = assert_map(net.model(net.dense(net.flat(x))))
    runtime = session(serialised(conversion.map))
    assert [i.name for i in runtime.get_inputs()] == ["x"]


def shared_in_equal_layouts(net):
    w = net.tensor(weight(net, K, 4))
    a, b = (net("MatMul", net.flat(net("Tanh", net.conv())), w) for _ in range(2))
    return net("Sub", a, b), 1


def shared_in_different_layouts(net):
    """One matrix behind a CHW and behind an HWC flatten: two kernels."""
    w = net.tensor(weight(net, K, 4))
    x = net("Tanh", net.conv())
    a = net("MatMul", net.flat(x), w)
    b = net("MatMul", net.flat(net("Transpose", x, perm=[0, 2, 3, 1])), w)
    return net("Sub", a, b), 2


def shared_transposed(net):
    """One square matrix, used as it is and transposed."""
    w = net.tensor(weight(net, 6, 6) * 5)
    x = net.dense(net.flat(net("Tanh", net.conv())), 6)
    return net("Gemm", net("Gemm", x, w), w, transB=1), 3


def shared_by_a_bias(net):
    """One vector as a convolution's bias, a dense bias and a scale."""
    b = net.tensor(net.random.standard_normal(3), np.float32)
    x = net("Conv", "x", net.weight(3, 2, 3, 3), b)
    x = net("Gemm", net.flat(x), net.weight(3, K), b, transB=1)
    return net("Mul", x, b), 2


SHARED = [shared_in_equal_layouts, shared_in_different_layouts, shared_transposed, shared_by_a_bias]


@pytest.mark.parametrize("build", SHARED, ids=[f.__name__ for f in SHARED])
def test_shared_weights(build):
    net = Net()
    y, copies = build(net)
    conversion = assert_map(net.model(y))
    targets = {r.target for r in conversion.rewrites}
    assert len(targets) == copies


def test_a_weight_that_also_stays():
    """A dense matrix that something else reads as it is stays beside its kernel."""
    net = Net()
    w = net.tensor(weight(net, 3, K))
    x = net("Gemm", net.flat(net("Tanh", net.conv())), w, transB=1)
    k = net("Reshape", w, net.integers(3, 3, 7, 6))
    y = net.flat(net("Conv", net("Sigmoid", net.nodes[0].output[0]), k))
    assert_map(net.model(net("Add", x, y)))


def test_unread_weights_are_left_out():
    net = Net()
    net.tensor(np.zeros((1000, 10), np.float32), name="nobody_reads_this")
    conversion = assert_map(net.model(net.dense(net.flat(net.conv()))))
    assert "nobody_reads_this" not in {t.name for t in conversion.map.proto.graph.initializer}


def test_names_of_the_original_are_not_taken_twice():
    """The network already uses the names that the rewrite would make."""
    net = Net()
    net.tensor(weight(net, 4, K), name="w/kernel")
    w = net.tensor(weight(net, 4, K), name="w")
    a = net("Gemm", net.flat(net("Tanh", net.conv())), w, transB=1)
    b = net("Gemm", net.flat(net.conv()), "w/kernel", transB=1)
    conversion = assert_map(net.model(net("Add", a, b)))
    names = [t.name for t in conversion.map.proto.graph.initializer]
    assert len(names) == len(set(names))


def test_the_original_is_left_as_it_was():
    """A conversion edits no byte of the model that it reads."""
    net = Net()
    model = net.model(net.dense(net.flat(net.conv())))
    before = serialised(model)
    convert(model)
    assert serialised(model) == before
