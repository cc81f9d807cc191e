"""Patches that are cut by hand and read by a dense layer: one strided convolution.

The patch embedding of a vision transformer or a mixer: Reshape, Transpose, Reshape, or SpaceToDepth, or Slice and
Concat, or Gather, then MatMul or Gemm. Whatever cuts them, ``x[r, k]`` is a pixel; ``shuffle`` says which, ``cuts``
which window that makes of row ``r`` and which place in it of column ``k``. Then with ``W (K, O)``::

    y[r, o] = sum_k x[r, k] W[k, o] = Conv(image, kernel)[n, o, *position]      kernel[o, c, *offset] = W[k, o]

and the map ``(N, O, *positions)`` goes back to the rows by one Transpose and one Reshape.
"""

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto, TensorProto

from ..constants import attributes
from ..graph import Builder
from ..kernel import Rearrangement
from ..nodes import label as name_of
from .cuts import Cut, cut
from .dense import Dense, dense_layer, with_bias
from .facts import Facts
from .forms import builder_for, moved, no_convolution
from .place import LEFT, REWRITTEN, Place, Replacement
from .request import Request
from .shuffle import Shuffle, moves, shuffle
from .terms import FREE, Label, Misfit, Operand, Term

RULE = "patches"
BATCH = 3
"""What stands for a free batch: few, as the shuffles are run."""

