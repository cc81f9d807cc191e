"""External data: equal to what onnx loads where it is sound, refused by name where a file could be led astray."""

import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, StringStringEntryProto, TensorProto, helper, numpy_helper

from dense2conv.convert.errors import FileError
from dense2conv.convert.mapped import source_files
from dense2conv.convert.opening import open_model

VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)
DATA = VALUES.tobytes()


def external(name: str = "W", dims: tuple[int, ...] = (4, 3), **entries: object) -> TensorProto:
    tensor = TensorProto(name=name, dims=dims, data_type=1, data_location=TensorProto.EXTERNAL)
    tensor.external_data.extend(StringStringEntryProto(key=k, value=str(v)) for k, v in entries.items())
    return tensor


def model_with(*tensors: TensorProto) -> ModelProto:
    node = helper.make_node("MatMul", ["x", "W"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", "K"]) for name in "xy"]
    graph = helper.make_graph([node], "g", values[:1], values[1:], list(tensors))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    inner = tmp_path / "m"
    inner.mkdir()
    (inner / "w.bin").write_bytes(DATA)
    return inner


def save(folder: Path, *tensors: TensorProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model_with(*tensors).SerializeToString())
    return path


def refused(path: Path, *, allow_links: bool = False) -> str:
    with pytest.raises(FileError) as caught:
        open_model(path, allow_links=allow_links)
    assert "\n" not in caught.value.message
    assert caught.value.file == str(path)
    return caught.value.message


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "w.bin"},
        {"location": "./w.bin"},
        {"location": "w.bin", "offset": 0, "length": 48},
        {"location": "w.bin", "checksum": hashlib.sha1(DATA).hexdigest()},
        {"location": "w.bin", "checksum": hashlib.sha1(DATA).hexdigest().upper()},
    ],
)
def test_sound_external_data_is_a_view_of_its_file(folder: Path, entries: dict[str, object]) -> None:
    path = save(folder, external(**entries))
    model = open_model(path)
    assert model.weights["W"].tobytes() == onnx.load(path).graph.initializer[0].raw_data == DATA
    assert not model.weights["W"].flags.writeable
    tensor = model.initializers()["W"]
    assert not tensor.external_data
    assert tensor.data_location == TensorProto.DEFAULT
    assert np.array_equal(model.array(tensor), VALUES)
    assert source_files(model) == [folder / "w.bin"]


def test_several_tensors_in_one_file_below_the_model(folder: Path) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "w.bin").write_bytes(b"?" + DATA + DATA[:8])
    location = "a/b/w.bin"
    path = save(
        folder,
        external(location=location, offset=1, length=48),
        external("V", (2,), location=location, offset=49),
        external("U", (0, 5), location=location, offset=57, length=0),
    )
    model, expected = open_model(path), onnx.load(path)
    for tensor, other in zip(model.proto.graph.initializer, expected.graph.initializer, strict=True):
        assert np.array_equal(model.array(tensor), numpy_helper.to_array(other))
        assert model.array(tensor).shape == tuple(other.dims)
    assert set(model.weights) == {"W", "V"}


def test_an_empty_file_holds_an_empty_tensor(folder: Path) -> None:
    (folder / "empty.bin").touch()
    model = open_model(save(folder, external(dims=(0, 3), location="empty.bin")))
    assert model.array(model.initializers()["W"]).shape == (0, 3)
    assert "ends at byte 48 of 0" in refused(save(folder, external(location="empty.bin")))


