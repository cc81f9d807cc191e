"""Each layer of the table against its formula in float64: loops and numpy, from configurations as Keras writes them."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from dense2conv.convert.errors import FileError
from dense2conv.convert.keras.layers import LAYERS
from dense2conv.convert.keras.layers.functions import FUNCTIONS
from dense2conv.convert.keras.layers.tensorflow import FUNCTIONS as TENSORFLOW

from .running import K1, K2, K3, draw, run, same


def last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, 1, -1)


def first(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, -1, 1)


# Oracles, channels last: x (N, *space, C), kernel (*window, in / groups, out).


def padded(
    x: np.ndarray,
    window: Sequence[int],
    strides: Sequence[int],
    dilation: int,
    padding: str,
    value: float = 0.0,
) -> np.ndarray:
    """``x`` with TensorFlow's pads of SAME."""
    pads = [(0, 0)]
    for n, k, s in zip(x.shape[1:-1], window, strides, strict=True):
        total = max((math.ceil(n / s) - 1) * s + (k - 1) * dilation + 1 - n, 0) if padding == "same" else 0
        pads.append((total // 2, total - total // 2))
    return np.pad(x.astype(np.float64), [*pads, (0, 0)], constant_values=value)


Places = Iterator[tuple[tuple[int, ...], np.ndarray]]


def windows(
    x: np.ndarray, window: Sequence[int], strides: Sequence[int], dilation: int = 1
) -> tuple[list[int], Places]:
    """The sizes that come out, and each place with its window ``(N, *window, C)``."""
    sizes = list(zip(x.shape[1:-1], window, strides, strict=True))
    out = [(n - (k - 1) * dilation - 1) // s + 1 for n, k, s in sizes]

    def cut(place: tuple[int, ...]) -> np.ndarray:
        ends = [(p * s, p * s + (k - 1) * dilation + 1) for p, (_, k, s) in zip(place, sizes, strict=True)]
        return x[(slice(None), *(slice(start, end, dilation) for start, end in ends))]

    return out, ((place, cut(place)) for place in itertools.product(*map(range, out)))


def convolved(
    x: np.ndarray,
    kernel: np.ndarray,
    strides: Sequence[int],
    padding: str = "valid",
    dilation: int = 1,
    groups: int = 1,
) -> np.ndarray:
    window = kernel.shape[:-2]
    x = padded(x, window, strides, dilation, padding)
    out, places = windows(x, window, strides, dilation)
    result = np.zeros((x.shape[0], *out, kernel.shape[-1]))
    width, filters = kernel.shape[-2], kernel.shape[-1] // groups
    for place, part in places:
        for g in range(groups):
            a = part[..., g * width : (g + 1) * width].reshape(x.shape[0], -1)
            b = kernel[..., g * filters : (g + 1) * filters].reshape(-1, filters).astype(np.float64)
            result[(slice(None), *place, slice(g * filters, (g + 1) * filters))] = a @ b
    return result


def each_channel(
    x: np.ndarray, kernel: np.ndarray, strides: Sequence[int], padding: str = "valid", dilation: int = 1
) -> np.ndarray:
    """A depthwise convolution: kernel ``(*window, C, M)``, output channel ``c * M + m``."""
    parts = [
        convolved(x[..., c : c + 1], kernel[..., c : c + 1, :], strides, padding, dilation)
        for c in range(x.shape[-1])
    ]
    return np.concatenate(parts, axis=-1)


def spread(
    x: np.ndarray, kernel: np.ndarray, strides: Sequence[int], sizes: Sequence[int], before: Sequence[int]
) -> np.ndarray:
    """A transposed convolution: each element adds its kernel ``(*window, out, in)``; ``before`` is cut off in front."""
    window, rank = kernel.shape[:-2], kernel.ndim - 2
    whole = [
        max((n - 1) * s + k, b + size)
        for n, s, k, b, size in zip(x.shape[1:-1], strides, window, before, sizes, strict=True)
    ]
    result = np.zeros((x.shape[0], *whole, kernel.shape[-2]))
    for place in itertools.product(*map(range, x.shape[1:-1])):
        part = np.tensordot(x[(slice(None), *place)].astype(np.float64), kernel, axes=([1], [rank + 1]))
        where = tuple(slice(p * s, p * s + k) for p, s, k in zip(place, strides, window, strict=True))
        result[(slice(None), *where)] += part
    return result[(slice(None), *(slice(b, b + size) for b, size in zip(before, sizes, strict=True)))]


FORMATS = ["channels_last", "channels_first"]


def layout(x: np.ndarray, data_format: str) -> np.ndarray:
    return x if data_format == "channels_last" else first(x)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    ("padding", "stride", "dilation", "groups"), [("valid", 2, 1, 1), ("same", 2, 1, 2), ("same", 1, 2, 1)]
)
def test_convolution(
    rank: int, data_format: str, padding: str, stride: int, dilation: int, groups: int
) -> None:
    x, kernel, bias = draw(2, *[7, 6, 5][:rank], 4), draw(*[3, 2, 2][:rank], 4 // groups, 6), draw(6)
    config = {"filters": 6, "kernel_size": kernel.shape[:rank], "strides": [stride] * rank, "padding": padding,
              "dilation_rate": dilation, "groups": groups, "activation": "relu",
              "data_format": data_format}  # fmt: skip
    found = run(f"Conv{rank}D", config, [layout(x, data_format)], [kernel, bias])
    expected = np.maximum(convolved(x, kernel, [stride] * rank, padding, dilation, groups) + bias, 0)
    same(found, layout(expected, data_format))


def test_causal_convolution() -> None:
    x, kernel = draw(2, 9, 3), draw(3, 3, 2)
    config = {"filters": 2, "kernel_size": [3], "padding": "causal", "dilation_rate": 2, "use_bias": False}
    found = run("Conv1D", config, [x], [kernel])
    same(found, convolved(np.pad(x, ((0, 0), (4, 0), (0, 0))), kernel, [1], dilation=2))


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize(("padding", "stride"), [("valid", 1), ("same", 2)])
def test_depthwise_and_separable(rank: int, data_format: str, padding: str, stride: int) -> None:
    x, kernel, bias = draw(2, *[7, 6][:rank], 3), draw(*[3, 2][:rank], 3, 2), draw(6)
    config = {"kernel_size": kernel.shape[:rank], "strides": stride, "padding": padding, "depth_multiplier": 2,
              "data_format": data_format}  # fmt: skip
    expected = each_channel(x, kernel, [stride] * rank, padding)
    found = run(f"DepthwiseConv{rank}D", config, [layout(x, data_format)], [kernel, bias])
    same(found, layout(expected + bias, data_format))
    point, bias = draw(*[1] * rank, 6, 4), draw(4)
    found = run(
        f"SeparableConv{rank}D", {**config, "filters": 4}, [layout(x, data_format)], [kernel, point, bias]
    )
    same(found, layout(convolved(expected, point, [1] * rank) + bias, data_format))


# keras/utils/conv_utils.py, deconv_output_length, worked out by hand for 5 elements: k, s, padding, output_padding;
# the size; what is cut off in front.
TRANSPOSED = [
    (3, 2, "valid", None, 11, 0),
    (2, 3, "valid", None, 15, 0),
    (3, 2, "same", None, 10, 0),
    (4, 2, "same", None, 10, 1),
    (5, 1, "same", None, 5, 2),
    (1, 2, "same", None, 10, 0),
    (3, 2, "valid", 1, 12, 0),
    (3, 2, "same", 0, 9, 1),
    (3, 2, "same", 1, 10, 0),
    (4, 3, "same", 2, 14, 1),
]


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("k", "s", "padding", "added", "size", "before"), TRANSPOSED)
def test_transposed(
    rank: int, data_format: str, k: int, s: int, padding: str, added: int | None, size: int, before: int
) -> None:
    x, kernel, bias = draw(2, *[5] * rank, 2), draw(*[k] * rank, 3, 2), draw(3)
    config = {"filters": 3, "kernel_size": [k] * rank, "strides": [s] * rank, "padding": padding,
              "output_padding": added, "data_format": data_format}  # fmt: skip
    found = run(f"Conv{rank}DTranspose", config, [layout(x, data_format)], [kernel, bias])
    same(found, layout(spread(x, kernel, [s] * rank, [size] * rank, [before] * rank) + bias, data_format))


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("rank", [1, 2])
def test_locally_connected(rank: int, data_format: str) -> None:
    """Keras 2's K.local_conv flattens a window in Keras's order; K.bias_add reshapes the bias in channels_first."""
    x = draw(2, *[6, 7][:rank], 3)
    window, strides = [2, 3][:rank], [1, 2][:rank]
    out, places = windows(x, window, strides)
    kernel, bias = draw(math.prod(out), math.prod(window) * 3, 4), draw(*out, 4)
    expected = np.zeros((2, *out, 4))
    for number, (place, part) in enumerate(places):
        flat = layout(part, data_format).reshape(2, -1)
        expected[(slice(None), *place)] = flat.astype(np.float64) @ kernel[number]
    config = {"filters": 4, "kernel_size": window, "strides": strides, "padding": "valid", "implementation": 1,
              "data_format": data_format}  # fmt: skip
    found = run(f"LocallyConnected{rank}D", config, [layout(x, data_format)], [kernel, bias])
    expected = layout(expected, data_format)
    same(found, expected + (bias if data_format == "channels_last" else bias.reshape(4, *out)))


def test_other_implementations_are_refused() -> None:
    config = {"filters": 4, "kernel_size": [2], "implementation": 2}
    with pytest.raises(
        FileError, match="implementation 1 stores one kernel a position and is supported, but this is 2"
    ):
        run("LocallyConnected1D", config, [draw(1, 5, 2)])


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("size", "stride", "padding"), [(2, None, "valid"), (3, 2, "same"), (3, 1, "valid")])
def test_pooling(rank: int, data_format: str, size: int, stride: int | None, padding: str) -> None:
    x = draw(2, *[7, 6, 5][:rank], 2)
    steps = [stride or size] * rank
    config = {
        "pool_size": [size] * rank,
        "strides": stride and [stride] * rank,
        "padding": padding,
        "data_format": data_format,
    }
    filled = padded(x, [size] * rank, steps, 1, padding, np.nan)
    out, places = windows(filled, [size] * rank, steps)
    most, mean = np.zeros((2, *out, 2)), np.zeros((2, *out, 2))
    for place, part in places:
        axes = tuple(range(1, rank + 1))
        most[(slice(None), *place)] = np.nanmax(part, axis=axes)
        mean[(slice(None), *place)] = np.nanmean(part, axis=axes)
    same(run(f"MaxPooling{rank}D", config, [layout(x, data_format)]), layout(most, data_format))
    same(run(f"AveragePooling{rank}D", config, [layout(x, data_format)]), layout(mean, data_format))


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_global_pooling(rank: int, data_format: str, keepdims: bool) -> None:
    x = draw(2, *[4, 3, 2][:rank], 5)
    axes = tuple(range(1, rank + 1))
    config = {"data_format": data_format, "keepdims": keepdims}
    for name, function in (("Max", np.max), ("Average", np.mean)):
        expected = function(x.astype(np.float64), axis=axes, keepdims=keepdims)
        found = run(f"Global{name}Pooling{rank}D", config, [layout(x, data_format)])
        same(found, layout(expected, data_format) if keepdims else expected)


def test_dense() -> None:
    kernel, bias = draw(4, 3), draw(3)
    for shape in ((2, 4), (2, 5, 4), (2, 3, 2, 4)):
        x = draw(*shape)
        expected = np.tanh(x.astype(np.float64) @ kernel + bias)
        same(run("Dense", {"units": 3, "activation": "tanh"}, [x], [kernel, bias]), expected)


@pytest.mark.parametrize(
    ("equation", "shape", "kernel", "output", "bias_axes", "bias"),
    [
        ("ab,bc->ac", (4,), (4, 3), 3, "c", (3,)),
        ("abc,cde->abde", (5, 4), (4, 2, 3), (None, 2, 3), "de", (2, 3)),
        ("abc,cde->abde", (5, 4), (4, 2, 3), (None, 2, 3), "d", (2, 1)),
        ("abcd,cde->abe", (5, 2, 3), (2, 3, 4), (None, 4), None, None),
        ("...x,xy->...y", (5, 2, 3), (3, 4), 4, "y", (4,)),
    ],
)
def test_einsum_dense(equation: str, shape: Any, kernel: Any, output: Any, bias_axes: Any, bias: Any) -> None:
    x, weight = draw(2, *shape), draw(*kernel)
    arrays = [weight, *([draw(*bias)] if bias else [])]
    config = {"equation": equation, "output_shape": output, "bias_axes": bias_axes}
    expected = np.einsum(equation, x.astype(np.float64), weight) + (arrays[1] if bias else 0)
    same(run("EinsumDense", config, [x], arrays, K3), expected)


VIEWS: list[tuple[str, dict[str, Any], tuple[int, ...], Callable[[np.ndarray], np.ndarray]]] = [
    ("Flatten", {}, (3, 4, 2), lambda x: x.reshape(2, -1)),
    ("Flatten", {"data_format": "channels_first"}, (3, 4, 2), lambda x: last(x).reshape(2, -1)),
    ("Flatten", {"data_format": "channels_first"}, (4,), lambda x: x),
    ("Reshape", {"target_shape": [4, -1]}, (3, 4, 2), lambda x: x.reshape(2, 4, 6)),
    ("Permute", {"dims": [3, 1, 2]}, (3, 4, 2), lambda x: x.transpose(0, 3, 1, 2)),
    ("RepeatVector", {"n": 3}, (4,), lambda x: np.repeat(x[:, None], 3, axis=1)),
    ("ZeroPadding1D", {"padding": [1, 2]}, (4, 3), lambda x: np.pad(x, ((0, 0), (1, 2), (0, 0)))),
    ("ZeroPadding2D", {"padding": [[1, 0], [0, 2]]}, (4, 3, 2), lambda x: np.pad(x, ((0, 0), (1, 0), (0, 2), (0, 0)))),
    ("ZeroPadding3D", {"padding": 1}, (2, 3, 2, 1), lambda x: np.pad(x, ((0, 0), (1, 1), (1, 1), (1, 1), (0, 0)))),
    ("Cropping1D", {"cropping": [1, 0]}, (4, 3), lambda x: x[:, 1:]),
    ("Cropping2D", {"cropping": [[1, 0], [0, 2]]}, (4, 3, 2), lambda x: x[:, 1:, :-2]),
    ("Cropping3D", {"cropping": [[0, 1], [1, 1], [0, 0]]}, (2, 3, 2, 2), lambda x: x[:, :-1, 1:-1]),
    ("UpSampling1D", {"size": 3}, (4, 3), lambda x: x.repeat(3, 1)),
    ("UpSampling2D", {"size": [2, 3]}, (4, 3, 2), lambda x: x.repeat(2, 1).repeat(3, 2)),
    ("UpSampling3D", {"size": [2, 1, 3]}, (2, 3, 2, 2), lambda x: x.repeat(2, 1).repeat(3, 3)),
    ("CenterCrop", {"height": 2, "width": 3}, (5, 4, 2), lambda x: x[:, 1:3, :3]),
    ("Identity", {}, (4,), lambda x: x),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "config", "shape", "expected"), VIEWS)
