"""Verifications in JSON, as ``verify``, ``convert`` and ``check`` have them, as the gate of a report: cases, figures.

A case is one check. That the cases agree with the exit status is made sure of here: a report that is green beside a
step that failed would hide it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .output import Column, annotate, in_words
from .reports import ERROR, FAILED, PASSED, SKIPPED, Case, Gate, Suite, Table, write_reports


def _number(value: Any, written: str) -> str:
    return written.format(value) if isinstance(value, (int, float)) else str(value)


def _place(index: Any) -> str:
    return ", ".join(map(str, index))


CHECKS = (Column("model"), Column("name", "check"), Column("verdict"), Column("text", "evidence"))
FIGURES = (
    Column("model"),
    Column("check"),
    Column("output"),
    Column("ratio", "difference / largest", write=lambda value: _number(value, "{:.2e}")),
    Column("allowed", write=lambda value: _number(value, "{:.2e}")),
    Column("difference", write=lambda value: _number(value, "{:.2e}")),
    Column("reference", write=lambda value: _number(value, "{:.6g}")),
    Column("candidate", write=lambda value: _number(value, "{:.6g}")),
    Column("position", write=_place),
    Column("element", write=_place),
    Column("count"),
)


def gate_of(command: str, models: Mapping[str, Mapping[str, Any]], status: int) -> Gate:
    """The gate of one or more verifications, as ``verify`` and ``convert`` have them in JSON, by model.

    A model that could not be looked at has ``error`` and ``status``, one that was not verified neither that nor
    ``checks``. ``status`` is the command's exit status, which the cases agree with.
    """
    suites = {name: Suite(cases_of(report), facts_of(report)) for name, report in models.items()}
    if status and not any(
        case.status in (FAILED, ERROR) for suite in suites.values() for case in suite.cases
    ):
        last = list(suites)[-1]
        kind = FAILED if status == 1 else ERROR
        suites[last].cases.append(Case("exit status", kind, f"the exit status is {status}", "status"))
    verdicts = [str(report.get("verdict") or _unverified(report)) for report in models.values()]
    counted = {verdict: verdicts.count(verdict) for verdict in verdicts}
    verdict = verdicts[0] if len(verdicts) == 1 else ", ".join(f"{n} {word}" for word, n in counted.items())
    figures = [
        {"model": name, "check": check["name"], "output": output} | dict(found)
        for name, report in models.items()
        for check in report.get("checks", ())
        for output, found in check["outputs"].items()
    ]
    columns = FIGURES if len(models) > 1 else FIGURES[1:]
    return Gate(command, verdict, suites, [Table("Figures", figures, columns)] if figures else [])


def check_rows(report: Mapping[str, Any], model: str = "") -> list[dict[str, str]]:
    """One row a check of a verification in JSON, under ``CHECKS``."""
    if "checks" not in report:
        found = {"name": "proof", "verdict": _unverified(report), "text": str(report.get("error", ""))}
        return [{"model": model, **found}]
    return [
        {
            "model": model,
            "name": check["name"],
            "verdict": check["verdict"] or "not checked",
            "text": check["text"],
        }
        for check in report["checks"]
    ]


def _unverified(report: Mapping[str, Any]) -> str:
    return "error" if "error" in report else "not verified"


def cases_of(report: Mapping[str, Any]) -> list[Case]:
    """One case a check of a verification in JSON."""
    if "error" in report:
        kind = FAILED if report.get("status") == 1 else ERROR
        return [Case("run", kind, str(report["error"]), "error")]
    if "checks" not in report:
        return [Case("proof", SKIPPED, "not asked for")]
    accepted = bool(report["accepted"])
    cases = [
        Case(check["name"], _status(check["verdict"], accepted), check["text"], check["verdict"] or "")
        for check in report["checks"]
    ]
    if not accepted and not any(case.status in (FAILED, ERROR) for case in cases):
        verdict = report["verdict"]
        kind = ERROR if verdict == "inconclusive" else FAILED
        cases.append(Case("verdict", kind, f"{verdict}: no check says more", verdict))
    return cases


def _status(verdict: str | None, accepted: bool) -> str:
    """Where the whole is accepted, a check that says nothing alone was outweighed by others."""
    if verdict == "inconclusive":
        return SKIPPED if accepted else ERROR
    if verdict == "border effect":
        return PASSED if accepted else FAILED
    return {None: SKIPPED, "equivalent": PASSED}.get(verdict, FAILED)


def facts_of(report: Mapping[str, Any]) -> dict[str, str]:
    """What has to be known to repeat a verification: seed, providers, versions, the files' SHA-256."""
    facts = {key: in_words(report[key]) for key in ("seed", "provider") if report.get(key) is not None}
    facts |= {f"version of {name}": text for name, text in report.get("versions", {}).items()}
    for side, files in report.get("files", {}).items():
        facts |= {f"sha256 of {side} {path}": digest for path, digest in files.items()}
    return facts


def announce(report: Mapping[str, Any], file: str) -> None:
    """Annotate the workflow, if this runs in one, with the verdict of a verification in JSON."""
    verdict = str(report["verdict"])
    level = "error" if not report["accepted"] else "notice" if verdict == "equivalent" else "warning"
    ruling = [c for c in report["checks"] if c["verdict"] == verdict]
    text = f"{verdict}: {ruling[-1]['name']}: {ruling[-1]['text']}" if ruling else verdict
    annotate(level, text, title=f"dense2conv: {verdict}", file=file)


def report_models(
    command: str,
    paths: Sequence[str],
    document: object,
    models: Mapping[str, Mapping[str, Any]],
    status: int,
    *,
    force: bool,
    inputs: Sequence[str],
) -> None:
    """Write the reports of verifications in JSON, by model, and annotate the workflow with their verdicts."""
    rows = [row for name, report in models.items() for row in check_rows(report, name)]
    columns = CHECKS if len(models) > 1 else CHECKS[1:]
    gate = gate_of(command, models, status)
    write_reports(paths, document, rows, columns, force=force, inputs=inputs, gate=gate)
    for name, report in models.items():
        if "checks" in report:
            announce(report, name)
