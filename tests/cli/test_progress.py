"""What takes long is said once, on stderr, and what does not is not."""

import threading
import time

import click
import pytest

from dense2conv.cli import progress as module
from dense2conv.cli.output import VERBOSITY


def work(seconds: dict[str, float]) -> None:
    with module.progress("verify") as begin:
        for stage, duration in seconds.items():
            begin(stage)
            time.sleep(duration)


def test_only_what_takes_long_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    work({"structure": 0.0, "windows": 0.4, "levels": 0.0})
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "verify: windows ...\n"


def test_nothing_is_said_with_q(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    with click.Context(click.Command("verify")) as context:
        context.meta[VERBOSITY] = -1
        work({"windows": 0.3})
    assert capsys.readouterr().err == ""


def test_the_watcher_ends_with_the_work_even_where_that_fails() -> None:
    def failing() -> None:
        with module.progress("verify") as begin:
            begin("windows")
            raise ValueError("no")

    before = threading.active_count()
    with pytest.raises(ValueError, match="no"):
        failing()
    assert threading.active_count() == before