@pytest.mark.parametrize("moved", [False, True])
def test_views(kind: str, config: dict[str, Any], shape: tuple[int, ...], expected: Any, moved: bool) -> None:
    x = draw(2, *shape)
    if moved and len(shape) < 2:
        return
    same(run(kind, config, [x], moved=moved and config.get("data_format") is None), expected(x))


def test_layers_for_training_do_nothing() -> None:
    x = draw(2, 4, 5, 3)
    named = [
        k
        for k in LAYERS
        if "Random" in k or "Dropout" in k or k in ("GaussianNoise", "ActivityRegularization")
    ]
    assert len(named) >= 18
    for kind in named:
        same(run(kind, {"rate": 0.5}, [x]), x)


def interpolated(x: np.ndarray, factor: float, axis: int, half: bool) -> np.ndarray:
    """Linear along one axis, the edges repeated; ``factor`` times as long."""
    n = x.shape[axis]
    at = np.arange(round(n * factor))
    where = np.clip((at + 0.5) / factor - 0.5 if half else at / factor, 0, n - 1)
    low = np.floor(where).astype(int)
    high, share = np.minimum(low + 1, n - 1), where - low
    share = share.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    return np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share


@pytest.mark.parametrize(
    ("version", "half"), [(K2, True), (K3, True), ((2, 3, 1), False), (K1, False), ((2, 4, 0), True)]
)
def test_bilinear_upsampling_by_version(version: tuple[int, ...], half: bool) -> None:
    x = draw(2, 4, 3, 2)
    found = run("UpSampling2D", {"size": [2, 3], "interpolation": "bilinear"}, [x], version=version)
    same(found, interpolated(interpolated(x.astype(np.float64), 2, 1, half), 3, 2, half))


