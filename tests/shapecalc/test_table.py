"""The layer table as data: the keys that are promised, one entry an axis, and null where nothing can be said."""

import pytest

from dense2conv.shapecalc.chain import with_input
from dense2conv.shapecalc.table import document

KEYS = [
    "name", "kind", "kernel", "stride", "padding", "dilation", "output", "neurons", "parameters", "macs",
    "receptive_field", "jump", "start",
]  # fmt: skip


def layers(text):
    return document(with_input(text, None))["layers"]


def test_the_first_layers_of_the_worked_case():
    found = document(with_input("input 64x64x3, conv 4x4 8 same nobias, flatten, dense 6", None))
    assert all(type(number) is int for number in found["layers"][0]["jump"])
    assert list(found) == ["input", "layers", "totals"]
    assert found["input"] == {"name": "input", "shape": [64, 64, 3]}
    assert [list(layer) for layer in found["layers"]] == [KEYS] * 3
    assert found["layers"][0] == {
        "name": "conv1", "kind": "conv", "kernel": [4, 4], "stride": [1, 1], "padding": [[1, 2], [1, 2]],
        "dilation": [1, 1], "output": [64, 64, 8], "neurons": 32768, "parameters": 384, "macs": 384 * 4096,
        "receptive_field": [4, 4], "jump": [1, 1], "start": [-1, -1],
    }  # fmt: skip
    nothing = dict.fromkeys(("kernel", "stride", "padding", "dilation", "receptive_field", "jump", "start"))
    assert nothing.items() <= found["layers"][1].items()
    parameters = 384 + 32768 * 6 + 6
    assert found["totals"] == {
        "parameters": parameters,
        "macs": 384 * 4096 + 32768 * 6,
        "neurons": 2 * 32768 + 6,
    }


def test_axes_that_differ():
    (layer,) = layers("input 9x20x1, conv 3x5/2x1 4 pad 1x0:3 dilation 1x2")
    assert layer["kernel"] == [3, 5]
    assert layer["padding"] == [[1, 1], [0, 3]]
    assert (layer["receptive_field"], layer["jump"], layer["start"]) == ([3, 9], [2, 1], [-1, 0])


@pytest.mark.parametrize(("factor", "jump"), [(2, 0.5), (4, 0.25), (3, 1 / 3)])
def test_a_fraction_of_a_pixel_is_a_number(factor, jump):
    assert layers(f"input 9x1, upsample {factor}")[0]["jump"] == [jump]


def test_a_hole_has_no_start():
    """A transposed convolution whose first output is a hole: its pads cut the only tap off."""
    (layer,) = layers("input 9x1, convtranspose 1/3 1 pad 1:0")
    assert (layer["start"], layer["receptive_field"]) == (None, [1])


def test_notes_stand_where_runtimes_differ():
    first, second = layers("input 9x9x1, maxpool 2 dilation 2 same stride 1, relu")
    assert any(note.startswith("onnx: 9 outputs") for note in first["notes"])
    assert "notes" not in second
