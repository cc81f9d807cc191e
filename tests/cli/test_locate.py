"""``dense2conv locate`` as a user runs it: neuron to pixels, pixel to neurons, counted from 0 or from 1."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dense2conv import cli
from dense2conv.cli.output import FORMATS

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
MODEL = str(ROOT / "fixtures/patch_classifier.onnx")
CHAIN = ["--input", "64x64x3", "conv 4x4 8 same, relu, maxpool 8x8, conv 2x2 4 same, flatten, dense 3"]

TABLES = {
    "neuron": [*CHAIN, "--layer", "maxpool1", "--at", "0,7"],
    "pixel": [*CHAIN, "--pixel", "40,17"],
    "dilated": [
        "--input",
        "20x1",
        "conv 3/2 1 dilation 3 pad 3",
        "--layer",
        "1",
        "--at",
        "10",
        "--from",
        "1",
    ],
    "hole": ["--input", "9x9x1", "convtranspose 1x1/3 8", "--layer", "0", "--at", "3,1"],
    "model": [MODEL, "--layer", "pool2", "--at", "3,0"],
}


def run(capsys, *arguments):
    status = cli.run(["locate", *arguments])
    return status, *capsys.readouterr()


def refused(capsys, *arguments):
    status, out, err = run(capsys, *arguments)
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith("dense2conv: ")
    return status, first.removeprefix("dense2conv: "), second.strip()


def document(capsys, *arguments):
    return json.loads(run(capsys, *arguments, "--format", "json")[1])


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", TABLES)
def test_golden(capsys, name, format):
    status, text, _ = run(capsys, *TABLES[name], "--format", format)
    assert status == 0
    path = GOLDEN / f"locate_{name}.{format}"
    if os.environ.get("OVERWRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize(
    ("neuron", "box", "clipped"), [(1, [0, 3], [1, 3]), (2, [1, 4], [1, 4]), (64, [63, 66], [63, 64])]
)
def test_the_neurons_of_a_first_layer_counted_from_1(capsys, neuron, box, clipped):
    """A neuron at 64 sees two pixels and two pads."""
    found = document(capsys, *CHAIN, "--layer", "conv1", "--at", f"{neuron},2", "--from", "1")
    row, column = found["axes"]
    assert (row["box"], row["clipped"], row["pixels"]) == (box, clipped, clipped[1] - clipped[0] + 1)
    assert column["box"] == [1, 4]
    assert (found["at"], found["from"]) == ([neuron, 2], 1)


def test_pads_counted_from_1(capsys):
    _, out, _ = run(capsys, *CHAIN, "--layer", "conv1", "--at", "1,64", "--from", "1", "--format", "csv")
    assert out.splitlines()[1:] == ["H,1,0,3,1,0,1..3", "W,64,63,66,0,2,63..64"]


@pytest.mark.parametrize("layer", ["maxpool1", "pool1", "2"])
def test_a_layer_by_name_end_or_number(capsys, layer):
    assert document(capsys, *CHAIN, "--layer", layer, "--at", "0,7")["layer"] == "maxpool1"


def test_numbers_of_layers_follow_from(capsys):
    one = document(capsys, *CHAIN, "--layer", "1", "--at", "1,1", "--from", "1")
    zero = document(capsys, *CHAIN, "--layer", "0", "--at", "0,0")
    assert one["layer"] == zero["layer"] == "conv1"
    assert [axis["box"] for axis in one["axes"]] == [[0, 3]] * 2
    assert [axis["box"] for axis in zero["axes"]] == [[-1, 2]] * 2


def test_what_is_read_of_a_box_with_holes(capsys):
    """Neuron 10 of 10, kernel 3, stride 2, dilation 3, pad 3: places 16, 19, 22 from 1, of which 20 are there."""
    (axis,) = document(capsys, *TABLES["dilated"])["axes"]
    assert axis == {
        "axis": "L", "neuron": 10, "size": 20, "box": [16, 22], "clipped": [16, 19], "pixels": 2, "whole": False,
        "ranges": "16, 19",
    }  # fmt: skip


def test_the_neurons_of_a_pixel_see_it(capsys):
    """There and back: exactly the neurons that are named have the pixel among theirs."""
    chain = ["--input", "12x1", "conv 3/2 1 dilation 2 pad 2, conv 2 1", "--format", "json"]
    for layer, size in (("conv1", 6), ("conv2", 5)):
        seen = {}
        for neuron in range(size):
            assert cli.run(["locate", *chain, "--layer", layer, "--at", str(neuron)]) == 0
            ranges = json.loads(capsys.readouterr().out)["axes"][0]["ranges"]
            parts = [part.split("..") for part in ranges.split(", ")]
            seen[neuron] = {n for part in parts for n in range(int(part[0]), int(part[-1]) + 1)}
        for pixel in range(12):
            assert cli.run(["locate", *chain, "--layer", layer, "--pixel", str(pixel)]) == 0
            (found,) = json.loads(capsys.readouterr().out)["layers"]
            expected = [neuron for neuron, pixels in seen.items() if pixel in pixels]
            assert found["axes"][0]["neurons"] == expected
            assert found["axes"][0]["count"] == len(expected)


def test_a_layer_behind_a_flatten_sees_all(capsys):
    found = document(capsys, *CHAIN, "--layer", "dense1", "--at", "0,0")
    assert [(axis["clipped"], axis["whole"]) for axis in found["axes"]] == [([0, 63], True)] * 2


@pytest.mark.parametrize(
    ("layer", "boxes"),
    [("conv1", [[38, 44], [15, 21]]), ("conv2", [[24, 58], [0, 34]]), ("dense1", [[1, 64], [1, 64]])],
)
def test_what_the_neurons_of_a_pixel_see_together(capsys, layer, boxes):
    """Counted from 0: rows 38..41 of conv1 see 37..43; rows 3..5 of conv2 see from 8*3 - 1 to 8*5 - 1 + 18."""
    (found,) = document(capsys, *CHAIN, "--pixel", "41,18", "--from", "1", "--layer", layer)["layers"]
    assert [axis["box"] for axis in found["axes"]] == boxes


def test_a_mirroring_pad_is_a_pad(capsys):
    """The box goes on into the pad; what is read there are pixels inside."""
    layer = ["--input", "8x1", "pad 1 reflect, conv 3 3", "--layer", "conv1", "--at"]
    (first,) = document(capsys, *layer, "0")["axes"]
    assert (first["box"], first["ranges"]) == ([-1, 1], "0..1")
    (inner,) = document(capsys, *layer, "4")["axes"]
    assert (inner["box"], inner["ranges"]) == ([3, 5], "3..5")


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["--at", "1,1", "--layer", "conv3"], "there is no layer 'conv3'; there is conv2, conv1", ""),
        (["--at", "1,1", "--layer", "1v"], "there is no layer '1v'; there is conv1, relu1, maxpool1", ""),
        (["--at", "64,0", "--layer", "1"], "a neuron is counted from 0 to 63 here, there is no 64", ""),
        (["--at", "1,1", "--layer", "6"], "layers are counted from 0 to 5, there is no 6", ""),
        (["--at", "1,1", "--layer", "0", "--from", "1"], "layers are counted from 1 to 6, there is no 0", ""),
        (["--at", "64,0", "--layer", "conv1"], "a neuron is counted from 0 to 63 here, there is no 64", ""),
        (["--at", "0,1", "--layer", "conv1", "--from", "1"],
         "a neuron is counted from 1 to 64 here, there is no 0", ""),
        (["--at", "-1,0", "--layer", "conv1"], "a neuron is counted from 0 to 63 here, there is no -1", ""),
        (["--at", "1", "--layer", "conv1"], "a neuron has a number for each of 2 axes, but 1 is given", ""),
        (["--at", "1,a", "--layer", "conv1"], "Invalid value for '--at': '1,a' is no place: row,column as 3,5", ""),
        (["--pixel", "64,0"], "a pixel is counted from 0 to 63 here, there is no 64", ""),
        (["--pixel", "1,1,1"], "a pixel has a number for each of 2 axes, but 3 are given", ""),
        (["--pixel", "1,1", "--at", "1,1"], "say --at (a neuron) or --pixel, and not both", "for instance --layer"),
        ([], "say --at (a neuron) or --pixel, and not both", "for instance --layer conv1 --at 3,5"),
        (["--at", "1,1"], "a neuron is in a layer", "say --layer"),
        (["--pixel", "1,1", "--image", "x.png"], "--image is what --plot draws on", "say --plot FILE.png"),
    ],
)  # fmt: skip
def test_a_wrong_command_line(capsys, arguments, message, hint):
    status, line, what_to_do = refused(capsys, *CHAIN, *arguments)
    assert status == 2
    assert line.startswith(message)
    assert what_to_do.startswith(hint)


@pytest.mark.parametrize("text", ["reshape 64x1, relu", "reshape 4x4x4x1, conv 3 2"])
def test_a_value_with_other_axes_is_seen_whole(capsys, text):
    status, out, _ = run(capsys, "--input", "8x8x1", text, "--pixel", "3,0", "--format", "csv")
    assert status == 0
    assert {line.split(",", 3)[3] for line in out.splitlines()[1:]} == {"0,1,1"}


def test_a_flat_input_has_no_pixels(capsys):
    message = "no layer of this network slides over its input, so no neuron has a place in it"
    assert refused(capsys, "--input", "5", "dense 3", "--pixel", "0")[:2] == (2, message)


def test_files_are_named(capsys, tmp_path):
    text = tmp_path / "net.txt"
    text.write_text("input 9x9x1\nconv 99 8\n")
    status, message, _ = refused(capsys, str(text), "--pixel", "1,1")
    assert (status, message.startswith(f"{text}: conv1: a kernel must not be larger")) == (3, True)
    assert refused(capsys, "nosuch.onnx", "--pixel", "1,1")[:2] == (2, "nosuch.onnx: no such file")


def test_a_model_without_a_rule_for_a_layer_says_that_nobody_knows(capsys, tmp_path):
    """Einsum mixes rows and columns: what lies behind it may be read whole."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv"),
        helper.make_node("Einsum", ["a"], ["y"], "mix", equation="nchw->ncwh"),
    ]
    weight = numpy_helper.from_array(np.zeros((2, 1, 3, 3), np.float32), "w")
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, [1, 1, 6, 6])],
                              [value("y", TensorProto.FLOAT, None)], [weight])  # fmt: skip
    path = str(tmp_path / "mix.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    found = document(capsys, path, "--layer", "mix", "--at", "0,0")
    assert [axis["ranges"] for axis in found["axes"]] == ["0..5", "0..5"]
    found = document(capsys, path, "--layer", "conv", "--at", "0,0")
    assert [axis["ranges"] for axis in found["axes"]] == ["0..2", "0..2"]


def test_without_matplotlib_this_machine_cannot(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "matplotlib" else find(name, *rest)
    )
    status, message, hint = refused(capsys, *TABLES["neuron"], "--plot", "x.png")
    assert (status, message) == (4, "matplotlib is not installed, and --plot draws with it")
    assert hint == "pip install 'dense2conv[plot]'"
    assert list(tmp_path.iterdir()) == []