def test_a_version_of_two_interpolations_is_refused() -> None:
    with pytest.raises(
        FileError, match=r"interpolation bilinear differs between Keras and tf\.keras 2\.2\.4"
    ):
        run("UpSampling2D", {"size": 2, "interpolation": "bilinear"}, [draw(1, 3, 3, 1)], version=(2, 2, 4))


@pytest.mark.parametrize("size", [(7, 6), (3, 2), (10, 3)])
def test_resizing(size: tuple[int, int]) -> None:
    x = draw(2, 5, 4, 3)
    config = {"height": size[0], "width": size[1], "interpolation": "bilinear"}
    expected = interpolated(interpolated(x.astype(np.float64), size[0] / 5, 1, True), size[1] / 4, 2, True)
    same(run("Resizing", config, [x]), expected)
    rows, columns = (
        [math.floor((i + 0.5) * n / m + 1e-9) for i in range(m)] for n, m in zip((5, 4), size, strict=True)
    )
    same(run("Resizing", {**config, "interpolation": "nearest"}, [x]), x[:, rows][:, :, columns])


def normalized(x: np.ndarray, axes: Any, epsilon: float) -> np.ndarray:
    x = x.astype(np.float64)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_batch_normalization(axis: int, moved: bool) -> None:
    x = draw(2, 3, 4, 5)
    size = x.shape[axis]
    gamma, beta, mean, variance = draw(size), draw(size), draw(size), np.abs(draw(size)) + 0.5
    along = [size if i == axis else 1 for i in range(4)]
    g, b, m, v = (a.astype(np.float64).reshape(along) for a in (gamma, beta, mean, variance))
    found = run(
        "BatchNormalization",
        {"axis": [axis], "epsilon": 0.01},
        [x],
        [gamma, beta, mean, variance],
        moved=moved,
    )
    same(found, g * (x - m) / np.sqrt(v + 0.01) + b)
    config = {"axis": axis, "epsilon": 0.01, "scale": False, "center": False}
    same(run("BatchNormalization", config, [x], [mean, variance], moved=moved), (x - m) / np.sqrt(v + 0.01))


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("axes", [[3], [2, 3], [1, 2, 3], [1], [1, 3]])
def test_layer_normalization(axes: list[int], moved: bool) -> None:
    x = draw(2, 3, 4, 5)
    sizes = [x.shape[a] for a in axes]
    along = [n if i in axes else 1 for i, n in enumerate(x.shape)]
    gamma, beta = draw(*sizes), draw(*sizes)
    axis: Any = axes if len(axes) > 1 else axes[0]
    found = run("LayerNormalization", {"axis": axis, "epsilon": 0.01}, [x], [gamma, beta], moved=moved)
    same(found, normalized(x, tuple(axes), 0.01) * gamma.reshape(along) + beta.reshape(along))
    deviation = np.sqrt(x.astype(np.float64).var(tuple(axes), keepdims=True) + 0.01)
    found = run(
        "LayerNormalization",
        {"axis": axis, "epsilon": 0.01, "rms_scaling": True},
        [x],
        [gamma],
        K3,
        moved=moved,
    )
    same(found, x / deviation * gamma.reshape(along))
    square = np.square(x.astype(np.float64)).mean(tuple(axes), keepdims=True)
    found = run("RMSNormalization", {"axis": axis, "epsilon": 0.01}, [x], [gamma], K3, moved=moved)
    same(found, x / np.sqrt(square + 0.01) * gamma.reshape(along))
    norm = np.sqrt(np.square(x.astype(np.float64)).sum(tuple(axes), keepdims=True))
    same(run("UnitNormalization", {"axis": axis}, [x], moved=moved), x / norm)


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("groups", [1, 2, -1])
def test_group_normalization(groups: int, axis: int) -> None:
    x, gamma, beta = draw(2, 3, 5, 4), draw(4), draw(4)
    count = 4 if groups == -1 else groups
    split = x.reshape(2, 15, count, -1)
    expected = normalized(split, (1, 3), 0.01).reshape(x.shape) * gamma + beta
    given = x if axis == -1 else first(x)
    found = run(
        "GroupNormalization", {"groups": groups, "axis": axis, "epsilon": 0.01}, [given], [gamma, beta]
    )
    same(found, expected if axis == -1 else first(expected))


