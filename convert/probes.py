"""Each rewritten layer by itself: the dense product and the convolution on the same inputs.

A dense layer reads ``y[o] = sum_k x[k] W[k, o]``. Its kernel is ``W`` rearranged, so each place of the window holds one
``k``: the same ``x``, laid out so, must give the same ``y``. Three inputs ask for that, each layer taken out of its
network, without bias:

    integers   ``|x|, |W| <= 8``: every partial sum is an integer below 2^24, so float32 is exact in any order of
               summation (and in TF32, which holds integers up to 2^11); both forms equal int64 arithmetic bit for bit
    one-hot    ``x`` is 1 at one ``k``: the layer's own kernel gives back row ``k`` of ``W``, bit for bit
    numbers    signed, with an offset, and over twelve decades: the error of both forms against float64 is at most

                   8 * sqrt(K) * u * (|x| |W|)         u: unit roundoff, 2^-24 for float32, 2^-11 for float16 and TF32

The last is the bound of Higham and Mary, "A new approach to probabilistic rounding error analysis" (2019), for K
products in any order, with their constant at 8; the worst-case bound has K in place of the root.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from .compare import Verdict
from .constants import Constants, opset_of
from .errors import FileError
from .evidence import Check
from .execute import Session
from .metadata import Metadata, RewrittenTensor
from .model import Model
from .unchanged import Tensors

Array = NDArray[Any]

CONSTANT = 8.0
UNIT_ROUNDOFF = {"float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}
TF32_ROUNDOFF = 2.0**-11

_UNITS, _ROWS, _SAMPLES = 64, 64, 4  # of each layer: outputs and one-hot rows looked at, inputs of each kind
_LARGEST = 8  # of the integers
_MOST_ELEMENTS = 1 << 23  # of a layer's weight at a time
_DECADES = {"float16": 3, "float32": 12, "float64": 12}


@dataclass(frozen=True)
class Layer:
    """A rewritten layer: ``weight`` of the reference, ``(K, O)``; ``kernel`` of the candidate, ``(O, C, *window)``.

    ``rows``, of the kernel's shape without ``O``: which ``k`` each place of the window reads. ``node`` is the
    candidate's convolution.
    """

    name: str
    weight: Array
    kernel: Array
    rows: Array
    node: NodeProto


def probes(
    reference: Model,
    candidate: Model,
    metadata: Metadata,
    provider: str = "cpu",
    *,
    seed: int = 0,
    tf32: bool = False,
) -> Check:
    """Every dense layer that the candidate's metadata lists, probed in both forms on ``provider``."""
    generator = np.random.default_rng(seed)
    count, rows, worst = 0, 0, 0.0
    for found in _layers(reference, candidate, metadata):
        if isinstance(found, str):
            return Check("probes", Verdict.DIFFERENT, found)
        fault, probed, error = _probe(found, opset_of(candidate.proto), provider, generator, tf32)
        if fault:
            return Check("probes", Verdict.DIFFERENT, f"layer {found.name!r}: {fault}")
        count, rows, worst = count + 1, rows + probed, max(worst, error)
    if not count:
        return Check("probes", None, "no dense layer was rewritten as a convolution of its own")
    layers = "1 rewritten layer" if count == 1 else f"{count} rewritten layers"
    return Check(
        "probes",
        Verdict.EQUIVALENT,
        f"{layers}: integers bit for bit, one-hot inputs give back {rows} rows of the weights, and the error against "
        f"float64 is at most {worst:.2g} sqrt(K) u |x||W|, of {CONSTANT:g} allowed",
    )


