"""``--rules`` of ``convert``: which there are, and what is said of a network with places in another form."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..convert.errors import NegativeAnswer, RequestError
from ..convert.rules import MATVEC_FORMS, RULES
from .options import Written
from .output import Column, say, show
from .proofs import say_proof

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


def checked_rules(given: Mapping[str, Any]) -> None:
    """Raise ``RequestError`` where the options ``given`` do not fit the rules."""
    rules = given["rules"]
    local = [rule for rule in rules if rule != DENSE]
    if local and DENSE in rules:
        raise RequestError(
            "the rule dense makes a map with another interface, the others keep the interface",
            hint=f"run convert twice, first with --rules {','.join(local)}",
        )
    if given["matvec"] is not None and "matvec" not in rules:
        raise RequestError("--matvec is an option of the rule matvec", hint="add --rules matvec")
    for name, default in _OF_MAPS.items():
        if local and given[name] != default:
            raise RequestError(f"--{name} is for maps, and --rules {','.join(rules)} makes none")


def require_places(result: "Rewriting", rules: Sequence[str], source: str) -> None:
    """Raise ``NegativeAnswer`` where the rules found no place to rewrite."""
    if not result.rewritten:
        raise NegativeAnswer(
            f"nothing to rewrite: no place fits {', '.join(rules)}",
            file=source,
            hint="; ".join(f"{place.name}: {place.reason}" for place in result.places[:3]),
        )


def places_document(
    source: str, out: str, rules: Sequence[str], result: "Rewriting", report: "Report | None"
) -> dict[str, Any]:
    """The JSON of a network with places rewritten."""
    return {
        "input": source,
        "output": out,
        "rules": list(rules),
        "layers": [place.to_json() for place in result.places],
        "frozen_inputs": result.frozen,
        "verify": None if report is None else report.to_json(),
    }


def show_places(result: "Rewriting", format: str) -> None:  # noqa: A002
    """Print what became of each place."""
    show(format, None, [place.to_json() for place in result.places], COLUMNS)


def show_rewriting(result: "Rewriting", report: "Report | None", out: str) -> None:
    """Print the proof, and what to know of a network with places rewritten."""
    say_proof(report)
    if result.frozen:
        say(f"weights that were inputs with a default are constants now: {', '.join(result.frozen)}")
    for rule in dict.fromkeys(place.rule for place in result.rewritten):
        if RULES[rule].caution:
            say(f"{rule}: {RULES[rule].caution}")
    count = len(result.rewritten)
    say(f"wrote {out}: {count} place{'s' if count != 1 else ''} rewritten, the interface as it was")
