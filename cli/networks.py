"""Files read for a command: noted, should the reader crash; ended where it hangs; what was assumed of them said."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .guard import at_work_on, deadline
from .output import say

if TYPE_CHECKING:
    from ..convert.model import Model


_SECONDS_TO_OPEN = 60
_BYTES_PER_SECOND = 10_000_000  # slower than any reader that makes progress


@contextlib.contextmanager
def reading(paths: Sequence[str]) -> Iterator[None]:
    """Tell the guard which files are read, and end a reader that a damaged one keeps for ever."""
    at_work_on(" and ".join(dict.fromkeys(paths)))
    size = sum(os.path.getsize(path) for path in paths if os.path.exists(path))  # noqa: PTH110, PTH202
    with deadline(_SECONDS_TO_OPEN + size // _BYTES_PER_SECOND):
        yield
    at_work_on("")


def opened(path: str, keras: Mapping[str, Any]) -> "Model":
    """The network in ``path``; ``keras`` are the options of ``options.keras_options``."""
    from ..convert.networks import open_network

    with reading([path]):
        model = open_network(path, **keras)
    for note in model.source.notes if model.source is not None else ():
        say(f"{path}: {note}")
    return model
