"""Windows over an image and back: ``windows`` gathers them, ``image`` adds them up where they came from.

Both are numpy, for any number of axes: the oracle of what a convolution does, one window at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_POSITIONS = (3, 2, 2)  # another number on the first axis: a transposed one cannot go unseen


@dataclass(frozen=True)
class Sliding:
    """Windows of ``kernel`` taps, ``dilations`` apart, every ``strides`` pixels: ``counts`` of them an axis.

    ``rest`` pixels behind the last window are read by none. One entry a spatial axis.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    counts: tuple[int, ...]
    rest: tuple[int, ...]
    samples: int

    @classmethod
    def over(
        cls, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], samples: int
    ) -> "Sliding":
        """A few windows on each axis, with pixels left over where the stride leaves room for them.

        A stride beyond the window's extent only moves windows further apart: it is held one pixel beyond it.

        >>> Sliding.over((4, 4), (2, 100), (1, 1), 2).size
        (9, 13)
        """
        extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
        steps = tuple(min(s, extent + 1) for s, extent in zip(strides, extents, strict=True))
        counts = _POSITIONS[: len(kernel)]
        rest = tuple(s // 2 if i == 0 else s - 1 for i, s in enumerate(steps))
        return cls(tuple(kernel), steps, tuple(dilations), counts, rest, samples)

    @property
    def size(self) -> tuple[int, ...]:
        """The image's pixels on each axis: ``d (k - 1) + 1 + s (p - 1) + r``."""
        axes = zip(self.kernel, self.strides, self.dilations, self.counts, self.rest, strict=True)
        return tuple(d * (k - 1) + 1 + s * (p - 1) + r for k, s, d, p, r in axes)

    def _places(self) -> Iterator[tuple[int, tuple[slice, ...]]]:
        """Each position in row-major order, and the pixels that its window reads."""
        for index, place in enumerate(product(*map(range, self.counts))):
            axes = zip(place, self.kernel, self.strides, self.dilations, strict=True)
            yield index, tuple(slice(i * s, i * s + d * (k - 1) + 1, d) for i, k, s, d in axes)

    def windows(self, image: Array) -> Array:
        """``(N, C, *H)`` to ``(N * positions, C, *k)``, the positions of a sample together."""
        everything = (slice(None), slice(None))
        parts = [image[(*everything, *pixels)] for _, pixels in self._places()]
        return np.stack(parts, axis=1).reshape(-1, image.shape[1], *self.kernel)

    def image(self, windows: Array) -> Array:
        """``(N * positions, C, *k)`` to ``(N, C, *H)``: the adjoint of ``windows``, in the windows' type."""
        everything = (slice(None), slice(None))
        apart = windows.reshape(self.samples, prod(self.counts), *windows.shape[1:])
        total = np.zeros((self.samples, windows.shape[1], *self.size), windows.dtype)
        for index, pixels in self._places():
            total[(*everything, *pixels)] += apart[:, index]
        return total

    def on_the_map(self, rows: Array) -> Array:
        """``(N * positions, O)`` to ``(N, O, *positions)``."""
        apart = rows.reshape(self.samples, *self.counts, rows.shape[1])
        return np.ascontiguousarray(np.moveaxis(apart, -1, 1))
