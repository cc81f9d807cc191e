"""Why ``convert`` writes nothing: the proof failed, or the map would not be exact and that is asked for."""

from typing import TYPE_CHECKING

from ..convert.errors import NegativeAnswer

if TYPE_CHECKING:
    from ..convert.conversion import Conversion
    from ..convert.evidence import Report


class ProofFailedError(NegativeAnswer):
    """Nothing was written; ``report`` is the proof that failed."""

    def __init__(self, report: "Report", message: str, *, file: str, hint: str) -> None:
        super().__init__(message, file=file, hint=hint)
        self.report = report


def require(report: "Report", conversion: "Conversion", source: str) -> None:
    """Raise ``ProofFailedError`` unless the map of ``source`` is proven."""
    if report.accepted:
        return
    ruling = [check for check in report.checks if check.verdict is report.verdict] or report.checks
    failed = ruling[-1]
    raise ProofFailedError(
        report,
        f"the proof failed, nothing was written: {report.verdict.value}: {failed.name}: {failed.text}",
        file=source,
        hint=_why_the_proof_failed(conversion, report),
    )


def _why_the_proof_failed(conversion: "Conversion", report: "Report") -> str:
    """What to make of a proof that failed."""
    if report.verdict.value != "different":
        return "outputs that never vary prove nothing; --no-verify writes the map without a proof"
    if conversion.method == "patches":
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
