"""``dense2conv shapes``: the layer table of a model, or of layers written as text."""

from typing import Any

import click

from ..shapecalc.table import document
from . import layer_table
from .options import force_option, format_option, report_option
from .output import say, show
from .reports import check_reports, write_reports
from .sources import WithNotation, network_of, source_options


@click.command("shapes", cls=WithNotation)
@source_options
@force_option
@report_option
@format_option
def command(
    source: str,
    given: str | None,
    size: tuple[int, ...] | None,
    batch: int | None,
    runtime: str,
    keras: dict[str, Any],
    force: bool,
    reports: tuple[str, ...],
    format: str,  # noqa: A002
) -> None:
    """Print a line a layer: window, output, neurons, parameters, MACs, receptive field.

    Neurons are the numbers of one sample's output; parameters all stored numbers, trained or not; MACs the
    multiply-adds of convolutions and matrix products, pads counted. field is how many pixels of the input one neuron
    sees on each axis, jump how many lie between neighbours, start the first pixel of neuron 0, negative in the pads.

    \b
    dense2conv shapes --input 64x64x3 "conv 4x4 8 same nobias, relu, maxpool 8x8/8 same, flatten, dense 6"
    dense2conv shapes classifier.onnx --size 224x224
    """
    check_reports(reports, force=force, inputs=[source])
    network = network_of(source, given, size, batch, runtime, keras)
    rows = layer_table.rows(network)
    result = document(network) if reports or format == "json" else None
    columns, foot = layer_table.columns(network), [layer_table.total(network)]
    write_reports(reports, result, [*rows, *foot], columns, force=force, inputs=[source])
    show(format, result, [*rows, *foot] if format in ("table", "markdown") else rows, columns)
    for node in network.nodes:
        for note in node.notes:
            say(f"{node.name}: {note}")
