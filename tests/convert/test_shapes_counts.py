"""What the layer table says beside shapes: weights that are shared, what onnx infers, notes, and what is refused."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dense2conv.convert.errors import FileError, RequestError
from dense2conv.convert.model import Model
from dense2conv.convert.shapes import network_of
from dense2conv.shapecalc.readings import Beyond
from dense2conv.shapecalc.table import document

from .nets import FLOAT, Net


def network(net, *outputs, **how):
    return network_of(net.model(*(outputs or (net.nodes[-1].output[0],))), **how)


def refused(error, net, **how):
    with pytest.raises(error) as caught:
        network(net, **how).fields  # noqa: B018
    return caught.value


def custom(net, x="x"):
    """A node that nobody knows."""
    return net("Mystery", x, domain="else.where")


IMAGE = (1, 4, 9, 8)


def test_parameters_are_the_stored_numbers():
    net = Net(IMAGE)
    y = net("BatchNormalization", net.conv(out=6, group=2), *(net.weight(6, fan=1) for _ in range(4)))
    net.dense(net.flat(net("PRelu", y, net.weight(6, 1, 1))), out=5)
    rows = document(network(net))
    stored = sum(array.size for array in net.tensors.values())
    assert [r["parameters"] for r in rows["layers"]] == [6 * 2 * 9 + 6, 24, 6, 0, 5 * 6 * 7 * 6 + 5]
    assert rows["totals"]["parameters"] == stored


@pytest.mark.parametrize(
    ("kind", "counted"), [(None, 48), (FLOAT, 48), (TensorProto.BFLOAT16, 48), (TensorProto.INT64, 0)]
)
def test_a_weight_that_is_one_number_everywhere(kind, counted):
    """Numbers of a floating type are stored ones; without a value ConstantOfShape fills with 0 as a float."""
    net = Net((1, 16))
    fill = {} if kind is None else {"value": helper.make_tensor("v", kind, [1], [2])}
    net("MatMul", "x", net("ConstantOfShape", net.integers(16, 3), **fill))
    (node,) = network(net).nodes
    assert (node.output, node.parameters, node.macs) == ((3,), counted, 48)


@pytest.mark.parametrize("shape", [(16, -3), (1 << 30, 1 << 30)])
def test_a_filled_weight_that_cannot_be(shape):
    net = Net((1, 16))
    net("MatMul", "x", net("ConstantOfShape", net.integers(*shape)))
    assert refused(FileError, net).message == f"ConstantOfShape asks for shape {[*shape]}"


@pytest.mark.parametrize("through", ["", "Identity", "Transpose", "Cast", "Reshape"])
def test_a_weight_that_layers_share_is_counted_once(through):
    """Also where each of them reads it through a node of its own."""
    net = Net((1, 16))
    weight = net.weight(16, 16)

    def read():
        if through == "Cast":
            return net("Cast", weight, to=FLOAT)
        if through == "Reshape":
            return net("Reshape", weight, net.integers(16, 16))
        return net(through, weight) if through else weight

    net("MatMul", net("MatMul", "x", read()), read())
    found = network(net)
    assert [node.parameters for node in found.nodes] == [256, 256]
    assert found.totals.parameters == 256


@pytest.mark.parametrize("constant", [True, False])
def test_settings_are_no_parameters(constant):
    """Scales, clips and pads are told to a layer, a single factor is no weight of it."""
    net = Net(IMAGE, opset=13)
    half = net.tensor(0.5, np.float32)
    if constant:
        half = net("Constant", value=onnx.numpy_helper.from_array(np.float32(0.5)))
    y = net("Clip", net("Mul", "x", half), half)
    y = net("Resize", y, "", net.tensor([1, 1, 2, 2], np.float32))
    net("Pad", y, net.integers(0, 0, 1, 1, 0, 0, 1, 1), half)
    assert network(net).totals.parameters == 0


@pytest.mark.parametrize("batch", [1, 3])
def test_macs_are_those_of_one_sample(batch):
    net = Net((batch, 4, 9, 8))
    y = net.conv(out=6, kernel=(3, 2))
    y = net("ConvTranspose", y, net.weight(6, 2, 2, 2))
    net.dense(net.flat(y), out=5)
    macs = [6 * 7 * 7 * 4 * 6, 6 * 2 * 4 * 49, 0, 5 * 2 * 64]
    assert [node.macs for node in network(net).nodes] == macs


def test_what_no_rule_knows_is_inferred_by_onnx():
    net = Net(IMAGE, opset=17)
    net("Relu", net("Einsum", "x", net.weight(4, 4), equation="nchw,cd->ndhw"))
    einsum, relu = network(net).nodes
    assert einsum.output == relu.output == (4, 9, 8)
    assert einsum.notes == ("shape from onnx's inference",)
    assert relu.notes == ()


def test_behind_what_no_rule_knows_the_fields_are_unknown():
    net = Net(IMAGE, opset=17)
    y = net("Einsum", net.conv(), net.weight(3, 3), equation="nchw,cd->ndhw")
    net("Add", net("MaxPool", y, kernel_shape=[2, 2]), net("MaxPool", net.conv(out=3), kernel_shape=[2, 2]))
    found = network(net)
    by_kind = {node.name: fields for node, fields in zip(found.nodes, found.fields, strict=True)}
    unknown = [name for name, fields in by_kind.items() if fields == (Beyond.UNKNOWN,) * 2]
    assert [name.rstrip("0123456789") for name in unknown] == ["the_einsum", "the_maxpool", "the_add"]
    rows = document(found)["layers"]
    assert [row["receptive_field"] for row in rows if row["name"] in unknown] == [None] * 3


@pytest.mark.parametrize(
    ("opset", "how", "whole"),
    [
        (11, {}, (0, 1)),
        (11, {"axis": 3}, (1,)),
        (13, {}, (1,)),
        (13, {"axis": 1}, ()),
        (13, {"axis": -2}, (0,)),
    ],
)
def test_a_softmax_reads_its_whole_row(opset, how, whole):
    """Below operator set 13 everything from the axis on is one row."""
    net = Net(IMAGE, opset=opset)
    net("Softmax", net.conv(), **how)
    fields = network(net).fields[-1]
    assert [axis for axis, field in enumerate(fields) if field is Beyond.WHOLE] == list(whole)


@pytest.mark.parametrize(
    ("op", "how", "whole"),
    [
        ("InstanceNormalization", {}, (0, 1)),
        ("LayerNormalization", {}, (1,)),
        ("LayerNormalization", {"axis": 2}, (0, 1)),
        ("LpNormalization", {"axis": 2}, (0,)),
        ("MeanVarianceNormalization", {"axes": [0, 3]}, (1,)),
    ],
)
def test_a_normalization_reads_what_it_averages(op, how, whole):
    net = Net(IMAGE, opset=17)
    scales = {"InstanceNormalization": 2, "LayerNormalization": 1}.get(op, 0)
    size = 3 if op == "InstanceNormalization" else (7, 6)[how.get("axis", 3) - 2 :]
    y = net.conv()
    net(op, y, *(net.tensor(np.ones(size, np.float32)) for _ in range(scales)), **how)
    found = network(net)
    assert [axis for axis, field in enumerate(found.fields[-1]) if field is Beyond.WHOLE] == list(whole)
    assert found.nodes[-1].notes == ()


def test_what_nobody_knows_has_no_shape():
    net = Net(IMAGE)
    net("Relu", custom(net))
    first, second = network(net).nodes
    assert first.output == second.output == (None,)
    assert first.notes == ("onnx's inference does not know its shape",)
    assert document(network(net))["layers"][1]["output"] == [None]
    assert first.neurons is None


def test_inference_that_differs_from_the_runtime_is_not_built_upon():
    """onnx takes the dilation of a SAME pool into account, ONNX Runtime forgets it (tests/shapecalc)."""
    net = Net(IMAGE, opset=17)
    y = net("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 2], auto_pad="SAME_UPPER")
    net("Einsum", y, equation="nchw->nwhc")
    pool, einsum = network(net).nodes
    assert pool.output == (4, 8, 7)
    assert einsum.output == (None,)


@pytest.mark.parametrize(
    ("shape", "how", "expected"),
    [
        ((None, 3, None, None), {"size": (9, 8)}, (3, 9, 8)),
        ((None, 3, "h", "w"), {"size": (9, 8)}, (3, 9, 8)),
        ((None, 3, 9, 8), {}, (3, 9, 8)),
        ((None, 3, 9, 8), {"size": (9, 8)}, (3, 9, 8)),
        ((None, 3, 9, None), {"size": (8,)}, (3, 9, 8)),
        ((None, None, None, 3), {"size": (9, 8)}, (9, 8, 3)),
        ((None, None, None, None), {"size": (3, 9, 8)}, (3, 9, 8)),
        ((2, 3, None, None), {"size": (9, 8), "batch": 2}, (3, 9, 8)),
    ],
)
def test_free_axes_take_the_size(shape, how, expected):
    net = Net(shape)
    net("Relu", "x")
    found = network(net, **how)
    assert found.shape == expected
    assert found.nodes[0].output == expected


@pytest.mark.parametrize(
    ("shape", "how", "message", "hint"),
    [
        ((None, 3, "h", "w"), {}, "2 axes of the input are free: batchx3xhxw",
         "say their sizes with --size, for instance --size 224x224"),
        ((None, 3, 9, "w"), {}, "an axis of the input is free: batchx3x9xw",
         "say their sizes with --size, for instance --size 224"),
        ((None, 3, "h", "w"), {"size": (9,)}, "--size 9 does not fit an input of shape batchx3xhxw", ""),
        ((None, 3, 9, 8), {"size": (9, 9)}, "--size 9x9 does not fit an input of shape batchx3x9x8", ""),
        ((None, 3, 9, "w"), {"size": (8, 8)}, "--size 8x8 does not fit an input of shape batchx3x9xw", ""),
        ((2, 3, 9, 8), {"batch": 3}, "--batch 3 contradicts the input's shape 2x3x9x8", ""),
    ],
)  # fmt: skip
def test_a_size_that_is_missing_or_wrong(shape, how, message, hint):
    net = Net(shape)
    net("Relu", "x")
    error = refused(RequestError, net, **how)
    assert (error.message, error.layer) == (message, "x")
    assert error.hint == hint


def test_a_batch_that_the_network_needs():
    """A reshape to 6 samples of 2 rows: with one sample it does not come out even."""
    net = Net((None, 3, 8))
    net("Reshape", "x", net.integers(2, 3, 8))
    error = refused(FileError, net)
    assert error.message == "a reshape of 24 elements to 48"
    assert error.layer == "the_reshape2"
    assert network(net, batch=2).nodes[0].output == (3, 8)


def test_the_input_with_spatial_axes_is_looked_at():
    net = Net((1, 5))
    net.inputs.append(helper.make_tensor_value_info("image", FLOAT, ["batch", 3, 9, 8]))
    y = net("Conv", "image", net.weight(4, 3, 3, 3))
    net("Concat", "x", net("Flatten", y), axis=1)
    found = network(net)
    assert (found.name, found.shape) == ("image", (3, 9, 8))
    assert found.nodes[-1].output == (5 + 4 * 7 * 6,)


def test_a_shape_that_is_not_there():
    net = Net(IMAGE)
    net("Relu", "x")
    model = net.model(net.nodes[-1].output[0])
    model.proto.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(FileError, match="shape must be known, at least its rank") as caught:
        network_of(model)
    assert caught.value.layer == "x"
    del model.proto.graph.input[:]
    with pytest.raises(FileError, match="a network has an input, but this graph has none"):
        network_of(model)


def test_branches_with_different_jumps_are_named():
    net = Net((1, 3, 8, 8))
    left = net("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2], name="left")
    right = net("Conv", "x", net.weight(3, 3, 5, 5), name="right")
    net("Add", left, right, name="meet")
    error = refused(Exception, net)
    assert error.layer == "meet"
    assert error.message == (
        "branches that meet must have the same jump, but left has one of 2 pixels and right one of 1"
    )


@pytest.mark.parametrize(
    ("op", "size", "attributes", "opset", "other", "note"),
    [
        ("MaxPool", 9, {"kernel_shape": [2, 2], "dilations": [2, 2], "auto_pad": "SAME_UPPER"}, 17, "onnx",
         "9 outputs, with 1 pads before"),
        ("Conv", 10, {"kernel_shape": [1, 1], "strides": [5, 5], "auto_pad": "SAME_UPPER"}, 17, "onnx",
         "2 outputs, with 0 pads before"),
        ("Conv", 9, {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1]}, 17, "pytorch",
         "refuses: PyTorch's layers pad both sides alike, but 0 and 1 are asked for"),
        ("MaxPool", 8, {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1}, 11,
         "onnx", "4 outputs, with 1 pads before"),
    ],
)  # fmt: skip
def test_a_layer_for_which_runtimes_differ_is_noted(op, size, attributes, opset, other, note):
    net = Net((1, 4, size, size), opset=opset)
    weights = (net.weight(4, 4, *attributes["kernel_shape"]),) if op == "Conv" else ()
    net("Relu", net(op, "x", *weights, name="differs", **attributes))
    differs, relu = network(net).nodes
    assert differs.name == "differs"
    assert [n for n in differs.notes if n.startswith(f"{other}: ")] == [f"{other}: {note}"]
    assert relu.notes == ()


def test_what_a_runtime_refuses_names_the_layer():
    net = Net(IMAGE, opset=17)
    net("MaxPool", "x", kernel_shape=[2, 2], pads=[2, 0, 2, 0], name="pool")
    error = refused(FileError, net)
    assert (error.layer, error.message) == (
        "pool",
        "ONNX Runtime's pools take pads smaller than the kernel, but 2 and 2 meet 2",
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda n: n.conv(kernel=10), "a kernel must not be larger than the padded input, but 10 > 9 + 0 + 0"),
        (lambda n: n.conv(strides=[0, 1]), "kernel, stride and dilation must be at least 1, got 3, 0 and 1"),
        (lambda n: n.conv(strides=[-1, 1]), "kernel, stride and dilation must be at least 1, got 3, -1 and 1"),
        (lambda n: n("Conv", "x", n.weight(3, 5, 3, 3)), "a kernel for 5 channels meets an input with 4"),
        (lambda n: n("Conv", "x", n.weight(3, 4, 3)), "a kernel with 1 axes slides over 2 spatial axes"),
        (lambda n: n.conv(pads=[1, 1]), "pads has two numbers for each of 2 axes, but 2"),
        (lambda n: n("Gemm", n.flat("x"), n.weight(7, 5)), "a matrix for 7 features meets 288"),
        (lambda n: n("MatMul", "x", n.weight(7, 5)), "a matrix for 7 features meets 8"),
        (lambda n: n("Transpose", "x", perm=[0, 1, 1, 2]), "Transpose by [0, 1, 1, 2] of a tensor with 4 axes"),
        (lambda n: n("Reshape", "x", n.integers(-1, 7)),
         "a reshape from [1, 4, 9, 8] to [-1, 7] does not come out even"),
        (lambda n: n("Add", "x", n.weight(7)), "sizes 8 and 7 do not broadcast"),
        (lambda n: n("Pad", "x", n.integers(0, 0, 9, 0, 0, 0, 0, 0), mode="reflect"),
         "a reflect pad must be smaller than what it mirrors, but 9 and 0 meet 9 elements"),
    ],
)  # fmt: skip
def test_a_graph_that_cannot_be(build, message):
    net = Net(IMAGE, opset=17)
    build(net)
    proto = net.proto([net.nodes[-1].output[0]], check=False)
    with pytest.raises(FileError) as caught:
        network_of(Model(proto, {}))
    assert caught.value.message == message
    assert caught.value.layer == net.nodes[-1].name


def test_what_starts_again_behind_a_cut_is_unknown():
    """ONNX's wrap repeats what a negative pad has left over: 1, 2, 1, 2 of three elements."""
    net = Net((1, 4, 9, 3), opset=19)
    net("Pad", "x", net.integers(0, 0, 0, -1, 0, 0, 0, 2), mode="wrap")
    net("MaxPool", net.nodes[-1].output[0], kernel_shape=[2, 1])
    rows, columns = network(net).fields[-1]
    assert (rows.size, columns) == (2, Beyond.UNKNOWN)
