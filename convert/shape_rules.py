"""ONNX operators as layers of shapecalc: the one table. A row is the whole cost of a new operator.

A rule takes the node with its operands and returns what its first output is and what that reads on each axis of the
network's input. What a rule does not say follows from the dimensions: an axis that operand and output both follow is
read position by position; one that only the operand follows is read whole.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from math import prod
from typing import Any

from onnx import NodeProto

from ..shapecalc.errors import ShapeError
from ..shapecalc.layers import Effect, Layer, Read, Value, effect, slidings
from ..shapecalc.readings import Beyond, Interpolated, Mirrored, Shifted, Transposed
from ..shapecalc.runtimes import Padding, disagreements
from ..shapecalc.window import Window
from .constants import Constants, NotComputed, attributes, axes_of
from .dims import Dim, Dims, broadcast, fresh, regrouped, sizes
from .model import Array
from .operators import BROADCASTING, ELEMENTWISE


class NoRule(Exception):  # noqa: N818 - an answer: the shape is then taken from onnx
    """There is no rule for this form of the operator."""


@dataclass(frozen=True)
class Found:
    """What a node gives: the dimensions of each output, the readings that differ from what the dimensions say."""

    outputs: tuple[Dims, ...]
    readings: Mapping[int, Read] = field(default_factory=dict)
    windows: tuple[Window, ...] = ()
    filter: tuple[int, ...] = ()
    mode: str = ""
    macs: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Node:
    """A node with what is known of its operands; ``dims`` has those that depend on the network's input."""

    proto: NodeProto
    dims: Mapping[str, Dims]
    constants: Constants
    opset: int
    runtime: str

    def data(self, index: int = 0) -> Dims:
        """The dimensions of operand ``index``, which must depend on the input."""
        inputs = self.proto.input
        if index >= len(inputs) or inputs[index] not in self.dims:
            raise NoRule
        return self.dims[inputs[index]]

    def constant(self, index: int) -> Array | None:
        """Operand ``index`` as a constant, None if it is left out."""
        inputs = self.proto.input
        if index >= len(inputs) or not inputs[index]:
            return None
        try:
            return self.constants.value(inputs[index])
        except (KeyError, NotComputed):
            raise NoRule from None

    def operand(self, index: int) -> Dims:
        """The dimensions of operand ``index``, constant or not."""
        name = self.proto.input[index]
        if name in self.dims:
            return self.dims[name]
        array = self.constant(index)
        if array is None:
            raise NoRule
        return fresh(array.shape)

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """The node's attributes as Python values."""
        return attributes(self.proto)

    def numbers(self, name: str, index: int | None = None) -> list[int] | None:
        """A list that is an attribute in older operator sets and operand ``index`` in newer ones."""
        if name in self.attributes:
            return [int(n) for n in self.attributes[name]]
        array = self.constant(index) if index is not None else None
        return None if array is None else [int(n) for n in array.reshape(-1)]


def _axis(dims: Dims, index: int) -> int:
    if not -len(dims) <= index < len(dims):
        raise NoRule
    return index % len(dims)


def _layer(node: Node, kind: str, kernel: Sequence[int]) -> Layer:
    """The node's attributes as a layer with ``kernel``."""
    given = node.attributes
    rank = len(kernel)
    auto = bytes(given.get("auto_pad", b"NOTSET")).decode()
    pads = [int(p) for p in given.get("pads", [0] * 2 * rank)]
    if len(pads) != 2 * rank:
        raise ShapeError(f"pads has two numbers for each of {rank} axes, but {len(pads)}")
    explicit = tuple(Padding("explicit", b, a) for b, a in zip(pads[:rank], pads[rank:], strict=True))
    return Layer(
        kind,
        tuple(int(k) for k in kernel),
        tuple(int(s) for s in given.get("strides", [1] * rank)),
        tuple(int(d) for d in given.get("dilations", [1] * rank)),
        explicit if auto == "NOTSET" else (Padding(auto.lower()),),
        groups=int(given.get("group", 1)),
        bias=False,
        ceil=bool(given.get("ceil_mode", 0)),
        opset=node.opset,
        output_padding=tuple(int(o) for o in given.get("output_padding", [0] * rank)),
        sizes=tuple(int(n) for n in given.get("output_shape", ())),
    )


