"""The weights of a legacy HDF5 file (Keras 1, 2, 3): one group a layer, its weights in the order of ``weight_names``.

::

    /model_weights  layer_names = [conv, sub, ..]        (a file of weights alone: the root itself)
    /model_weights/conv  weight_names = [conv/kernel:0, conv/bias:0]
    /model_weights/conv/conv/kernel:0                    the prefix is whatever the layer was called when it was built

A nested model is one group, which ``nested`` deals out. A Keras 1 model that begins with a Merge has no group for the
merged models, but one for each of their layers. The oldest files (``nb_layers``) number everything::

    /layer_{k}  nb_params = n        /layer_{k}/param_{p}
"""

from collections.abc import Iterable, Iterator, Sequence

import h5py

from ...errors import FileError
from ...hdf5 import item_at
from ..network import Layer, Network, Path, leaves
from .attributes import count, texts
from .nested import owners
from .stored import Slice, Stored, stored
from .variables import variables

Arrays = dict[Path, tuple[Stored, ...]]

_HINT = "is this the configuration that belongs to the weights?"


def weight_names(root: h5py.Group) -> dict[str, tuple[str, ...]]:
    """The weights' names of each layer that has a group, in the file's order.

    Raises ``FileError`` where the file does not say, or a group is missing.
    """
    names = texts(root, "layer_names")
    if names is None:
        raise FileError(f"a group of Keras weights has layer_names, but {root.name!r} has none")
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        group = item_at(root, name)
        if not isinstance(group, h5py.Group):
            raise FileError(f"layer_names lists {name!r}, but the file has no such group")
        weights = texts(group, "weight_names")
        if weights is None:
            raise FileError(f"a layer's group has weight_names, but {group.name!r} has none")
        if name in found:
            raise FileError(f"layer_names lists {name!r} twice")
        found[name] = weights
    return found


def assign_groups(root: h5py.Group, source: Slice, network: Network, major: int) -> Arrays:
    """The arrays of each layer that is no nested model, from the groups under ``root``.

    Raises ``FileError`` where a layer has no group, a group no layer, or a nested model not the weights of its layers.
    """
    names = weight_names(root)
    found: Arrays = {}
    used: set[str] = set()

    def visit(layers: Sequence[Layer], prefix: Path) -> None:
        for layer in layers:
            if layer.name in names:
                used.add(layer.name)
                own = names[layer.name]
                found.update(_deal(layer, prefix, own, _arrays(root, layer.name, own, source), major))
            elif layer.inner is not None:
                visit(layer.inner.layers, (*prefix, layer.name))
            else:
                check_needless(layer, f"group {layer.name!r}")
                found[*prefix, layer.name] = ()

    visit(network.layers, ())
    for name, weights in names.items():
        if weights and name not in used:
            raise FileError(
                f"the file has {len(weights)} weights of a layer {name!r}, but the configuration has no such layer",
                hint=_HINT,
            )
    return found


def assign_numbered(root: h5py.Group, source: Slice, network: Network) -> Arrays:
    """As ``assign_groups``, for the oldest files: layers by their number."""
    number = count(root, "nb_layers")
    layers: Sequence[Layer] = network.layers
    if number != len(layers):  # a Sequential of then had no layer for the input
        layers = [layer for layer in layers if layer.kind != "InputLayer"]
    if number != len(layers):
        raise FileError(
            f"the file has the weights of {number} layers, but the configuration has {len(layers)}",
            hint=_HINT,
        )
    found: Arrays = {path: () for path, _ in leaves(network)}
    for k, layer in enumerate(layers):
        group = item_at(root, f"layer_{k}")
        weights = count(group, "nb_params") if isinstance(group, h5py.Group) else None
        if group is None or weights is None:
            raise FileError(f"the file has no group 'layer_{k}' with nb_params", layer=layer.name, hint=_HINT)
        if not weights:
            check_needless(layer, f"weights in 'layer_{k}'")
        own = [f"param_{p}" for p in range(min(weights, len(group)))]
        if len(own) != weights:
            raise FileError(f"'layer_{k}' declares {weights} weights, but has {len(own)}", layer=layer.name)
        found.update(_deal(layer, (), own, _arrays(root, f"layer_{k}", own, source), 1))
    return found


def check_needless(layer: Layer, missing: str) -> None:
    """Raise ``FileError`` where a layer of this class has weights; ``missing`` is what the file has not."""
    needed = ", ".join(variable.name for variable in variables(layer))
    if needed:
        raise FileError(
            f"a {layer.kind} needs {needed}, but the file has no {missing}", layer=layer.name, hint=_HINT
        )


def _arrays(root: h5py.Group, name: str, weights: Iterable[str], source: Slice) -> Iterator[Stored]:
    group = item_at(root, name)
    for weight in weights:
        path = f"{root.name}/{name}/{weight}".lstrip("/")
        dataset = item_at(group, weight)
        if not isinstance(dataset, h5py.Dataset):
            raise FileError(f"the file lists the weight {path!r}, but has no such dataset")
        yield stored(dataset, path, source)


def _deal(layer: Layer, prefix: Path, names: Sequence[str], arrays: Iterable[Stored], major: int) -> Arrays:
    """The arrays of one group to the layer, or to the layers of a nested model."""
    path = (*prefix, layer.name)
    if layer.inner is None:
        return {path: tuple(arrays)}
    found: dict[Path, list[Stored]] = {place: [] for place, _ in leaves(layer.inner)}
    for owner, array in zip(owners(layer, names, major), arrays, strict=True):
        found[owner].append(array)
    return {(*path, *place): tuple(own) for place, own in found.items()}
