"""``dense2conv audit``: what a conversion would do, and how exact it would be, without writing."""

from typing import Any

import click

from . import options
from .analysis import COLUMNS, analysis_document, cost_document, cost_line, costs, layer_rows, summary
from .guard import at_work_on
from .networks import opened
from .output import say, show
from .reports import check_reports, write_reports


@click.command("audit")
@click.argument("source", metavar="IN", type=click.Path())
@options.network_options
@options.keras_options
@click.option("--stride", type=options.STRIDE, help="The map's stride, for the costs at --size.")
@options.size_option
@click.option("--strict", is_flag=True, help="Exit with 1 unless the map would be exact.")
@options.force_option
@options.report_option
@options.format_option
def command(
    source: str,
    patch: tuple[int, ...] | None,
    order: str | None,
    keras: dict[str, Any],
    stride: Any,
    size: tuple[int, ...] | None,
    strict: bool,
    force: bool,
    reports: tuple[str, ...],
    format: str,  # noqa: A002
) -> None:
    """Say of every layer of IN what would become of it, how exact the map would be, and what it would cost."""
    from ..convert.analysis import audit

    check_reports(reports, force=force, inputs=[source])
    model = opened(source, keras)
    at_work_on(source)
    analysis = audit(model, patch, order)
    at_work_on("")
    document, status = show_audit(source, analysis, size, stride, format, strict)
    rows = layer_rows(analysis, every=True)
    write_reports(reports, document, rows, COLUMNS, force=force, inputs=[source])
    if format == "json":
        show(format, document, (), ())
    click.get_current_context().exit(status)


def show_audit(
    source: str,
    analysis: Any,
    size: tuple[int, ...] | None,
    stride: Any,
    format: str,  # noqa: A002
    strict: bool,
) -> tuple[dict[str, Any], int]:
    """Print an audit; return its JSON, and the exit status: 1 under ``strict`` unless exact."""
    from ..convert.conversion import checked_size, resolved_stride

    document = analysis_document(analysis) | {"input": source}
    found = []
    if size is not None:
        checked_size(analysis, size)
        found = costs(analysis, size, resolved_stride(analysis, stride, "conv"))
        document["size"], document["costs"] = list(size), [cost_document(cost) for cost in found]
    if format != "json":
        show(format, None, layer_rows(analysis, every=True), COLUMNS)
        for line in summary(analysis):
            say(line)
        for cost in found:
            say(cost_line(cost, size or ()))
        if analysis.exactness != "exact":
            say(f"exact instead: dense2conv convert {source} OUT.onnx --method exact")
    return document, int(strict and analysis.exactness_on(size) != "exact")