@pytest.mark.parametrize("moved", [False, True])
def test_scaling(moved: bool) -> None:
    x = draw(2, 3, 4)
    mean, variance = draw(4), np.abs(draw(4)) + 0.5
    for array, axis in ((mean, -1), (draw(3), 1)):
        spread_out = np.abs(array) + 0.5
        along = (-1, 1) if axis == 1 else (-1,)
        expected = (x - array.reshape(along)) / np.sqrt(spread_out.astype(np.float64).reshape(along))
        found = run("Normalization", {"axis": axis}, [x], [array, spread_out, np.asarray(9)], moved=moved)
        same(found, expected)
    config = {"axis": [-1], "mean": mean.tolist(), "variance": variance.tolist()}
    same(run("Normalization", config, [x], moved=moved), (x - mean) / np.sqrt(variance))
    same(
        run("Normalization", {**config, "invert": True}, [x], [], moved=moved),
        x * np.sqrt(variance) + mean,
    )
    config = {"axis": None, "mean": 0.5, "variance": 0.0}
    same(run("Normalization", config, [x], moved=moved), (x.astype(np.float64) - 0.5) / 1e-7)
    same(run("Rescaling", {"scale": 1 / 255, "offset": -0.5}, [x], moved=moved), x / 255 - 0.5)
    config = {"scale": mean.tolist(), "offset": variance.tolist()}
    same(run("Rescaling", config, [x], moved=moved), x * mean + variance)


