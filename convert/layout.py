"""Which axis of the network a dimension of a tensor holds: the algebra that makes every flatten order come
out right.

The network is followed in one canonical layout, ``(N, C, *spatial)``, whatever the file does: the tensor that
the rewritten graph computes always has that layout, and a ``Layout`` says how the file's own tensor is made
of it. Each dimension of the file's tensor is a product of factors, outermost first:

    (N, H, W, C)          [batch] [row] [column] [channel]
    flattened, CHW        [batch] [channel row column]
    flattened, HWC        [batch] [row column channel]
    grouped channels      [batch] [c1] [c2] [row] [column]      with channel storage (c1, c2)

Transpose, Reshape, Flatten, Squeeze and Unsqueeze only regroup factors, so they cost nothing in the rewritten
graph, and a dense layer that reads ``[row column channel]`` has its rows in that order. Factors of one never
appear: a dimension of size one is the empty product.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count, pairwise
from math import prod

BATCH = "batch"
CHANNEL = "channel"
SPACE = "space"
TAP = "tap"

_identity = count()


class LayoutError(Exception):
    """The operator needs another arrangement of the axes; the message says which."""


@dataclass(frozen=True)
class Factor:
    """One axis of the network. ``axis`` is the spatial axis for SPACE, a unique number for CHANNEL, 0 for BATCH.

    Two TAP factors stand for a spatial axis that was cut into windows: elements ``i`` and ``j`` of them are position
    ``i * step + j * step'`` of the axis. Which of the two counts windows shows when the other is reduced.
    """

    kind: str
    size: int
    axis: int = 0
    step: int = 1


def channel(size: int) -> tuple[Factor, ...]:
    """Return a new channel axis as a product: empty for one channel."""
    return (Factor(CHANNEL, size, next(_identity)),) if size != 1 else ()


@dataclass(frozen=True)
class Layout:
    """How the file's tensor is made of the canonical one.

    ``dims``: for each dimension of the file's tensor, its factors, outermost first. ``channels``: the channel
    factors in the order in which the canonical tensor stores them on its axis 1.
    """

    dims: tuple[tuple[Factor, ...], ...]
    channels: tuple[Factor, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the file's tensor on a patch."""
        return tuple(prod(f.size for f in dim) for dim in self.dims)

    @property
    def channel_count(self) -> int:
        """The size of the canonical tensor's axis 1."""
        return prod(f.size for f in self.channels)

    def spaces(self) -> set[int]:
        """The spatial axes that the file's tensor still has."""
        return {f.axis for dim in self.dims for f in dim if f.kind == SPACE}

    def cut(self) -> set[int]:
        """The spatial axes that are cut into windows."""
        return {f.axis for dim in self.dims for f in dim if f.kind == TAP}

    def axis(self, index: int) -> int:
        """Return a dimension's number, counted from the front; raise ``LayoutError`` where there is none."""
        if not -len(self.dims) <= index < len(self.dims):
            raise LayoutError(f"axis {index} of a tensor with {len(self.dims)} axes")
        return index % len(self.dims)

    def transposed(self, perm: Sequence[int] | None) -> "Layout":
        """Return the layout behind ``Transpose``; without ``perm`` the dimensions are reversed."""
        order = list(range(len(self.dims)))[::-1] if perm is None else list(perm)
        if sorted(order) != list(range(len(self.dims))):
            raise LayoutError(f"Transpose by {order} of a tensor with {len(self.dims)} axes")
        return replace(self, dims=tuple(self.dims[i] for i in order))

    def squeezed(self, axes: Sequence[int] | None) -> "Layout":
        """Return the layout without the dimensions ``axes`` (default: all of size one), which must have size one.

        A batch of one is such a dimension too.
        """
        empty = {i for i, size in enumerate(self.shape) if size == 1}
        drop = empty if axes is None else {self.axis(a) for a in axes}
        for i in drop:
            if self.shape[i] != 1:
                raise LayoutError(f"Squeeze of axis {i}, which has size {self.shape[i]}")
        return replace(self, dims=tuple(dim for i, dim in enumerate(self.dims) if i not in drop))

    def unsqueezed(self, axes: Sequence[int]) -> "Layout":
        """Return the layout with dimensions of size one at ``axes`` of the result."""
        rank = len(self.dims) + len(axes)
        new = {a % rank for a in axes}
        if len(new) != len(axes):
            raise LayoutError(f"Unsqueeze at axes {list(axes)}")
        old = iter(self.dims)
        return replace(self, dims=tuple(() if i in new else next(old) for i in range(rank)))

    def reshaped(self, target: Sequence[int]) -> "Layout":
        """Return the layout behind a reshape to ``target`` (no -1 or 0 left): factors are regrouped in their
        order.

        A channel factor is split where ``target`` asks for it; rows, columns and the batch cannot be.
        """
        factors = [f for dim in self.dims for f in dim]
        if prod(f.size for f in factors) != prod(target):
            raise LayoutError(
                f"a reshape from {list(self.shape)} to {list(target)} changes the number of elements"
            )
        channels = list(self.channels)
        dims: list[tuple[Factor, ...]] = []
        # A batch of one is a factor of one; it stays in front, where every exporter puts it.
        single_batch = bool(factors) and factors[0].kind == BATCH and factors[0].size == 1
        for position, size in enumerate(target):
            dim: list[Factor] = []
            if single_batch and position == 0:
                dim.append(factors.pop(0))
            room = size
            while room > 1:
                head = factors.pop(0)
                if room % head.size == 0:
                    dim.append(head)
                    room //= head.size
                    continue
                if head.kind != CHANNEL or head.size % room:
                    raise LayoutError(
                        f"a reshape from {list(self.shape)} to {list(target)} cuts "
                        f"{_NAMES[head.kind]} of size {head.size} into parts"
                    )
                outer, inner = channel(room), channel(head.size // room)
                at = channels.index(head)
                channels[at : at + 1] = [*outer, *inner]
                dim.extend(outer)
                factors[:0] = inner
                room = 1
            dims.append(tuple(dim))
        return Layout(tuple(dims), tuple(channels))

    def in_order(self) -> tuple[int, ...] | None:
        """Return the channel permutation that puts the storage in the order in which ``dims`` name the
        channels.

        ``None`` where it is in that order already. Entry ``i`` is the stored channel that comes ``i``-th.
        """
        named = [f for dim in self.dims for f in dim if f.kind == CHANNEL]
        if named == list(self.channels):
            return None
        strides = {f: prod(g.size for g in self.channels[i + 1 :]) for i, f in enumerate(self.channels)}
        order = [0]
        for f in named:
            order = [base + step * strides[f] for base in order for step in range(f.size)]
        return tuple(order)

    def merged(self) -> "Layout":
        """Return the layout with channel factors that follow each other made one; the storage must be in order."""
        dims: list[tuple[Factor, ...]] = []
        channels: list[Factor] = []
        for dim in self.dims:
            new: list[Factor] = []
            for f in dim:
                if f.kind == CHANNEL and new and new[-1].kind == CHANNEL:
                    joined = Factor(CHANNEL, new[-1].size * f.size, next(_identity))
                    new[-1] = channels[-1] = joined
                else:
                    new.append(f)
                    if f.kind == CHANNEL:
                        channels.append(f)
            dims.append(tuple(new))
        return Layout(tuple(dims), tuple(channels))

    def resized(self, sizes: dict[int, int], *, drop: Iterable[int] = ()) -> "Layout":
        """Return the layout with new sizes for spatial axes, and without the spatial axes ``drop``."""
        gone = set(drop)
        return replace(
            self,
            dims=tuple(
                tuple(
                    replace(f, size=sizes.get(f.axis, f.size)) if f.kind == SPACE else f
                    for f in dim
                    if not (f.kind == SPACE and f.axis in gone)
                )
                for dim in self.dims
            ),
        )

    def pattern(self) -> tuple[tuple[tuple[str, int, int], ...], ...]:
        """Return what two layouts must have in common for their tensors to be combined element by element."""
        return tuple(
            tuple((f.kind, f.size, f.axis if f.kind == SPACE else 0) for f in dim) for dim in self.dims
        )


_NAMES = {BATCH: "the batch", CHANNEL: "a channel axis", SPACE: "a spatial axis", TAP: "a window"}


def features_at(layout: Layout, index: int) -> int:
    """Return dimension ``index`` counted from the front, checked to hold all channels, in order, and nothing else."""
    position = layout.axis(index)
    if layout.dims[position] != layout.channels:
        raise LayoutError(f"axis {position} does not hold all channels and nothing else")
    return position


def slots(layout: Layout) -> tuple[int | None, ...]:
    """Return, for each dimension from the third on, the spatial axis that it holds (``None``: size one).

    Raises ``LayoutError`` unless the tensor is ``(N, C, ...)`` with one spatial axis or none in each further
    dimension, in any order.
    """
    dims = layout.dims
    if len(dims) < 3 or [f.kind for f in dims[0]] != [BATCH] or dims[1] != layout.channels:
        raise LayoutError("the layer wants batch and channels first, and gets them elsewhere")
    held = []
    for dim in dims[2:]:
        if len(dim) > 1 or (dim and dim[0].kind != SPACE):
            raise LayoutError("the layer wants one spatial axis in each dimension behind the channels")
        held.append(dim[0].axis if dim else None)
    return tuple(held)


def ascending(held: Sequence[int | None]) -> bool:
    """Whether the slots hold every spatial axis from the first on, in order, and nothing else."""
    return all(a is not None for a in held) and all(
        b - a == 1 for a, b in pairwise(a for a in held if a is not None)
    )
