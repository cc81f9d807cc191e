"""``--rules`` of ``convert``: places inside a network in another form, its interface kept, and the proof of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..convert.errors import NegativeAnswer, RequestError
from ..convert.rules import MATVEC_FORMS, RULES
from .guard import at_work_on
from .networks import opened
from .options import Written
from .output import Column, say, show
from .progress import progress
from .proofs import ProofFailedError

if TYPE_CHECKING:
    from ..convert.evidence import Report
    from ..convert.rules.rewriting import Rewriting

Command = TypeVar("Command", bound=Callable[..., Any])

COLUMNS = (Column("name", "layer"), Column("operator"), Column("rule"), Column("action"), Column("reason"))
DENSE = "dense"
_OF_MAPS = {"stride": None, "method": "conv", "size": None, "strict": False, "order": None, "expected": None}


class RulesType(Written):
    """Names of rules with commas between: a tuple."""

    name = "RULE,.."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The names; ``BadParameter`` for one that is none."""
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
        for name in names:
            if name not in (DENSE, *RULES):
                self.fail(f"there is no rule {name!r}: {', '.join((DENSE, *RULES))}", param, ctx)
        return names


def rules_options(command: Command) -> Command:
    """``--rules`` and ``--matvec``."""
    rules = click.option(
        "--rules", type=RulesType(), default=DENSE, show_default=True,
        help=f"dense: make a map; else rewrite places inside and keep the interface: {', '.join(RULES)}.",
    )  # fmt: skip
    matvec = click.option(
        "--matvec", type=click.Choice(MATVEC_FORMS),
        help="The form of small products (default matmul); fastest: times them on this machine, at --batch.",
    )  # fmt: skip
    return rules(matvec(command))


def checked_rules(rules: Sequence[str], matvec: str | None, request: Mapping[str, Any]) -> bool:
    """Whether the rules keep the interface; ``RequestError`` where the options do not fit them."""
    local = [rule for rule in rules if rule != DENSE]
    if local and DENSE in rules:
        raise RequestError(
            "the rule dense makes a map with another interface, the others keep the interface",
            hint=f"run convert twice, first with --rules {','.join(local)}",
        )
    if matvec is not None and "matvec" not in rules:
        raise RequestError("--matvec is an option of the rule matvec", hint="add --rules matvec")
    for name, default in _OF_MAPS.items():
        if local and request[name] != default:
            raise RequestError(f"--{name} is for maps, and --rules {','.join(rules)} makes none")
    return bool(local)


def rewritten(
    source: str,
    out: str,
    rules: Sequence[str],
    matvec: str | None,
    dry_run: bool,
    force: bool,
    format: str,  # noqa: A002
    reported: bool,
    *,
    patch: tuple[int, ...] | None,
    keras: dict[str, Any],
    batch: int | None,
    no_verify: bool,
    provider: str,
    **_: Any,
) -> tuple[dict[str, Any], int]:
    """Rewrite one file and print its result; return the result's JSON, and the exit status."""
    from ..convert.atomic import check_output
    from ..convert.mapped import source_files
    from ..convert.opening import open_model
    from ..convert.provenance import hashes
    from ..convert.rules.request import Request
    from ..convert.rules.rewriting import apply_rules
    from ..convert.verification import verify
    from ..convert.writing import write_model

    if out.lower().endswith((".h5", ".hdf5", ".keras")):
        raise RequestError("rules other than dense write ONNX files", file=out, hint="name OUT .onnx")
    model = opened(source, keras)
    at_work_on(source)
    if out and not dry_run:
        check_output(out, force=force, inputs=[source, *source_files(model)])
    result = apply_rules(model, rules, Request(matvec or MATVEC_FORMS[0], batch))
    report = None
    if result.rewritten and not dry_run:
        if not no_verify:
            with progress("convert") as begin:
                report = verify(model, result.model, patch=patch, provider=provider, progress=begin)
            _require(report, source)
        write_model(result.model, out, force=force, inputs=[source])
        if report is not None and (reported or format == "json"):
            files = {"reference": hashes(model, keras["config"]), "candidate": hashes(open_model(out))}
            report = replace(report, files=files)
    at_work_on("")
    if format != "json":
        _show(result, report, "" if dry_run else out, format)
    if not result.rewritten:
        raise NegativeAnswer(
            f"nothing to rewrite: no place fits {', '.join(rules)}",
            file=source,
            hint="; ".join(f"{place.name}: {place.reason}" for place in result.places[:3]),
        )
    document = {
        "input": source,
        "output": out,
        "rules": list(rules),
        "layers": [place.to_json() for place in result.places],
        "frozen_inputs": result.frozen,
        "verify": None if report is None else report.to_json(),
    }
    return document, 0


def _require(report: "Report", source: str) -> None:
    """Raise ``ProofFailedError`` unless both networks are the same."""
    if report.accepted:
        return
    ruling = [check for check in report.checks if check.verdict is report.verdict] or report.checks
    raise ProofFailedError(
        report,
        f"the proof failed, nothing was written: {report.verdict.value}: {ruling[-1].name}: {ruling[-1].text}",
        file=source,
        hint="if the network is fine, this is a bug in dense2conv: please report it with the network"
        if report.verdict.value == "different"
        else "outputs that never vary prove nothing; --no-verify writes the network without a proof",
    )


def _show(result: "Rewriting", report: "Report | None", out: str, format: str) -> None:  # noqa: A002
    """Print the places, then the proof."""
    show(format, None, [place.to_json() for place in result.places], COLUMNS)
    if not out or not result.rewritten:
        return
    if report is None:
        say("not verified (--no-verify)")
    else:
        for check in report.checks:
            verdict = "not checked" if check.verdict is None else check.verdict.value
            say(f"{check.name}: {verdict}: {check.text}")
        say(f"verdict: {report.verdict.value}")
    if result.frozen:
        say(f"weights that were inputs with a default are constants now: {', '.join(result.frozen)}")
    for rule in dict.fromkeys(place.rule for place in result.rewritten):
        if RULES[rule].caution:
            say(f"{rule}: {RULES[rule].caution}")
    count = len(result.rewritten)
    say(f"wrote {out}: {count} place{'s' if count != 1 else ''} rewritten, the interface as it was")
