"""What a verification was made of: the files, by their SHA-256, and the versions of what ran them.

``on_files`` lets a function that compares two models take paths as well: a test names two files, and gets the report
that the command line gives.
"""

import functools
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec

from .. import __version__
from .errors import Dense2ConvError, MachineError
from .evidence import Report
from .mapped import source_files
from .model import Model
from .networks import open_network

if TYPE_CHECKING:
    from .analysis import Analysis

P = ParamSpec("P")
Network = Model | str | os.PathLike[str]


def on_files(
    compare: Callable[Concatenate[Model, Model, P], Report],
) -> Callable[Concatenate[Network, Network, P], Report]:
    """``compare`` for models or paths; its report says the versions, and of paths the SHA-256.

    A reference that is named by its path is audited, where ``analysis`` is not given: so a border effect is told from
    a difference.
    """

    @functools.wraps(compare)
    def verify(reference: Network, candidate: Network, *args: P.args, **kwargs: P.kwargs) -> Report:
        ours = reference if isinstance(reference, Model) else open_network(reference)
        theirs = candidate if isinstance(candidate, Model) else open_network(candidate)
        if ours is not reference and kwargs.get("analysis") is None:
            kwargs["analysis"] = understood(ours, kwargs.get("patch"))  # type: ignore[arg-type]
        report = replace(compare(ours, theirs, *args, **kwargs), versions=versions())
        named = {"reference": (reference, ours), "candidate": (candidate, theirs)}
        files = {side: hashes(model) for side, (given, model) in named.items() if given is not model}
        return replace(report, files=files)

    return verify  # type: ignore[return-value] # the two may also be given by name


def understood(model: Model, patch: Sequence[int] | None, order: str | None = None) -> "Analysis | None":
    """The audit of a reference, or None: two networks can be compared without being understood."""
    from .analysis import audit

    try:
        return audit(model, patch, order)
    except Dense2ConvError:
        return None  # a border effect is then simply different


def versions() -> dict[str, str]:
    """The versions that a result may depend on."""
    import numpy as np
    import onnx
    import onnxruntime

    modules = {"numpy": np, "onnx": onnx, "onnxruntime": onnxruntime}
    return {"dense2conv": __version__, "python": platform.python_version()} | {
        name: str(module.__version__) for name, module in modules.items()
    }


def hashes(model: Model, config: str | None = None) -> Mapping[str, str]:
    """The SHA-256 of the file that ``model`` was read from, and of each further one that holds its weights.

    Also of the ``config`` that was given with it, and of those whose numbers are of a type that is not mapped, or that
    hold none.
    """
    further = [*([Path(config)] if config else []), *map(Path, model.files), *source_files(model)]
    paths = [Path(model.path), *further] if model.path else further
    return {str(path): sha256(path) for path in dict.fromkeys(paths)}


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, read in pieces; ``MachineError`` where it cannot be read any more."""
    import hashlib

    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MachineError(f"cannot read the file again: {error.strerror}", file=os.fspath(path)) from error
