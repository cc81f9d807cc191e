"""A .keras file: a zip archive of two JSON texts and the HDF5 file of the weights.

Keras stores the weights as they are, so they are read where they lie in the archive; packed ones go to a temporary file
first. Nothing is extracted by name, and the members are exactly those that Keras writes::

    config.json   metadata.json   model.weights.h5   [assets/ ..: never read, only vocabularies of text layers use it]
"""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from ...errors import FileError
from ...mapped import MappedFile, map_file
from ...numpy_files import data_offset
from ...references import reading
from ...scratch import spilled
from ...strict_json import MOST_BYTES
from .stored import Slice

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
ASSETS = "assets/"

_BEST_DEFLATE = 1100  # deflate packs at most 1032 : 1
_MOST_UNPACKED = (
    1 << 34
)  # 16 GiB of temporary file; trained weights hardly pack, and Keras does not pack them
_PIECE = 1 << 20


@dataclass(frozen=True)
class Archive:
    """The members of a .keras file: the JSON texts, and the weights as an HDF5 file."""

    config: bytes
    metadata: bytes
    weights: Slice


def read_archive(file: IO[bytes], mapped: MappedFile) -> Archive:
    """The .keras archive ``file``, which is also ``mapped``; it may be closed afterwards.

    Raises ``FileError`` where it is damaged or holds anything that Keras does not write, ``MachineError`` where
    there is no room to unpack it.
    """
    with reading(mapped.path), zipfile.ZipFile(file) as archive:
        known = _members(archive)
        texts = {name: _text(archive, known[name]) for name in (CONFIG, METADATA)}
        return Archive(texts[CONFIG], texts[METADATA], _weights(archive, known[WEIGHTS], file, mapped))


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The three members by name; ``FileError`` for one that is missing, there twice, or not Keras's."""
    found: dict[str, zipfile.ZipInfo] = {}
    names = [info.filename for info in archive.infolist()]
    if CONFIG not in names:
        kind = "a PyTorch file" if any(name.endswith("data.pkl") for name in names) else "some other archive"
        raise FileError(
            f"a .keras archive has a {CONFIG}, but this zip archive has none: it is {kind}",
            hint="a PyTorch file must be exported to ONNX first" if "PyTorch" in kind else "",
        )
    for info in archive.infolist():
        name = info.filename
        if name in found:
            raise FileError(f"the member {name!r} is there twice")
        if name not in (CONFIG, METADATA, WEIGHTS) and not name.startswith(ASSETS):
            raise FileError(
                f"a .keras archive holds {CONFIG}, {METADATA} and {WEIGHTS}, but this one holds {name!r}"
            )
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FileError(f"the member {name!r} is encrypted, or packed otherwise than by deflate")
        if info.file_size > _BEST_DEFLATE * (info.compress_size + 1):
            raise FileError(f"the member {name!r} claims {info.file_size} bytes in {info.compress_size}")
        found[name] = info
    for name in (METADATA, WEIGHTS):
        if name not in found:
            raise FileError(f"a .keras archive has the member {name!r}, but this one has not")
    return found


def _text(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size > MOST_BYTES:
        raise FileError(
            f"the member {info.filename!r} has at most {MOST_BYTES} bytes, but claims {info.file_size}"
        )
    return archive.read(info)  # no more than it claims, and its checksum is compared


def _weights(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: IO[bytes], mapped: MappedFile) -> Slice:
    if info.compress_type == zipfile.ZIP_STORED:
        # Read to the end, where the checksum is compared: HDF5 as Keras writes it has none.
        for _ in _pieces(archive, info):
            pass
        start = data_offset(file, info)
        if info.file_size != info.compress_size or start + info.file_size > len(mapped):
            raise FileError(f"the member {info.filename!r} does not lie in the archive")
        return Slice(mapped, start, info.file_size)
    if info.file_size > _MOST_UNPACKED:
        raise FileError(
            f"the member {info.filename!r} must unpack to at most {_MOST_UNPACKED} bytes, not {info.file_size}"
        )
    with spilled(_pieces(archive, info)) as unpacked:
        if not info.file_size:
            raise FileError(f"the member {info.filename!r} is empty")
        return Slice(map_file(unpacked.fileno(), mapped.path), 0, info.file_size)


def _pieces(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    with archive.open(info) as stream:
        while piece := stream.read(_PIECE):
            yield piece
