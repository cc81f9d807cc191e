"""Constants that meet a value of the network: an ONNX broadcast aligns the last axes of the file's tensors, and the
canonical tensor has others there.

    (D,) against (N, D)         becomes  (D, 1, ..., 1) against (N, D, *map)
    (C, 1, 1) against (N, C, H, W)       stays
"""

from collections.abc import Sequence

import numpy as np

from ..shapecalc.field import Axis
from .graph import Value
from .kernel import Rearrangement
from .layout import BATCH, CHANNEL, Layout
from .step import PositionDependent, Refusal, Step


def _fits_canonical(layout: Layout, axes: Sequence[Axis]) -> bool:
    """Whether the file's tensor has batch, channels and every spatial axis just where the canonical one has."""
    dims = layout.dims
    return (
        len(dims) == len(axes) + 2
        and [f.kind for f in dims[0]] == [BATCH]
        and dims[1] == layout.channels
        and all(not dim or (len(dim) == 1 and dim[0].axis == i) for i, dim in enumerate(dims[2:]))
    )


def broadcast(step: Step, name: str, value: Value) -> str:
    """Return the constant ``name`` in a shape that broadcasts against the canonical tensor of ``value``.

    ``value`` must be in order. A scalar, or a constant that already has the canonical shape, is used as
    it is. Refuses where it differs along rows and columns, or along the batch.
    """
    array = step.constants.value(name)
    if step.constants.of_batch(name):
        raise Refusal(f"it computes with the size of the batch, as the number {name}")
    layout, rank = value.layout, len(value.axes)
    sizes: list[int] = []  # the constant, one axis a channel factor
    for size, dim in zip(sizes_against(step, name, layout), layout.dims, strict=True):
        here = [f for f in dim if f.kind == CHANNEL]
        if size == 1:
            sizes += [1] * len(here)
            continue
        if len(here) != len(dim):
            raise PositionDependent(
                f"the constant {name} of shape {list(array.shape)} differs from position to position of the patch"
            )
        sizes += [f.size for f in here]
    if _fits_canonical(layout, value.axes):
        return name
    if array.size == 1:
        return name if array.ndim <= rank + 2 else _scalar(step, name)
    result = (layout.channel_count,) + (1,) * rank  # (C, 1, ...): broadcasts against (N, C, *spatial)
    whole = tuple(f.size for f in layout.channels)
    if tuple(sizes) != whole:  # the same for several channels: each takes its own
        few = step.builder.rearranged(name, Rearrangement((array.size,), (0,), (array.size,) + (1,) * rank))
        own = np.broadcast_to(np.arange(array.size).reshape(sizes), whole).reshape(-1)
        return step.builder.emit("Gather", [few, step.builder.integers(own.tolist(), "channels")], axis=0)
    return step.builder.rearranged(name, Rearrangement(whole, tuple(range(len(whole))), result))


def sizes_against(step: Step, name: str, layout: Layout) -> tuple[int, ...]:
    """Return the sizes of the constant ``name``, one a dimension of the value it meets: that dimension's, or 1.

    Refuses a constant that has more axes, differs along the batch, widens an axis of one element or does not fit.
    """
    array = step.constants.value(name)
    if array.ndim > len(layout.dims):
        raise Refusal(f"the constant {name} has more axes, {array.ndim}, than the value it meets")
    sizes = (1,) * (len(layout.dims) - array.ndim) + array.shape
    for size, own, dim in zip(sizes, layout.shape, layout.dims, strict=True):
        if size == 1:
            continue
        if any(f.kind == BATCH for f in dim):
            fault = "differs from sample to sample"
        elif own == 1:
            fault = "repeats an axis of one element"
        elif size != own:
            fault = f"does not fit a value of {' x '.join(map(str, layout.shape[1:]))} a sample"
        else:
            continue
        raise Refusal(f"the constant {name} of shape {list(array.shape)} {fault}")
    return sizes


def _scalar(step: Step, name: str) -> str:
    shape = (1,) * step.constants.value(name).ndim
    return step.builder.rearranged(name, Rearrangement(shape, tuple(range(len(shape))), ()))
