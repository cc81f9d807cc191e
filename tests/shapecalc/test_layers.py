"""One layer: output, neurons, parameters and MACs, counted on arrays; what cannot be is refused with its numbers."""

from dataclasses import fields
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from dense2conv.shapecalc.errors import ShapeError
from dense2conv.shapecalc.kinds import KINDS, effect
from dense2conv.shapecalc.layers import Layer, Value, shown
from dense2conv.shapecalc.readings import Adaptive, Beyond, Interpolated, Mirrored, Transposed
from dense2conv.shapecalc.runtimes import Padding
from dense2conv.shapecalc.window import Window

from . import slow

IMAGE = Value(6, (9, 8))
SAME = (Padding("same_upper"),)


def done(layer, *values, runtime="onnxruntime"):
    return effect(layer, values or (IMAGE,), runtime)


def refused(layer, *values, runtime="onnxruntime"):
    with pytest.raises(ShapeError) as caught:
        done(layer, *values, runtime=runtime)
    return caught.value


@given(st.lists(st.integers(5, 9), min_size=1, max_size=3), st.integers(1, 3), st.data())
def test_a_convolution_counted_on_arrays(sizes, groups, data):
    """Weights are those of an array (O, C/g, *k); every output element is one product with a filter."""
    channels, units = groups * data.draw(st.integers(1, 3)), groups * data.draw(st.integers(1, 3))
    kernel = tuple(data.draw(st.integers(1, 4)) for _ in sizes)
    bias = data.draw(st.booleans())
    weight = np.zeros((units, channels // groups, *kernel))
    out = signal.correlate(np.zeros(sizes), np.zeros(kernel), mode="valid").shape
    found = done(Layer("conv", kernel, units=units, groups=groups, bias=bias), Value(channels, tuple(sizes)))
    assert found.output == Value(units, out)
    assert found.output.neurons == np.zeros((units, *out)).size
    assert found.parameters == weight.size + bias * units
    assert found.macs == sum(weight[0].size for _ in np.ndindex(units, *out))


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_a_transposed_convolution_multiplies_every_input(kernel, channels, units, bias):
    out = signal.convolve(np.zeros((5, 4)), np.zeros((kernel, kernel)), mode="full").shape
    found = done(Layer("convtranspose", (kernel,), units=units, bias=bias), Value(channels, (5, 4)))
    assert found.output == Value(units, out)
    assert found.parameters == np.zeros((channels, units, kernel, kernel)).size + bias * units
    assert found.macs == 5 * 4 * np.zeros((channels, units, kernel, kernel)).size


def test_depthwise_has_a_filter_a_channel():
    found = done(Layer("depthwise", (3, 3)))
    assert (found.output, found.parameters, found.macs) == (Value(6, (7, 6)), 6 * 9 + 6, 6 * 9 * 7 * 6)
    doubled = done(Layer("depthwise", (3, 3), units=2, bias=False))
    assert (doubled.output.channels, doubled.parameters) == (12, 108)


@pytest.mark.parametrize(
    ("layer", "value", "output", "parameters", "macs"),
    [
        (Layer("maxpool", (2,)), IMAGE, Value(6, (4, 4)), 0, 0),
        (Layer("maxpool", (2,), ceil=True), IMAGE, Value(6, (5, 4)), 0, 0),
        (Layer("avgpool", (3,), (1,)), IMAGE, Value(6, (7, 6)), 0, 0),
        (Layer("lppool", (3, 2), (2, 1), padding=SAME), IMAGE, Value(6, (5, 8)), 0, 0),
        (Layer("globalpool"), IMAGE, Value(6, (1, 1)), 0, 0),
        (Layer("adaptivepool", sizes=(3,)), IMAGE, Value(6, (3, 3)), 0, 0),
        (Layer("dense", units=5), IMAGE, Value(5, (9, 8)), 35, 30 * 72),
        (Layer("dense", units=5, bias=False), Value(432), Value(5), 2160, 2160),
        (Layer("flatten"), IMAGE, Value(432), 0, 0),
        (Layer("reshape", units=3, sizes=(144,)), IMAGE, Value(3, (144,)), 0, 0),
        (Layer("pad", before=(1,), after=(0, 2)), IMAGE, Value(6, (10, 11)), 0, 0),
        (Layer("crop", before=(1,), after=(0, 2)), IMAGE, Value(6, (8, 5)), 0, 0),
        (Layer("upsample", (2, 3)), IMAGE, Value(6, (18, 24)), 0, 0),
        (Layer("batchnorm"), IMAGE, IMAGE, 24, 0),
        (Layer("prelu"), IMAGE, IMAGE, 6, 0),
        (Layer("relu"), IMAGE, IMAGE, 0, 0),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_outputs_and_counts(layer, value, output, parameters, macs):
    found = done(layer, value)
    assert (found.output, found.parameters, found.macs) == (output, parameters, macs)


def test_joining():
    other = Value(4, (9, 8))
    assert done(Layer("concat"), IMAGE, other, IMAGE).output == Value(16, (9, 8))
    assert done(Layer("add"), IMAGE, IMAGE).output == IMAGE
    assert (
        refused(Layer("add"), IMAGE, other).message
        == "add combines values of one shape, but 9x8x6 meets 9x8x4"
    )
    narrow = Value(6, (9, 7))
    message = "concat joins channels of values of one size, but 9x8x6 meets 9x7x6"
    assert refused(Layer("concat"), IMAGE, narrow).message == message


@pytest.mark.parametrize(
    ("layer", "readings"),
    [
        (Layer("conv", (3, 2), (2, 1), units=1), (Window(3, 2), Window(2))),
        (Layer("convtranspose", (3,), (2,), units=1), (Transposed(Window(3, 2)),) * 2),
        (Layer("globalpool"), (Beyond.WHOLE,) * 2),
        (Layer("adaptivepool", sizes=(3, 4)), (Adaptive(9, 3), Adaptive(8, 4))),
        (Layer("flatten"), (Beyond.WHOLE,) * 2),
        (Layer("reshape", units=6, sizes=(9, 8)), (Window(1),) * 2),
        (Layer("reshape", units=6, sizes=(8, 9)), (Beyond.WHOLE,) * 2),
        (Layer("pad", before=(1,), after=(2,)), (Window(1, before=1),) * 2),
        (Layer("pad", before=(1,), after=(2,), mode="edge"), (Mirrored(1, 9, "edge", 2), Mirrored(1, 8, "edge", 2))),
        (Layer("crop", before=(1,), after=(2,)), (Window(1, before=-1),) * 2),
        (Layer("upsample", (2,)), (Transposed(Window(2, 2)),) * 2),
        (Layer("upsample", (2,), mode="linear"), (Interpolated(2),) * 2),
        (Layer("dense", units=3), (Window(1),) * 2),
        (Layer("softmax"), (Window(1),) * 2),
    ],
    ids=lambda value: getattr(value, "kind", None),
)  # fmt: skip
def test_what_positions_read(layer, readings):
    assert done(layer).readings == readings


@given(st.integers(5, 30), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_one_number_counts_for_every_axis(size, kernel, stride, dilation):
    if not slow.windows(size, kernel, stride, dilation):
        return
    once = done(Layer("conv", (kernel,), (stride,), (dilation,), units=1), Value(1, (size,) * 3))
    assert once.output.sizes == (slow.windows(size, kernel, stride, dilation),) * 3


@pytest.mark.parametrize(
    ("layer", "values", "message", "hint"),
    [
        (Layer("conv", (3,)), (IMAGE,), "conv needs a number of filters", ""),
        (Layer("conv", units=3), (IMAGE,), "conv needs a kernel", ""),
        (
            Layer("conv", (10, 3), units=1),
            (IMAGE,),
            "a kernel must not be larger than the padded input, but 10 > 9 + 0 + 0",
            "take a smaller kernel or dilation, more padding or a larger input",
        ),
        (
            Layer("conv", (3,), dilation=(5,), units=1),
            (IMAGE,),
            "a kernel must not be larger than the padded input, but 5*(3 - 1) + 1 = 11 > 9 + 0 + 0",
            "take a smaller kernel or dilation, more padding or a larger input",
        ),
        (
            Layer("conv", (3,), (0,), units=1),
            (IMAGE,),
            "kernel, stride and dilation must be at least 1, got 3, 0 and 1",
            "",
        ),
        (
            Layer("conv", (3,), units=4, groups=4),
            (IMAGE,),
            "groups must divide the channels in and out, but 4 does not divide 6 and 4",
            "",
        ),
        (
            Layer("conv", (3, 3, 3), units=1),
            (IMAGE,),
            "kernel has a number for each spatial axis, but 3x3x3 has 3 and the input 2",
            "",
        ),
        (
            Layer("maxpool", (2,), padding=SAME * 3),
            (IMAGE,),
            "padding has an entry for each spatial axis, but there are 3 and 2",
            "",
        ),
        (
            Layer("maxpool", (2,)),
            (Value(432),),
            "maxpool slides over spatial axes, but its input is flat: 432 numbers",
            "put it before the flatten, or a reshape in between",
        ),
        (
            Layer("maxpool", (2,), padding=(Padding("explicit", 2, 2),)),
            (IMAGE,),
            "ONNX Runtime's pools take pads smaller than the kernel, but 2 and 2 meet 2",
            "take a larger kernel, or a Pad in front of the pool",
        ),
        (Layer("dense"), (IMAGE,), "dense needs a number of units", ""),
        (Layer("adaptivepool"), (IMAGE,), "adaptivepool needs the size of its output, at least 1", ""),
        (
            Layer("reshape", units=3, sizes=(100,)),
            (IMAGE,),
            "a reshape keeps the number of elements, but 432 are to become 300",
            "",
        ),
        (
            Layer("crop", before=(4,), after=(4,)),
            (IMAGE,),
            "a crop must leave at least 1 element, but 4x4 before and 4x4 after are cut off 9x8",
            "",
        ),
        (Layer("upsample"), (IMAGE,), "upsample needs a factor, at least 1", ""),
        (Layer("upsample", (2,), mode="wrap"), (IMAGE,), "upsample is nearest or linear, not 'wrap'", ""),
        (Layer("relu"), (IMAGE, IMAGE), "relu reads 1 value, but gets 2", ""),
    ],
)
def test_what_cannot_be(layer, values, message, hint):
    error = refused(layer, *values)
    assert (error.message, error.hint) == (message, hint)


def test_a_padding_is_one_of_the_known_and_not_negative():
    with pytest.raises(
        ShapeError, match=r"^a padding is valid, explicit, causal, full, same_upper, same_lower, not 'x'$"
    ):
        Padding("x")
    with pytest.raises(ShapeError, match=r"^pads must not be negative, got -1 before and 0 after$"):
        Padding("explicit", -1)


def test_every_kind_has_a_word_for_help_and_a_rule():
    for name, kind in KINDS.items():
        assert kind.says, name
        assert callable(kind.rule), name
        assert set(kind.takes) <= {field.name for field in fields(Layer)}, name
    assert shown(IMAGE) == "9x8x6"
    assert IMAGE.neurons == prod((9, 8, 6))
