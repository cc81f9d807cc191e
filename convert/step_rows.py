"""What a map says of a series, a line a step: ``step,start,stop,prediction,value_0,..,label``.

Position ``i`` is about the window ``i*s .. i*s + P - 1``; its row is that of the window's last, centre or first step,
by the same rule by which ``windows`` chose the label in training. Steps between and outside have no prediction.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from io import TextIOWrapper
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..shapecalc.series import label_step
from .errors import RequestError
from .scanning import Plan

Array = NDArray[Any]

ALIGN = ("last", "centre", "first")
_BLOCK = 1 << 14  # steps that are worked on at a time


class StepRows:
    """The rows of one series. ``pad`` stands where a step has no prediction; None leaves such steps out.

    ``labels``: (steps,) or (steps, k). Raises ``RequestError`` for a map of more than one axis, several samples, and
    another number of labels than steps.
    """

    def __init__(
        self, plan: Plan, align: str = "last", pad: str | None = "nan", labels: Array | None = None
    ) -> None:
        if len(plan.pixels.size) != 1:
            raise RequestError(
                f"rows a step are those of a series, but this map has {len(plan.pixels.size)} axes"
            )
        if plan.samples != 1:
            raise RequestError(f"rows a step are those of one series, but there are {plan.samples} samples")
        self._plan, self._pad, self._labels = plan, pad, labels
        (self._steps,), (reach,) = plan.pixels.size, plan.scanner.reaches
        if labels is not None and len(labels) != self._steps:
            raise RequestError(
                f"data and labels must have the same number of steps, but have {self._steps} and {len(labels)}",
                hint="steps are the first axis of the labels: look whether they are transposed, or cut off",
            )
        offset = label_step(range(reach.patch), align)
        if offset is None or align not in ALIGN:
            raise RequestError(
                f"a prediction is aligned to the window's {', '.join(ALIGN)} step, not {align!r}"
            )
        self._offset, self._patch, self._stride = offset, reach.patch, reach.stride

    @property
    def names(self) -> list[str]:
        """The columns."""
        several = len(self._plan.scanner.outputs) > 1
        names = ["step", "start", "stop"]
        for output in self._plan.scanner.outputs:
            end = f"_{output.name}" if several else ""
            names.append(f"prediction{end}")
            width = int(np.prod(output.features))
            names += [f"value{end}_{i}" for i in range(width)] if width > 1 else []
        if self._labels is not None:
            k = self._labels.shape[1] if self._labels.ndim > 1 else 1
            names += ["label"] if self._labels.ndim == 1 else [f"label_{i}" for i in range(k)]
        return names

    def write(self, file: BinaryIO, arrays: Mapping[str, Array]) -> None:
        """Write header and rows; ``arrays`` are the outputs that the plan filled."""
        text = TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.names)
        for first in range(0, self._steps, _BLOCK):
            writer.writerows(self._rows(range(first, min(first + _BLOCK, self._steps)), arrays))
        text.flush()
        text.detach()

    def _rows(self, steps: range, arrays: Mapping[str, Array]) -> Iterator[list[str]]:
        (count,) = self._plan.tiling.counts
        begin = max(0, -(-(steps.start - self._offset) // self._stride))  # the first position in the block
        end = max(begin, min(count, (steps.stop - 1 - self._offset) // self._stride + 1))
        columns = [self._columns(o.axes[0], arrays[o.name], begin, end) for o in self._plan.scanner.outputs]
        width = len(self.names) - 1 - (0 if self._labels is None else self._label_width)
        for step in steps:
            place, rest = divmod(step - self._offset, self._stride)
            if rest == 0 and 0 <= place < count:
                start = place * self._stride
                cells = [str(start), str(start + self._patch)]
                for rows in columns:
                    cells += rows[place - begin]
            elif self._pad is None:
                continue
            else:
                cells = [self._pad] * width
            yield [str(step), *cells, *self._label(step)]

    @property
    def _label_width(self) -> int:
        return 0 if self._labels is None else int(np.prod(self._labels.shape[1:]))

    def _label(self, step: int) -> Sequence[str]:
        return [] if self._labels is None else [str(v) for v in np.atleast_1d(self._labels[step])]

    def _columns(self, axis: int, array: Array, begin: int, end: int) -> list[list[str]]:
        """The prediction of each position, and its values where there are several: the largest is the class."""
        whole = array[None] if self._plan.pixels.single else array
        part = np.moveaxis(np.asarray(whole[(slice(None),) * axis + (slice(begin, end),)]), axis, 1)
        flat = part[0].reshape(end - begin, int(np.prod(part.shape[2:])))  # (positions, D)
        texts = [[str(value) for value in row] for row in flat]
        if flat.shape[1] == 1:
            return texts
        classes = flat.argmax(axis=1) if len(flat) else []
        return [[str(best), *row] for best, row in zip(classes, texts, strict=True)]
