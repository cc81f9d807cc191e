"""The rewritten nodes as a model of their own: the map.

The interface keeps the original's names. An input ``(N, C, *patch)`` becomes ``(batch, C, *size)``, an output
``(N, D)`` becomes ``(batch, D, *map)``; a channels-last network gets ``(batch, *size, C)`` and ``(batch,
*map, D)``. Batch and sizes stay free unless they are fixed. What nothing reads any more is left out;
constants that are read and were computed by nodes of the original become initializers.
"""

from collections.abc import Mapping, Sequence

from onnx import ModelProto, NodeProto, TensorProto, helper

from .graph import Builder, Rewrite, Value
from .inputs import SPATIAL_NAMES, map_place
from .kernel import Rearrangement
from .lifting import lift, worth_lifting
from .model import LARGE, Array, Model
from .trace import Trace

# Below this version every initializer must be listed as an input; from it on, one that is listed can be
# overridden.
_IR_WITH_DEFAULTS = 4


def assemble(model: Model, trace: Trace, size: Sequence[int] | None, batch: int | None) -> Model:
    """Return the map that ``trace``, made with a stride, has written. ``size``: a fixed input size, else free."""
    builder = trace.builder
    finals = {
        name: _interface(builder, trace, value)
        for name, value in trace.outputs.items()
        if isinstance(value, Value)
    }
    if len(trace.input.patch) == 1 and worth_lifting(builder):
        lift(builder, trace.input.name, list(finals.values()))
    nodes = _named(builder, finals)
    nodes = _needed(nodes, set(finals))
    tensors, weights = _constants(model, builder, nodes)

    proto = ModelProto()
    proto.CopyFrom(model.proto)
    proto.ir_version = max(proto.ir_version, _IR_WITH_DEFAULTS)
    graph = proto.graph
    listed = set(model.initializers()) if model.proto.ir_version >= _IR_WITH_DEFAULTS else set()
    inputs = [
        i for i in graph.input if i.name == trace.input.name or (i.name in tensors and i.name in listed)
    ]
    outputs = list(graph.output)
    for group in (
        graph.node,
        graph.initializer,
        graph.input,
        graph.output,
        graph.value_info,
        graph.quantization_annotation,
        proto.functions,
    ):
        del group[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors.values())
    for info in inputs:
        graph.input.append(info)
    free = SPATIAL_NAMES[len(trace.input.patch)]
    sizes: list[int | str] = list(size) if size is not None else list(free)
    first = batch if batch is not None else "batch"
    for info in graph.input:
        if info.name == trace.input.name:
            channels: list[int | str] = (
                []
                if trace.input.channel_axis is None
                else [int(trace.input.shape[trace.input.channel_axis] or 1)]
            )
            _set_shape(
                info.type.tensor_type,
                [first, *(sizes + channels if trace.input.channels_last else channels + sizes)],
            )
    for info in outputs:
        value = trace.outputs[info.name]
        assert isinstance(value, Value)
        positions: list[int | str] = [f"map_{n}" for n in free]
        if size is not None:
            positions = [
                (h - p) // axis.jump + 1
                for h, p, axis in zip(size, trace.input.patch, value.axes, strict=True)
            ]
        features, in_front = _features(trace, value)
        dims = [*positions, *features] if in_front else [*features, *positions]
        made = helper.make_tensor_value_info(info.name, value.dtype, [first, *dims])
        graph.output.append(made)
    used = {i for n in nodes for i in n.input}
    builder.rewrites[:] = [r for r in builder.rewrites if r.target in used]
    return Model(proto, weights, model.path)


def _features(trace: Trace, value: Value) -> tuple[tuple[int, ...], bool]:
    """Return the sizes of an output's feature axes, and whether its map stands in front of them.

    ``(N, D)`` has one, ``(N,)`` (an ArgMax) none, ``(N, 1, D)`` two, of which the first is empty.
    """
    return map_place(value.layout.shape[1:], len(value.axes), trace.input.channels_last)


