"""``dense2conv calc``: one layer's arithmetic, with the formula spelled out, or solved for what is left open."""

from collections.abc import Callable, Sequence
from typing import Any

import click

from ..convert.errors import NegativeAnswer, RequestError
from ..shapecalc.errors import ShapeError
from ..shapecalc.notation import paddings, ranges, sizes
from ..shapecalc.runtimes import Padding, Sliding
from ..shapecalc.solve import LARGEST, UNKNOWNS, Answer, Axis, answer, solutions
from ..shapecalc.transposed import Enlarging
from .options import SPATIAL_AXES, Written, force_option, format_option, from_option, report_option
from .output import Column, say, show
from .reports import check_reports, write_reports
from .runtime import runtime_option

KINDS = ("conv", "maxpool", "avgpool", "lppool", "convtranspose")

_WINDOWS = (
    Column("axis"),
    Column("neuron"),
    Column("first", "first pixel"),
    Column("last", "last pixel"),
    Column("before", "pads before"),
    Column("after", "pads after"),
)
_SOLUTIONS = (Column("axis"), Column("unknown"), Column("answers"))

_OPEN = "?"


class _Numbers(Written):
    """What ``read`` makes of a text; ``?`` stays, to be solved for."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name, self.read = name, read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What was read; ``BadParameter`` for anything else."""
        if value == _OPEN or not isinstance(value, str):
            return value
        try:
            return self.read(value)
        except ShapeError as error:
            self.fail(error.message, param, ctx)


SIZES, NUMBERS = _Numbers("N|NxM", sizes), _Numbers("N|NxM|?", sizes)
PADDING = _Numbers("same|valid|N|N:M|?", paddings)


@click.command("calc")
@click.argument("kind", type=click.Choice(KINDS), metavar="|".join(KINDS))
@click.option("--input", "size", type=SIZES, required=True, help="Elements on each axis: 64, 64x48.")
@click.option("--kernel", type=NUMBERS, help="The kernel's size.")
@click.option("--stride", type=NUMBERS, help="Default 1; of a pool, the kernel.")
@click.option("--padding", type=PADDING, help="same, same_lower, valid (the default), causal, full; or pads: 1, 1x2, "
              "0:1 (before:after).")  # fmt: skip
@click.option("--dilation", type=NUMBERS, help="Default 1.")
@click.option("--output-padding", type=SIZES, help="Of a convtranspose; default 0.")
@click.option("--ceil", is_flag=True, help="A pool that rounds up.")
@click.option("--output", type=SIZES, help="The output that is wanted: solves for what is ?, or left out.")
@click.option("--up-to", type=click.IntRange(1, 4096), default=LARGEST, show_default=True, metavar="N",
              help="The largest number that is tried.")  # fmt: skip
@from_option
@runtime_option
@force_option
@report_option
@format_option
def command(
    kind: str,
    size: Any,
    output: Any,
    up_to: int,
    count_from: int,
    runtime: str,
    force: bool,
    reports: tuple[str, ...],
    format: str,  # noqa: A002
    **request: Any,
) -> None:
    """Work out one layer: its output, and which pixels its first, second and last neuron read.

    With --output, and one of kernel, stride, padding and dilation written as ? (or one of the first three left out),
    lists all numbers that lead there; exits with 1 if there is none.

    \b
    dense2conv calc conv --input 64 --kernel 4 --stride 1 --padding same
    dense2conv calc conv --input 64 --output 32 --kernel 4 --stride 2
    """
    if _OPEN in (size, output):
        raise RequestError(
            "--input and --output are numbers", hint="write ? for kernel, stride, padding or dilation"
        )
    check_reports(reports, force=force)
    unknown = _unknown(request, output)
    axes = [_axis(kind, request, unknown, i, len(size)) for i in range(len(size))]
    names = SPATIAL_AXES.get(len(size)) or [str(i) for i in range(len(size))]
    wanted = () if output is None else _each(output, len(size), "--output")
    document: dict[str, Any] = {"kind": kind, "input": list(size), "runtime": runtime}
    if unknown:
        tied = kind.endswith("pool") and request["stride"] is None
        solved = [
            solutions(axis, unknown, n, m, runtime, largest=up_to, tied=tied)
            for axis, n, m in zip(axes, size, wanted, strict=True)
        ]
        document |= {"output": list(wanted), "unknown": unknown, "up_to": up_to, "solutions": solved}
        rows = [
            {"axis": name, "unknown": unknown, "answers": _in_short(several)}
            for name, several in zip(names, solved, strict=True)
        ]
        columns: Sequence[Column] = _SOLUTIONS
    else:
        answers = [answer(axis, n, runtime) for axis, n in zip(axes, size, strict=True)]
        document |= {
            "output": [a.output for a in answers],
            "axes": [_document(a, count_from) for a in answers],
        }
        for name, a in zip(names, answers, strict=True):
            line = f"{name}: output = {a.formula}"
            if format == "table":
                click.echo(line)
            else:
                say(line)
        rows = [row for name, a in zip(names, answers, strict=True) for row in _rows(name, a, count_from)]
        columns = _WINDOWS
    show(format, document, rows, columns)
    write_reports(reports, document, rows, columns, force=force)
    _judge(document, names, wanted)


