"""What a layer makes of what it reads: one N-d rule a kind.

Every rule has the signature ``rule(layer, values, runtime) -> Effect``, checks what it is given and raises
``ShapeError``. With ``C`` input and ``D`` output channels, ``g`` groups and a kernel of ``K`` elements,

    convolution   parameters K*C/g*D (+ D)      MACs K*C/g*D a position of the output
    transposed    parameters K*C*D/g (+ D)      MACs K*C*D/g a position of the input
    dense         parameters C*D (+ D)          MACs C*D a position

MACs are the multiply-adds of products with weights, pads counted as elements; pools and pointwise layers have none.
Parameters are all stored numbers of a layer, trained or not.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from .errors import ShapeError
from .layers import Effect, Layer, Value, on_axes, shown, slidings
from .readings import SAME_POSITION, Adaptive, Beyond, Interpolated, Mirrored, Transposed
from .runtimes import resolved
from .transposed import Enlarging
from .window import Window


def _spatial(values: Sequence[Value], kind: str) -> Value:
    (value,) = values
    if not value.sizes:
        raise ShapeError(
            f"{kind} slides over spatial axes, but its input is flat: {value.channels} numbers",
            hint="put it before the flatten, or a reshape in between",
        )
    return value


def _slid(
    layer: Layer, value: Value, operator: str, runtime: str
) -> tuple[tuple[Window, ...], tuple[int, ...]]:
    axes = slidings(layer, operator, len(value.sizes))
    windows = tuple(resolved(axis, n, runtime) for axis, n in zip(axes, value.sizes, strict=True))
    return windows, tuple(w.output(n) for w, n in zip(windows, value.sizes, strict=True))


def _weights(layer: Layer, channels: int, kernel: Sequence[int]) -> int:
    """Elements of a convolution's kernel; checks units and groups."""
    if layer.units < 1:
        raise ShapeError(f"{layer.kind} needs a number of filters")
    if layer.groups < 1 or channels % layer.groups or layer.units % layer.groups:
        raise ShapeError(
            f"groups must divide the channels in and out, but {layer.groups} does not divide {channels} and "
            f"{layer.units}"
        )
    return prod(kernel) * channels * layer.units // layer.groups


