"""Dense layers: the last axis against a matrix ``(in, out)``, or axes that an equation names."""

import re

import numpy as np

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


def einsum_dense(step: Step) -> Value:
    """EinsumDense ``value,kernel->result``: a MatMul where the last axis meets the kernel's first, else an Einsum.

    keras/src/layers/core/einsum_dense.py.
    """
    value = step.input
    equation = step.argument("equation")
    found = re.fullmatch(r"(\.\.\.)?([a-zA-Z]+),([a-zA-Z]+)->(\.\.\.)?([a-zA-Z]+)", str(equation))
    if found is None or bool(found[1]) != bool(found[4]):
        raise step.refusal(f"the equation {equation!r} is not supported")
    lead, terms, kernel, result = value.rank - len(found[2]), found[2], found[3], found[5]
    if lead < 0 or (lead and not found[1]) or (not lead and found[1]):
        raise step.refusal(f"the equation {equation!r} does not fit a tensor with {value.rank} axes")
    sizes: dict[str, int | None] = dict(zip(terms, value.shape[lead:], strict=True))
    wanted = step.argument("output_shape")
    wanted = [wanted] if isinstance(wanted, int) or wanted is None else list(wanted)
    # The output's shape is given without the batch, and from its last axis back where there are dots.
    for letter, size in zip(reversed(result), reversed(wanted), strict=False):
        if size is not None and sizes.get(letter) is None:
            sizes[letter] = int(size)
    shape = [size for letter in kernel if (size := sizes.get(letter)) is not None]
    if len(shape) < len(kernel):
        raise step.refusal(f"the sizes of the kernel's axes {kernel} must be known")
    array = step.array("kernel", shape)
    name = step.graph.own(value)
    out = (*value.shape[:lead], *(sizes[letter] for letter in result))
    if len(kernel) == 2 and terms[-1] == kernel[0] and result == terms[:-1] + kernel[1]:
        made = step.emit("MatMul", [name, step.constant("kernel", array)])
    else:
        made = step.emit("Einsum", [name, step.constant("kernel", array)], equation=str(equation))
    if axes := step.argument("bias_axes", None):
        first = min(result.index(letter) for letter in axes)
        size_of = [sizes[letter] if letter in axes else 1 for letter in result[first:]]
        bias = step.array("bias", [size for size in size_of if size is not None])
        made = step.emit("Add", [made, step.constant("bias", np.asarray(bias))], "bias_add")
    return activated(step, step.graph.made(out, made))
