"""The one table of layers: every kind, its rule, and how it is written. A row and a rule is the cost of a new one."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from .errors import ShapeError
from .layers import Effect, Layer, Value
from .rules import (
    adaptive_pool,
    concatenation,
    convolution,
    dense,
    elementwise,
    flatten,
    global_pool,
    pad,
    pointwise,
    pool,
    reshape,
    transposed,
    upsampling,
)

Rule = Callable[[Layer, Sequence[Value], str], Effect]


class Kind(NamedTuple):
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
    "conv": Kind(convolution, ("kernel", "units"), "convolution: kernel, filters",
                 takes=(*_WINDOW, "groups", "bias")),
    "depthwise": Kind(convolution, ("kernel", "units"), "each channel convolved by itself: kernel, filters a channel",
                      takes=(*_WINDOW, "bias")),
    "convtranspose": Kind(transposed, ("kernel", "units"), "transposed convolution: kernel, filters",
                          takes=(*_WINDOW, "groups", "bias", "output_padding", "sizes")),
    "maxpool": Kind(pool, ("kernel",), "maximum over a window: kernel; the stride is the kernel unless given",
                    takes=(*_WINDOW, "ceil")),
    "avgpool": Kind(pool, ("kernel",), "mean over a window", takes=(*_WINDOW, "ceil")),
    "lppool": Kind(pool, ("kernel",), "p-norm over a window", takes=(*_WINDOW, "ceil")),
    "globalpool": Kind(global_pool, (), "one number a channel"),
    "adaptivepool": Kind(adaptive_pool, ("sizes",), "pool to a given size, as PyTorch's"),
    "dense": Kind(dense, ("units",), "dense layer: units; on each position where nothing was flattened",
                  takes=("bias",)),
    "flatten": Kind(flatten, (), "all numbers in one row"),
    "reshape": Kind(reshape, ("shape",), "another shape: HxWxC"),
    "pad": Kind(pad, ("pads",), "elements added on both sides: 1, 1x2, 0:1 (before:after)", takes=("mode",)),
    "crop": Kind(pad, ("pads",), "elements cut off, written as for pad"),
    "upsample": Kind(upsampling, ("kernel",), "every element repeated; or linear", takes=("mode",)),
    "add": Kind(elementwise, (), "sum with the layers named", inputs=0),
    "mul": Kind(elementwise, (), "product with the layers named", inputs=0),
    "concat": Kind(concatenation, (), "channels joined with those of the layers named", inputs=0),
    **{name: Kind(pointwise, (), "keeps the shape") for name in POINTWISE},
}  # fmt: skip
"""Every kind of layer; a row and a rule is the whole cost of a new one."""


def effect(layer: Layer, values: Sequence[Value], runtime: str) -> Effect:
    """What ``layer`` does to ``values``. Raises ``ShapeError`` where it cannot be."""
    kind = KINDS[layer.kind]
    if kind.inputs and len(values) != kind.inputs:
        raise ShapeError(f"{layer.kind} reads {kind.inputs} value, but gets {len(values)}")
    return kind.rule(layer, values, runtime)
