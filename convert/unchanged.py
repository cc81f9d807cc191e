"""That a map has the numbers of the network it was made from, all of them and no others, bit for bit.

Three questions, none of which needs a run:

1. Does every rewritten tensor, rearranged back, equal its source, byte for byte?
2. Does every tensor that both files have under one name hold the same bytes?
3. Is every tensor of numbers that the reference uses used by the map, as itself or rewritten, and has the map
   none of its own, used or not, but single numbers (a factor, a count)?

Bytes, not values: a NaN's payload and the sign of a zero are part of a weight.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, numpy_helper

from .constants import Constants, attributes
from .errors import FileError
from .mapped import release
from .metadata import Metadata, RewrittenTensor
from .model import Array, Model
from .nodes import graphs_of

# Elements compared at a time: a transposed view is walked in bands, so that no copy of the weight is made.
_BAND = 1 << 20

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})

# How many of its inputs an operator computes with at inference. What follows says a shape, a place or a count, or how
# to train: numbers that only these are made of are no weights, and a rewrite may do without them.
_COMPUTED_WITH = {"Dropout": 1, "Expand": 1, "Reshape": 1, "Slice": 1, "Split": 1, "Squeeze": 1, "Tile": 1, "TopK": 1,
                  "Unsqueeze": 1}  # fmt: skip


def changed(reference: Model, candidate: Model, metadata: Metadata) -> list[str]:
    """What is not as it should be, one sentence a tensor; an empty list is the proof.

    Raises ``FileError`` where a rewrite names what one of the files does not have.
    """
    ours, theirs = Tensors(reference), Tensors(candidate)
    constants = Constants(reference)
    faults: list[str] = []
    for rewrite in metadata.rewrites:
        faults.extend(_rewrite_faults(rewrite, constants, theirs))
    targets = {rewrite.target for rewrite in metadata.rewrites}
    for name in sorted(((ours.used & theirs.used) | (ours.floats & theirs.floats)) - targets):
        if not same_bytes(ours.array(name), theirs.array(name)):
            faults.append(f"tensor {name!r} is not what it is in the reference")
    sources = {rewrite.source for rewrite in metadata.rewrites if rewrite.target in theirs.used}
    behind = ours.behind(sources)
    faults.extend(_dropped_rows(metadata.rewrites, constants))
    for name in sorted(ours.computed_with() & ours.floats):
        if name not in theirs.used and name not in behind:
            faults.append(f"tensor {name!r} of the reference is not in the candidate")
    for name in sorted(theirs.floats - targets):
        known = ours.used if name in theirs.used else ours.floats
        if name not in known and theirs.size(name) > 1:
            faults.append(f"tensor {name!r} of the candidate comes from nothing in the reference")
    return faults


def _rewrite_faults(rewrite: RewrittenTensor, constants: Constants, theirs: "Tensors") -> Iterator[str]:
    """Whether the target, rearranged back, is the source."""
    rearrangement = rewrite.rearrangement
    if rewrite.target not in theirs.used:
        yield f"rewritten tensor {rewrite.target!r} is not used by the candidate"
        return
    source = _source(rewrite, constants)
    if rewrite.rows is not None:
        if source.ndim != 2 or rewrite.rows[1] > source.shape[rewrite.axis]:
            raise FileError(
                f"rows {list(rewrite.rows)} of axis {rewrite.axis} of {rewrite.source!r} do not exist: "
                f"its shape is {source.shape}",
                layer=rewrite.layer,
            )
        source = source[(slice(None),) * rewrite.axis + (slice(*rewrite.rows),)]
    target = theirs.array(rewrite.target)
    if target.shape != rearrangement.result or source.size != target.size:
        yield (
            f"rewritten tensor {rewrite.target!r} has shape {target.shape}, but {source.shape} "
            f"rearranged has {rearrangement.result}"
        )
    # Both in the shape in which the source's axes are apart: splitting axes is a view, joining might be a
    # copy.
    elif not same_bytes(
        source.reshape(rearrangement.shape), rearrangement.invert(target, rearrangement.shape)
    ):
        yield f"rewritten tensor {rewrite.target!r} of {rewrite.layer!r} is not {rewrite.source!r} rearranged"


def _source(rewrite: RewrittenTensor, constants: Constants) -> Array:
    try:
        return constants.value(rewrite.source)
    except KeyError:
        raise FileError(
            f"the candidate says it was made from {rewrite.source!r}, which is no constant of the reference",
            layer=rewrite.layer,
            hint="was it converted from this reference?",
        ) from None


def _dropped_rows(rewrites: Iterable[RewrittenTensor], constants: Constants) -> Iterator[str]:
    """Sources of which only some rows were rewritten."""
    taken: dict[tuple[str, int], list[tuple[int, int]]] = {}
    whole = {rewrite.source for rewrite in rewrites if rewrite.rows is None}
    for rewrite in rewrites:
        if rewrite.rows is not None and rewrite.source not in whole:
            taken.setdefault((rewrite.source, rewrite.axis), []).append(rewrite.rows)
    for (source, axis), parts in taken.items():
        end = 0
        for start, stop in sorted(parts):
            if start > end:
                break
            end = max(end, stop)
        size = constants.value(source).shape[axis]
        if end < size:
            yield f"of tensor {source!r} of the reference, row {end} of {size} is not in the candidate"


def same_bytes(one: Array, other: Array) -> bool:
    """Whether two arrays agree in shape, element type and every bit; strided views are not copied."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype.hasobject:
        return bool((one == other).all())
    word = f"u{one.dtype.itemsize}" if one.dtype.itemsize in (1, 2, 4, 8) else f"V{one.dtype.itemsize}"
    bits, others = one.view(word), other.view(word)
    same = all(np.array_equal(a, b) for a, b in zip(_bands(bits), _bands(others), strict=True))
    release(one)
    release(other)
    return same


