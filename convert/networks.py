"""A network's file opened, whatever it is: what it is shows in its content, not in its name."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import Dense2ConvError, RequestError
from .model import Model
from .opening import open_model

if TYPE_CHECKING:
    from .keras.step import Activation

_HEAD = 4096  # bytes; an HDF5 file may begin behind a user block of a power of two


def open_network(
    path: str | os.PathLike[str],
    *,
    config: str | os.PathLike[str] | None = None,
    flip: bool | None = None,
    activations: Mapping[str, "Activation"] | None = None,
) -> Model:
    """Open an ONNX file, or a Keras file (``.h5``, ``.keras``, weights with their ``config``) as an ONNX model.

    ``config``: the JSON of the architecture, for a file of weights only. ``flip``: whether its kernels are those of a
    true convolution, as Theano has them; default what the file says. ``activations``: known activations, with their
    arguments, by the names of custom ones.

    Raises ``RequestError`` where there is no such file, or an option does not fit it, ``FileError`` where it is broken,
    unsafe or not supported, ``MachineError`` where the machine fails to read it.
    """
    name = os.fspath(path)
    if not is_keras(name):
        model = open_model(name)  # first: what a damaged file is, it says itself
        given = {"--config": config, "--flip": flip, "--activation": activations or None}
        for option, value in given.items():
            if value is not None:
                raise RequestError(f"{option} is for Keras files, and this is none", file=name)
        return model
    from .keras import open_keras

    try:
        return open_keras(
            name, config=None if config is None else os.fspath(config), flip=flip, activations=activations
        )
    except Dense2ConvError as error:
        error.file = error.file or name
        raise


def is_keras(path: str) -> bool:
    """Whether the file has the first bytes of a Keras file; what cannot be opened has not."""
    from .keras.reading.signatures import looks_like_keras

    if not os.path.isfile(path):  # noqa: PTH113 - a pipe is not opened: it would wait
        return False
    try:
        with Path(path).open("rb") as file:
            return looks_like_keras(file.read(_HEAD))
    except OSError:
        return False
