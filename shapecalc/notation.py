"""Numbers as people write them: sizes ``3x5``, pads ``1``, ``1x2`` or ``0:1`` (before:after), words for padding."""

import re

from .errors import ShapeError
from .runtimes import PADDINGS, Padding

_SIZES = re.compile(r"[0-9]{1,9}([xX×][0-9]{1,9})*")
_PADS = re.compile(r"[0-9]{1,9}(:[0-9]{1,9})?([xX×][0-9]{1,9}(:[0-9]{1,9})?)*")

WORDS = {"same": Padding("same_upper"), **{mode: Padding(mode) for mode in PADDINGS if mode != "explicit"}}
"""Paddings that a word says; TensorFlow's SAME is ONNX's SAME_UPPER."""


def sizes(text: str) -> tuple[int, ...]:
    """One number, or one an axis. Raises ``ShapeError`` for anything else.

    >>> sizes("3x5")
    (3, 5)
    """
    if not _SIZES.fullmatch(text):
        raise ShapeError(f"{text!r} is no number, and no sizes such as 3x5")
    return tuple(int(n) for n in re.split("[xX×]", text))


def pads(text: str) -> tuple[tuple[int, int], ...]:
    """Pads before and after, one pair for every axis, or one an axis; one number counts for both sides.

    >>> pads("1x0:2")
    ((1, 1), (0, 2))
    """
    if not _PADS.fullmatch(text):
        raise ShapeError(f"{text!r} is no pads: 1 (both sides), 0:1 (before:after), 1x0:1 (an axis each)")
    pairs = [part.split(":") for part in re.split("[xX×]", text)]
    return tuple((int(pair[0]), int(pair[-1])) for pair in pairs)


def paddings(text: str) -> tuple[Padding, ...]:
    """A word for the padding, or pads.

    >>> paddings("same"), paddings("0:1")
    ((Padding(mode='same_upper', before=0, after=0),), (Padding(mode='explicit', before=0, after=1),))
    """
    word = text.lower()
    if word in WORDS:
        return (WORDS[word],)
    if word.isalpha():
        raise ShapeError(f"{text!r} is no padding: {', '.join(WORDS)}, or pads such as 1 or 0:1")
    return tuple(Padding("explicit", *pair) for pair in pads(text))


def ranges(numbers: list[int]) -> str:
    """Ascending numbers in short.

    >>> ranges([1, 2, 3, 5])
    '1..3, 5'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)
