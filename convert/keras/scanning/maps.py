"""A map as a Keras file: rewritten, written, opened again, and proven, before it has a name.

The proof of the written file runs our own translation of it. That it means the same to Keras itself is what the tests
of the group ``keras`` hold.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ...atomic import replacing
from ...conversion import Conversion
from ...errors import FileError, MachineError, RequestError
from ...evidence import Report
from ...model import Model
from .. import KerasNetwork, open_keras, read_keras
from ..translation import options_of
from .dialects import KERAS2, configuration, keras3
from .draft import Written
from .rewriting import rewritten
from .writing import write_h5, write_keras

Prove = Callable[[Model], Report]
"""Looks at the written map, as it was opened again; raises where it is not what it must be."""


def write_keras_map(
    source: str,
    out: str,
    conversion: Conversion,
    prove: Prove | None,
    *,
    keras: Mapping[str, Any],
    size: Sequence[int] | None = None,
    batch: int | None = None,
    force: bool = False,
) -> Report | None:
    """Write the map of the Keras file ``source`` to ``out``: ``.keras``, or a legacy ``.h5``. Return the proof of it.

    ``conversion`` is that of the same file as an ONNX model, ``keras`` the options that it was opened with. A
    ``.keras`` is Keras 3's; a ``.h5`` is Keras 3's where ``source`` is, else Keras 2's.

    Raises ``RequestError`` where a map in Keras cannot be had of this file or by this method, ``FileError``, which
    names the layer, for what cannot be in one, and as ``atomic.replacing`` does; what ``prove`` raises passes through,
    and nothing is written then.
    """
    if conversion.source.source is None:
        raise RequestError(
            "a map is written as a Keras file only where the network was one", hint="name OUT .onnx"
        )
    if conversion.method == "patches":
        raise RequestError(
            "a Keras file has no --method patches: its map is convolutions", hint="name OUT .onnx"
        )
    _checked_stride(conversion)
    read = read_keras(source, **keras)
    written = _rewritten(read, conversion, size, batch)
    archive = out.lower().endswith(".keras")
    dialect = keras3(read.origin) if archive or read.origin.major > 2 else KERAS2
    config = configuration(written, read.origin, dialect)
    write = write_keras if archive else write_h5
    with replacing(out, force=force, inputs=[source]) as file:
        write(file, config, written, dialect)
        return None if prove is None else prove(_reopened(file, out, read.activations))


def _checked_stride(conversion: Conversion) -> None:
    """Raise ``RequestError`` unless the stride is a multiple of the network's own on every spatial axis: a map in Keras
    keeps the network's own layers, and a stride in between would give them dilations.
    """
    own = conversion.analysis.stride
    named = "x".join(map(str, own))
    for i, (wanted, natural) in enumerate(zip(conversion.stride, own, strict=True)):
        if wanted % natural:
            raise RequestError(
                f"the map's stride must be a multiple of the network's own, {named}: {wanted} is not a multiple of "
                f"{natural} on spatial axis {i}",
                hint=f"take --stride {named} or a multiple of it, or name OUT .onnx, which has any stride",
            )


def _rewritten(
    read: KerasNetwork, conversion: Conversion, size: Sequence[int] | None, batch: int | None
) -> Written:
    """The map, from what the audit of the translation found out about the network."""
    analysis = conversion.analysis
    shape = list(analysis.trace.input.shape[1:])
    for axis, pixels in zip(analysis.spatial_axes, analysis.patch, strict=True):
        shape[axis - 1] = pixels
    sizes = [n for n in shape if n is not None]
    if len(sizes) < len(shape):
        raise FileError(f"a map in Keras needs the sizes of all axes but the batch, not {shape}")
    return rewritten(
        read.network,
        read.arrays,
        options_of(read.network, read.origin, read.flip, read.activations),
        shape=sizes,
        spatial_axes=analysis.spatial_axes,
        stride=conversion.stride,
        size=size,
        batch=batch,
    )


def _reopened(file: BinaryIO, out: str, activations: Mapping[str, Any]) -> Model:
    """What was written to ``file``, which may have no name yet, as our own reader opens it."""
    file.flush()
    path = f"/dev/fd/{file.fileno()}"
    if not Path(path).exists():
        raise MachineError(
            "the written map cannot be opened again: this system has no /dev/fd",
            hint="--no-verify writes the map without a proof",
        )
    try:
        model = open_keras(path, activations=activations)
    except FileError as error:
        error.file = out
        raise
    model.path = out
    return model
