"""Workers: what one of them does, to itself or to others, ends as one result, and none outlives who started it."""

import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dense2conv.cli.workers import Failure, each
from dense2conv.convert.errors import FileError, MachineError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forks")


def crash(number):
    faulthandler.disable()  # pytest's
    os.kill(os.getpid(), number)


def broken():
    raise FileError("it is broken", file="a.onnx", layer="conv", hint="mend it")


def short():
    raise MachineError("no room")


def bug():
    raise KeyError("x")


ENDS = {
    "well": (lambda: {"a": [1, 2.5, None]}, {"a": [1, 2.5, None]}),
    "a large result": (lambda: {"a": "x" * 1_000_000}, {"a": "x" * 1_000_000}),
    "segmentation fault": (lambda: crash(signal.SIGSEGV), (3, "the reader crashed (signal 11)")),
    "abort": (lambda: crash(signal.SIGABRT), (3, "the reader crashed (signal 6)")),
    "killed": (lambda: crash(signal.SIGKILL), (4, "the system ended the command")),
    "an alarm": (lambda: crash(signal.SIGALRM), (3, "the reader did not come to an end")),
    "exit of a library": (lambda: os._exit(7), (3, "its process ended without a word")),
    "a broken file": (broken, (3, "a.onnx: conv: it is broken")),
    "a machine": (short, (4, "no room")),
    "a bug": (bug, (70, "a bug in dense2conv: KeyError: 'x'")),
    "no JSON": (lambda: {"a": object()}, (3, "its process ended without a word")),
    "exit": (lambda: sys.exit(5), (3, "its process ended without a word")),
}


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_each_job_has_its_own_end(at_once):
    jobs = list(ENDS.values())
    found = dict(each(lambda job: job[0](), jobs, at_once))
    assert sorted(found) == list(range(len(jobs)))
    for name, (number, result) in zip(ENDS, sorted(found.items()), strict=True):
        wanted = jobs[number][1]
        if isinstance(wanted, dict):
            assert result == wanted, name
        else:
            assert isinstance(result, Failure), name
            assert (result.status, result.message[: len(wanted[1])]) == wanted, name
            assert result.hint or name == "a machine", name


def test_no_more_than_asked_for_at_once(tmp_path):
    def work(number):
        mine = tmp_path / str(number)
        mine.touch()
        time.sleep(0.1)
        count = len(list(tmp_path.iterdir()))
        mine.unlink()
        return {"count": count}

    counts = [result["count"] for _, result in each(work, range(6), 2)]
    assert max(counts) == 2


def test_stdout_of_a_worker_goes_nowhere(capfd):
    def work(job):
        os.write(1, b"from a native library")
        print("from Python", flush=True)
        return {"job": job}

    assert list(each(work, [1], 1)) == [(0, {"job": 1})]
    assert capfd.readouterr().out == ""


def test_who_stops_listening_ends_the_workers(tmp_path):
    def work(job):
        (tmp_path / str(job)).write_text(str(os.getpid()))
        if job:
            time.sleep(60)
        else:
            while len(list(tmp_path.iterdir())) < 3:
                time.sleep(0.01)
        return {}

    results = each(work, [0, 1, 2], 3)
    assert next(results) == (0, {})
    results.close()
    for job in (1, 2):
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / str(job)).read_text()), 0)


ORPHANS = """
import os, sys, time
from pathlib import Path
from dense2conv.cli.workers import each

def work(job):
    (Path(sys.argv[1]) / str(job)).write_text(str(os.getpid()))
    time.sleep(60)

list(each(work, [0, 1, 2], 3))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_who_started_it(number, tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", ORPHANS, str(tmp_path)])
    deadline = time.monotonic() + 30
    while len([p for p in tmp_path.iterdir() if p.read_text()]) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    workers = [int(path.read_text()) for path in tmp_path.iterdir()]
    parent.send_signal(number)
    parent.wait(timeout=30)
    while alive(workers):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(processes):
    """Those that run; an orphan that has ended may wait for a parent that collects it."""
    found = []
    for process in processes:
        status = Path(f"/proc/{process}/stat")
        if status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
            found.append(process)
    return found


def test_the_result_is_json_and_nothing_else():
    """A worker that a damaged file took over can send text, not code."""
    ((_, result),) = each(lambda _: {"__reduce__": "os.system"}, [0], 1)
    assert json.loads(json.dumps(result)) == {"__reduce__": "os.system"}
