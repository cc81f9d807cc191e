"""A command runs in a forked child, so that whatever happens to it ends as one line and one exit status.

Readers of binary files are native code, and one damaged byte can crash them (h5py on an HDF5 string header):
no ``try`` helps against a signal, but the parent of the process that died can still speak. The fork costs
2 ms. Where there is no fork, the command runs in this process.

The parent forwards SIGINT, SIGTERM and SIGHUP; the child unwinds, which removes its temporary files, and
ends. A second SIGINT, or ten seconds, end a child that native code keeps from unwinding. A child whose parent
was killed is ended by the kernel: the pipe between them closes, and that raises SIGIO.
"""

import contextlib
import errno
import mmap
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from .output import complain

DONE, BUG, BROKEN_PIPE = 0, 70, 128 + 13

# The library's errors, by class name (it is not imported until one was raised): the exit status, and what to
# do about one that does not say so itself. The first class in an error's method resolution order counts.
STATUS = {
    "NegativeAnswer": (1, ""),  # an answer says itself what to do, where there is something
    "RequestError": (2, "dense2conv COMMAND --help lists the options"),
    "ShapeError": (2, "dense2conv COMMAND --help has the notation"),
    "FileError": (3, "look whether the file is complete, or write it again with the program that made it"),
    "MachineError": (4, "free what is short on this machine, or use another one"),
    "MemoryError": (4, "use a machine with more memory, or a smaller --size"),
}

# Faults of the file system that are about the request; any other is about the machine (disk full, ..).
_REQUESTED = {
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENAMETOOLONG,
    errno.ELOOP, errno.EROFS,
}  # fmt: skip

# How a child that died of a signal is explained: status, what happened, what to do.
_DEATHS = {
    "SIGKILL": (4, "the system ended the command, most likely for want of memory", STATUS["MemoryError"][1]),
    "SIGBUS": (3, "the file changed while it was read", "run the command again when nothing writes the file"),
    "SIGALRM": (3, "the reader did not come to an end", "the file is damaged, or far larger than it says"),
}
_CRASH_HINT = "the file is damaged, or its reader has a fault; with --debug the crash is traced"

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if hasattr(os, "fork") else ()
_PATIENCE = 10  # seconds that a child gets to unwind

# The file at work, in memory that the parent shares: a crashed child cannot say any more which it was.
_NAME_BYTES = 4096
_file_at_work: mmap.mmap | None = None


class Interrupted(BaseException):
    """SIGTERM or SIGHUP reached the child: unwind, then end with 128 + the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def at_work_on(path: str) -> None:
    """Note the file that is about to be read, for the line that is printed should its reader crash."""
    if _file_at_work is not None:
        name = os.fsencode(path)[: _NAME_BYTES - 1]
        _file_at_work[: len(name) + 1] = name + b"\0"


@contextlib.contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """Ends the whole command when native code inside does not come back; nothing where there is no alarm."""
    if not hasattr(signal, "alarm"):
        yield
        return
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def guarded(action: Callable[[], int]) -> int:
    """Run ``action`` in a forked child and return the exit status that the whole process should end with."""
    _open_closed_streams()
    if not hasattr(os, "fork"):
        return _attempt(action)
    global _file_at_work
    _file_at_work = mmap.mmap(-1, _NAME_BYTES)
    reader, writer = os.pipe()
    _flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    child = os.fork()
    if child == 0:
        os.close(writer)
        _be_the_child(action, reader)
    os.close(reader)
    return _wait(child, writer)


def explain(error: BaseException, *, debug: bool = False) -> int:
    """Print one line, and one with what to do, for an error that ended a command; return its exit status."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, Interrupted):
        return 128 + error.number
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE  # whoever read our output has seen enough
    if debug:
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    status, parts, hint = account(error)
    if status == BUG and not debug:
        hint += ", with what --debug prints"
    complain(*parts, hint=hint)
    return status


