"""One node under the rewrite: what its rule may ask for, and the few moves that every rule shares.

A rule is a function ``rule(step) -> values``: it looks at the node's operands, appends nodes to
``step.builder``, and returns what the node's outputs have become. It refuses with ``Refusal`` (the reason is
printed) or lets a ``LayoutError`` through. Nothing is ever guessed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto

from ..shapecalc import lattice
from ..shapecalc.window import Window
from .constants import Constants, attributes, axes_of
from .graph import Builder, Value, Work
from .layout import CHANNEL
from .model import Array


class Refusal(Exception):  # noqa: N818 - an answer, turned into a report line or an error by the caller
    """The network cannot be a convolution because of this node; the message is the reason."""


class PositionDependent(Refusal):
    """A constant differs from position to position of the patch."""


@dataclass(frozen=True)
class Parts:
    """Flattened branches behind a Concat along the features: each keeps its own canonical tensor."""

    values: tuple[Value, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the file's tensor on a patch."""
        first = self.values[0].layout.shape
        return (*first[:-1], sum(v.layout.shape[-1] for v in self.values))


@dataclass(frozen=True)
class Unknown:
    """The output of a node that was refused, or of one behind it."""

    cause: str


Operand = Value | Parts | Unknown
Result = Sequence[Operand | None]


