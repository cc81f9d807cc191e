"""The order of a flattened patch, found: every planted order comes back, and what cannot be told is not guessed."""

from itertools import chain, combinations, permutations, product

import numpy as np
import pytest

from dense2conv.convert.errors import FileError, NegativeAnswer
from dense2conv.convert.kernel import dense_to_kernel
from dense2conv.convert.order_finding import find_order

SIZES = {"H": 4, "W": 3, "D": 2, "L": 5, "C": 2}


def flattened(patch, axes, order, mirrored):
    """One patch as a list of values, written out index by index."""
    values = []
    for place in product(*(range(SIZES[axis]) for axis in order)):
        at = dict(zip(order, place, strict=True))
        index = [SIZES[a] - 1 - at[a] if a in mirrored else at[a] for a in axes]
        values.append(patch[tuple(index)])
    return np.array(values)


def planted(axes, order, mirrored="", samples=6, units=7, seed=0, dtype=np.float32, layout="KO"):
    random = np.random.default_rng(seed)
    patches = random.standard_normal((samples, *(SIZES[a] for a in axes))).astype(dtype)
    weight = random.standard_normal((patches[0].size, units)).astype(dtype)
    bias = random.standard_normal(units).astype(dtype)
    rows = np.stack([flattened(patch, axes, order, mirrored) for patch in patches])
    outputs = (rows @ weight + bias).astype(dtype)
    return (weight if layout == "KO" else weight.T), patches, outputs, bias


def every():
    for axes in ("HWC", "CHW", "LC", "DHWC"):
        spatial = axes.replace("C", "")
        mirrors = chain.from_iterable(combinations(spatial, n) for n in range(len(spatial) + 1))
        for mirrored in map("".join, mirrors):
            for order in map("".join, permutations(axes)):
                if axes != "DHWC" or (order[:2] in ("CD", "DH") and len(mirrored) < 2):
                    yield axes, order, mirrored


@pytest.mark.parametrize("layout", ["KO", "OK"])
@pytest.mark.parametrize(("axes", "order", "mirrored"), list(every()))
def test_a_planted_order_is_found(axes, order, mirrored, layout):
    weight, patches, outputs, bias = planted(axes, order, mirrored, layout=layout)
    found = find_order(weight, axes, patches.shape[1:], patches, outputs, bias=bias)
    assert (found.winner.order, found.winner.reversed_axes) == (order, mirrored)
    assert found.winner.weight_layout == layout
    assert found.winner.error < 1e-5
    assert found.runner_up.error > 0.05
    # The weight in the order that is said: its kernel is the layer, on each patch.
    ready = found.weight(weight, axes, patches.shape[1:])
    assert ready.shape == weight.shape
    sizes = [SIZES[axis] for axis in found.order]
    kernel = dense_to_kernel(ready, sizes, found.order, weight_layout=layout)
    spatial = axes.replace("C", "")
    canonical = patches.transpose(0, *(axes.index(a) + 1 for a in "C" + spatial))  # (samples, C, *spatial)
    count = len(spatial) + 1
    result = np.tensordot(canonical, kernel, (range(1, count + 1), range(1, count + 1))) + bias
    assert np.abs(result - outputs).max() < 1e-4


def test_a_square_weight_s_layout_is_found():
    for layout in ("KO", "OK"):
        weight, patches, outputs, bias = planted("HWC", "WCH", units=24, layout=layout)
        found = find_order(weight, "HWC", (4, 3, 2), patches, outputs, bias=bias)
        assert (found.winner.weight_layout, found.winner.order) == (layout, "WCH")


def test_half_precision():
    weight, patches, outputs, bias = planted("HWC", "CHW", dtype=np.float16)
    assert find_order(weight, "HWC", (4, 3, 2), patches, outputs, bias=bias).winner.order == "CHW"


@pytest.mark.parametrize("damage", ["bias", "relu", "noise", "weight"])
def test_what_fits_no_order_is_refused(damage):
    weight, patches, outputs, bias = planted("HWC", "CHW")
    if damage == "bias":
        bias = None
    elif damage == "relu":
        outputs = np.maximum(outputs, 0)
    elif damage == "noise":
        outputs = outputs + np.float32(0.05)
    else:
        weight = weight[::-1].copy()
        weight[0] += 1
    with pytest.raises(NegativeAnswer, match=r"no order fits: the best, .* is off by"):
        find_order(weight, "HWC", (4, 3, 2), patches, outputs, bias=bias)


def test_two_that_fit_alike_are_an_error():
    """Patches that are the same all over, or symmetrical, cannot tell orders apart."""
    weight, patches, _, bias = planted("HWC", "HWC")
    dull = np.ones_like(patches)
    outputs = dull.reshape(len(dull), -1) @ weight + bias
    with pytest.raises(NegativeAnswer, match="two orders fit alike"):
        find_order(weight, "HWC", (4, 3, 2), dull, outputs, bias=bias)
    mirrored = (patches + patches[:, ::-1]).astype(np.float32)
    outputs = mirrored.reshape(len(mirrored), -1) @ weight + bias
    with pytest.raises(
        NegativeAnswer, match=r"two orders fit alike: HWC is off by .*, HWC with H reversed by"
    ):
        find_order(weight, "HWC", (4, 3, 2), mirrored, outputs, bias=bias)


def test_readings_that_are_one_function_are_one():
    """A single channel stands anywhere; one row has no order."""
    random = np.random.default_rng(1)
    patches, weight = random.standard_normal((3, 4, 3, 1)), random.standard_normal((12, 5))
    found = find_order(weight, "HWC", (4, 3, 1), patches, patches.reshape(3, -1) @ weight)
    assert found.order == "HWC"
    assert found.runner_up.error > 0.05
    one = find_order(weight[:1], "HWC", (1, 1, 1), patches[:, :1, :1], patches[:, 0, 0] @ weight[:1])
    assert one.runner_up is None


@pytest.mark.parametrize(
    ("patches", "outputs", "words"),
    [
        ((6, 4, 2, 3), (6, 7), r"they are \(6, 4, 2, 3\) and \(6, 7\)"),
        ((6, 4, 3, 2), (6, 8), r"they are \(6, 4, 3, 2\) and \(6, 8\)"),
        ((6, 4, 3, 2), (5, 7), r"and \(5, 7\)"),
        ((0, 4, 3, 2), (0, 7), "there is none"),
    ],
)
def test_probes_that_do_not_fit(patches, outputs, words):
    with pytest.raises(FileError, match=words):
        find_order(np.ones((24, 7)), "HWC", (4, 3, 2), np.ones(patches), np.ones(outputs))


def test_probes_that_prove_nothing():
    weight, patches, outputs, _ = planted("HWC", "CHW")
    with pytest.raises(NegativeAnswer, match="every expected output is 0"):
        find_order(weight, "HWC", (4, 3, 2), patches, outputs * 0)
    patches[0, 0] = np.nan
    with pytest.raises(FileError, match="finite"):
        find_order(weight, "HWC", (4, 3, 2), patches, outputs)
