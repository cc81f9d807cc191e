"""Pools over windows and over everything. The pads of an average pool are not counted, in Keras and here."""

from ..emit import Value
from ..step import Step
from .sliding import slid

_OPERATORS = {"Max": ("MaxPool", "maxpool"), "Average": ("AveragePool", "avgpool")}


def pool(step: Step) -> Value:
    """MaxPooling and AveragePooling, one to three axes."""
    name, channels, space = step.channels_first()
    operator, kind = _OPERATORS[step.layer.kind.split("Pooling")[0]]
    size = step.sizes("pool_size", len(space), 2)
    strides = step.sizes("strides", len(space)) if step.argument("strides", None) else size
    found = slid(step, kind, space, size, strides)
    return step.placed(step.emit(operator, [name], **found.attributes), channels, found.space)


def global_pool(step: Step) -> Value:
    """GlobalMaxPooling and GlobalAveragePooling: one number a channel, ``(N, C)`` unless ``keepdims``."""
    name, channels, space = step.channels_first()
    operator = "GlobalMaxPool" if "Max" in step.layer.kind else "GlobalAveragePool"
    pooled = step.emit(operator, [name])
    if step.argument("keepdims", False):
        return step.placed(pooled, channels, [1] * len(space))
    # (N, C, 1, ..) -> (N, C)
    flat = step.emit("Flatten", [pooled], "flatten", axis=1)
    return step.graph.made((step.input.shape[0], channels), flat)
