"""Functions in the graph, such as ``x * 2 - 0.5``: the map has layers in their place, which any Keras can load."""

from collections.abc import Callable, Mapping
from typing import Any

from ...layers.tensorflow import FUNCTIONS
from ..scanned import Scanned
from ..turn import Rule, Turn
from .merges import merge_as
from .pointwise import function_as, softmax
from .views import reshaped
from .windows import pooled_over

Affine = Callable[[float], tuple[float, float]]
"""From the number in a function: the factor and the offset that it stands for."""


def _arithmetic(merge: str, behind: Affine, in_front: Affine | None) -> Rule:
    """Two tensors are merged; with a number, behind the tensor or in front of it, it is a Rescaling."""

    def arithmetic(turn: Turn) -> Scanned:
        named = [turn.keywords[key] for key in ("x", "x1", "x2", "y") if key in turn.keywords]
        operands = [*turn.arguments, *named]
        numbers = [n for n in operands if isinstance(n, (int, float)) and not isinstance(n, bool)]
        if len(turn.inputs) == len(operands) == 2 and merge:
            return merge_as(turn, merge)
        affine = behind if operands and isinstance(operands[0], Scanned) else in_front
        if len(operands) != 2 or len(numbers) != 1 or affine is None or (not merge and not numbers[0]):
            raise turn.refusal(f"{turn.layer.kind} of these operands has no layer that stands for it")
        scale, offset = affine(float(numbers[0]))
        return function_as(turn, "Rescaling", {"scale": scale, "offset": offset})

    return arithmetic


def _activation(name: str) -> Rule:
    return lambda turn: function_as(turn, "Activation", {"activation": name})


def _softmax(turn: Turn) -> Scanned:
    return softmax(turn, turn.value, "softmax", _option(turn, "axis", -1))


def _option(turn: Turn, name: str, default: Any = None) -> Any:
    """An option, which Keras 3 has in the configuration and Keras 2 in the call."""
    return turn.layer.config.get(name, turn.keywords.get(name, default))


def _reshape(turn: Turn) -> Scanned:
    """Reshape with the batch in front, which must stay what it is."""
    behind = turn.arguments[1] if len(turn.arguments) > 1 else None
    target = _option(turn, "newshape", _option(turn, "shape", behind))
    if not isinstance(target, (list, tuple)) or not target or target[0] not in (-1, None):
        raise turn.refusal(f"a reshape must leave the batch alone, but this one is to {target!r}")
    return reshaped(turn, list(target[1:]))


def _transpose(turn: Turn) -> Scanned:
    """Transpose with the batch in front."""
    order, axes = turn.value.elements, _option(turn, "axes", _option(turn, "perm"))
    if (
        not isinstance(axes, (list, tuple))
        or list(axes[:1]) != [0]
        or sorted(axes) != list(range(order.ndim + 1))
    ):
        raise turn.refusal(f"a transpose must leave the batch in front, but this one is to {axes!r}")
    return turn.value.viewed(order.transpose([axis - 1 for axis in axes[1:]]))


def _reduced(pool: str) -> Rule:
    """A mean or a maximum over all axes that slide is a global pool."""

    def reduced(turn: Turn) -> Scanned:
        value = turn.feature(turn.value)
        given = _option(turn, "axis")
        axes = given if isinstance(given, (list, tuple)) else [given]
        if not all(isinstance(axis, int) for axis in axes) or {
            axis % (len(value.shape) + 1) for axis in axes
        } != {axis + 1 for axis in value.space}:
            raise turn.refusal(
                f"{turn.layer.kind} must be over all rows and columns, but it is over {given!r}"
            )
        return pooled_over(turn, value, pool, bool(_option(turn, "keepdims", False)))

    return reduced


# By the names of their classes in keras.ops.
_OPERATORS: Mapping[str, Rule] = {
    "Add": _arithmetic("Add", lambda n: (1.0, n), lambda n: (1.0, n)),
    "Subtract": _arithmetic("Subtract", lambda n: (1.0, -n), lambda n: (-1.0, n)),
    "Multiply": _arithmetic("Multiply", lambda n: (n, 0.0), lambda n: (n, 0.0)),
    **dict.fromkeys(("Divide", "TrueDivide"), _arithmetic("", lambda n: (1.0 / n, 0.0), None)),
    "Negative": lambda turn: function_as(turn, "Rescaling", {"scale": -1.0, "offset": 0.0}),
    **{name: _activation(name.lower()) for name in
       ("Relu", "Sigmoid", "Tanh", "Elu", "Selu", "Softplus", "Softsign")},
    "Silu": _activation("swish"),  # as Keras 2 calls it, and Keras 3 as well
    "Exp": _activation("exponential"),
    "Relu6": lambda turn: function_as(turn, "ReLU", {"max_value": 6.0}),
    "Softmax": _softmax,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Mean": _reduced("Average"),
    "Max": _reduced("Max"),
}  # fmt: skip


def _tensorflow(turn: Turn) -> Scanned:
    """TFOpLambda: a function of TensorFlow, as what it is in ``keras.ops``."""
    name = turn.layer.config.get("function")
    known = FUNCTIONS.get(name) if isinstance(name, str) else None
    rule = _OPERATORS.get(known.operation) if known is not None else None
    if rule is None:
        raise turn.refusal(f"the function {name!r} is not supported")
    return rule(turn)


OPERATORS: Mapping[str, Rule] = {
    **{f"ops.{name}": rule for name, rule in _OPERATORS.items()},
    "TFOpLambda": _tensorflow,
}
