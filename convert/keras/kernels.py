"""Stored arrays as Keras 2 and 3 would have stored them.

Two things change a kernel's axes. Keras 1 with ``dim_ordering`` th stored ``(out, in, *window)``, and a Convolution1D
as a 2-D kernel of width one. And a model trained on Theano has true convolutions: its kernels are flipped in
space, in both data formats (Theano's ``conv2d`` has ``filter_flip=True``), so they are flipped back; those of
depthwise and separable layers, which Keras flipped itself, are not.

keras/engine/topology.py (2.0) and keras/engine/saving.py (2.2 to 2.3), ``preprocess_weights_for_loading``;
keras/utils/conv_utils.py, ``convert_kernel``.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ..model import Array
from .network import Layer, Origin

_FLIPPED = ("Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose", "Conv3DTranspose")


def modern(layer: Layer, arrays: Sequence[Array], origin: Origin, flip: bool) -> list[Array]:
    """A layer's arrays with the kernel as ``(*window, in, out)`` of a correlation; views where that is possible."""
    result = list(arrays)
    if not result:
        return result
    if origin.major == 1 and layer.kind in _KERAS1:
        first = layer.config.get("data_format") == "channels_first"
        for number in range(2 if layer.kind == "SeparableConv2D" else 1):  # which has two kernels
            result[number] = _KERAS1[layer.kind](result[number], first)
    if flip and layer.kind in _FLIPPED:
        space = range(result[0].ndim - 2)  # (*window, in, out)
        result[0] = np.flip(result[0], axis=tuple(space))
    return result


def _convolution(kernel: Array, first: bool) -> Array:
    if not first:
        return kernel
    # (out, in, *window) -> (*window, in, out)
    return kernel.transpose(*range(2, kernel.ndim), 1, 0)


def _one_axis(kernel: Array, first: bool) -> Array:  # noqa: ARG001 - there is no dim_ordering in one dimension
    if kernel.ndim != 4:
        return kernel
    if kernel.shape[1] != 1 and kernel.shape[3] == 1:  # before 1.2: (out, in, k, 1)
        return kernel[:, :, :, 0].transpose(2, 1, 0)
    return kernel[:, 0]  # (k, 1, in, out)


def _transposed(kernel: Array, first: bool) -> Array:
    # th: (in, out, *window) -> (*window, out, in); tf: (*window, in, out) -> (*window, out, in)
    order = (2, 3, 1, 0) if first else (0, 1, 3, 2)
    return kernel.transpose(order) if kernel.ndim == 4 else kernel


_KERAS1: dict[str, Callable[[Array, bool], Array]] = {
    "Conv1D": _one_axis,
    "Conv2D": _convolution,
    "Conv3D": _convolution,
    "SeparableConv2D": _convolution,  # (M, C, *window) and (out, in, 1, 1): the same two pairs change places
    "Conv2DTranspose": _transposed,
}
