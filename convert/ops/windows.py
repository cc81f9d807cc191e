"""Layers that slide a window: convolutions, poolings, padding and cropping.

Every window keeps the pads that it has on a patch (``auto_pad`` and ``ceil_mode`` are worked out there and
frozen), less what no neuron reads; what then sticks out behind the last window is cut off. So every value has
exactly ``size + (H - P) // jump`` positions on an input of H pixels, branches that meet on a patch meet on
every input, and the map needs no crop that depends on the input's size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from ...shapecalc.errors import ShapeError
from ...shapecalc.field import Axis
from ...shapecalc.runtimes import Padding, Sliding, resolved
from ...shapecalc.window import Window
from ..graph import Value
from ..inputs import SPATIAL_LETTERS
from ..kernel import Rearrangement
from ..layout import CHANNEL, SPACE, Layout, LayoutError, channel, features_at, slots
from ..step import Refusal, Result, Step


@dataclass(frozen=True)
class _Frozen:
    """The node's windows on the spatial axes of the network, tiling a patch, and what to cut off before and behind."""

    windows: tuple[Window, ...]
    leading: dict[int, int]
    cut: dict[int, int]
    overhang: bool  # a window of ceil_mode sticks out of the pads


_POINT = Window(kernel=1)
_KINDS = {"AveragePool": "avgpool", "Conv": "conv", "LpPool": "lppool", "MaxPool": "maxpool"}


def _frozen(step: Step, value: Value, held: Sequence[int | None], kernel: Sequence[int]) -> _Frozen:
    """Work out the node's windows on a patch, as ONNX Runtime does, which runs both networks.

    ``held``: the spatial axis of each of the node's dimensions.
    """
    rank = len(held)
    if len(kernel) != rank:
        raise Refusal(f"a kernel with {len(kernel)} axes on a value with {rank} spatial axes")
    windows: list[Window] = [_POINT] * len(value.axes)
    leading: dict[int, int] = {}
    cut: dict[int, int] = {}
    overhang = False
    for axis, sliding in zip(held, _slidings(step, kernel), strict=True):
        size = 1 if axis is None else value.axes[axis].size
        try:
            window = resolved(sliding, size)
            overhang = overhang or window.after > resolved(replace(sliding, ceil=False), size).after
        except ShapeError as error:
            raise Refusal(error.message) from None
        if axis is None:
            if window.kernel != 1 or window.before or window.output(1) != 1:
                raise Refusal(f"a window of {window.kernel} over an axis of one element")
            continue
        leading[axis] = max(-window.before, 0)  # SAME with a large stride asks for fewer than no pads
        window = replace(window, before=max(window.before, 0))
        windows[axis], cut[axis] = window.tiling(size - leading[axis])
    if any(w.before or w.after for w in windows):
        _note_pads(step, [(w.before, w.after) for w in windows])
    return _Frozen(tuple(windows), leading, cut, overhang)


def _slidings(step: Step, kernel: Sequence[int]) -> list[Sliding]:
    """The node's attributes, one entry for each of its spatial dimensions."""
    rank = len(kernel)
    pads = step.integers("pads", [0] * 2 * rank)
    auto = step.attributes.get("auto_pad", b"NOTSET")
    mode = (auto.decode() if isinstance(auto, bytes) else str(auto)).lower()
    ceil = bool(step.integer("ceil_mode", 0))
    return [
        Sliding(
            _KINDS[step.node.op_type],
            k,
            s,
            d,
            Padding("explicit", before, after) if mode == "notset" else Padding(mode),
            ceil,
            step.opset,
        )
        for k, s, d, before, after in zip(
            kernel,
            step.integers("strides", [1] * rank),
            step.integers("dilations", [1] * rank),
            pads[:rank],
            pads[rank:],
            strict=True,
        )
    ]


def _note_pads(step: Step, pads: Sequence[tuple[int, int]]) -> None:
    named = ", ".join(f"{n} {p}" for n, p in zip(SPATIAL_LETTERS[len(pads)], pads, strict=True))
    step.note("padded", f"pads (before, after) {named}, frozen at the patch size")


def _slid(value: Value, frozen: _Frozen, layout: Layout) -> Value:
    """Return what ``value`` is behind the windows, without a name yet."""
    axes = []
    for i, (axis, window) in enumerate(zip(value.axes, frozen.windows, strict=True)):
        left = axis.cropped(frozen.leading.get(i, 0), frozen.cut.get(i, 0))
        axes.append(axis if i in value.collapsed else left.windowed(window))
    sizes = {i: axis.size for i, axis in enumerate(axes)}
    return replace(value, layout=layout.resized(sizes), axes=tuple(axes))


def _geometry(frozen: _Frozen) -> dict[str, list[int]]:
    """Return the attributes of an ONNX window on the network's spatial axes."""
    windows = frozen.windows
    return {
        "kernel_shape": [w.kernel for w in windows],
        "strides": [w.stride for w in windows],
        "pads": [w.before for w in windows] + [w.after for w in windows],
    }


