"""The tiles of an axis, against a list of what each position reads."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dense2conv.convert.tiles import Reach, Span, Tiling, behind, chunks, spans

SIZES = st.integers(1, 80)


@st.composite
def axes(draw, exact=None):
    patch, stride = draw(st.integers(1, 20)), draw(st.integers(1, 25))
    size = patch + draw(st.integers(0, 120))
    exact = draw(st.booleans()) if exact is None else exact
    field = draw(st.integers(1, 40))
    return size, Reach.of(patch=patch, stride=stride, field=field, exact=exact), field, exact


def on_the_map(size, patch, stride):
    """The first pixel of each position, counted one by one."""
    return [start for start in range(0, size, stride) if start + patch <= size]


def assert_covers(made, size, reach):
    """Each position once and in order, from pixels that are there and begin on the grid of strides."""
    starts = on_the_map(size, reach.patch, reach.stride)
    assert [i for span in made for i in range(span.first, span.stop)] == list(range(len(starts)))
    for span in made:
        assert 0 <= span.start < span.end <= size
        assert span.start % reach.stride == 0
        inside = [
            span.start + pixel for pixel in on_the_map(span.end - span.start, reach.patch, reach.stride)
        ]
        core = inside[span.skip : span.skip + span.count]
        assert core == starts[span.first : span.stop]


def assert_untouched(span, size, reach, field):
    """No pixel in front of the tile, nor behind it, is within reach of its core, unless the input ends there."""
    patch, stride = reach.patch, reach.stride
    first, last = span.first * stride, (span.stop - 1) * stride
    # the farthest that a field of R pixels with one in the patch may reach, and a crop of up to P - 1 in front
    assert span.start == 0 or first - (field - 1) - (patch - 1) >= span.start
    assert span.end == size or last + patch - 1 + (field - 1) < span.end


@given(axis=axes(), core=st.integers(1, 30))
def test_the_spans_cover_the_map_from_what_it_reads(axis, core):
    size, reach, field, exact = axis
    made = spans(size, reach, core)
    assert_covers(made, size, reach)
    assert all(span.count == core for span in made[:-1])
    assert all(span.end - span.start <= reach.pixels(core) for span in made)
    for span in made:
        if not exact:
            assert_untouched(span, size, reach, field)


@given(axis=axes(), core=st.integers(1, 30))
def test_chunks_borrow_from_their_neighbours_only(axis, core):
    size, reach, field, exact = axis
    sizes, made = chunks(size, reach, core)
    assert sum(sizes) == size
    assert_covers(made, size, reach)
    begins = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    if len(sizes) > 1:
        assert min(sizes) >= max(reach.before, behind(reach))
    for i, span in enumerate(made):
        assert span.start == max(0, begins[i] - reach.before)
        assert span.end == min(size, begins[i + 1] + behind(reach))
        if not exact:
            assert_untouched(span, size, reach, field)


@given(axis=axes(exact=True), more=st.integers(0, 60))
def test_tiles_of_one_fixed_size(axis, more):
    size, exact, _, _ = axis
    reach = Reach(exact.patch, exact.stride, 0, 0, exact.patch + more)
    held = more // exact.stride + 1
    made = spans(size, reach, held)
    starts = on_the_map(size, reach.patch, reach.stride)
    assert [i for span in made for i in range(span.first, span.stop)] == list(range(len(starts)))
    for span in made:
        assert span.end - span.start == reach.fixed
        assert span.start >= 0
        inside = [span.start + i * reach.stride for i in range(held)]
        assert inside[span.skip : span.skip + span.count] == starts[span.first : span.stop]


@given(axis=axes(), tile=SIZES)
def test_a_core_is_the_most_that_a_tile_has_room_for(axis, tile):
    _, reach, _, _ = axis
    core = reach.core(tile)
    assume(core)
    assert reach.pixels(core) <= tile < reach.pixels(core + 1)


def test_a_tiling_is_the_product_of_its_axes():
    reach = Reach(20, 4, 0, 0)
    tiling = Tiling.over((100, 60), (reach, reach), (15, 100))
    assert (tiling.count, tiling.counts, tiling.largest) == (2, (21, 11), (76, 60))
    columns = Span(0, 11, 0, 60, 0)
    assert list(tiling) == [(Span(0, 15, 0, 76, 0), columns), (Span(15, 21, 60, 100, 0), columns)]
    assert tiling.pixels == (76 + 40) * 60


@pytest.mark.parametrize("core", [0, 1])
def test_an_input_below_the_patch_has_no_tile(core):
    assert spans(19, Reach(20, 4, 0, 0), core) == []
