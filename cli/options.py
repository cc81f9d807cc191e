"""Options that mean the same in every command, and the types of their values."""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, cast

import click

from ..convert.errors import RequestError
from .output import FORMATS, VERBOSITY

Command = TypeVar("Command", bound=Callable[..., Any])

SPATIAL_AXES = {1: "L", 2: "HW", 3: "DHW"}
"""The names of an input's spatial axes, by their number."""


def with_axis_names(sizes: Sequence[int], names: str = "") -> str:
    """Sizes as they are echoed: rows and columns are easily taken for each other.

    >>> with_axis_names((224, 320))
    'H=224, W=320'
    """
    names = names or SPATIAL_AXES[len(sizes)]
    return ", ".join(f"{name}={size}" for name, size in zip(names, sizes, strict=True))


def _numbers(text: str) -> tuple[int, ...]:
    """``"20x30"`` as integers; ``ValueError`` unless all are positive."""
    if not re.fullmatch(r"[0-9]{1,9}([xX×][0-9]{1,9})*", text):
        raise ValueError
    sizes = tuple(int(size) for size in re.split("[xX×]", text))
    if min(sizes) < 1:
        raise ValueError
    return sizes


def _named_numbers(text: str) -> dict[str, int]:
    """``"H=20,W=30"`` as a dict; ``ValueError`` unless each name comes once, with a positive size."""
    parts = re.findall(r"(?:^|,) *([A-Za-z]) *= *([0-9]{1,9}) *(?=,|$)", text)
    sizes = {name.upper(): int(size) for name, size in parts}
    if len(sizes) != len(text.split(",")) or min(sizes.values(), default=0) < 1:
        raise ValueError
    return sizes


class Written(click.ParamType):  # type: ignore[type-arg] # generic only in newer clicks
    """A type whose name in ``--help`` is not shouted."""

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002
        """The name as it is."""
        return self.name


class SizeType(Written):
    """``HxW``, ``L``, ``DxHxW`` or ``H=..,W=..``: a tuple of positive integers in the order L, HW or DHW."""

    name = "HxW"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The sizes; ``BadParameter`` for anything else."""
        if isinstance(value, tuple):
            return value
        try:
            if "=" not in value:
                sizes = _numbers(value)
                if len(sizes) not in SPATIAL_AXES:
                    raise ValueError
                return sizes
            named = _named_numbers(value)
            axes = next(axes for axes in SPATIAL_AXES.values() if set(axes) == set(named))
            return tuple(named[axis] for axis in axes)
        except (ValueError, StopIteration):
            self.fail(
                f"{value!r} is no size: rows x columns as 480x640, H=480,W=640, a length, or DxHxW",
                param,
                ctx,
            )


class Patch(NamedTuple):
    """A patch's sizes as they were given: by position, or by the axes' names (``names``, else empty)."""

    sizes: tuple[int, ...]
    names: str = ""

    def in_order(self, order: str) -> tuple[int, ...]:
        """The sizes, one a letter of ``order``; ``RequestError`` where the two do not fit."""
        if self.names:
            if set(self.names) != set(order):
                raise RequestError(f"--patch names the axes {', '.join(self.names)}, --order {order}")
            return tuple(self.sizes[self.names.index(axis)] for axis in order)
        if len(self.sizes) != len(order):
            raise RequestError(
                f"--patch has {len(self.sizes)} sizes, --order {order} has {len(order)} axes",
                hint="a patch is its spatial sizes and its channels, as --patch 20x20x10 --order HWC",
            )
        return self.sizes


class PatchType(Written):
    """``20x20x10`` or ``H=20,W=20,C=10``: a ``Patch``."""

    name = "HxWxC"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Patch:
        """The patch; ``BadParameter`` for anything else."""
        if isinstance(value, Patch):
            return value
        try:
            if "=" not in value:
                return Patch(_numbers(value))
            named = _named_numbers(value)
            return Patch(tuple(named.values()), "".join(named))
        except ValueError:
            self.fail(f"{value!r} is no patch: sizes as 20x20x10 or H=20,W=20,C=10", param, ctx)


class StrideType(Written):
    """``N`` (on every axis), ``NxM`` or ``patch``: a tuple of positive integers, or ``"patch"``."""

    name = "N|NxM|patch"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...] | Literal["patch"]:
        """The stride; ``BadParameter`` for anything else."""
        if isinstance(value, tuple):
            return value
        if value.lower() == "patch":
            return "patch"
        try:
            stride = _numbers(value)
            if len(stride) not in SPATIAL_AXES:
                raise ValueError
            return stride
        except ValueError:
            self.fail(f"{value!r} is no stride: a positive number, one an axis as 2x4, or patch", param, ctx)


def on_each_axis(stride: tuple[int, ...] | str, patch: Sequence[int]) -> tuple[int, ...]:
    """A stride option's value, one number a spatial axis; ``RequestError`` where they differ."""
    if isinstance(stride, str):  # "patch"
        return tuple(patch)
    if len(stride) == 1:
        return stride * len(patch)
    if len(stride) != len(patch):
        raise RequestError(f"--stride has {len(stride)} numbers, the patch has {len(patch)} spatial axes")
    return stride


