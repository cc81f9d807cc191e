"""The windows of a larger input: how many there are, an input that has enough, and the crops themselves.

An axis of ``H`` pixels holds ``(H - P) // s + 1`` patches of ``P`` pixels at stride ``s``; patch ``i``
starts at pixel ``i * s``. An input that puts a map to the test has several positions on each axis, another
number on each, and pixels left over behind the last.
"""

from collections.abc import Iterator, Sequence
from itertools import islice, product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def positions(size: int, patch: int, stride: int) -> int:
    """The number of patches along an axis; 0 where the input is smaller than one.

    >>> positions(100, 20, 20), positions(100, 20, 1), positions(19, 20, 1)
    (5, 81, 0)
    """
    return (size - patch) // stride + 1 if size >= patch else 0


def uneven_size(patch: Sequence[int], stride: Sequence[int], *, few: bool = False) -> tuple[int, ...]:
    """A size with 4 positions on the first axis and 3 on each other (``few``: 3 and 2), and a rest on each.

    >>> uneven_size((20, 20), (4, 4))
    (34, 31)
    """
    sizes = []
    for axis, (pixels, step) in enumerate(zip(patch, stride, strict=True)):
        steps = (3 if axis == 0 else 2) - few
        # Another rest on each axis, so that rows and columns cannot be mixed up unseen; none fits into a
        # stride of 1.
        rest = step // 2 if axis == 0 else step - 1
        sizes.append(pixels + steps * step + rest)
    return tuple(sizes)


def noise(
    generator: np.random.Generator,
    shape: Sequence[int],
    dtype: str,
    spatial_axes: Sequence[int],
    patch: Sequence[int],
    gain: float = 1.0,
) -> Array:
    """A signed random input: normal noise, on blocks of half a patch that each have a normal mean.

    Without the blocks every average over a patch would be nearly the same. Values are of the order of
    ``gain``; integer types get all their values up to a byte's, booleans both.
    """
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return generator.integers(0, 2, shape).astype(kind)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return generator.integers(max(limits.min, -128), min(limits.max, 255) + 1, shape).astype(kind)
    coarse, block = list(shape), dict(zip(spatial_axes, (max(1, p // 2) for p in patch), strict=True))
    for axis, size in block.items():
        coarse[axis] = -(-shape[axis] // size)
    means = generator.standard_normal(coarse, np.float32)
    for axis, size in block.items():
        means = means.repeat(size, axis)
    means = means[tuple(slice(n) for n in shape)]
    fine = generator.standard_normal(shape, np.float32)
    return (gain * (fine + means)).astype(kind)


# Of the inputs beside signed noise: an offset, behind which differences cancel, and magnitudes over many decades.
_OFFSET = {"float16": 4.0, "float32": 100.0, "float64": 100.0}
_DECADES = {"float16": 3.0, "float32": 12.0, "float64": 12.0}


def families(generator: np.random.Generator, noise: Array) -> dict[str, Array]:
    """Other inputs made of signed ``noise``, a floating array of any shape, by what is special about them."""
    kind = noise.dtype
    spread = 10 ** generator.uniform(-_DECADES[kind.name] / 2, _DECADES[kind.name] / 2, noise.shape)
    with np.errstate(over="ignore"):
        return {
            "offset": noise + np.asarray(_OFFSET[kind.name], kind),
            "wide range": (noise * spread).astype(kind),
        }


def crops(
    image: Array,
    spatial_axes: Sequence[int],
    patch: Sequence[int],
    stride: Sequence[int],
    places: Sequence[Sequence[int]],
) -> Array:
    """The patches at ``places`` (map indices): ``(places * N, *)``, the N samples of a place together."""
    parts = []
    for place in places:
        window = [slice(None)] * image.ndim
        for axis, index, pixels, step in zip(spatial_axes, place, patch, stride, strict=True):
            window[axis] = slice(index * step, index * step + pixels)
        parts.append(image[tuple(window)])
    return np.concatenate(parts)


def chosen_places(
    counts: Sequence[int], most: int | None, generator: np.random.Generator
) -> list[tuple[int, ...]]:
    """All map indices in row-major order; of more than ``most`` the corners and a random choice."""
    if most is None or prod(counts) <= most:
        return list(product(*map(range, counts)))
    corners = set(product(*({0, n - 1} for n in counts)))
    drawn = generator.integers(0, counts, (most, len(counts)))
    return sorted(corners | {tuple(map(int, place)) for place in drawn})


def chunks(places: Sequence[tuple[int, ...]], length: int) -> Iterator[list[tuple[int, ...]]]:
    """The places, at most ``length`` at a time."""
    remaining = iter(places)
    while chunk := list(islice(remaining, length)):
        yield chunk
