"""The layer table of a graph: every shape is the one that ONNX Runtime really gives for that value."""

import numpy as np
import pytest

from dense2conv.convert.shapes import network_of

from .nets import Net, serialised, session

INFERRED = "shape from onnx's inference"
BATCH = 2


def real_shapes(net):
    """The shape of every node's first output when ONNX Runtime runs the graph, in order."""
    names = [node.output[0] for node in net.nodes]
    runtime = session(serialised(net.model(*names)))
    image = np.random.default_rng(3).random(net.shape, dtype=np.float32)
    return [array.shape for array in runtime.run(names, {"x": image})]


def sample(shape):
    return (shape[1:] or (1,)) if shape and shape[0] == BATCH else shape


def assert_shapes(net):
    """Every node's row has the real shape, and none of them is what onnx thinks; returns the rows."""
    network = network_of(net.model(net.nodes[-1].output[0]))
    rows = {node.name: node for node in network.nodes}
    for node, shape in zip(net.nodes, real_shapes(net), strict=True):
        if node.name in rows:  # those that compute shapes and constants are no layers
            assert rows[node.name].output == sample(shape), node.name
            assert INFERRED not in rows[node.name].notes, node.name
    assert net.nodes[-1].name in rows
    return network


def shaped(net, op, *values, **attributes):
    """An operator with an operand of integers behind ``x``."""
    return net(op, "x", net.integers(*values), **attributes)


def shape_chain(net):
    """Flatten as older exporters write it: Shape, Gather, Unsqueeze, Concat, Reshape."""
    batch = net("Gather", net("Shape", "x"), net.tensor(0, np.int64), axis=0)
    target = net("Concat", net.axes("Unsqueeze", batch, [0]), net.integers(-1), axis=0)
    net("Relu", net("Reshape", "x", target))


def size_chain(net):
    """A reshape to everything that ``Size`` counts."""
    net("Reshape", "x", net.axes("Unsqueeze", net("Size", "x"), [0]))


def part_of_a_shape(net):
    """The end of a shape, by the attributes of Shape since operator set 15."""
    spatial = net("Shape", "x", start=2)
    net("Reshape", "x", net("Concat", net.integers(0, -1), spatial, axis=0))


def empty(net):
    """With ``allowzero`` a 0 is a size."""
    nothing = net("Slice", "x", net.integers(5), net.integers(2), net.integers(2))
    net("Reshape", nothing, net.integers(0, 3), allowzero=1)


def same_weights(net):
    """Split in two halves, each convolved."""
    halves = net("Split", "x", axis=1, outputs=2)
    net("Concat", *(net("Conv", half, net.weight(4, 3, 3, 3)) for half in halves), axis=1)


def split_by_operand(net):
    parts = net("Split", "x", net.integers(1, 3, 2), axis=-3, outputs=3)
    net("Concat", parts[2], parts[0], axis=1)


def matrices(net, *, transpose):
    """Every position by every other, as attention does."""
    flat = net("Reshape", "x", net.integers(0, 0, -1))
    net("MatMul", net("Transpose", flat, perm=[0, 2, 1]), flat) if transpose else net(
        "MatMul", flat, net.weight(72, 5)
    )


def gemm(net, *, a, b):
    flat = net("Flatten", "x")
    flat = net("Transpose", flat) if a else flat
    weight = net.weight(5, 432) if b else net.weight(432, 5)
    net("Gemm", flat, weight, net.weight(5, fan=1), transA=int(a), transB=int(b))


IMAGE, SERIES, VOLUME = (BATCH, 6, 9, 8), (BATCH, 6, 15), (BATCH, 2, 5, 6, 7)
SETS = (9, 11, 13, 17, 21)

