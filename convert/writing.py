"""A model written to a file, without ever being whole in memory.

The skeleton is serialised by the ordinary parser's library; wire.splice says where the data goes and counts it in all
lengths; then the pieces are written in order, each weight band by band. A weight that nobody touched goes from the
mapped file to the new one as it is.

A protobuf message ends at 2 GiB. A larger model's weights go to a second file, ``<OUT>.<hash>.data``, named after its
content; it is complete before OUT names it, and OUT appears last, so at every moment OUT is whole. Two runs
that write the same weights write the same data file. A data file that a replaced OUT leaves behind is not removed:
another model may use it.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import EncodeError  # type: ignore[import-untyped]
from onnx import StringStringEntryProto, TensorProto

from . import wire
from .atomic import StrPath, check_output, new_file
from .errors import FileError
from .external import relative_parts
from .mapped import read_once, source_files
from .model import Array, Model
from .tensors import check_data, view_type

INLINE_LIMIT = 2**31 - 2**20  # bytes of a file with its weights inside; protobuf ends at 2**31 - 1
ALIGNMENT = 4096  # bytes; a page, so that programs can map single weights (ExternalData.md)


def write_model(model: Model, path: StrPath, *, force: bool = False, inputs: Sequence[StrPath] = ()) -> None:
    """Write ``model`` to the file ``path``, in one file if that is smaller than 2 GiB, else in two.

    ``inputs`` are files that must not be overwritten; those that the model came from always are among them.
    Raises RequestError and MachineError as ``atomic.replacing`` does, FileError where the graph without its weights
    is larger than protobuf allows, ValueError where a weight does not have its initializer's dims and type.
    """
    out = os.fspath(path)
    sources = (*inputs, *source_files(model), *([model.path] if model.path else []))
    check_output(out, force=force, inputs=sources)
    weights = _weights_by_index(model)
    skeleton = _serialize(model, out)
    pieces = wire.splice(
        skeleton, {index: wire.Tail(length=array.nbytes) for index, array in weights.items()}
    )
    if wire.size(pieces) <= INLINE_LIMIT:
        with new_file(out) as new:
            _write(new.file, pieces, weights)
            new.publish(Path(out).name, replace=force)
    else:
        _write_two(out, skeleton, weights, force=force)


def _weights_by_index(model: Model) -> dict[int, Array]:
    """The weights outside the proto, by their initializer's number; ValueError where an initializer is unsound."""
    weights = {}
    for index, tensor in enumerate(model.proto.graph.initializer):
        array = model.weights.get(tensor.name)
        if array is not None:
            if array.shape != tuple(tensor.dims) or array.dtype != view_type(tensor.data_type):
                raise ValueError(
                    f"the weight of initializer {tensor.name!r} is {array.dtype}{list(array.shape)}, but the "
                    f"initializer has data type {tensor.data_type} and dims {list(tensor.dims)}"
                )
            weights[index] = array
        try:
            check_data(tensor, f"initializer {tensor.name!r}", None if array is None else array.nbytes)
        except FileError as error:
            raise ValueError(f"this model must not be written: {error.message}") from error
    return weights


def _serialize(model: Model, out: str) -> bytes:
    """The skeleton's bytes; FileError where even they are too many."""
    try:
        skeleton: bytes = model.proto.SerializeToString()
    except EncodeError as error:
        raise FileError(
            "a graph without its large initializers must be smaller than 2 GiB, but this one is not", file=out
        ) from error
    return skeleton


def _write(file: BinaryIO, pieces: Iterable[wire.Piece], weights: Mapping[int, Array]) -> None:
    """Write the pieces in order, each hole filled with the bytes of its weight."""
    for piece in pieces:
        if isinstance(piece, wire.Hole):
            file.writelines(read_once(weights[piece.initializer]))
        else:
            file.write(piece)


def _write_two(out: str, skeleton: bytes, weights: Mapping[int, Array], *, force: bool) -> None:
    """Write the large weights to a data file beside ``out``, and to ``out`` the rest."""
    with new_file(out) as data, new_file(out) as new:
        spans, digest = _write_data(data.file, weights)
        data_path = Path(out).with_name(_data_name(Path(out).name, digest))
        pieces = wire.splice(
            skeleton,
            {
                index: wire.Tail(_reference(data_path.name, spans[index]))
                if index in spans
                else wire.Tail(length=array.nbytes)
                for index, array in weights.items()
            },
        )
        _write(new.file, pieces, weights)
        new.file.flush()  # a full disk shows before anything has a name
        was_there = data_path.exists()
        data.publish(data_path.name, replace=True)
        try:
            new.publish(Path(out).name, replace=force)
        except BaseException:
            if not was_there:
                data_path.unlink()
            raise


def _write_data(file: BinaryIO, weights: Mapping[int, Array]) -> tuple[dict[int, wire.Span], str]:
    """Write all weights but the small ones; where each lies, and the SHA-256 of the file."""
    digest = hashlib.sha256(usedforsecurity=False)
    spans: dict[int, wire.Span] = {}
    position = 0
    for index, array in weights.items():
        if array.nbytes < wire.SMALLEST:
            continue
        padding = memoryview(bytes(-position % ALIGNMENT))
        spans[index] = wire.Span(position + len(padding), array.nbytes)
        for part in chain([padding], read_once(array)):
            digest.update(part)
            file.write(part)
        position = spans[index].offset + array.nbytes
    return spans, digest.hexdigest()


def _data_name(name: str, digest: str) -> str:
    """The data file's name; one that a location may hold, whatever the model is called."""
    try:
        if len(name.encode()) > 200:  # a file name has at most 255 bytes
            name = "model"
        relative_parts(name, "OUT")
    except (UnicodeEncodeError, FileError):
        name = "model"
    return f"{name}.{digest[:16]}.data"


def _reference(location: str, span: wire.Span) -> bytes:
    """The encoded fields of a tensor whose data is in the file ``location``."""
    entries = {"location": location, "offset": str(span.offset), "length": str(span.length)}
    tensor = TensorProto(data_location=TensorProto.EXTERNAL)
    tensor.external_data.extend(StringStringEntryProto(key=key, value=text) for key, text in entries.items())
    encoded: bytes = tensor.SerializeToString()
    return encoded
