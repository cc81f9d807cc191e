"""A Keras network while it is written: layers with names that nothing else has, their calls, their arrays."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...model import Array
from ..network import Call, Layer, Network, Path, Tensor, tensors
from .layer_order import keras_order
from .scanned import Scanned

Arrays = Mapping[Path, Sequence[Array]]


@dataclass(frozen=True)
class Written:
    """A network without nested models, the arrays of its layers, and the shape of each call's output.

    ``shapes`` are without the batch; None is a free size.
    """

    network: Network
    arrays: Arrays
    shapes: tuple[tuple[int | None, ...], ...]


@dataclass
class Draft:
    """Collects the calls of a flat network. ``reserved``: names that only those layers get that are called so
    in the patch network.
    """

    reserved: set[str]
    layers: list[Layer] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    shapes: list[tuple[int | None, ...]] = field(default_factory=list)
    arrays: dict[Path, Sequence[Array]] = field(default_factory=dict)
    _by_owner: dict[tuple[Hashable, str], Layer] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def add(
        self,
        layer: Layer,
        inputs: Sequence[Scanned],
        result: Scanned,
        arrays: Sequence[Array] = (),
        *,
        owner: Hashable,
        keeps_name: bool = False,
    ) -> Scanned:
        """Call ``layer`` on ``inputs``; return ``result`` as the output of that call.

        A layer with the same ``owner``, class and arguments is called again: it was shared. Its name is made
        unique; ``keeps_name``: it may be a reserved one.
        """
        shared = self._by_owner.get((owner, layer.kind))
        if shared is None or {**shared.config, "name": ""} != {**layer.config, "name": ""}:
            shared = replace(layer, name=self._fresh(layer.name, keeps_name))
            shared = replace(shared, config={**layer.config, "name": shared.name})
            self._taken.add(shared.name)
            self._by_owner[owner, layer.kind] = shared
            self.layers.append(shared)
            self.arrays[shared.name,] = tuple(arrays)
        tensors = [value.tensor for value in inputs]
        arguments = () if not tensors else (tensors[0],) if len(tensors) == 1 else (tensors,)
        self.calls.append(Call(shared, arguments))
        free = [None if axis in result.space else size for axis, size in enumerate(result.shape)]
        self.shapes.append(tuple(free))
        return replace(result, tensor=Tensor(len(self.calls) - 1))

    def name_of(self, value: Scanned) -> str:
        """The name of the layer that gives ``value``."""
        return self.calls[value.tensor.call].layer.name

    def release(self, name: str, owner: Hashable) -> None:
        """Give the layer that is called ``name``, if there is one and it is not that of ``owner``, another name."""
        holders = {layer.name: own for (own, _), layer in self._by_owner.items()}
        if holders.get(name, owner) == owner:
            return
        other = self._fresh(name, False)

        def renamed(layer: Layer) -> Layer:
            if layer.name != name:
                return layer
            return replace(layer, name=other, config={**layer.config, "name": other})

        self.layers = [renamed(layer) for layer in self.layers]
        self.calls = [replace(call, layer=renamed(call.layer)) for call in self.calls]
        self._by_owner = {owner: renamed(layer) for owner, layer in self._by_owner.items()}
        self.arrays[other,] = self.arrays.pop((name,))
        self._taken ^= {name, other}

    def _fresh(self, hint: str, keeps_name: bool) -> str:
        name, number = hint, 0
        while name in self._taken or (name in self.reserved and not (keeps_name and name == hint)):
            number += 1
            name = f"{hint}_{number}"
        return name

    def finished(self, name: str, inputs: Iterable[Tensor], outputs: Iterable[Tensor]) -> Written:
        """The network, without the layers that no output depends on, with the others in Keras's order."""
        needed = {tensor.call for tensor in (*inputs, *outputs)}
        for number in range(len(self.calls) - 1, -1, -1):
            if number in needed:
                needed |= {tensor.call for tensor in tensors(self.calls[number].arguments)}
        order = sorted(needed)
        place = {old: new for new, old in enumerate(order)}

        def moved(tensor: Tensor) -> Tensor:
            return Tensor(place[tensor.call])

        calls = tuple(Call(self.calls[i].layer, _moved(self.calls[i].arguments, place)) for i in order)
        kept = {call.layer.name for call in calls}
        layers = tuple(layer for layer in self.layers if layer.name in kept)
        network = Network(name, layers, calls, tuple(map(moved, inputs)), tuple(map(moved, outputs)))
        return Written(
            replace(network, layers=keras_order(network)),
            {path: arrays for path, arrays in self.arrays.items() if path[0] in kept},
            tuple(self.shapes[i] for i in order),
        )


def _moved(arguments: tuple[Any, ...], place: Mapping[int, int]) -> tuple[Any, ...]:
    def moved(argument: Any) -> Any:
        if isinstance(argument, list):
            return [moved(item) for item in argument]
        return Tensor(place[argument.call])

    return tuple(map(moved, arguments))
