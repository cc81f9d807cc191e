"""A series in a file: ``.npy``, ``.npz:NAME`` or ``.csv``, as an array that is mapped, never read as a whole.

Each format is one row of ``FORMATS``. What cannot be mapped where it lies (packed, or text) goes through a temporary
file.
"""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .bands import BUFFER
from .csv_files import map_csv
from .errors import FileError, RequestError
from .numpy_files import Header, data_offset, map_array, map_npy, members, open_npz, read_header
from .references import reading, split_at_ending, unknown_name
from .scratch import spilled

Array = NDArray[Any]


def open_data(reference: str) -> Array:
    """The series that ``reference`` names: (steps, channels...), any number of channel axes; numbers of any type.

    The array is read-only and mapped. Raises ``RequestError`` where there is no such file or name, ``FileError``
    where the file is damaged, unsafe, or holds no numbers, ``MachineError`` where a temporary file has no room.
    """
    return _open(reference, "biufc", classes=False)


def open_labels(reference: str) -> Array:
    """The labels of a series: (steps,), or (steps, k) such as one-hot rows; real numbers. Else as ``open_data``."""
    labels = _open(reference, "biuf", classes=True)
    if labels.ndim > 2:
        path, _ = split_series(reference)
        raise FileError(f"labels are (steps,) or (steps, k), but these are {labels.shape}", file=path)
    return labels


def split_series(reference: str) -> tuple[str, str]:
    """A reference as (file, name in it); ``RequestError`` for a file whose ending is not in ``FORMATS``."""
    return split_at_ending(reference, FORMATS, "a series")


def _open(reference: str, kinds: str, *, classes: bool) -> Array:
    path, name = split_series(reference)
    read = next(read for ending, read in FORMATS.items() if path.lower().endswith(ending))
    with reading(path):
        array = read(path, name, classes)
        if array.dtype.kind not in kinds:
            raise FileError(
                f"numbers are needed, but this is an array of {array.dtype}",
                hint="number the classes first: numpy.unique(labels, return_inverse=True)[1]"
                if classes
                else "convert the array to numbers first",
            )
        if not array.ndim:
            raise FileError("an axis of steps is needed, but this is a single number")
        if not array.size:
            raise FileError(f"at least one step and one value are needed, but the array is {array.shape}")
    return array


def _from_npy(path: str, name: str, classes: bool) -> Array:  # noqa: ARG001
    _refuse_name(".npy", name)
    return map_npy(path)


def _from_csv(path: str, name: str, classes: bool) -> Array:
    _refuse_name(".csv", name)
    return map_csv(path, classes=classes)


def _refuse_name(ending: str, name: str) -> None:
    if name:
        raise RequestError(
            f"a {ending} file holds one array, which has no name", hint=f"leave out {':' + name!r}"
        )


def _from_npz(path: str, name: str, classes: bool) -> Array:  # noqa: ARG001
    with open_npz(path) as archive:
        known = members(archive)
        if not name and len(known) != 1:
            listed = ", ".join(list(known)[:20]) or "none"
            raise RequestError(
                f"which of its arrays is meant? There is {listed}", hint=f"name it: {path}:NAME"
            )
        name = name or next(iter(known))
        if name not in known:
            raise unknown_name(name, list(known))
        info = known[name]
        with archive.open(info) as stream:
            header = read_header(stream, info.file_size)
            if 0 in header.shape:
                return np.empty(header.shape, header.dtype)  # there is nothing to map
            pieces = _pieces(stream)
            if info.compress_type != zipfile.ZIP_STORED:
                return _unpacked(header, pieces)
            for _ in pieces:
                pass
    if info.compress_size != info.file_size:
        raise FileError(f"member {info.filename!r} claims {info.file_size} bytes in {info.compress_size}")
    with Path(path).open("rb") as file:
        return map_array(file, header, data_offset(file, info) + header.start)


def _unpacked(header: Header, pieces: Iterator[bytes]) -> Array:
    with spilled(pieces) as file:
        return map_array(file, header, 0)


def _pieces(stream: IO[bytes]) -> Iterator[bytes]:
    """The rest of a member, to its end: there the checksum is compared."""
    return iter(lambda: stream.read(BUFFER), b"")


FORMATS: dict[str, Callable[[str, str, bool], Array]] = {
    ".npy": _from_npy,
    ".npz": _from_npz,
    ".csv": _from_csv,
}
"""How an array is read from each kind of file: (path, name in it, whether whole numbers are class numbers)."""
