"""Small Keras files, written with h5py and zipfile alone, and networks to read them with."""

import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np

from dense2conv.convert.keras.network import Layer, Network
from dense2conv.convert.keras.reading.files import open_file

REFERENCES = Path(__file__).parents[3] / "fixtures" / "references"


def model(*layers, kind="Sequential", name="net", **more):
    """The configuration of a model of ``(class, name, arguments)`` or of models."""
    listed = [
        layer
        if isinstance(layer, dict)
        else {"class_name": layer[0], "config": {"name": layer[1], **(layer[2] if layer[2:] else {})}}
        for layer in layers
    ]
    return {"class_name": kind, "config": {"name": name, "layers": listed, **more}}


def network(config):
    """The layers of a configuration, without the calls: all that weights depend on."""
    listed = config["config"]
    if isinstance(listed, dict):
        listed = listed["layers"]
    return Network("", tuple(map(_layer, listed)), (), (), ())


def _layer(item):
    kind, config = item["class_name"], item["config"]
    kind = {"Convolution1D": "Conv1D", "Convolution2D": "Conv2D"}.get(kind, kind)
    if isinstance(config, list) or "layers" in config:
        own = config if isinstance(config, dict) else {}
        name = own.get("name") or item["name"]
        return Layer(kind, name, {k: v for k, v in own.items() if k != "layers"}, inner=network(item))
    wrapped = _layer(config["layer"]) if kind == "TimeDistributed" else None
    return Layer(kind, config.get("name") or item["name"], config, wrapped=wrapped)


def values(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def legacy(path, config, groups, *, version="2.15.0", backend="tensorflow", root="model_weights", kind="S"):
    """A legacy file: ``groups`` is ``{layer: {weight name: array}}``. No ``root``: a file of weights alone."""
    with h5py.File(path, "w") as file:
        if root:
            file.attrs["model_config"] = json.dumps(config)
        for name, value in (("keras_version", version), ("backend", backend)):
            if value:
                file.attrs[name] = value
        top = file.create_group(root) if root else file
        write_names(top, "layer_names", list(groups), kind)
        for layer, weights in groups.items():
            group = top.create_group(layer)
            write_names(group, "weight_names", list(weights), kind)
            for name, array in weights.items():
                group[name] = array
    return str(path)


def write_names(group, attribute, names, kind="S"):
    """As Keras 1 and 2 (``S``: bytes) and as others do (``O``: strings)."""
    if not names:
        group.attrs[attribute] = np.array([])
    elif kind == "S":
        group.attrs[attribute] = np.array([name.encode() for name in names])
    else:
        group.attrs.create(attribute, names, dtype=h5py.string_dtype())


def objects(file, arrays, names=None):
    """The groups of a .weights.h5: ``arrays`` is ``{place: [array, ..]}``, ``names`` the layers' by place."""
    with h5py.File(file, "w") as out:
        out.create_group("layers")
        for place, own in arrays.items():
            group = out.create_group(f"{place}/vars")
            if names and place in names:
                group.attrs["name"] = names[place]
            for k, array in enumerate(own):
                group[str(k)] = array
    return str(file)


def archive(path, members, compress_type=zipfile.ZIP_STORED):
    """A zip archive of ``(name, bytes)``."""
    with zipfile.ZipFile(path, "w", compress_type) as out:
        for name, data in members:
            out.writestr(name, data)
    return str(path)


def keras_members(config, arrays, names=None, version="3.15.1"):
    """What Keras puts into a .keras archive, in its order."""
    weights = io.BytesIO()
    objects(weights, arrays, names)
    return [
        (
            "metadata.json",
            json.dumps({"keras_version": version, "date_saved": "2026-11-24@00:25:44"}).encode(),
        ),
        ("config.json", json.dumps(config).encode()),
        ("model.weights.h5", weights.getvalue()),
    ]


def read(path, config=None, *, described=None, **options):
    """All arrays of a file by the layer's path, and the file's origin."""
    with open_file(str(path), config, **options) as file:
        found = file.arrays(network(described or file.config))
        return {place: [item.array() for item in own] for place, own in found.items()}, file.origin


def same(found, expected):
    """Whether two lists of arrays are equal in number, shape and every value."""
    return len(found) == len(expected) and all(map(np.array_equal, found, expected))
