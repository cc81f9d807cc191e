"""The weights of a .weights.h5 file, also the one in a .keras archive: groups by class, not by the layers' names.

::

    layers/conv2d/vars/0   layers/conv2d_1/vars/0   layers/sequential/layers/dense/vars/0
    layers/time_distributed/layer/vars/0

A class in snake case, and ``_k`` for the k-th more of its class, in the order of the model's layers, those without
weights too. Keras 3 writes the layer's real name beside its variables, which is compared. Before Keras 2.15 the groups
lie under ``_layer_checkpoint_dependencies``, and before 2.14 a layer with weights counts twice there (it is listed once
as a layer and once as a layer with weights): the file decides.
"""

import re
from collections import Counter
from collections.abc import Iterator

import h5py

from ...errors import FileError
from ...hdf5 import datasets, item_at
from ..network import Layer, Network, Path
from .attributes import text
from .groups import Arrays, check_needless
from .stored import Slice, Stored, stored
from .variables import variables

LAYERS = "layers"
OLD_LAYERS = "_layer_checkpoint_dependencies"

_HINT = "is this the configuration that belongs to the weights?"


def assign_objects(root: h5py.File, source: Slice, network: Network) -> Arrays:
    """The arrays of each layer that is no nested model.

    Raises ``FileError`` where a layer has no group, a group no layer, or another name than its layer.
    """
    weights = {name: dataset for name, dataset in datasets(root) if "/vars/" in name}
    places = _fitting(network, set(weights))
    found: Arrays = {}
    used: set[str] = set()
    for path, layer, place in places:
        arrays = tuple(_variables(root, place, source))
        if not arrays:
            check_needless(layer, f"group {place!r}")
        else:
            _check_name(root, place, layer)
        used |= {array.name for array in arrays}
        found[path] = arrays
    for name, dataset in weights.items():
        # Integers are the states of random layers; the optimizer and its like lie elsewhere.
        if (
            name not in used
            and dataset.dtype.kind not in "iu"
            and name.startswith((f"{LAYERS}/", f"{OLD_LAYERS}/"))
        ):
            raise FileError(
                f"the file has weights at {name!r}, but the configuration has no layer for them", hint=_HINT
            )
    return found


def snake_case(name: str) -> str:
    """A class's name as Keras's ``to_snake_case`` writes it.

    >>> [snake_case(name) for name in ("Conv2DTranspose", "PReLU", "ReLU", "BatchNormalization")]
    ['conv2d_transpose', 'p_re_lu', 're_lu', 'batch_normalization']
    """
    plain = re.sub(r"\W+", "", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", plain)).lower()


def _fitting(network: Network, names: set[str]) -> list[tuple[Path, Layer, str]]:
    """Every layer that is no nested model, and where its variables lie in a file with datasets ``names``."""
    if not any(name.startswith(f"{OLD_LAYERS}/") for name in names):
        return list(_places(network, LAYERS, 1))
    once, twice = (list(_places(network, OLD_LAYERS, step)) for step in (1, 2))
    there = [sum(f"{place}/vars/0" in names for _, _, place in places) for places in (once, twice)]
    return once if there[0] >= there[1] else twice


def _places(
    network: Network, container: str, step: int, prefix: Path = (), above: str = ""
) -> Iterator[tuple[Path, Layer, str]]:
    """``step`` is how often a layer with weights counts."""
    counts: Counter[str] = Counter()
    for layer in network.layers:
        kind = snake_case(layer.kind)
        number = counts[kind]
        counts[kind] += step if _has_weights(layer) else 1
        place = f"{above}{container}/{kind}_{number}" if number else f"{above}{container}/{kind}"
        path = (*prefix, layer.name)
        if layer.inner is not None:
            yield from _places(layer.inner, container, step, path, f"{place}/")
        else:
            yield path, layer, f"{place}/layer" if layer.wrapped is not None else place


def _has_weights(layer: Layer) -> bool:
    if layer.inner is not None:
        return any(map(_has_weights, layer.inner.layers))
    return bool(variables(layer))


def _variables(root: h5py.Group, place: str, source: Slice) -> Iterator[Stored]:
    group = item_at(root, f"{place}/vars")
    if not isinstance(group, h5py.Group):
        return
    for k in range(len(group)):
        name = f"{place}/vars/{k}"
        dataset = item_at(root, name)
        if not isinstance(dataset, h5py.Dataset):
            raise FileError(f"the variables of a layer are numbered from 0, but {name!r} is missing")
        yield stored(dataset, name, source)


def _check_name(root: h5py.Group, place: str, layer: Layer) -> None:
    own = layer.wrapped if layer.wrapped is not None else layer
    name = text(item_at(root, f"{place}/vars"), "name")
    if name is not None and name != own.name:
        raise FileError(
            f"the weights at {place!r} are those of the layer {name!r}, but the configuration has "
            f"{own.name!r} there",
            hint=_HINT,
        )
