"""What a value is made of: one sum over products of operands, whose axes are followed element by element.

A ``Term`` says of a value ``y`` for every index::

    y[dims] = sum over all labels that are not in dims of  operand[dims] * operand[dims] * ...

An axis is a tuple of labels, outermost first: its index is ``(l0 * size1 + l1) * size2 + l2 ..``. An axis of one
element has none. So a Reshape splits labels or puts them side by side, a Transpose moves axes, a Tile or Expand brings
a label that no operand has, a broadcast product makes labels of two operands the same one, and a reduction takes labels
out of ``dims``. Two graphs that compute one function have the same term, whatever nodes they are written with.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from ..errors import FileError

FREE = 10007
"""What stands for a batch that the file leaves free: a prime that no layer has by chance."""


class Misfit(Exception):  # noqa: N818 - a reason, not a fault
    """An axis is not regrouped along its labels: the value is looked at as it is, not as what it is made of."""


@dataclass(frozen=True, eq=False)
class Label:
    """An index of ``size`` values; each label is one of its own, also where another has the same size."""

    size: int

    @property
    def free(self) -> bool:
        """Whether it is the batch that the file leaves free."""
        return self.size == FREE


Axis = tuple[Label, ...]
Dims = tuple[Axis, ...]


def labels(dims: Iterable[Axis]) -> list[Label]:
    """All labels of some axes, in order."""
    return [label for axis in dims for label in axis]


def sizes(dims: Iterable[Axis]) -> tuple[int, ...]:
    """How many elements each axis has."""
    return tuple(prod(label.size for label in axis) for axis in dims)


@dataclass(frozen=True)
class Operand:
    """A value of the graph that a term reads, and the labels of its axes."""

    name: str
    constant: bool
    dims: Dims


@dataclass(frozen=True)
class Term:
    """A value as a sum of products; see the module."""

    operands: tuple[Operand, ...]
    dims: Dims

    @property
    def shape(self) -> tuple[int, ...]:
        """The value's shape, a free batch as ``FREE``."""
        return sizes(self.dims)

    def substituted(self, new: Mapping[Label, Axis]) -> "Term":
        """The same term with labels replaced: split into several, or one taken for another."""

        def moved(dims: Dims) -> Dims:
            return tuple(tuple(part for label in axis for part in new.get(label, (label,))) for axis in dims)

        operands = tuple(replace(operand, dims=moved(operand.dims)) for operand in self.operands)
        return Term(operands, moved(self.dims))

    def transposed(self, permutation: Sequence[int]) -> "Term":
        """Axis ``i`` is the old axis ``permutation[i]``."""
        return replace(self, dims=tuple(self.dims[axis] for axis in permutation))

    def reshaped(self, shape: Sequence[int]) -> "Term":
        """The same elements in row-major order under another shape; ``Misfit`` where a label would be cut unevenly."""
        term, taken = self, 0
        counts = []  # of the labels of each new axis
        for size in shape:
            start, need = taken, size
            while need > 1:
                flat = labels(term.dims)
                if taken == len(flat):
                    raise Misfit(f"{list(self.shape)} does not become {list(shape)}")
                label = flat[taken]
                if need % label.size:
                    if label.size % need:
                        raise Misfit(f"{list(self.shape)} becomes {list(shape)} across its axes")
                    parts = (Label(need), Label(label.size // need))
                    term = term.substituted({label: parts})
                    label = parts[0]
                need //= label.size
                taken += 1
            counts.append(taken - start)
        flat = labels(term.dims)
        if taken != len(flat):
            raise Misfit(f"{list(self.shape)} does not become {list(shape)}")
        rest = iter(flat)
        return replace(term, dims=tuple(tuple(next(rest) for _ in range(count)) for count in counts))

    def tiled(self, repeats: Sequence[int]) -> "Term":
        """Each axis ``repeats`` times behind itself: another, outer label that no operand has."""
        return replace(
            self,
            dims=tuple(
                (Label(times), *axis) if times != 1 else axis
                for axis, times in zip(self.dims, repeats, strict=True)
            ),
        )

    def expanded(self, shape: Sequence[int]) -> "Term":
        """Broadcast to ``shape`` and the own one, as Expand does."""
        rank = max(len(shape), len(self.dims))
        term = self.padded(rank)
        target = [1] * (rank - len(shape)) + list(shape)
        return term.tiled([new if own == 1 else 1 for own, new in zip(term.shape, target, strict=True)])

    def padded(self, rank: int) -> "Term":
        """With axes of one element in front, as broadcasting adds them."""
        return replace(self, dims=((),) * (rank - len(self.dims)) + self.dims)

    def summed(self, axes: Iterable[int], keep: bool = False) -> "Term":
        """Summed over ``axes``; ``Misfit`` where copies would be added up, which is a factor, not a sum of products."""
        gone = {axis % len(self.dims) for axis in axes}
        read = {label for operand in self.operands for label in labels(operand.dims)}
        if not read.issuperset(labels(self.dims[axis] for axis in gone)):
            raise Misfit("it adds up copies")
        dims = [() if i in gone else axis for i, axis in enumerate(self.dims) if keep or i not in gone]
        return replace(self, dims=tuple(dims))


def multiplied(a: Term, b: Term, where: str) -> Term:
    """The product of two terms, broadcast. ``where`` names the node in the error for shapes that do not fit."""
    rank = max(len(a.dims), len(b.dims))
    a, b = a.padded(rank), b.padded(rank)
    for axis in range(rank):
        if a.dims[axis] and b.dims[axis]:
            a, b = _matched(a, b, axis, where)
    dims = tuple(mine or other for mine, other in zip(a.dims, b.dims, strict=True))
    return Term(a.operands + b.operands, dims)


def unequal(a: Term, b: Term, pair: Sequence[int], where: str) -> Exception:
    """What to raise where two sizes of two factors differ; a batch that the file leaves free may fit yet."""
    text = f"the two factors must fit each other, but their shapes are {shown(a.shape)} and {shown(b.shape)}"
    if any(size % FREE == 0 for size in pair):
        return Misfit(text)
    return FileError(text, layer=where)


def _matched(a: Term, b: Term, axis: int, where: str) -> tuple[Term, Term]:
    """Both terms with the same labels on ``axis``: split until their sizes agree, then ``b`` takes those of ``a``."""
    if a.shape[axis] != b.shape[axis]:
        raise unequal(a, b, (a.shape[axis], b.shape[axis]), where)
    position = 0
    while position < len(a.dims[axis]):
        mine, other = a.dims[axis][position], b.dims[axis][position]
        if mine.size == other.size:
            b = b.substituted({other: (mine,)})
            position += 1
        elif mine.size % other.size == 0:
            a = a.substituted({mine: (Label(other.size), Label(mine.size // other.size))})
        elif other.size % mine.size == 0:
            b = b.substituted({other: (Label(mine.size), Label(other.size // mine.size))})
        else:
            raise Misfit(f"its factors group {a.shape[axis]} elements in two ways that cut across each other")
    return a, b


def shown(shape: Sequence[int]) -> str:
    """A shape as people write it, a free batch as N.

    >>> shown((10007, 8)), shown((20014, 8))
    ('N x 8', '2N x 8')
    """
    return " x ".join(
        str(size) if size % FREE or not size else f"{size // FREE if size > FREE else ''}N" for size in shape
    )