def _layers(reference: Model, candidate: Model, metadata: Metadata) -> Iterator[Layer | str]:
    """The rewritten matrices that a convolution reads; or what is wrong with one."""
    constants, tensors = Constants(reference), Tensors(candidate)
    readers = {node.input[1]: node for node in candidate.proto.graph.node if node.op_type == "Conv"}
    for rewrite in metadata.rewrites:
        node = readers.get(rewrite.target)
        if node is None or not constants.known(rewrite.source):
            continue
        weight = np.asarray(constants.value(rewrite.source))
        if weight.ndim != 2:
            continue
        if rewrite.rows is not None:
            weight = weight[(slice(None),) * rewrite.axis + (slice(*rewrite.rows),)]
        kernel = tensors.array(rewrite.target)
        if kernel.shape != rewrite.rearrangement.result or kernel.size != weight.size or kernel.ndim < 3:
            yield f"layer {rewrite.layer!r}: the kernel {kernel.shape} is not the weight {weight.shape} rearranged"
            continue
        yield _layer(rewrite, node, weight, kernel)


def _layer(rewrite: RewrittenTensor, node: NodeProto, weight: Array, kernel: Array) -> Layer | str:
    """The layer with its rows, for a weight ``(K, O)`` or ``(O, K)``; what is wrong where it is neither."""
    for axis in (0, 1):  # which of the weight's axes is K
        rows, units = (_places(rewrite, weight.shape, along) for along in (axis, 1 - axis))
        # The rows are the same for every unit, and the unit for every place of the window.
        ends = units.reshape(len(units), -1)[:, [0, -1]]
        same = (rows[0] == rows[-1]).all() and (ends == np.arange(len(units))[:, None]).all()
        if same and len(units) == weight.shape[1 - axis]:
            return Layer(rewrite.layer, weight if axis == 0 else weight.T, kernel, np.array(rows[0]), node)
    return f"layer {rewrite.layer!r}: the kernel mixes the rows of the weight with its columns"


def _places(rewrite: RewrittenTensor, shape: Sequence[int], axis: int) -> Array:
    """For every element of the kernel its index on ``axis`` of the weight, as a view where numpy gives one."""
    index = np.arange(shape[axis], dtype=np.int32)
    return rewrite.rearrangement.apply(np.broadcast_to(index if axis else index[:, None], shape))


