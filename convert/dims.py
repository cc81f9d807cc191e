"""The dimensions of a graph's values, with the axis of the network's input that each of them still follows.

A dimension follows an axis as long as its positions are positions of that axis: through windows, crops, transpositions
and reshapes that leave it alone. A channel dimension that a convolution mixes, and an axis that is flattened into
another, follow none; what reads them reads the whole axis.
"""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple


class Dim(NamedTuple):
    """One dimension: its size, and the axis of the input that it follows (None: none)."""

    size: int
    axis: int | None = None


Dims = tuple[Dim, ...]


def sizes(dims: Dims) -> tuple[int, ...]:
    """The sizes alone: the value's shape."""
    return tuple(dim.size for dim in dims)


def fresh(shape: Sequence[int]) -> Dims:
    """Dimensions that follow no axis."""
    return tuple(Dim(size) for size in shape)


def positions(dims: Dims, rank: int) -> tuple[int, ...]:
    """How many positions a value has on each of the input's ``rank`` axes; 1 on an axis that it does not follow."""
    found = {dim.axis: dim.size for dim in dims if dim.axis is not None}
    return tuple(found.get(axis, 1) for axis in range(rank))


def broadcast(operands: Sequence[Dims]) -> Dims:
    """The dimensions of operands combined element by element (ONNX, multidirectional broadcasting).

    Raises ``ValueError`` where two sizes do not fit. A dimension follows an axis where all operands that are not
    repeated along it do.
    """
    rank = max(len(dims) for dims in operands)
    result = []
    for place in range(-rank, 0):
        here = [dims[place] for dims in operands if len(dims) >= -place]
        large = [dim for dim in here if dim.size != 1]
        if len({dim.size for dim in large}) > 1:
            raise ValueError(f"sizes {' and '.join(str(dim.size) for dim in large)} do not broadcast")
        axes = {dim.axis for dim in (large or here)}
        result.append(Dim(large[0].size if large else 1, axes.pop() if len(axes) == 1 else None))
    return _once(result)


def _once(dims: Sequence[Dim]) -> Dims:
    """An axis that two dimensions would follow is followed by none of them."""
    axes = [dim.axis for dim in dims]
    return tuple(Dim(dim.size, dim.axis if axes.count(dim.axis) == 1 else None) for dim in dims)


def regrouped(dims: Dims, target: Sequence[int]) -> Dims:
    """The dimensions behind a reshape to ``target`` (no -1 or 0 left), which has as many elements.

    A dimension that comes out with its own size, and nothing of another, follows its axis still.

    >>> regrouped((Dim(1), Dim(8), Dim(5, 0), Dim(1)), (1, 8, 5))
    (Dim(size=1, axis=None), Dim(size=8, axis=None), Dim(size=5, axis=0))
    """
    if prod(sizes(dims)) != prod(target):
        raise ValueError(f"a reshape of {prod(sizes(dims))} elements to {prod(target)}")
    result = []
    place, inside, outside = 0, 1, 1
    large = [dim for dim in dims if dim.size != 1]
    for size in target:
        if size == 1:
            result.append(Dim(1))
            continue
        alone = inside == outside and place < len(large) and large[place].size == size
        result.append(Dim(size, large[place].axis if alone else None))
        outside *= size
        while place < len(large) and inside * large[place].size <= outside:
            inside *= large[place].size
            place += 1
    return tuple(result)