def account(error: BaseException) -> tuple[int, list[str], str]:
    """What is said of an error that ended a command: the exit status, the parts of its line, what to do."""
    for name in [ancestor.__name__ for ancestor in type(error).__mro__]:
        if name in STATUS:
            status, hint = STATUS[name]
            parts = [str(getattr(error, "file", "")), str(getattr(error, "layer", ""))]
            message = str(getattr(error, "message", error)) or "not enough memory"
            return status, [*parts, message], str(getattr(error, "hint", "")) or hint
    if isinstance(error, OSError) and error.errno is not None:
        requested = error.errno in _REQUESTED
        status, hint = STATUS["RequestError" if requested else "MachineError"]
        name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
        hint = "is the path right, and may this user go there?" if requested else hint
        return status, [name, str(error.strerror).lower()], hint
    return BUG, [f"a bug in dense2conv: {type(error).__name__}: {error}"], "please report this bug"


def _attempt(action: Callable[[], int], debug: bool | None = None) -> int:
    """The exit status of ``action``, whatever it raises."""
    try:
        status = action()
        _flush()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else DONE if end.code is None else 1
    except BaseException as error:  # the frame that must not let anything through
        return explain(error, debug="--debug" in sys.argv if debug is None else debug)
    return status


def _open_closed_streams() -> None:
    """Let a standard stream that the caller closed (``>&-``) lead nowhere.

    Python has None for it then, and the next file that is opened, a model or OUT, would get its number: what a native
    library prints would go into that file.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - for as long as we run


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _be_the_child(action: Callable[[], int], reader: int) -> NoReturn:
    """Run and end: never returns into the frames that the parent also has."""
    status = BUG
    try:
        import fcntl

        fcntl.fcntl(reader, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(reader, fcntl.F_SETFL, fcntl.fcntl(reader, fcntl.F_GETFL) | os.O_ASYNC)
        for number in _INTERRUPTS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
                signal.signal(number, _unwind)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
        status = _attempt(action)
    except BaseException as error:  # an interrupt between two of the lines above
        status = explain(error)
    finally:
        with contextlib.suppress(BaseException):
            _flush()
        os._exit(status)  # no destructors of native libraries: they have crashed after the work was done


def _unwind(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
    for other in _INTERRUPTS:  # once: a second signal must not interrupt the clearing up
        signal.signal(other, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Interrupted(number)


def _wait(child: int, writer: int) -> int:
    """Forward signals until the child has ended, and turn its end into a status."""
    interrupts = 0
    killed_here = 0

    def send(number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended, and its end was just collected
            os.kill(child, number)

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        nonlocal killed_here
        killed_here = killed_here or signal.SIGTERM
        send(signal.SIGKILL)

    def forward(number: int, frame: FrameType | None) -> None:
        nonlocal interrupts, killed_here
        interrupts += 1
        killed_here = number
        if interrupts > 1 and number == signal.SIGINT:
            end(number, frame)
            return
        send(number)
        signal.alarm(_PATIENCE)

    before = {number: signal.getsignal(number) for number in (*_INTERRUPTS, signal.SIGALRM)}
    for number in _INTERRUPTS:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, forward)
    signal.signal(signal.SIGALRM, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
    try:
        _, state = os.waitpid(child, 0)  # goes on by itself after a signal was handled (PEP 475)
    finally:
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writer)
    if os.WIFEXITED(state):
        return os.WEXITSTATUS(state)
    return _obituary(os.WTERMSIG(state), killed_here)


def _obituary(number: int, killed_here: int) -> int:
    """What a child's death by signal ``number`` is called; ``killed_here`` is a signal that we forwarded."""
    if killed_here:
        return 128 + killed_here
    if number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        return 128 + number
    if number == signal.SIGPIPE:
        return BROKEN_PIPE
    name = os.fsdecode(_file_at_work[:].split(b"\0", 1)[0]) if _file_at_work is not None else ""
    status, message, hint = cause_of_death(number)
    complain(name, message, hint=hint)
    return status


def cause_of_death(number: int) -> tuple[int, str, str]:
    """What a process is said to have died of that signal ``number`` ended: the exit status, a line, what to do."""
    crash = (3, f"the reader crashed (signal {number})", _CRASH_HINT)
    names = {known.value: known.name for known in signal.Signals}
    return _DEATHS.get(names.get(number, ""), crash)