def _bands(array: Array) -> Iterator[Array]:
    if array.ndim == 0 or array.size <= _BAND:
        yield array
        return
    rows = max(1, _BAND * array.shape[0] // array.size)
    for start in range(0, array.shape[0], rows):
        yield array[start : start + rows]


class Tensors:
    """The tensors that a network holds by name: initializers and ``Constant`` nodes, in the graphs inside nodes too.

    ``used`` are the names that its outputs depend on, ``floats`` those that hold floating-point numbers. Where two
    graphs inside nodes have tensors of one name (the branches of an ``If`` may), the second is called after its number.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        graph = model.proto.graph
        self._tensors: dict[str, TensorProto] = {}
        self._producers: dict[str, list[NodeProto]] = {}
        self._collect(graph)
        self.used = self.behind(output.name for output in graph.output)
        self.floats = {name for name, tensor in self._tensors.items() if tensor.data_type in _FLOATS}

    def _collect(self, graph: GraphProto) -> None:
        for tensor in graph.initializer:
            self._add(tensor.name, tensor)
        for sparse in graph.sparse_initializer:
            self._add(sparse.values.name, sparse.values)
        for node in graph.node:
            for output in node.output:
                self._producers.setdefault(output, []).append(node)
            if node.op_type == "Constant" and node.output:
                for attribute in node.attribute:
                    if attribute.type == AttributeProto.TENSOR and attribute.name == "value":
                        self._add(node.output[0], attribute.t)
                    elif attribute.type in (AttributeProto.FLOAT, AttributeProto.FLOATS):
                        values = np.array(attribute.floats or attribute.f, np.float32)
                        self._add(node.output[0], numpy_helper.from_array(values))
            for inner in graphs_of(node):
                self._collect(inner)

    def _add(self, name: str, tensor: TensorProto) -> None:
        number = 1
        while (key := name if number == 1 else f"{name} ({number})") in self._tensors:
            number += 1
        self._tensors[key] = tensor

    def computed_with(self) -> set[str]:
        """Of ``used``, the names whose numbers enter the outputs, and not only some shape on the way."""
        constants = Constants(self._model)
        return self.behind(
            (output.name for output in self._model.proto.graph.output),
            lambda node: _operands(node, _numbers_of(node, constants)),
        )

    def array(self, name: str) -> Array:
        """The values of a tensor."""
        if name in self._model.weights:
            return self._model.weights[name]
        return numpy_helper.to_array(self._tensors[name])  # type: ignore[no-any-return]

    def size(self, name: str) -> int:
        """The number of elements of a tensor."""
        return int(np.prod(np.array(self._tensors[name].dims, dtype=object)))

    def behind(
        self, values: Iterable[str], operands: Callable[[NodeProto], Iterable[str]] | None = None
    ) -> set[str]:
        """The tensors that these values are computed from by their nodes' ``operands``, themselves included."""
        operands = operands or _operands
        pending, seen = list(values), {""}
        while pending:
            name = pending.pop()
            if name in seen:
                continue
            seen.add(name)
            for node in self._producers.get(name, ()):
                pending.extend(operands(node))
        return seen & self._tensors.keys()


def _numbers_of(node: NodeProto, constants: Constants) -> int | None:
    """How many of its inputs a node computes with; ``None`` for all."""
    if node.op_type == "Gemm" and attributes(node).get("beta") == 0:
        return 2  # BLAS: C is not read where beta is 0
    if node.op_type == "Pad" and len(node.input) > 1 and constants.known(node.input[1]):
        widths = constants.value(node.input[1]).reshape(-1).tolist()
        return None if any(width > 0 for width in widths) else 1  # a crop puts no number anywhere
    return _COMPUTED_WITH.get(node.op_type)


def _operands(node: NodeProto, count: int | None = None) -> Iterator[str]:
    """What a node reads, of its own inputs the first ``count``, and what the graphs inside it give.

    What those give depends on is found from there: what nothing in them reads is no part of them.
    """
    yield from node.input[:count]
    for graph in graphs_of(node):
        yield from (output.name for output in graph.output)
