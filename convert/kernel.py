"""A dense matrix and a convolution's kernel are the same numbers in another axis order.

A dense layer with weight ``W (K, O)`` reads a flattened patch: ``y[o] = sum_k x[k] W[k, o]``. ``K`` is the
product of the patch's sizes in the order in which it was flattened (row-major), so ``k`` is a multi-index,
and the same sum is the only position of a convolution without padding::

    y[o] = sum_{c,i,j} x[c, i, j] kernel[o, c, i, j]

    flattened   kernel OIHW                                  kernel HWIO
    HWC         W.reshape(H, W, C, O).transpose(3, 2, 0, 1)  W.reshape(H, W, C, O)
    CHW         W.reshape(C, H, W, O).transpose(3, 0, 1, 2)  W.reshape(C, H, W, O).transpose(1, 2, 0, 3)

Any number of spatial axes: only their count changes. ONNX, PyTorch, TensorFlow and Keras correlate, as the
sum above does. An engine that convolves in the mathematical sense (``scipy.signal.convolve``, Theano's
``conv2d``) reads the kernel rotated: reversed along every spatial axis, never along the channels; that is
``flip``.

Reshape, transpose and reversal are views in numpy, so nothing here copies or computes: each value, NaN
payloads and signed zeros included, arrives bit for bit, and the inverse gives the dense weight back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import FileError, RequestError

if TYPE_CHECKING:  # the command line reads the tables below without importing numpy
    from numpy.typing import NDArray

    Array = NDArray[Any]

ORDERS = ("CHW", "HWC", "CL", "LC", "CDHW", "DHWC")
"""In which order a patch's axes were flattened: C channels; L, HW or DHW the spatial axes."""

WEIGHT_LAYOUTS = ("KO", "OK")
"""A dense weight's axes: K the flattened patch, O the units. Keras stores KO, PyTorch's Linear OK."""

LAYOUTS = ("OIHW", "HWIO")
"""A kernel's axes: O units, I channels, HW standing for all spatial axes, however many there are."""

_MOST_AXES = 32  # numpy 1's limit; a real kernel has at most five axes
_SPATIAL_NAMES = {1: "L", 2: "HW", 3: "DHW"}


@dataclass(frozen=True)
class Rearrangement:
    """``array.reshape(shape).transpose(permutation)``, reversed along ``flip``, then ``.reshape(result)``.

    ``permutation`` is numpy's: axis ``i`` of the permuted array is axis ``permutation[i]`` of ``shape``.
    ``flip`` names axes of the permuted array. A view where numpy can give one.

    Raises ``ValueError`` where the four do not fit each other.

    >>> import numpy as np
    >>> Rearrangement((2, 3), (1, 0), (3, 2)).apply(np.arange(6)).tolist()
    [[0, 3], [1, 4], [2, 5]]
    """

    shape: tuple[int, ...]
    permutation: tuple[int, ...]
    result: tuple[int, ...]
    flip: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if max(len(self.shape), len(self.result)) > _MOST_AXES:
            raise ValueError(
                f"an array has at most {_MOST_AXES} axes, not {max(len(self.shape), len(self.result))}"
            )
        if any(size < 0 for size in (*self.shape, *self.result)):
            raise ValueError(f"a size is not negative: {self.shape} -> {self.result}")
        if sorted(self.permutation) != list(range(len(self.shape))):
            raise ValueError(
                f"{self.permutation} is not a permutation of the {len(self.shape)} axes of {self.shape}"
            )
        if len(set(self.flip)) != len(self.flip) or not set(self.flip) <= set(range(len(self.shape))):
            raise ValueError(
                f"{self.flip} does not name different axes of the {len(self.shape)} axes of {self.shape}"
            )
        if math.prod(self.shape) != math.prod(self.result):
            raise ValueError(
                f"{self.shape} has {math.prod(self.shape)} values, {self.result} has {math.prod(self.result)}"
            )

    def apply(self, array: Array) -> Array:
        """The rearranged array, of shape ``result``; ``ValueError`` for another number of values."""
        return self._reversed(array.reshape(self.shape).transpose(self.permutation)).reshape(self.result)

    def invert(self, kernel: Array, source_shape: Sequence[int]) -> Array:
        """The array of ``source_shape`` that ``apply`` made ``kernel`` from, bit for bit."""
        permuted = kernel.reshape([self.shape[axis] for axis in self.permutation])
        # argsort of a permutation is its inverse
        back = sorted(range(len(self.permutation)), key=self.permutation.__getitem__)
        return self._reversed(permuted).transpose(back).reshape(tuple(source_shape))

    def _reversed(self, permuted: Array) -> Array:
        return permuted[
            tuple(slice(None, None, -1 if axis in self.flip else 1) for axis in range(permuted.ndim))
        ]

    def to_json(self) -> dict[str, list[int]]:
        """The four fields as lists of integers, for a map's metadata."""
        return {
            "shape": list(self.shape),
            "permutation": list(self.permutation),
            "result": list(self.result),
            "flip": list(self.flip),
        }

    @classmethod
    def from_json(cls, value: object) -> Rearrangement:
        """The inverse of ``to_json`` for a value read from a file that nobody vouches for.

        Raises ``FileError`` for anything but the four lists of integers that fit each other.
        """
        fields = ("shape", "permutation", "result", "flip")
        if not isinstance(value, Mapping) or set(value) != set(fields):
            raise FileError(f"a rearrangement has the fields {', '.join(fields)}")
        for name in fields:
            numbers = value[name]
            if not isinstance(numbers, list) or any(type(number) is not int for number in numbers):
                raise FileError(f"a rearrangement's {name} is a list of integers")
        try:
            return cls(*(tuple(value[name]) for name in fields))
        except ValueError as error:
            raise FileError(f"a rearrangement does not fit itself: {error}") from error


