"""The picture of ``run``: one class of a map, over the pixels that its vectors stand for; matplotlib draws."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..convert.errors import RequestError
from .plot import check_plot

if TYPE_CHECKING:
    from ..convert.scanning import Plan

_MOST = 2000  # positions a side that are drawn; of more every second, third, ..
_FONT = 18
_STYLE = {"font.size": _FONT, "axes.titlesize": _FONT, "svg.hashsalt": "dense2conv"}


def check_heatmap(path: str, chosen: str | None, *, force: bool, inputs: Sequence[str]) -> None:
    """Refuse, before any work, what cannot be drawn or must not be written."""
    from ..convert.atomic import check_output

    check_plot(path, None)
    if Path(path).absolute() == Path(inputs[-1]).absolute():
        raise RequestError("--heatmap and OUT are the same file", file=path)
    check_output(path, force=force, inputs=inputs)
    if chosen is not None and not re.fullmatch(r"(.+:)?[0-9]{1,9}", chosen):
        raise RequestError(f"--class is a number counted from 0, or OUTPUT:N, not {chosen!r}")


class Heatmap:
    """Class ``chosen`` (``N`` or ``OUTPUT:N``) of a plan's output, of the first sample.

    Raises ``RequestError`` for a class or an output that the map does not have, and for more than two axes.
    """

    def __init__(self, plan: "Plan", chosen: str | None) -> None:
        outputs = {output.name: output for output in plan.scanner.outputs}
        name, _, number = (chosen or "").rpartition(":")
        name = name or next(iter(outputs))
        if name not in outputs:
            raise RequestError(f"there is no output {name!r}", hint=f"there is {', '.join(outputs)}")
        self._plan, self._output = plan, outputs[name]
        features = 1
        for size in self._output.features:
            features *= size
        if len(self._output.axes) > 2:
            raise RequestError(f"maps of 1 or 2 axes can be drawn, this one has {len(self._output.axes)}")
        if not number and features > 1:
            raise RequestError(
                f"output {name!r} has {features} classes: which is drawn?", hint="add --class 0"
            )
        self._class = int(number or 0)
        if self._class >= features:
            raise RequestError(
                f"output {name!r} has classes 0 to {features - 1}, so there is no {self._class}"
            )

    def draw(self, path: str, arrays: Mapping[str, Any], *, force: bool, inputs: Sequence[str]) -> None:
        """Draw it into ``path``; ``arrays`` are the outputs by name."""
        import matplotlib as mpl

        from ..convert.atomic import replacing

        data = io.BytesIO()
        kind = Path(path).suffix.lower()[1:]
        with mpl.rc_context(_STYLE):
            self._figure(arrays[self._output.name]).savefig(
                data, format=kind, metadata={"Date": None} if kind == "svg" else None
            )
        with replacing(path, force=force, inputs=inputs) as file:
            file.write(data.getvalue())

    def values(self, array: Any) -> tuple[Any, tuple[int, ...]]:
        """The class's values, (positions) or (rows, columns), and every how many positions there is one."""
        import numpy as np

        steps = tuple(-(-n // _MOST) for n in self._plan.tiling.counts)
        index = self._output.index(slice(0, 1), [slice(None, None, step) for step in steps])
        part = np.asarray(array[index[1:]])[None] if self._plan.pixels.single else np.asarray(array[index])
        features = [axis for axis in range(1, part.ndim) if axis not in self._output.axes]
        flat = part.transpose(0, *features, *self._output.axes).reshape(
            -1, *(part.shape[a] for a in self._output.axes)
        )
        return flat[self._class], steps

    def _figure(self, array: Any) -> Any:
        from matplotlib.figure import Figure

        values, steps = self.values(array)
        patch, stride = self._plan.scanner.metadata.patch, self._plan.scanner.metadata.stride
        title = f"{self._output.name}, class {self._class}" if self._output.features else self._output.name
        # a vector stands for the stride around its patch's middle
        ends = [
            ((p - s) / 2 - 0.5, (p - s) / 2 + n * step * s - 0.5)
            for p, s, n, step in zip(patch, stride, values.shape, steps, strict=True)
        ]
        if values.ndim == 1:
            figure = Figure(figsize=(12, 5), dpi=100, layout="constrained")
            axes = figure.add_subplot()
            (first, last), n = ends[0], len(values)
            axes.plot(
                [first + 0.5 + (last - first) / n * i for i in range(n)], values, color="#d95f02", linewidth=2
            )
            axes.set_xlim(-0.5, self._plan.pixels.size[0] - 0.5)
            axes.set_xlabel("step")
            axes.set_title(title)
            return figure
        (top, bottom), (left, right) = ends
        tall = min(max((bottom - top) / (right - left), 0.3), 1.5)
        figure = Figure(figsize=(12, 10 * tall + 1.5), dpi=100, layout="constrained")
        axes = figure.add_subplot()
        drawn = axes.imshow(
            values, cmap="viridis", extent=(left, right, bottom, top), interpolation="nearest"
        )
        height, width = self._plan.pixels.size  # also where no vector stands
        axes.set_xlim(-0.5, width - 0.5)
        axes.set_ylim(height - 0.5, -0.5)
        figure.colorbar(drawn, ax=axes)
        axes.set_xlabel("column")
        axes.set_ylabel("row")
        axes.set_title(title)
        return figure
