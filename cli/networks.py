"""A network's file opened for a command: noted, should its reader crash, and with what was assumed about it said."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .guard import at_work_on
from .output import say

if TYPE_CHECKING:
    from ..convert.model import Model


def opened(path: str, keras: Mapping[str, Any]) -> "Model":
    """The network in ``path``; ``keras`` are the options of ``options.keras_options``."""
    from ..convert.networks import open_network

    at_work_on(path)
    model = open_network(path, **keras)
    at_work_on("")
    for note in model.source.notes if model.source is not None else ():
        say(f"{path}: {note}")
    return model
