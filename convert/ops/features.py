"""Operators along the feature axis: they move from the last axis of ``(N, D)`` to axis 1 of ``(N, D, *map)``.

Softmax, LogSoftmax and Hardmax below operator set 13 flatten everything from ``axis`` on, so on a map they
would normalise over features and positions together: there, as for LayerNormalization, the features are moved
to the end and back.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..graph import Value
from ..layout import SPACE, Layout, LayoutError, channel, features_at
from ..step import INT64, Operand, Parts, Refusal, Result, Step


def _last(step: Step, value: Value, **attributes: Any) -> str:
    """Append the node on the canonical tensor with its channels moved to the end, and move them back."""
    rank = len(value.axes)
    to_last = [0, *range(2, rank + 2), 1]
    to_first = [0, rank + 1, *range(1, rank + 1)]
    build = step.builder
    moved = build.emit("Transpose", [value.name], perm=to_last)
    done = build.emit(step.node.op_type, [moved, *step.node.input[1:]], name=step.node.name, **attributes)
    return build.emit("Transpose", [done], output=step.node.output[0], perm=to_first)


def softmax(step: Step) -> Result:
    """Softmax, LogSoftmax, Hardmax."""
    value = step.without_single_positions(step.ordered())
    layout = value.layout
    coerced = step.opset < 13
    first = layout.axis(step.integer("axis", 1 if coerced else -1))
    normalised = range(first, len(layout.dims)) if coerced else (first,)
    factors = [f for i in normalised for f in layout.dims[i]]
    if any(f.kind == SPACE for f in factors):
        raise Refusal("it normalises over positions of the patch")
    if tuple(factors) != layout.channels:
        raise Refusal("it normalises over some of the channel axes only")
    if coerced:
        return [replace(value, name=_last(step, value, axis=len(value.axes) + 1))]
    return [replace(value, name=step.emit([value.name], axis=1))]


def layer_normalization(step: Step) -> Result:
    """LayerNormalization over the channels of each position; over the patch it depends on the patch."""
    value = step.ordered()
    layout = value.layout
    first = layout.axis(step.integer("axis", -1))
    if any(f.kind == SPACE for dim in layout.dims[first:] for f in dim):
        raise Refusal("it normalises with statistics of the whole patch")
    if layout.dims[first:] != (layout.channels,):
        raise Refusal("it normalises over other axes than the channels")
    if len([o for o in step.node.output if o]) > 1:
        raise Refusal("its statistics are used as outputs")
    for index in range(1, len(step.node.input)):
        step.constant(index)
    own = {k: v for k, v in step.attributes.items() if k != "axis"}
    return [replace(value, name=_last(step, value, axis=-1, **own))]


def extremum(step: Step) -> Result:
    """ArgMax and ArgMin: the feature's number at each position."""
    value = step.without_single_positions(step.ordered())
    position = features_at(value.layout, step.integer("axis", 0))
    own = {k: v for k, v in step.attributes.items() if k not in ("axis", "keepdims")}
    name = step.emit([value.name], axis=1, keepdims=1, **own)
    middle: tuple[tuple[()], ...] = ((),) if step.integer("keepdims", 1) else ()
    dims = value.layout.dims[:position] + middle + value.layout.dims[position + 1 :]
    return [replace(value, name=name, dtype=INT64, layout=Layout(dims, ()))]


def top_k(step: Step) -> Result:
    """TopK: the largest features and their numbers at each position."""
    value = step.without_single_positions(step.ordered())
    position = features_at(value.layout, step.integer("axis", -1))
    count = step.integer("k", 0) or next(iter(step.list_of("k", 1) or ()), 0)
    if not count:
        raise Refusal("K is missing")
    own = {k: v for k, v in step.attributes.items() if k != "axis"}
    names = [o or step.builder.fresh(f"{step.builder.layer}/output") for o in step.node.output]
    step.builder.emit(
        "TopK", [value.name, *step.node.input[1:]], outputs=names, name=step.node.name, axis=1, **own
    )
    new = channel(count)
    layout = Layout(tuple(new if i == position else d for i, d in enumerate(value.layout.dims)), new)
    kinds = (value.dtype, INT64)
    return [replace(value, name=n, layout=layout, dtype=d) for n, d in zip(names, kinds, strict=False)]


def concat(step: Step) -> Result:
    """Concat of channels or features; of flattened branches, which a dense layer may read."""
    operands: list[Operand] = []
    for index, name in enumerate(step.node.input):
        operand = step.values.get(name)
        if operand is None:
            raise Refusal(f"operand {index} ({name}) is a constant")
        operands.append(operand)
    if len(operands) == 1:
        return [operands[0]]
    flat = [v for o in operands for v in (o.values if isinstance(o, Parts) else [o]) if isinstance(v, Value)]
    position = flat[0].layout.axis(step.integer("axis", 1))
    if all(_holds_channels(v, position) for v in flat) and not any(isinstance(o, Parts) for o in operands):
        return [_joined(step, step.alike([step.put_in_order(v) for v in flat]), position)]
    last = position == len(flat[0].layout.dims) - 1
    if not last or any(f.kind != "batch" for v in flat for dim in v.layout.dims[:-1] for f in dim):
        if any(f.kind == SPACE for v in flat for f in v.layout.dims[position]):
            raise Refusal("it joins positions of the patch")
        raise LayoutError(f"Concat along dimension {position}, which does not hold all channels")
    step.note("removed", "the dense layer behind it reads each branch by itself")
    return [Parts(tuple(flat))]


def _holds_channels(value: Value, position: int) -> bool:
    """Whether dimension ``position`` holds all channels, in whatever order, and nothing else."""
    held = value.layout.dims[position]
    return len(held) == len(value.layout.channels) and set(held) == set(value.layout.channels)


def _joined(step: Step, values: Sequence[Value], position: int) -> Value:
    """Concatenate along the channels values that agree in everything else."""
    first = values[0]
    axes = list(first.axes)
    for value in values[1:]:
        for i, (held, other) in enumerate(zip(first.layout.pattern(), value.layout.pattern(), strict=True)):
            if i != position and held != other:
                raise Refusal(f"its operands hold different axes in dimension {i}")
        if value.collapsed != first.collapsed:
            raise Refusal("it joins positions of the patch with statistics of the whole patch")
        for i, axis in enumerate(value.axes):
            if i not in first.collapsed:
                try:
                    axes[i] = axes[i].joined(axis)
                except ValueError as error:
                    raise Refusal(str(error)) from None
    new = channel(sum(v.layout.channel_count for v in values))
    dims = tuple(new if i == position else d for i, d in enumerate(first.layout.dims))
    name = step.emit([v.name for v in values], axis=1)
    return replace(first, name=name, axes=tuple(axes), layout=Layout(dims, new))


def split(step: Step) -> Result:
    """Split of the channels."""
    value = step.ordered()
    position = features_at(value.layout, step.integer("axis", 0))
    count = len(step.node.output)
    total = value.layout.channel_count
    sizes = step.list_of("split", 1) or [-(-total // count)] * (count - 1) + [
        total - (count - 1) * -(-total // count)
    ]
    if sum(sizes) != total or len(sizes) != count:
        raise Refusal(f"it splits {total} channels into {sizes}")
    results, start = [], 0
    for size, output in zip(sizes, step.node.output, strict=True):
        name = step.builder.slice(value.name, [1], [start], [start + size])
        new = channel(size)
        dims = tuple(new if i == position else d for i, d in enumerate(value.layout.dims))
        results.append(replace(value, name=name, layout=Layout(dims, new)) if output else None)
        start += size
    return results
