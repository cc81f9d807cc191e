"""``dense2conv verify``: two networks run and compared, window by window where the second scans."""

from dataclasses import replace
from typing import Any

import click

from . import options
from .gates import CHECKS, check_rows, report_models
from .guard import at_work_on
from .networks import opened
from .output import say, show
from .progress import progress
from .reports import check_reports


@click.command("verify")
@click.argument("reference", type=click.Path())
@click.argument("candidate", type=click.Path())
@options.network_options
@options.keras_options
@options.expected_option
@click.option(
    "--data", metavar="FILE", help="Your own inputs, .npy or .npz: patches, or larger ones window by window."
)
@click.option(
    "--rtol", type=click.FloatRange(0), help="Allow each element atol + rtol * |reference| (numpy.allclose)."
)
@click.option("--atol", type=click.FloatRange(0), help="See --rtol; default 0 where one of them is given.")
@click.option("--self-test", is_flag=True, help="Damage the candidate in several ways: is each one found?")
@click.option(
    "--stride", type=options.STRIDE, help="The map's stride, where the candidate's metadata has none."
)
@options.size_option
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random inputs.")
@click.option("--accept-border", is_flag=True, help="Exit with 0 where padding inside is all that differs.")
@click.option("--gradients", is_flag=True, help="Compare the gradients of each rewritten layer, too.")
@options.provider_option
@options.reference_provider_option
@click.option("--allow-tf32", is_flag=True, help="Let CUDA round float32 products to TF32's 10 bits.")
@options.force_option
@options.report_option
@options.format_option
def command(
    reference: str,
    candidate: str,
    patch: tuple[int, ...] | None,
    order: str | None,
    keras: dict[str, Any],
    expected: str | None,
    data: str | None,
    rtol: float | None,
    atol: float | None,
    self_test: bool,
    stride: tuple[int, ...] | str | None,
    size: tuple[int, ...] | None,
    seed: int,
    accept_border: bool,
    gradients: bool,
    provider: str,
    reference_provider: str,
    allow_tf32: bool,
    force: bool,
    reports: tuple[str, ...],
    format: str,  # noqa: A002
) -> None:
    """Prove that CANDIDATE gives at every position what REFERENCE gives on the crop there.

    The patch comes from REFERENCE, the stride from CANDIDATE's metadata or --stride. Exits with 0 for equivalent, with
    1 for border effect (see --accept-border), different and inconclusive.
    """
    from ..convert.expected import read_data, read_expected
    from ..convert.networks import is_keras
    from ..convert.provenance import hashes, understood
    from ..convert.providers import CUDA, clash, parse_provider
    from ..convert.verification import verify

    check_reports(reports, force=force, inputs=[reference, candidate], checks=True)
    if CUDA in (parse_provider(provider)[0], parse_provider(reference_provider)[0]) and clash():
        say(f"warning: {clash()}")
    ours = opened(reference, keras)
    theirs = opened(candidate, keras if is_keras(candidate) else {})
    at_work_on(f"{reference} and {candidate}")
    analysis = understood(ours, patch, order)
    known = analysis.patch if analysis is not None else patch
    steps = stride if stride is None or known is None else options.on_each_axis(stride, known)
    with progress("verify") as begin:
        report = verify(
            ours, theirs, patch=patch, stride=None if isinstance(steps, str) else steps, analysis=analysis,
            provider=provider, reference_provider=reference_provider, allow_tf32=allow_tf32, gradients=gradients,
            seed=seed, accept_border=accept_border, size=size,
            expected=None if expected is None else read_expected(expected),
            data=None if data is None else read_data(data), rtol=rtol, atol=atol, self_test=self_test,
            progress=begin,
        )  # fmt: skip
    if reports or format == "json":
        files = {"reference": hashes(ours, keras["config"]), "candidate": hashes(theirs)}
        report = replace(report, files=files)
    at_work_on("")
    document = {"reference": reference, "candidate": candidate, **report.to_json()}
    status = 0 if report.accepted else 1
    inputs = [reference, candidate]
    report_models("verify", reports, document, {candidate: document}, status, force=force, inputs=inputs)
    show(format, document, check_rows(document), CHECKS[1:])
    verdict = report.verdict.value
    say(f"verdict: {verdict if report.accepted else verdict.upper()}")
    click.get_current_context().exit(status)
