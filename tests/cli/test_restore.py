"""``dense2conv restore`` as a user runs it."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from dense2conv import cli

NET = Path(__file__).parents[2] / "fixtures/patch_classifier.onnx"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["convert", str(NET), "map.onnx", "--no-verify", "-q"]) == 0
    return tmp_path


def tensors(path):
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def train(path, change=lambda array: array * np.float32(1.5)):
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(change(array).astype(np.float32), tensor.name))
    onnx.save(model, path)


def test_there_and_back(capsys):
    capsys.readouterr()
    assert cli.run(["restore", "map.onnx", "back.onnx", "--format", "json"]) == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["verify"]["verdict"] == "equivalent"
    assert {row["tensor"] for row in document["tensors"]} == set(tensors(NET))
    assert "wrote back.onnx: the network on patches of H=24, W=24" in said.err
    before, after = tensors(NET), tensors("back.onnx")
    assert list(before) == list(after)
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)


def test_a_trained_map_and_back_again():
    """Converted once more, the restored network is the trained map: bit for bit, in ONNX Runtime as well."""
    random = np.random.default_rng(2)
    train("map.onnx", lambda array: array * random.uniform(0.8, 1.2, array.shape))
    assert cli.run(["restore", "map.onnx", "back.onnx"]) == 0
    assert cli.run(["convert", "back.onnx", "again.onnx", "-q"]) == 0
    trained, again = tensors("map.onnx"), tensors("again.onnx")
    assert all(trained[name].tobytes() == again[name].tobytes() for name in trained)
    image = random.standard_normal((1, 3, 24, 24)).astype(np.float32)
    results = [
        onnxruntime.InferenceSession(path).run(None, {"image": image})[0].reshape(-1)
        for path in ("map.onnx", "again.onnx", "back.onnx", NET)
    ]
    assert np.array_equal(results[0], results[1])
    assert np.allclose(results[0], results[2], atol=1e-6)
    assert not np.allclose(results[0], results[3], atol=1e-3)


def test_a_network_that_cannot_be_proven_is_not_written(capsys, folder):
    train("map.onnx", lambda array: array * np.float32(np.nan))
    assert cli.run(["restore", "map.onnx", "back.onnx"]) == 1
    assert "nothing was written" in capsys.readouterr().err
    assert not (folder / "back.onnx").exists()
    assert cli.run(["restore", "map.onnx", "back.onnx", "--no-verify"]) == 0


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["map.onnx", "there.onnx"], 2, "OUT exists"),
        (["map.onnx", "map.onnx", "--force"], 2, "OUT must not be an input"),
        (["missing.onnx", "out.onnx"], 2, "no such file"),
        ([str(NET), "out.onnx"], 3, "this is no map"),
        (["edited.onnx", "out.onnx"], 3, "it has 9 nodes, and had 8"),
    ],
)
def test_refusals(arguments, status, words, folder, capsys):
    (folder / "there.onnx").write_bytes(b"old")
    edited = onnx.load("map.onnx")
    edited.graph.node.add(op_type="Identity", input=[edited.graph.node[0].output[0]], output=["more"])
    had = len(edited.graph.node) - 1
    words = words.replace("9 nodes, and had 8", f"{had + 1} nodes, and had {had}")
    onnx.save(edited, "edited.onnx")
    assert cli.run(["restore", *arguments]) == status
    assert words in capsys.readouterr().err
    assert not (folder / "out.onnx").exists()
    assert (folder / "there.onnx").read_bytes() == b"old"
