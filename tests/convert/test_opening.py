"""Opening: what is read equals what onnx reads, and what is hostile or no model is refused with its reason."""

import gzip
import io
import os
import random
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from dense2conv.convert.errors import FileError, RequestError
from dense2conv.convert.mapped import source
from dense2conv.convert.opening import open_model

REFERENCES = sorted((Path(__file__).parents[2] / "fixtures" / "references").glob("*.onnx"))


def model_with(*tensors: TensorProto, opset: int = 17, ir_version: int = 8, **graph: object) -> ModelProto:
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in "xy"]
    made = helper.make_graph([node], "g", values[:1], values[1:], list(tensors), **graph)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def save(directory: Path, model: ModelProto, name: str = "model.onnx") -> Path:
    path = directory / name
    path.write_bytes(model.SerializeToString())
    return path


def raw(name: str, dims: list[int], length: int, data_type: int = TensorProto.FLOAT) -> TensorProto:
    return TensorProto(name=name, dims=dims, data_type=data_type, raw_data=bytes(length))


@pytest.mark.parametrize("path", REFERENCES, ids=lambda path: path.stem)
def test_exported_models_have_the_weights_that_onnx_reads(path: Path) -> None:
    model, expected = open_model(path), onnx.load(path)
    assert len(model.proto.graph.initializer) == len(expected.graph.initializer)
    for tensor, other in zip(model.proto.graph.initializer, expected.graph.initializer, strict=True):
        ours, theirs = model.array(tensor), numpy_helper.to_array(other)
        assert (tensor.name, ours.dtype, ours.shape) == (other.name, theirs.dtype, theirs.shape)
        assert ours.tobytes() == theirs.tobytes()