class ProviderType(Written):
    """``cpu``, ``cuda``, ``cuda:1``, or ONNX Runtime's own names: the text, for ``convert.execute``."""

    name = "cpu|cuda[:N]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The provider; ``BadParameter`` for any other name: a misspelt one must not fall back to the CPU."""
        if not re.fullmatch(
            r"cpu|cpuexecutionprovider|cuda(executionprovider)?(:[0-9]{1,3})?", value.lower()
        ):
            self.fail(f"{value!r} is no provider: cpu, cuda, or cuda:N for device N", param, ctx)
        return str(value)


SIZE, PATCH, STRIDE, PROVIDER = SizeType(), PatchType(), StrideType(), ProviderType()

INPUT_ORDERS = ("CHW", "HWC", "HW", "CL", "LC", "L", "CDHW", "DHWC", "DHW")
"""The axes of a network's input behind the batch: C channels (or none), then or before them the spatial axes."""


def network_options(command: Command) -> Command:
    """``--patch`` and ``--order``: what a file may leave open about the network's input."""
    order = click.option(
        "--order",
        type=click.Choice(INPUT_ORDERS, case_sensitive=False),
        metavar="|".join(INPUT_ORDERS),
        help="The input's axes, where no layer of the network tells them apart.",
    )
    patch = click.option("--patch", type=SIZE, help="The patch's size, where the file leaves it free.")
    return patch(order(command))


class ActivationType(Written):
    """``NAME=FUNCTION:ARGUMENT=NUMBER,..``: (NAME, (FUNCTION, {ARGUMENT: NUMBER}))."""

    name = "NAME=relu:alpha=0.1,max=20"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[str, dict[str, float]]]:
        """The two names and the arguments; ``BadParameter`` for anything else."""
        if isinstance(value, tuple):
            return value
        name, equals, function = value.partition("=")
        function, _, listed = function.partition(":")
        try:
            pairs = [part.split("=") for part in listed.split(",") if listed]
            arguments = {key.strip(): float(number) for key, number in pairs}
        except ValueError:
            arguments, name = {}, ""
        if not (name and equals and function):
            self.fail(f"{value!r} is no activation: NAME=FUNCTION, or NAME=relu:alpha=0.1,max=20", param, ctx)
        return name, (function, arguments)


def keras_options(command: Command) -> Command:
    """``--config``, ``--flip`` and ``--activation``: what a Keras file may leave open.

    The command gets them together, as ``keras``: what ``convert.networks.open_network`` takes besides the path.
    """

    @functools.wraps(command)
    def with_keras(*args: Any, config: str | None, flip: bool | None, activations: Any, **rest: Any) -> Any:
        return command(
            *args, keras={"config": config, "flip": flip, "activations": dict(activations)}, **rest
        )

    for option in (
        click.option("--activation", "activations", type=ActivationType(), multiple=True,
                     help="Take a Keras file's custom activation NAME for a known one (repeatable)."),
        click.option("--flip/--no-flip", default=None,
                     help="Whether a Keras file's kernels are flipped, as Theano's are (default: what the file says)."),
        click.option("--config", metavar="FILE.json", help="The architecture of a Keras file that holds weights only."),
    ):  # fmt: skip
        with_keras = option(with_keras)
    return cast(Command, with_keras)


expected_option = click.option(
    "--expected",
    metavar="FILE.npz",
    help="What the framework itself gave: patch_x and patch_y, and for a map image_x and scan_y.",
)
size_option = click.option(
    "--size", type=SIZE, help="Fix the input's size: HxW, L or DxHxW, or H=..,W=..; else it stays free."
)
format_option = click.option(
    "--format",
    "format",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="How to print the result.",
)
report_option = click.option(
    "--report",
    "reports",
    metavar="FILE",
    multiple=True,
    help="Write the result to FILE too: .json, .md, .html, or .xml (JUnit) where something is checked (repeatable).",
)
from_option = click.option(
    "--from",
    "count_from",
    type=click.IntRange(0, 1),
    default=0,
    show_default=True,
    help="Count from 0 or from 1: pixels, steps, neurons, layers, windows.",
)
force_option = click.option("--force", is_flag=True, help="Replace files that exist.")
provider_option = click.option(
    "--provider",
    type=PROVIDER,
    default="cpu",
    show_default=True,
    help="Where ONNX Runtime runs the network that is to be proven.",
)
reference_provider_option = click.option(
    "--reference-provider",
    type=PROVIDER,
    default="cpu",
    show_default=True,
    help="Where it runs the reference.",
)


def _verbosity(change: int) -> Callable[[click.Context, click.Parameter, int], None]:
    def callback(ctx: click.Context, param: click.Parameter, value: int) -> None:  # noqa: ARG001
        if value:
            ctx.meta[VERBOSITY] = ctx.meta.get(VERBOSITY, 0) + change * int(value)

    return callback


def common_parameters() -> list[click.Parameter]:
    """``-v``, ``-q`` and ``--debug``: the group and each of its commands take them."""
    return [
        click.Option(
            ["-v", "--verbose"], count=True, expose_value=False, callback=_verbosity(1), help="Say more."
        ),
        click.Option(
            ["-q", "--quiet"], is_flag=True, expose_value=False, callback=_verbosity(-1), help="Say less."
        ),
        click.Option(["--debug"], is_flag=True, expose_value=False, help="Print tracebacks."),
    ]
