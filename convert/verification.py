"""The proof that a map is the network it was made from, check by check.

``interface``   the same inputs and outputs, by name and element type
``structure``   every number of the network is in the map, bit for bit (``unchanged``)
``probes``      each rewritten layer by itself: exact inputs, and the bound of rounding (``probes``)
``patch``       on inputs of the patch's size both give the same: signed, with an offset, over many decades
``adequacy``    these inputs moved the rewritten layers (``adequacy``)
``data``        the same on the caller's own inputs
``windows``     on a larger input the map has, at every position, what the network gives on the crop there
``framework``   the network gives what the framework gave that it was trained in, where such outputs are at hand
``gradients``   of each rewritten layer both forms have the same gradients; only if asked for (``gradients``)
``levels``      on the CPU the runtime's optimiser changes neither network's answer (``levels``)
``providers``   what ran where, by the sessions' own word (``providers``)

Outputs behind a last Softmax or Sigmoid are compared in front of it as well (``inside``). How much two runs may differ
by is what the network itself makes of a change of one unit in the last place (``sensitivity``). The last check is asked
of networks that were translated to ONNX: the translation cannot be its own witness.

The patch's size comes from the reference, never from the candidate: a map of another patch must not choose
the crops it is judged by. What the candidate's metadata claims is checked, or only ever makes the judgement
stricter.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from . import interface
from .adequacy import adequacy
from .compare import Tolerance, Verdict, worst
from .errors import RequestError
from .evidence import Check, Report
from .execute import Session
from .expected import NOT_ASKED, Expected, on_patches, on_scan
from .gradients import gradient_check
from .inside import first_parting, with_hidden
from .interface import Analysis
from .levels import at_both_levels
from .metadata import Metadata, read_metadata
from .model import Array, Model
from .mutants import self_test_of
from .probes import probes
from .provenance import on_files
from .trial import Trial
from .unchanged import changed


@on_files
def verify(
    reference: Model,
    candidate: Model,
    *,
    patch: tuple[int, ...] | None = None,
    stride: tuple[int, ...] | None = None,
    analysis: Analysis | None = None,
    provider: str = "cpu",
    reference_provider: str = "cpu",
    allow_tf32: bool = False,
    gradients: bool = False,
    seed: int = 0,
    accept_border: bool = False,
    size: tuple[int, ...] | None = None,
    expected: Expected | None = None,
    data: Array | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    self_test: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Compare a map with the network it was made from; tuples have one entry a spatial axis.

    Both may be paths, of ONNX or Keras files, in place of models that were opened.

    ``patch`` is needed where the reference leaves its size free, ``stride`` where the candidate has no
    metadata; ``size`` is that of the larger input, chosen here by default. Random inputs come from
    ``seed``. ``expected``: what the reference's own framework gave. ``data``: the caller's own inputs,
    ``(N, *patch)`` or larger. ``provider`` runs the candidate; the reference stays on the CPU, the provider that is
    trusted, unless ``reference_provider`` says otherwise. ``allow_tf32``: float32 products may be rounded to 10 bits on
    CUDA. ``rtol`` and ``atol``: what each element may differ by, ``atol + rtol * |reference|``, instead of what the
    network's own arithmetic says. ``gradients``: those of the rewritten layers as well. ``self_test``: whether each of
    several damages to the candidate is found; if one is not, the verdict is ``inconclusive``. ``progress`` is told each
    check as it begins.

    Raises ``RequestError`` where one of them is missing or does not fit, ``FileError`` where a file cannot
    be run or its metadata is broken, ``MachineError`` where a provider or memory is missing.
    """
    progress("loading both networks")
    metadata = read_metadata(candidate.proto, candidate.path)
    shown, hidden = with_hidden(reference, candidate)
    ours = Session(shown, reference_provider, allow_tf32=allow_tf32)
    theirs = Session(hidden, provider, allow_tf32=allow_tf32)
    checks = [interface.compared(reference, candidate, ours, theirs)]

    def report(
        verdict: Verdict,
        patch: tuple[int, ...] | None = None,
        stride: tuple[int, ...] | None = None,
        size: tuple[int, ...] | None = None,
    ) -> Report:
        accepted = verdict is Verdict.EQUIVALENT or (verdict is Verdict.BORDER_EFFECT and accept_border)
        checks.append(_providers(ours, theirs))
        return Report(
            verdict, accepted, tuple(checks), patch, stride, size, provider=provider,
            reference_provider=reference_provider, seed=seed,
        )  # fmt: skip

    if checks[0].verdict is Verdict.DIFFERENT:
        return report(Verdict.DIFFERENT)
    axes = interface.spatial_axes(reference, ours.inputs[0], theirs.inputs[0], metadata, analysis)
    pixels = interface.patch_size(ours.inputs[0], axes, patch, analysis)
    progress("structure")
    structure = _structure(reference, candidate, metadata, pixels, axes)
    checks.append(structure)
    if metadata is not None and metadata.rewrites:
        progress("probes")
        checks.append(probes(reference, candidate, metadata, provider, seed=seed, allow_tf32=allow_tf32))
    channels_first = interface.channels_first(ours.inputs[0], axes, metadata, analysis)
    asked = None if rtol is None and atol is None else Tolerance(rtol or 0.0, atol or 0.0, elementwise=True)
    trial = Trial(reference, ours, theirs, axes, pixels, channels_first, seed, metadata is not None, asked)
    step = stride or (metadata.stride if metadata else None)
    if step is None and not trial.only_patch():
        raise RequestError(
            "the stride is in the map's metadata, and this candidate has none",
            hint="say it with --stride, in input pixels",
            file=candidate.path,
        )
    if step is not None and (len(step) != len(pixels) or min(step) < 1):
        raise RequestError(f"a stride is positive on each of {len(pixels)} spatial axes, not {step}")
    progress("patch")
    at_patch, *others = trial.at_patch()
    if at_patch.verdict is Verdict.DIFFERENT:
        layer = first_parting(reference, candidate, trial.one_batch(), provider)
        if layer:
            at_patch = replace(
                at_patch, text=f"{at_patch.text}; the first layer with another value is {layer!r}"
            )
    checks += [at_patch, *others]
    if data is not None:
        progress("data")
        checks.append(trial.on_data(data, step))
    progress("windows")
    windows, larger = trial.windows(step, size)
    if windows.verdict is Verdict.DIFFERENT:
        windows = _border(windows, structure, at_patch, metadata, analysis)
    if windows.verdict is Verdict.BORDER_EFFECT and analysis is not None and step is not None:
        windows = trial.moved(windows, step, analysis.overhang)
    checks.append(windows)
    progress("framework")
    checks += _framework(reference, ours, theirs, expected, windows, channels_first)
    if gradients:
        progress("gradients")
        checks.append(gradient_check(reference, candidate, metadata, seed))
    if self_test:
        progress("self-test")
        checks.append(
            self_test_of(
                candidate,
                metadata,
                lambda damaged: verify(
                    reference, damaged, patch=patch, stride=stride, analysis=analysis, provider=provider,
                    reference_provider=reference_provider, allow_tf32=allow_tf32, seed=seed, size=size, data=data,
                    rtol=rtol, atol=atol,
                ),
            )
        )  # fmt: skip
    progress("levels")
    # Closes both sessions: neither runs behind it.
    checks.append(
        at_both_levels(
            {"reference": (shown, ours), "candidate": (hidden, theirs)}, trial.shape, axes,
            coarsest=trial.coarsest, asked=asked, gain=trial.gain, seed=seed,
        )
    )  # fmt: skip
    # With both sessions closed there is room for another.
    if metadata is not None:
        progress("adequacy")
        checks += adequacy(candidate, metadata, lambda model: trial.inside(model, provider))
    verdicts = [check.verdict for check in checks if check.verdict is not None]
    if windows.verdict is Verdict.EQUIVALENT and at_patch.verdict is Verdict.INCONCLUSIVE:
        verdicts.remove(Verdict.INCONCLUSIVE)  # a few patches say less than many windows
    if windows.verdict is None and at_patch.verdict is None:
        verdicts.append(Verdict.INCONCLUSIVE)
    return report(worst(*verdicts), patch=pixels, stride=step, size=larger)