def channel_axis(order: str, axes: int) -> int:
    """Where the channels stand in a patch of ``axes`` axes that was flattened in ``order``.

    Raises ``RequestError`` for an unknown order, or one of another number of axes.
    """
    if order not in ORDERS:
        raise RequestError(f"an order is one of {', '.join(ORDERS)}, not {order!r}")
    if len(order) != axes:
        raise RequestError(f"order {order} names {len(order)} axes, the patch has {axes}")
    return order.index("C")


def units_last(layout: str, spatial_axes: int) -> bool:
    """True for HWIO, False for OIHW; with one or three spatial axes ``LIO``, ``DHWIO`` .. name the same.

    Raises ``RequestError`` for any other layout.
    """
    spatial = _SPATIAL_NAMES.get(spatial_axes, "HW")
    if layout in ("HWIO", spatial + "IO"):
        return True
    if layout in ("OIHW", "OI" + spatial):
        return False
    raise RequestError(
        f"a kernel with {spatial_axes} spatial axes has the layout OI{spatial} or {spatial}IO, not {layout!r}"
    )


def kernel_rearrangement(
    patch: Sequence[int],
    order: str,
    units: int,
    *,
    layout: str = "OIHW",
    flip: bool = False,
    weight_layout: str = "KO",
) -> Rearrangement:
    """How a dense weight becomes a kernel.

    ``patch`` are the sizes in the order of ``order`` (``(20, 20, 10)`` for HWC), ``units`` the dense layer's
    O. The source is ``(K, O)``, or ``(O, K)`` with ``weight_layout="OK"``. The result is ``(O, C, *spatial)``
    for OIHW and ``(*spatial, C, O)`` for HWIO; with ``flip`` reversed along every spatial axis.

    Raises ``RequestError`` for an order or layout that does not fit the patch.
    """
    channels = channel_axis(order, len(patch))
    last = units_last(layout, len(patch) - 1)
    if weight_layout not in WEIGHT_LAYOUTS:
        raise RequestError(
            f"a dense weight's layout is one of {', '.join(WEIGHT_LAYOUTS)}, not {weight_layout!r}"
        )
    # KO: (*patch, O), OK: (O, *patch)
    shape = (*patch, units) if weight_layout == "KO" else (units, *patch)
    first_axis = 0 if weight_layout == "KO" else 1
    units_axis = len(patch) if weight_layout == "KO" else 0
    spatial_axes = [first_axis + axis for axis in range(len(patch)) if axis != channels]
    if last:  # (*spatial, C, O)
        permutation = (*spatial_axes, first_axis + channels, units_axis)
        reversed_axes = range(len(spatial_axes))
    else:  # (O, C, *spatial)
        permutation = (units_axis, first_axis + channels, *spatial_axes)
        reversed_axes = range(2, len(permutation))
    result = tuple(shape[axis] for axis in permutation)
    return Rearrangement(shape, permutation, result, tuple(reversed_axes) if flip else ())


def dense_to_kernel(
    weight: Array,
    patch: Sequence[int],
    order: str,
    layout: str = "OIHW",
    flip: bool = False,
    weight_layout: str = "KO",
) -> Array:
    """The kernel of a dense weight ``(K, O)`` (or ``(O, K)``, see ``weight_layout``): a view of it.

    Raises ``RequestError`` where K is not the product of ``patch``.

    >>> import numpy as np
    >>> dense_to_kernel(np.zeros((4000, 64)), (20, 20, 10), "HWC").shape
    (64, 10, 20, 20)
    """
    if weight.ndim != 2:
        raise RequestError(f"a dense weight has 2 axes, not {weight.ndim}: {weight.shape}")
    inputs, units = weight.shape if weight_layout == "KO" else weight.shape[::-1]
    if math.prod(patch) != inputs:
        sizes = "x".join(map(str, patch))
        raise RequestError(
            f"a dense weight has one row a value of the patch: {sizes} = {math.prod(patch)}, not {inputs}"
        )
    rearrangement = kernel_rearrangement(
        patch, order, units, layout=layout, flip=flip, weight_layout=weight_layout
    )
    return rearrangement.apply(weight)


def kernel_to_dense(
    kernel: Array, order: str, layout: str = "OIHW", flip: bool = False, weight_layout: str = "KO"
) -> Array:
    """The dense weight ``(K, O)`` of a kernel, for a patch flattened in ``order``: the way back.

    Raises ``RequestError`` for an order or layout that does not fit the kernel's number of axes.
    """
    if kernel.ndim < 3:
        raise RequestError(f"a kernel has 3 or more axes, not {kernel.ndim}: {kernel.shape}")
    if units_last(layout, kernel.ndim - 2):  # (*spatial, C, O)
        *spatial, channels, units = kernel.shape
    else:  # (O, C, *spatial)
        units, channels, *spatial = kernel.shape
    patch = list(spatial)
    patch.insert(channel_axis(order, kernel.ndim - 1), channels)
    rearrangement = kernel_rearrangement(
        patch, order, units, layout=layout, flip=flip, weight_layout=weight_layout
    )
    inputs = math.prod(patch)
    return rearrangement.invert(kernel, (inputs, units) if weight_layout == "KO" else (units, inputs))
