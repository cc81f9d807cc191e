"""Kernels against scipy, numpy's einsum, and index arithmetic written out; never against themselves."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from dense2conv.convert.errors import FileError, RequestError
from dense2conv.convert.kernel import (
    ORDERS,
    Rearrangement,
    dense_to_kernel,
    kernel_rearrangement,
    kernel_to_dense,
)


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# WORKED-CASES 1: a 20 x 20 x 10 patch, 64 units.


@pytest.mark.parametrize("flip", [False, True])
def test_case_1_channels_last(flip):
    weight = random(4000, 64)
    turned = (slice(None, None, -1),) * 2
    hwio = weight.reshape(20, 20, 10, 64)
    hwio = hwio[turned] if flip else hwio
    assert np.array_equal(dense_to_kernel(weight, (20, 20, 10), "HWC", "HWIO", flip), hwio)
    assert np.array_equal(
        dense_to_kernel(weight, (20, 20, 10), "HWC", "OIHW", flip), np.transpose(hwio, (3, 2, 0, 1))
    )


@pytest.mark.parametrize("flip", [False, True])
def test_case_1_channels_first(flip):
    weight = random(4000, 64)
    oihw = weight.T.reshape(64, 10, 20, 20)
    oihw = oihw[:, :, ::-1, ::-1] if flip else oihw
    assert np.array_equal(dense_to_kernel(weight, (10, 20, 20), "CHW", "OIHW", flip), oihw)
    assert np.array_equal(
        dense_to_kernel(weight, (10, 20, 20), "CHW", "HWIO", flip), np.transpose(oihw, (2, 3, 1, 0))
    )


SPATIAL = {"L": (4,), "HW": (3, 4), "DHW": (2, 3, 4)}
CASES = [
    (order, layout, weight_layout)
    for order in ORDERS
    for layout in ("OIHW", "HWIO")
    for weight_layout in ("KO", "OK")
]


def sizes_of(order, channels=2):
    spatial = SPATIAL[order.replace("C", "")]
    return (channels, *spatial) if order[0] == "C" else (*spatial, channels)


@pytest.mark.parametrize(("order", "layout", "weight_layout"), CASES)
def test_a_true_convolution_needs_the_flipped_kernel(order, layout, weight_layout):
    """scipy.signal.convolve, channel by channel, is the dense layer on each window only with ``flip``."""
    sizes = sizes_of(order)
    spatial = SPATIAL[order.replace("C", "")]
    channels, units = 2, 3
    weight = random(np.prod(sizes), units)
    image = random(channels, *(size + 2 for size in spatial), seed=1)  # (C, *spatial)
    expected = np.zeros((units, *(3 for _ in spatial)))
    for position in itertools.product(range(3), repeat=len(spatial)):
        window = image[:, *(slice(p, p + size) for p, size in zip(position, spatial, strict=True))]
        flat = window if order[0] == "C" else np.moveaxis(window, 0, -1)
        expected[:, *position] = flat.reshape(-1) @ weight
    stored = weight if weight_layout == "KO" else weight.T

    def maps(flip):
        kernel = dense_to_kernel(stored, sizes, order, layout, flip, weight_layout)
        kernel = kernel if layout == "OIHW" else np.moveaxis(kernel, (-1, -2), (0, 1))
        return np.stack(
            [
                sum(signal.convolve(image[c], kernel[o, c], mode="valid") for c in range(channels))
                for o in range(units)
            ]
        )

    assert np.allclose(maps(True), expected, atol=1e-12)
    assert not np.allclose(maps(False), expected, atol=1e-3)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("order", "layout", "weight_layout"), CASES)
def test_there_and_back_is_bit_equal(order, layout, weight_layout, flip):
    """Raw bits, so NaN payloads, signed zeros and denormals count."""
    sizes = sizes_of(order)
    bits = np.random.default_rng(2).integers(0, 2**32, (int(np.prod(sizes)), 3), dtype=np.uint32)
    stored = bits.view(np.float32) if weight_layout == "KO" else bits.view(np.float32).T
    kernel = dense_to_kernel(stored, sizes, order, layout, flip, weight_layout)
    back = kernel_to_dense(kernel, order, layout, flip, weight_layout)
    assert back.shape == stored.shape
    assert back.tobytes() == stored.tobytes()
    # a copy has no strides that remember where it came from
    again = kernel_to_dense(kernel.copy(), order, layout, flip, weight_layout)
    assert again.tobytes() == stored.tobytes()
    assert np.shares_memory(kernel, stored)
    assert kernel_to_dense(kernel, order, layout, not flip, weight_layout).tobytes() != stored.tobytes()


@pytest.mark.parametrize(
    ("layout", "shape"), [("OIL", (3, 2, 4)), ("LIO", (4, 2, 3)), ("OIHW", (3, 2, 4)), ("HWIO", (4, 2, 3))]
)
def test_the_layout_of_a_series_has_a_name_of_its_own(layout, shape):
    assert dense_to_kernel(random(8, 3), (2, 4), "CL", layout).shape == shape


# the rearrangement itself


@st.composite
def rearrangements(draw):
    shape = tuple(draw(st.lists(st.integers(0, 4), min_size=1, max_size=5)))
    axes = range(len(shape))
    permutation = tuple(draw(st.permutations(axes)))
    flip = tuple(draw(st.lists(st.sampled_from(axes), unique=True)))
    permuted = tuple(shape[axis] for axis in permutation)
    result = draw(st.sampled_from([permuted, (int(np.prod(shape)),), (1, *permuted)]))
    return Rearrangement(shape, permutation, result, flip)


@settings(max_examples=200, deadline=None)
@given(rearrangements())
def test_each_element_lands_where_index_arithmetic_says(rearrangement):
    """Every element is followed by hand: unravel, permute, reverse, ravel."""
    size = int(np.prod(rearrangement.shape))
    source = np.arange(size)
    out = rearrangement.apply(source)
    assert out.shape == rearrangement.result
    permuted = [rearrangement.shape[axis] for axis in rearrangement.permutation]
    for flat, value in enumerate(out.reshape(-1)):
        index = list(np.unravel_index(flat, permuted))
        for axis in rearrangement.flip:
            index[axis] = permuted[axis] - 1 - index[axis]
        origin = [0] * len(permuted)
        for axis, from_axis in enumerate(rearrangement.permutation):
            origin[from_axis] = index[axis]
        assert value == np.ravel_multi_index(origin, rearrangement.shape)
    assert np.array_equal(rearrangement.invert(out, (size,)), source)
    assert Rearrangement.from_json(json.loads(json.dumps(rearrangement.to_json()))) == rearrangement


GOOD = {"shape": [2, 3], "permutation": [1, 0], "result": [3, 2], "flip": [0]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [2, 4]}, "8 values"),
        ({"shape": [-2, -3]}, "negative"),
        ({"shape": [2**63, 2**63], "result": [1]}, "values"),
        ({"shape": [2.0, 3]}, "shape is a list of integers"),
        ({"shape": [True, 6]}, "shape is a list of integers"),
        ({"shape": "23"}, "shape is a list of integers"),
        ({"shape": [1] * 33, "permutation": list(range(33))}, "32 axes"),
        ({"permutation": [0, 0]}, "permutation"),
        ({"permutation": [0, 2]}, "permutation"),
        ({"permutation": [0]}, "permutation"),
        ({"permutation": [-1, 0]}, "permutation"),
        ({"flip": [0, 0]}, "axes"),
        ({"flip": [2]}, "axes"),
        ({"flip": [-1]}, "axes"),
        ({"flip": None}, "flip is a list of integers"),
        ({"more": []}, "the fields"),
    ],
)
def test_a_hostile_rearrangement_is_refused(change, message):
    assert Rearrangement.from_json(GOOD).result == (3, 2)
    with pytest.raises(FileError, match=message):
        Rearrangement.from_json(GOOD | change)


@pytest.mark.parametrize("value", [None, [], 3, "x", {}, {"shape": [1]}])
def test_what_is_no_rearrangement_is_refused(value):
    with pytest.raises(FileError, match="has the fields shape, permutation, result, flip"):
        Rearrangement.from_json(value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dense_to_kernel(random(12, 2), (2, 2, 2), "HWC"), r"2x2x2 = 8, not 12"),
        (lambda: dense_to_kernel(random(8, 2), (2, 2, 2), "WHC"), "an order is one of"),
        (lambda: dense_to_kernel(random(8, 2), (2, 4), "HWC"), "names 3 axes, the patch has 2"),
        (lambda: dense_to_kernel(random(8, 2), (2, 2, 2), "HWC", "IOHW"), "OIHW or HWIO"),
        (lambda: dense_to_kernel(random(8, 2), (2, 2, 2), "HWC", "OIL"), "OIHW or HWIO"),
        (lambda: dense_to_kernel(random(8), (2, 2, 2), "HWC"), "2 axes, not 1"),
        (lambda: kernel_to_dense(random(8, 2), "CL"), "3 or more axes"),
        (lambda: kernel_to_dense(random(2, 2, 2), "CHW"), "names 3 axes, the patch has 2"),
        (lambda: kernel_rearrangement((2, 2), "CL", 1, weight_layout="KX"), "one of KO, OK"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_numbers(call, message):
    with pytest.raises(RequestError, match=message):
        call()
