"""What cannot be a convolution or is not understood is refused by name, with a reason; never guessed."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dense2conv.convert.conversion import convert
from dense2conv.convert.errors import FileError, NegativeAnswer, RequestError

from .nets import DOUBLE, FLOAT, INT64, Net, assert_map, run, serialised

K = 3 * 7 * 6


def trunk(net):
    return net("Tanh", net.conv())


def head(net, x):
    return net.dense(net.flat(x))


def whole(net, x):
    return net.dense(net.flat(x), inputs=K)


def squeeze_excite(net):
    x = trunk(net)
    gate = net.conv(net("Relu", net.conv(net("GlobalAveragePool", x), kernel=1)), kernel=1)
    return head(net, net("Mul", x, net("Sigmoid", gate), name="gate"))


def squeeze_excite_joined(net):
    x = trunk(net)
    mean = net.axes("ReduceMean", x, [2, 3], since=18, keepdims=1)
    return head(net, net("Sub", x, mean, name="gate"))


def attention(net):
    x = net("Reshape", net("Transpose", trunk(net), perm=[0, 2, 3, 1]), net.integers(-1, 42, 3))
    scores = net("MatMul", x, net("Transpose", x, perm=[0, 2, 1]), name="gate")
    return net("ReduceMean", net("MatMul", net("Softmax", scores), x), axes=[1], keepdims=0)


def lstm(net):
    x = net("Transpose", "x", perm=[1, 0, 2])
    y, *_ = net("LSTM", x, net.weight(1, 16, 5), net.weight(1, 16, 4), outputs=3, hidden_size=4, name="gate")
    return net("Gather", net.axes("Squeeze", y, [1]), net.tensor(-1, np.int64), axis=0)


def if_around_the_head(net):
    x = net.flat(trunk(net))
    w = net.weight(4, K)
    branches = {}
    for name in ("then_branch", "else_branch"):
        node = helper.make_node("Gemm", [x, w], ["inner_" + name], transB=1)
        made = helper.make_tensor_value_info("inner_" + name, FLOAT, None)
        branches[name] = helper.make_graph([node], name, [], [made])
    return net("If", net.tensor(True), name="gate", **branches)


def loop_around_the_head(net):
    x = net.dense(net.flat(trunk(net)))
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Relu", ["state"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("i", INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", FLOAT, None),
        ],
    )
    return net("Loop", net.tensor(3, np.int64), net.tensor(True), x, body=body, name="gate")


def computed_weight(net):
    """A weight that the network makes of its own input."""
    x = net.flat(trunk(net))
    w = net("Reshape", net("GlobalAveragePool", net.conv(out=K * 2)), net.integers(-1, K))
    return net("Gemm", x, w, transB=1, name="gate")


def doubled(net):
    """A dense layer in float64: ONNX Runtime has Gemm for it, and no convolution."""
    x = net("Cast", net.flat(trunk(net)), to=DOUBLE)
    w = net.tensor(net.random.standard_normal((4, K)))
    return net("Cast", net("Gemm", x, w, transB=1, name="gate"), to=FLOAT)


def of_integers(net):
    x = net("Cast", net.flat(net("Mul", trunk(net), net.tensor(9.0, np.float32))), to=TensorProto.INT32)
    w = net.tensor(net.random.integers(-5, 5, (K, 4)), np.int32)
    return net("Cast", net("MatMul", x, w, name="gate"), to=FLOAT)


def gate(op, *shapes, view="map", **attributes):
    """An operator named ``gate`` with constants of ``shapes`` on the map, the flattened features or the vector."""

    def build(net):
        x = trunk(net)
        if view == "flat":
            x = net.flat(x)
        elif view == "vector":
            x = head(net, x)
        y = net(op, x, *(net.weight(*s, fan=1) for s in shapes), name="gate", **attributes)
        return y if view == "vector" else net.dense(y if view == "flat" else net.flat(y), inputs=K)

    return build


def gemm(shape):
    def build(net):
        x = net.flat(trunk(net))
        return net("Gemm", x, net.weight(3, K), net.weight(*shape, fan=1), transB=1, name="gate")

    return build


def on_flat(op, *inputs, **attributes):
    """An operator named ``gate`` on the flattened features, as the output."""

    def build(net):
        return net(
            op, net.flat(trunk(net)), *(net.tensor(i, np.int64) for i in inputs), name="gate", **attributes
        )

    return build


def transposed_weight_on_the_left(net):
    return net("MatMul", net.weight(4, 9), "x", name="gate")


def mixer(net):
    """A dense layer over the positions of each channel."""
    x = net("Reshape", trunk(net), net.integers(-1, 3, 42))
    return net.flat(net("MatMul", x, net.weight(42, 5), name="gate"))


def part_of_the_channels(net):
    """(N, C, H, W) -> (N*C, H*W): each channel is a sample."""
    x = net("Reshape", trunk(net), net.integers(-1, 42))
    return net("Reshape", net("Gemm", x, net.weight(5, 42), transB=1, name="gate"), net.integers(-1, 15))


def batch_as_features(net):
    """(N, K) -> (1, N*K): samples side by side."""
    x = net("Transpose", net.dense(net.flat(trunk(net))), perm=[1, 0])
    return net("Gemm", net.weight(3, 4), x, name="gate")


def sum_of_samples(net):
    return net("ReduceSum", net.dense(net.flat(trunk(net))), net.integers(0), keepdims=1, name="gate")


def softmax_of_samples(net):
    return net("Softmax", net.dense(net.flat(trunk(net))), axis=0, name="gate")


def indices(net):
    x, i = net("MaxPool", trunk(net), kernel_shape=[2, 2], outputs=2, name="gate")
    return net("Add", head(net, x), head(net, net("Cast", i, to=FLOAT)))


def picked_positions(net):
    return head(net, net("GatherND", trunk(net), net.tensor([[0, 1, 2]], np.int64), name="gate"))


def upsampled(net):
    scales = net.tensor([1, 1, 2, 2], np.float32)
    return net.dense(
        net.flat(net("Resize", trunk(net), "", scales, name="gate", mode="linear")), inputs=3 * 14 * 12
    )


def rows_joined(net):
    x = trunk(net)
    return head(net, net("Concat", x, net("Relu", x), axis=2, name="gate"))


def tiled(net):
    x = net("Tile", net("GlobalAveragePool", trunk(net)), net.integers(1, 1, 7, 6), name="gate")
    return head(net, x)


def fed_back(net):
    """A vector of the whole patch, added to every position."""
    x = trunk(net)
    v = net.axes("Unsqueeze", net.dense(net.flat(x), 3), [2, 3])
    return head(net, net("Add", x, v, name="gate"))


def grids_that_do_not_meet(net):
    """Two branches of one size and different strides: on a larger input they part."""
    a = net.conv(strides=[2, 2])  # 4x3, every 2 pixels
    b = net("MaxPool", "x", kernel_shape=[3, 3], strides=[3, 3], pads=[1, 0, 2, 1])  # 4x3, every 3
    b = net.conv(b, kernel=1)
    return head(net, net("Add", a, b, name="gate"))


REFUSED = {  # builder, what the reason says
    "InstanceNormalization": (gate("InstanceNormalization", (3,), (3,)), "statistics of the whole patch"),
    "GroupNormalization": (
        lambda net: whole(net, net("GroupNormalization", trunk(net), net.weight(3, fan=1), net.weight(3, fan=1),
                                  num_groups=3, name="gate")), "statistics of the whole patch"
    ),
    "LayerNormalization(C, H, W)": (gate("LayerNormalization", (3, 7, 6), axis=1), "statistics of the whole patch"),
    "LayerNormalization of flattened features": (
        gate("LayerNormalization", (K,), axis=-1, view="flat"), "statistics of the whole patch"
    ),
    "LpNormalization": (gate("LpNormalization", axis=1), "statistics"),
    "squeeze and excite": (squeeze_excite, "statistic of the whole patch"),
    "minus the mean of the patch": (squeeze_excite_joined, "statistic of the whole patch"),
    "the vector added to the map": (fed_back, "statistic of the whole patch"),
    "the vector tiled to the map": (tiled, "Tile is not understood"),
    "attention": (attention, "mixes the positions"),
    "LSTM": (lstm, "step by step"),
    "If around the head": (if_around_the_head, "control flow"),
    "Loop around the head": (loop_around_the_head, "control flow"),
    "unknown operator": (gate("Unique", view="vector"), "Unique is not understood"),
    "custom domain": (gate("Relu", domain="my.own"), "my.own.Relu is not understood"),
    "contributed operator": (gate("FusedMatMul", (K, K), view="flat", domain="com.microsoft"), "com.microsoft"),
    "float64 weight": (doubled, "float64"),
    "integer weight": (of_integers, "int32"),
    "weight computed by the network": (computed_weight, "computed from the network's input"),
    "Gemm C of shape (N, 3)": (gemm((2, 3)), "sample to sample"),
    "Gemm C of shape (N, 1)": (gemm((2, 1)), "sample to sample"),
    "a constant a sample": (gate("Mul", (2, 1), view="vector"), "sample to sample"),
    "a constant that widens": (gate("Mul", (1, 1, 4), view="vector"), "more axes"),
    "one unit, widened by a constant": (
        lambda net: net("Mul", net.dense(net.flat(trunk(net)), 1), net.weight(3, fan=1), name="gate"), "repeats an axis"
    ),
    "PRelu, a slope a position": (gate("PRelu", (3, 7, 6)), "position to position"),
    "a constant that is not computed": (
        lambda net: net(
            "Add", head(net, trunk(net)), net("Expand", net.weight(1, fan=1), net.integers(4)), name="gate"
        ),
        "constant of the_expand[0-9]*: the output of Expand may be of any size",
    ),
    "a constant that onnx does not compute": (
        lambda net: net("Add", head(net, trunk(net)), net("Unique", net.weight(9, fan=1), domain="", name="odd",
                                                          axis=7), name="gate"),
        "constant of odd: Unique cannot be computed from its constants",
    ),
    "a constant a position, then a pool": (
        lambda net: net.flat(net("GlobalAveragePool", net("Mul", trunk(net), net.weight(7, 6, fan=1)), name="gate")),
        "position",
    ),
    "weight on the left": (lambda net: net.dense(net.flat(transposed_weight_on_the_left(net))), "left"),
    "a dense layer over positions": (mixer, "positions of the patch within each channel"),
    "channels as samples": (part_of_the_channels, "within each channel"),
    "samples as features": (batch_as_features, "mixes the rows"),
    "a sum of samples": (sum_of_samples, "samples of a batch"),
    "Softmax of samples": (softmax_of_samples, "normalises"),
    "Softmax over positions": (on_flat("Softmax", axis=-1), "positions of the patch"),
    "ArgMax over positions": (on_flat("ArgMax", axis=1), "does not hold all channels|axis 1"),
    "TopK over positions": (
        lambda net: net("TopK", net.flat(trunk(net)), net.integers(3), outputs=2, name="gate")[0], "axis 1"
    ),
    "CumSum": (gate("CumSum", view="flat", ), "is not|step by step"),
    "indices of a pool": (indices, "indices of its maxima"),
    "positions picked by number": (picked_positions, "by number"),
    "Resize": (upsampled, "upsampling"),
    "rows joined": (rows_joined, "joins positions"),
    "grids that do not meet": (grids_that_do_not_meet, "jump"),
    "Einsum": (
        lambda net: net("Einsum", net.flat(trunk(net)), net.weight(K, 3), equation="ij,jk->ik", name="gate"), "Einsum"
    ),
    "Slice that runs backwards": (
        lambda net: head(net, net("Slice", trunk(net), net.integers(-1), net.integers(-99), net.integers(2),
                                  net.integers(-1), name="gate")), "backwards"
    ),
    "a window of more than the patch": (
        lambda net: net("Conv", trunk(net), net.weight(3, 3, 9, 9), name="gate"), "larger than the padded input"
    ),
    "Dropout that trains": (
        lambda net: head(net, net("Dropout", trunk(net), net.tensor(0.5, np.float32), net.tensor(True), name="gate")),
        "training",
    ),
    "Transpose of the batch": (
        lambda net: net("Softmax", net("Transpose", head(net, trunk(net)), perm=[1, 0]), axis=0, name="gate"),
        "batch in front|normalises",
    ),
}  # fmt: skip
SHAPES = {"LSTM": (None, 6, 5)}
OPSETS = {"Loop around the head": 13, "GroupNormalization": 21}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case):
    build, reason = REFUSED[case]
    net = Net(SHAPES.get(case, (None, 2, 9, 8)), opset=OPSETS.get(case, 17))
    if case == "CumSum":
        y = net.dense(net("CumSum", net.flat(trunk(net)), net.tensor(1, np.int64), name="gate"), inputs=K)
    else:
        y = build(net)
    model = net.model(y)
    how = {"order": "LC"} if case == "LSTM" else {}
    with pytest.raises(FileError, match=reason) as caught:
        convert(model, **how)
    assert caught.value.layer in ("gate", y)
    assert "not convertible as a convolution" in caught.value.message
    assert "\n" not in caught.value.message


def weighted(op, *operands, **attributes):
    """A dense layer whose weight comes from ``op`` of a matrix that does not go with ``operands``."""

    def build(net):
        given = [net.tensor(o, np.int64) for o in operands]
        return net("Gemm", net.flat(trunk(net)), net(op, net.weight(K, 4), *given, **attributes))

    return build


def with_constant(op, *shape):
    return lambda net: net(op, head(net, trunk(net)), net.weight(*shape, fan=1))


MALFORMED = {  # operands that do not fit each other: ONNX Runtime loads or runs none of these either
    "Transpose of a weight by other axes": weighted("Transpose", perm=[0, 1, 2]),
    "Reshape of a weight to another size": weighted("Reshape", [K - 1, 4]),
    "Reshape of a weight with a 0 too many": weighted("Reshape", [K, 4, 0]),
    "Squeeze of a weight's long axis": weighted("Squeeze", [0]),
    "Unsqueeze of a weight far out": weighted("Unsqueeze", [7]),
    "Gemm C of more units": lambda net: net("Gemm", net.flat(trunk(net)), net.weight(K, 4), net.weight(5, fan=1)),
    "PRelu of more slopes": with_constant("PRelu", 7),
    "Add of more numbers": with_constant("Add", 7),
    "a pad too few": lambda net: whole(net, net("Conv", "x", net.weight(3, 2, 3, 3), pads=[0])),
    "a stride of 0": lambda net: whole(net, net("Conv", "x", net.weight(3, 2, 3, 3), strides=[0, 0])),
    "a kernel below 1": lambda net: whole(net, net("MaxPool", trunk(net), kernel_shape=[-1, 2])),
    "Concat of other ranks": lambda net: net("Concat", head(net, trunk(net)), trunk(net), axis=1),
    "Slice with an end too few": lambda net: net(
        "Slice", head(net, trunk(net)), net.integers(0, 1), net.integers(3), net.integers(1)
    ),
    "GatherND by a number": lambda net: whole(net, net("GatherND", trunk(net), net.tensor(1, np.int64))),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_operands_that_do_not_fit(case):
    if case == "a stride of 0" and onnx.__version__ < "1.22":
        pytest.skip("the inference of this onnx divides by the stride, and takes the process with it")
    build = MALFORMED[case]
    net = Net()
    model = net.model(build(net))
    with pytest.raises(Exception, match="ONNXRuntimeError"):
        run(serialised(model), np.ones((1, 2, 9, 8), np.float32))
    with pytest.raises(FileError, match=r"does not (fit|load)"):
        convert(model)


def test_a_rule_that_trips_over_a_sound_network_is_a_bug(monkeypatch):
    """The runtime is asked whose fault it is: it loads this one, so the error stays what it was."""
    from dense2conv.convert import ops

    def broken(_):
        raise IndexError("a rule's own mistake")

    monkeypatch.setitem(ops.OPERATORS, "Tanh", ops.Operator("pointwise", broken))
    net = Net()
    with pytest.raises(IndexError, match="own mistake"):
        convert(net.model(head(net, trunk(net))))


def test_a_grid_as_the_output():
    net = Net()
    model = net.model(net.conv())
    with pytest.raises(FileError, match="7x6 positions a patch"):
        convert(model)


def test_a_batch_of_one_that_is_squeezed_away():
    """Squeeze without axes takes the batch with it: (D,) is no batch of vectors, and its axis 0 is the features."""
    net = Net((1, 2, 9, 8))
    x = net("Squeeze", net("GlobalAveragePool", trunk(net)))
    y = net("Softmax", net("MatMul", x, net.weight(3, 4)), axis=0)
    model = net.model(y)
    assert run(serialised(model), np.ones((1, 2, 9, 8), np.float32))[y].shape == (4,)
    with pytest.raises(FileError, match="does not have the batch in front") as caught:
        convert(model)
    assert caught.value.layer == y
    pair = Net((2, 2, 9, 8))  # a batch of two stays
    assert_map(pair.model(pair("Softmax", pair("Squeeze", pair("GlobalAveragePool", trunk(pair))), axis=1)))


def test_flattened_features_as_the_output():
    """(N, K) of a whole map: not one vector of a position."""
    net = Net()
    with pytest.raises(FileError, match="positions a patch"):
        convert(net.model(net.flat(net.conv())))


def test_flattened_branches_as_the_output():
    net = Net()
    with pytest.raises(FileError, match="not one vector"):
        convert(net.model(net("Concat", net.flat(net.conv()), net.flat(net.conv(kernel=2)), axis=1)))


def test_a_weight_that_is_an_input():
    net = Net()
    y = net("Gemm", net.flat(net.conv()), "w", transB=1)
    net.inputs.append(helper.make_tensor_value_info("w", FLOAT, [4, K]))
    with pytest.raises(FileError, match="one input, this graph has 2: x, w"):
        convert(net.model(y))


def test_two_images():
    net = Net()
    net.inputs.append(helper.make_tensor_value_info("z", FLOAT, [None, 2, 9, 8]))
    y = net.dense(net.flat(net("Add", net.conv(), net("Conv", "z", net.weight(3, 2, 3, 3)))))
    with pytest.raises(FileError, match="has 2"):
        convert(net.model(y))


def test_an_output_that_does_not_depend_on_the_input():
    net = Net()
    y = net.dense(net.flat(net.conv()))
    with pytest.raises(FileError, match="must depend on its input"):
        convert(net.model(y, net("Identity", net.weight(3, 3))))


def test_no_output_at_all():
    net = Net()
    model = net.model(head(net, trunk(net)))
    del model.proto.graph.output[:]
    with pytest.raises(FileError, match="must have an output"):
        convert(model)


def test_nothing_to_slide_over():
    net = Net((None, 12))
    with pytest.raises(NegativeAnswer, match="nothing to convert"):
        convert(net.model(net.dense("x", inputs=12)))


def test_a_cycle():
    net = Net()
    y = net.dense(net.flat(net.conv()))
    model = net.model(y)
    model.proto.graph.node[0].input[0] = y
    with pytest.raises(FileError, match="its own output"):
        convert(model)


def test_a_value_that_nothing_computes():
    net = Net()
    model = net.model(net.dense(net.flat(net.conv())))
    model.proto.graph.node[1].input[0] = "nowhere"
    with pytest.raises(FileError, match="nothing computes"):
        convert(model)


@pytest.mark.parametrize(
    "build", [lambda net: net.flat("x"), lambda net: net("Reshape", "x", net.integers(-1, 60))]
)
def test_axes_that_the_file_cannot_tell_apart(build):
    net = Net((None, 3, 5, 4))
    with pytest.raises(RequestError, match="cannot tell rows, columns and channels apart") as caught:
        convert(net.model(net.dense(build(net), inputs=60)))
    assert caught.value.hint == "say --order CHW or --order HWC or --order DHW"


def test_an_order_that_contradicts_the_file():
    net = Net()
    with pytest.raises(FileError, match="not convertible"):
        convert(net.model(head(net, trunk(net))), order="HWC")


def test_a_free_patch_is_asked_for():
    net = Net((None, 2, "rows", "columns"))
    model = net.model(net.dense(net.flat(net.conv()), inputs=K))
    with pytest.raises(RequestError, match="patch size is free") as caught:
        convert(model)
    assert "--patch 32x32" in caught.value.hint


REQUESTS = {  # what is asked for, and what the error says
    "a patch that contradicts": ({"patch": (10, 8)}, "contradicts"),
    "a patch of other axes": ({"patch": (9,)}, "1 sizes"),
    "a size below the patch": ({"size": (9, 7)}, "smaller than the patch"),
    "a size of other axes": ({"size": (9, 8, 7)}, "3 numbers"),
    "a stride of 0": ({"stride": (0, 2)}, "at least 1"),
    "a negative stride": ({"stride": (2, -1)}, "at least 1"),
    "a stride of other axes": ({"stride": (2, 2, 2)}, "3 numbers"),
    "an order of other axes": ({"order": "CL"}, "does not fit"),
}


@pytest.mark.parametrize(("how", "message"), REQUESTS.values(), ids=REQUESTS)
def test_requests_that_do_not_fit(how, message):
    net = Net()
    model = net.model(head(net, net.conv(strides=[2, 2])))
    with pytest.raises(RequestError, match=message):
        convert(model, **how)


def test_a_stride_that_fits_one_branch_only():
    """The branches' own strides are 2 and 3, the network's is 6: each branch is spread as the map's stride asks for."""
    net = Net((None, 2, 14, 14))
    branches = [
        net.flat(net("MaxPool", "x", kernel_shape=[2, 2], strides=list(strides)))
        for strides in ((2, 2), (3, 3))
    ]
    model = net.model(net.dense(net("Concat", *branches, axis=1)))
    for stride in ((2, 2), (3, 3), (4, 1), (5, 6), (6, 12)):
        assert_map(model, natural=(6, 6), stride=stride)


