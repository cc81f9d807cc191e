"""Models that real frameworks exported: every map meets the framework's own answers for every crop.

The oracle is the framework (PyTorch, TensorFlow, Keras); ONNX Runtime runs the map without any code of ours.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from dense2conv.convert.analysis import audit
from dense2conv.convert.conversion import convert
from dense2conv.convert.errors import FileError, RequestError
from dense2conv.convert.opening import open_model
from dense2conv.convert.verification import verify
from dense2conv.convert.writing import write_model

FOLDER = Path(__file__).parents[2] / "fixtures" / "references"
MODELS: dict[str, dict[str, Any]] = {
    row["file"]: row
    for row in json.loads((FOLDER / "MANIFEST.json").read_text())["models"]
    if row["file"].endswith(".onnx")
}
# Networks of dense layers only: no layer tells rows, columns and channels apart.
ORDERS = {"t12_dense_only.onnx": "CHW", "t12_dense_only_dynamo.onnx": "CHW", "x12_dense_only.onnx": "HWC"}
EXACT = [f for f, row in MODELS.items() if not row["padded"] and "expected" not in row]
PADDED = [f for f, row in MODELS.items() if row["padded"] and "expected" not in row]
REFUSED = [f for f, row in MODELS.items() if "expected" in row]
# Largest difference over the largest absolute value of scan_y.
LIMITS = {"tensor(float)": 1e-4, "tensor(float16)": 1e-2}


def answers(row: dict[str, Any], key: str) -> list[np.ndarray]:
    """Return ``key`` of the framework's answers, one array an output, channels last."""
    arrays = np.load(FOLDER / row["npz"])
    return [arrays[k] for k in (key, f"{key}_1") if k in arrays]


def inputs(row: dict[str, Any], key: str, like: Any) -> np.ndarray:
    """Return the framework's input in the exported file's layout and type."""
    array = np.load(FOLDER / row["npz"])[key]
    if row.get("onnx_layout", "same") != "same":
        array = np.moveaxis(array, -1, 1)
    return np.ascontiguousarray(array.astype(np.float16 if "16" in like.type else np.float32))


def run(path: Path, row: dict[str, Any], key: str, channels_last: bool) -> tuple[list[np.ndarray], float]:
    """Run a file on the framework's input; return channels-last outputs and the limit for its type."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    outputs = session.run(None, {given.name: inputs(row, key, given)})
    return [y if channels_last else np.moveaxis(y, 1, -1) for y in outputs], LIMITS[given.type]


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference over the largest absolute value expected."""
    assert found.shape == expected.shape
    return float(np.abs(found.astype(np.float64) - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("file", EXACT)
def test_an_exact_map_meets_the_frameworks_answer_for_every_crop(file: str, tmp_path: Path) -> None:
    row = MODELS[file]
    conversion = convert(open_model(FOLDER / file), order=ORDERS.get(file))
    analysis = conversion.analysis
    assert analysis.exactness == "exact"
    assert analysis.patch == tuple(row["patch"])
    assert conversion.stride == tuple(row["S"])
    out = tmp_path / "map.onnx"
    write_model(conversion.map, out)
    onnx.checker.check_model(str(out), full_check=True)
    left = {n.op_type for n in conversion.map.proto.graph.node}
    assert not left & {"Flatten", "Reshape", "Gemm", "MatMul", "Shape"}
    found, limit = run(out, row, "image_x", analysis.layout == "channels last")
    expected = answers(row, "scan_y")
    assert len(found) == len(expected)
    for y, scan in zip(found, expected, strict=True):
        assert difference(y, scan) < limit


@pytest.mark.parametrize("file", EXACT)
def test_an_exact_map_with_fixed_sizes_and_twice_the_stride(file: str, tmp_path: Path) -> None:
    row = MODELS[file]
    stride = [2 * s for s in row["S"]]
    conversion = convert(
        open_model(FOLDER / file), order=ORDERS.get(file), stride=stride, size=row["image"], batch=1
    )
    out = tmp_path / "map.onnx"
    write_model(conversion.map, out)
    found, limit = run(out, row, "image_x", conversion.analysis.layout == "channels last")
    every_second = (slice(None), *(slice(None, None, 2) for _ in stride))
    for y, scan in zip(found, answers(row, "scan_y"), strict=True):
        assert difference(y, scan[every_second]) < limit


@pytest.mark.parametrize("file", PADDED)
def test_a_padded_network_has_a_border_effect_and_is_right_on_the_patch(file: str, tmp_path: Path) -> None:
    row = MODELS[file]
    model = open_model(FOLDER / file)
    conversion = convert(model)
    assert conversion.exactness == "border effect"
    assert conversion.analysis.border
    out = tmp_path / "map.onnx"
    write_model(conversion.map, out)
    found, limit = run(out, row, "patch_x", conversion.analysis.layout == "channels last")
    for y, expected in zip(found, answers(row, "patch_y"), strict=True):
        assert difference(y.reshape(expected.shape), expected) < limit
    report = verify(model, conversion.map, analysis=conversion.analysis)
    assert (report.verdict.value, report.accepted) == ("border effect", False)


@pytest.mark.parametrize("file", REFUSED)
def test_a_network_that_mixes_the_whole_patch_is_refused_by_the_layers_name(file: str) -> None:
    model = open_model(FOLDER / file)
    analysis = audit(model)
    assert analysis.exactness == "not convertible"
    with pytest.raises(FileError) as refused:
        convert(model)
    assert refused.value.layer == analysis.refusals[0].name
    assert "patch" in refused.value.message


@pytest.mark.parametrize("file", ORDERS)
def test_dense_layers_alone_need_the_order(file: str) -> None:
    with pytest.raises(RequestError, match="cannot tell rows, columns and channels apart"):
        audit(open_model(FOLDER / file))


@pytest.mark.parametrize("file", MODELS)
def test_patches_run_the_network_itself_on_every_patch(file: str, tmp_path: Path) -> None:
    """Bit for bit what the file gives on the same patches as one batch, whether it pads or mixes the patch."""
    row = MODELS[file]
    conversion = convert(open_model(FOLDER / file), order=ORDERS.get(file), method="patches", stride="patch")
    out = tmp_path / "map.onnx"
    write_model(conversion.map, out)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    image = inputs(row, "image_x", given)
    found = session.run(None, {given.name: image})
    patch, axes = conversion.analysis.patch, conversion.analysis.spatial_axes
    counts = [image.shape[a] // p for a, p in zip(axes, patch, strict=True)]
    crops = []
    for place in np.ndindex(*counts):
        index = [slice(None)] * image.ndim
        for a, i, p in zip(axes, place, patch, strict=True):
            index[a] = slice(i * p, (i + 1) * p)
        crops.append(image[tuple(index)])
    original = onnxruntime.InferenceSession(FOLDER / file, providers=["CPUExecutionProvider"])
    free = not isinstance(original.get_inputs()[0].shape[0], int)
    batches = [np.concatenate(crops)] if free else crops
    runs = [original.run(None, {given.name: np.ascontiguousarray(b)}) for b in batches]
    for i, y in enumerate(found):
        vectors = np.concatenate([r[i] for r in runs])
        y = y if conversion.analysis.layout == "channels last" else np.moveaxis(y, 1, -1)
        y = y.reshape(vectors.shape)
        if free:
            np.testing.assert_array_equal(y, vectors)
        else:  # another batch size may choose another kernel of the runtime's
            assert difference(y, vectors) < 1e-6
