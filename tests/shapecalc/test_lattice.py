"""The lattice rule against chains of windows, pixel by pixel: which pixels a vector reads."""

import random
from math import lcm

import pytest

from dense2conv.shapecalc.lattice import positions, spread, spread_window, step, whole
from dense2conv.shapecalc.window import Window


def random_chain(generator: random.Random, depth: int) -> tuple[int, list[Window]]:
    """Return a patch and windows that tile it, drawn from the last to the first."""
    size, windows = generator.randint(1, 4), []
    for _ in range(depth):
        window = Window(generator.randint(1, 4), generator.randint(1, 4), generator.randint(1, 3))
        windows.append(window)
        size = (size - 1) * window.stride + window.extent
    return size, windows[::-1]


def read_by_patch(patch: int, windows: list[Window], first: int) -> list[tuple[int, ...]]:
    """Return the pixels, in order, that each last position of the patch at pixel ``first`` reads."""
    values = [(first + i,) for i in range(patch)]
    return scanned(values, windows)


def scanned(values: list[tuple[int, ...]], windows: list[Window]) -> list[tuple[int, ...]]:
    for window in windows:
        values = [
            tuple(pixel for place in window.reads(i) for pixel in values[place])
            for i in range(window.output(len(values)))
        ]
    return values


@pytest.mark.parametrize("seed", range(200))
def test_each_position_of_the_map_reads_the_pixels_of_its_patch_in_their_order(seed: int) -> None:
    generator = random.Random(seed)
    patch, windows = random_chain(generator, generator.randint(0, 4))
    natural = lcm(*(w.stride for w in windows))
    stride = generator.choice([1, 2, 3, generator.randint(1, 2 * natural + 3), 2 * natural, patch])
    longer = generator.randint(0, 3 * stride)
    values, jump, size = [(i,) for i in range(patch + longer)], 1, patch
    for window in windows:
        assert len(values) == positions(size, jump, stride, longer)
        values = scanned(values, [spread_window(window, jump, stride)])
        size, jump = window.output(size), jump * window.stride
    assert len(values) == positions(size, jump, stride, longer)
    found = scanned(values, [whole(size, jump, stride)])
    places = range(0, longer + 1, stride)
    assert len(found) == len(places)
    for place, pixels in zip(places, found, strict=True):
        assert list(pixels) == [p for read in read_by_patch(patch, windows, place) for p in read]


def test_pads_meet_the_patch_where_they_met_it() -> None:
    # Behind a stride of 2 (jump 2), at stride 1: positions of the patch lie 2 apart, and so do the pads from them.
    window = spread_window(Window(kernel=3, before=1, after=1), jump=2, stride=1)
    size = positions(4, jump=2, stride=1, longer=0)
    read = [[p for p in window.reads(i) if 0 <= p < size] for i in range(0, window.output(size), 2)]
    assert read == [[0, 2], [0, 2, 4], [2, 4, 6], [4, 6]]


@pytest.mark.parametrize("jump", range(1, 13))
@pytest.mark.parametrize("stride", range(1, 13))
def test_a_stride_that_the_jump_divides_leaves_the_layer_alone(jump: int, stride: int) -> None:
    assert step(jump, stride) * spread(jump, stride) == jump
    window = Window(kernel=3, stride=2, dilation=2, before=1, after=2)
    assert (spread_window(window, jump, stride) == window) == (stride % (2 * jump) == 0)
