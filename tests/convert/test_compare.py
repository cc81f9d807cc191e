"""Comparison of arrays: figures against numbers worked out by hand, and everything that must not pass."""

import json

import numpy as np
import pytest

from dense2conv.convert.compare import Comparison, Tolerance, Verdict, compare, tolerance_for, ulps, worst
from dense2conv.convert.errors import FileError

EQUIVALENT, DIFFERENT, INCONCLUSIVE = Verdict.EQUIVALENT, Verdict.DIFFERENT, Verdict.INCONCLUSIVE


def f32(*values):
    return np.array(values, np.float32)


def test_figures_by_hand():
    reference = np.array([[1.0, -8.0], [2.0, 4.0]], np.float32)
    candidate = np.array([[1.5, -8.0], [2.0, 4.25]], np.float32)
    figures = compare(reference, candidate)
    assert figures.verdict is DIFFERENT
    assert (figures.difference, figures.index) == (0.5, (0, 0))
    assert (figures.reference, figures.candidate) == (1.0, 1.5)
    assert (figures.scale, figures.ratio, figures.count) == (8.0, 0.0625, 4)
    assert figures.spread == 12.0  # -8 to 4
    assert figures.allowed == 8e-4
    assert "0.5 is more than 0.0008, and 0.062 of the largest value" in figures.reason


@pytest.mark.parametrize(("difference", "verdict"), [(0.9e-4, EQUIVALENT), (1.1e-4, DIFFERENT)])
def test_the_tolerance_is_a_share_of_the_largest_value(difference, verdict):
    reference = np.array([[100.0, 0.0], [-100.0, 1.0]])
    candidate = reference + np.array([[0.0, 100 * difference], [0.0, 0.0]])
    assert compare(reference, candidate, Tolerance(1e-4)).verdict is verdict


def test_one_bad_element_in_a_hundred_thousand_is_found():
    reference = np.random.default_rng(0).standard_normal((10, 10_000)).astype(np.float32)
    candidate = reference.copy()
    candidate[7, 1234] += 0.1
    figures = compare(reference, candidate)
    assert figures.verdict is DIFFERENT
    assert figures.index == (7, 1234)


NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("reference", "candidate", "verdict"),
    [
        (f32(1, 2, 3), f32(1, 2, 3), EQUIVALENT),
        (f32(1, NAN, 3), f32(1, 2, 3), DIFFERENT),
        (f32(1, 2, 3), f32(1, NAN, 3), DIFFERENT),
        (f32(1, 2, 3), f32(1, INF, 3), DIFFERENT),
        (f32(1, INF, 3), f32(1, -INF, 3), DIFFERENT),
        (f32(1, NAN, 3), f32(1, INF, 3), DIFFERENT),
        (f32(1, NAN, 3), f32(1, NAN, 3), EQUIVALENT),
        (f32(1, INF, 3), f32(1, INF, 3), EQUIVALENT),
        (f32(NAN, NAN), f32(NAN, NAN), INCONCLUSIVE),
        (f32(INF, INF), f32(INF, INF), INCONCLUSIVE),
        (f32(), f32(), INCONCLUSIVE),
        (f32(0, 0), f32(0, 0), INCONCLUSIVE),
        (f32(1, 1), f32(1, 1), INCONCLUSIVE),
        (f32(0, 0), f32(0, 3e-6), DIFFERENT),  # a small output is not a right output
        (f32(1e-9, 2e-9), f32(5e-6, 2e-9), DIFFERENT),
        (f32(1, 1 + 1e-5), f32(1, 1 + 1e-5), INCONCLUSIVE),  # moves by less than the tolerance
        (np.array([1, 2]), np.array([1, 2]), EQUIVALENT),
        (np.array([1, 2]), np.array([1, 3]), DIFFERENT),
        (np.array([2**60, 1]), np.array([2**60 + 1, 1]), DIFFERENT),  # equal as float64
        (np.array([5, 5]), np.array([5, 5]), INCONCLUSIVE),
        (np.array([True, False]), np.array([True, False]), EQUIVALENT),
        (np.array([True, False]), np.array([True, True]), DIFFERENT),
        (f32(1, 2), f32(1, 2).astype(np.float64), DIFFERENT),
        (f32(1, 2), np.array([1, 2]), DIFFERENT),
        (f32(1, 1), f32(1), DIFFERENT),
        (f32(1), np.float32(1), DIFFERENT),
        (np.ones((2, 3), "f"), np.ones((1, 3), "f"), DIFFERENT),
        (np.ones((2, 3), "f"), np.float32(1), DIFFERENT),
        (np.ones((1, 3), "f"), np.ones((0, 3), "f"), DIFFERENT),
    ],
)
def test_verdicts(reference, candidate, verdict):
    figures = compare(reference, candidate)
    assert figures.verdict is verdict
    assert bool(figures.reason) == (verdict is not EQUIVALENT)
    json.loads(json.dumps(figures.to_json(), allow_nan=False))


