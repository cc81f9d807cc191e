"""Operators that regroup, cut and join dimensions."""

from collections.abc import Sequence
from math import prod

from ...shapecalc.errors import ShapeError
from ...shapecalc.layers import Read
from ...shapecalc.readings import Beyond
from ...shapecalc.window import Window
from ..dims import Dim, Dims, broadcast, fresh, regrouped, sizes
from .node import Found, Node, NoRule, place_of


def transpose(node: Node) -> Found:
    """The dimensions in another order."""
    x = node.data()
    perm = [int(p) for p in node.attributes.get("perm", reversed(range(len(x))))]
    if sorted(perm) != list(range(len(x))):
        raise ShapeError(f"Transpose by {perm} of a tensor with {len(x)} axes")
    return Found((tuple(x[p] for p in perm),))


def reshape(node: Node) -> Found:
    """Dimensions regrouped to a known shape."""
    x = node.data()
    target = node.numbers("shape", 1)
    if target is None:
        raise NoRule
    if not node.attributes.get("allowzero"):
        target = [x[i].size if n == 0 and i < len(x) else n for i, n in enumerate(target)]
    if -1 in target:
        rest = -prod(target)
        if rest < 1 or prod(sizes(x)) % rest:
            raise ShapeError(f"a reshape from {list(sizes(x))} to {target} does not come out even")
        target[target.index(-1)] = prod(sizes(x)) // rest
    return _regrouped(x, target)


def _regrouped(x: Dims, target: Sequence[int]) -> Found:
    try:
        return Found((regrouped(x, target),))
    except ValueError as error:
        raise ShapeError(str(error)) from None


def flatten(node: Node) -> Found:
    """Two dimensions, split at ``axis``."""
    x = node.data()
    axis = int(node.attributes.get("axis", 1))
    axis = axis % len(x) if axis < 0 else axis
    return _regrouped(x, (prod(sizes(x[:axis])), prod(sizes(x[axis:]))))


def squeeze(node: Node) -> Found:
    """Dimensions of one element go."""
    x = node.data()
    axes = node.numbers("axes", 1)
    gone = {i for i, dim in enumerate(x) if dim.size == 1} if axes is None else {place_of(x, a) for a in axes}
    if any(x[i].size != 1 for i in gone):
        raise ShapeError(f"Squeeze takes away axes of size 1, but {axes} of {list(sizes(x))} are named")
    return Found((tuple(dim for i, dim in enumerate(x) if i not in gone),))


def unsqueeze(node: Node) -> Found:
    """Dimensions of one element appear."""
    x = node.data()
    axes = node.numbers("axes", 1) or []
    new = {a % (len(x) + len(axes)) for a in axes}
    old = iter(x)
    return Found((tuple(Dim(1) if i in new else next(old) for i in range(len(x) + len(new))),))


def concat(node: Node) -> Found:
    """Operands behind each other; along an axis of the input nobody knows which part is read."""
    operands = [node.operand(i) for i in range(len(node.proto.input))]
    place = place_of(operands[0], int(node.attributes.get("axis", 1)))
    shapes = [sizes(dims) for dims in operands]
    if len({(*shape[:place], *shape[place + 1 :]) for shape in shapes}) > 1:
        raise ShapeError(f"Concat joins what differs on axis {place} only, but gets {[*map(list, shapes)]}")
    joined = sum(dims[place].size for dims in operands)
    others = broadcast([(*dims[:place], Dim(1), *dims[place + 1 :]) for dims in operands])
    axes = [a for dims in operands if (a := dims[place].axis) is not None]
    return Found(((*others[:place], Dim(joined), *others[place + 1 :]),), dict.fromkeys(axes, Beyond.UNKNOWN))


def split(node: Node) -> Found:
    """Parts of one dimension."""
    x = node.data()
    place = place_of(x, int(node.attributes.get("axis", 0)))
    count = len(node.proto.output)
    parts = node.numbers("split", 1)
    if parts is None:
        step = -(-x[place].size // count)
        parts = [min(step, x[place].size - step * i) for i in range(count)]
    if min(parts) < 0 or sum(parts) != x[place].size:
        raise ShapeError(f"the parts of a Split do not add up: {parts} of {x[place].size} elements")
    axis = x[place].axis
    outputs = tuple((*x[:place], Dim(part), *x[place + 1 :]) for part in parts)
    return Found(outputs, {} if axis is None else {axis: Beyond.UNKNOWN})


def slice_(node: Node) -> Found:
    """Ranges of dimensions, with steps."""
    x = list(node.data())
    starts, ends = node.numbers("starts", 1), node.numbers("ends", 2)
    if starts is None or ends is None:
        raise NoRule
    axes = node.numbers("axes", 3) or list(range(len(starts)))
    steps = node.numbers("steps", 4) or [1] * len(starts)
    readings: dict[int, Read] = {}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        place = place_of(tuple(x), axis)
        chosen = range(x[place].size)[start:end:step]
        followed = x[place].axis
        if followed is not None and len(chosen) and chosen != range(x[place].size):
            readings[followed] = Window(1, step, before=-chosen[0]) if step > 0 else Beyond.UNKNOWN
        x[place] = Dim(len(chosen), followed)
    return Found((tuple(x),), readings)


def gather(node: Node) -> Found:
    """Elements of one dimension by constant numbers."""
    x = node.data()
    indices = node.constant(1)
    if indices is None:
        raise NoRule
    place = place_of(x, int(node.attributes.get("axis", 0)))
    axis = x[place].axis
    readings: dict[int, Read] = {}
    if axis is not None:
        readings[axis] = (
            Window(1, before=-(int(indices) % x[place].size)) if indices.ndim == 0 else Beyond.UNKNOWN
        )
    return Found(((*x[:place], *fresh(indices.shape), *x[place + 1 :]),), readings)
