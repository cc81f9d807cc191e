"""Whatever happens to a command ends as one line, one hint and one exit status: each way is made to happen."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from dense2conv.cli.guard import STATUS, Interrupted, explain
from dense2conv.convert import errors

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a guarded child needs fork")

# A command line with one more command, whose body is the test's.
PROGRAM = """
import os, signal, sys, time, types
import click
from dense2conv import cli
from dense2conv.cli import guard
from dense2conv.cli.output import say
from dense2conv.convert.errors import *
@click.command()
def command():
{body}
sys.modules["dense2conv.cli.boom"] = types.SimpleNamespace(command=command)
cli.COMMANDS["boom"] = ("boom", "goes wrong")
sys.argv[1:] = ["boom", *sys.argv[1:]]
cli.main()
"""


def start(body, *arguments, **options):
    lines = "\n".join("    " + line for line in body.splitlines())
    command = [sys.executable, "-c", PROGRAM.format(body=lines), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def run(body, *arguments, **options):
    process = start(body, *arguments, **options)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


CASES = {
    "done": ("print('x')", 0, "", ""),
    "answer is no": ("raise NegativeAnswer('the map differs')", 1, "the map differs", ""),
    "wrong request": (
        "raise RequestError('K is 4, not 5', file='w.npy', layer='fc', hint='look at --patch')",
        2,
        "w.npy: fc: K is 4, not 5",
        "look at --patch",
    ),
    "broken file": ("raise FileError('truncated', file='a.onnx')", 3, "a.onnx: truncated", "complete"),
    "machine": ("raise MachineError('no CUDA')", 4, "no CUDA", "machine"),
    "memory": ("raise MemoryError", 4, "not enough memory", "--size"),
    "memory in a subclass": ("import numpy; numpy.empty(1 << 48)", 4, "Unable to allocate", "--size"),
    "no such file": ("open('/no/such/file')", 2, "/no/such/file: no such file or directory", "path"),
    "full disk": (
        "raise OSError(28, 'No space left on device', 'o')",
        4,
        "o: no space left on device",
        "machine",
    ),
    "click's own": ("raise click.UsageError('no')", 2, "no", "--help"),
    "abort": ("raise click.Abort", 130, "", ""),
    "exit": ("click.get_current_context().exit(1)", 1, "", ""),
    "interrupt": ("raise KeyboardInterrupt", 130, "", ""),
    "bug": ("{}['x']", 70, "a bug in dense2conv: KeyError: 'x'", "report"),
    "segmentation fault": (
        "import ctypes; ctypes.string_at(0)",
        3,
        "the reader crashed (signal 11)",
        "damaged",
    ),
    "abort of a native library": ("os.abort()", 3, "the reader crashed (signal 6)", "damaged"),
    "file shrank": ("os.kill(os.getpid(), signal.SIGBUS)", 3, "the file changed while it was read", "again"),
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", 4, "want of memory", "memory"),
    "endless reader": ("with guard.deadline(1):\n  time.sleep(50)", 3, "did not come to an end", "damaged"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_end_has_its_status_and_its_line(case):
    body, status, message, hint = CASES[case]
    code, out, err = run(body)
    assert code == status
    assert message in err
    assert hint in err
    assert "Traceback" not in err
    lines = err.splitlines()
    assert len(lines) == (2 if hint else 1 if message else 0)
    if message:
        assert lines[0].startswith("dense2conv: ")
    assert out == ("x\n" if case == "done" else "")


def test_a_real_mapped_file_that_shrinks(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"x" * 100_000)
    body = (
        f"import mmap\npath = {str(path)!r}\nguard.at_work_on(path)\nfile = open(path, 'r+b')\n"
        "mapped = mmap.mmap(file.fileno(), 0)\nfile.truncate(0)\nmapped[50_000]"
    )
    assert run(body)[::2] == (
        3,
        f"dense2conv: {path}: the file changed while it was read\n"
        "  run the command again when nothing writes the file\n",
    )


def test_a_crash_names_the_file_at_work():
    _, _, err = run("guard.at_work_on('a\\x1b[2J.h5')\nos.abort()")
    assert err.startswith("dense2conv: a\\x1b[2J.h5: the reader crashed (signal 6)\n")


def test_debug_shows_where():
    _, _, err = run("{}['x']", "--debug")
    assert "Traceback" in err
    _, _, err = run("import ctypes; ctypes.string_at(0)", "--debug")
    assert "Segmentation fault" in err
    assert "the reader crashed (signal 11)" in err


def test_what_was_printed_before_the_end_is_there():
    for body in (
        "print('result')",
        "print('result')\nraise NegativeAnswer('no')",
        "print('result')\n{}['x']",
    ):
        assert run(body)[1] == "result\n"


# In short sleeps: a signal that comes between Python's look for one and the system call is heard when that returns.
WAITING = """
try:
  print('ready', flush=True)
  for _ in range(1000): time.sleep(0.05)