# Widths that numpy does not have, or, with an older onnx, has not yet.
BITS = {"UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2, "FLOAT6E2M3": 6, "FLOAT6E3M2": 6}
BITS |= {"BFLOAT16": 16, "FLOAT8E4M3FN": 8, "FLOAT8E4M3FNUZ": 8, "FLOAT8E5M2": 8, "FLOAT8E5M2FNUZ": 8}
NAMES = {number: name for name, number in TensorProto.DataType.items() if name not in ("UNDEFINED", "STRING")}


@pytest.mark.parametrize("data_type", NAMES, ids=NAMES.get)
@pytest.mark.parametrize("elements", [3, 4000])
def test_every_data_type_reads_as_onnx_reads_it(tmp_path: Path, data_type: int, elements: int) -> None:
    width = BITS.get(NAMES[data_type]) or helper.tensor_dtype_to_np_dtype(data_type).itemsize * 8
    content = random.Random(1).randbytes((elements * width + 7) // 8)
    if data_type == TensorProto.BOOL:
        content = bytes(byte & 1 for byte in content)
    tensor = TensorProto(name="w", dims=[elements], data_type=data_type, raw_data=content)
    # A name of odd length moves the data off any alignment.
    model = open_model(save(tmp_path, model_with(raw("odd", [1], 4), tensor)))
    expected = numpy_helper.to_array(tensor)
    ours = model.array(model.initializers()["w"])
    assert (ours.dtype, ours.shape, ours.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
    if "w" in model.weights:
        assert not model.initializers()["w"].HasField("raw_data")


def test_large_weights_are_read_only_views_of_the_file_and_small_ones_stay_in_the_proto(
    tmp_path: Path,
) -> None:
    large = numpy_helper.from_array(np.arange(600, dtype=np.float16).reshape(20, 30), "large")
    small = numpy_helper.from_array(np.arange(4, dtype=np.float32), "small")
    path = save(tmp_path, model_with(large, small))
    model = open_model(path)
    assert set(model.weights) == {"large"}
    view = model.weights["large"]
    assert not view.flags.writeable
    mapped = source(view.T[::-1])
    assert mapped is not None
    assert mapped.path == str(path)
    assert np.array_equal(view, np.arange(600, dtype=np.float16).reshape(20, 30))
    assert len(model.proto.SerializeToString()) < 400
    assert model.path == str(path)


@pytest.mark.parametrize("alignment", range(8))
def test_alignment_does_not_matter(tmp_path: Path, alignment: int) -> None:
    values = np.arange(300, dtype=np.float64)
    proto = model_with(numpy_helper.from_array(values, "w" * (1 + alignment)))
    model = open_model(save(tmp_path, proto))
    view = next(iter(model.weights.values()))
    assert (view @ view, view.sum()) == (values @ values, values.sum())


def test_typed_data_is_left_to_onnx(tmp_path: Path) -> None:
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [500], [0.5] * 500)
    assert len(tensor.float_data) == 500
    model = open_model(save(tmp_path, model_with(tensor)))
    assert not model.weights
    assert np.array_equal(model.array(model.initializers()["w"]), np.full(500, 0.5, np.float32))


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/m\xff\xfe.onnx")
    Path(path).write_bytes(model_with(raw("w", [300], 1200)).SerializeToString())
    assert open_model(path).path == path
    assert set(open_model(Path(path)).weights) == {"w"}


# What is no file, or no model.


def test_no_such_file(tmp_path: Path) -> None:
    for path in (tmp_path / "no.onnx", tmp_path / "no" / "no.onnx", f"{tmp_path}/a\0b", ""):
        with pytest.raises(RequestError, match="no such file") as caught:
            open_model(path)
        assert caught.value.file == os.fspath(path)


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="directory"):
        open_model(tmp_path)


def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(FileError, match="regular file"):
        open_model(tmp_path / "model.onnx")


def test_a_symbolic_link_that_was_asked_for_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link.onnx").symlink_to(save(tmp_path, model_with(raw("w", [300], 1200))))
    assert set(open_model(tmp_path / "link.onnx").weights) == {"w"}


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", "{}")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "HDF5"),
        (zipped(), "zip archive"),
        (gzip.compress(model_with().SerializeToString()), "gzip"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer"),
        (b"\n <!DOCTYPE HTML><html></html>", "web page"),
        (b"<HTML>", "web page"),
        (b"\x80\x02}q\x00.", "pickle"),
        (b"hello, this is a text\nof two lines\n", "it is text"),
        (b'ir_version: 8 graph { name: "g" }', "it is text"),
        (random.Random(0).randbytes(4000), "not an ONNX file, or a damaged one"),
        (bytes(4000), "not an ONNX file, or a damaged one"),
        (ModelProto(ir_version=8).SerializeToString(), "it has no graph"),
        (helper.make_model(helper.make_graph([], "g", [], [])).graph.SerializeToString(), "not an ONNX file"),
    ],
)
def test_what_is_no_onnx_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(FileError, match=message) as caught:
        open_model(path)
    assert caught.value.file == str(path)
    assert "\n" not in caught.value.message


def test_no_operator_set(tmp_path: Path) -> None:
    proto = model_with()
    del proto.opset_import[:]
    with pytest.raises(FileError, match="imports no operator set"):
        open_model(save(tmp_path, proto))


def test_truncation_at_every_byte(tmp_path: Path) -> None:
    proto = model_with(raw("w", [300], 1200), raw("b", [3], 12))
    proto.metadata_props.add(key="key", value="value")
    whole = proto.SerializeToString()
    path = tmp_path / "model.onnx"
    opened = 0
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        try:
            model = open_model(path)
        except FileError as error:
            assert error.message  # noqa: PT017 - most lengths must raise, which the count below asserts
        else:  # cut between two fields of the model: the graph is complete
            opened += 1
            assert np.array_equal(model.weights["w"], np.zeros(300))
            assert onnx.load_from_string(whole[:length]).graph == proto.graph
    assert opened <= 2
    path.write_bytes(whole)
    assert open_model(path).proto.metadata_props[0].value == "value"


# Versions.


