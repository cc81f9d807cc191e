"""What reads what through a network, held against boolean matrices that say it for every pair of positions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dense2conv.shapecalc.chain import input_value, with_input
from dense2conv.shapecalc.errors import ShapeError
from dense2conv.shapecalc.network import INPUT, Network, Node

from . import slow

SIZE = 7

# Layers that keep the size of an axis, so that any two can meet: text and the slow definition.
LAYERS = [
    ("conv 3x3 1 same", lambda p: slow.convolution(p, 3, before=1)),
    ("conv 4x4 1 same", lambda p: slow.convolution(p, 4, before=1)),
    ("conv 3x3 1 dilation 2 pad 2", lambda p: slow.convolution(p, 3, dilation=2, before=2)),
    ("conv 2x2 1 causal", lambda p: slow.convolution(p, 2, before=1)),
    ("maxpool 3x3/1 pad 1", lambda p: slow.convolution(p, 3, before=1)),
    ("convtranspose 3x3 1 pad 1", lambda p: slow.transposed(p, 3, before=1)),
    ("pad 2:0 reflect, crop 1", lambda p: {slow.mirrored(SIZE, 2, 0, "reflect")[p + 1]}),
    ("pad 1 edge, conv 3x3 1", lambda p: {slow.mirrored(SIZE, 1, 1, "edge")[q] for q in slow.convolution(p, 3)}),
    ("relu", lambda p: {p}),
    ("globalpool, upsample {n}", lambda _: set(range(SIZE))),
    ("upsample 2, maxpool 2", lambda p: {p}),
    ("upsample 2 linear, maxpool 2",
     lambda p: slow.linear(2 * p, 2, half=True) | slow.linear(2 * p + 1, 2, half=True)),
]  # fmt: skip


@st.composite
def networks(draw):
    """A text of one channel, with skips, and the 2-D dependency of its last layer: ``[row, column, row, column]``."""
    text, matrices = [], [np.einsum("ac,bd->abcd", np.eye(SIZE, dtype=bool), np.eye(SIZE, dtype=bool))]
    for index in range(draw(st.integers(1, 4))):
        words, reads = draw(st.sampled_from(LAYERS))
        source = draw(st.integers(0, len(matrices) - 1))
        first, *others = words.format(n=SIZE).split(", ")
        start = f"{first} from {'input' if source == 0 else f'at{source - 1}'}"
        chain = [start, *others]
        chain[-1] = f"at{index}: {chain[-1]}"
        text += chain
        one = slow.dependency(SIZE, SIZE, reads)
        both = np.einsum("ac,bd->abcd", one, one)
        found = np.tensordot(both, matrices[source], axes=2) > 0
        if draw(st.booleans()):
            other = draw(st.integers(0, len(matrices) - 1))
            text[-1] = text[-1].replace(f"at{index}: ", f"in{index}: ")
            text.append(f"at{index}: add {'input' if other == 0 else f'at{other - 1}'}")
            found = found | matrices[other]
        matrices.append(found)
    return ", ".join(text), matrices[-1]


@settings(max_examples=150)
@given(networks(), st.integers(0, SIZE - 1), st.integers(0, SIZE - 1))
def test_pixels_and_neurons_through_skips(drawn, row, column):
    """On each axis, the sets are the shadows of what is really read."""
    text, matrix = drawn
    network = with_input(text, input_value(f"{SIZE}x{SIZE}x1"))
    last = len(network.nodes) - 1
    seen = matrix[row, column]
    pixels = network.pixels(last, (row, column))
    assert pixels == (frozenset(np.flatnonzero(seen.any(1))), frozenset(np.flatnonzero(seen.any(0))))
    seeing = matrix[:, :, row, column]
    neurons = network.neurons((row, column))[last]
    assert neurons == (frozenset(np.flatnonzero(seeing.any(1))), frozenset(np.flatnonzero(seeing.any(0))))


@settings(max_examples=100)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=2), st.integers(0, 30))
def test_pixels_behind_strides(kinds, position):
    """Layers that make the axis shorter, longer or uneven, on one axis; the box holds what is read."""
    layers = [
        ("conv 3/2 1 pad 1", lambda n: (slow.windows(n, 3, 2, 1, 1, 1), lambda p: slow.convolution(p, 3, 2, 1, 1))),
        ("convtranspose 2/3 1", lambda n: (3 * (n - 1) + 2, lambda p: slow.transposed(p, 2, 3))),
        ("adaptivepool 5", lambda n: (5, lambda p, n=n: slow.adaptive(p, n, 5))),
    ]  # fmt: skip
    size, matrix = 12, np.eye(12, dtype=bool)
    for kind in kinds:
        out, reads = layers[kind][1](size)
        matrix = slow.dependency(out, size, reads) @ matrix
        size = out
    network = with_input(", ".join(layers[kind][0] for kind in kinds), input_value("12x1"))
    position %= size
    assert network.nodes[-1].output == (size, 1)
    (pixels,) = network.pixels(len(kinds) - 1, (position,))
    assert pixels == frozenset(np.flatnonzero(matrix[position]))
    span = network.fields[-1][0].span(position)
    assert not pixels or (span[0] <= min(pixels) and max(pixels) <= span[1])
    pixel = position % 12
    assert network.neurons((pixel,))[-1] == (frozenset(np.flatnonzero(matrix[:, pixel])),)


def node(name, weights=None, parameters=0, **more):
    return Node(name, "conv", (INPUT,), ((),), (), (3,), parameters=parameters, weights=weights or {}, **more)


def test_a_shared_tensor_is_counted_once():
    nodes = (node("a", {"w": 10, "b": 2}, 12), node("b", {"w": 10}, 10), node("c", parameters=5, macs=7))
    totals = Network("x", (), (3,), nodes).totals
    assert (totals.parameters, totals.macs, totals.neurons) == (17, 7, 9)


NAMES = Network("x", (), (3,), tuple(map(node, ("block/conv", "block/relu", "top/conv", "0", "top/conv"))))


@pytest.mark.parametrize(
    ("layer", "first", "index"),
    [
        ("block/conv", 0, 0),
        ("relu", 0, 1),
        ("2", 0, 2),
        ("2", 1, 1),
        ("0", 0, 3),
        ("0", 1, 3),
        ("top/conv", 0, 2),
    ],
)
def test_a_layer_is_found_by_name_end_or_number(layer, first, index):
    assert NAMES.find(layer, first=first) == index


@pytest.mark.parametrize(
    ("layer", "first", "message"),
    [
        ("conv", 0, "several layers end in 'conv': block/conv, top/conv, top/conv"),
        ("5", 0, "layers are counted from 0 to 4, there is no 5"),
        ("6", 1, "layers are counted from 1 to 5, there is no 6"),
        ("block/conf", 0, "there is no layer 'block/conf'; there is block/conv"),
    ],
)
def test_a_layer_that_is_not_there(layer, first, message):
    with pytest.raises(ShapeError) as caught:
        NAMES.find(layer, first=first)
    assert caught.value.message.startswith(message)


@settings(max_examples=60)
@given(networks(), st.integers(0, SIZE - 1), st.integers(0, SIZE - 1))
def test_too_many_boxes_are_covered_by_one(drawn, row, column):
    text, matrix = drawn
    network = with_input(text, input_value(f"{SIZE}x{SIZE}x1"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dense2conv.shapecalc.network.MOST_BOXES", 1)
        pixels = network.pixels(len(network.nodes) - 1, (row, column))
        neurons = network.neurons((row, column))[-1]
    for seen, found in ((matrix[row, column], pixels), (matrix[:, :, row, column], neurons)):
        assert set(np.flatnonzero(seen.any(1))) <= found[0]
        assert set(np.flatnonzero(seen.any(0))) <= found[1]
