"""The proof of what ``convert`` writes: how it is said, and why nothing is written where it fails."""

from typing import TYPE_CHECKING

from ..convert.errors import NegativeAnswer
from .output import say

if TYPE_CHECKING:
    from ..convert.conversion import Conversion
    from ..convert.evidence import Report


class ProofFailedError(NegativeAnswer):
    """Nothing was written; ``report`` is the proof that failed."""

    def __init__(self, report: "Report", message: str, *, file: str, hint: str) -> None:
        super().__init__(message, file=file, hint=hint)
        self.report = report


def say_proof(report: "Report | None") -> None:
    """Say each check and the verdict."""
    if report is None:
        say("not verified (--no-verify)")
        return
    for check in report.checks:
        say(f"{check.name}: {'not checked' if check.verdict is None else check.verdict.value}: {check.text}")
    verdict = report.verdict.value
    say(f"verdict: {verdict if verdict == 'equivalent' else verdict.upper()}")


def require(report: "Report", source: str, conversion: "Conversion | None" = None) -> None:
    """Raise ``ProofFailedError`` unless what ``source`` became is proven. ``conversion``: where that is a map."""
    if report.accepted:
        return
    ruling = [check for check in report.checks if check.verdict is report.verdict] or report.checks
    failed = ruling[-1]
    raise ProofFailedError(
        report,
        f"the proof failed, nothing was written: {report.verdict.value}: {failed.name}: {failed.text}",
        file=source,
        hint=_why_the_proof_failed(report, conversion),
    )


def _why_the_proof_failed(report: "Report", conversion: "Conversion | None") -> str:
    """What to make of a proof that failed."""
    if report.verdict.value != "different":
        return "outputs that never vary prove nothing; --no-verify writes OUT without a proof"
    if conversion is not None and conversion.method == "patches":
        return (
            "patches run side by side in one batch: if the network holds a batch of its own inside, for instance in a "
            "first state, export it with that batch in its input's shape, and it runs so many at a time; else please "
            "report this, with the network"
        )
    return "if the network is fine, this is a bug in dense2conv: please report it with the network"


def inexact(conversion: "Conversion", source: str) -> NegativeAnswer:
    """The answer under ``--strict``."""
    names = ", ".join(conversion.analysis.border)
    return NegativeAnswer(
        f"not exact, and --strict asks for it: {conversion.exactness}: {names}",
        file=source,
        hint="--method exact runs the network on each patch instead",
    )
