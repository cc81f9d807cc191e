"""How far two runs of one network may be apart: by what the network makes of a change of one unit in the last place.

Rounding is a disturbance of the size of one unit in the last place, at every layer. What a network makes of such a
disturbance of its input, ``delta = max |f(x') - f(x)|``, is how large errors of that size become on the way through it:
a network that amplifies them (cancellation behind a large offset, a steep activation) is allowed more, one that does
not less. Another order of summation is then allowed

    MULTIPLE * (delta + u * max |f(x)|)

with ``u`` the unit roundoff, for what is rounded at the output itself. Over all references of this project, on signed,
offset and wide-range inputs, honest maps reach 17 of these units, and 4 where ``delta`` is not 0.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from .compare import Tolerance
from .model import Model
from .probes import UNIT_ROUNDOFF

Array = NDArray[Any]

MULTIPLE = {"float16": 16.0, "float32": 64.0, "float64": 64.0}
"""By the coarsest type that the network computes in."""

_CASTS = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}


def coarsest(model: Model, interface: Iterable[str]) -> str:
    """The floating-point type with the fewest digits that the network computes in.

    ``interface``: the element types of its inputs and outputs. A network that ends with a Cast to float64 has rounded
    as float32 does all the way up to it.
    """
    casts = (node for node in model.proto.graph.node if node.op_type == "Cast")
    targets = {attribute.i for node in casts for attribute in node.attribute if attribute.name == "to"}
    kinds = {*interface, *(name for name, target in _CASTS.items() if target in targets)}
    return next((name for name in _CASTS if name in kinds), "float32")


def disturbed(generator: np.random.Generator, x: Array, coarsest: str) -> Array:
    """``x`` with every element moved to the next number up or down, by chance, in the type ``coarsest``."""
    with np.errstate(over="ignore"):
        coarse = x.astype(coarsest)
    away = np.where(generator.integers(0, 2, x.shape, dtype=np.int8), np.inf, -np.inf).astype(coarsest)
    moved: Array = np.nextafter(coarse, away).astype(x.dtype)
    return moved


def tolerances(
    outputs: Mapping[str, Array], moved: Mapping[str, Array], coarsest: str
) -> dict[str, Tolerance]:
    """What each output may differ by, from the answers to an input and to the same input disturbed.

    ``coarsest``: the floating type with the fewest digits that the network computes in. Integer outputs must be equal.
    """
    found = {}
    for name, y in outputs.items():
        if y.dtype.kind != "f":
            found[name] = Tolerance(0.0)
            continue
        with np.errstate(invalid="ignore", over="ignore"):
            change = np.abs(y.astype(np.float64) - moved[name].astype(np.float64))
        delta = float(change.max(initial=0.0, where=np.isfinite(change)))
        multiple = MULTIPLE[coarsest]
        found[name] = Tolerance(multiple * UNIT_ROUNDOFF[coarsest], multiple * delta)
    return found
