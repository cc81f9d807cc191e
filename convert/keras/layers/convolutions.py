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
    return activated(step, _each_channel(step, biased=True))


def separable(step: Step) -> Value:
    """SeparableConv1D, SeparableConv2D: a depthwise convolution, then one of 1x1, which has the bias."""
    value = _each_channel(step, "depthwise", biased=False)
    name, channels, space = step.channels_first(value)
    rank = len(space)
    filters = step.integer("filters")
    array = step.array("pointwise_kernel", [*(1,) * rank, channels, filters])
    # (1, .., in, out) -> (out, in, 1, ..)
    weight = step.constant("pointwise_kernel", array.transpose(rank + 1, rank, *range(rank)))
    made = step.emit("Conv", [name, weight, *step.bias(filters)], kernel_shape=[1] * rank)
    return activated(step, step.placed(made, filters, space))


def _each_channel(step: Step, suffix: str = "", *, biased: bool) -> Value:
    """A convolution of each channel by itself."""
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
    bias = step.bias(channels * multiplier) if biased else []
    made = step.emit("Conv", [name, weight, *bias], suffix, group=channels, **found.attributes)
    return step.placed(made, channels * multiplier, found.space)


def transposed(step: Step) -> Value:
    """Conv1DTranspose, Conv2DTranspose, Conv3DTranspose: the gradient of a convolution.

    With a window of ``k`` elements, dilation included, at stride ``s``, ``n`` elements become

        padding   output_padding None       else
        valid     n s + max(k - s, 0)       (n - 1) s + k + output_padding
        same      n s                       (n - 1) s + k + output_padding - 2 (k // 2)

    What that leaves of the whole ``(n - 1) s + k`` is cut off for same, half of it, rounded down, in front; where it is
    more than the whole, zeros are added behind. keras/utils/conv_utils.py, ``deconv_output_length`` (2);
    keras/src/backend/common/backend_utils.py (3).
    """
    name, channels, space = step.channels_first()
    rank = len(space)
    kernel = step.sizes("kernel_size", rank)
    strides = step.sizes("strides", rank, 1)
    dilations = step.sizes("dilation_rate", rank, 1)
    filters = step.integer("filters")
    padding = step.argument("padding", "valid")
    if padding not in ("valid", "same"):
        raise step.refusal(f"padding must be valid or same, but it is {padding!r}")
    if step.options.origin.theano and padding == "same":
        raise step.refusal("Theano's padding same of a transposed convolution is not supported")
    if step.options.origin.major == 1:
        raise step.refusal("Keras 1's Deconvolution2D, which is told its output's size, is not supported")
    added = step.argument("output_padding", None)
    if added is not None:
        added = [added] * rank if isinstance(added, int) else list(added)
        if len(added) != rank or not all(
            isinstance(o, int) and 0 <= o < max(s, d)
            for o, s, d in zip(added, strides, dilations, strict=True)
        ):
            raise step.refusal(f"output_padding must be below the stride {list(strides)}, but it is {added}")
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    cut = []
    for axis, (extent, stride) in enumerate(zip(extents, strides, strict=True)):
        if added is None:
            cut.append(extent - stride if padding == "same" else min(extent - stride, 0))
        else:
            cut.append((2 * (extent // 2) if padding == "same" else 0) - added[axis])
    before = [max(c, 0) // 2 for c in cut]
    after = [max(c, 0) - b for c, b in zip(cut, before, strict=True)]
    sizes = [
        None if n is None else (n - 1) * s + k - c
        for n, s, k, c in zip(space, strides, extents, cut, strict=True)
    ]
    if any(n is not None and n < 1 for n in sizes):
        raise step.refusal(f"nothing is left of {list(space)} elements")
    array = step.array("kernel", [*kernel, filters, channels])
    # (*window, out, in) -> (in, out, *window)
    weight = step.constant("kernel", array.transpose(rank + 1, rank, *range(rank)))
    made = step.emit(
        "ConvTranspose",
        [name, weight, *step.bias(filters)],
        kernel_shape=list(kernel),
        strides=list(strides),
        dilations=list(dilations),
        pads=[*before, *after],
        output_padding=[max(-c, 0) for c in cut],
    )
    return activated(step, step.placed(made, filters, sizes))
