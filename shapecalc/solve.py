"""One layer on one axis: its formula with the numbers put in, its windows in pixels, and what is unknown solved for.

An unknown is looked for by trying: every number of a small range, each held against the output that is wanted. So what
is found is what the runtime gives, rounding and limits included.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from .errors import ShapeError
from .runtimes import DEFAULT_RUNTIME, Padding, Sliding, resolved
from .transposed import Enlarging
from .window import Window

UNKNOWNS = ("kernel", "stride", "padding", "dilation")
LARGEST = 64
"""The largest kernel, stride, dilation and pad that are tried."""

Axis = Sliding | Enlarging


@dataclass(frozen=True)
class Seen:
    """What neuron ``neuron`` reads: ``first`` to ``last``, pads included; None where it reads nothing."""

    neuron: int
    first: int | None
    last: int | None


@dataclass(frozen=True)
class Answer:
    """One axis worked out: the window, the output, the formula in numbers, and which neurons see what."""

    window: Window
    size: int
    output: int
    formula: str
    seen: tuple[Seen, ...]


def answer(axis: Axis, size: int, runtime: str = DEFAULT_RUNTIME) -> Answer:
    """Work out one axis of ``size`` elements. Raises ``ShapeError`` where the runtime refuses it.

    >>> answer(Sliding("conv", kernel=4, padding=Padding("same_upper")), 64).formula
    'floor((64 + 1 + 2 - 1*(4 - 1) - 1) / 1) + 1 = 64'
    """
    reads: Callable[[int], range]
    if isinstance(axis, Enlarging):
        window, output = axis.resolved(size, runtime)
        formula = _enlarged(axis, window, size, output)
        reads = window.readers  # seen from the large side, what reads and what is read change places
    else:
        window = resolved(axis, size, runtime)
        output = window.output(size)
        formula = _slid(axis, window, size, output)
        reads = window.reads
    neurons = sorted({0, min(1, output - 1), output - 1})
    seen = []
    for neuron in neurons:
        read = reads(neuron)
        seen.append(Seen(neuron, read[0] if read else None, read[-1] if read else None))
    return Answer(window, size, output, formula, tuple(seen))


def _slid(axis: Sliding, window: Window, size: int, output: int) -> str:
    """The formula of ``window``'s docstring; rounding up has put its pads into ``after`` already."""
    w = window
    dilated = f"{w.dilation}*({w.kernel} - 1)"
    rounded = " (after is what rounding up adds)" if axis.ceil and axis.pooling else ""
    return f"floor(({size}{_plus(w.before)}{_plus(w.after)} - {dilated} - 1) / {w.stride}) + 1 = {output}{rounded}"


def _enlarged(axis: Enlarging, window: Window, size: int, output: int) -> str:
    w = window
    full = w.stride * (size - 1) + axis.output_padding + w.extent - w.before - w.after
    extent = f"{w.dilation}*({w.kernel} - 1) + 1"
    text = f"{w.stride}*({size} - 1) + {axis.output_padding} + {extent} - {w.before} - {w.after}"
    return f"{text} = {output}" if full == output else f"{text} = {full}, filled up to {output}"


def _plus(pads: int) -> str:
    return f" + {pads}" if pads >= 0 else f" - {-pads}"


def solutions(
    axis: Axis,
    unknown: str,
    size: int,
    output: int,
    runtime: str = DEFAULT_RUNTIME,
    *,
    largest: int = LARGEST,
    tied: bool = False,
) -> list[dict[str, int]]:
    """Every value of ``unknown`` up to ``largest`` for which ``size`` elements give ``output``.

    Pads are alike on both sides; where no such number does it, one side may have one more. Each solution is the fields
    it fills: ``{"kernel": 3}``, ``{"before": 1, "after": 2}``. ``tied``: the stride is the kernel, as pools have it.

    >>> solutions(Sliding("conv", kernel=4, stride=2), "padding", 64, 32)
    [{'before': 1, 'after': 1}]
    """
    if unknown != "padding":
        names = ("kernel", "stride") if tied and unknown == "kernel" else (unknown,)
        numbers = range(1, largest + 1)
        return [
            {unknown: n}
            for n in numbers
            if _output(_with(axis, dict.fromkeys(names, n)), size, runtime) == output
        ]
    even = [(n, n) for n in range(largest + 1)]
    uneven = [pair for n in range(largest) for pair in ((n, n + 1), (n + 1, n))]
    for pairs in (even, uneven):
        found = [
            {"before": b, "after": a}
            for b, a in pairs
            if _output(_with(axis, {"padding": Padding("explicit", b, a)}), size, runtime) == output
        ]
        if found:
            return found
    return []


def _with(axis: Axis, fields: dict[str, Any]) -> Axis:
    if isinstance(axis, Enlarging):
        return axis._replace(sliding=replace(axis.sliding, **fields))
    return replace(axis, **fields)


def _output(axis: Axis, size: int, runtime: str) -> int | None:
    """The output, None where the runtime refuses the layer."""
    try:
        return (
            axis.resolved(size, runtime)[1]
            if isinstance(axis, Enlarging)
            else resolved(axis, size, runtime).output(size)
        )
    except ShapeError:
        return None
