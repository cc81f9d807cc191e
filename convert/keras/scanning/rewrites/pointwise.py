"""Layers that treat every element alike, or every position: they stay, on the axis where the map has the channels.

What the patch network does to a vector ``(N, D)`` along its last axis, the map does along its channels.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..scanned import Scanned
from ..turn import Turn, activation_name

_SOFTMAX = ("softmax", "softmax_v2", "log_softmax", "log_softmax_v2", "Softmax")


def is_softmax(turn: Turn, given: Any) -> bool:
    """Whether an activation, as Keras writes it, normalises along an axis."""
    return _function(turn, given) in _SOFTMAX


def _function(turn: Turn, given: Any) -> Any:
    """The name of an activation."""
    given = activation_name(given)
    return turn.read.options.activations.get(given, (given,))[0] if isinstance(given, str) else given


def activation(turn: Turn) -> Scanned:
    """The layer Activation."""
    given = turn.read.argument("activation")
    if is_softmax(turn, given):
        return softmax(turn, turn.value, given)
    return pointwise(turn)


def softmax_layer(turn: Turn) -> Scanned:
    """The layer Softmax, over one axis."""
    return softmax(turn, turn.value, "softmax", turn.read.argument("axis", -1))


def softmax(turn: Turn, value: Scanned, given: Any, axis: Any = -1) -> Scanned:
    """A softmax along ``axis`` of the value's own shape, which must be the channels of the map."""
    place = channels(turn, value, axis)
    if place == len(value.shape):
        config = {"activation": given} if turn.layer.kind != "Softmax" else {"axis": -1}
        kind = turn.layer.kind if turn.layer.kind in ("Activation", "Softmax") else "Activation"
    elif _function(turn, given) in ("softmax", "softmax_v2", "Softmax"):
        kind, config = "Softmax", {"axis": place}
    else:
        raise turn.refusal(f"no layer of Keras takes {given!r} along axis {place}")
    tensor = replace(value, order=None)
    return replace(turn.add(kind, config, [tensor], tensor), order=value.order)


def channels(turn: Turn, value: Scanned, axis: Any) -> int:
    """Where the map has the channels, the batch counted; ``axis`` of the value's own shape must be they.

    Raises ``FileError`` where it is another axis, or the vector is a feature map in a row.
    """
    axes = list(axis) if isinstance(axis, (list, tuple)) else [axis]
    rank = len(value.own_shape) + 1
    if len(axes) != 1 or not isinstance(axes[0], int) or not -rank <= axes[0] < rank:
        raise turn.refusal(f"{turn.layer.kind} must name one axis, but it names {axis}")
    place = axes[0] % rank
    if value.channel is None:
        raise turn.refusal("the input has no axis of channels")
    if value.order is None:
        fits = place == value.channel + 1
    else:
        # All of the vector, at one position; or the axis of the only size that is not 1.
        size = value.own_shape[place - 1] if place else 0
        fits = value.in_order and size == value.shape[value.channel]
    if not fits:
        raise turn.refusal(f"{turn.layer.kind} along axis {place} mixes positions of the patch")
    return value.channel + 1


def pointwise(turn: Turn) -> Scanned:
    """A layer that does the same to every element, whatever the order of its axes."""
    value = turn.value
    tensor = replace(value, order=None)
    return replace(turn.kept([tensor], tensor), order=value.order)


def function_as(turn: Turn, kind: str, config: Mapping[str, Any]) -> Scanned:
    """A layer of ``kind`` that does the same to every element, in the place of a function."""
    tensor = replace(turn.value, order=None)
    return replace(turn.add(kind, config, [tensor], tensor), order=turn.value.order)


def rescaling(turn: Turn) -> Scanned:
    """Rescaling; with a factor for each channel these must be the last axis."""
    lists = any(isinstance(turn.read.argument(name, 0), (list, tuple)) for name in ("scale", "offset"))
    if lists and (turn.value.order is not None or turn.value.data_format != "channels_last"):
        raise turn.refusal("Rescaling has a factor for each element of an axis that is not the channels")
    return pointwise(turn)


def normalized(turn: Turn) -> Scanned:
    """BatchNormalization, LayerNormalization, Normalization along the channels."""
    value = turn.value
    axis = turn.read.argument("axis", -1)
    if axis is None:  # Normalization of everything by one mean
        return pointwise(turn)
    place = channels(turn, value, axis)
    tensor = replace(value, order=None)
    changed: dict[str, Any] = {}
    if value.order is not None:
        there = -1 if place == len(value.shape) else place
        changed["axis"] = [there] if isinstance(axis, (list, tuple)) else there
    return replace(turn.kept([tensor], tensor, changed), order=value.order)


def prelu(turn: Turn) -> Scanned:
    """PReLU with one slope a channel: ``alpha`` is ``(C,)`` or has ones for what it shares."""
    value = turn.value
    (alpha,) = turn.arrays
    if value.channel is None:
        raise turn.refusal("the input has no axis of channels")
    size = value.shape[value.channel]
    one_a_channel = alpha.shape == _along(value, size) if value.order is None else value.in_order
    if alpha.size != 1 and not (one_a_channel and alpha.size == size):
        raise turn.refusal("PReLU has a slope for each position of the patch", "share them: shared_axes")
    tensor = replace(value, order=None)
    config = {**turn.layer.config, "shared_axes": [axis + 1 for axis in value.space]}
    if alpha.size == 1 < size:
        config["shared_axes"] = [axis + 1 for axis in range(len(value.shape))]
        slopes = alpha.reshape([1] * len(value.shape))
    else:
        slopes = alpha.reshape(_along(value, size))
    return replace(
        turn.add(turn.layer.kind, config, [tensor], tensor, [np.asarray(slopes)]), order=value.order
    )


def _along(value: Scanned, size: int) -> tuple[int, ...]:
    return tuple(size if axis == value.channel else 1 for axis in range(len(value.shape)))


def noisy(turn: Turn) -> Scanned:
    """Dropout and noise, which act in training only. They stay where they still fit."""
    value = turn.value
    changed: dict[str, Any] = {"noise_shape": None} if "noise_shape" in turn.layer.config else {}
    if turn.layer.kind.startswith("Spatial"):
        if value.order is not None or value.channel is None:  # it asks for a feature map
            return value
        if not turn.layer.kind.endswith("1D"):
            changed["data_format"] = value.data_format
    tensor = replace(value, order=None)
    return replace(turn.kept([tensor], tensor, changed), order=value.order)


def gone(turn: Turn) -> Scanned:
    """What does nothing but to augment patches in training."""
    return turn.value
