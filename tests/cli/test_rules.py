"""``convert --rules``: what is printed, what is written, and what is refused."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dense2conv.cli import run


def capsules(path: Path, equation: str = "ijkl,bil->bijk") -> Path:
    """An Einsum of a constant W (6, 3, 4, 5) with the input (N, 6, 5)."""
    w = np.random.default_rng(0).standard_normal((6, 3, 4, 5)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Einsum", ["w", "u"], ["y"], name="votes", equation=equation)],
        "capsules",
        [helper.make_tensor_value_info("u", TensorProto.FLOAT, ["N", 6, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(w, "w")],
    )
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def test_a_network_is_rewritten_and_proven(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = capsules(tmp_path / "in.onnx"), tmp_path / "out.onnx"
    assert run(["convert", str(source), str(out), "--rules", "matvec", "--matvec", "grouped-conv"]) == 0
    said = capsys.readouterr()
    assert "votes  Einsum    matvec  rewritten  6 products of 12 x 5 with the weight 'w'" in said.out
    assert "verdict: equivalent" in said.err
    assert "Conv" in {node.op_type for node in onnx.load(out).graph.node}
    assert run(["verify", str(source), str(out)]) == 0


def test_json_has_the_places_and_the_proof(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = capsules(tmp_path / "in.onnx"), tmp_path / "out.onnx"
    report = tmp_path / "report.json"
    arguments = ["--rules", "matvec", "--matvec", "fastest", "--format", "json", "--report", str(report)]
    assert run(["convert", str(source), str(out), *arguments]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rules"] == ["matvec"]
    assert set(document["layers"][0]["milliseconds"]) == {"einsum", "matmul", "grouped-conv"}
    assert document["verify"]["verdict"] == "equivalent"
    assert str(out) in document["verify"]["files"]["candidate"]
    assert report.exists()


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = capsules(tmp_path / "in.onnx")
    assert run(["convert", "-n", str(source), "--rules", "matvec"]) == 0
    assert "rewritten" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [source]


def embedding(path: Path) -> Path:
    """Patches of 2 x 2 of an image, a dense layer, Relu, another one; the first weight may be overridden."""
    random = np.random.default_rng(0)
    constants = {
        "split": np.asarray([0, 3, 2, 2, 3, 2]),
        "rows": np.asarray([0, 6, 12]),
        "w": random.standard_normal((12, 5)).astype(np.float32),
        "v": random.standard_normal((5, 2)).astype(np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["x", "split"], ["a"]),
            helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 4, 1, 3, 5]),
            helper.make_node("Reshape", ["b", "rows"], ["c"]),
            helper.make_node("MatMul", ["c", "w"], ["d"], name="embed"),
            helper.make_node("Relu", ["d"], ["e"], name="relu"),
            helper.make_node("MatMul", ["e", "v"], ["y"], name="dense"),
        ],
        "vit",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 4, 6]),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [12, 5]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 6, 2])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def test_several_rules_one_after_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = embedding(tmp_path / "in.onnx"), tmp_path / "out.onnx"
    assert run(["convert", str(source), str(out), "--rules", "patches,pointwise"]) == 0
    said = capsys.readouterr()
    assert "dense 12 -> 5 on patches of 'x' is a convolution with kernel 2x2, stride 2x2" in said.out
    assert "dense 5 -> 2 is a 1x1 convolution" in said.out
    assert "its input is no patches cut by moving pixels" not in said.out.splitlines()[1]
    assert "Ethos-U" in said.err
    assert "weights that were inputs with a default are constants now: w" in said.err
    assert [n.op_type for n in onnx.load(out).graph.node].count("Conv") == 2


def test_another_function_is_left_alone_and_said_to_be_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = capsules(tmp_path / "in.onnx", "ijkl,bil->bilk"), tmp_path / "out.onnx"
    assert run(["convert", str(source), str(out), "--rules", "matvec"]) == 1
    said = capsys.readouterr()
    assert "left alone  it sums the weight itself over an axis of 3" in said.out
    assert "nothing to rewrite" in said.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rules", "matvex"], "there is no rule 'matvex'"),
        (["--rules", "matvec,,"], "there is no rule ''"),
        (["--rules", "dense,matvec"], "makes a map with another interface"),
        (["--matvec", "einsum"], "--matvec is an option of the rule matvec"),
        (["--rules", "matvec", "--matvec", "slowest"], "slowest"),
        (["--rules", "matvec", "--stride", "4"], "--stride is for maps"),
        (["--rules", "matvec", "--method", "exact"], "--method is for maps"),
        (["--rules", "matvec", "--strict"], "--strict is for maps"),
    ],
)
def test_options_that_do_not_fit(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = capsules(tmp_path / "in.onnx"), tmp_path / "out.onnx"
    assert run(["convert", str(source), str(out), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_keras_file_is_no_output_of_such_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = capsules(tmp_path / "in.onnx")
    assert run(["convert", str(source), str(tmp_path / "out.keras"), "--rules", "matvec"]) == 2
    assert "write ONNX files" in capsys.readouterr().err


def test_shapes_that_do_not_fit_end_with_status_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = capsules(tmp_path / "in.onnx", "ijkl,bli->bijk")
    assert run(["convert", str(source), str(tmp_path / "out.onnx"), "--rules", "matvec"]) == 3
    assert "shapes" in capsys.readouterr().err
