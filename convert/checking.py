"""One model looked at for a lock file: its table, its files, and for a map the proof against its reference."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..shapecalc.table import document
from .analysis import audit
from .compare import Verdict
from .errors import Dense2ConvError, RequestError
from .evidence import Report
from .lock import Entry, Pair
from .metadata import read_metadata
from .model import Model
from .provenance import hashes, understood
from .shapes import network_of
from .verification import verify


@dataclass(frozen=True)
class Job:
    """One model to look at: ``path`` and ``reference`` ("" for none) are relative to ``folder``.

    ``options`` as in a lock; ``accept_border``: a border effect is fine.
    """

    folder: str
    path: str
    reference: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    accept_border: bool = False
    provider: str = "cpu"

    def at(self, path: str) -> str:
        """Where a path of the lock is, from here."""
        return os.path.normpath(os.path.join(self.folder, path))  # noqa: PTH118 - short, as a user writes it


def describe(job: Job, model: Model, reference: Model | None) -> Entry:
    """Look at ``model``, opened, without running it.

    Raises what ``network_of`` raises, and ``RequestError`` for a map without a reference: nothing would be known of it.
    """
    metadata = read_metadata(model.proto, model.path)
    if metadata is not None and reference is None:
        raise RequestError(
            "a map is locked together with its reference, and none is named",
            hint=f"dense2conv check --update REFERENCE:{job.path}",
        )
    shapes = document(network_of(model, size=_size(job, model, reference), batch=job.options.get("batch")))
    files = {_relative(path, job.folder): digest for path, digest in hashes(model).items()}
    return Entry(files, shapes, job.options)


def prove(job: Job, model: Model, reference: Model) -> tuple[Pair, Report]:
    """Run ``model`` against ``reference``: what a lock holds of it, and all that was found. Raises as ``verify``."""
    patch = _sizes(job, "patch")
    analysis = understood(reference, patch, job.options.get("order"))
    stride = _sizes(job, "stride")
    report = verify(
        reference, model, patch=patch, stride=stride, analysis=analysis,
        provider=job.provider, accept_border=job.accept_border,
    )  # fmt: skip
    report = replace(report, files={"reference": hashes(reference), "candidate": hashes(model)})
    border = job.accept_border and report.verdict is Verdict.BORDER_EFFECT
    return Pair(job.reference, report.verdict.value, border, _figures(report)), report


def _sizes(job: Job, name: str) -> tuple[int, ...] | None:
    value = job.options.get(name)
    return None if value is None else tuple(value)


def _size(job: Job, model: Model, reference: Model | None) -> tuple[int, ...] | None:
    """The size at which the table is made: the one that was given; for a free map the least with two positions an axis.

    A network that reads patches of any size is looked at on its patch.
    """
    given = _sizes(job, "size")
    free = any(
        not dim.HasField("dim_value")
        for info in model.proto.graph.input
        if info.name not in model.initializers()
        for dim in info.type.tensor_type.shape.dim[1:]
    )
    if given is not None or not free:
        return given
    metadata = read_metadata(model.proto, model.path)
    if metadata is not None:
        return tuple(p + s for p, s in zip(metadata.patch, metadata.stride, strict=True))
    patch = _sizes(job, "patch")
    if reference is None:
        return patch
    try:
        known = audit(reference, patch, job.options.get("order"))
    except Dense2ConvError:
        return patch
    stride = _sizes(job, "stride") or known.stride
    return tuple(p + s for p, s in zip(known.patch, stride, strict=True))


def _figures(report: Report) -> dict[str, dict[str, float | str]]:
    """How far each output was off, with two digits: enough to review, and not another number on each machine."""
    found: dict[str, dict[str, float | str]] = {}
    for check in report.checks:
        ratios = {name: figures.ratio for name, figures in check.figures.items()}
        if ratios:
            found[check.name] = {name: _short(ratio) for name, ratio in ratios.items()}
    return found


def _short(ratio: float) -> float | str:
    return float(f"{ratio:.1e}") if ratio < float("inf") else str(ratio)


def _relative(path: str, folder: str) -> str:
    return Path(os.path.relpath(path, folder or ".")).as_posix()
