"""Functions in the graph, such as ``x * 2 - 0.5``: the map has layers in their place, which any Keras can load."""

from collections.abc import Callable, Mapping

from ..scanned import Scanned
from ..turn import Rule, Turn
from .merges import merge_as
from .pointwise import function_as
from .views import reshaped


def _arithmetic(merge: str, factor: Callable[[float], tuple[float, float]]) -> Rule:
    """Two tensors are merged; with a number it is a Rescaling, by a factor and an offset."""

    def arithmetic(turn: Turn) -> Scanned:
        operands = [*turn.arguments, *(turn.keywords.get(name) for name in ("x1", "x2", "y"))]
        given = [operand for operand in operands if operand is not None]
        if len(turn.inputs) == 2 and merge:
            return merge_as(turn, merge)
        if len(given) != 2 or not isinstance(given[1], (int, float)) or isinstance(given[1], bool):
            raise turn.refusal(
                f"{turn.layer.kind} is known with two tensors, or with a tensor and a number behind it"
            )
        scale, offset = factor(float(given[1]))
        return function_as(turn, "Rescaling", {"scale": scale, "offset": offset})

    return arithmetic


def _function(name: str) -> Rule:
    return lambda turn: function_as(turn, "Activation", {"activation": name})


def _reshape(turn: Turn) -> Scanned:
    """Reshape with the batch in front, which must stay what it is."""
    target = turn.layer.config.get("newshape", turn.keywords.get("newshape"))
    if target is None and len(turn.arguments) > 1:
        target = turn.arguments[1]
    if not isinstance(target, (list, tuple)) or not target or target[0] not in (-1, None):
        raise turn.refusal(f"a reshape must leave the batch alone, but this one is to {target!r}")
    return reshaped(turn, list(target[1:]))


OPERATORS: Mapping[str, Rule] = {
    "ops.Add": _arithmetic("Add", lambda number: (1.0, number)),
    "ops.Subtract": _arithmetic("Subtract", lambda number: (1.0, -number)),
    "ops.Multiply": _arithmetic("Multiply", lambda number: (number, 0.0)),
    "ops.Divide": _arithmetic("", lambda number: (1.0 / number, 0.0)),
    "ops.TrueDivide": _arithmetic("", lambda number: (1.0 / number, 0.0)),
    "ops.Reshape": _reshape,
    **{
        f"ops.{name.capitalize()}": _function(name)
        for name in ("relu", "sigmoid", "tanh", "elu", "silu", "relu6")
    },
}
