"""Which convolution of a map was which dense layer of its reference, with both weights at hand.

A map's metadata says which of its tensors was which dense weight, and how its axes were put; the convolutions that
have these tensors as weights are those layers. A weight that constants are multiplied into (what waited in front of
the layer, see ``ops.affine``) is still that weight.
"""

from dataclasses import dataclass, replace
from math import prod
from typing import Any

from numpy.typing import NDArray
from onnx import ModelProto

from .constants import Constants, attributes
from .kernel import Rearrangement
from .metadata import Metadata, RewrittenTensor
from .model import Model

Array = NDArray[Any]

_MOST_FACTORS = 100  # nodes that multiply something into a weight: a file may have a cycle of them


@dataclass(frozen=True)
class RewrittenLayer:
    """A dense layer and the convolution that it became; a branch's part of one that read a Concat is one by itself.

    ``weight`` is the reference's, ``(K, O)``, or ``(O, K)`` where ``transposed``; ``kernel`` is the candidate's,
    ``(O, C, *k)``; both are views. ``strides`` and ``dilations`` have one entry a spatial axis.
    """

    name: str
    weight: Array
    transposed: bool
    kernel: Array
    rearrangement: Rearrangement
    strides: tuple[int, ...]
    dilations: tuple[int, ...]

    def arrangement(self, units: int) -> Rearrangement:
        """The rearrangement for another number of units, or for as many windows in their place."""
        shape, result = list(self.rearrangement.shape), list(self.rearrangement.result)
        shape[self.rearrangement.permutation[0]] = result[0] = units
        return replace(self.rearrangement, shape=tuple(shape), result=tuple(result))

    def rows(self, windows: Array) -> Array:
        """Windows ``(R, C, *k)`` flattened as the dense layer reads them: ``(R, K)``."""
        count, features = len(windows), prod(windows.shape[1:])
        shape = (count, features) if self.transposed else (features, count)
        flat = self.arrangement(count).invert(windows, shape)
        return flat if self.transposed else flat.T

    def windows(self, rows: Array) -> Array:
        """The inverse of ``rows``."""
        return self.arrangement(len(rows)).apply(rows if self.transposed else rows.T)


def rewritten_layers(
    reference: Model, candidate: Model, metadata: Metadata
) -> tuple[list[RewrittenLayer], list[str]]:
    """Every convolution that was a dense layer, and what is wrong with those that cannot be told."""
    dense = {n.input[1] for n in reference.proto.graph.node if n.op_type in ("Gemm", "MatMul")}
    constants = Constants(reference)
    initializers, convolutions = candidate.initializers(), _convolutions(candidate.proto)
    layers: list[RewrittenLayer] = []
    unclear: list[str] = []
    for rewrite in metadata.rewrites:
        if rewrite.source not in dense or len(rewrite.rearrangement.result) < 3:
            continue
        nodes = [given for weight, given in convolutions if weight == rewrite.target]
        if not nodes or rewrite.target not in initializers:
            unclear.append(f"no convolution has the weight {rewrite.target!r} of layer {rewrite.layer!r}")
            continue
        weight = constants.value(rewrite.source)
        kernel = candidate.array(initializers[rewrite.target])
        for given in nodes:
            layer = _layer(rewrite, weight, kernel, given)
            if isinstance(layer, str):
                unclear.append(f"layer {rewrite.layer!r}: {layer}")
            else:
                layers.append(layer)
    return layers, unclear


def _convolutions(model: ModelProto) -> list[tuple[str, dict[str, Any]]]:
    """Weight and attributes of each Conv; a weight that constants are multiplied into is still that weight."""
    producers = {output: node for node in model.graph.node for output in node.output}
    found = []
    for node in model.graph.node:
        if node.op_type == "Conv" and len(node.input) > 1:
            weight, steps = node.input[1], 0
            while weight in producers and producers[weight].op_type == "Mul" and steps < _MOST_FACTORS:
                weight, steps = producers[weight].input[0], steps + 1
            found.append((weight, attributes(node)))
    return found


def _layer(
    rewrite: RewrittenTensor, weight: Array, kernel: Array, given: dict[str, Any]
) -> RewrittenLayer | str:
    """The layer of one rewrite and one Conv's attributes, or why there is none."""
    rearrangement = rewrite.rearrangement
    rank = len(rearrangement.result) - 2
    if rewrite.rows is not None:
        weight = weight[(slice(None),) * rewrite.axis + (slice(*rewrite.rows),)]
    if kernel.shape != rearrangement.result or weight.ndim != 2 or weight.size != kernel.size:
        return f"its kernel has shape {kernel.shape}, its weight {weight.shape}"
    if rank > 3:
        return f"a convolution has up to 3 spatial axes, not {rank}"
    transposed = rearrangement.permutation[0] == 0
    units = weight.shape[0 if transposed else 1]
    behind = len(rearrangement.shape) - 1
    if (
        rearrangement.permutation[0] not in (0, behind)
        or {units, kernel.shape[0]} != {rearrangement.shape[rearrangement.permutation[0]]}
        or 0 in rearrangement.flip
    ):
        return "its rearrangement does not keep the units together"
    if given.get("group", 1) != 1 or any(given.get("pads", ())):
        return "its convolution is in groups, or pads"
    strides, dilations = (tuple(given.get(name, [1] * rank)) for name in ("strides", "dilations"))
    return RewrittenLayer(rewrite.layer, weight, transposed, kernel, rearrangement, strides, dilations)
