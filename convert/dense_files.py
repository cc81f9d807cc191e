"""One weight in a file: ``.npy``, ``.npz:NAME``, ``.h5:PATH``, ``.onnx:INITIALIZER``.

A reference is a file, and behind a colon the array's name in it, which may hold colons itself (Keras calls a
weight ``dense/kernel:0``). The name may be left out where only one array of the file is what is looked for.

Each format is one row of ``FORMATS``. Nothing in a file is trusted: no pickle is loaded, and an array must be
there in full before memory is taken for it.
"""

import math
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .atomic import replacing
from .bands import BUFFER, bands
from .errors import Dense2ConvError, FileError, RequestError
from .hdf5 import check_dataset, check_regular, dataset_at, datasets, open_hdf5, read_dataset

Array = NDArray[Any]

_BEST_DEFLATE = 1100  # deflate packs at most 1032 : 1


@dataclass(frozen=True)
class Entry:
    """An array in a file, not read yet. ``name`` is empty where a file holds only one."""

    name: str
    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"

    def __str__(self) -> str:
        return f"{self.name or 'the array'} {'x'.join(map(str, self.shape))} {self.dtype}"


def split_reference(reference: str) -> tuple[str, str]:
    """A reference as (file, name in it).

    Where a colon is ambiguous, the first split whose file exists counts.

    Raises ``RequestError`` for a file whose ending is not in ``FORMATS``.

    >>> split_reference("dense.h5:model_weights/dense/kernel:0")
    ('dense.h5', 'model_weights/dense/kernel:0')
    """
    endings = "|".join(re.escape(ending) for ending in FORMATS)
    ends = [match.end() for match in re.finditer(rf"(?:{endings})(?=:|$)", reference, re.IGNORECASE)]
    if not ends:
        raise RequestError(
            f"a weight is read from {', '.join(FORMATS)}", file=reference, hint="for example weights.npz:NAME"
        )
    end = next((end for end in ends if os.path.exists(reference[:end])), ends[0])  # noqa: PTH110
    return reference[:end], reference[end + 1 :]


def find(reference: str, fits: Callable[[tuple[int, ...]], bool], wanted: str) -> tuple[str, Array]:
    """The array that ``reference`` names, or the only one of its file whose shape ``fits``, and its name.

    ``wanted`` says in words what fits. Raises ``RequestError`` where there is no such file or name, or not
    exactly one array that fits (it lists what there is), ``FileError`` where the file is damaged or unsafe.
    """
    path, name = split_reference(reference)
    handler = _format_of(path)
    with _about(path):
        if name:
            return reference, handler.read(path, name)
        entries = sorted(handler.entries(path), key=lambda entry: not _is_weight(entry.dtype))  # floats first
        fitting = [entry for entry in entries if _is_weight(entry.dtype) and fits(entry.shape)]
        if len(fitting) != 1:
            found = "; ".join(map(str, (fitting or entries)[:20])) or "there is no array"
            count = "several fit" if fitting else "none fits"
            named = len(entries) > 1 or fitting
            hint = (
                f"name it: {path}:NAME" if named else "is this the file, and do the sizes asked for fit it?"
            )
            raise RequestError(f"{wanted} is needed, in floats, and {count}: {found}", hint=hint)
        full_name = f"{path}:{fitting[0].name}" if fitting[0].name else path
        return full_name, handler.read(path, fitting[0].name)


def write_files(
    writers: Mapping[str, Callable[[BinaryIO], object]], *, force: bool = False, inputs: Sequence[str] = ()
) -> None:
    """Let each writer fill the file of its path; all of them appear when the last one is complete, or none.

    Raises as ``atomic.replacing`` does.
    """
    with ExitStack() as stack:
        for path, write in writers.items():
            write(stack.enter_context(replacing(path, force=force, inputs=inputs)))


def write_arrays(path: str, arrays: Mapping[str, Array]) -> Callable[[BinaryIO], None]:
    """What writes named arrays into an open file in the format of ``path``'s ending (``.npy``: only the first).

    Raises ``RequestError`` where that format is not written.
    """
    write = _format_of(path).write
    if write is None:
        raise RequestError("no arrays are written in this format", file=path)
    return lambda file: write(file, arrays)


def _format_of(path: str) -> "Format":
    for ending, handler in FORMATS.items():
        if path.lower().endswith(ending):
            return handler
    raise RequestError(f"a weight's file ends in {', '.join(FORMATS)}", file=path)


@contextmanager
def _about(path: str) -> Iterator[None]:
    """Name the file in whatever goes wrong inside."""
    try:
        yield
    except Dense2ConvError as error:
        error.file = error.file or path
        raise
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise FileError(f"cannot be read: {error}", file=path) from error


def _is_weight(dtype: "np.dtype[Any]") -> bool:
    return dtype.kind == "f" and dtype.itemsize in (2, 4, 8)


def _check_weight(dtype: "np.dtype[Any]") -> None:
    if not _is_weight(dtype):
        raise RequestError(f"a weight is float16, float32 or float64, but this is {dtype}")


def _unknown(name: str, names: list[str]) -> RequestError:
    return RequestError(f"there is no array {name!r}", hint=f"there is {', '.join(names[:20]) or 'none'}")


# .npy: one array, mapped.


def _npy_entries(path: str) -> list[Entry]:
    array = _npy_map(path)
    return [Entry("", array.shape, array.dtype)]


