"""Keras maps opened by Keras itself, on jax: what it computes with them is what it computes on every crop."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from dense2conv.convert.conversion import convert
from dense2conv.convert.keras.scanning.maps import write_keras_map
from dense2conv.convert.networks import open_network
from dense2conv.convert.writing import write_model

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("ignore")]
os.environ.setdefault("KERAS_BACKEND", "jax")

FOLDER = Path(__file__).parents[2] / "fixtures" / "references"
ROWS = {
    row["file"]: row
    for row in json.loads((FOLDER / "MANIFEST.json").read_text())["models"]
    if row["file"].startswith("k") and "expected" not in row
}
ENDINGS = (".h5", ".keras")
SEEDS = range(40)
TOLERANCE = 1e-5
RANDOM_TOLERANCE = 1e-4  # normalisation over a few channels that are nearly alike makes rounding larger


@pytest.fixture(scope="module")
def keras() -> Any:
    return pytest.importorskip("keras", reason="pip install -e '.[keras]'")


def computed(keras: Any, path: Path, given: np.ndarray) -> list[np.ndarray]:
    """What Keras computes with the model in ``path``."""
    result = keras.saving.load_model(path, compile=False)(given.astype(np.float32))
    return [np.asarray(y) for y in (result if isinstance(result, (list, tuple)) else [result])]


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    scale = np.abs(expected).max()
    return float(np.abs(found.astype(np.float64) - expected).max() / (scale or 1.0))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", ROWS)
def test_keras_computes_the_references_with_their_maps(
    name: str, ending: str, keras: Any, tmp_path: Path
) -> None:
    row = ROWS[name]
    given = {"config": str(FOLDER / row["config"]) if row.get("config") else None}
    conversion = convert(open_network(FOLDER / name, **given), order="HWC" if "dense_only" in name else None)
    out = tmp_path / f"map{ending}"
    write_keras_map(str(FOLDER / name), str(out), conversion, None, keras=given)
    arrays = np.load(FOLDER / row["npz"])
    x, y = ("patch_x", "patch_y") if row["padded"] else ("image_x", "scan_y")
    (found,) = computed(keras, out, arrays[x])
    if row["layout"].startswith("NC"):
        found = np.moveaxis(found, 1, -1)
    expected = arrays[y]
    assert difference(found.reshape(expected.shape) if row["padded"] else found, expected) < (
        1e-2 if "mixed" in name else TOLERANCE
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_keras_computes_with_the_map_what_it_computes_on_crops(seed: int, keras: Any, tmp_path: Path) -> None:
    """From and to both formats. Where the network pads, the ONNX map says what the inner positions are."""
    from . import keras_patch_networks

    made = keras_patch_networks.network(seed)
    source, out = (
        tmp_path / f"{what}{ENDINGS[bit % 2]}" for what, bit in (("patch", seed), ("map", seed // 2))
    )
    made.model.save(source)
    conversion = convert(open_network(source))
    write_keras_map(str(source), str(out), conversion, None, keras={})
    rng = np.random.default_rng(seed)
    size = [p + 2 * s + int(rng.integers(3)) for p, s in zip(made.patch, conversion.stride, strict=True)]
    channels = made.model.input_shape[1 if made.first else -1]
    image = rng.standard_normal([2, channels, *size] if made.first else [2, *size, channels]).astype(
        np.float32
    )
    found = computed(keras, out, image)
    write_model(conversion.map, tmp_path / "map.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "map.onnx", providers=["CPUExecutionProvider"])
    for ours, theirs in zip(found, session.run(None, {session.get_inputs()[0].name: image}), strict=True):
        assert difference(ours, theirs) < RANDOM_TOLERANCE
    if conversion.exactness != "exact":
        return
    lead = (slice(None),) * (2 if made.first else 1)  # the batch, and the channels in front
    for place in (tuple(0 for _ in size), tuple(2 for _ in size), tuple(i % 3 for i in range(len(size)))):
        starts = [i * s for i, s in zip(place, conversion.stride, strict=True)]
        crop = image[(*lead, *(slice(a, a + p) for a, p in zip(starts, made.patch, strict=True)))]
        for ours, theirs in zip(found, computed(keras, source, crop), strict=True):
            assert difference(ours[(*lead, *place)], theirs) < RANDOM_TOLERANCE
