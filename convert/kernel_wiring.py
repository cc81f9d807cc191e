"""The graph around one Conv, edited in a copy: new constants, inputs, nodes in front and behind; what is dropped."""

import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from .constants import Constants, attributes
from .errors import FileError, RequestError
from .kernel_places import Shape, inferred, shape_of
from .kernel_readings import Place
from .model import LARGE, Model
from .nodes import captured, graph_names, label, read_nodes, sorted_nodes

Array = NDArray[Any]

_IR_WITH_DEFAULTS = 4  # before, an initializer had to be listed as an input, and could not be overridden


class Wiring:
    """A copy of ``model`` in which the Conv ``node`` (a copy, too) gets other inputs."""

    def __init__(self, model: Model, node: NodeProto) -> None:
        proto = ModelProto()
        proto.CopyFrom(model.proto)
        self.index = next(i for i, n in enumerate(model.proto.graph.node) if n is node)
        self.model = Model(proto, dict(model.weights), model.path, files=model.files)
        self.before = Model(model.proto, model.weights, model.path)
        self.node: NodeProto = proto.graph.node[self.index]
        self.constants = Constants(self.before)
        self.values = inferred(self.before)
        self.front: list[NodeProto] = []
        self.behind: list[NodeProto] = []
        graph = proto.graph
        self._taken = set(graph_names(graph.node)) | {label(n) for n in graph.node} | {
            v.name for v in (*graph.input, *graph.initializer)
        }  # fmt: skip
        for inner in graph.node:  # what graphs inside nodes call their own
            for attribute in inner.attribute:
                for part in (attribute.g, *attribute.graphs):
                    self._taken |= set(graph_names(part.node)) | {v.name for v in part.initializer}

    def fresh(self, hint: str) -> str:
        """A name that nothing has, as like ``hint`` as possible."""
        name, number = hint, 1
        while name in self._taken:
            number += 1
            name = f"{hint}_{number}"
        self._taken.add(name)
        return name

    def weight_name(self) -> str:
        """The old weight's name, where this Conv alone reads it as it lies in the file; else a new one."""
        old = self.node.input[1]
        graph = self.model.proto.graph
        readers = [n for n in graph.node if old in n.input or old in captured(n, {old})]
        outputs = {o.name for o in graph.output}
        known = outputs | {i.name for i in graph.input}
        alone = len(readers) == 1 and list(self.node.input).count(old) == 1
        if alone and old in self.model.initializers() and old not in known:
            self._drop(old)
            return str(old)
        return self.fresh(f"{label(self.node)}/kernel")

    def _drop(self, name: str) -> None:
        graph = self.model.proto.graph
        kept = [tensor for tensor in graph.initializer if tensor.name != name]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        self.model.weights.pop(name, None)

    def add(self, name: str, array: Array) -> None:
        """Add an initializer: a view, where it is large."""
        graph = self.model.proto.graph
        if array.nbytes < LARGE:
            graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        else:
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            graph.initializer.append(TensorProto(name=name, data_type=kind, dims=array.shape))
            self.model.weights[name] = array
        if self.model.proto.ir_version < _IR_WITH_DEFAULTS:
            graph.input.append(
                helper.make_tensor_value_info(name, graph.initializer[-1].data_type, array.shape)
            )

    def input(self, name: str, shape: Sequence[int], *, default: bool) -> None:
        """List a tensor as an input of the graph; with ``default`` its initializer counts where nothing is given."""
        proto = self.model.proto
        if (
            default and proto.ir_version < _IR_WITH_DEFAULTS
        ):  # its initializers are constants: from 4 on only unlisted
            listed = set(self.model.initializers())
            kept = [i for i in proto.graph.input if i.name not in listed]
            del proto.graph.input[:]
            proto.graph.input.extend(kept)
            proto.ir_version = _IR_WITH_DEFAULTS
        kind = helper.np_dtype_to_tensor_dtype(self.dtype(label(self.node)))
        proto.graph.input.append(helper.make_tensor_value_info(name, kind, shape))

    def integers(self, values: Sequence[int]) -> str:
        """Add a constant of integers."""
        name = self.fresh(f"{label(self.node)}/sizes")
        self.add(name, np.asarray(values, dtype=np.int64))
        return name

    def emit(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Add a node in front of the Conv; its output's name."""
        output = output or self.fresh(f"{label(self.node)}/{kind.lower()}")
        name = self.fresh(f"{output}/node")
        self.front.append(helper.make_node(kind, list(inputs), [output], name, **attributes))
        return output

    def emit_behind(self, kind: str, inputs: Sequence[str], output: str) -> None:
        """Add a node behind the Conv, which gives the value that others read."""
        name = self.fresh(f"{label(self.node)}/unfolded")
        self.behind.append(helper.make_node(kind, list(inputs), [output], name))

    def dtype(self, name: str) -> "np.dtype[Any]":
        """The type that the Conv computes in; ``FileError`` where the file does not say."""
        for value in self.before.proto.graph.node[self.index].input[:2]:
            if value in self.values and self.values[value].type.tensor_type.elem_type:
                kind = self.values[value].type.tensor_type.elem_type
                dtype: np.dtype[Any] = np.dtype(helper.tensor_dtype_to_np_dtype(kind))
                return dtype
            if self.constants.known(value):
                constant: np.dtype[Any] = np.dtype(self.constants.type_of(value).dtype)
                return constant
        raise FileError("the type of the convolution's input is not known", layer=name)

    def known(self, value: str) -> Shape:
        """The sizes of a value; ``FileError`` where there is no such value, or nothing is known of its axes."""
        if value in self.values:
            shape = shape_of(self.values[value])
            if shape is not None:
                return shape
        if self.constants.known(value):
            return self.constants.type_of(value).shape
        graph = self.before.proto.graph
        every = [*graph_names(graph.node), *(i.name for i in graph.input)]
        if value in every:
            raise FileError(f"nothing is known of the shape of the value {value!r}", layer=label(self.node))
        near = difflib.get_close_matches(value, every, n=3)
        raise FileError(
            f"there is no value {value!r} in the graph" + (f"; there is {', '.join(near)}" if near else ""),
            layer=label(self.node),
        )

    def present(self, place: Place, kind: str, layout: str) -> tuple[int, ...]:
        """The shape, in ``layout``, of a kernel of the size that there is now; for an input without a default."""
        if not place.spatial:
            raise FileError(
                "the kernel's size must be known, but the convolution does not say", layer=place.name
            )
        channels, spatial = place.channels, place.spatial
        if layout in ("HWC", "CHW"):
            return (*spatial, channels) if layout == "HWC" else (channels, *spatial)
        filters, inputs = {
            "full": (place.filters, channels // place.group),
            "single": (1, channels),
            "depthwise": (max(place.filters // channels, 1) * channels, 1),
        }[kind]
        return (filters, inputs, *spatial) if layout == "OIHW" else (*spatial, inputs, filters)

    def fix_batch(self, batch: int) -> None:
        """Fix the batch of the graph's inputs; ``RequestError`` where it is another number already."""
        shape = shape_of(self.values[self.node.input[0]]) if self.node.input[0] in self.values else None
        if shape and shape[0] not in (None, batch):
            raise RequestError(
                f"--batch is {batch}, but the convolution's input has {shape[0]} samples",
                layer=label(self.node),
            )
        weights = self.model.initializers()
        for info in self.model.proto.graph.input:
            dims = info.type.tensor_type.shape.dim
            if info.name not in weights and dims and not dims[0].HasField("dim_value"):
                dims[0].dim_value = batch


def place_of(wiring: Wiring) -> Place:
    """What the Conv is now; ``FileError`` where its own file contradicts itself, or does not say."""
    node, name = wiring.node, label(wiring.node)
    data = shape_of(wiring.values[node.input[0]]) if node.input[0] in wiring.values else None
    given = attributes(node)
    group = int(given.get("group", 1))
    try:
        weight: Shape | None = wiring.known(node.input[1])
    except FileError:
        weight = None
    if weight is None or weight[0] is None or weight[1] is None:
        raise FileError(
            "the kernel that the convolution has now must be constant, or its shape known", layer=name
        )
    filters, channels = weight[0], weight[1] * group
    if group < 1 or filters % group:
        raise FileError(f"a group divides the filters, but {group} does not divide {filters}", layer=name)
    if data is not None and len(data) != len(weight):
        raise FileError(
            f"the kernel {_by(weight)} has another number of axes than the input {_by(data)}", layer=name
        )
    if data is not None and data[1] not in (None, channels):
        raise FileError(
            f"the kernel {_by(weight)} in {group} groups reads {channels} channels, but the input is {_by(data)}",
            layer=name,
        )
    spatial = tuple(size for size in weight[2:] if size is not None)
    rank = len(weight) - 2
    return Place(name, channels, filters, group, rank, spatial if len(spatial) == rank else ())


def _by(shape: Shape) -> str:
    return "x".join("?" if size is None else str(size) for size in shape)


def pruned(wiring: Wiring) -> Model:
    """The edited model: nodes in order, without what nothing reads any more, and with the shapes of its outputs."""
    model, graph = wiring.model, wiring.model.proto.graph
    nodes = list(graph.node)
    nodes[wiring.index : wiring.index + 1] = [*wiring.front, wiring.node, *wiring.behind]
    copies = []
    for node in nodes:
        copy = NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del graph.node[:]
    graph.node.extend(copies)
    ordered = sorted_nodes(model)
    read = {label(n) for n in read_nodes(model)}
    dead_before = {label(n) for n in wiring.before.proto.graph.node} - {
        label(n) for n in read_nodes(wiring.before)
    }
    kept = []
    for node in ordered:
        if label(node) in read or label(node) in dead_before:
            copy = NodeProto()
            copy.CopyFrom(node)
            kept.append(copy)
    del graph.node[:]
    graph.node.extend(kept)
    _drop_constants(wiring)
    _describe(model)
    return model


def _names_read(model: Model) -> set[str]:
    names = set(model.initializers())
    graph = model.proto.graph
    return {i for n in graph.node for i in (*n.input, *captured(n, names))} | {o.name for o in graph.output}


def _drop_constants(wiring: Wiring) -> None:
    """Drop initializers that were read and are not any more."""
    model, graph = wiring.model, wiring.model.proto.graph
    gone = _names_read(wiring.before) - _names_read(model)
    tensors = [t for t in graph.initializer if t.name not in gone]
    dropped = {t.name for t in graph.initializer} - {t.name for t in tensors}
    inputs = [i for i in graph.input if i.name not in dropped]
    for group, values in ((graph.initializer, tensors), (graph.input, inputs)):
        copies = []
        for value in values:
            copy = type(value)()
            copy.CopyFrom(value)
            copies.append(copy)
        del group[:]
        group.extend(copies)
    for name in dropped:
        model.weights.pop(name, None)


def _describe(model: Model) -> None:
    """Declare the outputs' shapes anew: the number of filters may be another, and what was noted inside is void."""
    graph = model.proto.graph
    del graph.value_info[:]
    declared = {o.name: ValueInfoProto.FromString(o.SerializeToString()) for o in graph.output}
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    found = inferred(model)
    for output in graph.output:
        shape = shape_of(found[output.name]) if output.name in found else None
        old = declared[output.name].type.tensor_type
        if shape is None:
            continue  # not known: nothing is said
        dims = output.type.tensor_type.shape.dim
        for i, dim in enumerate(found[output.name].type.tensor_type.shape.dim):
            new = dims.add()
            new.CopyFrom(dim)
            free = len(old.shape.dim) == len(shape) and not old.shape.dim[i].HasField("dim_value")
            if free and not dim.HasField("dim_value"):
                new.CopyFrom(old.shape.dim[i])