def test_several_refusals_are_all_counted():
    net = Net()
    x = gate("InstanceNormalization", (3,), (3,))(net)
    y = head(net, net("LpNormalization", net.conv(), axis=1))
    with pytest.raises(FileError, match=r"and 1 more"):
        convert(net.model(net("Add", x, y)))


def test_what_lies_behind_a_refusal_is_not_judged():
    """One refusal, and one line for each dense layer behind it."""
    from dense2conv.convert.analysis import audit

    net = Net()
    analysis = audit(net.model(net.dense(gate("InstanceNormalization", (3,), (3,))(net), 2)))
    assert analysis.exactness == "not convertible"
    assert [layer.name for layer in analysis.refusals] == ["gate"]
    behind = [layer for layer in analysis.layers if layer.operator == "Gemm"]
    assert [layer.reason for layer in behind] == ["it comes behind gate"] * 2


def test_what_no_output_reads_decides_nothing():
    """A branch that is left over from training: neither its refusal nor its pads nor its stride are the map's."""
    net = Net()
    x = trunk(net)
    y = head(net, x)
    head(net, net("InstanceNormalization", x, net.weight(3, fan=1), net.weight(3, fan=1), name="dead"))
    head(net, net.conv(x, pads=[1, 1, 1, 1], strides=[3, 2], name="dead_too"))
    conversion = assert_map(net.model(y), natural=(1, 1))
    assert not {"dead", "dead_too"} & {layer.name for layer in conversion.analysis.layers}


def test_a_batch_that_is_used_as_a_number():
    """The file divides by its batch: on a patch's batch that is another number than on the map's."""
    net = Net()
    n = net("Cast", net("Gather", net("Shape", "x"), net.tensor(0, np.int64)), to=FLOAT)
    model = net.model(net("Div", head(net, trunk(net)), n))
    with pytest.raises(FileError, match="batch"):
        assert_map(model)
