"""Networks run by ONNX Runtime: against numpy, and every way in which it must refuse."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from dense2conv.convert import execute, providers
from dense2conv.convert.errors import FileError, MachineError, RequestError
from dense2conv.convert.execute import Session, Value, _error, _reason, session
from dense2conv.convert.model import Model
from dense2conv.convert.providers import CPU, CUDA, clash, parse_provider

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
        ("CUDA failure 101: invalid device ordinal ; GPU=0", MachineError),
        (
            'provider_options_utils.h:149 Parse Failed to parse provider option "device_id": Invalid device ID: 9, '
            "must be between 0 (inclusive) and 1 (exclusive).",
            MachineError,
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : This session contains graph nodes that are assigned to the default CPU "
            "EP, but fallback to CPU EP has been explicitly disabled by the user.",
            MachineError,
        ),
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


# -- what ran where: the session's own word ---------------------------------------------------------------------------

CONV = [
    helper.make_node("Conv", ["image", "K"], ["c"], name="the_conv"),
    helper.make_node("MaxPool", ["c"], ["p"], name="the_pool", kernel_shape=[2, 2]),
    helper.make_node("Shape", ["p"], ["shape"]),
    helper.make_node("Reshape", ["p", "shape"], ["y"]),
]
KERNEL = matrix(3, 18).reshape(3, 2, 3, 3)
RECORDED = hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info")
records = pytest.mark.skipif(
    not RECORDED, reason="this ONNX Runtime (before 1.24) does not say where a node runs"
)


def network():
    return graph(CONV, {"K": KERNEL}, (("image", ["N", 2, 8, 8]),))


@pytest.mark.parametrize("optimized", [True, False])
def test_what_ran_where_is_reported(optimized):
    placement = Session(network(), optimized=optimized).placement
    assert placement.provider == CPU
    assert placement.recorded is RECORDED
    assert placement.counts == {CPU: {"Conv": 1, "MaxPool": 1}}
    assert str(placement).startswith("CPUExecutionProvider ran 1 Conv, 1 MaxPool")


def test_an_older_runtime_counts_the_files_nodes(monkeypatch):
    """With one provider registered there is no other that could have run a node."""
    name = "get_provider_graph_assignment_info"
    for kind in onnxruntime.InferenceSession.__mro__:
        if name in vars(kind):
            monkeypatch.delattr(kind, name)
    placement = Session(network()).placement
    assert not placement.recorded
    assert placement.counts == {CPU: {"Conv": 1, "MaxPool": 1}}
    assert str(placement).endswith("(no other provider was allowed)")


def test_nodes_in_branches_are_counted():
    def branch(name):
        nodes = [helper.make_node("MatMul", ["x", "W"], [name])]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, FLOAT, None)])

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["c"], to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["y"], then_branch=branch("a"), else_branch=branch("b")),
    ]
    assert Session(graph(nodes, {"W": matrix(300, 200)})).placement.counts == {CPU: {"MatMul": 2}}


class Pretender:
    """A session on the CPU that says it has CUDA: what the GPU build gives where CUDA runs some nodes, or none."""

    def __init__(self, *args, **kwargs):
        kwargs["providers"] = [CPU]
        Pretender.options = args[1]
        self._real = real_session(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(self._real, name)

    def get_providers(self):
        return [CUDA, CPU]

    def get_provider_graph_assignment_info(self):
        return self._real.get_provider_graph_assignment_info()


real_session = onnxruntime.InferenceSession


class Elsewhere(Pretender):
    """Its Conv and MaxPool it says nothing about."""

    def get_provider_graph_assignment_info(self):
        parts = super().get_provider_graph_assignment_info()
        return [part for part in parts if not {n.op_type for n in part.get_nodes()} & {"Conv", "MaxPool"}]


class Moved:
    """A node's part as CUDA would have it."""

    def __init__(self, part):
        self.get_nodes = part.get_nodes
        self.ep_name = CUDA if {"Conv", "MaxPool"} & {n.op_type for n in part.get_nodes()} else part.ep_name


