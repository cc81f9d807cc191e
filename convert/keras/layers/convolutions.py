"""Convolutions: Keras's kernel is ``(*window, in / groups, out)``, in both data formats.

ONNX's is ``(out, in / groups, *window)``.

keras/layers/convolutional/base_conv.py; ONNX operator specification, Conv.
"""

import numpy as np

from ..emit import Value
from ..step import Step
from .activations import activated
from .sliding import slid


def convolution(step: Step) -> Value:
    """Conv1D, Conv2D, Conv3D."""
    name, channels, space = step.channels_first()
    rank = len(space)
    kernel = step.sizes("kernel_size", rank)
    groups = step.integer("groups", 1)
    filters = step.integer("filters")
    if channels % groups or filters % groups:
        raise step.refusal(
            f"groups must divide channels and filters, but {groups} does not: {channels}, {filters}"
        )
    array = step.array("kernel", [*kernel, channels // groups, filters])
    # (*window, in, out) -> (out, in, *window)
    weight = step.constant("kernel", array.transpose(rank + 1, rank, *range(rank)))
    dilations = step.sizes("dilation_rate", rank, 1)
    found = slid(step, "conv", space, kernel, step.sizes("strides", rank, 1), dilations)
    made = step.emit("Conv", [name, weight, *step.bias(filters)], group=groups, **found.attributes)
    return activated(step, step.placed(made, filters, found.space))


def depthwise(step: Step) -> Value:
    """DepthwiseConv1D, DepthwiseConv2D: ``depth_multiplier`` filters for each channel, by itself."""
    name, channels, space = step.channels_first()
    rank = len(space)
    kernel = step.sizes("kernel_size", rank)
    multiplier = step.integer("depth_multiplier", 1)
    array = step.array("depthwise_kernel", [*kernel, channels, multiplier])
    # (*window, C, M) -> (C, M, *window) -> (C*M, 1, *window)
    array = array.transpose(rank, rank + 1, *range(rank)).reshape(channels * multiplier, 1, *kernel)
    weight = step.constant("depthwise_kernel", np.ascontiguousarray(array))
    dilations = step.sizes("dilation_rate", rank, 1)
    found = slid(step, "conv", space, kernel, step.sizes("strides", rank, 1), dilations)
    bias = step.bias(channels * multiplier)
    made = step.emit("Conv", [name, weight, *bias], group=channels, **found.attributes)
    return activated(step, step.placed(made, channels * multiplier, found.space))
