"""``locate --plot``: pictures appear whole or not at all, and show what was found."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from dense2conv import cli
from dense2conv.cli.plot import _figure

plotting = pytest.importorskip("matplotlib", reason="the extra plot is not installed")
image = pytest.importorskip("matplotlib.image")

CHAIN = ["locate", "--input", "12x10x3", "conv 4x4 8 same, maxpool 2x2", "--layer", "maxpool1"]
NEURON = [*CHAIN, "--at", "0,4"]
SERIES = ["locate", "--input", "30x3", "conv 4/3 8 dilation 3 pad 3", "--layer", "conv1", "--at", "8"]
VOLUME = ["locate", "--input", "6x6x6x3", "conv 3 8", "--pixel", "1,1,1"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, *arguments):
    status = cli.run(list(arguments))
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    return status, first.removeprefix("dense2conv: "), second.strip()


@pytest.mark.parametrize(
    "arguments", [NEURON, SERIES, [*CHAIN, "--pixel", "3,3"], [*CHAIN[:4], "--pixel", "3,3"]]
)
def test_png_and_svg(capsys, folder, arguments):
    assert cli.run([*arguments, "--plot", "seen.png"]) == 0
    assert "drew seen.png" in capsys.readouterr().err
    pixels = image.imread("seen.png")
    assert pixels.shape[1] >= 1000, "large enough for a projector"
    assert pixels[..., :3].min() < 0.2 < 0.95 < pixels[..., :3].max()
    assert cli.run([*arguments, "--plot", "seen.SVG", "-q"]) == 0
    assert ET.parse("seen.SVG").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert sorted(path.name for path in folder.iterdir()) == ["seen.SVG", "seen.png"]


def test_the_same_request_draws_the_same_file(folder):
    assert [cli.run([*NEURON, "--plot", name]) for name in ("a.svg", "b.svg")] == [0, 0]
    assert (folder / "a.svg").read_bytes() == (folder / "b.svg").read_bytes()


def rectangles(document, sizes):
    """What is drawn, by its label: left, top, width and height."""
    (axes,) = _figure(document, sizes, None).axes
    return {p.get_label(): (*p.get_xy(), p.get_width(), p.get_height()) for p in axes.patches}, axes


def test_the_box_the_pads_and_the_pixels_are_where_they_are():
    axes = [
        {"axis": "H", "box": [-1, 3], "clipped": [0, 3], "ranges": "0..3"},
        {"axis": "W", "box": [7, 11], "clipped": [7, 9], "ranges": "7..9"},
    ]
    document = {"layer": "pool", "at": [0, 4], "from": 0, "axes": axes}
    drawn, picture = rectangles(document, (12, 10))
    assert drawn["its box"] == drawn["pads outside the image"] == (6.5, -1.5, 5, 5)
    assert drawn["pixels that it sees"] == (6.5, -0.5, 3, 4)
    assert picture.get_xlim()[1] > 11.5
    assert picture.get_ylim()[1] < -1.5
    assert picture.get_title() == "pool, neuron (0, 4) sees\nH 0..3 x W 7..9"


def test_counted_from_1_the_picture_counts_from_1():
    axis = {"axis": "L", "box": [1, 3], "clipped": [1, 3], "ranges": "1..3"}
    drawn, _ = rectangles({"layer": "conv", "at": [1], "from": 1, "axes": [axis]}, (8,))
    assert drawn["its box"] == (0.5, -0.5, 3, 1)
    assert "pads outside the image" not in drawn


def test_what_sees_nothing_has_no_box():
    axes = [
        {"axis": "H", "box": [0, 0], "clipped": None, "ranges": ""},
        {"axis": "W", "box": None, "clipped": None, "ranges": ""},
    ]
    drawn, _ = rectangles({"layer": "up", "at": [0, 1], "from": 0, "axes": axes}, (4, 4))
    assert not {"its box", "pixels that it sees"} & set(drawn)


def test_a_pixel_of_all_layers_has_no_box():
    drawn, _ = rectangles({"pixel": [1, 2], "from": 0, "layers": [{}, {}]}, (4, 4))
    assert drawn["the pixel"] == (1.5, 0.5, 1, 1)
    assert "what these neurons see together" not in drawn


def test_a_picture_on_an_image(folder):
    image.imsave("photo.png", np.random.default_rng(1).random((12, 10)), cmap="gray")
    assert cli.run([*NEURON, "--plot", "seen.png", "--image", "photo.png"]) == 0
    assert cli.run([*NEURON, "--plot", "bare.png"]) == 0
    assert (folder / "seen.png").read_bytes() != (folder / "bare.png").read_bytes()


@pytest.mark.parametrize(
    ("status", "arguments", "message", "hint"),
    [
        (2, [*NEURON, "--plot", "x.png", "--image", "small.png"],
         "small.png: the image must have the input's size, 12x10, but it has 5x5", ""),
        (3, [*NEURON, "--plot", "x.png", "--image", "text.png"], "text.png: not an image that can be read", "a .png"),
        (2, [*NEURON, "--plot", "x.png", "--image", "none.png"], "none.png: no such file", ""),
        (2, [*NEURON, "--plot", "x.pdf"], "x.pdf: a plot ends in .png or .svg", "for example --plot seen.png"),
        (2, [*NEURON, "--plot", "x"], "x: a plot ends in .png or .svg", "for example --plot seen.png"),
        (2, [*NEURON, "--plot", "small.png"], "small.png: ", "pass --force to replace it"),
        (2, [*NEURON, "--plot", "small.png", "--image", "small.png", "--force"], "small.png: ", ""),
        (2, [*NEURON, "--plot", "nowhere/x.png"], "nowhere/x.png: there is no directory 'nowhere'", "make it first"),
        (2, [*VOLUME, "--plot", "x.png"], "1 or 2 axes can be drawn, this input has 3", ""),
        (2, [*CHAIN, "--at", "99,0", "--plot", "x.png"], "a neuron is counted from 0 to 5 here, there is no 99", ""),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn(capsys, folder, status, arguments, message, hint):
    image.imsave("small.png", np.zeros((5, 5)))
    (folder / "text.png").write_text("no picture")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    found, line, what_to_do = refused(capsys, *arguments)
    assert found == status
    assert line.startswith(message)
    assert what_to_do.startswith(hint)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_force_replaces_a_picture(folder):
    (folder / "x.png").write_text("old")
    assert cli.run([*NEURON, "--plot", "x.png", "--force"]) == 0
    assert image.imread("x.png").ndim == 3
