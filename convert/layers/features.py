"""Operators that work number by number, mix features, or reduce dimensions."""

from collections.abc import Sequence
from math import prod

from ...shapecalc.errors import ShapeError
from ...shapecalc.readings import Beyond
from ..constants import axes_of
from ..dims import Dim, Dims, broadcast, fresh, sizes
from .node import Found, Node, NoRule, place_of


def reduced(node: Node) -> Found:
    """The Reduce operators, ArgMax and ArgMin."""
    x = node.data()
    kind = node.proto.op_type
    if kind in ("ArgMax", "ArgMin"):
        axes: list[int] | None = [int(node.attributes.get("axis", 0))]
    else:
        axes = axes_of(node.proto, [None, node.constant(1)])
        if not axes and node.attributes.get("noop_with_empty_axes"):
            return Found((x,))
    gone = {place_of(x, a) for a in axes} if axes else set(range(len(x)))
    kept = bool(node.attributes.get("keepdims", 1))
    return Found((tuple(Dim(1) if i in gone else dim for i, dim in enumerate(x) if kept or i not in gone),))


def gemm(node: Node) -> Found:
    """A matrix product, either side transposed."""
    given = node.attributes
    a, b = node.operand(0), node.operand(1)
    if len(a) != 2 or len(b) != 2:
        raise NoRule
    rows, inner = (a[1], a[0]) if given.get("transA") else (a[0], a[1])
    units, taken = (b[0], b[1]) if given.get("transB") else (b[1], b[0])
    if inner.size != taken.size:
        raise ShapeError(f"a matrix for {taken.size} features meets {inner.size}")
    return Found(((rows, Dim(units.size)),), macs=rows.size * inner.size * units.size)


def matmul(node: Node) -> Found:
    """Matrix products; of a constant matrix on the right every row is read by itself."""
    a, b = node.operand(0), node.operand(1)
    if len(a) < 2 or len(b) < 2:
        raise NoRule
    if a[-1].size != b[-2].size:
        raise ShapeError(f"a matrix for {b[-2].size} features meets {a[-1].size}")
    if node.proto.input[1] not in node.dims and len(b) == 2:
        out: Dims = (*a[:-1], Dim(b[-1].size))  # every row by itself
    else:
        out = (
            *fresh(sizes(broadcast([a[:-2] or (Dim(1),), b[:-2] or (Dim(1),)]))),
            Dim(a[-2].size),
            Dim(b[-1].size),
        )
        out = out[-max(len(a), len(b)) :]
    return Found((out,), macs=prod(sizes(out)) * a[-1].size)


def same(node: Node) -> Found:
    """The dimensions of the first operand."""
    return Found((node.data(),))


def elementwise(node: Node) -> Found:
    """Operands combined element by element."""
    return Found((broadcast([node.operand(i) for i, name in enumerate(node.proto.input) if name]),))


def softmax(node: Node) -> Found:
    """Every number reads all along its axis."""
    x = node.data()
    axis = place_of(x, int(node.attributes.get("axis", -1 if node.opset >= 13 else 1)))
    # Below operator set 13 everything from the axis on is one row.
    return _mixed(x, range(axis, len(x)) if node.opset < 13 else [axis])


def _mixed(x: Dims, places: Sequence[int]) -> Found:
    """Every position reads the whole of some dimensions."""
    return Found((x,), {a: Beyond.WHOLE for i in places if (a := x[i].axis) is not None})


def normalization(node: Node) -> Found:
    """Every number reads all that its statistics are taken over."""
    x = node.data()
    given = node.attributes
    places: Sequence[int] = range(1, len(x))  # instance and group: channels and space
    if node.proto.op_type == "MeanVarianceNormalization":
        places = [place_of(x, int(a)) for a in given.get("axes", [0, 2, 3])]
    elif node.proto.op_type in ("LayerNormalization", "LpNormalization"):
        first = place_of(x, int(given.get("axis", -1)))
        places = range(first, len(x)) if node.proto.op_type == "LayerNormalization" else [first]
    return _mixed(x, places)
