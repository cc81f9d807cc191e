"""Files mapped into memory, and the way back from a numpy view to the file that it shows."""

import mmap
import os
from pathlib import Path

import numpy as np

from .model import Array, Model


class MappedFile(mmap.mmap):
    """A whole file, mapped read-only as long as a view of it lives, whatever becomes of its name."""

    path: str  # as it was opened; may hold surrogates, where the name is not UTF-8
    identity: tuple[int, int]  # device and inode


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
