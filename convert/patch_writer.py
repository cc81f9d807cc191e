"""What the graphs of ``--method patches`` are written with: nodes, names that are free, and sizes known or computed.

A size is a number where it is known when the graph is written, else the name of a tensor ``(1,)`` that holds it when
the graph runs. Arithmetic on numbers leaves no node behind.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from .constants import opset_of
from .errors import FileError
from .inputs import Input
from .model import Model
from .nodes import every_name

Size = int | str

SLICE_WITH_INPUTS = 10  # https://onnx.ai/onnx/operators/onnx__Slice.html
CONSTANT_OF_SHAPE = 9  # also the first with Less of int64
_ALLOW_ZERO = 14  # https://onnx.ai/onnx/operators/onnx__Reshape.html


class Writer:
    """Appends nodes and small integer constants under names that the original does not use."""

    def __init__(self, model: Model) -> None:
        self.taken = every_name(model.proto.graph)
        self.opset = opset_of(model.proto)
        self.nodes: list[NodeProto] = []
        self.tensors: list[TensorProto] = []
        self._count = 0

    def take(self) -> list[NodeProto]:
        """Return the nodes written so far, and begin anew."""
        nodes, self.nodes = self.nodes, []
        return nodes

    def name(self, hint: str) -> str:
        """Return a name that nothing has yet."""
        self._count += 1
        name = f"dense2conv/{hint}_{self._count}"
        while name in self.taken:
            name += "_"
        return name

    def emit(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Append a node; return its output."""
        output = output or self.name(kind.lower())
        self.nodes.append(
            helper.make_node(kind, list(inputs), [output], name=self.name(kind.lower()), **attributes)
        )
        return output

    def integers(self, values: Iterable[int], shape: Sequence[int] = (-1,)) -> str:
        """Return the name of a constant of integers."""
        name = self.name("sizes")
        array = np.asarray([*values], dtype=np.int64).reshape(shape)
        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def tensor(self, size: Size) -> str:
        """Return a size as a tensor ``(1,)``."""
        return size if isinstance(size, str) else self.integers([size])

    def add(self, one: Size, other: Size) -> Size:
        """Return the sum."""
        return self._computed("Add", one, other, lambda a, b: a + b, 0)

    def multiply(self, one: Size, other: Size) -> Size:
        """Return the product."""
        return self._computed("Mul", one, other, lambda a, b: a * b, 1)

    def divide(self, one: Size, other: Size) -> Size:
        """Return the quotient, rounded towards zero as ONNX has it for what may be negative."""
        if other == 1:
            return one
        return self._computed("Div", one, other, lambda a, b: a // b, None)

    def _computed(
        self, kind: str, one: Size, other: Size, rule: Callable[[int, int], int], neutral: int | None
    ) -> Size:
        if isinstance(one, int) and isinstance(other, int):
            return rule(one, other)
        if neutral is not None and neutral in (one, other):
            return other if one == neutral else one
        return self.emit(kind, [self.tensor(one), self.tensor(other)])

    def axis_size(self, name: str, axis: int) -> str:
        """Return the size of one axis of a value."""
        shape = self.emit("Shape", [name])
        return self.emit("Gather", [shape, self.integers([axis])], axis=0)

    def numbers(self, count: Size) -> str:
        """Return 0, 1, ..., count - 1."""
        if isinstance(count, int):
            return self.integers(range(count))
        if self.opset < CONSTANT_OF_SHAPE:
            raise FileError(
                f"operator set {self.opset} cannot count to a computed number: that needs {CONSTANT_OF_SHAPE} or newer",
                hint="fix the input with --size and --batch",
            )
        one = numpy_helper.from_array(np.ones(1, dtype=np.int64))
        ones = self.emit("ConstantOfShape", [count], value=one)
        # NonZero gives (1, count): one row, because its operand has one axis
        return self.emit("Reshape", [self.emit("NonZero", [ones]), self.integers([-1])])

    def first(self, name: str, ends: Sequence[Size], axes: Sequence[int]) -> str:
        """Return the beginning of a value, up to ``ends`` on ``axes``."""
        if self.opset >= SLICE_WITH_INPUTS:
            if all(isinstance(end, int) for end in ends):
                stop = self.integers([int(end) for end in ends])
            else:
                stop = self.emit("Concat", [self.tensor(end) for end in ends], axis=0)
            return self.emit("Slice", [name, self.integers([0] * len(axes)), stop, self.integers(axes)])
        if all(isinstance(end, int) for end in ends):
            return self.emit(
                "Slice", [name], axes=list(axes), starts=[0] * len(axes), ends=[int(e) for e in ends]
            )
        for axis, end in zip(axes, ends, strict=True):  # Slice cannot read its ends yet
            name = self.emit("Gather", [name, self.numbers(end)], axis=axis)
        return name

    def reshape(self, name: str, parts: Sequence[Size], output: str = "") -> str:
        """Return a value in another shape: a constant where at most one part is computed (it becomes -1), else
        computed.
        """
        free = [p for p in parts if isinstance(p, str)]
        if len(free) <= 1:
            target = self.integers([p if isinstance(p, int) else -1 for p in parts])
            return self.emit("Reshape", [name, target], output)
        target = self.emit("Concat", [self.tensor(p) for p in parts], axis=0)
        # A size of 0, on an input without room for a patch, is a size and does not say "as it was".
        zero = {"allowzero": 1} if self.opset >= _ALLOW_ZERO else {}
        return self.emit("Reshape", [name, target], output, **zero)


def sizes_of(write: Writer, given: Input, size: Sequence[int] | None, batch: int | None) -> list[Size]:
    """Return the size of each axis of the map's input, as the file has them: known or computed."""
    place = {a: i for i, a in enumerate(given.spatial_axes)}
    found: list[Size] = [batch if batch is not None else write.axis_size(given.name, 0)]
    for axis in range(1, len(given.shape)):
        if axis not in place:
            found.append(int(given.shape[axis] or 1))
        else:
            found.append(size[place[axis]] if size is not None else write.axis_size(given.name, axis))
    return found
