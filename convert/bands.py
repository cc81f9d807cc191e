"""An array's bytes in row-major order, band by band, whatever its strides.

A contiguous array is handed out as it lies, without a copy. Any other view (transposed, reversed) is gathered into one
buffer of bounded size. Along which axis the gathering goes decides its speed: in a transposed view the elements that
are neighbours in memory are far apart in the output, so a plain copy reads one element of each cache line, or writes
one. Taking ``STRIPE`` output columns at a time, each for all rows of the band, reads whole lines in order and writes
16 neighbours at once.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

BUFFER = 1 << 23  # bytes; twice and four times as much were no faster, the band no longer fits the cache
STRIPE = 16  # elements: one cache line of float32


def bands(array: Array, buffer: int = BUFFER) -> Iterator[memoryview]:
    """The bytes of ``array`` in row-major order, in pieces of at most ``buffer`` bytes (or one element).

    A piece is valid until the next one is asked for.
    """
    if not array.size:
        return
    if array.flags.c_contiguous:
        flat = array.reshape(-1).view(np.uint8).data
        for start in range(0, len(flat), buffer):
            yield flat[start : start + buffer]
        return
    store = np.empty(max(1, min(array.size, buffer // array.itemsize)), array.dtype)
    for block in _blocks(_merge_axes(array), store.size):
        band = store[: block.size].reshape(block.shape)
        _gather(band, block)
        yield band.reshape(-1).view(np.uint8).data


def _blocks(array: Array, limit: int) -> Iterator[Array]:
    """The array cut along its leading axes into consecutive blocks of at most ``limit`` elements."""
    row = array.size // array.shape[0] if array.ndim else 1
    if array.size <= limit:
        yield array
    elif row <= limit:
        rows = limit // row
        for start in range(0, array.shape[0], rows):
            yield array[start : start + rows]
    else:
        for inner in array:
            yield from _blocks(inner, limit)


def _gather(band: Array, block: Array) -> None:
    """``band[...] = block``, in an order of copying that suits the block's strides."""
    steps = [abs(stride) for stride in block.strides]
    if block.ndim < 2 or steps[-1] == min(steps):
        band[...] = block  # neighbours in the output are neighbours in memory
        return
    nearest = steps.index(min(steps))
    # (..., nearest axis, ..., last axis) to (outer..., nearest, last): the outer axes are walked one index at a time.
    band, block = np.moveaxis(band, nearest, -2), np.moveaxis(block, nearest, -2)
    for index in product(*(range(length) for length in block.shape[:-2])):
        target, source = band[index], block[index]
        for start in range(0, source.shape[1], STRIPE):
            target[:, start : start + STRIPE] = source[:, start : start + STRIPE]


def _merge_axes(array: Array) -> Array:
    """The same elements in the same order with as few axes as the strides allow, none of length 1."""
    shape: list[int] = []
    strides: list[int] = []
    for length, stride in zip(array.shape, array.strides, strict=True):
        if length == 1:
            continue
        if shape and strides[-1] == stride * length:
            shape[-1] *= length
            strides[-1] = stride
        else:
            shape.append(length)
            strides.append(stride)
    return np.lib.stride_tricks.as_strided(array, shape, strides, writeable=False)
