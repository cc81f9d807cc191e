"""Writing: what onnx reads of the new file is what it would have read of the model serialised by the library."""

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import EncodeError
from onnx import ModelProto, TensorProto, helper, numpy_helper

from dense2conv.convert import writing
from dense2conv.convert.errors import FileError, MachineError, RequestError
from dense2conv.convert.model import Model
from dense2conv.convert.opening import open_model
from dense2conv.convert.writing import write_model

REFERENCES = sorted((Path(__file__).parents[2] / "fixtures" / "references").glob("*.onnx"))


def model_of(**weights: np.ndarray) -> Model:
    """A model whose weights are all outside the proto."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", "K"]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for name, array in weights.items():
        data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        proto.graph.initializer.add(name=name, dims=array.shape, data_type=data_type)
    return Model(proto, weights)


def serialised(model: Model) -> ModelProto:
    """The same model as the library itself would hold it, all data inside."""
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    for tensor in proto.graph.initializer:
        if tensor.name in model.weights:
            tensor.raw_data = model.weights[tensor.name].tobytes()
    return proto


def loaded(path: Path | str) -> ModelProto:
    """The model as onnx reads it, external data taken in."""
    proto = onnx.load(path)
    for tensor in proto.graph.initializer:
        tensor.ClearField("data_location")  # onnx leaves DEFAULT set where it took data in
    return proto


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def small_and_large() -> Model:
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((24, 70)).astype(np.float32)
    return model_of(
        plain=rng.standard_normal((40, 50)),
        kernel=dense.T.reshape(70, 2, 3, 4),
        flipped=dense.reshape(2, 3, 4, 70).transpose(3, 0, 1, 2)[:, :, ::-1, ::-1],
        half=dense.astype(np.float16)[:, ::-1],
        small=np.arange(3, dtype=np.int64),
        scalar=np.array(2.5, np.float32),
        empty=np.empty((0, 3), np.float32),
        truth=rng.random((50, 41)).T > 0.5,
    )


@pytest.mark.parametrize("path", REFERENCES, ids=lambda path: path.stem)
@pytest.mark.parametrize("files", [1, 2])
def test_opened_and_written_is_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path, files: int
) -> None:
    model = open_model(path)
    if files == 2:
        monkeypatch.setattr(writing, "INLINE_LIMIT", len(model.proto.SerializeToString()) + 600)
    write_model(model, tmp_path / "out.onnx")
    expected = loaded(path)
    assert loaded(tmp_path / "out.onnx") == expected
    assert loaded(tmp_path / "out.onnx").SerializeToString() == expected.SerializeToString()
    large = sum(weight.nbytes >= 1024 for weight in model.weights.values())
    assert len(names(tmp_path)) == (2 if files == 2 and large else 1)


@pytest.mark.parametrize("files", [1, 2])
def test_views_are_written_in_row_major_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    model = small_and_large()
    if files == 2:
        monkeypatch.setattr(writing, "INLINE_LIMIT", 2000)
    write_model(model, tmp_path / "out.onnx")
    assert loaded(tmp_path / "out.onnx") == serialised(model)
    again = open_model(tmp_path / "out.onnx")
    for name, weight in model.weights.items():
        assert np.array_equal(again.array(again.initializers()[name]), weight)
    assert len(names(tmp_path)) == files


def test_data_in_the_proto_is_written_too(tmp_path: Path) -> None:
    model = small_and_large()
    model.proto.graph.initializer.append(numpy_helper.from_array(np.arange(5), "inner"))
    model.proto.graph.initializer.append(helper.make_tensor("typed", TensorProto.FLOAT, [2], [1.0, 2.0]))
    model.proto.graph.initializer.append(helper.make_tensor("text", TensorProto.STRING, [1], [b"a"]))
    model.weights["gone"] = np.zeros(3)  # a rule removed its initializer
    write_model(model, tmp_path / "out.onnx")
    assert loaded(tmp_path / "out.onnx") == serialised(model)


def test_unknown_fields_survive(tmp_path: Path) -> None:
    model = small_and_large()
    unknown = bytes([0xFA, 0x3F, 3]) + b"new"  # field 1023
    data = serialised(model).SerializeToString() + unknown
    (tmp_path / "in.onnx").write_bytes(data)
    write_model(open_model(tmp_path / "in.onnx"), tmp_path / "out.onnx")
    assert unknown in (tmp_path / "out.onnx").read_bytes()


def test_the_model_in_memory_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_and_large()
    before = model.proto.SerializeToString()
    write_model(model, tmp_path / "a.onnx")
    monkeypatch.setattr(writing, "INLINE_LIMIT", 2000)
    write_model(model, tmp_path / "b.onnx")
    assert model.proto.SerializeToString() == before


def test_memory_does_not_grow_with_the_weights(tmp_path: Path) -> None:
    size = 1 << 26
    weight = np.zeros((4096, size // 4096 // 4), np.float32).T  # 64 MiB, gathered
    plain = np.zeros(size // 4, np.float32)
    tracemalloc.start()
    try:
        write_model(model_of(weight=weight, plain=plain), tmp_path / "out.onnx")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "out.onnx").stat().st_size > 2 * size
    assert peak < 1 << 24


# Two files.


@pytest.fixture
def two_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "INLINE_LIMIT", 2000)


def data_files(folder: Path) -> list[str]:
    return [name for name in names(folder) if name.endswith(".data")]


@pytest.mark.usefixtures("two_files")
def test_the_data_file_is_named_after_its_content(tmp_path: Path) -> None:
    model = small_and_large()
    write_model(model, tmp_path / "out.onnx")
    first = data_files(tmp_path)
    assert len(first) == 1
    assert first[0].startswith("out.onnx.")
    write_model(model, tmp_path / "out.onnx", force=True)
    assert data_files(tmp_path) == first
    model.weights["plain"] = model.weights["plain"] + 1
    write_model(model, tmp_path / "out.onnx", force=True)
    assert len(data_files(tmp_path)) == 2
    assert loaded(tmp_path / "out.onnx") == serialised(model)


@pytest.mark.usefixtures("two_files")
def test_offsets_are_aligned_and_inside_the_file(tmp_path: Path) -> None:
    write_model(small_and_large(), tmp_path / "out.onnx")
    proto = onnx.load(tmp_path / "out.onnx", load_external_data=False)
    entries = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in proto.graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
    }
    assert set(entries) == {"plain", "kernel", "flipped", "half", "truth"}
    assert all(int(entry["offset"]) % 4096 == 0 for entry in entries.values())
    ends = [int(entry["offset"]) + int(entry["length"]) for entry in entries.values()]
    assert max(ends) == (tmp_path / data_files(tmp_path)[0]).stat().st_size


@pytest.mark.usefixtures("two_files")
@pytest.mark.parametrize("name", [b"\xff.onnx", b".hidden", b"a\\b.onnx", b"x" * 250, b"C:.onnx"])
def test_odd_names_give_data_files_that_a_location_can_hold(tmp_path: Path, name: bytes) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/" + name)
    model = small_and_large()
    write_model(model, path)
    assert [name[:6] for name in data_files(tmp_path)] == ["model."]
    assert np.array_equal(open_model(path).weights["plain"], model.weights["plain"])
    assert loaded(path) == serialised(model)


@pytest.mark.usefixtures("two_files")
def test_a_failure_after_the_data_leaves_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = writing.wire.splice
    calls = []

    def appears(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:  # the data is written, the model is not yet
            (tmp_path / "out.onnx").write_bytes(b"someone else's")
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(writing.wire, "splice", appears)
    with pytest.raises(RequestError, match="exists"):
        write_model(small_and_large(), tmp_path / "out.onnx")
    assert names(tmp_path) == ["out.onnx"]
    assert (tmp_path / "out.onnx").read_bytes() == b"someone else's"


@pytest.mark.slow
def test_more_than_two_gigabytes(tmp_path: Path) -> None:
    zeros = np.zeros((1 << 15, 1 << 14), np.float32)  # 2 GiB that no memory holds
    zeros[-1, -1] = 7
    write_model(model_of(large=zeros), tmp_path / "out.onnx")
    model = open_model(tmp_path / "out.onnx")
    assert model.weights["large"].shape == zeros.shape
    assert model.weights["large"][-1, -1] == 7
    assert len(data_files(tmp_path)) == 1


# What is refused.


def test_an_existing_file_needs_force(tmp_path: Path) -> None:
    path = tmp_path / "out.onnx"
    path.write_bytes(b"old")
    with pytest.raises(RequestError, match="OUT exists"):
        write_model(small_and_large(), path)
    assert path.read_bytes() == b"old"
    write_model(small_and_large(), path, force=True)
    assert loaded(path) == serialised(small_and_large())


def opened(folder: Path) -> Model:
    """A model of two files, opened."""
    tensor = TensorProto(name="w", dims=[300], data_type=1, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    (folder / "w.bin").write_bytes(bytes(1200))
    proto = model_of(plain=np.arange(300.0)).proto
    proto.graph.initializer[0].raw_data = np.arange(300.0).tobytes()
    proto.graph.initializer.append(tensor)
    (folder / "in.onnx").write_bytes(proto.SerializeToString())
    return open_model(folder / "in.onnx")


@pytest.mark.parametrize("name", ["in.onnx", "w.bin", "other"])
def test_no_file_that_the_model_came_from_is_overwritten(tmp_path: Path, name: str) -> None:
    model = opened(tmp_path)
    (tmp_path / "other").write_bytes(b"other")
    before = (tmp_path / name).read_bytes()
    with pytest.raises(RequestError, match="must not be an input"):
        write_model(model, tmp_path / name, force=True, inputs=[tmp_path / "other"])
    os.link(tmp_path / name, tmp_path / "hard")
    with pytest.raises(RequestError, match="must not be an input"):
        write_model(model, tmp_path / "hard", force=True, inputs=[tmp_path / "other"])
    assert (tmp_path / name).read_bytes() == before


def test_nor_is_the_model_itself_where_no_weight_is_a_view_of_it(tmp_path: Path) -> None:
    path = tmp_path / "in.onnx"
    path.write_bytes(serialised(model_of(w=np.zeros(3))).SerializeToString())
    model = open_model(path)
    assert not model.weights
    with pytest.raises(RequestError, match="must not be an input"):
        write_model(model, path, force=True)


def test_a_model_whose_weights_do_not_fit_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "out.onnx"
    for weight in (np.zeros((3, 2), np.float32), np.zeros((2, 3)), np.zeros((2, 3), ">f4")):
        model = model_of(w=np.zeros((2, 3), np.float32))
        model.weights["w"] = weight
        with pytest.raises(ValueError, match="the weight of initializer 'w' is"):
            write_model(model, path)
    model = model_of(w=np.zeros((2, 3), np.float32))
    model.proto.graph.initializer[0].raw_data = bytes(24)
    with pytest.raises(ValueError, match="one place"):
        write_model(model, path)
    model = model_of(w=np.zeros((2, 3), np.float32))
    del model.weights["w"]
    with pytest.raises(ValueError, match="has no data"):
        write_model(model, path)
    assert names(tmp_path) == []


def test_a_graph_that_protobuf_cannot_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Huge:
        graph = ModelProto().graph

        def SerializeToString(self) -> bytes:  # noqa: N802
            raise EncodeError("Failed to serialize proto")

    model = small_and_large()
    monkeypatch.setattr(model, "proto", Huge())
    model.weights.clear()
    with pytest.raises(FileError, match="smaller than 2 GiB"):
        write_model(model, tmp_path / "out.onnx")
    assert names(tmp_path) == []


@pytest.mark.parametrize("files", [1, 2])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "out.onnx"
    path.write_bytes(b"old")
    if files == 2:
        monkeypatch.setattr(writing, "INLINE_LIMIT", 2000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (0, 100, 5000, 20_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(MachineError, match="cannot write"):
                write_model(small_and_large(), path, force=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert names(tmp_path) == ["out.onnx"]
        assert path.read_bytes() == b"old"


def test_opening_and_writing_import_numpy_and_onnx_only() -> None:
    code = "import sys, dense2conv.convert.opening, dense2conv.convert.writing; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = {name.split(".")[0] for name in done.stdout.split()}
    assert {"numpy", "onnx", "dense2conv"} <= modules
    assert not modules & {"onnxruntime", "h5py", "click", "rich", "scipy"}
