"""Transposed convolutions, by adding up what every element scatters."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dense2conv.shapecalc.errors import ShapeError
from dense2conv.shapecalc.runtimes import Padding, Sliding
from dense2conv.shapecalc.transposed import Enlarging

small = st.integers(1, 5)
SAME = Padding("same_upper")


def scattered(size, kernel, stride, dilation):
    """One more than the last place that is written to, where nothing is cropped."""
    return 1 + max(element * stride + tap * dilation for element in range(size) for tap in range(kernel))


@given(
    st.integers(1, 9),
    small,
    small,
    st.integers(1, 3),
    st.integers(0, 4),
    st.integers(0, 4),
    st.integers(0, 4),
)
def test_the_size_is_what_is_written_to_less_the_pads(size, kernel, stride, dilation, before, after, extra):
    assume(extra < max(stride, dilation))
    layer = Enlarging(Sliding("conv", kernel, stride, dilation, Padding("explicit", before, after)), extra)
    expected = scattered(size, kernel, stride, dilation) + extra - before - after
    if expected < 1:
        with pytest.raises(ShapeError, match=f"pads of {before} and {after} leave {expected} of "):
            layer.resolved(size, "onnx")
        return
    window, output = layer.resolved(size, "onnx")
    assert output == expected
    assert (window.before, window.after) == (before, after)


@pytest.mark.parametrize(
    ("mode", "size", "kernel", "stride", "pads", "output"),
    [
        ("same_upper", 8, 4, 2, (1, 1), 16),
        ("same_upper", 8, 3, 2, (0, 1), 16),
        ("same_lower", 8, 3, 2, (1, 0), 16),
        ("same_upper", 8, 1, 1, (0, 0), 8),
    ],
)
def test_same_asks_for_the_size_times_the_stride(mode, size, kernel, stride, pads, output):
    window, found = Enlarging(Sliding("conv", kernel, stride, padding=Padding(mode))).resolved(size)
    assert ((window.before, window.after), found) == (pads, output)


@pytest.mark.parametrize(
    ("runtime", "output"), [("onnxruntime", 10), ("onnx", 10), ("pytorch", 10), ("tensorflow", 12)]
)
def test_a_stride_larger_than_the_kernel(runtime, output):
    """Keras fills up to ``size * stride``: 4 elements, kernel 1, stride 3 end at place 9."""
    assert Enlarging(Sliding("conv", 1, 3)).resolved(4, runtime)[1] == output


def test_keras_keeps_the_kernel_s_overhang():
    """keras.layers.Conv2DTranspose(kernel_size=5, strides=2, padding="valid") makes 11 of 4."""
    assert Enlarging(Sliding("conv", 5, 2)).resolved(4, "tensorflow")[1] == 11


def test_a_size_that_is_asked_for():
    layer = Sliding("conv", 3, 2)
    assert Enlarging(layer, size=8).resolved(4)[1] == 8
    window, output = Enlarging(layer, output_padding=1, size=10).resolved(4, "onnx")
    assert (window.before, window.after, output) == (0, 0, 10)


@pytest.mark.parametrize(
    ("layer", "runtime", "message"),
    [
        (
            Enlarging(Sliding("conv", 3, 2), 2),
            "onnxruntime",
            "output padding must be below the larger of stride and dilation, but 2 meets 2 and 1",
        ),
        (
            Enlarging(Sliding("conv", 3, padding=Padding("explicit", 3, 4))),
            "onnxruntime",
            "an output must have at least 1 element, but pads of 3 and 4 leave -1 of 6",
        ),
        (
            Enlarging(Sliding("conv", 3, 2, padding=SAME)),
            "pytorch",
            "PyTorch's transposed convolutions take their pads as numbers, not as SAME",
        ),
        (
            Enlarging(Sliding("conv", 3, padding=Padding("explicit", 0, 1))),
            "pytorch",
            "PyTorch's layers crop both sides alike, but 0 and 1 are asked for",
        ),
        (
            Enlarging(Sliding("conv", 3, padding=Padding("causal"))),
            "onnxruntime",
            "a transposed convolution has no padding 'causal'",
        ),
        (
            Enlarging(Sliding("conv", 3, 2), size=30),
            "onnxruntime",
            "ONNX Runtime takes an output from which the convolution leads back to 4 elements, but from 30 it leads "
            "to 14",
        ),
    ],
)
def test_what_is_refused(layer, runtime, message):
    with pytest.raises(ShapeError) as caught:
        layer.resolved(4, runtime)
    assert caught.value.message == message
