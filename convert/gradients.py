"""Whether each rewritten layer has the gradients of the dense layer that it was.

A convolution that gives the dense layer's outputs on every window also takes the same steps in training, after the same
rearrangement of the axes. For a loss with gradient ``dy`` at the outputs, of each rewritten layer ``dX``, ``dW`` and
``db`` are computed four times and compared:

    convolution   the candidate's kernel, in ONNX Runtime (``backward.convolution_backward``)
    dense         the reference's weight on every window, in ONNX Runtime (``backward.dense_backward``)
    formula       numpy in float64: dX = sum over windows of dy W^T, dW = x^T dy, db = sum dy
    differences   (L(v + 1) - L(v - 1)) / 2 of L = sum dy (x W + b) in float64, at some places: L is linear in each of
                  x, W and b, so that a step of 1 has no error but rounding

The inputs and ``dy`` are integers from -8 to 8. ``dW`` and ``db`` are then sums of few integers, exact in float32 in
whatever order they are added: they must be equal. A ``dX`` is a sum of ``n`` products with a weight. Its error in
floating point is below ``n u S`` (u = 2^-24, S = sum |dy| |W|), and with rounding errors of random sign it is of the
order ``sqrt(n) u S`` (Higham and Mary 2019, "A new approach to probabilistic rounding error analysis"); up to 8 times
that passes. 300 random networks, and layers of up to 25,088 inputs, stayed below 0.7 times.

In which order a patch was flattened is the candidate's word here; whether it is true shows where both networks run on
the same image. Weights in float16 are widened, which changes no value. Where a constant waits in front of a layer (a
normalisation of each position), the layer is the product without it. Units go in blocks: memory does not grow with the
layer.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .backward import convolution_backward, dense_backward
from .compare import Verdict
from .evidence import Check
from .execute import Session
from .metadata import Metadata
from .model import Model
from .rewritten import RewrittenLayer, rewritten_layers
from .sliding import Sliding

Array = NDArray[Any]

LIMIT = 8.0  # how often sqrt(n) u S a dX may be off

_UNIT = 2.0**-24  # of float32
_SUBNORMAL = 2.0**-149
_BLOCK = 1 << 20  # weights at a time
_PLACES = 3  # of finite differences, in each gradient of a layer
_SAMPLES = 2
_LARGEST = 8


@dataclass
class _Found:
    """What was found of one layer: the worst figures, and the first gradient that is wrong."""

    layer: RewrittenLayer
    sliding: Sliding
    rounding: float = 0.0
    difference: float = 0.0
    wrong: str = ""
    unclear: str = ""
    figures: dict[str, float] = field(default_factory=dict)

    def hold(self, gradient: str, who: str, found: Array, expected: Array, unit: Array | float) -> None:
        """Hold a gradient against the formula's; it may be off by ``LIMIT`` times ``unit``."""
        error = np.abs(found.astype(np.float64) - expected)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(error == 0, 0.0, error / unit)
        share[np.isnan(share)] = np.inf
        index = np.unravel_index(int(share.argmax()), share.shape)
        worst = float(share[index])
        key = f"{gradient} of the {who}"
        self.figures[key] = max(self.figures.get(key, 0.0), worst)
        if worst > LIMIT and not self.wrong:
            place = ", ".join(str(int(i)) for i in index)
            self.wrong = (
                f"{gradient} of the {who} is {float(found[index]):.6g} at [{place}], where it should be "
                f"{float(expected[index]):.6g}"
            )

    def to_json(self) -> dict[str, object]:
        """The layer and its figures: errors over sqrt(n) u S for dX, over nothing (0 or infinite) for dW and db."""
        return {
            "layer": self.layer.name,
            "units": len(self.layer.kernel),
            "kernel": list(self.layer.kernel.shape[2:]),
            "errors": dict(self.figures),
            "finite_differences": self.difference,
            "wrong": self.wrong,
        }


def gradient_check(reference: Model, candidate: Model, metadata: Metadata | None, seed: int = 0) -> Check:
    """Hold the gradients of every rewritten layer of ``candidate`` against those of the dense layer.

    ``inconclusive`` where a rewritten dense layer cannot be found again in the candidate: it was asked for.
    """
    if metadata is None:
        return Check(
            "gradients", Verdict.INCONCLUSIVE, "the candidate's metadata does not say which layers were rewritten"
        )  # fmt: skip
    layers, unclear = rewritten_layers(reference, candidate, metadata)
    if not layers and not unclear:
        return Check("gradients", None, "no dense layer became a convolution")
    found = [_gradients(layer, np.random.default_rng([seed, i])) for i, layer in enumerate(layers)]
    wrong = [f"layer {f.layer.name!r}: {f.wrong}" for f in found if f.wrong]
    unclear += [f"layer {f.layer.name!r}: {f.unclear}" for f in found if f.unclear]
    details = {"layers": [f.to_json() for f in found], "limit": LIMIT}
    if wrong:
        more = f" (and {len(wrong) - 3} more layers)" if len(wrong) > 3 else ""
        return Check("gradients", Verdict.DIFFERENT, "; ".join(wrong[:3]) + more, details=details)
    if unclear:
        return Check("gradients", Verdict.INCONCLUSIVE, "; ".join(unclear[:3]), details=details)
    rounding = max(f.rounding for f in found)
    text = (
        f"dX, dW and db of {len(found)} rewritten layer{'s'[: len(found) > 1]} agree as a dense layer, as a "
        f"convolution, in float64 and with finite differences; dX within {rounding:.2g} of sqrt(n) u |dy| |W| "
        f"(at most {LIMIT:g}), dW and db to the bit"
    )
    return Check("gradients", Verdict.EQUIVALENT, text, details=details)


