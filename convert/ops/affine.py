"""Constants that differ from position to position of the patch, in front of a dense layer.

    W (m * x + b)  =  (W * m) x + W b

On a larger input such a constant would have to move with every patch. A dense layer behind takes it in: ``m``
multiplies its kernel and ``W b`` adds to its bias, by nodes on constants that the runtime computes once, when it loads
the map. The dense weight itself stays in the file bit for bit. Until the dense layer comes, ``m`` and ``b`` travel with
the value as canonical tensors ``(1, C, *patch)``; nothing but a change of axes may come in between.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np
from onnx import helper

from ..broadcasting import sizes_against
from ..graph import Builder, Value
from ..kernel import Rearrangement
from ..layout import BATCH, SPACE
from ..step import Refusal, Step

# Operators that may read a value with constants waiting: they take them in, add to them, or only regroup axes.
READERS = frozenset(
    ("Add", "BatchNormalization", "Div", "Dropout", "Flatten", "Gemm", "Identity", "MatMul", "Mul", "Reshape",
     "Squeeze", "Sub", "Transpose", "Unsqueeze")
)  # fmt: skip


def waiting(value: Value) -> bool:
    """Whether constants wait for a dense layer to take them in."""
    return bool(value.scale or value.shift)


def arithmetic(step: Step, value: Value, name: str) -> Value:
    """Return ``value`` with the constant ``name`` added, subtracted, multiplied or divided: it waits."""
    kind = step.node.op_type
    if kind not in ("Add", "Div", "Mul", "Sub") or (kind in ("Div", "Sub") and step.node.input[1] != name):
        raise Refusal(f"its constant {name} differs from position to position of the patch")
    build, constant = step.builder, _canonical(step, value, name)
    scale, shift = value.scale, value.shift
    if kind in ("Add", "Sub"):
        alone = constant if kind == "Add" else build.emit("Neg", [constant])
        shift = build.emit(kind, [shift, constant]) if shift else alone
    else:
        alone = constant if kind == "Mul" else build.emit("Reciprocal", [constant])
        scale = build.emit(kind, [scale, constant]) if scale else alone
        shift = build.emit(kind, [shift, constant]) if shift else ""
    step.note(
        "rewritten", "its constant differs from position to position: the dense layer behind takes it in"
    )
    return replace(value, scale=scale, shift=shift)


def normalization(step: Step, value: Value) -> Value:
    """Return ``value`` behind a BatchNormalization of flattened features.

    ``(x - mean) / sqrt(var + epsilon) * gamma + beta``, one of each a feature (ONNX BatchNormalization).
    """
    build = step.builder
    gamma, beta, mean, variance = (_canonical(step, value, n) for n in step.node.input[1:5])
    epsilon = np.asarray(step.number("epsilon", 1e-5), dtype=helper.tensor_dtype_to_np_dtype(value.dtype))
    safe = build.emit("Add", [variance, build.constant(epsilon, f"{build.layer}/epsilon")])
    factor = build.emit("Div", [gamma, build.emit("Sqrt", [safe])])
    offset = build.emit("Sub", [beta, build.emit("Mul", [mean, factor])])
    scale = build.emit("Mul", [value.scale, factor]) if value.scale else factor
    shift = build.emit("Add", [build.emit("Mul", [value.shift, factor]), offset]) if value.shift else offset
    step.note("rewritten", "normalises each position by itself: the dense layer behind takes it in")
    return replace(value, scale=scale, shift=shift)


def _canonical(step: Step, value: Value, name: str) -> str:
    """Return the constant ``name`` as ``(1, C, *patch)``, with 1 where it is the same for all."""
    layout = value.layout
    sizes: dict[object, int] = {}
    for size, dim in zip(sizes_against(step, name, layout), layout.dims, strict=True):
        sizes |= {f: f.size if size != 1 else 1 for f in dim if f.kind != BATCH}
    factors = list(sizes)
    spaces = {f.axis: f for dim in layout.dims for f in dim if f.kind == SPACE}
    order = [*layout.channels, *(spaces[a] for a in sorted(spaces))]
    channels = [sizes[f] for f in layout.channels]
    if prod(channels) not in (1, layout.channel_count) or len(order) != len(factors):
        raise Refusal(f"the constant {name} differs along some of the channel axes only")
    extent = [sizes[spaces[i]] if i in spaces else 1 for i in range(len(value.axes))]
    return step.builder.rearranged(
        name,
        Rearrangement(
            tuple(sizes.values()), tuple(factors.index(f) for f in order), (1, prod(channels), *extent)
        ),
    )


def taken_in(build: Builder, value: Value, read: Sequence[int], kernel: str, bias: str) -> tuple[str, str]:
    """Return the kernel and bias of a dense layer, over the spatial axes ``read``, with what waits taken in."""
    if not waiting(value):
        return kernel, bias
    if set(value.grid) - set(read):
        raise Refusal(
            "a constant in front of it differs from position to position, and it reads single positions"
        )
    if value.shift:
        # (O, C, *patch) * (1, C, *patch), summed over all but O
        products = build.emit("Mul", [kernel, value.shift])
        total = build.axes_operand("ReduceSum", products, list(range(1, len(value.axes) + 2)), keepdims=0)
        bias = build.emit("Add", [total, bias]) if bias else total
    if value.scale:
        kernel = build.emit("Mul", [kernel, value.scale])
    return kernel, bias
