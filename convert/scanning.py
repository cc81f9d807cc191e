"""A map applied to an input of any size, tile by tile: ``scan`` for arrays, ``Plan`` for whoever writes files.

What is in memory at a time is one tile, what the network computes on it, and its outputs. The result is that of one
pass up to rounding: on another size ONNX Runtime may block its sums otherwise.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper, shape_inference

from .errors import RequestError
from .mapped import let_go
from .model import Model
from .pixels import Pixels, Scaling, Source
from .scanner import Output, Scanner, tile_indices
from .tiles import Tile, Tiling

Array = NDArray[Any]
Progress = Callable[[int, int], None]
"""Told after each tile how many are done, and of how many."""

# Bytes of all layers' outputs on one tile; the runtime takes two to four times as much. A tile beyond the first is no
# faster, unless most of its pixels are its neighbours' too: then it may have up to the second.
_ENOUGH = 64 << 20
_MOST = 1 << 30
_SHARE = 8  # of the memory that could be had, one part in so many
_ROOM = 4  # times the pixels of one position: then little is read twice
_LARGEST = {1: 1 << 20, 2: 1 << 12, 3: 1 << 9}  # pixels a side, by the number of spatial axes
_UNKNOWN = 1 << 10  # bytes a pixel, where the shapes of a graph are not to be had


@dataclass(frozen=True)
class Estimate:
    """What a scan will take: ``seconds`` of one process, from a small tile that was run, and the outputs' ``bytes``."""

    seconds: float
    bytes: int


class Plan:
    """How ``pixels`` go through ``scanner``: in which tiles.

    ``tile``: the pixels of a tile on each axis; default what memory allows. Raises ``RequestError`` where no position
    fits the input, or none fits the tile.
    """

    def __init__(self, scanner: Scanner, pixels: Pixels, tile: Sequence[int] | None = None) -> None:
        self.scanner, self.pixels = scanner, pixels
        scanner.check_size(pixels.size)
        self.cores = default_cores(scanner, pixels.size) if tile is None else scanner.cores(tile, pixels.size)
        self.tiling = Tiling.over(pixels.size, scanner.reaches, self.cores)
        self.groups = scanner.groups(pixels.shape[0])

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return self.pixels.shape[0]

    @property
    def steps(self) -> int:
        """How many times the map is run."""
        return self.tiling.count * len(self.groups)

    def shape(self, output: Output) -> tuple[int, ...]:
        """The shape of an output of the whole input, without samples where the input has none."""
        shape = output.shape(self.samples, self.tiling.counts)
        return shape[1:] if self.pixels.single else shape

    def chunks(self, output: Output) -> tuple[int, ...]:
        """The part of an output that one tile gives: what a file is best cut into."""
        counts = [min(core, n) for core, n in zip(self.cores, self.tiling.counts, strict=True)]
        shape = output.shape(self.scanner.batch or 1, counts)
        return shape[1:] if self.pixels.single else shape

    def estimate(self) -> Estimate:
        """Run a small tile twice, and say what all of them take."""
        tile = self.scanner.sample_tile(self.cores)
        block = np.zeros(self.scanner.shape([span.end for span in tile]), self.scanner.dtype)
        took = []
        for _ in range(2):
            start = time.perf_counter()
            self.scanner.run(block, tile)
            took.append(time.perf_counter() - start)
        pixels = self.tiling.pixels * len(self.groups)
        size = sum(prod(self.shape(o)) * o.dtype.itemsize for o in self.scanner.outputs)
        return Estimate(min(took) * pixels / prod(span.end for span in tile), size)

    def index(self, output: Output, group: slice, tile: Tile) -> tuple[slice, ...]:
        """Where a tile's core belongs in an array of ``shape(output)``."""
        index = output.index(group, tile_indices(tile))
        return index[1:] if self.pixels.single else index

    def placed(
        self, cores: Mapping[str, Array], group: slice, tile: Tile
    ) -> Iterator[tuple[str, tuple[slice, ...], Array]]:
        """A tile's cores by output name, with where they belong."""
        for output in self.scanner.outputs:
            core = cores[output.name]
            yield output.name, self.index(output, group, tile), core[0] if self.pixels.single else core

    def run(self, targets: Mapping[str, Any], progress: Progress | None = None) -> None:
        """Fill ``targets``, an array or the like by output name, each of ``shape(output)``.

        Pages of mapped files are let go of after each tile.
        """
        done = 0
        for group in self.groups:
            for tile in self.tiling:
                cores = self.scanner.run(self.pixels.block(group, tile), tile)
                for name, index, core in self.placed(cores, group, tile):
                    targets[name][index] = core
                for array in (self.pixels.source, *targets.values()):
                    let_go(array)
                done += 1
                if progress is not None:
                    progress(done, self.steps)


