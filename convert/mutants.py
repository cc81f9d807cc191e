"""Copies of a network with one fault each, of the kinds that conversions are made wrong by: can the gate fail at all.

    one weight     the largest of a kernel, with its sign changed
    two channels   two different filters exchanged
    layout         the channels read behind the window instead of in front of it; of a matrix, its rows moved
    flip           the window reversed along its longest axis
    bias           a bias that is not 0 set to 0
    stride         the last stride of a layer that slides, increased by one

A fault that changes nothing (a window that is symmetric, two filters that are equal) is not made.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from .compare import Verdict
from .errors import FileError
from .evidence import Check, Report
from .metadata import Metadata
from .model import LARGE, Array, Model
from .nodes import every_node, label

_SLIDING = ("Conv", "MaxPool", "AveragePool", "LpPool")


def mutants(model: Model, weights: Sequence[str] = ()) -> Iterator[tuple[str, Model]]:
    """Each kind of fault once, with what was done, in the convolutions whose kernels are called ``weights``.

    Without ``weights``, or where none of those can have the fault, in any convolution or product of the network.
    """
    known = set(model.initializers())
    every = list(every_node(model.proto.graph))
    stored = _stored(every, known)
    nodes = [
        n
        for n in every
        if n.op_type in ("Conv", "Gemm", "MatMul") and len(n.input) > 1 and stored(n.input[1]) in known
    ]
    first = [n for n in nodes if n.input[1] in weights]
    for kind, change in _KERNELS.items():
        for node in [*first, *(n for n in nodes if n not in first)]:
            name = stored(node.input[1])
            changed = change(model.array(model.initializers()[name]))
            if changed is not None:
                yield f"{kind} of {label(node)!r}", with_array(model, name, changed)
                break
    yield from _without_bias(model, [*first, *nodes, *(n for n in every if n.op_type == "Add")], stored)
    yield from _with_stride(model)


def _stored(nodes: Sequence[NodeProto], known: set[str]) -> Callable[[str], str]:
    """What names the initializer that a value is: itself, or what it reshapes to the shape that it has."""
    origins = {
        n.output[0]: n.input[0] for n in nodes if n.op_type in ("Reshape", "Identity") and n.input[0] in known
    }
    return lambda name: origins.get(name, name)


def with_array(model: Model, name: str, array: Array) -> Model:
    """A copy of the network in which the initializer ``name`` is ``array``."""
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    weights = dict(model.weights)
    weights.pop(name, None)
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            kind = tensor.data_type
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))
            tensor.data_type = kind
            if array.nbytes >= LARGE:
                tensor.ClearField("raw_data")
                weights[name] = array
    return Model(proto, weights, model.path, model.source)


def _one_weight(kernel: Array) -> Array | None:
    place = np.unravel_index(int(np.abs(kernel).argmax()), kernel.shape)
    changed = kernel.copy()
    changed[place] = -changed[place]
    return _if_other(kernel, changed)


def _two_channels(kernel: Array) -> Array | None:
    changed = kernel.copy()
    changed[[0, -1]] = kernel[[-1, 0]]
    return _if_other(kernel, changed)


def _layout(kernel: Array) -> Array | None:
    if kernel.ndim < 3:
        # (in, out): the rows in another order, as a wrong flatten has them
        half = len(kernel) // 2
        return _if_other(kernel, np.concatenate([kernel[half:], kernel[:half]]))
    # (O, C, *window) read as (O, *window, C)
    return _if_other(kernel, np.moveaxis(kernel, 1, -1).reshape(kernel.shape))


def _flip(kernel: Array) -> Array | None:
    longest = max(range(2, kernel.ndim), key=kernel.shape.__getitem__) if kernel.ndim > 2 else 0
    return _if_other(kernel, np.flip(kernel, longest))


def _if_other(kernel: Array, changed: Array) -> Array | None:
    return None if np.array_equal(kernel, changed) else np.ascontiguousarray(changed)


_KERNELS: dict[str, Callable[[Array], Array | None]] = {
    "one weight": _one_weight,
    "two channels": _two_channels,
    "the layout": _layout,
    "a flip": _flip,
}


def _without_bias(
    model: Model, nodes: Sequence[NodeProto], stored: Callable[[str], str]
) -> Iterator[tuple[str, Model]]:
    tensors = model.initializers()
    for node in nodes:
        operands = node.input if node.op_type == "Add" else node.input[2:3]
        name = next((stored(i) for i in operands if stored(i) in tensors), "")
        if name:
            bias = model.array(tensors[name])
            if bias.dtype.kind not in "iub" and bias.any():  # integers of an Add are places, not numbers
                yield f"the bias of {label(node)!r}", with_array(model, name, np.zeros_like(bias))
                return


def _with_stride(model: Model) -> Iterator[tuple[str, Model]]:
    for number, node in enumerate(every_node(model.proto.graph)):
        given = {a.name: list(a.ints) for a in node.attribute}
        if node.op_type not in _SLIDING or max(given.get("kernel_shape") or [0]) < 2:
            continue
        proto = ModelProto()
        proto.CopyFrom(model.proto)
        changed = next(islice(every_node(proto.graph), number, None))
        strides = given.get("strides") or [1] * len(given["kernel_shape"])
        kept = [a for a in changed.attribute if a.name != "strides"]
        del changed.attribute[:]
        changed.attribute.extend([*kept, helper.make_attribute("strides", [*strides[:-1], strides[-1] + 1])])
        yield f"the stride of {label(node)!r}", Model(proto, model.weights, model.path, model.source)
        return


def self_test_of(candidate: Model, metadata: Metadata | None, judged: Callable[[Model], Report]) -> Check:
    """Whether damages to the candidate are found, each by itself; one that does not load is."""
    rewritten = [rewrite.target for rewrite in metadata.rewrites] if metadata is not None else []
    found: list[str] = []
    survivors: list[str] = []
    for damage, damaged in mutants(candidate, rewritten):
        try:
            verdict = judged(damaged).verdict
        except FileError:
            verdict = Verdict.DIFFERENT
        (found if verdict is Verdict.DIFFERENT else survivors).append(damage)
    if survivors or not found:
        text = (
            f"not found: {', '.join(survivors)}"
            if survivors
            else "the candidate has nothing that could be damaged"
        )
        return Check("self-test", Verdict.INCONCLUSIVE, text)
    return Check(
        "self-test", Verdict.EQUIVALENT, f"{len(found)} damages, each of them found: {', '.join(found)}"
    )