_MOST_BETWEEN = 40  # nodes that are looked through for patches further in front
_REGROUPED = ("Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
_NORM = (
    "LayerNormalization",
    "ReduceMean",
    "RMSNormalization",
    "InstanceNormalization",
    "GroupNormalization",
)


def places(facts: Facts, request: Request) -> Iterator[Place]:  # noqa: ARG001 - the signature of a rule
    """Every MatMul and Gemm."""
    for node in facts.nodes:
        if node.op_type in ("MatMul", "Gemm") and node.domain in ("", "ai.onnx"):
            try:
                yield _place(facts, node)
            except Misfit as misfit:
                yield _left(node, str(misfit))


def _left(node: NodeProto, reason: str) -> Place:
    return Place(name_of(node), node.op_type, RULE, LEFT, reason)


def _place(facts: Facts, node: NodeProto) -> Place:
    dense = dense_layer(facts, node)
    if isinstance(dense, str):
        return _left(node, dense)
    if not moves(facts.producers.get(dense.input)):
        return _left(node, _between(facts, dense) or "its input is no patches cut by moving pixels")
    found = shuffle(facts, dense.input)
    windows = _windows(dense, found)
    if isinstance(windows, str):
        return _left(node, windows)
    if facts.free and found.shape[0] != facts.batch:
        return _left(node, f"the first axis of {found.source!r} is not the batch alone")
    reason = no_convolution(facts.types.get(found.source, TensorProto.FLOAT))
    if reason:
        return _left(node, reason)
    dense, end = with_bias(facts, dense)
    units = dense.units(facts)
    builder = builder_for(facts, name_of(node))
    end = _write(builder, facts, dense, found, windows, units, end)
    kernel = "x".join(str(span.size) for span in windows.spatial)
    stride = "x".join(str(span.stride) for span in windows.spatial)
    text = (
        f"dense {found.indices.shape[-2 if dense.left else -1]} -> {units} on patches of {found.source!r} is a "
        f"convolution with kernel {kernel}, stride {stride}"
    )
    replacement = Replacement(end, builder.nodes, builder.tensors, builder.weights)
    return Place(name_of(node), node.op_type, RULE, REWRITTEN, text, replacement)


def _windows(dense: Dense, found: Shuffle) -> Cut | str:
    if found.indices.ndim < 2 or len(found.shape) < 2:
        return "its input has no rows"
    indices = np.moveaxis(found.indices, -2, -1) if dense.left else found.indices
    return cut(indices, found.shape)


def _between(facts: Facts, dense: Dense) -> str:
    """What stands between the dense layer and patches further in front; "" where there are none."""
    pending, passed, found = [dense.input], [], False
    seen: set[str] = set()
    while pending and len(seen) < _MOST_BETWEEN:
        name = pending.pop(0)
        node = facts.producers.get(name)
        if name in seen or node is None:
            continue
        seen.add(name)
        if not moves(node):
            passed.append(node)
            pending.extend(i for i in node.input if i and not facts.constants.known(i))
            continue
        try:
            windows = _windows(dense, shuffle(facts, name))
        except Misfit:
            continue
        found = found or not isinstance(windows, str)
    if not found:
        return ""
    norm = next((n for n in passed if n.op_type in _NORM), None)
    if norm is not None:
        return (
            f"a layer normalisation ({norm.op_type} {name_of(norm)!r}) stands between the patches and the weight: "
            "it divides each patch by its own deviation, which no convolution does"
        )
    return f"{passed[0].op_type} {name_of(passed[0])!r} stands between the patches and the weight"


def _write(
    builder: Builder, facts: Facts, dense: Dense, found: Shuffle, windows: Cut, units: int, end: str
) -> str:
    """Append the convolution, and what brings its map to the rows: the value ``end``, or what that is only moved to."""
    image = _image(builder, found, windows)
    operands = [image, _kernel(builder, dense, windows, units)]
    if dense.bias:
        shape = facts.constants.type_of(dense.bias).shape
        operands.append(
            builder.rearranged(dense.bias, Rearrangement(shape, tuple(range(len(shape))), (units,)))
        )
    dilations = [span.dilation for span in windows.spatial]
    y = builder.emit(
        "Conv",
        operands,
        kernel_shape=[span.size for span in windows.spatial],
        strides=[span.stride for span in windows.spatial],
        dilations=None if set(dilations) == {1} else dilations,
    )
    # (N, O, *positions) -> the rows in their order, under the axes that they had
    batch, channel = Label(found.shape[0]), Label(units)
    positions = [Label(span.count) for span in windows.spatial]
    axes = tuple(
        (label,) if label.size > 1 or label is batch else () for label in (batch, channel, *positions)
    )
    rows = [batch, *positions]
    ordered = tuple(rows[i] for i in windows.rows if rows[i].size > 1 or rows[i] is batch)
    leading = found.indices.shape[:-2] + found.indices.shape[-1:] if dense.left else found.indices.shape[:-1]
    if batch.size == 1 and not facts.free:
        axes, ordered = ((), *axes[1:]), tuple(label for label in ordered if label is not batch)
    term = Term((Operand(y, False, axes),), (ordered,)).reshaped(leading)
    of_units = (channel,) if units > 1 else ()
    dims = (*term.dims[:-1], of_units, term.dims[-1]) if dense.left else (*term.dims, of_units)
    term, end = _behind(facts, Term(term.operands, dims), end)
    if facts.free:
        term = term.substituted({batch: (Label(FREE),)})
    moved(builder, y, term.operands[0].dims, term.dims)
    builder.nodes[-1].output[0] = end
    return end


def _behind(facts: Facts, term: Term, end: str) -> tuple[Term, str]:
    """The last value behind ``end`` that is the same rows under other axes, and the term with those."""
    while (reader := facts.alone(end)) is not None and reader.input[0] == end:
        output = reader.output[0]
        try:
            if reader.op_type == "Transpose":
                term = term.transposed(attributes(reader).get("perm") or range(len(term.dims))[::-1])
            elif reader.op_type in _REGROUPED and output in facts.shapes:
                term = term.reshaped(facts.shapes[output])
            else:
                break
        except Misfit:
            break
        end = output
    return term, end


def _image(builder: Builder, found: Shuffle, windows: Cut) -> str:
    """Append what brings the source to ``(N, C, *spatial)``, without what no window reads."""
    name = found.source
    cropped = [span for span in windows.spatial if span.cropped]
    if cropped:
        name = builder.slice(
            name, [s.axis for s in cropped], [s.start for s in cropped], [s.end for s in cropped]
        )
    if windows.channel is None:
        return builder.axes_operand("Unsqueeze", name, [1])
    order = [0, windows.channel.axis, *(span.axis for span in windows.spatial)]
    return name if order == sorted(order) else builder.emit("Transpose", [name], perm=order)


def _kernel(builder: Builder, dense: Dense, windows: Cut, units: int) -> str:
    """Add the weight as ``(O, C, *sizes)``: a view, unless its rows are in an order that no transposition makes."""
    shape, order = windows.kernel, windows.column_order()
    result = (units, *shape)
    if order is None:
        weight = builder.constants.value(dense.weight)
        rows = weight.T if dense.units_first else weight
        # column k reads element columns[k] of (C, *sizes)
        return builder.constant(
            np.ascontiguousarray(rows[np.argsort(windows.columns)].T).reshape(result),
            f"{dense.weight}/kernel",
        )
    sizes = tuple(shape[axis] for axis in order)
    back = tuple(order.index(axis) for axis in range(len(shape)))
    if dense.units_first:  # (O, *sizes) -> (O, C, *spatial)
        rearrangement = Rearrangement((units, *sizes), (0, *(axis + 1 for axis in back)), result)
    else:  # (*sizes, O) -> (O, C, *spatial)
        rearrangement = Rearrangement((*sizes, units), (len(sizes), *back), result)
    return builder.rearranged(dense.weight, rearrangement)
