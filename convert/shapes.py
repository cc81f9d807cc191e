"""A graph as the layers that shapecalc counts: sizes, what reads what, parameters and multiply-adds.

The graph is walked once, with the input's sizes fixed. Each node has a rule in ``layers`` or, where it has none,
the shape that onnx's own inference gives it, with a note; what such a node reads is then unknown, and so are the
receptive fields behind it. Nodes that compute constants or shapes are no layers.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from onnx import ModelProto, ValueInfoProto

from ..shapecalc.errors import ShapeError
from ..shapecalc.layers import Read
from ..shapecalc.network import INPUT, Network
from ..shapecalc.network import Node as Row
from ..shapecalc.readings import SAME_POSITION, Beyond
from ..shapecalc.runtimes import DEFAULT_RUNTIME
from .constants import Constants, NotComputed, opset_of
from .dims import Dim, Dims, fresh, positions, sizes
from .errors import FileError, RequestError
from .inputs import shown
from .layers import RULES
from .layers.node import Found, Node, NoRule
from .model import Model
from .nodes import captured, label, read_nodes

# Operands that are settings, not stored numbers of a layer.
_SETTINGS = frozenset(
    ("Clip", "Dropout", "Expand", "Gather", "Pad", "Reshape", "Resize", "Slice", "TopK", "Upsample")
)

_INFERRED = "shape from onnx's inference"


def network_of(
    model: Model,
    *,
    size: Sequence[int] | None = None,
    batch: int | None = None,
    runtime: str = DEFAULT_RUNTIME,
) -> Network:
    """The layers of ``model`` for one sample of its input.

    ``size``: the input's free spatial axes, or all of them; ``batch``: where the file leaves it free and its network
    wants more than one. Raises ``RequestError`` for a free axis without a size, ``FileError`` for a graph that cannot
    be, or that ``runtime`` refuses, with the layer's name.
    """
    try:
        info = _main_input(model)
        shape = _fixed(info, size, batch)
        return _Walk(model, info.name, shape, runtime).network().checked()
    except ShapeError as error:
        raise FileError(error.message, layer=error.layer, file=model.path, hint=error.hint) from error
    except (FileError, RequestError) as error:
        error.file = error.file or model.path
        raise


def _main_input(model: Model) -> ValueInfoProto:
    """The input that is looked at: of those that are not weights, the first with a spatial axis, or the first."""
    weights = model.initializers()
    inputs = [i for i in model.proto.graph.input if i.name not in weights]
    if not inputs:
        raise FileError("a network has an input, but this graph has none", file=model.path)
    found = next((i for i in inputs if len(i.type.tensor_type.shape.dim) > 2), inputs[0])
    if not found.type.tensor_type.HasField("shape"):
        raise FileError(
            "the input's shape must be known, at least its rank", layer=found.name, file=model.path
        )
    return found


def _known(info: ValueInfoProto) -> list[int | None]:
    return [d.dim_value if d.HasField("dim_value") else None for d in info.type.tensor_type.shape.dim]


def _fixed(info: ValueInfoProto, size: Sequence[int] | None, batch: int | None) -> tuple[int, ...]:
    """The input's shape with nothing left free."""
    known = _known(info)
    if not known:
        return ()
    if batch is not None and known[0] not in (None, batch):
        raise RequestError(f"--batch {batch} contradicts the input's shape {shown(info)}", layer=info.name)
    known[0] = known[0] or batch or 1
    rank = len(known)
    if size is not None:
        free = [i for i, n in enumerate(known) if n is None]
        readings = [free, list(range(2, rank)), list(range(1, rank - 1)), list(range(1, rank))]
        fitting = [
            places
            for places in readings
            if len(places) == len(size)
            and set(free) <= set(places)
            and all(known[p] in (None, n) for p, n in zip(places, size, strict=True))
        ]
        if not fitting:
            raise RequestError(
                f"--size {'x'.join(map(str, size))} does not fit an input of shape {shown(info)}",
                layer=info.name,
            )
        for place, n in zip(fitting[0], size, strict=True):
            known[place] = n
    fixed = [n for n in known if n is not None]
    if len(fixed) < rank:
        count = rank - len(fixed)
        raise RequestError(
            f"{count} axes of the input are free: {shown(info)}"
            if count > 1
            else f"an axis of the input is free: {shown(info)}",
            layer=info.name,
            hint="say their sizes with --size, for instance --size " + "x".join(["224"] * count),
        )
    if min(fixed) < 1:
        raise FileError(f"the input's sizes must be positive, got {fixed}", layer=info.name)
    return tuple(fixed)


