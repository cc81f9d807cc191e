"""One call of a layer while it is translated: what its rule may ask for.

A rule takes a ``Step`` and returns the call's ``Value``. It asks for the layer's arguments by Keras's names, for the
stored arrays one after the other, in Keras's order and with the shape that each must have, and writes nodes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import FileError
from ..model import Array
from .emit import Graph, Value, moved_order
from .network import Layer, Origin

Rule = Callable[["Step"], Value]

# An activation's name, and its arguments.
Activation = tuple[str, Mapping[str, Any]]

_ABSENT: Any = object()


@dataclass(frozen=True)
class Options:
    """What holds for a whole translation: where the file came from, and what the caller decided about it.

    ``data_format``: what a layer has that does not say; ``activations``: known ones by the names of custom ones;
    ``flip``: whether the kernels are those of a true convolution.
    """

    origin: Origin
    data_format: str = "channels_last"
    activations: Mapping[str, Activation] = field(default_factory=dict)
    flip: bool = False


@dataclass
class Step:
    """One call: ``inputs`` in order, ``arguments`` and ``keywords`` as the file has them (tensors are ``Value``).

    ``name`` is the layer's, with those of the models around it; ``arrays`` are the stored ones not asked for yet,
    with their names in the file.
    """

    layer: Layer
    name: str
    inputs: list[Value]
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    graph: Graph
    options: Options
    arrays: Iterator[tuple[str, Array]]

    @property
    def input(self) -> Value:
        """The one input. Raises ``FileError`` where there are several."""
        if len(self.inputs) != 1:
            raise self.refusal(f"{self.layer.kind} reads one tensor, but this call reads {len(self.inputs)}")
        return self.inputs[0]

    def refusal(self, message: str, hint: str = "") -> FileError:
        """The error that names this layer."""
        return FileError(
            message, layer=self.name, hint=hint or "rebuild the model without it, or export it to ONNX"
        )

    # Arguments.

    def argument(self, name: str, default: Any = _ABSENT) -> Any:
        """An argument of the layer; ``default`` where the file does not have it. Raises ``FileError`` without one."""
        value = self.layer.config.get(name, default)
        if value is _ABSENT:
            raise self.refusal(f"{self.layer.kind} must say its {name}, but it does not")
        return value

    def integer(self, name: str, default: Any = _ABSENT) -> int:
        """A positive integer argument."""
        return self._positive(self.argument(name, default), name)

    def number(self, name: str, default: Any = _ABSENT) -> float:
        """A finite number; Keras 3 may write it as an array in a dictionary."""
        value = self.argument(name, default)
        if isinstance(value, Mapping):
            value = value.get("config", {}).get("value", value.get("value"))
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
            raise self.refusal(f"{name} must be a number, but it is {value!r}")
        return float(value)

    def sizes(self, name: str, rank: int, default: Any = _ABSENT) -> tuple[int, ...]:
        """One positive integer an axis, from a list of them or one for all."""
        value = self.argument(name, default)
        if isinstance(value, (list, tuple)):
            if len(value) == 1:
                value = list(value) * rank
            if len(value) != rank:
                raise self.refusal(f"{name} must have {rank} numbers, but it is {value}")
            return tuple(self._positive(v, name) for v in value)
        return (self._positive(value, name),) * rank

    def _positive(self, value: Any, name: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 31:
            raise self.refusal(f"{name} must be a positive integer, but it is {value!r}")
        return value

    @property
    def channels_last(self) -> bool:
        """Whether the layer takes its input's last axis for the channels.

        A layer of one spatial axis that does not say so does: such layers have been able to do anything else since
        Keras 2.2 only, which writes it.
        """
        if stated := self.argument("data_format", None):
            return bool(stated == "channels_last")
        return "1D" in self.layer.kind or self.options.data_format == "channels_last"

    # Stored arrays.

    def array(self, what: str, shape: Sequence[int]) -> Array:
        """The layer's next stored array, in the graph's floating type. Raises ``FileError`` for another shape."""
        name, array = next(self.arrays, ("", None))
        if array is None:
            raise FileError(
                f"the file must hold its {what} {_x(shape)}, but has no more arrays of it",
                layer=self.name,
                hint="do the weights belong to this architecture?",
            )
        if array.shape != tuple(shape):
            raise FileError(
                f"its {what} must be {_x(shape)}, but {name!r} is {_x(array.shape)}",
                layer=self.name,
                hint="do the weights belong to this architecture?",
            )
        return array.astype(self.graph.float_type, copy=False)

    def constant(self, what: str, array: Array) -> str:
        """An initializer that is called after the layer."""
        return self.graph.constant(f"{self.name}/{what}", array)

    def weight(self, what: str, shape: Sequence[int]) -> str:
        """The layer's next stored array, as an initializer."""
        return self.constant(what, self.array(what, shape))

    def bias(self, size: int) -> list[str]:
        """The layer's bias as a node's further operand; none where it has none."""
        return [self.weight("bias", [size])] if self.argument("use_bias", True) else []

    # Nodes.

    def emit(self, operator: str, inputs: Sequence[str], suffix: str = "", **attributes: Any) -> str:
        """Append a node. The layer's main one has no ``suffix``, and what Keras calls the layer."""
        kind = "" if suffix else self.layer.kind
        name = f"{self.name}/{suffix}" if suffix else self.name
        return self.graph.emit(operator, inputs, name, kind, **attributes)

    def channels_first(self, value: Value | None = None) -> tuple[str, int, tuple[int | None, ...]]:
        """A value as ``(N, C, *space)``: its tensor, the number of channels, the sizes of the space."""
        value = value or self.input
        last = self.channels_last
        channels = value.shape[-1] if last else value.shape[1]
        if channels is None:
            raise self.refusal("the number of channels must be known, but it is free")
        space = value.shape[1:-1] if last else value.shape[2:]
        return self.graph.moved(value) if last and value.rank > 2 else self.graph.own(value), channels, space

    def placed(
        self, name: str, channels: int, space: Sequence[int | None], like: Value | None = None
    ) -> Value:
        """The value whose tensor ``name`` is ``(N, C, *space)``, with its axes where the layer has them."""
        batch = (like or self.input).shape[0]
        if self.channels_last:
            return self.graph.made((batch, *space, channels), name, moved=True)
        return self.graph.made((batch, channels, *space), name)

    def pointwise(
        self, operator: str, value: Value, operands: Sequence[str] = (), suffix: str = "", **attributes: Any
    ) -> Value:
        """Append a node that treats every element alike, in the form that the value has."""
        moved = not value.own
        name = self.emit(operator, [value.moved if moved else value.own, *operands], suffix, **attributes)
        return self.graph.made(value.shape, name, moved=moved)

    def form(self, value: Value) -> tuple[str, bool]:
        """A tensor that ``value`` has already, and whether it is the moved one."""
        return (value.own, False) if value.own else (value.moved, True)

    def aligned(self, value: Value, what: str, array: Array) -> str:
        """A constant that broadcasts against the form that ``value`` has.

        ``array`` has the last axes of ``value``, in Keras's order; where an axis is 1 it is the same all along.
        """
        if array.ndim and not value.own:
            array = array.reshape((1,) * (value.rank - array.ndim) + array.shape)
            array = array.transpose(moved_order(value.rank))
        return self.constant(what, array.astype(self.graph.float_type, copy=False))

    def axis(self, value: Value, axis: int) -> int:
        """An axis of ``value``, counted from the front. Raises ``FileError`` where it is none, or the batch."""
        if isinstance(axis, bool) or not isinstance(axis, int) or not -value.rank <= axis < value.rank:
            raise self.refusal(f"axis {axis!r} of a tensor with {value.rank} axes")
        if axis % value.rank == 0:
            raise self.refusal("an axis must not be the batch")
        return axis % value.rank

    def along(self, value: Value, axis: int) -> tuple[str, int, bool]:
        """The form of ``value`` that is there, where Keras's ``axis`` lies in it, and whether it is moved."""
        axis = self.axis(value, axis)
        if value.own:
            return value.own, axis, False
        return value.moved, 1 if axis == value.rank - 1 else axis + 1, True


def _x(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "one number"
