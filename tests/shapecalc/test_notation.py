"""Numbers and words as people write them."""

import pytest

from dense2conv.shapecalc.errors import ShapeError
from dense2conv.shapecalc.notation import paddings, pads, ranges, sizes


@pytest.mark.parametrize(
    ("text", "numbers"), [("3", (3,)), ("3x5", (3, 5)), ("3X5×0", (3, 5, 0)), ("007", (7,))]
)
def test_sizes(text, numbers):
    assert sizes(text) == numbers


@pytest.mark.parametrize("text", ["", "x", "3x", "x3", "-3", "3.5", "3 x 5", "1234567890", "٣", "3x5\n"])
def test_what_is_no_sizes(text):
    with pytest.raises(ShapeError) as caught:
        sizes(text)
    assert caught.value.message == f"{text!r} is no number, and no sizes such as 3x5"


@pytest.mark.parametrize(
    ("text", "pairs"),
    [("1", ((1, 1),)), ("1x2", ((1, 1), (2, 2))), ("0:1", ((0, 1),)), ("0:1x2:3", ((0, 1), (2, 3)))],
)
def test_pads(text, pairs):
    assert pads(text) == pairs


@pytest.mark.parametrize("text", ["", "1:2:3", ":1", "1:", "-1", "a:b"])
def test_what_is_no_pads(text):
    with pytest.raises(ShapeError, match=r"is no pads: 1 \(both sides\), 0:1 \(before:after\), 1x0:1"):
        pads(text)


@pytest.mark.parametrize(
    ("word", "mode"),
    [
        ("same", "same_upper"),
        ("SAME", "same_upper"),
        ("same_lower", "same_lower"),
        ("valid", "valid"),
        ("causal", "causal"),
        ("full", "full"),
    ],
)
def test_words_for_padding(word, mode):
    (found,) = paddings(word)
    assert (found.mode, found.before, found.after) == (mode, 0, 0)


def test_numbers_for_padding():
    assert [(p.mode, p.before, p.after) for p in paddings("1x0:2")] == [
        ("explicit", 1, 1),
        ("explicit", 0, 2),
    ]


def test_a_wrong_word_is_told_the_right_ones():
    with pytest.raises(ShapeError) as caught:
        paddings("sane")
    assert caught.value.message == (
        "'sane' is no padding: same, valid, causal, full, same_upper, same_lower, or pads such as 1 or 0:1"
    )


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([4], "4"), ([0, 1], "0..1"), ([1, 3, 5], "1, 3, 5"), ([-2, -1, 0, 7, 8], "-2..0, 7..8")],
)
def test_ranges(numbers, text):
    assert ranges(numbers) == text