def _probe(
    layer: Layer, opset: int, provider: str, generator: np.random.Generator, tf32: bool
) -> tuple[str, int, float]:
    """What is wrong with the layer ("" for nothing), how many rows came back, and the error as a share of the bound."""
    size, outputs = layer.weight.shape
    units = _spread(outputs, max(1, min(_UNITS, _MOST_ELEMENTS // size)))
    rows = _spread(size, _ROWS)
    kind = layer.weight.dtype
    largest = max(1, min(_LARGEST, int(sqrt((1 << (11 if kind == np.float16 else 24)) / size))))
    numbers = generator.integers(-largest, largest + 1, (size, len(units)))
    forms = _Forms(layer, opset, provider, numbers.astype(kind), numbers.astype(kind))
    x = generator.integers(-largest, largest + 1, (_SAMPLES, size))
    expected = x @ numbers
    for form, y in zip(("dense", "convolution"), forms.run(x.astype(kind)), strict=True):
        if not np.array_equal(y.astype(np.int64), expected):
            return (
                f"small integers, which are exact in any order of summation, come out otherwise as a {form}",
                0,
                0.0,
            )
    weight = np.ascontiguousarray(layer.weight[:, units])
    # (O, C, *window) -> (K, O): the candidate's own kernel, put back by the rows
    own = np.empty_like(weight)
    own[layer.rows.reshape(-1)] = layer.kernel[units].reshape(len(units), -1).T
    forms = _Forms(layer, opset, provider, weight, own)
    back = 0
    if np.isfinite(weight).all():
        one_hot = np.zeros((len(rows), size), kind)
        one_hot[np.arange(len(rows)), rows] = 1
        for form, y in zip(("dense", "convolution"), forms.run(one_hot), strict=True):
            if not np.array_equal(y, weight[rows]):
                wrong = int(np.flatnonzero((y != weight[rows]).any(axis=1))[0])
                return (
                    f"an input of 1 in place {rows[wrong]} does not give back that row of the weight as a {form}",
                    0,
                    0.0,
                )
        back = len(rows)
    roundoff = TF32_ROUNDOFF if tf32 and kind == np.float32 else UNIT_ROUNDOFF[kind.name]
    x = np.concatenate(list(_inputs(generator, size, kind)))
    exact = x.astype(np.float64) @ weight.astype(np.float64)
    bound = sqrt(size) * roundoff * (np.abs(x.astype(np.float64)) @ np.abs(weight.astype(np.float64)))
    worst = 0.0
    for form, y in zip(("dense", "convolution"), forms.run(x), strict=True):
        finite = np.isfinite(exact) & (bound > 0) & (np.abs(exact) <= np.finfo(kind).max)
        error = np.where(finite, np.abs(y.astype(np.float64) - exact) / np.where(bound > 0, bound, 1), 0)
        # Below the smallest normal number a type has fewer digits than its unit roundoff says.
        error[np.abs(y.astype(np.float64) - exact) <= np.finfo(kind).tiny * size] = 0
        share = float(error.max(initial=0.0))
        if not share <= CONSTANT:
            return (
                f"the error of the {form} is {share:.3g} sqrt(K) u |x||W|, more than {CONSTANT:g}",
                0,
                share,
            )
        worst = max(worst, share)
    return "", back, worst


def _spread(count: int, most: int) -> Array:
    """At most ``most`` of ``count`` indices, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def _inputs(generator: np.random.Generator, size: int, kind: "np.dtype[Any]") -> Iterator[Array]:
    """Signed normal numbers; the same with an offset of 100; magnitudes over many decades."""
    normal = generator.standard_normal((_SAMPLES, size))
    yield normal.astype(kind)
    yield (normal + 100).astype(kind) if kind != np.float16 else (normal + 4).astype(kind)
    decades = _DECADES[kind.name] / 2
    yield (normal * 10 ** generator.uniform(-decades, decades, normal.shape)).astype(kind)


class _Forms:
    """A layer in both forms, as networks of one node; ``dense`` and ``own`` are their weights, both ``(K, O)``."""

    def __init__(self, layer: Layer, opset: int, provider: str, dense: Array, own: Array) -> None:
        self._layer = layer
        kernel = own[layer.rows.reshape(-1)].T.reshape(-1, *layer.rows.shape)  # (O, C, *window)
        convolution = NodeProto(
            op_type="Conv", input=["x", "W"], output=["y"], attribute=layer.node.attribute
        )
        given = {a.name: list(a.ints) for a in layer.node.attribute}
        self._dilations = given.get("dilations") or [1] * (kernel.ndim - 2)
        if (
            any(given.get("pads", ()))
            or next((a.i for a in layer.node.attribute if a.name == "group"), 1) != 1
        ):
            raise FileError("a rewritten layer's convolution has neither pads nor groups", layer=layer.name)
        product = helper.make_node("MatMul", ["x", "W"], ["y"])
        self._dense = Session(_network(product, dense, [None, None], opset), provider)
        self._convolution = Session(_network(convolution, kernel, [None] * kernel.ndim, opset), provider)

    def run(self, x: Array) -> Iterable[Array]:
        """``(N, O)`` of both forms, for ``x`` of shape ``(N, K)``."""
        rows = self._layer.rows
        extents = [(k - 1) * d + 1 for k, d in zip(rows.shape[1:], self._dilations, strict=True)]
        image = np.zeros((len(x), rows.shape[0], *extents), x.dtype)
        steps = tuple(slice(None, None, d) for d in self._dilations)
        # (N, K) -> (N, C, *window), with the holes of the dilation
        image[(slice(None), slice(None), *steps)] = x[:, rows.reshape(-1)].reshape(len(x), *rows.shape)
        yield self._dense.run({"x": x})["y"]
        y = self._convolution.run({"x": image})["y"]
        yield y.reshape(len(x), prod(y.shape[1:]))


def _network(node: NodeProto, weight: Array, shape: Sequence[int | None], opset: int) -> Model:
    kind = helper.np_dtype_to_tensor_dtype(weight.dtype)
    graph = helper.make_graph(
        [node],
        "probe",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(np.ascontiguousarray(weight), "W")],
    )
    return Model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8))
