"""What ``shapes`` and ``locate`` look at: a model file, a text file of layers, or layers on the command line."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..shapecalc.errors import ShapeError
from ..shapecalc.kinds import KINDS
from . import options
from .guard import at_work_on
from .networks import opened
from .runtime import runtime_option

if TYPE_CHECKING:
    from ..shapecalc.network import Network

Command = TypeVar("Command", bound=Callable[..., Any])

_TEXT = 1 << 20  # a file of layers is not larger


def source_options(command: Command) -> Command:
    """``SOURCE``, and what it may leave open."""
    decorators = (
        click.argument("source", metavar="MODEL|LAYERS"),
        click.option(
            "--input", "given", metavar="HxWxC", help="What the first of the LAYERS reads, channels last."
        ),
        click.option(
            "--size", type=options.SIZE, help="The size of a model's free axes: HxW, L, DxHxW or H=..,W=.."
        ),
        click.option("--batch", type=click.IntRange(1), metavar="N", help="The batch that a model needs."),
        options.keras_options,
        runtime_option,
    )
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


class WithNotation(click.Command):
    """A command whose ``--help`` ends with the grammar of LAYERS, which is read only then."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the grammar."""
        self.epilog = notation()
        super().format_epilog(ctx, formatter)


def notation() -> str:
    """The grammar of LAYERS, for ``--help``: made of the tables that read it."""
    from ..shapecalc.chain import FLAGS, NUMBERS

    rows: dict[str, list[str]] = {}
    for name, kind in KINDS.items():
        rows.setdefault(f"{' '.join(kind.numbers)}|{kind.says}", []).append(name)
    lines = [
        "\b",
        "LAYERS: [LABEL:] KIND [WORDS] [from LABEL ...], with commas or line ends between the layers.",
    ]
    for key, names in rows.items():
        numbers, says = key.split("|")
        lines.append(f"  {' '.join(names)}{' ' if numbers else ''}{numbers.upper()}: {says}")
    lines.append(f"  WORDS: {' '.join(FLAGS)}")
    lines.append(f"  with a number: {' '.join(NUMBERS)}")
    lines.append("  4x4/2 is a kernel and its stride; pads are 1, 1x2 (an axis each) or 0:1 (before:after).")
    lines.append("  A layer is named by its label, or as conv1, conv2, relu1; # starts a comment.")
    return "\n".join(lines)


def network_of(
    source: str,
    given: str | None,
    size: Sequence[int] | None,
    batch: int | None,
    runtime: str,
    keras: Mapping[str, Any],
) -> "Network":
    """The network that the command line names.

    Raises ``ShapeError`` for layers that cannot be, ``RequestError`` for a request that makes no sense, ``FileError``
    for a broken file.
    """
    from ..shapecalc.chain import input_value, with_input

    value = None if given is None else input_value(given)
    if not os.path.isfile(source):  # noqa: PTH113 - nothing else is needed of it
        if _is_layers(source):
            _only_for_models(size, batch)
            return with_input(source, value, runtime)
        from ..convert.opening import open_model  # says what is wrong with the file

        open_model(source)
    text = _text(source, given)
    if text is not None:
        _only_for_models(size, batch)
        try:
            return with_input(text, value, runtime)
        except ShapeError as error:
            from ..convert.errors import FileError

            raise FileError(str(error), file=source, hint=error.hint) from error
    if given is not None:
        raise ShapeError("--input is for LAYERS; a model says its own", hint="say --size for its free axes")
    from ..convert.shapes import network_of as of_model

    model = opened(source, keras)
    at_work_on(source)
    network = of_model(model, size=size, batch=batch, runtime=runtime)
    at_work_on("")
    return network


def _is_layers(source: str) -> bool:
    if source.lower().endswith((".onnx", ".txt", ".h5", ".hdf5", ".keras")):
        return False  # a path with a blank in it, and no such file
    words = source.replace(",", " ").split()
    return len(words) > 1 or (bool(words) and words[0].lower() in KINDS)


def _only_for_models(size: Sequence[int] | None, batch: int | None) -> None:
    for option, value in (("--size", size), ("--batch", batch)):
        if value is not None:
            raise ShapeError(
                f"{option} is for a model's free axes; LAYERS have none",
                hint="their input is said by --input",
            )


def _text(path: str, given: str | None) -> str | None:
    """A file's text, if it is one of layers: its name or ``--input`` says so, or it begins with a kind.

    What is written by hand holds no control characters; ONNX's own text forms begin with other words.
    """
    with open(path, "rb") as file:  # noqa: PTH123 - the path is kept as given
        data = file.read(_TEXT)
    if not data or any(byte < 32 and byte not in b"\t\r\n" for byte in data):
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    if given is not None or path.lower().endswith(".txt"):
        return text
    bare = " ".join(line.split("#", 1)[0] for line in text.splitlines())
    words = re.split(r"[\s,:]+", bare.strip().lower(), maxsplit=2)  # the first may be a label
    return text if {*words[:2]} & {*KINDS, "input"} else None
