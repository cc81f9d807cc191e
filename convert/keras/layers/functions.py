"""Activation functions by name: the one table, and what each of them is in ONNX.

keras/activations.py and keras/layers/activation. One has changed: ``hard_sigmoid`` is ``0.2 x + 0.5`` in Keras 1 and
2 and ``x / 6 + 0.5`` in Keras 3, clipped to 0..1. ``gelu`` is exact unless it says ``approximate``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..emit import Value
from ..step import Step

Function = Callable[[Step, Value, Mapping[str, Any], str], Value]
"""From the step, the value, the function's arguments, and the suffix of the node's name."""


def _part(suffix: str, what: str) -> str:
    """The suffix of a node in front of the last."""
    return f"{suffix}/{what}" if suffix else what


def _number(
    step: Step, config: Mapping[str, Any], names: Sequence[str], default: float | None
) -> float | None:
    """A function's argument, under the first of its names that is there; None where it is None."""
    for name in names:
        if name in config:
            value = config[name]
            if isinstance(value, Mapping):  # Keras 3 may write a number as an array
                value = value.get("config", {}).get("value", value.get("value"))
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise step.refusal(f"{name} must be a number, but it is {value!r}")
            return None if value is None else float(value)
    return default


def _simple(operator: str, **attributes: float) -> Function:
    def simple(step: Step, value: Value, _: Mapping[str, Any], suffix: str) -> Value:
        return step.pointwise(operator, value, (), suffix, **attributes)

    return simple


def _relu(slope: float = 0.0, most: float | None = None) -> Function:
    """``max_value`` from there on, ``x`` from ``threshold`` on, ``negative_slope * (x - threshold)`` below."""

    def relu(step: Step, value: Value, config: Mapping[str, Any], suffix: str) -> Value:
        below = _number(step, config, ("negative_slope", "alpha"), slope) or 0.0
        top = _number(step, config, ("max_value", "max"), most)
        threshold = _number(step, config, ("threshold", "theta"), 0.0) or 0.0
        number = step.graph.number
        last = suffix if top is None else _part(suffix, "below")
        if threshold:
            least = number(threshold)
            shifted = step.pointwise("Sub", value, [least], _part(suffix, "shifted"))
            low = step.pointwise("Mul", shifted, [number(below)], _part(suffix, "low"))
            high = step.pointwise("GreaterOrEqual", value, [least], _part(suffix, "high"))
            moved = not value.own
            names = [form.moved if moved else form.own for form in (high, value, low)]
            result = step.graph.made(value.shape, step.emit("Where", names, last), moved=moved)
        elif below:
            result = step.pointwise("LeakyRelu", value, suffix=last, alpha=below)
        elif top is not None:
            return step.pointwise("Clip", value, [number(0.0), number(top)], suffix)
        else:
            result = step.pointwise("Relu", value, suffix=last)
        return result if top is None else step.pointwise("Min", result, [number(top)], suffix)

    return relu


def _elu(step: Step, value: Value, config: Mapping[str, Any], suffix: str) -> Value:
    return step.pointwise("Elu", value, suffix=suffix, alpha=_number(step, config, ("alpha",), 1.0))


def _celu(step: Step, value: Value, config: Mapping[str, Any], suffix: str) -> Value:
    return step.pointwise("Celu", value, suffix=suffix, alpha=_number(step, config, ("alpha",), 1.0))


def _hard_sigmoid(step: Step, value: Value, _: Mapping[str, Any], suffix: str) -> Value:
    alpha = 0.2 if step.options.origin.major < 3 else 1 / 6
    return step.pointwise("HardSigmoid", value, suffix=suffix, alpha=alpha, beta=0.5)


def _gated(gate: Function) -> Function:
    """``x * gate(x)``."""

    def gated(step: Step, value: Value, config: Mapping[str, Any], suffix: str) -> Value:
        factor = gate(step, value, config, _part(suffix, "gate"))
        return step.pointwise("Mul", value, [factor.own or factor.moved], suffix)

    return gated


