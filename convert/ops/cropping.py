"""Layers that put positions on, take some off or pick some: Pad, Slice and Gather.

What they do on a patch they do on every input: crops are counted from both ends, pads stay as many as on a patch.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from ...shapecalc.field import Axis
from ...shapecalc.window import Window
from ..graph import Value
from ..layout import CHANNEL, SPACE, Layout, channel, features_at
from ..step import Refusal, Result, Step
from .windows import note_pads


def pad(step: Step) -> Result:
    """Pad: positive pads are frozen, negative ones crop; channels may be padded too."""
    value = step.ordered()
    amounts = step.list_of("pads", 1)
    if amounts is None:
        raise Refusal("operand 1 is missing")
    dims = value.layout.dims
    chosen = step.constant(3)
    numbers = [value.layout.axis(int(a)) for a in chosen] if chosen is not None else list(range(len(dims)))
    if len(amounts) != 2 * len(numbers):
        raise Refusal(f"{len(amounts)} pads for {len(numbers)} axes")
    rank = len(value.axes)
    before, after = [0] * (rank + 2), [0] * (rank + 2)
    layout = value.layout
    for position, b, a in zip(numbers, amounts[: len(numbers)], amounts[len(numbers) :], strict=True):
        if not (b or a):
            continue
        dim = dims[position]
        if len(dim) == 1 and dim[0].kind == SPACE:
            at = dim[0].axis + 2
        elif dim == layout.channels and min(b, a) >= 0 and all(f.kind == CHANNEL for f in dim):
            at = 1
            new = channel(layout.channel_count + b + a)
            layout = Layout(tuple(new if i == position else d for i, d in enumerate(layout.dims)), new)
        else:
            raise Refusal(f"it pads dimension {position}, which is not one axis of the patch")
        before[at], after[at] = b, a
    axes = tuple(_padded(axis, before[i + 2], after[i + 2]) for i, axis in enumerate(value.axes))
    data = step.crop(
        value,
        {i: -b for i, b in enumerate(before[2:]) if b < 0},
        {i: -a for i, a in enumerate(after[2:]) if a < 0},
    )
    widths = [max(n, 0) for n in (*before, *after)]
    for i in range(rank):  # the first two entries of each end are the batch and the channels
        for at in (i + 2, i + 2 + len(before)):
            widths[at] = step.spread(value, i, widths[at])
    _refuse_wrapped(step, value, before, after)
    if any(widths):
        if any(widths[2 : rank + 2]) or any(widths[rank + 4 :]):
            note_pads(step, list(zip(before[2:], after[2:], strict=True)))
        fill = [n for n in step.node.input[2:3] if n]
        if step.opset < 11:
            own = {k: v for k, v in step.attributes.items() if k != "pads"}
            data = step.emit([data], pads=widths, **own)
        else:
            data = step.emit([data, step.builder.integers(widths, "pads"), *fill], **step.attributes)
    result = replace(value, name=data, axes=axes)
    return [replace(result, layout=layout.resized({i: axis.size for i, axis in enumerate(axes)}))]


def _refuse_wrapped(step: Step, value: Value, before: Sequence[int], after: Sequence[int]) -> None:
    """Refuse elements taken from the other end, where other elements of the lattice lie between those of the patch.

    Zeros, the last element and mirrored ones are the patch's own at any spread; these would not be, even on a patch.
    """
    mode = step.attributes.get("mode", b"constant")
    if (mode.decode() if isinstance(mode, bytes) else mode) != "wrap":
        return
    for i in range(len(value.axes)):
        if max(before[i + 2], after[i + 2]) > 0 and step.spread(value, i, 1) > 1:
            raise Refusal(
                f"it pads with elements of the other end, and a map with stride {(step.stride or ())[i]} has others "
                f"between the patch's own, which lie {value.axes[i].jump} pixels apart"
            )


def _padded(axis: Axis, before: int, after: int) -> Axis:
    """Return the axis with positions added (or, where negative, taken off): what is added comes from padding."""
    if not (before or after):
        return axis
    grown = axis.cropped(min(-before, 0) if before > 0 else -before, min(-after, 0) if after > 0 else -after)
    leading = axis.border[0] + before if before > 0 else grown.border[0]
    trailing = axis.border[1] + after if after > 0 else grown.border[1]
    return replace(grown, border=(leading, trailing))


def slice_(step: Step) -> Result:
    """Slice: crops of spatial axes, counted from the patch's ends, and ranges of channels."""
    value = step.ordered()
    starts, ends = step.list_of("starts", 1), step.list_of("ends", 2)
    if starts is None or ends is None:
        raise Refusal("its starts or ends are missing")
    numbers = step.list_of("axes", 3) or list(range(len(starts)))
    steps = step.list_of("steps", 4) or [1] * len(starts)
    shape = value.layout.shape
    for number, start, end, stride in zip(numbers, starts, ends, steps, strict=True):
        position = value.layout.axis(number)
        if stride < 1:
            raise Refusal("it runs backwards")
        chosen = range(shape[position])[start:end:stride]
        if chosen == range(shape[position]):
            continue
        if not len(chosen):
            raise Refusal("it cuts everything away")
        value = _taken(step, value, position, chosen)
    return [value]


