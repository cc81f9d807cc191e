"""What a network's map would be: exact or not, and why; the same analysis that a conversion starts from.

    exact            the map equals the scan at every position, up to rounding
    border effect    some positions that a dense layer or a pool over the patch reads were touched by padding,
    which
                     meets real neighbours on a larger input
    not convertible  a layer mixes the whole patch, or is not understood

A layer that pads makes the map inexact only where what it touched is read; a crop may take it away again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from ..shapecalc import lattice
from .blocks import patches_at_once
from .errors import Dense2ConvError
from .graph import Value
from .model import Model
from .trace import Layer, Trace, choose

EXACT = "exact"
BORDER_EFFECT = "border effect"
NOT_CONVERTIBLE = "not convertible"


@dataclass(frozen=True)
class Cost:
    """What one method costs on one input: multiply-adds, the bytes of the weights and of the largest layer's
    input and output together, and the number of windows (positions of the map).
    """

    method: str
    stride: tuple[int, ...]
    windows: int
    macs: int
    memory: int


@dataclass(frozen=True)
class Analysis:
    """What is known of a network before anything is written. One entry a spatial axis in ``patch``,
    ``stride`` (S, the network's own) and ``receptive_field`` (what one vector of the map reads, in
    pixels).
    """

    patch: tuple[int, ...]
    stride: tuple[int, ...]
    receptive_field: tuple[int, ...]
    order: str
    spatial_axes: tuple[int, ...]
    channel_axis: int | None
    exactness: str
    layers: tuple[Layer, ...]
    trace: Trace

    @property
    def border(self) -> list[str]:
        """The layers whose padding reaches a vector."""
        if self.exactness == EXACT:
            return []
        return list(dict.fromkeys(layer.name for layer in self.trace.layers if layer.action == "padded"))

    @property
    def overhang(self) -> tuple[int, ...]:
        """How many pixels in front of some layer's first element a vector may read: there the patch has padding.

        A layer has its first element where the crops in front of it leave off, not at the image's first pixel.
        """
        values = [value for value in self.trace.values.values() if isinstance(value, Value)]
        outputs = [value for value in self.trace.outputs.values() if isinstance(value, Value)]
        return tuple(
            max(0, *(value.axes[i].start for value in values), 0)
            - min(0, *(o.axes[i].start for o in outputs), 0)
            for i in range(len(self.patch))
        )

    @property
    def layout(self) -> str:
        """Where the interface has its channels."""
        return "channels last" if self.trace.input.channels_last else "channels first"

    @property
    def refusals(self) -> list[Layer]:
        """The layers that are why the network is not convertible."""
        return self.trace.refusals

    def exactness_on(self, size: Sequence[int] | None) -> str:
        """Return how exact the map is on inputs of ``size``: on a patch, the pads stand where they stood."""
        if self.exactness == BORDER_EFFECT and size is not None and tuple(size) == self.patch:
            return EXACT
        return self.exactness

    def positions(self, size: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
        """Return the map's size on an input: ``(H - P) // s + 1`` on each axis, 0 below the patch."""
        return tuple(
            (h - p) // s + 1 if h >= p else 0 for h, p, s in zip(size, self.patch, stride, strict=True)
        )

    def cost(self, size: Sequence[int], stride: Sequence[int], method: str) -> Cost:
        """Return what one input of ``size`` costs: ``conv``, the map; ``patches`` or ``scan``, every crop by itself.

        ``patches`` has as many of them in memory as it takes at a time, ``scan`` all.
        """
        windows = prod(self.positions(size, stride))
        scanned = (
            method == "conv"
        )  # else the network itself runs, at its own strides, on one patch after the other
        on = tuple(size) if scanned else self.patch
        repeated = 1 if scanned else windows
        macs = largest = 0
        for work in self.trace.builder.work:
            places = prod(self._places(work.value, on, stride if scanned else None))
            macs += work.macs * places
            largest = max(largest, work.value.layout.channel_count * places)
        # Four bytes a value; float16 networks need half of it.
        weights = sum(array.nbytes for array in self.trace.builder.weights.values())
        held = repeated
        given = self.trace.input
        if method == "patches" and (tuple(stride) != self.patch or given.shape[0] is not None):
            channels = 1 if given.channel_axis is None else given.shape[given.channel_axis] or 1
            held = min(repeated, patches_at_once(prod(self.patch) * channels, given.shape[0]))
        return Cost(method, tuple(stride), windows, macs * repeated, weights + 2 * 4 * largest * held)

    def _places(self, value: Value, size: Sequence[int], stride: Sequence[int] | None) -> tuple[int, ...]:
        """Return how many positions ``value`` has: on a patch, or in a map with ``stride``."""
        counts = []
        for i, (axis, h, p) in enumerate(zip(value.axes, size, self.patch, strict=True)):
            if stride is None:
                counts.append(axis.size)
            elif h < p:
                counts.append(0)
            elif i in value.collapsed:
                counts.append((h - p) // stride[i] + 1)
            else:
                counts.append(lattice.positions(axis.size, axis.jump, stride[i], h - p))
        return tuple(counts)


def audit(model: Model, patch: Sequence[int] | None = None, order: str | None = None) -> Analysis:
    """Return what is known of a network. ``patch`` where the file leaves it free, ``order`` where axes are
    ambiguous.

    Raises ``RequestError`` where one of them is missing or contradicts the file, ``NegativeAnswer`` where
    there is nothing to slide over, ``FileError`` where the graph is broken.
    """
    try:
        trace = choose(model, patch, order)
    except Dense2ConvError as error:
        error.file = error.file or model.path
        raise
    except Exception:
        _refuse_what_does_not_run(model)
        raise
    reached = any(layer.action == "reached" for layer in trace.layers)
    layers = [_judged(layer, reached) for layer in trace.layers]
    exactness = NOT_CONVERTIBLE if trace.refusals else BORDER_EFFECT if reached else EXACT
    fields = [
        [value.axes[i].field for value in trace.outputs.values() if isinstance(value, Value)] or [p]
        for i, p in enumerate(trace.input.patch)
    ]
    return Analysis(
        patch=trace.input.patch,
        stride=trace.stride,
        receptive_field=tuple(max(field) for field in fields),
        order=trace.input.order,
        spatial_axes=trace.input.spatial_axes,
        channel_axis=trace.input.channel_axis,
        exactness=exactness,
        layers=tuple(layers),
        trace=trace,
    )


def _refuse_what_does_not_run(model: Model) -> None:
    """Raise ``FileError`` where ONNX Runtime does not load the network either.

    A rule relies on operands that fit each other, as ONNX says they must. Where it trips over some, the runtime says
    whether the file is at fault, and by what node; where the runtime does not mind, it is a bug in the rule.
    """
    from .execute import Session

    Session(model)


def _judged(layer: Layer, reached: bool) -> Layer:
    """Return a layer's line with its padding judged: it matters where it reaches a vector."""
    if layer.action not in ("padded", "reached"):
        return layer
    if reached:
        return replace(layer, action=BORDER_EFFECT)
    return replace(layer, action="kept", reason=f"{layer.reason}; nothing of it reaches a vector")
