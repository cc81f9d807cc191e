"""Rows of a matrix as windows of an image: which, in what order, at what distance.

Row ``r`` of a shuffle reads ``K`` elements of a tensor ``(N, *axes)``. It is a window of a convolution where on each
axis the ``k``-th of them is at ``base[r] + offset[k]`` with the same offsets in every row::

    offsets    0, d, 2d .. (size - 1) d          size and dilation d of the kernel, each combination once
    bases      start, start + s .. (count - 1) s  stride s and the number of positions, each combination once

An axis that every row reads whole can be the channel; the others are spatial.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from math import prod

import numpy as np

from .shuffle import Indices

_MOST_SPATIAL = 3  # what ONNX Runtime convolves


@dataclass(frozen=True)
class Span:
    """One axis: the kernel's ``size`` and ``dilation``; ``count`` positions, from ``start``, at ``stride``."""

    axis: int
    length: int
    size: int
    dilation: int
    start: int
    stride: int
    count: int

    @property
    def end(self) -> int:
        """Behind the last element that is read."""
        return self.start + (self.count - 1) * self.stride + (self.size - 1) * self.dilation + 1

    @property
    def cropped(self) -> bool:
        """Whether a convolution of the whole axis would have other positions."""
        return (
            self.start > 0
            or (self.length - (self.size - 1) * self.dilation - 1) // self.stride + 1 != self.count
        )


@dataclass(frozen=True)
class Cut:
    """Windows of a tensor.

    ``channel`` is None where no axis is read whole. ``rows``: in which order the rows run, 0 the samples, ``i + 1``
    ``spatial[i]``; outermost first. ``columns``: the number in ``(C, *sizes)`` of the element that each column reads.
    """

    channel: Span | None
    spatial: tuple[Span, ...]
    rows: tuple[int, ...]
    columns: Indices

    @property
    def kernel(self) -> tuple[int, ...]:
        """``(C, *sizes)``."""
        return (self.channel.size if self.channel else 1, *(span.size for span in self.spatial))

    def column_order(self) -> tuple[int, ...] | None:
        """In which order of the axes of ``kernel`` the columns run, outermost first; None where in no such order."""
        return _order([*np.unravel_index(self.columns, self.kernel)], self.kernel)


def cut(indices: Indices, shape: Sequence[int]) -> Cut | str:
    """The windows that the rows of ``indices`` ``(.., K)`` read of a tensor of ``shape``, or why they are none."""
    rows = indices.reshape(-1, indices.shape[-1])
    sample, *coordinates = np.unravel_index(rows, tuple(shape))
    if (sample != sample[:, :1]).any():
        return "its rows mix samples of the batch"
    spans: list[Span] = []
    offsets, positions = [], []
    for axis, at in enumerate(coordinates, 1):
        offset = at[0] - at[0, 0]
        if (at - at[:, :1] != offset).any():
            return "its rows do not read their elements in the same order at every position"
        base = at[:, 0] + offset.min()
        offset = offset - offset.min()
        size, dilation, first = _steps(offset)
        count, stride, start = _steps(base)
        if first or not dilation or not stride:
            return "the elements that a row reads, or the rows, are not at equal distances"
        spans.append(Span(axis, shape[axis], size, dilation, start, stride, count))
        offsets.append(offset // dilation)
        positions.append((base - start) // stride)
    sizes, counts = [s.size for s in spans], [s.count for s in spans]
    if prod(sizes) != rows.shape[1] or not _all_once(offsets, sizes):
        return f"a row reads {rows.shape[1]} elements, and its window has {prod(sizes)}"
    if shape[0] * prod(counts) != len(rows) or not _all_once([sample[:, 0], *positions], [shape[0], *counts]):
        return f"there are {len(rows)} rows, and {prod(counts)} positions of {shape[0]} samples"
    channel = _channel(spans)
    spatial = [s for s in spans if s is not channel]
    if all(s.size == 1 for s in spatial):
        return "each row reads one pixel: a layer that is pointwise already"
    if prod(counts) == 1:
        return "its one row a sample reads all at once: the head of a patch network, for the rule dense"
    if len(spatial) > _MOST_SPATIAL:
        return f"its windows have {len(spatial)} axes, and ONNX Runtime convolves {_MOST_SPATIAL}"
    axes = [*([channel] if channel else []), *spatial]
    lines = [offsets[s.axis - 1] for s in axes]
    columns = np.ravel_multi_index(lines, [s.size for s in axes])
    order = _order(
        [sample[:, 0], *(positions[s.axis - 1] for s in spatial)], [shape[0], *(s.count for s in spatial)]
    )
    if order is None:
        return "its rows run through the positions in blocks, which no transposition of a map does"
    return Cut(channel, tuple(spatial), order, np.asarray(columns, dtype=np.int64))


def _steps(values: Indices) -> tuple[int, int, int]:
    """How many different values, at what distance (0: at none), and the first."""
    found = np.unique(values)
    if len(found) == 1:
        return 1, 1, int(found[0])
    step = int(found[1] - found[0])
    even = bool((np.diff(found) == step).all())
    return len(found), step if even else 0, int(found[0])


def _all_once(numbers: Sequence[Indices], sizes: Sequence[int]) -> bool:
    """Whether every combination of numbers below ``sizes`` is there once."""
    keys = np.ravel_multi_index(list(numbers), list(sizes))
    return len(np.unique(keys)) == len(keys) == prod(sizes)


def _channel(spans: Sequence[Span]) -> Span | None:
    """The axis that is read whole, where the channels stand: first or last, else any; of two the smaller."""
    whole = [s for s in spans if s.count == 1 and s.size == s.length]
    ends = [s for s in whole if s in (spans[0], spans[-1])]
    return min(ends or whole, key=lambda span: span.length, default=None)


def _order(numbers: Sequence[Indices], sizes: Sequence[int]) -> tuple[int, ...] | None:
    """The order of axes, outermost first, in which ``numbers`` count row-major; axes of one element stand last."""
    several = [i for i, size in enumerate(sizes) if size > 1]
    single = [i for i, size in enumerate(sizes) if size == 1]
    wanted = np.arange(len(numbers[0]))
    for order in permutations(several):
        key = np.zeros(len(wanted), dtype=np.int64)
        for axis in order:
            key = key * sizes[axis] + numbers[axis]
        if (key == wanted).all():
            return (*order, *single)
    return None
