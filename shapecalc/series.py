"""How a series is cut into windows, in integers.

Of ``n`` steps, window ``k`` of length ``L`` at hop ``h`` holds the steps ``k*h .. k*h + L - 1``. There are

    full = floor((n - L) / h) + 1        (0 where n < L)

whole windows: the output length of a convolution with kernel ``L`` and stride ``h``. Steps behind the last whole
window are the rest. They are dropped, or make one more window, which starts at the next hop and ends with the series:
short, or filled up with pads. That is the count of a pool with ``ceil_mode``; a window that would start behind the
series is none.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from .window import Window

RESTS = {
    "drop": "left out",
    "pad": "one more window, filled up with zeros",
    "keep": "one more window, which stays short",
}
"""What becomes of the steps behind the last whole window."""

LABELS = {
    "last": "the label of the window's last step",
    "first": "the label of the window's first step",
    "centre": "the label of the step start + length // 2",
    "majority": "the most frequent label in the window; of equally frequent ones the one that comes first there",
    "per-step": "the labels of all steps of the window",
}
"""Which label a window gets. A pad has no label: a window at the end of the series is as long as its own steps."""


@dataclass(frozen=True)
class SlidingWindows:
    """The windows of a series of ``steps``; steps and windows are counted from 0.

    Raises ``ValueError`` for a number below 1, an unknown ``rest``, and where no window fits.

    >>> cut = SlidingWindows(steps=30000, length=100, hop=100)
    >>> cut.count, cut.window(0), cut.window(299)
    (300, range(0, 100), range(29900, 30000))
    """

    steps: int
    length: int
    hop: int = 1
    rest: str = "drop"

    def __post_init__(self) -> None:
        if min(self.steps, self.length, self.hop) < 1:
            raise ValueError(
                f"steps, length and hop must be at least 1, got {self.steps}, {self.length} and {self.hop}"
            )
        if self.rest not in RESTS:
            raise ValueError(f"rest is {', '.join(RESTS)}, not {self.rest!r}")
        if not self.count:
            raise ValueError(
                f"no window fits: length must be at most the number of steps, but {self.length} > {self.steps}"
            )

    @property
    def full(self) -> int:
        """Windows of the full length that lie in the series."""
        return Window(self.length, self.hop).output(self.steps)

    @property
    def tail(self) -> range:
        """The steps behind the last whole window, which ``rest`` is about.

        >>> SlidingWindows(10, 4, 3).tail, SlidingWindows(11, 4, 3).tail
        (range(10, 10), range(10, 11))
        """
        return range((self.full - 1) * self.hop + self.length if self.full else 0, self.steps)

    @property
    def rest_window(self) -> range:
        """The steps of the window that the series ends in; empty where the rest is dropped or there is none.

        >>> SlidingWindows(10, 4, 3, "keep").rest_window, SlidingWindows(11, 4, 3, "keep").rest_window
        (range(0, 0), range(9, 11))
        """
        if self.rest == "drop" or not self.tail:
            return range(0)
        return range(self.full * self.hop, self.steps)  # empty where the next hop goes past the series

    @property
    def count(self) -> int:
        """All windows, with the one that holds the rest.

        >>> [SlidingWindows(10, 4, 4, rest).count for rest in RESTS]
        [2, 3, 3]
        """
        return self.full + bool(self.rest_window)

    @property
    def pads(self) -> int:
        """Pads behind the series that fill up the last window; 0 unless ``rest`` is ``pad``."""
        return self.length - len(self.rest_window) if self.rest == "pad" and self.rest_window else 0

    @property
    def between(self) -> int:
        """Steps between the windows that are in none of them: there are some where the hop exceeds the length.

        >>> SlidingWindows(10, 2, 4).between, SlidingWindows(10, 4, 2).between
        (4, 0)
        """
        return max(self.hop - self.length, 0) * (self.count - 1)

    @property
    def behind(self) -> int:
        """Steps behind the last window that are in none.

        >>> SlidingWindows(11, 4, 4).behind, SlidingWindows(11, 4, 4, "keep").behind
        (3, 0)
        """
        return self.steps - self.window(self.count - 1).stop

    def window(self, index: int) -> range:
        """The steps of one window, pads not counted; ``IndexError`` where there is no such window."""
        if not 0 <= index < self.count:
            raise IndexError(f"there are windows 0 to {self.count - 1}, not {index}")
        return self._steps_of(index)

    def __iter__(self) -> Iterator[range]:
        return map(self._steps_of, range(self.count))

    def _steps_of(self, index: int) -> range:
        start = index * self.hop
        return range(start, min(start + self.length, self.steps))

    def convolution(self) -> tuple[Window, int]:
        """A dense layer on every window, as one convolution over the series: its window and output length.

        A window that stays short has no dense layer and is not counted.

        >>> SlidingWindows(30000, 100, 1).convolution()
        (Window(kernel=100, stride=1, dilation=1, before=0, after=0), 29901)
        """
        window = Window(self.length, self.hop, after=self.pads)
        return window, window.output(self.steps)


def label_step(window: range, rule: str) -> int | None:
    """The step whose label ``window`` gets by one of ``LABELS``; None for a rule that is not about one step.

    Raises ``ValueError`` for an unknown rule.

    >>> [label_step(range(7, 107), rule) for rule in LABELS]
    [106, 7, 57, None, None]
    """
    if rule not in LABELS:
        raise ValueError(f"a label rule is {', '.join(LABELS)}, not {rule!r}")
    places = {"last": len(window) - 1, "first": 0, "centre": len(window) // 2}
    return window[places[rule]] if rule in places else None
