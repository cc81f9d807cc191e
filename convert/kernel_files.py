"""From a weight's file to kernels' files, and back: what ``dense2conv kernel`` does between its options and files.

A request gives a ``Rearranged``: the dense layer, and its kernel in each layout. Its ``proofs`` and its ``writers``
read the same arrays, so what is proven is what is written.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

from numpy.typing import NDArray

from .compare import Figures
from .dense_files import find, write_arrays
from .dense_layer import DenseLayer, convolution, layout_of, prove, write_model
from .errors import RequestError
from .kernel import WEIGHT_LAYOUTS, channel_axis, dense_to_kernel, kernel_to_dense, units_last
from .order_finding import Found, check_axes, find_order

Array = NDArray[Any]
Writer = Callable[[BinaryIO], object]


@dataclass(frozen=True)
class Rearranged:
    """A dense layer read from ``name``, and its ``kernels`` by layout, for an engine that flips them if ``flip``.

    With ``dense`` the layer is what was asked for, and the one kernel what was read. ``found``: the order, if it was
    not said but found; the layer's weight then is in that order.
    """

    name: str
    layer: DenseLayer
    kernels: Mapping[str, Array]
    flip: bool
    dense: bool
    found: Found | None = None

    def array(self, layout: str) -> Array:
        """The array in ``layout``: a kernel, or with ``dense`` the weight; ``RequestError`` for another layout."""
        if not self.dense:
            return self.kernels[layout]
        if layout not in WEIGHT_LAYOUTS:
            raise RequestError(f"a dense weight's layout is {' or '.join(WEIGHT_LAYOUTS)}, not {layout!r}")
        return self.layer.weight if layout == self.layer.weight_layout else self.layer.weight.T

    def proofs(self, stride: Sequence[int]) -> dict[str, Figures]:
        """The figures of each kernel; raises as ``dense_layer.prove`` does."""
        return {
            layout: prove(self.layer, kernel, layout, flip=self.flip, stride=stride)
            for layout, kernel in self.kernels.items()
        }

    def writers(self, outputs: Mapping[str, str], stride: Sequence[int]) -> dict[str, Writer]:
        """What fills the file of each path of ``outputs`` (layout by path), for ``dense_files.write_files``.

        Raises ``RequestError`` for a layout or an ending that does not fit.
        """
        return {path: self._writer(path, layout, stride) for path, layout in outputs.items()}

    def _writer(self, path: str, layout: str, stride: Sequence[int]) -> Writer:
        array = self.array(layout)
        ending = os.path.splitext(path)[1].lower()  # noqa: PTH122 - a name in any encoding
        if ending != ".onnx":
            named = {"weight" if self.dense else "kernel": array}
            if self.layer.bias is not None:
                named["bias"] = self.layer.bias
            return write_arrays(path, named)
        if self.dense or self.flip:
            rule = (
                "a dense weight is no network"
                if self.dense
                else "an ONNX convolution does not flip its kernel"
            )
            raise RequestError(f"{rule}, so none is written", file=path, hint="write .npy, .npz or .h5")
        if units_last(layout, array.ndim - 2):
            raise RequestError(f"an ONNX convolution's kernel is OIHW, not {layout}", file=path)
        return partial(write_model, convolution(array, self.layer.bias, stride))


def to_kernels(
    reference: str,
    patch: Sequence[int],
    order: str,
    layouts: Sequence[str],
    *,
    flip: bool = False,
    bias: str | None = None,
    weight_layout: str | None = None,
    probes: tuple[Array, Array] | None = None,
) -> Rearranged:
    """Read a dense weight and give its kernel in each of ``layouts``.

    ``patch`` are the sizes in ``order``; ``weight_layout`` is found where one axis alone is as long as the patch. With
    ``probes``, patches and outputs, ``order`` only names their axes, and how they were flattened is found from them.
    Raises as ``dense_files.find`` and ``order_finding.find_order``, and ``RequestError`` where the sizes do not fit.
    """
    inputs = math.prod(patch)
    if probes is None:
        channel_axis(order, len(patch))
    else:
        check_axes(order)
    for layout in layouts:
        units_last(layout, len(patch) - 1)

    def fits(shape: tuple[int, ...]) -> bool:
        return len(shape) == 2 and inputs in shape

    name, weight = find(reference, fits, f"a dense weight with an axis of {inputs} values")
    found = None
    values = None
    if probes is not None:
        if bias is not None:
            values = find(bias, lambda shape: len(shape) == 1, "a bias, one axis,")[1]
        found = find_order(weight, order, patch, *probes, bias=values, weight_layout=weight_layout)
        weight = found.weight(weight, order, patch)
        sizes = dict(zip(order, patch, strict=True))
        order, weight_layout = found.order, found.winner.weight_layout
        patch = [sizes[axis] for axis in order]
    axes = weight_layout or layout_of(weight.shape, inputs)
    kernels = {
        layout: dense_to_kernel(weight, patch, order, layout, flip, axes) for layout in dict.fromkeys(layouts)
    }
    layer = DenseLayer(weight, tuple(patch), order, axes, _bias(bias, weight.shape[axes.index("O")]))
    return Rearranged(name, layer, kernels, flip, dense=False, found=found)


def from_kernel(
    reference: str, order: str, layout: str, *, flip: bool = False, bias: str | None = None
) -> Rearranged:
    """Read a kernel in ``layout`` and give the dense layer on a patch that is flattened in ``order``.

    Raises as ``dense_files.find``, and ``RequestError`` where the layout does not fit.
    """
    last = units_last(layout, len(order) - 1)
    axes = len(order) + 1
    name, kernel = find(reference, lambda shape: len(shape) == axes, f"a kernel with {axes} axes")
    weight = kernel_to_dense(kernel, order, layout, flip)
    spatial = kernel.shape[:-2] if last else kernel.shape[2:]
    channels = kernel.shape[-2] if last else kernel.shape[1]
    patch = list(spatial)
    patch.insert(channel_axis(order, len(order)), channels)
    layer = DenseLayer(weight, tuple(patch), order, "KO", _bias(bias, weight.shape[1]))
    return Rearranged(name, layer, {layout: kernel}, flip, dense=True)


def _bias(reference: str | None, units: int) -> Array | None:
    if reference is None:
        return None
    return find(reference, lambda shape: shape == (units,), f"a bias of {units} values")[1]
