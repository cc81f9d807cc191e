"""``verify`` as a CI step: it passes what is right, and each way to be wrong makes it exit with 1."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, numpy_helper

from dense2conv.cli import run

FIXTURES = Path(__file__).parents[2] / "fixtures"
CLASSIFIER = str(FIXTURES / "patch_classifier.onnx")
KERNEL = "fc1.weight/kernel"  # (16, 12, 4, 4)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> ModelProto:
    out = tmp_path_factory.mktemp("map") / "map.onnx"
    assert run(["-q", "convert", CLASSIFIER, str(out)]) == 0
    return onnx.load(out)


def tensor(model: ModelProto, name: str) -> onnx.TensorProto:
    return next(t for t in model.graph.initializer if t.name == name)


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[ModelProto], None]:
    def apply(model: ModelProto) -> None:
        found = tensor(model, name)
        before = numpy_helper.to_array(found)
        after = np.ascontiguousarray(change(before.copy()))
        assert not np.array_equal(before, after)
        found.CopyFrom(numpy_helper.from_array(after, name))

    return apply


def one_weight(kernel: np.ndarray) -> np.ndarray:
    kernel[3, 5, 2, 1] += 1
    return kernel


def one_bias(bias: np.ndarray) -> np.ndarray:
    bias[0] += 0.01  # of one class: added to all of them it would be the same softmax
    return bias


def swapped_channels(kernel: np.ndarray) -> np.ndarray:
    return kernel[:, [1, 0, *range(2, kernel.shape[1])]]


def other_order(kernel: np.ndarray) -> np.ndarray:
    """The rows read as HWC where the network flattened CHW."""
    units = kernel.shape[0]
    return kernel.reshape(units, 4, 4, 12).transpose(0, 3, 1, 2)


def without_bias(model: ModelProto) -> None:
    node = next(n for n in model.graph.node if n.name == "fc1")
    model.graph.initializer.remove(tensor(model, node.input[2]))
    del node.input[2]


def other_stride(model: ModelProto) -> None:
    node = next(n for n in model.graph.node if n.name == "fc1")
    attribute = next(a for a in node.attribute if a.name == "strides")
    attribute.ints[:] = [2, 1]


def without_relu(model: ModelProto) -> None:
    node = next(n for n in model.graph.node if n.name == "relu3")
    node.op_type = "Identity"


def renamed_output(model: ModelProto) -> None:
    model.graph.node[-1].output[0] = model.graph.output[0].name = "renamed"


MUTANTS: dict[str, Callable[[ModelProto], None]] = {
    "one changed weight": changed(KERNEL, one_weight),
    "two swapped channels": changed(KERNEL, swapped_channels),
    "the wrong flatten order": changed(KERNEL, other_order),
    "a flipped kernel": changed(KERNEL, lambda k: k[:, :, ::-1, ::-1]),
    "a changed bias": changed("fc2.bias", one_bias),
    "a dropped bias": without_bias,
    "a changed weight of the trunk": changed("conv1.weight", lambda w: w * 1.001),
    "another stride": other_stride,
    "a node that does nothing": without_relu,
    "a renamed output": renamed_output,
}


def without_metadata(model: ModelProto) -> None:
    del model.metadata_props[:]


def verify(model: ModelProto, folder: Path, *options: str) -> int:
    out = folder / "candidate.onnx"
    onnx.save(model, out)
    return run(["verify", CLASSIFIER, str(out), *options])


def test_the_map_as_it_was_written_passes(converted: ModelProto, tmp_path: Path) -> None:
    assert verify(converted, tmp_path) == 0


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_map_exits_with_1(
    name: str, converted: ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ModelProto.FromString(converted.SerializeToString())
    MUTANTS[name](model)
    assert verify(model, tmp_path, "--format", "json") == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "different"


@pytest.mark.parametrize("name", MUTANTS)
def test_the_runs_alone_find_it_too(name: str, converted: ModelProto, tmp_path: Path) -> None:
    """A map of another tool has no metadata; then the stride is said, and windows are the evidence."""
    model = ModelProto.FromString(converted.SerializeToString())
    without_metadata(model)
    assert verify(model, tmp_path, "--stride", "4") == 0
    MUTANTS[name](model)
    assert verify(model, tmp_path, "--stride", "4") == 1


def test_without_metadata_the_stride_is_asked_for(
    converted: ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ModelProto.FromString(converted.SerializeToString())
    without_metadata(model)
    assert verify(model, tmp_path) == 2
    assert "--stride" in capsys.readouterr().err


def test_a_map_that_claims_another_patch_does_not_choose_its_crops(
    converted: ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ModelProto.FromString(converted.SerializeToString())
    (entry,) = (p for p in model.metadata_props if p.key == "dense2conv")
    entry.value = entry.value.replace('"patch":[24,24]', '"patch":[28,28]')
    assert verify(model, tmp_path) == 1
    assert "(24, 24)" in capsys.readouterr().out


def test_metadata_that_is_none_is_a_broken_file(converted: ModelProto, tmp_path: Path) -> None:
    model = ModelProto.FromString(converted.SerializeToString())
    (entry,) = (p for p in model.metadata_props if p.key == "dense2conv")
    entry.value = entry.value[:-5]
    assert verify(model, tmp_path) == 3


def test_gradients_are_compared_if_asked_for(
    converted: ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(converted, tmp_path, "--gradients", "--format", "json") == 0
    (check,) = (c for c in json.loads(capsys.readouterr().out)["checks"] if c["name"] == "gradients")
    assert check["verdict"] == "equivalent"
    assert [layer["layer"] for layer in check["details"]["layers"]] == ["fc1", "fc2"]


def test_without_metadata_gradients_are_inconclusive(converted: ModelProto, tmp_path: Path) -> None:
    """Asked for, and not to be had: a gate fails closed."""
    model = ModelProto.FromString(converted.SerializeToString())
    without_metadata(model)
    assert verify(model, tmp_path, "--stride", "4") == 0
    assert verify(model, tmp_path, "--stride", "4", "--gradients") == 1


@pytest.mark.parametrize("name", ["a flipped kernel", "two swapped channels", "the wrong flatten order"])
def test_wrong_gradients_are_named(
    name: str, converted: ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ModelProto.FromString(converted.SerializeToString())
    MUTANTS[name](model)
    assert verify(model, tmp_path, "--gradients", "--format", "json") == 1
    (check,) = (c for c in json.loads(capsys.readouterr().out)["checks"] if c["name"] == "gradients")
    assert check["verdict"] == "different"
    assert check["text"].startswith("layer 'fc1': dX of the convolution is ")


def test_the_report_has_what_ran_where(
    converted: ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(converted, tmp_path, "--format", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["provider"], document["reference_provider"]) == ("cpu", "cpu")
    (check,) = (c for c in document["checks"] if c["name"] == "providers")
    assert check["details"]["candidate"]["nodes"] == {"CPUExecutionProvider": {"Conv": 4, "MaxPool": 2}}
    assert {c["name"]: c["verdict"] for c in document["checks"]}["levels"] == "equivalent"


NO_CUDA = "CUDAExecutionProvider" not in onnxruntime.get_available_providers()
needs_cuda = pytest.mark.skipif(
    NO_CUDA or not Path("/dev/nvidiactl").exists(),
    reason="needs CUDA: README has how to install it, on a machine with a GPU",
)


@pytest.mark.skipif(not NO_CUDA, reason="CUDA is listed here: that it is not cannot be shown")
@pytest.mark.parametrize("option", ["--provider", "--reference-provider"])
@pytest.mark.parametrize("provider", ["cuda", "cuda:7", "CUDAExecutionProvider"])
def test_cuda_that_is_not_here_exits_with_4(
    option: str, provider: str, converted: ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(converted, tmp_path, option, provider) == 4
    said = capsys.readouterr()
    assert said.out == ""
    error, hint = said.err.splitlines()
    assert "CUDAExecutionProvider is not on this machine: available: " in error
    assert "CPUExecutionProvider" in error
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in hint


@pytest.mark.parametrize("option", ["--provider", "--reference-provider"])
@pytest.mark.parametrize("provider", ["gpu", "cudaa", "cpu:1", "cuda:x", "CUDAExecutionProvide"])
def test_a_misspelt_provider_exits_with_2(
    option: str, provider: str, converted: ModelProto, tmp_path: Path
) -> None:
    assert verify(converted, tmp_path, option, provider) == 2


def test_a_clash_of_runtimes_is_a_warning_where_cuda_is_asked_for(
    converted: ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [("onnxruntime-gpu", "1.31.1"), ("onnxruntime", "1.32.0")]
    monkeypatch.setattr("dense2conv.convert.providers._installed", lambda: both)
    assert verify(converted, tmp_path) == 0
    assert "warning" not in capsys.readouterr().err
    verify(converted, tmp_path, "--provider", "cuda")
    warning = capsys.readouterr().err.splitlines()[0]
    assert warning.startswith(
        "warning: onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 are installed over each other"
    )
    assert "pip uninstall -y onnxruntime onnxruntime-gpu; pip install onnxruntime-gpu" in warning


@needs_cuda
@pytest.mark.parametrize("tf32", [False, True])
def test_a_map_on_cuda(
    tf32: bool, converted: ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--allow-tf32"] if tf32 else []
    status = verify(converted, tmp_path, "--provider", "cuda", "--format", "json", *more)
    document = json.loads(capsys.readouterr().out)
    assert status == 0 or tf32  # what TF32 rounds away may be more than the tolerance
    (check,) = (c for c in document["checks"] if c["name"] == "providers")
    assert set(check["details"]["candidate"]["nodes"]) == {"CUDAExecutionProvider"}
    assert check["details"]["candidate"]["tf32"] is tf32
    assert set(check["details"]["reference"]["nodes"]) == {"CPUExecutionProvider"}


@needs_cuda
def test_both_on_cuda(converted: ModelProto, tmp_path: Path) -> None:
    assert verify(converted, tmp_path, "--provider", "cuda:0", "--reference-provider", "cuda") == 0


@needs_cuda
def test_a_device_that_does_not_exist_exits_with_4(
    converted: ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(converted, tmp_path, "--provider", "cuda:99") == 4
    assert "Traceback" not in capsys.readouterr().err
