"""One network made into another by ``convert``: opened, rewritten, proven, written, and what is said of it."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..convert.errors import RequestError
from ..convert.rules import MATVEC_FORMS
from .asked import Asked
from .audit import show_audit
from .guard import at_work_on
from .maps import is_keras, map_document, show_map
from .networks import opened
from .progress import progress
from .proofs import inexact, require
from .rules import places_document, require_places, show_places, show_rewriting

if TYPE_CHECKING:
    from ..convert.conversion import Conversion
    from ..convert.evidence import Report
    from ..convert.model import Model


def make(source: str, out: str, asked: Asked) -> tuple[dict[str, Any], int]:
    """Convert one file and print its result; return the result's JSON, and the exit status."""
    from ..convert.atomic import check_output
    from ..convert.mapped import source_files

    if asked.local and is_keras(out):
        raise RequestError("rules other than dense write ONNX files", file=out, hint="name OUT .onnx")
    model = opened(source, asked.keras)
    at_work_on(source)
    if not asked.dry_run:
        check_output(out, force=asked.force, inputs=[source, *source_files(model)])
    return _rewritten(source, out, model, asked) if asked.local else _map(source, out, model, asked)


def _map(source: str, out: str, model: "Model", asked: Asked) -> tuple[dict[str, Any], int]:
    from ..convert.analysis import EXACT, audit
    from ..convert.conversion import convert

    if asked.dry_run:
        # The patches method is exact for every network; that which is asked for as exact is, by one of the two.
        analysis = audit(model, asked.patch, asked.order)
        strict = asked.strict and asked.method == "conv"
        return show_audit(source, analysis, asked.size, asked.stride, asked.format, strict)
    conversion = convert(
        model, patch=asked.patch, order=asked.order, stride=asked.stride, method=asked.method, size=asked.size,
        batch=asked.batch,
    )  # fmt: skip
    if asked.strict and conversion.exactness != EXACT:
        raise inexact(conversion, source)
    report = _written(source, out, conversion, asked)
    at_work_on("")
    if asked.format != "json":
        show_map(source, out, conversion, report, asked)
    return map_document(source, out, conversion, report, asked), 0


def _written(source: str, out: str, conversion: "Conversion", asked: Asked) -> "Report | None":
    """Prove a map and write it, in that order; the proof."""
    from ..convert.writing import write_model

    def prove(candidate: "Model") -> "Report":
        report = _proof(
            conversion.source, candidate, asked, patch=conversion.analysis.patch, stride=conversion.stride,
            analysis=conversion.analysis, accept_border=True,
        )  # fmt: skip
        require(report, source, conversion)
        return report

    if is_keras(out):
        from ..convert.keras.scanning.maps import write_keras_map

        report = write_keras_map(
            source, out, conversion, None if asked.no_verify else prove, keras=asked.keras, size=asked.size,
            batch=asked.batch, force=asked.force,
        )  # fmt: skip
    else:
        report = None if asked.no_verify else prove(conversion.map)
        write_model(conversion.map, out, force=asked.force, inputs=[source])
    return _with_files(report, conversion.source, out, asked)


def _rewritten(source: str, out: str, model: "Model", asked: Asked) -> tuple[dict[str, Any], int]:
    from ..convert.rules.request import Request
    from ..convert.rules.rewriting import apply_rules
    from ..convert.writing import write_model

    result = apply_rules(model, asked.local, Request(asked.matvec or MATVEC_FORMS[0], asked.batch))
    report = None
    written = bool(result.rewritten) and not asked.dry_run
    if written:
        if not asked.no_verify:
            report = _proof(model, result.model, asked, patch=asked.patch)
            require(report, source)
        write_model(result.model, out, force=asked.force, inputs=[source])
        report = _with_files(report, model, out, asked)
    at_work_on("")
    if asked.format != "json":
        show_places(result, asked.format)
        if written:
            show_rewriting(result, report, out)
    require_places(result, asked.local, source)
    return places_document(source, out, asked.local, result, report), 0


def _proof(reference: "Model", candidate: "Model", asked: Asked, **rest: Any) -> "Report":
    from ..convert.expected import read_expected
    from ..convert.verification import verify

    expected = None if asked.expected is None else read_expected(asked.expected)
    with progress("convert") as begin:
        return verify(
            reference, candidate, provider=asked.provider, expected=expected, progress=begin, **rest
        )


def _with_files(report: "Report | None", reference: "Model", out: str, asked: Asked) -> "Report | None":
    """The proof with the hashes of the files, where somebody reads them."""
    from ..convert.opening import open_model
    from ..convert.provenance import hashes, sha256

    if report is None or not (asked.reported or asked.format == "json"):
        return report
    candidate = {out: sha256(out)} if is_keras(out) else hashes(open_model(out))
    return replace(
        report, files={"reference": hashes(reference, asked.keras["config"]), "candidate": candidate}
    )
