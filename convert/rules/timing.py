"""Which form of many small products is the fastest here: each runs in ONNX Runtime, on this machine, at one batch.

Each place is timed by itself: its input as a graph's input, its output as the output. A form whose numbers are not
those of the sum in float64 has no time.
"""

import time
from collections.abc import Sequence
from statistics import median
from string import ascii_letters
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper

from ..constants import Constants
from ..errors import FileError
from ..execute import Session
from ..graph import Builder
from ..model import Model
from .facts import Facts
from .forms import FORMS, Products
from .terms import FREE, Dims, labels, sizes

Array = NDArray[Any]

_SECONDS = 0.3  # for each form
_RUNS = 5  # at least, and one more to warm up
_IR = 8
_RELATIVE = {"float16": 2e-2, "float32": 1e-4, "float64": 1e-9}  # of the largest value


def fastest(facts: Facts, found: Products, kind: int, forms: Sequence[str], batch: int) -> dict[str, float]:
    """The median time of each form in milliseconds, of those that run and give the right numbers."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    shape = [size if size % FREE else size // FREE * batch for size in sizes(found.input.dims)]
    u = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    wanted = expected(found, facts.constants.value(found.weight.name), u, batch)
    allowed = _RELATIVE.get(dtype.name, 0.0) * float(np.abs(wanted).max(initial=0.0))
    times = {}
    for form in forms:
        try:
            session = Session(alone(facts, found, form, kind))
            y = session.run({"u": u})["y"]
            if y.shape == wanted.shape and np.abs(y - wanted).max(initial=0.0) <= allowed:
                times[form] = _timed(session, u)
            session.close()
        except FileError:
            continue
    return times


def _timed(session: Session, u: Array) -> float:
    taken: list[float] = []
    begin = time.perf_counter()
    while len(taken) < _RUNS or time.perf_counter() - begin < _SECONDS:
        start = time.perf_counter()
        session.run({"u": u})
        taken.append(time.perf_counter() - start)
    return 1000 * median(taken)


def expected(found: Products, weight: Array, u: Array, batch: int) -> Array:
    """The sum itself in float64, a product for each label: ``y[b, i, j] = sum_l W[i, j, l] u[b, i, l]``."""
    operands = list(dict.fromkeys([*labels(found.weight.dims), *labels(found.input.dims)]))
    letters = dict(zip(operands, ascii_letters, strict=False))

    def split(array: Array, dims: Dims) -> Array:
        return array.astype(np.float64).reshape(
            [batch if label.free else label.size for label in labels(dims)]
        )

    w, x, out = (
        "".join(letters[label] for label in labels(dims))
        for dims in (found.weight.dims, found.input.dims, found.dims)
    )
    factors = split(weight, found.weight.dims), split(u, found.input.dims)
    y = np.einsum(f"{w},{x}->{out}", *factors, optimize=True)
    result: Array = y.reshape([s if s % FREE else s // FREE * batch for s in sizes(found.dims)])
    return result


def alone(facts: Facts, found: Products, form: str, kind: int) -> Model:
    """One place as a network of its own, in one form: ``u`` to ``y``."""
    builder = Builder(facts.opset, Constants(facts.model), {"u", "y"}, layer="place")
    given = Products(
        found.weight, type(found.input)("u", False, found.input.dims), found.dims, found.batch, found.group,
        found.units, found.summed,
    )  # fmt: skip
    last = FORMS[form](builder, given)
    builder.emit("Identity", [last], output="y")
    shapes = [[None if s % FREE == 0 else s for s in sizes(dims)] for dims in (found.input.dims, found.dims)]
    infos = [helper.make_tensor_value_info(n, kind, s) for n, s in zip(("u", "y"), shapes, strict=True)]
    graph = helper.make_graph(builder.nodes, "place", infos[:1], infos[1:], list(builder.tensors.values()))
    proto: ModelProto = helper.make_model(
        graph, ir_version=_IR, opset_imports=[helper.make_opsetid("", facts.opset)]
    )
    return Model(proto, builder.weights)
