"""Attributes of HDF5 groups as text, whichever Keras and h5py wrote them.

A name is str or bytes; a list of names is an array of fixed-length bytes or of strings, and a long one is in pieces
(Keras's HDF5_OBJECT_HEADER_LIMIT): ``layer_names`` = ``layer_names0`` + ``layer_names1`` + ..

Every attribute that is read is a chance for a damaged file to crash the HDF5 library, so only those that are needed
are read.
"""

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from ...errors import FileError
from ...strict_json import MOST_BYTES

_MOST_NAMES = 1_000_000


def text(group: h5py.Group, name: str) -> str | None:
    """The string attribute ``name``, None where there is none; ``FileError`` where it is something else."""
    if name not in group.attrs:
        return None
    value = _value(group, name)
    if value.shape != ():
        raise FileError(f"the attribute {name!r} of {group.name!r} must be one string, but it is an array")
    return _decoded(value[()], group, name)


def texts(group: h5py.Group, name: str) -> tuple[str, ...] | None:
    """The strings of the attribute ``name``, whole or in pieces; None and ``FileError`` as ``text``."""
    if name in group.attrs:
        return tuple(_strings(group, name))
    pieces: list[str] = []
    count = 0
    while f"{name}{count}" in group.attrs:
        pieces += _strings(group, f"{name}{count}")
        count += 1
    return tuple(pieces) if count else None


def has_texts(group: h5py.Group, name: str) -> bool:
    """Whether ``texts`` would find something."""
    return name in group.attrs or f"{name}0" in group.attrs


def count(group: h5py.Group, name: str) -> int | None:
    """The number attribute ``name``, None where there is none; ``FileError`` where it is no count."""
    if name not in group.attrs:
        return None
    value = _value(group, name, "iu")
    if value.size != 1 or value.item() < 0:
        raise FileError(f"the attribute {name!r} of {group.name!r} must be a count")
    return int(value.item())


def _value(group: h5py.Group, name: str, kinds: str = "") -> "np.ndarray[Any, np.dtype[Any]]":
    """The attribute as an array of strings, or of numbers of ``kinds``."""
    attribute = h5py.h5a.open(group.id, name.encode())
    if attribute.shape is None or 0 in attribute.shape:  # Keras writes no names as an empty array of floats
        return np.empty(0, "S1")
    size = attribute.get_storage_size()
    if size > MOST_BYTES or attribute.get_space().get_simple_extent_npoints() > _MOST_NAMES:
        raise FileError(f"the attribute {name!r} of {group.name!r} is too large: {size} bytes")
    if attribute.dtype.kind not in kinds and h5py.check_string_dtype(attribute.dtype) is None:
        raise FileError(f"the attribute {name!r} of {group.name!r} must be text, but it is {attribute.dtype}")
    return np.asarray(group.attrs[name])


def _strings(group: h5py.Group, name: str) -> Iterator[str]:
    for value in _value(group, name).ravel():
        yield _decoded(value, group, name)


def _decoded(value: Any, group: h5py.Group, name: str) -> str:
    try:
        text = value.decode("utf-8") if isinstance(value, bytes) else str(value)
        text.encode("utf-8")  # h5py makes surrogates of what is not UTF-8
        return text
    except UnicodeError as error:
        raise FileError(f"the attribute {name!r} of {group.name!r} is not UTF-8") from error
