"""``dense2conv set-kernel`` as a user runs it."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from scipy.signal import correlate

from dense2conv import cli

NET = str(Path(__file__).parents[2] / "fixtures/dynamic_convolution.onnx")
RANDOM = np.random.default_rng(5)
KERNEL = RANDOM.standard_normal((5, 5, 8, 8)).astype(np.float32)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("kernel.npy", KERNEL)
    np.savez("kernel.npz", filter=KERNEL[..., 0], bias=np.arange(8, dtype=np.float32))
    Path("net.onnx").write_bytes(Path(NET).read_bytes())
    return tmp_path


def run(*arguments):
    return cli.run(["set-kernel", *arguments])


def results(path, samples=1, **more):
    image = np.random.default_rng(1).standard_normal((samples, 3, 20, 15)).astype(np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["answer", "g", "f"], {"image": image, **more})


def test_a_constant(capsys):
    assert run("net.onnx", "head", "kernel.npy", "out.onnx", "--layout", "hwio", "--format", "json") == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["tensor"] == [5, 5, 8, 8]
    assert document["weight"] == [8, 8, 5, 5]
    assert "wrote out.onnx" in said.err
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load("out.onnx").graph.initializer}
    assert tensors["head.weight"].tobytes() == KERNEL.transpose(3, 2, 0, 1).tobytes()
    before = {t.name: numpy_helper.to_array(t) for t in onnx.load("net.onnx").graph.initializer}
    assert set(before) == set(tensors)
    assert all(np.array_equal(before[n], tensors[n]) for n in before if n != "head.weight")


def test_from_a_value_for_each_sample(capsys):
    """Case 3 as it is typed."""
    how = ["--from", "g", "--layout", "CHW", "--as", "depthwise", "--per-sample", "--batch", "2"]
    assert run("net.onnx", "head", "out.onnx", *how) == 0
    assert "2 samples are folded into 16 groups" in capsys.readouterr().err
    answer, g, f = results("out.onnx", 2)
    expected = [[correlate(f[n, c], g[n, c], "valid", "direct") for c in range(8)] for n in range(2)]
    assert np.abs(answer - np.array(expected)).max() < 1e-4


def test_an_input_with_a_default():
    how = ["--layout", "HWC", "--as", "single", "--dynamic", "--bias", "zero"]
    assert run("net.onnx", "head", "kernel.npz:filter", "out.onnx", *how) == 0
    answer, _, f = results("out.onnx")
    other = KERNEL[..., 1]
    again, _, _ = results("out.onnx", **{"head.weight": other})
    for found, tensor in ((answer, KERNEL[..., 0]), (again, other)):
        expected = sum(correlate(f[0, c], tensor[..., c], "valid", "direct") for c in range(8))
        assert np.abs(found[0, 0] - expected).max() < 1e-4


def test_an_input_without_a_default():
    assert (
        run("net.onnx", "head", "out.onnx", "--layout", "HWIO", "--dynamic", "--bias", "kernel.npz:bias") == 0
    )
    answer, _, f = results("out.onnx", **{"head/kernel": KERNEL})
    expected = sum(correlate(f[0, c], KERNEL[..., c, 3], "valid", "direct") for c in range(8)) + 3
    assert np.abs(answer[0, 3] - expected).max() < 1e-4


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["net.onnx", "head", "kernel.npz:filter", "out.onnx"], 3, "is 5x5x8x8, but the tensor is 5x5x8"),
        (
            ["net.onnx", "relu", "kernel.npy", "out.onnx"],
            3,
            "only a convolution's kernel is set, but this is Relu",
        ),
        (["net.onnx", "head", "kernel.npy", "there.onnx"], 2, "OUT exists"),
        (["net.onnx", "head", "kernel.npy", "net.onnx"], 2, "OUT must not be an input"),
        (["net.onnx", "head", "kernel.npy", "net.onnx", "--force"], 2, "OUT must not be an input"),
        (["net.onnx", "head", "kernel.npy"], 2, "KERNEL and OUT"),
        (["net.onnx", "head", "kernel.npy", "out.onnx", "--from", "g"], 2, "OUT alone"),
        (["net.onnx", "head", "out.onnx", "--from", "g", "--dynamic"], 2, "say one"),
        (["net.onnx", "head", "kernel.npy", "out.onnx", "--per-sample"], 2, "go together"),
        (["net.onnx", "head", "missing.npy", "out.onnx"], 2, "No such file"),
        (["net.onnx", "head", "kernel.npz", "out.onnx"], 3, "is 5x5x8x8, but the tensor is 5x5x8"),
    ],
)
def test_refusals(arguments, status, words, folder, capsys):
    (folder / "there.onnx").write_bytes(b"old")
    assert run(*arguments, "--layout", "HWIO") == status
    said = capsys.readouterr().err
    assert words in said
    assert not (folder / "out.onnx").exists()
    assert (folder / "there.onnx").read_bytes() == b"old"
    assert (folder / "net.onnx").read_bytes() == Path(NET).read_bytes()


def test_the_readings_that_fit_are_named(capsys):
    assert run("net.onnx", "head", "kernel.npz:filter", "out.onnx", "--layout", "HWIO") == 3
    said = capsys.readouterr().err
    assert "--as single --layout HWC (1 filter over all channels)" in said
    assert "--as depthwise --layout HWC (8 filters, a channel each)" in said
