"""Every network of the references, run by its own map on overlapping patches: the inexact and the refused ones too.

Two oracles: the network itself in ONNX Runtime on crops that numpy cuts, and the framework that wrote the file.
"""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from dense2conv.convert.conversion import convert
from dense2conv.convert.model import Model
from dense2conv.convert.opening import open_model
from dense2conv.convert.verification import verify
from dense2conv.convert.writing import write_model

from . import test_keras_references as keras
from . import test_references as references

FILES = [*references.MODELS, *keras.RUNNING]


def opened(file: str) -> Model:
    if file in references.MODELS:
        return open_model(references.FOLDER / file)
    return keras.opened(file)


def row(file: str) -> dict[str, Any]:
    return references.MODELS.get(file) or keras.MODELS[file]


def order(file: str) -> str | None:
    return references.ORDERS.get(file)


def session(model: Model, path: Path) -> onnxruntime.InferenceSession:
    write_model(model, path, force=True)
    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def strides(patch: tuple[int, ...], natural: tuple[int, ...]) -> list[tuple[int, ...]]:
    """1, 3, S, P - 1, P, P + 3 and two that are uneven."""
    found = [tuple(s for _ in patch) for s in (1, 3)]
    found += [natural, *(tuple(max(1, p + n) for p in patch) for n in (-1, 0, 3))]
    found.append(tuple(s + 2 * (i == 0) for i, s in enumerate(natural)))
    found.append(tuple(p + 1 if i == 0 else 2 for i, p in enumerate(patch)))
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("file", FILES)
def test_patches_at_any_stride_are_the_network_on_every_crop(file: str, tmp_path: Path) -> None:
    model = opened(file)
    first = convert(model, order=order(file), method="patches")
    patch, axes = first.analysis.patch, first.analysis.spatial_axes
    original = session(model, tmp_path / "network.onnx")
    given = original.get_inputs()[0]
    free = not isinstance(given.shape[0], int)
    random = np.random.default_rng(3)
    kind = np.float16 if "16" in given.type else np.float32
    for stride in strides(patch, tuple(row(file)["S"])):
        conversion = convert(model, order=order(file), method="patches", stride=stride)
        assert (conversion.stride, conversion.exactness) == (stride, "exact")
        shape = [given.shape[a] if isinstance(given.shape[a], int) else 2 for a in range(len(given.shape))]
        counts = [3 - i for i in range(len(patch))]
        for i, a in enumerate(axes):
            shape[a] = patch[i] + stride[i] * (counts[i] - 1) + (stride[i] - 1) // (1 + i)
        image = random.standard_normal(shape).astype(kind)
        found = session(conversion.map, tmp_path / "map.onnx").run(None, {given.name: image})
        crops = []
        for place in product(*map(range, counts)):
            index = [slice(None)] * image.ndim
            for a, i, p, s in zip(axes, place, patch, stride, strict=True):
                index[a] = slice(i * s, i * s + p)
            crops.append(np.ascontiguousarray(image[tuple(index)]))
        batches = [np.concatenate(crops)] if free else crops
        runs = [original.run(None, {given.name: batch}) for batch in batches]
        for i, y in enumerate(found):
            # (positions * N, D) -> (*map, N, D) -> (N, *map, D)
            vectors = np.concatenate([r[i] for r in runs]).reshape(*counts, shape[0], -1)
            vectors = np.moveaxis(vectors, len(counts), 0)
            y = y if conversion.analysis.layout == "channels last" else np.moveaxis(y, 1, -1)
            assert references.difference(y, vectors) < (1e-2 if kind == np.float16 else 2e-6), stride


@pytest.mark.parametrize("file", FILES)
def test_patches_at_the_networks_own_stride_meet_the_frameworks_scan(file: str, tmp_path: Path) -> None:
    model, facts = opened(file), row(file)
    conversion = convert(model, order=order(file), method="patches", stride=facts["S"])
    running = session(conversion.map, tmp_path / "map.onnx")
    given = running.get_inputs()[0]
    if file in references.MODELS:
        image, limit = references.inputs(facts, "image_x", given), references.LIMITS[given.type]
        expected = references.answers(facts, "scan_y")
    else:
        image, limit = keras.answers(file, "image_x").astype(np.float32), keras.limit(file)
        expected = [keras.answers(file, "scan_y")]
    found = running.run(None, {given.name: image})
    assert len(found) == len(expected)
    for y, scan in zip(found, expected, strict=True):
        y = y if conversion.analysis.layout == "channels last" else np.moveaxis(y, 1, -1)
        assert references.difference(y, scan) < limit


@pytest.mark.parametrize(
    "file", [*references.REFUSED, *keras.INEXACT, "x10_fixed_batch1.onnx", "t17_half.onnx"]
)
def test_the_proof_passes_on_such_a_map(file: str) -> None:
    model = opened(file)
    patch = row(file)["patch"]
    stride = tuple(max(1, p // 2) for p in patch)
    conversion = convert(model, order=order(file), method="patches", stride=stride)
    report = verify(model, conversion.map, analysis=conversion.analysis)
    assert (report.verdict.value, report.stride) == ("equivalent", stride)
