"""``convert IN.h5 OUT.keras`` and ``OUT.h5``: the map as a Keras network again."""

import json
import zipfile
from pathlib import Path

import h5py
import pytest

from dense2conv import cli

FOLDER = Path(__file__).parents[2] / "fixtures" / "references"
FLAT = FOLDER / "k3_valid_flat.keras"
FLAT_OUTPUTS = FOLDER / "k3_valid_flat.npz"
PADDED = FOLDER / "k2_same_bn.h5"


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    status = cli.run([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.mark.parametrize("name", ["map.keras", "map.h5", "map.HDF5"])
def test_the_map_is_proven_from_its_file_and_held_against_keras(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / name
    status, table, said = run(capsys, "convert", FLAT, out, "--expected", FLAT_OUTPUTS)
    assert status == 0
    assert "dense 160 -> 12 is a convolution with kernel 4x4" in table
    assert "windows: equivalent" in said
    assert said.count("framework: equivalent: checked against the framework's outputs") == 2
    assert f"wrote {out}: one vector every 4x4 pixels" in said
    assert zipfile.is_zipfile(out) if name.endswith(".keras") else h5py.is_hdf5(out)
    status, _, said = run(capsys, "verify", FLAT, out, "--stride", "4")
    assert status == 0, said


def test_the_result_is_told_as_that_of_an_onnx_map(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    documents = []
    for name in ("map.keras", "map.onnx"):
        status, text, _ = run(capsys, "convert", FLAT, tmp_path / name, "--format", "json")
        assert status == 0
        documents.append(json.loads(text))
    assert documents[0].keys() == documents[1].keys()
    assert documents[0]["verify"]["verdict"] == documents[1]["verify"]["verdict"] == "equivalent"
    assert documents[0]["layers"] == documents[1]["layers"]


def test_a_border_effect_is_said_and_the_exact_way_is_onnx(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, _, said = run(capsys, "convert", PADDED, tmp_path / "map.h5")
    assert status == 0
    assert "verdict: BORDER EFFECT" in said
    assert f"exact instead: dense2conv convert {PADDED} {tmp_path / 'map.onnx'} --method exact" in said


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([PADDED, "map.keras", "--strict"], 1, "--strict asks for it"),
        ([PADDED, "map.keras", "--method", "exact"], 2, "no --method patches"),
        ([FLAT, "map.keras", "--stride", "6"], 2, "must be a multiple of the network's own, 4x4"),
        ([FOLDER / "t01_valid_ts.onnx", "map.keras"], 2, "only where the network was one"),
        ([FOLDER / "k3_groupnorm.keras", "map.keras"], 3, "statistics of the whole patch"),
        ([FOLDER / "k2_lambda.h5", "map.h5"], 3, "lambda: the layer Lambda is not supported"),
    ],
)
def test_refusals_write_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    arguments: list[str], status: int, words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    found, _, said = run(capsys, "convert", *arguments)
    assert (found, words in said) == (status, True), said
    assert not list(tmp_path.iterdir())


def test_an_old_file_is_replaced_only_on_request(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "map.keras"
    out.write_bytes(b"old")
    assert run(capsys, "convert", FLAT, out)[0] == 2
    assert out.read_bytes() == b"old"
    assert run(capsys, "convert", FLAT, out, "--force", "--no-verify")[0] == 0
    assert zipfile.is_zipfile(out)
