"""The ONNX graph while a Keras model is translated.

Keras names the axes of a value ``(N, *space, C)``; ONNX's windowed operators want ``(N, C, *space)``. A ``Value`` keeps
Keras's own order as its shape, and is in the graph in one of two forms, or in both:

    own      the tensor in Keras's order
    moved    the tensor with the last axis moved to position 1

A layer asks for the form that it needs; where a value has only the other, one Transpose is written, once. So a chain of
convolutions has one Transpose at its start and one at its end, and what ``Flatten`` reads is in Keras's order always.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper

from ..model import LARGE, Array, Source

Shape = tuple[int | None, ...]


@dataclass
class Value:
    """A value of the model. ``shape`` is in Keras's order, the batch in front, None where a size is free.

    ``own`` and ``moved`` name its tensors; "" where there is none in that form.
    """

    shape: Shape
    own: str = ""
    moved: str = ""

    @property
    def rank(self) -> int:
        """The number of axes, the batch included."""
        return len(self.shape)


def moved_order(rank: int) -> list[int]:
    """The permutation from Keras's order to the moved form: ``(N, *space, C)`` -> ``(N, C, *space)``."""
    return [0, rank - 1, *range(1, rank - 1)]


def own_order(rank: int) -> list[int]:
    """The permutation from the moved form to Keras's order: ``(N, C, *space)`` -> ``(N, *space, C)``."""
    return [0, *range(2, rank), 1]


@dataclass
class Graph:
    """Nodes and constants, collected in order. ``dtype``: the TensorProto type of all floats."""

    dtype: int = TensorProto.FLOAT
    nodes: list[NodeProto] = field(default_factory=list)
    tensors: dict[str, TensorProto] = field(default_factory=dict)
    weights: dict[str, Array] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    orders: dict[str, tuple[int, ...]] = field(default_factory=dict)
    relayouts: set[str] = field(default_factory=set)
    paddings: dict[str, str] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)
    _arrays: dict[str, list[tuple[str, Array]]] = field(default_factory=dict)

    @property
    def float_type(self) -> "np.dtype[Any]":
        """``dtype`` as numpy has it."""
        found: np.dtype[Any] = helper.tensor_dtype_to_np_dtype(self.dtype)
        return found

    def fresh(self, hint: str) -> str:
        """A name that nothing else has, as like ``hint`` as possible."""
        name, number = hint, 1
        while name in self._taken or not name:
            number += 1
            name = f"{hint}_{number}"
        self._taken.add(name)
        return name

    def emit(
        self,
        operator: str,
        inputs: Sequence[str],
        name: str,
        kind: str = "",
        padding: str = "",
        **attributes: Any,
    ) -> str:
        """Append a node called ``name`` (or nearly so) and return its output, which is called the same.

        ``kind``: what the source calls such a layer; ``padding``: how it pads, as shapecalc names it.
        """
        name = self.fresh(name)
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **given))
        if kind:
            self.kinds[name] = kind
        if padding:
            self.paddings[name] = padding
        return name

    def constant(self, name: str, array: Array) -> str:
        """An initializer called ``name``, or nearly so; a second call with the same array adds none.

        The same layer may want an array in two shapes, where it is called with values of two forms: these are two.
        """
        for made, known in self._arrays.get(name, ()):
            if known.dtype == array.dtype and known.shape == array.shape and np.array_equal(known, array):
                return made
        made = self.fresh(name)
        self._arrays.setdefault(name, []).append((made, array))
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor = TensorProto(name=made, data_type=kind, dims=array.shape)
        if array.nbytes < LARGE:
            tensor.raw_data = array.tobytes()
        else:
            self.weights[made] = array
        self.tensors[made] = tensor
        return made

    def integers(self, values: Sequence[int]) -> str:
        """A one-dimensional int64 constant."""
        return self.constant(f"shape/{'_'.join(map(str, values))}", np.asarray(values, dtype=np.int64))

    def number(self, value: float) -> str:
        """A constant without axes, of the graph's floating type."""
        return self.constant(f"number/{value!r}", np.asarray(value, dtype=self.float_type))

    def own(self, value: Value) -> str:
        """The tensor of ``value`` in Keras's order."""
        if not value.own:
            value.own = self._transposed(value.moved, own_order(value.rank), "own")
        return value.own

    def moved(self, value: Value) -> str:
        """The tensor of ``value`` with its last axis at position 1."""
        if not value.moved:
            value.moved = self._transposed(value.own, moved_order(value.rank), "moved")
            self.orders[value.moved] = tuple(own_order(value.rank))
        return value.moved

    def made(self, shape: Sequence[int | None], name: str, *, moved: bool = False) -> Value:
        """A new value whose tensor ``name`` is in one form."""
        if not moved or len(shape) < 3:
            return Value(tuple(shape), own=name)
        self.orders[name] = tuple(own_order(len(shape)))
        return Value(tuple(shape), moved=name)

    def _transposed(self, name: str, order: Sequence[int], form: str) -> str:
        made = self.emit("Transpose", [name], f"{name}/{form}", perm=list(order))
        self.relayouts.add(made)
        return made

    def proto(
        self,
        name: str,
        inputs: Mapping[str, Value],
        outputs: Mapping[str, Value],
        batch: Mapping[str, int | None],
    ) -> GraphProto:
        """The graph; ``inputs`` and ``outputs`` by name.

        Free axes are named ``batch`` and ``axis_i``, with the tensor's name in front unless it is the only input.
        """
        renamed: dict[str, str] = {}
        for output, value in outputs.items():
            tensor = self.own(value)
            if tensor in renamed or tensor in inputs:
                tensor = self.emit("Identity", [tensor], f"{output}/output")
            renamed[tensor] = output
        clashing = {renamed[t] for t in renamed if renamed[t] != t} & {
            o for n in self.nodes for o in n.output
        }
        renamed |= {other: self.fresh(f"{other}/inner") for other in clashing - set(renamed)}
        for node in self.nodes:
            for names in (node.input, node.output):
                for i, old in enumerate(names):
                    if old in renamed:
                        names[i] = renamed[old]
        for old, new in renamed.items():
            if old in self.orders:
                self.orders[new] = self.orders.pop(old)

        def info(label: str, value: Value) -> Any:
            # A name of its own for each: axes of one name are taken to have one size.
            prefix = "" if list(inputs) == [label] else f"{label}_"
            dims = [size if size is not None else f"{prefix}axis_{i}" for i, size in enumerate(value.shape)]
            dims[0] = batch.get(label) or "batch"
            return helper.make_tensor_value_info(label, self.dtype, dims)

        return helper.make_graph(
            self.nodes,
            name,
            [info(label, value) for label, value in inputs.items()],
            [info(label, value) for label, value in outputs.items()],
            list(self.tensors.values()),
        )

    def source(self, framework: str, order: str, half: bool, notes: Sequence[str]) -> Source:
        """What is remembered of the model that was translated."""
        return Source(
            framework,
            order,
            half,
            self.kinds,
            self.orders,
            frozenset(self.relayouts),
            self.paddings,
            tuple(notes),
        )
