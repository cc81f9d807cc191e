"""``--runtime``: whose rules for pads and sizes count, where they differ."""

import click

from ..shapecalc.runtimes import DEFAULT_RUNTIME, RUNTIMES

runtime_option = click.option(
    "--runtime",
    type=click.Choice(list(RUNTIMES)),
    default=DEFAULT_RUNTIME,
    show_default=True,
    help="Whose rules for pads and sizes, where they differ.",
)
