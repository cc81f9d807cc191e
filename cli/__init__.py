"""The command line: one command, one module, one function of the library.

Only click is imported until a command runs: ``--help`` reads the table below, not the commands.
"""

import gc
import importlib
import sys
from collections.abc import Sequence

import click

from .guard import explain, guarded
from .options import common_parameters
from .output import complain

# name: (module of this package, which has the click command as `command`; what --help says of it). A module `run` would
# take the place of the function below when it is imported.
COMMANDS = {
    "convert": ("convert", "Rewrite a patch classifier as a fully convolutional network, and prove it."),
    "audit": ("audit", "Say what would be rewritten, how exact it would be, and what it would cost."),
    "verify": ("verify", "Run two networks and compare them, window by window."),
    "check": ("check", "Hold many models against a lock file: shapes, bytes, each map's proof."),
    "restore": ("restore", "Write the patch network again, from a map that may have been trained."),
    "translate": ("translate", "Write a Keras file as plain ONNX, without Keras."),
    "shapes": ("shapes", "Print the layer table: sizes, neurons, parameters, receptive fields."),
    "calc": ("calc", "Work out one layer, or solve for what is left open."),
    "locate": ("locate", "Say which pixels a neuron sees, or which neurons see a pixel."),
    "windows": ("windows", "Say how a series is cut into windows, and cut one."),
    "run": ("run_map", "Apply a map to an input of any size, in tiles, here or on a Dask cluster."),
    "kernel": ("kernel", "Turn one dense weight into convolution kernels, or back."),
    "set-kernel": ("set_kernel", "Set a convolution's weights from a tensor, or compute them at run time."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they run."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names, in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command ``cmd_name``, imported now; None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, short_help = COMMANDS[cmd_name]
        command: click.Command = importlib.import_module(f".{module}", __name__).command
        command.short_help = short_help
        known = {option for parameter in command.params for option in parameter.opts}
        command.params += [parameter for parameter in common_parameters() if not known & set(parameter.opts)]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The table, as help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, short_help) for name, (_, short_help) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with the nearest names where there is no such command."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS) or list(COMMANDS)
            ctx.fail(f"there is no command {args[0]!r}; there is {', '.join(near)}")
        return super().resolve_command(ctx, args)


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: ARG001
    if value and not ctx.resilient_parsing:
        from dense2conv import __version__

        click.echo(f"dense2conv {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    params=common_parameters(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    no_args_is_help=False,
)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version.",
)
def group() -> None:
    """Patch classifiers as fully convolutional ONNX networks, with a proof.

    Exit status: 0 yes or done; 1 the honest answer is no; 2 wrong usage; 3 the file is broken, unsafe or not
    supported; 4 this machine cannot do it; 70 a bug in dense2conv; 130 and 143 interrupted.
    """


def run(arguments: Sequence[str]) -> int:
    """Run the command line in this process and return its exit status; errors are printed, never raised."""
    try:
        if not arguments:
            with click.Context(group, info_name="dense2conv", **group.context_settings) as context:
                click.echo(group.get_help(context), err=True)
            return 2
        with group.make_context("dense2conv", list(arguments)) as context:
            group.invoke(context)
        sys.stdout.flush()
        return 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.Abort:
        return 130
    except click.ClickException as error:
        at = getattr(error, "ctx", None)
        path = at.command_path if at is not None else "dense2conv"
        complain(error.format_message(), hint=f"{path} --help lists the options")
        return 2
    except (Exception, KeyboardInterrupt) as error:
        return explain(error, debug="--debug" in arguments)


def main() -> None:
    """The entry point: the command line in a guarded child process."""
    arguments = sys.argv[1:]
    # A command is short: looking for cycles among what is imported costs 10 ms, and 4 more at the end of the parent.
    gc.set_threshold(100_000)
    gc.freeze()

    def action() -> int:
        if "--debug" in arguments:
            import faulthandler

            faulthandler.enable()
        return run(arguments)

    raise SystemExit(guarded(action))
