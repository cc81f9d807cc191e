"""Activations as a layer's argument, and as layers of their own."""

from collections.abc import Mapping
from typing import Any

from ..emit import Value
from ..step import Step
from .functions import FUNCTIONS


def activated(step: Step, value: Value) -> Value:
    """``value`` behind the layer's argument ``activation``."""
    return _applied(step, value, step.argument("activation", None), own=False)


def activation(step: Step) -> Value:
    """The layer Activation."""
    return _applied(step, step.input, step.argument("activation"), own=True)


def function(step: Step) -> Value:
    """A layer that is an activation of its own, such as ReLU."""
    return FUNCTIONS[step.layer.kind](step, step.input, step.layer.config, "")


def _applied(step: Step, value: Value, given: Any, *, own: bool) -> Value:
    """``value`` behind an activation as Keras writes it: a name, or a dictionary of a function or a layer.

    ``own``: whether its node is the layer's main one. Raises ``FileError`` for a function that is not known.
    """
    config: Mapping[str, Any] = {}
    if isinstance(given, Mapping):
        inner = given.get("config")
        if given.get("class_name") == "function" and isinstance(inner, str):
            given = inner
        else:
            given, config = given.get("class_name"), inner if isinstance(inner, Mapping) else {}
    if isinstance(given, str) and given in step.options.activations:
        given, config = step.options.activations[given]
    if given is None or given == "linear":
        return step.pointwise("Identity", value) if own else value
    if not isinstance(given, str) or given not in FUNCTIONS:
        raise step.refusal(
            f"the activation {given!r} is not known",
            f"say which it is, for instance --activation '{given}=relu:alpha=0.1,max=20'",
        )
    return FUNCTIONS[given](step, value, config, "" if own else given.lower())


def prelu(step: Step) -> Value:
    """PReLU: a slope below 0 for each element, or for all along ``shared_axes``, which count from 1."""
    value = step.input
    shared = step.argument("shared_axes", None) or []  # Keras 1 writes [None] for none
    sizes = [1 if axis in shared else size for axis, size in enumerate(value.shape)][1:]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        raise step.refusal(
            "the size of an axis with slopes of its own must be known, but it is free",
            "give the model a fixed input size, and save it again",
        )
    return step.pointwise("PRelu", value, [step.aligned(value, "alpha", step.array("alpha", known))])
