"""The network followed node by node on a patch: what every value is, and the graph that computes it
everywhere.

A trace starts from an assumption about the input's axes (channels first, channels last, or none), because
ONNX does not name them. A convolution contradicts a wrong assumption at once; a network without one is
ambiguous, and the caller must say. The first trace finds the network's own stride S (the least common
multiple of the jumps at which patches collapse to vectors); the second writes the graph for the stride asked
for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import lcm

import numpy as np
from onnx import NodeProto

from ..shapecalc.field import Axis
from .constants import Constants, NotComputed, opset_of
from .errors import FileError, RequestError
from .graph import Builder, Value
from .inputs import Input, assumptions, network_input, shown
from .layout import BATCH, SPACE, Factor, Layout, LayoutError, channel
from .model import Model
from .nodes import captured, graph_names, label, read_nodes
from .ops import KEPT, OPERATORS
from .ops.affine import READERS, waiting
from .step import Operand, Refusal, Step, Unknown

# A batch that the file leaves free gets this size while shapes are computed: a prime that no layer has by chance.
FREE_BATCH = 10007


@dataclass(frozen=True)
class Layer:
    """A line of the report: what became of a node, and why."""

    name: str
    operator: str
    action: str
    reason: str


@dataclass
class Trace:
    """A network followed under one assumption.

    ``outputs``: what the graph's outputs became; ``builder``: the rewritten nodes. ``refused``: the first
    node that could not be followed (``None`` if all could), and ``refusals`` all that were refused for
    reasons of their own. ``jumps``: for each spatial axis the jumps at which patches collapse. ``rivals``: where no
    assumption leads to the end, all that lead as far as this one, it included.
    """

    input: Input
    opset: int
    builder: Builder
    outputs: dict[str, Operand]
    layers: list[Layer]
    followed: int
    refusals: list[Layer]
    jumps: list[set[int]]
    values: dict[str, Operand] = field(default_factory=dict)
    rivals: tuple[Input, ...] = ()

    @property
    def stride(self) -> tuple[int, ...]:
        """S: the network's own stride, one entry a spatial axis."""
        return tuple(lcm(*found) if found else 1 for found in self.jumps)


def _start(given: Input) -> Value:
    """Return the input as a value; a channels-last input is moved to the canonical layout by the caller."""
    batch = given.shape[0] if given.shape[0] is not None else FREE_BATCH
    count = 1 if given.channel_axis is None else given.shape[given.channel_axis]
    channels = channel(int(count or 1))
    dims: list[tuple[Factor, ...]] = [()] * len(given.shape)
    dims[0] = (Factor(BATCH, batch),)
    if given.channel_axis is not None:
        dims[given.channel_axis] = channels
    for i, (position, size) in enumerate(zip(given.spatial_axes, given.patch, strict=True)):
        dims[position] = (Factor(SPACE, size, i),)
    axes = tuple(Axis(size) for size in given.patch)
    return Value(given.name, Layout(tuple(dims), channels), axes, frozenset(), given.dtype)


def _canonical_input(value: Value, given: Input, builder: Builder) -> Value:
    """Return the input in the canonical layout."""
    if given.channel_axis is None:
        return replace(value, name=builder.axes_operand("Unsqueeze", given.name, [1]))
    if given.channel_axis != 1:
        rank = len(given.shape)
        # (N, *spatial, C) -> (N, C, *spatial)
        return replace(
            value, name=builder.emit("Transpose", [given.name], perm=[0, rank - 1, *range(1, rank - 1)])
        )
    return value


def follow(model: Model, given: Input, stride: tuple[int, ...] | None) -> Trace:
    """Follow the network from ``given``; with ``stride``, write the graph of the map at that stride.

    Refusals do not end the trace: what lies behind one is unknown, and the report names every cause.
    """
    graph = model.proto.graph
    opset = opset_of(model.proto)
    constants = Constants(model)
    taken = {i.name for i in graph.input} | set(model.initializers()) | {n.name for n in graph.node}
    taken |= graph_names(list(graph.node))
    builder = Builder(opset, constants, taken, layer=given.name)
    start = _canonical_input(_start(given), given, builder)
    values: dict[str, Operand] = {given.name: start}
    trace = Trace(given, opset, builder, {}, [], 0, [], [set() for _ in given.patch], values)
    for node in read_nodes(model):
        operands = [values[i] for i in (*node.input, *captured(node, values)) if i in values]
        if not operands:
            continue
        name = label(node)
        if node.op_type in ("Shape", "Size") and node.domain in ("", "ai.onnx"):
            _shape_of(node, values, constants)
            continue
        unknown = next((o for o in operands if isinstance(o, Unknown)), None)
        if unknown is not None:
            values.update((o, unknown) for o in node.output if o)
            if node.op_type in ("Gemm", "MatMul"):
                trace.layers.append(
                    Layer(name, model.kind(node), "not convertible", f"it comes behind {unknown.cause}")
                )
            continue
        builder.layer = name
        step = Step(node, builder, constants, values, opset, stride, trace.jumps)
        before = len(builder.nodes), len(builder.rewrites)
        try:
            if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
                raise Refusal(
                    f"the operator {node.domain + '.' if node.domain else ''}{node.op_type} is not understood"
                )
            _refuse_between(node, operands)
            results = OPERATORS[node.op_type].rule(step)
        except (Refusal, LayoutError, NotComputed) as refusal:
            reason = str(refusal)
            if isinstance(refusal, NotComputed):
                reason = f"it reads the constant of {refusal.layer}: {reason}; {refusal.hint}"
            layer = Layer(name, model.kind(node), "not convertible", reason)
            trace.layers.append(layer)
            trace.refusals.append(layer)
            del builder.nodes[before[0] :]
            del builder.rewrites[before[1] :]
            values.update((o, Unknown(name)) for o in node.output if o)
            continue
        trace.followed += 1
        if not model.relayout(node):
            notes = step.notes or [("kept", KEPT[OPERATORS[node.op_type].behaviour])]
            trace.layers.extend(Layer(name, model.kind(node), action, reason) for action, reason in notes)
        values.update((o, r) for o, r in zip(node.output, results, strict=False) if o and r is not None)
    if not graph.output:
        raise FileError("a network must have an output, this graph has none")
    for output in graph.output:
        if output.name not in values:
            raise FileError("a network's output must depend on its input", layer=output.name)
        operand = values[output.name]
        builder.layer = output.name
        step = Step(NodeProto(), builder, constants, values, opset, stride, trace.jumps)
        try:
            trace.outputs[output.name] = operand if isinstance(operand, Unknown) else vector(step, operand)
        except (Refusal, LayoutError) as refusal:
            layer = Layer(output.name, "output", "not convertible", str(refusal))
            trace.layers.append(layer)
            trace.refusals.append(layer)
            trace.outputs[output.name] = Unknown(output.name)
        trace.layers.extend(Layer(output.name, "output", action, reason) for action, reason in step.notes)
    return trace