class _Walk:
    """The graph walked from its input, with every axis of the input followed; unused ones are dropped at the end."""

    def __init__(self, model: Model, name: str, shape: tuple[int, ...], runtime: str) -> None:
        self.model, self.name, self.shape, self.runtime = model, name, shape, runtime
        self.batch = shape[0] if shape else 1
        self.rank = max(len(shape) - 1, 0)
        self.opset = opset_of(model.proto)
        self.constants = Constants(model)
        start = (*fresh(shape[:1]), *(Dim(n, i) for i, n in enumerate(shape[1:])))
        self.dims: dict[str, Dims] = {name: start}
        self.sources: dict[str, int] = {name: INPUT}
        self.unknown: set[str] = set()  # values whose shape nobody knows
        self.rows: list[Row] = []  # with an entry for every axis
        self.used: set[int] = set()
        self._inferred: Mapping[str, ValueInfoProto] | None = None
        weights = model.initializers()
        for other in model.proto.graph.input:
            if other.name not in weights and other.name != name:
                self._add_other(other)

    def _add_other(self, info: ValueInfoProto) -> None:
        """A further input: its shape counts, but nothing of it is a pixel."""
        known = _known(info)
        if known and known[0] is None:
            known[0] = self.batch
        if any(n is None for n in known) or not info.type.tensor_type.HasField("shape"):
            self.unknown.add(info.name)
        else:
            self.dims[info.name] = fresh([n or 0 for n in known])

    def network(self) -> Network:
        """Walk, and return the layers on the axes that something slides over."""
        for node in read_nodes(self.model):
            if (
                node.op_type in ("Shape", "Size")
                and node.domain in ("", "ai.onnx")
                and node.input[0] in self.dims
            ):
                self._shape_of(node)
                continue
            if self.model.relayout(node) and node.input[0] in self.dims:
                self._relayout(node)
                continue
            names = [*node.input, *captured(node, self.dims)]
            if any(n in self.dims or n in self.unknown for n in names):
                self._add(node, names)
        axes = sorted(self.used)

        def on_axes(every: Sequence[Any]) -> tuple[Any, ...]:
            return tuple([every[a] for a in axes])

        rows = [
            row._replace(readings=tuple(map(on_axes, row.readings)), sizes=on_axes(row.sizes))
            for row in self.rows
        ]
        return Network(self.name, on_axes(self.shape[1:]), self.shape[1:], tuple(rows))

    def _shape_of(self, node: Any) -> None:
        shape = sizes(self.dims[node.input[0]])
        given = {a.name: a.i for a in node.attribute}
        value: Any = (
            prod(shape) if node.op_type == "Size" else shape[slice(given.get("start", 0), given.get("end"))]
        )
        self.constants.set(node.output[0], np.asarray(value, dtype=np.int64))

    def _relayout(self, node: Any) -> None:
        """A transposition that is no layer of the source: the same value under another name."""
        found = RULES[node.op_type](Node(node, self.dims, self.constants, self.opset, self.runtime))
        self.dims[node.output[0]] = found.outputs[0]
        if node.input[0] in self.sources:  # and no further input
            self.sources[node.output[0]] = self.sources[node.input[0]]

    def _add(self, node: Any, names: Sequence[str]) -> None:
        name = label(node)
        notes: tuple[str, ...] = ()
        try:
            if node.domain not in ("", "ai.onnx") or node.op_type not in RULES or self.unknown & set(names):
                raise NoRule
            found = RULES[node.op_type](Node(node, self.dims, self.constants, self.opset, self.runtime))
        except ShapeError as error:
            error.layer = error.layer or name
            raise
        except ValueError as error:
            raise ShapeError(str(error), layer=name) from error
        except NoRule:
            found = self._from_inference(node, names)
            notes = (_INFERRED if found.outputs else "onnx's inference does not know its shape",)
        read = [n for n in dict.fromkeys(names) if n in self.sources]
        first = found.outputs[0] if found.outputs else ()
        order = self._order(node.output[0])
        readings = tuple(self._readings(self.dims.get(n, ()), first, found, bool(notes)) for n in read)
        if found.windows or any(not isinstance(r, Beyond) for r in found.readings.values()):
            self.used |= {a for a, r in found.readings.items() if not isinstance(r, Beyond)}
        for output, dims in zip(node.output, found.outputs, strict=False):
            self.dims[output] = dims
        self.unknown |= {o for o in node.output[len(found.outputs) :] if o}
        sources = tuple(self.sources[n] for n in read)
        if read:
            self.sources.update((o, len(self.rows)) for o in node.output if o)
        weights = self._weights(node)
        windows = found.windows
        row = Row(
            name=name,
            kind=self.model.kind(node),
            sources=sources,
            readings=readings,
            sizes=positions(first, self.rank),
            output=self._sample([first[i] for i in order] if order else first) if found.outputs else (None,),
            kernel=tuple(w.kernel for w in windows),
            # (in, *window) -> (*window, in), where the source has channels last
            filter=(*found.filter[1:], *found.filter[:1]) if order else found.filter,
            stride=tuple(w.stride for w in windows),
            dilation=tuple(w.dilation for w in windows),
            padding=tuple((w.before, w.after) for w in windows),
            mode=self._padding(node.name) or found.mode,
            parameters=sum(weights.values()),
            macs=found.macs // self.batch,
            weights=weights,
            notes=(*notes, *found.notes),
        )
        self.rows.append(row)

    def _readings(self, operand: Dims, output: Dims, found: Found, inferred: bool) -> tuple[Read, ...]:
        """What the output reads of one operand, on each axis of the input."""
        before, after = {d.axis: d.size for d in operand}, {d.axis: d.size for d in output}
        result: list[Read] = []
        for axis in range(self.rank):
            if inferred:
                result.append(Beyond.UNKNOWN)
            elif axis in found.readings and axis in before:
                result.append(found.readings[axis])
            elif axis in after and after[axis] == before.get(axis):
                result.append(SAME_POSITION)
            else:  # followed by one of the two only, or one position repeated along the other's
                result.append(Beyond.WHOLE)
        return tuple(result)

    def _order(self, value: str) -> Sequence[int]:
        """The permutation that brings a value to the source's order of axes; empty where it is in that order."""
        return self.model.source.orders.get(value, ()) if self.model.source else ()

    def _padding(self, node: str) -> str:
        return self.model.source.paddings.get(node, "") if self.model.source else ""

    def _sample(self, dims: Sequence[Dim]) -> tuple[int, ...]:
        """A value's shape for one sample."""
        shape = tuple(dim.size for dim in dims)
        if shape and shape[0] == self.batch:
            return shape[1:] or (1,)
        return shape

    def _weights(self, node: Any) -> dict[str, int]:
        """The stored numbers that a node reads: constants of floating type, single ones only where they are weights."""
        found: dict[str, int] = {}
        if node.op_type in _SETTINGS:
            return found
        weighty = node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul", "PRelu", "BatchNormalization")
        for name in node.input:
            if name and name not in self.dims:
                try:
                    shape, dtype = self.constants.type_of(name)
                except (KeyError, NotComputed):
                    continue
                size = prod(shape)
                if dtype.kind not in "iub" and (size > 1 or weighty):
                    found[self.constants.origin(name)] = size
        return found

    def _from_inference(self, node: Any, names: Sequence[str]) -> Found:
        """The outputs as onnx's inference sees them; none where it does not, or where it differs from us before."""
        if self._inferred is None:
            self._inferred = _inference(self.model.proto, self.name, self.shape)
        for name in names:
            if name in self.dims and self._shape(name) not in (None, sizes(self.dims[name])):
                return Found(())
        shapes = [self._shape(output) for output in node.output if output]
        known = [fresh(shape) for shape in shapes if shape is not None]
        return Found(tuple(known) if len(known) == len(shapes) else ())

    def _shape(self, name: str) -> tuple[int, ...] | None:
        info = (self._inferred or {}).get(name)
        if info is None or not info.type.tensor_type.HasField("shape"):
            return None
        known = _known(info)
        return None if None in known else tuple(n or 0 for n in known)


def _inference(proto: ModelProto, name: str, shape: Sequence[int]) -> Mapping[str, ValueInfoProto]:
    """What onnx's inference says of every value when the input ``name`` has ``shape``."""
    from onnx.shape_inference import infer_shapes

    fixed = ModelProto()
    fixed.CopyFrom(proto)
    for info in fixed.graph.input:
        if info.name == name:
            for dim, size in zip(info.type.tensor_type.shape.dim, shape, strict=True):
                dim.dim_value = size
        elif info.type.tensor_type.shape.dim and not info.type.tensor_type.shape.dim[0].HasField("dim_value"):
            info.type.tensor_type.shape.dim[0].dim_value = shape[0]
    del fixed.graph.value_info[:]  # they hold for the sizes that the exporter saw
    for info in fixed.graph.output:
        info.type.tensor_type.ClearField("shape")
    try:
        inferred = infer_shapes(fixed, data_prop=True)
    except Exception:  # it raises what its native code throws, also for graphs that run
        return {}
    graph = inferred.graph
    return {info.name: info for info in (*graph.input, *graph.value_info, *graph.output)}
