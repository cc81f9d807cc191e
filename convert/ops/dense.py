"""Dense layers: a matrix product over a flattened patch is a convolution with a kernel as large as that
patch.

    y[n, o] = sum_k x[n, k] W[k, o],   k = (factors of x's last dimension, outermost first)

The rows of ``W`` are split into those factors, and its axes put in the order ``(O, channels, *spatial)``:
that is the kernel, a view of ``W``. Spatial axes that the layer does not read get a kernel of one element, so
a dense layer on ``(N, D)`` behind the head, on ``(N, H, W, C)`` or on ``(N, T, C)`` becomes a 1x1
convolution. A dense layer behind a Concat of flattened branches is the sum of one convolution a branch, each
with its own rows.

``alpha`` and ``beta`` of Gemm stay nodes, so that the kernel stays bit for bit the dense weight.
"""

from dataclasses import replace

import numpy as np

from ..broadcasting import broadcast
from ..graph import Value
from ..kernel import Rearrangement
from ..layout import BATCH, CHANNEL, SPACE, channel
from ..step import Parts, Refusal, Result, Step
from .affine import taken_in
from .pointwise import joined

# ONNX Runtime has no convolution for other types on the CPU.
_CONVOLVED = (np.float32, np.float16)


def matmul(step: Step) -> Result:
    """MatMul of a value of the network by a constant matrix."""
    if step.is_data(1):
        if step.is_data(0):
            raise Refusal("it multiplies two values of the network, so it mixes the positions of the patch")
        raise Refusal(
            "the constant matrix stands on the left: it mixes the rows of the value, not its features"
        )
    weight = step.constant(1)
    if weight is None:
        raise Refusal("operand 1 is missing")
    if weight.ndim != 2:
        raise Refusal(f"the weight must be a matrix, it has shape {list(weight.shape)}")
    return [_dense(step, transposed=False, bias="")]


def gemm(step: Step) -> Result:
    """Gemm: ``alpha * A @ B + beta * C``, with ``transA`` and ``transB``."""
    if not step.is_data(0):
        raise Refusal("its first operand is a constant: it mixes the rows of the value, not its features")
    if step.is_data(1):
        raise Refusal("its weight is computed from the network's input")
    if step.integer("transA", 0):
        raise Refusal("transA is set: it mixes the samples of a batch")
    alpha, beta = step.number("alpha", 1.0), step.number("beta", 1.0)
    third = step.node.input[2] if len(step.node.input) > 2 else ""
    third = third if beta != 0.0 else ""  # BLAS: C is not read where beta is 0
    units = _units(step)
    bias = ""
    if third and not step.is_data(2) and alpha == 1.0 and beta == 1.0:
        bias = _bias(step, third, units)
    output = step.node.output[0]
    if bias or (not third and alpha == 1.0):
        return [_dense(step, transposed=bool(step.integer("transB", 0)), bias=bias, output=output)]
    value = _dense(step, transposed=bool(step.integer("transB", 0)), bias="", output="")
    weight = step.constant(1)
    assert weight is not None  # _units has read it
    build = step.builder
    if alpha != 1.0:
        factor = build.constant(np.asarray(alpha, dtype=weight.dtype), f"{build.layer}/alpha")
        value = replace(value, name=build.emit("Mul", [value.name, factor], output="" if third else output))
    if third:
        if step.is_data(2):
            other = step.ordered(2)
            value, term = joined(value, other), other.name
        else:
            _bias(step, third, units)  # refuses a C that differs from sample to sample
            term = broadcast(step, third, value)
        if beta != 1.0:
            factor = build.constant(np.asarray(beta, dtype=weight.dtype), f"{build.layer}/beta")
            term = build.emit("Mul", [term, factor])
        value = replace(value, name=build.emit("Add", [value.name, term], output=output))
    return [value]


def _units(step: Step) -> int:
    weight = step.constant(1)
    if weight is None or weight.ndim != 2:
        raise Refusal("the weight must be a matrix")
    return int(weight.shape[0 if step.integer("transB", 0) else 1])


