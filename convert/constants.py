"""Values of a graph that do not depend on its input: initializers, ``Constant`` nodes and what is computed of
them.

Exporters put a dense weight behind ``Identity``, ``Cast``, ``Transpose`` or ``ConstantOfShape``, and a
reshape's target behind a chain of ``Shape``, ``Gather``, ``Unsqueeze`` and ``Concat``. Chains are followed on
demand. What only moves axes stays a view of the mapped file; every other operator runs in onnx's own
reference implementation, on small values only, so that a file cannot ask for memory it does not hold.
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from .errors import FileError
from .model import Array, Model

# The largest value that is computed rather than viewed, in elements: shape arithmetic is far below, a bomb is
# above.
LARGEST_COMPUTED = 1 << 22


_GRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
_WITH_GRAPHS = frozenset(("If", "Loop", "Scan", "SequenceMap"))  # of ONNX's own operators


class NotComputed(FileError):  # noqa: N818 - a limit of this library, not a fault of the file
    """A constant that is not computed here.

    It has too many elements, or its operator's output may be of any size, or onnx's reference does not compute it.
    """


class TensorType(NamedTuple):
    """What is known of a tensor without its numbers."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


def attributes(node: NodeProto) -> dict[str, Any]:
    """Return a node's attributes as Python values; tensors as they are."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def subgraphs(node: NodeProto) -> bool:
    """Whether the node runs graphs of its own (``If``, ``Loop``, ``Scan``)."""
    if node.op_type not in _WITH_GRAPHS and node.domain in ("", "ai.onnx"):
        return False  # asked of every node, several times: no look at its attributes
    return any(attribute.type in _GRAPHS for attribute in node.attribute)


def opset_of(model: ModelProto) -> int:
    """Return the version of ONNX's own operator set that the model imports."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


