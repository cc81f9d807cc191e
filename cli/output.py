"""What a command prints: results to stdout as table, json, csv or markdown; everything else to stderr.

A result is one JSON document and the rows of its table. Names come from files that nobody vouches for, so
each text goes through ``escape`` on its way out: no control character, terminal sequence or line break of a
name gets to the terminal, and none starts a workflow command of a CI system.
"""

import contextlib
import io
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

import click

FORMATS = ("table", "json", "csv", "markdown")
VERBOSITY = "dense2conv.verbosity"  # the key in click's ctx.meta: -1 with -q, 0, 1 with -v, 2 with -vv

Row = Mapping[str, Any]


def escape(text: object) -> str:
    r"""``text`` on one line that a terminal and a CI log show as it is.

    >>> print(escape("conv\n\x1b[2J"), escape("::error::x"), escape("aten::conv"))
    conv\x0a\x1b[2J \x3a:error::x aten::conv
    """
    # Not printable are controls, marks that are not seen or change the direction, line and paragraph separators,
    # and lone surrogates, which is how Python spells the bytes of a file name that is not UTF-8.
    line = str(text)
    if not line.isprintable():
        line = "".join(
            character if character.isprintable() else _spelled(ord(character)) for character in line
        )
    line = line.replace("##[", "\\x23#[")  # Azure Pipelines and GitHub, anywhere in a line
    if line.lstrip().startswith("::"):  # GitHub, at the start of a line
        line = line.replace(":", "\\x3a", 1)
    return line


def _spelled(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def complain(*parts: str, hint: str = "", file: str = "") -> None:
    """The error format: ``dense2conv: FILE: LAYER: message`` (empty parts left out), then what to do.

    ``file``: where a workflow's annotation of it belongs.
    """
    with contextlib.suppress(OSError):  # a stderr that is full or gone must not hide the status
        message = ": ".join(escape(part) for part in parts if part)
        print("dense2conv:", message, file=sys.stderr)
        if hint:
            print(" ", escape(hint), file=sys.stderr)
        annotate("error", f"{message}\n{escape(hint)}" if hint else message, title="dense2conv", file=file)


def annotate(level: str, message: str, *, title: str = "", file: str = "") -> None:
    """One annotation (error, warning or notice) of a GitHub workflow, where this runs in one; else nothing.

    On stderr, which the runner reads as it reads stdout: results stay what their format says. The escapes are the
    runner's own (https://github.com/actions/toolkit/blob/main/packages/core/src/command.ts): nothing in a name ends
    the property or the line that it stands in.
    """
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return
    data = "%0A".join(escape(line).replace("%", "%25") for line in message.split("\n"))
    properties = [
        f"{key}={escape(value).replace('%', '%25').replace(':', '%3A').replace(',', '%2C')}"
        for key, value in (("file", file), ("title", title))
        if value
    ]
    with contextlib.suppress(OSError):
        print(f"::{level}{' ' * bool(properties)}{','.join(properties)}::{data}", file=sys.stderr)


def say(message: str, *, level: int = 0) -> None:
    """One line for people, on stderr: level 0 unless ``-q``, 1 with ``-v``, 2 with ``-vv``."""
    context = click.get_current_context(silent=True)
    verbosity = context.meta.get(VERBOSITY, 0) if context is not None else 0
    if verbosity >= level:
        print(escape(message), file=sys.stderr)


class Column(NamedTuple):
    """One column of a table: the row's key, its title (default: the key), and how a value is written."""

    key: str
    title: str = ""
    write: Callable[[Any], str] | None = None

    @property
    def heading(self) -> str:
        """What stands above the column."""
        return self.title or self.key.replace("_", " ")

    def cell(self, row: Row) -> str:
        """The value for people; ``-`` where the row has none, ``...`` where rows are left out."""
        value = row.get(self.key)
        if value is None:
            return "-"
        if value is ...:
            return "..."
        return escape(self.write(value) if self.write is not None else in_words(value))


def in_words(value: object) -> str:
    """A value as people read it: sizes as 3x4, truth as yes or no, floats with three significant digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, (list, tuple)):
        numbers = all(isinstance(item, int) for item in value)
        return ("x" if numbers else ", ").join(in_words(item) for item in value)
    return str(value)


def to_json(document: object) -> str:
    """Strict JSON, pure ASCII: NaN and infinities, which JSON has not, as strings."""
    import json

    text = json.dumps(_strict(document), indent=2, allow_nan=False)
    return text.replace("##[", "\\u0023#[") + "\n"


def _strict(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    return value


def to_csv(rows: Iterable[Row], columns: Sequence[Column]) -> str:
    """Keys as the header; full precision; an empty cell where a row has no value."""
    text = io.StringIO()
    write_csv(text, rows, columns)
    return text.getvalue()


def write_csv(file: TextIO, rows: Iterable[Row], columns: Sequence[Column]) -> None:
    """Write ``to_csv`` row by row: a table need not be in memory, nor be read to its end."""
    import csv

    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([column.key for column in columns])
    for row in rows:
        values = (row.get(column.key) for column in columns)
        writer.writerow(
            [
                "" if value is None else escape(value if isinstance(value, float) else in_words(value))
                for value in values
            ]
        )


def to_markdown(rows: Iterable[Row], columns: Sequence[Column]) -> str:
    """A GitHub table; pipes and markup in names are escaped."""
    lines = [[column.heading for column in columns], ["---"] * len(columns)]
    lines += [[re.sub(r"([|\\`*_<>\[\]])", r"\\\1", column.cell(row)) for column in columns] for row in rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def to_table(rows: Iterable[Row], columns: Sequence[Column]) -> str:
    """Plain text in aligned columns, two spaces apart; columns of numbers to the right."""
    rows = list(rows)
    lines = [
        [column.heading for column in columns],
        *([column.cell(row) for column in columns] for row in rows),
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    right = [_numbers(column, rows) for column in columns]
    aligned = (
        [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ]
        for line in lines
    )
    return "".join("  ".join(line).rstrip() + "\n" for line in aligned)


def _numbers(column: Column, rows: Sequence[Row]) -> bool:
    values = [row[column.key] for row in rows if row.get(column.key) not in (None, ...)]
    return bool(values) and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in values
    )


_WRITERS: dict[str, Callable[[Iterable[Row], Sequence[Column]], str]] = {
    "table": to_table,
    "csv": to_csv,
    "markdown": to_markdown,
}


def render(format: str, document: object, rows: Iterable[Row], columns: Sequence[Column]) -> str:  # noqa: A002
    """The text of a result in one of ``FORMATS``: JSON is the document, the others are the rows."""
    return to_json(document) if format == "json" else _WRITERS[format](rows, columns)


def show(format: str, document: object, rows: Iterable[Row], columns: Sequence[Column]) -> None:  # noqa: A002
    """Print a result to stdout; a table on a terminal is drawn by rich, which folds what is too wide."""
    if format == "table" and sys.stdout.isatty():
        _show_rich(rows, columns)
    elif format == "csv":
        write_csv(sys.stdout, rows, columns)
    else:
        sys.stdout.write(render(format, document, rows, columns))


def _show_rich(rows: Iterable[Row], columns: Sequence[Column]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            Text(column.heading), justify="right" if _numbers(column, rows) else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(column.cell(row)) for column in columns))  # Text: a name is no markup
    Console(file=sys.stdout, highlight=False).print(table)