def relu(x: np.ndarray, slope: float = 0.0, most: float = np.inf, least: float = 0.0) -> np.ndarray:
    return np.where(x >= most, most, np.where(x >= least, x, slope * (x - least)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(axis, keepdims=True)


def softplus(x: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(x))


ERF = np.vectorize(math.erf)
SELU = (1.6732632423543772, 1.0507009873554805)
# keras/src/activations/activations.py and keras/layers/activation, function by function.
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": relu,
    "relu6": lambda x: np.clip(x, 0, 6),
    "ReLU": relu,
    "leaky_relu": lambda x: relu(x, 0.2),
    "LeakyReLU": lambda x: relu(x, 0.3),
    **dict.fromkeys(("elu", "ELU", "celu"), lambda x: np.where(x > 0, x, np.expm1(x))),
    "selu": lambda x: SELU[1] * np.where(x > 0, x, SELU[0] * np.expm1(x)),
    "sigmoid": sigmoid,
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "tanh": np.tanh,
    "softplus": softplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "exponential": np.exp,
    **dict.fromkeys(("silu", "swish"), lambda x: x * sigmoid(x)),
    **dict.fromkeys(("hard_silu", "hard_swish"), lambda x: x * np.clip(0.2 * x + 0.5, 0, 1)),
    "mish": lambda x: x * np.tanh(softplus(x)),
    "gelu": lambda x: x / 2 * (1 + ERF(x / math.sqrt(2))),
    **dict.fromkeys(("softmax", "softmax_v2", "Softmax"), softmax),
    **dict.fromkeys(("log_softmax", "log_softmax_v2"), lambda x: np.log(softmax(x))),
    "glu": lambda x: x[..., :2] * sigmoid(x[..., 2:]),
    "squareplus": lambda x: (x + np.sqrt(x * x + 4)) / 2,
    "log_sigmoid": lambda x: np.log(sigmoid(x)),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "hard_shrink": lambda x: np.where(np.abs(x) > 0.5, x, 0),
    "soft_shrink": lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0),
    "tanh_shrink": lambda x: x - np.tanh(x),
    "sparse_plus": lambda x: np.where(x <= -1, 0, np.where(x >= 1, x, (x + 1) ** 2 / 4)),
    "sparse_sigmoid": lambda x: np.clip((x + 1) / 2, 0, 1),
    "ThresholdedReLU": lambda x: np.where(x > 1, x, 0),
}


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activation(name: str, moved: bool) -> None:
    x = 2 * draw(3, 7, 4)
    same(run("Activation", {"activation": name}, [x], moved=moved), ACTIVATIONS[name](x.astype(np.float64)))


