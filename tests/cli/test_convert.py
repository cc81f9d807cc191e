"""The main job as a user does it: files in, a map or one clear line out."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from dense2conv.cli import run

FIXTURES = Path(__file__).parents[2] / "fixtures"
CLASSIFIER = FIXTURES / "patch_classifier.onnx"
REFERENCES = FIXTURES / "references"


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_a_patch_classifier_becomes_a_map_that_scans(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "map.onnx"
    assert run(["convert", str(CLASSIFIER), str(out)]) == 0
    said = capsys.readouterr()
    assert "dense 192 -> 16 is a convolution with kernel 4x4" in said.out
    assert "verdict: equivalent" in said.err
    image = np.random.default_rng(0).standard_normal((2, 3, 41, 33)).astype(np.float32)
    (found,) = onnxruntime.InferenceSession(out).run(None, {"image": image})
    patch_network = onnxruntime.InferenceSession(CLASSIFIER)
    assert found.shape == (2, 4, 5, 3)
    for i, j in np.ndindex(5, 3):
        (expected,) = patch_network.run(None, {"image": image[:, :, 4 * i : 4 * i + 24, 4 * j : 4 * j + 24]})
        np.testing.assert_allclose(found[:, :, i, j], expected, atol=1e-5)


def test_the_interface_keeps_its_names_and_stays_free(tmp_path: Path) -> None:
    out = tmp_path / "map.onnx"
    assert run(["convert", str(CLASSIFIER), str(out)]) == 0
    graph = onnx.load(out).graph
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*graph.input, *graph.output)
    }
    assert shapes == {
        "image": ["batch", 3, "height", "width"],
        "classes": ["batch", 4, "map_height", "map_width"],
    }


def test_size_and_batch_fix_the_interface(tmp_path: Path) -> None:
    out = tmp_path / "map.onnx"
    assert (
        run(["convert", str(CLASSIFIER), str(out), "--size", "W=50,H=40", "--batch", "2", "--stride", "8x12"])
        == 0
    )
    graph = onnx.load(out).graph
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.input, *graph.output)
    }
    assert shapes == {"image": [2, 3, 40, 50], "classes": [2, 4, 3, 3]}
    assert not {n.op_type for n in graph.node} & {"Shape", "Reshape", "Flatten", "Gemm"}


@pytest.mark.parametrize("stride", ["patch", "7"])
@pytest.mark.parametrize("batch", ["batch", 1])
def test_patches_of_a_network_with_a_batch_of_its_own(
    batch: str | int, stride: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An LSTM whose first state is for one series runs one at a time where its input says so.

    Where it does not, the proof fails: what to do is said, and nothing written.
    """
    random = np.random.default_rng(0)
    weights = {
        "w": random.standard_normal((1, 16, 8)),
        "r": random.standard_normal((1, 16, 4)),
        "state": np.zeros((1, 1, 4)),
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["steps", "w", "r", "", "", "state", "state"], ["", "last"], hidden_size=4),
        helper.make_node("Reshape", ["last", "shape"], ["y"]),
    ]
    tensors = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()]
    tensors.append(numpy_helper.from_array(np.array([-1, 4]), "shape"))
    graph = helper.make_graph(
        nodes,
        "recurrent",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 30, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4])],
        tensors,
    )
    source, out = tmp_path / "lstm.onnx", tmp_path / "map.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), source)
    asked = ["convert", str(source), str(out), "--method", "patches", "--order", "LC", "--stride", stride]
    assert run(asked) == (0 if batch == 1 else 1)
    said = capsys.readouterr().err
    assert ("export it with that batch in its input's shape" in said) is (batch != 1)
    assert out.exists() is (batch == 1)