def _npy_read(path: str, name: str) -> Array:
    if name:
        raise RequestError("a .npy file holds one array, which has no name", hint=f"leave out {name!r}")
    array = _npy_map(path)
    _check_weight(array.dtype)
    return array


def _npy_map(path: str) -> Array:
    size = check_regular(path)
    with Path(path).open("rb") as file:
        _npy_header(file, size)
    array: Array = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    return array


def _npy_header(stream: IO[bytes], size: int) -> tuple[tuple[int, ...], "np.dtype[Any]"]:
    """Shape and type of the array in a .npy stream of ``size`` bytes; ``FileError`` unless its floats are all there."""
    readers: dict[tuple[int, int], Callable[[IO[bytes]], Any]] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(stream)
    if version not in readers:
        raise FileError(f".npy version {version} is none that an array of floats needs")
    try:
        shape, _, dtype = readers[version](stream)
    except Exception as error:  # numpy parses it as Python: ValueError, SyntaxError, TokenError ..
        raise FileError(f"the header of the array cannot be read: {error}") from error
    declared, stored = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if _is_weight(dtype) and (min(shape, default=0) < 0 or declared != stored):
        raise FileError(f"an array {shape} of {dtype} has {declared} bytes, but {stored} are there")
    return shape, dtype


def _npy_write(file: BinaryIO, arrays: Mapping[str, Array]) -> None:
    array = next(iter(arrays.values()))
    header = np.lib.format.header_data_from_array_1_0(np.empty(0, array.dtype))
    np.lib.format.write_array_header_1_0(file, {**header, "shape": array.shape, "fortran_order": False})
    for band in bands(array):
        file.write(band)


# .npz: a zip of .npy files.


def _npz_entries(path: str) -> list[Entry]:
    with _npz_open(path) as archive:
        found = [(info, *_npz_header(archive, info)) for info in archive.infolist()]
    return [Entry(_npz_name(info), shape, dtype) for info, shape, dtype in found]


def _npz_read(path: str, name: str) -> Array:
    with _npz_open(path) as archive:
        members = {_npz_name(info): info for info in archive.infolist()}
        if name not in members:
            raise _unknown(name, list(members))
        _check_weight(_npz_header(archive, members[name])[1])
        with archive.open(members[name]) as stream:
            array: Array = np.lib.format.read_array(stream, allow_pickle=False)
            stream.read()  # to the end: there the checksum is compared
        return array


@contextmanager
def _npz_open(path: str) -> Iterator[zipfile.ZipFile]:
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


def _npz_name(info: zipfile.ZipInfo) -> str:
    return info.filename.removesuffix(".npy")


def _npz_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[tuple[int, ...], "np.dtype[Any]"]:
    with archive.open(info) as stream:
        return _npy_header(stream, info.file_size)


def _npz_write(file: BinaryIO, arrays: Mapping[str, Array]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            # a fixed date (the earliest that zip knows): the same arrays give the same bytes
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                _npy_write(member, {name: array})  # type: ignore[arg-type] # it is written front to back


# .h5


def _h5_entries(path: str) -> list[Entry]:
    found = []
    with open_hdf5(path) as file:
        for name, dataset in datasets(file):
            if dataset.shape is not None:
                if _is_weight(dataset.dtype):
                    check_dataset(dataset, name)
                found.append(Entry(name, dataset.shape, dataset.dtype))
    return found


def _h5_read(path: str, name: str) -> Array:
    with open_hdf5(path) as file:
        dataset = dataset_at(file, name)
        if dataset is None:
            raise _unknown(name, [known for known, _ in datasets(file)])
        if dataset.shape is not None:
            _check_weight(dataset.dtype)
        return read_dataset(dataset, name)


def _h5_write(file: BinaryIO, arrays: Mapping[str, Array]) -> None:
    import h5py

    with h5py.File(file, "w") as out:
        for name, array in arrays.items():
            dataset = out.create_dataset(name, array.shape, array.dtype)
            rows = max(1, BUFFER * len(array) // max(1, array.nbytes))
            for start in range(0, len(array), rows):
                dataset[start : start + rows] = array[start : start + rows]


# .onnx


def _onnx_entries(path: str) -> list[Entry]:
    from .opening import open_model

    model = open_model(path)
    arrays = [(name, model.array(tensor)) for name, tensor in model.initializers().items()]
    return [Entry(name, array.shape, array.dtype) for name, array in arrays]


def _onnx_read(path: str, name: str) -> Array:
    from .opening import open_model

    model = open_model(path)
    tensors = model.initializers()
    if name not in tensors:
        raise _unknown(name, list(tensors))
    array: Array = model.array(tensors[name])
    _check_weight(array.dtype)
    return array


class Format(NamedTuple):
    """How one kind of file is read: its arrays, and one of floats by name; and how it is written."""

    entries: Callable[[str], list[Entry]]
    read: Callable[[str, str], Array]
    write: Callable[[BinaryIO, Mapping[str, Array]], None] | None


FORMATS: dict[str, Format] = {
    ".npy": Format(_npy_entries, _npy_read, _npy_write),
    ".npz": Format(_npz_entries, _npz_read, _npz_write),
    ".h5": Format(_h5_entries, _h5_read, _h5_write),
    ".hdf5": Format(_h5_entries, _h5_read, _h5_write),
    ".onnx": Format(_onnx_entries, _onnx_read, None),  # dense_layer writes networks
}
