"""One spatial axis of a value inside a network that is made to scan: positions on a patch, and what padding touched.

What position ``p`` reads is its ``ReceptiveField``. Every layer here is a plain window, so one span says all of it:
``start + p*jump .. start + p*jump + field - 1``.

``border`` counts the leading and trailing positions whose field reaches pads on a patch-sized input: those
are computed from the layer's own padding there, and from real neighbours on a larger input.

    leading'  = ceil((leading + b) / s)     (every output whose window starts before the first clean position)

On a larger input every window tiles its input exactly (``Window.tiling``), as on a patch; how many positions a value
has there, at any stride of the map, says ``lattice``.
"""

from dataclasses import dataclass, replace

from .receptive import PIXELS, ReceptiveField
from .window import Window


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a value: ``size`` positions on a patch, and what they read of the network's input."""

    size: int
    receptive: ReceptiveField = PIXELS
    border: tuple[int, int] = (0, 0)

    @property
    def jump(self) -> int:
        """Pixels from one position to the next."""
        return self.receptive.advance

    @property
    def start(self) -> int:
        """First pixel that position 0 reads; negative in the pads."""
        return self.receptive.start or 0

    @property
    def field(self) -> int:
        """Pixels that one position reads."""
        return self.receptive.size

    def windowed(self, window: Window) -> "Axis":
        """Return the axis behind a layer with ``window``, which must tile ``size`` exactly.

        >>> axis = Axis(24).windowed(Window(kernel=5)).windowed(Window(kernel=2, stride=2))
        >>> axis.size, axis.jump, axis.start, axis.field, axis.border
        (10, 2, 0, 6, (0, 0))
        """
        size = window.output(self.size)
        leading = -(-(self.border[0] + window.before) // window.stride)
        trailing = -(-(self.border[1] + window.after) // window.stride)
        return Axis(size, self.receptive.behind(window), (min(leading, size), min(trailing, size)))

    def cropped(self, before: int, after: int) -> "Axis":
        """Return the axis without its first ``before`` and last ``after`` positions; negative numbers pad.

        >>> Axis(10, border=(1, 1)).cropped(1, 0).border
        (0, 1)
        """
        size = self.size - before - after
        leading, trailing = (max(self.border[0] - before, 0), max(self.border[1] - after, 0))
        receptive = self.receptive.behind(Window(kernel=1, before=-before))
        return Axis(size, receptive, (min(leading, size), min(trailing, size)))

    def joined(self, other: "Axis") -> "Axis":
        """Return the axis of a value computed from both, position by position: the union of the fields.

        Raises ``ValueError`` where sizes or jumps differ.
        """
        if (self.size, self.jump) != (other.size, other.jump):
            raise ValueError(
                f"branches that meet must have the same size and jump: {self.size} positions every {self.jump} "
                f"pixels meet {other.size} every {other.jump}"
            )
        border = (max(self.border[0], other.border[0]), max(self.border[1], other.border[1]))
        return Axis(self.size, self.receptive.joined(other.receptive), border)

    def whole(self, jump: int) -> "Axis":
        """Return the axis behind a window over all its positions: one position a patch, ``jump`` pixels apart."""
        behind = self.windowed(Window(kernel=self.size))
        return replace(behind, receptive=replace(behind.receptive, advance=jump))
