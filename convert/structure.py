"""What a model must be made of before anything looks at its network.

Every graph of the file is walked once: the main one, subgraphs in attributes, model-local functions, training
information. Refused is what readers disagree about (one initializer name twice, data that does not fit its
dims), what would be lost or followed unseen (external data anywhere but in the main graph's initializers),
and what is not supported (sparse initializers). Nothing else is judged: whether the nodes make sense is for
ONNX Runtime to say.
"""

from collections.abc import Iterable

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from .errors import FileError
from .tensors import check_data, is_external


def check_structure(proto: ModelProto) -> None:
    """Walk all graphs of ``proto``; raises FileError, which names the tensor and the node it belongs to.

    The data of the main graph's initializers is left to the caller, who knows where it lies.
    """
    _check_graph(proto.graph, "")
    for function in proto.functions:
        _check_nodes(function.node, f" of function {function.name!r}")
    for info in proto.training_info:
        for graph in (info.initialization, info.algorithm):
            _check_inner_graph(graph, " of the training information", "")


def _check_graph(graph: GraphProto, place: str) -> None:
    """Refuse sparse initializers, one name for two initializers, and what is wrong in the nodes."""
    for sparse in graph.sparse_initializer:
        raise FileError(f"sparse initializers are not supported, but {sparse.values.name!r}{place} is one")
    names: set[str] = set()
    for tensor in graph.initializer:
        if tensor.name in names:
            raise FileError(
                f"an initializer's name must stand once, but {tensor.name!r}{place} is there twice",
                hint="programs differ on which of them counts; write the file again with one",
            )
        names.add(tensor.name)
    _check_text((graph.name, *names), place)
    for group in (graph.input, graph.output, graph.value_info):
        _check_text((value.name for value in group), place)
    _check_nodes(graph.node, place)


def _check_inner_graph(graph: GraphProto, place: str, layer: str) -> None:
    """A graph whose initializers must have their data in the file."""
    _check_graph(graph, place)
    for tensor in graph.initializer:
        _check_inner_tensor(tensor, f"initializer {tensor.name!r}{place}", layer)


def _check_nodes(nodes: Iterable[NodeProto], place: str) -> None:
    """Refuse what is wrong in the attributes of ``nodes``."""
    for node in nodes:
        _check_text((node.name, node.op_type, node.domain, *node.input, *node.output), place)
        for attribute in node.attribute:
            _check_text((attribute.name,), place)
            layer = node.name or (node.output[0] if node.output else "")
            _check_attribute(attribute, f"{attribute.name!r} of {node.op_type} {layer!r}{place}", layer)


def _check_attribute(attribute: AttributeProto, where: str, layer: str) -> None:
    """Refuse unsound tensors and graphs in one attribute, whatever type it says it has."""
    sparse_tensors = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    tensors = [attribute.t] if attribute.HasField("t") else []
    graphs = [attribute.g] if attribute.HasField("g") else []
    if attribute.sparse_tensors or attribute.tensors or attribute.graphs:  # rare; going over nothing costs
        sparse_tensors += attribute.sparse_tensors
        tensors += attribute.tensors
        graphs += attribute.graphs
    for tensor in (
        *tensors,
        *(part for sparse in sparse_tensors for part in (sparse.values, sparse.indices)),
    ):
        _check_inner_tensor(tensor, f"attribute {where}", layer)
    for graph in graphs:
        _check_inner_graph(graph, f" of attribute {where}", layer)


def _check_inner_tensor(tensor: TensorProto, where: str, layer: str) -> None:
    """A tensor whose data must be in the file, and be what its dims ask for."""
    if is_external(tensor):
        raise FileError(
            f"external data is supported for the main graph's initializers only, but {where} has it",
            layer=layer,
        )
    try:
        check_data(tensor, where)
    except FileError as error:
        error.layer = layer
        raise


def _check_text(names: Iterable[object], place: str) -> None:
    """Refuse names that are not UTF-8: the parser hands those out as bytes."""
    for name in names:
        if not isinstance(name, str):
            raise FileError(f"names must be UTF-8, but {name!r}{place} is not")
