"""Which positions of its input a layer's positions read, on one axis: what is not a plain window.

Every reading repeats: position ``j + period`` reads what position ``j`` reads, ``advance`` elements further on. A
``Window`` has period 1 and advances by its stride. The readings here are

    Transposed   a transposed convolution: ``j`` reads ``i`` exactly where, in the convolution, ``i`` reads ``j``
    Adaptive     an adaptive pool: output ``j`` of ``k`` reads ``floor(j*n/k) .. ceil((j+1)*n/k) - 1``
    Interpolated linear upsampling by a whole number: ``j`` reads the two elements around its own place
    Mirrored     pads that hold copies of what is inside

Positions below 0 and from the size on are pads; nothing here clips.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import gcd
from typing import NamedTuple, Protocol

from .errors import ShapeError
from .window import Window


class Reading(Protocol):
    """What ``Window`` and the classes below have in common."""

    @property
    def period(self) -> int:
        """Positions after which the reading repeats."""

    @property
    def advance(self) -> int:
        """Elements by which it has moved on then."""

    def reads(self, position: int) -> Sequence[int]:
        """Elements that ``position`` reads, in ascending order; unclipped."""

    def readers(self, element: int) -> Sequence[int]:
        """Positions that read ``element``, in ascending order; unclipped."""


class Beyond(Enum):
    """What a layer reads where that does not depend on the position: all there is, or nobody knows what."""

    WHOLE = "whole"
    UNKNOWN = "?"


SAME_POSITION = Window(kernel=1)
"""The reading of a layer that works position by position."""


class Transposed(NamedTuple):
    """A transposed convolution: the convolution ``window`` seen from its input.

    >>> list(Transposed(Window(kernel=3, stride=2)).reads(4))
    [1, 2]
    """

    window: Window

    @property
    def period(self) -> int:
        """The stride of the convolution."""
        return self.window.stride

    @property
    def advance(self) -> int:
        """One element a period."""
        return 1

    def reads(self, position: int) -> range:
        """Elements of the small side that reach ``position``; none where the stride leaves a hole."""
        return self.window.readers(position)

    def readers(self, element: int) -> range:
        """Positions of the large side that ``element`` reaches."""
        return self.window.reads(element)


@dataclass(frozen=True)
class Mirrored:
    """``before`` elements in front of ``size`` and ``after`` behind, all copies of the elements inside.

    ``mode`` is ONNX's: ``reflect`` mirrors without the last element, ``edge`` repeats it, ``wrap`` starts again.
    Period and advance hold inside only, where it reads what ``unfolded`` reads.
    """

    before: int
    size: int
    mode: str
    after: int = 0
    period: int = 1
    advance: int = 1

    def __post_init__(self) -> None:
        left = self.size + min(self.before, 0) + min(self.after, 0)
        if self.mode == "reflect" and max(self.before, self.after) >= left:
            raise ShapeError(
                "a reflect pad must be smaller than what it mirrors, "
                f"but {self.before} and {self.after} meet {left} elements"
            )

    @property
    def unfolded(self) -> Window:
        """The reading as if the pads held elements of their own: what a receptive field, unclipped, goes on with."""
        return Window(kernel=1, before=self.before)

    def reads(self, position: int) -> tuple[int]:
        """The one element, always inside.

        >>> [Mirrored(2, 4, "reflect").reads(j)[0] for j in range(8)]
        [2, 1, 0, 1, 2, 3, 2, 1]
        """
        place = position - self.before
        if self.mode == "edge":
            return (min(max(place, 0), self.size - 1),)
        if self.mode == "wrap" or self.size == 1:
            return (place % self.size,)
        turn = place % (2 * self.size - 2)
        return (min(turn, 2 * self.size - 2 - turn),)

    def readers(self, element: int) -> list[int]:
        """Positions that hold ``element`` or a copy of it."""
        positions = range(self.before + self.size + self.after)
        return [position for position in positions if self.reads(position) == (element,)]


class Adaptive(NamedTuple):
    """An adaptive pool from ``size`` elements to ``output``; a global pool is the one with output 1.

    Source: PyTorch, aten/src/ATen/native/AdaptivePooling.h, ``start_index`` and ``end_index``.

    >>> [list(Adaptive(7, 3).reads(j)) for j in range(3)]
    [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    """

    size: int
    output: int

    @property
    def period(self) -> int:
        """Outputs after which the reading repeats."""
        return self.output // gcd(self.size, self.output)

    @property
    def advance(self) -> int:
        """Elements by which it has moved on then."""
        return self.size // gcd(self.size, self.output)

    def reads(self, position: int) -> range:
        """The elements of one output."""
        return range(position * self.size // self.output, -(-(position + 1) * self.size // self.output))

    def readers(self, element: int) -> range:
        """The outputs that read one element."""
        # j*n/k < e + 1 and (j + 1)*n/k > e
        return range(element * self.output // self.size, -(-(element + 1) * self.output // self.size))


class Interpolated(NamedTuple):
    """Linear upsampling by the whole number ``factor``, where output ``j`` lies between two elements.

    It lies at

        (j + 1/2) / factor - 1/2   with half pixels,      j / factor   without

    (ONNX operator specification of Resize, ``coordinate_transformation_mode`` half_pixel and asymmetric).
    """

    factor: int
    half: bool = True

    @property
    def period(self) -> int:
        """The factor."""
        return self.factor

    @property
    def advance(self) -> int:
        """One element a period."""
        return 1

    def reads(self, position: int) -> range:
        """The one or two elements around the place of ``position``.

        >>> [list(Interpolated(2).reads(j)) for j in range(3)]
        [[-1, 0], [0, 1], [0, 1]]
        """
        over, under = (
            (2 * position + 1 - self.factor, 2 * self.factor) if self.half else (position, self.factor)
        )
        return range(over // under, -(-over // under) + 1)

    def readers(self, element: int) -> list[int]:
        """The positions whose place is less than one element away."""
        near = range((element - 1) * self.factor - 1, (element + 2) * self.factor + 1)
        return [position for position in near if element in self.reads(position)]
