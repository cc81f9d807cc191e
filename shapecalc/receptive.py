"""The receptive field of a layer's positions, on one axis, in pixels of the network's input.

Position ``p`` reads the pixels ``first(p) .. last(p)``; below 0 and beyond the input are pads. The two repeat:

    first(p + period) = first(p) + advance      (and last alike)

so the positions of one period say all. Behind a plain window ``(k, s, d, b)`` the period stays 1, and

    first' = first - b*advance,   size' = size + d*(k - 1)*advance,   advance' = s*advance

(Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019). A transposed
convolution or an upsampling by ``r`` makes the period ``r`` times as long: its phases read differently. The pixels
between ``first`` and ``last`` need not all be read (dilation leaves holes); these two always are. A pad that mirrors
counts as one that holds elements of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, lcm
from typing import TYPE_CHECKING

from .readings import Mirrored, Reading

if TYPE_CHECKING:
    from fractions import Fraction

LONGEST_PERIOD = 1 << 16

Span = tuple[int, int]
"""First and last pixel."""


@dataclass(frozen=True)
class ReceptiveField:
    """``spans``: first and last pixel of the positions of one period; None for one that reads nothing.

    >>> from .window import Window
    >>> pixels = ReceptiveField()
    >>> pixels.behind(Window(4, before=1, after=2)).behind(Window(8, stride=8))
    ReceptiveField(advance=8, spans=((-1, 9),))
    """

    advance: int = 1
    spans: tuple[Span | None, ...] = ((0, 0),)

    @property
    def period(self) -> int:
        """Positions after which the field repeats."""
        return len(self.spans)

    @property
    def size(self) -> int:
        """Pixels from the first to the last, of the position that sees most; pads included."""
        return max((last - first + 1 for first, last in filter(None, self.spans)), default=0)

    @property
    def start(self) -> int | None:
        """First pixel of position 0, negative in the pads; None where it reads nothing."""
        return None if self.spans[0] is None else self.spans[0][0]

    @property
    def jump(self) -> "int | Fraction":
        """Pixels from one position's field to the next one's; on average, where the phases differ."""
        if self.advance % self.period == 0:
            return self.advance // self.period
        from fractions import Fraction  # upsampling is rare, and its import not cheap

        return Fraction(self.advance, self.period)

    def span(self, position: int) -> Span | None:
        """First and last pixel of any position; unclipped."""
        periods, phase = divmod(position, self.period)
        span = self.spans[phase]
        return None if span is None else (span[0] + periods * self.advance, span[1] + periods * self.advance)

    def behind(self, reading: Reading) -> "ReceptiveField":
        """The field of the positions of a layer that reads these by ``reading``.

        Raises ``ValueError`` where the phases of upsampling strides are more than anybody wants to tell apart.
        """
        if isinstance(reading, Mirrored):
            reading = reading.unfolded
        repeats = self.period // gcd(self.period, reading.advance)
        period = reading.period * repeats
        if period > LONGEST_PERIOD:
            raise ValueError(
                f"strides that upsample must repeat within {LONGEST_PERIOD} positions, but these take {period}"
            )
        advance = reading.advance * repeats // self.period * self.advance
        return _shortest(advance, [self._hull(reading.reads(position)) for position in range(period)])

    def _hull(self, positions: Sequence[int]) -> Span | None:
        if len(positions) > 2 * self.period:  # the outermost pixels are those of the outermost periods
            positions = [*positions[: self.period], *positions[-self.period :]]
        spans = [span for span in map(self.span, positions) if span is not None]
        return (min(first for first, _ in spans), max(last for _, last in spans)) if spans else None

    def joined(self, other: "ReceptiveField") -> "ReceptiveField":
        """The field of a value computed from both, position by position: the union.

        Raises ``ValueError`` where the jumps differ: then the two drift apart, and no union has a size.
        """
        if self.jump != other.jump:
            raise ValueError(
                f"branches that meet must have the same jump, but {self.jump} and {other.jump} pixels meet"
            )
        period = lcm(self.period, other.period)
        spans = []
        for position in range(period):
            both = [span for span in (self.span(position), other.span(position)) if span is not None]
            spans.append((min(f for f, _ in both), max(last for _, last in both)) if both else None)
        return _shortest(int(self.jump * period), spans)


def _shortest(advance: int, spans: Sequence[Span | None]) -> ReceptiveField:
    """The same field with the shortest period."""
    period = len(spans)
    for shorter in (n for n in range(1, period) if period % n == 0 and advance * n % period == 0):
        found = ReceptiveField(advance * shorter // period, tuple(spans[:shorter]))
        if all(found.span(position) == span for position, span in enumerate(spans)):
            return found
    return ReceptiveField(advance, tuple(spans))


PIXELS = ReceptiveField()
"""The input itself: every position is a pixel."""
