"""New files: whole or not at all. Every way of failing must leave the old file and nothing else."""

import errno
import os
import resource
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dense2conv.convert import atomic
from dense2conv.convert.atomic import check_output, replacing
from dense2conv.convert.errors import MachineError, RequestError

OLD, NEW = b"old" * 5000, b"new" * 70000


@pytest.fixture(params=["nameless", "named"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for outputs, on a file system with and without files that have no name."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    elif not hasattr(os, "O_TMPFILE"):
        pytest.skip("this system has no nameless files")
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def write(path: Path | str, content: bytes = NEW, **options: Any) -> None:
    with replacing(path, **options) as file:
        for start in range(0, len(content), 50_000):
            file.write(content[start : start + 50_000])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_a_new_file(folder: Path) -> None:
    for mask, mode in ((0o022, 0o644), (0o077, 0o600)):
        with umask(mask):
            write(folder / f"{mode:o}")
        status = (folder / f"{mode:o}").stat()
        assert (stat.S_IMODE(status.st_mode), status.st_nlink) == (mode, 1)
        assert (folder / f"{mode:o}").read_bytes() == NEW
    assert names(folder) == ["600", "644"]


def test_an_old_file_is_replaced_and_keeps_its_permissions(folder: Path) -> None:
    path = folder / "a"
    path.write_bytes(OLD)
    path.chmod(0o640)
    with path.open("rb") as reader:
        write(path, force=True)
        assert reader.read() == OLD  # who has it open still reads the old one
    assert path.read_bytes() == NEW
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert names(folder) == ["a"]


def test_a_name_without_a_directory_and_a_name_that_is_not_utf8(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    write("a")
    write(os.fsdecode(b"\xff\xfe"))
    write("x" * 255)
    assert [os.fsencode(name) for name in names(folder)] == [b"a", b"x" * 255, b"\xff\xfe"]


def test_other_libraries_write_into_it(folder: Path) -> None:
    values = np.arange(1000.0)
    with replacing(folder / "a.npy") as file:
        np.save(file, values)
    with replacing(folder / "a.npz") as file:
        np.savez(file, values=values)
    with replacing(folder / "a.h5") as file, h5py.File(file, "w") as group:
        group["values"] = values
    assert np.array_equal(np.load(folder / "a.npy"), values)
    with np.load(folder / "a.npz") as archive:
        assert np.array_equal(archive["values"], values)
    with h5py.File(folder / "a.h5") as group:
        assert np.array_equal(group["values"][()], values)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("force", [False, True])
def test_an_error_in_the_block_leaves_nothing(folder: Path, error: type[BaseException], force: bool) -> None:
    if force:
        (folder / "a").write_bytes(OLD)

    def fail() -> None:
        with replacing(folder / "a", force=force) as file:
            file.write(NEW)
            raise error

    with pytest.raises(error):
        fail()
    assert names(folder) == (["a"] if force else [])
    assert not force or (folder / "a").read_bytes() == OLD


def test_nothing_is_there_while_it_is_written(folder: Path) -> None:
    with replacing(folder / "a") as file:
        file.write(NEW)
        file.flush()
        assert not (folder / "a").exists()
    assert (folder / "a").read_bytes() == NEW


def test_a_file_that_appears_meanwhile_is_kept(folder: Path) -> None:
    def raced(path: Path, *, force: bool) -> None:
        with replacing(path, force=force) as file:
            file.write(NEW)
            path.write_bytes(OLD)

    with pytest.raises(RequestError, match="exists"):
        raced(folder / "a", force=False)
    assert (folder / "a").read_bytes() == OLD
    raced(folder / "b", force=True)
    assert (folder / "b").read_bytes() == NEW
    assert names(folder) == ["a", "b"]


# What is refused before any work.


def refused(path: Path | str, message: str, **options: Any) -> RequestError:
    """Both ways in say so, and neither touches anything."""
    with pytest.raises(RequestError, match=message) as caught:
        check_output(path, **options)
    with pytest.raises(RequestError, match=message), replacing(path, **options):
        pytest.fail("the block must not run")
    assert caught.value.file == os.fspath(path)
    return caught.value


def test_an_existing_file_needs_force(folder: Path) -> None:
    (folder / "a").write_bytes(OLD)
    assert "--force" in refused(folder / "a", "OUT exists").hint
    assert (folder / "a").read_bytes() == OLD
    check_output(folder / "a", force=True)
    assert names(folder) == ["a"]


def spellings(folder: Path) -> dict[str, Path | str]:
    source = folder / "in"
    source.write_bytes(OLD)
    (folder / "sub").mkdir()
    (folder / "link").symlink_to("in")
    (folder / "link-to-link").symlink_to(folder / "link")
    (folder.parent / "alias").symlink_to(folder)
    os.link(source, folder / "hard")
    return {
        "the same name": source,
        "another string": f"{folder}/./sub/../in",
        "doubled slashes": f"{folder}//in",
        "a relative name": os.path.relpath(source),
        "a symbolic link": folder / "link",
        "a link to a link": folder / "link-to-link",
        "a linked directory": folder.parent / "alias" / "in",
        "a hard link": folder / "hard",
    }


@pytest.mark.parametrize("force", [False, True])
def test_the_input_is_refused_in_every_spelling(folder: Path, force: bool) -> None:
    ways = spellings(folder)
    for path in ways.values():
        refused(path, "must not be an input", force=force, inputs=[folder / "missing", folder / "in"])
        refused(folder / "in", "must not be an input", force=force, inputs=[path])
    assert (folder / "in").read_bytes() == OLD
    assert len(ways) == 8


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_regular_file_is_refused(folder: Path, force: bool) -> None:
    (folder / "target").write_bytes(OLD)
    (folder / "link").symlink_to("target")
    (folder / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    assert str(folder / "target") in refused(folder / "link", "symbolic link", force=force).hint
    refused(folder / "dangling", "symbolic link", force=force)
    refused(folder / "pipe", "regular file", force=force)
    refused(folder, "directory", force=force)
    refused(f"{folder}/", "must name a file", force=force)
    refused("", "must name a file", force=force)
    refused(f"{folder}/a\0b", "must name a file", force=force)
    refused(os.devnull, "regular file", force=force)
    assert (folder / "target").read_bytes() == OLD


def test_the_directory_must_be_there(folder: Path) -> None:
    refused(folder / "no" / "a", "no directory")
    (folder / "file").write_bytes(OLD)
    refused(folder / "file" / "a", "Not a directory")
    refused(folder / ("x" * 256), "too long")


@pytest.mark.usefixtures("folder")
def test_the_directory_must_be_writable() -> None:
    nobody = 65534
    directory = Path(tempfile.mkdtemp())
    try:
        directory.chmod(0o555)
        if os.geteuid() == 0:
            os.seteuid(nobody)
        try:
            with pytest.raises(MachineError, match=r"cannot write into .*: Permission denied"):
                check_output(directory / "a")
        finally:
            if os.getuid() == 0:
                os.seteuid(0)
        assert names(directory) == []
    finally:
        directory.rmdir()


def test_the_check_leaves_no_trace(folder: Path) -> None:
    check_output(folder / "a")
    assert names(folder) == []


# A full disk.


def test_a_file_size_limit_at_every_length(folder: Path) -> None:
    (folder / "old").write_bytes(OLD)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (0, 1, 8191, 8192, 50_000, 100_001, len(NEW) - 1):
        for name, force in (("new", False), ("old", True)):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            try:
                with pytest.raises(MachineError, match="larger than this process may write") as caught:
                    write(folder / name, force=force)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert caught.value.file == str(folder / name)
            assert names(folder) == ["old"]
            assert (folder / "old").read_bytes() == OLD
    write(folder / "old", force=True)
    assert (folder / "old").read_bytes() == NEW


class Faults:
    """Makes call number ``fatal`` of those it wraps fail, once, with ``code``."""

    def __init__(self, fatal: int, code: int) -> None:
        self.fatal, self.code, self.calls = fatal, code, 0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def faulty(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self.fatal:
                raise OSError(self.code, os.strerror(self.code))
            return function(*arguments, **options)

        return faulty


class FaultyFile:
    """A binary file whose writes and flushes may fail."""

    def __init__(self, file: Any, faults: Faults) -> None:
        self.write, self.flush = faults.wrap(file.write), faults.wrap(file.flush)
        self.fileno, self.close = file.fileno, file.close


@pytest.mark.parametrize("code", sorted(atomic.DISK_ERRORS), ids=errno.errorcode.get)
@pytest.mark.parametrize("force", [False, True])
def test_each_call_fails_in_turn(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: int, force: bool
) -> None:
    """The first failing call, the second, ... until a run is not hit any more: old file, no other, one MachineError."""
    (folder / "old").write_bytes(OLD)
    path = folder / ("old" if force else "new")
    fdopen = os.fdopen
    fatal = 0
    while True:
        fatal += 1
        check_output(path, force=force)
        faults = Faults(fatal, code)
        with monkeypatch.context() as patch:
            patch.setattr(atomic, "check_output", lambda *_, **__: None)  # it has its own tests
            patch.setattr(os, "fdopen", lambda fd, mode: FaultyFile(fdopen(fd, mode), faults))  # noqa: B023
            patch.setattr(Path, "replace", faults.wrap(Path.replace))
            patch.setattr(os, "fchmod", faults.wrap(os.fchmod))
            try:
                write(path, force=force)
            except MachineError as error:
                failed = error
            else:
                assert faults.calls < fatal
                break
        assert failed.file == str(path)
        assert failed.hint
        assert names(folder) == ["old"]
        assert (folder / "old").read_bytes() == OLD
    assert path.read_bytes() == NEW
    assert fatal > 5  # five writes, a flush


@pytest.mark.parametrize("force", [False, True])
def test_naming_fails(folder: Path, monkeypatch: pytest.MonkeyPatch, force: bool) -> None:
    """Without links a nameless file cannot be published; a named one is renamed."""
    (folder / "old").write_bytes(OLD)
    path = folder / ("old" if force else "new")
    nameless = hasattr(os, "O_TMPFILE")
    monkeypatch.setattr(os, "link", Faults(1, errno.EPERM).wrap(os.link))
    if nameless:
        with pytest.raises(MachineError, match="Operation not permitted"):
            write(path, force=force)
        assert names(folder) == ["old"]
        assert (folder / "old").read_bytes() == OLD
    else:
        write(path, force=force)
        assert path.read_bytes() == NEW
        assert names(folder) == (["old"] if force else ["new", "old"])


def test_an_error_about_something_else_passes_through(folder: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(folder / "a"):
        (folder / "missing").read_bytes()
    assert names(folder) == []


def test_no_descriptor_is_left_open(folder: Path) -> None:
    def count() -> int:
        return len(names(Path("/proc/self/fd")))

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system does not list descriptors")
    before = count()
    for number in range(3):
        write(folder / f"{number}")
        write(folder / f"{number}", force=True)
        with pytest.raises(ValueError, match="stop"), replacing(folder / "never"):
            raise ValueError("stop")
    assert count() == before


# A kill.

KILLED = """
import os, signal, sys, time
from random import Random
from dense2conv.convert.atomic import replacing

# The child writes a step and waits to be told to go on, so that a kill between two steps comes during the write
# however busy the machine is; the last step, where the names change, it does alone, and the kill comes when it likes.
path, kills, size, steps = sys.argv[1], int(sys.argv[2]), 1 << 22, 8
random = Random(kills)
old = bytes(size)
with replacing(path) as file:
    file.write(old)
outcomes = {"old": 0, "new": 0}
for number in range(1, kills + 1):
    new = bytes([number % 256]) * size
    ready, say_ready = os.pipe()
    go, say_go = os.pipe()
    child = os.fork()
    if not child:
        with replacing(path, force=True) as file:
            for step in range(steps):
                file.write(new[step * size // steps : (step + 1) * size // steps])
                os.write(say_ready, b".")
                os.read(go, 1)
        os._exit(0)
    last = random.randrange(2 * steps)
    for _ in range(min(last, steps - 1)):
        os.read(ready, 1)
        os.write(say_go, b".")
    os.read(ready, 1)
    if last >= steps:
        os.write(say_go, b".")
        time.sleep(random.uniform(0, 0.004))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for end in (ready, say_ready, go, say_go):
        os.close(end)
    with open(path, "rb") as file:
        found = file.read()
    assert found in (old, new), (number, len(found))
    assert last >= steps or found == old, number
    outcomes["old" if found == old else "new"] += 1
    old = found
stale = len(os.listdir(os.path.dirname(path))) - 1
print(outcomes["old"], outcomes["new"], stale)
"""


def kill(path: Path, kills: int) -> tuple[int, int, int]:
    """How often the old and the new file were found after a SIGKILL, and how many other files were left."""
    command = [sys.executable, "-c", KILLED, str(path), str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    old, new, stale = map(int, done.stdout.split())
    return old, new, stale


@pytest.mark.parametrize("kills", [30, pytest.param(200, marks=pytest.mark.slow)])
def test_a_kill_leaves_the_old_file_or_the_new_one(tmp_path: Path, kills: int) -> None:
    if not hasattr(os, "O_TMPFILE"):
        pytest.skip("this system has no nameless files")
    old, new, stale = kill(tmp_path / "a", kills)
    assert old + new == kills
    assert old > kills // 4  # else no kill came during the write
    # A kill between the link and the rename, a few microseconds, leaves a name.
    assert stale <= 1
