"""An ONNX file opened: a skeleton that the parser reads, and weights that stay where they are.

An inline model is an external-data model whose data file is itself. The file is mapped, the large
``raw_data`` taken out of its bytes (wire), and the few KB that are left parsed; each large initializer,
inline or external, becomes a read-only numpy view of a mapped file. Opening therefore costs neither time nor
memory that grows with the weights.

Nothing of the file is trusted: lengths, dims, data types, locations and names are checked before they are
used.
"""

import errno
import os
import stat

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto, defs

from . import wire
from .errors import FileError, MachineError, RequestError
from .external import ExternalFiles
from .mapped import MappedFile, map_file
from .model import Array, Model
from .structure import check_structure
from .tensors import check_data, is_external, view_type

IR_VERSIONS = range(3, 15)  # what ONNX Runtime loads
OLDEST_OPSET = 7  # ONNX Runtime's own floor for Gemm
NEWEST_OPSET: int = defs.onnx_opset_version()
DEFAULT_DOMAINS = ("", "ai.onnx")

# The first bytes of files that are mistaken for ONNX: what they are, and what to do.
LOOKS_LIKE = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "is it a Keras .h5 file?"),
    (b"PK\x03\x04", "a zip archive", "a .keras or PyTorch file must be exported to ONNX first"),
    (b"\x1f\x8b", "a gzip file", "unpack it first: gunzip"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch the file: git lfs pull"),
    (b"<!doctype html", "a web page", "download the file itself, not the page that shows it"),
    (b"<html", "a web page", "download the file itself, not the page that shows it"),
    (b"\x80", "a Python pickle", "a PyTorch file must be exported to ONNX first"),
)


def open_model(path: str | os.PathLike[str], *, allow_links: bool = False) -> Model:
    """Open the ONNX file ``path``. ``allow_links`` lets its external data be symbolic or hard links.

    Every initializer of 1 KiB or more and every external one is in ``Model.weights``, as a view of the mapped
    file with the tensor's shape and type; types that numpy cannot view (strings, less than a byte) keep their
    data in the proto.

    Raises RequestError where there is no such file, FileError where it is not a sound ONNX model in a
    supported version, MachineError where the machine fails to read it. Errors about the content carry
    ``file``.
    """
    name = os.fspath(path)
    try:
        return _open(name, allow_links=allow_links)
    except (FileError, MachineError) as error:
        error.file = error.file or name
        raise


def _open(path: str, *, allow_links: bool) -> Model:
    mapped = _map_model(path)
    try:
        skeleton, spans = wire.split(mapped)
        proto = ModelProto.FromString(skeleton)
    except FileError as error:
        raise _not_onnx(mapped, error.message) from error
    except DecodeError as error:
        raise _not_onnx(mapped, "the parser refused it (damaged, or nested too deeply)") from error
    if not proto.HasField("graph"):
        raise _not_onnx(mapped, "it has no graph")
    if not proto.opset_import:
        raise _not_onnx(mapped, "it imports no operator set")
    _check_versions(proto)
    check_structure(proto)
    files = ExternalFiles(path, mapped.identity, allow_links=allow_links)
    model = Model(proto, path=path)
    for index, tensor in enumerate(proto.graph.initializer):
        _take_weight(model, tensor, mapped, spans.get(index), files)
    model.files = files.paths
    return model


def _map_model(path: str) -> MappedFile:
    """The file ``path``, mapped; raises where it cannot be or is empty."""
    try:
        # Without O_NONBLOCK a FIFO would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise RequestError("no such file", file=path, hint="is the path right?") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO):
            raise RequestError(
                f"cannot open the file: {error.strerror}",
                file=path,
                hint="is the path right, and may this user read it?",
            ) from error
        raise MachineError(f"cannot open the file: {error.strerror}") from error
    except ValueError as error:  # a NUL in the name
        raise RequestError("no such file: its name holds a NUL", file=path) from error
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise RequestError("a file is needed, but this is a directory", file=path)
        if not stat.S_ISREG(status.st_mode):
            raise FileError("a regular file is needed, but this is a device, pipe or socket")
        if not status.st_size:
            raise FileError("not an ONNX file: it is empty", hint="was the copy or download interrupted?")
        return map_file(descriptor, path)
    except OSError as error:
        raise MachineError(f"cannot map the file: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _not_onnx(mapped: MappedFile, reason: str) -> FileError:
    """The error for a file that is no ONNX model, with what it looks like instead."""
    head = bytes(memoryview(mapped)[:512]).lstrip(b"\xef\xbb\xbf \t\r\n")
    for magic, kind, hint in LOOKS_LIKE:
        if head.startswith(magic) or head[: len(magic)].lower() == magic:
            return FileError(f"not an ONNX file: it is {kind}", hint=hint)
    if head and all(byte >= 0x20 or byte in b"\t\r\n" for byte in head):
        return FileError("not an ONNX file: it is text", hint="only the binary protobuf form of ONNX is read")
    return FileError(
        f"not an ONNX file, or a damaged one: {reason}", hint="was the copy or download interrupted?"
    )


def _check_versions(proto: ModelProto) -> None:
    """Refuse versions of the format and of the default operator set that cannot be run."""
    if proto.ir_version not in IR_VERSIONS:
        raise FileError(
            f"ir_version must be {IR_VERSIONS.start} to {IR_VERSIONS.stop - 1}, but it is {proto.ir_version}",
            hint="export the model again with a current exporter",
        )
    versions = {opset.version for opset in proto.opset_import if opset.domain in DEFAULT_DOMAINS}
    if not versions:
        raise FileError(
            "the model must import ONNX's default operator set, but it imports only other domains"
        )
    if len(versions) > 1:
        raise FileError(
            f"the default operator set must be imported once, but versions {sorted(versions)} are"
        )
    version = versions.pop()
    if version < OLDEST_OPSET:
        raise FileError(
            f"opset must be {OLDEST_OPSET} or newer, but it is {version}",
            hint="convert it first: onnx.version_converter.convert_version(model, 13)",
        )
    if version > NEWEST_OPSET:
        raise FileError(
            f"opset {version} is newer than {NEWEST_OPSET}, the newest that the installed onnx knows",
            hint="pip install --upgrade onnx onnxruntime",
        )


def _take_weight(
    model: Model, tensor: TensorProto, mapped: MappedFile, span: wire.Span | None, files: ExternalFiles
) -> None:
    """Check one initializer; where its data is outside the proto, put a view of it into ``model.weights``."""
    size = check_data(tensor, f"initializer {tensor.name!r}", span.length if span else None)
    data = mapped, span.offset if span else 0
    if is_external(tensor):
        found = files.find(tensor, size)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        if not size or found is None:  # nothing to view: the dims alone say it all
            return
        data = found
    elif span is None:
        return
    view = _view(tensor, *data, size)
    if view is None:
        tensor.raw_data = bytes(memoryview(data[0])[data[1] : data[1] + size])
    else:
        model.weights[tensor.name] = view


def _view(tensor: TensorProto, mapped: MappedFile, offset: int, size: int) -> Array | None:
    """The ``size`` bytes at ``offset`` as an array of the tensor's type and dims, in row-major order."""
    dtype = view_type(tensor.data_type)
    if dtype is None:
        return None
    return np.frombuffer(mapped, dtype, count=size // dtype.itemsize, offset=offset).reshape(
        tuple(tensor.dims)
    )
