"""Operators that only regroup axes. In the rewritten graph, which has one layout throughout, nothing is left
of them.

Flattening is where a network forgets its input's shape; here it is remembered, in the order in which it was
done.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

from ..layout import Layout, LayoutError
from ..step import Parts, Refusal, Result, Step


def _regrouped(step: Step, regroup: Callable[[Layout], Layout]) -> Result:
    value = step.without_single_positions(step.value())
    try:
        layout = regroup(value.layout)
    except (
        LayoutError
    ):  # channels in several parts, as a shuffle leaves them: in order they are one, cut anywhere
        value = step.put_in_order(value)
        layout = regroup(value.layout)
    step.note("removed", "the rewritten graph keeps one layout, and remembers this order")
    return [replace(value, layout=layout)]


def transpose(step: Step) -> Result:
    """Transpose: the dimensions in another order."""
    perm = step.integers("perm", ()) or None
    value = step.value()
    step.note("removed", "the rewritten graph keeps one layout, and remembers this order")
    return [replace(value, layout=value.layout.transposed(perm))]


def flatten(step: Step) -> Result:
    """Flatten: two dimensions, split at ``axis``."""
    operand = step.values.get(step.node.input[0])
    axis = step.integer("axis", 1)
    if isinstance(operand, Parts):
        if axis % 2 != 1:  # flattened branches have two dimensions: axis 1 and axis -1 are the same
            raise Refusal("Flatten of flattened branches at another axis than 1")
        return [operand]

    def regroup(layout: Layout) -> Layout:
        shape = layout.shape
        at = axis % len(shape) if axis < 0 else axis
        return layout.reshaped((prod(shape[:at]), prod(shape[at:])))

    return _regrouped(step, regroup)


def reshape(step: Step) -> Result:
    """Reshape to a constant, or to a shape computed from constants and from the shapes of a patch."""
    target = step.constant(1) if len(step.node.input) > 1 else None
    wanted = step.integers("shape", ()) if target is None else [int(n) for n in target.reshape(-1)]
    operand = step.values.get(step.node.input[0])
    if isinstance(operand, Parts):
        if _resolved(wanted, operand.shape, bool(step.integer("allowzero", 0))) != list(operand.shape):
            raise Refusal("it reshapes several flattened branches behind a Concat")
        return [operand]
    zero = bool(step.integer("allowzero", 0))
    return _regrouped(step, lambda layout: layout.reshaped(_resolved(wanted, layout.shape, zero)))


def _resolved(target: Sequence[int], shape: Sequence[int], allow_zero: bool) -> list[int]:
    """Return a Reshape's target without 0 (the size in the same place) and -1 (what is left)."""
    sizes = [shape[i] if n == 0 and not allow_zero and i < len(shape) else n for i, n in enumerate(target)]
    if sizes.count(-1) > 1 or any(n < -1 for n in sizes):
        raise Refusal(f"a reshape to {list(target)} is not defined")
    if -1 in sizes:
        rest = prod(n for n in sizes if n != -1)
        if rest == 0 or prod(shape) % rest:
            raise Refusal(f"a reshape from {list(shape)} to {list(target)} does not come out even")
        sizes[sizes.index(-1)] = prod(shape) // rest
    return sizes


def squeeze(step: Step) -> Result:
    """Squeeze: dimensions of one element go."""
    axes = step.axes()
    return _regrouped(step, lambda layout: layout.squeezed(axes))


def unsqueeze(step: Step) -> Result:
    """Unsqueeze: dimensions of one element appear."""
    axes = step.axes() or []
    value = step.value()
    step.note("removed", "the rewritten graph keeps one layout, and remembers this order")
    return [replace(value, layout=value.layout.unsqueezed(axes))]
