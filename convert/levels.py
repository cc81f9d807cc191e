"""Each network at both optimisation levels of ONNX Runtime: its answer must not depend on what the runtime fuses.

A deployment may switch the optimiser off, or use a build that has other fusions. So each session on the CPU runs once
more, loaded with ``ORT_DISABLE_ALL`` (each node as the file has it), on the same input as with ``ORT_ENABLE_ALL``,
which all other checks use. Fused sums round in another order (MatMul + Add: 3.8e-6 was measured); more than
``sensitivity`` allows is a verdict:

``inconclusive``  the reference has two answers, so nothing can be held against it
``different``     the candidate has two answers; the optimised one equals the reference, so the other does not

Class numbers are left out where there are scores beside them: of two scores that are nearly equal either may win.
Costs one more load of each network, one after the other, and a run on a patch; the optimised sessions are closed
before, so that memory does not grow.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import crops
from .compare import Figures, Tolerance, Verdict, compare
from .errors import FileError
from .evidence import Check
from .execute import Session
from .model import Model
from .providers import CPU
from .sensitivity import disturbed, tolerances

Array = NDArray[Any]


def at_both_levels(
    networks: Mapping[str, tuple[Model, Session]],
    shape: Sequence[int],
    axes: Sequence[int],
    *,
    coarsest: str,
    asked: Tolerance | None = None,
    gain: float = 1.0,
    seed: int = 0,
) -> Check:
    """Run each network at both levels: ``reference`` and ``candidate``, with their optimised sessions.

    ``shape`` is that of a patch with its batch, ``axes`` the places of the spatial axes in it. An axis that a network's
    input fixes has its own size. ``coarsest``: the floating type with the fewest digits in them; ``asked``: what the
    caller allows, instead of what a network makes of a disturbed input. Closes the sessions.
    """
    feeds: dict[str, Array] = {}
    answers: dict[str, dict[str, Array]] = {}
    failed: dict[str, str] = {}
    allowed: dict[str, dict[str, Tolerance]] = {}
    for name, (_, session) in networks.items():
        if session.placement.provider == CPU:
            feeds[name] = _input(session, shape, axes, gain, seed)
            try:
                answers[name] = session.run({session.inputs[0].name: feeds[name]})
                moved = answers[name]
                if feeds[name].dtype.kind == "f":
                    moved = session.run(
                        {
                            session.inputs[0].name: disturbed(
                                np.random.default_rng(seed), feeds[name], coarsest
                            )
                        }
                    )
                allowed[name] = tolerances(answers[name], moved, coarsest)
            except FileError as error:
                answers.pop(name, None)
                failed[name] = error.message
        session.close()
    figures: dict[str, dict[str, Figures]] = {}
    for name, optimized in answers.items():
        try:
            plain = Session(networks[name][0], "cpu", optimized=False)
            found = plain.run({plain.inputs[0].name: feeds[name]})
        except FileError as error:
            failed[name] = error.message
            continue
        plain.close()
        floats = {output for output, array in optimized.items() if array.dtype.kind == "f"}
        judged = floats or set(optimized)
        figures[name] = {
            o: compare(optimized[o], found[o], asked or allowed[name][o]) for o in sorted(judged)
        }
    return _judged(figures, failed)


def _input(session: Session, shape: Sequence[int], axes: Sequence[int], gain: float, seed: int) -> Array:
    """A random input of a patch's size, of this network's own size where it has one."""
    value = session.inputs[0]
    sizes = [own or size for own, size in zip(value.shape, shape, strict=True)]
    sizes[0] = value.shape[0] or 1  # a batch that is free may yet be baked in behind the interface
    patch = [sizes[axis] for axis in axes]
    generator = np.random.default_rng([seed, *sizes])
    return crops.noise(generator, sizes, value.dtype, axes, patch, gain)


def _judged(figures: Mapping[str, Mapping[str, Figures]], failed: Mapping[str, str]) -> Check:
    if not figures and not failed:
        return Check("levels", None, "optimisation levels are the CPU's, and neither network ran there")
    parts = [f"the {name} fails: {message}" for name, message in failed.items()]
    moved = list(failed)
    for name, outputs in figures.items():
        worst = max(outputs.values(), key=lambda f: f.ratio)
        text = f"the {name} moves by {worst.difference:.1e}, {worst.ratio:.1e} of its largest value"
        if any(f.verdict is Verdict.DIFFERENT for f in outputs.values()):
            moved.append(name)
            text += ", more than rounding: it has no one answer"
        parts.append(text)
    verdict = Verdict.EQUIVALENT
    if moved:
        verdict = Verdict.INCONCLUSIVE if "reference" in moved else Verdict.DIFFERENT
    # "reference" of these figures is the optimised run.
    shown = ("difference", "ratio", "allowed")
    details = {
        name: {output: {key: f.to_json()[key] for key in shown} for output, f in outputs.items()}
        for name, outputs in figures.items()
    }
    text = f"from ORT_ENABLE_ALL to ORT_DISABLE_ALL {'; '.join(parts)}"
    return Check("levels", verdict, text, details=details)
