"""Layers that scale their input by numbers known beforehand."""

from typing import Any

import numpy as np

from ...model import Array
from ..emit import Value
from ..step import Step

_EPSILON = 1e-7  # keras.backend.epsilon()


def rescaling(step: Step) -> Value:
    """Rescaling: ``x * scale + offset``; lists are one number for each element of the last axes."""
    value = step.input
    scale, offset = _numbers(step, "scale"), _numbers(step, "offset", 0.0)
    if not step.channels_last and scale.size > 1:
        # Keras's global data_format, which is in no file, decides whether the scale goes along the first axis.
        raise step.refusal("a scale for each channel is supported for channels_last only")
    for what, array in (("scale", scale), ("offset", offset)):
        _fits(step, value, what, array)
    if not offset.any():
        return step.pointwise("Mul", value, [step.aligned(value, "scale", scale)])
    scaled = step.pointwise("Mul", value, [step.aligned(value, "scale", scale)], "scaled")
    return step.pointwise("Add", scaled, [step.aligned(value, "offset", offset)])


def normalization(step: Step) -> Value:
    """Normalization: ``(x - mean) / max(sqrt(variance), 1e-7)``, or back with ``invert``.

    Mean and variance are in the configuration, or are weights, which end with the number of samples that were seen;
    they have the axes ``axis``. keras/src/layers/preprocessing/normalization.py.
    """
    value = step.input
    given = step.argument("axis", -1)
    axes = sorted(
        step.axis(value, a) for a in (given if isinstance(given, list) else [given]) if a is not None
    )
    kept = [value.shape[axis] for axis in axes]
    sizes = [size for size in kept if size is not None]
    if len(sizes) < len(kept):
        raise step.refusal("the sizes of the axes that are normalised must be known, but they are free")
    shape = [sizes[axes.index(axis)] if axis in axes else 1 for axis in range(1, value.rank)]
    if step.argument("mean", None) is not None:
        mean, variance = (_spread(step, value, what, axes) for what in ("mean", "variance"))
    else:
        mean, variance = (step.array(what, sizes).reshape(shape) for what in ("mean", "variance"))
        next(step.arrays, None)  # count
    deviation = np.maximum(np.sqrt(variance.astype(np.float64)), _EPSILON)
    operands = [step.aligned(value, "mean", mean), step.aligned(value, "deviation", deviation)]
    if step.argument("invert", False):
        scaled = step.pointwise("Mul", value, operands[1:], "scaled")
        return step.pointwise("Add", scaled, operands[:1])
    centred = step.pointwise("Sub", value, operands[:1], "centred")
    return step.pointwise("Div", centred, operands[1:])


def _spread(step: Step, value: Value, what: str, axes: list[int]) -> Array:
    """Numbers of the configuration with an axis for each of ``value`` behind the batch; the last ones are theirs."""
    array = _numbers(step, what)
    squeezed = array.reshape([n for n in array.shape if n != 1]) if array.ndim > len(axes) else array
    if squeezed.ndim > len(axes):
        raise step.refusal(f"{what} has shape {list(array.shape)}, but {len(axes)} axes are normalised")
    shape = [1] * value.rank
    for axis, size in zip(axes[len(axes) - squeezed.ndim :], squeezed.shape, strict=True):
        if size not in (1, value.shape[axis]):
            raise step.refusal(f"{what} has {size} numbers for an axis of {value.shape[axis]}")
        shape[axis] = size
    return squeezed.reshape(shape[1:])


def _numbers(step: Step, name: str, default: Any = None) -> Array:
    """An argument that is a number, a list of lists of them, or Keras's dictionary of an array."""
    value = step.argument(name, default)
    if isinstance(value, dict):
        value = value.get("config", {}).get("value", value.get("value"))
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.asarray(np.nan)
    if not np.isfinite(array).all() or not array.size:
        raise step.refusal(f"{name} must be numbers, but it is {value!r}")
    return array


def _fits(step: Step, value: Value, what: str, array: Array) -> None:
    own = value.shape[1:][value.rank - 1 - array.ndim :] if array.ndim < value.rank else None
    if own is None or any(n not in (1, size) for n, size in zip(array.shape, own, strict=True)):
        raise step.refusal(f"{what} of shape {list(array.shape)} does not fit {list(value.shape)}")