def test_types_that_numpy_cannot_view_are_read_into_the_proto(folder: Path) -> None:
    tensor = external(dims=(95,), location="w.bin", length=48)
    tensor.data_type = TensorProto.INT4
    path = save(folder, tensor)
    model = open_model(path)
    assert model.initializers()["W"].raw_data == onnx.load(path).graph.initializer[0].raw_data == DATA


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("../secret.bin", "must not contain '..'"),
        ("x/../../secret.bin", "must not contain '..'"),
        ("..", "must not contain '..'"),
        ("/etc/passwd", "must not be absolute"),
        ("C:/w.bin", "must not be absolute"),
        ("c:w.bin", "must not be absolute"),
        ("a\\w.bin", "must not contain a backslash"),
        ("..\\secret.bin", "must not contain a backslash"),
        ("w.bin\0x", "must not contain NUL"),
        (".env", "hidden"),
        (".git/config", "hidden"),
        ("", "must not be empty"),
        (".", "must name a file"),
        ("w.bin/", "must name a file"),
        ("a//w.bin", "must name a file"),
        ("model.onnx", "the model itself"),
        ("m\n\x1b[2J", "is missing"),
    ],
)
def test_locations_that_are_refused(folder: Path, location: str, message: str) -> None:
    (folder / ".env").write_bytes(DATA)
    path = save(folder, external(location=location))
    found = refused(path)
    assert message in found
    assert "'W'" in found
    assert repr(location) in found or message == "is missing"
    assert message in refused(path, allow_links=True)


def test_a_missing_file_is_named_in_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(folder, external(location="sub/gone.bin"))
    monkeypatch.chdir(folder)
    with pytest.raises(FileError, match="'W' is missing") as caught:
        open_model("model.onnx")
    assert str(folder / "sub" / "gone.bin") in caught.value.message


def test_a_directory_in_place_of_the_file(folder: Path) -> None:
    (folder / "d").mkdir()
    assert "regular file" in refused(save(folder, external(location="d")))
    assert "Not a directory" in refused(save(folder, external(location="w.bin/x")))


def test_a_fifo_does_not_hang(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    for allow_links in (False, True):
        found = refused(save(folder, external(location="pipe")), allow_links=allow_links)
        assert "regular file" in found


def test_symbolic_links_need_leave(folder: Path) -> None:
    (folder / "s.bin").symlink_to("../secret.bin")
    (folder / "d").symlink_to("..")
    (folder / "dangling").symlink_to("nowhere")
    for location in ("s.bin", "d/secret.bin"):
        path = save(folder, external(location=location))
        assert "symbolic link" in refused(path)
        assert open_model(path, allow_links=True).weights["W"].tobytes() == bytes(48)
    path = save(folder, external(location="dangling"))
    assert "symbolic link" in refused(path)
    assert "is missing" in refused(path, allow_links=True)


def test_hard_links_need_leave(folder: Path) -> None:
    os.link(folder.parent / "secret.bin", folder / "h.bin")
    path = save(folder, external(location="h.bin"))
    assert "2 hard links" in refused(path)
    assert open_model(path, allow_links=True).weights["W"].tobytes() == bytes(48)


def test_the_model_under_another_name_is_still_the_model(folder: Path) -> None:
    path = save(folder, external(location="again.bin"))
    os.link(path, folder / "again.bin")
    assert "the model itself" in refused(path, allow_links=True)


def test_a_linked_model_has_its_data_where_the_link_is(folder: Path) -> None:
    blobs = folder / "blobs"
    blobs.mkdir()
    save(folder, external(location="w.bin")).rename(blobs / "0123")
    (folder / "w.bin").rename(blobs / "4567")
    (folder / "model.onnx").symlink_to("blobs/0123")
    (folder / "w.bin").symlink_to("blobs/4567")
    assert "symbolic link" in refused(folder / "model.onnx")
    assert open_model(folder / "model.onnx", allow_links=True).weights["W"].tobytes() == DATA


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"length": 12}, "has 12 of 48 bytes"),
        ({"length": 49}, "has 49 of 48 bytes"),
        ({"length": 2**40}, "has 1099511627776 of 48 bytes"),
        ({"length": -48}, "length must be a non-negative integer"),
        ({"length": ""}, "length must be a non-negative integer"),
        ({"offset": -8}, "offset must be a non-negative integer, but it is '-8'"),
        ({"offset": "abc"}, "offset must be a non-negative integer"),
        ({"offset": ""}, "offset must be a non-negative integer"),
        ({"offset": "1_0"}, "offset must be a non-negative integer"),
        ({"offset": " 1"}, "offset must be a non-negative integer"),
        ({"offset": "0x0"}, "offset must be a non-negative integer"),
        ({"offset": "\u0661"}, "offset must be a non-negative integer"),
        ({"offset": "9" * 5000}, "offset must be a non-negative integer"),
        ({"offset": 1}, "ends at byte 49 of 48"),
        ({"offset": 2**63}, "of 48"),
        ({"offset": 2**64 - 48}, "of 48"),
        ({"checksum": "0" * 40}, "checksum of 'w.bin'"),
        ({"checksum": ""}, "checksum of 'w.bin'"),
    ],
)
def test_entries_that_do_not_fit_are_refused(folder: Path, entries: dict[str, object], message: str) -> None:
    found = refused(save(folder, external(location="w.bin", **entries)))
    assert message in found
    assert "'W'" in found


