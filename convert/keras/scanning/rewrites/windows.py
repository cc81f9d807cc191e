"""Layers that slide a window: their pads stay what they are on the patch, on an input of any size.

::

    no pads                    valid
    SAME or causal, stride 1   as it is: its pads do not depend on the size
    other pads, convolution    ZeroPadding of the same pads, then valid
    other pads, pool           the same pool with stride 1, whose SAME leaves pads out of maximum and mean, then
                               every s-th of its outputs

Elements at the end that no window of the patch reads are cropped first. So a layer with stride s has one output more
for each s elements more, and the map ``(H - P) // S + 1`` positions (``Window.tiling``).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .....shapecalc.window import Window
from ...layers.padding import edges
from ...layers.sliding import slid
from ..scanned import Scanned
from ..turn import Turn


def convolution(turn: Turn) -> Scanned:
    """Conv, DepthwiseConv and SeparableConv, one to three axes."""
    value = turn.windowed()
    rank = len(value.space)
    kernel, strides, dilations = _geometry(turn, rank)
    windows, sizes = _windows(turn, value, "conv", kernel, strides, dilations)
    changed: dict[str, Any] = {"data_format": value.data_format}
    kept = _of_any_size(turn, windows)
    tight = [window.tiling(n)[0] for window, n in zip(windows, value.sizes, strict=True)]
    value = _cropped(turn, value, windows)
    if not kept:
        value = padded(turn, value, tight)
    if not kept or not any(w.before or w.after for w in tight):
        changed["padding"] = "valid"
    result = _strided(value, strides, sizes).resized(sizes, _filters(turn, value))
    return turn.kept([value], result, changed)


def _geometry(turn: Turn, rank: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The kernel, the strides and the dilations."""
    read = turn.read
    return (
        read.sizes("kernel_size", rank),
        read.sizes("strides", rank, 1),
        read.sizes("dilation_rate", rank, 1),
    )


def _filters(turn: Turn, value: Scanned) -> int:
    """The number of channels that a convolution gives."""
    assert value.channel is not None
    if turn.layer.kind.startswith("Depthwise"):
        return value.shape[value.channel] * turn.read.integer("depth_multiplier", 1)
    return turn.read.integer("filters")


