"""Networks run by ONNX Runtime: against numpy, and every way in which it must refuse."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from dense2conv.convert.errors import FileError, MachineError, RequestError
from dense2conv.convert.execute import Session, Value, _error, _reason, parse_provider, session
from dense2conv.convert.model import Model

FLOAT = TensorProto.FLOAT


def bare(name, array):
    """An initializer that has no data of its own."""
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return TensorProto(name=name, data_type=kind, dims=array.shape)


def graph(nodes, weights, inputs=(("x", ["N", 300]),), outputs=("y",), kind=FLOAT, ir_version=8):
    made = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [bare(name, array) for name, array in weights.items()],
    )
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=ir_version)
    return Model(proto, dict(weights), "some.onnx")


def matrix(rows, columns, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(dtype)


X = matrix(5, 300, seed=1)
MATMUL = [helper.make_node("MatMul", ["x", "W"], ["y"])]


@pytest.mark.parametrize("columns", [3, 200], ids=["inside", "supplied"])
@pytest.mark.parametrize("view", ["plain", "transposed", "reversed", "read only"])
def test_weights_are_views(columns, view):
    weight = matrix(300, columns)
    if view == "transposed":
        weight = np.ascontiguousarray(weight.T).T
    elif view == "reversed":
        weight = weight[::-1]
    elif view == "read only":
        weight.setflags(write=False)
    running = Session(graph(MATMUL, {"W": weight}))
    y = running.run({"x": X})["y"]
    np.testing.assert_allclose(y, X.astype(float) @ weight.astype(float), rtol=0, atol=1e-3)
    assert np.abs(y).max() > 1


def test_a_mapped_file_is_a_weight(tmp_path):
    weight = matrix(300, 200)
    weight.tofile(tmp_path / "weights")
    mapped = np.memmap(tmp_path / "weights", dtype="float32", mode="r", shape=weight.shape)
    y = session(graph(MATMUL, {"W": mapped})).run({"x": X})["y"]
    np.testing.assert_allclose(y, X.astype(float) @ weight, rtol=0, atol=1e-3)


def test_float16_and_what_the_runtime_understood():
    model = graph(MATMUL, {"W": matrix(300, 200, "float16")}, kind=TensorProto.FLOAT16)
    running = Session(model)
    assert running.inputs == (Value("x", (None, 300), "float16"),)
    assert [output.name for output in running.outputs] == ["y"]
    assert running.run({"x": X.astype("float16")})["y"].dtype == np.float16


@pytest.mark.parametrize("ir_version", [3, 8])
def test_initializers_are_no_inputs(ir_version):
    inputs = (("x", ["N", 300]), ("W", [300, 200]))
    running = Session(graph(MATMUL, {"W": matrix(300, 200)}, inputs, ir_version=ir_version))
    assert [value.name for value in running.inputs] == ["x"]


def test_weights_that_no_node_reads():
    weights = {"W": matrix(300, 200), "unused": matrix(300, 200)}
    assert Session(graph(MATMUL, weights)).run({"x": X})["y"].shape == (5, 200)


def test_weights_that_only_a_branch_reads():
    def branch(weight):
        nodes = [helper.make_node("MatMul", ["x", weight], [f"by_{weight}"])]
        return helper.make_graph(
            nodes, weight, [], [helper.make_tensor_value_info(f"by_{weight}", FLOAT, None)]
        )

    condition = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["c"], to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["y"], then_branch=branch("V"), else_branch=branch("W")),
    ]
    weights = {"V": matrix(300, 200), "W": matrix(300, 200, seed=2)}
    running = Session(graph(condition, weights))
    for x, weight in ((X, "V"), (np.zeros_like(X), "W")):
        np.testing.assert_allclose(
            running.run({"x": x})["y"], x.astype(float) @ weights[weight], rtol=0, atol=1e-3
        )


def test_the_runtime_never_gets_a_path(tmp_path, monkeypatch):
    """A tensor that names a file by itself is refused, although the file is there."""
    monkeypatch.chdir(tmp_path)
    weight = matrix(300, 200)
    weight.tofile("secret")
    model = graph(MATMUL, {"W": weight})
    tensor = model.proto.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")
    assert np.isfinite(Session(model).run({"x": X})["y"]).all()  # the view counts, not the file
    del model.weights["W"]
    with pytest.raises(FileError, match="'W' was not mapped"):
        Session(model)


def test_a_weight_of_another_shape_is_refused():
    model = graph(MATMUL, {"W": matrix(300, 200)})
    model.weights["W"] = matrix(300, 100)
    with pytest.raises(
        FileError, match=r"'W' is declared float32 \(300, 200\) but holds float32 \(300, 100\)"
    ):
        Session(model)


def test_what_the_runtime_does_not_load():
    model = graph([helper.make_node("Frobnicate", ["x"], ["y"], name="f")], {})
    with pytest.raises(FileError) as caught:
        Session(model)
    assert caught.value.message.startswith("ONNX Runtime does not load it: ")
    assert "Frobnicate" in caught.value.message
    assert "\n" not in caught.value.message
    assert "ONNXRuntimeError" not in caught.value.message
    assert caught.value.file == "some.onnx"


def test_what_the_runtime_does_not_run():
    nodes = [
        helper.make_node("Constant", [], ["shape"], value_ints=[7, -1]),
        helper.make_node("Reshape", ["x", "shape"], ["y"], name="the_reshape"),
    ]
    with pytest.raises(FileError) as caught:
        Session(graph(nodes, {}, (("x", ["N", "K"]),))).run({"x": np.ones((5, 5), "float32")})
    assert "cannot run it on this input" in caught.value.message
    assert "the_reshape" in caught.value.message
    assert ".cc:" not in caught.value.message
    assert "\n" not in caught.value.message


def test_sequences_are_no_tensors():
    model = graph([helper.make_node("SequenceConstruct", ["x"], ["y"])], {})
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    model.proto.graph.output[0].CopyFrom(helper.make_value_info("y", kind))
    with pytest.raises(FileError, match="'y' is seq"):
        Session(model)


def test_out_of_memory_is_the_machines():
    # 2^50 floats; the runtime asks for them when it runs, because their number comes from the input.
    nodes = [
        helper.make_node("Cast", ["x"], ["shape"], to=TensorProto.INT64),
        helper.make_node("ConstantOfShape", ["shape"], ["y"]),
    ]
    running = Session(graph(nodes, {}, (("x", [2]),)))
    with pytest.raises(MachineError, match="ran out of memory"):
        running.run({"x": np.array([2**25, 2**25], "float32")})


ARENA = "/src/bfc_arena.cc:404 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, Stream*)"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc", MachineError),
        (f"{ARENA} Failed to allocate memory for requested buffer of size 99", MachineError),
        ("CUDA failure 2: out of memory ; GPU=0", MachineError),
        ("CUDA failure 100: no CUDA-capable device is detected", MachineError),
        ("[ONNXRuntimeError] : 1 : FAIL : Type Error: Shape of input", FileError),
    ],
)
def test_errors_by_their_text(text, kind):
    assert type(_error(RuntimeError(text), "rule", "", "")) is kind


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Reshape node. "
            "Name:'r' Status Message: /src/core/helper.h:47 onnxruntime::Helper::Helper(const X&, bool) "
            "size != 0 was false.\nStacktrace:\n#1 0x7f",
            "Non-zero status code returned while running Reshape node. Name:'r' Status Message: size != 0 was false.",
        ),
        (f"{ARENA} Failed to allocate 9", "Failed to allocate 9"),
        ("", "no reason given"),
    ],
)
def test_reasons_are_one_clean_line(text, reason):
    assert _reason(text) == reason


@pytest.mark.parametrize(
    ("text", "provider"),
    [
        ("cpu", ("CPUExecutionProvider", 0)),
        ("CPUExecutionProvider", ("CPUExecutionProvider", 0)),
        ("cuda", ("CUDAExecutionProvider", 0)),
        ("cuda:3", ("CUDAExecutionProvider", 3)),
        ("CUDAExecutionProvider:1", ("CUDAExecutionProvider", 1)),
    ],
)
def test_providers(text, provider):
    assert parse_provider(text) == provider


@pytest.mark.parametrize("text", ["", "gpu", "cpu:0", "cuda:", "cuda:-1", "cuda:x", "cudaa", "cuda:1:2"])
def test_misspelt_providers_are_refused(text):
    with pytest.raises(RequestError, match="cpu, cuda or cuda:N"):
        parse_provider(text)


LISTED = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
# The GPU build lists CUDA where there is no GPU.
NO_CUDA = not LISTED or not Path("/dev/nvidiactl").exists()


@pytest.mark.skipif(LISTED, reason="CUDA is listed here: that it is not cannot be shown")
def test_cuda_that_is_not_here():
    with pytest.raises(MachineError) as caught:
        Session(graph(MATMUL, {"W": matrix(300, 200)}), "cuda")
    assert "CUDAExecutionProvider is not on this machine: available: " in caught.value.message
    assert "CPUExecutionProvider" in caught.value.message
    assert "pip install onnxruntime-gpu" in caught.value.hint


@pytest.mark.skipif(not NO_CUDA, reason="CUDA is here: its absence cannot be shown")
def test_cuda_that_is_listed_but_does_not_start(monkeypatch):
    """The GPU build lists CUDA on every machine, and runs on the CPU where there is none."""
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    with pytest.raises(MachineError, match="listed but did not start; running: CPUExecutionProvider"):
        Session(graph(MATMUL, {"W": matrix(300, 200)}), "cuda:0")


@pytest.mark.skipif(NO_CUDA, reason="needs CUDA: pip install onnxruntime-gpu on a machine with a GPU")
def test_cuda_computes_in_float32():
    weight = matrix(300, 200)
    y = Session(graph(MATMUL, {"W": weight}), "cuda").run({"x": X})["y"]
    expected = X.astype(float) @ weight
    # TF32 has 10 bits: it would be off by 1e-3 of the largest value.
    assert np.abs(y - expected).max() < 1e-5 * np.abs(expected).max()


def test_the_runtime_stays_silent():
    """Its own warnings, such as a missing provider's or an unused initializer's, do not reach the terminal."""
    program = (
        "import numpy as np, onnx\n"
        "from onnx import helper, TensorProto\n"
        "from dense2conv.convert.execute import Session\n"
        "from dense2conv.convert.model import Model\n"
        "import onnxruntime\n"
        "onnxruntime.get_available_providers = lambda: ['CUDAExecutionProvider']\n"
        "g = helper.make_graph([helper.make_node('Relu', ['x'], ['y'])], 'g',\n"
        "    [helper.make_tensor_value_info('x', 1, [2])], [helper.make_tensor_value_info('y', 1, [3])])\n"
        "m = Model(helper.make_model(g, opset_imports=[helper.make_opsetid('', 17)], ir_version=8))\n"
        "for provider in ('cuda', 'cpu'):\n"
        "    try:\n"
        "        Session(m, provider).run({'x': np.ones(2, 'float32')})\n"
        "    except Exception:\n"
        "        pass\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr == ""
