"""``dense2conv convert``: a patch classifier becomes a map, proven before it appears."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..convert.errors import Dense2ConvError, RequestError
from . import options
from .asked import Asked
from .gates import report_models
from .guard import account, explain
from .making import make
from .output import show
from .reports import check_reports
from .rules import checked_rules, rules_options


@click.command("convert")
@click.argument("files", metavar="IN... OUT", nargs=-1, required=True, type=click.Path())
@click.option("--output-dir", metavar="DIR", help="Write the map of each IN into DIR, under the name of IN.")
@options.network_options
@options.keras_options
@options.expected_option
@click.option("--stride", type=options.STRIDE, help="Input pixels between outputs, any positive number (the default "
              "is the network's own S), or patch (tiles without overlap).")  # fmt: skip
@click.option("--method", type=click.Choice(("conv", "patches", "exact")), default="conv", show_default=True,
              help="conv: dense layers become convolutions; patches: the graph cuts patches and runs the network on "
              "each, exact for every network and stride; exact: conv where that is exact, else patches.")  # fmt: skip
@options.size_option
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Fix the batch; else it stays free.")
@rules_options
@click.option("--strict", is_flag=True, help="Write nothing, and exit with 1, unless the map is exact.")
@click.option("--no-verify", is_flag=True, help="Write without the proof.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done, and write nothing (as audit).")
@options.provider_option
@options.force_option
@options.report_option
@options.format_option
def command(
    files: tuple[str, ...],
    output_dir: str | None,
    force: bool,
    reports: tuple[str, ...],
    format: str,  # noqa: A002
    **given: Any,
) -> None:
    """Rewrite the patch classifier IN as one network OUT that scans any larger input.

    Says what became what and how exact the map is, and proves it by running both networks in ONNX Runtime, before
    OUT appears. An OUT that ends in .h5 or .keras is a Keras network again, where IN is one.

    With --rules other than dense the interface stays, and places inside are rewritten.

    \b
    dense2conv convert classifier.onnx map.onnx
    dense2conv convert classifier.h5 map.keras
    dense2conv convert *.onnx --output-dir maps
    dense2conv convert capsules.onnx fast.onnx --rules matvec --matvec fastest
    """
    checked_rules(given)
    asked = Asked(force=force, format=format, reported=bool(reports), **given)
    pairs = _pairs(files, output_dir, asked.dry_run)
    if not asked.dry_run:
        from ..convert.atomic import check_output

        for _, out in pairs:
            check_output(out, force=force, inputs=[source for source, _ in pairs])
    names = [name for pair in pairs for name in pair if name]
    check_reports(reports, force=force, inputs=names, checks=True)
    documents: list[dict[str, Any]] = []
    status, fatal = 0, None
    for source, out in pairs:
        try:
            document, failed = make(source, out, asked)
            documents.append(document)
            status = max(status, failed)
        except Dense2ConvError as error:
            error.file = error.file or source
            if len(pairs) == 1 and isinstance(error, RequestError):
                raise
            failed = account(error)[0]
            failure = {"input": source, "error": error.message, "status": failed}
            proof = getattr(error, "report", None)
            documents.append(failure if proof is None else failure | {"verify": proof.to_json()})
            status, fatal = max(status, failed), error
            if len(pairs) > 1:
                explain(error)
    document = documents[0] if len(pairs) == 1 else {"models": documents}
    # Also of what failed: those are the reports that are read.
    report_models(
        "convert", reports, document, {d["input"]: _verified(d) for d in documents}, status,
        force=force, inputs=names,
    )  # fmt: skip
    if len(pairs) == 1 and fatal is not None:
        raise fatal
    if format == "json":
        show(format, document, (), ())
    click.get_current_context().exit(status)


def _verified(document: dict[str, Any]) -> dict[str, Any]:
    """What a report shows of one model: its proof, failed or not, or the error."""
    return document.get("verify") or {key: document[key] for key in ("error", "status") if key in document}


def _pairs(files: Sequence[str], output_dir: str | None, dry_run: bool) -> list[tuple[str, str]]:
    """Return each input with its output ("" where nothing is written)."""
    if output_dir is not None:
        if not Path(output_dir).is_dir():
            raise RequestError(f"there is no directory {output_dir!r}", hint="make it first: mkdir -p")
        pairs = [(name, os.path.join(output_dir, Path(name).name)) for name in files]  # noqa: PTH118 - kept as given
        outs = [out for _, out in pairs]
        if len(set(outs)) < len(outs):
            twice = next(out for out in outs if outs.count(out) > 1)
            raise RequestError(
                f"two inputs would both be written to {twice!r}", hint="convert them one by one"
            )
        return pairs
    if dry_run and len(files) == 1:
        return [(files[0], "")]
    if len(files) != 2:
        raise RequestError(
            f"convert takes IN and OUT, got {len(files)} file{'s' if len(files) != 1 else ''}",
            hint="dense2conv convert IN.onnx OUT.onnx, or several INs with --output-dir DIR",
        )
    return [(files[0], files[1])]
