"""Keras files read as data: the configuration and the arrays, never the code, and never Keras itself.

A file is opened and its arrays find their layers (``reading``), its configuration becomes a network (``architecture``),
and each layer becomes ONNX nodes (``translation``, ``layers``). What is written as a Keras file again is in
``scanning``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import RequestError
from ..model import Model
from .architecture import read_network
from .network import Network, Origin
from .reading.files import open_file
from .step import Activation
from .translation import Arrays, translate

__all__ = ["KerasNetwork", "open_keras", "read_keras"]


@dataclass(frozen=True)
class KerasNetwork:
    """What a Keras file holds, and what was decided about it: the arguments of ``translate``."""

    network: Network
    arrays: Arrays
    origin: Origin
    flip: bool | None
    activations: Mapping[str, Activation]


def read_keras(
    path: str,
    *,
    config: str | None = None,
    flip: bool | None = None,
    activations: Mapping[str, Activation] | None = None,
) -> KerasNetwork:
    """The Keras file ``path`` as it is, not translated; arguments and errors are those of ``open_keras``."""
    custom = activations or {}
    _check_activations(custom)
    with open_file(path, config, flip=flip) as file:
        network = read_network(file.config, file.origin)
        arrays = {
            place: [(stored.name, stored.array()) for stored in of_layer]
            for place, of_layer in file.arrays(network).items()
        }
        return KerasNetwork(network, arrays, file.origin, flip, custom)


def open_keras(
    path: str,
    *,
    config: str | None = None,
    flip: bool | None = None,
    activations: Mapping[str, Activation] | None = None,
) -> Model:
    """The Keras file ``path`` as an ONNX model, as ``networks.open_network`` says."""
    read = read_keras(path, config=config, flip=flip, activations=activations)
    model = translate(
        read.network, read.arrays, read.origin, flip=flip, activations=read.activations,
        notes=_notes(read.origin, flip),
    )  # fmt: skip
    model.path = path
    return model


def _notes(origin: Origin, flip: bool | None) -> list[str]:
    """What was decided about the file, and is worth knowing."""
    flipped = origin.theano if flip is None else flip
    notes = []
    if flip is not None:
        notes.append(f"kernels are {'' if flip else 'not '}flipped, as --{'' if flip else 'no-'}flip says")
    elif flipped and origin.major == 1:
        notes.append(
            "Theano by the names of its weights: its kernels are flipped back (--no-flip if that is wrong)"
        )
    elif flipped:
        notes.append("trained on Theano: its kernels are flipped back, and its padding same is Theano's")
    return notes


def _check_activations(activations: Mapping[str, Activation]) -> None:
    """Raise ``RequestError`` unless each custom activation is a known one with arguments that it takes."""
    from .layers.functions import ARGUMENTS, FUNCTIONS

    for name, (function, arguments) in activations.items():
        if function not in FUNCTIONS:
            raise RequestError(
                f"--activation {name}={function}: there is no activation {function!r}",
                hint=f"there is {', '.join(FUNCTIONS)}",
            )
        taken = ARGUMENTS.get(function, ())
        for argument in arguments:
            if argument not in taken:
                raise RequestError(
                    f"--activation {name}={function}: {function} takes {', '.join(taken) or 'no argument'}, "
                    f"not {argument!r}"
                )
