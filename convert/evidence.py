"""What a verification reports: one check after another, each with its verdict, its figures and a sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .compare import Figures, Verdict

_AXES = {1: ("position",), 2: ("row", "column"), 3: ("slice", "row", "column")}


@dataclass(frozen=True)
class Place:
    """Where the worst difference of an output is: the map's index, the element there, the sample."""

    position: tuple[int, ...]
    element: tuple[int, ...]
    sample: int

    def __str__(self) -> str:
        names = _AXES.get(len(self.position), tuple(f"axis {i}" for i in range(len(self.position))))
        where = [f"{name} {index}" for name, index in zip(names, self.position, strict=True)]
        if self.element:
            where.append(f"channel {self.element[0] if len(self.element) == 1 else self.element}")
        return ", ".join(where)


@dataclass(frozen=True)
class Check:
    """One piece of evidence. ``verdict`` is None where it could not be asked for; ``text`` says why.

    ``figures`` and ``places`` are by output name; ``details`` is what else JSON has of it.
    """

    name: str
    verdict: Verdict | None
    text: str
    figures: Mapping[str, Figures] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict)
    details: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The check as JSON has it."""
        outputs: dict[str, object] = {}
        for name, figures in self.figures.items():
            entry = figures.to_json()
            del entry["index"]
            if name in self.places:
                place = self.places[name]
                entry["position"], entry["element"] = list(place.position), list(place.element)
                entry["sample"] = place.sample
            outputs[name] = entry
        verdict = None if self.verdict is None else self.verdict.value
        document: dict[str, object] = {
            "name": self.name,
            "verdict": verdict,
            "text": self.text,
            "outputs": outputs,
        }
        return document | ({"details": dict(self.details)} if self.details else {})


@dataclass(frozen=True)
class Report:
    """The result of ``verify``. ``accepted``, for a gate: equivalent, or a border effect if that is allowed.

    ``patch``, ``stride`` and ``size`` have one entry an axis; ``stride`` and ``size`` are None where no input
    larger than the patch was run. ``versions`` are those of what ran, ``files`` the SHA-256 by path of the files of
    ``reference`` and ``candidate``, where they were asked for.
    """

    verdict: Verdict
    accepted: bool
    checks: tuple[Check, ...]
    patch: tuple[int, ...] | None = None
    stride: tuple[int, ...] | None = None
    size: tuple[int, ...] | None = None
    provider: str = "cpu"
    reference_provider: str = "cpu"
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __str__(self) -> str:
        """The verdict, and a line a check: what a test prints where it fails."""
        lines = [
            f"{check.name}: {'not checked' if check.verdict is None else check.verdict.value}: {check.text}"
            for check in self.checks
        ]
        return "\n".join([f"verdict: {self.verdict.value}", *lines])

    def to_json(self) -> dict[str, object]:
        """The report as JSON has it."""
        axes = {name: _listed(getattr(self, name)) for name in ("patch", "stride", "size")}
        return {
            "verdict": self.verdict.value,
            "accepted": self.accepted,
            **axes,
            "provider": self.provider,
            "reference_provider": self.reference_provider,
            "seed": self.seed,
            "versions": dict(self.versions),
            "files": {side: dict(hashes) for side, hashes in self.files.items()},
            "checks": [check.to_json() for check in self.checks],
        }


def _listed(value: Sequence[int] | None) -> list[int] | None:
    return None if value is None else list(value)


def overall(figures: Mapping[str, Figures], kinds: Mapping[str, Any]) -> Verdict:
    """The verdict over all outputs, of which ``kinds`` are the element types.

    A class index often stays the same on random inputs: that is held against the candidate only where no
    other output says anything.
    """
    verdicts = {name: f.verdict for name, f in figures.items()}
    if not verdicts:
        return Verdict.INCONCLUSIVE
    if Verdict.DIFFERENT in verdicts.values():
        return Verdict.DIFFERENT
    silent = {name for name, verdict in verdicts.items() if verdict is Verdict.INCONCLUSIVE}
    if any(np.dtype(kinds[name]).kind not in "biu" for name in silent) or len(silent) == len(verdicts):
        return Verdict.INCONCLUSIVE
    return Verdict.EQUIVALENT


def described(figures: Mapping[str, Figures], places: Mapping[str, Place]) -> str:
    """The output that rules, its worst place and both values there, in one sentence."""
    order = list(Verdict)
    name = max(figures, key=lambda n: (order.index(figures[n].verdict), figures[n].ratio))
    worst = figures[name]
    if not worst.count or not worst.index:
        return f"output {name!r}: {worst.reason}"
    text = (
        f"output {name!r}, worst at {places[name]}: reference {worst.reference:.6g}, candidate "
        f"{worst.candidate:.6g}, difference {worst.difference:.2e} of {worst.allowed:.1e} allowed, "
        f"{worst.ratio:.1e} of the largest value"
    )
    if worst.ulp_p99:
        text += (
            f"; in units of the last place {worst.ulp_median:g} (median), {worst.ulp_p99:g} (99th percentile)"
        )
    return f"{text}; {worst.reason}" if worst.verdict is Verdict.INCONCLUSIVE else text
