"""A Keras network into a file: the legacy HDF5 file, or the .keras archive.

::

    .h5      model_config, keras_version, backend     root attributes
             /model_weights/<layer>/<layer>/kernel    layer_names; the layer's weight_names
    .keras   config.json, metadata.json               a zip archive that packs nothing
             model.weights.h5                         layers/conv2d_1/vars/0: the class in snake case, counted

HDF5 keeps an attribute in a header of 64 KiB, so that long lists of names are cut into ``layer_names0``, ``1`` ..
(keras/saving/legacy/hdf5_format.py, ``save_attributes_to_hdf5_group``). Arrays are written band by band.
"""

import json
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import h5py
import numpy as np

from ...bands import BUFFER
from ...mapped import source
from ...model import Array
from ..network import Layer
from ..reading.objects import snake_case
from ..reading.variables import variables
from .dialects import Dialect
from .draft import Written

_HEADER_LIMIT = 64512  # bytes of an attribute, as Keras has it

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # of a zip archive: the same map gives the same bytes


def write_h5(file: BinaryIO, config: Mapping[str, Any], written: Written, dialect: Dialect) -> None:
    """Fill ``file`` with a whole model as ``model.save("map.h5")`` writes it."""
    with h5py.File(file, "w") as out:
        out.attrs["keras_version"] = dialect.text
        out.attrs["backend"] = dialect.backend
        out.attrs["model_config"] = json.dumps(config)
        weights = out.create_group("model_weights")
        weights.attrs["keras_version"] = dialect.text
        weights.attrs["backend"] = dialect.backend
        layers = written.network.layers
        _set_names(weights, "layer_names", [layer.name for layer in layers])
        for layer in layers:
            group = weights.create_group(layer.name)
            arrays = written.arrays[layer.name,]
            ending = ":0" if dialect.major < 3 else ""
            names = [f"{layer.name}/{name}{ending}" for name in _variables(layer, len(arrays))]
            _set_names(group, "weight_names", names)
            for name, array in zip(names, arrays, strict=True):
                _write(group, name, array)
        _set_names(weights.create_group("top_level_model_weights"), "weight_names", [])


def write_keras(file: BinaryIO, config: Mapping[str, Any], written: Written, dialect: Dialect) -> None:
    """Fill ``file`` with an archive as ``model.save("map.keras")`` of Keras 3 writes it."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive, tempfile.TemporaryFile() as weights:
        archive.writestr(_member("metadata.json"), json.dumps({"keras_version": dialect.text}))
        archive.writestr(_member("config.json"), json.dumps(config))
        with h5py.File(weights, "w") as out:
            for place, layer in _places(written.network.layers):
                group = out.create_group(f"{place}/vars")
                group.attrs["name"] = layer.name
                for number, array in enumerate(written.arrays[layer.name,]):
                    _write(group, str(number), array)
            out.create_group("vars").attrs["name"] = written.network.name
        size = weights.seek(0, 2)
        weights.seek(0)
        with archive.open(_member("model.weights.h5"), "w", force_zip64=size >= 1 << 31) as member:
            shutil.copyfileobj(weights, member, BUFFER)


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, _EARLIEST)


def _places(layers: Sequence[Layer]) -> Iterator[tuple[str, Layer]]:
    """Where the variables of each layer lie: its class, and the how manieth of its class it is."""
    counts: Counter[str] = Counter()
    for layer in layers:
        name = snake_case(layer.kind)
        yield f"layers/{name}_{counts[name]}" if counts[name] else f"layers/{name}", layer
        counts[name] += 1


def _variables(layer: Layer, count: int) -> list[str]:
    """The names of a layer's variables."""
    known = [variable.name for variable in variables(layer)]
    return known if len(known) == count else [f"variable_{number}" for number in range(count)]


def _set_names(group: h5py.Group, attribute: str, names: Sequence[str]) -> None:
    """Set a list of names as an attribute, or as several where it is too long for one."""
    encoded = [name.encode() for name in names]
    size = max(map(len, encoded), default=1)
    most = _HEADER_LIMIT // size
    if len(encoded) <= most:
        group.attrs[attribute] = np.array(encoded, dtype=f"S{size}")
        return
    for number, start in enumerate(range(0, len(encoded), most)):
        group.attrs[f"{attribute}{number}"] = np.array(encoded[start : start + most], dtype=f"S{size}")


def _write(group: h5py.Group, name: str, array: Array) -> None:
    _fill(group.create_dataset(name, array.shape, array.dtype), array, ())


def _fill(dataset: h5py.Dataset, array: Array, place: tuple[int | slice, ...]) -> None:
    """Write ``array`` to ``dataset[place]``, no more than ``BUFFER`` bytes at a time, and keep no pages of its file."""
    if array.nbytes <= BUFFER:
        dataset[place] = array
        if (mapped := source(array)) is not None:
            mapped.release()
        return
    rows = BUFFER * len(array) // array.nbytes
    if not rows:
        for number, part in enumerate(array):
            _fill(dataset, part, (*place, number))
        return
    for start in range(0, len(array), rows):
        end = min(start + rows, len(array))
        _fill(dataset, array[start:end], (*place, slice(start, end)))
