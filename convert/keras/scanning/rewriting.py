"""A patch network in Keras as its map in Keras: the calls one after the other, nested models as the calls in them.

The result is one Functional network without nested models. Its layers keep their names and arguments, except for what
must change; ``rewrites`` says what each of them becomes, and ``scanned`` how the axes in front of a dense layer are
followed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...errors import FileError
from ...model import Array
from ..emit import Graph
from ..layers.wrappers import ALIKE
from ..network import Call, Layer, Network, Path, Tensor, tensors
from ..step import Options, Step
from .draft import Draft, Written
from .rewrites import REWRITES
from .rewrites.windows import subsampled
from .scanned import Scanned
from .turn import Turn


def rewritten(
    network: Network,
    arrays: Mapping[Path, Sequence[tuple[str, Array]]],
    options: Options,
    *,
    shape: Sequence[int],
    spatial_axes: Sequence[int],
    stride: Sequence[int],
    size: Sequence[int | None] | None = None,
    batch: int | None = None,
) -> Written:
    """The map of ``network``, which has one input.

    ``shape``: the input's on the patch, without the batch; ``spatial_axes``: which of its axes slide, the batch
    counted; ``stride``: of the map in pixels, one number for each of them. ``size`` and ``batch`` fix the map's
    input, else it stays free. Raises ``FileError``, which names the layer, for what a map in Keras cannot hold.
    """
    rewriting = _Rewriting(arrays, options, tuple(stride))
    sizes = dict(zip(spatial_axes, size or [None] * len(spatial_axes), strict=True))
    given = [batch, *(sizes.get(axis, n) for axis, n in enumerate(shape, 1))]
    return rewriting.map(network, shape, [axis - 1 for axis in spatial_axes], given)


class _Rewriting:
    """One network while it is rewritten."""

    def __init__(
        self, arrays: Mapping[Path, Sequence[tuple[str, Array]]], options: Options, stride: tuple[int, ...]
    ) -> None:
        self.arrays, self.options, self.stride = arrays, options, stride
        self.draft = Draft(set())

    def map(
        self, network: Network, shape: Sequence[int], space: Sequence[int], given: Sequence[int | None]
    ) -> Written:
        """The map; ``space`` as in ``Scanned``, ``given`` is its input's shape with the batch."""
        if len(network.inputs) != 1:
            raise FileError(f"a map in Keras has one input, but the network has {len(network.inputs)}")
        self.draft.reserved = {call.layer.name for call in network.calls}
        value = Scanned(Tensor(0), tuple(shape), tuple(space), (1,) * len(space))
        old = network.calls[network.inputs[0].call].layer
        layer = Layer("InputLayer", old.name, {**old.config, "batch_shape": list(given)})
        value = self.draft.add(layer, [], value, owner=(old.name,), keeps_name=True)
        outputs = []
        for tensor, found in zip(network.outputs, self._run(network, [value], ()), strict=True):
            outputs.append(self._output(network.calls[tensor.call].layer, found))
        return self.draft.finished(network.name, [value.tensor], [output.tensor for output in outputs])

    def _output(self, layer: Layer, value: Scanned) -> Scanned:
        """An output: one vector for each position, at the map's stride, from a layer of the old output's name."""
        turn = self._turn(Call(layer), (layer.name,), [value], {})
        if not value.collapsed:
            raise turn.refusal(f"it gives {'x'.join(map(str, value.sizes))} positions for one patch, not one")
        if not value.in_order:
            raise turn.refusal("it gives its elements in another order than the layer that computes them")
        value = replace(subsampled(turn, value), order=None)
        if self.draft.name_of(value) == layer.name:
            return value
        named = Layer("Activation", layer.name, {"activation": "linear", "trainable": True})
        dtype = layer.config.get("dtype")
        if dtype is not None:
            named = replace(named, config={**named.config, "dtype": dtype})
        owner = ("output", layer.name)
        self.draft.release(layer.name, owner)
        return self.draft.add(named, [value], value, owner=owner, keeps_name=True)

    def _run(self, network: Network, inputs: Sequence[Scanned], prefix: Path) -> list[Scanned]:
        """Rewrite the calls of a model; return its outputs."""
        values = dict(zip(network.inputs, inputs, strict=True))
        for number, call in enumerate(network.calls):
            if call.layer.kind == "InputLayer":
                continue
            read = [values[tensor] for tensor in tensors([*call.arguments, call.keywords])]
            path = (*prefix, call.layer.name)
            if call.layer.inner is not None:
                found = self._run(call.layer.inner, read, path)
            else:
                found = [self._layer(call, read, path, values)]
            values.update({Tensor(number, index): value for index, value in enumerate(found)})
        return [values[tensor] for tensor in network.outputs]

    def _layer(
        self, call: Call, inputs: list[Scanned], path: Path, values: Mapping[Tensor, Scanned]
    ) -> Scanned:
        turn = self._turn(call, path, inputs, values)
        rule = REWRITES.get(turn.layer.kind)
        if rule is None:
            raise turn.refusal(f"the layer {turn.layer.kind} is not supported")
        return rule(turn)

    def _turn(
        self, call: Call, path: Path, inputs: Sequence[Scanned], values: Mapping[Tensor, Scanned]
    ) -> Turn:
        layer = call.layer
        if layer.kind == "TimeDistributed" and layer.wrapped is not None and layer.wrapped.kind in ALIKE:
            layer = replace(layer.wrapped, name=layer.name)  # does to each step what it does to all of them
        read = Step(layer, "/".join(path), [], (), {}, Graph(), self.options, iter(()))
        return Turn(
            layer,
            path,
            read,
            inputs,
            _bound(call.arguments, values),
            _bound(call.keywords, values),
            [array for _, array in self.arrays.get(path, ())],
            self.draft,
            self.stride,
        )


def _bound(value: Any, values: Mapping[Tensor, Scanned]) -> Any:
    """``value`` with each tensor in it as what it is in the map."""
    if isinstance(value, Tensor):
        return values[value]
    if isinstance(value, Mapping):
        return {key: _bound(item, values) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_bound(item, values) for item in value)
    return value
