"""Whether the inputs of a comparison put the rewritten layers to the test.

Equal outputs prove nothing where a unit never moves: a dead ReLU, a saturated activation, a constant. So the values of
the rewritten layers themselves are looked at, on the same inputs: how many of their units change from sample to sample.
Where those of one layer all stand still, its numbers were not compared at all. Units that are quiet elsewhere are
reported: a wrong weight behind them would not have shown.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compare import Verdict
from .evidence import Check
from .inside import convolutions, observed
from .metadata import Metadata
from .model import Model
from .nodes import label

Array = NDArray[Any]

_ACTIVATIONS = ("Relu", "Clip", "Elu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish")
_QUIET = 0.5  # share of a layer's units from which its silence is worth a word


def adequacy(
    candidate: Model, metadata: Metadata, run: Callable[[Model], Mapping[str, Array] | None]
) -> list[Check]:
    """What inputs of the patch's size make of the candidate's layers: one check, none where it cannot be asked.

    ``run``: the outputs of a network, for several samples. ``inconclusive`` where no unit of a rewritten layer changes
    from sample to sample.
    """
    rewritten = {
        label(n): n.output[0] for n in convolutions(candidate, {r.target for r in metadata.rewrites})
    }
    others = {
        label(node): node.output[0]
        for node in candidate.proto.graph.node
        if node.op_type in _ACTIVATIONS and node.output
    }
    values = run(observed(candidate, [*rewritten.values(), *others.values()])) if rewritten else None
    if values is None:
        return []
    silent = [layer for layer, name in rewritten.items() if _moving(values[name]) == 0]
    every = np.concatenate([values[name].reshape(-1) for name in rewritten.values()]).astype(np.float64)
    figures = (
        f"of the rewritten layers' values {np.mean(every == 0):.0%} are zero, {np.mean(~np.isfinite(every)):.0%} not "
        f"finite, and {len(np.unique(every[:100_000]))} different"
    )
    if silent:
        text = f"nothing that goes in moves layer {silent[0]!r}; {figures}"
        return [Check("adequacy", Verdict.INCONCLUSIVE, text)]
    quiet = {layer: 1 - _moving(values[name]) for layer, name in others.items()}
    loud = [f"{layer} ({share:.0%})" for layer, share in quiet.items() if share >= _QUIET]
    note = f"; quiet units, behind which a wrong weight would not show: {_first(loud)}" if loud else ""
    text = f"every rewritten layer answers to its input: {figures}{note}"
    return [Check("adequacy", Verdict.EQUIVALENT, text)]


def _moving(value: Array) -> float:
    """The share of units that are not the same for all samples and positions; ``(N, C, *space)``."""
    if value.ndim < 2 or not value.size:
        return 1.0
    # (N, C, *space) -> (C, N * space)
    units = np.moveaxis(value, 1, 0).reshape(value.shape[1], -1).astype(np.float64)
    with np.errstate(invalid="ignore"):
        spread = units.max(axis=1) - units.min(axis=1)
    return float(np.mean(spread > 0))


def _first(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
