"""Keras files on the command line: every command that reads a network reads them, and none of them needs Keras."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from dense2conv import cli

FOLDER = Path(__file__).parents[2] / "fixtures" / "references"
COURSERA = str(FOLDER / "k2_coursera.h5")
FLAT = str(FOLDER / "k3_valid_flat.keras")
FLAT_OUTPUTS = str(FOLDER / "k3_valid_flat.npz")
THEANO = str(FOLDER / "k1_valid_th.h5")


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    status = cli.run([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_table_of_a_keras_file_is_that_of_the_worked_case(capsys: pytest.CaptureFixture[str]) -> None:
    """The figures are checked by hand; the file is Keras 2.15's own, the layers have Keras's names."""
    status, out, _ = run(capsys, "shapes", COURSERA)
    assert status == 0
    wanted = """\
conv2d_22         Conv2D        4x4x3   1       same (1, 2)  64x64x8    32768         384  1572864  4      1     -1
re_lu_3           ReLU          -       -       -            64x64x8    32768           0        0  4      1     -1
max_pooling2d_12  MaxPooling2D  8x8     8       same (0, 0)  8x8x8        512           0        0  11     8     -1
conv2d_23         Conv2D        2x2x8   1       same (0, 1)  8x8x16      1024         512    32768  19     8     -1
re_lu_4           ReLU          -       -       -            8x8x16      1024           0        0  19     8     -1
max_pooling2d_13  MaxPooling2D  4x4     4       same (0, 0)  2x2x16        64           0        0  43     32    -1
flatten_14        Flatten       -       -       -            64            64           0        0  whole  -     -
dense_28          Dense         -       -       -            6              6         390      384  whole  -     -
"""
    assert out.splitlines()[1:9] == wanted.splitlines()


def test_a_layer_is_found_by_keras_name(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(
        capsys, "locate", COURSERA, "--layer", "conv2d_22", "--at", "63,0", "--from", "0", "--format", "json"
    )
    assert status == 0
    row, column = json.loads(out)["axes"]
    assert (row["box"], column["box"]) == ([62, 65], [-1, 2])


def test_a_map_is_made_verified_and_held_against_keras(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "map.onnx"
    status, _, said = run(capsys, "convert", FLAT, out, "--expected", FLAT_OUTPUTS)
    assert status == 0
    assert said.count("framework: equivalent: checked against the framework's outputs") == 2
    status, _, said = run(capsys, "verify", FLAT, out)
    assert status == 0
    assert "checked against" not in said
    document = run(capsys, "verify", FLAT, out, "--format", "json")[1]
    framework = next(c for c in json.loads(document)["checks"] if c["name"] == "framework")
    assert framework["name"] == "framework"
    assert framework["verdict"] is None
    assert "dense2conv's own translation" in framework["text"]


def test_the_map_of_another_model_is_different_and_so_are_another_frameworks_outputs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "map.onnx"
    assert run(capsys, "convert", FLAT, out, "--no-verify")[0] == 0
    wrong = dict(np.load(FLAT_OUTPUTS))
    wrong["patch_y"] = wrong["patch_y"][:, ::-1]
    np.savez(tmp_path / "wrong.npz", **wrong)
    status, _, said = run(capsys, "verify", FLAT, out, "--expected", tmp_path / "wrong.npz")
    assert status == 1
    assert "DIFFERENT" in said
    status, _, said = run(
        capsys, "translate", FLAT, tmp_path / "plain.onnx", "--expected", tmp_path / "wrong.npz"
    )
    assert status == 1
    assert "nothing was written" in said
    assert not (tmp_path / "plain.onnx").exists()


def test_translate_writes_the_network_itself(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "plain.onnx"
    status, table, said = run(capsys, "translate", FLAT, out, "--expected", FLAT_OUTPUTS)
    assert status == 0
    assert "Keras 3.15.1: input_layer 24x24x3 -> dense_1 4" in said
    assert "checked against the framework's outputs: 3 patches" in said
    assert [line.split()[:3] for line in table.splitlines()][1] == ["conv2d", "Conv2D", "Conv"]
    onnx.checker.check_model(str(out), full_check=True)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 24, 24, 3]


def test_weights_alone_need_their_configuration(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    weights, config = FOLDER / "k3_valid_flat.weights.h5", FOLDER / "k3_valid_flat.json"
    status, _, said = run(capsys, "translate", weights, tmp_path / "plain.onnx")
    assert status == 2
    assert "--config model.json" in said
    assert run(capsys, "translate", weights, tmp_path / "plain.onnx", "--config", config)[0] == 0


def test_what_was_assumed_of_theano_is_said_and_can_be_overruled(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, _, said = run(capsys, "audit", THEANO)
    assert status == 0
    assert "kernels are flipped back" in said
    expected = str(FOLDER / "k1_valid_th.npz")
    assert run(capsys, "translate", THEANO, tmp_path / "a.onnx", "--expected", expected)[0] == 0
    status, _, said = run(
        capsys, "translate", THEANO, tmp_path / "b.onnx", "--expected", expected, "--no-flip"
    )
    assert status == 1
    assert "the framework gave something else" in said


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["audit", str(FOLDER / "k2_lambda.h5")], 3, "lambda: the layer Lambda is not supported"),
        (["shapes", str(FOLDER / "k3_lambda.keras")], 3, "lambda: the layer Lambda is not supported"),
        (["audit", str(FOLDER / "t01_valid_ts.onnx"), "--flip"], 2, "--flip is for Keras files"),
        (["audit", FLAT, "--config", str(FOLDER / "k3_valid_flat.json")], 2, "config"),
        (["audit", FLAT, "--activation", "mine=rela"], 2, "there is no activation 'rela'"),
        (["audit", FLAT, "--activation", "mine=relu:beta=1"], 2, "not 'beta'"),
        (["audit", FLAT, "--activation", "mine"], 2, "is no activation"),
        (["audit", FLAT_OUTPUTS], 3, "some other archive"),
        (["translate", str(FOLDER / "t01_valid_ts.onnx"), "x.onnx"], 2, "ONNX already"),
    ],
)
def test_refusals(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    arguments: list[str], status: int, words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    found, _, said = run(capsys, *arguments)
    assert (found, words in said) == (status, True), said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["audit", "shapes", "convert", "translate", "verify", "locate"])
def test_no_command_imports_keras(command: str, tmp_path: Path) -> None:
    """A Keras beside us that fails when it is imported: nobody does."""
    trap = tmp_path / "trap"
    for name in ("keras", "tensorflow", "tf_keras", "torch", "jax"):
        (trap / name).mkdir(parents=True)
        (trap / name / "__init__.py").write_text("raise SystemExit('imported')\n")
    out = str(tmp_path / "out.onnx")
    more = {"convert": [out], "translate": [out], "verify": [FLAT], "locate": ["--pixel", "3,4"]}.get(
        command, []
    )
    code = (
        "import sys; from dense2conv import cli; status = cli.run(sys.argv[1:]); "
        "assert not {'keras', 'tensorflow', 'tf_keras', 'torch', 'jax'} & set(sys.modules); sys.exit(status)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, command, FLAT, *more],
        env={"PYTHONPATH": str(trap), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
