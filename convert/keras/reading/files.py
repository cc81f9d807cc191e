"""A Keras file opened: what it is, its configuration as data, where it came from, and its arrays.

What a file is, is found from its content, never from its name::

    zip archive                                .keras            config.json
    HDF5, attribute model_config               legacy model      that attribute; weights under /model_weights
    HDF5, attribute layer_names                legacy weights    --config
    HDF5, attribute nb_layers                  Keras 0.x, 1.0    --config
    HDF5, group layers (or its older name)     .weights.h5       --config

The file is mapped, and HDF5 reads it from there. Weights become views of the mapping, so that opening costs neither
time nor memory that grows with them.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import h5py

from ...errors import Dense2ConvError, FileError, RequestError
from ...hdf5 import damage, item_at
from ...mapped import map_file
from ...references import check_regular
from ...strict_json import MOST_BYTES, parse
from ..network import Network, Origin, Path
from .attributes import has_texts, text
from .groups import assign_groups, assign_numbered, weight_names
from .objects import LAYERS, OLD_LAYERS, assign_objects
from .provenance import decided, declared, merged, version_of
from .signatures import is_hdf5, is_zip
from .stored import Slice, Stored

_HEAD = 1 << 20  # where the signature of an HDF5 file with a user block is looked for
_WEIGHTS = "model_weights"

Arrays = Mapping[Path, tuple[Stored, ...]]


@dataclass(frozen=True)
class KerasFile:
    """An open Keras file. ``config`` is its configuration, ``{"class_name": .., "config": ..}``, parsed and no more."""

    path: str
    config: Mapping[str, Any]
    origin: Origin
    _assign: Callable[[Network], Arrays] = field(repr=False)

    def arrays(self, network: Network) -> Arrays:
        """The arrays of each layer of ``network`` that is no nested model, in the order in which Keras creates them.

        ``network`` is what ``config`` describes. Raises ``FileError`` where the file is damaged or unsafe, or its
        weights are not those of the network's layers.
        """
        with damage(self.path):
            return self._assign(network)


@dataclass(frozen=True)
class _Given:
    """What the user says beside the file: the path of a configuration, and whether kernels are flipped."""

    config: str | None
    flip: bool | None


@contextmanager
def open_file(path: str, config: str | None = None, *, flip: bool | None = None) -> Iterator[KerasFile]:
    """Open the Keras file ``path``; its arrays can be read until the block is left, views of it stay.

    ``config`` is the path of a ``model.to_json()``, for a file that holds weights alone. ``flip`` says whether the
    weights are Theano's, and counts only where the file cannot tell.

    Raises ``RequestError`` where there is no such file, or ``config`` or ``flip`` is missing or ``config`` is too much;
    ``FileError`` where the file is damaged, unsafe or no Keras file.
    """
    hdf5, opened = _open(path, _Given(config, flip))
    try:
        yield opened
    finally:
        hdf5.close()


def _open(path: str, given: _Given) -> tuple[h5py.File, KerasFile]:
    check_regular(path)
    with damage(path), FilePath(path).open("rb") as file:
        head = file.read(_HEAD)
        if not is_zip(head) and not is_hdf5(head):
            raise FileError("not a Keras file: it is neither HDF5 nor a zip archive")
        mapped = map_file(file.fileno(), path)
        if is_zip(head):
            from .archive import CONFIG, METADATA, read_archive

            archive = read_archive(file, mapped)
            _check_complete(given, "a .keras archive")
            document = _model(parse(archive.config, CONFIG), CONFIG)
            version = parse(archive.metadata, METADATA).get("keras_version")
            origin = Origin(version_of(version) if isinstance(version, str) else ())
            hdf5 = h5py.File(archive.weights, "r")
            return hdf5, KerasFile(path, document, origin, _objects(hdf5, archive.weights))
        source = Slice(mapped, 0, len(mapped))
        hdf5 = h5py.File(source, "r")
        return hdf5, _read(path, hdf5, source, given)


def _read(path: str, hdf5: h5py.File, source: Slice, given: _Given) -> KerasFile:
    """The HDF5 file as the first kind that it is."""
    if "model_config" in hdf5.attrs:
        return _model_file(path, hdf5, source, given)
    if has_texts(hdf5, "layer_names"):
        return _legacy_weights(path, hdf5, source, given)
    if "nb_layers" in hdf5.attrs:
        document, said = _configuration(given, "a weights file of an early Keras")
        origin = decided(said.version or (1,), said.backend, tuple, given.flip)
        return KerasFile(path, document, origin, lambda network: assign_numbered(hdf5["/"], source, network))
    if LAYERS in hdf5 or OLD_LAYERS in hdf5:
        document, origin = _configuration(given, "a .weights.h5 file")
        return KerasFile(path, document, origin, _objects(hdf5, source))
    names = ", ".join(map(repr, list(hdf5)[:5])) or "nothing"
    raise FileError(
        f"an HDF5 file, but not one of Keras: it has no model_config, no layer_names and no layers; it holds {names}",
        hint="a single array of it can be read by: dense2conv kernel FILE.h5:NAME",
    )


def _model_file(path: str, hdf5: h5py.File, source: Slice, given: _Given) -> KerasFile:
    _check_complete(given, "the file of a whole model")
    group = item_at(hdf5["/"], _WEIGHTS)
    if not isinstance(group, h5py.Group):
        raise FileError(
            f"a Keras model file has its weights in the group {_WEIGHTS!r}, but this one has none"
        )
    document = _model(parse(text(hdf5, "model_config") or "", "model_config"), "model_config")
    origin = _legacy_origin(hdf5, group, given, Origin(()))
    return KerasFile(path, document, origin, _groups(group, source, origin))


def _legacy_weights(path: str, hdf5: h5py.File, source: Slice, given: _Given) -> KerasFile:
    document, said = _configuration(given, "a file of weights alone")
    origin = _legacy_origin(hdf5, hdf5["/"], given, said)
    return KerasFile(path, document, origin, _groups(hdf5["/"], source, origin))


def _legacy_origin(hdf5: h5py.File, group: h5py.Group, given: _Given, said: Origin) -> Origin:
    """From the attributes of the file, or of its weights, and from what the configuration ``said``."""
    version, backend = (text(hdf5, name) or text(group, name) or "" for name in ("keras_version", "backend"))
    written = Origin(version_of(version) or (1,), backend)
    both = merged(said, written)

    def names() -> Iterator[str]:
        for weights in weight_names(group).values():
            yield from weights

    return decided(both.version, both.backend, names, given.flip)


def _groups(group: h5py.Group, source: Slice, origin: Origin) -> Callable[[Network], Arrays]:
    return lambda network: assign_groups(group, source, network, origin.major)


def _objects(hdf5: h5py.File, source: Slice) -> Callable[[Network], Arrays]:
    return lambda network: assign_objects(hdf5, source, network)


def _check_complete(given: _Given, kind: str) -> None:
    if given.config is not None:
        raise RequestError(
            f"{kind} has its own configuration, so none is taken from elsewhere", hint="leave out --config"
        )


def _configuration(given: _Given, kind: str) -> tuple[Mapping[str, Any], Origin]:
    """The configuration that the user names, for a file ``kind`` that has none."""
    if given.config is None:
        raise RequestError(
            f"{kind} does not say what the network is",
            hint="give what model.to_json() writes: --config model.json",
        )
    try:
        size = check_regular(given.config)
        if size > MOST_BYTES:
            raise FileError(f"a configuration has at most {MOST_BYTES} bytes, but this file has {size}")
        document = _model(
            parse(FilePath(given.config).read_bytes(), "the configuration"), "the configuration"
        )
    except Dense2ConvError as error:
        error.file = error.file or given.config
        raise
    return document, declared(document)


def _model(document: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    if not isinstance(document.get("class_name"), str) or not isinstance(document.get("config"), dict | list):
        raise FileError(f"{what} must have a class_name and a config, as model.to_json() writes them")
    return document