def _slid(node: Node, layer: Layer, channels: int | None) -> Found:
    """A layer of shapecalc on ``(N, C, *spatial)``; ``channels``: of its output, None for those of its input."""
    x = node.data()
    if len(x) < 3:
        raise ShapeError(
            f"a layer that slides needs batch, channels and a spatial axis, but gets {len(x)} axes"
        )
    value = Value(x[1].size, sizes(x[2:]))
    if len(layer.kernel) != len(value.sizes):
        raise ShapeError(
            f"a kernel with {len(layer.kernel)} axes slides over {len(value.sizes)} spatial axes"
        )
    done: Effect = effect(layer, [value], node.runtime)
    spatial = tuple(Dim(size, dim.axis) for size, dim in zip(done.output.sizes, x[2:], strict=True))
    readings = {dim.axis: r for dim, r in zip(x[2:], done.readings, strict=True) if dim.axis is not None}
    notes: list[str] = []
    if layer.kind != "convtranspose":
        operator = "conv" if layer.kind == "conv" else layer.kind
        for one, size in zip(slidings(layer, operator, len(value.sizes)), value.sizes, strict=True):
            notes += [f"{other}: {what}" for other, what in disagreements(one, size, node.runtime).items()]
    out = Dim(channels) if channels is not None else x[1]
    return Found(
        ((x[0], out, *spatial),),
        readings,
        done.windows,
        mode=layer.padding[0].mode,
        macs=done.macs * x[0].size,
        notes=tuple(dict.fromkeys(notes)),
    )


def _convolution(node: Node) -> Found:
    kernel = sizes(node.operand(1))  # (O, C/group, *kernel)
    if len(kernel) < 3:
        raise ShapeError(f"a kernel has at least 3 axes, but its shape is {list(kernel)}")
    layer = replace(_layer(node, "conv", kernel[2:]), units=kernel[0])
    if kernel[1] * layer.groups != node.data()[1].size:
        raise ShapeError(
            f"a kernel for {kernel[1] * layer.groups} channels meets an input with {node.data()[1].size}"
        )
    return replace(_slid(node, layer, kernel[0]), filter=kernel[1:])


