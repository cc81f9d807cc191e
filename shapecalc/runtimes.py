"""Pads and output sizes as the runtimes work them out, where they differ.

A layer is asked for with a kernel, a stride, a dilation and a word for its padding; what that comes to on an axis of
``n`` elements is a ``Window``, or a refusal. With ``e = d*(k - 1) + 1``, the kernel's extent,

    valid     no pads                          causal    e - 1 before, none after
    explicit  the pads given                   full      e - 1 on both sides
    same      ceil(n / s) outputs, for which   (ceil(n / s) - 1)*s + e - n   pads are needed, at least 0; half of them
              before, the odd one after (same_upper, TensorFlow's SAME) or before (same_lower)

All agree on the first four. ``same`` and the limits are a function a runtime below; its docstring has the source.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

from .errors import ShapeError
from .window import Window, rounded_up

PADDINGS = ("valid", "explicit", "causal", "full", "same_upper", "same_lower")


@dataclass(frozen=True)
class Padding:
    """One axis's padding as it was asked for; ``before`` and ``after`` count for ``explicit`` only."""

    mode: str = "valid"
    before: int = 0
    after: int = 0

    def __post_init__(self) -> None:
        if self.mode not in PADDINGS:
            raise ShapeError(f"a padding is {', '.join(PADDINGS)}, not {self.mode!r}")
        if self.before < 0 or self.after < 0:
            raise ShapeError(
                f"pads must not be negative, got {self.before} before and {self.after} after",
                hint="a crop takes elements away",
            )

    @property
    def same(self) -> bool:
        """Whether the pads follow from the output's size."""
        return self.mode.startswith("same")


VALID = Padding()

DROPS_SINCE = 22
"""The operator set from which ONNX's inference drops a last window of ceil_mode that starts in the pads."""


@dataclass(frozen=True)
class Sliding:
    """One axis of a layer that slides a window, as it was asked for.

    ``operator``: conv, maxpool, avgpool or lppool. ``opset``: ONNX's operator set, where a runtime's answer depends on
    it. ``loops``: ONNX Runtime runs the pool by loops of its own, which take fewer than no pads, and not by the kernel
    that refuses them.
    """

    operator: str
    kernel: int
    stride: int = 1
    dilation: int = 1
    padding: Padding = VALID
    ceil: bool = False
    opset: int = DROPS_SINCE
    loops: bool = False

    def __post_init__(self) -> None:
        if self.kernel < 1 or self.stride < 1 or self.dilation < 1:
            raise ShapeError(
                f"kernel, stride and dilation must be at least 1, got {self.kernel}, {self.stride} and {self.dilation}"
            )

    @property
    def extent(self) -> int:
        """Elements from the first to the last that one neuron reads."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def pooling(self) -> bool:
        """Whether it is a pool."""
        return self.operator != "conv"

    def needed(self, size: int, extent: int) -> int:
        """Pads for ``ceil(size / stride)`` outputs; below 0 where the stride leaves elements over."""
        return (-(-size // self.stride) - 1) * self.stride + extent - size

    def padded(self, total: int) -> Window:
        """The window with ``total`` pads, the odd one on the side that the mode says."""
        less = total // 2
        before = less if self.padding.mode == "same_upper" else total - less
        return Window(self.kernel, self.stride, self.dilation, before, total - before)

    def unpadded(self) -> Window:
        """The window with the pads of every mode but ``same``."""
        pads = {
            "valid": (0, 0),
            "explicit": (self.padding.before, self.padding.after),
            "causal": (self.extent - 1, 0),
            "full": (self.extent - 1, self.extent - 1),
        }
        return Window(self.kernel, self.stride, self.dilation, *pads[self.padding.mode])


def _onnx(layer: Sliding, size: int) -> Window:
    """ONNX operator specification, Conv and MaxPool, ``auto_pad``; onnx/defs/nn/defs.cc, convPoolShapeInference."""
    if layer.padding.same:
        return layer.padded(max(layer.needed(size, layer.extent), 0))
    return layer.unpadded()


def _onnxruntime(layer: Sliding, size: int) -> Window:
    """onnxruntime/core/providers/cpu/nn/pool_attributes.h and conv_attributes.h; core/providers/common.h."""
    if not layer.padding.same:
        window = layer.unpadded()
        if layer.pooling and max(window.before, window.after) >= layer.kernel:
            raise ShapeError(
                "ONNX Runtime's pools take pads smaller than the kernel, "
                f"but {window.before} and {window.after} meet {layer.kernel}",
                hint="take a larger kernel, or a Pad in front of the pool",
            )
        return window
    if layer.dilation > 1 and not layer.pooling:
        raise ShapeError(
            f"ONNX Runtime's Conv takes no SAME with a dilation, but it is {layer.dilation}",
            hint="write the pads as numbers",
        )
    total = layer.needed(size, layer.kernel)  # a pool's dilation is forgotten
    if total >= 0:
        return layer.padded(total)
    fast = layer.operator == "maxpool" or (layer.operator == "avgpool" and layer.opset < 19)
    if fast and layer.dilation == 1 and not layer.loops:
        raise ShapeError(
            f"ONNX Runtime's pools take no SAME where the stride {layer.stride} leaves elements over: it wants "
            f"{total} pads for kernel {layer.kernel} on {size} elements",
            hint="take padding valid",
        )
    # Fewer than no pads: elements are left out on both sides, by divisions that round to zero (measured, 1.32).
    skew = (layer.padding.mode == "same_lower") + (not layer.pooling)
    before = -(max(-total - skew, 0) // 2)
    return Window(layer.kernel, layer.stride, layer.dilation, before, total - before)


def _pytorch(layer: Sliding, size: int) -> Window:  # noqa: ARG001
    """torch/nn/modules/conv.py, _ConvNd; aten/src/ATen/native/Pool.h, pool2d_shape_check."""
    if layer.padding.same:
        if layer.pooling:
            raise ShapeError("PyTorch's pools take their pads as a number, not as SAME")
        if layer.stride != 1:
            raise ShapeError(
                f"PyTorch takes padding='same' with stride 1 only, but the stride is {layer.stride}",
                hint="write the pads as numbers",
            )
        window = layer.padded(layer.extent - 1)
        if window.before > window.after:
            raise ShapeError(
                f"PyTorch's padding='same' puts the odd pad after, but SAME_LOWER asks for {window.before} before and "
                f"{window.after} after",
                hint="pad in front of the layer: torch.nn.functional.pad",
            )
        return window
    window = layer.unpadded()
    if window.before != window.after:
        raise ShapeError(
            f"PyTorch's layers pad both sides alike, but {window.before} and {window.after} are asked for",
            hint="pad in front of the layer: torch.nn.functional.pad",
        )
    if layer.pooling and 2 * window.before > layer.extent:
        raise ShapeError(
            f"PyTorch's pools take pads of at most half the kernel, but {window.before} meet {layer.extent}",
            hint="pad in front of the layer: torch.nn.functional.pad",
        )
    return window


def _tensorflow(layer: Sliding, size: int) -> Window:
    """tensorflow/core/framework/common_shape_fns.cc, GetWindowedOutputSizeVerbose; Keras's BaseConv."""
    if layer.padding.mode == "same_lower":
        raise ShapeError("TensorFlow's SAME puts the odd pad after", hint="write the pads as numbers")
    if layer.stride > 1 and layer.dilation > 1:
        raise ShapeError(
            f"TensorFlow takes a stride or a dilation, not both, but they are {layer.stride} and {layer.dilation}"
        )
    if layer.padding.same:
        return layer.padded(max(layer.needed(size, layer.extent), 0))
    window = layer.unpadded()
    if layer.operator in ("avgpool", "lppool") and (window.before or window.after):
        raise ShapeError(
            f"TensorFlow's average pools pad by SAME only, but {window.before} and {window.after} are asked for",
            hint="pad in front of the layer: tf.pad, which counts the pads as values",
        )
    if layer.ceil and rounded_up(size, window).after > window.after:
        raise ShapeError("TensorFlow's pools do not round up", hint="take padding same")
    return window


