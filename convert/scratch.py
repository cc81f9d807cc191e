"""A temporary file for an array that cannot be mapped where it lies: packed, or written as text.

It has no name and takes disk space instead of memory. A mapping of it outlives it; the space is free again with the
last view.
"""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO

from .errors import MachineError


@contextmanager
def spilled(pieces: Iterable[bytes]) -> Iterator[IO[bytes]]:
    """A temporary file that holds ``pieces``, one behind the other, open for reading and writing.

    Raises ``MachineError`` where it cannot be written; what ``pieces`` itself raises passes through.
    """
    try:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the next line enters it
    except OSError as error:
        raise _no_room(error) from error
    with file:
        for piece in pieces:
            try:
                _write(file, piece)
            except OSError as error:
                raise _no_room(error) from error
        yield file


def _write(file: IO[bytes], piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:  # a write may stop early, just before the disk is full
        rest = rest[file.write(rest) :]


def _no_room(error: OSError) -> MachineError:
    return MachineError(
        f"cannot write a temporary file into {tempfile.gettempdir()!r}: {error.strerror}",
        hint="set TMPDIR to a directory with more room, or use a .npy, which is mapped where it lies",
    )
