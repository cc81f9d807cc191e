"""What a framework itself gave for some inputs: the witness that a translation cannot be for itself.

A ``.npz`` holds the inputs and outputs of the patch network, and those of a scan where there are any::

    patch_x            (samples, *patch)      the input, in the network's own layout
    patch_y, patch_y_1, ..                    each output for it
    image_x            (samples, *image)      a larger input
    scan_y, scan_y_1, ..                      each output on every crop: (samples, *positions, ..), channels last
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compare import Figures, Tolerance, Verdict, compare
from .errors import FileError, RequestError
from .evidence import Check, overall
from .execute import Session, Value
from .model import Model
from .numpy_files import map_npy, member_header, members, open_npz
from .references import reading

Array = NDArray[Any]

NOT_ASKED = Check(
    "framework",
    None,
    "the reference is dense2conv's own translation; --expected FILE.npz compares it with the framework's own outputs",
)

# Of the largest value. What a framework rounds to half precision is as coarse.
TOLERANCE, HALF_TOLERANCE = 1e-5, 1e-2


@dataclass(frozen=True)
class Expected:
    """The arrays of one file, by name."""

    path: str
    arrays: Mapping[str, Array]

    def outputs(self, name: str) -> list[Array]:
        """``name``, ``name_1``, .. as far as they go."""
        found: list[Array] = []
        while (key := name if not found else f"{name}_{len(found)}") in self.arrays:
            found.append(self.arrays[key])
        return found


def read_data(path: str) -> Array:
    """The one array of a ``.npy`` or ``.npz``. Raises ``FileError`` for a file that is none, or has several."""
    with reading(path):
        if path.lower().endswith(".npy"):
            return map_npy(path)
        with open_npz(path) as archive:
            names = list(members(archive))
    if len(names) != 1:
        raise FileError(
            f"a file of inputs has one array, but this one has {', '.join(names) or 'none'}", file=path
        )
    return _arrays(path)[names[0]]


def read_expected(path: str) -> Expected:
    """The arrays of a ``.npz``. Raises ``FileError`` for a file that is none, or lacks ``patch_x`` or ``patch_y``."""
    arrays = _arrays(path)
    for name in ("patch_x", "patch_y"):
        if name not in arrays:
            raise FileError(
                f"the framework's inputs and outputs are called patch_x and patch_y, but {name} is not among "
                f"{', '.join(sorted(arrays)) or 'no arrays'}",
                file=path,
                hint="numpy.savez(FILE, patch_x=x, patch_y=model.predict(x))",
            )
    return Expected(path, arrays)


def _arrays(path: str) -> dict[str, Array]:
    """Every array of a ``.npz``, which must be numbers."""
    arrays = {}
    with reading(path), open_npz(path) as archive:
        for name, info in members(archive).items():
            if member_header(archive, info).dtype.kind not in "fiub":
                raise FileError(f"{name} must be numbers", file=path)
            with archive.open(info) as stream:
                arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
    return arrays


def on_patches(model: Model, session: Session, expected: Expected) -> Check:
    """The network on ``patch_x`` against ``patch_y``. Raises ``RequestError`` where they do not fit its interface."""
    given = expected.outputs("patch_x")
    results = session.run(_fed(session.inputs, given, expected))
    figures = _compared(model, results, expected.outputs("patch_y"), expected)
    return _check(figures, results, f"{len(given[0])} patches of {expected.path}")


def on_scan(model: Model, session: Session, expected: Expected, channels_first: bool) -> Check | None:
    """The map of ``model`` on ``image_x`` against ``scan_y``, which is channels last; None where there is none.

    None as well where the map has other positions: ``scan_y`` is at one stride.
    """
    wanted = expected.outputs("scan_y")
    if "image_x" not in expected.arrays or not wanted:
        return None
    results = session.run(_fed(session.inputs, expected.outputs("image_x"), expected))
    if channels_first:
        # (N, C, *positions) -> (N, *positions, C)
        results = {name: np.moveaxis(array, 1, -1) for name, array in results.items()}
    if [results[name].shape for name in _outputs(model)] != [array.shape for array in wanted]:
        return None
    figures = _compared(model, results, wanted, expected)
    return _check(figures, results, f"every position of image_x in {expected.path}")


def _tolerance(model: Model) -> float:
    return HALF_TOLERANCE if model.source is not None and model.source.half else TOLERANCE


def _fed(inputs: tuple[Value, ...], arrays: list[Array], expected: Expected) -> dict[str, Array]:
    if len(inputs) != len(arrays):
        raise RequestError(
            f"the network has {len(inputs)} inputs, the file {len(arrays)}", file=expected.path
        )
    for value, array in zip(inputs, arrays, strict=True):
        sizes = zip(value.shape, array.shape, strict=False)
        if len(value.shape) != array.ndim or any(n not in (None, m) for n, m in sizes):
            shape = "x".join("?" if n is None else str(n) for n in value.shape)
            raise RequestError(
                f"the network's input is {shape}, the file's {'x'.join(map(str, array.shape))}",
                file=expected.path,
                layer=value.name,
            )
    return {v.name: np.ascontiguousarray(a.astype(v.dtype)) for v, a in zip(inputs, arrays, strict=True)}


def _outputs(model: Model) -> list[str]:
    return [output.name for output in model.proto.graph.output]


def _compared(
    model: Model, results: Mapping[str, Array], wanted: list[Array], expected: Expected
) -> dict[str, Figures]:
    names = _outputs(model)
    tolerance = _tolerance(model)
    if len(names) != len(wanted):
        raise RequestError(
            f"the network has {len(names)} outputs, the file {len(wanted)}", file=expected.path
        )
    figures = {}
    for name, array in zip(names, wanted, strict=True):
        if results[name].shape != array.shape:
            raise RequestError(
                f"the network's output is {list(results[name].shape)}, the file's {list(array.shape)}",
                file=expected.path,
                layer=name,
            )
        coarse = np.dtype(results[name].dtype).kind not in "biu"
        figures[name] = compare(
            array.astype(results[name].dtype), results[name], Tolerance(tolerance if coarse else 0.0)
        )
    return figures


def _check(figures: Mapping[str, Figures], results: Mapping[str, Array], what: str) -> Check:
    verdict = overall(figures, {name: results[name].dtype for name in figures})
    worst = max(figures.values(), key=lambda f: (list(Verdict).index(f.verdict), f.ratio))
    if verdict is not Verdict.EQUIVALENT:
        return Check(
            "framework", verdict, f"the framework gave something else for {what}: {worst.reason}", figures
        )
    text = f"checked against the framework's outputs: {what}, largest difference {worst.difference:.2e}, "
    text += f"{worst.ratio:.1e} of the largest value (at most {worst.allowed / worst.scale:.0e})"
    return Check("framework", verdict, text, figures)
