"""How a tensor can be the kernel of a convolution: a layout, and what its filters are.

A convolution over C channels, in ``group`` groups, with O filters. S: the kernel's sizes; M: filters a channel::

    read as     layout  tensor            filters  group  kernel in ONNX
    full        OIHW    (O, C/group, *S)  O        group  (O, C/group, *S)
    full        HWIO    (*S, C/group, O)  O        group  the same
    single      OIHW    (1, C, *S)        1        1      (1, C, *S): one filter over all channels
    single      HWIO    (*S, C, 1)        1        1      the same
    single      CHW     (C, *S)           1        1      the same
    single      HWC     (*S, C)           1        1      the same
    depthwise   OIHW    (C*M, 1, *S)      C*M      C      (C*M, 1, *S): each channel by itself
    depthwise   HWIO    (*S, C, M)        C*M      C      the same, as TensorFlow writes it; or (*S, 1, C*M)
    depthwise   CHW     (C, *S)           C        C      (C, 1, *S)
    depthwise   HWC     (*S, C)           C        C      the same

HW stands for all spatial axes, however many there are. So ``(5, 5, 128)`` is no kernel of a convolution with 128
filters of 5x5 over 128 channels, whose kernel is ``(5, 5, 128, 128)``: it is one filter, or 128 depthwise ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .errors import FileError
from .kernel import Rearrangement

KERNEL_LAYOUTS = ("OIHW", "HWIO", "HWC", "CHW")
"""A tensor's axes: O filters, I channels of a filter, C channels of the input; HW all spatial axes."""

KINDS = ("full", "single", "depthwise")
"""What the filters are: as many as before, one over all channels, or some for each channel by itself."""


@dataclass(frozen=True)
class Place:
    """The convolution whose kernel is set: C, O, group, and how many spatial axes; ``spatial`` is its kernel's size."""

    name: str
    channels: int
    filters: int
    group: int
    rank: int
    spatial: tuple[int, ...] = ()

    def __str__(self) -> str:
        size = "x".join(map(str, self.spatial))
        groups = f" in {self.group} groups" if self.group > 1 else ""
        return f"{self.filters} filters {f'of {size} ' if size else ''}over {self.channels} channels{groups}"


@dataclass(frozen=True)
class Reading:
    """One tensor as a kernel: ``rearrangement`` gives ``(filters, C / group, *S)``."""

    kind: str
    layout: str
    rearrangement: Rearrangement
    filters: int
    group: int

    @property
    def spatial(self) -> tuple[int, ...]:
        """The kernel's spatial sizes."""
        return self.rearrangement.result[2:]

    def batched(self, batch: int) -> Reading:
        """The same for ``batch`` kernels, one a sample, that are folded into groups: ``(batch, *tensor)``."""
        one = self.rearrangement
        return Reading(
            self.kind,
            self.layout,
            Rearrangement(
                (batch, *one.shape),
                (0, *(axis + 1 for axis in one.permutation)),
                (batch * one.result[0], *one.result[1:]),
                tuple(axis + 1 for axis in one.flip),
            ),
            batch * self.filters,
            batch * self.group,
        )

    def __str__(self) -> str:
        filters = "1 filter" if self.filters == 1 else f"{self.filters} filters"
        what = {"full": filters, "single": "1 filter over all channels"}
        return (
            f"--as {self.kind} --layout {self.layout} ({what.get(self.kind, f'{filters}, a channel each')})"
        )


def reading(place: Place, shape: Sequence[int], kind: str, layout: str, flip: bool = False) -> Reading:
    """The tensor of ``shape`` as a kernel of ``place``.

    Raises ``FileError`` where it is none: with both shapes, and every reading that would fit.
    """
    found = _reading(place, tuple(shape), kind, layout, flip)
    if found is not None:
        return found
    fitting = readings(place, shape)
    wanted = " or ".join(_by(sizes) for sizes in _wanted(place, kind, layout)) or "nothing"
    raise FileError(
        f"the kernel of {place}, read as {kind} in {layout}, is {wanted}, but the tensor is {_by(shape)}",
        layer=place.name,
        hint=f"it fits as {'; as '.join(map(str, fitting))}" if fitting else _every(place),
    )


