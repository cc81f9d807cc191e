"""Arrays in Zarr directories: read and written chunk by chunk, with the extra ``zarr``.

A new directory has a temporary name beside OUT until it is complete. An old one is put aside before, since a directory
cannot be replaced at once, and comes back if the new one cannot take its place.
"""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .atomic import DISK_ERRORS
from .errors import FileError, MachineError, RequestError
from .references import unknown_name

_MISSING = "pip install 'dense2conv[zarr]'"
_MARKS = ("zarr.json", ".zarray", ".zgroup")  # Zarr 3 and 2: what a directory of theirs holds


def _zarr(path: str) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise MachineError("zarr is not installed, and a .zarr needs it", file=path, hint=_MISSING) from error
    return zarr


def open_zarr(path: str, name: str) -> Any:
    """The array at ``path``, or the one called ``name`` in the group there.

    Raises ``RequestError`` where there is no such array, ``FileError`` where it cannot be opened.
    """
    zarr = _zarr(path)
    try:
        found = zarr.open(path, mode="r")
        names = [] if isinstance(found, zarr.Array) else sorted(key for key, _ in found.arrays())
        if name or not isinstance(found, zarr.Array):
            if not name and len(names) == 1:
                name = names[0]
            if not name:
                raise RequestError(
                    f"which array is meant? There is {', '.join(names) or 'none'}", hint=f"{path}:NAME"
                )
            try:
                found = found[name]
            except KeyError:
                raise unknown_name(name, names) from None
    except RequestError:
        raise
    except Exception as error:  # whatever zarr says
        raise FileError(f"not a Zarr directory that can be read: {error}", file=path) from error
    if not isinstance(found, zarr.Array):
        raise RequestError(f"{name!r} is a group, not an array", file=path)
    return found


def check_zarr(path: str, *, force: bool, inputs: Sequence[str]) -> None:
    """Refuse an OUT that is an input, or exists: with ``force`` only what is no Zarr directory."""
    _zarr(path)
    out = Path(path)
    for source in inputs:
        with suppress(OSError):
            if Path(source).samefile(out):
                raise RequestError(f"OUT must not be an input, but it is the same as {source!r}", file=path)
    if os.path.lexists(out):
        if not force:
            raise RequestError("OUT exists", file=path, hint="pass --force to replace it")
        if out.is_symlink() or not any((out / mark).is_file() for mark in _MARKS):
            raise RequestError("OUT exists and is no Zarr directory, so it is not replaced", file=path)
    if not out.parent.is_dir():
        raise RequestError(
            f"there is no directory {str(out.parent)!r}", file=path, hint="make it first: mkdir -p"
        )
    if not os.access(out.parent, os.W_OK):
        raise MachineError(f"cannot write into {str(out.parent)!r}", file=path)


@contextmanager
def new_zarr(
    path: str,
    arrays: Mapping[str, tuple[tuple[int, ...], tuple[int, ...], Any]],
    *,
    force: bool,
    inputs: Sequence[str],
) -> Iterator[dict[str, Any]]:
    """Zarr arrays to fill, which become ``path`` when the block ends well; else nothing is left of them.

    ``arrays``: shape, chunks and type by name; a single one is the directory itself, several are in a group.
    """
    check_zarr(path, force=force, inputs=inputs)
    zarr = _zarr(path)
    out = Path(path)
    new = out.parent / f".dense2conv-{secrets.token_hex(8)}.tmp"
    try:
        if len(arrays) > 1:
            zarr.open_group(new, mode="w-")
        made = {}
        for name, (shape, chunks, dtype) in arrays.items():
            place = {"name": name.replace("/", "_")} if len(arrays) > 1 else {}
            made[name] = zarr.create_array(new, shape=shape, chunks=chunks, dtype=dtype, **place)
        yield made
        _publish(new, out, force=force)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise  # about something else that the block did
        raise MachineError(f"cannot write it: {DISK_ERRORS[error.errno]}", file=path) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _publish(new: Path, out: Path, *, force: bool) -> None:
    old = out.parent / f".dense2conv-{secrets.token_hex(8)}.old"
    if force and out.exists():
        out.rename(old)
    elif out.exists():
        raise RequestError("OUT exists", file=str(out), hint="pass --force to replace it")
    try:
        new.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
