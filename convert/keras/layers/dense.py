"""Dense layers: the last axis against a matrix ``(in, out)``."""

from ..emit import Value
from ..step import Step
from .activations import activated


def dense(step: Step) -> Value:
    """Dense, on any rank: Gemm on ``(N, D)``, else MatMul and Add along the last axis."""
    value = step.input
    units = step.integer("units")
    size = value.shape[-1]
    if value.rank < 2 or size is None:
        raise step.refusal("the size of the last axis must be known, but it is free")
    weight = step.weight("kernel", [size, units])
    shape = (*value.shape[:-1], units)
    name = step.graph.own(value)
    bias = step.bias(units)
    if value.rank == 2:
        made = step.emit("Gemm", [name, weight, *bias])
    else:
        made = step.emit("MatMul", [name, weight])
        if bias:
            made = step.emit("Add", [made, *bias], "bias_add")
    return activated(step, step.graph.made(shape, made))
