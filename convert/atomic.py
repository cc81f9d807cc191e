"""New files appear whole or not at all, and an old one stays until then.

The bytes go to a file without a name (Linux ``O_TMPFILE``), which gets its name when it is complete: a kill
at any moment leaves the old file or the new one, and nothing else. Where the file system cannot do that, the
file has a temporary name in the same directory, which an error removes and only a SIGKILL can leave behind.
An existing OUT is replaced by ``rename``, which is atomic; for that a nameless file is linked under a
temporary name just before.

Nothing is synced to the disk: a crash of the machine, unlike one of the program, may lose the file.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import MachineError, RequestError

StrPath = str | os.PathLike[str]

# What a failed write means. Other errors inside a ``with replacing`` block are not about OUT, and pass
# through.
DISK_ERRORS = {
    errno.ENOSPC: "no space is left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than this process may write",
    errno.EIO: "the device reports an input/output error",
    errno.EROFS: "the file system is read-only",
}
_PLACE_HINT = "write into a directory that this user may write into"
_DISK_HINT = "nothing was written, and an old file is as it was; make room or write elsewhere"


def check_output(path: StrPath, *, force: bool = False, inputs: Sequence[StrPath] = ()) -> None:
    """Refuse an output that could not, or must not, be written, before any work is done for it.

    Raises RequestError where ``path`` is one of ``inputs`` in any spelling (even with ``force``), a symbolic
    link, not a regular file, in a directory that does not exist, or exists and ``force`` is not set;
    MachineError where the directory cannot be written.
    """
    out = os.fspath(path)
    directory = Path(out).parent
    if not out or out.endswith("/") or "\0" in out:
        raise RequestError("OUT must name a file", file=out)
    try:
        link = os.lstat(out)
    except FileNotFoundError:
        link = None
    except OSError as error:
        raise RequestError(f"cannot write here: {error.strerror}", file=out, hint=_PLACE_HINT) from error
    if link is not None:
        _check_existing(out, link, force=force, inputs=inputs)
    if not directory.is_dir():
        raise RequestError(
            f"there is no directory {str(directory)!r}", file=out, hint="make it first: mkdir -p"
        )
    try:
        NewFile(directory).discard()
    except OSError as error:
        raise MachineError(
            f"cannot write into {str(directory)!r}: {error.strerror}", file=out, hint=_PLACE_HINT
        ) from error


def _check_existing(out: str, link: os.stat_result, *, force: bool, inputs: Sequence[StrPath]) -> None:
    """Refuse an OUT that exists, unless it is a regular file, no input, and may be replaced."""
    for source in inputs:
        with suppress(OSError):  # an input that is not there is reported by who opens it
            if Path(source).samefile(out):
                raise RequestError(
                    f"OUT must not be an input, but it is the same file as {os.fspath(source)!r}",
                    file=out,
                    hint="write to another name",
                )
    if stat.S_ISLNK(link.st_mode):
        raise RequestError(
            "OUT must not be a symbolic link",
            file=out,
            hint=f"write to what it points at: {os.path.realpath(out)!r}",
        )
    if stat.S_ISDIR(link.st_mode):
        raise RequestError("OUT must be a file, but it is a directory", file=out)
    if not stat.S_ISREG(link.st_mode):
        raise RequestError("OUT must be a regular file, but it is a device, pipe or socket", file=out)
    if not force:
        raise RequestError("OUT exists", file=out, hint="pass --force to replace it")


@contextmanager
def replacing(path: StrPath, *, force: bool = False, inputs: Sequence[StrPath] = ()) -> Iterator[BinaryIO]:
    """A binary file, open for writing and reading, that becomes ``path`` when the block ends well.

    It has the permissions of the file that it replaces, else the umask's; the block must not close it. Raises
    as ``check_output`` does, and MachineError where the disk is full or fails; on any error ``path`` stays as
    it was.
    """
    check_output(path, force=force, inputs=inputs)
    out = os.fspath(path)
    with new_file(out) as new:
        yield new.file
        new.publish(Path(out).name, replace=force)


@contextmanager
def new_file(path: StrPath) -> Iterator["NewFile"]:
    """A file in the directory of ``path`` that the block may publish there; else nothing is left of it.

    Raises MachineError, which names ``path``, where the directory cannot be written or the disk is full or
    fails.
    """
    out = os.fspath(path)
    try:
        new = NewFile(Path(out).parent)
    except OSError as error:
        raise _machine_error(error, out) from error
    try:
        yield new
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise  # about something else that the block did
        raise _machine_error(error, out) from error
    finally:
        new.discard()


def _machine_error(error: OSError, out: str) -> MachineError:
    reason = DISK_ERRORS.get(error.errno or 0, error.strerror)
    return MachineError(f"cannot write the file: {reason}", file=out, hint=_DISK_HINT)


class NewFile:
    """A file that is being written into ``directory`` and has no name there yet.

    ``file`` is open for writing and reading. ``publish`` gives it a name; ``discard`` closes it and, unless
    it was published, leaves no trace of it. The constructor raises OSError where the directory cannot be
    written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._temporary: Path | None = None  # the path that it has meanwhile; None: it has none
        self.file: BinaryIO = os.fdopen(self._create(), "w+b")

    def _create(self) -> int:
        """A new file's descriptor: without a name where that works, else under a temporary one."""
        nameless: int | None = getattr(os, "O_TMPFILE", None)  # Linux only
        if nameless is not None:
            with suppress(OSError):  # not on this file system; any other reason stops the next attempt too
                descriptor = os.open(self._directory, nameless | os.O_RDWR | os.O_CLOEXEC, 0o666)
                if Path(f"/proc/self/fd/{descriptor}").exists():  # without it there is no way to name it
                    return descriptor
                os.close(descriptor)
        temporary = self._temporary_path()
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
        self._temporary = temporary
        return descriptor

    def _temporary_path(self) -> Path:
        return self._directory / f".dense2conv-{secrets.token_hex(8)}.tmp"

    def publish(self, name: str, *, replace: bool) -> None:
        """Name the file ``name``, at once and complete; nothing can be written to it any more.

        Raises RequestError where that name is taken and ``replace`` is not set, MachineError where naming
        fails.
        """
        path = self._directory / name
        self.file.flush()
        try:
            self._publish(path, replace=replace)
        except FileExistsError as error:
            raise RequestError("OUT exists", file=str(path), hint="pass --force to replace it") from error
        except OSError as error:
            raise _machine_error(error, str(path)) from error

    def _publish(self, path: Path, *, replace: bool) -> None:
        if replace:
            with suppress(FileNotFoundError):
                os.fchmod(self.file.fileno(), stat.S_IMODE(os.lstat(path).st_mode) & 0o777)
        if self._temporary is not None:
            self.file.close()  # a network file system may say only now that the disk is full
        try:
            self._link(path)
        except FileExistsError:
            if not replace:
                raise
        except OSError:
            if self._temporary is None:
                raise  # a file system without links: rename is all it has
        else:
            return
        if self._temporary is None:
            temporary = self._temporary_path()
            self._link(temporary)
            self._temporary = temporary
        self._temporary.replace(path)
        self._temporary = None

    def _link(self, path: Path) -> None:
        """Give the file the additional name ``path``; FileExistsError where that is taken."""
        if self._temporary is not None:
            os.link(self._temporary, path)
            return
        # With src_dir_fd Python calls linkat with AT_SYMLINK_FOLLOW; else the link in /proc itself would be
        # linked.
        root = os.open("/", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.link(f"proc/self/fd/{self.file.fileno()}", path, src_dir_fd=root, follow_symlinks=True)
        finally:
            os.close(root)

    def discard(self) -> None:
        """Close the file and remove its temporary name, if it has one."""
        with suppress(OSError):  # what is still in the buffer is not wanted
            self.file.close()
        if self._temporary is not None:
            with suppress(OSError):
                self._temporary.unlink()
            self._temporary = None