def test_every_activation_has_a_formula() -> None:
    assert set(FUNCTIONS) == {*ACTIVATIONS, "threshold"}


CONFIGURED: list[tuple[str, dict[str, Any], Callable[[np.ndarray], np.ndarray]]] = [
    ("ReLU", {"max_value": 0.5, "negative_slope": 0.1, "threshold": 0.2}, lambda x: relu(x, 0.1, 0.5, 0.2)),
    ("ReLU", {"max_value": 0.5, "negative_slope": [0.1]}, lambda x: x),
    ("ReLU", {"max_value": None, "negative_slope": 0.1, "threshold": 0.0}, lambda x: relu(x, 0.1)),
    ("ReLU", {"max_value": 0.5}, lambda x: np.clip(x, 0, 0.5)),
    ("LeakyReLU", {"alpha": {"class_name": "__numpy__", "config": {"value": 0.4}}}, lambda x: relu(x, 0.4)),
    ("ELU", {"alpha": 0.5}, lambda x: np.where(x > 0, x, 0.5 * np.expm1(x))),
    ("ThresholdedReLU", {"theta": 0.3}, lambda x: np.where(x > 0.3, x, 0)),
    ("Softmax", {"axis": 1}, lambda x: softmax(x, 1)),
    ("Activation", {"activation": {"class_name": "LeakyReLU", "config": {"negative_slope": 0.4}}},
     lambda x: relu(x, 0.4)),
    ("Activation", {"activation": {"class_name": "function", "config": "relu"}}, relu),
    ("Activation", {"activation": {"class_name": "threshold", "config": {"threshold": 0.1, "default_value": -2}}},
     lambda x: np.where(x > 0.1, x, -2)),
    ("Activation", {"activation": {"class_name": "gelu", "config": {"approximate": True}}},
     lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))),
]  # fmt: skip


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize(("kind", "config", "expected"), CONFIGURED)
def test_activation_with_arguments(kind: str, config: dict[str, Any], expected: Any, moved: bool) -> None:
    x = draw(3, 7, 4)
    if config.get("negative_slope") == [0.1]:
        with pytest.raises(FileError, match=r"negative_slope must be a number, but it is \[0\.1\]"):
            run(kind, config, [x])
        return
    same(run(kind, config, [x], moved=moved), expected(x.astype(np.float64)))


def test_hard_sigmoid_by_version() -> None:
    x = 3 * draw(3, 7)
    for version, slope in ((K1, 0.2), (K2, 0.2), (K3, 1 / 6)):
        found = run("Activation", {"activation": "hard_sigmoid"}, [x], version=version)
        same(found, np.clip(slope * x.astype(np.float64) + 0.5, 0, 1))


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize(
    ("shared", "shape"), [(None, (3, 4, 5)), ([1, 2], (1, 1, 5)), ([3], (3, 4, 1)), ([None], (3, 4, 5))]
)
def test_prelu(shared: Any, shape: tuple[int, ...], moved: bool) -> None:
    x, alpha = draw(2, 3, 4, 5), draw(*shape)
    same(run("PReLU", {"shared_axes": shared}, [x], [alpha], moved=moved), np.where(x > 0, x, alpha * x))


MERGES: dict[str, Callable[..., np.ndarray]] = {
    "Add": lambda *v: sum(v),
    "Subtract": lambda a, b: a - b,
    "Multiply": lambda *v: math.prod(v[1:], start=v[0]),
    "Average": lambda *v: sum(v) / len(v),
    "Maximum": lambda *v: np.maximum.reduce(np.broadcast_arrays(*v)),
    "Minimum": lambda *v: np.minimum.reduce(np.broadcast_arrays(*v)),
}


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("kind", MERGES)
def test_merge(kind: str, moved: bool) -> None:
    values = [draw(2, 3, 4, 5), draw(2, 1, 1, 5), draw(2, 3, 4, 5)]
    values = values[: 2 if kind == "Subtract" else 3]
    same(run(kind, {}, values, moved=moved), MERGES[kind](*(v.astype(np.float64) for v in values)))
    # Missing axes are put behind the batch.
    values = [draw(2, 3, 4, 5), draw(2, 5)]
    same(run(kind, {}, values, moved=moved), MERGES[kind](values[0], values[1][:, None, None]))


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("axis", [1, 2, 3, -1, -2])
def test_concatenate(axis: int, moved: bool) -> None:
    shapes = [[2, 3, 4, 5], [2, 3, 4, 5]]
    shapes[1][axis] = 2
    values = [draw(*shape) for shape in shapes]
    same(run("Concatenate", {"axis": axis}, values, moved=moved), np.concatenate(values, axis))


