"""Arrays in ``.npy`` and ``.npz`` files: a header is checked against the bytes behind it before it is believed.

An ``.npy`` is mapped into memory, and so is an array that lies in an ``.npz`` as it is (``numpy.savez``). No pickle
is loaded. Both are written front to back, from views, in pieces of bounded size.
"""

import math
import struct
import tokenize
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .bands import bands
from .errors import FileError
from .references import check_regular

Array = NDArray[Any]

_BEST_DEFLATE = 1100  # deflate packs at most 1032 : 1
_LOCAL_HEADER = struct.Struct("<26x2H")  # APPNOTE.TXT 4.3.7: the lengths of name and extra field stand last

_HEADER_READERS: dict[tuple[int, int], Callable[[IO[bytes]], Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class Header:
    """What an ``.npy`` stream says of its array; ``start`` is where in the stream the array begins, in bytes."""

    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"
    fortran: bool
    start: int


def read_header(stream: IO[bytes], size: int) -> Header:
    """The header of the ``.npy`` stream of ``size`` bytes.

    Raises ``FileError`` unless the array is there to the byte, ``ValueError`` where the stream is no ``.npy``.
    """
    version = np.lib.format.read_magic(stream)
    if version not in _HEADER_READERS:
        raise FileError(f".npy version {version} is none that an array of numbers needs")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # numpy names Python 2 as the writer
            shape, fortran, dtype = _HEADER_READERS[version](stream)
    except (SyntaxError, TypeError, tokenize.TokenError, MemoryError, RecursionError) as error:
        # numpy parses the header as a Python literal, and lets out what the parser raises
        raise ValueError("its header is no description of an array") from error
    start = stream.tell()
    declared, stored = math.prod(shape) * dtype.itemsize, size - start
    if not dtype.hasobject and (min(shape, default=0) < 0 or declared != stored):
        raise FileError(f"an array {shape} of {dtype} has {declared} bytes, but {stored} are there")
    return Header(tuple(map(int, shape)), dtype, fortran, start)


def map_array(file: IO[bytes], header: Header, start: int) -> Array:
    """The array of ``header``, mapped read-only from byte ``start`` of ``file``, which may be closed afterwards."""
    if header.dtype.hasobject:
        raise ValueError("an array of Python objects is a pickle, and none is loaded")
    order: Any = "F" if header.fortran else "C"
    # np.memmap opens the path again unless it is given the open file, which it does not close
    mapped: Any = np.memmap(file, header.dtype, "r", start, header.shape, order)
    array: Array = np.asarray(mapped)
    return array


def map_npy(path: str) -> Array:
    """The array of an ``.npy`` file, mapped read-only. Raises as ``read_header`` and ``check_regular`` do."""
    size = check_regular(path)
    with Path(path).open("rb") as file:
        header = read_header(file, size)
        return map_array(file, header, header.start)


@contextmanager
def open_npz(path: str) -> Iterator[zipfile.ZipFile]:
    """The ``.npz`` at ``path``, open for reading; ``FileError`` for members that cannot be what numpy writes."""
    check_regular(path)
    with zipfile.ZipFile(path) as archive:
        names = set()
        for info in archive.infolist():
            if info.filename in names:
                raise FileError(f"member {info.filename!r} is there twice")
            names.add(info.filename)
            if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise FileError(f"member {info.filename!r} is encrypted, or packed otherwise than by deflate")
            if info.file_size > _BEST_DEFLATE * (info.compress_size + 1):
                raise FileError(
                    f"member {info.filename!r} claims {info.file_size} bytes in {info.compress_size}"
                )
        yield archive


def members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members by the names that numpy shows: without ``.npy``."""
    return {info.filename.removesuffix(".npy"): info for info in archive.infolist()}


def member_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Header:
    """The header of one member; raises as ``read_header`` does."""
    with archive.open(info) as stream:
        return read_header(stream, info.file_size)


def data_offset(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Where in the zip file the bytes of a member begin; its local header was checked when it was opened."""
    file.seek(info.header_offset)
    name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    return int(info.header_offset + _LOCAL_HEADER.size + name + extra)


@dataclass(frozen=True)
class Blocks:
    """An array that is written without being in memory: its blocks along axis 0, which add up to ``shape``."""

    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"
    blocks: Iterable[Array]


def write_npy(file: IO[bytes], array: Array | Blocks) -> None:
    """Write ``array`` in row-major order behind the header that ``numpy.save`` gives it."""
    whole = array if isinstance(array, Blocks) else Blocks(array.shape, array.dtype, [array])
    header = np.lib.format.header_data_from_array_1_0(np.empty(0, whole.dtype))
    described = {**header, "shape": whole.shape, "fortran_order": False}
    np.lib.format.write_array_header_1_0(file, described)
    for block in whole.blocks:
        for band in bands(block):
            file.write(band)


def write_npz(file: BinaryIO, arrays: Mapping[str, Array | Blocks]) -> None:
    """Write named arrays as ``numpy.savez`` does, one after the other."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            # a fixed date (the earliest that zip knows): the same arrays give the same bytes
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                write_npy(member, array)