@pytest.mark.parametrize("version", [0, 2, 15, 99, -1])
def test_ir_versions_that_are_refused(tmp_path: Path, version: int) -> None:
    with pytest.raises(FileError, match=f"ir_version must be 3 to 14, but it is {version}"):
        open_model(save(tmp_path, model_with(ir_version=version)))


@pytest.mark.parametrize("version", [3, 8, 14])
def test_ir_versions_that_are_read(tmp_path: Path, version: int) -> None:
    assert open_model(save(tmp_path, model_with(ir_version=version))).proto.ir_version == version


@pytest.mark.parametrize(
    ("opset", "message"),
    [(6, "7 or newer, but it is 6"), (-1, "but it is -1"), (999, "opset 999 is newer than")],
)
def test_opsets_that_are_refused(tmp_path: Path, opset: int, message: str) -> None:
    with pytest.raises(FileError, match=message):
        open_model(save(tmp_path, model_with(opset=opset)))


@pytest.mark.parametrize("opset", [7, onnx.defs.onnx_opset_version()])
def test_opsets_that_are_read(tmp_path: Path, opset: int) -> None:
    assert open_model(save(tmp_path, model_with(opset=opset))).proto.opset_import[0].version == opset


def test_the_default_operator_set_must_be_there_once(tmp_path: Path) -> None:
    proto = model_with()
    proto.opset_import.add(domain="ai.onnx", version=16)
    with pytest.raises(FileError, match=r"versions \[16, 17\]"):
        open_model(save(tmp_path, proto))
    del proto.opset_import[:]
    proto.opset_import.add(domain="com.microsoft", version=1)
    with pytest.raises(FileError, match="default operator set"):
        open_model(save(tmp_path, proto))


# Tensors.

LARGE = raw("W", [300], 1200)


def with_segment() -> TensorProto:
    tensor = raw("W", [300], 1200)
    tensor.segment.begin = 0
    return tensor


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (TensorProto(name="W", dims=[300], data_type=1, raw_data=bytes(1200), float_data=[1.0]), "one place"),
        (TensorProto(name="W", dims=[1], data_type=1, raw_data=bytes(4), float_data=[1.0]), "one place"),
        (TensorProto(name="W", dims=[1], data_type=1, int32_data=[1], float_data=[1.0]), "one place"),
        (raw("W", [2**32, 2**32], 1200), "overflow"),
        (raw("W", [0, 2**62, 2**62], 0), "overflow"),
        (raw("W", [-4, -3], 48), "must not be negative"),
        (raw("W", [4, -1], 1200), "must not be negative"),
        (TensorProto(name="W", dims=[4, 2**40], data_type=1), "has no data"),
        (raw("W", [4, 2**40], 1200), "1200 of 17592186044416 bytes"),
        (raw("W", [301], 1200), "1200 of 1204 bytes"),
        (raw("W", [299], 1200), "1200 of 1196 bytes"),
        (raw("W", [3], 8), "8 of 12 bytes"),
        (raw("W", [0], 8), "8 of 0 bytes"),
        (raw("W", [1] * 33, 4), "at most 32 dimensions"),
        (TensorProto(name="W", dims=[3], data_type=1, float_data=[1.0, 2.0]), "float_data has 2 of 3"),
        (TensorProto(name="W", dims=[3], data_type=1, double_data=[1.0, 2.0, 3.0]), "must be in float_data"),
        (
            TensorProto(name="W", dims=[3], data_type=TensorProto.INT4, int32_data=[1] * 3),
            "has 3 of 2 numbers",
        ),
        (raw("W", [300], 1200, 999), "data type 999 is not known"),
        (raw("W", [300], 1200, 0), "data type 0 is not known"),
        (raw("W", [300], 1200, TensorProto.STRING), "strings must be in string_data"),
        (with_segment(), "segments"),
    ],
)
def test_unsound_tensors_are_refused_by_name(tmp_path: Path, tensor: TensorProto, message: str) -> None:
    with pytest.raises(FileError, match=message) as caught:
        open_model(save(tmp_path, model_with(tensor)))
    assert "'W'" in caught.value.message


