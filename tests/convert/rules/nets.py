"""Graphs for the rules' tests, made with onnx's helper; and what plain ONNX Runtime gives for them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from dense2conv.convert.model import Model

Array = NDArray[Any]
FLOAT = TensorProto.FLOAT


class Graph:
    """A graph while a test puts it together: ``x = g("Relu", x)``; integers and arrays become initializers."""

    def __init__(self, shape: Sequence[int | str], opset: int = 17, kind: int = FLOAT) -> None:
        self.opset, self.kind = opset, kind
        self.shape = list(shape)
        self.nodes: list[NodeProto] = []
        self.tensors: list[TensorProto] = []

    def constant(self, value: Any) -> str:
        array = np.asarray(value)
        name = f"c{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def __call__(self, kind: str, *operands: Any, outputs: int = 1, **attributes: Any) -> Any:
        names = [o if isinstance(o, str) else self.constant(o) for o in operands]
        number = len(self.nodes)
        made = [f"v{number}" if not i else f"v{number}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, names, made, name=f"{kind.lower()}_{number}", **attributes))
        return made[0] if outputs == 1 else made

    def axes(self, kind: str, x: str, axes: Sequence[int], **attributes: Any) -> str:
        """Squeeze, Unsqueeze and ReduceSum as the operator set has them."""
        if self.opset < 13:
            return str(self(kind, x, axes=list(axes), **attributes))
        return str(self(kind, x, np.asarray(axes, np.int64), **attributes))

    def proto(self, output: str, shape: Sequence[Any] | None = None) -> ModelProto:
        last = self.nodes[-1]
        assert last.output[0] == output
        last.output[0] = "y"
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", self.kind, self.shape)],
            [helper.make_tensor_value_info("y", self.kind, shape)],
            self.tensors,
        )
        return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", self.opset)])


def run(proto: ModelProto | Model, x: Array) -> Array:
    """What plain ONNX Runtime gives."""
    proto = whole(proto) if isinstance(proto, Model) else proto
    onnx.checker.check_model(proto)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    result: Array = session.run(None, {"x": x})[0]
    return result


def whole(model: Model) -> ModelProto:
    """A model with its weights inside."""
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    for tensor in proto.graph.initializer:
        if tensor.name in model.weights:
            array = np.ascontiguousarray(model.weights[tensor.name])
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return proto


def kinds(model: Model) -> list[str]:
    """The operators of a model, in order."""
    return [node.op_type for node in model.proto.graph.node]
