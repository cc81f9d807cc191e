"""What goes on inside two networks that are compared: values before the last activation, and where they part.

A Softmax or Sigmoid at the end hides large differences (``softmax(z + 1000)`` is ``softmax(z)``), so the value in front
of it is compared as well: it becomes a further output of both networks, behind copies of the views that stand between
the activation and the output. And where two networks differ, the first value that both compute under one name, and
that differs, says where to look.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

from .errors import Dense2ConvError
from .execute import Session
from .model import Model
from .nodes import every_name, label, read_nodes

Array = NDArray[Any]

_HIDING = ("Softmax", "LogSoftmax", "Sigmoid", "Hardmax", "HardSigmoid", "Tanh")
_VIEWS = ("Identity", "Transpose", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Cast")
_PARTED = 1e-3  # of the largest value: far above what rounding does, whatever is allowed at the end


class _Chain(NamedTuple):
    """The nodes from an output back to the activation behind it; through a loop, if that computes it a block at a time.

    ``views`` are outside of ``loop``, which has the value as its output ``position``; ``inner`` are behind that.
    """

    views: list[NodeProto]
    loop: NodeProto | None
    position: int
    inner: list[NodeProto]
    activation: NodeProto


def with_hidden(reference: Model, candidate: Model) -> tuple[Model, Model]:
    """Both networks with the values in front of their last activations as further outputs.

    Only where both have the same activation there; else they are returned as they are. A further output is called after
    the output and the activation, such as ``classes before Softmax``.
    """
    ours, theirs = _hidden(reference), _hidden(candidate)
    both = [
        name
        for name, chain in ours.items()
        if name in theirs and theirs[name].activation.op_type == chain.activation.op_type
    ]
    if not both:
        return reference, candidate
    return _extended(reference, ours, both), _extended(candidate, theirs, both)


def _hidden(model: Model) -> dict[str, _Chain]:
    """For each output behind an activation the way back to it."""
    found = {}
    for output in model.proto.graph.output:
        views, node, value = _back(model.proto.graph, output.name, (*_VIEWS, "Slice"))
        loop, position = None, 0
        inner: list[NodeProto] = []
        if node is not None and node.op_type == "Loop" and not node.domain:
            # inputs: count, condition, carried; outputs: carried, collected; those of its graph: condition, then both
            loop, position = node, list(node.output).index(value)
            body = _body(node)
            if position >= len(node.input) - 2:
                inner, node, _ = _back(body, body.output[1 + position].name, _VIEWS)
        elif any(view.op_type == "Slice" for view in views):
            continue
        if node is not None and node.op_type in _HIDING and node.domain in ("", "ai.onnx"):
            found[output.name] = _Chain(views, loop, position, inner, node)
    return found


def _body(loop: NodeProto) -> GraphProto:
    return next(attribute.g for attribute in loop.attribute if attribute.name == "body")


def _back(
    graph: GraphProto, value: str, views: Sequence[str]
) -> tuple[list[NodeProto], NodeProto | None, str]:
    """The views from a value back, the node in front of them, and its value that they read."""
    producers = {output: node for node in graph.node for output in node.output}
    chain: list[NodeProto] = []
    node = producers.get(value)
    while node is not None and node.op_type in views:
        chain.append(node)
        value = node.input[0]
        node = producers.get(value)
    return chain, node, value


def _extended(model: Model, chains: Mapping[str, _Chain], outputs: Sequence[str]) -> Model:
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    kinds = {output.name: output.type.tensor_type.elem_type for output in model.proto.graph.output}
    taken = every_name(proto.graph)
    for output in outputs:
        chain = chains[output]
        name = f"{output} before {chain.activation.op_type}"
        while name in taken:
            name += "_"
        value = chain.activation.input[0]
        if chain.loop is not None:
            loop = next(node for node in proto.graph.node if chain.loop.output[0] in node.output)
            body = _body(loop)
            value = _copied(body, chain.inner, value, f"{name}/inner")
            body.node.add(op_type="Identity", input=[value], output=[f"{name}/block"])
            info = body.output.add()
            info.CopyFrom(body.output[1 + chain.position])
            info.name = f"{name}/block"
            value = f"{name}/blocks"
            loop.output.append(value)
        value = _copied(proto.graph, chain.views, value, name)
        proto.graph.node.add(op_type="Identity", input=[value], output=[name])
        made = ValueInfoProto(name=name)
        made.type.tensor_type.elem_type = kinds[output]
        proto.graph.output.append(made)
    return Model(proto, model.weights, model.path, model.source)


def _copied(graph: GraphProto, views: Sequence[NodeProto], value: str, name: str) -> str:
    """Append copies of the views, the last first, that begin with ``value``; the name of what they make of it."""
    for number, view in enumerate(reversed(views)):
        copy = graph.node.add()
        copy.CopyFrom(view)
        copy.name = ""
        copy.input[0] = value
        value = f"{name}/{number}"
        del copy.output[:]
        copy.output.append(value)
    return value


def observed(model: Model, names: Sequence[str]) -> Model:
    """The network with the values ``names`` as its outputs, after its own."""
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    have = {output.name for output in proto.graph.output}
    proto.graph.output.extend(ValueInfoProto(name=name) for name in names if name not in have)
    return Model(proto, model.weights, model.path, model.source)


def first_parting(
    reference: Model, candidate: Model, feeds: Mapping[str, Array] | None, provider: str
) -> str:
    """The first layer of the reference, in the order in which they run, whose value the candidate has otherwise.

    ``feeds`` is one patch for each input. "" where no value that both have under one name, and in one shape but for
    axes of one element, differs; or where one of the networks does not run.
    """
    if feeds is None:
        return ""
    theirs = {name for node in candidate.proto.graph.node for name in node.output if name}
    layers = [(label(node), name) for node in read_nodes(reference) for name in node.output if name in theirs]
    names = [name for _, name in layers]
    try:
        ours = Session(observed(reference, names), provider).run(feeds)
        other = Session(observed(candidate, names), provider).run(feeds)
    except Dense2ConvError:
        return ""
    return next((layer for layer, name in layers if _parted(ours[name], other[name])), "")


def _parted(one: Array, other: Array) -> bool:
    """Whether two values that can be compared differ by more than rounding."""
    one, other = np.squeeze(one), np.squeeze(other)
    if one.shape != other.shape or one.dtype != other.dtype or not one.size:
        return False
    if one.dtype.kind != "f":
        return not np.array_equal(one, other)
    a, b = one.astype(np.float64), other.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    scale = np.abs(a).max(initial=0.0, where=finite)
    return bool(
        np.abs(a - b).max(initial=0.0, where=finite) > _PARTED * scale or (np.isfinite(a) != finite).any()
    )


def convolutions(model: Model, weights: set[str]) -> Iterator[NodeProto]:
    """The convolutions whose kernels are called so."""
    return (node for node in model.proto.graph.node if node.op_type == "Conv" and node.input[1] in weights)
