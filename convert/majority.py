"""The most frequent label of each of many windows, without looking at each window.

For one label ``c``, let ``before[i]`` count its steps in front of step ``i``. A window ``start .. stop - 1`` holds it
``before[stop] - before[start]`` times, and its first step there is the label's step number ``before[start]``. That
takes as long as the series, for all windows together, and once for each label that occurs.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Steps = NDArray[np.int64]


def majority_steps(labels: Array, starts: Steps, stops: Steps) -> Steps:
    """For each window the first step in it that has the window's most frequent label.

    ``labels`` is (steps,), or (steps, k): equal rows are the same label, so one-hot rows count as the classes that
    they stand for, and rows of several flags as one combination. Of equally frequent labels the one that comes first
    in the window counts. Window ``i`` is the steps ``starts[i] .. stops[i] - 1``, at least one; both ascend.

    >>> majority_steps(np.array([3, 1, 1, 3, 0]), np.array([0, 1]), np.array([4, 4]))
    array([0, 1])
    """
    numbers = _numbered(labels)
    most = np.zeros(len(starts), np.int64)
    found = np.full(len(starts), len(labels), np.int64)
    for number in range(int(numbers.max()) + 1):
        hits = numbers == number
        before = np.concatenate(([0], np.cumsum(hits)))
        count = before[stops] - before[starts]
        steps = np.append(np.flatnonzero(hits), len(labels))  # behind the last one: the window has none
        first = steps[before[starts]]
        better = (count > most) | ((count == most) & (first < found))
        most[better], found[better] = count[better], first[better]
    return found


def _numbered(labels: Array) -> Steps:
    """A number for each row, the same for equal rows, from 0 on without gaps."""
    numbers = np.zeros(len(labels), np.int64)
    for column in labels.reshape(len(labels), -1).T:
        values, places = np.unique(column, return_inverse=True)
        # both factors are at most the number of rows, so the product stays far below 2**63
        pairs = numbers * len(values) + places.reshape(-1)
        numbers = np.unique(pairs, return_inverse=True)[1].reshape(-1)
    return numbers