def test_concatenate_does_not_broadcast() -> None:
    with pytest.raises(
        FileError,
        match=r"tensors must agree but for axis 2, but these are \[\[None, 3, 4\], \[None, 1, 4\]\]",
    ):
        run("Concatenate", {"axis": -1}, [draw(2, 3, 4), draw(2, 1, 4)])


@pytest.mark.parametrize(
    ("left", "right", "axes", "equation"),
    [
        ((4,), (4,), 1, "na,na->n"),
        ((3, 4), (5, 4), 2, "nba,nca->nbc"),
        ((3, 4), (3, 5), [1, 1], "nab,nac->nbc"),
        ((4,), (3, 4), [1, 2], "na,nba->nb"),
        ((2, 3, 4), (4, 5), [-1, -2], "nbca,nad->nbcd"),
    ],
)
def test_dot(left: Any, right: Any, axes: Any, equation: str) -> None:
    x, y = draw(2, *left), draw(2, *right)
    a, b = x.astype(np.float64), y.astype(np.float64)
    expected = np.einsum(equation, a, b)
    same(run("Dot", {"axes": axes}, [x, y]), expected if expected.ndim > 1 else expected[:, None])
    first_axis, second_axis = axes if isinstance(axes, list) else (axes, axes)
    a /= np.sqrt((a * a).sum(first_axis, keepdims=True))
    b /= np.sqrt((b * b).sum(second_axis, keepdims=True))
    expected = np.einsum(equation, a, b)
    same(
        run("Dot", {"axes": axes, "normalize": True}, [x, y]),
        expected if expected.ndim > 1 else expected[:, None],
    )


def test_time_distributed() -> None:
    x, kernel, bias = draw(2, 3, 5, 4, 2), draw(3, 2, 2, 6), draw(6)
    inner = {"class_name": "Conv2D", "config": {"name": "c", "filters": 6, "kernel_size": [3, 2]}}
    expected = np.stack([convolved(x[:, t], kernel, [1, 1]) + bias for t in range(3)], axis=1)
    same(run("TimeDistributed", {"layer": inner}, [x], [kernel, bias]), expected)
    x, kernel, bias = draw(2, 3, 5), draw(5, 4), draw(4)
    inner = {"class_name": "Dense", "config": {"name": "d", "units": 4}}
    same(run("TimeDistributed", {"layer": inner}, [x], [kernel, bias]), x.astype(np.float64) @ kernel + bias)
    inner = {"class_name": "Flatten", "config": {"name": "f"}}
    x = draw(2, 3, 4, 2)
    same(run("TimeDistributed", {"layer": inner}, [x]), x.reshape(2, 3, 8))
    inner = {"class_name": "LSTM", "config": {"name": "f"}}
    with pytest.raises(FileError, match="TimeDistributed of 'LSTM' is not supported"):
        run("TimeDistributed", {"layer": inner}, [x])


