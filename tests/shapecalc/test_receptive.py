"""Receptive fields, held against sets of positions pushed through every layer, one layer after the other."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dense2conv.shapecalc.readings import Adaptive, Interpolated, Mirrored, Transposed
from dense2conv.shapecalc.receptive import LONGEST_PERIOD, ReceptiveField
from dense2conv.shapecalc.window import Window

from . import slow

small = st.integers(1, 4)
windows = st.builds(Window, st.integers(1, 9), small, st.integers(1, 3), st.integers(0, 3))

# What is drawn, the library's reading of it and the slow one.
LAYERS = {
    "window": (windows, lambda w: w, lambda p, w: slow.convolution(p, w.kernel, w.stride, w.dilation, w.before)),
    "transposed": (
        windows,
        Transposed,
        lambda p, w: slow.transposed(p, w.kernel, w.stride, w.dilation, w.before),
    ),
    "shifted": (st.integers(-3, 3), lambda before: Window(1, before=before), lambda p, n: {p - n}),
    "adaptive": (
        st.tuples(st.integers(1, 6), st.integers(1, 6)),
        lambda a: Adaptive(*a),
        lambda p, a: slow.adaptive(p, *a),
    ),
    "linear": (st.integers(1, 3), Interpolated, lambda p, r: slow.linear(p, r, half=True)),
}  # fmt: skip

layers = st.one_of([st.tuples(st.just(kind), row[0]) for kind, row in LAYERS.items()])
# Two layers: what more of them read is beyond the reach of the slow definitions.
stacks = st.lists(layers, min_size=1, max_size=2)


def field_of(stack):
    field = ReceptiveField()
    for kind, numbers in stack:
        field = field.behind(LAYERS[kind][1](numbers))
    return field


def seen(stack, position):
    """The pixels that a position of the last layer sees, by sets."""
    wanted = {position}
    for kind, numbers in reversed(stack):
        reads = LAYERS[kind][2]
        wanted = set().union(*(reads(place, numbers) for place in wanted))
    return wanted


@settings(max_examples=300)
@given(stacks, st.integers(-3, 4))
def test_the_outermost_pixels_of_a_stack(stack, position):
    pixels = seen(stack, position)
    field = field_of(stack)
    assert field.span(position) == ((min(pixels), max(pixels)) if pixels else None)


@settings(max_examples=100)
@given(stacks)
def test_size_start_and_jump_are_those_of_the_positions(stack):
    field = field_of(stack)
    spans = [field.span(position) for position in range(2 * field.period)]
    lengths = [last - first + 1 for first, last in filter(None, spans)]
    assert field.size == max(lengths, default=0)
    assert field.start == (spans[0][0] if spans[0] else None)
    for now, later in zip(spans[: field.period], spans[field.period :], strict=True):
        moved = field.jump * field.period
        assert later == (None if now is None else (now[0] + moved, now[1] + moved))


@settings(max_examples=200)
@given(stacks)
def test_the_period_is_the_shortest_and_its_reduction_moves_no_span(stack):
    """Upsampling by 2 and pooling by 2 is the identity's period again; nothing that a position sees changes."""
    field = field_of(stack)
    for shorter in range(1, field.period):
        if field.period % shorter or (field.advance * shorter) % field.period:
            continue
        step = field.advance * shorter // field.period
        moved = [
            None if s is None else (s[0] + step, s[1] + step) for s in map(field.span, range(field.period))
        ]
        assert moved != [field.span(position + shorter) for position in range(field.period)]


def test_a_reduced_period_moves_no_span():
    """Up by 3, down by 2, up by 2, down by 3: two phases, which read alike."""
    down = [
        ("transposed", Window(1, 3)),
        ("window", Window(2, 2)),
        ("transposed", Window(2, 2)),
        ("window", Window(2, 3)),
    ]
    field = field_of(down)
    assert (field.period, field.advance) == (1, 1)
    for position in range(-4, 4):
        pixels = seen(down, position)
        assert field.span(position) == (min(pixels), max(pixels))


def test_phases_that_read_differently_are_kept():
    down = [
        ("transposed", Window(3, 3)),
        ("window", Window(2, 2)),
        ("transposed", Window(2, 2)),
        ("window", Window(1, 3)),
    ]
    field = field_of(down)
    assert field.jump == 1
    for position in range(-4, 4):
        pixels = seen(down, position)
        assert field.span(position) == (min(pixels), max(pixels))


@given(st.integers(1, 9), st.integers(2, 4), st.integers(-4, 4))
def test_windows_over_holes(kernel, stride, position):
    """Every ``stride``-th place of an upsampling by zeros holds a pixel: the outermost places may be holes."""
    stack = [("transposed", Window(1, stride)), ("window", Window(kernel))]
    pixels = seen(stack, position)
    assert field_of(stack).span(position) == ((min(pixels), max(pixels)) if pixels else None)


def test_an_upsampling_and_its_inverse_have_period_1():
    assert ReceptiveField().behind(Transposed(Window(2, 2))).period == 2
    field = ReceptiveField().behind(Transposed(Window(2, 2))).behind(Window(2, 2))
    assert (field.period, field.advance, field.span(5)) == (1, 1, (5, 5))


def test_a_mirror_continues_the_field_as_a_pad_does():
    """Inside, neuron ``j`` behind ``before`` mirrored elements sees pixel ``j - before``; ``start`` is in the pad."""
    field = ReceptiveField().behind(Mirrored(2, 9, "reflect", 2)).behind(Window(3))
    assert (field.start, field.size, field.span(5)) == (-2, 3, (3, 5))


@settings(max_examples=200)
@given(stacks, stacks, st.integers(-3, 4))
def test_branches_join_to_their_union(left, right, position):
    ours, theirs = field_of(left), field_of(right)
    if ours.jump != theirs.jump:
        jumps = f"but {ours.jump} and {theirs.jump} pixels meet"
        with pytest.raises(ValueError, match=jumps):
            ours.joined(theirs)
        return
    pixels = seen(left, position) | seen(right, position)
    assert ours.joined(theirs).span(position) == ((min(pixels), max(pixels)) if pixels else None)


def test_phases_without_end_are_refused():
    field = ReceptiveField()
    with pytest.raises(ValueError, match=f"within {LONGEST_PERIOD} positions, but these take 65537$"):
        field.behind(Transposed(Window(65537, 65537)))
