"""Receptive fields of random small networks: one input pixel is changed at a time, and what moves is what reads it.

The oracle is ONNX Runtime. Inputs and weights are positive and the change is huge, so that nothing that a layer reads
is lost on the way: not in a sum, not behind a maximum. Of every layer

- the neurons of a pixel cover what it moves, and are just that where the pixels of a neuron are one grid: on one axis
  always, on two where no branches meet;
- the box of the pixels of a neuron is the box of what moves it;
- the table's field, jump and start are that box, for every neuron that reads no pads.
"""

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest

from dense2conv.convert.errors import FileError
from dense2conv.convert.model import Model
from dense2conv.convert.shapes import network_of
from dense2conv.shapecalc.network import Network, Sets
from dense2conv.shapecalc.receptive import ReceptiveField
from dense2conv.shapecalc.table import document
from dense2conv.shapecalc.window import Window

from .random_networks import CHANNELS, Builder
from .runtime import CHECKS_SAME, run

CHANGE = 1e17  # beside values of about 1; its square, in an LpPool, is still a float32
MOVED = 1.001  # times what was there; the place in the batch alone changes the last bit

# What the table refuses and ONNX Runtime, or one of its older versions, does not: test_shapes_fuzz is about that.
REFUSALS = ["must not be larger than the padded input"]
if not CHECKS_SAME:
    REFUSALS += ["take no SAME where the stride", "reflect"]


