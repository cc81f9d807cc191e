"""What ``calc`` works out: formulas that come out, and unknowns held against a loop with a formula of its own."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dense2conv.shapecalc.errors import ShapeError
from dense2conv.shapecalc.runtimes import Padding, Sliding
from dense2conv.shapecalc.solve import answer, solutions
from dense2conv.shapecalc.transposed import Enlarging

from . import slow

small = st.integers(1, 5)


def outputs(size, kernel, stride=1, dilation=1, before=0, after=0):
    """None where nothing comes out."""
    return slow.windows(size, kernel, stride, dilation, before, after) or None


def written(formula):
    """The value of a formula as it is printed, and the value that it claims."""
    left, _, right = formula.removesuffix(" (after is what rounding up adds)").partition(" = ")
    left = re.sub(r"floor\(\((.*)\) / (\d+)\)", r"((\1) // \2)", left)
    assert re.fullmatch(r"[-+*/() 0-9]+", left)
    return eval(left), int(right)


@given(
    st.integers(4, 40), small, small, st.integers(1, 2), st.integers(0, 4), st.integers(0, 4), st.booleans()
)
def test_the_formula_comes_out(size, kernel, stride, dilation, before, after, ceil):
    operator = "maxpool" if ceil else "conv"
    layer = Sliding(operator, kernel, stride, dilation, Padding("explicit", before, after), ceil)
    try:
        found = answer(layer, size, "onnx")
    except ShapeError:
        assert outputs(size, kernel, stride, dilation, before, after) is None
        return
    computed, claimed = written(found.formula)
    assert computed == claimed == found.output
    if not ceil:
        assert found.output == outputs(size, kernel, stride, dilation, before, after)


@pytest.mark.parametrize(
    ("layer", "size", "formula"),
    [
        (Sliding("conv", 4, 2), 64, "floor((64 + 0 + 0 - 1*(4 - 1) - 1) / 2) + 1 = 31"),
        (
            Sliding("maxpool", 3, 2, ceil=True),
            6,
            "floor((6 + 0 + 1 - 1*(3 - 1) - 1) / 2) + 1 = 3 (after is what rounding up adds)",
        ),
        (Enlarging(Sliding("conv", 4, 2), 1), 8, "2*(8 - 1) + 1 + 1*(4 - 1) + 1 - 0 - 0 = 19"),
    ],
)
def test_the_formula_as_it_is_printed(layer, size, formula):
    assert answer(layer, size).formula == formula


def test_keras_fills_up():
    formula = answer(Enlarging(Sliding("conv", 1, 3)), 4, "tensorflow").formula
    assert formula == "3*(4 - 1) + 0 + 1*(1 - 1) + 1 - 0 - 0 = 10, filled up to 12"


@given(st.integers(4, 40), small, small, st.integers(1, 2), st.integers(0, 4))
def test_the_first_second_and_last_neuron(size, kernel, stride, dilation, pad):
    layer = Sliding("conv", kernel, stride, dilation, Padding("explicit", pad, pad))
    if outputs(size, kernel, stride, dilation, pad, pad) is None:
        return
    found = answer(layer, size)
    assert [s.neuron for s in found.seen] == sorted({0, min(1, found.output - 1), found.output - 1})
    for seen in found.seen:
        read = slow.convolution(seen.neuron, kernel, stride, dilation, pad)
        assert (seen.first, seen.last) == (min(read), max(read))


def test_a_hole_of_a_transposed_convolution_reads_nothing():
    seen = answer(Enlarging(Sliding("conv", 1, 3)), 4).seen
    assert [(s.neuron, s.first, s.last) for s in seen] == [(0, 0, 0), (1, None, None), (9, 3, 3)]


@settings(max_examples=50)
@given(
    st.integers(1, 30),
    st.integers(1, 30),
    small,
    small,
    st.integers(1, 3),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_every_answer_and_no_other(size, wanted, kernel, stride, dilation, before, after):
    pads = {"before": before, "after": after}
    layer = Sliding("conv", kernel, stride, dilation, Padding("explicit", before, after))
    most = 12
    tried = range(1, most + 1)

    def found(unknown):
        return [n[unknown] for n in solutions(layer, unknown, size, wanted, largest=most)]

    assert found("kernel") == [n for n in tried if outputs(size, n, stride, dilation, **pads) == wanted]
    assert found("stride") == [n for n in tried if outputs(size, kernel, n, dilation, **pads) == wanted]
    assert found("dilation") == [n for n in tried if outputs(size, kernel, stride, n, **pads) == wanted]
    even = [n for n in range(most + 1) if outputs(size, kernel, stride, dilation, n, n) == wanted]
    answers = solutions(layer, "padding", size, wanted, largest=most)
    assert even == [n["before"] for n in answers if n["before"] == n["after"]]
    if not even:
        expected = {
            (b, a)
            for n in range(most)
            for b, a in ((n, n + 1), (n + 1, n))
            if outputs(size, kernel, stride, dilation, b, a) == wanted
        }
        assert {(n["before"], n["after"]) for n in answers} == expected
        assert len(answers) == len(expected)


def test_a_pool_s_stride_goes_with_its_kernel():
    layer = Sliding("maxpool", 1, 1)
    assert solutions(layer, "kernel", 64, 32, tied=True) == [{"kernel": 2}]
    assert solutions(layer, "kernel", 64, 32) == [{"kernel": 33}]


def test_limits_of_the_runtime_count():
    """3 pads make 9 outputs of 5 elements, but ONNX Runtime's pools take at most 1 with a kernel of 2."""
    layer = Sliding("maxpool", 2, 1)
    assert solutions(layer, "padding", 5, 10, "onnx") == [{"before": 3, "after": 3}]
    assert solutions(layer, "padding", 5, 10, "onnxruntime") == []


def test_a_transposed_convolution_is_solved_too():
    layer = Enlarging(Sliding("conv", 4, 2))
    assert solutions(layer, "padding", 32, 64) == [{"before": 1, "after": 1}]
    assert solutions(layer, "kernel", 32, 64) == [{"kernel": 2}]
