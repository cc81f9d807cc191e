"""The map without a rewrite: the graph cuts its input into patches, runs the original network on them, and puts the
vectors back. Exact for every network, padded or not.

Without overlap that is a reshape and one batch (``patch_tiles``); at any other stride, and where the file fixes its
batch, it is a loop over blocks of positions (``blocks``). What both have in common is here: which nodes run on a patch,
what is known of the outputs, and the interface of the map.
"""

from collections.abc import Sequence

from onnx import ModelProto, NodeProto, ValueInfoProto, helper, shape_inference

from .blocks import blocks
from .errors import FileError
from .inputs import SPATIAL_NAMES, Input
from .model import Model
from .nodes import captured, every_name, graph_names, read_nodes
from .patch_parts import Task
from .patch_tiles import tiles
from .patch_writer import CONSTANT_OF_SHAPE, Writer, sizes_of

# Any number that a network would not have by chance: what a free batch is while sizes are inferred.
_SAMPLES = 10007


def patches(
    model: Model, given: Input, stride: Sequence[int], size: Sequence[int] | None, batch: int | None
) -> Model:
    """Return the graph that runs ``model`` on every patch of its input, ``stride`` pixels apart.

    ``size`` and ``batch`` fix the input, else they stay free. Raises ``FileError`` where an output's shape is
    not one vector (or map) a sample, or the operator set is too old for free sizes.
    """
    write = Writer(model)
    if size is None and write.opset < CONSTANT_OF_SHAPE:
        raise FileError(
            f"operator set {write.opset} cannot cut patches out of an input of any size: free sizes need "
            f"{CONSTANT_OF_SHAPE} or newer",
            hint="fix the input size with --size",
        )
    outside, inside = _parts(model, given.name)
    outputs, own_batch = _outputs_on_a_patch(model, given)
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    graph = proto.graph
    for group in (graph.node, graph.output, graph.value_info):
        del group[:]
    patch = [-1, *given.shape[1:]]
    for axis, pixels in zip(given.spatial_axes, given.patch, strict=True):
        patch[axis] = pixels
    cut = sizes_of(write, given, size, batch)
    task = Task(model, given, tuple(stride), inside, outputs, tuple(int(n or 1) for n in patch), tuple(cut))
    if tuple(stride) == given.patch and own_batch is None:
        positions, stacked = tiles(task, write)
        # Named, the number of windows is one symbol throughout: without, the runtime cannot see that the two sides of
        # a residual Add have the same shape, fuses fewer nodes than in the original, and rounds otherwise.
        graph.value_info.append(task.windows(stacked))
    else:
        positions = blocks(task, write, own_batch)
    nodes = _needed([*outside, *write.take()], outputs)
    graph.node.extend(nodes)
    read = every_name(graph)
    graph.initializer.extend(tensor for tensor in write.tensors if tensor.name in read)
    dims: list[int | str] = list(size) if size is not None else list(SPATIAL_NAMES[len(given.patch)])
    free = [f"map_{n}" for n in SPATIAL_NAMES[len(given.patch)]]
    shown = [c if isinstance(c, int) else n for c, n in zip(positions, free, strict=True)]
    samples = batch if batch is not None else "batch"
    for output in outputs:
        features, in_front = task.place(output)
        shape = [samples, *shown, *features] if in_front else [samples, *features, *shown]
        kind = output.type.tensor_type.elem_type
        graph.output.append(helper.make_tensor_value_info(output.name, kind, shape))
    if proto.ir_version < 4:  # from version 4 on an initializer need not be listed as an input
        proto.ir_version = 4
        own = [i for i in graph.input if i.name == given.name]
        del graph.input[:]
        graph.input.extend(own)
    place = {a: i for i, a in enumerate(given.spatial_axes)}
    for entry in graph.input:
        if entry.name == given.name:
            axes = range(1, len(given.shape))
            shape = [samples, *(dims[place[a]] if a in place else int(given.shape[a] or 1) for a in axes)]
            entry.CopyFrom(helper.make_tensor_value_info(given.name, given.dtype, shape))
    return Model(proto, dict(model.weights), model.path)


