"""The forms of many small products ``y[b, i, j] = sum_l W[i, j, l] u[b, i, l]``, as nodes of a graph.

``b`` are the labels that only the input and the output have, ``i`` those that all three have (which product it is),
``j`` those that the weight and the output have, ``l`` those that are summed. Each may be several axes, or none::

    einsum        Einsum over the axes as they are, as 'ijkl,bil->bijk'
    matmul        u to (I, B, L), MatMul with W as (I, L, J), y from (I, B, J)
    grouped-conv  u to (B, I * L, 1, 1), Conv with group = I and kernel (I * J, L, 1, 1), y from (B, I * J, 1, 1)

The weight is stored once, in the form's order: a view of the file's, never one copy a sample.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from string import ascii_letters

from onnx import TensorProto

from ..graph import Builder
from ..kernel import Rearrangement
from .facts import Facts
from .terms import Axis, Dims, Label, Operand, Term, labels, shown, sizes


@dataclass(frozen=True)
class Products:
    """A term as many small products; see the module."""

    weight: Operand
    input: Operand
    dims: Dims
    batch: tuple[Label, ...]
    group: tuple[Label, ...]
    units: tuple[Label, ...]
    summed: tuple[Label, ...]

    def __str__(self) -> str:
        """The numbers of each kind."""
        counts = (prod(label.size for label in axis) for axis in (self.group, self.units, self.summed))
        group, units, summed = counts
        return f"{group} products of {units} x {summed}"


def products(term: Term) -> Products | str:
    """The term as many small products, or the reason why it is something else."""
    weight, given = sorted(term.operands, key=lambda operand: not operand.constant)
    in_weight, in_input, out = (labels(dims) for dims in (weight.dims, given.dims, term.dims))
    alone = [label for label in in_weight if label not in in_input and label not in out]
    if alone:
        return (
            f"it sums the weight itself over {_axes(alone)} that neither its input nor its output has: "
            "another function than a product of each matrix with its vector"
        )
    alone = [label for label in in_input if label not in in_weight and label not in out]
    if alone:
        return f"it sums its input over {_axes(alone)} that the weight does not have: another function"
    copies = [label for label in out if label not in in_weight and label not in in_input]
    if copies:
        return f"its output holds each number {prod(label.size for label in copies)} times"
    found = Products(
        weight,
        given,
        term.dims,
        batch=tuple(label for label in in_input if label not in in_weight),
        group=tuple(label for label in in_input if label in in_weight and label in out),
        units=tuple(label for label in out if label not in in_input),
        summed=tuple(label for label in in_input if label in in_weight and label not in out),
    )
    if not found.summed:
        return "it sums over nothing"
    if not found.group:
        return "one matrix for all vectors: a dense layer, not many small products"
    return found


def _axes(found: Sequence[Label]) -> str:
    return f"an axis of {shown([prod(label.size for label in found)])}"


def _einsum(builder: Builder, found: Products) -> str:
    letters = dict(
        zip(
            dict.fromkeys(chain(labels(found.weight.dims), labels(found.input.dims))),
            ascii_letters,
            strict=False,
        )
    )

    def subscript(dims: Dims) -> str:
        return "".join(letters[label] for label in labels(dims))

    weight = constant(builder, found.weight, _single(labels(found.weight.dims)))
    given = moved(builder, found.input.name, found.input.dims, _single(labels(found.input.dims)))
    equation = f"{subscript(found.weight.dims)},{subscript(found.input.dims)}->{subscript(found.dims)}"
    y = builder.emit("Einsum", [weight, given], equation=equation)
    return moved(builder, y, _single(labels(found.dims)), found.dims)


def _matmul(builder: Builder, found: Products) -> str:
    given = moved(builder, found.input.name, found.input.dims, (found.group, found.batch, found.summed))
    weight = constant(builder, found.weight, (found.group, found.summed, found.units))
    y = builder.emit("MatMul", [given, weight])  # (I, B, J)
    return moved(builder, y, (found.group, found.batch, found.units), found.dims)


def _grouped_conv(builder: Builder, found: Products) -> str:
    given = moved(
        builder, found.input.name, found.input.dims, (found.batch, found.group + found.summed, (), ())
    )
    weight = constant(builder, found.weight, (found.group + found.units, found.summed, (), ()))
    y = builder.emit(
        "Conv", [given, weight], group=prod(label.size for label in found.group), kernel_shape=[1, 1]
    )
    return moved(builder, y, (found.batch, found.group + found.units, (), ()), found.dims)


FORMS: Mapping[str, Callable[[Builder, Products], str]] = {
    "einsum": _einsum,
    "matmul": _matmul,
    "grouped-conv": _grouped_conv,
}
"""How each form is written: the nodes' last output has the axes ``Products.dims``."""


def builder_for(facts: Facts, layer: str) -> Builder:
    """What collects the nodes of one place; its names are those of no value or node of the graph."""
    return Builder(facts.opset, facts.constants, facts.taken, layer=layer)


def no_convolution(kind: int) -> str:
    """Why numbers of an element type are not convolved; "" where they are."""
    if kind in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16):
        return ""
    return f"ONNX Runtime convolves no {TensorProto.DataType.Name(kind).lower()} on the CPU"


def _single(found: Sequence[Label]) -> Dims:
    """An axis a label."""
    return tuple((label,) for label in found)


def moved(builder: Builder, name: str, dims: Dims, wanted: Dims) -> str:
    """Append what brings a value from axes ``dims`` to ``wanted``: at most a Reshape, a Transpose, a Reshape."""
    target = labels(wanted)
    runs = _runs(labels(dims), target)
    # Whole axes are turned as they are, where none is cut; else labels that stay neighbours move as one axis.
    whole = all(dims) and all(axis in _runs(axis, target) for axis in dims)
    parts = dims if whole else tuple(runs)
    turned = sorted(range(len(parts)), key=lambda i: target.index(parts[i][0]))
    if turned != list(range(len(parts))):
        if parts != dims:
            name = _reshaped(builder, name, parts)
        name = builder.emit("Transpose", [name], perm=turned)
        dims = tuple(parts[i] for i in turned)
    return name if dims == wanted else _reshaped(builder, name, wanted)


def _runs(order: Sequence[Label], target: Sequence[Label]) -> list[Axis]:
    """``order`` cut where two neighbours are none in ``target``."""
    runs: list[Axis] = []
    for label in order:
        at = target.index(label)
        if runs and at and target[at - 1] is runs[-1][-1]:
            runs[-1] = (*runs[-1], label)
        else:
            runs.append((label,))
    return runs


def _reshaped(builder: Builder, name: str, wanted: Dims) -> str:
    target = [
        -1 if any(label.free for label in axis) else size
        for axis, size in zip(wanted, sizes(wanted), strict=True)
    ]
    return builder.emit("Reshape", [name, builder.integers(target, "shape")])


def constant(builder: Builder, operand: Operand, wanted: Dims) -> str:
    """Add a constant with its axes brought to ``wanted``: a view."""
    order, target = labels(operand.dims), labels(wanted)
    permutation = tuple(order.index(label) for label in target)
    rearrangement = Rearrangement(tuple(label.size for label in order), permutation, sizes(wanted))
    return builder.rearranged(operand.name, rearrangement)
