"""Windows of a series against windows that are written out as lists of steps."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dense2conv.shapecalc.series import LABELS, RESTS, SlidingWindows, label_step

PAD = None


def brute_force(steps, length, hop, rest):
    """Each window as the list of its steps, ``PAD`` behind the series; a start is tried after the other."""
    windows = []
    for start in range(0, steps, hop):
        window = [step if step < steps else PAD for step in range(start, start + length)]
        if PAD not in window:
            windows.append(window)
            continue
        behind = windows[-1][-1] + 1 if windows else 0
        if rest != "drop" and any(step is not PAD and step >= behind for step in window):
            windows.append(window if rest == "pad" else [step for step in window if step is not PAD])
        break
    return windows


cuts = st.tuples(st.integers(1, 60), st.integers(1, 25), st.integers(1, 25), st.sampled_from(list(RESTS)))


def disagreements(cut, windows):
    """What a cut says otherwise than the windows that are written out."""
    taken = {step for window in windows for step in window}
    said = {
        "count": cut.count,
        "windows": [list(window) for window in cut],
        "by number": [list(cut.window(index)) for index in range(cut.count)],
        "pads": cut.pads,
        "in none": cut.between + cut.behind,
        "behind": cut.behind,
    }
    found = {
        "count": len(windows),
        "windows": [[step for step in window if step is not PAD] for window in windows],
        "by number": [[step for step in window if step is not PAD] for window in windows],
        "pads": sum(window.count(PAD) for window in windows),
        "in none": len(set(range(cut.steps)) - taken),
        "behind": len(set(range(max(taken - {PAD}), cut.steps)) - taken),
    }
    return {name for name in said if said[name] != found[name]}


@given(cuts)
def test_windows_are_those_written_out(numbers):
    windows = brute_force(*numbers)
    assume(windows)
    assert disagreements(SlidingWindows(*numbers), windows) == set()


def test_the_comparison_finds_a_window_too_many_and_a_step_too_few():
    cut = SlidingWindows(10, 4, 3)
    assert disagreements(cut, brute_force(10, 4, 3, "drop")) == set()
    assert "count" in disagreements(cut, brute_force(13, 4, 3, "drop"))
    assert "in none" in disagreements(cut, brute_force(10, 4, 4, "drop"))
    assert disagreements(SlidingWindows(11, 4, 3, "pad"), brute_force(11, 4, 3, "keep")) == {"pads"}


@given(cuts)
def test_the_convolution_has_as_many_outputs_as_there_are_windows_of_one_length(numbers):
    windows = brute_force(*numbers)
    assume(windows)
    window, output = SlidingWindows(*numbers).convolution()
    assert output == sum(len(one) == numbers[1] for one in windows)
    assert (window.kernel, window.stride, window.before) == (*numbers[1:3], 0)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20))
def test_a_series_that_is_too_short_is_an_error_with_both_numbers(steps, missing, hop):
    assert brute_force(steps, steps + missing, hop, "drop") == []
    with pytest.raises(ValueError, match=f"no window fits.* {steps + missing} > {steps}$"):
        SlidingWindows(steps, steps + missing, hop)


@pytest.mark.parametrize(
    ("length", "hop", "count", "last"),
    [
        (100, 100, 300, range(29900, 30000)),
        (100, 1, 29901, range(29900, 30000)),
        (300, 1, 29701, range(29700, 30000)),
        (300, 300, 100, range(29700, 30000)),
    ],
)
def test_ten_channels_of_30000_steps(length, hop, count, last):
    """The worked case: a reshape to (300, 100, 10) is hop 100, and its window 0 holds steps 0..99."""
    cut = SlidingWindows(30000, length, hop)
    assert (cut.count, cut.behind, cut.pads) == (count, 0, 0)
    assert cut.window(0) == range(length)
    assert cut.window(count - 1) == last
    assert [label_step(cut.window(k), "last") for k in (0, 1)] == [length - 1, hop + length - 1]
    assert cut.convolution()[1] == count


@given(st.integers(0, 100), st.integers(1, 50))
def test_the_step_of_a_label_is_an_index_of_the_window(start, length):
    window = list(range(start, start + length))
    expected = {"last": window[-1], "first": window[0], "centre": window[length // 2]}
    assert {rule: label_step(range(start, start + length), rule) for rule in LABELS} == {
        **expected, "majority": None, "per-step": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((10, 0), "at least 1, got 10, 0 and 1"),
        ((10, 3, 0), "at least 1, got 10, 3 and 0"),
        ((0, 3, 1), "at least 1, got 0, 3 and 1"),
        ((10, 3, -1), "at least 1"),
        ((10, 3, 1, "cut"), "rest is drop, pad, keep, not 'cut'"),
    ],
)
def test_a_wrong_number_or_word_is_named(numbers, message):
    with pytest.raises(ValueError, match=message):
        SlidingWindows(*numbers)


@pytest.mark.parametrize("index", [-1, 3])
def test_a_window_that_is_not_there(index):
    with pytest.raises(IndexError, match=f"windows 0 to 2, not {index}"):
        SlidingWindows(10, 4, 3).window(index)


def test_an_unknown_label_rule():
    with pytest.raises(
        ValueError, match="a label rule is last, first, centre, majority, per-step, not 'mean'"
    ):
        label_step(range(3), "mean")
