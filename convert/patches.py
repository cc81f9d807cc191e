"""The map without a rewrite: the graph cuts its input into patches, runs the original network on all of them
as one batch, and puts the vectors back. Exact for every network, padded or not.

    (N, C, H, W)  crop to whole patches  (N, C, a*P, b*Q)   reshape    (N, C, a, P, b, Q)
                  transpose              (N, a, b, C, P, Q) reshape    (N*a*b, C, P, Q)
    the network   (N*a*b, D)             reshape            (N, a, b, D) transpose (N, D, a, b)

Patches do not overlap: the stride is the patch. Sizes that are free are computed by the graph from its
input's shape; with a fixed size no such arithmetic is left, because a batch that is free is then the one size
a reshape may leave open.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
    shape_inference,
)

from .constants import Constants, opset_of
from .errors import FileError
from .inputs import SPATIAL_NAMES, Input, map_place
from .model import Model
from .nodes import graph_names, sorted_nodes

_SLICE_WITH_INPUTS = 10
_CONSTANT_OF_SHAPE = 9


class _Writer:
    """Appends nodes and small integer constants under names that the original does not use."""

    def __init__(self, proto: ModelProto, opset: int) -> None:
        graph = proto.graph
        self.taken = graph_names(graph.node) | {i.name for i in (*graph.input, *graph.initializer)}
        self.opset = opset
        self.nodes: list[NodeProto] = []
        self.tensors: list[TensorProto] = []
        self._count = 0

    def name(self, hint: str) -> str:
        self._count += 1
        name = f"dense2conv/{hint}_{self._count}"
        while name in self.taken:
            name += "_"
        return name

    def emit(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        output = output or self.name(kind.lower())
        self.nodes.append(
            helper.make_node(kind, list(inputs), [output], name=self.name(kind.lower()), **attributes)
        )
        return output

    def integers(self, values: Sequence[int]) -> str:
        name = self.name("sizes")
        self.tensors.append(numpy_helper.from_array(np.asarray(values, dtype=np.int64), name))
        return name

    def target(self, parts: Sequence[int | str]) -> str:
        """Return a reshape's target: a constant where at most one part is free (it becomes -1), else
        computed.

        Each part is a size, or the name of a tensor ``(1,)`` that holds it.
        """
        free = [p for p in parts if isinstance(p, str)]
        if len(free) <= 1:
            return self.integers([p if isinstance(p, int) else -1 for p in parts])
        named = [p if isinstance(p, str) else self.integers([p]) for p in parts]
        return self.emit("Concat", named, axis=0)


def patches(model: Model, given: Input, size: Sequence[int] | None, batch: int | None) -> Model:
    """Return the graph that runs ``model`` on every patch of its input, without overlap.

    ``size`` and ``batch`` fix the input, else they stay free. Raises ``FileError`` where an output's shape is
    not one vector (or map) a sample, or the operator set is too old for free sizes.
    """
    opset = opset_of(model.proto)
    if size is None and opset < _CONSTANT_OF_SHAPE:
        raise FileError(
            f"operator set {opset} cannot crop to a computed size: free sizes need {_CONSTANT_OF_SHAPE} or newer",
            hint="fix the input size with --size",
        )
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    graph = proto.graph
    write = _Writer(proto, opset)
    _free_batch(model, graph, given, write)
    counts, whole = _counts(write, given, size)
    axes = range(1, len(given.shape))
    place = {a: i for i, a in enumerate(given.spatial_axes)}

    cut: list[int | str] = [batch if batch is not None else _axis_size(write, given.name, 0, size)]
    for a in axes:
        cut += [counts[place[a]], given.patch[place[a]]] if a in place else [int(given.shape[a] or 1)]
    apart = write.emit("Reshape", [whole, write.target(cut)])
    # (N, ... count, patch ...) -> (N, counts in spatial order, the patch's axes in the file's order)
    position, count_at, rest = 1, {}, []
    for a in axes:
        if a in place:
            count_at[place[a]] = position
            rest.append(position + 1)
            position += 2
        else:
            rest.append(position)
            position += 1
    order = [0, *(count_at[i] for i in range(len(given.patch))), *rest]
    moved = write.emit("Transpose", [apart], perm=order)
    one = [-1, *(given.patch[place[a]] if a in place else int(given.shape[a] or 1) for a in axes)]
    stacked = write.emit("Reshape", [moved, write.integers(one)])
    front = list(write.nodes)
    write.nodes.clear()

    renamed = {given.name: stacked} | {o.name: write.name("vector") for o in graph.output}
    for node in graph.node:
        _rename(node, renamed)
    outputs = [
        _restored(write, o, renamed[o.name], given, cut[0], counts, size, batch)
        for o in _outputs_on_a_patch(model, given)
    ]
    nodes = [*front, *graph.node, *write.nodes]
    for group in (graph.node, graph.output, graph.value_info):
        del group[:]
    # Named, the number of windows is one symbol throughout: without, the runtime cannot see that the two sides of a
    # residual Add have the same shape, fuses fewer nodes than in the original, and rounds otherwise.
    graph.value_info.append(helper.make_tensor_value_info(stacked, given.dtype, ["windows", *one[1:]]))
    graph.node.extend(nodes)
    graph.initializer.extend(write.tensors)
    graph.output.extend(outputs)
    if proto.ir_version < 4:  # from version 4 on an initializer need not be listed as an input
        proto.ir_version = 4
        own = [i for i in graph.input if i.name == given.name]
        del graph.input[:]
        graph.input.extend(own)
    dims: list[int | str] = list(size) if size is not None else list(SPATIAL_NAMES[len(given.patch)])
    for info in graph.input:
        if info.name == given.name:
            shape = [batch if batch is not None else "batch"]
            shape += [dims[place[a]] if a in place else int(given.shape[a] or 1) for a in axes]
            info.CopyFrom(helper.make_tensor_value_info(given.name, given.dtype, shape))
    return Model(proto, dict(model.weights), model.path)


def _axis_size(write: _Writer, name: str, axis: int, size: Sequence[int] | None) -> str:
    """Return a tensor ``(1,)`` with the size of one axis; with a fixed input size only its place is needed."""
    if size is not None:
        return name
    shape = write.emit("Shape", [name])
    return write.emit("Gather", [shape, write.integers([axis])], axis=0)


def _counts(write: _Writer, given: Input, size: Sequence[int] | None) -> tuple[list[int | str], str]:
    """Return how many patches fit on each axis, and the input cropped to whole patches."""
    counts: list[int | str] = []
    axes = list(given.spatial_axes)
    if size is not None:
        counts = [h // p for h, p in zip(size, given.patch, strict=True)]
        ends = [h // p * p for h, p in zip(size, given.patch, strict=True)]
        if ends == list(size):
            return counts, given.name
        if write.opset < _SLICE_WITH_INPUTS:
            return counts, write.emit("Slice", [given.name], axes=axes, starts=[0] * len(axes), ends=ends)
        operands = [write.integers(v) for v in ([0] * len(axes), ends, axes)]
        return counts, write.emit("Slice", [given.name, *operands])
    stops = []
    for axis, p in zip(axes, given.patch, strict=True):
        patch = write.integers([p])
        count = write.emit("Div", [_axis_size(write, given.name, axis, None), patch])
        counts.append(count)
        stops.append(write.emit("Mul", [count, patch]))
    if write.opset < _SLICE_WITH_INPUTS:  # Slice cannot read its ends yet: gather 0, 1, ..., stop - 1
        one = numpy_helper.from_array(np.ones(1, dtype=np.int64))
        name = given.name
        for axis, stop in zip(axes, stops, strict=True):
            ones = write.emit("ConstantOfShape", [stop], value=one)
            numbers = write.emit("Squeeze", [write.emit("NonZero", [ones])], axes=[0])
            name = write.emit("Gather", [name, numbers], axis=axis)
        return counts, name
    ends_name = write.emit("Concat", stops, axis=0)
    operands = [write.integers([0] * len(axes)), ends_name, write.integers(axes)]
    return counts, write.emit("Slice", [given.name, *operands])


def _restored(
    write: _Writer,
    info: ValueInfoProto,
    vector: str,
    given: Input,
    samples: int | str,
    counts: Sequence[int | str],
    size: Sequence[int] | None,
    batch: int | None,
) -> ValueInfoProto:
    """Append what puts the vectors of one output back on the map, and return the output's description."""
    tensor = info.type.tensor_type
    shape = _sizes(info)
    if shape is None or None in shape[1:]:
        raise FileError("the output's sizes behind the batch must be known", layer=info.name)
    rank = len(counts)
    features, in_front = map_place([int(s or 1) for s in shape[1:]], rank, given.channels_last)
    depth = len(features)
    apart = write.emit("Reshape", [vector, write.target([samples, *counts, *features])])
    # (N, *map, *features) -> (N, *features, *map) where channels come first
    order = [0, *range(rank + 1, rank + 1 + depth), *range(1, rank + 1)]
    if in_front or not features:
        write.nodes[-1].output[0] = info.name
    else:
        write.emit("Transpose", [apart], info.name, perm=order)
    free = [f"map_{n}" for n in SPATIAL_NAMES[rank]]
    positions: list[int | str] = [c if isinstance(c, int) else n for c, n in zip(counts, free, strict=True)]
    if size is None:
        positions = list(free)
    dims = [*positions, *features] if in_front else [*features, *positions]
    return helper.make_tensor_value_info(
        info.name, tensor.elem_type, [batch if batch is not None else "batch", *dims]
    )


