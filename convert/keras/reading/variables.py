"""The variables that a Keras layer creates, in the order in which it creates them.

A file names them or only counts them, so the order is Keras's own (``build`` of each class, Keras 2.15 and 3.12). A
layer saves its trainable variables first; in every class here they are also created first, so that order is both.
Freezing a layer (``trainable=False``) changes no order within it, but in a nested model it does::

    Keras 1, 2    trainable(model) + other(model),  each of them the layers' own, layer by layer;  a frozen model has
                  no trainable ones, and trainable + other of its layers as others
    Keras 3       the layers' variables, layer by layer, the trainable ones first;  a frozen model: as they come
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..network import Layer, Network, Path

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Variable:
    """A variable by Keras's name, and whether training changes it, as long as nobody freezes its layer."""

    name: str
    trainable: bool = True


def _plain(*names: str) -> Callable[[Config], tuple[Variable, ...]]:
    """Variables of these names, and a bias unless ``use_bias`` is false."""

    def found(config: Config) -> tuple[Variable, ...]:
        bias = ("bias",) if config.get("use_bias", True) else ()
        return tuple(map(Variable, (*names, *bias)))

    return found


def _einsum(config: Config) -> tuple[Variable, ...]:
    return (Variable("kernel"), *([Variable("bias")] if config.get("bias_axes") is not None else []))


def _scaled(config: Config) -> tuple[Variable, ...]:
    """``gamma`` and ``beta``; with ``rms_scaling`` gamma alone."""
    rms = config.get("rms_scaling", False)
    gamma = config.get("scale", True) or rms
    beta = config.get("center", True) and not rms
    return (*([Variable("gamma")] if gamma else []), *([Variable("beta")] if beta else []))


def _batch(config: Config) -> tuple[Variable, ...]:
    return (*_scaled(config), Variable("moving_mean", False), Variable("moving_variance", False))


def _normalization(config: Config) -> tuple[Variable, ...]:
    """Statistics that were given are arguments; those that ``adapt`` found are variables, with a count."""
    if config.get("mean") is not None:
        return ()
    return Variable("mean", False), Variable("variance", False), Variable("count", False)


VARIABLES: dict[str, Callable[[Config], tuple[Variable, ...]]] = {
    "Dense": _plain("kernel"),
    "EinsumDense": _einsum,
    "Conv1D": _plain("kernel"),
    "Conv2D": _plain("kernel"),
    "Conv3D": _plain("kernel"),
    "Conv1DTranspose": _plain("kernel"),
    "Conv2DTranspose": _plain("kernel"),
    "Conv3DTranspose": _plain("kernel"),
    "DepthwiseConv1D": _plain("depthwise_kernel"),  # Keras 3 calls it kernel
    "DepthwiseConv2D": _plain("depthwise_kernel"),
    "SeparableConv1D": _plain("depthwise_kernel", "pointwise_kernel"),
    "SeparableConv2D": _plain("depthwise_kernel", "pointwise_kernel"),
    "LocallyConnected1D": _plain("kernel"),
    "LocallyConnected2D": _plain("kernel"),
    "BatchNormalization": _batch,
    "SyncBatchNormalization": _batch,
    "LayerNormalization": _scaled,
    "GroupNormalization": _scaled,
    "RMSNormalization": lambda _: (Variable("scale"),),
    "Normalization": _normalization,
    "PReLU": lambda _: (Variable("alpha"),),
}


def variables(layer: Layer) -> tuple[Variable, ...]:
    """The variables of a layer that is no nested model; none for a class that is not in ``VARIABLES``."""
    if layer.wrapped is not None:
        inner = layer.wrapped
        if inner.inner is None:
            return _frozen(layer, variables(inner))
        return tuple(v for _, v in _in_turn(inner.inner, ()))
    rule = VARIABLES.get(layer.kind)
    return _frozen(layer, rule(layer.config)) if rule is not None else ()


def is_frozen(layer: Layer) -> bool:
    """Whether the configuration says that training does not change the layer."""
    return layer.config.get("trainable", True) is False


def group_order(model: Layer, major: int) -> list[tuple[Path, Variable]]:
    """The variables of a nested model in the order in which Keras ``major`` saves them in one group.

    Paths begin inside the model.
    """
    assert model.inner is not None
    if major < 3:
        trainable, other = _halves(model.inner, (), is_frozen(model))
        return trainable + other
    every = list(_in_turn(model.inner, ()))
    return every if is_frozen(model) else sorted(every, key=lambda item: not item[1].trainable)


def _frozen(layer: Layer, found: tuple[Variable, ...]) -> tuple[Variable, ...]:
    return tuple(Variable(v.name, False) for v in found) if is_frozen(layer) else found


def _in_turn(network: Network, prefix: Path) -> Iterator[tuple[Path, Variable]]:
    """The variables layer by layer."""
    for layer in network.layers:
        path = (*prefix, layer.name)
        if layer.inner is not None:
            yield from _in_turn(layer.inner, path)
        else:
            yield from ((path, variable) for variable in variables(layer))


def _halves(
    network: Network, prefix: Path, frozen: bool
) -> tuple[list[tuple[Path, Variable]], list[tuple[Path, Variable]]]:
    """The trainable variables and the others, as Keras 2 collects them."""
    trainable: list[tuple[Path, Variable]] = []
    other: list[tuple[Path, Variable]] = []
    for layer in network.layers:
        path = (*prefix, layer.name)
        if layer.inner is not None:
            first, second = _halves(layer.inner, path, is_frozen(layer))
        else:
            own = [(path, variable) for variable in variables(layer)]
            first = [item for item in own if item[1].trainable]
            second = [item for item in own if not item[1].trainable]
        trainable += first
        other += second
    return ([], trainable + other) if frozen else (trainable, other)
