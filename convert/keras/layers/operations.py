"""Functions in a model, and no layers: Keras 3's ``keras.ops`` and Python's operators on tensors.

A function is called with tensors and numbers, in any place; its options are in its configuration (Keras 3) or among the
call's keywords. Axes count in Keras's order, the batch first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...model import Array
from ..emit import Value
from ..step import Step
from .functions import FUNCTIONS
from .indexing import indexed
from .merges import end_to_end, joined
from .views import reshaped


@dataclass(frozen=True)
class Used:
    """A function in use: its ``operands``, and its ``options`` by their names in ``keras.ops``."""

    step: Step
    operands: Sequence[Any]
    options: Mapping[str, Any]

    @property
    def value(self) -> Value:
        """The first operand, which must be a tensor."""
        first = self.operands[0] if self.operands else None
        if not isinstance(first, Value):
            raise self.step.refusal(f"it is computed from a tensor, but its first operand is {first!r}")
        return first

    def axes(self) -> list[int]:
        """The option ``axis``, counted from the front."""
        given = self.options.get("axis")
        if given is None:
            raise self.step.refusal("it must say its axis: without one it mixes the samples of a batch")
        axes = given if isinstance(given, (list, tuple)) else [given]
        return sorted(self.step.axis(self.value, axis) for axis in axes)


Operation = Callable[[Used], Value]


def operation(step: Step) -> Value:
    """A function of ``keras.ops``, under the name of its class there."""
    named = [step.keywords[key] for key in ("x", "x1", "x2", "xs") if key in step.keywords]
    options = {**step.layer.config, **step.keywords}
    return OPERATIONS[step.layer.kind.removeprefix("ops.")](Used(step, [*step.arguments, *named], options))


def _binary(operator: str) -> Operation:
    def binary(used: Used) -> Value:
        step = used.step
        if len(used.operands) != 2:
            raise step.refusal(f"it has two operands, but this call has {len(used.operands)}")
        left, right = used.operands
        if isinstance(left, Value) and isinstance(right, Value):
            if left.rank != right.rank:
                raise step.refusal(
                    f"tensors of one rank are joined, but these have {left.rank} and {right.rank} axes"
                )
            return joined(step, operator, [left, right])
        value = left if isinstance(left, Value) else right
        if not isinstance(value, Value):
            raise step.refusal(f"it is computed from a tensor, but its operands are {left!r} and {right!r}")
        constant = _array(step, right if value is left else left)
        sizes = [1] * (value.rank - constant.ndim) + list(constant.shape)
        if constant.ndim > value.rank or any(
            n not in (1, size) for n, size in zip(sizes, value.shape, strict=True)
        ):
            raise step.refusal(f"a constant of shape {list(constant.shape)} does not fit {list(value.shape)}")
        name, moved = step.form(value)
        operand = step.aligned(value, "operand", constant)
        names = [name, operand] if value is left else [operand, name]
        return step.graph.made(value.shape, step.emit(operator, names), moved=moved)

    return binary


def _array(step: Step, given: Any) -> Array:
    """A number, or an array as Keras writes one."""
    if isinstance(given, Mapping):
        given = given.get("config", {}).get("value", given.get("value"))
    try:
        array = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.asarray(np.nan)
    if not np.isfinite(array).all():
        raise step.refusal(f"an operand must be a tensor or finite numbers, but it is {given!r}")
    return array


def _unary(*operators: str) -> Operation:
    """One node behind the other."""

    def unary(used: Used) -> Value:
        value = used.value
        for operator in operators[:-1]:
            value = used.step.pointwise(operator, value, suffix=operator.lower())
        return used.step.pointwise(operators[-1], value)

    return unary


def _function(name: str) -> Operation:
    """One of the activation functions."""
    return lambda used: FUNCTIONS[name](used.step, used.value, used.options, "")


def _square(used: Used) -> Value:
    return used.step.pointwise("Mul", used.value, [used.step.form(used.value)[0]])


def _clip(used: Used) -> Value:
    limits = [_array(used.step, used.options.get(key)) for key in ("x_min", "x_max")]
    if any(limit.ndim for limit in limits):
        raise used.step.refusal("its limits must be numbers")
    return used.step.pointwise("Clip", used.value, [used.step.graph.number(float(limit)) for limit in limits])


def _cast(used: Used) -> Value:
    wanted = used.options.get("dtype")
    if "float" not in str(wanted):
        raise used.step.refusal(f"a cast to a floating type is supported, but this is to {wanted!r}")
    return used.value  # all floats of the graph have one type


def _reshape(used: Used) -> Value:
    value, step = used.value, used.step
    target = used.options.get("newshape", used.options.get("shape"))
    if not isinstance(target, (list, tuple)) or not all(n is None or isinstance(n, int) for n in target):
        raise step.refusal(f"the new shape must be numbers, but it is {target!r}")
    if not target or target[0] not in (-1, None, value.shape[0]):
        raise step.refusal(f"a reshape to {list(target)} must keep the batch in front")
    return reshaped(step, value, [-1 if n is None else n for n in target[1:]])


def _transpose(used: Used) -> Value:
    axes = used.options.get("axes")
    return _reordered(used, list(axes) if isinstance(axes, (list, tuple)) else None)


def _reordered(used: Used, order: list[int] | None) -> Value:
    value = used.value
    if order is None or sorted(order) != list(range(value.rank)) or order[0]:
        raise used.step.refusal(f"axes are put in another order behind the batch, but this is {order}")
    made = used.step.emit("Transpose", [used.step.graph.own(value)], perm=order)
    return used.step.graph.made([value.shape[i] for i in order], made)


def _swapped(used: Used) -> Value:
    first, second = (used.step.axis(used.value, used.options[key]) for key in ("axis1", "axis2"))
    order = list(range(used.value.rank))
    order[first], order[second] = second, first
    return _reordered(used, order)


def _moved_axis(used: Used) -> Value:
    source, target = (used.options[key] for key in ("source", "destination"))
    if not isinstance(source, int) or not isinstance(target, int):
        raise used.step.refusal("one axis is moved, but these are several")
    order = list(range(used.value.rank))
    axis = order.pop(used.step.axis(used.value, source))
    order.insert(used.step.axis(used.value, target), axis)
    return _reordered(used, order)


def _reduced(operator: str) -> Operation:
    """A mean, a sum or an extreme over axes; what is left keeps its order, in either form."""

    def reduced(used: Used) -> Value:
        step, value, axes = used.step, used.value, used.axes()
        if used.options.get("initial") is not None:
            raise step.refusal("an initial value of a reduction is not supported")
        name, moved = step.form(value)
        last = value.rank - 1
        places = [1 if axis == last else axis + 1 for axis in axes] if moved else axes
        keep = bool(used.options.get("keepdims", False))
        if operator == "ReduceSum":
            made = step.emit(operator, [name, step.graph.integers(places)], keepdims=int(keep))
        else:
            made = step.emit(operator, [name], axes=places, keepdims=int(keep))
        if keep:
            return step.graph.made(
                [1 if i in axes else n for i, n in enumerate(value.shape)], made, moved=moved
            )
        shape = [n for i, n in enumerate(value.shape) if i not in axes]
        return step.graph.made(shape, made, moved=moved and last not in axes)

    return reduced


def _concatenate(used: Used) -> Value:
    return end_to_end(used.step, used.step.inputs, used.options.get("axis", -1))


def _stack(used: Used) -> Value:
    axis = used.options.get("axis", 0)
    step = used.step
    ends = [step.inputs[0].rank + 1] if step.inputs else [0]
    if not isinstance(axis, int) or axis == 0 or not -ends[0] < axis < ends[0]:
        raise step.refusal(f"tensors are stacked behind the batch, but not along axis {axis}")
    axis %= ends[0]
    raised = []
    for number, value in enumerate(step.inputs, 1):
        made = step.emit(
            "Unsqueeze", [step.graph.own(value), step.graph.integers([axis])], f"operand_{number}"
        )
        raised.append(step.graph.made((*value.shape[:axis], 1, *value.shape[axis:]), made))
    return end_to_end(step, raised, axis)


def _expanded(used: Used) -> Value:
    value, step = used.value, used.step
    given = used.options.get("axis")
    axes = sorted(axis % (value.rank + 1) for axis in ([given] if isinstance(given, int) else []))
    if len(axes) != 1 or not axes[0]:
        raise step.refusal(f"an axis is put in behind the batch, but not at {given!r}")
    made = step.emit("Unsqueeze", [step.graph.own(value), step.graph.integers(axes)])
    return step.graph.made((*value.shape[: axes[0]], 1, *value.shape[axes[0] :]), made)


def _squeezed(used: Used) -> Value:
    value, step, axes = used.value, used.step, used.axes()
    if any(value.shape[axis] != 1 for axis in axes):
        raise step.refusal(
            f"axes of one element are taken out, but axes {axes} of {list(value.shape)} are not"
        )
    made = step.emit("Squeeze", [step.graph.own(value), step.graph.integers(axes)])
    return step.graph.made([n for i, n in enumerate(value.shape) if i not in axes], made)


def _item(used: Used) -> Value:
    key = used.operands[1] if len(used.operands) > 1 else used.options.get("key")
    return indexed(used.step, used.value, key)


_NAMES = (
    "Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Glu", "Silu", "HardSilu", "Sigmoid", "HardSigmoid",
    "LogSigmoid", "SparseSigmoid", "Softmax", "LogSoftmax", "Softplus", "Softsign", "SparsePlus", "Squareplus",
    "HardTanh", "HardShrink", "SoftShrink", "TanhShrink", "Threshold",
)  # fmt: skip


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


OPERATIONS: Mapping[str, Operation] = {
    **{name: _function(_snake(name)) for name in _NAMES},
    "Add": _binary("Add"),
    "Subtract": _binary("Sub"),
    "Multiply": _binary("Mul"),
    **dict.fromkeys(("Divide", "TrueDivide"), _binary("Div")),
    "Power": _binary("Pow"),
    "Maximum": _binary("Max"),
    "Minimum": _binary("Min"),
    "Negative": _unary("Neg"),
    **dict.fromkeys(("Abs", "Absolute"), _unary("Abs")),
    **{name: _unary(name) for name in ("Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor", "Log", "Reciprocal", "Round",
                                       "Sign", "Sin", "Sinh", "Sqrt", "Tan", "Tanh")},
    "Rsqrt": _unary("Sqrt", "Reciprocal"),
    "Square": _square,
    "Clip": _clip,
    "Cast": _cast,
    "Identity": lambda used: used.value,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Swapaxes": _swapped,
    "Moveaxis": _moved_axis,
    "Mean": _reduced("ReduceMean"),
    "Max": _reduced("ReduceMax"),
    "Min": _reduced("ReduceMin"),
    "Sum": _reduced("ReduceSum"),
    "Concatenate": _concatenate,
    "Stack": _stack,
    "ExpandDims": _expanded,
    "Squeeze": _squeezed,
    "GetItem": _item,
}  # fmt: skip