class Constants:
    """The constants of one model, by value name.

    ``set`` makes further values known, such as the shape of a value on a patch.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._opset = opset_of(model.proto)
        self._tensors = model.initializers()
        self._producers = {
            output: node for node in model.proto.graph.node for output in node.output if output
        }
        self._known: dict[str, Array] = {}
        inputs = {i.name for i in model.proto.graph.input}
        self._variable = inputs - set(self._tensors)
        self._batch = 0
        self._of_batch: set[str] = set()

    def set(self, name: str, value: Array, *, batch: int = 0) -> None:
        """Make a value known. ``batch``: the number that stands for a free batch, a prime, if it may be in there."""
        self._known[name] = value
        self._variable.discard(name)
        self._batch = batch
        self._mark(name)

    def of_batch(self, name: str) -> bool:
        """Whether the value depends on the number that stands for a free batch. Integers without that prime do not."""
        return self.known(name) and name in self._of_batch

    def _mark(self, name: str) -> None:
        value = self._known[name]
        whole = value.astype(np.int64) if value.dtype.kind in "iu" else None
        if self._batch and (whole is None or bool(((whole != 0) & (whole % self._batch == 0)).any())):
            self._of_batch.add(name)

    def known(self, name: str) -> bool:
        """Whether ``value(name)`` would succeed without computing the network itself."""
        try:
            self.value(name)
        except (KeyError, NotComputed):
            return False
        return True

    def origin(self, name: str) -> str:
        """Return the name of the constant that a value is another form of, through what only moves its elements."""
        seen = set()
        while name in self._producers and self._producers[name].op_type in _FORMS and name not in seen:
            seen.add(name)
            name = self._producers[name].input[0]
        return name

    def type_of(self, name: str) -> TensorType:
        """Return the type of ``value(name)``: of what is stored, or one number everywhere, without its numbers.

        Raises what ``value`` raises.
        """
        if name not in self._known:
            if name in self._tensors:
                tensor = self._tensors[name]
                return TensorType(tuple(tensor.dims), helper.tensor_dtype_to_np_dtype(tensor.data_type))
            node = self._producers.get(name)
            if node is not None and node.op_type == "ConstantOfShape" and not node.domain:
                fill = attributes(node).get("value")
                kind = TensorProto.FLOAT if fill is None else fill.data_type
                shape = _filled_shape(node, self._operands(node))
                return TensorType(shape, helper.tensor_dtype_to_np_dtype(kind))
        value = self.value(name)
        return TensorType(value.shape, value.dtype)

    def value(self, name: str) -> Array:
        """Return the value called ``name``: a view of the mapped file wherever no arithmetic is needed.

        Raises ``KeyError`` where it depends on the network's input, ``NotComputed`` where computing it would
        take more memory than shape arithmetic needs, or where onnx's reference does not compute it.
        """
        if name in self._known:
            return self._known[name]
        if name in self._tensors:
            self._known[name] = self._model.array(self._tensors[name])
            return self._known[name]
        if name in self._variable or name not in self._producers:
            raise KeyError(name)
        node = self._producers[name]
        if all(not o or o in self._known or o in self._tensors for o in node.input):
            self._compute(node)
            return self._known[name]
        # Chains are as long as the graph that a file holds; the walk keeps its own stack, not Python's.
        pending, order, seen = [node], [], set()
        while pending:
            step = pending.pop()
            if id(step) in seen:
                continue
            seen.add(id(step))
            order.append(step)
            for operand in step.input:
                if not operand or operand in self._known or operand in self._tensors:
                    continue
                if operand in self._variable or operand not in self._producers:
                    self._variable.update(step.output)
                    raise KeyError(name)
                pending.append(self._producers[operand])
        remaining = list(reversed(order))
        while remaining:
            later = []
            for step in remaining:
                if all(not o or o in self._known or o in self._tensors for o in step.input):
                    self._compute(step)
                else:
                    later.append(step)
            if len(later) == len(remaining):
                raise FileError("a graph must not have cycles: the value depends on itself", layer=name)
            remaining = later
        return self._known[name]

    def _compute(self, node: NodeProto) -> None:
        if node.output[0] in self._known:
            return
        if subgraphs(node) or node.domain not in ("", "ai.onnx"):
            self._variable.update(node.output)
            raise KeyError(node.output[0])
        operands = self._operands(node)
        view = _VIEWS.get(node.op_type)
        values = [view(node, operands)] if view else self._run(node, operands)
        for name, value in zip(node.output, values, strict=False):
            if name:
                self._known[name] = value
                if not self._of_batch.isdisjoint(node.input):
                    self._mark(name)

    def _operands(self, node: NodeProto) -> list[Array | None]:
        return [self.value(i) if i else None for i in node.input]

    def _run(self, node: NodeProto, operands: list[Array | None]) -> list[Array]:
        """Compute a node that does arithmetic, with onnx's reference implementation of it."""
        size = sum(o.size for o in operands if o is not None)
        if size > LARGEST_COMPUTED or node.op_type in _UNBOUNDED:
            why = (
                "may be of any size"
                if node.op_type in _UNBOUNDED
                else f"comes from {size} elements, and constants are computed from up to {LARGEST_COMPUTED}"
            )
            raise NotComputed(
                f"the output of {node.op_type} {why}: it is not computed",
                layer=node.name or node.output[0],
                hint=_FOLD,
            )
        from onnx.reference import ReferenceEvaluator

        feeds = {i: o for i, o in zip(node.input, operands, strict=True) if o is not None}
        graph = helper.make_graph(
            [node],
            "constant",
            [
                helper.make_tensor_value_info(i, helper.np_dtype_to_tensor_dtype(o.dtype), o.shape)
                for i, o in feeds.items()
            ],
            [helper.make_empty_tensor_value_info(o) for o in node.output if o],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self._opset)])
        try:
            return [np.asarray(v) for v in ReferenceEvaluator(model).run(None, feeds)]
        except Exception as error:  # the reference raises whatever numpy does
            reason = " ".join(str(error).split())
            raise NotComputed(
                f"{node.op_type} cannot be computed from its constants: {reason}",
                layer=node.name or node.output[0],
                hint=_FOLD,
            ) from error


