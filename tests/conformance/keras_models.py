"""Random small Keras models by seed: for each row of the layer table, what a call of it may look like.

A case is given a ``Draw`` and returns the shapes of its inputs (without the batch), what is done to them, and whether
the axes of the space may be free. Imported only where Keras is there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

Make = Callable[..., Any]


class Draw:
    """Random choices by seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def one(self, *options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def number(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both included."""
        return int(self.rng.integers(low, high + 1))

    def coin(self) -> bool:
        return bool(self.rng.integers(2))

    def sizes(self, rank: int, low: int, high: int) -> list[int]:
        return [self.number(low, high) for _ in range(rank)]


@dataclass
class Case:
    """``shapes``: of the inputs; ``make``: a layer, or a function of tensors; ``space``: which axes may be free."""

    shapes: Sequence[Sequence[int]]
    make: Make
    space: Sequence[int] = ()


def image(draw: Draw, rank: int, channels: int, first: bool = False) -> list[int]:
    space = draw.sizes(rank, 5, 11 if rank < 3 else 7)
    return [channels, *space] if first else [*space, channels]


def axes(rank: int, first: bool) -> list[int]:
    return list(range(1, rank + 1)) if first else list(range(rank))


def windows(draw: Draw, rank: int) -> dict[str, Any]:
    """A convolution's window, with a stride or a dilation."""
    stride, dilation = draw.one((1, 1), (2, 1), (3, 1), (1, 2))
    most = 3 if dilation == 1 else 2
    return {
        "kernel_size": draw.sizes(rank, 1, most) if draw.coin() else draw.number(1, most),
        "strides": stride,
        "dilation_rate": dilation,
        "padding": draw.one("valid", "same"),
        "use_bias": draw.coin(),
        "activation": draw.one(None, "relu", "tanh"),
    }


def formats(draw: Draw) -> tuple[bool, str]:
    first = draw.coin()
    return first, "channels_first" if first else "channels_last"


def convolution(rank: int) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        first, data_format = formats(draw)
        groups = draw.one(1, 1, 2)
        channels, filters = groups * draw.number(1, 2), groups * draw.number(1, 3)
        given = windows(draw, rank)
        if rank == 1 and not first and draw.coin():
            given["padding"] = "causal"
        layer = getattr(layers, f"Conv{rank}D")(filters, groups=groups, data_format=data_format, **given)
        return Case([image(draw, rank, channels, first)], layer, axes(rank, first))

    return case


def transposed(rank: int) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        first, data_format = formats(draw)
        given = windows(draw, rank)
        if draw.coin():
            given["output_padding"] = draw.number(0, given["strides"] - 1)
        layer = getattr(layers, f"Conv{rank}DTranspose")(draw.number(1, 3), data_format=data_format, **given)
        return Case([image(draw, rank, draw.number(1, 3), first)], layer, axes(rank, first))

    return case


def depthwise(kind: str, rank: int) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        first, data_format = formats(draw)
        given = windows(draw, rank)
        given |= {"data_format": data_format, "depth_multiplier": draw.number(1, 2)}
        if kind == "SeparableConv":
            given["filters"] = draw.number(1, 3)
        return Case(
            [image(draw, rank, draw.number(1, 3), first)],
            getattr(layers, f"{kind}{rank}D")(**given),
            axes(rank, first),
        )

    return case


def pool(kind: str, rank: int) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        first, data_format = formats(draw)
        size = draw.sizes(rank, 1, 3) if draw.coin() else draw.number(1, 3)
        layer = getattr(layers, f"{kind}Pooling{rank}D")(
            size, draw.one(None, 1, 2, 3), draw.one("valid", "same"), data_format=data_format
        )
        return Case([image(draw, rank, 2, first)], layer, axes(rank, first))

    return case


def global_pool(kind: str, rank: int) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        first, data_format = formats(draw)
        layer = getattr(layers, f"Global{kind}Pooling{rank}D")(data_format=data_format, keepdims=draw.coin())
        return Case([image(draw, rank, 3, first)], layer, axes(rank, first))

    return case


def tensor(draw: Draw, low: int = 1, high: int = 4) -> list[int]:
    """The shape of a tensor of one axis or more behind the batch."""
    return draw.sizes(draw.number(low, high), 2, 5)


def anything(make: Callable[[Draw, list[int]], Make], low: int = 1, high: int = 4) -> Callable[[Draw], Case]:
    """A case that takes a tensor of any rank."""

    def case(draw: Draw) -> Case:
        shape = tensor(draw, low, high)
        return Case([shape], make(draw, shape))

    return case


def flatten(draw: Draw) -> Case:
    _, data_format = formats(draw)
    return Case([tensor(draw)], layers.Flatten(data_format=data_format))


def reshape(draw: Draw, shape: list[int]) -> Make:
    total = int(np.prod(shape))
    return layers.Reshape(draw.one((total,), (-1,), (1, total), (-1, shape[-1]), (shape[-1], -1)))


def permute(draw: Draw, shape: list[int]) -> Make:
    return layers.Permute([int(i) for i in draw.rng.permutation(len(shape)) + 1])


def any_axis(draw: Draw, shape: list[int]) -> int:
    axis = draw.number(1, len(shape))
    return axis if draw.coin() else axis - len(shape) - 1


def normalised(kind: str) -> Callable[[Draw, list[int]], Make]:
    def make(draw: Draw, shape: list[int]) -> Make:
        given: dict[str, Any] = {"axis": any_axis(draw, shape), "epsilon": draw.one(1e-3, 0.1)}
        if kind in ("BatchNormalization", "LayerNormalization"):
            given |= {"center": draw.coin(), "scale": draw.coin()}
        if kind == "RMSNormalization":  # Keras's own scale fits the last axes only
            given["axis"] = -1
        if kind in ("LayerNormalization", "RMSNormalization", "UnitNormalization") and draw.coin():
            given["axis"] = list(range(draw.number(1, len(shape)), len(shape) + 1))
        if kind == "LayerNormalization" and draw.number(1, 4) == 1:
            given["rms_scaling"] = True
        if kind == "UnitNormalization":
            del given["epsilon"]
        return getattr(layers, kind)(**given)

    return make


def groups(draw: Draw) -> Case:
    first = draw.coin()
    count, each = draw.number(1, 3), draw.number(1, 3)
    rank = draw.number(1, 3)
    given = {
        "groups": draw.one(count, count, -1),
        "axis": 1 if first else -1,
        "center": draw.coin(),
        "scale": draw.coin(),
    }
    return Case(
        [image(draw, rank, count * each, first)], layers.GroupNormalization(**given), axes(rank, first)
    )


def normalization(draw: Draw, shape: list[int]) -> Make:
    axis = draw.one(-1, None, any_axis(draw, shape), list(range(draw.number(1, len(shape)), len(shape) + 1)))
    invert = draw.coin()
    if draw.coin():
        layer = layers.Normalization(axis=axis, invert=invert)
        layer.adapt(draw.rng.normal(1, 2, (4, *shape)).astype(np.float32))
        return layer
    if draw.coin():
        return layers.Normalization(axis=axis, mean=0.5, variance=2.0, invert=invert)
    size = shape[-1]
    mean, variance = draw.rng.normal(size=size), draw.rng.uniform(0.5, 2, size)
    return layers.Normalization(axis=-1, mean=mean.tolist(), variance=variance.tolist(), invert=invert)


def rescaling(draw: Draw, shape: list[int]) -> Make:
    many = draw.rng.normal(size=shape[-1]).tolist()
    return layers.Rescaling(draw.one(0.5, 1 / 255, many), draw.one(0.0, -1.0, many))


def relu(draw: Draw, _: list[int]) -> Make:
    return layers.ReLU(draw.one(None, 0.7), draw.one(0.0, 0.2), draw.one(0.0, 0.0, 0.3))


def prelu(draw: Draw, shape: list[int]) -> Make:
    return layers.PReLU(shared_axes=draw.one(None, *([[1], [1, 2]] if len(shape) > 2 else [None])))


def padding(rank: int) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        first, data_format = formats(draw)
        pairs = [tuple(draw.sizes(2, 0, 2)) for _ in range(rank)]
        given = draw.one(draw.number(0, 2), pairs if rank > 1 else pairs[0], draw.sizes(rank, 0, 2))
        if rank == 1:
            given = given if isinstance(given, int) else pairs[0]
        layer = getattr(layers, f"ZeroPadding{rank}D")(given, data_format=data_format)
        return Case([image(draw, rank, 2, first)], layer, axes(rank, first))

    return case


def cropping(rank: int) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        first, data_format = formats(draw) if rank > 1 else (False, "")
        pairs = [tuple(draw.sizes(2, 0, 2)) for _ in range(rank)]
        given = draw.one(draw.number(0, 2), pairs if rank > 1 else pairs[0])
        more = {"data_format": data_format} if rank > 1 else {}
        layer = getattr(layers, f"Cropping{rank}D")(given, **more)
        return Case([image(draw, rank, 2, first)], layer, axes(rank, first))

    return case


def upsampling(rank: int) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        first, data_format = formats(draw) if rank > 1 else (False, "")
        given: dict[str, Any] = {"size": draw.sizes(rank, 1, 3) if rank > 1 else draw.number(1, 3)}
        if rank > 1:
            given["data_format"] = data_format
        if rank == 2:
            given["interpolation"] = draw.one("nearest", "bilinear")
        layer = getattr(layers, f"UpSampling{rank}D")(**given)
        return Case([image(draw, rank, 2, first)], layer, axes(rank, first))

    return case


def resizing(draw: Draw) -> Case:
    first, data_format = formats(draw)
    layer = layers.Resizing(
        draw.number(1, 12), draw.number(1, 12), draw.one("bilinear", "nearest"), data_format=data_format
    )
    return Case([image(draw, 2, 3, first)], layer)


def center_crop(draw: Draw) -> Case:
    first, data_format = formats(draw)
    layer = layers.CenterCrop(draw.number(1, 5), draw.number(1, 5), data_format=data_format)
    return Case([image(draw, 2, 3, first)], layer)


def merge(kind: str) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        shape = tensor(draw)
        count = 2 if kind == "Subtract" else draw.number(2, 4)
        shapes = [[1 if draw.number(1, 4) == 1 else n for n in shape] for _ in range(count - 1)]
        if draw.number(1, 3) == 1 and len(shape) > 1:
            shapes[0] = shape[1:]
        return Case([shape, *shapes], lambda *values: getattr(layers, kind)()(list(values)))

    return case


def concatenate(draw: Draw) -> Case:
    shape = tensor(draw)
    axis = any_axis(draw, shape)
    place = axis - 1 if axis > 0 else axis
    shapes = []
    for _ in range(draw.number(2, 3)):
        shapes.append(list(shape))
        shapes[-1][place] = draw.number(1, 4)
    return Case(shapes, lambda *values: layers.Concatenate(axis=axis)(list(values)))


def dot(draw: Draw) -> Case:
    left, right = tensor(draw, 1, 3), tensor(draw, 1, 3)
    first, second = any_axis(draw, left), any_axis(draw, right)
    right[second - 1 if second > 0 else second] = left[first - 1 if first > 0 else first]
    layer = layers.Dot((first, second), normalize=draw.coin())
    return Case([left, right], lambda *values: layer(list(values)))


def einsum_dense(draw: Draw) -> Case:
    a, b, c = draw.sizes(3, 2, 5)
    return draw.one(
        lambda: Case([[a]], layers.EinsumDense("ab,bc->ac", c, bias_axes=draw.one(None, "c"))),
        lambda: Case([[a, b]], layers.EinsumDense("abc,cd->abd", (None, 3), bias_axes="d")),
        lambda: Case(
            [[a, b]], layers.EinsumDense("abc,cde->abde", (None, c, 3), bias_axes=draw.one("de", "e", "d"))
        ),
        lambda: Case([[a, b, c]], layers.EinsumDense("...x,xy->...y", 4, bias_axes="y", activation="tanh")),
        lambda: Case([[a, b, c]], layers.EinsumDense("abcd,cde->abe", (None, 3))),
    )()


def time_distributed(draw: Draw) -> Case:
    first, data_format = formats(draw)
    shape = [draw.number(2, 4), *image(draw, 2, 2, first)]
    layer = draw.one(
        lambda: layers.Dense(3, activation="relu"),
        lambda: layers.Conv2D(3, 2, data_format=data_format),
        lambda: layers.MaxPooling2D(2, data_format=data_format),
        lambda: layers.Flatten(),
        lambda: layers.GlobalAveragePooling2D(data_format=data_format),
        lambda: layers.BatchNormalization(),
        lambda: layers.Activation("softmax"),
        lambda: layers.ZeroPadding2D(1, data_format=data_format),
        lambda: layers.SeparableConv2D(2, 2, data_format=data_format),
        lambda: layers.PReLU(),
    )()
    return Case([shape], layers.TimeDistributed(layer))


def softmax(draw: Draw, shape: list[int]) -> Make:
    return layers.Softmax(axis=any_axis(draw, shape))


def plain(make: Callable[[], Any], rank: int | None = None) -> Callable[[Draw], Case]:
    """A layer without arguments of interest."""

    def case(draw: Draw) -> Case:
        return Case([tensor(draw) if rank is None else image(draw, rank, 3)], make())

    return case


_DROPPED: dict[str, Callable[[Draw], Case]] = {
    "Identity": plain(layers.Identity),
    "Dropout": plain(lambda: layers.Dropout(0.5)),
    **{f"SpatialDropout{r}D": plain(lambda r=r: getattr(layers, f"SpatialDropout{r}D")(0.5), r) for r in (1, 2, 3)},
    "AlphaDropout": plain(lambda: layers.AlphaDropout(0.5)),
    "GaussianDropout": plain(lambda: layers.GaussianDropout(0.5)),
    "GaussianNoise": plain(lambda: layers.GaussianNoise(0.5)),
    "ActivityRegularization": plain(lambda: layers.ActivityRegularization(0.1)),
    **{f"Random{what}": plain(lambda what=what: getattr(layers, f"Random{what}")(0.3), 2)
       for what in ("Brightness", "Contrast", "Hue", "Rotation", "Zoom")},
    "RandomFlip": plain(layers.RandomFlip, 2),
    "RandomSaturation": plain(lambda: layers.RandomSaturation((0.2, 0.8)), 2),
    "RandomSharpness": plain(lambda: layers.RandomSharpness((0.2, 0.8)), 2),
    "RandomShear": plain(lambda: layers.RandomShear(0.2, 0.2), 2),
    "RandomTranslation": plain(lambda: layers.RandomTranslation(0.2, 0.2), 2),
}  # fmt: skip


def on_tensor(*functions: Callable[..., Any], low: int = 1, positive: bool = False) -> Callable[[Draw], Case]:
    """A function of one tensor; several of them to choose from."""

    def case(draw: Draw) -> Case:
        chosen = draw.one(*functions)
        return Case([tensor(draw, low)], lambda x: chosen(ops.exp(x) if positive else x))

    return case


def binary(function: Callable[[Any, Any], Any], positive: bool = False) -> Callable[[Draw], Case]:
    """A function of two operands: two tensors, or a tensor and a number or an array, on either side."""

    def case(draw: Draw) -> Case:
        shape = tensor(draw)
        fit = (lambda x: ops.exp(0.3 * x)) if positive else (lambda x: x)
        how = draw.one("two", "right", "left", "array", "array_left")
        if how == "two":
            other = [1 if draw.number(1, 4) == 1 else n for n in shape]
            return Case([shape, other], lambda x, y: function(fit(x), fit(y)))
        number: Any = draw.one(2, 0.75, 1.5)
        if "array" in how:
            number = draw.rng.uniform(0.5, 2, shape[draw.number(0, len(shape) - 1) :]).astype(np.float32)
        if "left" in how:
            return Case([shape], lambda x: function(number, fit(x)))
        return Case([shape], lambda x: function(fit(x), number))

    return case


def reduction(function: Callable[..., Any]) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        shape = tensor(draw, 2)
        axis = any_axis(draw, shape)
        chosen: Any = axis
        if draw.coin():
            count = draw.number(1, len(shape))
            chosen = [int(i) + 1 for i in draw.rng.permutation(len(shape))[:count]]
        keep = draw.coin() or (isinstance(chosen, list) and len(chosen) == len(shape))
        return Case([shape], lambda x: function(x, axis=chosen, keepdims=keep))

    return case


def item(draw: Draw) -> Case:
    shape = [draw.number(3, 5) for _ in range(draw.number(2, 3))]
    key = draw.one(
        (slice(None), slice(1, None)),
        (slice(None), 0),
        (slice(None), -1),
        (Ellipsis, slice(0, 2)),
        (Ellipsis, None),
        (slice(None), None, slice(None, -1)),
        (slice(None), slice(None, None, 2), 1),
        (slice(None), slice(-2, None), Ellipsis, 0),
    )
    return Case([shape], lambda x: x[key])


def reshaping(draw: Draw, shape: list[int]) -> Make:
    total = int(np.prod(shape))
    target = draw.one((-1, total), (-1, shape[-1], total // shape[-1]), (-1, 1, total))
    return lambda x: ops.reshape(x, target)


def transposing(draw: Draw, shape: list[int]) -> Make:
    order = [0, *(int(i) + 1 for i in draw.rng.permutation(len(shape)))]
    return lambda x: ops.transpose(x, order)


def swapping(function: Callable[..., Any]) -> Callable[[Draw, list[int]], Make]:
    def make(draw: Draw, shape: list[int]) -> Make:
        first, second = any_axis(draw, shape), any_axis(draw, shape)
        return lambda x: function(x, first, second)

    return make


def expanding(draw: Draw, shape: list[int]) -> Make:
    axis = draw.one(*range(1, len(shape) + 2), -1)
    return lambda x: ops.expand_dims(x, axis)


def squeezing(draw: Draw) -> Case:
    shape = tensor(draw, 2)
    place = draw.number(0, len(shape) - 1)
    shape[place] = 1
    return Case([shape], lambda x: ops.squeeze(x, place + 1))


def stacking(draw: Draw, shape: list[int]) -> Make:
    axis = draw.one(*range(1, len(shape) + 2), -1)
    return lambda x: ops.stack([x, x * 2.0], axis=axis)


_FUNCTIONS: dict[str, Sequence[Callable[..., Any]]] = {
    "Relu": [ops.relu],
    "Relu6": [ops.relu6],
    "LeakyRelu": [ops.leaky_relu, lambda x: ops.leaky_relu(x, 0.05)],
    "Elu": [ops.elu, lambda x: ops.elu(x, 0.5)],
    "Selu": [ops.selu],
    "Celu": [ops.celu, lambda x: ops.celu(x, 0.5)],
    "Gelu": [ops.gelu, lambda x: ops.gelu(x, False)],
    "Silu": [ops.silu],
    "HardSilu": [ops.hard_silu],
    "Sigmoid": [ops.sigmoid],
    "HardSigmoid": [ops.hard_sigmoid],
    "LogSigmoid": [ops.log_sigmoid],
    "SparseSigmoid": [ops.sparse_sigmoid],
    "Softmax": [ops.softmax, lambda x: ops.softmax(x, 1)],
    "LogSoftmax": [ops.log_softmax, lambda x: ops.log_softmax(x, 1)],
    "Softplus": [ops.softplus],
    "Softsign": [ops.softsign],
    "SparsePlus": [ops.sparse_plus],
    "Squareplus": [ops.squareplus, lambda x: ops.squareplus(x, 2)],
    "HardTanh": [ops.hard_tanh],
    "HardShrink": [ops.hard_shrink, lambda x: ops.hard_shrink(x, 0.2)],
    "SoftShrink": [ops.soft_shrink, lambda x: ops.soft_shrink(x, 0.2)],
    "TanhShrink": [ops.tanh_shrink],
    "Threshold": [lambda x: ops.threshold(x, 0.1, -2.0)],
    "Negative": [lambda x: -x],
    "Absolute": [abs],
    "Abs": [ops.abs],
    **{name: [getattr(ops, name.lower())] for name in ("Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor", "Round", "Sign",
                                                       "Sin", "Sinh", "Tanh")},
    "Square": [ops.square],
    "Clip": [lambda x: ops.clip(x, -0.5, 0.25)],
    "Cast": [lambda x: ops.cast(x, "float32")],
}  # fmt: skip

CASES: dict[str, Callable[[Draw], Case]] = {
    **{f"Conv{r}D": convolution(r) for r in (1, 2, 3)},
    **{f"Conv{r}DTranspose": transposed(r) for r in (1, 2, 3)},
    **{f"{kind}{r}D": depthwise(kind, r) for kind in ("DepthwiseConv", "SeparableConv") for r in (1, 2)},
    **{f"{kind}Pooling{r}D": pool(kind, r) for kind in ("Max", "Average") for r in (1, 2, 3)},
    **{f"Global{kind}Pooling{r}D": global_pool(kind, r) for kind in ("Max", "Average") for r in (1, 2, 3)},
    "Dense": anything(lambda d, _: layers.Dense(d.number(1, 4), use_bias=d.coin(), activation=d.one(None, "softmax"))),
    "EinsumDense": einsum_dense,
    "Flatten": flatten,
    "Reshape": anything(reshape),
    "Permute": anything(permute),
    "RepeatVector": anything(lambda d, _: layers.RepeatVector(d.number(1, 4)), 1, 1),
    **{kind: anything(normalised(kind))
       for kind in ("BatchNormalization", "LayerNormalization", "RMSNormalization", "UnitNormalization")},
    "GroupNormalization": groups,
    "Normalization": anything(normalization),
    "Rescaling": anything(rescaling),
    "Activation": anything(lambda d, _: layers.Activation(d.one("relu", "linear", "softmax", "hard_sigmoid", "gelu"))),
    "ReLU": anything(relu),
    "LeakyReLU": anything(lambda d, _: layers.LeakyReLU(d.one(0.3, 0.1))),
    "ELU": anything(lambda d, _: layers.ELU(d.one(1.0, 0.5))),
    "Softmax": anything(softmax),
    "PReLU": anything(prelu),
    **{f"ZeroPadding{r}D": padding(r) for r in (1, 2, 3)},
    **{f"Cropping{r}D": cropping(r) for r in (1, 2, 3)},
    **{f"UpSampling{r}D": upsampling(r) for r in (1, 2, 3)},
    "Resizing": resizing,
    "CenterCrop": center_crop,
    **{kind: merge(kind) for kind in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")},
    "Concatenate": concatenate,
    "Dot": dot,
    "TimeDistributed": time_distributed,
    **_DROPPED,
    **{f"ops.{name}": on_tensor(*functions) for name, functions in _FUNCTIONS.items()},
    "ops.Glu": lambda d: Case([[*tensor(d, 1, 3), 4]], ops.glu),
    "ops.Log": on_tensor(ops.log, positive=True),
    "ops.Sqrt": on_tensor(ops.sqrt, positive=True),
    "ops.Rsqrt": on_tensor(ops.rsqrt, positive=True),
    "ops.Reciprocal": on_tensor(ops.reciprocal, positive=True),
    "ops.Tan": on_tensor(lambda x: ops.tan(0.1 * x)),
    "ops.Add": binary(ops.add),
    "ops.Subtract": binary(ops.subtract),
    "ops.Multiply": binary(ops.multiply),
    "ops.Divide": binary(ops.divide, positive=True),
    "ops.TrueDivide": binary(ops.true_divide, positive=True),
    "ops.Power": binary(ops.power, positive=True),
    "ops.Maximum": binary(ops.maximum),
    "ops.Minimum": binary(ops.minimum),
    "ops.Reshape": anything(reshaping),
    "ops.Transpose": anything(transposing),
    "ops.Swapaxes": anything(swapping(ops.swapaxes)),
    "ops.Moveaxis": anything(swapping(ops.moveaxis)),
    "ops.Mean": reduction(ops.mean),
    "ops.Max": reduction(ops.max),
    "ops.Min": reduction(ops.min),
    "ops.Sum": reduction(ops.sum),
    "ops.Concatenate": anything(lambda d, s: lambda x: ops.concatenate([x, x + 1.0], axis=any_axis(d, s))),
    "ops.Stack": anything(stacking, 1, 3),
    "ops.ExpandDims": anything(expanding, 1, 3),
    "ops.Squeeze": squeezing,
    "ops.GetItem": item,
}  # fmt: skip


def build(row: str, seed: int) -> Any:
    """A model around one call of ``row``, its weights drawn at random."""
    draw = Draw(seed)
    case = CASES[row](draw)
    free = case.space and draw.number(1, 4) == 1
    shapes = [[None if free and i in case.space else n for i, n in enumerate(shape)] for shape in case.shapes]
    inputs = [keras.Input(shape) for shape in shapes]
    values = list(inputs)
    for number, (value, shape) in enumerate(zip(values, shapes, strict=True)):
        if 2 <= len(shape) <= 4 and shape[-1] and draw.coin():  # a value whose channels lie in front in ONNX
            values[number] = getattr(layers, f"Conv{len(shape) - 1}D")(shape[-1], 1)(value)
    outputs = [case.make(*values)]
    if isinstance(case.make, layers.Layer) and draw.number(1, 3) == 1:  # the same layer once more
        outputs.append(case.make(inputs[0]))
    if len(outputs[0].shape) > 2 and None not in outputs[0].shape[1:] and draw.coin():
        outputs[0] = layers.Dense(3)(layers.Flatten()(outputs[0]))
    model = keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0])
    for weight in model.weights:
        drawn = draw.rng.normal(size=weight.shape)
        if "variance" in weight.name:
            drawn = draw.rng.uniform(0.5, 2, weight.shape)
        if weight.dtype.startswith("float"):
            weight.assign(drawn.astype(np.float32))
    for layer in model.layers:
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()
    given = [
        draw.rng.normal(size=(3, *(8 if n is None else n for n in shape))).astype(np.float32)
        for shape in shapes
    ]
    return model, given