def _sizes(info: ValueInfoProto) -> list[int | None] | None:
    """Return a value's sizes, ``None`` for a free one; ``None`` where not even their number is known, or none is."""
    tensor = info.type.tensor_type
    if not tensor.HasField("shape") or not tensor.shape.dim:
        return None
    return [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]


def _outputs_on_a_patch(model: Model, given: Input) -> list[ValueInfoProto]:
    """Return the network's outputs; where their sizes are free because the input's are, as onnx infers them."""
    outputs = list(model.proto.graph.output)
    if all(None not in (_sizes(o) or [None])[1:] and _sizes(o) for o in outputs):
        return outputs
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    for info in proto.graph.input:
        if info.name == given.name:
            dims = info.type.tensor_type.shape.dim
            for axis, pixels in zip(given.spatial_axes, given.patch, strict=True):
                dims[axis].dim_value = pixels
            dims[0].dim_value = given.shape[0] or 1  # one sample: what is left for a -1 is known then
    for group in (proto.graph.value_info, proto.graph.output):
        for info in group:
            info.type.tensor_type.ClearField("shape")
    return list(shape_inference.infer_shapes(proto, data_prop=True).graph.output)


def _free_batch(model: Model, graph: GraphProto, given: Input, write: "_Writer") -> None:
    """Let reshapes keep whatever batch they get where the file has baked its own batch into their targets.

    A reshape of a weight stays as it is, whatever its target begins with. ``graph`` is the copy of the model's.
    """
    baked = given.shape[0]
    if baked is None:
        return
    constants, carried = Constants(model), _carried(model, given.name)
    for node in graph.node:
        if node.op_type != "Reshape" or len(node.input) < 2 or node.input[0] not in carried:
            continue
        if not constants.known(node.input[1]):
            continue
        target = [int(n) for n in constants.value(node.input[1]).reshape(-1)]
        if len(target) > 1 and target[0] == baked and 0 not in target:
            node.input[1] = write.integers([0 if -1 in target else -1, *target[1:]])


def _carried(model: Model, name: str) -> set[str]:
    """Return the values computed from the value ``name`` itself, and not only from its shape."""
    found = {name}
    for node in sorted_nodes(model):
        if node.op_type not in ("Shape", "Size") and not found.isdisjoint(node.input):
            found.update(o for o in node.output if o)
    return found


def _rename(node: NodeProto, names: Mapping[str, str]) -> None:
    """Rename values in a node and in the graphs that it runs."""
    for group in (node.input, node.output):
        for i, name in enumerate(group):
            group[i] = names.get(name, name)
    for graph in _own_graphs(node):
        shadowed = {i.name for i in graph.input} | {o for n in graph.node for o in n.output}
        inner = {k: v for k, v in names.items() if k not in shadowed}
        for child in graph.node:
            _rename(child, inner)
        for output in graph.output:
            output.name = inner.get(output.name, output.name)


def _own_graphs(node: NodeProto) -> Iterable[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs
