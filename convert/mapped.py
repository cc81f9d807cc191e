"""Files mapped into memory, and the way back from a numpy view to the file that it shows.

Pages of a mapping count as memory of the process from when they are read until the mapping goes, although the system
can take them back. What is read once, to be written, lets go of them on the way.
"""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .bands import bands
from .model import Array, Model

_HELD = 1 << 25  # bytes that are read before their pages are let go


class MappedFile(mmap.mmap):
    """A whole file, mapped read-only as long as a view of it lives, whatever becomes of its name."""

    path: str  # as it was opened; may hold surrogates, where the name is not UTF-8
    identity: tuple[int, int]  # device and inode

    def release(self) -> None:
        """Let go of the pages that were read; they are read again where they are needed."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.madvise(mmap.MADV_DONTNEED)


def map_file(descriptor: int, path: str) -> MappedFile:
    """Map the regular, not empty file that is open as ``descriptor``, which may be closed afterwards."""
    mapped = MappedFile(descriptor, 0, access=mmap.ACCESS_READ)
    status = os.fstat(descriptor)
    mapped.path = path
    mapped.identity = status.st_dev, status.st_ino
    return mapped


def source(array: Array) -> MappedFile | None:
    """The mapped file that ``array`` is a view of, or None where its data is in memory."""
    owner: object = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    return owner if isinstance(owner, MappedFile) else None


def source_files(model: Model) -> list[Path]:
    """The files that the model's weights are views of: the ONNX file itself, its external data, any other."""
    files = {mapped.path for mapped in map(source, model.weights.values()) if mapped is not None}
    return [Path(path) for path in sorted(files)]


def release(array: Array) -> None:
    """Let go of the pages of the file that ``array`` is a view of, if it is one; they are read again where needed."""
    mapped = source(array)
    if mapped is not None:
        mapped.release()


def read_once(array: Array) -> Iterator[memoryview]:
    """``bands(array)``, without keeping the pages of the mapped file behind it."""
    mapped = source(array)
    held = 0
    for band in bands(array):
        yield band
        held += len(band)
        if mapped is not None and held >= _HELD:
            mapped.release()
            held = 0
    if mapped is not None:
        mapped.release()


def let_go(array: object) -> None:
    """Let go of the pages of the mapped file that ``array`` shows; nothing for other arrays.

    The file is shared: what was written to it stays with the system, which takes it to the disk.
    """
    while isinstance(array, np.ndarray):
        array = array.base
    if isinstance(array, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.madvise(mmap.MADV_DONTNEED)