def _gradients(layer: RewrittenLayer, random: np.random.Generator) -> _Found:
    """All four computations for one layer, block of units by block of units."""
    sliding = Sliding.over(layer.kernel.shape[2:], layer.strides, layer.dilations, _SAMPLES)
    found = _Found(layer, sliding)
    convolution = Session(
        Model(convolution_backward(sliding.kernel, sliding.strides, sliding.dilations, sliding.rest))
    )
    dense = Session(Model(dense_backward(layer.transposed)))
    features = prod(layer.kernel.shape[1:])
    x = _integers(random, (_SAMPLES, layer.kernel.shape[1], *sliding.size))
    rows = layer.rows(sliding.windows(x))  # (R, K)
    for start, stop in _blocks(len(layer.kernel), max(1, _BLOCK // features)):
        units = stop - start
        kernel = np.ascontiguousarray(layer.kernel[start:stop], np.float32)
        block = layer.weight[start:stop] if layer.transposed else layer.weight[:, start:stop]
        weight = np.ascontiguousarray(block, np.float32)
        if not (np.isfinite(kernel).all() and np.isfinite(weight).all()):
            found.unclear = "its weight holds NaN or infinities"
            break
        dy_rows = _integers(random, (len(rows), units))
        dy = sliding.on_the_map(dy_rows)
        by_convolution = convolution.run({"x": x, "w": kernel, "dy": dy})
        by_dense = dense.run({"x": rows, "w": weight, "dy": dy_rows})
        # numpy, float64
        wide = (weight.T if layer.transposed else weight).astype(np.float64)  # (K, units)
        grad = dy_rows.astype(np.float64)
        dx = sliding.image(layer.windows(grad @ wide.T))
        size = sliding.image(layer.windows(np.abs(grad) @ np.abs(wide.T)))
        dw = rows.T.astype(np.float64) @ grad  # (K, units)
        dw = layer.arrangement(units).apply(dw.T if layer.transposed else dw)
        db = grad.sum(axis=0)
        count = units * prod(sliding.counts)
        unit = sqrt(count) * _UNIT * size + count * _SUBNORMAL
        dense_dx = sliding.image(layer.windows(by_dense["dx"].astype(np.float64)))
        dense_dw = layer.arrangement(units).apply(by_dense["dw"])
        found.hold("dX", "convolution", by_convolution["dx"], dx, unit)
        found.hold("dX", "dense layer", dense_dx, dx, unit)
        found.hold("dW", "convolution", by_convolution["dw"], dw, 0.0)
        found.hold("dW", "dense layer", dense_dw, dw, 0.0)
        found.hold("db", "convolution", by_convolution["db"], db, 0.0)
        found.hold("db", "dense layer", by_dense["db"], db, 0.0)
        if start == 0:
            given = {name: array.astype(np.float64) for name, array in by_convolution.items()}
            _differences(found, x.astype(np.float64), wide, grad, given, unit, random)
    found.rounding = max((f for key, f in found.figures.items() if key.startswith("dX")), default=0.0)
    convolution.close()
    dense.close()
    return found


def _differences(
    found: _Found, x: Array, weight: Array, grad: Array, given: dict[str, Array], unit: Array,
    random: np.random.Generator,
) -> None:  # fmt: skip
    """Hold the convolution's gradients against finite differences at some places; ``weight`` is ``(K, units)``."""
    layer, sliding = found.layer, found.sliding
    bias = np.zeros(weight.shape[1])

    def loss() -> float:
        # sum of dy (x W + b), over all windows and units
        return float((grad * (layer.rows(sliding.windows(x)) @ weight + bias)).sum())

    # What float64 rounds of a loss: far below any step of a gradient's own.
    noise = 1e-12 * float(
        (np.abs(grad) * (np.abs(layer.rows(sliding.windows(x))) @ np.abs(weight) + 1)).sum()
    )
    # The kernel's gradient in the weight's axes: (K, units)
    turned = layer.arrangement(weight.shape[1]).invert(
        given["dw"], weight.T.shape if layer.transposed else weight.shape
    )
    turned = turned.T if layer.transposed else turned
    for name, variable, gradient, rounding in (
        ("dX", x, given["dx"], unit), ("dW", weight, turned, 0.0), ("db", bias, given["db"], 0.0),
    ):  # fmt: skip
        places = np.stack([random.integers(0, variable.shape) for _ in range(_PLACES)])
        difference = np.zeros(_PLACES)
        for i, place in enumerate(map(tuple, places)):
            held, losses = variable[place], []
            for step in (1.0, -1.0):
                variable[place] = held + step
                losses.append(loss())
            variable[place] = held
            difference[i] = (losses[0] - losses[1]) / 2
        at = tuple(places.T)
        largest = float(np.abs(gradient).max())
        off = float(np.abs(gradient[at] - difference).max())
        found.difference = max(found.difference, off / largest if largest else off)
        allowed = rounding[at] if isinstance(rounding, np.ndarray) else np.zeros(_PLACES)
        found.hold(name, "convolution (finite differences)", gradient[at], difference, allowed + noise)


def _integers(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return random.integers(-_LARGEST, _LARGEST + 1, shape).astype(np.float32)


def _blocks(length: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, size):
        yield start, min(start + size, length)
