"""In which order a dense layer's patch was flattened, found from patches and what the layer gave for them.

Every order of the axes is tried, with each subset of the spatial axes reversed, and both layouts of a square weight:
``y = W^T flatten(patch) + b``, in float64. One of them must fit, and every other function must be clearly off: two that
fit alike are no answer, whether they are one function on these patches or the patches too dull to tell. Candidates
that are the same function on every patch (a single channel stands anywhere) are one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations, permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import FileError, NegativeAnswer, RequestError
from .kernel import ORDERS

Array = NDArray[Any]

LIMIT, HALF_LIMIT = (
    1e-3,
    1e-2,
)  # of the largest expected value; a right order is off by rounding, 1e-6 in float32
CLEAR = 10.0  # the runner-up must be off by as many times more, and beyond the limit
_ROUNDING = 1e-7  # below this an error says nothing of how good a fit is
_BLOCK = 1 << 26  # bytes of the weight in float64 at a time


@dataclass(frozen=True)
class Candidate:
    """One reading of a patch: axes in ``order``, row-major, those in ``reversed_axes`` from their end.

    ``error`` is the largest difference to the expected outputs, of their largest value.
    """

    order: str
    reversed_axes: str
    weight_layout: str
    error: float = float("inf")

    def __str__(self) -> str:
        mirrored = f" with {' and '.join(self.reversed_axes)} reversed" if self.reversed_axes else ""
        return f"{self.order}{mirrored}"


@dataclass(frozen=True)
class Found:
    """The candidate that fits, and the next best one (None where every reading is the same function)."""

    winner: Candidate
    runner_up: Candidate | None
    samples: int

    @property
    def order(self) -> str:
        """The order of the rows that ``weight`` gives: the winner's where it has a name, else channels last."""
        if self.winner.order in ORDERS:
            return self.winner.order
        return next(order for order in ORDERS if set(order) == set(self.winner.order) and order[-1] == "C")

    def weight(self, weight: Array, axes: str, patch: Sequence[int]) -> Array:
        """The weight for patches flattened in ``self.order``: itself, or ``(K, O)`` with its rows put in that order.

        ``patch`` has the sizes of ``axes``.
        """
        best = self.winner
        if best.order == self.order and not best.reversed_axes:
            return weight
        sizes = dict(zip(axes, patch, strict=True))
        matrix = weight if best.weight_layout == "KO" else weight.T
        # (K, O) -> (*axes in the winner's order, O)
        apart = matrix.reshape(*(sizes[axis] for axis in best.order), matrix.shape[1])
        apart = apart[
            tuple(slice(None, None, -1 if axis in best.reversed_axes else 1) for axis in best.order)
        ]
        places = [best.order.index(axis) for axis in self.order]
        rows: Array = apart.transpose(*places, len(places)).reshape(matrix.shape)
        return rows if best.weight_layout == "KO" else rows.T


def find_order(
    weight: Array,
    axes: str,
    patch: Sequence[int],
    patches: Array,
    outputs: Array,
    *,
    bias: Array | None = None,
    weight_layout: str | None = None,
) -> Found:
    """The order in which ``patches`` ``(samples, *patch)``, with the axes ``axes``, give ``outputs`` ``(samples, O)``.

    Raises ``FileError`` where the arrays do not fit, ``NegativeAnswer`` where no candidate fits, or several do.
    """
    inputs = int(np.prod(patch))
    layouts = [weight_layout] if weight_layout else [
        layout for layout, size in zip(("KO", "OK"), weight.shape, strict=True) if size == inputs
    ]  # fmt: skip
    units = [weight.shape[layout.index("O")] for layout in layouts]
    if patches.shape[1:] != tuple(patch) or outputs.shape not in [(len(patches), n) for n in units]:
        raise FileError(
            f"the probes are patches (samples, {', '.join(f'{a}={n}' for a, n in zip(axes, patch, strict=True))}) and "
            f"outputs (samples, {units[0] if units else 'O'}), but they are {patches.shape} and {outputs.shape}"
        )
    if not len(patches):
        raise FileError("a probe is a patch and its output, but there is none")
    if not (np.isfinite(patches).all() and np.isfinite(outputs).all()):
        raise FileError("the probes must be finite")
    scale = float(np.abs(outputs).max())
    if not scale:
        raise NegativeAnswer("every expected output is 0, which proves nothing")
    tried = []
    for candidate, places in _candidates(axes, patch, layouts):
        # (samples, *patch) -> (samples, K), as this candidate flattens it
        rows = patches.reshape(len(patches), -1)[:, places].astype(np.float64)
        matrix = weight if candidate.weight_layout == "KO" else weight.T
        error = _error(rows, matrix, bias, outputs.astype(np.float64)) / scale
        tried.append(replace(candidate, error=error))
    return _judged(tried, len(patches), HALF_LIMIT if np.float16 in (weight.dtype, outputs.dtype) else LIMIT)