def default_cores(scanner: Scanner, size: Sequence[int]) -> tuple[int, ...]:
    """The positions of a tile that memory allows, on each axis; never more than the input has."""
    most = min(_MOST, _free_memory() // _SHARE)
    side = _LARGEST[len(size)]
    while True:
        cores = []
        for pixels, reach in zip(size, scanner.reaches, strict=True):
            if reach.fixed is not None:
                cores.append((reach.fixed - reach.patch) // reach.stride + 1)
                continue
            whole = (pixels - reach.patch) // reach.stride + 1
            cores.append(max(1, min(whole, reach.core(side))))
        extents = [
            r.fixed or min(h, r.pixels(core)) for h, r, core in zip(size, scanner.reaches, cores, strict=True)
        ]
        roomy = any(
            r.fixed is None and e >= _ROOM * r.least for e, r in zip(extents, scanner.reaches, strict=True)
        )
        allowed = min(_ENOUGH, most) if roomy else most
        if side < 2 or all(core == 1 for core in cores) or layer_bytes(scanner, extents) <= allowed:
            return tuple(cores)
        side //= 2


def layer_bytes(scanner: Scanner, size: Sequence[int]) -> int:
    """The bytes of all layers' outputs on an input of ``size`` pixels: more than are in memory at a time."""
    proto = ModelProto()
    proto.CopyFrom(scanner.proto)
    shape = scanner.shape(size)
    for info in proto.graph.input:
        if info.name == scanner.input.name:
            info.CopyFrom(
                helper.make_tensor_value_info(info.name, info.type.tensor_type.elem_type, list(shape))
            )
    outputs = [helper.make_empty_tensor_value_info(o.name) for o in proto.graph.output]
    del proto.graph.output[:], proto.graph.value_info[:]
    proto.graph.output.extend(outputs)
    known: dict[str, int] = {}
    try:
        graph = shape_inference.infer_shapes(proto).graph
        for info in (*graph.value_info, *graph.output):
            tensor = info.type.tensor_type
            if tensor.elem_type and all(d.HasField("dim_value") for d in tensor.shape.dim):
                kind = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
                known[info.name] = prod(d.dim_value for d in tensor.shape.dim) * kind.itemsize
    except Exception:  # whatever inference says of it, ONNX Runtime has loaded it
        known = {}
    total = sum(known.values())
    if any(name not in known for node in proto.graph.node for name in node.output if name):
        return max(total, _UNKNOWN * prod(shape))
    return total


def _free_memory() -> int:
    """Bytes that could be had now, by Linux's own estimate; where there is none, as many as are ever wanted."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return _SHARE * _MOST


def load(model: Any, provider: str = "cpu") -> Scanner:
    """A scanner of a map: a ``Model``, a ``Conversion`` or the path of a file."""
    if isinstance(model, Scanner):
        return model
    if isinstance(model, (str, os.PathLike)):
        from .opening import open_model

        model = open_model(model)
    found = getattr(model, "map", model)
    if not isinstance(found, Model):
        raise RequestError(f"a map is a path, a Model or a Conversion, not {type(model).__name__}")
    return Scanner(found, provider)


def scan(
    array: Source,
    model: Any,
    *,
    tile: Sequence[int] | None = None,
    axes: str | None = None,
    scale: float | Sequence[float] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    provider: str = "cpu",
    progress: Progress | None = None,
) -> Any:
    """Apply a map to ``array`` in overlapping tiles; the outputs as one array, or by name where there are several.

    ``array``: numpy (also mapped), Zarr, or dask; a dask array gives dask arrays, on which nothing is computed yet.
    ``model``: a map as a path, a ``Model`` or a ``Conversion``. ``axes``: the array's, such as HWC or NCHW; default the
    network's own, without N for a single sample. ``(x * scale - mean) / std`` with one number or one a channel is what
    the network gets; integer pixels need one of them said. ``tile``: pixels of a tile.

    Raises ``RequestError`` where no position fits, or tile, axes, channels or numbers do not; ``FileError`` for a
    network that is no map.
    """
    scanner = load(model, provider)
    scaling = Scaling(_numbers(scale), _numbers(mean), _numbers(std))
    plan = Plan(scanner, Pixels(array, scanner, axes, scaling), tile)
    made: dict[str, Any]
    if type(array).__module__.partition(".")[0] == "dask":
        from .clusters import lazily

        made = lazily(plan)
    else:
        made = {output.name: np.empty(plan.shape(output), output.dtype) for output in scanner.outputs}
        plan.run(made, progress)
    return next(iter(made.values())) if len(made) == 1 else made


def _numbers(value: float | Sequence[float] | None) -> tuple[float, ...] | None:
    if value is None:
        return None
    return (float(value),) if isinstance(value, (int, float)) else tuple(map(float, value))
