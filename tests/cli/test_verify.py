"""``verify`` as a CI step: it passes what is right, and each way to be wrong makes it exit with 1."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
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
