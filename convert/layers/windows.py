"""Operators that slide a window on ``(N, C, *spatial)``, or take positions away, add or repeat them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from ...shapecalc.errors import ShapeError
from ...shapecalc.kinds import effect
from ...shapecalc.layers import Effect, Layer, Read, Value, runtime_notes
from ...shapecalc.readings import Beyond, Interpolated, Mirrored, Transposed
from ...shapecalc.runtimes import Padding
from ...shapecalc.window import Window
from ..dims import Dim, sizes
from .node import Found, Node, NoRule, place_of


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
    out = Dim(channels) if channels is not None else x[1]
    return Found(
        ((x[0], out, *spatial),),
        readings,
        done.windows,
        mode=layer.padding[0].mode,
        macs=done.macs * x[0].size,
        notes=runtime_notes(layer, value, node.runtime),
    )


def convolution(node: Node) -> Found:
    """Conv, by the shape of its kernel ``(O, C/group, *kernel)``."""
    kernel = sizes(node.operand(1))  # (O, C/group, *kernel)
    if len(kernel) < 3:
        raise ShapeError(f"a kernel has at least 3 axes, but its shape is {list(kernel)}")
    layer = replace(_layer(node, "conv", kernel[2:]), units=kernel[0])
    if kernel[1] * layer.groups != node.data()[1].size:
        raise ShapeError(
            f"a kernel for {kernel[1] * layer.groups} channels meets an input with {node.data()[1].size}"
        )
    return _slid(node, layer, kernel[0])._replace(filter=kernel[1:])


def transposed(node: Node) -> Found:
    """ConvTranspose, by the shape of its kernel ``(C, O/group, *kernel)``."""
    kernel = sizes(node.operand(1))  # (C, O/group, *kernel)
    if len(kernel) < 3:
        raise ShapeError(f"a kernel has at least 3 axes, but its shape is {list(kernel)}")
    layer = _layer(node, "convtranspose", kernel[2:])
    units = kernel[1] * layer.groups
    found = _slid(node, replace(layer, units=units, sizes=layer.sizes[-len(kernel[2:]) :]), units)
    return found._replace(filter=(kernel[0] // layer.groups, *kernel[2:]))


def pool(kind: str) -> Callable[[Node], Found]:
    """A pool of the ``kind`` that shapecalc calls it."""

    def rule(node: Node) -> Found:
        given = node.attributes
        layer = _layer(node, kind, given.get("kernel_shape", ()))
        # Measured with ONNX Runtime 1.19 and 1.32: what the fast kernel cannot do, loops do.
        loops = len(node.proto.output) > 1 or bool(layer.ceil and given.get("count_include_pad"))
        return _slid(node, replace(layer, loops=loops), None)

    return rule


def global_pool(node: Node) -> Found:
    """One position on each spatial axis."""
    x = node.data()
    return Found(((*x[:2], *(Dim(1) for _ in x[2:])),))


def pad(node: Node) -> Found:
    """Pad; below 0 it crops."""
    x = list(node.data())
    pads = node.numbers("pads", 1)
    if pads is None:
        raise NoRule
    axes = node.numbers("axes", 3) if len(node.proto.input) > 3 else None
    places = [place_of(tuple(x), a) for a in axes] if axes is not None else list(range(len(x)))
    mode = bytes(node.attributes.get("mode", b"constant")).decode()
    readings: dict[int, Read] = {}
    for place, before, after in zip(places, pads[: len(places)], pads[len(places) :], strict=True):
        dim = x[place]
        if dim.axis is not None and (before or after):
            readings[dim.axis] = (
                Window(1, before=before) if mode == "constant" else Mirrored(before, dim.size, mode, after)
            )
            if mode == "wrap" and min(before, after) < 0:  # it starts again with what the crop has left
                readings[dim.axis] = Beyond.UNKNOWN
        if dim.size + before + after < 0:
            raise ShapeError(f"a Pad cuts off {-before} and {-after} of {dim.size} elements")
        x[place] = Dim(dim.size + before + after, dim.axis)
    return Found((tuple(x),), readings)


def resize(node: Node) -> Found:
    """Resize and Upsample by whole numbers, nearest or linear; what other ways read is not known."""
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
            reading = Interpolated(factor, halves)
        readings[dim.axis] = reading
    return Found((tuple(Dim(size, dim.axis) for dim, size in zip(x, outs, strict=True)),), readings)


def blocks(node: Node) -> Found:
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