def constant(tensor: TensorProto) -> ModelProto:
    proto = model_with()
    proto.graph.node.append(helper.make_node("Constant", [], ["c"], name="const", value=tensor))
    return proto


def test_tensors_in_attributes_are_held_to_the_same_rules(tmp_path: Path) -> None:
    with pytest.raises(
        FileError, match="attribute 'value' of Constant 'const': raw_data has 8 of 12"
    ) as caught:
        open_model(save(tmp_path, constant(raw("", [3], 8))))
    assert caught.value.layer == "const"
    assert open_model(save(tmp_path, constant(raw("", [3], 12)))).proto == constant(raw("", [3], 12))


def in_subgraph(*tensors: TensorProto) -> ModelProto:
    inner = helper.make_graph([], "then", [], [], list(tensors))
    proto = model_with()
    proto.graph.node.append(
        helper.make_node("If", ["x"], ["z"], name="if", then_branch=inner, else_branch=inner)
    )
    return proto


def test_a_duplicate_initializer_is_refused(tmp_path: Path) -> None:
    ones = numpy_helper.from_array(np.ones(300, np.float32), "W")
    for proto in (model_with(LARGE, ones), in_subgraph(LARGE, ones)):
        with pytest.raises(FileError, match=r"'W'.* is there twice"):
            open_model(save(tmp_path, proto))


def test_sparse_initializers_are_refused_by_name(tmp_path: Path) -> None:
    values = helper.make_tensor("thin", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    sparse = helper.make_sparse_tensor(values, indices, [2**35])
    with pytest.raises(FileError, match="'thin'"):
        open_model(save(tmp_path, model_with(sparse_initializer=[sparse])))


def test_nesting_is_bounded(tmp_path: Path) -> None:
    def field(tag: bytes, payload: bytes) -> bytes:
        length = len(payload)
        encoded = b""
        while length > 127:
            encoded += bytes([length & 127 | 128])
            length >>= 7
        return tag + encoded + bytes([length]) + payload

    graph = b""
    for _ in range(1000):
        # GraphProto.node = 1 > NodeProto.attribute = 5 > AttributeProto.g = 6
        graph = field(b"\x0a", field(b"\x2a", field(b"\x32", graph)))
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x08" + field(b"\x3a", graph) + field(b"\x42", b"\x10\x11"))
    with pytest.raises(FileError, match="nested too deeply"):
        open_model(path)


@pytest.mark.parametrize("old", [b"relu", b"Relu", b"LARGE"])
def test_names_that_are_not_utf8_are_refused(tmp_path: Path, old: bytes) -> None:
    data = model_with(raw("LARGE", [300], 1200)).SerializeToString()
    assert old in data
    path = tmp_path / "model.onnx"
    path.write_bytes(data.replace(old, b"\xff" * len(old)))
    with pytest.raises(FileError, match="UTF-8"):
        open_model(path)


def test_control_characters_in_names_do_not_reach_the_message(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        open_model(save(tmp_path, model_with(raw("\x1b[2J\n::error::", [301], 1200))))
    assert "\x1b" not in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.slow
def test_mutants_open_as_onnx_opens_them_or_are_refused(tmp_path: Path) -> None:
    whole = model_with(raw("w", [300], 1200), raw("b", [3], 12)).SerializeToString()
    path = tmp_path / "model.onnx"
    refused = 0
    for offset in range(len(whole)):
        for value in (0, 1, 127, 128, 255):
            mutant = whole[:offset] + bytes([value]) + whole[offset + 1 :]
            path.write_bytes(mutant)
            try:
                model = open_model(path)
            except FileError:
                refused += 1
                continue
            expected = onnx.load_from_string(mutant)
            for tensor, other in zip(model.proto.graph.initializer, expected.graph.initializer, strict=True):
                assert model.array(tensor).tobytes() == numpy_helper.to_array(other).tobytes()
    assert refused > 100
