"""Windows cut out by number, then reduced: how PyTorch's exporter writes an adaptive pool that does not divide.

    GatherND  x[base + p*s + t*d]  for p in 0..P-1, t in 0..T-1      (P, T) in place of the axis
    reduce    over t: a pool with kernel T, dilation d, stride s;    over p: the other way round

The indices are a constant table; that it is such a regular one is checked entry by entry.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from ...shapecalc.window import Window
from ..graph import Value
from ..layout import SPACE, TAP, Factor, Layout
from ..step import Refusal, Result, Step
from .pooling import pooled


def gather_nd(step: Step) -> Result:
    """GatherND of spatial axes by a regular table: each axis becomes windows times elements of a window."""
    value = step.ordered()
    table = step.constant(1)
    if table is None or step.integer("batch_dims", 0):
        raise Refusal("it picks positions of the patch by number, sample by sample")
    read = value.layout.dims[: table.shape[-1]]
    if len(read) < table.shape[-1] or any(len(dim) != 1 or dim[0].kind != SPACE for dim in read):
        raise Refusal("it picks by number along other axes than those of the patch")
    rank = table.ndim - 1
    base = table[(0,) * rank]
    steps = np.zeros((rank, table.shape[-1]), dtype=np.int64)
    for i in range(rank):
        if table.shape[i] > 1:
            steps[i] = table[tuple(int(i == j) for j in range(rank))] - base
    regular = base + sum(
        np.expand_dims(np.arange(table.shape[i]), tuple(range(1, rank - i + 1))) * steps[i]
        for i in range(rank)
    )
    if not np.array_equal(regular, table) or (steps < 0).any() or (np.count_nonzero(steps, axis=1) > 1).any():
        raise Refusal("it picks positions of the patch by number, at no regular distance")
    before: dict[int, int] = {}
    after: dict[int, int] = {}
    front: list[tuple[Factor, ...]] = [()] * rank
    axes = list(value.axes)
    for column, dim in enumerate(read):
        axis = dim[0].axis
        moving = [i for i in range(rank) if steps[i, column]]
        if len(moving) != 2:
            raise Refusal(f"it picks along spatial axis {axis} by {len(moving)} indices; windows have two")
        for i in moving:
            front[i] = (Factor(TAP, table.shape[i], axis, int(steps[i, column])),)
        last = int(table[..., column].max())
        before[axis], after[axis] = int(base[column]), dim[0].size - 1 - last
        axes[axis] = axes[axis].cropped(before[axis], after[axis])
    name = step.crop(value, before, after)
    step.note("removed", "cuts windows that the pool behind it slides over")
    layout = replace(value.layout, dims=(*front, *value.layout.dims[len(read) :]))
    return [replace(value, name=name, layout=layout, axes=tuple(axes))]


def slide(step: Step, value: Value, reduced: list[Factor], pool: str, attributes: dict[str, Any]) -> Value:
    """Return ``value`` with its windows reduced over ``reduced`` TAP factors: a pool that slides."""
    windows = [Window(kernel=1)] * len(value.axes)
    axes, layout = list(value.axes), value.layout
    for tap in reduced:
        others = [f for dim in layout.dims for f in dim if f.kind == TAP and f.axis == tap.axis and f != tap]
        if len(others) != 1:
            raise Refusal("it reduces over the windows and over what is in them")
        window = Window(kernel=tap.size, stride=others[0].step, dilation=tap.step)
        windows[tap.axis], axes[tap.axis] = window, axes[tap.axis].windowed(window)
        if axes[tap.axis].size != others[0].size:
            raise Refusal("its windows do not tile the patch")
        layout = _without(layout, tap, others[0])
    name = pooled(step, pool, value, value.name, step.on_lattice(value, windows), attributes)
    step.note(
        "rewritten",
        f"the reduction of windows is {pool} with kernel {'x'.join(str(w.kernel) for w in windows)}",
    )
    result = replace(value, name=name, layout=layout, axes=tuple(axes))
    step.work(result, 0)
    return result


def _without(layout: Layout, tap: Factor, other: Factor) -> Layout:
    """Return the layout without ``tap``, and with ``other`` as the spatial axis that is left."""
    dims = (tuple(f for f in dim if f != tap) for dim in layout.dims)
    left = Factor(SPACE, other.size, other.axis)
    return replace(layout, dims=tuple(tuple(left if f == other else f for f in dim) for dim in dims))
