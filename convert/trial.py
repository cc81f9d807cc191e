"""Both networks side by side, fed alike.

The candidate runs once on an input. The reference runs on each of its crops, as many at a time as its batch axis
takes, and every answer is compared with the map at that position.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import crops
from .arranging import arranged, in_batches
from .compare import Comparison, Tolerance, Verdict, compare
from .errors import FileError, MachineError, RequestError
from .evidence import Check, Place, described, overall
from .execute import Session
from .model import Model
from .sensitivity import coarsest, disturbed, tolerances

Array = NDArray[Any]

_CHEAP = 1 << 18  # elements of all patches together that cost nothing
_SMALL = 1 << 16  # elements of a patch up to which more positions cost nothing
_LARGE = 1 << 20  # elements of a patch from which two samples cost too much
_MOST_ELEMENTS = 1 << 28  # of the larger input: 1 GiB of float32
_MOST_CROPPED = 1 << 26  # elements of all crops together, where nobody asked for that size
_FLOATS = ("float16", "float32", "float64")  # of a class number nobody can say how near it is to another
_AT_ONCE = 1 << 21  # elements of the crops of one run
_GAINS = (
    1.0,
    8.0,
    64.0,
)  # how large the random inputs are: a larger one wakes units that a bias puts to sleep


@dataclass
class Trial:
    """Both networks side by side, and what it takes to feed them alike."""

    model: Model
    ours: Session
    theirs: Session
    axes: tuple[int, ...]
    patch: tuple[int, ...]
    channels_first: bool
    seed: int
    is_map: bool = True  # the candidate says so; else it may be a patch network itself, without positions
    asked: Tolerance | None = (
        None  # what the caller allows; else what the network itself makes of a disturbance
    )

    def __post_init__(self) -> None:
        self.input, self.other = self.ours.inputs[0], self.theirs.inputs[0]
        self.batch = self.input.shape[0]
        shape = list(self.input.shape)
        for axis, pixels in zip(self.axes, self.patch, strict=True):
            shape[axis] = pixels
        for axis, other in enumerate(self.other.shape):
            if axis and axis not in self.axes:
                shape[axis] = shape[axis] or other
                if shape[axis] is None:
                    raise FileError(f"axis {axis} of the input must have a size", file=self.model.path)
        self.shape = [n or 1 for n in shape]
        self.elements = prod(self.shape[1:])
        self.coarsest = coarsest(self.model, [v.dtype for v in (self.input, *self.ours.outputs)])
        self.kinds = {v.name: v.dtype for v in self.ours.outputs}
        self.gain = self._probe()

    def _probe(self) -> float:
        """The first gain at which every output of the reference changes with its input, or the smallest.

        Also finds out whether a batch that the interface leaves free is baked in behind it.
        """
        for gain in _GAINS:
            samples = self._noise(2 if self.elements > _LARGE else 4, self.patch, gain)
            if self.batch is None:
                try:
                    self.ours.run({self.input.name: samples})
                except FileError:
                    self.batch = 1
            results = in_batches(self.ours, samples, self.batch)
            figures = {}
            for name, result in results.items():
                figures[name] = compare(result, result)
            if all(f.verdict is Verdict.EQUIVALENT for f in figures.values()):
                return gain
        return _GAINS[0]

    def _noise(self, samples: int, size: Sequence[int], gain: float) -> Array:
        shape = [samples, *self.shape[1:]]
        for axis, pixels in zip(self.axes, size, strict=True):
            shape[axis] = pixels
        generator = np.random.default_rng([self.seed, *size])
        return crops.noise(generator, shape, self.input.dtype, self.axes, self.patch, gain)

    def _fixed(self) -> list[int | None]:
        return [self.other.shape[axis] for axis in self.axes]

    def only_patch(self) -> bool:
        """Whether the candidate takes inputs of the patch's size only."""
        return self._fixed() == list(self.patch)

    def at_patch(self) -> list[Check]:
        """Both networks on inputs of the patch's size: signed noise, and for floats with an offset and wide range."""
        if not self._takes_patches():
            return [Check("patch", None, f"not run: the candidate's input is fixed at {self._fixed()}")]
        # Many, where they cost nothing: a unit that never wakes hides a wrong weight.
        count = max(2, min(64, _CHEAP // self.elements), self.other.shape[0] or 0)
        samples = self._noise(count, self.patch, self.gain)
        ones = [1] * len(self.patch)
        checks = [self._compared("patch", samples, ones, self.patch, None)]
        kind = self.input.dtype
        if kind in _FLOATS:
            few = samples[: max(4, self.other.shape[0] or 0)]
            for family, x in crops.families(np.random.default_rng(self.seed), few).items():
                checks.append(_optional(self._compared(f"patch, {family}", x, ones, self.patch, None)))
        return checks

    def one_batch(self) -> dict[str, Array] | None:
        """Some patches that both networks take as one batch; None where the candidate's sizes are others."""
        batch = self.batch or self.other.shape[0] or 2
        if not self._takes_patches() or self.other.shape[0] not in (None, batch):
            return None
        return {self.input.name: self._noise(batch, self.patch, self.gain)}

    def inside(self, model: Model, provider: str) -> dict[str, Array] | None:
        """The outputs of the candidate, or of a ``model`` that shows more of it, for several patches, if it takes them.

        None where the candidate's sizes are others, or it does not run.
        """
        if not self._takes_patches():
            return None
        samples = self._noise(max(2, min(8, _CHEAP // self.elements)), self.patch, self.gain)
        try:
            return in_batches(Session(model, provider), samples, self.other.shape[0])
        except FileError:
            return None

    def _takes_patches(self) -> bool:
        return all(n in (None, p) for n, p in zip(self._fixed(), self.patch, strict=True))

    def on_data(self, data: Array, stride: tuple[int, ...] | None) -> Check:
        """Both networks on the user's own inputs: patches, or larger inputs window by window.

        Raises ``FileError`` where the data does not fit the network's input.
        """
        sizes = tuple(data.shape[axis] for axis in self.axes) if data.ndim == len(self.shape) else ()
        rest = [n for axis, n in enumerate(data.shape) if axis and axis not in self.axes]
        if (
            not sizes
            or not len(data)
            or rest != [n for a, n in enumerate(self.shape) if a and a not in self.axes]
        ):
            raise FileError(
                f"the data must be samples of {'x'.join(map(str, self.shape[1:]))} or larger, but it is "
                f"{'x'.join(map(str, data.shape))}"
            )
        if data.dtype.kind not in "fiub" or (data.dtype.kind == "f" and self.input.dtype not in _FLOATS):
            raise FileError(f"the network reads {self.input.dtype}, but the data is {data.dtype}")
        if any(n < p for n, p in zip(sizes, self.patch, strict=True)):
            raise FileError(
                f"the data must be at least as large as the patch {self.patch}, but it is {sizes}"
            )
        step = self.patch if sizes == self.patch else stride
        if step is None:
            raise RequestError(
                "data larger than the patch needs the map's stride", hint="say it with --stride"
            )
        counts = [crops.positions(*axis) for axis in zip(sizes, self.patch, step, strict=True)]
        image = np.ascontiguousarray(data.astype(self.input.dtype))
        return self._compared(
            "data", image, counts, step, max(64, _MOST_CROPPED // (len(image) * self.elements))
        )

    def windows(
        self, stride: tuple[int, ...] | None, size: tuple[int, ...] | None
    ) -> tuple[Check, tuple[int, ...] | None]:
        """The map of a larger input against the reference on its crops; also that input's size."""
        fixed = self._fixed()
        if stride is None or (self.only_patch() and size in (None, self.patch)):
            return Check("windows", None, "not run: the candidate's input is fixed at the patch's size"), None
        samples = self.other.shape[0] or (1 if self.elements > _LARGE else 2)
        asked = size is not None
        if size is None:
            size = crops.uneven_size(self.patch, stride, few=self.elements > _SMALL)
            size = tuple(f or n for f, n in zip(fixed, size, strict=True))
        elif len(size) != len(fixed) or any(f not in (None, n) for f, n in zip(fixed, size, strict=True)):
            raise RequestError(f"the size is what the candidate's input admits, {fixed}, not {list(size)}")
        counts = [crops.positions(*axis) for axis in zip(size, self.patch, stride, strict=True)]
        if min(counts) < 1 and size == tuple(fixed):
            text = f"the candidate's input is fixed at {size}, below the patch {self.patch}"
            return Check("windows", Verdict.DIFFERENT, text), size
        if min(counts) < 1:
            raise RequestError(f"an input is at least as large as the patch {self.patch}, not {size}")
        elements = samples * self.elements * prod(size) // prod(self.patch)
        if elements > _MOST_ELEMENTS:
            raise MachineError(
                f"the windows are checked on an input of at most {_MOST_ELEMENTS} values; "
                f"{size} at stride {stride} has {elements}",
                hint="say a smaller input with --size",
            )
        most = None if asked or None in fixed else max(64, _MOST_CROPPED // (samples * self.elements))
        return self._compared("windows", self._noise(samples, size, self.gain), counts, stride, most), size

    def moved(self, windows: Check, stride: Sequence[int], overhang: Sequence[int]) -> Check:
        """``windows``, or what speaks against the padding as the only cause of its differences.

        Padding only matters to vectors that read it. On an image without its first ``stride`` pixels every other
        vector is the same, one position earlier: it does not know where the image begins, or how wide it is. Vectors
        read ``overhang`` pixels in front of their crop. Not asked where the candidate's size is fixed, or too large
        an image would be needed.
        """
        near = [-(-pixels // step) for pixels, step in zip(overhang, stride, strict=True)]
        # Behind those that are near the beginning two positions on each axis; one more where the image begins earlier.
        size = [p + (n + 2) * s for p, n, s in zip(self.patch, near, stride, strict=True)]
        samples = self.other.shape[0] or 1
        if any(self._fixed()) or samples * self.elements * prod(size) // prod(self.patch) > _MOST_CROPPED:
            return windows
        image = self._noise(samples, size, self.gain)
        later: list[slice] = [slice(None)] * image.ndim
        for axis, step in zip(self.axes, stride, strict=True):
            later[axis] = slice(step, None)
        rest = {n: r.shape[1:] for n, r in in_batches(self.ours, image[self._corner()], self.batch).items()}
        try:
            maps = [
                in_batches(self.theirs, view, self.other.shape[0]) for view in (image, image[tuple(later)])
            ]
        except FileError as error:
            return replace(windows, verdict=Verdict.DIFFERENT, text=f"the candidate fails: {error.message}")
        for name in (name for name, kind in self.kinds.items() if kind in _FLOATS):
            parts = []
            for more, found in zip((1, 0), maps, strict=True):
                counts = [n + 2 + more for n in near]
                arranged_map = arranged(found[name], rest[name], counts, self.channels_first, False)
                if isinstance(arranged_map, str):
                    return replace(
                        windows, verdict=Verdict.DIFFERENT, text=f"output {name!r}: {arranged_map}"
                    )
                parts.append(arranged_map[(slice(None), *(slice(n + more, None) for n in near))])
            figures = compare(parts[0], parts[1], Tolerance(0.0, windows.figures[name].allowed))
            if figures.verdict is Verdict.DIFFERENT:
                text = (
                    f"{windows.text}; but vectors of output {name!r} that read no padding change with where the "
                    f"image begins: {figures.reason}"
                )
                return replace(windows, verdict=Verdict.DIFFERENT, text=text)
        return windows

    def _tolerances(self, windows: Array, results: dict[str, Array]) -> dict[str, Tolerance]:
        """What each output may differ by on inputs like ``windows``, of which the reference makes ``results``."""
        if self.input.dtype not in _FLOATS:
            return tolerances(results, results, self.coarsest)
        moved = disturbed(np.random.default_rng(self.seed), windows, self.coarsest)
        return tolerances(results, in_batches(self.ours, moved, self.batch), self.coarsest)

    def _corner(self) -> tuple[slice, ...]:
        """The first patch of an image."""
        corner = [slice(None)] * len(self.shape)
        for axis, pixels in zip(self.axes, self.patch, strict=True):
            corner[axis] = slice(pixels)
        return tuple(corner)

    def _compared(
        self, name: str, image: Array, counts: Sequence[int], stride: Sequence[int], most: int | None
    ) -> Check:
        """The candidate on ``image`` against the reference on its crops at ``counts`` positions."""
        try:
            maps = in_batches(self.theirs, image, self.other.shape[0])
        except FileError as error:
            shape = "x".join(map(str, image.shape))
            return Check(name, Verdict.DIFFERENT, f"the candidate fails on {shape}: {error.message}")
        places = crops.chosen_places(counts, most, np.random.default_rng(self.seed))
        comparisons: dict[str, Comparison] = {}
        samples = len(image)
        plain = not self.is_map and self.only_patch()
        for chunk in crops.chunks(places, max(1, _AT_ONCE // (samples * self.elements))):
            windows = crops.crops(image, self.axes, self.patch, stride, chunk)
            results = in_batches(self.ours, windows, self.batch)
            for output, result in results.items():
                if output not in comparisons:
                    allowed = self.asked or self._tolerances(windows, results)[output]
                    comparisons[output] = Comparison(allowed)
                arranged_map = arranged(maps[output], result.shape[1:], counts, self.channels_first, plain)
                if isinstance(arranged_map, str):
                    return Check(name, Verdict.DIFFERENT, f"output {output!r}: {arranged_map}")
                # (places, N, *rest) -> (places * N, *rest), as the crops are ordered
                at: list[tuple[Any, ...]] = [(slice(None), *place) for place in chunk]
                values = np.stack([arranged_map[index] for index in at]).reshape(result.shape)
                comparisons[output].add(result, values)
        figures = {output: comparison.figures() for output, comparison in comparisons.items()}
        found = {
            output: Place(places[f.index[0] // samples], f.index[1:], f.index[0] % samples)
            for output, f in figures.items()
            if f.index
        }
        share = f"{len(places)} of {prod(counts)}" if len(places) < prod(counts) else f"{prod(counts)}"
        alone = prod(counts) == 1
        what = f"{samples} patches" if alone else f"{share} positions of {samples} inputs"
        text = f"{what} compared; {described(figures, found)}"
        return Check(name, overall(figures, self.kinds), text, figures, found)


def _optional(check: Check) -> Check:
    """A check that counts only where its inputs say something: many networks are saturated by such inputs."""
    if check.verdict is not Verdict.INCONCLUSIVE:
        return check
    return replace(check, verdict=None, text=f"says nothing about this network: {check.text}")
