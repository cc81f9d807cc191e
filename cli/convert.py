"""``dense2conv convert``: a patch classifier becomes a map, proven before it appears."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..convert.errors import Dense2ConvError, RequestError
from . import options
from .analysis import COLUMNS, analysis_document, cost_documents, cost_line, layer_rows, other_method, summary
from .audit import show_audit
from .gates import report_models
from .guard import account, at_work_on, explain
from .networks import opened
from .output import VERBOSITY, in_words, say, show
from .progress import progress
from .proofs import inexact, require
from .reports import check_reports
from .rules import checked_rules, rewritten, rules_options

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
    method: str,
    strict: bool,
    dry_run: bool,
    force: bool,
    reports: tuple[str, ...],
    rules: tuple[str, ...],
    matvec: str | None,
    format: str,  # noqa: A002
    **request: Any,
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
    local = checked_rules(rules, matvec, {**request, "method": method, "strict": strict})
    pairs = _pairs(files, output_dir, dry_run)
    if not dry_run:
        from ..convert.atomic import check_output

        for _, out in pairs:
            check_output(out, force=force, inputs=[source for source, _ in pairs])
    names = [name for pair in pairs for name in pair if name]
    check_reports(reports, force=force, inputs=names, checks=True)
    documents: list[dict[str, Any]] = []
    status, fatal = 0, None
    for source, out in pairs:
        try:
            document, failed = (
                rewritten(source, out, rules, matvec, dry_run, force, format, bool(reports), **request)
                if local
                else _one(source, out, method, strict, dry_run, force, format, bool(reports), **request)
            )
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


def _one(
    source: str,
    out: str,
    method: str,
    strict: bool,
    dry_run: bool,
    force: bool,
    format: str,  # noqa: A002
    reported: bool,
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
    from ..convert.opening import open_model
    from ..convert.provenance import hashes, sha256
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
        raise inexact(conversion, source)

    def prove(candidate: "Model") -> "Report":
        with progress("convert") as begin:
            report = verify(
                model,
                candidate,
                patch=conversion.analysis.patch,
                stride=conversion.stride,
                analysis=conversion.analysis,
                provider=provider,
                accept_border=True,
                expected=None if expected is None else read_expected(expected),
                progress=begin,
            )
        require(report, conversion, source)
        return report

    if _is_keras(out):
        from ..convert.keras.scanning.maps import write_keras_map

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
    if report is not None and (reported or format == "json"):
        written = {out: sha256(out)} if _is_keras(out) else hashes(open_model(out))
        report = replace(report, files={"reference": hashes(model, keras["config"]), "candidate": written})
    at_work_on("")
    document = _document(source, out, conversion, report)
    if method == "exact":
        seen = size or tuple(10 * p for p in conversion.analysis.patch)
        document |= cost_documents(conversion.analysis, seen, conversion.stride)
    if format != "json":
        _show(source, out, conversion, report, format, asked=method, size=size)
    return document, 0


def _is_keras(out: str) -> bool:
    """Whether the map is to be a Keras file, which its name says."""
    return out.lower().endswith((".h5", ".hdf5", ".keras"))


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


def _show(
    source: str,
    out: str,
    conversion: "Conversion",
    report: "Report | None",
    format: str,  # noqa: A002
    *,
    asked: str,
    size: tuple[int, ...] | None,
) -> None:
    """Print the layers, then what the map is and the proof of it. ``asked``: the method that was asked for."""
    analysis = conversion.analysis
    if conversion.method == "conv":
        every = click.get_current_context().meta.get(VERBOSITY, 0) > 0
        show(format, None, layer_rows(analysis, every=every), COLUMNS)
        for line in summary(analysis):
            say(line)
    else:
        say(
            f"patches of {in_words(analysis.patch)}, one every {in_words(conversion.stride)} pixels, and the network "
            "itself run on each: exact for every network, padded or not"
        )
    if asked == "exact":
        for line in other_method(conversion, size or tuple(10 * p for p in analysis.patch)):
            say(line)
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
        size = size or tuple(10 * p for p in analysis.patch)
        onnx = os.path.splitext(out)[0] + ".onnx" if _is_keras(out) else out  # noqa: PTH122 - kept as given
        say(f"exact instead: dense2conv convert {source} {onnx} --method exact --force")
        for cost in (
            analysis.cost(size, conversion.stride, "conv"),
            analysis.cost(size, conversion.stride, "patches"),
        ):
            say("  " + cost_line(cost, size))
    say(f"wrote {out}: one vector every {in_words(conversion.stride)} pixels, (input - {in_words(analysis.patch)}) // "
        f"{in_words(conversion.stride)} + 1 of them")  # fmt: skip
