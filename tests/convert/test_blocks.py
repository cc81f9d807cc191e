"""``--method patches`` at any stride: a loop over blocks of positions, for any network."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dense2conv.convert import blocks
from dense2conv.convert.conversion import convert
from dense2conv.convert.errors import FileError
from dense2conv.convert.model import Model
from dense2conv.convert.verification import verify

from .nets import Net, assert_map, difference, noise, on_the_map, run, scan, serialised, session

K = 3 * 7 * 6


def plain(net):
    return net.dense(net.flat(net("Tanh", net.conv())), inputs=K)


def assert_blocks(model, stride, *, tolerance=1e-6, **how):
    return assert_map(model, method="patches", stride=stride, tolerance=tolerance, **how)


def loop_of(conversion):
    (loop,) = (n for n in conversion.map.proto.graph.node if n.op_type == "Loop")
    return loop, next(a.g for a in loop.attribute if a.name == "body")


STRIDES = [(1, 1), (3, 3), (8, 7), (12, 11), (1, 20), (9, 5)]


@pytest.mark.parametrize("stride", STRIDES, ids=str)
def test_strides_below_at_and_above_the_patch(stride):
    net = Net()
    assert_blocks(net.model(plain(net)), stride)


@pytest.mark.parametrize(
    "how", [{}, {"size": (14, 17)}, {"size": (14, 17), "batch": 3}, {"batch": 2}], ids=str
)
@pytest.mark.parametrize("batch", [None, 1])
@pytest.mark.parametrize("opset", [9, 10, 11, 13, 14, 17, 21])
def test_sizes_and_batch_free_or_fixed(opset, batch, how):
    if batch and "batch" in how:
        how = {**how, "batch": 1}
    net = Net((batch, 2, 9, 8), opset=opset)
    assert_blocks(net.model(plain(net)), (2, 3), **how)


@pytest.mark.parametrize(("opset", "batch"), [(7, None), (8, None), (7, 1), (8, 1)])
def test_operator_sets_that_cannot_count(opset, batch):
    """Below 9 the number of positions is known when the file is written, or the patches go one by one."""
    net = Net((batch, 2, 9, 8), opset=opset)
    model = net.model(plain(net))
    with pytest.raises(FileError, match="operator set") as caught:
        convert(model, method="patches", stride=(2, 3))
    assert "--size" in caught.value.hint
    if batch is None:
        with pytest.raises(FileError, match=f"operator set {opset} cannot count") as caught:
            convert(model, method="patches", stride=(2, 3), size=(14, 17))
        assert "--batch" in caught.value.hint
    assert_blocks(model, (2, 3), size=(14, 17), batch=batch or 2)


def test_an_operator_set_that_is_too_old():
    net = Net(opset=7)
    model = net.model(plain(net))
    model.proto.opset_import[0].version = 6
    with pytest.raises(FileError, match="operator set 6") as caught:
        convert(model, method="patches", stride=(2, 3), size=(14, 17), batch=1)
    assert "--stride patch" in caught.value.hint


@pytest.mark.parametrize("most", [1, 2, 5, 7, 64])
@pytest.mark.parametrize("how", [{}, {"size": (14, 17)}, {"size": (14, 17), "batch": 2}], ids=str)
def test_blocks_that_do_not_divide_the_positions(most, how, monkeypatch):
    monkeypatch.setattr(blocks, "MOST_PATCHES", most)
    net = Net()
    assert_blocks(net.model(plain(net)), (2, 3), **how)


@pytest.mark.parametrize("opset", [17, 14])
@pytest.mark.parametrize("stride", [(2, 3), (9, 8), (12, 12)], ids=str)
def test_an_input_without_room_for_a_patch_has_an_empty_map(opset, stride):
    net = Net(opset=opset)
    runtime = session(serialised(convert(net.model(plain(net)), method="patches", stride=stride).map))
    for shape, map_ in {
        (2, 2, 8, 8): (0, 1),
        (1, 2, 1, 1): (0, 0),
        (2, 2, 9, 5): (1, 0),
        (0, 2, 9, 8): (1, 1),
    }.items():
        (found,) = run(runtime, np.zeros(shape, np.float32)).values()
        assert found.shape == (shape[0], 4, *map_)


def one_d(net):
    return net.dense(net.flat(net("Relu", net.conv(kernel=3))), inputs=3 * 10)


def three_d(net):
    return net.dense(
        net.flat(net("MaxPool", net.conv(kernel=2), kernel_shape=[2, 2, 2])), inputs=3 * 4 * 3 * 2
    )


def channels_last(net):
    x = net("Conv", net("Transpose", "x", perm=[0, 3, 1, 2]), net.weight(3, 2, 3, 3))
    return net.dense(net.flat(net("Transpose", net("Tanh", x), perm=[0, 2, 3, 1])), inputs=K)


SHAPES = {
    "1-D": ((None, 2, 12), one_d, (5,), None),
    "3-D": ((None, 1, 6, 5, 4), three_d, (2, 1, 3), None),
    "channels last": ((None, 9, 8, 2), channels_last, (2, 3), (1, 2)),
}


@pytest.mark.parametrize("batch", [None, 1])
@pytest.mark.parametrize("sizes", ["free", "fixed"])
@pytest.mark.parametrize(("shape", "made", "stride", "axes"), SHAPES.values(), ids=SHAPES)
def test_ranks_and_layouts(shape, made, stride, axes, sizes, batch):
    net = Net((batch, *shape[1:]))
    places = axes or range(2, len(shape))
    size = [shape[a] + 2 * s + 1 for a, s in zip(places, stride, strict=True)]
    assert_blocks(net.model(made(net)), stride, axes=axes, size=size if sizes == "fixed" else None)


def test_a_series_without_channels():
    net = Net((None, 12))
    model = net.model(net.dense("x", inputs=12))
    assert_blocks(model, (5,), order="L", axes=(1,), last=False)


def test_several_outputs_of_several_shapes_and_types():
    net = Net()
    x = net("Tanh", net.conv())
    pooled = net("GlobalAveragePool", x)
    y = net.dense(net.flat(x), inputs=K)
    label = net("ArgMax", y, axis=1, keepdims=0)
    assert_blocks(net.model(y, pooled, label), (2, 3))


# Networks of which no convolution can be made.


def attention(net):
    # (N, C, H, W) -> (N, H*W, C): every position looks at every other
    tokens = net("Transpose", net("Reshape", net.conv(), net.integers(0, 3, -1)), perm=[0, 2, 1])
    q, k, v = (net("MatMul", tokens, net.weight(3, 3)) for _ in range(3))
    weights = net("Softmax", net("MatMul", q, net("Transpose", k, perm=[0, 2, 1])), axis=-1)
    return net("ReduceMean", net("MatMul", weights, v), axes=[1], keepdims=0)


def layer_norm(net):
    x = net("LayerNormalization", net.conv(), net.weight(3, 7, 6, offset=1), net.weight(3, 7, 6), axis=1)
    return net.dense(net.flat(net("Relu", x)), inputs=K)


def group_norm(net):
    x = net("Reshape", net.conv(out=4), net.integers(0, 2, -1))
    x = net(
        "InstanceNormalization", x, net.tensor(np.ones(2, np.float32)), net.tensor(np.zeros(2, np.float32))
    )
    return net.dense(net.flat(net("Reshape", x, net.integers(0, 4, 7, 6))), inputs=4 * 7 * 6)


def squeeze_excite(net):
    x = net.conv()
    gate = net("Sigmoid", net("Conv", net("GlobalAveragePool", x), net.weight(3, 3, 1, 1)))
    return net.dense(net.flat(net("Mul", x, gate)), inputs=K)


def padded_residual(net):
    x = net("Relu", net.conv(pads=[1, 1, 1, 1]))
    x = net("Add", x, net("Conv", x, net.weight(3, 3, 3, 3), pads=[1, 1, 1, 1]))
    return net.dense(net.flat(x), inputs=3 * 9 * 8)


def recurrent(net):
    # (N, 2, 9, 8) -> 18 steps of 8
    steps = net("Transpose", net("Reshape", "x", net.integers(0, -1, 8)), perm=[1, 0, 2])
    y, *_ = net("GRU", steps, net.weight(1, 12, 8), net.weight(1, 12, 4), outputs=2, hidden_size=4)
    return net("Gather", net.axes("Squeeze", y, [1]), net.tensor(-1, np.int64), axis=0)


def control_flow(net):
    """A branch, whose graphs read a value of the network and a weight, and have a weight of their own."""
    x = net("Tanh", net.conv())
    bias = net.weight(3, 1, 1)
    large = net("Greater", net("ReduceMax", x, keepdims=0), net.tensor(np.float32(0.5)))
    graphs = []
    for sign in (1.0, -1.0):
        own = numpy_helper.from_array(np.full((3, 1, 1), sign, np.float32), "own")
        nodes = [
            helper.make_node("Add", [x, bias], ["sum"]),
            helper.make_node("Mul", ["sum", "own"], [f"r{sign}"]),
        ]
        info = helper.make_tensor_value_info(f"r{sign}", TensorProto.FLOAT, None)
        graphs.append(helper.make_graph(nodes, "branch", [], [info], [own]))
    y = net("If", large, then_branch=graphs[0], else_branch=graphs[1])
    return net.dense(net.flat(y), inputs=K)


ANY = [attention, layer_norm, group_norm, squeeze_excite, padded_residual, recurrent]


@pytest.mark.parametrize("stride", [(1, 1), (2, 3), (10, 8)], ids=str)
@pytest.mark.parametrize("made", ANY)
def test_networks_that_are_no_convolution(made, stride):
    net = Net((1, 2, 9, 8))
    model = net.model(made(net))
    assert_blocks(model, stride, order="CHW")
    net = Net()
    assert_blocks(net.model(made(net)), stride, order="CHW", tolerance=2e-6)


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_of_such_layers(seed):
    random = np.random.default_rng(seed)
    net = Net((None if seed % 3 else 1, 4, 10, 9), seed=seed)
    x = "x"
    for _ in range(random.integers(2, 6)):
        kind = random.integers(6)
        if kind == 0:
            x = net("Relu", net("Conv", x, net.weight(4, 4, 3, 3), pads=[1, 1, 1, 1]))
        elif kind == 1:
            x = net("LayerNormalization", x, net.weight(4, 10, 9, offset=1), axis=1)
        elif kind == 2:
            x = net("Mul", x, net("Sigmoid", net("Conv", net("GlobalMaxPool", x), net.weight(4, 4, 1, 1))))
        elif kind == 3:
            x = net("InstanceNormalization", x, net.weight(4, fan=1), net.weight(4, fan=1))
        elif kind == 4:
            x = net("Add", x, net("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
        else:
            rows = net(
                "MatMul", net("Softmax", net("MatMul", x, net("Transpose", x, perm=[0, 1, 3, 2])), axis=-1), x
            )
            x = net("Tanh", rows)
    stride = tuple(int(n) for n in random.integers(1, 13, 2))
    assert_blocks(net.model(net.dense(net.flat(x), inputs=360)), stride, tolerance=5e-6, order="CHW")


def test_a_network_with_a_branch_inside():
    net = Net((1, 2, 9, 8))
    model = net.model(control_flow(net))
    conversion = assert_blocks(model, (2, 3))
    report = verify(model, conversion.map, analysis=conversion.analysis)
    assert report.verdict == "equivalent"
    for graph in (a.g for n in loop_of(conversion)[1].node if n.op_type == "If" for a in n.attribute):
        graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((3, 1, 1), 2, np.float32), "own"))
    structure = next(
        c for c in verify(model, conversion.map, analysis=conversion.analysis).checks if c.name == "structure"
    )
    assert structure.verdict == "different"


def test_a_network_with_a_function_inside():
    net = Net()
    y = net.dense(net.flat(net("Twice", net.conv(), domain="own")), inputs=K)
    proto = net.proto([y], check=False)
    twice = helper.make_node("Add", ["a", "a"], ["b"])
    proto.functions.append(
        helper.make_function("own", "Twice", ["a"], ["b"], [twice], [helper.make_opsetid("", 17)])
    )
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info(y, TensorProto.FLOAT, ["batch", 4]))
    assert_blocks(Model(proto), (2, 3))


# A batch of the network's own.


@pytest.mark.parametrize("stride", [(2, 3), (9, 8)], ids=str)
@pytest.mark.parametrize("batch", [1, 4])
def test_a_batch_that_the_file_fixes_is_the_block(batch, stride):
    net = Net((batch, 2, 9, 8))
    x = net("Reshape", net("Tanh", net.conv()), net.integers(batch, K))
    conversion = assert_blocks(net.model(net.dense(x, inputs=K)), stride)
    assert net.nodes[2].op_type == "Reshape"
    assert net.nodes[2].input[1] in {i for n in loop_of(conversion)[1].node for i in n.input}  # not edited


def test_a_batch_that_is_fixed_behind_a_free_one_is_found():
    net = Net()
    x = net("Reshape", net("Tanh", net.conv()), net.integers(1, -1))
    model = net.model(net("Gemm", x, net.weight(K, 4)))
    conversion = convert(model, method="patches", stride=(2, 3), order="CHW")
    image = noise(model, (13, 14), (2, 3))
    (found,) = run(serialised(conversion.map), image).values()
    fixed = Net((1, 2, 9, 8))
    fixed.nodes, fixed.tensors = net.nodes, net.tensors
    (expected,) = scan(fixed.model(net.nodes[-1].output[0]), image[:1], (9, 8), (2, 3), (2, 3)).values()
    assert difference(on_the_map(found[:1], False, 2), expected) < 1e-6


@pytest.mark.parametrize("batch", [None, 2])
def test_an_output_whose_first_axis_is_not_the_batch(batch):
    net = Net((batch, 2, 9, 8))
    y = net("Reshape", net.dense(net.flat(net.conv()), inputs=K), net.integers(-1, 2))
    with pytest.raises(FileError, match="first axis must be the batch") as caught:
        convert(net.model(y), method="patches", stride=(2, 3), order="CHW")
    assert caught.value.layer == y


def test_an_output_that_is_no_vector_of_the_patch():
    net = Net()
    y = plain(net)
    constant = net("Identity", net.weight(3))
    with pytest.raises(FileError, match="output must depend on its input"):
        convert(net.model(y, constant), method="patches", stride=(2, 3))


# What the file holds.


def test_weights_stay_outside_the_loop_and_are_the_same_views():
    net = Net()
    twin = net.weight(K, K)
    model = net.model(net.dense(net("MatMul", net.flat(net.conv()), twin), inputs=K))
    conversion = convert(model, method="patches", stride=(2, 3))
    made = conversion.map
    assert twin in made.weights
    assert all(made.weights[name] is array for name, array in model.weights.items())
    _, body = loop_of(conversion)
    assert not body.initializer
    assert {t.name for t in model.proto.graph.initializer} <= {t.name for t in made.proto.graph.initializer}


def test_convolutions_read_their_kernels_through_a_reshape_that_the_runtime_folds():
    """Without it ONNX Runtime has no fast form of a convolution in a loop: 1.6 times the time was measured."""
    net = Net()
    model = net.model(net.dense(net.flat(net.conv(net.conv())), inputs=3 * 5 * 4))
    conversion = assert_blocks(model, (2, 3))
    _, body = loop_of(conversion)
    made = {n.output[0]: n for n in body.node}
    sizes = {
        t.name: list(numpy_helper.to_array(t)) for t in conversion.map.proto.graph.initializer if t.raw_data
    }
    convolutions = [n for n in body.node if n.op_type == "Conv"]
    assert len(convolutions) == 2
    for own, node in zip((n for n in net.nodes if n.op_type == "Conv"), convolutions, strict=True):
        for name, operand in zip(own.input[1:], node.input[1:], strict=True):
            assert (made[operand].op_type, made[operand].input[0]) == ("Reshape", name)
            assert sizes[made[operand].input[1]] == list(net.tensors[name].shape)


def test_what_is_computed_of_weights_alone_is_computed_once():
    net = Net()
    weight = net("Transpose", net.weight(4, K), perm=[1, 0])
    conversion = assert_blocks(net.model(net("MatMul", net.flat(net("Tanh", net.conv())), weight)), (2, 3))
    assert "Transpose" not in {n.op_type for n in loop_of(conversion)[1].node}


def test_names_that_the_network_has_already():
    net = Net()
    net.tensors["dense2conv/iteration_1"] = np.float32(1)
    x = net("Add", net.conv(), "dense2conv/iteration_1")
    net.nodes[-1].name = "dense2conv/loop_3"
    for number in range(200):
        net.tensors[f"dense2conv/sizes_{number}"] = np.float32(0)
        x = net("Add", x, f"dense2conv/sizes_{number}")
    assert_blocks(net.model(net.dense(net.flat(x), inputs=K)), (2, 3), tolerance=3e-6)


@pytest.mark.parametrize("where", ["initializer", "Constant"])
def test_a_number_hidden_in_the_loop_is_found(where):
    net = Net()
    model = net.model(plain(net))
    conversion = convert(model, method="patches", stride=(2, 3))
    _, body = loop_of(conversion)
    hidden = numpy_helper.from_array(np.ones(4, np.float32), "hidden")
    if where == "initializer":
        body.initializer.append(hidden)
    else:
        body.node.insert(0, helper.make_node("Constant", [], ["hidden"], value=hidden))
    report = verify(model, conversion.map, analysis=conversion.analysis)
    structure = next(c for c in report.checks if c.name == "structure")
    assert structure.verdict == "different"
    assert "hidden" in structure.text


def test_a_weight_that_the_loop_only_pretends_to_use_is_found():
    net = Net()
    model = net.model(plain(net))
    conversion = convert(model, method="patches", stride=(2, 3))
    _, body = loop_of(conversion)
    gemm = next(n for n in body.node if n.op_type == "Gemm")
    bias = gemm.input[2]
    del gemm.input[2]
    body.node.append(helper.make_node("Add", [bias, bias], ["unread"]))
    structure = next(
        c for c in verify(model, conversion.map, analysis=conversion.analysis).checks if c.name == "structure"
    )
    assert f"tensor {bias!r} of the reference is not in the candidate" in structure.text


@pytest.mark.parametrize("opset", [10, 17])
@pytest.mark.parametrize("batch", [None, 1])
def test_the_proof_looks_in_front_of_a_softmax_inside_the_loop(batch, opset):
    """Scores that differ by a constant have the same Softmax."""
    net = Net((batch, 2, 9, 8), opset=opset)
    model = net.model(plain(net), net("Softmax", plain(net), axis=1), net("Sigmoid", plain(net)))
    conversion = convert(model, method="patches", stride=(2, 3))
    patch = next(
        c for c in verify(model, conversion.map, analysis=conversion.analysis).checks if c.name == "patch"
    )
    names = [o.name for o in model.proto.graph.output]
    assert list(patch.figures) == [*names, f"{names[1]} before Softmax", f"{names[2]} before Sigmoid"]
    assert patch.verdict == "equivalent"
    softmax = next(n for n in loop_of(conversion)[1].node if n.op_type == "Softmax")
    softmax.input[0] = moved = f"{softmax.input[0]}/moved"
    tensor = numpy_helper.from_array(np.float32(1), "one")
    conversion.map.proto.graph.initializer.append(tensor)
    body = loop_of(conversion)[1]
    place = next(i for i, n in enumerate(body.node) if n.op_type == "Softmax")
    body.node.insert(place, helper.make_node("Add", [moved.removesuffix("/moved"), "one"], [moved]))
    report = verify(model, conversion.map, analysis=conversion.analysis)
    patch = next(c for c in report.checks if c.name == "patch")
    assert patch.figures[f"{names[1]} before Softmax"].verdict == "different"
    assert patch.figures[names[1]].verdict == "equivalent"


def test_damages_inside_the_loop_are_made_and_found():
    net = Net()
    x = net("Relu", net.conv(pads=[1, 1, 1, 1]))
    model = net.model(net.dense(net.flat(x), inputs=3 * 9 * 8))
    conversion = convert(model, method="patches", stride=(2, 3))
    report = verify(model, conversion.map, analysis=conversion.analysis, self_test=True)
    test = next(c for c in report.checks if c.name == "self-test")
    assert test.verdict == "equivalent"
    assert test.text.startswith("5 damages")


MEMORY = """
import resource, sys
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
running = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
image = np.random.default_rng(0).standard_normal((1, 3, int(sys.argv[2]), int(sys.argv[2])), np.float32)
(found,) = running.run(None, {"x": image})
print(found.shape[2] * found.shape[3], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_positions(tmp_path):
    """10 times the positions: the crops alone would be 600 MB more, and what the network makes of them 5 GB."""
    net = Net((None, 3, 32, 32))
    x = net(
        "MaxPool",
        net("Relu", net.conv(out=16, kernel=3, pads=[1, 1, 1, 1])),
        kernel_shape=[2, 2],
        strides=[2, 2],
    )
    model = net.model(net.dense(net.flat(x), inputs=16 * 16 * 16))
    path = tmp_path / "map.onnx"
    onnx.save(onnx.load_from_string(serialised(convert(model, method="patches", stride=(1, 1)).map)), path)
    found = {}
    for size in (32 + 70, 32 + 229):
        said = subprocess.run(
            [sys.executable, "-c", MEMORY, str(path), str(size)], capture_output=True, text=True, check=True
        )
        positions, kilobytes = map(int, said.stdout.split())
        found[positions] = kilobytes
    (few, small), (many, large) = found.items()
    assert (few, many) == (71**2, 230**2)
    assert large - small < 30_000  # the map itself is 0.8 MB, and the runtime has it three times
