"""The wire walker, against the parser of the protobuf library."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import GraphProto, ModelProto, TensorProto

from dense2conv.convert import wire
from dense2conv.convert.errors import FileError


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field, written independently of the module under test (lengths below 2**14)."""
    assert number < 16
    assert len(payload) < 2**14
    length = (
        bytes([len(payload)]) if len(payload) < 128 else bytes([len(payload) & 127 | 128, len(payload) >> 7])
    )
    return bytes([number << 3 | 2]) + length + payload


def unsplit(skeleton: bytes, spans: dict[int, wire.Span], data: bytes) -> ModelProto:
    model = ModelProto.FromString(skeleton)
    for index, span in spans.items():
        assert not model.graph.initializer[index].HasField("raw_data")
        model.graph.initializer[index].raw_data = data[span.offset : span.offset + span.length]
    return model


def model_of(lengths: list[int]) -> ModelProto:
    tensors = [TensorProto(name=f"t{i}", raw_data=bytes([i % 251]) * n) for i, n in enumerate(lengths)]
    return ModelProto(ir_version=8, graph=GraphProto(name="g", initializer=tensors), producer_name="p")


@given(st.lists(st.sampled_from([0, 1, 127, 128, 1023, 1024, 1025, 16383, 16384]), max_size=5))
@settings(max_examples=60, deadline=None)
def test_what_split_takes_out_is_what_the_parser_reads(lengths: list[int]) -> None:
    model = model_of(lengths)
    data = model.SerializeToString()
    skeleton, spans = wire.split(data)
    assert set(spans) == {i for i, n in enumerate(lengths) if n >= wire.SMALLEST}
    assert unsplit(skeleton, spans, data) == model


@given(st.lists(st.sampled_from([0, 5, 200, 1024, 20000]), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_splice_is_what_the_library_would_have_serialised(lengths: list[int]) -> None:
    model = model_of(lengths)
    contents = [tensor.raw_data for tensor in model.graph.initializer]
    skeleton = ModelProto.FromString(model.SerializeToString())
    for tensor in skeleton.graph.initializer:
        tensor.ClearField("raw_data")
    tails = {index: wire.Tail(length=len(content)) for index, content in enumerate(contents)}
    pieces = wire.splice(skeleton.SerializeToString(), tails)
    whole = b"".join(contents[p.initializer] if isinstance(p, wire.Hole) else bytes(p) for p in pieces)
    assert len(whole) == wire.size(pieces)
    assert ModelProto.FromString(whole) == model


def test_a_tail_s_fields_join_the_tensor() -> None:
    skeleton = ModelProto(graph=GraphProto(initializer=[TensorProto(name="a"), TensorProto(name="b")]))
    extra = TensorProto(doc_string="added").SerializeToString()
    pieces = wire.splice(skeleton.SerializeToString(), {1: wire.Tail(extra)})
    parsed = ModelProto.FromString(b"".join(bytes(p) for p in pieces if not isinstance(p, wire.Hole)))
    assert [t.doc_string for t in parsed.graph.initializer] == ["", "added"]
    assert [t.name for t in parsed.graph.initializer] == ["a", "b"]


def test_a_graph_in_two_parts_is_counted_as_one() -> None:
    first, second = (
        GraphProto(initializer=[TensorProto(name=name, raw_data=fill * 2000)]).SerializeToString()
        for name, fill in (("a", b"1"), ("b", b"2"))
    )
    data = field(7, first) + field(7, second)
    skeleton, spans = wire.split(data)
    assert set(spans) == {0, 1}
    assert unsplit(skeleton, spans, data) == ModelProto.FromString(data)
    assert [t.name for t in ModelProto.FromString(skeleton).graph.initializer] == ["a", "b"]


def test_unknown_fields_stay_where_they_are() -> None:
    unknown = bytes([15 << 3 | 2, 3]) + b"new"  # field 15, in no version of ModelProto or TensorProto
    tensor = unknown + field(9, b"x" * 1500) + unknown
    graph = unknown + field(5, tensor) + unknown
    data = unknown + field(7, graph) + unknown
    skeleton, spans = wire.split(data)
    assert skeleton == unknown + field(7, unknown + field(5, unknown * 2) + unknown) + unknown
    assert data[spans[0].offset :][: spans[0].length] == b"x" * 1500


def test_every_truncation_is_refused_or_ends_between_two_fields() -> None:
    data = model_of([2000, 3, 1024]).SerializeToString()
    ends = {0}  # between two fields of the model itself, found by the library: what it parses and writes back
    for length in range(len(data)):
        try:
            ModelProto.FromString(data[:length])
        except Exception:
            with pytest.raises(FileError, match="truncated or damaged"):
                wire.split(data[:length])
        else:
            ends.add(length)
            wire.split(data[:length])
    assert 1 < len(ends) < 5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x3c", "wire type 4"),
        (b"\x0b", "wire type 3"),
        (b"\x02\x00", "field 0"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "more than 10 bytes"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "truncated or damaged"),
        (b"\x08", "truncated or damaged"),
        (b"\x09\x00", "needs 8 bytes, 1 are left"),
        (b"\x0d\x00", "needs 4 bytes, 1 are left"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(FileError, match=message):
        wire.split(data)


def test_two_raw_data_fields_in_one_initializer_are_refused() -> None:
    data = field(7, field(5, field(9, b"1" * 2000) + field(9, b"2" * 2000)))
    with pytest.raises(FileError, match="one raw_data field, but number 0 has 2"):
        wire.split(data)