RUNTIMES: Mapping[str, Callable[[Sliding, int], Window]] = {
    "onnxruntime": _onnxruntime,
    "onnx": _onnx,
    "pytorch": _pytorch,
    "tensorflow": _tensorflow,
}
"""The rules by runtime; the first is the default, because it runs the files that this package writes."""

DEFAULT_RUNTIME = next(iter(RUNTIMES))

RUNS_ONNX = ("onnxruntime", "onnx")
"""Those that take an ONNX file as it is: for the others somebody writes the layer anew."""


def resolved(layer: Sliding, size: int, runtime: str = DEFAULT_RUNTIME) -> Window:
    """The layer's window on an axis of ``size`` elements, as ``runtime`` works it out.

    Raises ``ShapeError`` where the runtime refuses the layer, or the window does not fit.

    >>> pool = Sliding("avgpool", kernel=2, dilation=2, padding=Padding("same_upper"))
    >>> {name: resolved(pool, 5, name).output(5) for name in ("onnxruntime", "onnx", "tensorflow")}
    {'onnxruntime': 4, 'onnx': 5, 'tensorflow': 5}
    """
    window = RUNTIMES[runtime](layer, size)
    if layer.ceil and layer.pooling and window.extent <= size + window.before + window.after:
        window = rounded_up(size, window, drops=runtime != "onnx" or layer.opset >= DROPS_SINCE)
    if not window.output(size):
        raise ShapeError(
            f"a kernel must not be larger than the padded input, but {_spelled(layer)} > "
            f"{size} + {window.before} + {window.after}",
            hint="take a smaller kernel or dilation, more padding or a larger input",
        )
    return window


def _spelled(layer: Sliding) -> str:
    if layer.dilation == 1:
        return f"{layer.kernel}"
    return f"{layer.dilation}*({layer.kernel} - 1) + 1 = {layer.extent}"


@cache  # the layers of a network are much alike
def disagreements(layer: Sliding, size: int, chosen: str) -> dict[str, str]:
    """What the other runtimes make of a layer for which they do not all give what ``chosen`` gives, in words.

    A refusal is a disagreement too, unless the same pads written as numbers are taken.
    """
    ours = resolved(layer, size, chosen)
    found = {}
    for name in RUNTIMES:
        try:
            window = resolved(layer, size, name)
        except ShapeError as refusal:
            if name not in RUNS_ONNX and _runs_with_numbers(layer, ours, size, name):
                continue
            found[name] = f"refuses: {refusal.message}"
            continue
        if replace(window, after=0) != replace(ours, after=0) or window.output(size) != ours.output(size):
            found[name] = f"{window.output(size)} outputs, with {window.before} pads before"
    return found


def _runs_with_numbers(layer: Sliding, window: Window, size: int, runtime: str) -> bool:
    """Whether a runtime that does not know the word for the padding does the same with its pads as numbers."""
    if window.before < 0 or window.after < 0:
        return False
    numbers = replace(layer, padding=Padding("explicit", window.before, window.after), ceil=False)
    try:
        return resolved(numbers, size, runtime).output(size) == window.output(size)
    except ShapeError:
        return False