def test_integers_must_be_equal_whatever_the_tolerance():
    assert compare(np.array([100, 1]), np.array([101, 1]), Tolerance(0.5)).verdict is DIFFERENT


def test_outputs_that_differ_between_channels_only_prove_nothing():
    # A dead network answers with its bias, whatever goes in.
    reference = np.tile(f32(1, -2, 3), (5, 1))
    assert compare(reference, reference).verdict is INCONCLUSIVE
    reference[3, 1] = 5
    assert compare(reference, reference).verdict is EQUIVALENT


def test_float16_beyond_its_range_proves_nothing():
    reference = np.array([7e4, 8e4]).astype(np.float32)
    with np.errstate(over="ignore"):
        reference, candidate = reference.astype(np.float16), np.array([1e6, 2e6]).astype(np.float16)
    assert compare(reference, candidate).verdict is INCONCLUSIVE


def test_float64_overflow_is_a_difference():
    assert compare(np.array([1e308, 1.0]), np.array([-1e308, 1.0])).verdict is DIFFERENT


def test_pieces_are_the_whole():
    generator = np.random.default_rng(1)
    reference = generator.standard_normal((20, 3)).astype(np.float32)
    candidate = reference + generator.standard_normal((20, 3)).astype(np.float32)
    pieces = Comparison()
    for start in range(0, 20, 7):
        pieces.add(reference[start : start + 7], candidate[start : start + 7])
    assert pieces.figures() == compare(reference, candidate)
    difference = np.abs(reference.astype(float) - candidate)
    assert pieces.figures().index == np.unravel_index(difference.argmax(), difference.shape)


def test_a_wrong_piece_is_not_forgotten():
    pieces = Comparison()
    pieces.add(f32(1, 2), f32(1))
    pieces.add(f32(1, 2), f32(1, 2))
    assert pieces.figures().verdict is DIFFERENT


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float16", 1e-2), ("float32", 1e-4), ("float64", 1e-9), ("int64", 0), ("bool", 0)],
)
def test_tolerances(dtype, tolerance):
    assert tolerance_for(dtype) == tolerance


@pytest.mark.parametrize("dtype", ["object", "complex64", "U3"])
def test_other_types_are_refused(dtype):
    with pytest.raises(FileError, match="outputs are compared as integers"):
        tolerance_for(dtype)


def test_the_worst_verdict_rules():
    assert worst(EQUIVALENT, Verdict.BORDER_EFFECT, EQUIVALENT) is Verdict.BORDER_EFFECT
    assert worst(Verdict.BORDER_EFFECT, INCONCLUSIVE) is INCONCLUSIVE
    assert worst(DIFFERENT, INCONCLUSIVE) is DIFFERENT
    assert worst() is INCONCLUSIVE
    assert str(Verdict.BORDER_EFFECT) == "border effect"


def test_element_by_element_as_numpy_does_it():
    generator = np.random.default_rng(3)
    reference = generator.standard_normal((6, 50)) * 10 ** generator.uniform(-6, 6, (6, 50))
    for scale in (1e-9, 1e-6, 1e-3):
        candidate = reference * (1 + scale * generator.standard_normal(reference.shape)) + 1e-8
        for relative, absolute in ((1e-5, 1e-7), (0.0, 1e-3), (1e-2, 0.0)):
            figures = compare(reference, candidate, Tolerance(relative, absolute, elementwise=True))
            passes = np.allclose(candidate, reference, rtol=relative, atol=absolute)
            assert (figures.verdict is EQUIVALENT) == passes
            place = figures.index
            assert figures.allowed == absolute + relative * abs(reference[place])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_distances_in_units_of_the_last_place(dtype):
    one = np.array([1.0, -1.0, 0.0, 3.5, -0.0, np.inf, np.nan], dtype)
    steps = 5
    other = one.copy()
    for _ in range(steps):
        other[:4] = np.nextafter(other[:4], np.array(np.inf, dtype))
    assert ulps(one, other).tolist() == [5, 5, 5, 5, 0, 0, 0]
    across = np.nextafter(np.array([0.0], dtype), np.array([-1.0], dtype))
    assert ulps(across, -across).tolist() == [2]


def test_median_and_high_percentile_of_the_distances():
    reference = np.linspace(1, 2, 1000, dtype=np.float32).reshape(10, 100)
    candidate = np.nextafter(reference, np.float32(3))
    candidate[0, :20] = np.nextafter(candidate[0, :20], np.float32(3))
    figures = compare(reference, candidate)
    assert (figures.ulp_median, figures.ulp_p99) == (1, 2)