def _untouched(step: Step, own: Mapping[str, Any], drop: Sequence[str] = ()) -> dict[str, Any]:
    """Return the node's attributes with its geometry replaced by ``own``."""
    gone = {"auto_pad", "ceil_mode", "dilations", *own, *drop}
    return {k: v for k, v in step.attributes.items() if k not in gone} | dict(own)


def convolution(step: Step) -> Result:
    """Convolution in the trunk, or a dense layer that is one already. The kernel is the file's own."""
    value = step.ordered()
    weight = step.constant(1)
    if weight is None:
        raise Refusal("operand 1 is missing")
    held = slots(value.layout)
    if weight.ndim != len(held) + 2:
        raise LayoutError(f"a kernel with {weight.ndim} axes on a value with {len(held) + 2}")
    group = step.integer("group", 1)
    if weight.shape[1] * group != value.layout.channel_count:
        raise LayoutError(
            f"a kernel for {weight.shape[1] * group} channels on a value with {value.layout.channel_count}"
        )
    frozen = _frozen(step, value, held, weight.shape[2:])
    new = channel(weight.shape[0])
    layout = Layout((value.layout.dims[0], new, *value.layout.dims[2:]), new)
    result = _slid(value, frozen, layout)
    kernel = step.node.input[1]
    if list(held) != list(range(len(value.axes))):
        # (O, I, node's dimensions)  ->  (O, I, spatial axes), one element where the node has no such
        # dimension
        order = [held.index(i) + 2 for i in range(len(value.axes)) if i in held]
        rest = [slot + 2 for slot, axis in enumerate(held) if axis is None]
        kernel = step.builder.rearranged(
            kernel,
            Rearrangement(
                weight.shape,
                (0, 1, *order, *rest),
                (*weight.shape[:2], *(w.kernel for w in frozen.windows)),
            ),
        )
    own: dict[str, Any] = dict(_geometry(frozen))
    if any(w.dilation > 1 for w in frozen.windows):
        own["dilations"] = [w.dilation for w in frozen.windows]
    data = step.builder.crop(value.name, frozen.leading, frozen.cut)
    bias = [n for n in step.node.input[2:] if n]
    if bias:
        step.constant(2)
    result = replace(result, name=step.emit([data, kernel, *bias], **_untouched(step, own)))
    step.work(result, weight.size)
    return [result]


def pool(step: Step) -> Result:
    """MaxPool, AveragePool and LpPool."""
    value = step.ordered()
    if len(step.node.output) > 1 and step.node.output[1]:
        raise Refusal("it gives out the indices of its maxima, which count pixels of the whole patch")
    held = slots(value.layout)
    frozen = _frozen(step, value, held, step.integers("kernel_shape", ()))
    if frozen.overhang and step.integer("count_include_pad", 0):
        raise Refusal(
            "a window of ceil_mode sticks out of the input, and count_include_pad counts what it finds there"
        )
    result = _slid(value, frozen, value.layout)
    own: dict[str, Any] = dict(_geometry(frozen))
    if any(w.dilation > 1 for w in frozen.windows):
        own["dilations"] = [w.dilation for w in frozen.windows]
    data = step.builder.crop(value.name, frozen.leading, frozen.cut)
    result = replace(result, name=step.emit([data], **_untouched(step, own)))
    step.work(result, 0)
    return [result]


def lrn(step: Step) -> Result:
    """Local response normalisation over neighbouring channels: position by position."""
    value = step.ordered()
    slots(value.layout)
    return [step.same(value)]


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
    data = step.builder.crop(
        value.name,
        {i: -b for i, b in enumerate(before[2:]) if b < 0},
        {i: -a for i, a in enumerate(after[2:]) if a < 0},
    )
    widths = [max(n, 0) for n in (*before, *after)]
    if any(widths):
        if any(widths[2 : rank + 2]) or any(widths[rank + 4 :]):
            _note_pads(step, list(zip(before[2:], after[2:], strict=True)))
        fill = [n for n in step.node.input[2:3] if n]
        if step.opset < 11:
            own = {k: v for k, v in step.attributes.items() if k != "pads"}
            data = step.emit([data], pads=widths, **own)
        else:
            data = step.emit([data, step.builder.integers(widths, "pads"), *fill], **step.attributes)
    result = replace(value, name=data, axes=axes)
    return [replace(result, layout=layout.resized({i: axis.size for i, axis in enumerate(axes)}))]


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
        name = step.builder.crop(value.name, {axis: before}, {axis: after})
        cropped = value.axes[axis].cropped(before, after)
        if chosen.step > 1:
            name = step.builder.every(name, [chosen.step if i == axis else 1 for i in range(len(value.axes))])
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
