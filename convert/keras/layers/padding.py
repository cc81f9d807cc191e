"""Rows, columns and steps added, or taken away, at the edges."""

from typing import Any

from ..emit import Value
from ..step import Step


def edges(step: Step, given: Any, rank: int) -> list[tuple[int, int]]:
    """``(before, after)`` for each axis, from any of the forms that Keras has had for it.

    One number for all; one an axis; a pair an axis; Keras 1: ``(top, bottom, left, right)``, or by name.
    """
    if isinstance(given, dict):
        names = (
            [("top_pad", "bottom_pad"), ("left_pad", "right_pad")]
            if rank == 2
            else [("left_pad", "right_pad")]
        )
        given = [[given.get(before, 0), given.get(after, 0)] for before, after in names]
    if isinstance(given, int):
        given = [given] * rank
    if rank == 1 and isinstance(given, list) and len(given) == 2 and not isinstance(given[0], list):
        given = [given]
    if rank == 2 and len(given) == 4:
        given = [given[:2], given[2:]]
    pairs = [tuple(pair) if isinstance(pair, (list, tuple)) else (pair, pair) for pair in given]
    sound = all(len(pair) == 2 and all(isinstance(n, int) and n >= 0 for n in pair) for pair in pairs)
    if len(pairs) != rank or not sound:
        raise step.refusal(f"{rank} pairs of numbers, at least 0, are needed, but these are {given}")
    return [(before, after) for before, after in pairs]


def zero_padding(step: Step) -> Value:
    """ZeroPadding1D, 2D, 3D."""
    name, channels, space = step.channels_first()
    pairs = edges(step, step.argument("padding", 1), len(space))
    pads = [0, 0, *(before for before, _ in pairs), 0, 0, *(after for _, after in pairs)]
    made = step.emit("Pad", [name, step.graph.integers(pads)])
    sizes = [None if n is None else n + sum(pair) for n, pair in zip(space, pairs, strict=True)]
    return step.placed(made, channels, sizes)


def crop(step: Step) -> Value:
    """Cropping1D, 2D, 3D."""
    name, channels, space = step.channels_first()
    pairs = edges(step, step.argument("cropping"), len(space))
    sizes = [None if n is None else n - sum(pair) for n, pair in zip(space, pairs, strict=True)]
    if any(n is not None and n < 1 for n in sizes):
        raise step.refusal(f"nothing is left: {pairs} is cut from {list(space)}")
    axes = [axis for axis, pair in enumerate(pairs) if any(pair)]
    if not axes:
        return step.input
    end = (1 << 63) - 1
    operands = [
        [pairs[axis][0] for axis in axes],
        [-pairs[axis][1] if pairs[axis][1] else end for axis in axes],  # -0 would be the front
        [axis + 2 for axis in axes],
    ]
    made = step.emit("Slice", [name, *(step.graph.integers(operand) for operand in operands)])
    return step.placed(made, channels, sizes)
