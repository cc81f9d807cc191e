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

from collections.abc import Iterable, Iterator
from math import prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from .compare import Verdict
from .constants import opset_of
from .evidence import Check
from .execute import Session
from .metadata import Metadata
from .model import Model
from .rewritten import RewrittenLayer, rewritten_layers

Array = NDArray[Any]

CONSTANT = 8.0
UNIT_ROUNDOFF = {"float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}
TF32_ROUNDOFF = 2.0**-11

_UNITS, _ROWS, _SAMPLES = 64, 64, 4  # of each layer: outputs and one-hot rows looked at, inputs of each kind
_LARGEST = 8  # of the integers
_MOST_ELEMENTS = 1 << 23  # of a layer's weight at a time
_DECADES = {"float16": 3, "float32": 12, "float64": 12}


def probes(
    reference: Model,
    candidate: Model,
    metadata: Metadata,
    provider: str = "cpu",
    *,
    seed: int = 0,
    allow_tf32: bool = False,
) -> Check:
    """Every dense layer that the candidate's metadata lists, probed in both forms on ``provider``."""
    generator = np.random.default_rng(seed)
    rows, worst = 0, 0.0
    layers, unclear = rewritten_layers(reference, candidate, metadata)
    for layer in layers:
        forms = _Forms(layer, opset_of(candidate.proto), provider, allow_tf32)
        fault, probed, error = _probe(layer, forms, generator)
        if fault:
            return Check("probes", Verdict.DIFFERENT, f"layer {layer.name!r}: {fault}")
        rows, worst = rows + probed, max(worst, error)
    rest = f"; not probed: {'; '.join(unclear)}" if unclear else ""
    if not layers:
        return Check("probes", None, f"no dense layer was rewritten as a convolution of its own{rest}")
    count = "1 rewritten layer" if len(layers) == 1 else f"{len(layers)} rewritten layers"
    return Check(
        "probes",
        Verdict.EQUIVALENT,
        f"{count}: integers bit for bit, one-hot inputs give back {rows} rows of the weights, and the error against "
        f"float64 is at most {worst:.2g} sqrt(K) u |x||W|, of {CONSTANT:g} allowed{rest}",
    )


def _probe(layer: RewrittenLayer, forms: "_Forms", generator: np.random.Generator) -> tuple[str, int, float]:
    """What is wrong with the layer ("" for nothing), how many rows came back, and the error as a share of the bound."""
    weight = layer.weight.T if layer.transposed else layer.weight  # (K, O)
    size, outputs = weight.shape
    units = _spread(outputs, max(1, min(_UNITS, _MOST_ELEMENTS // size)))
    rows = _spread(size, _ROWS)
    kind = weight.dtype
    largest = max(1, min(_LARGEST, int(sqrt((1 << (11 if kind == np.float16 else 24)) / size))))
    numbers = generator.integers(-largest, largest + 1, (size, len(units)))
    x = generator.integers(-largest, largest + 1, (_SAMPLES, size))
    expected = x @ numbers
    for form, y in forms.run(x.astype(kind), numbers.astype(kind), numbers.astype(kind)):
        if not np.array_equal(y.astype(np.int64), expected):
            return (
                f"small integers, which are exact in any order of summation, come out otherwise as a {form}",
                0,
                0.0,
            )
    weight = np.ascontiguousarray(weight[:, units])
    own = layer.rows(layer.kernel[units]).T  # (K, O): the candidate's own kernel, put back
    back = 0
    if np.isfinite(weight).all():
        one_hot = np.zeros((len(rows), size), kind)
        one_hot[np.arange(len(rows)), rows] = 1
        for form, y in forms.run(one_hot, weight, own):
            if not np.array_equal(y, weight[rows]):
                wrong = int(np.flatnonzero((y != weight[rows]).any(axis=1))[0])
                return (
                    f"an input of 1 in place {rows[wrong]} does not give back its row of the weight as a {form}",
                    0,
                    0.0,
                )
        back = len(rows)
    x = np.concatenate(list(_inputs(generator, size, kind)))
    exact = x.astype(np.float64) @ weight.astype(np.float64)
    bound = sqrt(size) * forms.roundoff * (np.abs(x.astype(np.float64)) @ np.abs(weight.astype(np.float64)))
    worst = 0.0
    for form, y in forms.run(x, weight, own):
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
    """A layer in both forms, as networks of one node whose weights are given."""

    def __init__(self, layer: RewrittenLayer, opset: int, provider: str, allow_tf32: bool) -> None:
        self._layer, self._opset, self._provider, self._allow_tf32 = layer, opset, provider, allow_tf32
        kind = layer.weight.dtype
        self.roundoff = TF32_ROUNDOFF if allow_tf32 and kind == np.float32 else UNIT_ROUNDOFF[kind.name]

    def run(self, x: Array, dense: Array, own: Array) -> Iterable[tuple[str, Array]]:
        """``(N, O)`` of both forms for ``x (N, K)``, with the weights ``(K, O)`` of either."""
        yield (
            "dense layer",
            self._session(helper.make_node("MatMul", ["x", "W"], ["y"]), dense).run({"x": x})["y"],
        )
        layer = self._layer
        kernel = layer.windows(own.T)  # (K, O) -> (O, C, *window)
        windows = layer.windows(x)  # (N, K) -> (N, C, *window)
        extents = [(k - 1) * d + 1 for k, d in zip(windows.shape[2:], layer.dilations, strict=True)]
        image = np.zeros((*windows.shape[:2], *extents), x.dtype)
        # with the holes of the dilation
        image[(slice(None), slice(None), *(slice(None, None, d) for d in layer.dilations))] = windows
        node = helper.make_node(
            "Conv", ["x", "W"], ["y"], strides=list(layer.strides), dilations=list(layer.dilations)
        )
        y = self._session(node, kernel).run({"x": image})["y"]
        yield "convolution", y.reshape(len(x), prod(y.shape[1:]))

    def _session(self, node: NodeProto, weight: Array) -> Session:
        kind = helper.np_dtype_to_tensor_dtype(weight.dtype)
        rank = weight.ndim
        graph = helper.make_graph(
            [node],
            "probe",
            [helper.make_tensor_value_info("x", kind, [None] * rank)],
            [helper.make_tensor_value_info("y", kind, None)],
            [numpy_helper.from_array(np.ascontiguousarray(weight), "W")],
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self._opset)], ir_version=8)
        return Session(Model(proto), self._provider, allow_tf32=self._allow_tf32)
