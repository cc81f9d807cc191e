"""Layers that join several tensors: element by element, end to end, or by a product."""

from collections.abc import Sequence
from math import prod

from ..emit import Shape, Value
from ..step import Step
from .statistics import unit

_OPERATORS = {
    "Add": "Add",
    "Subtract": "Sub",
    "Multiply": "Mul",
    "Average": "Mean",
    "Maximum": "Max",
    "Minimum": "Min",
}


def merge(step: Step) -> Value:
    """Add, Subtract, Multiply, Average, Maximum, Minimum of tensors that broadcast.

    Missing axes are put behind the batch: keras/src/layers/merging/base_merge.py.
    """
    rank = max((value.rank for value in step.inputs), default=0)
    values = [_raised(step, value, rank, number) for number, value in enumerate(step.inputs, 1)]
    return joined(step, _OPERATORS[step.layer.kind], values)


def joined(step: Step, operator: str, values: Sequence[Value]) -> Value:
    """Tensors of one rank, joined element by element."""
    if len(values) < 2:
        raise step.refusal(f"{step.layer.kind} joins tensors, but this call reads {len(values)}")
    shape = broadcast(step, [value.shape for value in values])
    moved = _moved(values)
    names = [step.graph.moved(value) if moved else step.graph.own(value) for value in values]
    if operator in ("Max", "Mean", "Min", "Sum"):
        return step.graph.made(shape, step.emit(operator, names), moved=moved)
    if operator in ("Div", "Pow", "Sub") and len(names) > 2:
        raise step.refusal(f"{step.layer.kind} joins two tensors, but this call reads {len(names)}")
    made = names[0]
    for number, name in enumerate(names[1:], 2):
        made = step.emit(operator, [made, name], "" if number == len(names) else f"first_{number}")
    return step.graph.made(shape, made, moved=moved)


def _raised(step: Step, value: Value, rank: int, number: int) -> Value:
    """``value`` with axes of one element behind the batch, up to ``rank``."""
    missing = rank - value.rank
    if not missing:
        return value
    axes = step.graph.integers(range(1, missing + 1))
    made = step.emit("Unsqueeze", [step.graph.own(value), axes], f"operand_{number}")
    return step.graph.made((value.shape[0], *(1,) * missing, *value.shape[1:]), made)


def _moved(values: Sequence[Value]) -> bool:
    """Whether tensors meet in the moved form: where the largest of them is in that form only."""
    if any(value.rank < 3 for value in values):
        return False
    largest = max(values, key=lambda value: prod(n or 1 for n in value.shape[1:]))
    return not largest.own


def broadcast(step: Step, shapes: Sequence[Shape]) -> Shape:
    """The shape of tensors of one rank that meet element by element. Raises ``FileError`` where they do not fit."""
    result: list[int | None] = []
    for sizes in zip(*shapes, strict=True):
        large = {size for size in sizes if size != 1}
        if len(large - {None}) > 1:
            raise step.refusal(f"tensors that are joined must fit, but these are {[list(s) for s in shapes]}")
        result.append(max((n for n in large if n is not None), default=None if large else 1))
    return tuple(result)


def concatenate(step: Step) -> Value:
    """Concatenate along ``axis``, which counts in Keras's order."""
    return end_to_end(step, step.inputs, step.argument("axis", -1))


def end_to_end(step: Step, values: Sequence[Value], given: int) -> Value:
    """Tensors joined along the axis ``given``, all others alike."""
    if not values:
        raise step.refusal("tensors are joined, but this call reads none")
    rank = values[0].rank
    if any(value.rank != rank for value in values):
        raise step.refusal(f"tensors of one rank are joined, but these have {[v.rank for v in values]} axes")
    axis = step.axis(values[0], given)
    shape: list[int | None] = []
    for place, sizes in enumerate(zip(*(value.shape for value in values), strict=True)):
        known = [n for n in sizes if n is not None]
        if place == axis:
            shape.append(sum(known) if len(known) == len(sizes) else None)
            continue
        if len(set(known)) > 1:
            raise step.refusal(
                f"tensors must agree but for axis {axis}, but these are {[list(v.shape) for v in values]}"
            )
        shape.append(known[0] if known else None)
    moved = _moved(values)
    place = axis if not moved else 1 if axis == rank - 1 else axis + 1
    names = [step.graph.moved(value) if moved else step.graph.own(value) for value in values]
    return step.graph.made(shape, step.emit("Concat", names, axis=place), moved=moved)


def dot(step: Step) -> Value:
    """Dot: the product of two tensors, summed along one axis of each; what is left of both, one behind the other.

    With ``normalize`` both are divided by their norms along these axes. keras/src/layers/merging/dot.py.
    """
    if len(step.inputs) != 2:
        raise step.refusal(f"Dot reads two tensors, but this call reads {len(step.inputs)}")
    left, right = step.inputs
    given = step.argument("axes")
    pair = [given, given] if isinstance(given, int) else list(given)
    if len(pair) != 2:
        raise step.refusal(f"axes must be one number or two, but they are {given}")
    axes = [step.axis(value, axis) for value, axis in zip((left, right), pair, strict=True)]
    sizes = {left.shape[axes[0]], right.shape[axes[1]]} - {None}
    if len(sizes) > 1:
        raise step.refusal(
            f"the axes that are summed must fit, but axes {axes} of {list(left.shape)} and {list(right.shape)} do not"
        )
    if step.argument("normalize", False):
        left, right = (
            unit(step, value, [axis], f"unit_{number}")
            for number, (value, axis) in enumerate(zip((left, right), axes, strict=True), 1)
        )
    letters = iter("bcdefghijklmopqrstuvwxyz")
    terms = [["n" if i == 0 else "a" if i == axis else next(letters) for i in range(value.rank)]
             for value, axis in zip((left, right), axes, strict=True)]  # fmt: skip
    rest = [
        (letter, size)
        for term, value in zip(terms, (left, right), strict=True)
        for letter, size in zip(term, value.shape, strict=True)
        if letter not in "na"
    ]
    result = "".join(["n", *(letter for letter, _ in rest)])
    equation = f"{''.join(terms[0])},{''.join(terms[1])}->{result}"
    names = [step.graph.own(left), step.graph.own(right)]
    if rest:
        made = step.emit("Einsum", names, equation=equation)
        return step.graph.made((left.shape[0], *(size for _, size in rest)), made)
    summed = step.emit("Einsum", names, "summed", equation=equation)
    made = step.emit("Unsqueeze", [summed, step.graph.integers([1])])
    return step.graph.made((left.shape[0], 1), made)
