"""Layers that slide a window: convolutions and poolings.

Every window keeps the pads that it has on a patch (``auto_pad`` and ``ceil_mode`` are worked out there and
frozen), less what no neuron reads; what then sticks out behind the last window is cut off. So every value has
as many positions on an input of H pixels as ``shapecalc.lattice.positions`` says (``size + (H - P) // jump`` where the
map's stride is a multiple of the network's own), branches that meet on a patch meet on every input, and the map needs
no crop that depends on the input's size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...shapecalc.errors import ShapeError
from ...shapecalc.runtimes import Padding, Sliding, resolved
from ...shapecalc.window import Window
from ..graph import Value
from ..inputs import SPATIAL_LETTERS
from ..kernel import Rearrangement
from ..layout import Layout, LayoutError, channel, slots
from ..step import Refusal, Result, Step
from .pooling import GEOMETRY, geometry, pooled


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
        note_pads(step, [(w.before, w.after) for w in windows])
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


def note_pads(step: Step, pads: Sequence[tuple[int, int]]) -> None:
    """Say which pads, (before, after) on each spatial axis, stay as they are on a patch."""
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


def _untouched(step: Step, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the node's attributes with its geometry replaced by ``own``."""
    return {k: v for k, v in step.attributes.items() if k not in GEOMETRY} | dict(own)


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
    windows = step.on_lattice(value, frozen.windows)
    own = geometry(windows)
    if any(w.dilation > 1 for w in windows):
        own["dilations"] = [w.dilation for w in windows]
    data = step.crop(value, frozen.leading, frozen.cut)
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
    windows = step.on_lattice(value, frozen.windows)
    data = step.crop(value, frozen.leading, frozen.cut)
    given = _untouched(step, {})
    name = pooled(step, step.node.op_type, value, data, windows, given, output=step.node.output[0])
    result = replace(result, name=name)
    step.work(result, 0)
    return [result]


def lrn(step: Step) -> Result:
    """Local response normalisation over neighbouring channels: position by position."""
    value = step.ordered()
    slots(value.layout)
    return [step.same(value)]
