"""Which sum of products each value of a graph is: node by node, as ``terms`` describes it.

A row a kind of node that moves elements, multiplies or adds up. What any other node gives is an operand of its own.
"""

from collections.abc import Callable, Mapping
from typing import Any

from onnx import NodeProto

from ..constants import attributes
from ..errors import FileError
from ..nodes import label as name_of
from .facts import Facts
from .terms import FREE, Label, Misfit, Operand, Term, labels, multiplied, shown, unequal

VIEWS = frozenset(("Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Tile", "Transpose", "Unsqueeze"))
"""Nodes that move elements, or copy them."""


class Tracer:
    """The terms of a graph's values. ``reasons``: why a node's output is not followed, by its first output."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.reasons: dict[str, str] = {}
        self._terms: dict[str, Term] = {}
        for node in facts.nodes:
            rule = _RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
            if rule is not None:
                try:
                    self._terms[node.output[0]] = rule(self, node)
                except Misfit as misfit:
                    self.reasons[node.output[0]] = str(misfit)

    def term(self, name: str) -> Term:
        """What the value ``name`` is. ``Misfit`` where its shape is not known."""
        found = self._terms.get(name)
        return found if found is not None else self.leaf(name)

    def leaf(self, name: str) -> Term:
        """The value ``name`` as an operand of its own, whatever it is made of."""
        constant = name in self.facts.model.initializers() or self.facts.constants.known(name)
        shape = self.facts.constants.type_of(name).shape if constant else self.facts.shapes.get(name)
        if shape is None:
            raise Misfit(f"the shape of {name!r} is not known")
        if 0 in shape:
            raise Misfit(f"{name!r} has no elements")
        dims = []
        for size in shape:
            # A row-major index of a multiple of the batch splits in this way whatever it was made of.
            parts = (FREE, size // FREE) if size % FREE == 0 else (size,)
            dims.append(tuple(Label(part) for part in parts if part != 1))
        return Term((Operand(name, constant, tuple(dims)),), tuple(dims))

    def factor(self, name: str) -> Term:
        """A factor of a product: one operand."""
        term = self.term(name)
        return term if len(term.operands) == 1 else self.leaf(name)

    def product(self, node: NodeProto, a: Term, b: Term) -> Term:
        """The product of a constant and a value; ``Misfit`` for two of a kind."""
        kinds = {operand.constant for term in (a, b) for operand in term.operands}
        if kinds == {False}:
            raise Misfit("neither factor is a constant")
        if kinds == {True}:
            raise Misfit("both factors are constants")
        return multiplied(a, b, name_of(node))

    def integers(self, node: NodeProto, place: int, attribute: str = "") -> list[int] | None:
        """A list that is an attribute in older operator sets, an input in newer; None where it is not there."""
        given = attributes(node).get(attribute) if attribute else None
        if given is None and place < len(node.input) and node.input[place]:
            if not self.facts.constants.known(node.input[place]):
                raise Misfit(f"{node.input[place]!r} is computed from the network's input")
            given = self.facts.constants.value(node.input[place]).reshape(-1).tolist()
        return None if given is None else [int(number) for number in given]


def _reshape(tracer: Tracer, node: NodeProto) -> Term:
    term = tracer.term(node.input[0])
    target = tracer.integers(node, 1) or []
    if not attributes(node).get("allowzero"):
        target = [term.shape[i] if n == 0 and i < len(term.shape) else n for i, n in enumerate(target)]
    known = 1
    for size in target:
        known *= abs(size)
    total = 1
    for size in term.shape:
        total *= size
    if -1 in target and known:
        target[target.index(-1)] = total // known
    return term.reshaped(target)


def _transpose(tracer: Tracer, node: NodeProto) -> Term:
    term = tracer.term(node.input[0])
    return term.transposed(attributes(node).get("perm") or range(len(term.dims))[::-1])


def _squeeze(tracer: Tracer, node: NodeProto) -> Term:
    term = tracer.term(node.input[0])
    axes = tracer.integers(node, 1, "axes")
    rank = len(term.dims)
    gone = {a % rank for a in axes} if axes is not None else {i for i, n in enumerate(term.shape) if n == 1}
    return Term(term.operands, tuple(axis for i, axis in enumerate(term.dims) if i not in gone))


def _unsqueeze(tracer: Tracer, node: NodeProto) -> Term:
    term = tracer.term(node.input[0])
    axes = tracer.integers(node, 1, "axes") or []
    rank = len(term.dims) + len(axes)
    added = {axis % rank for axis in axes}
    rest = iter(term.dims)
    return Term(term.operands, tuple(() if i in added else next(rest) for i in range(rank)))


def _flatten(tracer: Tracer, node: NodeProto) -> Term:
    term = tracer.term(node.input[0])
    axis = attributes(node).get("axis", 1)
    axis += len(term.dims) if axis < 0 else 0
    before, behind = labels(term.dims[:axis]), labels(term.dims[axis:])
    return Term(term.operands, (tuple(before), tuple(behind)))


def _tile(tracer: Tracer, node: NodeProto) -> Term:
    term = tracer.term(node.input[0])
    return term.tiled(tracer.integers(node, 1) or [1] * len(term.dims))


def _expand(tracer: Tracer, node: NodeProto) -> Term:
    return tracer.term(node.input[0]).expanded(tracer.integers(node, 1) or [])


def _mul(tracer: Tracer, node: NodeProto) -> Term:
    return tracer.product(node, *(tracer.factor(name) for name in node.input))


def _matmul(tracer: Tracer, node: NodeProto) -> Term:
    a, b = (tracer.factor(name) for name in node.input)
    if not a.dims or not b.dims:
        raise FileError("MatMul reads no numbers without axes", layer=name_of(node))
    rows, columns = len(a.dims) > 1, len(b.dims) > 1
    if a.shape[-1] != b.shape[-2 if columns else -1]:
        raise unequal(a, b, (a.shape[-1], b.shape[-2 if columns else -1]), name_of(node))
    # (.., m, k) -> (.., m, k, 1);  (.., k, n) -> (.., 1, k, n)
    a = Term(a.operands, (*(a.dims if rows else ((), *a.dims)), ()))
    b_dims = b.dims if columns else (*b.dims, ())
    b = Term(b.operands, (*b_dims[:-2], (), *b_dims[-2:]))
    rank = max(len(a.dims), len(b.dims))
    term = tracer.product(node, a.padded(rank), b.padded(rank)).summed([rank - 2])  # (.., m, n)
    gone = ([] if rows else [rank - 3]) + ([] if columns else [rank - 2])
    return Term(term.operands, tuple(axis for i, axis in enumerate(term.dims) if i not in gone))


def _einsum(tracer: Tracer, node: NodeProto) -> Term:
    text = attributes(node)["equation"]
    equation = (text.decode() if isinstance(text, bytes) else text).replace(" ", "")
    given, arrow, wanted = equation.partition("->")
    subscripts = given.split(",")
    if len(subscripts) != 2 or len(node.input) != 2:
        raise Misfit(f"its equation {equation!r} does not have two operands")
    if "." in equation or any(len(set(s)) != len(s) for s in (*subscripts, wanted)):
        raise Misfit(f"its equation {equation!r} has an ellipsis or a letter twice")
    letters = sorted(set("".join(subscripts)))
    if not arrow:
        wanted = "".join(letter for letter in letters if given.count(letter) == 1)
    factors = []
    for name, subscript in zip(node.input, subscripts, strict=True):
        term = tracer.factor(name)
        if len(term.dims) != len(subscript):
            raise FileError(
                f"{subscript!r} of the equation {equation!r} does not fit a factor of {shown(term.shape)}",
                layer=name_of(node),
            )
        at = dict(zip(subscript, term.dims, strict=True))
        factors.append(Term(term.operands, tuple(at.get(letter, ()) for letter in letters)))
    term = tracer.product(node, *factors)
    summed = term.summed([i for i, letter in enumerate(letters) if letter not in wanted], keep=True)
    return summed.transposed([letters.index(letter) for letter in wanted])


def _reduce_sum(tracer: Tracer, node: NodeProto) -> Term:
    term = tracer.term(node.input[0])
    axes = tracer.integers(node, 1, "axes")
    given: dict[str, Any] = attributes(node)
    if not axes:
        axes = [] if given.get("noop_with_empty_axes") else list(range(len(term.dims)))
    return term.summed(axes, bool(given.get("keepdims", 1)))


_RULES: Mapping[str, Callable[[Tracer, NodeProto], Term]] = {
    "Einsum": _einsum,
    "Expand": _expand,
    "Flatten": _flatten,
    "Identity": lambda tracer, node: tracer.term(node.input[0]),
    "MatMul": _matmul,
    "Mul": _mul,
    "ReduceSum": _reduce_sum,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
