"""Two arrays become figures and a verdict.

With ``r`` the reference and ``c`` the candidate, the measure is one number::

    ratio = max |r - c| / max |r|

the worst element against the largest, so that neither a quiet output nor one bad element among many can hide.
A float output passes where ``ratio <= tolerance``; integers and booleans (class indices) must be equal.

What passes elsewhere does not pass here: no broadcasting, no conversion between element types; a NaN or an
infinity on one side only is a difference. On both sides it is counted and proves nothing. An output that
has no element, or that is the same within the tolerance whatever goes in, proves nothing either: a constant
would pass.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import FileError

Array = NDArray[Any]


class Verdict(StrEnum):
    """The answer of a comparison, from best to worst."""

    EQUIVALENT = "equivalent"
    BORDER_EFFECT = "border effect"
    INCONCLUSIVE = "inconclusive"
    DIFFERENT = "different"


def worst(*verdicts: Verdict) -> Verdict:
    """The verdict that rules where several hold; ``inconclusive`` of none at all."""
    return max(verdicts, key=list(Verdict).index, default=Verdict.INCONCLUSIVE)


# As a share of the largest absolute value. float32: two orders of summing 25,088 products differ by 2e-6;
# fifty times that keeps engines and deep networks apart from faults. float16 has 11 bits, 2^-11 is 5e-4,
# and every layer rounds again. To be derived from each network's own arithmetic some day.
_TOLERANCES = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-9}


def tolerance_for(dtype: Any) -> float:
    """How large ``ratio`` may be for outputs of this element type; 0 (equal) for integers and booleans.

    Raises ``FileError`` for an element type that cannot be compared.

    >>> tolerance_for("float32")
    0.0001
    """
    kind = np.dtype(dtype)
    if kind.kind in "biu":
        return 0.0
    if kind.name not in _TOLERANCES:
        raise FileError(
            f"outputs are compared as integers, booleans, {', '.join(_TOLERANCES)}, not as {kind.name}"
        )
    return _TOLERANCES[kind.name]


@dataclass(frozen=True)
class Figures:
    """What a comparison found.

    ``index`` is the worst element's place, ``difference`` its absolute difference, ``reference`` and
    ``candidate`` the two values there; ``scale`` the largest finite absolute value of the reference and
    ``spread`` how far one of its elements moves from sample to sample. ``count`` elements were compared;
    ``unproven`` of them were NaN, or the same infinity, on both sides. ``reason`` says why the verdict is
    not ``equivalent``.
    """

    verdict: Verdict
    reason: str
    count: int
    unproven: int
    difference: float
    index: tuple[int, ...]
    reference: float
    candidate: float
    scale: float
    spread: float
    ratio: float
    tolerance: float

    def to_json(self) -> dict[str, object]:
        """The fields under their names; what JSON has no number for (NaN, infinities) as a string."""
        return {
            name: list(value) if isinstance(value, tuple) else _json_number(value)
            for name, value in vars(self).items()
        }


def compare(reference: Array, candidate: Array, tolerance: float | None = None) -> Figures:
    """Compare two arrays whose axis 0 is the sample; ``tolerance`` defaults to ``tolerance_for``.

    With more than one sample, a reference proves something if an element of it moves from sample to sample
    by more than the tolerance; with one sample, if its elements differ by more than that.
    """
    comparison = Comparison(tolerance)
    comparison.add(reference, candidate)
    return comparison.figures()


class Comparison:
    """A comparison in pieces, each of some samples along axis 0, so that not all need to be in memory.

    ``tolerance`` as in ``compare``; integers and booleans must be equal whatever it says. ``index`` in the
    figures counts axis 0 through all pieces.
    """

    def __init__(self, tolerance: float | None = None) -> None:
        self._tolerance = tolerance
        self._mismatch = ""
        self._samples = 0
        self._count = 0
        self._unproven = 0
        self._scale = 0.0
        self._difference = -1.0
        self._index: tuple[int, ...] = ()
        self._values = (0.0, 0.0)
        # The smallest and the largest finite value of each element over all samples.
        self._low: Array | None = None
        self._high: Array | None = None

    def add(self, reference: Array, candidate: Array) -> None:
        """Add samples: ``(samples, *anything)`` on both sides, equal in shape and element type."""
        reference, candidate = np.asarray(reference), np.asarray(candidate)
        if self._tolerance is None or reference.dtype.kind in "biu":
            self._tolerance = tolerance_for(reference.dtype)
        if reference.shape != candidate.shape:
            self._mismatch = f"shapes must be equal: {reference.shape} and {candidate.shape}"
        elif reference.dtype != candidate.dtype:
            self._mismatch = f"element types must be equal: {reference.dtype.name} and {candidate.dtype.name}"
        elif reference.size:
            with np.errstate(over="ignore", invalid="ignore"):
                self._add(np.atleast_1d(reference), np.atleast_1d(candidate))

    def _add(self, reference: Array, candidate: Array) -> None:
        r, c = reference.astype(np.float64), candidate.astype(np.float64)
        difference = np.abs(r - c)
        if reference.dtype.kind in "biu":
            # float64 holds integers up to 2^53 only: equality is asked of the integers themselves.
            difference = np.where(reference == candidate, 0.0, np.maximum(difference, 1.0))
        else:
            # The same NaN or infinity on both sides agrees, and says nothing about the numbers behind it.
            agree = (np.isnan(r) & np.isnan(c)) | (np.isinf(r) & (r == c))
            self._unproven += int(agree.sum())
            difference[agree] = 0.0
            difference[np.isnan(difference)] = np.inf
        place = int(difference.argmax())
        if difference.flat[place] > self._difference:
            self._difference = float(difference.flat[place])
            sample, *rest = (int(i) for i in np.unravel_index(place, r.shape))
            self._index = (self._samples + sample, *rest)
            self._values = (float(r.flat[place]), float(c.flat[place]))
        finite = np.isfinite(r)
        self._scale = max(self._scale, float(np.abs(r).max(initial=0.0, where=finite)))
        low, high = r.min(axis=0, initial=np.inf, where=finite), r.max(axis=0, initial=-np.inf, where=finite)
        self._low = low if self._low is None else np.minimum(self._low, low)
        self._high = high if self._high is None else np.maximum(self._high, high)
        self._count += r.size
        self._samples += r.shape[0]

    def _spread(self) -> float:
        if self._low is None or self._high is None:
            return 0.0
        finite = self._low <= self._high
        if self._samples == 1:  # the elements of one sample, for want of others
            values = self._low[finite]
            return float(np.ptp(values)) if values.size else 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            return float((self._high - self._low).max(initial=0.0, where=finite))

    def figures(self) -> Figures:
        """The figures of everything added so far."""
        difference, tolerance, spread = max(self._difference, 0.0), self._tolerance or 0.0, self._spread()
        ratio = difference / self._scale if self._scale else np.inf if difference else 0.0
        verdict, reason = Verdict.EQUIVALENT, ""
        if self._mismatch:
            verdict, reason = Verdict.DIFFERENT, self._mismatch
        elif not ratio <= tolerance:
            verdict = Verdict.DIFFERENT
            reason = f"{difference:.3g} is {ratio:.2g} of the largest value, more than {tolerance:.2g}"
        elif self._count == 0:
            verdict, reason = Verdict.INCONCLUSIVE, "the output has no element"
        elif self._unproven == self._count:
            verdict, reason = Verdict.INCONCLUSIVE, "every value is NaN or infinite on both sides"
        elif spread <= tolerance * self._scale:
            verdict, reason = Verdict.INCONCLUSIVE, "the output is the same whatever goes in"
        return Figures(
            verdict=verdict,
            reason=reason,
            count=self._count,
            unproven=self._unproven,
            difference=difference,
            index=self._index,
            reference=self._values[0],
            candidate=self._values[1],
            scale=self._scale,
            spread=spread,
            ratio=float(ratio),
            tolerance=tolerance,
        )


def _json_number(value: float | str) -> float | str:
    if isinstance(value, str) or np.isfinite(value):
        return value
    return "NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity"
