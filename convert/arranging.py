"""A network run on many samples, and a map put beside the vectors of its crops."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import FileError
from .execute import Session
from .inputs import map_place

Array = NDArray[Any]


def in_batches(session: Session, samples: Array, batch: int | None) -> dict[str, Array]:
    """The outputs for all samples, where the network takes ``batch`` at a time (None: any number)."""
    name, total = session.inputs[0].name, len(samples)
    length = batch or total
    parts: list[dict[str, Array]] = []
    for start in range(0, total, length):
        part = samples[start : start + length]
        if len(part) < length:  # the last samples again, to fill a batch that is fixed
            part = np.concatenate([part, part[-1:].repeat(length - len(part), axis=0)])
        parts.append(session.run({name: np.ascontiguousarray(part)}))
        for output, result in parts[-1].items():
            if result.ndim < 1 or len(result) != length:
                raise FileError(
                    f"the first axis of an output is the batch of {length}, but {output!r} has {result.shape}"
                )
    return {output: np.concatenate([part[output] for part in parts])[:total] for output in parts[0]}


def arranged(
    output: Array, rest: tuple[int, ...], counts: Sequence[int], channels_first: bool, plain: bool
) -> Array | str:
    """A map as ``(N, *positions, *rest)`` where the reference gives ``(N, *rest)``, or what is wrong.

    Where ``rest`` has a single position for each spatial axis, the map may stand in their place; else it stands behind
    all of ``rest`` in a channels-first network, and in front of it in a channels-last one. Where ``plain``, the
    candidate may give ``(N, *rest)`` too.
    """
    if plain and output.shape[1:] == rest:
        return output.reshape(len(output), *counts, *rest)
    rank = len(counts)
    features, in_front = map_place(rest, rank, not channels_first)
    if output.ndim != 1 + len(features) + rank:
        features, in_front = rest, not channels_first
    if output.ndim != 1 + len(features) + rank:
        return f"the map of {('N', *rest)} has {1 + len(rest) + rank} axes, not {output.shape}"
    spatial = range(1, rank + 1) if in_front else range(output.ndim - rank, output.ndim)
    moved = np.moveaxis(output, list(spatial), list(range(1, rank + 1)))
    expected = (len(output), *counts, *features)
    if moved.shape != expected:
        return f"positions and channels are {expected[1:]}, the candidate's are {moved.shape[1:]}"
    return moved.reshape(len(output), *counts, *rest)
