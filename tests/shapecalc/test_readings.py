"""Every reading, held against its definition; ``readers`` is the inverse of ``reads`` for all of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dense2conv.shapecalc.errors import ShapeError
from dense2conv.shapecalc.readings import Adaptive, Interpolated, Mirrored, Transposed
from dense2conv.shapecalc.window import Window

from . import slow

small = st.integers(1, 6)
near = st.integers(-12, 12)
windows = st.builds(Window, small, small, st.integers(1, 4), st.integers(0, 5))

REPEATING = {
    "window": windows,
    "transposed": st.builds(Transposed, windows),
    "shifted": st.builds(lambda before: Window(1, before=before), st.integers(-4, 4)),
    "adaptive": st.builds(Adaptive, st.integers(1, 20), st.integers(1, 20)),
    "linear": st.builds(Interpolated, small),
    "linear without half pixels": st.builds(Interpolated, small, st.just(False)),
}


@pytest.mark.parametrize("kind", REPEATING)
@given(data=st.data())
def test_readers_are_the_inverse_of_reads(kind, data):
    reading, element = data.draw(REPEATING[kind]), data.draw(near)
    far = range(-500, 500)
    found = list(reading.readers(element))
    assert [p for p in far if element in reading.reads(p)] == found
    assert found == sorted(set(found))


@pytest.mark.parametrize("kind", REPEATING)
@given(data=st.data())
def test_a_reading_repeats(kind, data):
    reading, position = data.draw(REPEATING[kind]), data.draw(near)
    moved = [element + reading.advance for element in reading.reads(position)]
    assert list(reading.reads(position + reading.period)) == moved


@given(windows, near)
def test_a_transposed_convolution_scatters(window, position):
    expected = slow.transposed(position, window.kernel, window.stride, window.dilation, window.before)
    assert list(Transposed(window).reads(position)) == sorted(expected)


@given(small, near)
def test_repeating_is_a_transposed_convolution(factor, position):
    assert set(Transposed(Window(factor, factor)).reads(position)) == slow.nearest(position, factor)


@given(st.integers(1, 20), st.integers(1, 20))
def test_an_adaptive_pool_reads_all_from_start_to_end(size, output):
    pool = Adaptive(size, output)
    rows = [set(pool.reads(position)) for position in range(output)]
    assert rows == [slow.adaptive(position, size, output) for position in range(output)]
    assert set().union(*rows) == set(range(size))


@pytest.mark.parametrize("half", [True, False])
@given(factor=small, position=near)
def test_linear_upsampling_reads_what_has_a_weight(half, factor, position):
    reading = Interpolated(factor, half)
    assert set(reading.reads(position)) == slow.linear(position, factor, half)


@given(st.integers(-4, 4), near)
def test_a_pad_moves_what_is_there(before, position):
    assert list(Window(1, before=before).reads(position)) == [position - before]


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
@given(size=st.integers(1, 8), data=st.data())
def test_a_mirror_holds_what_numpy_pads(mode, size, data):
    most = max(size - 1, 0) if mode == "reflect" else 3 * size  # a mirror is not larger than what it mirrors
    before, after = data.draw(st.integers(0, most)), data.draw(st.integers(0, most))
    padded = slow.mirrored(size, before, after, mode)
    reading = Mirrored(before, size, mode, after)
    assert [reading.reads(position) for position in range(len(padded))] == [(n,) for n in padded]
    for element in range(size):
        there = [p for p in reading.readers(element) if 0 <= p < len(padded)]
        assert there == [p for p, n in enumerate(padded) if n == element]


@pytest.mark.parametrize(("before", "after", "left"), [(3, 0, 3), (0, 5, 3), (2, -1, 2), (-1, 2, 2)])
def test_a_reflection_is_smaller_than_what_it_mirrors(before, after, left):
    """numpy mirrors the mirror again; ONNX Runtime, PyTorch and TensorFlow refuse."""
    with pytest.raises(ShapeError) as caught:
        Mirrored(before, 3, "reflect", after)
    assert caught.value.message == (
        f"a reflect pad must be smaller than what it mirrors, but {before} and {after} meet {left} elements"
    )
