"""``dense2conv windows``: how a series is cut into windows; with ``--data`` the series is cut."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from ..convert.errors import RequestError
from ..shapecalc.series import LABELS, RESTS, SlidingWindows
from . import options
from .guard import at_work_on
from .output import in_words, say, show
from .reports import check_reports, write_reports
from .series import COLUMNS, end_rows, series_document, summary, window_rows

_MOST_STEPS = 10**12
_MOST_IN_JSON = 1_000_000  # windows: a document is in memory before it is printed, about 1 KB a window


@click.command("windows")
@click.option(
    "--steps", type=click.IntRange(1, _MOST_STEPS), help="Steps of the series; --data knows its own."
)
@click.option("--length", type=click.IntRange(1, _MOST_STEPS), required=True, help="Steps of a window.")
@click.option(
    "--stride", "--hop", "stride", type=options.STRIDE, default="1", show_default=True,
    help="Steps from one window's start to the next; patch: as many as the length, so without overlap.",
)  # fmt: skip
@click.option(
    "--rest", type=click.Choice(list(RESTS)), default="drop", show_default=True,
    help="What becomes of the steps behind the last whole window: left out, one more window filled up with zeros, "
    "or one more that stays short.",
)  # fmt: skip
@click.option(
    "--label", "rule", type=click.Choice(list(LABELS)), default="last", show_default=True,
    help="Which of its steps' labels a window gets.",
)  # fmt: skip
@options.from_option
@click.option("--data", metavar="FILE", help="The series to cut: (steps, channels...).")
@click.option(
    "--labels", metavar="FILE", help="A label a step: (steps,), or (steps, k) such as one-hot rows."
)
@click.option("-o", "--output", metavar="OUT.npz", help="Write the windows of --data: X, Y and index.")
@options.force_option
@options.report_option
@options.format_option
def command(
    steps: int | None,
    length: int,
    stride: tuple[int, ...] | str,
    rest: str,
    rule: str,
    count_from: int,
    data: str | None,
    labels: str | None,
    output: str | None,
    force: bool,
    reports: tuple[str, ...],
    format: str,  # noqa: A002
) -> None:
    """Say how a series is cut into windows, and which Conv1D a dense layer on them is.

    With --data the series is cut: FILE is .npy, .npz:NAME or .csv (a step a line; a first line without any number is a
    header), and OUT.npz holds X (windows, length, channels...), Y with as many labels, and index (windows, 2): start
    and stop of each window in steps counted from 0, without the stop. Pads are zeros. The file is mapped, not read into
    memory. The formats csv and json list every window.

    A label of the rule majority is the window's most frequent one; of equally frequent ones the one that comes first in
    the window. Rows of several columns are compared as a whole: one-hot rows count as their classes.

    \b
    dense2conv windows --steps 30000 --length 100 --stride 1 --label last
    dense2conv windows --length 100 --hop 50 --data eeg.npy --labels classes.csv -o windows.npz
    """
    if len(stride) != 1 and stride != "patch":
        raise RequestError(f"a series has one axis, but --stride has {len(stride)} numbers")
    hop = length if isinstance(stride, str) else stride[0]
    files = _Files(data, labels, output, force)
    files.check()
    check_reports(reports, force=force, inputs=[*files.inputs, *([output] if output else [])])
    cut = _cut(files.steps(steps), length, hop, rest)
    if cut.count > _MOST_IN_JSON and (reports or format == "json"):
        raise RequestError(
            f"JSON lists at most {_MOST_IN_JSON} windows, but there are {cut.count}",
            hint="--format csv lists them all, and needs no memory for it",
        )
    shapes = files.write(cut, rule)
    at_work_on("")
    document = series_document(cut, rule, count_from)
    document |= {"data": data, "labels": labels, "output": output, "arrays": shapes}
    if reports or format == "json":
        document["windows"] = list(window_rows(cut, rule, count_from))
    write_reports(
        reports, document, end_rows(cut, rule, count_from), COLUMNS, force=force, inputs=files.inputs
    )
    rows = end_rows if format in ("table", "markdown") else window_rows
    show(format, document, rows(cut, rule, count_from), COLUMNS)
    for line in summary(cut, rule, count_from):
        say(line)
    if shapes:
        held = ", ".join(
            f"{name} {in_words(array['shape'])} {array['dtype']}" for name, array in shapes.items()
        )
        say(f"wrote {output}: {held}")


class _Files:
    """The files of one call; numpy is imported where there is one to read."""

    def __init__(self, data: str | None, labels: str | None, output: str | None, force: bool) -> None:
        self._data, self._labels, self._output, self._force = data, labels, output, force
        self._arrays: list[Any] = []
        self.inputs: list[str] = []

    def check(self) -> None:
        """Refuse what does not go together, and an OUT that cannot be written, before anything is read."""
        if self._data is None:
            for option, value in (("--labels", self._labels), ("--output", self._output)):
                if value is not None:
                    raise RequestError(f"{option} needs --data", hint="for example --data X.npy -o OUT.npz")
            return
        from ..convert.atomic import check_output
        from ..convert.series_files import split_series

        self.inputs = [split_series(reference)[0] for reference in (self._data, self._labels) if reference]
        if self._output is not None:
            if not self._output.lower().endswith(".npz"):
                raise RequestError("windows are written as .npz", file=self._output)
            check_output(self._output, force=self._force, inputs=self.inputs)

    def steps(self, asked: int | None) -> int:
        """How many steps there are: the data's, or those that were asked for."""
        if self._data is None:
            if asked is None:
                raise RequestError("the series needs --steps, or --data", hint="for example --steps 30000")
            return asked
        from ..convert.series import check_labels
        from ..convert.series_files import open_data, open_labels

        at_work_on(" and ".join(dict.fromkeys(self.inputs)))
        self._arrays = [open_data(self._data)]
        if self._labels is not None:
            self._arrays.append(open_labels(self._labels))
            with self._named():
                check_labels(*self._arrays)
        series = self._arrays[0]
        say(f"{self._data}: {series.shape[0]} steps of {in_words(series.shape[1:]) or 'one'} {series.dtype}")
        if asked not in (None, len(series)):
            raise RequestError(f"--steps is {asked}, but the data has {len(series)}", file=self._data)
        return len(series)

    def write(self, cut: SlidingWindows, rule: str) -> dict[str, Any]:
        """Write OUT, where there is one to write; shape and type of each array in it."""
        if self._output is None:
            return {}
        from ..convert.series import arrays, write_windows

        data, *labels = self._arrays
        with self._named():
            blocks = arrays(data, labels[0] if labels else None, cut, rule)
            write_windows(self._output, blocks, force=self._force, inputs=self.inputs)
        return {name: {"shape": list(b.shape), "dtype": str(b.dtype)} for name, b in blocks.items()}

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Name the files in an error that is about what they hold."""
        try:
            yield
        except RequestError as error:
            error.file = error.file or " and ".join(dict.fromkeys(self.inputs))
            raise


def _cut(steps: int, length: int, hop: int, rest: str) -> SlidingWindows:
    try:
        return SlidingWindows(steps, length, hop, rest)
    except ValueError as error:
        raise RequestError(
            str(error), hint="--rest pad or keep makes one window of a series that is too short"
        ) from error
