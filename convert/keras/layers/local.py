"""Locally connected layers: a convolution whose weights differ from position to position.

    y[n, p, f] = sum_k x[n, window p, k] W[p, k, f] + b[p, f]

Each position is written as a crop, a Flatten and a Gemm, and all are joined: on a map each of them is then a
convolution of its own, with its crop.

Keras stores ``W`` as ``(positions, window * channels, filters)`` in implementation 1, which is the one here, and
flattens a window in its own order of the axes. keras/layers/local.py (1 and 2), keras/backend ``local_conv`` (2).
"""

from itertools import product

import numpy as np

from ..emit import Value
from ..step import Step
from .activations import activated


def locally_connected(step: Step) -> Value:
    """LocallyConnected1D, LocallyConnected2D, of implementation 1, without padding."""
    value, last = step.input, step.channels_last
    first_space = 1 if last else 2
    channels = value.shape[-1 if last else 1]
    rank = value.rank - 2
    space = [size for size in value.shape[first_space : first_space + rank] if size is not None]
    if channels is None or len(space) < rank:
        raise step.refusal(
            "the input's size must be known, but it is free",
            "give the model a fixed input size, and save it again",
        )
    if (implementation := step.argument("implementation", 1)) != 1:
        raise step.refusal(
            f"implementation 1 stores one kernel a position and is supported, but this is {implementation}"
        )
    if (padding := step.argument("padding", "valid")) != "valid":
        raise step.refusal(f"padding must be valid, but it is {padding!r}")
    kernel, strides = step.sizes("kernel_size", rank), step.sizes("strides", rank, 1)
    filters = step.integer("filters")
    if any(n < k for n, k in zip(space, kernel, strict=True)):
        raise step.refusal(f"a window of {list(kernel)} does not fit {space} elements")
    out = [(n - k) // s + 1 for n, k, s in zip(space, kernel, strides, strict=True)]
    width = int(np.prod(kernel)) * channels
    weights = step.array("kernel", [int(np.prod(out)), width, filters])
    bias = None
    if step.argument("use_bias", True):
        stored = step.array("bias", [*out, filters])
        # K.bias_add reshapes, and does not transpose, (*out, filters) to (filters, *out): so the numbers lie in another
        # order in channels_first.
        bias = stored if last else np.moveaxis(stored.reshape(filters, *out), 0, -1)
    name = step.graph.own(value)
    vectors = []
    for number, place in enumerate(product(*map(range, out))):
        starts = [p * s for p, s in zip(place, strides, strict=True)]
        # Ends count from the back, so that a larger input has as many windows more as it has elements.
        ends = [start + k - n for start, k, n in zip(starts, kernel, space, strict=True)]
        operands = [
            starts,
            [end or (1 << 63) - 1 for end in ends],
            list(range(first_space, first_space + rank)),
        ]
        suffix = f"at_{'_'.join(map(str, place))}"
        crop = step.emit("Slice", [name, *map(step.graph.integers, operands)], f"{suffix}/window")
        flat = step.emit("Flatten", [crop], f"{suffix}/flat", axis=1)
        terms = [step.constant(f"kernel/{suffix}", weights[number])]
        if bias is not None:
            terms.append(step.constant(f"bias/{suffix}", np.ascontiguousarray(bias[place])))
        vectors.append(step.emit("Gemm", [flat, *terms], suffix))
    joined = step.emit("Concat", vectors, "joined", axis=1) if len(vectors) > 1 else vectors[0]
    if last:
        # (N, positions * filters) -> (N, *out, filters)
        made = step.emit("Reshape", [joined, step.graph.integers([-1, *out, filters])])
        return activated(step, step.graph.made((value.shape[0], *out, filters), made))
    # (N, positions * filters) -> (N, positions, filters) -> (N, filters, positions) -> (N, filters, *out)
    split = step.emit("Reshape", [joined, step.graph.integers([-1, len(vectors), filters])], "split")
    turned = step.emit("Transpose", [split], "turned", perm=[0, 2, 1])
    made = step.emit("Reshape", [turned, step.graph.integers([-1, filters, *out])])
    return activated(step, step.graph.made((value.shape[0], filters, *out), made))