def _transposed(node: Node) -> Found:
    kernel = sizes(node.operand(1))  # (C, O/group, *kernel)
    if len(kernel) < 3:
        raise ShapeError(f"a kernel has at least 3 axes, but its shape is {list(kernel)}")
    layer = _layer(node, "convtranspose", kernel[2:])
    units = kernel[1] * layer.groups
    found = _slid(node, replace(layer, units=units, sizes=layer.sizes[-len(kernel[2:]) :]), units)
    return replace(found, filter=(kernel[0] // layer.groups, *kernel[2:]))


def _pool(kind: str) -> Callable[[Node], Found]:
    def rule(node: Node) -> Found:
        given = node.attributes
        layer = _layer(node, kind, given.get("kernel_shape", ()))
        # Measured with ONNX Runtime 1.19 and 1.32: what the fast kernel cannot do, loops do.
        loops = len(node.proto.output) > 1 or bool(layer.ceil and given.get("count_include_pad"))
        return _slid(node, replace(layer, loops=loops), None)

    return rule


def _global(node: Node) -> Found:
    x = node.data()
    return Found(((*x[:2], *(Dim(1) for _ in x[2:])),))


def _reduced(node: Node) -> Found:
    x = node.data()
    kind = node.proto.op_type
    if kind in ("ArgMax", "ArgMin"):
        axes: list[int] | None = [int(node.attributes.get("axis", 0))]
    else:
        axes = axes_of(node.proto, [None, node.constant(1)])
        if not axes and node.attributes.get("noop_with_empty_axes"):
            return Found((x,))
    gone = {_axis(x, a) for a in axes} if axes else set(range(len(x)))
    kept = bool(node.attributes.get("keepdims", 1))
    return Found((tuple(Dim(1) if i in gone else dim for i, dim in enumerate(x) if kept or i not in gone),))


def _gemm(node: Node) -> Found:
    given = node.attributes
    a, b = node.operand(0), node.operand(1)
    if len(a) != 2 or len(b) != 2:
        raise NoRule
    rows, inner = (a[1], a[0]) if given.get("transA") else (a[0], a[1])
    units, taken = (b[0], b[1]) if given.get("transB") else (b[1], b[0])
    if inner.size != taken.size:
        raise ShapeError(f"a matrix for {taken.size} features meets {inner.size}")
    return Found(((rows, Dim(units.size)),), macs=rows.size * inner.size * units.size)


def _matmul(node: Node) -> Found:
    a, b = node.operand(0), node.operand(1)
    if len(a) < 2 or len(b) < 2:
        raise NoRule
    if a[-1].size != b[-2].size:
        raise ShapeError(f"a matrix for {b[-2].size} features meets {a[-1].size}")
    if node.proto.input[1] not in node.dims and len(b) == 2:
        out: Dims = (*a[:-1], Dim(b[-1].size))  # every row by itself
    else:
        out = (
            *fresh(sizes(broadcast([a[:-2] or (Dim(1),), b[:-2] or (Dim(1),)]))),
            Dim(a[-2].size),
            Dim(b[-1].size),
        )
        out = out[-max(len(a), len(b)) :]
    return Found((out,), macs=prod(sizes(out)) * a[-1].size)


def _same(node: Node) -> Found:
    return Found((node.data(),))


def _elementwise(node: Node) -> Found:
    return Found((broadcast([node.operand(i) for i, name in enumerate(node.proto.input) if name]),))


def _softmax(node: Node) -> Found:
    x = node.data()
    axis = _axis(x, int(node.attributes.get("axis", -1 if node.opset >= 13 else 1)))
    # Below operator set 13 everything from the axis on is one row.
    return _mixed(x, range(axis, len(x)) if node.opset < 13 else [axis])


def _mixed(x: Dims, places: Sequence[int]) -> Found:
    """Every position reads the whole of some dimensions."""
    return Found((x,), {a: Beyond.WHOLE for i in places if (a := x[i].axis) is not None})


def _normalization(node: Node) -> Found:
    x = node.data()
    given = node.attributes
    places: Sequence[int] = range(1, len(x))  # instance and group: channels and space
    if node.proto.op_type == "MeanVarianceNormalization":
        places = [_axis(x, int(a)) for a in given.get("axes", [0, 2, 3])]
    elif node.proto.op_type in ("LayerNormalization", "LpNormalization"):
        first = _axis(x, int(given.get("axis", -1)))
        places = range(first, len(x)) if node.proto.op_type == "LayerNormalization" else [first]
    return _mixed(x, places)


def _transpose(node: Node) -> Found:
    x = node.data()
    perm = [int(p) for p in node.attributes.get("perm", reversed(range(len(x))))]
    if sorted(perm) != list(range(len(x))):
        raise ShapeError(f"Transpose by {perm} of a tensor with {len(x)} axes")
    return Found((tuple(x[p] for p in perm),))


def _reshape(node: Node) -> Found:
    x = node.data()
    target = node.numbers("shape", 1)
    if target is None:
        raise NoRule
    if not node.attributes.get("allowzero"):
        target = [x[i].size if n == 0 and i < len(x) else n for i, n in enumerate(target)]
    if -1 in target:
        rest = -prod(target)
        if rest < 1 or prod(sizes(x)) % rest:
            raise ShapeError(f"a reshape from {list(sizes(x))} to {target} does not come out even")
        target[target.index(-1)] = prod(sizes(x)) // rest
    return _regrouped(x, target)


def _regrouped(x: Dims, target: Sequence[int]) -> Found:
    try:
        return Found((regrouped(x, target),))
    except ValueError as error:
        raise ShapeError(str(error)) from None


def _flatten(node: Node) -> Found:
    x = node.data()
    axis = int(node.attributes.get("axis", 1))
    axis = axis % len(x) if axis < 0 else axis
    return _regrouped(x, (prod(sizes(x[:axis])), prod(sizes(x[axis:]))))


def _squeeze(node: Node) -> Found:
    x = node.data()
    axes = node.numbers("axes", 1)
    gone = {i for i, dim in enumerate(x) if dim.size == 1} if axes is None else {_axis(x, a) for a in axes}
    if any(x[i].size != 1 for i in gone):
        raise ShapeError(f"Squeeze takes away axes of size 1, but {axes} of {list(sizes(x))} are named")
    return Found((tuple(dim for i, dim in enumerate(x) if i not in gone),))


def _unsqueeze(node: Node) -> Found:
    x = node.data()
    axes = node.numbers("axes", 1) or []
    new = {a % (len(x) + len(axes)) for a in axes}
    old = iter(x)
    return Found((tuple(Dim(1) if i in new else next(old) for i in range(len(x) + len(new))),))


def _concat(node: Node) -> Found:
    operands = [node.operand(i) for i in range(len(node.proto.input))]
    place = _axis(operands[0], int(node.attributes.get("axis", 1)))
    shapes = [sizes(dims) for dims in operands]
    if len({(*shape[:place], *shape[place + 1 :]) for shape in shapes}) > 1:
        raise ShapeError(f"Concat joins what differs on axis {place} only, but gets {[*map(list, shapes)]}")
    joined = sum(dims[place].size for dims in operands)
    others = broadcast([(*dims[:place], Dim(1), *dims[place + 1 :]) for dims in operands])
    axes = [a for dims in operands if (a := dims[place].axis) is not None]
    return Found(((*others[:place], Dim(joined), *others[place + 1 :]),), dict.fromkeys(axes, Beyond.UNKNOWN))


def _split(node: Node) -> Found:
    x = node.data()
    place = _axis(x, int(node.attributes.get("axis", 0)))
    count = len(node.proto.output)
    parts = node.numbers("split", 1)
    if parts is None:
        step = -(-x[place].size // count)
        parts = [min(step, x[place].size - step * i) for i in range(count)]
    if min(parts) < 0 or sum(parts) != x[place].size:
        raise ShapeError(f"the parts of a Split do not add up: {parts} of {x[place].size} elements")
    axis = x[place].axis
    outputs = tuple((*x[:place], Dim(part), *x[place + 1 :]) for part in parts)
    return Found(outputs, {} if axis is None else {axis: Beyond.UNKNOWN})


def _slice(node: Node) -> Found:
    x = list(node.data())
    starts, ends = node.numbers("starts", 1), node.numbers("ends", 2)
    if starts is None or ends is None:
        raise NoRule
    axes = node.numbers("axes", 3) or list(range(len(starts)))
    steps = node.numbers("steps", 4) or [1] * len(starts)
    readings: dict[int, Read] = {}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        place = _axis(tuple(x), axis)
        chosen = range(x[place].size)[start:end:step]
        followed = x[place].axis
        if followed is not None and len(chosen) and chosen != range(x[place].size):
            readings[followed] = Window(1, step, before=-chosen[0]) if step > 0 else Beyond.UNKNOWN
        x[place] = Dim(len(chosen), followed)
    return Found((tuple(x),), readings)


def _gather(node: Node) -> Found:
    x = node.data()
    indices = node.constant(1)
    if indices is None:
        raise NoRule
    place = _axis(x, int(node.attributes.get("axis", 0)))
    axis = x[place].axis
    readings: dict[int, Read] = {}
    if axis is not None:
        readings[axis] = Shifted(-(int(indices) % x[place].size)) if indices.ndim == 0 else Beyond.UNKNOWN
    return Found(((*x[:place], *fresh(indices.shape), *x[place + 1 :]),), readings)


def _pad(node: Node) -> Found:
    x = list(node.data())
    pads = node.numbers("pads", 1)
    if pads is None:
        raise NoRule
    axes = node.numbers("axes", 3) if len(node.proto.input) > 3 else None
    places = [_axis(tuple(x), a) for a in axes] if axes is not None else list(range(len(x)))
    mode = bytes(node.attributes.get("mode", b"constant")).decode()
    readings: dict[int, Read] = {}
    for place, before, after in zip(places, pads[: len(places)], pads[len(places) :], strict=True):
        dim = x[place]
        if dim.axis is not None and (before or after):
            readings[dim.axis] = (
                Shifted(before) if mode == "constant" else Mirrored(before, dim.size, mode, after)
            )
            if mode == "wrap" and min(before, after) < 0:  # it starts again with what the crop has left
                readings[dim.axis] = Beyond.UNKNOWN
        if dim.size + before + after < 0:
            raise ShapeError(f"a Pad cuts off {-before} and {-after} of {dim.size} elements")
        x[place] = Dim(dim.size + before + after, dim.axis)
    return Found((tuple(x),), readings)


def _resize(node: Node) -> Found:
    x = node.data()
    given = node.attributes
    mode = bytes(given.get("mode", b"nearest")).decode()
    old = node.proto.op_type == "Upsample" or node.opset < 11
    where = b"asymmetric" if old else bytes(given.get("coordinate_transformation_mode", b"half_pixel"))
    scales = given.get("scales")
    if scales is None:
        array = node.constant(1 if old else 2)
        scales = None if array is None or not array.size else [float(s) for s in array]
    wanted = None if old else node.constant(3)
    if "axes" in given or (scales is None and wanted is None):
        raise NoRule
    outs = (
        [int(n) for n in wanted]
        if wanted is not None
        else [int(d.size * s) for d, s in zip(x, scales or (), strict=True)]
    )
    readings: dict[int, Read] = {}
    for dim, size in zip(x, outs, strict=True):
        if dim.axis is None or size == dim.size:
            continue
        factor = size // dim.size
        floors = old or bytes(given.get("nearest_mode", b"round_prefer_floor")) == b"floor"
        halves = where in (b"half_pixel", b"pytorch_half_pixel") and size > 1
        reading: Read = Beyond.UNKNOWN
        if size % dim.size == 0 and mode == "nearest" and (halves or (where == b"asymmetric" and floors)):
            reading = Transposed(Window(factor, factor))
        elif size % dim.size == 0 and mode == "linear" and (halves or where == b"asymmetric"):
            reading = Interpolated(factor, Fraction(1, 2) if halves else Fraction(0))
        readings[dim.axis] = reading
    return Found((tuple(Dim(size, dim.axis) for dim, size in zip(x, outs, strict=True)),), readings)


def _blocks(node: Node) -> Found:
    """SpaceToDepth and DepthToSpace: a window of one block, there and back."""
    x = node.data()
    size = int(node.attributes.get("blocksize", 1))
    if len(x) != 4 or size < 1:
        raise NoRule
    window = Window(size, size)
    down = node.proto.op_type == "SpaceToDepth"
    channels = x[1].size * size**2 if down else x[1].size // size**2
    spatial = tuple(Dim(d.size // size if down else d.size * size, d.axis) for d in x[2:])
    readings = {d.axis: window if down else Transposed(window) for d in x[2:] if d.axis is not None}
    return Found(((x[0], Dim(channels), *spatial),), readings)


_REDUCTIONS = ("ArgMax", "ArgMin", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
               "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare")  # fmt: skip

RULES: Mapping[str, Callable[[Node], Found]] = {
    "AveragePool": _pool("avgpool"),
    "Concat": _concat,
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "DepthToSpace": _blocks,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    **dict.fromkeys(("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"), _global),
    "LpPool": _pool("lppool"),
    "MatMul": _matmul,
    "MaxPool": _pool("maxpool"),
    "Pad": _pad,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "SpaceToDepth": _blocks,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Upsample": _resize,
    **dict.fromkeys(_REDUCTIONS, _reduced),
    **dict.fromkeys(("Hardmax", "LogSoftmax", "Softmax"), _softmax),
    **dict.fromkeys(("GroupNormalization", "InstanceNormalization", "LayerNormalization", "LpNormalization",
                     "MeanVarianceNormalization"), _normalization),
    **dict.fromkeys((*ELEMENTWISE, "BatchNormalization", "Dropout", "Identity", "LRN"), _same),
    **dict.fromkeys(BROADCASTING, _elementwise),
}  # fmt: skip
