"""A Keras model as data: layers, the calls that connect them, and where the file came from.

All dialects (Keras 1, 2, 3; Sequential and Functional; nested and shared models) become this one form. Class names and
arguments are those of Keras 2 and 3; nothing here is ever executed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Path = tuple[str, ...]
"""The names of the nested models around a layer, and the layer's own."""


@dataclass(frozen=True)
class Layer:
    """One layer: its class, its name, its arguments.

    ``inner`` is the model, where the layer is a nested model; ``wrapped`` the layer inside a wrapper such as
    TimeDistributed.
    """

    kind: str
    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    inner: "Network | None" = None
    wrapped: "Layer | None" = None


@dataclass(frozen=True)
class Tensor:
    """One output of one call: ``index`` into the outputs of ``Network.calls[call]``."""

    call: int
    index: int = 0


@dataclass(frozen=True)
class Call:
    """One use of a layer. ``arguments`` and ``keywords`` hold ``Tensor`` where the call reads one, in lists as well."""

    layer: Layer
    arguments: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Network:
    """A model: ``layers`` in the file's order, which orders the weights; ``calls`` in an order in which they run.

    ``inputs`` and ``outputs`` are in the order that the model declares; an input is the output of the call of an
    ``InputLayer``, which has no arguments.
    """

    name: str
    layers: tuple[Layer, ...]
    calls: tuple[Call, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Origin:
    """Which Keras wrote the file: its ``version``, as numbers, and its ``backend`` ("" where nothing says so)."""

    version: tuple[int, ...]
    backend: str = ""

    @property
    def major(self) -> int:
        """1, 2 or 3; what nothing is known of is taken for a 2."""
        return self.version[0] if self.version else 2

    @property
    def theano(self) -> bool:
        """Whether the model was trained on Theano, which flips kernels and pads SAME in a way of its own."""
        return self.backend == "theano"


def leaves(network: Network, prefix: Path = ()) -> Iterator[tuple[Path, Layer]]:
    """Every layer that is not a nested model, with its path, in the file's order."""
    for layer in network.layers:
        if layer.inner is not None:
            yield from leaves(layer.inner, (*prefix, layer.name))
        else:
            yield (*prefix, layer.name), layer


def tensors(argument: Any) -> Iterator[Tensor]:
    """The tensors in an argument, which may be a list of lists of them."""
    if isinstance(argument, Tensor):
        yield argument
    elif isinstance(argument, Mapping):
        for value in argument.values():
            yield from tensors(value)
    elif isinstance(argument, Sequence) and not isinstance(argument, str):
        for value in argument:
            yield from tensors(value)
