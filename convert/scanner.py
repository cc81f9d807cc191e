"""A map as it is applied to tiles: what it reads and gives, axis by axis, and one tile run.

input    (N, C, *pixels), (N, *pixels, C) or (N, *pixels), as the network's own
outputs  (N, *features, *positions) or (N, *positions, *features), as the map's own
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from .analysis import EXACT
from .errors import FileError, RequestError
from .execute import Session
from .execute import Value as RuntimeValue
from .metadata import Metadata, read_metadata
from .model import Model
from .tiles import Reach, Span, Tile

Array = NDArray[Any]

_HINT = "run applies what dense2conv convert wrote: convert the patch network first"


@dataclass(frozen=True)
class Output:
    """An output of the map. ``axes`` are the axes of its positions, in the input's spatial order; ``features`` all
    other sizes behind the batch.
    """

    name: str
    dtype: "np.dtype[Any]"
    axes: tuple[int, ...]
    features: tuple[int, ...]

    def shape(self, samples: int, counts: Sequence[int]) -> tuple[int, ...]:
        """Its shape for ``samples`` samples with ``counts`` positions."""
        others = iter(self.features)
        place = dict(zip(self.axes, counts, strict=True))
        rank = len(self.axes) + len(self.features)
        return (samples, *(place[a] if a in place else next(others) for a in range(1, rank + 1)))

    def index(self, samples: slice, ranges: Sequence[slice]) -> tuple[slice, ...]:
        """Where the positions ``ranges`` of ``samples`` are."""
        place = dict(zip(self.axes, ranges, strict=True))
        rank = len(self.axes) + len(self.features)
        return (samples, *(place.get(axis, slice(None)) for axis in range(1, rank + 1)))


class Scanner:
    """A map that is loaded and understood. It can be pickled: another process loads it once.

    Raises ``FileError`` for a network that is no map, and as ``Session`` does.
    """

    def __init__(self, model: Model, provider: str = "cpu") -> None:
        self._model, self._provider = model, provider
        metadata = read_metadata(model.proto, model.path)
        if metadata is None:
            raise FileError(
                "this network is not a map: it has no metadata of one", file=model.path, hint=_HINT
            )
        self.metadata: Metadata = metadata
        self.session = Session(model, provider)
        self.input = self._only_input()
        self.dtype = np.dtype(self.input.dtype)
        self.spatial_axes = metadata.spatial_axes
        self.batch = self.input.shape[0]
        others = set(range(1, len(self.input.shape))) - set(self.spatial_axes)
        self.channel_axis = others.pop() if others else None
        self.channels = 1
        if self.channel_axis is not None:
            channels = self.input.shape[self.channel_axis]
            if channels is None:
                raise self._unfit(f"its channels, axis {self.channel_axis}, are free")
            self.channels = channels
        self.reaches = tuple(self._reach(i) for i in range(len(self.spatial_axes)))
        self.outputs = self._outputs()

    def __reduce__(self) -> tuple[Any, ...]:
        weights = {name: np.ascontiguousarray(array) for name, array in self._model.weights.items()}
        skeleton = self._model.proto.SerializeToString()
        return _restored, (skeleton, weights, self._model.path, self._provider)

    @property
    def proto(self) -> ModelProto:
        """The graph, without its large weights."""
        return self._model.proto

    def _only_input(self) -> RuntimeValue:
        inputs = self.session.inputs
        if len(inputs) != 1:
            raise self._unfit(f"it has {len(inputs)} inputs")
        rank, axes = len(inputs[0].shape), self.metadata.spatial_axes
        if rank not in (len(axes) + 1, len(axes) + 2) or max(axes) >= rank or list(axes) != sorted(axes):
            raise self._unfit(f"its input has {rank} axes, but its spatial axes are {list(axes)}")
        return inputs[0]

    def _unfit(self, reason: str) -> FileError:
        return FileError(
            f"the map is not what its metadata says: {reason}", file=self._model.path, hint=_HINT
        )

    def _reach(self, i: int) -> Reach:
        about = self.metadata
        fixed = self.input.shape[self.spatial_axes[i]]
        reach = Reach.of(
            patch=about.patch[i], stride=about.stride[i], field=about.receptive_field[i],
            exact=about.exactness == EXACT, fixed=fixed,
        )  # fmt: skip
        if fixed is not None and fixed < reach.patch:
            raise self._unfit(f"its input has {fixed} pixels, fewer than the patch of {reach.patch}")
        return reach

    def _outputs(self) -> tuple[Output, ...]:
        """Which axes of each output are positions, from two runs with different numbers of them."""
        tried = []
        for more in (0, 1):
            counts = [2 + i + more for i in range(len(self.reaches))]
            size = [
                r.fixed or r.patch + (n - 1) * r.stride for r, n in zip(self.reaches, counts, strict=True)
            ]
            found = self.session.run({self.input.name: np.zeros(self.shape(size), self.dtype)})
            held = [(h - r.patch) // r.stride + 1 for h, r in zip(size, self.reaches, strict=True)]
            tried.append((held, found))
        made = []
        for name, first in tried[0][1].items():
            places = self._places(first.ndim)
            fitting = [
                axes for axes in places
                if all([found[name].shape[a] for a in axes] == held for held, found in tried)
            ]  # fmt: skip
            if not fitting or not first.ndim or first.shape[0] != tried[1][1][name].shape[0]:
                held, found = tried[0]
                raise self._unfit(f"output {name!r} is {found[name].shape} for {held} positions")
            axes = fitting[0]
            features = tuple(n for a, n in enumerate(first.shape) if a and a not in axes)
            made.append(Output(name, first.dtype, axes, features))
        return tuple(made)

    def _places(self, ndim: int) -> list[tuple[int, ...]]:
        """Where positions may be: behind the features or in front of them, the metadata's layout first."""
        rank = len(self.reaches)
        if ndim < rank + 1:
            return []
        ends = [tuple(range(ndim - rank, ndim)), tuple(range(1, rank + 1))]
        return ends if self.metadata.layout == "channels first" else ends[::-1]

    def shape(self, size: Sequence[int], samples: int | None = None) -> tuple[int, ...]:
        """The input's shape for ``size`` pixels; ``samples`` default to the batch that the map takes, or one."""
        shape: list[int] = [samples or self.batch or 1, *[self.channels] * (len(self.input.shape) - 1)]
        for axis, pixels in zip(self.spatial_axes, size, strict=True):
            shape[axis] = pixels
        return tuple(shape)

    def run(self, block: Array, tile: Tile) -> dict[str, Array]:
        """The cores of all outputs by name, from the tile's pixels (N, ...) in the network's type."""
        samples = block.shape[0]
        wanted = self.batch or samples
        if samples < wanted:  # a batch of its own: it is filled up, and what is too many dropped
            block = np.concatenate([block, np.zeros((wanted - samples, *block.shape[1:]), block.dtype)])
        found = self.session.run({self.input.name: block})
        ranges = [slice(span.skip, span.skip + span.count) for span in tile]
        cores = {}
        for output in self.outputs:
            whole = found[output.name]
            core = whole[output.index(slice(0, samples), ranges)]
            if core.shape != output.shape(samples, [span.count for span in tile]):
                pixels = [span.end - span.start for span in tile]
                raise self._unfit(f"on {pixels} pixels its output {output.name!r} is {whole.shape}")
            cores[output.name] = core
        return cores

    def check_size(self, size: Sequence[int]) -> None:
        """Raise ``RequestError`` for an input on which there is no position, or on which tiles cannot be right."""
        for i, (pixels, reach) in enumerate(zip(size, self.reaches, strict=True)):
            if pixels < reach.patch:
                raise RequestError(
                    f"no position fits: the input is {_x(size)}, smaller than the patch {_x(self.metadata.patch)}",
                    hint="give a larger input; --axes says which of its axes is which",
                )
            if reach.fixed not in (None, pixels) and reach.before:
                raise RequestError(
                    f"this map has a border effect and takes {reach.fixed} pixels only on spatial axis {i}: the "
                    f"input's {pixels} cannot be cut into such tiles without the tiles' borders",
                    hint="convert it without --size, or with --method exact",
                )

    def cores(self, tile: Sequence[int], size: Sequence[int]) -> tuple[int, ...]:
        """The positions that a tile of ``tile`` pixels gives on each axis of an input of ``size``.

        A tile as large as the input gives all. Raises ``RequestError`` where there is no position.
        """
        if len(tile) != len(self.reaches):
            raise RequestError(f"--tile has {len(tile)} sizes, the map {len(self.reaches)} spatial axes")
        found = []
        for pixels, whole, reach in zip(tile, size, self.reaches, strict=True):
            if reach.fixed is not None:
                if pixels != reach.fixed:
                    raise RequestError(f"this map takes tiles of {reach.fixed} pixels only, not {pixels}")
                found.append((reach.fixed - reach.patch) // reach.stride + 1)
                continue
            core = reach.core(pixels)
            if reach.patch <= whole <= pixels:
                core = (whole - reach.patch) // reach.stride + 1
            if core < 1:
                what = f"the patch {_x(self.metadata.patch)}"
                if reach.before:
                    what = (
                        f"{_x([r.least for r in self.reaches])}, the patch and what the border effect reaches"
                    )
                raise RequestError(f"the tile {_x(tile)} is smaller than {what}", hint="give a larger --tile")
            found.append(core)
        return tuple(found)

    def sample_tile(self, cores: Sequence[int]) -> Tile:
        """A tile for a trial run, of a quarter of ``cores`` on each axis."""
        made = []
        for core, reach in zip(cores, self.reaches, strict=True):
            count = max(1, core // 4)
            size = reach.fixed or reach.patch + (count - 1) * reach.stride
            made.append(Span(0, (size - reach.patch) // reach.stride + 1, 0, size, 0))
        return tuple(made)

    def groups(self, samples: int) -> list[slice]:
        """The samples that are run together: as many as the map takes, else one."""
        step = self.batch or 1
        return [slice(first, min(first + step, samples)) for first in range(0, samples, step)]


def tile_indices(tile: Tile) -> list[slice]:
    """The positions of a tile's core, one slice a spatial axis."""
    return [slice(span.first, span.stop) for span in tile]


_loaded: dict[bytes, Scanner] = {}


def _restored(skeleton: bytes, weights: dict[str, Array], path: str, provider: str) -> Scanner:
    """The scanner of a pickle; loaded once a process, since loading costs more than a small tile."""
    digest = hashlib.sha256(skeleton)
    for name, array in sorted(weights.items()):
        digest.update(name.encode() + np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)
    key = digest.digest() + provider.encode()
    if key not in _loaded:
        _loaded[key] = Scanner(Model(ModelProto.FromString(skeleton), weights, path), provider)
    return _loaded[key]


def _x(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))
