"""From an opened network to its map: audit, method, stride, graph, and what the map says about itself."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .. import __version__
from .analysis import EXACT, NOT_CONVERTIBLE, Analysis, audit
from .assemble import assemble
from .errors import FileError, RequestError
from .graph import Rewrite
from .metadata import KEY, VERSION, read_metadata
from .model import Model
from .patches import patches
from .skeleton import keep_source
from .trace import Layer, ambiguous, follow

METHODS = ("conv", "patches", "exact")

Stride = Sequence[int] | Literal["patch"] | None


@dataclass(frozen=True)
class Conversion:
    """A map, not yet written or verified, with everything that a report says of it."""

    source: Model
    map: Model
    analysis: Analysis
    method: str
    stride: tuple[int, ...]
    exactness: str
    rewrites: tuple[Rewrite, ...]

    @property
    def frozen(self) -> list[str]:
        """Weights that were inputs with a default, which a caller could override, and are constants of the map."""
        before = {i.name for i in self.source.proto.graph.input} & set(self.source.initializers())
        after = {i.name for i in self.map.proto.graph.input}
        overridable = self.source.proto.ir_version >= 4  # before, a default was a constant
        return sorted(before - after) if overridable else []


def convert(
    model: Model,
    *,
    patch: Sequence[int] | None = None,
    order: str | None = None,
    stride: Stride = None,
    method: str = "conv",
    size: Sequence[int] | None = None,
    batch: int | None = None,
) -> Conversion:
    """Return the map of ``model``.

    ``stride``: distance in input pixels between neighbouring vectors, any positive number a spatial axis; ``"patch"``
    tiles without overlap; default the network's own S, for ``patches`` the patch where a layer is not
    understood. ``size`` and ``batch`` fix the map's input, else it stays free. Raises ``RequestError`` for a
    stride or size that does not fit, ``FileError`` where the network is not convertible in the way asked for.
    """
    analysis = audit(model, patch, order)
    if method == "exact":
        method = "conv" if analysis.exactness_on(size) == EXACT else "patches"
    wanted = resolved_stride(analysis, stride, method)
    if size is not None:
        checked_size(analysis, size)
    rewrites: tuple[Rewrite, ...] = ()
    if method == "patches":
        if len(analysis.trace.rivals) > 1:  # a guess would cut the input along its channels
            raise ambiguous(analysis.trace.rivals, model)
        built = patches(model, analysis.trace.input, wanted, size, batch)
        exactness = EXACT
    else:
        if analysis.exactness == NOT_CONVERTIBLE:
            raise not_convertible(analysis.refusals, model.path)
        trace = follow(model, analysis.trace.input, wanted)
        if trace.refusals:  # what the network's own stride does not ask for
            raise not_convertible(trace.refusals, model.path)
        built = assemble(model, trace, size, batch)
        exactness, rewrites = analysis.exactness_on(size), tuple(trace.builder.rewrites)
    conversion = Conversion(model, built, analysis, method, wanted, exactness, rewrites)
    _describe(conversion)
    return conversion


def not_convertible(refusals: Sequence[Layer], path: str) -> FileError:
    """Return the error that names the layer which is why a network is not convertible as a convolution."""
    first, more = refusals[0], len(refusals) - 1
    return FileError(
        f"not convertible as a convolution: {first.operator}: {first.reason}"
        + (f" (and {more} more)" if more else ""),
        layer=first.name,
        file=path,
        hint="--method patches is exact for every network, at any --stride; audit lists every layer",
    )


def resolved_stride(analysis: Analysis, stride: Stride, method: str) -> tuple[int, ...]:
    """Return the map's stride in pixels, one entry a spatial axis. Raises ``RequestError`` where it does not fit."""
    if stride is None:
        # Where a layer is not understood, what stands behind it may have strides of its own.
        unknown = method == "patches" and analysis.exactness == NOT_CONVERTIBLE
        return analysis.patch if unknown else analysis.stride
    if stride == "patch":
        return analysis.patch
    wanted = tuple(int(s) for s in stride)
    if len(wanted) == 1:
        wanted *= len(analysis.patch)
    if len(wanted) != len(analysis.patch):
        raise RequestError(
            f"--stride has {len(wanted)} numbers, the network {len(analysis.patch)} spatial axes"
        )
    if any(s < 1 for s in wanted):
        raise RequestError(f"a stride must be at least 1, got {_x(wanted)}")
    return wanted


def checked_size(analysis: Analysis, size: Sequence[int]) -> None:
    """Raise ``RequestError`` unless an input of ``size`` has room for a patch."""
    if len(size) != len(analysis.patch):
        raise RequestError(f"--size has {len(size)} numbers, the network {len(analysis.patch)} spatial axes")
    if any(h < p for h, p in zip(size, analysis.patch, strict=True)):
        raise RequestError(
            f"no position fits: the input {_x(size)} is smaller than the patch {_x(analysis.patch)}",
            hint=f"give --size {_x(analysis.patch)} or larger",
        )


def _x(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def _describe(conversion: Conversion) -> None:
    """Put into the map's metadata what it is, and which of its tensors was which of the original's."""
    analysis = conversion.analysis
    text = json.dumps(
        {
            "version": VERSION,
            "writer": __version__,
            "method": conversion.method,
            "patch": list(analysis.patch),
            "stride": list(conversion.stride),
            "natural_stride": list(analysis.stride),
            "layout": analysis.layout,
            "order": analysis.order,
            "spatial_axes": list(analysis.spatial_axes),
            "exactness": conversion.exactness,
            "receptive_field": list(
                analysis.receptive_field if conversion.method == "conv" else analysis.patch
            ),
            "rewrites": [rewrite.to_json() for rewrite in conversion.rewrites],
        },
        separators=(",", ":"),
    )
    proto = conversion.map.proto
    kept = [p for p in proto.metadata_props if p.key != KEY]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    proto.metadata_props.add(key=KEY, value=text)
    metadata = read_metadata(proto)
    assert metadata is not None
    keep_source(conversion.source, conversion.map, list(metadata.rewrites))
