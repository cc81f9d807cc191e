"""Two arrays become figures and a verdict.

With ``r`` the reference and ``c`` the candidate, a float output passes where every element has

    |r - c| <= absolute + relative * max |r|          or, where the caller asks for it element by element,
    |r - c| <= absolute + relative * |r|              which is ``numpy.allclose``

The first measures the worst element against the largest, so that neither a quiet output nor one bad element among many
can hide. Integers and booleans (class indices) must be equal.

What passes elsewhere does not pass here: no broadcasting, no conversion between element types; a NaN or an infinity on
one side only is a difference. On both sides it is counted and proves nothing. An output that has no element, or that is
the same whatever goes in, proves nothing either: a constant would pass.
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


# As a share of the largest absolute value, where nothing is known of the network: ``sensitivity`` has what is allowed
# where it can be run. float32: two orders of summing 25,088 products differ by 2e-6; fifty times that keeps engines
# apart from faults. float16 has 11 bits, 2^-11 is 5e-4, and every layer rounds again. An output that moves by less than
# this is taken for a constant.
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
class Tolerance:
    """How far a float output may be off: ``relative`` of the largest value, or of each where ``elementwise``."""

    relative: float
    absolute: float = 0.0
    elementwise: bool = False

    def allowed(self, scale: float) -> float:
        """The largest difference that passes beside a value of ``scale``."""
        return self.absolute + self.relative * scale


@dataclass(frozen=True)
class Figures:
    """What a comparison found.

    ``index`` is the worst element's place, ``difference`` its absolute difference, ``reference`` and ``candidate`` the
    two values there, ``allowed`` what the difference may be; ``scale`` the largest finite absolute value of the
    reference and ``spread`` how far one of its elements moves from sample to sample. ``count`` elements were compared;
    ``unproven`` of them were NaN, or the same infinity, on both sides. ``ulp_median`` and ``ulp_p99``: how many
    representable numbers lie between the two, at the median and the 99th percentile (0 for integers). ``reason`` says
    why the verdict is not ``equivalent``.
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
    allowed: float
    ulp_median: float
    ulp_p99: float

    def to_json(self) -> dict[str, object]:
        """The fields under their names; what JSON has no number for (NaN, infinities) as a string."""
        return {
            name: list(value) if isinstance(value, tuple) else _json_number(value)
            for name, value in vars(self).items()
        }


def compare(reference: Array, candidate: Array, tolerance: Tolerance | None = None) -> Figures:
    """Compare two arrays whose axis 0 is the sample; ``tolerance`` defaults to that of ``tolerance_for``.

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

    def __init__(self, tolerance: Tolerance | None = None) -> None:
        self._tolerance = tolerance
        self._constant = 0.0  # a spread up to this share of the scale is none
        self._mismatch = ""
        self._samples = 0
        self._count = 0
        self._unproven = 0
        self._scale = 0.0
        self._excess = -np.inf  # of the worst element: its difference, less what is allowed for its own size
        self._difference = 0.0
        self._index: tuple[int, ...] = ()
        self._values = (0.0, 0.0)
        # The smallest and the largest finite value of each element over all samples.
        self._low: Array | None = None
        self._high: Array | None = None
        self._ulps: list[Array] = []
        self._kept = 0

    def add(self, reference: Array, candidate: Array) -> None:
        """Add samples: ``(samples, *anything)`` on both sides, equal in shape and element type."""
        reference, candidate = np.asarray(reference), np.asarray(candidate)
        self._constant = tolerance_for(reference.dtype)
        if self._tolerance is None or reference.dtype.kind in "biu":
            self._tolerance = Tolerance(self._constant)
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
        if reference.dtype.kind == "f" and self._kept < _MOST_ULPS:
            self._ulps.append(ulps(reference, candidate))
            self._kept += reference.size
        tolerance = self._tolerance or Tolerance(0.0)
        excess = difference
        if tolerance.elementwise:
            excess = difference - tolerance.relative * np.where(np.isfinite(r), np.abs(r), 0.0)
        place = int(excess.argmax())
        if excess.flat[place] > self._excess:
            self._excess = float(excess.flat[place])
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
        tolerance, spread = self._tolerance or Tolerance(0.0), self._spread()
        beside = abs(self._values[0]) if tolerance.elementwise else self._scale
        allowed = tolerance.allowed(beside if np.isfinite(beside) else 0.0)
        ratio = self._difference / self._scale if self._scale else np.inf if self._difference else 0.0
        verdict, reason = Verdict.EQUIVALENT, ""
        if self._mismatch:
            verdict, reason = Verdict.DIFFERENT, self._mismatch
        elif self._count and not self._difference <= allowed:
            verdict = Verdict.DIFFERENT
            reason = (
                f"{self._difference:.3g} is more than {allowed:.2g}, and {ratio:.2g} of the largest value"
            )
        elif self._count == 0:
            verdict, reason = Verdict.INCONCLUSIVE, "the output has no element"
        elif self._unproven == self._count:
            verdict, reason = Verdict.INCONCLUSIVE, "every value is NaN or infinite on both sides"
        elif spread <= max(allowed, self._constant * self._scale):
            verdict, reason = Verdict.INCONCLUSIVE, "the output is the same whatever goes in"
        median, high = np.percentile(np.concatenate(self._ulps), (50, 99)) if self._ulps else (0.0, 0.0)
        return Figures(
            verdict=verdict,
            reason=reason,
            count=self._count,
            unproven=self._unproven,
            difference=self._difference,
            index=self._index,
            reference=self._values[0],
            candidate=self._values[1],
            scale=self._scale,
            spread=spread,
            ratio=float(ratio),
            allowed=allowed,
            ulp_median=float(median),
            ulp_p99=float(high),
        )


_MOST_ULPS = 1 << 22  # elements whose distance is kept


def ulps(one: Array, other: Array) -> Array:
    """How many representable numbers lie between the elements of two arrays of one floating type, 0 for NaN in both.

    >>> ulps(np.float32([1, 0]), np.nextafter(np.float32([1, 0]), np.float32(2))).tolist()
    [1.0, 1.0]
    """
    size = one.dtype.itemsize
    integer, lowest = np.dtype(f"i{size}"), -(1 << (8 * size - 1))

    def ordered(array: Array) -> Array:
        bits: Array = np.ascontiguousarray(array).view(integer)
        wide: NDArray[Any] = bits.astype(np.float64 if size < 8 else np.longdouble)
        # Negative numbers count backwards from the sign bit, so that -0 and 0 are one place.
        place: Array = np.where(np.signbit(wide), lowest - wide, wide)
        return place

    distance: Array = np.abs(ordered(one) - ordered(other)).astype(np.float64)
    distance[np.isnan(one) & np.isnan(other)] = 0.0
    return distance.reshape(-1)


def _json_number(value: float | str) -> float | str:
    if isinstance(value, str) or np.isfinite(value):
        return value
    return "NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity"
