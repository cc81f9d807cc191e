"""The arrays of an HDF5 file that is mapped into memory: views where they lie, copies where they cannot be used so.

::

    contiguous, unfiltered, a native float    view of the map at  start + offset of the dataset
    anything else                             read through HDF5
    bfloat16 (two opaque bytes)               float32 whose upper half they are
"""

import io
import math
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ...errors import FileError
from ...hdf5 import check_inside, check_stored, damage, read_checked
from ...mapped import MappedFile

Array = NDArray[Any]


class Slice(io.RawIOBase):
    """Bytes of a mapped file as a file of their own, for h5py to read."""

    def __init__(self, mapped: MappedFile, start: int, length: int) -> None:
        self.mapped = mapped
        self.start = start
        self._view = memoryview(mapped)[start : start + length]
        self._at = 0

    def readable(self) -> bool:
        """True: it can be read."""
        return True

    def seekable(self) -> bool:
        """True: it has positions."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` from the position on; how many bytes there were."""
        piece = self._view[self._at : self._at + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to ``offset`` from the start, the position or the end."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._view)}[whence]
        return self._at

    def tell(self) -> int:
        """The position."""
        return self._at


@dataclass(frozen=True)
class Stored:
    """An array in a file, not read yet: its ``name`` there, its shape, and the type that ``array`` will have."""

    name: str
    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"
    dataset: h5py.Dataset
    source: Slice

    def array(self) -> Array:
        """The values, in row-major order and native bytes; the file must still be open.

        Raises ``FileError`` where the file is damaged.
        """
        with damage(self.source.mapped.path):
            array = self._view()
            if array is None:
                array = read_checked(self.dataset)
        if array.dtype.kind == "V":
            bits = array.view("<u2").reshape(self.shape).astype(np.uint32) << np.uint32(16)
            return bits.view(np.float32)
        return np.ascontiguousarray(array, self.dtype).reshape(self.shape)

    def _view(self) -> Array | None:
        """The values where they lie in the mapped file, or None where they are packed or in pieces there."""
        properties = self.dataset.id.get_create_plist()
        offset = self.dataset.id.get_offset()  # None too where nothing was ever written
        same = self.dataset.id.get_type().equal(h5py.h5t.py_create(self.dataset.dtype))
        if properties.get_layout() != h5py.h5d.CONTIGUOUS or offset is None or not same or not self.shape:
            return None
        count = math.prod(self.shape)
        if not count:
            return None
        data = self.source.mapped
        start = self.source.start + offset
        return np.frombuffer(data, self.dataset.dtype, count, start).reshape(self.shape)


def stored(dataset: h5py.Dataset, name: str, source: Slice) -> Stored:
    """The dataset as what it will be read as. ``name`` is its path in the file.

    Raises ``FileError`` unless it is floats, bfloat16 or a count, and stored in full in this file.
    """
    check_inside(dataset, name)
    found = dataset.dtype
    if dataset.shape is None or not _readable(found, dataset.shape):
        raise FileError(
            f"a weight is float16, bfloat16, float32 or float64, but {name!r} is {found}",
            hint="a quantised model is not read: save it in floats" if found.kind in "iu" else "",
        )
    check_stored(dataset, name)
    dtype = np.dtype(np.float32) if found.kind == "V" else found.newbyteorder("=")
    return Stored(name, tuple(map(int, dataset.shape)), dtype, dataset, source)


def _readable(dtype: "np.dtype[Any]", shape: tuple[int, ...]) -> bool:
    """Floats; bfloat16, which h5py shows as two opaque bytes; one integer, which Normalization has as a count."""
    if dtype.kind in "iu":
        return shape == ()
    return dtype == np.dtype("V2") or (dtype.kind == "f" and dtype.itemsize in (2, 4, 8))
