"""Files that real Keras wrote (1.2 and 2.3 on Theano, 2.15, 3.15): opened without Keras, they give its own answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from dense2conv.convert.conversion import convert
from dense2conv.convert.errors import FileError
from dense2conv.convert.model import Model
from dense2conv.convert.networks import open_network
from dense2conv.convert.writing import write_model

FOLDER = Path(__file__).parents[2] / "fixtures" / "references"
MODELS: dict[str, dict[str, Any]] = {
    row["file"]: row
    for row in json.loads((FOLDER / "MANIFEST.json").read_text())["models"]
    if not row["file"].endswith(".onnx")
}
REFUSED = [file for file, row in MODELS.items() if row.get("expected") == "refuse"]
RUNNING = [file for file in MODELS if file not in REFUSED]
INEXACT = [file for file in RUNNING if MODELS[file].get("expected") == "not exact"]
EXACT = [file for file in RUNNING if not MODELS[file]["padded"] and file not in INEXACT]
PADDED = [file for file in RUNNING if MODELS[file]["padded"]]
THEANO = [file for file in RUNNING if "theano" in MODELS[file]["framework"]]


def opened(file: str, **options: Any) -> Model:
    config = MODELS[file].get("config")
    return open_network(FOLDER / file, config=config and FOLDER / config, **options)


def answers(file: str, key: str) -> np.ndarray:
    with np.load(FOLDER / MODELS[file]["npz"]) as arrays:
        return arrays[key]


def run(model: Model, file: str, key: str, path: Path) -> np.ndarray:
    """The model's output for the framework's input ``key``, channels last."""
    write_model(model, path)
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: answers(file, key).astype(np.float32)})
    return np.moveaxis(result, 1, -1) if MODELS[file]["layout"].startswith("NC") else result


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference over the largest absolute value expected."""
    assert found.shape == expected.shape
    return float(np.abs(found.astype(np.float64) - expected).max() / np.abs(expected).max())


def limit(file: str) -> float:
    return 1e-2 if "mixed" in file else 1e-5


def test_every_kind_of_file_is_among_them() -> None:
    versions = {row["version"] for row in MODELS.values()}
    assert versions == {"1.2.2", "2.3.1", "2.15.1", "3.15.1"}
    assert (len(EXACT), len(PADDED), len(INEXACT), len(REFUSED)) == (37, 14, 1, 4)


@pytest.mark.parametrize("file", RUNNING)
def test_the_translation_meets_the_frameworks_answers(file: str, tmp_path: Path) -> None:
    found = run(opened(file), file, "patch_x", tmp_path / "plain.onnx")
    assert difference(found, answers(file, "patch_y")) < limit(file)


@pytest.mark.parametrize("file", EXACT)
def test_an_exact_map_meets_them_for_every_crop(file: str, tmp_path: Path) -> None:
    conversion = convert(opened(file))
    assert conversion.exactness == "exact"
    assert conversion.analysis.patch == tuple(MODELS[file]["patch"])
    assert conversion.stride == tuple(MODELS[file]["S"])
    found = run(conversion.map, file, "image_x", tmp_path / "map.onnx")
    assert difference(found, answers(file, "scan_y")) < limit(file)


@pytest.mark.parametrize("file", PADDED)
def test_a_padded_map_has_a_border_effect_and_is_right_on_the_patch(file: str, tmp_path: Path) -> None:
    conversion = convert(opened(file))
    assert conversion.exactness == "border effect"
    found = run(conversion.map, file, "patch_x", tmp_path / "map.onnx")
    expected = answers(file, "patch_y")
    assert difference(found.reshape(expected.shape), expected) < limit(file)


@pytest.mark.parametrize("file", INEXACT)
def test_what_mixes_the_whole_patch_is_no_convolution(file: str) -> None:
    with pytest.raises(FileError, match="not convertible as a convolution"):
        convert(opened(file))


@pytest.mark.parametrize("file", REFUSED)
def test_python_code_is_refused_by_the_layers_name(file: str) -> None:
    with pytest.raises(FileError, match="Lambda is not supported") as refused:
        opened(file)
    assert refused.value.layer == "lambda"
    assert refused.value.file == str(FOLDER / file)


@pytest.mark.parametrize("file", THEANO)
def test_theanos_kernels_are_flipped_and_would_be_wrong_otherwise(file: str, tmp_path: Path) -> None:
    """Silently wrong: the outputs are plausible, and 3e-3 to 5e-1 off."""
    found = run(opened(file, flip=False), file, "patch_x", tmp_path / "unflipped.onnx")
    assert difference(found, answers(file, "patch_y")) > 1e-3