def _needed(nodes: Sequence[NodeProto], outputs: Sequence[ValueInfoProto]) -> list[NodeProto]:
    """Return the nodes that the outputs depend on: not every size that could be needed is."""
    computed = graph_names(nodes)
    needed, kept = {output.name for output in outputs}, []
    for node in reversed(nodes):
        if not needed.isdisjoint(node.output):
            kept.append(node)
            needed |= {*node.input} | captured(node, computed)
    return kept[::-1]


def _parts(model: Model, name: str) -> tuple[list[NodeProto], list[NodeProto]]:
    """Return copies of the nodes that compute with weights alone, once, and of those that run on a patch."""
    outside: list[NodeProto] = []
    inside: list[NodeProto] = []
    carried = {name}
    for node in read_nodes(model):
        copy = NodeProto()
        copy.CopyFrom(node)
        if carried.isdisjoint(node.input) and not captured(node, carried):
            outside.append(copy)
        else:
            carried.update(o for o in node.output if o)
            inside.append(copy)
    for output in model.proto.graph.output:
        if output.name not in carried or output.name == name:
            raise FileError(
                "a network's output must be computed from its input, a vector for each patch",
                layer=output.name,
                hint="take this output out of the file",
            )
    return outside, inside


def _outputs_on_a_patch(model: Model, given: Input) -> tuple[list[ValueInfoProto], int | None]:
    """Return the network's outputs with their sizes on a patch, and how many patches it takes at a time.

    ``None`` for any number. The file says it of its input; or, where a reshape behind a free batch has one of its own,
    the first axis of an output does.
    """
    batch = given.shape[0]
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    for info in proto.graph.input:
        if info.name == given.name:
            dims = info.type.tensor_type.shape.dim
            for axis, pixels in zip(given.spatial_axes, given.patch, strict=True):
                dims[axis].dim_value = pixels
            dims[0].dim_value = batch or _SAMPLES
    for group in (proto.graph.value_info, proto.graph.output):
        for info in group:
            info.type.tensor_type.ClearField("shape")
    inferred = list(shape_inference.infer_shapes(proto, data_prop=True).graph.output)
    outputs = []
    for own, other in zip(model.proto.graph.output, inferred, strict=True):
        declared = _sizes(own)
        # Where inference stumbles over N patches, the file may say how many it means.
        sizes = _sizes(other) or declared or [None]
        if batch is None and sizes[0] is not None and sizes[0] % _SAMPLES:
            batch = sizes[0]
        if sizes[0] not in (None, batch or _SAMPLES):
            raise FileError(
                f"an output's first axis must be the batch: of {batch or 'N'} patches it has "
                f"{sizes[0] if batch else f'{sizes[0] // _SAMPLES} N'} rows",
                layer=own.name,
                hint="export the network so that each patch gives one row, for instance with the batch fixed at 1",
            )
        known = declared if declared and None not in declared[1:] else _sizes(other)
        if known is None or None in known[1:]:
            raise FileError(
                "the output's sizes behind the batch must be known",
                layer=own.name,
                hint="declare them in the file: a vector, or numbers in a shape of their own, for each patch",
            )
        output = ValueInfoProto()
        output.CopyFrom(own)
        if not output.type.tensor_type.elem_type:
            output.type.tensor_type.elem_type = other.type.tensor_type.elem_type
        shape = output.type.tensor_type.shape
        del shape.dim[:]
        for n in known:
            shape.dim.add().dim_value = n or 0
        outputs.append(output)
    return outputs, batch


def _sizes(info: ValueInfoProto) -> list[int | None] | None:
    """Return a value's sizes, ``None`` for a free one; ``None`` where not even their number is known, or none is."""
    tensor = info.type.tensor_type
    if not tensor.HasField("shape") or not tensor.shape.dim:
        return None
    return [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