def _taken(step: Step, value: Value, position: int, chosen: range) -> Value:
    """Return the elements ``chosen`` of dimension ``position``."""
    dim = value.layout.dims[position]
    if len(dim) == 1 and dim[0].kind == SPACE:
        axis = dim[0].axis
        before, after = chosen[0], value.layout.shape[position] - 1 - chosen[-1]
        name = step.crop(value, {axis: before}, {axis: after})
        cropped = value.axes[axis].cropped(before, after)
        if chosen.step > 1:
            name = step.every(value, {axis: chosen.step}, name)
            cropped = cropped.windowed(Window(kernel=1, stride=chosen.step))
        axes = tuple(cropped if i == axis else a for i, a in enumerate(value.axes))
        return replace(value, name=name, axes=axes, layout=value.layout.resized({axis: cropped.size}))
    features_at(value.layout, position)
    if chosen.step == 1:
        name = step.builder.slice(value.name, [1], [chosen.start], [chosen.stop])
    else:
        indices = step.builder.constant(np.asarray(chosen, dtype=np.int64), f"{step.builder.layer}/channels")
        name = step.builder.emit("Gather", [value.name, indices], axis=1)
    new = channel(len(chosen))
    dims = tuple(new if i == position else d for i, d in enumerate(value.layout.dims))
    return replace(value, name=name, layout=Layout(dims, new))


def gather(step: Step) -> Result:
    """Gather: some channels, or one position of a spatial axis (the last step of a series, say)."""
    value = step.ordered()
    indices = step.constant(1)
    if indices is None:
        raise Refusal("operand 1 is missing")
    position = value.layout.axis(step.integer("axis", 0))
    size = value.layout.shape[position]
    wanted = indices.reshape(-1) % size if size else indices.reshape(-1)
    dim = value.layout.dims[position]
    if any(f.kind == SPACE for f in dim):
        if indices.ndim:
            raise Refusal("it picks several positions of the patch by number")
        index = int(wanted[0])
        value = _taken(step, value, position, range(index, index + 1))
        value = step.without_single_positions(value)
        dims = value.layout.dims
        return [replace(value, layout=replace(value.layout, dims=dims[:position] + dims[position + 1 :]))]
    features_at(value.layout, position)
    if indices.ndim > 1:
        raise Refusal(f"its indices have {indices.ndim} axes")
    chosen = step.builder.constant(wanted.astype(np.int64), f"{step.builder.layer}/channels")
    new = channel(prod(wanted.shape))
    name = step.builder.emit("Gather", [value.name, chosen], axis=1)
    middle = (new,) if indices.ndim else ()
    dims = value.layout.dims[:position] + middle + value.layout.dims[position + 1 :]
    return [replace(value, name=name, layout=Layout(dims, new))]
