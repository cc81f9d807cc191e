"""One spatial axis of a value inside a network, as seen from the network's input.

Position ``p`` of the value reads the input pixels ``start + p*jump .. start + p*jump + field - 1``
(unclipped: below 0 and beyond the input are pads). A window ``(k, s, d, b)`` on top of it reads

    start' = start - b*jump,   field' = field + d*(k - 1)*jump,   jump' = s*jump

(Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019). Where
branches meet, the field is the union of theirs.

``border`` counts the leading and trailing positions whose field reaches pads on a patch-sized input: those
are computed from the layer's own padding there, and from real neighbours on a larger input.

    leading'  = ceil((leading + b) / s)     (every output whose window starts before the first clean position)

A value with ``size`` positions on a patch has ``size + (H - P) // jump`` positions on an input of ``H``
pixels when every window tiles its input exactly (``Window.tiling``); this is what the conversion keeps true
of every value.
"""

from dataclasses import dataclass, replace

from .window import Window


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a value: ``size`` positions on a patch, the rest in pixels of the network's input."""

    size: int
    jump: int = 1
    start: int = 0
    field: int = 1
    border: tuple[int, int] = (0, 0)

    def windowed(self, window: Window) -> "Axis":
        """Return the axis behind a layer with ``window``, which must tile ``size`` exactly.

        >>> Axis(24).windowed(Window(kernel=5)).windowed(Window(kernel=2, stride=2))
        Axis(size=10, jump=2, start=0, field=6, border=(0, 0))
        """
        size = window.output(self.size)
        leading = -(-(self.border[0] + window.before) // window.stride)
        trailing = -(-(self.border[1] + window.after) // window.stride)
        return Axis(
            size=size,
            jump=self.jump * window.stride,
            start=self.start - window.before * self.jump,
            field=self.field + (window.extent - 1) * self.jump,
            border=(min(leading, size), min(trailing, size)),
        )

    def cropped(self, before: int, after: int) -> "Axis":
        """Return the axis without its first ``before`` and last ``after`` positions; negative numbers pad.

        >>> Axis(10, border=(1, 1)).cropped(1, 0)
        Axis(size=9, jump=1, start=1, field=1, border=(0, 1))
        """
        size = self.size - before - after
        leading, trailing = (max(self.border[0] - before, 0), max(self.border[1] - after, 0))
        return replace(
            self,
            size=size,
            start=self.start + before * self.jump,
            border=(min(leading, size), min(trailing, size)),
        )

    def joined(self, other: "Axis") -> "Axis":
        """Return the axis of a value computed from both, position by position: the union of the fields.

        Raises ``ValueError`` where sizes or jumps differ.
        """
        if (self.size, self.jump) != (other.size, other.jump):
            raise ValueError(
                f"branches that meet must have the same size and jump: {self.size} positions every {self.jump} "
                f"pixels meet {other.size} every {other.jump}"
            )
        start = min(self.start, other.start)
        end = max(self.start + self.field, other.start + other.field)
        border = (max(self.border[0], other.border[0]), max(self.border[1], other.border[1]))
        return replace(self, start=start, field=end - start, border=border)

    def whole(self) -> "Axis":
        """Return the axis behind a window over all its positions: one position a patch, at the same jump."""
        return self.windowed(Window(kernel=self.size))

    def positions(self, size: int, patch: int) -> int:
        """Positions on an input of ``size`` pixels where the patch has ``patch``; 0 below the patch."""
        return self.size + (size - patch) // self.jump if size >= patch else 0
