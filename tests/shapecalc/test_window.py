"""One axis of a window, held against loops over every index."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dense2conv.shapecalc.window import Window, rounded_up

from . import slow

small = st.integers(1, 7)
WINDOWS = st.builds(Window, small, small, st.integers(1, 4), st.integers(-3, 6), st.integers(-3, 6))
PADDED = WINDOWS.filter(lambda window: min(window.before, window.after) >= 0)
POOLS = PADDED.filter(
    lambda window: max(window.before, window.after) < window.kernel
)  # as the runtimes take them
SIZES = st.integers(1, 30)


def numbers(window):
    return {
        "kernel": window.kernel,
        "stride": window.stride,
        "dilation": window.dilation,
        "before": window.before,
    }


@given(WINDOWS, SIZES)
def test_output_is_the_number_of_windows_that_fit(window, size):
    assert window.output(size) == slow.windows(size, **numbers(window), after=window.after)


@given(WINDOWS, st.integers(-20, 20))
def test_a_neuron_reads_its_taps(window, position):
    assert list(window.reads(position)) == sorted(slow.convolution(position, **numbers(window)))
    assert window.extent == window.reads(position)[-1] - window.reads(position)[0] + 1


@given(WINDOWS, st.integers(-20, 20))
def test_readers_are_the_inverse_of_reads(window, element):
    positions = range(-slow.FAR, slow.FAR)
    expected = [p for p in positions if element in slow.convolution(p, **numbers(window))]
    assert list(window.readers(element)) == expected


@given(WINDOWS, st.integers(-9, 9))
def test_a_reading_repeats_every_stride(window, position):
    moved = [element + window.advance for element in window.reads(position)]
    assert list(window.reads(position + window.period)) == moved


@given(PADDED, SIZES)
def test_a_tiling_leaves_nothing_over(window, size):
    assume(window.output(size))
    tight, cut = window.tiling(size)
    last = window.reads(window.output(size) - 1)[-1]
    assert tight.reads(0) == window.reads(0)
    assert tight.output(size) == window.output(size)
    assert window.unused(size) == size + window.after - 1 - last
    assert size - cut + tight.after - 1 == last  # the last element that is left is read
    assert min(tight.after, cut) == 0


def ceiled(size, window, drops):
    """Outputs with ceil_mode: windows follow each other until one reaches the end of the padded input."""
    padded, count, reached = window.before + size + window.after, 0, 0
    while count == 0 or reached < padded:
        if drops and count and count * window.stride >= window.before + size:
            break  # it would start in the pads behind
        reached = count * window.stride + window.extent
        count += 1
    return count


@pytest.mark.parametrize("drops", [True, False])
@given(POOLS, SIZES)
def test_rounding_up_counts_the_last_window_too(drops, window, size):
    assume(window.output(size))
    found = rounded_up(size, window, drops=drops)
    assert found.output(size) == ceiled(size, window, drops)
    assert found.unused(size) == 0
    assert (found.kernel, found.stride, found.dilation, found.before) == tuple(numbers(window).values())


@pytest.mark.parametrize(
    ("size", "window", "drops", "output"),
    [
        (23, Window(2, 2), True, 12),
        (24, Window(2, 2), True, 12),
        (4, Window(1, 2, before=0, after=0), True, 2),
        (2, Window(1, 2, before=1, after=1), True, 2),
        (2, Window(1, 2, before=1, after=1), False, 3),  # the window at 4 starts behind 1 + 2 elements
    ],
)
def test_rounding_up_by_hand(size, window, drops, output):
    assert rounded_up(size, window, drops=drops).output(size) == output


@pytest.mark.parametrize("wrong", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, -1, 1)])
def test_a_window_has_positive_numbers(wrong):
    numbers = "{}, {} and {}".format(*wrong)
    with pytest.raises(ValueError, match=f"must be at least 1, got {numbers}$"):
        Window(*wrong)