class Partial(Pretender):
    """Shape arithmetic stays on the CPU, the rest is where it was asked for."""

    def get_provider_graph_assignment_info(self):
        return [Moved(part) for part in super().get_provider_graph_assignment_info()]


def pretend(monkeypatch, kind):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", kind)
    monkeypatch.setattr(execute, "_load_cuda", lambda _: None)


@records
def test_a_silent_fallback_to_the_cpu_is_caught(monkeypatch):
    """``get_providers()`` names what is registered; what ran, only the assignment knows."""
    pretend(monkeypatch, Pretender)
    with pytest.raises(MachineError) as caught:
        Session(network(), "cuda")
    assert caught.value.message == (
        "CUDAExecutionProvider cannot run Conv 'the_conv': it would run on CPUExecutionProvider"
    )


@records
def test_a_session_that_does_not_say_is_no_evidence(monkeypatch):
    pretend(monkeypatch, Elsewhere)
    with pytest.raises(
        MachineError, match="does not say that CUDAExecutionProvider ran any of Conv, MaxPool"
    ):
        Session(network(), "cuda")


@records
def test_shape_arithmetic_may_stay_on_the_cpu(monkeypatch):
    pretend(monkeypatch, Partial)
    placement = Session(network(), "cuda:2").placement
    assert placement.counts == {CUDA: {"Conv": 1, "MaxPool": 1}}
    assert str(placement) == "CUDAExecutionProvider 2 ran 1 Conv, 1 MaxPool (TF32 off)"
    assert Session(network(), "cuda", allow_tf32=True).placement.tf32


def test_an_older_runtime_is_told_not_to_fall_back(monkeypatch):
    class Silent(Pretender):
        get_provider_graph_assignment_info = None

    del Silent.get_provider_graph_assignment_info
    monkeypatch.setattr(execute, "records_assignment", lambda _: False)
    pretend(monkeypatch, Silent)
    # The CPU was named to the real session beneath, which ONNX Runtime takes for a contradiction: it was told.
    with pytest.raises(FileError, match="disabled fallback to the CPU EP"):
        Session(network(), "cuda")


def test_both_levels_give_the_networks_numbers():
    image = np.random.default_rng(3).standard_normal((2, 2, 8, 8)).astype("float32")
    first, second = (Session(network(), optimized=o).run({"image": image})["y"] for o in (True, False))
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-5)


def test_a_closed_session_gives_its_memory_back():
    running = Session(graph(MATMUL, {"W": matrix(300, 200)}))
    running.close()
    assert running._session is None
    assert not running._weights


# -- which distributions are installed -----------------------------------------------------------------------------