def _judge(document: dict[str, Any], names: Sequence[str], wanted: Sequence[int]) -> None:
    """Raise ``NegativeAnswer`` where nothing leads to the output that is wanted."""
    if "unknown" in document:
        for name, several, n, m in zip(names, document["solutions"], document["input"], wanted, strict=True):
            if not several:
                raise NegativeAnswer(
                    f"no {document['unknown']} up to {document['up_to']} leads from {n} to {m} on axis {name}",
                    hint="leave another number open, or try more with --up-to",
                )
    elif wanted and document["output"] != list(wanted):
        raise NegativeAnswer(f"the output is {document['output']}, not {list(wanted)}")


def _in_short(several: list[dict[str, int]]) -> str:
    """Numbers as ranges; pads as one number where both sides are alike, else as before:after."""
    if not several:
        return "none"
    if "before" not in several[0]:
        return ranges([number for fields in several for number in fields.values()])
    if several[0]["before"] == several[0]["after"]:
        return ranges([fields["before"] for fields in several])
    return ", ".join(f"{fields['before']}:{fields['after']}" for fields in several)


def _each(numbers: tuple[Any, ...], rank: int, name: str) -> tuple[Any, ...]:
    if len(numbers) not in (1, rank):
        raise RequestError(f"{name} has {len(numbers)} numbers, --input {rank}")
    return numbers * rank if len(numbers) == 1 else numbers


def _unknown(request: dict[str, Any], output: Any) -> str:
    """What is to be solved for: what is written as ?, else the one that is left out; "" for nothing."""
    marked = [name for name in UNKNOWNS if request[name] == _OPEN]
    if len(marked) > 1:
        raise RequestError(f"one unknown can be solved for, not {len(marked)}: {', '.join(marked)}")
    if marked and output is None:
        raise RequestError(f"to solve for the {marked[0]} the output must be known", hint="say --output")
    if marked or output is None:
        return marked[0] if marked else ""
    left = [name for name in ("kernel", "stride", "padding") if request[name] is None]
    if len(left) > 1:
        raise RequestError(
            f"one unknown can be solved for, but {' and '.join(left)} are left open",
            hint=f"write one of them as ?, for instance --{left[0]} {_OPEN}, or say the others",
        )
    return left[0] if left else ""


def _axis(kind: str, request: dict[str, Any], unknown: str, index: int, rank: int) -> Axis:
    """The layer on one axis, with 1 for what is not known yet."""

    def one(name: str, default: Any) -> Any:
        value = request[name]
        if value is None or value == _OPEN:
            return default
        return _each(value, rank, f"--{name.replace('_', '-')}")[index]

    kernel = one("kernel", 1 if unknown == "kernel" else None)
    pooling = kind.endswith("pool")
    if kernel is None:
        raise RequestError("a layer needs its --kernel")
    if request["ceil"] and not pooling:
        raise RequestError(f"a {kind} does not round up: --ceil is for pools")
    if request["output_padding"] is not None and kind != "convtranspose":
        raise RequestError(f"a {kind} has no output padding: it is for convtranspose")
    sliding = Sliding(
        kind if pooling else "conv",
        kernel,
        one("stride", kernel if pooling else 1),
        one("dilation", 1),
        one("padding", Padding()),
        request["ceil"],
    )
    return Enlarging(sliding, one("output_padding", 0)) if kind == "convtranspose" else sliding


def _rows(name: str, found: Answer, count_from: int) -> list[dict[str, Any]]:
    rows = []
    for seen in found.seen:
        row: dict[str, Any] = {"axis": name, "neuron": seen.neuron + count_from}
        row |= dict.fromkeys(("first", "last", "before", "after"))
        if seen.first is not None and seen.last is not None:
            length = seen.last - seen.first + 1
            row |= {
                "first": seen.first + count_from,
                "last": seen.last + count_from,
                "before": min(max(-seen.first, 0), length),
                "after": min(max(seen.last - found.size + 1, 0), length),
            }
        rows.append(row)
    return rows


def _document(found: Answer, count_from: int) -> dict[str, Any]:
    window = found.window
    return {
        "kernel": window.kernel,
        "stride": window.stride,
        "dilation": window.dilation,
        "padding": [window.before, window.after],
        "output": found.output,
        "formula": found.formula,
        "windows": [{k: v for k, v in row.items() if k != "axis"} for row in _rows("", found, count_from)],
    }
