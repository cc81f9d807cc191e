"""What a command is at, on stderr, where that takes longer than people wait without a word."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from .output import say

_PATIENCE = 2.0  # seconds


@contextmanager
def progress(what: str) -> Iterator[Callable[[str], None]]:
    """A function that is told each stage as it begins; a stage is said once, when it has taken two seconds."""
    stage, ended = [""], threading.Event()
    said: set[str] = set()
    context = click.get_current_context(silent=True)

    def watch() -> None:
        last = ""
        while not ended.wait(_PATIENCE):
            now = stage[0]
            if now == last and now and now not in said:
                said.add(now)
                with context or click.Context(click.Command("watch")):  # a thread has no context of its own
                    say(f"{what}: {now} ...")
            last = now

    def begin(name: str) -> None:
        stage[0] = name

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield begin
    finally:
        ended.set()
        watcher.join(timeout=1)