def _bias(step: Step, name: str, units: int) -> str:
    """Return Gemm's C as a convolution's bias ``(units,)``."""
    array = step.constants.value(name)
    if array.ndim > 2 or (array.ndim == 2 and array.shape[0] != 1):
        raise Refusal(f"its bias of shape {list(array.shape)} differs from sample to sample")
    if array.size not in (1, units):
        raise Refusal(f"its bias of shape {list(array.shape)} does not fit {units} units")
    if array.shape == (units,):
        return name
    if array.size == units:
        return step.builder.rearranged(name, Rearrangement((units,), (0,), (units,)))
    return ""  # one number for all units: added behind the convolution


def _dense(step: Step, *, transposed: bool, bias: str, output: str | None = None) -> Value:
    """Append the convolution(s) of a dense layer with weight operand 1, ``(K, O)`` or, ``transposed``, ``(O, K)``."""
    weight = step.constant(1)
    assert weight is not None
    if weight.dtype not in _CONVOLVED:
        raise Refusal(
            f"its weight is {weight.dtype}, and ONNX Runtime convolves "
            f"{' and '.join(np.dtype(t).name for t in _CONVOLVED)} only"
        )
    operand = step.values[step.node.input[0]]
    output = step.node.output[0] if output is None else output
    if not isinstance(operand, Parts):
        return _convolution(step, step.value(), transposed, None, bias, output)
    terms, start = [], 0
    for part in operand.values:
        width = part.layout.shape[-1]
        terms.append(
            _convolution(step, part, transposed, (start, start + width), bias if not start else "", "")
        )
        start += width
    total = terms[0]
    for i, term in enumerate(terms[1:], 2):
        name = step.builder.emit("Add", [total.name, term.name], output=output if i == len(terms) else "")
        total = replace(total, name=name)
    return total


def _convolution(
    step: Step, value: Value, transposed: bool, rows: tuple[int, int] | None, bias: str, output: str
) -> Value:
    """Append one convolution that reads the last dimension of ``value``."""
    source = step.node.input[1]
    weight = step.constants.value(source)
    units, inputs = weight.shape if transposed else weight.shape[::-1]
    read = value.layout.dims[-1]
    width = value.layout.shape[-1]
    if width != (rows[1] - rows[0] if rows else inputs):
        raise Refusal(f"the weight has {inputs} inputs, the value {width} features")
    if [f for f in read if f.kind == BATCH]:
        raise Refusal("it mixes the samples of a batch")
    named = [f for f in read if f.kind == CHANNEL]
    if len(named) != len(value.layout.channels):
        raise Refusal("it mixes positions of the patch within each channel, or some of the channels only")
    spaces = [f.axis for f in read if f.kind == SPACE]
    after, windows = step.collapsed(value, spaces)

    sizes = tuple(f.size for f in read)
    # (O, K factors) or (K factors, O)  ->  (O, channels as stored, spatial axes in order)
    shape = (units, *sizes) if transposed else (*sizes, units)
    first = 1 if transposed else 0
    order = [read.index(f) + first for f in value.layout.channels]
    order += [
        next(i for i, f in enumerate(read) if f.kind == SPACE and f.axis == a) + first for a in sorted(spaces)
    ]
    permutation = (0 if transposed else len(sizes), *order)
    extent = tuple(w.kernel for w in windows)
    result = (units, value.layout.channel_count, *extent)
    kernel = step.builder.rearranged(
        source, Rearrangement(shape, permutation, result), rows=rows, axis=1 if transposed else 0
    )
    kernel, bias = taken_in(step.builder, value, spaces, kernel, bias)
    name = step.builder.emit(
        "Conv",
        [value.name, kernel, *([bias] if bias else [])],
        output=output,
        name=step.node.name if output == step.node.output[0] else "",
        kernel_shape=list(extent),
        strides=[w.stride for w in windows],
        dilations=[w.dilation for w in windows] if any(w.dilation > 1 for w in windows) else None,
    )
    new = channel(units)
    layout = replace(after.layout, dims=(*after.layout.dims[:-1], new), channels=new)
    result_value = replace(after, name=name, layout=layout, scale="", shift="")
    step.work(result_value, width * units)
    what = "x".join(map(str, extent)) or "1"
    step.note("rewritten", f"dense {width} -> {units} is a convolution with kernel {what}")
    return result_value
