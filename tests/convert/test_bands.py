"""Bands: the bytes of a view in row-major order, as numpy's own tobytes gives them."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dense2conv.convert.bands import bands


def joined(array: np.ndarray, buffer: int) -> bytes:
    pieces = [bytes(piece) for piece in bands(array, buffer)]
    assert all(pieces)
    assert all(len(piece) <= max(buffer, array.itemsize) for piece in pieces)
    return b"".join(pieces)


@st.composite
def views(draw: st.DrawFn) -> np.ndarray:
    """A transposed, reversed, stepped, reshaped or broadcast view of a small array."""
    shape = draw(st.lists(st.integers(1, 20), min_size=1, max_size=5).filter(lambda s: np.prod(s) <= 20_000))
    dtype = draw(st.sampled_from(["u1", "<f2", "<f4", "<f8", "<c16"]))
    array = np.arange(np.prod(shape)).astype(dtype).reshape(shape)
    array = array.transpose(draw(st.permutations(range(array.ndim))))
    steps = st.sampled_from([1, 1, -1, 2, -3])
    array = array[tuple(slice(None, None, draw(steps)) for _ in range(array.ndim))]
    if draw(st.booleans()):
        array = np.broadcast_to(array, (draw(st.integers(1, 3)), *array.shape))
    return array


@given(views(), st.sampled_from([1, 7, 64, 100, 4096, 1 << 23]))
@settings(max_examples=300, deadline=None)
def test_any_view_at_any_buffer_size(view: np.ndarray, buffer: int) -> None:
    assert joined(view, buffer) == view.tobytes()


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_every_axis_order_of_a_kernel(order: tuple[int, ...]) -> None:
    # (height, width, in, out), as a dense weight of channels-last features lies in its file
    view = np.arange(7 * 5 * 33 * 65, dtype=np.float32).reshape(7, 5, 33, 65).transpose(order)
    for flipped in (view, view[::-1], view[..., ::-1], view[:, ::-1, ::-1]):
        assert joined(flipped, 10_000) == flipped.tobytes()


def test_a_contiguous_array_is_not_copied() -> None:
    array = np.arange(1000, dtype=np.float32)
    pieces = list(bands(array, 1024))
    assert len(pieces) == 4
    assert np.shares_memory(np.frombuffer(pieces[1], np.float32), array[256:512])


@pytest.mark.parametrize("shape", [(0,), (3, 0, 4)])
def test_nothing_comes_of_nothing(shape: tuple[int, ...]) -> None:
    assert list(bands(np.empty(shape).T)) == []


def test_a_scalar() -> None:
    assert joined(np.array(1.5), 4) == np.array(1.5).tobytes()


def test_types_of_ml_dtypes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    view = np.arange(12).reshape(3, 4).astype(ml_dtypes.bfloat16).T[::-1]
    assert joined(view, 6) == view.tobytes()


def test_bits_are_kept() -> None:
    bits = np.array([[0x7FC00001, 0xFFC12345], [0x80000000, 0x00000001]], np.uint32)  # NaNs, -0, the smallest
    assert joined(bits.view(np.float32).T, 8) == bits.T.tobytes()