def moved(model: Model, sizes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """By layer which positions each pixel moves: (*pixels, *positions)."""
    count = int(np.prod(sizes))
    image = np.random.default_rng(1).uniform(0.5, 1.5, (1, CHANNELS, count)).astype(np.float32)
    change = np.concatenate((np.zeros((1, count)), np.eye(count))).astype(np.float32) * np.float32(CHANGE)
    images = (image + change[:, None]).reshape(count + 1, CHANNELS, *sizes)
    outputs = run(model.proto, images)
    assert outputs is not None
    found = {}
    for node, output in zip(model.proto.graph.node, outputs, strict=True):
        assert not np.isnan(output).any()
        found[node.name] = (output[1:] > MOVED * output[:1]).any(axis=1).reshape(*sizes, *output.shape[2:])
    return found


def _grid(sets: Sets, shape: tuple[int, ...]) -> np.ndarray:
    """The product of the sets as a mask."""
    mask = np.zeros(shape, bool)
    mask[np.ix_(*(sorted(places) for places in sets))] = True
    return mask


def _box(mask: np.ndarray) -> tuple[tuple[int, int], ...] | None:
    """First and last index on each axis of what is set."""
    places = np.argwhere(mask)
    if not len(places):
        return None
    return tuple((int(low), int(high)) for low, high in zip(places.min(0), places.max(0), strict=True))


def check(network: Network, seen: dict[str, np.ndarray], *, exact: bool, random: Random) -> Counter[str]:
    """Hold the network's answers against what moved. Returns how many of each kind were held."""
    rank = len(network.sizes)
    counts: Counter[str] = Counter()
    pixels = [*np.ndindex(network.sizes)]
    for pixel in random.sample(pixels, min(len(pixels), 12)):
        for node, sets in zip(network.nodes, network.neurons(pixel), strict=True):
            predicted, real = _grid(sets, node.sizes), seen[node.name][pixel]
            assert not (real & ~predicted).any(), f"{node.name}: pixel {pixel} moves more than {sets}"
            assert not exact or (real == predicted).all(), (
                f"{node.name}: pixel {pixel} moves less than {sets}"
            )
            counts["neurons"] += 1
    for index, (node, row) in enumerate(zip(network.nodes, document(network)["layers"], strict=True)):
        positions = [*np.ndindex(node.sizes)]
        for position in random.sample(positions, min(len(positions), 6)):
            sets = network.pixels(index, position)
            real = seen[node.name][(..., *position)]
            predicted = _grid(sets, network.sizes)
            assert _box(real) == _box(predicted), f"{node.name}: {position} is not moved by just {sets}"
            assert not (real & ~predicted).any()
            counts["pixels"] += 1
        for axis, here in enumerate(network.fields[index]):
            if isinstance(here, ReceptiveField):
                counts += _held(seen[node.name], here, axis, rank, row)
    return counts


def _held(
    mask: np.ndarray, reading: ReceptiveField, axis: int, rank: int, row: dict[str, Any]
) -> Counter[str]:
    """Hold a field, and what the table says of it, against the boxes along one axis: all neurons at one place of it."""
    others = tuple(rank + a for a in range(rank) if a != axis)
    boxes = [box and box[axis] for box in map(_box, np.moveaxis(mask.any(axis=others), -1, 0))]
    counts: Counter[str] = Counter()
    for place, box in enumerate(boxes):
        # Where no pads are read, there are most pixels, and those of a neuron one period further are these, moved on.
        alike = filter(None, boxes[place % reading.period :: reading.period])
        most = max((high - low for low, high in alike), default=0)
        near = [
            boxes[p] if 0 <= p < len(boxes) else None
            for p in (place - reading.period, place + reading.period)
        ]
        steps = [(box[0] + n * reading.advance, box[1] + n * reading.advance) for n in (-1, 1)] if box else []
        if box is None or near != steps or box[1] - box[0] < most:
            counts["border"] += 1
            continue
        assert box == reading.span(place), f"{row['name']}: {place} of axis {axis}"
        size = box[1] - box[0] + 1
        if reading.period > 1:  # its phases differ: the table has the largest field
            assert size <= row["receptive_field"][axis]
            counts["phase"] += 1
            continue
        assert size == row["receptive_field"][axis]
        assert box[0] == row["start"][axis] + place * row["jump"][axis]
        counts["interior"] += 1
    return counts


def _prove(seeds: range) -> Counter[str]:
    counts: Counter[str] = Counter()
    for seed in seeds:
        builder = Builder(Random(seed), 1 + seed % 2)
        model = builder.build()
        seen = moved(model, builder.sizes)
        if not {"conv", "pool", "transposed"} & {*builder.kinds}:
            continue  # an axis that nothing slides over is none of the table's
        try:
            network = network_of(model)
        except FileError as error:
            if not any(text in error.message for text in REFUSALS):
                raise
            counts["refused"] += 1
            continue
        try:
            exact = builder.rank == 1 or not builder.branched
            counts += check(network, seen, exact=exact, random=Random(seed))
        except Exception as error:
            error.add_note(f"seed {seed}: {', '.join(builder.kinds)}")
            raise
        counts["networks"] += 1
        counts["exact"] += exact
        counts.update(set(builder.kinds))
    return counts


def test_fields() -> None:
    counts = _prove(range(250))
    assert counts["networks"] >= 200
    assert counts["exact"] >= 150  # what moves is exactly what is predicted
    assert counts["interior"] >= 10000
    assert counts["phase"] >= 5000  # behind upsampling
    kinds = ("conv", "pool", "transposed", "upsampling", "crop", "pad", "branches", "head")
    assert min(counts[kind] for kind in kinds) >= 40


def test_a_wrong_reading_is_found() -> None:
    builder = Builder(Random(0), 1)
    model = builder.model(builder.node("MaxPool", "x", kernel_shape=[3], strides=[2], dilations=[2]))
    network, seen = network_of(model), moved(model, builder.sizes)
    assert check(network, seen, exact=True, random=Random(0))["interior"] > 6
    for wrong in (Window(2, 2, 2), Window(3, 2, 1), Window(3, 2, 2, before=1), Window(3, 3, 2), Window(5, 2)):
        node = network.nodes[0]._replace(readings=((wrong,),))
        with pytest.raises(AssertionError):
            check(replace(network, nodes=(node,)), seen, exact=True, random=Random(0))


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 5000, 500))
def test_many_fields(start: int) -> None:
    _prove(range(start, start + 500))
