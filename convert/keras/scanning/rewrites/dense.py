"""Dense layers: the first one that reads a feature map becomes a convolution as large as it, the later ones 1x1.

A locally connected layer is a dense one with many zeros, and so becomes a convolution as well.
"""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any

import numpy as np

from ....model import Array
from ..scanned import Scanned, kernel_of
from ..turn import COMMON, Turn
from .pointwise import is_softmax, softmax

# What a convolution takes from the dense layer whose place it takes.
_ARGUMENTS = (
    *COMMON, "activation", "use_bias", "kernel_initializer", "bias_initializer", "kernel_regularizer",
    "bias_regularizer", "activity_regularizer", "kernel_constraint", "bias_constraint",
)  # fmt: skip

_MOST_ELEMENTS = 1 << 26  # of the kernel that a locally connected layer becomes: 256 MiB


def dense(turn: Turn) -> Scanned:
    """Dense. On more than one axis it reads the last, and stays a Dense where that is the channels."""
    value = turn.value
    if len(value.own_shape) > 1:
        return _along_channels(turn, turn.feature(value))
    if value.channel is None:
        raise turn.refusal(
            "the input has no axis of channels, which a convolution needs",
            "give the network an input (*size, 1), or convert it to .onnx",
        )
    order = value.elements
    if not np.array_equal(np.sort(order), np.arange(order.size)):
        raise turn.refusal("it does not read all of a feature map once")
    matrix, *bias = turn.arrays
    units = turn.read.integer("units")
    if matrix.shape != (order.size, units):
        raise turn.refusal(f"its kernel must be {order.size}x{units}, but it is {matrix.shape}")
    variant = value.transposition() or order.tobytes()
    return _convolution(turn, value, [kernel_of(matrix, value), *bias], variant)


def _convolution(turn: Turn, value: Scanned, arrays: Sequence[Array], variant: Hashable = None) -> Scanned:
    """A convolution that reads all of the tensor of ``value``: a vector of as many elements as the kernel has units."""
    rank, units = len(value.space), arrays[0].shape[-1]
    config = {key: v for key, v in turn.layer.config.items() if key in _ARGUMENTS} | {
        "filters": units, "kernel_size": list(value.sizes), "strides": list(turn.head_strides(value)),
        "padding": "valid", "data_format": value.data_format, "dilation_rate": [1] * rank,
    }  # fmt: skip
    result = replace(value.resized([1] * rank, units), jump=turn.stride)
    activation = config.get("activation")
    if not is_softmax(turn, activation) or value.data_format == "channels_last":
        made = turn.add(f"Conv{rank}D", config, [value], result, arrays, variant=variant)
        return made.viewed(made.elements.reshape(-1))
    # An activation of a convolution takes the last axis, which slides here.
    config["activation"] = "linear"
    made = turn.add(f"Conv{rank}D", config, [value], result, arrays, role="linear", variant=variant)
    return softmax(turn, made.viewed(made.elements.reshape(-1)), activation)


def locally_connected(turn: Turn) -> Scanned:
    """LocallyConnected1D, 2D of implementation 1, channels last: a kernel ``(positions, window * in, out)``."""
    value = turn.windowed()
    rank = len(value.space)
    if value.data_format != "channels_last":
        raise turn.refusal("a locally connected layer is supported with its channels last")
    kernel, strides = turn.read.sizes("kernel_size", rank), turn.read.sizes("strides", rank, 1)
    weights, *bias = turn.arrays
    filters = turn.read.integer("filters")
    out = [(n - k) // s + 1 for n, k, s in zip(value.sizes, kernel, strides, strict=True)]
    if prod(value.shape) * prod(out) * filters > _MOST_ELEMENTS:
        raise turn.refusal(
            f"as a convolution it would have {prod(value.shape)}x{prod(out) * filters} weights"
        )
    if is_softmax(turn, turn.read.argument("activation", None)):
        raise turn.refusal(
            "a softmax in a locally connected layer is not supported", "make it a layer of its own"
        )
    whole = np.zeros((*value.shape, *out, filters), weights.dtype)
    for weight, place in zip(weights, product(*map(range, out)), strict=True):
        window: tuple[Any, ...] = tuple(
            slice(p * s, p * s + k) for p, s, k in zip(place, strides, kernel, strict=True)
        )
        # (window * in, out) -> (*window, in, out)
        whole[(*window, slice(None), *place)] = weight.reshape(*kernel, -1, filters)
    arrays = [whole.reshape(*value.shape, -1), *(array.reshape(-1) for array in bias)]
    made = _convolution(turn, value, arrays)
    return made.viewed(made.elements.reshape(*out, filters))


def _along_channels(turn: Turn, value: Scanned) -> Scanned:
    last = len(value.shape) - 1
    if value.channel != last:
        raise turn.refusal("it mixes the last axis, which the map slides over")
    shape = (*value.shape[:last], turn.read.integer("units"))
    return turn.kept([value], replace(value, shape=shape))
