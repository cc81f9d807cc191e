"""Which node of a graph is meant, and what is known of the shapes around it."""

import difflib
from collections.abc import Mapping

from onnx import NodeProto, ValueInfoProto

from .constants import attributes
from .errors import FileError, RequestError
from .model import Model
from .nodes import captured, label, read_nodes

Shape = tuple[int | None, ...]


def find_node(model: Model, name: str) -> NodeProto:
    """The Conv of the main graph with this name, this end of a name, or this number among the layers, from 0.

    Raises ``RequestError`` where there is none or several, ``FileError`` where it is another operator.
    """
    nodes = list(model.proto.graph.node)
    convolutions = [node for node in nodes if node.op_type == "Conv" and node.domain in ("", "ai.onnx")]
    found = [node for node in nodes if label(node) == name]
    if not found and name.isdecimal() and name.isascii():
        layers = _layers(model)
        if int(name) >= len(layers):
            raise RequestError(
                f"layers are counted from 0 to {len(layers) - 1}, there is no {name}"
                if layers
                else "there is no layer in this network",
                file=model.path,
            )
        found = [layers[int(name)]]
    if not found:
        found = [node for node in convolutions if label(node).endswith(name)]
    if not found:
        found = [node for node in nodes if label(node).endswith(name)]
    names = [label(node) for node in found] or [label(node) for node in convolutions]
    if len(found) > 1:
        raise RequestError(
            f"several layers end in {name!r}: {', '.join(names[:5])}",
            file=model.path,
            hint="say more of the name",
        )
    if not found:
        near = difflib.get_close_matches(name, names, n=3) or names[:3]
        raise RequestError(
            f"there is no layer {name!r}; convolutions are {', '.join(near) or 'none'}", file=model.path
        )
    if found[0].op_type != "Conv" or found[0].domain not in ("", "ai.onnx"):
        raise FileError(
            f"only a convolution's kernel is set, but this is {found[0].op_type}",
            layer=label(found[0]),
            file=model.path,
            hint=f"convolutions are {', '.join(label(node) for node in convolutions[:10]) or 'none'}",
        )
    return found[0]


def _layers(model: Model) -> list[NodeProto]:
    """The nodes that compute with the network's input, as ``shapes`` counts them; constants and shapes are none."""
    live = {i.name for i in model.proto.graph.input} - set(model.initializers())
    layers = []
    for node in read_nodes(model):
        if node.op_type in ("Shape", "Size") or live.isdisjoint([*node.input, *captured(node, live)]):
            continue
        layers.append(node)
        live.update(node.output)
    return layers


def inferred(model: Model) -> Mapping[str, ValueInfoProto]:
    """What the file says and onnx's inference adds of every value; nothing of a graph that it refuses."""
    from onnx.shape_inference import infer_shapes

    try:
        graph = infer_shapes(model.proto, data_prop=True).graph
    except Exception:  # it raises what its native code throws, also for graphs that run
        graph = model.proto.graph
    return {info.name: info for info in (*graph.value_info, *graph.output, *graph.input)}


def shape_of(info: ValueInfoProto) -> Shape | None:
    """The sizes of a value, None where one is free; None where not even their number is known."""
    if not info.type.tensor_type.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in info.type.tensor_type.shape.dim)


def check_readers(model: Model) -> None:
    """Refuse a graph in which a Conv reads another number of channels than there are: no runtime says so on loading."""
    values, tensors = inferred(model), model.initializers()
    for node in model.proto.graph.node:
        if node.op_type != "Conv" or node.input[0] not in values or node.input[1] not in tensors:
            continue
        data, weight = shape_of(values[node.input[0]]), tuple(tensors[node.input[1]].dims)
        channels = weight[1] * int(attributes(node).get("group", 1))
        if data is not None and data[1] not in (None, channels):
            raise FileError(
                f"the next convolution's kernel {'x'.join(map(str, weight))} reads {channels} channels, but it would "
                f"get {data[1]}",
                layer=label(node),
                file=model.path,
            )
