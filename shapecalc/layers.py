"""What a layer makes of what it reads: one N-d rule a kind, and the one table of kinds.

A value has channels and, on each of its spatial axes, a number of positions; rank is data. Every rule has the
signature ``rule(layer, values, runtime) -> Effect``, checks what it is given and raises ``ShapeError``. With ``C``
input and ``D`` output channels, ``g`` groups and a kernel of ``K`` elements,

    convolution   parameters K*C/g*D (+ D)      MACs K*C/g*D a position of the output
    transposed    parameters K*C*D/g (+ D)      MACs K*C*D/g a position of the input
    dense         parameters C*D (+ D)          MACs C*D a position

MACs are the multiply-adds of products with weights, pads counted as elements; pools and pointwise layers have none.
Parameters are all stored numbers of a layer, trained or not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod

from .errors import ShapeError
from .readings import (
    SAME_POSITION,
    Adaptive,
    Beyond,
    Interpolated,
    Mirrored,
    Reading,
    Shifted,
    Transposed,
)
from .runtimes import DROPS_SINCE, VALID, Padding, Sliding, resolved
from .transposed import Enlarging
from .window import Window

Read = Reading | Beyond


@dataclass(frozen=True)
class Value:
    """What a layer gives for one sample: ``sizes`` has the positions on each spatial axis, none behind a flatten."""

    channels: int
    sizes: tuple[int, ...] = ()

    @property
    def neurons(self) -> int:
        """Numbers in it.

        >>> Value(8, (64, 64)).neurons
        32768
        """
        return self.channels * prod(self.sizes)


@dataclass(frozen=True)
class Layer:
    """A layer as it was asked for. What one number says of every axis may be a tuple of one.

    ``units``: output channels; ``sizes``: the output's spatial sizes, where they are asked for; ``before`` and
    ``after``: elements that a pad adds (or, below 0, cuts off) on each axis; ``mode``: of a pad or an upsampling;
    ``opset`` and ``loops``: as ``Sliding`` has them, where a runtime's answer depends on it.
    """

    kind: str
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = (1,)
    padding: tuple[Padding, ...] = (VALID,)
    units: int = 0
    groups: int = 1
    bias: bool = True
    ceil: bool = False
    output_padding: tuple[int, ...] = (0,)
    sizes: tuple[int, ...] = ()
    before: tuple[int, ...] = (0,)
    after: tuple[int, ...] = (0,)
    mode: str = ""
    opset: int = DROPS_SINCE
    loops: bool = False


@dataclass(frozen=True)
class Effect:
    """What a layer does: its output, what its positions read (one entry a spatial axis of its inputs), its windows."""

    output: Value
    readings: tuple[Read, ...]
    windows: tuple[Window, ...] = ()
    parameters: int = 0
    macs: int = 0


Rule = Callable[[Layer, Sequence[Value], str], Effect]


def _on_axes(name: str, numbers: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """One number an axis; a single one counts for all."""
    if len(numbers) == 1:
        return numbers * rank
    if len(numbers) != rank:
        raise ShapeError(
            f"{name} has a number for each spatial axis, but {'x'.join(map(str, numbers))} has {len(numbers)} and the "
            f"input {rank}"
        )
    return numbers


def _paddings(layer: Layer, rank: int) -> tuple[Padding, ...]:
    if len(layer.padding) not in (1, rank):
        raise ShapeError(
            f"padding has an entry for each spatial axis, but there are {len(layer.padding)} and {rank}"
        )
    return layer.padding * rank if len(layer.padding) == 1 else layer.padding


def _spatial(values: Sequence[Value], kind: str) -> Value:
    (value,) = values
    if not value.sizes:
        raise ShapeError(
            f"{kind} slides over spatial axes, but its input is flat: {value.channels} numbers",
            hint="put it before the flatten, or a reshape in between",
        )
    return value


def slidings(layer: Layer, operator: str, rank: int) -> tuple[Sliding, ...]:
    """The layer's axes as they were asked for. The stride of a pool is its kernel, unless it says another."""
    if not layer.kernel:
        raise ShapeError(f"{layer.kind} needs a kernel")
    kernel = _on_axes("kernel", layer.kernel, rank)
    stride = layer.stride or (kernel if operator != "conv" else (1,))
    loops = layer.loops or max(layer.dilation) > 1  # a dilation on one axis is enough for all
    return tuple(
        Sliding(operator, k, s, d, p, layer.ceil, layer.opset, loops)
        for k, s, d, p in zip(
            kernel,
            _on_axes("stride", stride, rank),
            _on_axes("dilation", layer.dilation, rank),
            _paddings(layer, rank),
            strict=True,
        )
    )


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