def _providers(ours: Session, theirs: Session) -> Check:
    """Which provider ran how many convolutions, products and poolings, as each session was asked."""
    placements = {"reference": ours.placement, "candidate": theirs.placement}
    text = "; ".join(f"the {name}: {placement}" for name, placement in placements.items())
    details = {name: placement.to_json() for name, placement in placements.items()}
    return Check("providers", Verdict.EQUIVALENT, text, details=details)


def _framework(
    reference: Model,
    ours: Session,
    theirs: Session,
    expected: Expected | None,
    windows: Check,
    channels_first: bool,
) -> list[Check]:
    """What the framework says of the reference, and of its map where the map equals the scan."""
    if expected is None:
        return [NOT_ASKED] if reference.source is not None else []
    found = [on_patches(reference, ours, expected)]
    scan = (
        on_scan(reference, theirs, expected, channels_first)
        if windows.verdict is Verdict.EQUIVALENT
        else None
    )
    return [*found, scan] if scan is not None else found


def _structure(
    reference: Model,
    candidate: Model,
    metadata: Metadata | None,
    patch: tuple[int, ...],
    axes: tuple[int, ...],
) -> Check:
    """That the candidate's numbers are the reference's, as its metadata lists them."""
    if metadata is None:
        return Check("structure", None, "the candidate's metadata does not say what became what")
    faults = changed(reference, candidate, metadata)
    if metadata.patch != patch:
        faults.insert(0, f"the candidate was made for patch {metadata.patch}, the reference reads {patch}")
    if metadata.spatial_axes != axes:
        faults.insert(0, f"the candidate scans axes {metadata.spatial_axes}, the reference has {axes}")
    if faults:
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        return Check("structure", Verdict.DIFFERENT, "; ".join(faults[:3]) + more)
    count = len(metadata.rewrites)
    return Check(
        "structure", Verdict.EQUIVALENT, f"{count} rewritten and all other tensors are equal bit for bit"
    )


def _border(
    windows: Check, structure: Check, at_patch: Check, metadata: Metadata | None, analysis: Analysis | None
) -> Check:
    """Windows may differ because the reference pads inside, if all else says that the map is right."""
    if (
        analysis is None
        or analysis.exactness != Verdict.BORDER_EFFECT.value
        or (metadata is not None and metadata.method == "patches")
        or not windows.figures  # it did not run, or gave another number of positions
        or any(not f.index or not np.isfinite(f.difference) for f in windows.figures.values())
        or Verdict.DIFFERENT in (structure.verdict, at_patch.verdict)
        or (structure.verdict is None and at_patch.verdict is None)
    ):
        return windows
    more = f" and {len(analysis.border) - 4} more" if len(analysis.border) > 4 else ""
    layers = ", ".join(analysis.border[:4]) + more
    text = f"{windows.text}; the patch network pads inside" + (f": {layers}" if layers else "")
    return Check("windows", Verdict.BORDER_EFFECT, text, windows.figures, windows.places)
