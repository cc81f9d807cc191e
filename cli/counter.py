"""How far a long command is: a line now and then, on stderr."""

import time
from types import TracebackType

from .output import say

_SECONDS = 5.0  # between two lines


class Counter:
    """Told how many of how many are done, it says so every few seconds, with the time that is left."""

    def __init__(self) -> None:
        self._start = self._said = time.monotonic()

    def __enter__(self) -> "Counter":
        self._start = self._said = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            say(f"took {as_time(time.monotonic() - self._start)}", level=1)

    def __call__(self, done: int, total: int) -> None:
        """``done`` of ``total`` tiles are done."""
        now = time.monotonic()
        if done < total and now - self._said >= _SECONDS:
            self._said = now
            left = (now - self._start) / done * (total - done)
            say(f"{done} of {total} tiles, about {as_time(left)} left")


def as_time(seconds: float) -> str:
    """A duration as people read it.

    >>> as_time(0.25), as_time(75), as_time(7300)
    ('0.25 s', '75 s', '2.03 h')
    """
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def as_bytes(size: int) -> str:
    """A size as people read it.

    >>> as_bytes(900), as_bytes(2_500_000)
    ('900 B', '2.5 MB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} B"