def install(folder, name, version="1.31.1", files=("onnxruntime/__init__.py",)):
    """What pip leaves behind of a distribution, as far as importlib.metadata reads it."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in (*files, f"{info.name}/METADATA")))
    # The backport of importlib.metadata, which Dask imports, lists only files that are there.
    for file in files:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).touch()


@pytest.fixture
def installed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path


def test_one_distribution_is_no_clash(installed):
    install(installed, "onnxruntime")
    install(installed, "onnxruntime-extensions", files=["onnxruntime_extensions/__init__.py"])
    assert clash() == ""


@pytest.mark.parametrize("other", ["onnxruntime-gpu", "onnxruntime_directml", "ort-nightly-gpu"])
def test_a_clash_is_named_with_what_to_do(installed, other):
    install(installed, other, "1.31.1")
    install(installed, "onnxruntime", "1.32.0")
    name = other.replace("_", "-")
    assert f"{name} 1.31.1" in clash()
    assert "onnxruntime 1.32.0" in clash()
    assert f"; pip install {name}`" in clash()
    assert "pip uninstall -y onnxruntime" in clash()


def test_the_error_names_the_clash(monkeypatch):
    monkeypatch.setattr(
        providers, "_installed", lambda: [("onnxruntime-gpu", "1.31.1"), ("onnxruntime", "1.32.0")]
    )
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    with pytest.raises(MachineError) as caught:
        Session(network(), "cuda")
    assert (
        "onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 are installed over each other" in caught.value.message
    )
    assert "\n" not in caught.value.message


def test_a_runtime_that_was_half_removed(monkeypatch):
    """``pip uninstall`` of one of two distributions takes files of the other: an empty folder imports as a package."""
    monkeypatch.setitem(sys.modules, "onnxruntime", type(sys)("onnxruntime"))
    with pytest.raises(MachineError, match="not installed, or not whole"):
        Session(network())


# -- CUDA ----------------------------------------------------------------------------------------------------------

LISTED = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
# The GPU build lists CUDA where there is no GPU.
NO_CUDA = not LISTED or not Path("/dev/nvidiactl").exists()


@pytest.mark.skipif(LISTED, reason="CUDA is listed here: that it is not cannot be shown")
def test_cuda_that_is_not_here():
    with pytest.raises(MachineError) as caught:
        Session(graph(MATMUL, {"W": matrix(300, 200)}), "cuda")
    assert "CUDAExecutionProvider is not on this machine: available: " in caught.value.message
    assert "CPUExecutionProvider" in caught.value.message
    assert "pip uninstall -y onnxruntime onnxruntime-gpu; pip install 'onnxruntime-gpu" in caught.value.hint


@pytest.mark.skipif(not NO_CUDA, reason="CUDA is here: its absence cannot be shown")
def test_cuda_that_is_listed_but_does_not_start(monkeypatch):
    """The GPU build lists CUDA on every machine, and runs on the CPU where there is none."""
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    said = (
        "listed but did not start; running: CPUExecutionProvider"
        if RECORDED
        else "did not start, or cannot run all"
    )
    with pytest.raises(MachineError, match=said):
        Session(graph(MATMUL, {"W": matrix(300, 200)}), "cuda:0")


needs_cuda = pytest.mark.skipif(
    NO_CUDA, reason="needs CUDA: README has how to install it, on a machine with a GPU"
)


@needs_cuda
@pytest.mark.parametrize("optimized", [True, False])
def test_cuda_computes_in_float32(optimized):
    weight = matrix(300, 200)
    running = Session(graph(MATMUL, {"W": weight}), "cuda", optimized=optimized)
    y = running.run({"x": X})["y"]
    expected = X.astype(float) @ weight
    # TF32 has 10 bits: it would be off by 1e-3 of the largest value.
    assert np.abs(y - expected).max() < 1e-5 * np.abs(expected).max()
    assert set(running.placement.counts) == {CUDA}
    assert sum(running.placement.counts[CUDA].values()) == 1


@needs_cuda
def test_cuda_convolves_and_pools_by_its_own_word():
    running = Session(network(), "cuda")
    assert set(running.placement.counts) == {CUDA}
    assert sum(running.placement.counts[CUDA].values()) == 2
    assert str(running.placement).endswith("(TF32 off)")
    image = np.random.default_rng(3).standard_normal((2, 2, 8, 8)).astype("float32")
    found, expected = running.run({"image": image})["y"], Session(network()).run({"image": image})["y"]
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@needs_cuda
def test_a_device_that_does_not_exist():
    with pytest.raises(MachineError) as caught:
        Session(network(), "cuda:99")
    assert "\n" not in caught.value.message


@needs_cuda
def test_what_cuda_cannot_run_is_named():
    """LpPool has no kernel on CUDA."""
    nodes = [helper.make_node("LpPool", ["image"], ["y"], name="the_pool", kernel_shape=[2, 2])]
    with pytest.raises(MachineError, match="LpPool"):
        Session(graph(nodes, {}, (("image", ["N", 2, 8, 8]),)), "cuda")


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
