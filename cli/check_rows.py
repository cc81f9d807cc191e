"""One row a model for ``check``: its verdict, what is not as locked, and what that means for the exit status."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from .gates import facts_of
from .reports import ERROR, FAILED, PASSED, Case, Gate, Suite
from .workers import Failure

if TYPE_CHECKING:
    from ..convert.lock import Entry
    from ..convert.pairing import Target

_MOST = 3  # changes named in the table; JSON has all


class Row(NamedTuple):
    """What is said of one model: ``status`` is its exit status, ``entry`` what the lock should hold of it."""

    model: str
    verdict: str
    status: int
    changes: list[str]
    text: str = ""
    hint: str = ""
    reference: str = ""
    verify: dict[str, Any] | None = None
    entry: "Entry | None" = None

    @property
    def said(self) -> str:
        """The text, then the first changes."""
        more = len(self.changes) - _MOST
        parts = [self.text, *self.changes[:_MOST], f"and {more} more" if more > 0 else ""]
        return "; ".join(part for part in parts if part)

    def to_json(self) -> dict[str, Any]:
        """The row as JSON has it."""
        return {
            "model": self.model,
            "reference": self.reference or None,
            "verdict": self.verdict,
            "status": self.status,
            "text": self.text,
            "changes": self.changes,
            "verify": self.verify,
        }


def gone(target: "Target", update: bool) -> Row:
    """The row of a model that the lock has, and of which there is no file."""
    if update:
        return Row(target.path, "dropped", 0, [], "no such file any more: it leaves the lock")
    text = "no such file, but the lock has it"
    return Row(
        target.path, "missing", 1, [], text, "put it back, or let check --update drop it", target.reference
    )


def _failed(target: "Target", failure: Failure, changes: list[str]) -> Row:
    text = failure.message.removeprefix(f"{target.path}: ")
    return Row(target.path, "error", failure.status, changes, text, failure.hint, target.reference)


def row_of(target: "Target", result: dict[str, Any] | Failure, update: bool) -> Row:
    """The row of what a worker found, held against the lock; with ``update``, what the lock will hold."""
    from ..convert.lock import Entry, Pair, differences

    if isinstance(result, Failure):
        return _failed(target, result, [])
    found = result["entry"]
    pair = None if found["pair"] is None else Pair(**found["pair"])
    entry = Entry(found["files"], found["shapes"], found["options"], pair)
    report = result["verify"]
    if result["failure"] is not None:
        before = target.entry
        changes = [] if before is None else differences(before, replace(entry, pair=before.pair))
        return _failed(target, Failure(*result["failure"]), changes)
    rest = {"reference": target.reference, "verify": report, "entry": entry}
    changes = [] if target.entry is None else differences(target.entry, entry)
    if report is not None and not report["accepted"]:
        ruling = [c for c in report["checks"] if c["verdict"] == report["verdict"]] or report["checks"]
        text = f"{ruling[-1]['name']}: {ruling[-1]['text']}"
        border = update and report["verdict"] == "border effect"
        hint = "if that is fine, lock it as accepted: --accept-border" if border else ""
        return Row(target.path, report["verdict"], 1, changes, text, hint, **rest)
    verdict = report["verdict"] if report is not None else "as locked"
    if target.entry is None:
        if update:
            return Row(target.path, "new" if report is None else verdict, 0, [], "new in the lock", **rest)
        hint = "look at it, then lock it: dense2conv check --update"
        return Row(target.path, "not locked", 1, [], "the lock does not have it", hint, **rest)
    if changes and not update:
        hint = "if that is meant, take it over: dense2conv check --update"
        return Row(target.path, "changed", 1, changes, "" if report is None else verdict, hint, **rest)
    if not changes:  # the figures of another machine are no news
        rest["entry"] = target.entry
    return Row(target.path, verdict if not changes or report else "changed", 0, changes, **rest)


def gate_of_rows(lock_file: str, rows: list[Row]) -> Gate:
    """One test case a model; what was run is the same for all."""
    cases = [Case(row.model, _status(row), row.said, row.verdict) for row in rows]
    reports = [row.verify for row in rows if row.verify is not None]
    facts = (
        {key: value for key, value in facts_of(reports[0]).items() if "sha256" not in key} if reports else {}
    )
    failed = sum(row.status > 0 for row in rows)
    verdict = f"{failed} of {len(rows)} models failed" if failed else f"{len(rows)} models as they should be"
    return Gate("check", verdict, {lock_file: Suite(cases, facts)})


def _status(row: Row) -> str:
    if not row.status:
        return PASSED
    return ERROR if row.status > 1 or row.verdict == "inconclusive" else FAILED
