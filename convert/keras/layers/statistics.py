"""Normalisation with statistics of the input itself.

    y = gamma * (x - mean(x)) / sqrt(var(x) + epsilon) + beta

over the axes that the layer names (LayerNormalization), or over all positions and the channels of one group
(GroupNormalization). keras/src/layers/normalization (3).
"""

from collections.abc import Sequence

import numpy as np

from ..emit import Value
from ..step import Step


def layer_normalization(step: Step) -> Value:
    """LayerNormalization, RMSNormalization: ONNX's where the axes are the last ones, else written out."""
    value = step.input
    axes = _axes(step, value)
    sizes = [size for axis in axes if (size := value.shape[axis]) is not None]
    if len(sizes) < len(axes):
        raise step.refusal("the sizes of the axes that are normalised must be known, but they are free")
    epsilon = step.number("epsilon", 1e-3)
    # By the root of the mean square; LayerNormalization's own ``rms_scaling`` divides by the deviation and subtracts
    # nothing.
    rms = step.layer.kind == "RMSNormalization"
    uncentred = rms or step.argument("rms_scaling", False)
    names = ("scale", "") if rms else ("gamma", "beta")
    factor = step.array(names[0], sizes) if rms or step.argument("scale", True) else None
    offset = step.array(names[1], sizes) if not uncentred and step.argument("center", True) else None
    if not uncentred and axes == list(range(axes[0], value.rank)):
        ones = np.ones(sizes, step.graph.float_type) if factor is None else factor
        operands = [
            step.constant("gamma", ones),
            *([step.constant("beta", offset)] if offset is not None else []),
        ]
        made = step.emit(
            "LayerNormalization", [step.graph.own(value), *operands], axis=axes[0], epsilon=epsilon
        )
        return step.graph.made(value.shape, made)
    name, moved = step.form(value)
    places = _places(value, axes, moved)
    mean = step.emit("ReduceMean", [name], "mean", axes=places, keepdims=1)
    centred = name if rms else step.emit("Sub", [name, mean], "centred")
    square = step.emit("Mul", [centred, centred], "square")
    variance = step.emit("ReduceMean", [square], "variance", axes=places, keepdims=1)
    safe = step.emit("Add", [variance, step.graph.number(epsilon)], "safe")
    root = step.emit("Sqrt", [safe], "root")
    result = step.graph.made(
        value.shape, step.emit("Div", [name if uncentred else centred, root], "scaled"), moved=moved
    )
    shape = [sizes[axes.index(axis)] if axis in axes else 1 for axis in range(1, value.rank)]
    if factor is not None:
        result = step.pointwise(
            "Mul", result, [step.aligned(result, "gamma", factor.reshape(shape))], "factor"
        )
    if offset is not None:
        result = step.pointwise("Add", result, [step.aligned(result, "beta", offset.reshape(shape))])
    return result


def group_normalization(step: Step) -> Value:
    """GroupNormalization: an InstanceNormalization of ``(N, groups, the rest)``."""
    value = step.input
    axis = step.axis(value, step.argument("axis", -1))
    if axis not in (1, value.rank - 1):
        raise step.refusal(f"the channels must be the first axis or the last, but axis {axis} is normalised")
    channels = value.shape[axis]
    if channels is None:
        raise step.refusal("the number of channels must be known, but it is free")
    given = step.argument("groups", 32)
    groups = channels if given == -1 else step.integer("groups", 32)
    if channels % groups:
        raise step.refusal(f"groups must divide the channels, but {groups} does not divide {channels}")
    moved = axis == value.rank - 1 and value.rank > 2
    name = step.graph.moved(value) if moved else step.graph.own(value)
    # (N, C, *space) -> (N, groups, C / groups * space)
    split = step.emit("Reshape", [name, step.graph.integers([0, groups, -1])], "groups")
    kind = step.graph.float_type
    ones = [step.constant("ones", np.ones(groups, kind)), step.constant("zeros", np.zeros(groups, kind))]
    normed = step.emit(
        "InstanceNormalization", [split, *ones], "statistics", epsilon=step.number("epsilon", 1e-3)
    )
    shape = step.emit("Shape", [name], "shape")
    made = step.emit("Reshape", [normed, shape], "normalised")
    result = step.graph.made(value.shape, made, moved=moved)
    along = [channels if i == axis else 1 for i in range(1, value.rank)]
    if step.argument("scale", True):
        gamma = step.array("gamma", [channels]).reshape(along)
        result = step.pointwise("Mul", result, [step.aligned(result, "gamma", gamma)], "factor")
    if step.argument("center", True):
        beta = step.array("beta", [channels]).reshape(along)
        result = step.pointwise("Add", result, [step.aligned(result, "beta", beta)])
    return result


def unit_normalization(step: Step) -> Value:
    """UnitNormalization: divided by the Euclidean norm along the axes."""
    return unit(step, step.input, _axes(step, step.input), "")


def unit(step: Step, value: Value, axes: Sequence[int], suffix: str) -> Value:
    """``value`` divided by its Euclidean norm along ``axes``, or by 1e-12 where that is larger.

    keras/src/ops/nn.py, ``normalize``.
    """
    name, moved = step.form(value)
    start = f"{suffix}/" if suffix else ""
    norm = step.emit("ReduceL2", [name], f"{start}norm", axes=_places(value, axes, moved), keepdims=1)
    safe = step.emit("Max", [norm, step.graph.number(1e-12)], f"{start}safe")
    return step.graph.made(value.shape, step.emit("Div", [name, safe], suffix), moved=moved)


def _axes(step: Step, value: Value) -> list[int]:
    given = step.argument("axis", -1)
    return sorted(step.axis(value, axis) for axis in (given if isinstance(given, (list, tuple)) else [given]))


def _places(value: Value, axes: Sequence[int], moved: bool) -> list[int]:
    """Where Keras's ``axes`` lie in the tensor."""
    last = value.rank - 1
    return sorted(1 if axis == last else axis + 1 for axis in axes) if moved else sorted(axes)
