"""What a rule asks of a graph: its nodes, who computes and who reads a value, shapes, constants.

Shapes are onnx's inference. A free batch gets a number; with it ``Shape`` nodes are constants, and what is computed of
them (the targets of Reshape, Tile, Expand) is put back into the inference until nothing new is known.
"""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper, shape_inference

from ..constants import Constants, opset_of
from ..errors import FileError
from ..model import LARGE, Model
from ..nodes import captured, graph_names, read_nodes

_TARGETS: Mapping[str, tuple[int, ...]] = {
    "Expand": (1,), "Gather": (1,), "Pad": (1,), "Reshape": (1,), "Slice": (1, 2, 3, 4), "Split": (1,), "Squeeze": (1,),
    "Tile": (1,), "Unsqueeze": (1,),
}  # fmt: skip
_ROUNDS = 8  # a shape that is computed from a shape that is computed from a shape ...


class Facts:
    """A graph as the rules see it. ``batch``: the number that stands for a free first axis of an input."""

    def __init__(self, model: Model, batch: int) -> None:
        self.model = model
        self.batch = batch
        self.opset = opset_of(model.proto)
        self.nodes = read_nodes(model)
        self.constants = Constants(model)
        self.producers: dict[str, NodeProto] = {o: n for n in self.nodes for o in n.output if o}
        self.outputs = {output.name for output in model.proto.graph.output}
        self.readers: dict[str, list[NodeProto]] = {}
        computed = graph_names(self.nodes)
        graph = model.proto.graph
        self.taken = (
            {i.name for i in graph.input} | set(model.initializers()) | set(graph_names(list(graph.node)))
        )
        self.taken |= {node.name for node in graph.node}
        self.hidden: set[str] = set()  # read by graphs inside nodes
        for node in self.nodes:
            for name in dict.fromkeys(i for i in node.input if i):
                self.readers.setdefault(name, []).append(node)
            self.hidden |= captured(node, computed)
        given = set(model.initializers())
        inputs = [i.type.tensor_type.shape.dim for i in graph.input if i.name not in given]
        self.free = any(dims and not dims[0].HasField("dim_value") for dims in inputs)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.types: dict[str, int] = {}
        self._infer()

    def alone(self, name: str) -> NodeProto | None:
        """The node that reads ``name``, where nothing else does."""
        found = self.readers.get(name, [])
        return found[0] if len(found) == 1 and name not in self.outputs | self.hidden else None

    def constant(self, name: str) -> bool:
        """Whether a value does not depend on the network's input."""
        return name in self.model.initializers() or self.constants.known(name)

    def _infer(self) -> None:
        for _ in range(_ROUNDS):
            before = len(self.shapes)
            proto = self._with_what_is_known()
            try:
                found = shape_inference.infer_shapes(proto, data_prop=True).graph
            except Exception as error:
                raise FileError(
                    f"its shapes do not fit each other: {' '.join(str(error).split())}"
                ) from error
            for info in (*found.input, *found.value_info, *found.output):
                tensor = info.type.tensor_type
                if tensor.elem_type:
                    self.types[info.name] = tensor.elem_type
                if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
                    self.shapes[info.name] = tuple(d.dim_value for d in tensor.shape.dim)
            for tensor in self.model.initializers().values():
                self.types[tensor.name], self.shapes[tensor.name] = tensor.data_type, tuple(tensor.dims)
            self.constants = Constants(self.model)  # it remembers what it could not compute
            for node in self.nodes:
                if node.op_type == "Shape" and node.input[0] in self.shapes:
                    given = {a.name: a.i for a in node.attribute}
                    shape = self.shapes[node.input[0]][slice(given.get("start", 0), given.get("end"))]
                    self.constants.set(node.output[0], np.asarray(shape, dtype=np.int64), batch=self.batch)
            if len(self.shapes) == before:
                return

    def _with_what_is_known(self) -> ModelProto:
        """The skeleton with the batch a number, and computed shapes as constants."""
        proto = ModelProto()
        proto.CopyFrom(self.model.proto)
        graph = proto.graph
        del graph.value_info[:]
        for info in graph.output:
            info.type.tensor_type.ClearField("shape")
        given = set(self.model.initializers())
        for info in graph.input:
            dims = info.type.tensor_type.shape.dim
            if info.name not in given and dims and not dims[0].HasField("dim_value"):
                dims[0].dim_value = self.batch
        number = 0
        for node in graph.node:
            for place in _TARGETS.get(node.op_type, ()):
                name = node.input[place] if place < len(node.input) else ""
                if name and name not in given and name in self.producers and self.constants.known(name):
                    value = self.constants.value(name)
                    if value.dtype.kind in "iu" and value.nbytes < LARGE:
                        number += 1
                        known = numpy_helper.from_array(value, f"dense2conv/known/{number}")
                        graph.initializer.append(known)
                        node.input[place] = known.name
        return proto
