"""Work on many files, each in a process of its own: a native library that crashes on one ends that one only.

A worker is a fork that sends one JSON document through a pipe and ends. What is printed to stdout in it, by native
libraries, goes nowhere. When this process is killed, the pipe that keeps a worker closes, and the kernel ends it. Where
there is no fork, the work is done in this process.
"""

import contextlib
import json
import os
import selectors
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

from .guard import account, cause_of_death

T = TypeVar("T")
_PIECE = 1 << 16


class Failure(NamedTuple):
    """Why there is no result: the exit status, one line, what to do."""

    status: int
    message: str
    hint: str


class _Worker(NamedTuple):
    number: int
    process: int
    reader: int
    alive: int
    pieces: list[bytes]


def processors() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def each(
    work: Callable[[T], Any], jobs: Sequence[T], at_once: int
) -> Iterator[tuple[int, dict[str, Any] | Failure]]:
    """Do ``work`` for each of the jobs, ``at_once`` at a time; yield their numbers and results as they are done.

    ``work`` returns an object as JSON has it.
    """
    if not hasattr(os, "fork"):
        for number, job in enumerate(jobs):
            yield number, _attempt(work, job)
        return
    waiting = list(enumerate(jobs))[::-1]
    running: dict[int, _Worker] = {}
    try:
        with selectors.DefaultSelector() as selector:
            while waiting or running:
                while waiting and len(running) < max(at_once, 1):
                    number, job = waiting.pop()
                    worker = _start(work, job, number, list(running.values()))
                    running[worker.reader] = worker
                    selector.register(worker.reader, selectors.EVENT_READ)
                for key, _ in selector.select():
                    worker = running[key.fd]
                    piece = os.read(worker.reader, _PIECE)
                    if piece:
                        worker.pieces.append(piece)
                        continue
                    selector.unregister(worker.reader)
                    yield worker.number, _end(running.pop(worker.reader))
    finally:
        for worker in running.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.process, signal.SIGKILL)
            _end(worker)


def _start(work: Callable[[T], Any], job: T, number: int, others: Sequence[_Worker]) -> _Worker:
    reader, writer = os.pipe()
    alive_reader, alive = os.pipe()
    with warnings.catch_warnings():
        # Python warns of threads: numpy's, which it can do without, and which its library starts again by itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if not process:
        _be_the_worker(work, job, writer, alive_reader, [reader, alive, *(w.alive for w in others)])
    os.close(writer)
    os.close(alive_reader)
    return _Worker(number, process, reader, alive, [])


def _be_the_worker(
    work: Callable[[T], Any], job: T, writer: int, alive_reader: int, not_ours: Sequence[int]
) -> NoReturn:
    """Work and end: never returns into the frames that the parent also has."""
    try:
        import fcntl

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        for descriptor in not_ours:
            os.close(descriptor)
        fcntl.fcntl(alive_reader, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(alive_reader, fcntl.F_SETFL, fcntl.fcntl(alive_reader, fcntl.F_GETFL) | os.O_ASYNC)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        sys.stdout = os.fdopen(nowhere, "w")
        result = _attempt(work, job)
        text = json.dumps({"result": result} if isinstance(result, dict) else {"failure": list(result)})
        with os.fdopen(writer, "wb") as file:
            file.write(text.encode())
    finally:
        os._exit(0)  # whatever happened: what was not sent is missed by the parent


def _attempt(work: Callable[[T], Any], job: T) -> dict[str, Any] | Failure:
    try:
        result: dict[str, Any] = work(job)
    except Exception as error:
        return failure_of(error)
    return result


def failure_of(error: BaseException) -> Failure:
    """What is said of an error."""
    status, parts, hint = account(error)
    return Failure(status, ": ".join(part for part in parts if part), hint)


def _end(worker: _Worker) -> dict[str, Any] | Failure:
    """Collect a worker that has closed its pipe."""
    os.close(worker.reader)
    _, state = os.waitpid(worker.process, 0)
    os.close(worker.alive)
    if os.WIFSIGNALED(state):
        return Failure(*cause_of_death(os.WTERMSIG(state)))
    try:
        message = json.loads(b"".join(worker.pieces))
    except ValueError:
        return Failure(3, "its process ended without a word", cause_of_death(signal.SIGSEGV)[2])
    if "failure" in message:
        return Failure(*message["failure"])
    result: dict[str, Any] = message["result"]
    return result