def _gelu(step: Step, value: Value, config: Mapping[str, Any], suffix: str) -> Value:
    """``x / 2 * (1 + erf(x / sqrt(2)))``, or its approximation by tanh."""
    number = step.graph.number
    if config.get("approximate", False):
        cubed = step.pointwise("Pow", value, [number(3.0)], _part(suffix, "cubed"))
        small = step.pointwise("Mul", cubed, [number(0.044715)], _part(suffix, "small"))
        summed = step.pointwise("Add", small, [value.own or value.moved], _part(suffix, "sum"))
        scaled = step.pointwise("Mul", summed, [number(math.sqrt(2 / math.pi))], _part(suffix, "scaled"))
        bent = step.pointwise("Tanh", scaled, suffix=_part(suffix, "tanh"))
    else:
        scaled = step.pointwise("Mul", value, [number(math.sqrt(0.5))], _part(suffix, "scaled"))
        bent = step.pointwise("Erf", scaled, suffix=_part(suffix, "erf"))
    raised = step.pointwise("Add", bent, [number(1.0)], _part(suffix, "raised"))
    half = step.pointwise("Mul", value, [number(0.5)], _part(suffix, "half"))
    return step.pointwise("Mul", half, [raised.own or raised.moved], suffix)


def _mish(step: Step, value: Value, _: Mapping[str, Any], suffix: str) -> Value:
    """``x * tanh(softplus(x))``."""
    soft = step.pointwise("Softplus", value, suffix=_part(suffix, "softplus"))
    bent = step.pointwise("Tanh", soft, suffix=_part(suffix, "tanh"))
    return step.pointwise("Mul", value, [bent.own or bent.moved], suffix)


def _softmax(operator: str) -> Function:
    def softmax(step: Step, value: Value, config: Mapping[str, Any], suffix: str) -> Value:
        given = config.get("axis", -1)
        axes = given if isinstance(given, (list, tuple)) else [given]
        if len(axes) != 1:
            raise step.refusal(f"softmax over one axis is supported, but these are {axes}")
        name, axis, moved = step.along(value, axes[0])
        return step.graph.made(value.shape, step.emit(operator, [name], suffix, axis=axis), moved=moved)

    return softmax