def pool(turn: Turn) -> Scanned:
    """MaxPooling and AveragePooling, one to three axes."""
    value = turn.windowed()
    rank = len(value.space)
    size = turn.read.sizes("pool_size", rank, 2)
    strides = turn.read.sizes("strides", rank) if turn.read.argument("strides", None) else size
    operator = "maxpool" if turn.layer.kind.startswith("Max") else "avgpool"
    windows, sizes = _windows(turn, value, operator, size, strides, (1,) * rank)
    changed: dict[str, Any] = {"data_format": value.data_format, "strides": list(strides)}
    if _of_any_size(turn, windows):
        value = _cropped(turn, value, windows)
        if not any(w.before or w.after for w in windows):
            changed["padding"] = "valid"
        return turn.kept([value], _strided(value, strides, sizes), changed)
    # Stride 1: its window k begins (k - 1) // 2 elements in front of its place.
    first = [(w.kernel - 1) // 2 - w.before for w in windows]
    if min(first) < 0:
        raise turn.refusal(f"{turn.layer.kind} pads more in front than SAME does, which Theano alone can")
    config = {**turn.layer.config, **changed, "padding": "same", "strides": [1] * rank}
    dense = turn.add(turn.layer.kind, config, [value], value, role="dense")
    last = [n - f - ((o - 1) * s + 1) for n, f, o, s in zip(value.sizes, first, sizes, strides, strict=True)]
    dense = cropped(turn, dense, list(zip(first, last, strict=True)))
    return _every(turn, dense, strides, sizes, role="")


def global_pool(turn: Turn) -> Scanned:
    """GlobalMaxPooling and GlobalAveragePooling."""
    pool = "Max" if "Max" in turn.layer.kind else "Average"
    return pooled_over(turn, turn.windowed(), pool, bool(turn.read.argument("keepdims", False)))


def pooled_over(turn: Turn, value: Scanned, pool: str, keepdims: bool) -> Scanned:
    """A pool, Max or Average, as large as the feature map of the patch."""
    rank = len(value.space)
    config = {
        "pool_size": list(value.sizes), "strides": list(turn.head_strides(value)), "padding": "valid",
        "data_format": value.data_format,
    }  # fmt: skip
    result = replace(value.resized([1] * rank), jump=turn.stride)
    pooled = turn.add(f"{pool}Pooling{rank}D", config, [value], result)
    # (N, 1.., C) -> (N, C)
    return pooled if keepdims else pooled.viewed(pooled.elements.reshape(-1))


def subsampled(turn: Turn, value: Scanned) -> Scanned:
    """``value`` at the stride of the map."""
    strides = turn.head_strides(value)
    if set(strides) == {1}:
        return value
    tensor = replace(value, order=None)
    return replace(_every(turn, tensor, strides, value.sizes, role="stride"), order=value.order)


def zero_padding(turn: Turn) -> Scanned:
    """ZeroPadding1D, 2D, 3D: on any size the same."""
    value = turn.windowed() if turn.layer.kind != "ZeroPadding1D" else turn.feature(turn.value)
    pairs = _pairs(turn, "padding", len(value.space))
    sizes = [n + sum(pair) for n, pair in zip(value.sizes, pairs, strict=True)]
    return turn.kept([value], value.resized(sizes), _amounts("padding", pairs, value))


def crop(turn: Turn) -> Scanned:
    """Cropping1D, 2D, 3D: on any size the same."""
    value = turn.windowed() if turn.layer.kind != "Cropping1D" else turn.feature(turn.value)
    pairs = _pairs(turn, "cropping", len(value.space))
    sizes = [n - sum(pair) for n, pair in zip(value.sizes, pairs, strict=True)]
    return turn.kept([value], value.resized(sizes), _amounts("cropping", pairs, value))


def padded(turn: Turn, value: Scanned, windows: Sequence[Window]) -> Scanned:
    """``value`` behind a ZeroPadding of what ``windows`` pad."""
    pairs = [(window.before, window.after) for window in windows]
    sizes = [n + sum(pair) for n, pair in zip(value.sizes, pairs, strict=True)]
    return _edged(turn, "ZeroPadding", "padding", value, pairs, value.resized(sizes), "pad")


def cropped(turn: Turn, value: Scanned, pairs: Sequence[tuple[int, int]]) -> Scanned:
    """``value`` without some elements at the beginning and the end of each axis."""
    if not any(map(any, pairs)):
        return value
    sizes = [n - sum(pair) for n, pair in zip(value.sizes, pairs, strict=True)]
    return _edged(turn, "Cropping", "cropping", value, pairs, value.resized(sizes), "crop")


def _edged(
    turn: Turn,
    kind: str,
    argument: str,
    value: Scanned,
    pairs: Sequence[tuple[int, int]],
    result: Scanned,
    role: str,
) -> Scanned:
    rank = len(value.space)
    if rank == 1 and value.data_format == "channels_first":
        raise turn.refusal(f"it needs a {kind}1D, which Keras has for channels_last only")
    return turn.add(f"{kind}{rank}D", _amounts(argument, pairs, value), [value], result, role=role)


def _amounts(argument: str, pairs: Sequence[tuple[int, int]], value: Scanned) -> dict[str, Any]:
    """The arguments of a padding or a cropping."""
    if len(pairs) == 1:
        return {argument: list(pairs[0])}
    return {argument: [list(pair) for pair in pairs], "data_format": value.data_format}


def _pairs(turn: Turn, argument: str, rank: int) -> list[tuple[int, int]]:
    return edges(turn.read, turn.read.argument(argument, 1), rank)


def _every(turn: Turn, value: Scanned, strides: Sequence[int], sizes: Sequence[int], role: str) -> Scanned:
    """Every ``strides``-th element: a pool of one element."""
    rank = len(strides)
    config = {
        "pool_size": [1] * rank, "strides": list(strides), "padding": "valid", "data_format": value.data_format,
    }  # fmt: skip
    return turn.add(f"MaxPooling{rank}D", config, [value], _strided(value, strides, sizes), role=role)


def _windows(
    turn: Turn,
    value: Scanned,
    operator: str,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> tuple[list[Window], tuple[int, ...]]:
    """The window of each axis with its pads on the patch, and the sizes that come out there."""
    found = slid(turn.read, operator, value.sizes, kernel, strides, dilations)
    rank = len(kernel)
    pads = found.attributes.get("pads", [0] * 2 * rank)
    windows = [
        Window(k, s, d, before, after)
        for k, s, d, before, after in zip(kernel, strides, dilations, pads[:rank], pads[rank:], strict=True)
    ]
    return windows, tuple(w.output(n) for w, n in zip(windows, value.sizes, strict=True))


def _of_any_size(turn: Turn, windows: Sequence[Window]) -> bool:
    """Whether the layer's own word for its pads gives these pads on every size."""
    word = turn.read.argument("padding", "valid")
    if word == "same" and any(w.before or w.after for w in windows):
        return all(
            w.stride == 1 and w.before == (w.extent - 1) // 2 and w.after == w.extent - 1 - w.before
            for w in windows
        )
    return word in ("valid", "causal") or not any(w.before or w.after for w in windows)


def _cropped(turn: Turn, value: Scanned, windows: Sequence[Window]) -> Scanned:
    """``value`` without the elements at its end that no window reads."""
    return cropped(turn, value, [(0, w.tiling(n)[1]) for w, n in zip(windows, value.sizes, strict=True)])


def _strided(value: Scanned, strides: Sequence[int], sizes: Sequence[int]) -> Scanned:
    return replace(value.resized(sizes), jump=tuple(j * s for j, s in zip(value.jump, strides, strict=True)))