def _candidates(
    axes: str, patch: Sequence[int], layouts: Sequence[str]
) -> Iterator[tuple[Candidate, NDArray[np.int64]]]:
    """Every different function, with the place in the patch of each value of the flattened one."""
    index = np.arange(int(np.prod(patch))).reshape(tuple(patch))
    spatial = [axis for axis in axes if axis != "C"]
    mirrors = list(chain.from_iterable(combinations(spatial, count) for count in range(len(spatial) + 1)))
    orders = sorted(map("".join, permutations(axes)), key=lambda order: order not in ORDERS)
    seen: set[tuple[str, bytes]] = set()
    for reversed_axes in mirrors:  # the plainest reading first
        mirrored = index[tuple(slice(None, None, -1 if axis in reversed_axes else 1) for axis in axes)]
        for order in orders:
            places = mirrored.transpose([axes.index(axis) for axis in order]).reshape(-1)
            for layout in layouts:
                key = (layout, places.tobytes())
                if key not in seen:
                    seen.add(key)
                    yield Candidate(order, "".join(reversed_axes), layout), places


def _error(rows: Array, matrix: Array, bias: Array | None, outputs: Array) -> float:
    """The largest difference, some units at a time."""
    step = max(1, _BLOCK // (8 * max(len(matrix), 1)))
    worst = 0.0
    for start in range(0, matrix.shape[1], step):
        block = slice(start, start + step)
        found = rows @ matrix[:, block].astype(np.float64)
        if bias is not None:
            found = found + bias[block].astype(np.float64)
        worst = max(worst, float(np.abs(found - outputs[:, block]).max()))
    return worst


def _judged(tried: list[Candidate], samples: int, limit: float) -> Found:
    best, *others = sorted(tried, key=lambda candidate: candidate.error)
    runner_up = others[0] if others else None
    if not best.error <= limit:
        raise NegativeAnswer(
            f"no order fits: the best, {best}, is off by {best.error:.1e} of the largest output, {limit:.0e} allowed",
            hint="are the outputs those in front of the activation, and is the --bias given?",
        )
    if runner_up is not None and not runner_up.error > max(limit, CLEAR * max(best.error, _ROUNDING)):
        raise NegativeAnswer(
            f"two orders fit alike: {best} is off by {best.error:.1e}, {runner_up} by {runner_up.error:.1e}",
            hint="give more probes, of patches without symmetry: random numbers tell every order apart",
        )
    return Found(best, runner_up, samples)


def check_axes(axes: str) -> None:
    """Raise ``RequestError`` unless ``axes`` names a channel and one to three spatial axes."""
    if not any(set(order) == set(axes) and len(order) == len(axes) for order in ORDERS):
        raise RequestError(
            f"to find an order, the patch's axes must have names: {', '.join(ORDERS)} in any order, not {axes!r}",
            hint="for example --patch H=20,W=20,C=10, in the order of the probes' axes",
        )
