"""Global pools and reductions: over the patch they become a window as large as the patch's feature map.

    mean, max, lp   a pool with that kernel          sum       the mean, times the number of positions
    min             the pool of the negated value, negated

Over the channels they stay what they are, on axis 1. Left as it is, a global pool of a larger input would
silently give one vector for the whole input.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from ..graph import Value
from ..layout import BATCH, CHANNEL, SPACE, TAP
from ..step import Refusal, Result, Step
from .pooling import pooled
from .taps import slide


@dataclass(frozen=True)
class Reduction:
    """How one reduction is done over the patch: ``pool`` and its attributes, and what is done to its output."""

    pool: str
    attributes: tuple[tuple[str, int], ...] = ()
    negated: bool = False
    summed: bool = False


REDUCTIONS = {
    "GlobalAveragePool": Reduction("AveragePool"),
    "GlobalLpPool": Reduction("LpPool"),
    "GlobalMaxPool": Reduction("MaxPool"),
    "ReduceL1": Reduction("LpPool", (("p", 1),)),
    "ReduceL2": Reduction("LpPool", (("p", 2),)),
    "ReduceMax": Reduction("MaxPool"),
    "ReduceMean": Reduction("AveragePool"),
    "ReduceMin": Reduction("MaxPool", negated=True),
    "ReduceSum": Reduction("AveragePool", summed=True),
}


# What ONNX Runtime pools on the CPU; it reduces more than that.
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
_POOLED = {"MaxPool": (*_FLOATS, TensorProto.DOUBLE, TensorProto.INT8)}


def global_pool(step: Step) -> Result:
    """GlobalAveragePool, GlobalMaxPool and GlobalLpPool: every dimension from the third on."""
    value = step.ordered()
    extra = {"p": step.integer("p", 2)} if step.node.op_type == "GlobalLpPool" else {}
    return [_over_space(step, value, range(2, len(value.layout.dims)), extra)]


def reduce(step: Step) -> Result:
    """The Reduce operators, over spatial axes, channels or both."""
    value = step.ordered()
    rank = len(value.layout.dims)
    given = step.axes()
    if not given and step.integer("noop_with_empty_axes", 0):
        if REDUCTIONS[step.node.op_type].pool == "LpPool":
            return [
                step.same(value)
            ]  # of each number by itself: the runtime says whether that is its absolute value
        return [step.values[step.node.input[0]]]
    positions = sorted({value.layout.axis(a) for a in given} if given else range(rank))
    factors = [f for i in positions for f in value.layout.dims[i]]
    if any(f.kind == BATCH for f in factors):
        raise Refusal("it reduces over the samples of a batch")
    channels = [f for f in factors if f.kind == CHANNEL]
    if channels and len(channels) != len(value.layout.channels):
        raise Refusal("it reduces over some of the channel axes only")
    taps = [f for f in factors if f.kind == TAP]
    if taps:
        how = REDUCTIONS[step.node.op_type]
        if how.negated or how.summed:
            raise Refusal("it reduces windows by another way than a mean, a maximum or a norm")
        value = slide(step, value, taps, how.pool, dict(how.attributes))
    if any(f.kind == SPACE for f in factors):
        value = _over_space(step, value, positions, {})
    if channels:
        own = {k: v for k, v in step.attributes.items() if k not in ("axes", "keepdims")}
        value = replace(
            value, name=step.builder.axes_operand(step.node.op_type, value.name, [1], keepdims=1, **own)
        )
    elif not factors and REDUCTIONS[step.node.op_type].pool == "LpPool":
        # Of one number alone a mean, a sum or an extreme is that number; a norm is its absolute value.
        value = replace(value, name=step.builder.emit("Abs", [value.name]))
    dims = tuple(
        () if i in positions else dim
        for i, dim in enumerate(value.layout.dims)
        if step.integer("keepdims", 1) or i not in positions
    )
    remaining = () if channels else value.layout.channels
    return [replace(value, layout=replace(value.layout, dims=dims, channels=remaining))]


def _over_space(step: Step, value: Value, positions: Sequence[int], extra: dict[str, int]) -> Value:
    """Reduce the spatial factors of the dimensions ``positions``; channel factors beside them stay."""
    spaces = [f.axis for i in positions for f in value.layout.dims[i] if f.kind == SPACE]
    how = REDUCTIONS[step.node.op_type]
    if value.dtype not in _POOLED.get(how.pool, _FLOATS):
        kind = helper.tensor_dtype_to_np_dtype(value.dtype)
        raise Refusal(f"its input is {kind}, which ONNX Runtime's {how.pool} does not take")
    after, windows = step.collapsed(value, spaces)
    kernel = [w.kernel for w in windows]
    build = step.builder
    name = value.name
    attributes: dict[str, Any] = {**dict(how.attributes), **extra}
    if prod(kernel) > 1 or any(w.stride > 1 for w in windows):
        if how.negated:
            name = build.emit("Neg", [name])
        name = pooled(step, how.pool, value, name, windows, attributes)
        if how.negated:
            name = build.emit("Neg", [name])
        step.note("rewritten", f"{step.node.op_type} is {how.pool} with kernel {'x'.join(map(str, kernel))}")
    elif how.pool == "LpPool":
        name = build.emit("Abs", [name])
    if how.summed and prod(kernel) > 1:
        count = np.asarray(prod(kernel), dtype=helper.tensor_dtype_to_np_dtype(value.dtype))
        name = build.emit("Mul", [name, build.constant(count, f"{build.layer}/count")])
    result = replace(after, name=name)
    step.work(result, 0)
    return result