def _interface(builder: Builder, trace: Trace, value: Value) -> str:
    """Append what brings an output from the canonical layout to the interface's; return the tensor's name."""
    name = value.name
    rank = len(value.axes)
    features, in_front = _features(trace, value)
    if not features:
        return builder.axes_operand("Squeeze", name, [1])
    if in_front:
        # (N, D, *map) -> (N, *map, D)
        name = builder.emit("Transpose", [name], perm=[0, *range(2, rank + 2), 1])
    first = rank + 1 if in_front else 1
    own = next((i for i, size in enumerate(features) if size != 1), 0)
    empty = [first + i for i in range(len(features)) if i != own]
    return builder.axes_operand("Unsqueeze", name, empty) if empty else name


def _named(builder: Builder, finals: Mapping[str, str]) -> list[NodeProto]:
    """Return the nodes with each output's tensor called what the original called it."""
    produced = {o for n in builder.nodes for o in n.output}
    renamed: dict[str, str] = {}
    nodes = list(builder.nodes)
    wanted: dict[str, str] = {}  # tensor -> the output's name
    for output, tensor in finals.items():
        if tensor == output:
            continue
        if output in produced:
            renamed[output] = builder.fresh(f"{output}/canonical")
        if tensor in wanted or tensor in finals or tensor not in produced:
            copy = NodeProto(
                op_type="Identity", input=[tensor], output=[output], name=builder.fresh(f"{output}/copy")
            )
            nodes.append(copy)
        else:
            wanted[tensor] = output
    for node in nodes:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name in wanted:
                    names[i] = wanted[name]
                elif name in renamed and not (node.op_type == "Identity" and names is node.output):
                    names[i] = renamed[name]
    return nodes


def _needed(nodes: Sequence[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """Return the nodes that the outputs depend on, and undo transposes that cancel each other."""
    producers = {o: n for n in nodes for o in n.output}
    for node in nodes:
        source = producers.get(node.input[0]) if node.op_type == "Transpose" else None
        if source is not None and source.op_type == "Transpose" and node.output[0] not in outputs:
            first, second = (list(helper.get_node_attr_value(n, "perm")) for n in (source, node))
            if [first[i] for i in second] == list(range(len(first))):
                for reader in nodes:
                    for i, name in enumerate(reader.input):
                        if name == node.output[0]:
                            reader.input[i] = source.input[0]
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    return kept[::-1]


def _constants(
    model: Model, builder: Builder, nodes: Sequence[NodeProto]
) -> tuple[dict[str, TensorProto], dict[str, Array]]:
    """Return the initializers that the nodes read: new ones, the original's own, and computed constants."""
    originals = model.initializers()
    produced = {o for n in nodes for o in n.output}
    tensors: dict[str, TensorProto] = {}
    weights: dict[str, Array] = {}
    for name in (i for n in nodes for i in n.input):
        if not name or name in produced or name in tensors:
            continue
        if name in builder.tensors:
            tensors[name] = builder.tensors[name]
            if name in builder.weights:
                weights[name] = builder.weights[name]
        elif name in originals:
            tensors[name] = originals[name]
            if name in model.weights:
                weights[name] = model.weights[name]
        elif builder.constants.known(name):
            array = builder.constants.value(name)
            tensors[name] = TensorProto(
                name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape
            )
            if array.nbytes < LARGE:
                tensors[name].raw_data = array.tobytes()
            else:
                weights[name] = array
            axes = tuple(range(array.ndim))
            builder.rewrites.append(Rewrite("", name, name, Rearrangement(array.shape, axes, array.shape)))
    return tensors, weights


def _set_shape(tensor_type: object, dims: Sequence[int | str]) -> None:
    """Replace a tensor type's shape; strings are free axes' names."""
    shape = tensor_type.shape  # type: ignore[attr-defined]
    del shape.dim[:]
    for size in dims:
        if isinstance(size, int):
            shape.dim.add().dim_value = size
        else:
            shape.dim.add().dim_param = size
