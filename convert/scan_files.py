"""Inputs of a map and its outputs as files: one row a format.

    .npy .npz:NAME .csv         mapped, or through a temporary file
    .png .jpg .jpeg .tif .tiff  images, with the extra ``images``
    .zarr, .zarr:NAME           chunk by chunk, with the extra ``zarr``

Outputs are files that nobody sees until they are complete; ``.npy`` and ``.npz`` are filled through a mapping, on disk
space that is reserved before.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .atomic import NewFile, check_output, new_file, replacing
from .errors import MachineError, RequestError
from .image_files import open_pillow, open_tiff
from .mapped import let_go
from .numpy_files import write_npz
from .references import reading, split_at_ending
from .scanning import Plan
from .series_files import open_data
from .zarr_files import check_zarr, new_zarr, open_zarr

Array = NDArray[Any]


@dataclass(frozen=True)
class Opened:
    """An input that is open: ``axes`` are its letters where the format knows them."""

    array: Any
    axes: str | None


def _from_array(path: str, name: str) -> Opened:
    return Opened(open_data(f"{path}:{name}" if name else path), None)


def _from_csv(path: str, name: str) -> Opened:
    opened = _from_array(path, name)
    return Opened(opened.array, "TC"[: opened.array.ndim])


def _image(read: Callable[[str], tuple[Any, str | None]]) -> Callable[[str, str], Opened]:
    def opened(path: str, name: str) -> Opened:
        if name:
            raise RequestError("an image has no name inside", hint=f"leave out {':' + name!r}")
        return Opened(*read(path))

    return opened


INPUTS: dict[str, Callable[[str, str], Opened]] = {
    ".npy": _from_array,
    ".npz": _from_array,
    ".csv": _from_csv,
    ".png": _image(open_pillow),
    ".jpg": _image(open_pillow),
    ".jpeg": _image(open_pillow),
    ".tif": _image(open_tiff),
    ".tiff": _image(open_tiff),
    ".zarr": lambda path, name: Opened(open_zarr(path, name), None),
}
"""How an input is opened: (path, name in it)."""


def split_input(reference: str) -> tuple[str, str]:
    """A reference as (file, name in it); ``RequestError`` for a file whose ending is not in ``INPUTS``."""
    path, name = split_at_ending(reference.rstrip("/"), INPUTS, "an input")
    return path, name


@lru_cache(maxsize=4)
def _open(reference: str, changed: tuple[int, int]) -> Opened:  # noqa: ARG001 - another file is another key
    path, name = split_input(reference)
    read = next(read for ending, read in INPUTS.items() if path.lower().endswith(ending))
    with reading(path):
        return read(path, name)


class FileSource:
    """An array in a file, opened once a process and cut there: it is pickled as its name.

    Raises ``RequestError`` where there is no such file or name, ``FileError`` where it is damaged or holds no numbers,
    ``MachineError`` where the package that reads it is missing.
    """

    def __init__(self, reference: str) -> None:
        path, name = split_input(reference)
        self.path = str(Path(path).absolute())
        self._reference = f"{self.path}:{name}" if name else self.path
        try:
            status = os.stat(self.path)  # noqa: PTH116 - the file may be a name that is not UTF-8
        except (OSError, ValueError) as error:
            raise RequestError("no such file", file=path, hint="is the path right?") from error
        opened = _open(self._reference, (status.st_mtime_ns, status.st_size))
        self.array, self.axes = opened.array, opened.axes
        self.shape: tuple[int, ...] = tuple(map(int, self.array.shape))
        self.dtype, self.ndim = np.dtype(self.array.dtype), len(self.shape)

    def __reduce__(self) -> tuple[Any, ...]:
        return FileSource, (self._reference,)

    def __getitem__(self, index: Any, /) -> Array:
        block = np.array(self.array[index])
        let_go(self.array)
        return block


# Outputs.


def output_files(path: str, names: Sequence[str]) -> dict[str, str]:
    """The file of each output: ``path``; of several, with its name in front of the ending unless one file holds all.

    >>> output_files("out.npy", ["a", "b/c"]), output_files("out.npz", ["a", "b"])
    ({'a': 'out.a.npy', 'b/c': 'out.b_c.npy'}, {'a': 'out.npz', 'b': 'out.npz'})
    """
    ending = _ending(path)
    if len(names) == 1 or ending != ".npy":
        return dict.fromkeys(names, path)
    stem = path[: -len(ending)]
    files = {name: f"{stem}.{re.sub(r'[^A-Za-z0-9._-]', '_', name)}{path[len(stem) :]}" for name in names}
    if len(set(files.values())) < len(files):
        raise RequestError("two outputs would have the same file", file=path, hint="write them as one .npz")
    return files


def _ending(path: str) -> str:
    for ending in OUTPUTS:
        if path.lower().rstrip("/").endswith(ending):
            return ending
    raise RequestError(
        f"a map is written as {', '.join(OUTPUTS)}",
        file=path,
        hint="for example OUT.npy; --heatmap draws a class",
    )


def check_target(path: str, *, force: bool, inputs: Sequence[str]) -> None:
    """Refuse, before any work, an OUT of another format, one that exists, and one that is an input."""
    if _ending(path) == ".zarr":
        check_zarr(path, force=force, inputs=inputs)
    else:
        check_output(path, force=force, inputs=inputs)


def writing(
    path: str, plan: Plan, *, force: bool, inputs: Sequence[str], rows: "Rows | None" = None
) -> AbstractContextManager[Mapping[str, Any]]:
    """Arrays by output name for ``Plan.run`` to fill, which become ``path`` when the block ends well.

    ``rows`` writes the lines of a ``.csv``. Raises as ``check_target`` does, and ``MachineError`` where the disk has
    less room than the outputs need.
    """
    ending = _ending(path)
    files = output_files(path, [output.name for output in plan.scanner.outputs])
    for file in dict.fromkeys(files.values()):
        check_target(file, force=force, inputs=inputs)
    size = sum(prod(plan.shape(o)) * o.dtype.itemsize for o in plan.scanner.outputs)
    _check_disk(path, size * (2 if ending == ".npz" else 1))
    return OUTPUTS[ending](_Target(path, files, plan, force, inputs, rows))


Rows = Callable[[BinaryIO, Mapping[str, Array]], None]
"""Writes the lines of a ``.csv`` from the outputs."""


@dataclass(frozen=True)
class _Target:
    """What is written where: ``files`` has the file of each output, which is ``path`` where one holds all."""

    path: str
    files: Mapping[str, str]
    plan: Plan
    force: bool
    inputs: Sequence[str]
    rows: Rows | None


@contextmanager
def _as_npy(target: _Target) -> Iterator[Mapping[str, Any]]:
    with ExitStack() as stack:
        new = {name: stack.enter_context(new_file(file)) for name, file in target.files.items()}
        plan = target.plan
        yield {
            o.name: _mapped(new[o.name], plan.shape(o), o.dtype, header=True) for o in plan.scanner.outputs
        }
        for name, file in target.files.items():
            new[name].publish(Path(file).name, replace=target.force)


@contextmanager
def _through_files(target: _Target) -> Iterator[dict[str, Array]]:
    """Arrays in temporary files beside OUT."""
    with ExitStack() as stack:
        yield {
            o.name: _mapped(
                stack.enter_context(new_file(target.path)), target.plan.shape(o), o.dtype, header=False
            )
            for o in target.plan.scanner.outputs
        }


@contextmanager
def _as_npz(target: _Target) -> Iterator[Mapping[str, Any]]:
    with _through_files(target) as arrays:
        yield arrays
        with replacing(target.path, force=target.force, inputs=target.inputs) as file:
            write_npz(file, arrays)


@contextmanager
def _as_csv(target: _Target) -> Iterator[Mapping[str, Any]]:
    if target.rows is None:
        raise RequestError("a .csv holds the rows of a series, and which is for which step", file=target.path)
    with _through_files(target) as arrays:
        yield arrays
        with replacing(target.path, force=target.force, inputs=target.inputs) as file:
            target.rows(file, arrays)


@contextmanager
def _as_zarr(target: _Target) -> Iterator[Mapping[str, Any]]:
    plan = target.plan
    described = {o.name: (plan.shape(o), plan.chunks(o), o.dtype) for o in plan.scanner.outputs}
    with new_zarr(target.path, described, force=target.force, inputs=target.inputs) as arrays:
        yield arrays


OUTPUTS: dict[str, Callable[[_Target], AbstractContextManager[Mapping[str, Any]]]] = {
    ".npy": _as_npy,
    ".npz": _as_npz,
    ".csv": _as_csv,
    ".zarr": _as_zarr,
}
"""How outputs are written."""


def _mapped(new: NewFile, shape: tuple[int, ...], dtype: "np.dtype[Any]", *, header: bool) -> Array:
    """An array that is mapped into a new file, whose disk space is reserved: a full disk must not end in a signal."""
    file = new.file
    if header:
        described = np.lib.format.header_data_from_array_1_0(np.empty(0, dtype))
        np.lib.format.write_array_header_1_0(file, {**described, "shape": shape, "fortran_order": False})
    start, size = file.tell(), prod(shape) * dtype.itemsize
    file.flush()
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, start + size)
    mapped: Any = np.memmap(file, dtype, "r+", start, shape)
    array: Array = np.asarray(mapped)
    return array


def _check_disk(path: str, needed: int) -> None:
    free = shutil.disk_usage(Path(path).absolute().parent).free
    if needed > free:
        raise MachineError(
            f"the outputs need {needed} bytes, but only {free} are free on this disk",
            file=path,
            hint="write to another disk, or convert with a larger --stride: the map gets smaller",
        )
