"""Which tiles an input is cut into, and which positions of the map each of them gives: integers only.

On one axis an input has ``H`` pixels, the map ``n = (H - P) // s + 1`` positions, and position ``i`` is what the patch
network says of the pixels ``i*s .. i*s + P - 1``. A tile answers for the positions ``first .. stop - 1``, its core; the
cores lie side by side and cover ``0 .. n - 1``. It reads the pixels

    start = max(0, first*s - before)          end = min(H, (stop - 1)*s + P + after)

and the map, run on those alone, has its position ``j`` where the whole input's has ``j + start/s``: so ``start`` is a
multiple of ``s`` (``before`` is one), and the first ``first - start/s`` positions are dropped, as are those behind the
core. Neighbouring tiles share ``before + P - s + after`` pixels.

An exact map reads the patch and nothing else: ``before = after = 0``. Where a map has a border effect, the padding of
its layers shows at the ends of whatever it is run on. A vector's field is ``R`` pixels, pads among them, so it begins
at most ``R - 1`` pixels in front of its position and ends at most ``R - 1`` behind it; a layer that crops first and
pads then has its end up to ``P - 1`` pixels inside the tile's. A vector that the tile's own ends do not touch needs

    before >= (R - 1) + (P - 1), rounded up to a multiple of s          after >= (R - 1) + (P - 1) - (P - 1) = R - 1

pixels. At the ends of the whole input ``start`` and ``end`` are cut off there, so that the padding is where one pass
has it.

A map whose input has a fixed size takes tiles of just that size. They begin at ``min(first, n - k) * s``, where ``k``
is the positions of one, and a tile that ends behind the input is filled up: an exact vector never reads what is there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from .crops import positions


@dataclass(frozen=True)
class Reach:
    """On one axis: what a vector of the map reads. ``fixed`` is the one size that the map takes, or None.

    >>> Reach.of(patch=20, stride=4, field=20, exact=True).overlap
    16
    >>> Reach.of(patch=20, stride=4, field=30, exact=False)
    Reach(patch=20, stride=4, before=48, after=29, fixed=None)
    """

    patch: int
    stride: int
    before: int
    after: int
    fixed: int | None = None

    @classmethod
    def of(cls, *, patch: int, stride: int, field: int, exact: bool, fixed: int | None = None) -> "Reach":
        """The reach of a map by its metadata; ``field`` is R."""
        if exact:
            return cls(patch, stride, 0, 0, fixed)
        touched = field - 1 + patch - 1
        return cls(patch, stride, -(-touched // stride) * stride, field - 1, fixed)

    @property
    def least(self) -> int:
        """The pixels of a tile with one position."""
        return self.before + self.patch + self.after

    @property
    def overlap(self) -> int:
        """How many pixels neighbouring tiles share; negative where some are read by none."""
        return self.least - self.stride

    def core(self, tile: int) -> int:
        """How many positions a tile of ``tile`` pixels gives; 0 where it is too small for one."""
        return positions(tile, self.least, self.stride)

    def pixels(self, core: int) -> int:
        """The pixels of a tile that gives ``core`` positions."""
        return self.least + (core - 1) * self.stride


@dataclass(frozen=True)
class Span:
    """A tile on one axis: positions ``first .. stop - 1``, from the pixels ``start .. end - 1``.

    ``skip`` positions of what the map gives on these pixels stand in front of the core.
    """

    first: int
    stop: int
    start: int
    end: int
    skip: int

    @property
    def count(self) -> int:
        """The positions of the core."""
        return self.stop - self.first


Tile = tuple[Span, ...]


def spans(size: int, reach: Reach, core: int) -> list[Span]:
    """The tiles of an axis of ``size`` pixels, each with ``core`` positions, the last with what is left.

    >>> spans(100, Reach(20, 4, 0, 0), 15)
    [Span(first=0, stop=15, start=0, end=76, skip=0), Span(first=15, stop=21, start=60, end=100, skip=0)]
    """
    count = positions(size, reach.patch, reach.stride)
    return [
        _span(first, min(first + core, count), size, count, reach) for first in range(0, count, max(core, 1))
    ]


def _span(first: int, stop: int, size: int, count: int, reach: Reach) -> Span:
    s = reach.stride
    if reach.fixed is not None:
        held = positions(reach.fixed, reach.patch, s)
        begin = min(first, max(count - held, 0))
        return Span(first, stop, begin * s, begin * s + reach.fixed, first - begin)
    start = max(0, first * s - reach.before)
    end = min(size, (stop - 1) * s + reach.patch + reach.after)
    return Span(first, stop, start, end, first - start // s)


def chunks(size: int, reach: Reach, core: int) -> tuple[list[int], list[Span]]:
    """The same for arrays that are cut into chunks, each of which borrows from its two neighbours only.

    Chunk ``i`` begins where its positions do, at ``first * s``, and ends where the next begins; it borrows ``before``
    pixels in front and ``max(0, P - s + after)`` behind, so none may have fewer than these. Returns the chunks' sizes,
    which add up to ``size``, and the tiles.

    >>> chunks(100, Reach(20, 4, 0, 0), 2)[0]
    [16, 16, 16, 16, 16, 20]
    """
    s, count = reach.stride, positions(size, reach.patch, reach.stride)
    least = max(reach.before, behind(reach), 1)
    core = max(core, -(-least // s))
    firsts = list(range(0, count, core))
    while len(firsts) > 1 and size - firsts[-1] * s < least:
        firsts.pop()
    stops = [*firsts[1:], count]
    ends = [*(first * s for first in firsts[1:]), size]
    sizes = [end - first * s for first, end in zip(firsts, ends, strict=True)]
    made = []
    for first, stop, end in zip(firsts, stops, ends, strict=True):
        start = max(0, first * s - reach.before)
        made.append(Span(first, stop, start, min(size, end + behind(reach)), first - start // s))
    return sizes, made


def behind(reach: Reach) -> int:
    """How many pixels a chunk borrows from the one behind it."""
    return max(0, reach.patch - reach.stride + reach.after)


@dataclass(frozen=True)
class Tiling:
    """All tiles of an input: the product of the axes' spans."""

    axes: tuple[tuple[Span, ...], ...]

    @classmethod
    def over(cls, size: Sequence[int], reaches: Sequence[Reach], cores: Sequence[int]) -> "Tiling":
        """The tiles of an input of ``size`` pixels, one entry a spatial axis."""
        axes = (spans(h, reach, core) for h, reach, core in zip(size, reaches, cores, strict=True))
        return cls(tuple(map(tuple, axes)))

    @property
    def count(self) -> int:
        """How many tiles there are."""
        return prod(map(len, self.axes))

    @property
    def counts(self) -> tuple[int, ...]:
        """The positions of the map on each axis."""
        return tuple(axis[-1].stop for axis in self.axes)

    @property
    def pixels(self) -> int:
        """The pixels that all tiles read together: what the work is proportional to."""
        return prod(sum(span.end - span.start for span in axis) for axis in self.axes)

    @property
    def largest(self) -> tuple[int, ...]:
        """The pixels of the largest tile on each axis."""
        return tuple(max(span.end - span.start for span in axis) for axis in self.axes)

    def __iter__(self) -> Iterator[Tile]:
        """The tiles, row by row."""
        return product(*self.axes)
