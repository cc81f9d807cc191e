"""What a tensor of the patch network is in the map.

The map has no Flatten: where the patch network regroups the axes of a feature map, the map keeps the feature map, and
remembers which of its elements stand where. ``order`` is that memory, as an array of the value's own shape::

    tensor (H, W, C)                order = 0 .. H*W*C - 1, as (H, W, C)
    Permute((3, 1, 2))              the same numbers, as (C, H, W)
    Flatten                         the same numbers, in a row
    Dense                           reads number i with row k of its kernel, where order[k] = i

So each view of the patch network is the same view of ``order``, and whatever was done to the axes on the way, the
kernel of the convolution follows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..network import Tensor

Order = NDArray[np.int64]


@dataclass(frozen=True)
class Scanned:
    """A value. ``shape`` is that of its ``tensor`` in the map, on an input of the patch's size, without the batch.

    ``space``: which axes of ``shape`` slide over the input, in the input's order. ``jump``: the distance of two
    neighbours, in pixels, for each of them. ``order`` is None where the value is the tensor itself.
    """

    tensor: Tensor
    shape: tuple[int, ...]
    space: tuple[int, ...]
    jump: tuple[int, ...]
    order: Order | None = None

    @property
    def own_shape(self) -> tuple[int, ...]:
        """The shape that the value has in the patch network, without the batch."""
        return self.shape if self.order is None else self.order.shape

    @property
    def elements(self) -> Order:
        """The places of the value's elements in the flattened tensor, in the value's own shape."""
        return np.arange(prod(self.shape)).reshape(self.shape) if self.order is None else self.order

    @property
    def channel(self) -> int | None:
        """The one axis of the tensor that does not slide; None where there is none, or several."""
        others = [axis for axis in range(len(self.shape)) if axis not in self.space]
        return others[0] if len(others) == 1 else None

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of the axes that slide, on the patch."""
        return tuple(self.shape[axis] for axis in self.space)

    @property
    def collapsed(self) -> bool:
        """Whether it is one vector for the patch: a position of the map."""
        return set(self.sizes) <= {1}

    @property
    def in_order(self) -> bool:
        """Whether it is one vector for the patch, whose elements are the channels in their order."""
        return self.collapsed and bool((self.elements.ravel() == np.arange(prod(self.shape))).all())

    @property
    def data_format(self) -> str:
        """Keras's word for where the channels of the tensor are."""
        return "channels_last" if self.channel == len(self.shape) - 1 else "channels_first"

    def viewed(self, order: Order) -> "Scanned":
        """The same tensor with its elements in another order or shape."""
        same = order.shape == self.shape and bool((order.ravel() == np.arange(order.size)).all())
        return replace(self, order=None if same else order)

    def resized(self, sizes: Sequence[int], channels: int | None = None) -> "Scanned":
        """A tensor with other sizes of the sliding axes, and another number of channels, in the same layout."""
        shape = list(self.shape)
        for axis, size in zip(self.space, sizes, strict=True):
            shape[axis] = size
        if channels is not None:
            assert self.channel is not None
            shape[self.channel] = channels
        return replace(self, shape=tuple(shape), order=None)

    def transposition(self, *, exact: bool = False) -> tuple[int, ...] | None:
        """The permutation of the tensor's axes that gives the value; None where there is none.

        Unless ``exact``, the value may have another shape: its elements come in the same order.
        """
        places = np.arange(prod(self.shape)).reshape(self.shape)
        for axes in permutations(range(len(self.shape))):
            moved = places.transpose(axes)
            if exact and moved.shape != self.own_shape:
                continue
            if np.array_equal(moved.ravel(), self.elements.ravel()):
                return axes
        return None


def kernel_of(matrix: NDArray[Any], value: Scanned) -> NDArray[Any]:
    """The kernel ``(*window, in, out)`` of a dense layer's ``matrix`` ``(in, out)`` that reads all of ``value``.

    A view where the value is a transposed tensor. ``value`` holds each element of its tensor once.
    """
    axes, units = value.transposition(), matrix.shape[1]
    if axes is not None:
        # rows in the value's order -> one axis for each of the tensor's -> the tensor's order
        split = matrix.reshape([*(value.shape[axis] for axis in axes), units])
        kernel = split.transpose([*np.argsort(axes), len(axes)])
    else:
        kernel = matrix[np.argsort(value.elements.ravel())].reshape([*value.shape, units])
    assert value.channel is not None
    return kernel.transpose([*value.space, value.channel, len(value.shape)])
