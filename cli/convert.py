"""``dense2conv convert``: a patch classifier becomes a map, proven before it appears."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..convert.errors import Dense2ConvError, NegativeAnswer, RequestError
from . import options
from .analysis import COLUMNS, analysis_document, cost_document, cost_line, costs, layer_rows, summary
from .guard import at_work_on, explain
from .networks import opened
from .output import VERBOSITY, check_reports, in_words, say, show, write_reports

if TYPE_CHECKING:
    from ..convert.conversion import Conversion
    from ..convert.evidence import Report
    from ..convert.model import Model


@click.command("convert")
@click.argument("files", metavar="IN... OUT", nargs=-1, required=True, type=click.Path())
@click.option("--output-dir", metavar="DIR", help="Write the map of each IN into DIR, under the name of IN.")
@options.network_options
@options.keras_options
@options.expected_option
@click.option("--stride", type=options.STRIDE, help="Input pixels between outputs: a multiple of the network's own S "
              "(the default), or patch (tiles without overlap).")  # fmt: skip
@click.option("--method", type=click.Choice(("conv", "patches", "exact")), default="conv", show_default=True,
              help="conv: dense layers become convolutions; patches: the graph cuts patches and runs the network on "
              "each, exact for every network; exact: conv where that is exact, else patches.")  # fmt: skip
@options.size_option
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Fix the batch; else it stays free.")
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
    method: str,
    strict: bool,
    dry_run: bool,
    force: bool,
    reports: tuple[str, ...],
    format: str,  # noqa: A002
    **request: Any,
) -> None:
    """Rewrite the patch classifier IN as one network OUT that scans any larger input.

    Says what became what and how exact the map is, and proves it by running both networks in ONNX Runtime, before
    OUT appears. An OUT that ends in .h5 or .keras is a Keras network again, where IN is one.

    \b
    dense2conv convert classifier.onnx map.onnx
    dense2conv convert classifier.h5 map.keras
    dense2conv convert *.onnx --output-dir maps
    """
    pairs = _pairs(files, output_dir, dry_run)
    if not dry_run:
        from ..convert.atomic import check_output

        for _, out in pairs:
            check_output(out, force=force, inputs=[source for source, _ in pairs])
    check_reports(reports, force=force, inputs=[name for pair in pairs for name in pair if name])
    documents, status = [], 0
    for source, out in pairs:
        try:
            document, failed = _one(source, out, method, strict, dry_run, force, format, **request)
            documents.append(document)
            status = max(status, failed)
        except Dense2ConvError as error:
            error.file = error.file or source
            if len(pairs) == 1:
                raise
            documents.append({"input": source, "error": error.message})
            status = max(status, explain(error))
    document = documents[0] if len(pairs) == 1 else {"models": documents}
    write_reports(reports, document, force=force, inputs=[name for pair in pairs for name in pair if name])
    if format == "json":
        show(format, document, (), ())
    click.get_current_context().exit(status)


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


def _one(
    source: str,
    out: str,
    method: str,
    strict: bool,
    dry_run: bool,
    force: bool,
    format: str,  # noqa: A002
    *,
    patch: tuple[int, ...] | None,
    order: str | None,
    keras: dict[str, Any],
    expected: str | None,
    stride: Any,
    size: tuple[int, ...] | None,
    batch: int | None,
    no_verify: bool,
    provider: str,
) -> tuple[dict[str, Any], int]:
    """Convert one file and print its result; return the result's JSON, and the exit status."""
    from ..convert.analysis import EXACT, audit
    from ..convert.atomic import check_output
    from ..convert.conversion import convert
    from ..convert.expected import read_expected
    from ..convert.mapped import source_files
    from ..convert.verification import verify
    from ..convert.writing import write_model

    model = opened(source, keras)
    at_work_on(source)
    if out and not dry_run:
        check_output(out, force=force, inputs=[source, *source_files(model)])
    if dry_run:
        # The patches method is exact for every network; that which is asked for as exact is, by one of the two.
        return show_audit(
            source, audit(model, patch, order), size, stride, format, strict and method == "conv"
        )
    conversion = convert(
        model, patch=patch, order=order, stride=stride, method=method, size=size, batch=batch
    )
    if strict and conversion.exactness != EXACT:
        raise _inexact(conversion, source)

    def prove(candidate: "Model") -> "Report":
        report = verify(
            model,
            candidate,
            patch=conversion.analysis.patch,
            stride=conversion.stride,
            analysis=conversion.analysis,
            provider=provider,
            accept_border=True,
            expected=None if expected is None else read_expected(expected),
        )
        if not report.accepted:
            failed = next(c for c in reversed(report.checks) if c.verdict is report.verdict)
            raise NegativeAnswer(
                f"the proof failed, nothing was written: {report.verdict.value}: {failed.name}: {failed.text}",
                file=source,
                hint=_why_the_proof_failed(conversion, report),
            )
        return report

    if _is_keras(out):
        from ..convert.keras.maps import write_keras_map

        report = write_keras_map(
            source,
            out,
            conversion,
            None if no_verify else prove,
            keras=keras,
            size=size,
            batch=batch,
            force=force,
        )
    else:
        report = None if no_verify else prove(conversion.map)
        write_model(conversion.map, out, force=force, inputs=[source])
    at_work_on("")
    document = _document(source, out, conversion, report)
    if format != "json":
        _show(source, out, conversion, report, format)
    return document, 0


