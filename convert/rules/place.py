"""What a rule says of one place of a graph, and the nodes that take its place."""

from dataclasses import dataclass, field

from onnx import NodeProto, TensorProto

from ..model import Array

REWRITTEN, KEPT, LEFT = "rewritten", "kept", "left alone"


@dataclass(frozen=True)
class Replacement:
    """Nodes that compute the value ``output`` anew, and the constants that they read."""

    output: str
    nodes: list[NodeProto]
    tensors: dict[str, TensorProto] = field(default_factory=dict)
    weights: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """One line of the table: ``name`` and ``operator`` of a node, what became of it, and why or how.

    ``milliseconds``: what each form took, where they were timed.
    """

    name: str
    operator: str
    rule: str
    action: str
    reason: str
    replacement: Replacement | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The place as JSON has it."""
        return {
            "name": self.name,
            "operator": self.operator,
            "rule": self.rule,
            "action": self.action,
            "reason": self.reason,
            "milliseconds": dict(self.milliseconds),
        }
