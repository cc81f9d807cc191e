"""The frame: help without imports, one error format, options that every command takes."""

import importlib.util
import json
import subprocess
import sys
import types

import click
import pytest
from click.testing import CliRunner

import dense2conv
from dense2conv import cli
from dense2conv.cli.output import say

COMMANDS = [
    name for name, (module, _) in cli.COMMANDS.items() if importlib.util.find_spec(f"dense2conv.cli.{module}")
]


def dense2conv_process(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "dense2conv", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def sample(monkeypatch):
    """A command that says three lines and prints a result."""

    @click.command()
    def command():
        for level in range(3):
            say(str(level), level=level)
        click.echo("result")

    monkeypatch.setitem(sys.modules, "dense2conv.cli.sample", types.SimpleNamespace(command=command))
    monkeypatch.setitem(cli.COMMANDS, "sample", ("sample", "Says three lines."))


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_the_commands(flag):
    result = dense2conv_process(flag)
    assert result.returncode == 0
    assert result.stderr == ""
    for name, (_, short_help) in cli.COMMANDS.items():
        assert name in result.stdout
        assert short_help.split()[0] in result.stdout
    for status in ("0 yes", "1 the", "2 wrong", "3 the", "4 this", "70 a bug", "130 and 143"):
        assert status in " ".join(result.stdout.split())


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_version(flag):
    result = dense2conv_process(flag)
    assert (result.returncode, result.stdout) == (0, f"dense2conv {dense2conv.__version__}\n")


def test_nothing_is_wrong_usage_and_shows_the_help():
    result = dense2conv_process()
    assert (result.returncode, result.stdout) == (2, "")
    assert "Commands:" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kernl"], "there is no command 'kernl'; there is kernel"),
        (["zzz"], "there is no command 'zzz'; there is convert, audit"),
        (["--nope"], "--nope"),
        (["kernel"], "WEIGHTS"),
        (["kernel", "--nope"], "--nope"),
        (["\x1b[2J\n::error::"], "\\x1b[2J\\n::error::"),
    ],
)
def test_wrong_usage_is_two_lines_and_status_2(arguments, message, capsys):
    assert cli.run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith("dense2conv: ")
    assert message in first
    assert second.endswith("--help lists the options")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_and_the_common_options(name):
    result = CliRunner().invoke(cli.group, [name, "-h"])
    assert result.exit_code == 0, result.output
    for option in ("--verbose", "--quiet", "--debug", "--help"):
        assert option in result.output
    command = cli.group.get_command(click.Context(cli.group), name)
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help


@pytest.mark.parametrize(
    ("before", "behind", "said"),
    [
        ([], [], ["0"]),
        (["-q"], [], []),
        ([], ["-q"], []),
        (["-v"], [], ["0", "1"]),
        ([], ["-vv"], ["0", "1", "2"]),
        (["-v"], ["-v"], ["0", "1", "2"]),
    ],
)
@pytest.mark.usefixtures("sample")
def test_verbosity_before_or_behind_the_command(before, behind, said, capsys):
    assert cli.run([*before, "sample", *behind]) == 0
    out, err = capsys.readouterr()
    assert err.split() == said
    assert out == "result\n"


def test_help_of_the_group_imports_no_command():
    script = (
        "import json, sys\nfrom dense2conv import cli\nassert cli.run(['--help']) == 0\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    modules = json.loads(result.stdout.splitlines()[-1])
    assert "click" in modules
    for module in (
        "numpy",
        "onnx",
        "onnxruntime",
        "h5py",
        "rich",
        "importlib.metadata",
        "dense2conv.cli.kernel",
    ):
        assert module not in modules