@dataclass
class Step:
    """The node at hand, its operands, and where the rewritten graph grows.

    ``stride``: the map's stride, one entry a spatial axis; ``None`` while the network's own strides are
    looked for (then every collapse keeps its grid's jump). ``notes`` collects what the report says of the
    node.
    """

    node: NodeProto
    builder: Builder
    constants: Constants
    values: Mapping[str, Operand]
    opset: int
    stride: tuple[int, ...] | None
    jumps: list[set[int]]
    notes: list[tuple[str, str]] = field(default_factory=list)

    @property
    def attributes(self) -> dict[str, Any]:
        """The node's attributes as Python values."""
        return attributes(self.node)

    def integer(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        return int(self.attributes.get(name, default))

    def number(self, name: str, default: float) -> float:
        """Return a float attribute."""
        return float(self.attributes.get(name, default))

    def integers(self, name: str, default: Sequence[int]) -> list[int]:
        """Return an attribute that is a list of integers."""
        return [int(v) for v in self.attributes.get(name, default)]

    def note(self, action: str, reason: str) -> None:
        """Say what became of the node."""
        self.notes.append((action, reason))

    def is_data(self, index: int) -> bool:
        """Whether operand ``index`` is there and depends on the network's input."""
        return index < len(self.node.input) and self.node.input[index] in self.values

    def value(self, index: int = 0) -> Value:
        """Return operand ``index``, which must be a single value of the network."""
        if index >= len(self.node.input) or not self.node.input[index]:
            raise Refusal(f"operand {index} is missing")
        operand = self.values.get(self.node.input[index])
        if isinstance(operand, Parts):
            raise Refusal(
                "it reads several flattened branches behind a Concat, which only a dense layer may do"
            )
        if not isinstance(operand, Value):
            raise Refusal(f"operand {index} is a constant where a value of the network is expected")
        return operand

    def ordered(self, index: int = 0) -> Value:
        """Return operand ``index`` with its channels stored in the order in which the file's tensor names them."""
        return self.put_in_order(self.value(index))

    def put_in_order(self, value: Value) -> Value:
        """Return ``value`` with its channels stored in the order in which the file's tensor names them."""
        order = value.layout.in_order()
        if order is None:
            return replace(value, layout=value.layout.merged())
        if value.scale or value.shift:
            raise Refusal(
                "its channels change places behind a constant that differs from position to position"
            )
        indices = self.builder.constant(
            np.asarray(order, dtype=np.int64), f"{self.builder.layer}/channel_order"
        )
        name = self.builder.emit("Gather", [value.name, indices], axis=1)
        named = tuple(f for dim in value.layout.dims for f in dim if f.kind == CHANNEL)
        return replace(value, name=name, layout=replace(value.layout, channels=named).merged())

    def constant(self, index: int) -> Array | None:
        """Return operand ``index`` if it is a constant, ``None`` if it is left out.

        Refuses where it depends on the network's input.
        """
        if index >= len(self.node.input) or not self.node.input[index]:
            return None
        name = self.node.input[index]
        if name in self.values:
            raise Refusal(f"operand {index} ({name}) is computed from the network's input")
        try:
            return self.constants.value(name)
        except KeyError:
            raise Refusal(f"operand {index} ({name}) is not a constant") from None

    def axes(self) -> list[int] | None:
        """Return the ``axes`` of Squeeze, Unsqueeze or a Reduce, attribute or input."""
        return axes_of(self.node, [None, self.constant(1)])

    def list_of(self, name: str, index: int) -> list[int] | None:
        """Return a list that newer operator sets pass as input ``index`` and older ones as attribute ``name``."""
        if name in self.attributes:
            return self.integers(name, ())
        given = self.constant(index)
        return None if given is None else [int(v) for v in given.reshape(-1)]

    def emit(self, inputs: Sequence[str], *, kind: str = "", output: str = "", **attributes: Any) -> str:
        """Append the node itself (or another ``kind``) on other inputs; its name and its first output's are kept."""
        output = output or self.node.output[0]
        return self.builder.emit(
            kind or self.node.op_type,
            inputs,
            output=output,
            name=self.node.name,
            domain=self.node.domain,
            **attributes,
        )

    def same(self, value: Value, operands: Sequence[str] | None = None, dtype: int | None = None) -> Value:
        """Append the node itself on ``value``, its attributes unchanged; the layout stays."""
        name = self.emit([value.name, *(operands or ())], **self.attributes)
        return replace(value, name=name, dtype=value.dtype if dtype is None else dtype)

    def on_lattice(self, value: Value, windows: Sequence[Window]) -> list[Window]:
        """Return the node's ``windows`` on the patch's positions, one a spatial axis, as they are in the map.

        On an axis that is the map's already nothing lies between two positions.
        """
        if self.stride is None:
            return list(windows)
        return [
            w if i in value.collapsed else lattice.spread_window(w, axis.jump, s)
            for i, (w, axis, s) in enumerate(zip(windows, value.axes, self.stride, strict=True))
        ]

    def spread(self, value: Value, axis: int, count: int) -> int:
        """Return how far ``count`` positions of a patch are in the map, along a spatial axis of ``value``."""
        if self.stride is None or axis in value.collapsed:
            return count
        return count * lattice.spread(value.axes[axis].jump, self.stride[axis])

    def crop(self, value: Value, before: Mapping[int, int], after: Mapping[int, int]) -> str:
        """Cut positions of a patch off both ends of spatial axes, whatever the size of the input."""
        ends = ({i: self.spread(value, i, n) for i, n in end.items()} for end in (before, after))
        return self.builder.crop(value.name, *ends)

    def every(self, value: Value, steps: Mapping[int, int], data: str = "") -> str:
        """Keep every ``steps[i]``-th position of a patch along spatial axis ``i`` (of ``data``, which is on the same
        grid as ``value``).
        """
        windows = [Window(kernel=1, stride=steps.get(i, 1)) for i in range(len(value.axes))]
        return self.builder.every(data or value.name, [w.stride for w in self.on_lattice(value, windows)])

    def collapsed(self, value: Value, axes: Sequence[int]) -> tuple[Value, list[Window]]:
        """Return ``value`` behind a window over the whole patch on ``axes`` (no node), and the windows that it takes:
        one a spatial axis, of one element where nothing is read.

        The caller appends the node.
        """
        windows = [Window(kernel=1)] * len(value.axes)
        after = list(value.axes)
        for i in axes:
            axis, stride = value.axes[i], self.stride[i] if self.stride else 0
            self.jumps[i].add(axis.jump)
            windows[i] = lattice.whole(axis.size, axis.jump, stride or axis.jump)
            after[i] = axis.whole(stride)
        clean = [value.axes[i].size - sum(value.axes[i].border) for i in axes]
        if any(sum(value.axes[i].border) for i in axes):
            whole = "x".join(str(value.axes[i].size) for i in axes)
            untouched = "x".join(str(max(n, 0)) for n in clean)
            self.note("reached", f"of the {whole} positions it reads, padding has left {untouched} untouched")
        layout = value.layout.resized({}, drop=axes)
        return replace(
            value, layout=layout, axes=tuple(after), collapsed=value.collapsed | set(axes)
        ), windows

    def without_single_positions(self, value: Value) -> Value:
        """Return ``value`` with every grid axis of one position made an axis of the map."""
        single = [i for i in value.grid if value.axes[i].size == 1]
        if not single:
            return value
        result, windows = self.collapsed(value, single)
        name = self.builder.every(value.name, [w.stride for w in windows])
        return replace(result, name=name)

    def alike(self, values: Sequence[Value]) -> list[Value]:
        """Return values that are to meet, single positions made the map's wherever they already are for one of them."""
        if len({v.collapsed for v in values}) < 2:
            return list(values)
        return [self.without_single_positions(v) for v in values]

    def work(self, value: Value, macs: int) -> None:
        """Count ``macs`` multiply-adds for each position of ``value``."""
        self.builder.work.append(Work(value, macs))


Rule = Callable[[Step], Result]

BOOL = TensorProto.BOOL
INT64 = TensorProto.INT64
