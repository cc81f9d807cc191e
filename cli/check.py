"""``dense2conv check``: the models of a repository, held against what its lock file says of them."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..convert.errors import RequestError
from . import options
from .check_rows import Row, gate_of_rows, gone, row_of
from .networks import reading
from .output import Column, annotate, complain, say, show
from .reports import check_reports, write_reports
from .workers import each, failure_of, processors

if TYPE_CHECKING:
    from ..convert.checking import Job
    from ..convert.lock import Entry
    from ..convert.pairing import Target

_COLUMNS = (Column("model"), Column("verdict"), Column("text", "what changed"))
_PATIENCE = 2  # seconds without a word


@click.command("check")
@click.argument("paths", metavar="[PATHS]...", nargs=-1, type=click.Path())
@click.option("--update", is_flag=True, help="Write what is found into the lock, unless something fails.")
@click.option("--lock", "lock_file", metavar="FILE", default="dense2conv.lock", show_default=True, type=click.Path(),
              help="The lock file; its paths are relative to its folder.")  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(1), metavar="N", help="Models looked at at once; default one a processor."
)
@click.option("--accept-border", is_flag=True, help="With --update: lock border effects as accepted.")
@options.network_options
@click.option(
    "--stride", type=options.STRIDE, help="With --update: the stride of maps that do not say theirs."
)
@options.size_option
@click.option("--batch", type=click.IntRange(1), metavar="N", help="The batch that a model needs.")
@options.provider_option
@options.force_option
@options.report_option
@options.format_option
def command(
    paths: tuple[str, ...],
    update: bool,
    lock_file: str,
    jobs: int | None,
    accept_border: bool,
    provider: str,
    force: bool,
    reports: tuple[str, ...],
    format: str,  # noqa: A002
    **given: Any,
) -> None:
    """Hold the models of a repository against its lock file: shapes, bytes, and each map against its reference.

    PATHS are files, folders or patterns; default all that is locked. With --update they say what the lock is to hold:
    a map as REFERENCE:MAP, where one * in both stands for the same. --patch, --order, --stride, --size and --batch are
    then locked with them. Every model is looked at in a process of its own, also after one has failed; the exit status
    is the worst one's, 1 for a model that is not as locked.

    \b
    dense2conv check --update 'nets/*.onnx:maps/*.onnx'
    dense2conv check --report check.xml
    """
    from ..convert.lock import read_lock
    from ..convert.pairing import locked, wanted

    if given["stride"] == "patch":
        raise RequestError("a lock holds a stride in pixels", hint="say it in numbers")
    _only_with_update(update, given | {"accept_border": accept_border or None})
    check_reports(reports, force=force, inputs=[lock_file, *filter(_is_file, paths)], checks=True)
    folder = str(Path(lock_file).parent)
    lock = read_lock(lock_file) if not update or Path(lock_file).exists() else {}
    targets = (wanted if update else locked)(folder, lock, paths)
    if update:
        _check_writable(lock_file)
    rows = _looked_at(targets, folder, update, accept_border, provider, given, jobs or processors())
    status = max(row.status for row in rows)
    if update and not status:
        _write(lock_file, lock, rows)
    elif update:
        say(f"{lock_file} is as it was: a lock says what is right, and not all is")
    document = {
        "lock": lock_file,
        "accepted": not status,
        "models": [row.to_json() for row in rows],
    }
    table = [{"model": row.model, "verdict": row.verdict, "text": row.said} for row in rows]
    write_reports(
        reports,
        document,
        table,
        _COLUMNS,
        force=force,
        inputs=[lock_file],
        gate=gate_of_rows(lock_file, rows),
    )
    show(format, document, table, _COLUMNS)
    _conclude(rows)
    click.get_current_context().exit(status)


def _only_with_update(update: bool, given: dict[str, Any]) -> None:
    """What a lock holds is said when it is written: a check that loosens it is none."""
    named = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    if named and not update:
        raise RequestError(
            f"{', '.join(named)}: the lock holds it, so it is said when that is written", hint="add --update"
        )


def _is_file(path: str) -> bool:
    return Path(path).is_file()


def _check_writable(lock_file: str) -> None:
    from ..convert.atomic import check_output

    check_output(lock_file, force=True)


def _looked_at(
    targets: "list[Target]",
    folder: str,
    update: bool,
    accept_border: bool,
    provider: str,
    given: dict[str, Any],
    at_once: int,
) -> list[Row]:
    """One row a target, in their order."""
    from ..convert.checking import Job  # imports what the workers need, before they are forked
    from ..convert.pairing import options_of

    listed = {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}
    rows = {i: gone(target, update) for i, target in enumerate(targets) if target.gone}
    numbers = [i for i in range(len(targets)) if i not in rows]
    jobs = []
    for target in (targets[i] for i in numbers):
        accepted = (
            target.entry is not None and target.entry.pair is not None and target.entry.pair.accept_border
        )
        jobs.append(
            Job(
                folder,
                target.path,
                target.reference,
                options_of(target, listed),
                accepted or accept_border,
                provider,
            )
        )
    said = time.monotonic()
    for done, (number, result) in enumerate(each(_work, jobs, at_once), 1):
        rows[numbers[number]] = row_of(targets[numbers[number]], result, update)
        if time.monotonic() - said > _PATIENCE and done < len(jobs):
            said = time.monotonic()
            say(f"{done} of {len(jobs)} models looked at")
    return [rows[i] for i in range(len(targets))]


def _work(job: "Job") -> dict[str, Any]:
    """In a worker: open the model and its reference, and look at them."""
    from dataclasses import asdict, replace

    from ..convert.checking import describe, prove
    from ..convert.errors import Dense2ConvError
    from ..convert.networks import open_network

    paths = [job.at(path) for path in (job.path, job.reference) if path]
    models = []
    for path in paths:
        with reading([path]):
            models.append(open_network(path))
    model, reference = (*models, None)[:2]
    assert model is not None
    entry = describe(job, model, reference)
    found: dict[str, Any] = {"entry": asdict(entry), "verify": None, "failure": None}
    if reference is not None:
        try:
            pair, report = prove(job, model, reference)
        except Dense2ConvError as error:  # the table says what changed, which may be why
            found["failure"] = failure_of(error)
        else:
            found |= {"entry": asdict(replace(entry, pair=pair)), "verify": report.to_json()}
    return found


def _write(lock_file: str, lock: "dict[str, Entry]", rows: list[Row]) -> None:
    from ..convert.atomic import replacing
    from ..convert.lock import written

    after = dict(lock)
    for row in rows:
        if row.entry is None:
            after.pop(row.model, None)
        else:
            after[row.model] = row.entry
    dangling = [name for name, entry in after.items() if entry.pair and entry.pair.reference not in after]
    if dangling:
        raise RequestError(
            "its reference is not in the lock any more", file=dangling[0], hint="update it with its reference"
        )
    text = written(after).encode()
    if Path(lock_file).exists() and Path(lock_file).read_bytes() == text:
        say(f"{lock_file} is up to date")
        return
    with replacing(lock_file, force=True) as file:
        file.write(text)
    say(f"wrote {lock_file}: {len(after)} models")


def _conclude(rows: list[Row]) -> None:
    """A line for each model that failed, with what to do; then how many there were."""
    for row in rows:
        if row.status:
            complain(row.model, f"{row.verdict}: {row.said}", hint=row.hint, file=row.model)
    failed = sum(row.status > 0 for row in rows)
    say(f"{len(rows)} models, {failed} failed" if failed else f"{len(rows)} models, all as they should be")
    if not failed:
        annotate("notice", f"{len(rows)} models, all as they should be", title="dense2conv check")
