"""Dense layers that read no patch, as 1x1 convolutions: for engines that only take convolutions.

A dense layer on the last axis is a convolution whose kernel is one element large, on the same numbers with the channels
in front of the rest::

    (N, D)        (N, D, 1, 1)                y = x W + b    kernel[o, c, 0, 0] = W[c, o]
    (N, T, C)     (N, C, T, 1)
    (N, H, W, C)  (N, C, H, W)

Each value of such a layer is written on the second layout, and brought back where a node needs the first. Elementwise
nodes, and a Softmax over the channels, work on either: they are kept on the second, so that from one dense layer to the
next nothing is reshaped.
"""

from collections.abc import Iterator
from typing import Any

from onnx import NodeProto, TensorProto

from ..constants import attributes
from ..graph import Builder
from ..kernel import Rearrangement
from ..nodes import label as name_of
from .dense import dense_layer, with_bias
from .facts import Facts
from .forms import builder_for, no_convolution
from .place import KEPT, LEFT, REWRITTEN, Place, Replacement
from .request import Request

RULE = "pointwise"
BATCH = 10007

_TURNS = {2: (0, 1), 3: (0, 2, 1), 4: (0, 3, 1, 2)}
"""By the number of axes, which of them stands where on the second layout; axes of one element follow."""

_ELEMENTWISE = frozenset(
    (
        "Abs", "Add", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu",
        "Log", "Max", "Min", "Mish", "Mul", "Neg", "Pow", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt",
        "Sub", "Swish", "Tanh",
    )
)  # fmt: skip
_OVER_CHANNELS = frozenset(("LogSoftmax", "Softmax"))


class _Layouts:
    """The values that are there on the second layout, by their names on the first."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.moved: dict[str, str] = {}

    def rank(self, name: str) -> int:
        """How many axes a value has; 0 where that is not known."""
        return len(self.facts.shapes.get(name, ()))

    def forward(self, builder: Builder, name: str) -> str:
        """The value on the second layout, moved there once."""
        if name not in self.moved:
            turn, value = _TURNS[self.rank(name)], name
            if turn != tuple(range(len(turn))):
                value = builder.emit("Transpose", [value], perm=list(turn))
            if len(turn) < 4:
                value = builder.axes_operand("Unsqueeze", value, list(range(len(turn), 4)))
            self.moved[name] = value
        return self.moved[name]

    def back(self, builder: Builder, value: str, name: str) -> None:
        """Append what brings ``value`` to the first layout as ``name``; left out later where nothing reads it."""
        self.moved[name] = value
        turn = _TURNS[self.rank(name)]
        if len(turn) < 4:
            value = builder.axes_operand("Squeeze", value, list(range(len(turn), 4)))
        if turn != tuple(range(len(turn))):
            builder.emit("Transpose", [value], perm=[turn.index(axis) for axis in range(len(turn))])
        builder.nodes[-1].output[0] = name

    def constant(self, builder: Builder, name: str, rank: int) -> str | None:
        """A constant that is broadcast to ``rank`` axes, on the second layout; None where that is not possible."""
        shape = self.facts.constants.type_of(name).shape
        if len(shape) > rank:
            return None
        if all(size == 1 for size in shape):
            return name
        padded = (1,) * (rank - len(shape)) + shape
        turn = _TURNS[rank]
        result = tuple(padded[axis] for axis in turn) + (1,) * (4 - rank)
        return builder.rearranged(name, Rearrangement(padded, turn, result))


def places(facts: Facts, request: Request) -> Iterator[Place]:  # noqa: ARG001 - the signature of a rule
    """Every MatMul and Gemm, and the nodes that are kept on the second layout."""
    layouts = _Layouts(facts)
    done: set[str] = set()
    for node in facts.nodes:
        if node.domain not in ("", "ai.onnx") or node.output[0] in done:
            continue
        if node.op_type in ("MatMul", "Gemm"):
            place, end = _dense(layouts, node)
            done.add(end)
            yield place
        elif any(name in layouts.moved for name in node.input):
            kept = _kept(layouts, node)
            if kept is not None:
                yield kept


def _dense(layouts: _Layouts, node: NodeProto) -> tuple[Place, str]:
    """The place of a dense layer, and the value that it makes, its bias added."""
    facts = layouts.facts

    def left(reason: str) -> tuple[Place, str]:
        return Place(name_of(node), node.op_type, RULE, LEFT, reason), ""

    dense = dense_layer(facts, node)
    if isinstance(dense, str):
        return left(dense)
    if dense.left:
        return left("its weight stands left of its input: the channels are not the last axis")
    rank = layouts.rank(dense.input)
    if rank not in _TURNS or layouts.rank(node.output[0]) != rank:
        what = f"has {rank} axes" if rank else "is of a shape that is not known"
        return left(f"its input {what}, and 2 to 4 are understood")
    reason = no_convolution(facts.types.get(node.output[0], TensorProto.FLOAT))
    if reason:
        return left(reason)
    dense, end = with_bias(facts, dense)
    units = dense.units(facts)
    builder = builder_for(facts, name_of(node))
    inputs = facts.shapes[dense.input][-1]
    rearrangement = (
        Rearrangement((units, inputs), (0, 1), (units, inputs, 1, 1))  # (O, K)
        if dense.units_first
        else Rearrangement((inputs, units), (1, 0), (units, inputs, 1, 1))  # (K, O)
    )
    operands = [layouts.forward(builder, dense.input), builder.rearranged(dense.weight, rearrangement)]
    if dense.bias:
        shape = facts.constants.type_of(dense.bias).shape
        as_vector = Rearrangement(shape, tuple(range(len(shape))), (units,))
        operands.append(builder.rearranged(dense.bias, as_vector))
    y = builder.emit("Conv", operands, kernel_shape=[1, 1])
    layouts.back(builder, y, end)
    text = f"dense {inputs} -> {units} is a 1x1 convolution"
    return Place(name_of(node), node.op_type, RULE, REWRITTEN, text, _replacement(builder, end)), end


def _replacement(builder: Builder, output: str) -> Replacement:
    return Replacement(output, builder.nodes, builder.tensors, builder.weights)


def _kept(layouts: _Layouts, node: NodeProto) -> Place | None:
    """A node between dense layers on the second layout, or None where it needs the first."""
    facts, output = layouts.facts, node.output[0]
    rank = layouts.rank(output)
    given: dict[str, Any] = attributes(node)
    if rank not in _TURNS or len([o for o in node.output if o]) > 1:
        return None
    if node.op_type in _OVER_CHANNELS and facts.opset >= 13:
        if given.get("axis", -1) not in (-1, rank - 1):
            return None
        given["axis"] = 1
    elif node.op_type not in _ELEMENTWISE:
        return None
    builder = builder_for(facts, name_of(node))
    operands: list[str] = []
    for name in node.input:
        if not name:
            operands.append(name)
        elif facts.constant(name):
            constant = layouts.constant(builder, name, rank)
            if constant is None:
                return None
            operands.append(constant)
        elif layouts.rank(name) != rank:
            return None
        else:
            operands.append(name)
    variable = [name for name in operands if name in node.input and name and not facts.constant(name)]
    operands = [layouts.forward(builder, name) if name in variable else name for name in operands]
    y = builder.emit(node.op_type, operands, **given)
    layouts.back(builder, y, output)
    text = "works on either layout: it stays on the convolutions'"
    return Place(name_of(node), node.op_type, RULE, KEPT, text, _replacement(builder, output))
