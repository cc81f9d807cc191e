"""Normalisation: ``gamma * (x - mean) / sqrt(variance + epsilon) + beta`` along one axis."""

import numpy as np

from ..emit import Value
from ..step import Step


def batch_normalization(step: Step) -> Value:
    """BatchNormalization with its stored statistics.

    Keras 1 calls the stored variance ``running_std``; it is a variance all the same (keras/layers/normalization.py,
    1.2).
    """
    value = step.input
    given = step.argument("axis", -1)
    axes = given if isinstance(given, list) else [given]
    if len(axes) != 1:
        raise step.refusal(f"one axis is normalised, but these are {axes}")
    axis = step.axis(value, axes[0])
    size = value.shape[axis]
    if size is None:
        raise step.refusal("the size of the normalised axis must be known, but it is free")
    ones = np.ones(size, step.graph.float_type)
    gamma = step.array("gamma", [size]) if step.argument("scale", True) else ones
    beta = step.array("beta", [size]) if step.argument("center", True) else np.zeros_like(ones)
    mean, variance = step.array("moving_mean", [size]), step.array("moving_variance", [size])
    arrays = {"gamma": gamma, "beta": beta, "moving_mean": mean, "moving_variance": variance}
    epsilon = step.number("epsilon", 1e-3)
    name, place, moved = step.along(value, axis)
    if place == 1:  # ONNX's axis
        operands = [step.constant(what, array) for what, array in arrays.items()]
        made = step.emit("BatchNormalization", [name, *operands], epsilon=epsilon)
        return step.graph.made(value.shape, made, moved=moved)
    if axis == value.rank - 1 and value.rank > 2:
        operands = [step.constant(what, array) for what, array in arrays.items()]
        made = step.emit("BatchNormalization", [step.graph.moved(value), *operands], epsilon=epsilon)
        return step.graph.made(value.shape, made, moved=True)
    factor = (gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)).astype(gamma.dtype)
    shape = [size if i == place else 1 for i in range(1, value.rank)]  # without the batch: it broadcasts
    centred = step.pointwise("Sub", value, [step.constant("moving_mean", mean.reshape(shape))], "centred")
    scaled = step.pointwise("Mul", centred, [step.constant("factor", factor.reshape(shape))])
    return step.pointwise("Add", scaled, [step.constant("beta", beta.reshape(shape))], "beta_add")
