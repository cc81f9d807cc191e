"""Which Keras wrote a file, and on which backend.

::

    version    keras_version of the file, or of the configuration; a legacy file without one is Keras 1 (so does Keras)
               a configuration that names modules but no version is Keras 3's
    backend    written since Keras 2.0;  before, TensorFlow's weights are called "..:0" and Theano's are not

Theano flips kernels, so that a guess would be silently wrong: where the names cannot tell, the user must.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ...errors import FileError, RequestError
from ..network import Origin

Version = tuple[int, ...]


def version_of(text: str) -> Version:
    """The numbers of a version; none where there are none.

    >>> version_of("2.2.4-tf")
    (2, 2, 4)
    """
    found = re.match(r"\d{1,9}(\.\d{1,9}){0,3}", text)
    return tuple(map(int, found[0].split("."))) if found else ()


def declared(config: Mapping[str, Any]) -> Origin:
    """What the JSON of ``model.to_json()`` says itself."""
    version, backend = (config.get(key) for key in ("keras_version", "backend"))
    numbers = version_of(version) if isinstance(version, str) else ()
    if not numbers and isinstance(config.get("module"), str):  # Keras 3 writes the one and not the other
        numbers = (3,)
    return Origin(numbers, backend if isinstance(backend, str) else "")


def decided(
    version: Version, backend: str | None, names: Callable[[], Iterable[str]], flip: bool | None
) -> Origin:
    """The origin of a legacy file; ``names`` are those of its weights, ``flip`` is what the user says of them.

    Raises ``RequestError`` where nothing tells Theano from TensorFlow.
    """
    if backend or version[:1] > (1,):
        return Origin(version, backend or "")
    ends = {name.endswith(":0") for name in names()}
    if len(ends) == 1:
        return Origin(version, "tensorflow" if ends.pop() else "theano")
    if flip is None:
        found = (
            "some of its weights' names end in ':0' and some do not" if ends else "its weights have no names"
        )
        raise RequestError(
            f"a file of Keras 1 does not say whether Theano or TensorFlow trained it, and {found}",
            hint="Theano flips kernels: say --flip for a Theano model, --no-flip for a TensorFlow one",
        )
    return Origin(version, "theano" if flip else "tensorflow")


def merged(config: Origin, weights: Origin) -> Origin:
    """The origin of weights and of the configuration that was given with them.

    Raises ``FileError`` where they cannot belong together.
    """
    if config.version and weights.version and (config.major == 1) != (weights.major == 1):
        raise FileError(
            f"the weights were written by Keras {weights.major}, but the configuration by Keras {config.major}",
            hint="write the configuration with the Keras that wrote the weights: model.to_json()",
        )
    if config.backend and weights.backend and config.theano != weights.theano:
        raise FileError(
            f"the weights were trained on {weights.backend}, but the configuration was written on {config.backend}",
            hint="write the configuration with the backend that trained the weights: model.to_json()",
        )
    return Origin(config.version or weights.version, config.backend or weights.backend)