# Operator sets, the input's shape, and the graph.
CASES = {
    "conv": (SETS, IMAGE, lambda n: n.conv(kernel=(3, 2), strides=[2, 1], pads=[1, 0, 1, 2])),
    "conv of a series": (SETS, SERIES, lambda n: n.conv(dilations=[2], group=2, channels=6, out=4)),
    "conv of a volume": ((17,), VOLUME, lambda n: n.conv(kernel=2, auto_pad="SAME_LOWER", strides=[2, 2, 3])),
    "conv valid": ((17,), IMAGE, lambda n: n.conv(auto_pad="VALID")),
    "transposed": (SETS, IMAGE, lambda n: n("ConvTranspose", "x", n.weight(6, 4, 3, 3), strides=[2, 2],
                                            output_padding=[1, 0], pads=[1, 0, 0, 1])),
    "transposed groups": ((17,), IMAGE, lambda n: n("ConvTranspose", "x", n.weight(6, 4, 3, 3), group=2)),
    "transposed to a shape": ((17,), IMAGE, lambda n: n("ConvTranspose", "x", n.weight(6, 4, 3, 3), strides=[2, 2],
                                                        output_shape=[18, 15])),
    "transposed same": ((17,), IMAGE, lambda n: n("ConvTranspose", "x", n.weight(6, 4, 3, 3), strides=[2, 2],
                                                  auto_pad="SAME_UPPER")),
    "max pool": (SETS, IMAGE, lambda n: n("MaxPool", "x", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1])),
    "max pool rounds up": ((11, 17, 22), IMAGE, lambda n: n("MaxPool", "x", kernel_shape=[2, 3], strides=[2, 2],
                                                            ceil_mode=1)),
    "average pool": (SETS, IMAGE, lambda n: n("AveragePool", "x", kernel_shape=[3, 2], auto_pad="SAME_UPPER")),
    "lp pool": ((11, 18), IMAGE, lambda n: n("LpPool", "x", kernel_shape=[3, 2], p=2)),
    "global pools": (SETS, VOLUME, lambda n: n("GlobalMaxPool", n("GlobalAveragePool", "x"))),
    "flatten": (SETS, IMAGE, lambda n: n("Flatten", "x", axis=2)),
    "flatten from the end": ((13, 17), IMAGE, lambda n: n("Flatten", "x", axis=-1)),
    "flatten before the first": ((17,), IMAGE, lambda n: n("Flatten", "x", axis=0)),
    "reshape": (SETS, IMAGE, lambda n: shaped(n, "Reshape", 0, 3, -1, 8)),
    "reshape zero": ((17,), IMAGE, lambda n: n("Reshape", "x", n.integers(2, 6, 72), allowzero=1)),
    "reshape nothing": ((17,), IMAGE, empty),
    "reshape by shape": (SETS, IMAGE, shape_chain),
    "reshape by size": ((13, 17), IMAGE, size_chain),
    "reshape by a part": ((17,), IMAGE, part_of_a_shape),
    "transpose": (SETS, IMAGE, lambda n: n("Transpose", n("Transpose", "x"), perm=[2, 0, 3, 1])),
    "squeeze": (SETS, (BATCH, 6, 1, 1), lambda n: n.axes("Unsqueeze", n.axes("Squeeze", "x", [-1, 2]), [-1, 0])),
    "squeeze all": (SETS, (BATCH, 1, 5, 1), lambda n: n("Squeeze", "x")),
    "unsqueeze": (SETS, IMAGE, lambda n: n.axes("Unsqueeze", "x", [1, 4])),
    "split": ((9, 11, 13, 17), IMAGE, same_weights),
    "split by operand": ((13, 17), IMAGE, split_by_operand),
    "split by attribute": ((9, 11), IMAGE, lambda n: n("Relu", n("Split", "x", axis=2, split=[4, 5], outputs=2)[0])),
    "split unevenly": ((18, 21), IMAGE, lambda n: n("Relu", n("Split", "x", axis=2, num_outputs=2, outputs=2)[0])),
    "slice by attribute": ((9,), IMAGE, lambda n: n("Slice", "x", starts=[1, -3], ends=[99, -1], axes=[2, 3])),
    "slice": ((11, 13, 17), IMAGE, lambda n: n("Slice", "x", n.integers(1, -1), n.integers(-1, -99),
                                               n.integers(-2, 3), n.integers(2, -2))),
    "slice nothing off": ((17,), IMAGE, lambda n: n("Slice", "x", n.integers(0), n.integers(2**63 - 1), n.integers(2))),
    "slice to nothing": ((17,), IMAGE, lambda n: n("Slice", "x", n.integers(5), n.integers(2), n.integers(2))),
    "gather": (SETS, IMAGE, lambda n: n("Gather", n("Gather", "x", n.integers(5, 0), axis=-2),
                                        n.tensor(3, np.int64), axis=3)),
    "gather a table": ((13,), IMAGE, lambda n: n("Gather", "x", n.tensor([[0, 1, 2], [2, 1, -1]], np.int64), axis=2)),
    "pad": ((11, 13, 17), IMAGE, lambda n: shaped(n, "Pad", 0, 0, 1, 2, 0, 0, 3, -1)),
    "pad by attribute": ((9,), IMAGE, lambda n: n("Pad", "x", pads=[0, 0, 1, 2, 0, 0, 3, 0], mode="reflect")),
    "pad some axes": ((18, 21), IMAGE, lambda n: n("Pad", "x", n.integers(1, 2, 3, 0), "", n.integers(-1, 2))),
    "pad reflect": ((13,), IMAGE, lambda n: shaped(n, "Pad", 0, 0, 1, 2, 0, 0, 3, 0, mode="reflect")),
    "pad edge": ((13,), IMAGE, lambda n: shaped(n, "Pad", 0, 0, 20, 2, 0, 0, 3, 0, mode="edge")),
    "pad wrap": ((19,), IMAGE, lambda n: shaped(n, "Pad", 0, 0, 1, 2, 0, 0, 3, 0, mode="wrap")),
    "resize scales": ((11, 13, 17), IMAGE, lambda n: n("Resize", "x", n.tensor([], np.float32),
                                                       n.tensor([1, 1, 2, 1.6], np.float32))),
    "resize sizes": ((13, 17, 19), IMAGE, lambda n: n("Resize", "x", n.tensor([], np.float32), "",
                                                      n.integers(2, 6, 4, 17), mode="linear")),
    "resize old": ((10,), IMAGE, lambda n: n("Resize", "x", n.tensor([1, 1, 2, 0.6], np.float32), mode="linear")),
    "upsample": ((9,), IMAGE, lambda n: n("Upsample", "x", n.tensor([1, 1, 2, 1.5], np.float32))),
    "upsample by attribute": ((7,), IMAGE, lambda n: n("Upsample", "x", scales=[1.0, 1.0, 2.0, 3.0])),
    "space to depth": (SETS, (BATCH, 8, 6, 4), lambda n: n("DepthToSpace", n("SpaceToDepth", "x", blocksize=2),
                                                           blocksize=4)),
    **{f"gemm {a} {b}": (SETS, IMAGE, lambda n, a=a, b=b: gemm(n, a=a, b=b)) for a, b in ((0, 0), (0, 1))},
    "gemm transposed": ((17,), IMAGE, lambda n: gemm(n, a=True, b=True)),
    "matmul": (SETS, IMAGE, lambda n: matrices(n, transpose=False)),
    "matmul of two": (SETS, IMAGE, lambda n: matrices(n, transpose=True)),
    "matmul with a batch of weights": ((17,), IMAGE, lambda n: n("MatMul", "x", n.weight(6, 8, 5))),
    "matmul from the left": ((17,), IMAGE, lambda n: n("MatMul", n.weight(4, 9), "x")),
    "reduce": (SETS, IMAGE, lambda n: n.axes("ReduceMean", "x", [2, -1], since=18, keepdims=0)),
    "reduce all": (SETS, IMAGE, lambda n: n("ReduceMax", "x")),
    "reduce and keep": (SETS, IMAGE, lambda n: n.axes("ReduceSum", "x", [1], keepdims=1)),
    "reduce nothing": ((18,), IMAGE, lambda n: n("ReduceMean", "x", n.integers(), noop_with_empty_axes=1)),
    "argmax": (SETS, IMAGE, lambda n: n("ArgMax", "x", axis=1, keepdims=0)),
    "softmax": (SETS, IMAGE, lambda n: n("LogSoftmax", n("Softmax", "x", axis=1))),
    "broadcast": (SETS, IMAGE, lambda n: n("Mul", n("Add", "x", n.weight(6, 1, 1)), n.weight(1, 8))),
    "broadcast up": ((17,), (BATCH, 6, 1, 8), lambda n: n("Add", "x", n.weight(3, 1, 1, 5, 1))),
    "concat": (SETS, IMAGE, lambda n: n("Concat", "x", n.tensor(np.ones((2, 1, 9, 8), np.float32)), "x", axis=-3)),
    "normalizations": ((17,), IMAGE, lambda n: n("LayerNormalization", n("InstanceNormalization", "x", n.weight(6),
                                                 n.weight(6)), n.weight(8))),
    "normalizations of a series": ((17,), SERIES, lambda n: n("LpNormalization", n("InstanceNormalization", "x",
                                                            n.weight(6), n.weight(6)), axis=1)),
    "group normalization": ((21,), VOLUME, lambda n: n("GroupNormalization", "x", n.weight(2), n.weight(2),
                                                       num_groups=2)),
    "mean and variance": ((13,), IMAGE, lambda n: n("MeanVarianceNormalization", "x")),
    "batchnorm": ((9, 17), IMAGE, lambda n: n("BatchNormalization", "x", *(n.tensor(np.ones(6, np.float32))
                                                                           for _ in range(4)))),
}  # fmt: skip
ALL = [(name, opset) for name, (sets, _, _) in CASES.items() for opset in sets]


@pytest.mark.parametrize(("name", "opset"), ALL)
def test_shapes_are_what_the_runtime_gives(name, opset):
    _, shape, build = CASES[name]
    net = Net(shape, opset=opset)
    build(net)
    assert_shapes(net)
