"""HDF5 read as data and nothing else.

An HDF5 file can name other files to read from (external links, external storage, virtual datasets), can
declare terabytes in a kilobyte, and reads as zeros where data is missing, all without an error. So only hard
links are followed, only plain datasets are read, and a dataset must have stored what it declares::

    contiguous:   stored = declared
    chunked:      every chunk is there;  stored >= declared, or with gzip  declared <= 1100 * stored

(deflate packs at most 1032 : 1). No attribute is read: damaged string attributes crash the HDF5 library. A
crash cannot be caught here; the command line reads in a child process.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from .errors import Dense2ConvError, FileError
from .references import check_regular

Array = NDArray[Any]

_ENOUGH_OBJECTS = 100_000
_DEEPEST = 64
_SLAB = 1 << 24  # bytes that are read at a time
_BEST_DEFLATE = 1100

# The filters of HDF5's own that are needed for weights; others load plug-ins, or are decoders of their own.
_FILTERS = {
    h5py.h5z.FILTER_DEFLATE: "gzip",
    h5py.h5z.FILTER_SHUFFLE: "shuffle",
    h5py.h5z.FILTER_FLETCHER32: "fletcher32",
}


@contextmanager
def open_hdf5(path: str) -> Iterator[h5py.File]:
    """The HDF5 file ``path``, open for reading. What h5py raises inside becomes a ``FileError``."""
    check_regular(path)
    with damage(path), h5py.File(path, "r") as file:
        yield file


@contextmanager
def damage(path: str) -> Iterator[None]:
    """Name the file in whatever goes wrong inside; what h5py raises becomes a ``FileError``."""
    try:
        yield
    except Dense2ConvError as error:
        error.file = error.file or path
        raise
    except MemoryError:
        raise
    except Exception as error:  # h5py raises OSError, RuntimeError, KeyError, ValueError, TypeError ..
        raise FileError(f"not an HDF5 file, or a damaged one: {error}", file=path) from error


def datasets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every dataset with its path; ``FileError`` at the first link that is not a hard one."""
    waiting: list[tuple[str, h5py.Group, int]] = [("", file["/"], 0)]
    seen = {file["/"].id}
    while waiting:
        prefix, group, depth = waiting.pop(0)
        for name in group:
            path = f"{prefix}{name}"
            item = _hard_linked(group, name)
            if isinstance(item, h5py.Dataset):
                yield path, item
            elif isinstance(item, h5py.Group) and item.id not in seen:  # hard links may form cycles
                seen.add(item.id)
                if len(seen) > _ENOUGH_OBJECTS or depth > _DEEPEST:
                    raise FileError(f"a weight file has at most {_ENOUGH_OBJECTS} groups, {_DEEPEST} deep")
                waiting.append((f"{path}/", item, depth + 1))


def dataset_at(file: h5py.File, path: str) -> h5py.Dataset | None:
    """The dataset ``path``, None where there is none; ``FileError`` where a link on the way is not hard."""
    item = item_at(file["/"], path)
    return item if isinstance(item, h5py.Dataset) else None


def item_at(group: h5py.Group, path: str) -> h5py.Group | h5py.Dataset | None:
    """What lies at ``path`` under ``group``, None where nothing does; raises as ``dataset_at`` does."""
    item: Any = group
    for name in path.strip("/").split("/"):
        known = isinstance(item, h5py.Group) and name not in ("", ".")
        if not known or not item.id.links.exists(_encoded(name)):
            return None
        item = _hard_linked(item, name)
    return item


def _hard_linked(group: h5py.Group, name: str) -> Any:
    if group.id.links.get_info(_encoded(name)).type != h5py.h5l.TYPE_HARD:
        link = group.get(name, getlink=True)
        target = " to " + repr(getattr(link, "filename", None) or getattr(link, "path", "?"))
        path = f"{group.name}/{name}".strip("/")
        raise FileError(f"only hard links are followed, but {path!r} is a {type(link).__name__}{target}")
    return group[name]


def _encoded(name: str) -> bytes:
    """A link's name as h5py encodes it."""
    return name.encode("utf-8", "surrogateescape")


def check_dataset(dataset: h5py.Dataset, path: str) -> None:
    """Raise ``FileError`` unless the dataset is floats that this file stores in full."""
    check_inside(dataset, path)
    if dataset.shape is None or dataset.dtype.kind != "f" or dataset.dtype.itemsize not in (2, 4, 8):
        raise FileError(f"a weight is float16, float32 or float64, but {path!r} is {dataset.dtype}")
    check_stored(dataset, path)


def check_inside(dataset: h5py.Dataset, path: str) -> None:
    """Raise ``FileError`` where the dataset's data is in another file or another dataset."""
    properties = dataset.id.get_create_plist()
    if properties.get_external_count():
        raise FileError(
            f"data must be in the file itself, but that of {path!r} is in {dataset.external[0][0]!r}"
        )
    if properties.get_layout() == h5py.h5d.VIRTUAL:
        raise FileError(f"data must be in the file itself, but {path!r} is a virtual dataset")


def check_stored(dataset: h5py.Dataset, path: str) -> None:
    """Raise ``FileError`` unless the file stores all that the dataset, which has a shape, declares."""
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    for code in filters:
        if code not in _FILTERS:
            raise FileError(
                f"the filters {', '.join(_FILTERS.values())} are read, but {path!r} has filter {code}"
            )
    declared = math.prod(dataset.shape) * dataset.id.get_type().get_size()
    stored = dataset.id.get_storage_size()
    if stored > h5py.h5i.get_file_id(dataset.id).get_filesize():
        raise FileError(f"{path!r} claims more bytes than the file has: {stored}")
    most = stored * _BEST_DEFLATE if h5py.h5z.FILTER_DEFLATE in filters else stored
    if declared > most:
        raise FileError(f"{path!r} declares {declared} bytes ({dataset.shape}), but stores {stored}")
    if properties.get_layout() == h5py.h5d.CHUNKED:
        pairs = zip(dataset.shape, dataset.chunks, strict=True)
        chunks = math.prod(-(-size // chunk) for size, chunk in pairs)
        if dataset.id.get_num_chunks() != chunks:
            raise FileError(f"{path!r} has {dataset.id.get_num_chunks()} of its {chunks} chunks")


def read_dataset(dataset: h5py.Dataset, path: str) -> Array:
    """The values of a dataset that passes ``check_dataset``, read in slabs of whole chunks."""
    check_dataset(dataset, path)
    return read_checked(dataset)


def read_checked(dataset: h5py.Dataset) -> Array:
    """The values of a dataset that is known to be stored in full, read in slabs of whole chunks."""
    array = np.empty(dataset.shape, dataset.dtype)
    if not array.size:  # there is nothing to read, on which old h5py (3.9) fails
        return array
    if not array.shape:
        dataset.read_direct(array)
        return array
    rows = max(1, _SLAB // max(1, array.nbytes // array.shape[0]))
    if dataset.chunks is not None:
        rows = -(-rows // dataset.chunks[0]) * dataset.chunks[0]
    for start in range(0, array.shape[0], rows):
        slab = np.s_[start : min(start + rows, array.shape[0])]
        dataset.read_direct(array, slab, slab)
    return array
