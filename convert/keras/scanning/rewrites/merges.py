"""Layers that join several tensors: positions of the map must be positions of each of them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..scanned import Scanned
from ..turn import Turn


def merge(turn: Turn) -> Scanned:
    """Add, Subtract, Multiply, Average, Maximum, Minimum."""
    return merge_as(turn, turn.layer.kind)


def merge_as(turn: Turn, kind: str) -> Scanned:
    """The tensors merged by a layer of ``kind``, element by element."""
    first, *others = turn.inputs
    if not others:
        return first
    if all(_alike(first, other) and first.shape == other.shape for other in others):
        tensors = [replace(value, order=None) for value in turn.inputs]
        return replace(turn.add(kind, {}, tensors, tensors[0]), order=first.order)
    values = [turn.feature(value) for value in turn.inputs]
    _check_places(turn, values)
    widest = max(values, key=lambda value: value.shape)
    return turn.add(kind, {}, values, widest)


def concatenate(turn: Turn) -> Scanned:
    """Concatenate along the channels; feature maps of one size that were flattened before, too."""
    axis = turn.read.argument("axis", -1)
    if len(turn.inputs) == 1:
        return turn.inputs[0]
    if all(len(value.own_shape) == 1 for value in turn.inputs):
        return _vectors(turn)
    values = [turn.feature(value) for value in turn.inputs]
    _check_places(turn, values)
    first = values[0]
    if first.channel is None or axis % (len(first.shape) + 1) != first.channel + 1:
        raise turn.refusal(f"Concatenate along axis {axis} joins positions of the patch")
    total = sum(value.shape[first.channel] for value in values)
    return turn.kept(values, first.resized(first.sizes, total), {"axis": _last_or(first)})


def _vectors(turn: Turn) -> Scanned:
    """Vectors end to end: their tensors are joined along the channels, and their elements are where they then are."""
    tensors = [replace(value, order=None) for value in turn.inputs]
    _check_places(turn, tensors)
    first = tensors[0]
    if first.channel is None:
        raise turn.refusal("the input has no axis of channels")
    total = sum(tensor.shape[first.channel] for tensor in tensors)
    result = first.resized(first.sizes, total)
    orders, start = [], 0
    for value in turn.inputs:
        places = list(np.unravel_index(value.elements, value.shape))
        places[first.channel] = places[first.channel] + start
        orders.append(np.ravel_multi_index(tuple(places), result.shape))
        start += value.shape[first.channel]
    joined = turn.kept(tensors, result, {"axis": _last_or(first)})
    return joined.viewed(np.concatenate(orders))


def _last_or(value: Scanned) -> int:
    """The axis of the channels as Keras counts it, from the end where it is the last."""
    assert value.channel is not None
    return -1 if value.channel == len(value.shape) - 1 else value.channel + 1


def _alike(one: Scanned, other: Scanned) -> bool:
    same = one.jump == other.jump and one.space == other.space
    return same and one.own_shape == other.own_shape and np.array_equal(one.elements, other.elements)


def _check_places(turn: Turn, values: Sequence[Scanned]) -> None:
    """Raise ``FileError`` unless all values have the same positions in the same distance."""
    first = values[0]
    for value in values[1:]:
        if value.space != first.space or value.sizes != first.sizes or value.jump != first.jump:
            raise turn.refusal(
                f"{turn.layer.kind} joins a feature map of {_places(first)} with one of {_places(value)}"
            )


def _places(value: Scanned) -> str:
    return f"{'x'.join(map(str, value.sizes))} positions every {'x'.join(map(str, value.jump))} pixels"
