"""One weight in a file: ``.npy``, ``.npz:NAME``, ``.h5:PATH``, ``.onnx:INITIALIZER``.

A reference is a file, and behind a colon the array's name in it, which may hold colons itself (Keras calls a
weight ``dense/kernel:0``). The name may be left out where only one array of the file is what is looked for.

Each format is one row of ``FORMATS``. Nothing in a file is trusted: no pickle is loaded, and an array must be
there in full before memory is taken for it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .atomic import replacing
from .bands import BUFFER
from .errors import RequestError
from .hdf5 import check_dataset, dataset_at, datasets, open_hdf5, read_dataset
from .numpy_files import map_npy, member_header, members, open_npz, write_npy, write_npz
from .references import reading, split_at_ending, unknown_name

Array = NDArray[Any]


@dataclass(frozen=True)
class Entry:
    """An array in a file, not read yet. ``name`` is empty where a file holds only one."""

    name: str
    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"

    def __str__(self) -> str:
        return f"{self.name or 'the array'} {'x'.join(map(str, self.shape))} {self.dtype}"


def split_reference(reference: str) -> tuple[str, str]:
    """A reference as (file, name in it); ``RequestError`` for a file whose ending is not in ``FORMATS``."""
    return split_at_ending(reference, FORMATS, "a weight")


def find(reference: str, fits: Callable[[tuple[int, ...]], bool], wanted: str) -> tuple[str, Array]:
    """The array that ``reference`` names, or the only one of its file whose shape ``fits``, and its name.

    ``wanted`` says in words what fits. Raises ``RequestError`` where there is no such file or name, or not
    exactly one array that fits (it lists what there is), ``FileError`` where the file is damaged or unsafe.
    """
    path, name = split_reference(reference)
    handler = _format_of(path)
    with reading(path):
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


def _is_weight(dtype: "np.dtype[Any]") -> bool:
    return dtype.kind == "f" and dtype.itemsize in (2, 4, 8)


def _check_weight(dtype: "np.dtype[Any]") -> None:
    if not _is_weight(dtype):
        raise RequestError(f"a weight is float16, float32 or float64, but this is {dtype}")


# .npy: one array, mapped.


def _npy_entries(path: str) -> list[Entry]:
    array = map_npy(path)
    return [Entry("", array.shape, array.dtype)]


def _npy_read(path: str, name: str) -> Array:
    if name:
        raise RequestError("a .npy file holds one array, which has no name", hint=f"leave out {name!r}")
    array = map_npy(path)
    _check_weight(array.dtype)
    return array


def _npy_write(file: BinaryIO, arrays: Mapping[str, Array]) -> None:
    write_npy(file, next(iter(arrays.values())))


# .npz: a zip of .npy files.


def _npz_entries(path: str) -> list[Entry]:
    with open_npz(path) as archive:
        found = [(name, member_header(archive, info)) for name, info in members(archive).items()]
    return [Entry(name, head.shape, head.dtype) for name, head in found]


def _npz_read(path: str, name: str) -> Array:
    with open_npz(path) as archive:
        known = members(archive)
        if name not in known:
            raise unknown_name(name, list(known))
        _check_weight(member_header(archive, known[name]).dtype)
        with archive.open(known[name]) as stream:
            array: Array = np.lib.format.read_array(stream, allow_pickle=False)
            stream.read()  # to the end: there the checksum is compared
        return array


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
            raise unknown_name(name, [known for known, _ in datasets(file)])
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
        raise unknown_name(name, list(tensors))
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
    ".npz": Format(_npz_entries, _npz_read, write_npz),
    ".h5": Format(_h5_entries, _h5_read, _h5_write),
    ".hdf5": Format(_h5_entries, _h5_read, _h5_write),
    ".onnx": Format(_onnx_entries, _onnx_read, None),  # dense_layer writes networks
}
