"""The two interfaces, and what of them is rows and columns: names, axes, the patch, where the channels stand.

The axes and the patch come from the reference; the candidate only says them where the reference leaves them open, and
never to its advantage.
"""

from collections.abc import Sequence
from typing import Protocol

from .compare import Verdict
from .errors import FileError, RequestError
from .evidence import Check
from .execute import Session, Value
from .metadata import Metadata
from .model import Model


class Analysis(Protocol):
    """What the audit knows about the reference; one entry a spatial axis, axes counted in its input."""

    @property
    def patch(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def spatial_axes(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def channel_axis(self) -> int | None: ...  # noqa: D102
    @property
    def exactness(self) -> str: ...  # noqa: D102
    @property
    def border(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def overhang(self) -> tuple[int, ...]: ...  # noqa: D102


def compared(reference: Model, candidate: Model, ours: Session, theirs: Session) -> Check:
    """The same inputs and outputs by name, order and element type; the same rank of the input."""

    def differs(text: str) -> Check:
        return Check("interface", Verdict.DIFFERENT, text)

    for kind in ("inputs", "outputs"):
        mine, other = (
            [v for v in getattr(session, kind) if kind == "inputs" or v.name in _outputs(model)]
            for session, model in ((ours, reference), (theirs, candidate))
        )
        if [v.name for v in mine] != [v.name for v in other]:
            names = [v.name for v in mine], [v.name for v in other]
            if kind == "inputs":
                raise _unmatched(reference, candidate, *map(str, names))
            return differs(f"{kind} are {names[0]}, the candidate's {names[1]}")
        for a, b in zip(mine, other, strict=True):
            if a.dtype != b.dtype:
                return differs(f"{kind[:-1]} {a.name!r} is {a.dtype}, the candidate's is {b.dtype}")
    if len(ours.inputs) != 1:
        raise FileError(f"a patch network has one input, not {len(ours.inputs)}")
    if not ours.outputs:
        raise FileError("a network has an output, this one has none")
    shape, other_shape = ours.inputs[0].shape, theirs.inputs[0].shape
    if len(shape) < 2:
        raise FileError(f"a patch network's input has a batch and a spatial axis, not {shape}")
    if len(shape) != len(other_shape):
        raise _unmatched(reference, candidate, f"of {len(shape)} axes", f"of {len(other_shape)}")
    return Check("interface", Verdict.EQUIVALENT, "names and types of inputs and outputs agree")


def _unmatched(reference: Model, candidate: Model, ours: str, theirs: str) -> FileError:
    return FileError(
        f"the networks must have the same inputs: those of {reference.path or 'the reference'} are {ours}, those of "
        f"{candidate.path or 'the candidate'} {theirs}",
        hint="are these two the network and its map? names and order count",
    )


def _outputs(model: Model) -> set[str]:
    """The names of a network's own outputs."""
    return {output.name for output in model.proto.graph.output}


def spatial_axes(
    reference: Model, mine: Value, other: Value, metadata: Metadata | None, analysis: Analysis | None
) -> tuple[int, ...]:
    """The places of the spatial axes in the input: known from the reference, else as the candidate says."""
    axes: tuple[int, ...]
    if analysis is not None:
        axes = tuple(analysis.spatial_axes)
    elif metadata is not None:
        axes = metadata.spatial_axes
    else:
        # What the candidate freed or made larger. Wrong axes cannot pass: their crops would not agree.
        axes = tuple(i for i, n in enumerate(other.shape) if i and (n is None or n != mine.shape[i]))
    if not axes and metadata is None:
        # The same sizes as the reference: only the patch itself can be run, and any axis will do for it.
        axes = tuple(range(min(2, len(mine.shape) - 1), len(mine.shape)))
    if not axes or max(axes) >= len(mine.shape) or min(axes) < 1 or len(set(axes)) != len(axes):
        raise FileError(f"spatial axes {axes} do not fit an input of shape {mine.shape}", file=reference.path)
    return axes


def patch_size(
    mine: Value, axes: tuple[int, ...], asked: tuple[int, ...] | None, analysis: Analysis | None
) -> tuple[int, ...]:
    """The patch's size: of the reference's input; where that is free, as asked for, or from the analysis."""
    if asked is not None and (len(asked) != len(axes) or min(asked) < 1):
        raise RequestError(f"a patch has a positive size on each of {len(axes)} spatial axes, not {asked}")
    known = [mine.shape[axis] for axis in axes]
    if asked is not None:
        if any(n not in (None, p) for n, p in zip(known, asked, strict=True)):
            raise RequestError(f"the patch is what the reference reads, {known}, not {list(asked)}")
        return asked
    if analysis is not None and any(n is None for n in known):
        known = list(analysis.patch)
    sizes = tuple(n for n in known if n is not None)
    if len(sizes) != len(axes):
        raise RequestError(
            "the patch's size comes from the reference, which leaves it free",
            hint="say it with --patch, as HxW",
        )
    return sizes


def channels_first(
    mine: Value, axes: tuple[int, ...], metadata: Metadata | None, analysis: Analysis | None
) -> bool:
    """Whether the channels stand in front of the spatial axes, in the input and so in the map."""
    channel = None if analysis is None else analysis.channel_axis
    if channel is None and len(mine.shape) == len(axes) + 2:
        channel = next(i for i in range(1, len(mine.shape)) if i not in axes)
    if channel is not None:
        return channel < min(axes)
    return metadata is None or metadata.layout == "channels first"
