"""Flatten, Reshape, Permute: the map has none of them. What they do is done to the order of the elements."""

from math import prod

import numpy as np

from ..scanned import Scanned
from ..turn import Turn


def flatten(turn: Turn) -> Scanned:
    """Flatten; with ``data_format`` channels_first it moves the channels to the end first (since Keras 2)."""
    order = turn.value.elements
    first = turn.read.argument("data_format", None) == "channels_first" and turn.read.options.origin.major > 1
    return turn.value.viewed((np.moveaxis(order, 0, -1) if first else order).reshape(-1))


def reshape(turn: Turn) -> Scanned:
    """Reshape to ``target_shape``, without the batch; one entry may be -1."""
    return reshaped(turn, turn.read.argument("target_shape"))


def reshaped(turn: Turn, target: object) -> Scanned:
    """The input as ``target``, without the batch."""
    order = turn.value.elements
    if not isinstance(target, (list, tuple)) or not all(isinstance(n, int) for n in target):
        raise turn.refusal(f"target_shape must be integers, but it is {target!r}", "")
    rest = prod(n for n in target if n != -1)
    if (
        list(target).count(-1) > 1
        or rest < 1
        or order.size % rest
        or (-1 not in target and rest != order.size)
    ):
        raise turn.refusal(f"{order.size} elements do not reshape to {list(target)}", "")
    return turn.value.viewed(order.reshape(target))


def permute(turn: Turn) -> Scanned:
    """Permute: ``dims`` counts the axes behind the batch from 1."""
    order, dims = turn.value.elements, list(turn.read.argument("dims"))
    if sorted(dims) != list(range(1, order.ndim + 1)):
        raise turn.refusal(f"dims must be 1 to {order.ndim} in some order, but they are {dims}", "")
    return turn.value.viewed(order.transpose([axis - 1 for axis in dims]))