def _convolution(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:
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


def _transposed(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:
    value = _spatial(values, layer.kind)
    rank = len(value.sizes)
    asked: tuple[int | None, ...] = _on_axes("size", layer.sizes, rank) if layer.sizes else (None,) * rank
    extra = _on_axes("output padding", layer.output_padding, rank)
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


def _pool(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:
    value = _spatial(values, layer.kind)
    windows, sizes = _slid(layer, value, layer.kind, runtime)
    return Effect(Value(value.channels, sizes), windows, windows)


def _global_pool(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:  # noqa: ARG001
    value = _spatial(values, layer.kind)
    return Effect(Value(value.channels, (1,) * len(value.sizes)), (Beyond.WHOLE,) * len(value.sizes))


def _adaptive_pool(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:  # noqa: ARG001
    value = _spatial(values, layer.kind)
    if not layer.sizes or min(layer.sizes) < 1:
        raise ShapeError(f"{layer.kind} needs the size of its output, at least 1")
    sizes = _on_axes("size", layer.sizes, len(value.sizes))
    readings = tuple(Adaptive(n, k) for n, k in zip(value.sizes, sizes, strict=True))
    return Effect(Value(value.channels, sizes), readings)


def _dense(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:  # noqa: ARG001
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


def _flatten(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:  # noqa: ARG001
    (value,) = values
    return Effect(Value(value.neurons), (Beyond.WHOLE,) * len(value.sizes))


def _reshape(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:  # noqa: ARG001
    (value,) = values
    output = Value(layer.units, layer.sizes)
    if output.neurons != value.neurons:
        raise ShapeError(
            f"a reshape keeps the number of elements, but {value.neurons} are to become {output.neurons}"
        )
    kept = output == value
    return Effect(output, (SAME_POSITION if kept else Beyond.WHOLE,) * len(value.sizes))


def _pad(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:  # noqa: ARG001
    value = _spatial(values, layer.kind)
    if layer.mode not in ("", "constant", "reflect", "edge", "wrap"):
        raise ShapeError(f"pad is constant, reflect, edge or wrap, not {layer.mode!r}")
    sign = -1 if layer.kind == "crop" else 1
    before = tuple(sign * n for n in _on_axes("pads", layer.before, len(value.sizes)))
    after = tuple(sign * n for n in _on_axes("pads", layer.after, len(value.sizes)))
    sizes = tuple(n + b + a for n, b, a in zip(value.sizes, before, after, strict=True))
    if min(sizes) < 1:
        cut = ["x".join(str(-n) for n in side) for side in (before, after)]
        raise ShapeError(
            f"a crop must leave at least 1 element, but {cut[0]} before and {cut[1]} after are cut off "
            + "x".join(map(str, value.sizes))
        )
    readings = tuple(
        Shifted(b) if layer.mode in ("", "constant") else Mirrored(b, n, layer.mode, a)
        for b, n, a in zip(before, value.sizes, after, strict=True)
    )
    windows = tuple(Window(1, before=b, after=a) for b, a in zip(before, after, strict=True))
    return Effect(Value(value.channels, sizes), readings, windows)


def _upsampling(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:  # noqa: ARG001
    value = _spatial(values, layer.kind)
    factors = _on_axes("factor", layer.kernel, len(value.sizes)) if layer.kernel else ()
    if not factors or min(factors) < 1:
        raise ShapeError("upsample needs a factor, at least 1")
    if layer.mode not in ("", "nearest", "linear", "linear_asymmetric"):
        raise ShapeError(f"upsample is nearest or linear, not {layer.mode!r}")
    offset = Fraction(0) if layer.mode == "linear_asymmetric" else Fraction(1, 2)
    linear = layer.mode.startswith("linear")
    readings = tuple(Interpolated(r, offset) if linear else Transposed(Window(r, r)) for r in factors)
    return Effect(
        Value(value.channels, tuple(n * r for n, r in zip(value.sizes, factors, strict=True))), readings
    )


def _pointwise(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:  # noqa: ARG001
    (value,) = values
    per_channel = {"batchnorm": 4, "prelu": 1}.get(layer.kind, 0)
    return Effect(value, (SAME_POSITION,) * len(value.sizes), (), per_channel * value.channels)


def _elementwise(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:  # noqa: ARG001
    first = values[0]
    for value in values:
        if value != first:
            raise ShapeError(
                f"{layer.kind} combines values of one shape, but {shown(first)} meets {shown(value)}"
            )
    return Effect(first, (SAME_POSITION,) * len(first.sizes))


def _concatenation(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:  # noqa: ARG001
    first = values[0]
    for value in values:
        if value.sizes != first.sizes:
            raise ShapeError(
                f"concat joins channels of values of one size, but {shown(first)} meets {shown(value)}"
            )
    output = Value(sum(value.channels for value in values), first.sizes)
    return Effect(output, (SAME_POSITION,) * len(first.sizes))


def shown(value: Value) -> str:
    """A value's shape with its channels last."""
    return "x".join(map(str, (*value.sizes, value.channels)))


@dataclass(frozen=True)
class Kind:
    """A row: the rule, what numbers without a word mean, in their order, and what ``--help`` says.

    ``takes``: the fields of ``Layer`` that it heeds beside those.
    """

    rule: Rule
    numbers: tuple[str, ...]
    says: str
    inputs: int = 1
    """How many values it reads; 0 for any number of them."""
    takes: tuple[str, ...] = ()


POINTWISE = (
    "relu", "relu6", "leakyrelu", "prelu", "elu", "selu", "gelu", "silu", "swish", "mish", "hardswish", "sigmoid",
    "hardsigmoid", "tanh", "softplus", "softsign", "softmax", "logsoftmax", "dropout", "identity", "batchnorm",
)  # fmt: skip

_WINDOW = ("stride", "dilation", "padding")

KINDS: Mapping[str, Kind] = {
    "conv": Kind(_convolution, ("kernel", "units"), "convolution: kernel, filters",
                 takes=(*_WINDOW, "groups", "bias")),
    "depthwise": Kind(_convolution, ("kernel", "units"), "each channel convolved by itself: kernel, filters a channel",
                      takes=(*_WINDOW, "bias")),
    "convtranspose": Kind(_transposed, ("kernel", "units"), "transposed convolution: kernel, filters",
                          takes=(*_WINDOW, "groups", "bias", "output_padding", "sizes")),
    "maxpool": Kind(_pool, ("kernel",), "maximum over a window: kernel; the stride is the kernel unless given",
                    takes=(*_WINDOW, "ceil")),
    "avgpool": Kind(_pool, ("kernel",), "mean over a window", takes=(*_WINDOW, "ceil")),
    "lppool": Kind(_pool, ("kernel",), "p-norm over a window", takes=(*_WINDOW, "ceil")),
    "globalpool": Kind(_global_pool, (), "one number a channel"),
    "adaptivepool": Kind(_adaptive_pool, ("sizes",), "pool to a given size, as PyTorch's"),
    "dense": Kind(_dense, ("units",), "dense layer: units; on each position where nothing was flattened",
                  takes=("bias",)),
    "flatten": Kind(_flatten, (), "all numbers in one row"),
    "reshape": Kind(_reshape, ("shape",), "another shape: HxWxC"),
    "pad": Kind(_pad, ("pads",), "elements added on both sides: 1, 1x2, 0:1 (before:after)", takes=("mode",)),
    "crop": Kind(_pad, ("pads",), "elements cut off, written as for pad"),
    "upsample": Kind(_upsampling, ("kernel",), "every element repeated; or linear", takes=("mode",)),
    "add": Kind(_elementwise, (), "sum with the layers named", inputs=0),
    "mul": Kind(_elementwise, (), "product with the layers named", inputs=0),
    "concat": Kind(_concatenation, (), "channels joined with those of the layers named", inputs=0),
    **{name: Kind(_pointwise, (), "keeps the shape") for name in POINTWISE},
}  # fmt: skip
"""Every kind of layer; a row and a rule is the whole cost of a new one."""


def effect(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:
    """What ``layer`` does to ``values``. Raises ``ShapeError`` where it cannot be."""
    kind = KINDS[layer.kind]
    if kind.inputs and len(values) != kind.inputs:
        raise ShapeError(f"{layer.kind} reads {kind.inputs} value, but gets {len(values)}")
    return kind.rule(layer, values, runtime)
