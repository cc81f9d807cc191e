"""How the windows of a series are shown: a row a window, and the sentences under the table."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from ..shapecalc.series import LABELS, RESTS, SlidingWindows, label_step
from .output import Column, Row

_SHOWN_AT_EACH_END = 5  # windows of the table for people

COLUMNS = (
    Column("window"),
    Column("first", "first step"),
    Column("last", "last step"),
    Column("label_step"),
)


def window_rows(cut: SlidingWindows, rule: str, count_from: int) -> Iterator[Row]:
    """A row a window; ``last`` is the window's last step itself, in whatever way steps are counted."""
    return (_row(index, window, rule, count_from) for index, window in enumerate(cut))


def end_rows(cut: SlidingWindows, rule: str, count_from: int) -> list[Row]:
    """The rows for people: the first and the last ones, and one that says that others are left out."""
    if cut.count <= 2 * _SHOWN_AT_EACH_END + 1:
        return list(window_rows(cut, rule, count_from))
    first = list(islice(window_rows(cut, rule, count_from), _SHOWN_AT_EACH_END))
    last = range(cut.count - _SHOWN_AT_EACH_END, cut.count)
    gap = {column.key: ... for column in COLUMNS}
    return [*first, gap, *(_row(index, cut.window(index), rule, count_from) for index in last)]


def _row(index: int, window: range, rule: str, count_from: int) -> Row:
    step = label_step(window, rule)
    return {
        "window": index + count_from,
        "first": window[0] + count_from,
        "last": window[-1] + count_from,
        "label_step": None if step is None else step + count_from,
    }


def series_document(cut: SlidingWindows, rule: str, count_from: int) -> dict[str, Any]:
    """The JSON of a cut, without its windows."""
    window, output = cut.convolution()
    return {
        "steps": cut.steps,
        "length": cut.length,
        "stride": cut.hop,
        "rest": cut.rest,
        "label": rule,
        "from": count_from,
        "count": cut.count,
        "pads": cut.pads,
        "unused": cut.between + cut.behind,
        "convolution": {
            "kernel": window.kernel, "stride": window.stride, "padding": [window.before, window.after],
            "output": output,
        },
    }  # fmt: skip


def summary(cut: SlidingWindows, rule: str, count_from: int) -> Iterator[str]:
    """What the numbers mean, a sentence a line."""
    yield (
        f"{_some(cut.full, 'whole window')} = floor(({cut.steps} - {cut.length}) / {cut.hop}) + 1"
        if cut.full
        else f"no whole window: the length {cut.length} is more than the {cut.steps} steps"
    )
    shown = dict.fromkeys((0, min(1, cut.count - 1), cut.count - 1))
    ranges = [f"window {k + count_from} is {_steps(cut.window(k), count_from)}" for k in shown]
    yield f"{'; '.join(ranges)} (counted from {count_from})"
    yield f"rest: {_rest(cut, count_from)}"
    if cut.between:
        why = f"the stride {cut.hop} exceeds the length {cut.length}"
        yield f"between the windows: {_some(cut.between, 'step')} in none of them, as {why}"
    yield f"label: {LABELS[rule]}{_label_formula(cut, rule, count_from)}"
    yield f"as a convolution: {_convolution(cut)}"


def _rest(cut: SlidingWindows, count_from: int) -> str:
    if not cut.tail:
        return "none: the last window ends with the series"
    tail = f"{_some(len(cut.tail), 'step')} behind the last whole window"
    if not cut.rest_window:
        why = (
            "left out" if cut.rest == "drop" else "left out, as the next window would start behind the series"
        )
        return f"{tail}, {_steps(cut.tail, count_from)}: {why}"
    own = f"{_steps(cut.rest_window, count_from)}, {len(cut.rest_window)} of {cut.length}"
    zeros = f", and {_some(cut.pads, 'zero')}" if cut.pads else ""
    return f"{tail}: {RESTS[cut.rest]} ({own}{zeros})"


def _label_formula(cut: SlidingWindows, rule: str, count_from: int) -> str:
    step = label_step(cut.window(0), rule)
    if step is None or not cut.full:
        return ""
    # window k, as it is printed, starts (k - count_from) * hop behind the first one
    offset = step + count_from - cut.hop * count_from
    times = "k" if cut.hop == 1 else f"{cut.hop} k"
    formula = f"{times} {'+' if offset > 0 else '-'} {abs(offset)}" if offset else times
    last = label_step(cut.rest_window, rule) if cut.rest_window else None
    short = "" if last is None else f", the last one that of step {last + count_from}"
    return f": window k has that of step {formula}{short}"


def _convolution(cut: SlidingWindows) -> str:
    window, output = cut.convolution()
    if not output:
        return "none: a dense layer needs windows of one length"
    padding = f"{_some(window.after, 'zero')} behind the series" if window.after else "no padding (valid)"
    short = ": all but the short window" if output < cut.count else ""
    return (
        f"a dense layer on each window is one Conv1D of kernel {window.kernel}, stride {window.stride}, {padding}: "
        f"{_some(cut.steps, 'step')} in, {_some(output, 'output')}{short}"
    )


def _steps(window: range, count_from: int) -> str:
    return f"steps {window[0] + count_from}..{window[-1] + count_from}"


def _some(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