def readings(place: Place, shape: Sequence[int]) -> list[Reading]:
    """Every reading of a tensor of ``shape`` as a kernel of ``place``."""
    every = (
        _reading(place, tuple(shape), kind, layout, False) for kind in KINDS for layout in KERNEL_LAYOUTS
    )
    return [found for found in every if found is not None]


def _reading(place: Place, shape: tuple[int, ...], kind: str, layout: str, flip: bool) -> Reading | None:
    rank, channels = place.rank, place.channels
    inputs = channels // place.group
    last = layout in ("HWIO", "HWC")
    bare = layout in ("HWC", "CHW")
    if len(shape) != rank + (1 if bare else 2) or min(shape, default=0) < 1 or (bare and kind == "full"):
        return None
    spatial = shape[:rank] if last else shape[-rank:]
    axes = tuple(range(rank)) if last else tuple(range(len(shape) - rank, len(shape)))
    if bare:
        own = rank if last else 0
        if shape[own] != channels:
            return None
        order: tuple[int, ...] = (own, *axes)
        result = (1, channels, *spatial) if kind == "single" else (channels, 1, *spatial)
    else:
        # where O and I stand
        o, i = (rank + 1, rank) if last else (0, 1)
        order = (o, i, *axes)
        pair = shape[o], shape[i]
        if kind == "depthwise" and pair[1] == channels and last and channels > 1:
            # TensorFlow: (*S, C, M), filter c * M + m reads channel c
            order, pair = (i, o, *axes), (channels * shape[o], 1)
        fits = {
            "full": pair == (place.filters, inputs),
            "single": pair == (1, channels),
            "depthwise": pair[1] == 1 and pair[0] % channels == 0,
        }
        if not fits[kind]:
            return None
        result = (*pair, *spatial)
    # the flip's axes are those of the permuted array: all behind O and I, or behind C
    flipped = tuple(range(len(order) - rank, len(order))) if flip else ()
    group = {"full": place.group, "single": 1, "depthwise": channels}[kind]
    return Reading(kind, layout, Rearrangement(shape, order, result, flipped), result[0], group)


def _wanted(place: Place, kind: str, layout: str) -> list[tuple[object, ...]]:
    """The shapes that would fit, with the kernel's size as it is or in letters."""
    letters = {1: ("L",), 2: ("H", "W"), 3: ("D", "H", "W")}
    spatial: tuple[object, ...] = place.spatial or letters.get(place.rank, ("H",) * place.rank)
    channels, inputs = place.channels, place.channels // place.group
    if layout in ("HWC", "CHW"):
        if kind == "full":
            return []
        return [(*spatial, channels) if layout == "HWC" else (channels, *spatial)]
    pairs: dict[str, list[tuple[object, object]]] = {
        "full": [(place.filters, inputs)],
        "single": [(1, channels)],
        "depthwise": [(f"{channels}*M", 1)],
    }
    if layout == "OIHW":
        return [(*pair, *spatial) for pair in pairs[kind]]
    if kind == "depthwise":
        return [(*spatial, channels, "M")]
    return [(*spatial, *reversed(pair)) for pair in pairs[kind]]


def _every(place: Place) -> str:
    shapes = [
        f"{kind} {layout} {_by(sizes)}"
        for kind in KINDS
        for layout in KERNEL_LAYOUTS
        for sizes in _wanted(place, kind, layout)
    ]
    return f"no reading fits; a kernel here is {', '.join(shapes)}"


def _by(sizes: Sequence[object]) -> str:
    return "x".join(map(str, sizes)) or "a single number"
