"""Elements moved about, and nothing else: where each element of a value comes from.

Nodes that only move elements are run, by onnx's own reference implementation, on a tensor that holds at each element
its own number. What comes out says of every element which one it was, in whatever nodes the moving was written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ..errors import FileError
from .facts import Facts
from .terms import Misfit

Indices = NDArray[np.int64]

# Which inputs of a node hold elements; the others say how they are moved.
_DATA: Mapping[str, slice] = {
    "Concat": slice(None),
    **dict.fromkeys(
        (
            "DepthToSpace", "Flatten", "Gather", "GatherND", "Identity", "Reshape", "Slice", "SpaceToDepth", "Split",
            "Squeeze", "Transpose", "Unsqueeze",
        ),
        slice(1),
    ),
}  # fmt: skip

MOVES = frozenset(_DATA)
_MOST = 1 << 25  # elements of a source
_MOST_NODES = 4096


@dataclass(frozen=True)
class Shuffle:
    """A value whose elements are those of ``source``: ``indices`` has their row-major numbers in its ``shape``."""

    source: str
    shape: tuple[int, ...]
    indices: Indices


def moves(node: NodeProto | None) -> bool:
    """Whether a node only moves elements."""
    return node is not None and node.domain in ("", "ai.onnx") and node.op_type in MOVES


def shuffle(facts: Facts, name: str) -> Shuffle:
    """Where the elements of ``name`` come from. ``Misfit`` where that is not known, or from several values."""
    source, nodes = _way(facts, name)
    shape = facts.shapes.get(source)
    if shape is None:
        raise Misfit(f"the shape of {source!r} is not known")
    if prod(shape) > _MOST or not prod(shape):
        raise Misfit(f"{source!r} has {prod(shape)} elements, and 1 to {_MOST} are followed")
    numbers = np.arange(prod(shape), dtype=np.int64).reshape(shape)
    if not nodes:
        return Shuffle(source, shape, numbers)
    return Shuffle(source, shape, _run(facts, source, nodes, name, numbers))


def _way(facts: Facts, name: str) -> tuple[str, list[NodeProto]]:
    """The one value that ``name`` is moved from, and the nodes between, in order."""
    sources: list[str] = []
    on_the_way: set[str] = set()
    pending, seen = [name], set()
    while pending:
        value = pending.pop()
        if value in seen:
            continue
        seen.add(value)
        node = facts.producers.get(value)
        if node is None or not moves(node):
            sources.append(value)
            continue
        on_the_way.update(node.output)
        pending.extend(i for i in node.input[_DATA[node.op_type]] if i)
    if len(sources) > 1:
        raise Misfit(f"its elements come from several values: {', '.join(map(repr, sorted(sources)[:3]))}")
    if len(on_the_way) > _MOST_NODES:
        raise Misfit(f"more than {_MOST_NODES} values are on the way to it")
    nodes = [node for node in facts.nodes if not on_the_way.isdisjoint(node.output)]
    return sources[0], nodes


def _run(facts: Facts, source: str, nodes: list[NodeProto], name: str, numbers: Indices) -> Indices:
    from onnx.reference import ReferenceEvaluator

    constants: dict[str, TensorProto] = {}
    for node in nodes:
        data = range(len(node.input))[_DATA[node.op_type]]
        for place, operand in enumerate(node.input):
            if place in data or not operand:
                continue
            if not facts.constants.known(operand):
                raise Misfit(
                    f"how {node.op_type} {node.name!r} moves elements depends on the network's input"
                )
            constants[operand] = numpy_helper.from_array(facts.constants.value(operand), operand)
    graph = helper.make_graph(
        nodes,
        "shuffle",
        [helper.make_tensor_value_info(source, TensorProto.INT64, numbers.shape)],
        [helper.make_tensor_value_info(name, TensorProto.INT64, None)],
        list(constants.values()),
    )
    model: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", facts.opset)])
    try:
        results: Any = ReferenceEvaluator(model).run([name], {source: numbers})
    except Exception as error:  # the reference raises whatever numpy does
        raise FileError(
            f"its elements cannot be moved as the nodes in front say: {' '.join(str(error).split())}",
            layer=name,
        ) from error
    return np.asarray(results[0], dtype=np.int64)
