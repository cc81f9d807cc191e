"""Which dimension follows which axis, held against numpy: an axis's own indices, reshaped and broadcast with it."""

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dense2conv.convert.dims import Dim, broadcast, fresh, positions, regrouped, sizes


def followed(array, size):
    """The dimension along which an array of indices counts 0, 1, .. and stays the same along all others; or None."""
    found = []
    for place, length in enumerate(array.shape):
        counted = np.arange(length).reshape([-1 if i == place else 1 for i in range(array.ndim)])
        if length == size and (array == counted).all():
            found.append(place)
    return found[0] if found else None


@st.composite
def reshapes(draw):
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    target, rest = [], prod(shape)
    for _ in range(draw(st.integers(0, 4))):
        divisors = [n for n in range(1, rest + 1) if rest % n == 0]
        target.append(draw(st.sampled_from(divisors)))
        rest //= target[-1]
    target.insert(draw(st.integers(0, len(target))), rest)
    return tuple(shape), tuple(target)


@given(reshapes())
def test_a_reshape_keeps_the_axes_that_come_out_whole(drawn):
    shape, target = drawn
    dims = tuple(Dim(size, axis) for axis, size in enumerate(shape))
    found = regrouped(dims, target)
    assert sizes(found) == target
    for axis, size in enumerate(shape):
        if size == 1:
            continue  # a dimension of one position is every axis's and none's
        place = followed(np.indices(shape)[axis].reshape(target), size)
        assert [i for i, dim in enumerate(found) if dim.axis == axis] == ([] if place is None else [place])


def test_a_reshape_keeps_the_number_of_elements():
    with pytest.raises(ValueError, match=r"^a reshape of 12 elements to 10$"):
        regrouped(fresh((3, 4)), (2, 5))


shapes = st.lists(st.integers(1, 3), max_size=4).map(tuple)


@given(st.lists(shapes, min_size=1, max_size=3))
def test_broadcasting_is_numpy_s(operands):
    dims = [fresh(shape) for shape in operands]
    try:
        expected = np.broadcast_shapes(*operands)
    except ValueError:
        with pytest.raises(ValueError, match="do not broadcast"):
            broadcast(dims)
        return
    assert sizes(broadcast(dims)) == expected


@pytest.mark.parametrize(
    ("operands", "axes"),
    [
        ([[(2, 0), (3, 1)], [(2, 0), (3, 1)]], [0, 1]),
        ([[(2, 0), (3, 1)], [(3, 1)]], [0, 1]),
        ([[(2, 0), (3, 1)], [(1, None), (3, 1)]], [0, 1]),  # repeated along the first
        ([[(2, 0), (3, 1)], [(2, None), (3, 1)]], [None, 1]),  # something else meets it
        ([[(2, 0), (2, 1)], [(2, 1), (2, 0)]], [None, None]),
        ([[(2, 0), (1, 1)], [(1, 0), (2, 0)]], [None, None]),  # both would follow the first
        ([[(1, 0)], [(1, 0)]], [0]),
    ],
)
def test_what_broadcast_dimensions_follow(operands, axes):
    found = broadcast([tuple(Dim(*dim) for dim in dims) for dims in operands])
    assert [dim.axis for dim in found] == axes


def test_positions_are_those_of_the_axes_that_are_left():
    assert positions((Dim(2), Dim(7, 1), Dim(5)), 3) == (1, 7, 1)
