"""What ``--report`` writes: the result as a document for a program, a page for people, or test cases for a CI server.

A report of JUnit is red exactly where the exit status is not 0: ``different`` and a border effect that nobody accepted
are failures, ``inconclusive`` and what could not be looked at are errors, what was not asked is skipped.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .output import Column, Row, escape, to_json, to_markdown

PASSED, FAILED, ERROR, SKIPPED = "passed", "failure", "error", "skipped"


class Case(NamedTuple):
    """One check as a test case: ``status`` is one of the four above, ``kind`` the verdict behind it."""

    name: str
    status: str
    text: str = ""
    kind: str = ""


class Suite(NamedTuple):
    """The cases of one model; ``facts`` is what has to be known to repeat them."""

    cases: list[Case]
    facts: Mapping[str, str]


class Table(NamedTuple):
    """Rows under a heading, for a page."""

    heading: str
    rows: Iterable[Row]
    columns: Sequence[Column]


class Gate(NamedTuple):
    """What a command that checks something says beside its rows.

    ``suites`` has the cases by the name of what they are about; ``tables`` are further figures for a page.
    """

    command: str
    verdict: str
    suites: Mapping[str, Suite]
    tables: Sequence[Table] = ()


class Result(NamedTuple):
    """Everything that a report may show."""

    document: object
    rows: Sequence[Row] = ()
    columns: Sequence[Column] = ()
    gate: Gate | None = None


def _json(result: Result) -> str:
    return to_json(result.document)


def _headline(result: Result) -> str:
    if result.gate is None:
        return "dense2conv"
    return f"dense2conv {result.gate.command}: {result.gate.verdict}"


def _tables(result: Result) -> list[Table]:
    """The result's own rows, then the further figures, then the facts."""
    found = [Table("", result.rows, result.columns)]
    if result.gate is not None:
        facts = {key: value for suite in result.gate.suites.values() for key, value in suite.facts.items()}
        rows = [{"name": key, "value": value} for key, value in facts.items()]
        found += [*result.gate.tables, Table("Run", rows, (Column("name"), Column("value")))]
    return [table for table in found if table.columns]


def _markdown(result: Result) -> str:
    parts = [f"## {_marked(_headline(result))}\n"]
    for table in _tables(result):
        heading = f"### {_marked(table.heading)}\n\n" if table.heading else ""
        parts.append(heading + to_markdown(table.rows, table.columns))
    return "\n".join(parts)


def _marked(text: str) -> str:
    """Text as markdown shows it, by the rule that cells follow."""
    return to_markdown([{"text": text}], [Column("text")]).splitlines()[-1][2:-2]


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em;color:#222}table{border-collapse:collapse}"
    "td,th{border:1px solid #ccc;padding:.2em .6em;text-align:left;vertical-align:top;overflow-wrap:anywhere}"
    "th{background:#f4f4f4}"
)


def _html(result: Result) -> str:
    """One page that needs nothing from elsewhere."""
    from html import escape as quoted

    title = quoted(escape(_headline(result)))
    lines = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head><body>',
        f"<h1>{title}</h1>",
    ]
    for table in _tables(result):
        if table.heading:
            lines.append(f"<h2>{quoted(escape(table.heading))}</h2>")
        heads = "".join(f"<th>{quoted(column.heading)}</th>" for column in table.columns)
        lines.append(f"<table><thead><tr>{heads}</tr></thead><tbody>")
        for row in table.rows:
            cells = "".join(f"<td>{quoted(column.cell(row))}</td>" for column in table.columns)
            lines.append(f"<tr>{cells}</tr>")
        lines.append("</tbody></table>")
    return "\n".join([*lines, "</body></html>", ""])


def _junit(result: Result) -> str:
    """The shape of Jenkins' junit-10.xsd, which other readers follow."""
    from xml.etree import ElementTree as Xml

    gate = result.gate
    assert gate is not None  # check_reports has refused it
    every = [case for suite in gate.suites.values() for case in suite.cases]
    root = Xml.Element("testsuites", {"name": f"dense2conv {gate.command}"} | _counts(every, skipped=False))
    for name, (cases, facts) in gate.suites.items():
        suite = Xml.SubElement(root, "testsuite", {"name": escape(name)} | _counts(cases, skipped=True))
        properties = Xml.SubElement(suite, "properties")
        for key, value in facts.items():
            Xml.SubElement(properties, "property", name=escape(key), value=escape(value))
        for case in cases:
            element = Xml.SubElement(suite, "testcase", name=escape(case.name), classname=escape(name))
            if case.status == SKIPPED:
                Xml.SubElement(element, SKIPPED, message=escape(case.text))
            elif case.status != PASSED:
                fault = Xml.SubElement(
                    element, case.status, message=escape(case.text), type=escape(case.kind)
                )
                fault.text = escape(case.text)
            elif case.text:
                Xml.SubElement(element, "system-out").text = escape(case.text)
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def _counts(cases: Sequence[Case], *, skipped: bool) -> dict[str, str]:
    names = {"failures": FAILED, "errors": ERROR} | ({"skipped": SKIPPED} if skipped else {})
    counts = {key: str(sum(case.status == status for case in cases)) for key, status in names.items()}
    return {"tests": str(len(cases)), **counts}


# What --report writes, by the file's ending.
REPORTS: dict[str, Callable[[Result], str]] = {
    ".json": _json,
    ".md": _markdown,
    ".html": _html,
    ".xml": _junit,
}


def check_reports(
    paths: Sequence[str], *, force: bool, inputs: Sequence[str] = (), checks: bool = False
) -> None:
    """Refuse, before any work, a report of unknown kind or one that may not be written (``RequestError``).

    ``checks``: whether the command makes some, so that there is something for JUnit.
    """
    if not paths:
        return  # what is imported below costs more than a small command does
    from ..convert.atomic import check_output
    from ..convert.errors import RequestError

    for path in paths:
        ending = Path(path).suffix.lower()
        if ending not in REPORTS:
            raise RequestError(
                f"a report ends in {', '.join(REPORTS)}", file=path, hint="for example --report report.json"
            )
        if ending == ".xml" and not checks:
            raise RequestError(
                "a report of JUnit lists checks, and this command makes none",
                file=path,
                hint="verify, convert and check make some; here a report ends in .json, .md or .html",
            )
        check_output(path, force=force, inputs=inputs)
    if len({Path(path).absolute() for path in paths}) < len(paths):
        raise RequestError("two reports would be the same file", hint="name each --report once")


def write_reports(
    paths: Sequence[str],
    document: object,
    rows: Iterable[Row] = (),
    columns: Sequence[Column] = (),
    *,
    force: bool,
    inputs: Sequence[str] = (),
    gate: Gate | None = None,
) -> None:
    """Write a result as every report that was asked for; each appears whole or not at all."""
    if not paths:
        return
    from ..convert.atomic import replacing

    result = Result(document, list(rows), columns, gate)
    for path in paths:
        with replacing(path, force=force, inputs=inputs) as file:
            file.write(REPORTS[Path(path).suffix.lower()](result).encode())