def vector(step: Step, operand: Operand) -> Value:
    """Return an output of the network as one vector a patch, its channels in the file's order.

    Refuses where it has several positions a patch, or several feature axes.
    """
    if not isinstance(operand, Value):
        raise Refusal("an output of flattened branches is not one vector")
    value = step.put_in_order(step.without_single_positions(operand))
    if waiting(value):
        raise Refusal("a constant in front of it differs from position to position of the patch")
    if value.grid:
        sizes = "x".join(str(value.axes[i].size) for i in value.grid)
        raise Refusal(f"the output has {sizes} positions a patch, not one vector")
    if len(value.layout.channels) > 1:
        raise Refusal(f"the output has several feature axes, {[f.size for f in value.layout.channels]}")
    if not value.layout.dims or [f.kind for f in value.layout.dims[0]] != [BATCH]:
        raise Refusal("the output does not have the batch in front")
    return value


def _refuse_between(node: NodeProto, operands: Sequence[Operand]) -> None:
    """Refuse a node that comes between two that belong together.

    Windows and what reduces them; constants that differ from position to position and the dense layer that takes them
    in.
    """
    if node.op_type not in READERS and any(isinstance(o, Value) and waiting(o) for o in operands):
        raise Refusal(
            "it reads constants that differ from position to position, which only a dense layer can take in"
        )
    reads = node.op_type == "Transpose" or node.op_type.startswith("Reduce")
    if not reads and any(isinstance(o, Value) and o.layout.cut() for o in operands):
        raise Refusal("it reads windows cut out by number, which only a reduction may do")


def _shape_of(node: NodeProto, values: Mapping[str, Operand], constants: Constants) -> None:
    """Make the shape that a value has on a patch a constant."""
    operand = values[node.input[0]]
    if isinstance(operand, Unknown):
        return
    shape: Sequence[int] = operand.layout.shape if isinstance(operand, Value) else operand.shape
    given = {a.name: a.i for a in node.attribute}
    batch = FREE_BATCH if int(np.prod(shape)) % FREE_BATCH == 0 else 0
    if node.op_type == "Size":
        constants.set(node.output[0], np.asarray(int(np.prod(shape)), dtype=np.int64), batch=batch)
        return
    chosen = list(shape)[slice(given.get("start", 0), given.get("end"))]
    constants.set(node.output[0], np.asarray(chosen, dtype=np.int64), batch=batch)


def choose(model: Model, patch: Sequence[int] | None = None, order: str | None = None) -> Trace:
    """Follow the network under every assumption that fits, and return the trace of the one that is right.

    Where none fits, it is the first of those that lead furthest. Raises ``RequestError`` where several fit: the
    file cannot tell rows, columns and channels apart.
    """
    if order is None and model.source is not None:
        order = model.source.order or None
    traces = [follow(model, reading, None) for reading in assumptions(model, patch, order)]
    whole = [t for t in traces if not t.refusals]
    whole = _without_rows_of_one(whole)
    if len(whole) == 1:
        return whole[0]
    if len(whole) > 1:
        raise ambiguous([t.input for t in whole], model)
    furthest = max(t.followed for t in traces)
    rivals = _without_rows_of_one([t for t in traces if t.followed == furthest])
    return replace(rivals[0], rivals=tuple(t.input for t in rivals))


def _without_rows_of_one(traces: list[Trace]) -> list[Trace]:
    """An axis of one element is hardly rows or columns where another reading makes it the channel."""
    return [t for t in traces if 1 not in t.input.patch] or traces


def ambiguous(readings: Sequence[Input], model: Model) -> RequestError:
    """Return the error that asks which of several readings of the input's axes is right."""
    return RequestError(
        "the file cannot tell rows, columns and channels apart: no layer says which axis of the input "
        f"{shown(network_input(model))} is the channel",
        hint=f"say {' or '.join(f'--order {r.order}' for r in readings)}",
        layer=readings[0].name,
    )