_FOLD = "fold the file's constants first, for instance with onnxsim or onnxslim"

# Operators whose output may be any size whatever their inputs: never computed.
_UNBOUNDED = frozenset(
    (
        "Bernoulli", "Expand", "EyeLike", "Multinomial", "OneHot", "Pad", "RandomNormal",
        "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Range", "Resize", "Tile", "Upsample",
    )
)  # fmt: skip


def _constant(node: NodeProto, _: list[Array | None]) -> Array:
    given = attributes(node)
    if "value" in given:
        value: Array = numpy_helper.to_array(given["value"])
        return value
    for name, kind in (("value_float", np.float32), ("value_floats", np.float32),
                       ("value_int", np.int64), ("value_ints", np.int64)):  # fmt: skip
        if name in given:
            return np.asarray(given[name], dtype=kind)
    raise FileError("Constant holds no number", layer=node.name or node.output[0])


def _operand(operands: list[Array | None], index: int) -> Array:
    value = operands[index] if index < len(operands) else None
    if value is None:
        raise FileError(f"operand {index} is missing")
    return value


def _transpose(node: NodeProto, operands: list[Array | None]) -> Array:
    data = _operand(operands, 0)
    perm = attributes(node).get("perm")
    return data.transpose(perm)


def _filled_shape(node: NodeProto, operands: list[Array | None]) -> tuple[int, ...]:
    shape = [int(n) for n in _operand(operands, 0).tolist()]
    if min(shape, default=0) < 0 or prod(shape) > 1 << 40:
        raise FileError(f"ConstantOfShape asks for shape {shape}", layer=node.name or node.output[0])
    return tuple(shape)


def _constant_of_shape(node: NodeProto, operands: list[Array | None]) -> Array:
    fill = attributes(node).get("value")
    element = np.zeros(1, np.float32) if fill is None else numpy_helper.to_array(fill)
    # one element in memory, whatever the shape
    return np.broadcast_to(element.reshape(()), _filled_shape(node, operands))


def _cast(node: NodeProto, operands: list[Array | None]) -> Array:
    kind = helper.tensor_dtype_to_np_dtype(attributes(node)["to"])
    data = _operand(operands, 0)
    return data if data.dtype == kind else data.astype(kind)


def axes_of(node: NodeProto, operands: list[Array | None]) -> list[int] | None:
    """Return the ``axes`` of Squeeze, Unsqueeze or a Reduce: an attribute in older operator sets, an input in newer."""
    given = attributes(node).get("axes")
    if given is None and len(operands) > 1 and operands[1] is not None:
        given = operands[1].reshape(-1).tolist()
    return None if given is None else [int(a) for a in given]


def _unsqueeze(node: NodeProto, operands: list[Array | None]) -> Array:
    return np.expand_dims(_operand(operands, 0), tuple(axes_of(node, operands) or ()))


def _squeeze(node: NodeProto, operands: list[Array | None]) -> Array:
    axes = axes_of(node, operands)
    return np.squeeze(_operand(operands, 0), None if axes is None else tuple(axes))


def _reshape(node: NodeProto, operands: list[Array | None]) -> Array:
    data, target = _operand(operands, 0), [int(n) for n in _operand(operands, 1)]
    if not attributes(node).get("allowzero"):
        target = [data.shape[i] if n == 0 else n for i, n in enumerate(target)]
    return data.reshape(target)


# Operators whose output is another form of their first operand.
_FORMS = frozenset(("Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"))

# Operators that move no element: numpy views, so that a weight behind them stays a view of the file.
_VIEWS: Mapping[str, Callable[[NodeProto, list[Array | None]], Array]] = {
    "Cast": _cast,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Dropout": lambda _, operands: _operand(operands, 0),
    "Identity": lambda _, operands: _operand(operands, 0),
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