# A function of TensorFlow: the keywords, what numpy makes of a tensor x (2, 3, 4, 5) that is positive.
X = np.abs(draw(2, 3, 4, 5)) + 0.5
SLICES = [{"start": None, "stop": None, "step": None}, {"start": 1, "stop": None, "step": None}, 0]
TF: list[tuple[str, dict[str, Any], Callable[[np.ndarray], np.ndarray]]] = [
    ("__operators__.add", {"y": 2.0, "name": None}, lambda x: x + 2),
    ("math.add", {"y": [1.0, 2.0, 3.0, 4.0, 5.0]}, lambda x: np.add(x, range(1, 6))),
    ("math.subtract", {"y": 2.0}, lambda x: x - 2),
    ("math.multiply", {"y": 2.0}, lambda x: x * 2),
    ("math.truediv", {"y": 2.0}, lambda x: x / 2),
    ("math.divide", {"y": 2.0}, lambda x: x / 2),
    ("math.pow", {"y": 2.0}, lambda x: x**2),
    ("math.maximum", {"y": 1.0}, lambda x: np.maximum(x, 1)),
    ("math.minimum", {"y": 1.0}, lambda x: np.minimum(x, 1)),
    ("math.negative", {}, lambda x: -x),
    ("math.abs", {}, np.abs),
    ("math.rsqrt", {}, lambda x: 1 / np.sqrt(x)),
    ("math.reciprocal", {}, lambda x: 1 / x),
    ("math.square", {}, np.square),
    *[(f"math.{f.__name__}", {}, f) for f in (np.ceil, np.cos, np.exp, np.floor, np.log, np.sign, np.sin, np.sqrt)],
    ("math.tanh", {}, np.tanh),
    ("math.sigmoid", {}, sigmoid),
    ("nn.sigmoid", {}, sigmoid),
    ("nn.tanh", {}, np.tanh),
    ("math.softplus", {}, softplus),
    ("nn.softplus", {}, softplus),
    ("math.reduce_mean", {"axis": [1, 2], "keepdims": False}, lambda x: x.mean((1, 2))),
    ("math.reduce_sum", {"axis": -1, "keepdims": True}, lambda x: x.sum(-1, keepdims=True)),
    ("math.reduce_max", {"axis": 1}, lambda x: x.max(1)),
    ("math.reduce_min", {"axis": [3]}, lambda x: x.min(3)),
    ("nn.relu", {}, relu),
    ("nn.relu6", {}, lambda x: np.clip(x, 0, 6)),
    ("nn.elu", {}, ACTIVATIONS["elu"]),
    ("nn.selu", {}, ACTIVATIONS["selu"]),
    ("nn.softsign", {}, ACTIVATIONS["softsign"]),
    ("nn.leaky_relu", {"alpha": 0.1}, lambda x: relu(x, 0.1)),
    ("nn.gelu", {}, ACTIVATIONS["gelu"]),
    ("nn.silu", {"beta": 1.0}, ACTIVATIONS["silu"]),
    ("nn.swish", {}, ACTIVATIONS["silu"]),
    ("nn.softmax", {"axis": 1}, lambda x: softmax(x, 1)),
    ("math.softmax", {}, softmax),
    ("nn.log_softmax", {}, lambda x: np.log(softmax(x))),
    ("math.log_softmax", {}, lambda x: np.log(softmax(x))),
    ("reshape", {"shape": [-1, 12, 5]}, lambda x: x.reshape(2, 12, 5)),
    ("transpose", {"perm": [0, 3, 1, 2]}, lambda x: x.transpose(0, 3, 1, 2)),
    ("expand_dims", {"axis": 1}, lambda x: x[:, None]),
    ("clip_by_value", {"clip_value_min": 0.7, "clip_value_max": 1.1}, lambda x: np.clip(x, 0.7, 1.1)),
    ("cast", {"dtype": "float32"}, lambda x: x),
    ("identity", {}, lambda x: x),
    ("__operators__.getitem", {"slice_spec": SLICES}, lambda x: x[:, 1:, 0]),
    ("__operators__.getitem", {"slice_spec": [{"class_name": "__ellipsis__"}, -1]}, lambda x: x[..., -1]),
    ("__operators__.getitem", {"slice_spec": [{"class_name": "__ellipsis__"}, None]}, lambda x: x[..., None]),
]  # fmt: skip


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize(("function", "keywords", "expected"), TF)
def test_function_of_tensorflow(function: str, keywords: dict[str, Any], expected: Any, moved: bool) -> None:
    kind = "SlicingOpLambda" if "getitem" in function else "TFOpLambda"
    node = ["l0" if moved else "x0", 0, 0, keywords]
    same(run(kind, {"function": function}, [X], node=node, moved=moved), expected(X.astype(np.float64)))


def test_function_of_several_tensors() -> None:
    x, y = draw(2, 3, 4), draw(2, 3, 4)
    node: Any = ["x0", 0, 0, {"y": ["x1", 0, 0]}]
    same(run("TFOpLambda", {"function": "math.subtract"}, [x, y], node=node), x - y)
    node = ["_CONSTANT_VALUE", -1, 2.0, {"y": ["x0", 0, 0]}]
    same(run("TFOpLambda", {"function": "math.subtract"}, [x], node=node), 2 - x)
    node = [["x0", 0, 0, {"axis": -1}], ["x1", 0, 0, {"axis": -1}]]
    same(run("TFOpLambda", {"function": "concat"}, [x, y], node=node), np.concatenate([x, y], -1))
    same(
        run("TFOpLambda", {"function": "stack"}, [x, y], node=[[*n[:3], {"axis": 1}] for n in node]),
        np.stack([x, y], 1),
    )
    x = draw(2, 1, 4)
    same(run("TFOpLambda", {"function": "squeeze"}, [x], node=["x0", 0, 0, {"axis": [1]}]), x[:, 0])


def test_every_function_of_tensorflow_has_a_formula() -> None:
    assert set(TENSORFLOW) == {name for name, _, _ in TF} | {"concat", "stack", "squeeze"}


@pytest.mark.parametrize(
    ("function", "keywords", "message"),
    [
        ("signal.fft", {}, "the function 'signal.fft' of TensorFlow is not supported"),
        ("math.reduce_mean", {}, "it must say its axis: without one it mixes the samples of a batch"),
        ("math.reduce_mean", {"axis": [0, 1]}, "an axis must not be the batch"),
        ("reshape", {"shape": [30, 4]}, "a reshape to [30, 4] must keep the batch in front"),
        ("transpose", {"perm": [1, 0, 2, 3]},
         "axes are put in another order behind the batch, but this is [1, 0, 2, 3]"),
        ("nn.silu", {"beta": 2.0}, "nn.silu with beta=2.0 is not supported"),
        ("math.add", {"y": [1.0, 2.0]}, "a constant of shape [2] does not fit [None, 3, 4, 5]"),
        ("__operators__.getitem", {"slice_spec": [0]}, "an index must leave the batch whole"),
    ],
)  # fmt: skip
def test_function_refused(function: str, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(FileError) as caught:
        run("TFOpLambda", {"function": function}, [X], node=["x0", 0, 0, keywords])
    assert caught.value.message == message
    assert caught.value.layer == "l0"
