"""Results as text: golden files for the eye, and each format parsed back by someone else's parser."""

import csv
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dense2conv.cli.output import (
    FORMATS,
    VERBOSITY,
    Column,
    escape,
    render,
    say,
    to_json,
    write_csv,
)

GOLDEN = Path(__file__).parent / "golden"

COLUMNS = [
    Column("name"),
    Column("kernel"),
    Column("parameters"),
    Column("ratio", "difference / scale", write="{:.1e}".format),
    Column("exact"),
]
ROWS = [
    {"name": "conv", "kernel": [4, 4], "parameters": 384, "ratio": 3.2e-7, "exact": True},
    {
        "name": "dense|*1*\n\x1b[2J",
        "kernel": [8, 8],
        "parameters": 4_000_064,
        "ratio": float("nan"),
        "exact": False,
    },
    {"name": "::error::owned", "parameters": None, "exact": None},
]
DOCUMENT = {"layers": ROWS, "verdict": "different", "scale": float("inf"), "size": (3, 4)}


@pytest.mark.parametrize("format", FORMATS)
def test_golden(format):
    text = render(format, DOCUMENT, ROWS, COLUMNS)
    path = GOLDEN / f"layers.{format}"
    if os.environ.get("OVERWRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_json_is_strict_and_complete():
    def refuse(name):
        raise AssertionError(name)

    document = json.loads(to_json(DOCUMENT), parse_constant=refuse)
    assert document["layers"][1]["name"] == ROWS[1]["name"]
    assert document["layers"][1]["ratio"] == "nan"
    assert document["scale"] == "inf"
    assert document["size"] == [3, 4]
    assert to_json(DOCUMENT).isascii()
    assert "##[" not in to_json({"name": "##[error]x"})
    assert json.loads(to_json({"name": "##[error]x"})) == {"name": "##[error]x"}


def test_csv_has_a_cell_for_each_value_in_full_precision():
    rows = list(
        csv.reader(io.StringIO(render("csv", DOCUMENT, [{"name": "a,b", "ratio": 1 / 3}, *ROWS], COLUMNS)))
    )
    assert rows[0] == [column.key for column in COLUMNS]
    assert rows[1] == ["a,b", "", "", repr(1 / 3), ""]
    assert {len(row) for row in rows} == {len(COLUMNS)}


def test_a_table_s_columns_line_up():
    lines = render("table", DOCUMENT, ROWS, COLUMNS).splitlines()
    assert len(lines) == 4
    end = lines[0].index("parameters") + len("parameters")
    assert lines[1][:end].endswith(" 384")
    assert lines[2][:end].endswith(" 4000064")


def test_rows_that_are_left_out_keep_their_columns_numeric():
    rows = [{"window": 0}, {"window": ...}, {"window": 29900}]
    assert render("table", None, rows, [Column("window")]) == "window\n     0\n   ...\n 29900\n"


def test_a_csv_is_written_row_by_row():
    """The first rows are out before the last ones exist."""

    def rows():
        yield {"name": "a"}
        assert text.getvalue() == "name\na\n"
        yield {"name": "b"}

    text = io.StringIO()
    write_csv(text, rows(), [Column("name")])
    assert text.getvalue() == "name\na\nb\n"


NASTY = st.text(st.characters(codec=None), max_size=30) | st.sampled_from(
    ["::set-env x", "\t::x", "##[group]", "\udcff"]
)


@given(NASTY)
def test_no_name_gets_out_of_its_line(name):
    text = escape(name)
    assert text.isprintable()
    assert len(text.splitlines()) <= 1
    assert not text.lstrip().startswith("::")
    assert "##[" not in text
    text.encode()
    for format in ("table", "csv", "markdown"):
        lines = render(format, None, [{"name": name}], [Column("name")]).split("\n")
        assert len(lines) == {"table": 3, "csv": 3, "markdown": 4}[format]


@pytest.mark.parametrize(
    "code", [0x07, 0x1B, 0x7F, 0x85, 0x9B, 0x200B, 0x2028, 0x202E, 0x2066, 0xFEFF, 0xDC80]
)
def test_what_is_not_seen_is_spelled(code):
    assert chr(code) not in escape(f"a{chr(code)}b")
    assert f"{code:x}" in escape(f"a{chr(code)}b")


def test_ordinary_names_are_left_alone():
    for name in ("conv1/Relu:0", "aten::conv2d", "модель.onnx", "卷积", "a b", "naïve"):
        assert escape(name) == name


@pytest.mark.parametrize(("verbosity", "said"), [(-1, ""), (0, "a\n"), (1, "a\nb\n"), (2, "a\nb\nc\n")])
def test_say_has_levels(verbosity, said, capsys):
    @click.command()
    @click.pass_context
    def command(ctx):
        ctx.meta[VERBOSITY] = verbosity
        say("a")
        say("b", level=1)
        say("c", level=2)

    command.main([], standalone_mode=False)
    assert capsys.readouterr() == ("", said)


SHOW = """
from dense2conv.cli.output import Column, show
show("table", {}, [{"name": "[red]x[/red]\\x1b[2J", "size": 7}], [Column("name"), Column("size")])
import sys
print("rich" in sys.modules)
"""


def test_a_terminal_gets_rich_and_a_pipe_does_not():
    """Markup in a name is text, and no control character of it gets through either way."""
    piped = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, timeout=60)
    assert piped.stdout.splitlines()[-2:] == ["[red]x[/red]\\x1b[2J     7", "False"]
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    subprocess.run(
        [sys.executable, "-c", SHOW], stdout=slave, stderr=slave, timeout=60, env=environment, check=True
    )
    os.close(slave)
    shown = os.read(master, 10_000).decode()
    os.close(master)
    assert "[red]x[/red]\\x1b[2J" in shown
    assert "\x1b[2J" not in shown
    assert shown.rstrip().endswith("True")
