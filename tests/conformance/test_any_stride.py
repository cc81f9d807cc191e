"""Maps at any stride against brute force, of the files that real frameworks exported and that are exact.

The oracle is the original network in plain ONNX Runtime, run on every crop. Where the stride is the network's own, the
framework's own answers are compared with elsewhere (test_references, test_keras_references).
"""

from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from dense2conv.convert.analysis import audit
from dense2conv.convert.conversion import convert
from dense2conv.convert.model import Model
from dense2conv.convert.opening import open_model
from dense2conv.convert.writing import write_model

from . import test_keras_references as keras
from . import test_references as exported

EXACT = [*exported.EXACT, *keras.EXACT]
LIMITS = {"tensor(float)": 1e-5, "tensor(float16)": 1e-2}


def opened(file: str) -> Model:
    return open_model(exported.FOLDER / file) if file in exported.MODELS else keras.opened(file)


def session(model: Model, path: Path) -> onnxruntime.InferenceSession:
    write_model(model, path)
    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Network:
    """The original network, run on crops of images."""

    def __init__(self, file: str, folder: Path) -> None:
        self.model, self.order = opened(file), exported.ORDERS.get(file)
        analysis = audit(self.model, order=self.order)
        self.patch, self.natural, self.axes = analysis.patch, analysis.stride, analysis.spatial_axes
        self.last = analysis.layout == "channels last"
        self.runtime = session(self.model, folder / "network.onnx")
        self.folder = folder

    def image(self, size: tuple[int, ...]) -> np.ndarray:
        given = self.runtime.get_inputs()[0]
        shape = [n if isinstance(n, int) else 1 for n in given.shape]
        for axis, pixels in zip(self.axes, size, strict=True):
            shape[axis] = pixels
        values = np.random.default_rng(6).standard_normal(shape)
        return values.astype(np.float16 if "16" in given.type else np.float32)

    def scan(self, image: np.ndarray, stride: tuple[int, ...]) -> list[np.ndarray]:
        """Return each output at every position, ``(*map, N, D)``."""
        counts = [
            (image.shape[a] - p) // s + 1 for a, p, s in zip(self.axes, self.patch, stride, strict=True)
        ]
        crops = []
        for place in product(*map(range, counts)):
            window = [slice(None)] * image.ndim
            for a, i, p, s in zip(self.axes, place, self.patch, stride, strict=True):
                window[a] = slice(i * s, i * s + p)
            crops.append(image[tuple(window)])
        given = self.runtime.get_inputs()[0]
        together = 1 if isinstance(given.shape[0], int) else 256
        runs = []
        for i in range(0, len(crops), together):
            runs.append(self.runtime.run(None, {given.name: np.concatenate(crops[i : i + together])}))
        joined = [np.concatenate(parts) for parts in zip(*runs, strict=True)]
        return [y.reshape(*counts, len(image), -1) for y in joined]

    def map(self, image: np.ndarray, stride: tuple[int, ...]) -> list[np.ndarray]:
        """Return the map's outputs, ``(*map, N, D)``."""
        conversion = convert(self.model, order=self.order, stride=stride)
        assert (conversion.exactness, conversion.stride) == ("exact", stride)
        runtime = session(conversion.map, self.folder / f"map_{'x'.join(map(str, stride))}.onnx")
        found = runtime.run(None, {runtime.get_inputs()[0].name: image})
        rank, laid = len(self.patch), []
        for y in found:
            first = 1 if self.last else y.ndim - rank
            y = np.moveaxis(y, list(range(first, first + rank)), list(range(rank)))
            laid.append(y.reshape(*y.shape[: rank + 1], prod(y.shape[rank + 1 :])))
        return laid

    def assert_same(self, found: list[np.ndarray], expected: list[np.ndarray], stride: Any) -> None:
        limit = LIMITS[self.runtime.get_inputs()[0].type]
        assert len(found) == len(expected)
        for y, scan in zip(found, expected, strict=True):
            assert y.shape == scan.shape, f"{stride}: {y.shape} is not {scan.shape}"
            largest = np.abs(scan.astype(np.float64)).max()
            assert scan.min() != scan.max()
            assert np.abs(y.astype(np.float64) - scan).max() < limit * largest, stride


@pytest.mark.parametrize("file", EXACT)
def test_the_map_at_any_stride_equals_the_network_on_every_crop(file: str, tmp_path: Path) -> None:
    network = Network(file, tmp_path)
    rank, largest = len(network.patch), max(network.natural) + 2
    ones = (1,) * rank
    # Two steps of the largest stride on the first axis, one and a rest on the others.
    size = tuple(p + (2 * largest + 1 if i == 0 else largest + 2) for i, p in enumerate(network.patch))
    image = network.image(size)
    every = network.scan(image, ones)
    strides = [(s,) * rank for s in range(1, largest + 1)]
    if rank > 1:
        strides += [tuple((s, t)[i % 2] for i in range(rank)) for s, t in ((1, 3), (largest, 1), (3, 4))]
    for stride in strides:
        steps = tuple(slice(None, None, s) for s in stride)
        network.assert_same(network.map(image, stride), [y[steps] for y in every], stride)


@pytest.mark.parametrize("file", EXACT)
def test_strides_of_twice_the_networks_own_and_of_the_patch(file: str, tmp_path: Path) -> None:
    network = Network(file, tmp_path)
    for stride in (tuple(2 * s for s in network.natural), network.patch):
        rest = [s // 2 for s in stride]
        size = [
            p + (2 if i == 0 else 1) * s for i, (p, s) in enumerate(zip(network.patch, stride, strict=True))
        ]
        image = network.image(tuple(n + r for n, r in zip(size, rest, strict=True)))
        network.assert_same(network.map(image, stride), network.scan(image, stride), stride)