def test_the_report_has_the_layers_and_the_proof(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, report = tmp_path / "map.onnx", tmp_path / "report.json"
    assert run(["convert", str(CLASSIFIER), str(out), "--report", str(report), "--format", "json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(report.read_text())
    assert (printed["exactness"], printed["patch"], printed["stride"]) == ("exact", [24, 24], [4, 4])
    assert {
        "name": "fc2",
        "operator": "Gemm",
        "action": "rewritten",
        "reason": "dense 16 -> 4 is a convolution with kernel 1x1",
    } in printed["layers"]
    assert printed["verify"]["verdict"] == "equivalent"


def test_a_border_effect_is_said_in_capitals_with_the_exact_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "map.onnx"
    assert run(["convert", str(REFERENCES / "t06_residual_same.onnx"), str(out)]) == 0
    said = capsys.readouterr().err
    assert "BORDER EFFECT" in said
    assert "/m/m.0/Conv" in said
    assert "--method exact" in said
    assert "of the largest value" in said  # measured
    assert run(["verify", str(REFERENCES / "t06_residual_same.onnx"), str(out)]) == 1
    assert run(["verify", str(REFERENCES / "t06_residual_same.onnx"), str(out), "--accept-border"]) == 0


def test_strict_writes_nothing_unless_exact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "map.onnx"
    assert run(["convert", str(REFERENCES / "t06_residual_same.onnx"), str(out), "--strict"]) == 1
    assert not out.exists()
    assert "/m/m.0/Conv" in capsys.readouterr().err
    assert run(["convert", str(CLASSIFIER), str(out), "--strict"]) == 0


def test_method_exact_takes_patches_where_the_convolution_is_not(tmp_path: Path) -> None:
    out = tmp_path / "map.onnx"
    assert run(["convert", str(REFERENCES / "t15_se.onnx"), str(out), "--method", "exact", "--strict"]) == 0
    assert run(["verify", str(REFERENCES / "t15_se.onnx"), str(out)]) == 0
    assert run(["convert", str(CLASSIFIER), str(out), "--method", "exact", "--force"]) == 0
    assert "Gemm" not in {n.op_type for n in onnx.load(out).graph.node}


@pytest.mark.parametrize(
    ("model", "options", "status"),
    [
        ("t06_residual_same.onnx", ["--size", "20x20"], 0),  # its pads stand where they stood
        ("t06_residual_same.onnx", ["--size", "20x21"], 1),
        ("t06_residual_same.onnx", [], 1),
        ("t06_residual_same.onnx", ["--method", "exact"], 0),
        ("t15_se.onnx", ["--method", "patches"], 0),
        ("t15_se.onnx", ["--method", "exact"], 0),
    ],
)
def test_a_dry_run_says_what_the_conversion_says(
    tmp_path: Path, model: str, options: list[str], status: int
) -> None:
    source, out = REFERENCES / model, tmp_path / "map.onnx"
    assert run(["convert", str(source), "-n", "--strict", *options]) == status
    assert run(["convert", str(source), str(out), "--strict", *options]) == status
    assert out.exists() is not bool(status)


def test_exact_takes_the_convolution_where_that_is_exact_at_the_size_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "map.onnx"
    source = str(REFERENCES / "t06_residual_same.onnx")
    for size, method in (("20x20", "conv"), ("40x40", "patches")):
        options = ["--method", "exact", "--size", size, "--format", "json", "--force"]
        assert run(["convert", source, str(out), *options]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["method"] == method
        assert {"conv", "patches"} <= {c["method"] for c in said["costs"]}
        assert "x".join(map(str, said["size"])) == size


def test_dry_run_and_audit_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", "-n", str(CLASSIFIER)]) == 0
    dry = capsys.readouterr()
    assert run(["audit", str(CLASSIFIER)]) == 0
    assert capsys.readouterr() == dry
    assert run(["convert", "-n", str(CLASSIFIER), str(tmp_path / "map.onnx")]) == 0
    assert not list(tmp_path.iterdir())


def test_audit_counts_windows_and_multiply_adds(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", str(CLASSIFIER), "--size", "32x28", "--format", "json"]) == 0
    costs = {(c["method"], *c["stride"]): c for c in json.loads(capsys.readouterr().out)["costs"]}
    # conv1 5x5x3x8 on 28x24, conv2 3x3x8x12 on 12x10, fc1 192x16 and fc2 16x4 on 3x2 positions
    assert costs["conv", 4, 4]["macs"] == 600 * 28 * 24 + 864 * 12 * 10 + (192 * 16 + 16 * 4) * 3 * 2
    assert costs["patches", 24, 24]["macs"] == 600 * 20 * 20 + 864 * 8 * 8 + 192 * 16 + 16 * 4
    assert [costs[k]["windows"] for k in (("conv", 4, 4), ("scan", 4, 4), ("patches", 24, 24))] == [
        6,
        6,
        1,
    ]


def test_audit_names_every_layer_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", str(REFERENCES / "t15_se.onnx"), "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    refused = {row["name"]: row["reason"] for row in document["layers"] if row["action"] == "not convertible"}
    assert document["exactness"] == "not convertible"
    assert set(refused) == {"/m/m.2/Mul", "/m/m.7/Gemm", "/m/m.9/Gemm"}
    assert "statistic of the whole patch" in refused["/m/m.2/Mul"]
    assert refused["/m/m.7/Gemm"] == "it comes behind /m/m.2/Mul"
    assert run(["audit", str(REFERENCES / "t15_se.onnx"), "--strict"]) == 1


def test_several_files_go_on_after_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    maps = tmp_path / "maps"
    maps.mkdir()
    sources = [CLASSIFIER, REFERENCES / "t15_se.onnx", REFERENCES / "t08_conv1d.onnx"]
    assert run(["convert", *map(str, sources), "--output-dir", str(maps)]) == 3
    assert sorted(p.name for p in maps.iterdir()) == ["patch_classifier.onnx", "t08_conv1d.onnx"]
    assert "t15_se.onnx: /m/m.2/Mul" in capsys.readouterr().err
    again = [str(CLASSIFIER), str(CLASSIFIER), "--output-dir", str(maps), "--force"]
    assert run(["convert", *again]) == 2


def test_a_rewritten_weight_that_was_an_input_is_frozen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(CLASSIFIER)
    weight = next(t for t in model.graph.initializer if t.name == "fc1.weight")
    model.graph.input.append(helper.make_tensor_value_info("fc1.weight", TensorProto.FLOAT, weight.dims))
    onnx.save(model, tmp_path / "in.onnx")
    assert run(["convert", str(tmp_path / "in.onnx"), str(tmp_path / "map.onnx")]) == 0
    assert "constants now: fc1.weight" in capsys.readouterr().err
    assert [i.name for i in onnx.load(tmp_path / "map.onnx").graph.input] == ["image"]


# ---- bad input: one clear line, the right status, nothing written


def edited(change: Callable[[ModelProto], None]) -> Callable[[Path], bytes]:
    def make(_: Path) -> bytes:
        model = onnx.load(CLASSIFIER)
        change(model)
        return model.SerializeToString()

    return make


def _weight_as_input(model: ModelProto) -> None:
    weight = next(t for t in model.graph.initializer if t.name == "fc1.weight")
    model.graph.initializer.remove(weight)
    model.graph.input.append(helper.make_tensor_value_info("fc1.weight", TensorProto.FLOAT, weight.dims))


def _opset_6(model: ModelProto) -> None:
    model.opset_import[0].version = 6


def _if_around_the_head(model: ModelProto) -> None:
    graph = model.graph
    head = list(graph.node)[6:]
    del graph.node[6:]
    branch = helper.make_graph(head, "head", [], [helper.make_empty_tensor_value_info("classes")])
    graph.initializer.append(numpy_helper.from_array(np.asarray(True), "always"))
    graph.node.append(
        helper.make_node("If", ["always"], ["classes"], "branch", then_branch=branch, else_branch=branch)
    )


def _float64(model: ModelProto) -> None:
    graph = model.graph
    for tensor in graph.initializer:
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name)
        )
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE


def _external(model: ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == "fc1.weight")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="missing.bin")


def _flat_input(model: ModelProto) -> None:
    graph = model.graph
    head = list(graph.node)[7:]
    del graph.node[:]
    graph.node.extend(head)
    graph.input[0].CopyFrom(helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["N", 192]))


BAD = {
    # name: (the file's bytes, exit status, what the line says)
    "not ONNX": (lambda _: b"<html>not a model</html>", 3, "ONNX"),
    "empty": (lambda _: b"", 3, "empty"),
    "truncated": (lambda _: CLASSIFIER.read_bytes()[:9000], 3, ""),
    "weight file missing": (edited(_external), 3, "missing.bin"),
    "dense weight is an input": (edited(_weight_as_input), 3, "fc1.weight"),
    "opset below 7": (edited(_opset_6), 3, "7"),
    "If around the head": (edited(_if_around_the_head), 3, "branch"),
    "float64": (edited(_float64), 3, "float64"),
    "nothing to slide over": (edited(_flat_input), 1, "nothing to convert"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, status, words = BAD[name]
    source = tmp_path / "in.onnx"
    source.write_bytes(make(tmp_path))
    before = files(tmp_path)
    assert run(["convert", str(source), str(tmp_path / "out.onnx")]) == status
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert lines[0].startswith(f"dense2conv: {source}: ")
    assert words in lines[0]
    assert len(lines) <= 2
    assert "Traceback" not in said.err + said.out
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.onnx", "out.onnx"], "missing.onnx"),
        (["in.onnx", "in.onnx"], "in.onnx"),
        (["in.onnx", "./in.onnx", "--force"], "in.onnx"),
        (["in.onnx", "symbolic.onnx", "--force"], "symbolic.onnx"),
        (["in.onnx", "hard.onnx", "--force"], "hard.onnx"),
        (["in.onnx", "there.onnx"], "--force"),
        (["in.onnx", "nowhere/out.onnx"], "nowhere"),
        (["in.onnx"], "OUT"),
        (["in.onnx", "out.onnx", "--size", "23x40"], "23x40"),
        (["in.onnx", "out.onnx", "--size", "40"], "--size"),
        (["in.onnx", "out.onnx", "--stride", "-3"], "stride"),
        (["in.onnx", "out.onnx", "--stride", "0"], "stride"),
        (["in.onnx", "out.onnx", "--patch", "20x20"], "24x24"),
        (["in.onnx", "out.onnx", "--order", "HWC"], ""),
        (["in.onnx", "out.onnx", "--report", "report.txt"], "report"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_before_anything_is_written(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.onnx").write_bytes(CLASSIFIER.read_bytes())
    Path("there.onnx").write_bytes(b"old")
    Path("symbolic.onnx").symlink_to("in.onnx")
    os.link("in.onnx", "hard.onnx")
    before = files(tmp_path)
    status = run(["convert", *arguments])
    said = capsys.readouterr().err
    assert status == (3 if "--order" in arguments else 2), said
    assert words in said
    assert files(tmp_path) == before


def test_cuda_that_is_not_there_is_status_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("CUDA is there")
    assert run(["convert", str(CLASSIFIER), str(tmp_path / "map.onnx"), "--provider", "cuda"]) == 4
    assert "CPUExecutionProvider" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dense2conv"]
    out = str(tmp_path / "map.onnx")
    done = subprocess.run(
        [*command, "convert", str(CLASSIFIER), out], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    again = subprocess.run(
        [*command, "convert", str(CLASSIFIER), out], capture_output=True, text=True, check=False
    )
    assert again.returncode == 2
    proven = subprocess.run(
        [*command, "verify", str(CLASSIFIER), out], capture_output=True, text=True, check=False
    )
    assert proven.returncode == 0
    assert "equivalent" in proven.stdout


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (
            "t06_residual_same.onnx",
            ["--size", "60x50"],
            [
                "--method exact took patches: conv has a border effect",
                "--method patches --stride 4x4 on 60x50: 88 windows",
                "--method conv --stride 4x4 on 60x50: 88 windows",
                "one vector every 4x4 pixels",
            ],
        ),
        ("t15_se.onnx", ["--stride", "5"], ["took patches: the network is no convolution because of /m/m.2/Mul (Mul)"]),
        (
            "t01_valid_ts.onnx",
            [],
            ["--method exact took conv: it is exact", "--method conv --stride", "--method patches --stride"],
        ),
    ],
)  # fmt: skip
def test_exact_says_what_it_took_and_what_the_other_would_cost(
    model: str, options: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = str(REFERENCES / model), str(tmp_path / "map.onnx")
    assert run(["convert", source, out, "--method", "exact", *options]) == 0
    said = capsys.readouterr().err
    assert [w for w in words if w not in said] == []


@pytest.mark.parametrize("stride", ["1", "3x5", "16", "19"])
def test_a_map_of_overlapping_patches_goes_through_every_command(
    stride: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The proof finds it equal and damages to it different; its shapes are shown, and its audit names the loop."""
    source, out = str(REFERENCES / "t15_se.onnx"), str(tmp_path / "map.onnx")
    assert run(["convert", source, out, "--method", "patches", "--stride", stride]) == 0
    assert run(["verify", source, out, "--self-test"]) == 0
    assert run(["shapes", out, "--size", "40x40"]) == 0
    capsys.readouterr()
    assert run(["audit", out, "--patch", "40x40"]) == 0
    assert ("control flow" in capsys.readouterr().err) is (stride != "16")
