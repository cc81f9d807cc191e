"""Activations: functions by name, as a layer's argument or as layers of their own.

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


def activated(step: Step, value: Value) -> Value:
    """``value`` behind the layer's argument ``activation``."""
    return _applied(step, value, step.argument("activation", None), own=False)


def activation(step: Step) -> Value:
    """The layer Activation."""
    return _applied(step, step.input, step.argument("activation"), own=True)


def function(step: Step) -> Value:
    """A layer that is an activation of its own, such as ReLU."""
    return FUNCTIONS[step.layer.kind](step, step.input, step.layer.config, "")


def _applied(step: Step, value: Value, given: Any, *, own: bool) -> Value:
    """``value`` behind an activation as Keras writes it: a name, or a dictionary of a function or a layer.

    ``own``: whether its node is the layer's main one. Raises ``FileError`` for a function that is not known.
    """
    config: Mapping[str, Any] = {}
    if isinstance(given, Mapping):
        inner = given.get("config")
        if given.get("class_name") == "function" and isinstance(inner, str):
            given = inner
        else:
            given, config = given.get("class_name"), inner if isinstance(inner, Mapping) else {}
    if isinstance(given, str) and given in step.options.activations:
        given, config = step.options.activations[given]
    if given is None or given == "linear":
        return step.pointwise("Identity", value) if own else value
    if not isinstance(given, str) or given not in FUNCTIONS:
        raise step.refusal(
            f"the activation {given!r} is not known",
            f"say which it is, for instance --activation '{given}=relu:alpha=0.1,max=20'",
        )
    return FUNCTIONS[given](step, value, config, "" if own else given.lower())


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
    "celu": _simple("Celu", alpha=1.0),
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
}

_RELU = ("negative_slope", "alpha", "max_value", "max", "threshold", "theta")
# The arguments that functions take from their configuration; others take none.
ARGUMENTS: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("relu", "relu6", "ReLU", "leaky_relu", "LeakyReLU"), _RELU),
    **dict.fromkeys(("elu", "ELU"), ("alpha",)),
}
