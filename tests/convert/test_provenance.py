"""``verify`` on paths: the report of two files says which they were, held against hashlib."""

import hashlib
import platform
from importlib import metadata
from pathlib import Path

import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from dense2conv.convert import Verdict, convert, open_model, verify, write_model
from dense2conv.convert.errors import MachineError, RequestError
from dense2conv.convert.provenance import hashes, sha256

FIXTURES = Path(__file__).parents[2] / "fixtures"
CLASSIFIER = FIXTURES / "patch_classifier.onnx"
PADDED = FIXTURES / "references" / "t06_residual_same.onnx"


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def map_of(source, folder):
    out = folder / "map.onnx"
    write_model(convert(open_model(source)).map, out)
    return out


def test_two_paths_are_a_proof(tmp_path):
    out = map_of(CLASSIFIER, tmp_path)
    report = verify(str(CLASSIFIER), out)
    assert report.verdict is Verdict.EQUIVALENT
    assert report.files == {
        "reference": {str(CLASSIFIER): digest(CLASSIFIER)},
        "candidate": {str(out): digest(out)},
    }
    assert report.versions == {
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        **{name: metadata.version(name) for name in ("dense2conv", "numpy", "onnx")},
    }
    assert str(report).splitlines()[0] == "verdict: equivalent"
    assert len(str(report).splitlines()) == 1 + len(report.checks)


def test_paths_and_models_may_be_mixed(tmp_path):
    out = map_of(CLASSIFIER, tmp_path)
    report = verify(open_model(CLASSIFIER), out)
    assert report.verdict is Verdict.EQUIVALENT
    assert set(report.files) == {"candidate"}
    assert verify(open_model(CLASSIFIER), open_model(out)).files == {}


def test_a_border_effect_is_known_by_the_paths_alone(tmp_path):
    report = verify(PADDED, map_of(PADDED, tmp_path))
    assert (report.verdict, report.accepted) == (Verdict.BORDER_EFFECT, False)
    assert verify(PADDED, tmp_path / "map.onnx", accept_border=True).accepted


def test_external_data_is_part_of_a_model(tmp_path):
    model = onnx.load(CLASSIFIER)
    path = tmp_path / "split.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    data = tmp_path / "weights.bin"
    report = verify(path, map_of(CLASSIFIER, tmp_path))
    assert report.files["reference"] == {str(path): digest(path), str(data): digest(data)}


def test_data_that_is_not_mapped_counts_too(tmp_path):
    """Numbers of less than a byte stay in the proto, and still they lie in a file."""
    model = onnx.load(CLASSIFIER)
    model.ir_version = 10
    model.opset_import[0].version = 21
    path, data = tmp_path / "split.onnx", tmp_path / "small.bin"
    data.write_bytes(b"\x21\x43")
    tensor = model.graph.initializer.add()
    tensor.CopyFrom(TensorProto(name="small", data_type=TensorProto.INT4, dims=[4]))
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="small.bin")
    path.write_bytes(model.SerializeToString())
    assert hashes(open_model(path)) == {str(path): digest(path), str(data): digest(data)}


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(RequestError, match="no such file"):
        verify(CLASSIFIER, tmp_path / "nowhere.onnx")
    with pytest.raises(MachineError, match="again"):
        sha256(tmp_path / "nowhere.onnx")
