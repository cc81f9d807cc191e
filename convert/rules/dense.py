"""Dense layers as nodes have them: MatMul or Gemm with a constant matrix, and the bias."""

from dataclasses import dataclass, replace

from onnx import NodeProto

from ..constants import attributes
from .facts import Facts


@dataclass(frozen=True)
class Dense:
    """A dense layer: ``y = x W + bias``.

    ``units_first``: the weight's axes are ``(O, K)``, not ``(K, O)``. ``left``: it stands left of its input,
    ``y = W x``, whose rows are then its columns.
    """

    node: NodeProto
    input: str
    weight: str
    units_first: bool
    left: bool
    bias: str = ""

    def units(self, facts: Facts) -> int:
        """How many outputs each row has."""
        return facts.constants.type_of(self.weight).shape[0 if self.units_first else 1]


def dense_layer(facts: Facts, node: NodeProto) -> Dense | str:
    """The dense layer that a MatMul or Gemm is, or why it is none."""
    given = attributes(node)
    constant = [facts.constant(name) for name in node.input[:2]]
    if not any(constant):
        return "neither factor is a constant"
    if all(constant):
        return "both factors are constants"
    left = constant[0]
    data, weight = (node.input[1], node.input[0]) if left else (node.input[0], node.input[1])
    shape = facts.constants.type_of(weight).shape
    if len(shape) != 2:
        return f"its weight has {len(shape)} axes, and a dense layer's has 2"
    if node.op_type == "MatMul":
        return Dense(node, data, weight, units_first=left, left=left)
    if given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0:
        return "its alpha and beta are not 1: the kernel would not be the weight bit for bit"
    if left or given.get("transA"):
        return "the input of its Gemm is transposed, or stands on the right"
    bias = node.input[2] if len(node.input) > 2 else ""
    units_first = bool(given.get("transB"))
    if bias and not _is_vector(facts, bias, shape[0 if units_first else 1]):
        return f"its bias {bias!r} is no constant with a number a unit"
    return Dense(node, data, weight, units_first, left=False, bias=bias)


def with_bias(facts: Facts, dense: Dense) -> tuple[Dense, str]:
    """The dense layer with the Add behind it, where that is its bias, and the value that both make."""
    output = dense.node.output[0]
    reader = facts.alone(output)
    if reader is None or reader.op_type != "Add" or dense.bias or dense.left:
        return dense, output
    other = reader.input[1] if reader.input[0] == output else reader.input[0]
    rank = len(facts.shapes.get(output, ()))
    if not _is_vector(facts, other, dense.units(facts)) or len(facts.constants.type_of(other).shape) > rank:
        return dense, output
    return replace(dense, bias=other), str(reader.output[0])


def _is_vector(facts: Facts, name: str, units: int) -> bool:
    """Whether a value is a constant with one number a unit, on the last axis."""
    if not facts.constant(name):
        return False
    shape = facts.constants.type_of(name).shape
    return bool(shape) and shape[-1] == units and all(size == 1 for size in shape[:-1])
