"""Whose each weight is, where a nested model saved all its weights in one group.

By name, where names settle it: ``[../]layer/variable[:0]``, in Keras 1 ``layer_variable``; a wrapper's may be
``wrapper/layer/variable``. Two models in the model may each have a layer of the same name, and Keras 2 renames what it
builds twice; then by the order in which Keras saves them (``variables.group_order``), unless the names contradict it.
"""

import re
from collections import Counter
from collections.abc import Sequence

from ...errors import FileError
from ..network import Layer, Path, leaves
from .variables import Variable, group_order, variables

_KERAS_1 = re.compile(r"(W|b|gamma|beta|running_mean|running_std|alphas)(:0)?")
_KNOWN = frozenset(
    {"kernel", "bias", "depthwise_kernel", "pointwise_kernel", "alpha", "gamma", "beta", "scale"}
    | {"moving_mean", "moving_variance", "mean", "variance", "count"}
)
_ALIASES = {"depthwise_kernel": "kernel"}  # what Keras 3 calls it


def owners(model: Layer, names: Sequence[str], major: int) -> list[Path]:
    """The layer that each of the weights ``names`` belongs to, by its path inside ``model``.

    Raises ``FileError`` where these cannot be the weights of the model's layers.
    """
    return _by_name(model, names) or _by_order(model, names, major)


def _by_name(model: Layer, names: Sequence[str]) -> list[Path] | None:
    """None unless each name fits one layer, and each layer gets as many as it needs."""
    assert model.inner is not None
    layers = dict(leaves(model.inner))
    found: list[Path] = []
    for name in names:
        fitting = [path for path, layer in layers.items() if _fits(name, layer)]
        if len(fitting) != 1:
            return None
        found += fitting
    counts = Counter(found)
    return found if all(counts[path] == len(variables(layer)) for path, layer in layers.items()) else None


def _fits(name: str, layer: Layer) -> bool:
    stem, _, last = name.rpartition("/")
    wrapped = [f"{layer.name}/{layer.wrapped.name}"] if layer.wrapped is not None else []
    if stem:
        return any(f"/{stem}".endswith(f"/{own}") for own in (layer.name, *wrapped))
    return last.startswith(f"{layer.name}_") and bool(_KERAS_1.fullmatch(last, len(layer.name) + 1))


def _by_order(model: Layer, names: Sequence[str], major: int) -> list[Path]:
    order = group_order(model, major)
    if len(order) != len(names):
        raise FileError(
            f"the layers of a nested model have {len(order)} weights, but the file has {len(names)} for them",
            layer=model.name,
            hint="is this the configuration that belongs to the weights?",
        )
    for name, (path, variable) in zip(names, order, strict=True):
        if not _agree(name, variable):
            raise FileError(
                f"in the order of the layers, {variable.name} of {'/'.join(path)!r} is next, "
                f"but the file has {name!r}",
                layer=model.name,
                hint="is this the configuration that belongs to the weights?",
            )
    return [path for path, _ in order]


def _agree(name: str, variable: Variable) -> bool:
    """Whether the last part of a name may be the variable's; a part that is no variable's says nothing."""
    last = name.rpartition("/")[2].removesuffix(":0")
    return last not in _KNOWN or last in (variable.name, _ALIASES.get(variable.name))
