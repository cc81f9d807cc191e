"""Many small products with constant matrices, however they were written, in one of ``forms``.

``y[b, i, j] = sum_l W[i, j, l] u[b, i, l]``: the vote of every input capsule for every output capsule, one dense layer
a head, one a position (a locally connected layer). Exporters write Tile + MatMul, a broadcast MatMul, Mul + ReduceSum
or Einsum, between Reshape, Unsqueeze, Expand, Squeeze and Transpose. What a graph computes is traced (``tracing``), not
what its nodes are called: an Einsum one letter off is another term, and is left alone.

The product begins at the first value that only moves on its way to it, and ends behind the last node that only moves
its result. A tiled weight is traced to the one that was tiled.
"""

from collections.abc import Iterator

from onnx import NodeProto, TensorProto

from ..graph import Builder
from ..nodes import label as name_of
from .facts import Facts
from .forms import FORMS, Products, builder_for, no_convolution, products
from .place import LEFT, REWRITTEN, Place, Replacement
from .request import FASTEST, Request
from .terms import FREE, Misfit, labels
from .timing import fastest
from .tracing import VIEWS, Tracer

RULE = "matvec"
BATCH = FREE
_CONTRACTIONS = ("Einsum", "MatMul", "ReduceSum")


def places(facts: Facts, request: Request) -> Iterator[Place]:
    """Every node that multiplies and sums, the last one first."""
    tracer = Tracer(facts)
    covered: set[str] = set()
    for node in reversed(facts.nodes):
        if node.op_type not in _CONTRACTIONS or node.domain not in ("", "ai.onnx"):
            continue
        output = node.output[0]
        if output in covered:
            continue
        found = _found(tracer, node)
        if found is None:
            continue
        if isinstance(found, str):
            yield Place(name_of(node), node.op_type, RULE, LEFT, found)
            continue
        end, matched = _behind(tracer, output, found)
        covered |= _between(facts, end, {operand.name for operand in tracer.term(end).operands})
        yield _written(facts, node, end, matched, request)


def _found(tracer: Tracer, node: NodeProto) -> Products | str | None:
    """The products that a node ends, why it ends none, or None where it multiplies nothing."""
    reason = tracer.reasons.get(node.output[0])
    if reason is not None:
        try:
            sums = node.op_type == "ReduceSum" and len(tracer.term(node.input[0]).operands) == 1
        except Misfit:
            sums = True
        return None if sums else reason
    term = tracer.term(node.output[0])
    if len(term.operands) == 1:
        return None
    return products(term)


def _behind(tracer: Tracer, output: str, found: Products) -> tuple[str, Products]:
    """The last value behind ``output`` that only moves its elements, and the products with its axes."""
    while True:
        reader = tracer.facts.alone(output)
        if reader is None or reader.op_type not in VIEWS or reader.input[0] != output:
            return output, found
        if reader.output[0] in tracer.reasons:
            return output, found
        moved = products(tracer.term(reader.output[0]))
        if isinstance(moved, str):
            return output, found
        output, found = reader.output[0], moved


def _between(facts: Facts, end: str, starts: set[str]) -> set[str]:
    """The values on the way from ``starts`` to ``end``."""
    pending, found = [end], set()
    while pending:
        name = pending.pop()
        if name in found or name in starts or name not in facts.producers:
            continue
        found.add(name)
        pending.extend(i for i in facts.producers[name].input if i)
    return found


def _written(facts: Facts, node: NodeProto, end: str, found: Products, request: Request) -> Place:
    """The place with its new nodes, or why the form that was asked for is none here."""
    kind = facts.types.get(found.input.name, TensorProto.FLOAT)
    forms = {name: reason for name in FORMS if (reason := _impossible(name, kind, facts.opset))}
    milliseconds: dict[str, float] = {}
    form = request.matvec
    if form == FASTEST:
        milliseconds = fastest(
            facts, found, kind, [name for name in FORMS if name not in forms], request.batch or 1
        )
        if not milliseconds:
            return Place(name_of(node), node.op_type, RULE, LEFT, "no form ran and gave the right numbers")
        form = min(milliseconds, key=milliseconds.__getitem__)
    elif form in forms:
        return Place(name_of(node), node.op_type, RULE, LEFT, forms[form])
    builder = builder_for(facts, name_of(node))
    replacement = written(builder, found, form, end)
    text = f"{found} {_of_shape(found)} as {form}"
    if milliseconds:
        times = ", ".join(f"{name} {time:.3g} ms" for name, time in milliseconds.items())
        text += f" (batch {_samples(found, request.batch or 1)}: {times})"
    return Place(name_of(node), node.op_type, RULE, REWRITTEN, text, replacement, milliseconds)


def written(builder: Builder, found: Products, form: str, output: str) -> Replacement:
    """The nodes of one form, whose last value is called ``output``."""
    before = len(builder.nodes)
    last = FORMS[form](builder, found)
    nodes = builder.nodes[before:]
    nodes[-1].output[0] = output
    assert last != output
    return Replacement(output, nodes, builder.tensors, builder.weights)


def _impossible(form: str, kind: int, opset: int) -> str:
    """Why a form cannot be written here; "" where it can."""
    if form == "einsum" and opset < 12:
        return f"Einsum is in operator set 12 and newer, and the file has {opset}"
    return no_convolution(kind) if form == "grouped-conv" else ""


def _samples(found: Products, batch: int) -> int:
    """How many samples run at a time: the file's own batch, where it has one."""
    count = 1
    for label in found.batch:
        count *= batch if label.free else label.size
    return count


def _of_shape(found: Products) -> str:
    weight = " x ".join(str(label.size) for label in labels(found.weight.dims))
    return f"with the weight {found.weight.name!r} ({weight})"
