"""An array that is named on the command line: ``FILE``, or ``FILE:NAME`` where the file holds several.

The name may hold colons itself (Keras calls a weight ``dense/kernel:0``), so a reference is split at the file's
ending, not at the colon.
"""

import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from .errors import Dense2ConvError, FileError, RequestError

_PATH_HINT = "is the path right, and may this user read it?"


def split_at_ending(reference: str, endings: Iterable[str], what: str) -> tuple[str, str]:
    """A reference as (file, name in it); the name is empty where there is none.

    Where a colon is ambiguous, the first split whose file exists counts. ``what`` is read from such files, for the
    ``RequestError`` that a file of another ending raises.

    >>> split_at_ending("dense.h5:model_weights/dense/kernel:0", [".npy", ".h5"], "a weight")
    ('dense.h5', 'model_weights/dense/kernel:0')
    """
    endings = list(endings)
    either = "|".join(re.escape(ending) for ending in endings)
    ends = [match.end() for match in re.finditer(rf"(?:{either})(?=:|$)", reference, re.IGNORECASE)]
    if not ends:
        raise RequestError(
            f"{what} is read from {', '.join(endings)}", file=reference, hint="for example FILE.npz:NAME"
        )
    end = next((end for end in ends if os.path.exists(reference[:end])), ends[0])  # noqa: PTH110
    return reference[:end], reference[end + 1 :]


def check_regular(path: str) -> int:
    """The size of the regular file ``path`` in bytes.

    Raises ``RequestError`` where there is no such file or it may not be read, ``FileError`` where it is empty or
    a pipe or device.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - the file may be a name that is not UTF-8
    except (OSError, ValueError) as error:
        raise RequestError(
            f"cannot read the file: {getattr(error, 'strerror', error)}", file=path, hint=_PATH_HINT
        ) from error
    if stat.S_ISDIR(status.st_mode):
        raise RequestError("a file is needed, but this is a directory", file=path)
    if not stat.S_ISREG(status.st_mode):
        raise FileError("a regular file is needed, but this is a device, pipe or socket", file=path)
    if not os.access(path, os.R_OK):
        raise RequestError("cannot read the file: Permission denied", file=path, hint=_PATH_HINT)
    if not status.st_size:
        raise FileError("the file is empty", file=path, hint="was the copy or download interrupted?")
    return status.st_size


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Name the file in whatever goes wrong inside; what a reader raises about its bytes is a ``FileError``."""
    try:
        yield
    except Dense2ConvError as error:
        error.file = error.file or path
        raise
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise FileError(f"cannot be read: {error}", file=path) from error


def unknown_name(name: str, names: list[str]) -> RequestError:
    """The error about a name that a file does not have; it lists the first of those that there are."""
    return RequestError(f"there is no array {name!r}", hint=f"there is {', '.join(names[:20]) or 'none'}")
