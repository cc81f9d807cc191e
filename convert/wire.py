"""The protobuf wire format of a ``ModelProto``, walked without parsing it.

A message is a row of fields, ``tag payload``; a tag is the varint ``number << 3 | wire type``, and a payload
of wire type 2 is a varint length and that many bytes (https://protobuf.dev/programming-guides/encoding/).
Three levels matter::

    ModelProto.graph = 7 > GraphProto.initializer = 5 > TensorProto.raw_data = 9

``split`` takes the large ``raw_data`` out, so what is left, a skeleton of a few KB, can be parsed by the
ordinary parser; ``splice`` puts data into a skeleton again. Both copy every other byte as it is, hence keep
the order of the fields and fields that this version of ONNX does not know. The parser reads the copied bytes,
so nothing is judged here but lengths.
"""

from collections.abc import Callable, Iterator, Mapping
from mmap import mmap
from typing import NamedTuple

from .errors import FileError

GRAPH = 7  # ModelProto.graph
INITIALIZER = 5  # GraphProto.initializer
RAW_DATA = 9  # TensorProto.raw_data
SMALLEST = 1024  # bytes; shorter raw_data stays in the skeleton, where it costs less than a span

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4, groups, are in no version of ONNX


class Span(NamedTuple):
    """A run of bytes of a file: ``offset`` and ``length``, in bytes."""

    offset: int
    length: int


class Hole(NamedTuple):
    """The place of an initializer's data, ``length`` bytes, in a spliced message; ``initializer`` is its number."""

    initializer: int
    length: int


class Tail(NamedTuple):
    """What ``splice`` appends to an initializer: encoded ``fields``, and a hole for ``length`` bytes."""

    fields: bytes = b""
    length: int | None = None  # None: no raw_data at all


class _Field(NamedTuple):
    """One field of a message, as offsets: its tag starts at ``start``, its payload is ``payload:end``."""

    wire_type: int
    start: int
    payload: int
    end: int


Piece = bytes | memoryview | Hole


def split(buffer: bytes | mmap | memoryview) -> tuple[bytes, dict[int, Span]]:
    """A model's bytes without its initializers' large ``raw_data``, and where in ``buffer`` that data lies.

    The spans are keyed by the initializer's number, counted from 0 in the order of the parsed
    ``graph.initializer`` (a ``graph`` field may come in several parts; the parser joins them). Raises
    FileError where a length does not fit, which every truncation inside a field does, and where one
    initializer has two ``raw_data`` fields, of which readers choose differently.
    """
    view = memoryview(buffer)
    spans: dict[int, Span] = {}

    def without_data(index: int, start: int, end: int) -> list[Piece] | None:
        found = list(_fields(view, start, end, RAW_DATA))
        if len(found) > 1:
            raise FileError(
                f"an initializer must have one raw_data field, but number {index} has {len(found)}"
            )
        if not found or found[0].wire_type != LENGTH or found[0].end - found[0].payload < SMALLEST:
            return None
        spans[index] = Span(found[0].payload, found[0].end - found[0].payload)
        return [view[start : found[0].start], view[found[0].end : end]]

    pieces = _with_initializers(view, without_data)
    return b"".join(piece for piece in pieces if not isinstance(piece, Hole)), spans


def splice(skeleton: bytes, tails: Mapping[int, Tail]) -> list[Piece]:
    """A skeleton's bytes in order, with each tail appended to the initializer that its key numbers.

    The data itself is not here: a ``Hole`` stands where it goes, and all lengths count it.
    """
    view = memoryview(skeleton)

    def with_tail(index: int, start: int, end: int) -> list[Piece] | None:
        tail = tails.get(index)
        if tail is None:
            return None
        pieces: list[Piece] = [view[start:end], tail.fields]
        if tail.length is not None:
            pieces += [_varint(RAW_DATA << 3 | LENGTH) + _varint(tail.length), Hole(index, tail.length)]
        return pieces

    return _with_initializers(view, with_tail)


def size(pieces: list[Piece]) -> int:
    """The number of bytes that the pieces take, holes filled."""
    return sum(piece.length if isinstance(piece, Hole) else len(piece) for piece in pieces)


def _with_initializers(
    view: memoryview, replace: Callable[[int, int, int], list[Piece] | None]
) -> list[Piece]:
    """The model with each initializer's payload replaced by ``replace(number, start, end)`` (None: kept)."""
    count = 0

    def initializer(start: int, end: int) -> list[Piece] | None:
        nonlocal count
        count += 1
        return replace(count - 1, start, end)

    def graph(start: int, end: int) -> list[Piece] | None:
        return _with_payloads(view, start, end, INITIALIZER, initializer)

    return _with_payloads(view, 0, len(view), GRAPH, graph) or [view]


def _with_payloads(
    view: memoryview, start: int, end: int, number: int, replace: Callable[[int, int], list[Piece] | None]
) -> list[Piece] | None:
    """The message ``view[start:end]`` with each payload of ``number`` replaced; None where none was."""
    pieces: list[Piece] = []
    copied = start
    for field in _fields(view, start, end, number):
        if field.wire_type != LENGTH:
            continue
        payload = replace(field.payload, field.end)
        if payload is None:
            continue
        pieces.append(view[copied : field.start])
        pieces.append(_varint(number << 3 | LENGTH) + _varint(size(payload)))
        pieces += payload
        copied = field.end
    if copied == start:
        return None
    pieces.append(view[copied:end])
    return pieces


def _fields(view: memoryview, start: int, end: int, wanted: int) -> Iterator[_Field]:
    """The fields of number ``wanted`` in the message ``view[start:end]``, which is walked to its end."""
    position = start
    while position < end:
        tag, payload = _read_varint(view, position, end)
        number, wire_type = tag >> 3, tag & 7
        if number == 0 or wire_type not in (VARINT, FIXED64, LENGTH, FIXED32):
            raise FileError(
                f"not a protobuf message: field {number} of wire type {wire_type} at byte {position}"
            )
        if wire_type == VARINT:
            stop = _read_varint(view, payload, end)[1]
        elif wire_type == LENGTH:
            length, payload = _read_varint(view, payload, end)
            stop = payload + length
        else:
            stop = payload + (8 if wire_type == FIXED64 else 4)
        if stop > end:
            raise FileError(
                f"truncated or damaged: field {number} at byte {position} needs {stop - payload} bytes, "
                f"{end - payload} are left"
            )
        if number == wanted:
            yield _Field(wire_type, position, payload, stop)
        position = stop


def _read_varint(view: memoryview, position: int, end: int) -> tuple[int, int]:
    """The varint at ``position``, and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):  # at most 10 bytes
        if position >= end:
            raise FileError(f"truncated or damaged: a number runs over the end at byte {end}")
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise FileError(f"not a protobuf message: a number of more than 10 bytes ends at byte {position}")


def _varint(value: int) -> bytes:
    """``value`` as a varint, in as few bytes as it takes."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
