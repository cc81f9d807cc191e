"""Layers that join several tensors: element by element, or end to end."""

from collections.abc import Sequence

from ..emit import Shape, Value
from ..step import Step

_OPERATORS = {
    "Add": "Add",
    "Subtract": "Sub",
    "Multiply": "Mul",
    "Average": "Mean",
    "Maximum": "Max",
    "Minimum": "Min",
}


def merge(step: Step) -> Value:
    """Add, Subtract, Multiply, Average, Maximum, Minimum of tensors that broadcast."""
    values = step.inputs
    operator = _OPERATORS[step.layer.kind]
    shape = _broadcast(step, [value.shape for value in values])
    moved = all(value.rank == len(shape) and not value.own for value in values)
    names = [value.moved if moved else step.graph.own(value) for value in values]
    if len(names) == 1:
        return values[0]
    if operator in ("Add", "Mul", "Sub"):
        made = names[0]
        for number, name in enumerate(names[1:], 2):
            made = step.emit(operator, [made, name], "" if number == len(names) else f"first_{number}")
    else:
        made = step.emit(operator, names)
    return step.graph.made(shape, made, moved=moved)


def _broadcast(step: Step, shapes: Sequence[Shape]) -> Shape:
    rank = max(map(len, shapes))
    if any(len(shape) != rank for shape in shapes):
        # Keras puts the missing axes behind the batch, ONNX in front of it.
        raise step.refusal(
            f"tensors of one rank are joined, but these have {[len(shape) for shape in shapes]} axes"
        )
    result: list[int | None] = []
    for sizes in zip(*shapes, strict=True):
        large = {size for size in sizes if size != 1}
        if len(large - {None}) > 1:
            raise step.refusal(
                f"tensors that are joined must fit, but these are {[list(shape) for shape in shapes]}"
            )
        result.append(max((n for n in large if n is not None), default=None if large else 1))
    return tuple(result)


def concatenate(step: Step) -> Value:
    """Concatenate along ``axis``, which counts in Keras's order."""
    values = step.inputs
    rank = values[0].rank
    if any(value.rank != rank for value in values):
        raise step.refusal(f"tensors of one rank are joined, but these have {[v.rank for v in values]} axes")
    axis = step.axis(values[0], step.argument("axis", -1))
    sizes = [value.shape[axis] for value in values]
    known = [n for n in sizes if n is not None]
    shape: list[int | None] = list(
        _broadcast(step, [(*v.shape[:axis], 1, *v.shape[axis + 1 :]) for v in values])
    )
    shape[axis] = sum(known) if len(known) == len(sizes) else None
    moved = all(not value.own for value in values)
    place = axis if not moved else 1 if axis == rank - 1 else axis + 1
    names = [value.moved if moved else step.graph.own(value) for value in values]
    return step.graph.made(shape, step.emit("Concat", names, axis=place), moved=moved)