finally:
  print('cleared up', flush=True)"""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_a_signal_to_the_parent_unwinds_the_child(number, status):
    process = start(WAITING)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (status, "cleared up\n", "")


def test_a_terminal_s_control_c_reaches_both():
    process = start(WAITING, start_new_session=True)
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "cleared up\n", "")


def test_a_signal_that_comes_twice_does_not_interrupt_the_clearing_up():
    """The child may hear a Ctrl-C from the terminal, and again from its parent."""
    body = WAITING.replace("'ready'", "os.getpid()").replace(
        "print('cleared", "time.sleep(0.6); print('cleared"
    )
    process = start(body)
    child = int(process.stdout.readline())
    for _ in range(2):
        os.kill(child, signal.SIGINT)
        time.sleep(0.2)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "cleared up\n", "")


LATE = """
import os, signal
from dense2conv.cli import guard
collect = os.waitpid
def late(child, flags):
    result = collect(child, flags)
    os.kill(os.getpid(), signal.SIGINT)
    return result
os.waitpid = late
raise SystemExit(guard.guarded(lambda: 7))
"""


def test_a_signal_at_the_moment_when_the_end_is_collected():
    """There is no child any more to forward it to."""
    done = subprocess.run(
        [sys.executable, "-c", LATE], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (7, "")


def test_a_second_control_c_ends_a_child_that_does_not_unwind():
    process = start(
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})\nprint('ready', flush=True)\ntime.sleep(50)"
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=5) == 130
    process.communicate()


def test_nohup_stays_nohup():
    program = "import signal, subprocess as s, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); s.run(sys.argv[1:])"
    body = "os.kill(os.getpid(), signal.SIGHUP)\nos.kill(os.getppid(), signal.SIGHUP)\ntime.sleep(0.2)\nprint('alive')"
    lines = "\n".join("    " + line for line in body.splitlines())
    command = [sys.executable, "-c", program, sys.executable, "-c", PROGRAM.format(body=lines)]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60).stdout == "alive\n"


def test_the_child_of_a_killed_parent_ends():
    process = start("print(os.getpid(), flush=True)\ntime.sleep(50)")
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    for _ in range(200):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            break
        with open(f"/proc/{child}/stat") as stat:  # nobody may have reaped it yet  # noqa: PTH123
            if stat.read().rsplit(")")[1].split()[0] == "Z":
                break
        time.sleep(0.05)
    else:
        os.kill(child, signal.SIGKILL)
        pytest.fail("the child lives on")
    process.communicate()


def test_a_reader_that_has_seen_enough_is_no_error():
    process = start("print('y' * 1_000_000)")
    process.stdout.read(1)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=30) == 141
    assert err == ""


def test_a_full_stdout_is_an_error():
    if not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:  # noqa: PTH123
        lines = "    print('result')"
        process = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(body=lines)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert process.returncode == 4
    assert "no space left on device" in process.stderr


def test_a_full_stderr_does_not_hide_the_status():
    if not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:  # noqa: PTH123
        lines = "    raise RequestError('wrong')"
        command = [sys.executable, "-c", PROGRAM.format(body=lines)]
        assert subprocess.run(command, stderr=full, timeout=60, check=False).returncode == 2


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_leads_nowhere(tmp_path, closed):
    """A file that is opened later must not get its number, or what is printed would go into that file."""
    body = f"""
with open({str(tmp_path / "file")!r}, "w") as file:
    os.write(1, b"stray")
    os.write(2, b"stray")
    print("out")
    print("err", file=sys.stderr, flush=True)
    file.write("content")
raise NegativeAnswer("no")
"""
    lines = "\n".join("    " + line for line in body.splitlines())
    command = ["sh", "-c", f'"$0" -c "$1" {closed}', sys.executable, PROGRAM.format(body=lines)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert (tmp_path / "file").read_text() == "content"
    assert "Traceback" not in done.stderr
    assert ("out" in done.stdout) == (" >&-" not in f" {closed}")
    assert ("err" in done.stderr) == ("2>&-" not in closed)


def test_each_error_class_of_the_library_has_a_status():
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    for error in classes:
        if error is not errors.Dense2ConvError:
            assert STATUS[error.__name__][0] in (1, 2, 3, 4)


def test_an_error_of_a_hostile_file_stays_on_its_line(capsys):
    error = errors.FileError("a\nb", file="::error::x", layer="\x1b[31mfc\r", hint="c\u2028d")
    assert explain(error) == 3
    assert capsys.readouterr().err == "dense2conv: \\x3a:error::x: \\x1b[31mfc\\x0d: a\\x0ab\n  c\\u2028d\n"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), 130),
        (Interrupted(15), 143),
        (BrokenPipeError(errno.EPIPE, "x"), 141),
        (PermissionError(errno.EACCES, "Permission denied", "f"), 2),
        (OSError(errno.EMFILE, "Too many open files"), 4),
        (OSError("without a number"), 70),
    ],
)
def test_errors_of_the_system(error, status):
    assert explain(error) == status
