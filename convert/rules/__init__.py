"""Local rewrites that keep a network's interface: what each finds, and what it writes.

``RULES`` is the one table. A rule is a module with ``places(facts, request)``, which yields a ``Place`` for every node
that it is about: rewritten, with the nodes that take its place, or left alone, with the reason; and ``BATCH``, the
number by which it knows a batch that the file leaves free.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from .facts import Facts
    from .place import Place
    from .request import Request


class RuleModule(Protocol):
    """What the module of a rule has."""

    BATCH: int

    def places(self, facts: "Facts", request: "Request") -> Iterator["Place"]: ...  # noqa: D102


@dataclass(frozen=True)
class Rule:
    """``module``: where it is; ``finds``, ``writes``: what README says; ``caution``: where it is known to lose."""

    module: str
    finds: str
    writes: str
    caution: str = ""

    def load(self) -> RuleModule:
        """The rule's module, imported when it is needed."""
        return cast(RuleModule, import_module(f".{self.module}", __name__))


RULES: Mapping[str, Rule] = {
    "matvec": Rule(
        "matvec",
        "many small products with constant matrices, `y[b,i,j] = W[i,j] @ u[b,i]` (capsules, one dense layer a head or "
        "a position): Tile + MatMul, broadcast MatMul, Mul + ReduceSum, Einsum, and the Reshape, Transpose, Expand, "
        "Squeeze and Unsqueeze around",
        "`--matvec einsum`, `matmul` (one batched MatMul), `grouped-conv` (a 1x1 Conv with a group a product), or the "
        "`fastest` of them",
    ),
    "patches": Rule(
        "patches",
        "patches cut by hand and read by a dense layer (the patch embedding of a transformer or mixer): Reshape, "
        "Transpose, SpaceToDepth, DepthToSpace, Slice, Split, Concat, Gather, GatherND, Flatten, Squeeze, Unsqueeze in "
        "any order, then MatMul or Gemm and its bias",
        "one strided convolution, and a Transpose and a Reshape to the rows as they were",
    ),
    "pointwise": Rule(
        "pointwise",
        "dense layers on `(N, D)`, `(N, T, C)` or `(N, H, W, C)`: MatMul or Gemm with a constant matrix, and the bias",
        "1x1 convolutions on `(N, C, ..)`; elementwise nodes and Softmax between them are kept on that layout, with no "
        "Reshape between",
        "for engines that only take convolutions: elsewhere it can lose. On an Arm Ethos-U such a layer used 0.67 % of "
        "the multipliers, and took 7.35 times the cycles of a dense layer (executorch, pull request 18294)",
    ),
}
MATVEC_FORMS = ("matmul", "einsum", "grouped-conv", "fastest")
"""What ``--matvec`` takes."""
