"""The rewritten graph while it is built: nodes in order, new constants as views, and a record of what was
rearranged.

Every tensor of the rewritten graph is canonical, ``(N, C, *spatial)``. Operators whose parameters moved from
attributes to inputs between operator sets (Slice, Squeeze, Pad ...) are written in the form of the model's
own set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ..shapecalc.field import Axis
from .constants import Constants
from .kernel import Rearrangement
from .layout import Layout
from .model import LARGE, Array

INT_MAX = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Value:
    """A value of the network: the canonical tensor ``name``, and how the file's own tensor is made of it.

    ``axes``: one entry a spatial axis of the network. An axis in ``collapsed`` has one position a patch, at
    the map's stride; the others are grids with the jump that their ``Axis`` says. ``dtype`` is a TensorProto
    type.
    """

    name: str
    layout: Layout
    axes: tuple[Axis, ...]
    collapsed: frozenset[int]
    dtype: int
    scale: str = ""
    shift: str = ""

    @property
    def grid(self) -> list[int]:
        """The spatial axes that still have several positions a patch, or could."""
        return [i for i in range(len(self.axes)) if i not in self.collapsed]


@dataclass(frozen=True)
class Rewrite:
    """One tensor of the rewritten graph that is a tensor of the original in another order.

    ``source`` names a constant value of the original; with ``rows``, only ``rows[0]..rows[1]-1`` of its axis
    ``axis`` are taken. ``target`` is the new initializer.
    """

    layer: str
    source: str
    target: str
    rearrangement: Rearrangement
    rows: tuple[int, int] | None = None
    axis: int = 0

    def to_json(self) -> dict[str, object]:
        """Return the record that the map's metadata holds."""
        return {
            "layer": self.layer,
            "source": self.source,
            "target": self.target,
            "rows": None if self.rows is None else list(self.rows),
            "axis": self.axis,
            "shape": list(self.rearrangement.shape),
            "permutation": list(self.rearrangement.permutation),
            "result": list(self.rearrangement.result),
        }


@dataclass(frozen=True)
class Work:
    """What one node costs at each position of its output: multiply-adds, and values written."""

    value: Value
    macs: int


@dataclass
class Builder:
    """Collects the nodes and constants of the rewritten graph."""

    opset: int
    constants: Constants
    taken: set[str]
    nodes: list[NodeProto] = field(default_factory=list)
    tensors: dict[str, TensorProto] = field(default_factory=dict)
    weights: dict[str, Array] = field(default_factory=dict)
    rewrites: list[Rewrite] = field(default_factory=list)
    work: list[Work] = field(default_factory=list)
    layer: str = ""
    _made: dict[object, str] = field(default_factory=dict)

    def fresh(self, hint: str) -> str:
        """Return a name that nothing else has, as like ``hint`` as possible."""
        name, number = hint, 1
        while name in self.taken or not name:
            number += 1
            name = f"{hint}_{number}"
        self.taken.add(name)
        return name

    def emit(
        self,
        kind: str,
        inputs: Sequence[str],
        *,
        output: str = "",
        outputs: Sequence[str] = (),
        name: str = "",
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Append a node and return its first output's name; without ``output`` a new name is made."""
        produced = list(outputs) or [output or self.fresh(f"{self.layer or kind}/{kind.lower()}")]
        given = {k: v for k, v in attributes.items() if v is not None}
        node = helper.make_node(
            kind, list(inputs), produced, name=name or self.fresh(produced[0]), domain=domain, **given
        )
        self.nodes.append(node)
        return produced[0]

    def constant(self, array: Array, hint: str) -> str:
        """Add an initializer that the original does not have, and return its name."""
        key = (array.dtype.str, array.shape, array.tobytes()) if array.nbytes < LARGE else None
        if key in self._made:
            return self._made[key]
        name = self.fresh(hint)
        self._add(name, array)
        if key is not None:
            self._made[key] = name
        return name

    def rearranged(
        self,
        source: str,
        rearrangement: Rearrangement,
        *,
        rows: tuple[int, int] | None = None,
        axis: int = 0,
    ) -> str:
        """Add a constant of the original in another order: a view, recorded so that it can be proven."""
        key = (source, rearrangement, rows, axis)
        if key in self._made:
            return self._made[key]
        array = self.constants.value(source)
        if rows is not None:
            array = array[(slice(None),) * axis + (slice(*rows),)]
        name = self.fresh(f"{source}/kernel" if len(rearrangement.result) > 2 else f"{source}/rearranged")
        self._add(name, rearrangement.apply(array))
        self.rewrites.append(Rewrite(self.layer, source, name, rearrangement, rows, axis))
        self._made[key] = name
        return name

    def _add(self, name: str, array: Array) -> None:
        if array.nbytes < LARGE:
            self.tensors[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
            return
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        self.tensors[name] = TensorProto(name=name, data_type=kind, dims=array.shape)
        self.weights[name] = array

    def integers(self, values: Sequence[int], hint: str) -> str:
        """Add (or find) a one-dimensional int64 constant."""
        return self.constant(np.asarray(values, dtype=np.int64), f"{self.layer}/{hint}")

    def slice(
        self,
        data: str,
        axes: Sequence[int],
        starts: Sequence[int],
        ends: Sequence[int],
        steps: Sequence[int] = (),
        output: str = "",
    ) -> str:
        """Append Slice. Negative ends count from the end, so that they hold for every input size."""
        if self.opset < 10:  # neither inputs nor steps
            return self.emit(
                "Slice", [data], output=output, axes=list(axes), starts=list(starts), ends=list(ends)
            )
        lists = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
        return self.emit(
            "Slice", [data, *(self.integers(v, k) for k, v in lists.items() if v)], output=output
        )

    def every(self, data: str, steps: Sequence[int], output: str = "") -> str:
        """Keep every ``steps[i]``-th position of spatial axis ``i``, the first one included."""
        if all(step == 1 for step in steps):
            return self.emit("Identity", [data], output=output) if output else data
        if self.opset < 10:  # Slice has no steps yet; a pool of one element has strides in every operator set
            ones = [1] * len(steps)
            return self.emit("MaxPool", [data], output=output, kernel_shape=ones, strides=list(steps))
        axes = list(range(2, len(steps) + 2))
        return self.slice(data, axes, [0] * len(steps), [INT_MAX] * len(steps), steps, output)

    def crop(self, value: str, before: Mapping[int, int], after: Mapping[int, int]) -> str:
        """Cut ``before`` and ``after`` positions off spatial axes, whatever their size; nothing where both are 0."""
        axes = sorted(a for a in {*before, *after} if before.get(a, 0) or after.get(a, 0))
        if not axes:
            return value
        starts = [before.get(a, 0) for a in axes]
        ends = [-after[a] if after.get(a, 0) else INT_MAX for a in axes]
        return self.slice(value, [a + 2 for a in axes], starts, ends, [1] * len(axes))

    def axes_operand(
        self, kind: str, data: str, axes: Sequence[int], *, output: str = "", **attributes: Any
    ) -> str:
        """Append Squeeze, Unsqueeze or a Reduce over ``axes``, in the form of the model's operator set."""
        since = {"ReduceSum": 13, "Squeeze": 13, "Unsqueeze": 13}.get(kind, 18)
        if self.opset < since:
            return self.emit(kind, [data], output=output, axes=list(axes), **attributes)
        return self.emit(kind, [data, self.integers(axes, "axes")], output=output, **attributes)