def test_the_checksum_is_compared_for_each_tensor_that_has_one(folder: Path) -> None:
    good = external("A", location="w.bin", checksum=hashlib.sha1(DATA).hexdigest())
    assert "'W'" in refused(save(folder, good, external(location="w.bin", checksum="0" * 40)))


def test_one_key_twice_is_refused(folder: Path) -> None:
    tensor = external(location="w.bin")
    tensor.external_data.add(key="location", value="other.bin")
    assert "location must stand once" in refused(save(folder, tensor))


def test_no_location_is_refused(folder: Path) -> None:
    assert "has no location" in refused(save(folder, external(offset=0)))


def test_external_and_own_data_are_refused(folder: Path) -> None:
    for size, dims in ((48, (4, 3)), (1200, (300,))):
        tensor = external(dims=dims, location="w.bin")
        tensor.raw_data = bytes(size)
        assert "one place" in refused(save(folder, tensor))


def test_external_strings_are_refused(folder: Path) -> None:
    tensor = external(location="w.bin")
    tensor.data_type = TensorProto.STRING
    assert "strings must be in string_data" in refused(save(folder, tensor))


def elsewhere() -> dict[str, ModelProto]:
    """The same sound external tensor in every place but the main graph's initializers."""
    tensor = external("inner", location="w.bin")
    constant = helper.make_node("Constant", [], ["c"], name="const", value=tensor)
    branch = helper.make_graph([], "branch", [], [], [tensor])
    choice = helper.make_node("If", ["x"], ["z"], name="if", then_branch=branch)
    nested = helper.make_node(
        "If", ["x"], ["z"], name="if", then_branch=helper.make_graph([choice], "b", [], [])
    )
    models = {}
    for place, node in (("attribute", constant), ("branch", choice), ("branch in a branch", nested)):
        models[place] = model_with()
        models[place].graph.node.append(node)
    models["function"] = model_with()
    models["function"].functions.add(name="f", domain="d", node=[constant])
    models["list"] = model_with()
    models["list"].graph.node.add(op_type="Odd", name="odd").attribute.add(name="many", tensors=[tensor])
    models["training"] = model_with()
    models["training"].training_info.add().algorithm.initializer.append(tensor)
    models["sparse attribute"] = model_with()
    sparse = (
        models["sparse attribute"]
        .graph.node.add(op_type="Constant", name="s")
        .attribute.add(name="sparse_value")
    )
    sparse.sparse_tensor.values.CopyFrom(tensor)
    return models


@pytest.mark.parametrize("place", elsewhere())
def test_external_data_elsewhere_is_refused(folder: Path, place: str) -> None:
    path = folder / "model.onnx"
    path.write_bytes(elsewhere()[place].SerializeToString())
    assert "external data is supported for the main graph's initializers only" in refused(path)


def test_nothing_is_looked_up_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data file exchanged for a link between the check and the use is not followed: there is no such moment."""
    path = save(folder, external(location="w.bin"))
    original = os.fstat

    def exchange(descriptor: int) -> os.stat_result:
        status = original(descriptor)
        if status.st_size == len(DATA):
            (folder / "w.bin").unlink(missing_ok=True)
            (folder / "w.bin").symlink_to("../secret.bin")
        return status

    monkeypatch.setattr(os, "fstat", exchange)
    model = open_model(path)
    assert (folder / "w.bin").is_symlink()
    assert model.weights["W"].tobytes() == DATA