def convolution(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:
    """Convolution, and with a group a channel the depthwise one."""
    value = _spatial(values, layer.kind)
    if layer.kind == "depthwise":
        layer = replace(layer, groups=value.channels, units=value.channels * max(layer.units, 1))
    windows, sizes = _slid(layer, value, "conv", runtime)
    weights = _weights(layer, value.channels, [w.kernel for w in windows])
    return Effect(
        Value(layer.units, sizes),
        windows,
        windows,
        weights + layer.units * layer.bias,
        weights * prod(sizes),
    )


def transposed(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:
    """Transposed convolution."""
    value = _spatial(values, layer.kind)
    rank = len(value.sizes)
    asked: tuple[int | None, ...] = on_axes("size", layer.sizes, rank) if layer.sizes else (None,) * rank
    extra = on_axes("output padding", layer.output_padding, rank)
    found = [
        Enlarging(axis, o, size).resolved(n, runtime)
        for axis, o, size, n in zip(slidings(layer, "conv", rank), extra, asked, value.sizes, strict=True)
    ]
    windows = tuple(window for window, _ in found)
    weights = _weights(layer, value.channels, [w.kernel for w in windows])
    return Effect(
        Value(layer.units, tuple(size for _, size in found)),
        tuple(Transposed(window) for window in windows),
        windows,
        weights + layer.units * layer.bias,
        weights * prod(value.sizes),
    )


def pool(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:
    """Maximum, mean or p-norm over a window."""
    value = _spatial(values, layer.kind)
    windows, sizes = _slid(layer, value, layer.kind, runtime)
    return Effect(Value(value.channels, sizes), windows, windows)


def global_pool(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:  # noqa: ARG001
    """One number a channel."""
    value = _spatial(values, layer.kind)
    return Effect(Value(value.channels, (1,) * len(value.sizes)), (Beyond.WHOLE,) * len(value.sizes))


def adaptive_pool(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:  # noqa: ARG001
    """A pool to the size that is asked for."""
    value = _spatial(values, layer.kind)
    if not layer.sizes or min(layer.sizes) < 1:
        raise ShapeError(f"{layer.kind} needs the size of its output, at least 1")
    sizes = on_axes("size", layer.sizes, len(value.sizes))
    readings = tuple(Adaptive(n, k) for n, k in zip(value.sizes, sizes, strict=True))
    return Effect(Value(value.channels, sizes), readings)


def dense(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:  # noqa: ARG001
    """Dense layer on the channels; of each position, where nothing was flattened."""
    (value,) = values
    if layer.units < 1:
        raise ShapeError("dense needs a number of units")
    weights = value.channels * layer.units
    return Effect(
        Value(layer.units, value.sizes),
        (SAME_POSITION,) * len(value.sizes),
        (),
        weights + layer.units * layer.bias,
        weights * prod(value.sizes),
    )


def flatten(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:  # noqa: ARG001
    """All numbers in one row."""
    (value,) = values
    return Effect(Value(value.neurons), (Beyond.WHOLE,) * len(value.sizes))


def reshape(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:  # noqa: ARG001
    """As many numbers in another shape."""
    (value,) = values
    output = Value(layer.units, layer.sizes)
    if output.neurons != value.neurons:
        raise ShapeError(
            f"a reshape keeps the number of elements, but {value.neurons} are to become {output.neurons}"
        )
    kept = output == value
    return Effect(output, (SAME_POSITION if kept else Beyond.WHOLE,) * len(value.sizes))


def pad(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:  # noqa: ARG001
    """Elements added, or cut off, on both sides."""
    value = _spatial(values, layer.kind)
    if layer.mode not in ("", "constant", "reflect", "edge", "wrap"):
        raise ShapeError(f"pad is constant, reflect, edge or wrap, not {layer.mode!r}")
    sign = -1 if layer.kind == "crop" else 1
    before = tuple(sign * n for n in on_axes("pads", layer.before, len(value.sizes)))
    after = tuple(sign * n for n in on_axes("pads", layer.after, len(value.sizes)))
    sizes = tuple(n + b + a for n, b, a in zip(value.sizes, before, after, strict=True))
    if min(sizes) < 1:
        cut = ["x".join(str(-n) for n in side) for side in (before, after)]
        raise ShapeError(
            f"a crop must leave at least 1 element, but {cut[0]} before and {cut[1]} after are cut off "
            + "x".join(map(str, value.sizes))
        )
    readings = tuple(
        Window(1, before=b) if layer.mode in ("", "constant") else Mirrored(b, n, layer.mode, a)
        for b, n, a in zip(before, value.sizes, after, strict=True)
    )
    windows = tuple(Window(1, before=b, after=a) for b, a in zip(before, after, strict=True))
    return Effect(Value(value.channels, sizes), readings, windows)


def upsampling(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:  # noqa: ARG001
    """Every element repeated, or elements in between."""
    value = _spatial(values, layer.kind)
    factors = on_axes("factor", layer.kernel, len(value.sizes)) if layer.kernel else ()
    if not factors or min(factors) < 1:
        raise ShapeError("upsample needs a factor, at least 1")
    if layer.mode not in ("", "nearest", "linear"):
        raise ShapeError(f"upsample is nearest or linear, not {layer.mode!r}")
    linear = layer.mode == "linear"
    readings = tuple(Interpolated(r) if linear else Transposed(Window(r, r)) for r in factors)
    return Effect(
        Value(value.channels, tuple(n * r for n, r in zip(value.sizes, factors, strict=True))), readings
    )


def pointwise(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:  # noqa: ARG001
    """The same shape; batchnorm stores four numbers a channel, prelu one."""
    (value,) = values
    per_channel = {"batchnorm": 4, "prelu": 1}.get(layer.kind, 0)
    return Effect(value, (SAME_POSITION,) * len(value.sizes), (), per_channel * value.channels)


def elementwise(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:  # noqa: ARG001
    """Several values of one shape, number by number."""
    first = values[0]
    for value in values:
        if value != first:
            raise ShapeError(
                f"{layer.kind} combines values of one shape, but {shown(first)} meets {shown(value)}"
            )
    return Effect(first, (SAME_POSITION,) * len(first.sizes))


def concatenation(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:  # noqa: ARG001
    """Channels of several values behind each other."""
    first = values[0]
    for value in values:
        if value.sizes != first.sizes:
            raise ShapeError(
                f"concat joins channels of values of one size, but {shown(first)} meets {shown(value)}"
            )
    output = Value(sum(value.channels for value in values), first.sizes)
    return Effect(output, (SAME_POSITION,) * len(first.sizes))
