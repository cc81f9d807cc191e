"""A series cut into windows: arrays that a network is trained on, written without ever being in memory.

    X      (windows, length, channels...)   the values
    Y      (windows, k...)                  a label a window; (windows, length, k...) with the rule ``per-step``
    index  (windows, 2), int64              start and stop of each window in steps: ``series[start:stop]``

X is a view of the series: step ``i`` of window ``k`` is step ``k*hop + i`` of the series, so the strides of the view
are (hop, 1, ...) steps and no value is copied until it is written. The labels are cut by the same windows.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..shapecalc.series import LABELS, SlidingWindows, label_step
from .atomic import StrPath, replacing
from .errors import RequestError
from .majority import majority_steps
from .numpy_files import Blocks, write_npz

Array = NDArray[Any]

_BLOCK = 1 << 16  # steps, or windows, that are worked on at a time


def check_labels(data: Array, labels: Array) -> None:
    """Raise ``RequestError`` unless there is one label a step."""
    if len(data) != len(labels):
        raise RequestError(
            f"data and labels must have the same number of steps, but have {len(data)} and {len(labels)}",
            hint="steps are the first axis of both: look whether one is transposed, or cut off",
        )


def arrays(data: Array, labels: Array | None, cut: SlidingWindows, rule: str = "last") -> dict[str, Blocks]:
    """X, Y (where there are ``labels``) and index, by name, each with as many windows as ``cut`` has.

    ``data`` is (steps, channels...), ``labels`` (steps,) or (steps, k); ``rule`` is one of ``LABELS``. Pads of the
    last window are zeros. Raises ``RequestError`` for another number of steps, a last window that stays short (one
    array holds windows of one length), labels of pads, and ``majority`` of labels that are not whole numbers.
    """
    if len(data) != cut.steps:
        raise RequestError(f"the windows are those of {cut.steps} steps, but the data has {len(data)}")
    if cut.rest == "keep" and cut.rest_window:
        raise RequestError(
            f"all windows of one array have one length, but the last one stays short: {len(cut.rest_window)} of "
            f"{cut.length} steps",
            hint="--rest drop leaves it out, --rest pad fills it up with zeros",
        )
    found = {"X": _stacked(data, cut)}
    if labels is not None:
        check_labels(data, labels)
        found["Y"] = _labels(labels, cut, rule)
    found["index"] = Blocks((cut.count, 2), np.dtype(np.int64), _index(cut, _BLOCK))
    return found


def write_windows(
    path: StrPath, blocks: dict[str, Blocks], *, force: bool = False, inputs: Sequence[StrPath] = ()
) -> None:
    """Write the arrays as ``path``, an ``.npz``, whole or not at all; raises as ``atomic.replacing`` does."""
    with replacing(path, force=force, inputs=inputs) as file:
        write_npz(file, blocks)


def view(series: Array, cut: SlidingWindows) -> Array:
    """The whole windows of ``series``, (steps, axes...), as a view (windows, length, axes...)."""
    if not cut.full:
        return np.empty((0, cut.length, *series.shape[1:]), series.dtype)
    # (windows at hop 1, axes..., length)
    every = sliding_window_view(series, cut.length, axis=0)
    return np.moveaxis(every[:: cut.hop], -1, 1)


def _stacked(series: Array, cut: SlidingWindows) -> Blocks:
    def blocks() -> Iterator[Array]:
        yield view(series, cut)
        if cut.pads:
            padded = np.zeros((1, cut.length, *series.shape[1:]), series.dtype)
            own = cut.rest_window
            padded[0, : len(own)] = series[own.start : own.stop]
            yield padded

    return Blocks((cut.count, cut.length, *series.shape[1:]), series.dtype, blocks())


def _labels(labels: Array, cut: SlidingWindows, rule: str) -> Blocks:
    if rule not in LABELS:
        raise RequestError(f"a label rule is {', '.join(LABELS)}, not {rule!r}")
    if rule == "per-step":
        if cut.pads:
            raise RequestError(
                f"a pad has no label, but the last window ends with {cut.pads} pads, and {rule} labels all its steps",
                hint="--rest drop leaves that window out; the other label rules give it one label",
            )
        return _stacked(labels, cut)
    shape = (cut.count, *labels.shape[1:])
    chosen = _majorities(labels, cut) if rule == "majority" else _single(labels, cut, rule)
    return Blocks(shape, labels.dtype, chosen)


def _single(labels: Array, cut: SlidingWindows, rule: str) -> Iterator[Array]:
    """The labels of one step a window: every ``hop``-th one, which is a view, and that of the last window."""
    if cut.full:
        yield labels[label_step(cut.window(0), rule) :: cut.hop][: cut.full]
    if cut.rest_window:
        yield labels[label_step(cut.rest_window, rule) :][:1]


def _majorities(labels: Array, cut: SlidingWindows) -> Iterator[Array]:
    # at least three windows' lengths at a time: else most steps would be counted again and again
    at_once = max(1, (max(_BLOCK, 4 * cut.length) - cut.length) // cut.hop)
    for index in _index(cut, at_once):
        begin = index[0, 0]
        part = labels[begin : index[-1, 1]]
        if part.dtype.kind == "f" and not (part == np.floor(part)).all():
            raise RequestError(
                "the most frequent label is that of classes or flags: whole numbers, but these labels are others",
                hint="round them first, or take another rule: --label last",
            )
        yield part[majority_steps(part, index[:, 0] - begin, index[:, 1] - begin)]


def _index(cut: SlidingWindows, at_once: int) -> Iterator[NDArray[np.int64]]:
    """Start and stop of the windows, (windows, 2), some windows at a time; pads are behind the stop."""
    for first in range(0, cut.count, at_once):
        starts = np.arange(first, min(first + at_once, cut.count), dtype=np.int64) * cut.hop
        yield np.stack([starts, np.minimum(starts + cut.length, cut.steps)], axis=1)
