"""Dense layers: the first one that reads a feature map becomes a convolution as large as it, the later ones 1x1."""

from dataclasses import replace

import numpy as np

from ..scanned import Scanned, kernel_of
from ..turn import COMMON, Turn
from .pointwise import is_softmax, softmax

# What a convolution takes from the dense layer whose place it takes.
_ARGUMENTS = (
    *COMMON, "activation", "use_bias", "kernel_initializer", "bias_initializer", "kernel_regularizer",
    "bias_regularizer", "activity_regularizer", "kernel_constraint", "bias_constraint",
)  # fmt: skip


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
    units = turn.read.integer("units")
    order = value.elements
    if not np.array_equal(np.sort(order), np.arange(order.size)):
        raise turn.refusal("it does not read all of a feature map once")
    matrix, *bias = turn.arrays
    if matrix.shape != (order.size, units):
        raise turn.refusal(f"its kernel must be {order.size}x{units}, but it is {matrix.shape}")
    rank = len(value.space)
    strides = turn.head_strides(value)
    config = {key: v for key, v in turn.layer.config.items() if key in _ARGUMENTS} | {
        "filters": units, "kernel_size": list(value.sizes), "strides": list(strides), "padding": "valid",
        "data_format": value.data_format, "dilation_rate": [1] * rank,
    }  # fmt: skip
    result = replace(value.resized([1] * rank, units), jump=turn.at_stride())
    arrays = [kernel_of(matrix, value), *bias]
    variant = value.transposition() or order.tobytes()
    activation = config.get("activation")
    if not is_softmax(turn, activation) or value.data_format == "channels_last":
        made = turn.add(f"Conv{rank}D", config, [value], result, arrays, variant=variant)
        return made.viewed(made.elements.reshape(-1))
    # An activation of a convolution takes the last axis, which slides here.
    config["activation"] = "linear"
    made = turn.add(f"Conv{rank}D", config, [value], result, arrays, role="linear", variant=variant)
    return softmax(turn, made.viewed(made.elements.reshape(-1)), activation)


def _along_channels(turn: Turn, value: Scanned) -> Scanned:
    last = len(value.shape) - 1
    if value.channel != last:
        raise turn.refusal("it mixes the last axis, which the map slides over")
    shape = (*value.shape[:last], turn.read.integer("units"))
    return turn.kept([value], replace(value, shape=shape))
