"""The most frequent label, against Python's counting of each window by itself."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dense2conv.convert.majority import majority_steps

CASES = st.tuples(
    st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(1, 12), st.integers(1, 12)
).filter(lambda case: case[1] <= len(case[0]))


def brute_force(labels, start, stop):
    """The first step of the window that has its most frequent label."""
    window = [tuple(np.atleast_1d(label)) for label in labels[start:stop]]
    counts = Counter(window)
    return next(start + i for i, label in enumerate(window) if counts[label] == max(counts.values()))


def windows(steps, length, hop):
    starts = np.arange(0, steps - length + 1, hop)
    return starts, starts + length


@given(CASES)
def test_the_winner_of_each_window(case):
    classes, length, hop = case
    starts, stops = windows(len(classes), length, hop)
    expected = [brute_force(classes, *window) for window in zip(starts, stops, strict=True)]
    assert majority_steps(np.array(classes), starts, stops).tolist() == expected


@given(CASES)
def test_one_hot_rows_count_as_their_classes(case):
    classes, length, hop = case
    limits = windows(len(classes), length, hop)
    found = majority_steps(np.eye(5, dtype=np.float32)[classes], *limits)
    assert found.tolist() == majority_steps(np.array(classes), *limits).tolist()


@given(st.lists(st.tuples(*[st.booleans()] * 3), min_size=6, max_size=30))
def test_flags_count_as_a_combination(flags):
    starts, stops = windows(len(flags), 6, 1)
    expected = [brute_force(flags, *window) for window in zip(starts, stops, strict=True)]
    assert majority_steps(np.array(flags), starts, stops).tolist() == expected


def test_a_column_by_itself_would_give_a_class_that_is_none():
    """Classes 40 : 30 : 30 in one-hot rows: each column's own majority is 0, the row (0, 0, 0) is no class."""
    labels = np.eye(3, dtype=int)[[1] * 3 + [0] * 4 + [2] * 3]
    assert np.median(labels, axis=0).tolist() == [0, 0, 0]
    (step,) = majority_steps(labels, np.array([0]), np.array([10]))
    assert labels[step].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("labels", "winner"),
    [([7, 7, 3, 3], 7), ([3, 3, 7, 7], 3), ([5, 1, 2], 5), ([0, 1, 1, 0, 0], 0), ([-1, 4, 4, -1], -1)],
)
def test_of_equally_frequent_ones_the_first_in_the_window(labels, winner):
    (step,) = majority_steps(np.array(labels), np.array([0]), np.array([len(labels)]))
    assert labels[step] == winner


def test_windows_of_unequal_length():
    """The last window of a series may be short."""
    labels = np.array([1, 2, 2, 1, 1])
    found = majority_steps(labels, np.array([0, 2, 4]), np.array([3, 5, 5]))
    assert labels[found].tolist() == [2, 1, 1]
