"""Rules applied to a network: the same interface, other nodes where a rule found a place for them."""

from collections.abc import Sequence
from dataclasses import dataclass

from onnx import NodeProto, TensorProto

from ..errors import RequestError
from ..model import Array, Model
from ..nodes import captured, graph_names, sorted_nodes
from . import RULES
from .facts import Facts
from .place import REWRITTEN, Place, Replacement
from .request import Request


@dataclass(frozen=True)
class Rewriting:
    """A network with the same interface, not yet written or verified, and what was done at each place."""

    source: Model
    model: Model
    places: tuple[Place, ...]

    @property
    def rewritten(self) -> list[Place]:
        """The places that were rewritten."""
        return [place for place in self.places if place.action == REWRITTEN]

    @property
    def frozen(self) -> list[str]:
        """Weights that were inputs with a default, which a caller could override, and are constants now."""
        before = {i.name for i in self.source.proto.graph.input} & set(self.source.initializers())
        after = {i.name for i in self.model.proto.graph.input}
        overridable = self.source.proto.ir_version >= 4  # before, a default was a constant
        return sorted(before - after) if overridable else []


def apply_rules(model: Model, rules: Sequence[str], request: Request | None = None) -> Rewriting:
    """Return ``model`` with each of ``rules`` applied, one after another.

    Raises ``RequestError`` for a rule that is not known, ``FileError`` for shapes that do not fit each other.
    """
    unknown = [rule for rule in rules if rule not in RULES]
    if unknown or not rules:
        raise RequestError(
            f"there is no rule {', '.join(map(repr, unknown))}", hint=f"the rules are {', '.join(RULES)}"
        )
    places: list[Place] = []
    current = model
    for name in dict.fromkeys(rules):
        rule = RULES[name].load()
        facts = Facts(current, rule.BATCH)
        order = {output: i for i, node in enumerate(facts.nodes) for output in (node.name, *node.output)}
        found = sorted(rule.places(facts, request or Request()), key=lambda p: order.get(p.name, 0))
        replacements = [place.replacement for place in found if place.replacement is not None]
        if replacements:
            current = _replaced(current, replacements)
        places += found
    if request is not None and request.batch is not None and current is not model:
        _fix_batch(current, request.batch)
    return Rewriting(model, current, tuple(places))


def _fix_batch(model: Model, batch: int) -> None:
    """Give the free first axis of the inputs, and of outputs of the same name, a size."""
    graph = model.proto.graph
    given = model.initializers()
    names: set[str] = set()
    for info in graph.input:
        dims = info.type.tensor_type.shape.dim
        if info.name not in given and dims and not dims[0].HasField("dim_value"):
            names.add(dims[0].dim_param)
            dims[0].dim_value = batch
    del graph.value_info[:]
    for info in graph.output:
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_param and dim.dim_param in names:
                dim.dim_value = batch


def _replaced(model: Model, replacements: Sequence[Replacement]) -> Model:
    """The network with values computed by other nodes; what nothing reads any more is left out."""
    proto = type(model.proto)()
    proto.CopyFrom(model.proto)
    graph = proto.graph
    new = {replacement.output: replacement for replacement in replacements}
    nodes: list[NodeProto] = []
    for node in sorted_nodes(model):
        if node.output and node.output[0] in new:
            nodes.extend(new[node.output[0]].nodes)
        else:
            nodes.append(node)
    nodes = _needed(nodes, {output.name for output in graph.output})
    used = {i for node in nodes for i in node.input} | {output.name for output in graph.output}
    initializers = model.initializers()
    for node in nodes:
        used |= captured(node, initializers)
    tensors: dict[str, TensorProto] = {n: t for n, t in initializers.items() if n in used}
    weights: dict[str, Array] = {n: w for n, w in model.weights.items() if n in used}
    for replacement in replacements:
        tensors |= {n: t for n, t in replacement.tensors.items() if n in used}
        weights |= {n: w for n, w in replacement.weights.items() if n in used}
    inputs = [i for i in graph.input if i.name not in initializers or i.name in tensors]
    inner = {o for node in nodes for o in node.output}
    infos = [info for info in graph.value_info if info.name in inner]
    proto.ir_version = max(proto.ir_version, 4)  # before, every initializer must be an input
    for group in (graph.node, graph.initializer, graph.input, graph.value_info):
        del group[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors.values())
    graph.input.extend(inputs)
    graph.value_info.extend(infos)
    result = Model(proto, weights, model.path, model.source, model.files)
    ordered = sorted_nodes(result)  # what two places share stands with the first of them
    del graph.node[:]
    graph.node.extend(ordered)
    return result


def _needed(nodes: Sequence[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """The nodes that the outputs depend on."""
    computed = graph_names(list(nodes))
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(i for i in node.input if i)
            needed |= captured(node, computed)
    return kept[::-1]
