"""Operators that treat every element, or every channel, alike: they commute with the scan and stay as they
are.

Only their constants may have to move: a bias ``(D,)`` that met ``(N, D)`` meets ``(N, D, *map)`` and becomes
``(D, 1, ..., 1)``. Unreshaped it would be added along the map's last axis, silently where that has D
positions.
"""

from collections.abc import Sequence
from dataclasses import replace

from onnx import TensorProto

from ..broadcasting import broadcast
from ..graph import Value
from ..layout import features_at
from ..step import BOOL, Parts, PositionDependent, Refusal, Result, Step
from .affine import arithmetic, normalization, waiting

_COMPARISONS = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "IsInf", "IsNaN", "And", "Or",
                          "Xor", "Not"})  # fmt: skip


def elementwise(step: Step) -> Result:
    """One operand of the network; further operands (Clip's limits) are scalars and stay."""
    kind = step.node.op_type
    dtype = BOOL if kind in _COMPARISONS else step.integer("to", 0) if kind == "Cast" else None
    for index in range(1, len(step.node.input)):
        limit = step.constant(index)
        if limit is not None and limit.size != 1:
            raise Refusal(f"operand {index} must be a scalar, it has shape {list(limit.shape)}")
    operand = step.values.get(step.node.input[0])
    if isinstance(operand, Parts):
        limits = step.node.input[1:]  # scalars: the same for every branch
        names = [step.builder.emit(kind, [v.name, *limits], **step.attributes) for v in operand.values]
        return [
            Parts(
                tuple(
                    replace(v, name=n, dtype=dtype or v.dtype)
                    for v, n in zip(operand.values, names, strict=True)
                )
            )
        ]
    return [step.same(step.value(), step.node.input[1:], dtype)]


def broadcasting(step: Step) -> Result:
    """Several operands combined element by element: values of the network that agree, and constants."""
    which = [i for i in range(len(step.node.input)) if step.is_data(i)]
    data = step.alike([step.ordered(i) for i in which])
    met = dict(zip(which, data, strict=True))
    operands = [met.get(i) for i in range(len(step.node.input))]
    base = max(data, key=lambda v: (len(v.layout.dims), v.layout.channel_count))
    for value in data:
        base = joined(base, value)
    if any(waiting(v) for v in data):
        return [_waiting(step, data)]
    try:
        names = [
            v.name if v is not None else broadcast(step, n, base)
            for v, n in zip(operands, step.node.input, strict=True)
        ]
    except PositionDependent:
        return [_waiting(step, data)]
    kind = step.node.op_type
    if kind == "Where":
        second = operands[1]
        dtype = second.dtype if second is not None else _dtype_of(step, 1)
    else:
        dtype = BOOL if kind in _COMPARISONS else data[0].dtype
    return [replace(base, name=step.emit(names, **step.attributes), dtype=dtype)]


def _waiting(step: Step, data: Sequence[Value]) -> Value:
    """Return one value of the network combined with one constant that a dense layer must take in."""
    if len(step.node.input) != 2 or len(data) != 1:
        raise Refusal(
            "it combines several values with a constant that differs from position to position of the patch"
        )
    return arithmetic(step, data[0], step.node.input[0 if step.is_data(1) else 1])


def _dtype_of(step: Step, index: int) -> int:
    from onnx import helper

    array = step.constant(index)
    return TensorProto.FLOAT if array is None else int(helper.np_dtype_to_tensor_dtype(array.dtype))


def joined(base: Value, other: Value) -> Value:
    """Return ``base`` as the result of combining it with ``other``, which broadcasts to it."""
    if base.collapsed != other.collapsed:
        raise Refusal(
            "it combines every position of the patch with a statistic of the whole patch, so each output depends on "
            "which patch it is computed for"
        )
    wide, narrow = base.layout.pattern(), other.layout.pattern()
    narrow = ((),) * (len(wide) - len(narrow)) + narrow
    for i, (w, n) in enumerate(zip(wide, narrow, strict=True)):
        if n not in (w, ()):
            raise Refusal(f"its operands hold different axes in dimension {i}")
    if other.layout.channel_count not in (1, base.layout.channel_count):
        raise Refusal("one operand has some of the channel axes of the other, and not all")
    try:
        axes = tuple(
            a if i in base.collapsed else a.joined(b)
            for i, (a, b) in enumerate(zip(base.axes, other.axes, strict=True))
        )
    except ValueError as error:
        raise Refusal(str(error)) from None
    return replace(base, axes=axes)


def batch_normalization(step: Step) -> Result:
    """Per-channel scale and shift, frozen: the four constants are one number a channel of axis 1."""
    value = step.ordered()
    if step.integer("training_mode", 0):
        raise Refusal("BatchNormalization in training mode computes statistics over the whole patch")
    for index in range(1, 5):
        constant = step.constant(index)
        if constant is None:
            raise Refusal(f"operand {index} is missing")
        if constant.ndim != 1:
            raise Refusal(
                f"BatchNormalization takes one number a channel, operand {index} has shape {list(constant.shape)}"
            )
    if waiting(value) or (len(value.layout.dims) == 2 and value.layout.spaces()):
        return [normalization(step, value)]
    if features_at(value.layout, 1) != 1:
        raise Refusal("BatchNormalization normalises another axis than the channels")
    return [step.same(value, step.node.input[1:])]


def dropped(step: Step) -> Result:
    """Identity, and Dropout at inference: nothing is left of them."""
    training = step.constant(2) if step.node.op_type == "Dropout" else None
    if training is not None and bool(training):
        raise Refusal("Dropout in training mode is random")
    step.note("removed", "does nothing at inference")
    return [step.values[step.node.input[0]]]
