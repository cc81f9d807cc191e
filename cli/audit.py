"""``dense2conv audit``: what a conversion would do, and how exact it would be, without writing."""

from typing import Any

import click

from . import options
from .convert import show_audit
from .guard import at_work_on
from .networks import opened
from .output import check_reports, show, write_reports


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
    write_reports(reports, document, force=force, inputs=[source])
    if format == "json":
        show(format, document, (), ())
    click.get_current_context().exit(status)
