"""An array as the input of a map: its axes in the network's order, its numbers in the network's type.

Axes are letters: N samples, C channels, and the spatial ones T (a series), H W, or D H W. An array is cut in its own
order and only the block is rearranged, so that a file which is mapped, or a dask array, is never touched as a whole.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import RequestError
from .scanner import Scanner
from .tiles import Tile

Array = NDArray[Any]

SPATIAL = {1: "T", 2: "HW", 3: "DHW"}


class Source(Protocol):
    """What is cut: a numpy, dask or Zarr array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes."""

    @property
    def dtype(self) -> Any:
        """The numbers' type."""

    def __getitem__(self, index: Any, /) -> Any:
        """The block at a tuple of slices."""


@dataclass(frozen=True)
class Scaling:
    """``(x * scale - mean) / std``, each one number, or one a channel; None where it was not said."""

    scale: tuple[float, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def said(self) -> bool:
        """Whether any of the three was."""
        return (self.scale, self.mean, self.std) != (None, None, None)


class Pixels:
    """``source`` as the input of ``scanner``.

    ``axes`` are its letters; without them they are the network's own, without N or C where it has fewer axes. ``shape``
    is that of the network's input, ``single`` whether the source had no samples axis.

    Raises ``RequestError`` where the axes do not fit, the channels are another number, integer pixels would go into a
    network of floats unscaled, or the numbers cannot be cast.
    """

    def __init__(self, source: Source, scanner: Scanner, axes: str | None, scaling: Scaling) -> None:
        self.source, self._scaling = source, scaling
        self._dtype, self._channel_axis = scanner.dtype, scanner.channel_axis
        self._own = network_axes(scanner)
        self.axes = checked_axes(source.shape, scanner, axes)
        self.single = "N" not in self.axes
        sizes = dict(zip(self.axes, source.shape, strict=True))
        given = sizes.get("C", 1)
        if given != scanner.channels:
            raise RequestError(
                f"the network takes {scanner.channels} channels, but the input {_x(source.shape)} has {given} "
                f"(its axes are read as {self.axes})",
                hint=_other_axes(source.shape, scanner, self.axes),
            )
        self.shape = tuple(sizes.get(letter, 1) for letter in self._own)
        self.size = tuple(self.shape[axis] for axis in scanner.spatial_axes)
        if 0 in self.shape:
            raise RequestError(f"the input has no pixels: it is {_x(source.shape)}")
        _check_numbers(np.dtype(source.dtype), scanner.dtype, scaling)
        for name in ("scale", "mean", "std"):
            values = getattr(scaling, name)
            if values is not None and len(values) not in (1, scanner.channels):
                raise RequestError(
                    f"--{name} has {len(values)} numbers, the network {scanner.channels} channels",
                    hint="give one number, or one a channel, with commas",
                )
        if scaling.std is not None and 0 in scaling.std:
            raise RequestError("--std divides, and must not be 0")

    def arranged(self, block: Any) -> Any:
        """A block of the source, a numpy or dask array, with the network's axes in their order."""
        letters = self.axes
        for letter in set(letters) - set(self._own):  # a C of one, where the network has none
            block = block[(slice(None),) * letters.index(letter) + (0,)]
            letters = letters.replace(letter, "")
        block = block.transpose([letters.index(letter) for letter in self._own if letter in letters])
        return block[tuple(slice(None) if letter in letters else None for letter in self._own)]

    def detached(self) -> "Pixels":
        """The same without its source, for ``prepared`` in another process."""
        other = copy(self)
        other.source = np.empty(0, self.source.dtype)
        return other

    def block(self, samples: slice, tile: Tile) -> Array:
        """The tile's pixels, ready for the network; zeros behind the input's end."""
        cut = {"N": samples}
        spatial = SPATIAL[len(tile)]
        for letter, span in zip(spatial, tile, strict=True):
            cut[letter] = slice(span.start, span.end)
        block = np.asarray(self.source[tuple(cut.get(letter, slice(None)) for letter in self.axes)])
        made = self.prepared(self.arranged(block))
        missing = [(0, 0)] * made.ndim
        for letter, span in zip(spatial, tile, strict=True):
            axis = self._own.index(letter)
            missing[axis] = (0, span.end - span.start - made.shape[axis])
        return np.pad(made, missing) if any(after for _, after in missing) else made

    def prepared(self, block: Array) -> Array:
        """A block with the network's axes, scaled, in the network's type and contiguous."""
        scaling = self._scaling
        if scaling.said:
            wide = np.promote_types(self._dtype, np.float32)
            block = block.astype(wide)
            if scaling.scale is not None:
                block *= self._per_channel(scaling.scale, block)
            if scaling.mean is not None:
                block -= self._per_channel(scaling.mean, block)
            if scaling.std is not None:
                block /= self._per_channel(scaling.std, block)
        return np.ascontiguousarray(block, self._dtype)

    def _per_channel(self, values: tuple[float, ...], block: Array) -> Array:
        array = np.asarray(values, block.dtype)
        if len(values) == 1 or self._channel_axis is None:
            return array[0]  # type: ignore[no-any-return]
        return array.reshape([-1 if axis == self._channel_axis else 1 for axis in range(block.ndim)])


def network_axes(scanner: Scanner) -> str:
    """The letters of the network's input, such as NCHW.

    Its spatial axes are in this order in the file: nothing else is written by ``convert``.
    """
    spatial = iter(SPATIAL[len(scanner.spatial_axes)])
    rank = len(scanner.input.shape)
    letters = ("C" if axis == scanner.channel_axis else next(spatial) for axis in range(1, rank))
    return "N" + "".join(letters)


def checked_axes(shape: Sequence[int], scanner: Scanner, axes: str | None) -> str:
    """The letters of an array of ``shape``; ``RequestError`` where they do not fit it or the network."""
    own = network_axes(scanner)
    spatial = SPATIAL[len(scanner.spatial_axes)]
    if axes is None:
        known = [own, own[1:]] + ([spatial] if scanner.channels == 1 else [])
        fitting = next((letters for letters in known if len(letters) == len(shape)), None)
        if fitting is None:
            allowed = " or ".join(dict.fromkeys(known))
            raise RequestError(f"the input's axes are {allowed}, but it has {len(shape)}: {_x(shape)}")
        return fitting
    letters = axes.upper().replace("L", "T")
    needed = set(spatial) | ({"C"} if scanner.channels > 1 else set())
    if len(set(letters)) != len(letters) or not needed <= set(letters) <= {"N", "C", *spatial}:
        raise RequestError(
            f"--axes {axes} does not fit this map: it needs each of {', '.join(sorted(needed))} once, "
            "and N where there are several samples",
            hint=f"the network's own order is {own}",
        )
    if len(letters) != len(shape):
        raise RequestError(
            f"--axes {axes} names {len(letters)} axes, but the input has {len(shape)}: {_x(shape)}"
        )
    return letters


def _other_axes(shape: Sequence[int], scanner: Scanner, taken: str) -> str:
    """What to do about a wrong number of channels."""
    samples, rest = ("N", taken[1:]) if taken.startswith("N") else ("", taken)
    spatial = rest.replace("C", "")
    for letters in (f"{samples}{spatial}C", f"{samples}C{spatial}"):
        if "C" in rest and letters != taken and shape[letters.index("C")] == scanner.channels:
            return f"if its channels are elsewhere, say --axes {letters}"
    return "leave out the channels that the network was not trained on (an alpha channel, say)"


def _check_numbers(given: "np.dtype[Any]", wanted: "np.dtype[Any]", scaling: Scaling) -> None:
    if given.kind not in "biuf":
        raise RequestError(f"the input holds {given}, but a network reads real numbers")
    if wanted.kind == "f":
        if given.kind in "biu" and not scaling.said:
            raise RequestError(
                f"the input has pixels of {given}, the network reads {wanted}: as what were they in training?",
                hint="say --scale (1/255, or 1 for the numbers as they are), or --mean and --std",
            )
        return
    if scaling.said:
        raise RequestError(f"--scale, --mean and --std give fractions, but the network reads {wanted}")
    if not np.can_cast(given, wanted):
        raise RequestError(f"the input has pixels of {given}, which do not all fit the network's {wanted}")


def _x(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))
