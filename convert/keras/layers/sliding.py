"""Windows: pads and output sizes, as Keras and its backends work them out.

TensorFlow's SAME is ONNX's SAME_UPPER (shapecalc.runtimes). Theano's is another one
(keras/backend/theano_backend.py, 1.0 to 2.3): ``ceil(n / s)`` outputs, but the first window starts at ``-b`` with

    convolution   b = k // 2                    pool   b = k - 2 for odd k > 2, else k - 1

whatever the size; what that reaches behind the input is padded, or left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ....shapecalc.errors import ShapeError
from ....shapecalc.runtimes import Padding, Sliding, resolved
from ....shapecalc.window import Window
from ..step import Step

_MODES = {"valid": "valid", "same": "same_upper", "causal": "causal", "full": "full"}


@dataclass(frozen=True)
class Slid:
    """What the graph is told about the windows, and the sizes that come out (None where a size is free)."""

    attributes: dict[str, Any]
    space: tuple[int | None, ...]


def slid(
    step: Step,
    operator: str,
    space: Sequence[int | None],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int] | None = None,
) -> Slid:
    """The layer's windows over ``space``; ``operator`` is conv, maxpool or avgpool, as in shapecalc.

    Raises ``FileError`` where a window does not fit, or the pads cannot be known.
    """
    word = step.argument("padding", "valid")
    if word not in _MODES:
        raise step.refusal(f"padding must be {', '.join(_MODES)}, but it is {word!r}")
    axes = [
        Sliding(operator, k, s, d, Padding(_MODES[word]))
        for k, s, d in zip(kernel, strides, dilations or [1] * len(kernel), strict=True)
    ]
    theano = word == "same" and step.options.origin.theano
    attributes: dict[str, Any] = {
        "kernel_shape": list(kernel),
        "strides": list(strides),
        "padding": _MODES[word],
    }
    if dilations is not None and set(dilations) != {1}:
        attributes["dilations"] = list(dilations)
    free = [axis for axis, n in zip(axes, space, strict=True) if n is None]
    if word == "same" and any(axis.stride > 1 for axis in free) and not theano:
        if any(axis.dilation > 1 for axis in axes):
            raise step.refusal("padding same with a dilation and a stride needs a known size, but it is free")
        attributes["auto_pad"] = "SAME_UPPER"
        sizes = [None if n is None else -(-n // axis.stride) for axis, n in zip(axes, space, strict=True)]
        return Slid(attributes, tuple(sizes))
    try:
        windows = [
            _theano(step, axis, n) if theano else _window(axis, n)
            for axis, n in zip(axes, space, strict=True)
        ]
    except ShapeError as error:
        raise step.refusal(error.message, error.hint) from error
    pads = [*(window.before for window in windows), *(window.after for window in windows)]
    if any(pads):
        attributes["pads"] = pads
    sizes = [None if n is None else window.output(n) for window, n in zip(windows, space, strict=True)]
    return Slid(attributes, tuple(sizes))


def _window(axis: Sliding, size: int | None) -> Window:
    # Where the size is free the stride is 1, or there are no pads that depend on it.
    return resolved(axis, size if size is not None else axis.extent, "onnx")


def _theano(step: Step, axis: Sliding, size: int | None) -> Window:
    k, s = axis.kernel, axis.stride
    before = k // 2 if not axis.pooling else k - 2 if k > 2 and k % 2 else k - 1
    if axis.dilation > 1:
        raise step.refusal("Theano's padding same with a dilation is not supported")
    if size is None:
        if s > 1:
            raise step.refusal("Theano's padding same with a stride needs a known size, but it is free")
        return Window(k, s, 1, before, k - 1 - before)
    # Without pads behind there may be a window less or more than ceil(n / s).
    after = (-(-size // s) - 1) * s + k - size - before
    if after <= -s:
        raise step.refusal(f"Theano's padding same leaves out {-after} elements, more than a stride of {s}")
    return Window(k, s, 1, before, max(after, 0))
