"""``x[...]``: slices, numbers, new axes and an ellipsis, as Keras writes them."""

from collections.abc import Mapping
from typing import Any

from ..emit import Value
from ..step import Step

_LAST = (1 << 63) - 1


def indexed(step: Step, value: Value, key: Any) -> Value:
    """``value[key]``; the batch stays whole."""
    entries = list(key) if isinstance(key, (list, tuple)) else [key]
    dots = [i for i, entry in enumerate(entries) if _is_ellipsis(entry)]
    if len(dots) > 1:
        raise step.refusal("an index has one ellipsis")
    taken = sum(entry is not None and not _is_ellipsis(entry) for entry in entries)
    if taken > value.rank:
        raise step.refusal(f"an index of {taken} axes on a tensor with {value.rank}")
    place = dots[0] if dots else len(entries)
    entries[place : place + 1] = [slice(None)] * (value.rank - taken)

    shape: list[int | None] = []
    cuts: list[tuple[int, int, int, int]] = []  # axis, start, end, step
    gone: list[int] = []
    new: list[int] = []
    axis = 0
    for entry in entries:
        if entry is None:
            new.append(len(shape))
            shape.append(1)
            continue
        size = value.shape[axis]
        found = _slice(step, entry)
        if axis == 0 and found != slice(None):
            raise step.refusal("an index must leave the batch whole")
        if found != slice(None):
            chosen = _chosen(step, size, found)
            cuts.append(
                (axis, found.start or 0, found.stop if found.stop is not None else _LAST, found.step or 1)
            )
            size = len(chosen)
        if isinstance(entry, int):
            gone.append(axis)
        else:
            shape.append(size)
        axis += 1
    if new and new[0] == 0:
        raise step.refusal("an index must leave the batch in front")
    name = step.graph.own(value)
    if cuts:
        axes, starts, ends, steps = (step.graph.integers([cut[i] for cut in cuts]) for i in range(4))
        name = step.emit("Slice", [name, starts, ends, axes, steps], "" if not gone and not new else "cut")
    if gone:
        name = step.emit("Squeeze", [name, step.graph.integers(gone)], "" if not new else "taken")
    if new:
        name = step.emit("Unsqueeze", [name, step.graph.integers(new)])
    return step.graph.made(shape, name) if cuts or gone or new else value


def _is_ellipsis(entry: Any) -> bool:
    return entry is Ellipsis or (isinstance(entry, Mapping) and entry.get("class_name") == "__ellipsis__")


def _slice(step: Step, entry: Any) -> slice:
    """One entry of an index as a slice; a number is the slice of one element there."""
    if isinstance(entry, slice):
        return entry
    if isinstance(entry, Mapping):
        parts = entry.get("config", entry)
        limits = [parts.get(key) for key in ("start", "stop", "step")]
        if all(n is None or (isinstance(n, int) and not isinstance(n, bool)) for n in limits):
            if limits[2] is not None and limits[2] < 1:
                raise step.refusal("an index that runs backwards is not supported")
            return slice(*limits)
    elif isinstance(entry, int) and not isinstance(entry, bool):
        return slice(entry, entry + 1 if entry != -1 else None)
    raise step.refusal(f"an index of slices and numbers is supported, but this has {entry!r}")


def _chosen(step: Step, size: int | None, wanted: slice) -> range:
    if size is None:
        raise step.refusal(
            "the size of an axis that is indexed must be known, but it is free",
            "give the model a fixed input size, and save it again",
        )
    chosen = range(size)[wanted]
    if not len(chosen):
        raise step.refusal(f"nothing is left of {size} elements")
    return chosen
