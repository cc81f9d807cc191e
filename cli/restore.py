"""``dense2conv restore``: the patch network again, from a map whose weights may have been trained."""

from typing import TYPE_CHECKING, Any

import click

from ..convert.errors import NegativeAnswer
from . import options
from .guard import at_work_on
from .networks import opened
from .output import Column, say, show
from .progress import progress
from .reports import check_reports, write_reports

if TYPE_CHECKING:
    from ..convert.evidence import Report
    from ..convert.model import Model
    from ..convert.restoring import Restored

_COLUMNS = (Column("tensor"), Column("shape"), Column("dtype", "type"), Column("came_from", "came from"))


@click.command("restore")
@click.argument("source", metavar="MAP.onnx", type=click.Path())
@click.argument("out", metavar="OUT.onnx", type=click.Path())
@click.option("--no-verify", is_flag=True, help="Do not run both networks and compare them.")
@options.force_option
@options.report_option
@options.format_option
def command(
    source: str,
    out: str,
    no_verify: bool,
    force: bool,
    reports: tuple[str, ...],
    format: str,  # noqa: A002
) -> None:
    """Write the patch network that the map MAP was made from, with the map's weights.

    The weights of MAP may have been trained since convert wrote it; its graph must be the same. Each kernel becomes the
    dense weight in its own layout again.

    \b
    dense2conv restore map.onnx classifier.onnx
    """
    from ..convert.atomic import check_output
    from ..convert.mapped import source_files
    from ..convert.restoring import restore
    from ..convert.writing import write_model

    check_output(out, force=force, inputs=[source])
    check_reports(reports, force=force, inputs=[source, out])
    made = opened(source, {})
    check_output(out, force=force, inputs=[source, *source_files(made)])
    at_work_on(source)
    restored = restore(made)
    report = None if no_verify else _proof(restored, made, source)
    write_model(restored.model, out, force=force, inputs=[source])
    at_work_on("")
    rows = _rows(restored)
    document: dict[str, Any] = {
        "input": source,
        "output": out,
        "method": restored.metadata.method,
        "patch": list(restored.metadata.patch),
        "folded": list(restored.folded),
        "tensors": rows,
        "verify": None if report is None else report.to_json(),
    }
    write_reports(reports, document, rows, _COLUMNS, force=force, inputs=[source, out])
    show(format, document, [row | {"shape": "x".join(map(str, row["shape"]))} for row in rows], _COLUMNS)
    for name in restored.folded:
        say(f"{name} was computed from other tensors, and training moved it: it is a tensor of its own now")
    if report is None:
        say("not verified (--no-verify)")
    else:
        for check in report.checks:
            say(
                f"{check.name}: {'not checked' if check.verdict is None else check.verdict.value}: {check.text}"
            )
        say(f"verdict: {report.verdict.value}")
    say(f"wrote {out}: the network on patches of {options.with_axis_names(restored.metadata.patch)}")


def _proof(restored: "Restored", made: "Model", source: str) -> "Report":
    """The map against the network restored from it; ``NegativeAnswer`` unless it is that network's map."""
    from ..convert.compare import Verdict
    from ..convert.provenance import understood
    from ..convert.verification import verify

    patch = restored.metadata.patch
    with progress("restore") as begin:
        report = verify(
            restored.model,
            made,
            patch=patch,
            analysis=understood(restored.model, patch, restored.order),
            accept_border=True,
            progress=begin,
        )
    wrong = next((check for check in report.checks if check.verdict is Verdict.DIFFERENT), None)
    if not report.accepted:
        text = wrong.text if wrong is not None else report.verdict.value
        raise NegativeAnswer(
            f"nothing was written: the map is not proven to be that of the network restored from it: {text}",
            file=source,
            hint="--no-verify writes it all the same; training may have silenced units, which then prove nothing",
        )
    return report


def _rows(restored: "Restored") -> list[dict[str, Any]]:
    """Each tensor that came from the map, with what it was there."""
    from ..convert.recovered import array_of, stored_tensors

    stored = stored_tensors(restored.model)
    kernels = {rewrite.source: rewrite.target for rewrite in restored.metadata.rewrites}
    rows = []
    for name in restored.tensors:
        if name in stored:
            array = array_of(restored.model, stored[name], name)
            origin = kernels.get(name, name)
            rows.append(
                {"tensor": name, "shape": list(array.shape), "dtype": str(array.dtype), "came_from": origin}
            )
    return rows
