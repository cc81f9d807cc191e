"""Pools, written in the form that ONNX Runtime runs fast: the one place that chooses it.

A pool in a map has holes (a dilation) wherever the map's stride is no multiple of the network's own, and there ONNX
Runtime 1.32 has traps. Measured once, on a shared Zen 4 with AVX-512, one thread, (1, C, 250, 250), least of 7 runs, ms
(``python bench/scan.py --pools`` holds what is written against the same pool without holes):

    3x3                         C = 10    C = 32
    MaxPool                       0.33      1.82
    MaxPool, dilation 4          15.5       1.67     the blocked kernels (NCHWc) take whole blocks of channels only
    maximum of slices             1.19      4.75
    AveragePool, to opset 18      0.50      1.90
    AveragePool, from 19          6.25      1.71     has dilations from 19 on, and a general kernel unless blocked
    convolution, dilation 4       0.88      1.74
    LpPool                       63.9     203         never has a fast kernel
    convolution of the squares    1.33      2.94

In one dimension nothing is blocked (16 channels of 30,000 steps: MaxPool 0.5, dilated 3.3, slices 0.4), nor in three
(MaxPool 0.23, dilated 7.8, slices 0.47). So a MaxPool with holes is a maximum of slices, unless it is blocked; the mean
over a window with holes and every norm are a convolution, each channel by itself, with a kernel of equal numbers.

    max over k elements, d apart     m1 = x;  m2[i] = max(m1[i], m1[i + d]);  m4[i] = max(m2[i], m2[i + 2d]) ...
                                     and at last two of them that overlap: log2(k) steps, an axis after the other
    mean                             sum x / k;  without the pads: that over the mean of ones with pads of zeros
    norm                             (sum |x|^p) ^ (1/p)
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from ...shapecalc.window import Window
from ..graph import INT_MAX, Builder, Value
from ..step import Refusal, Step

NATIVE, SLICES, CONVOLUTION = "pool", "maximum of slices", "convolution of each channel by itself"

BLOCK = 16  # channels that the blocked kernels take at a time: 16 with AVX-512, 8 with AVX2
GEOMETRY = (
    "auto_pad",
    "ceil_mode",
    "dilations",
    "kernel_shape",
    "pads",
    "strides",
)  # attributes of an ONNX window
_SLICED = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)  # what Max takes in every operator set
_DILATED_MAX = 10  # the operator set that gave MaxPool its dilations
_GENERAL_MEAN = 19  # the operator set that gave AveragePool dilations, and a slow kernel


def chosen_form(kind: str, windows: Sequence[Window], channels: int, dtype: int, opset: int) -> str:
    """Return how the pool ``kind`` is written: the measured rule.

    >>> chosen_form("MaxPool", [Window(3, dilation=4)] * 2, 10, TensorProto.FLOAT, 17)
    'maximum of slices'
    """
    holes = any(w.dilation > 1 for w in windows)
    blocked = dtype == TensorProto.FLOAT and len(windows) == 2 and channels % BLOCK == 0
    if kind == "MaxPool":
        if not holes or dtype not in _SLICED or (blocked and opset >= _DILATED_MAX):
            return NATIVE
        return SLICES
    if kind == "AveragePool" and not holes and (opset < _GENERAL_MEAN or blocked):
        return NATIVE
    return CONVOLUTION


def pooled(
    step: Step, kind: str, value: Value, data: str, windows: Sequence[Window], given: Mapping[str, Any], *,
    output: str = "",
) -> str:  # fmt: skip
    """Append the pool ``kind`` of ``data``, which is ``value`` or a part of it, and return its name.

    ``windows``: on the lattice, one a spatial axis. ``given``: what else the pool's attributes say (``p``,
    ``count_include_pad``). The last node gets ``output`` as its output.
    """
    build = step.builder
    form = chosen_form(kind, windows, value.layout.channel_count, value.dtype, step.opset)
    if all(w.kernel == 1 and not (w.before or w.after) for w in windows) and kind != "LpPool":
        form = NATIVE if step.opset < _GENERAL_MEAN else SLICES  # every stride-th element
    name = step.node.name if output else ""
    if form == NATIVE:
        if any(w.dilation > 1 for w in windows):
            given = {**given, "dilations": [w.dilation for w in windows]}
            if value.dtype in _SLICED:  # the runtime wants pads below the kernel, holes or not
                data, windows = _lowest_around(build, data, windows, value.dtype), _without_pads(windows)
            elif any(max(w.before, w.after) >= w.kernel for w in windows):
                raise Refusal(
                    "its pads, spread over the lattice of the map's stride, are as large as its kernel"
                )
        return build.emit(kind, [data], output=output, name=name, **geometry(windows), **given)
    if form == SLICES:
        result = _maximum(build, data, windows, value.dtype, output)
    elif kind == "AveragePool":
        result = _mean(build, data, windows, value, bool(given.get("count_include_pad", 0)), output)
    else:
        result = _norm(build, data, windows, value, int(given.get("p", 2)), output)
    if name:  # a layer keeps its name
        build.nodes[-1].name = name
    return result


def geometry(windows: Sequence[Window]) -> dict[str, Any]:
    """Return the attributes of an ONNX window, without dilations."""
    return {
        "kernel_shape": [w.kernel for w in windows],
        "strides": [w.stride for w in windows],
        "pads": [w.before for w in windows] + [w.after for w in windows],
    }


def _without_pads(windows: Sequence[Window]) -> list[Window]:
    return [Window(w.kernel, w.stride, w.dilation) for w in windows]


def _lowest_around(build: Builder, data: str, windows: Sequence[Window], dtype: int) -> str:
    """Append the pads of a MaxPool, which never are the maximum."""
    if not any(w.before or w.after for w in windows):
        return data
    widths = [0, 0, *(w.before for w in windows), 0, 0, *(w.after for w in windows)]
    if build.opset < 11:
        return build.emit("Pad", [data], pads=widths, value=float("-inf"))
    lowest = build.constant(_number(-np.inf, dtype), f"{build.layer}/lowest")
    return build.emit("Pad", [data, build.integers(widths, "pads"), lowest])


def _maximum(build: Builder, data: str, windows: Sequence[Window], dtype: int, output: str) -> str:
    """Append the maximum of slices of ``data``, an axis after the other."""
    data = _lowest_around(build, data, windows, dtype)
    early = [w.stride if build.opset >= 10 else 1 for w in windows]  # Slice has steps from operator set 10 on
    todo = [
        (axis, shift * w.dilation, early[axis] if last else 1)
        for axis, w in enumerate(windows)
        for shift, last in _shifts(w.kernel)
    ]
    late = [w.stride if w.kernel == 1 or early[axis] == 1 else 1 for axis, w in enumerate(windows)]
    thinned = any(stride > 1 for stride in late)
    for number, (axis, shift, stride) in enumerate(todo, 1):
        parts = [
            build.slice(data, [axis + 2], [start], [end], [stride] if stride > 1 else [])
            for start, end in ((0, -shift), (shift, INT_MAX))
        ]
        data = build.emit("Max", parts, output=output if number == len(todo) and not thinned else "")
    if thinned or not todo:
        data = build.every(data, late, output=output)
    return data


def _shifts(kernel: int) -> list[tuple[int, bool]]:
    """Return by how much the maximum so far is shifted against itself, until it is over ``kernel`` elements; and
    whether it is the last time.

    >>> _shifts(7)
    [(1, False), (2, False), (3, True)]
    """
    shifts, width = [], 1
    while width < kernel:
        shifts.append(min(width, kernel - width))
        width += shifts[-1]
    return [(shift, i == len(shifts)) for i, shift in enumerate(shifts, 1)]


def _mean(
    build: Builder, data: str, windows: Sequence[Window], value: Value, counts_pads: bool, output: str
) -> str:
    share = 1 / prod(w.kernel for w in windows)
    if counts_pads or not any(w.before or w.after for w in windows):
        return _summed(build, data, windows, value.layout.channel_count, value.dtype, share, output)
    mean = _summed(build, data, windows, value.layout.channel_count, value.dtype, share, "")
    # One channel of ones, whatever the values are: b or not b.
    first = build.emit("Cast", [build.slice(data, [1], [0], [1])], to=TensorProto.BOOL)
    true = build.emit("Or", [first, build.emit("Not", [first])])
    ones = build.emit("Cast", [true], to=value.dtype)
    return build.emit("Div", [mean, _summed(build, ones, windows, 1, value.dtype, share, "")], output=output)


def _norm(build: Builder, data: str, windows: Sequence[Window], value: Value, p: int, output: str) -> str:
    channels, dtype = value.layout.channel_count, value.dtype
    if p == 1:
        return _summed(build, build.emit("Abs", [data]), windows, channels, dtype, 1.0, output)
    if p == 2:
        squares = build.emit("Mul", [data, data])
        return build.emit("Sqrt", [_summed(build, squares, windows, channels, dtype, 1.0, "")], output=output)
    power, root = (build.constant(_number(n, dtype), f"{build.layer}/power") for n in (p, 1 / p))
    powers = build.emit("Pow", [build.emit("Abs", [data]), power])
    return build.emit("Pow", [_summed(build, powers, windows, channels, dtype, 1.0, ""), root], output=output)


def _summed(
    build: Builder,
    data: str,
    windows: Sequence[Window],
    channels: int,
    dtype: int,
    factor: float,
    output: str,
) -> str:
    """Append the sum over each window, times ``factor``: one convolution, or one an axis where that takes far fewer
    multiply-adds (measured: 7x7 1.3 for 3.5 ms, 3x3 no difference).
    """
    kernels = [w.kernel for w in windows]
    wide = [i for i, k in enumerate(kernels) if k > 1]
    apart = len(wide) > 1 and prod(kernels) > 2 * sum(kernels)
    point = Window(kernel=1)
    passes = [list(windows)]
    if apart:
        passes = [[w if i == axis else point for i, w in enumerate(windows)] for axis in wide]
        for i, w in enumerate(
            windows
        ):  # strides and pads of axes that are not summed over: the first pass has them
            if i not in wide:
                passes[0][i] = w
    for number, own in enumerate(passes, 1):
        size = (channels, 1, *(w.kernel for w in own))
        # One number, repeated when the runtime loads the map: the file holds no kernel that nobody trained.
        one = _number(factor if number == 1 else 1.0, dtype).reshape((1,) * len(size))
        number_ = build.constant(one, f"{build.layer}/share")
        kernel = build.emit("Tile", [number_, build.integers(size, "repeats")])
        data = build.emit(
            "Conv", [data, kernel], output=output if number == len(passes) else "", group=channels,
            dilations=[w.dilation for w in own], **geometry(own),
        )  # fmt: skip
    return data


def _number(number: float, dtype: int) -> "np.ndarray[Any, Any]":
    return np.asarray(number, dtype=helper.tensor_dtype_to_np_dtype(dtype))
