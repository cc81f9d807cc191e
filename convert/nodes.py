"""The nodes of a graph: what each is called, and an order in which each comes after those it reads."""

from collections.abc import Container, Iterator, Sequence

from onnx import GraphProto, NodeProto

from .constants import subgraphs
from .errors import FileError
from .model import Model


def label(node: NodeProto) -> str:
    """Return what the report calls a node: its name, or its first output where it has none."""
    return str(node.name or next((o for o in node.output if o), node.op_type))


def sorted_nodes(model: Model) -> list[NodeProto]:
    """Return the nodes so that each comes after those it reads: some exporters append Casts at the end.

    Raises ``FileError`` for a cycle or a value that nothing computes.
    """
    graph = model.proto.graph
    ready = {i.name for i in graph.input} | set(model.initializers()) | {""}
    nodes = list(graph.node)
    computed = graph_names(nodes)
    if _in_order(nodes, set(ready), computed):
        return nodes
    readers: dict[str, list[int]] = {}
    missing = [0] * len(nodes)
    for index, node in enumerate(nodes):
        wanted = {i for i in node.input if i not in ready} | captured(node, computed)
        wanted -= ready
        missing[index] = len(wanted)
        for name in wanted:
            readers.setdefault(name, []).append(index)
    queue = [i for i, count in enumerate(missing) if not count]
    result: list[NodeProto] = []
    position = 0
    while position < len(queue):
        node = nodes[queue[position]]
        position += 1
        result.append(node)
        for output in node.output:
            for index in readers.pop(output, ()):
                missing[index] -= 1
                if not missing[index]:
                    queue.append(index)
    if len(result) != len(nodes):
        stuck = next(n for i, n in enumerate(nodes) if missing[i])
        raise FileError("a node reads a value that nothing computes, or its own output", layer=label(stuck))
    return result


def _in_order(nodes: Sequence[NodeProto], ready: set[str], computed: Container[str]) -> bool:
    """Whether each node comes after those it reads already, as in nearly every file."""
    for node in nodes:
        if not ready.issuperset(node.input) or not ready.issuperset(captured(node, computed)):
            return False
        ready.update(node.output)
    return True


def graph_names(nodes: Sequence[NodeProto]) -> frozenset[str]:
    """Return every value that the nodes compute."""
    return frozenset(o for n in nodes for o in n.output)


def every_name(graph: GraphProto) -> set[str]:
    """Return every name of a value or a node, in the graphs inside nodes too."""
    infos = (*graph.input, *graph.output, *graph.initializer, *graph.value_info)
    found = {info.name for info in infos} | {t.values.name for t in graph.sparse_initializer}
    for node in graph.node:
        found |= {node.name, *node.input, *node.output}
        for inner in graphs_of(node):
            found |= every_name(inner)
    return found


def every_node(graph: GraphProto) -> Iterator[NodeProto]:
    """Yield the nodes, each followed by those of the graphs inside it."""
    for node in graph.node:
        yield node
        for inner in graphs_of(node):
            yield from every_node(inner)


def read_nodes(model: Model) -> list[NodeProto]:
    """Return the sorted nodes that the graph's outputs depend on: what nothing reads decides nothing."""
    nodes = sorted_nodes(model)
    computed = graph_names(nodes)
    read = {output.name for output in model.proto.graph.output}
    kept = []
    for node in reversed(nodes):
        if not read.isdisjoint(node.output):
            kept.append(node)
            read.update(i for i in node.input if i)
            read |= captured(node, computed)
    return kept[::-1]


def captured(node: NodeProto, names: Container[str]) -> set[str]:
    """Return those of ``names`` that the graphs inside a node read from outside."""
    found: set[str] = set()
    if not subgraphs(node):
        return found
    for graph in graphs_of(node):
        for inner in graph.node:
            found |= {i for i in inner.input if i in names} | captured(inner, names)
        found |= {o.name for o in graph.output if o.name in names}
    return found


def graphs_of(node: NodeProto) -> Iterator[GraphProto]:
    """Return the graphs inside a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