def _glu(step: Step, value: Value, config: Mapping[str, Any], suffix: str) -> Value:
    """The first half along ``axis``, times the sigmoid of the second."""
    name, axis, moved = step.along(value, config.get("axis", -1))
    own = axis if not moved else value.rank - 1 if axis == 1 else axis - 1
    size = value.shape[own]
    if size is None or size % 2:
        raise step.refusal(f"glu halves axis {own}, but it has {size or 'a free number of'} elements")
    shape = [size // 2 if i == own else n for i, n in enumerate(value.shape)]
    halves = []
    for what, start in (("first", 0), ("second", size // 2)):
        operands = [step.graph.integers(v) for v in ([start], [start + size // 2], [axis])]
        half = step.emit("Slice", [name, *operands], _part(suffix, what))
        halves.append(step.graph.made(shape, half, moved=moved))
    gate = step.pointwise("Sigmoid", halves[1], suffix=_part(suffix, "gate"))
    return step.pointwise("Mul", halves[0], [step.form(gate)[0]], suffix)


def _squareplus(step: Step, value: Value, config: Mapping[str, Any], suffix: str) -> Value:
    """``(x + sqrt(x^2 + b)) / 2``."""
    square = step.pointwise("Mul", value, [step.form(value)[0]], _part(suffix, "square"))
    least = step.graph.number(_number(step, config, ("b",), 4.0) or 0.0)
    raised = step.pointwise("Add", square, [least], _part(suffix, "raised"))
    root = step.pointwise("Sqrt", raised, suffix=_part(suffix, "root"))
    total = step.pointwise("Add", value, [step.form(root)[0]], _part(suffix, "sum"))
    return step.pointwise("Mul", total, [step.graph.number(0.5)], suffix)


def _log_sigmoid(step: Step, value: Value, _: Mapping[str, Any], suffix: str) -> Value:
    """``-softplus(-x)``."""
    turned = step.pointwise("Neg", value, suffix=_part(suffix, "turned"))
    soft = step.pointwise("Softplus", turned, suffix=_part(suffix, "softplus"))
    return step.pointwise("Neg", soft, suffix=suffix)


def _hard_tanh(step: Step, value: Value, _: Mapping[str, Any], suffix: str) -> Value:
    return step.pointwise("Clip", value, [step.graph.number(-1.0), step.graph.number(1.0)], suffix)


def _shrink(*, soft: bool) -> Function:
    """0 up to ``threshold`` in size; beyond, ``x``, or what is left of it behind the threshold."""

    def shrink(step: Step, value: Value, config: Mapping[str, Any], suffix: str) -> Value:
        edge = _number(step, config, ("threshold",), 0.5) or 0.0
        return step.pointwise("Shrink", value, suffix=suffix, lambd=edge, bias=edge if soft else 0.0)

    return shrink


def _tanh_shrink(step: Step, value: Value, _: Mapping[str, Any], suffix: str) -> Value:
    """``x - tanh(x)``."""
    bent = step.pointwise("Tanh", value, suffix=_part(suffix, "tanh"))
    return step.pointwise("Sub", value, [step.form(bent)[0]], suffix)


def _sparse_plus(step: Step, value: Value, _: Mapping[str, Any], suffix: str) -> Value:
    """0 up to -1, ``(x + 1)^2 / 4`` up to 1, ``x`` from there on."""
    number = step.graph.number
    half = step.pointwise("HardSigmoid", value, suffix=_part(suffix, "half"), alpha=0.5, beta=0.5)
    square = step.pointwise("Mul", half, [step.form(half)[0]], _part(suffix, "square"))
    over = step.pointwise("Sub", value, [number(1.0)], _part(suffix, "over"))
    rest = step.pointwise("Relu", over, suffix=_part(suffix, "rest"))
    return step.pointwise("Add", square, [step.form(rest)[0]], suffix)


def _threshold(step: Step, value: Value, config: Mapping[str, Any], suffix: str) -> Value:
    """``x`` above ``threshold``, else ``default_value``."""
    edge, default = (_number(step, config, (name,), None) for name in ("threshold", "default_value"))
    if edge is None or default is None:
        raise step.refusal("threshold must say its threshold and default_value, but it does not")
    above = step.pointwise("Greater", value, [step.graph.number(edge)], _part(suffix, "above"))
    names = [step.form(above)[0], step.form(value)[0], step.graph.number(default)]
    return step.graph.made(value.shape, step.emit("Where", names, suffix), moved=step.form(value)[1])


def _thresholded_relu(step: Step, value: Value, config: Mapping[str, Any], suffix: str) -> Value:
    """``x`` above ``theta``, else 0."""
    return step.pointwise(
        "ThresholdedRelu", value, suffix=suffix, alpha=_number(step, config, ("theta",), 1.0)
    )


_SIGMOID = _simple("Sigmoid")

# By the names of functions and, capitalised, of layers.
FUNCTIONS: Mapping[str, Function] = {
    "relu": _relu(),
    "relu6": _relu(most=6.0),
    "ReLU": _relu(),
    "leaky_relu": _relu(0.2),
    "LeakyReLU": _relu(0.3),
    "elu": _elu,
    "ELU": _elu,
    "selu": _simple("Selu", alpha=1.6732632423543772, gamma=1.0507009873554805),
    "celu": _celu,
    "sigmoid": _SIGMOID,
    "hard_sigmoid": _hard_sigmoid,
    "tanh": _simple("Tanh"),
    "softplus": _simple("Softplus"),
    "softsign": _simple("Softsign"),
    "exponential": _simple("Exp"),
    **dict.fromkeys(("silu", "swish"), _gated(_SIGMOID)),
    **dict.fromkeys(("hard_silu", "hard_swish"), _gated(_hard_sigmoid)),
    "mish": _mish,
    "gelu": _gelu,
    **dict.fromkeys(("softmax", "softmax_v2", "Softmax"), _softmax("Softmax")),
    **dict.fromkeys(("log_softmax", "log_softmax_v2"), _softmax("LogSoftmax")),
    "glu": _glu,
    "squareplus": _squareplus,
    "log_sigmoid": _log_sigmoid,
    "hard_tanh": _hard_tanh,
    "hard_shrink": _shrink(soft=False),
    "soft_shrink": _shrink(soft=True),
    "tanh_shrink": _tanh_shrink,
    "sparse_plus": _sparse_plus,
    "sparse_sigmoid": _simple("HardSigmoid", alpha=0.5, beta=0.5),
    "threshold": _threshold,
    "ThresholdedReLU": _thresholded_relu,
}

_RELU = ("negative_slope", "alpha", "max_value", "max", "threshold", "theta")
# The arguments that functions take from their configuration; others take none.
ARGUMENTS: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("relu", "relu6", "ReLU", "leaky_relu", "LeakyReLU"), _RELU),
    **dict.fromkeys(("elu", "ELU", "celu"), ("alpha",)),
    **dict.fromkeys(("hard_shrink", "soft_shrink"), ("threshold",)),
    "threshold": ("threshold", "default_value"),
    "squareplus": ("b",),
    "ThresholdedReLU": ("theta",),
}