def _is_keras(out: str) -> bool:
    """Whether the map is to be a Keras file, which its name says."""
    return out.lower().endswith((".h5", ".hdf5", ".keras"))


def _why_the_proof_failed(conversion: "Conversion", report: "Report") -> str:
    """What to make of a proof that failed."""
    if report.verdict.value != "different":
        return "outputs that never vary prove nothing; --no-verify writes the map without a proof"
    if conversion.method == "patches":
        return (
            "patches run side by side in one batch: if the network holds a batch of its own inside, for instance in a "
            "first state, export it with a free batch; else please report this, with the network"
        )
    return "if the network is fine, this is a bug in dense2conv: please report it with the network"


def _inexact(conversion: "Conversion", source: str) -> NegativeAnswer:
    names = ", ".join(conversion.analysis.border)
    return NegativeAnswer(
        f"not exact, and --strict asks for it: {conversion.exactness}: {names}",
        file=source,
        hint="--method exact runs the network on each patch instead",
    )


def _document(source: str, out: str, conversion: "Conversion", report: "Report | None") -> dict[str, Any]:
    document = analysis_document(conversion.analysis)
    document |= {
        "input": source,
        "output": out,
        "method": conversion.method,
        "exactness": conversion.exactness,
        "natural_stride": document["stride"],
        "stride": list(conversion.stride),
        "frozen_inputs": conversion.frozen,
        "verify": None if report is None else report.to_json(),
    }
    return document


def _show(source: str, out: str, conversion: "Conversion", report: "Report | None", format: str) -> None:  # noqa: A002
    """Print the layers, then what the map is and the proof of it."""
    analysis = conversion.analysis
    if conversion.method == "conv":
        every = click.get_current_context().meta.get(VERBOSITY, 0) > 0
        show(format, None, layer_rows(analysis, every=every), COLUMNS)
        for line in summary(analysis):
            say(line)
    else:
        say(
            f"patches of {in_words(analysis.patch)} without overlap, the network itself run on each: exact for every "
            "network, padded or not"
        )
    if conversion.frozen:
        say(f"weights that were inputs with a default are constants now: {', '.join(conversion.frozen)}")
    if report is None:
        say("not verified (--no-verify)")
    else:
        for check in report.checks:
            say(
                f"{check.name}: {'not checked' if check.verdict is None else check.verdict.value}: {check.text}"
            )
        say(
            f"verdict: {report.verdict.value.upper() if report.verdict.value != 'equivalent' else 'equivalent'}"
        )
    if conversion.exactness == "border effect":
        size = tuple(10 * p for p in analysis.patch)
        onnx = os.path.splitext(out)[0] + ".onnx" if _is_keras(out) else out  # noqa: PTH122 - kept as given
        say(f"exact instead: dense2conv convert {source} {onnx} --method exact --force")
        for cost in (
            analysis.cost(size, conversion.stride, "conv"),
            analysis.cost(size, analysis.patch, "patches"),
        ):
            say("  " + cost_line(cost, size))
    say(f"wrote {out}: one vector every {in_words(conversion.stride)} pixels, (input - {in_words(analysis.patch)}) // "
        f"{in_words(conversion.stride)} + 1 of them")  # fmt: skip


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
