"""Tiles as tasks of Dask: chunks that borrow from their neighbours through Dask's own ``overlap``, a task a tile.

A chunk holds the pixels of its positions, ``s`` each; ``overlap`` gives it ``before`` more in front and ``P - s +
after`` behind, as ``tiles.chunks`` says, and the map is run on what that makes. A task depends on its chunk and its
neighbours only, so a worker that dies takes no more with it than the tiles it had: Dask runs those again elsewhere.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import Dense2ConvError, MachineError, RequestError
from .pixels import Pixels, network_axes
from .scanner import Output, Scanner
from .scanning import Plan, Progress
from .tiles import Span, Tile, behind, chunks

Array = NDArray[Any]

LOCAL = "local"
_MISSING = "pip install 'dense2conv[dask]'"
_PATIENCE = "30s"  # for a scheduler to answer
_GIVEN_UP = "5s"  # a worker that does not answer; Dask's own is 30 s, for each result that it held


def _array() -> Any:
    try:
        import dask.array
    except ImportError as error:
        raise MachineError("Dask is not installed, and --dask needs it", hint=_MISSING) from error
    return dask.array


def _tasks(plan: Plan) -> dict[tuple[int, ...], tuple[slice, Tile, Any]]:
    """The tile and the task, a ``Delayed`` of its outputs by name, by place: (group of samples, *chunk)."""
    import dask

    da = _array()
    scanner, pixels = plan.scanner, plan.pixels
    if any(reach.fixed is not None for reach in scanner.reaches):
        raise RequestError(
            "Dask cuts an input into chunks of any size, but this map takes one size only",
            hint="convert it without --size, or run it without Dask",
        )
    cut: dict[int, Any] = {0: tuple(group.stop - group.start for group in plan.groups)}
    spans: list[list[Span]] = []
    depth: dict[int, Any] = {}
    for axis, size, reach, core in zip(
        scanner.spatial_axes, pixels.size, scanner.reaches, plan.cores, strict=True
    ):
        sizes, made = chunks(size, reach, core)
        cut[axis], depth[axis] = tuple(sizes), (reach.before, behind(reach))
        spans.append(made)
    if scanner.channel_axis is not None:
        cut[scanner.channel_axis] = -1
    source = pixels.source
    if type(source).__module__.partition(".")[0] != "dask":  # each task cuts its own chunk
        own = network_axes(scanner)
        cuts = tuple(cut.get(own.find(letter), -1) for letter in pixels.axes)
        empty = np.empty((0,) * len(cuts), source.dtype)
        source = da.from_array(source, chunks=cuts, asarray=False, meta=empty)
    whole = pixels.arranged(source).rechunk(cut)
    depth = {axis: depth.get(axis, 0) for axis in range(whole.ndim)}
    lapped = da.overlap.overlap(whole, depth=depth, boundary="none", allow_rechunk=False)
    blocks = lapped.to_delayed()
    shared = dask.delayed(scanner, pure=True)
    work = dask.delayed(_run, pure=False)
    preparation = dask.delayed(pixels.detached(), pure=True, traverse=False)
    found = {}
    for place in product(range(len(plan.groups)), *(range(len(axis)) for axis in spans)):
        at = [0] * whole.ndim
        for axis, index in zip((0, *scanner.spatial_axes), place, strict=True):
            at[axis] = index
        tile = tuple(axis[index] for axis, index in zip(spans, place[1:], strict=True))
        found[place] = plan.groups[place[0]], tile, work(shared, preparation, blocks[tuple(at)], tile)
    return found


def _run(scanner: Scanner, pixels: Pixels, block: Array, tile: Tile) -> dict[str, Array]:
    """One task: the outputs of a tile by name."""
    cores = scanner.run(pixels.prepared(np.asarray(block)), tile)
    return {name: np.ascontiguousarray(core) for name, core in cores.items()}


def lazily(plan: Plan) -> dict[str, Any]:
    """The outputs by name as dask arrays; nothing is computed."""
    tasks = _tasks(plan)
    return {output.name: _assembled(plan, output, tasks) for output in plan.scanner.outputs}


def _assembled(plan: Plan, output: Output, tasks: Mapping[tuple[int, ...], tuple[slice, Tile, Any]]) -> Any:
    da = _array()
    parts = {
        place: da.from_delayed(
            task[output.name],
            output.shape(group.stop - group.start, [span.count for span in tile]),
            dtype=output.dtype,
        )
        for place, (group, tile, task) in tasks.items()
    }
    for axis in reversed((0, *output.axes)):  # the last index of the places first
        rows: dict[tuple[int, ...], list[Any]] = {}
        for place, part in parts.items():
            rows.setdefault(place[:-1], []).append(part)
        parts = {place: da.concatenate(row, axis=axis) for place, row in rows.items()}
    whole = parts[()]
    return whole[0] if plan.pixels.single else whole


def run_on(plan: Plan, client: Any, targets: Mapping[str, Any], progress: Progress | None = None) -> None:
    """Fill ``targets`` as ``Plan.run`` does, with the tiles run by the workers of ``client``.

    A tile is taken from its worker as soon as it is done. Raises what the task raised, and ``MachineError`` where the
    cluster gives up.
    """
    import dask
    from distributed import as_completed

    tasks = list(_tasks(plan).values())
    futures = client.compute([task for _, _, task in tasks])
    at = {future.key: (group, tile) for future, (group, tile, _) in zip(futures, tasks, strict=True)}
    done, total = 0, len(futures)
    waiting = as_completed(futures)
    del futures, tasks
    try:
        # A result that died with its worker is asked for until the connection is given up; only then it is run again.
        with dask.config.set({"distributed.comm.timeouts.connect": _GIVEN_UP}):
            for future in waiting:
                group, tile = at[future.key]
                for name, index, core in plan.placed(future.result(), group, tile):
                    targets[name][index] = core
                future.release()
                done += 1
                if progress is not None:
                    progress(done, total)
    except (Dense2ConvError, MemoryError):
        raise
    except Exception as error:
        if type(error).__module__.startswith(("distributed", "dask")) or isinstance(error, OSError):
            raise MachineError(f"the Dask cluster did not finish: {' '.join(str(error).split())}") from error
        raise


@contextlib.contextmanager
def connected(address: str, workers: int | None = None) -> Iterator[Any]:
    """A client of the scheduler at ``address``; of ``LOCAL``, a cluster on this machine that ends with the block.

    ``workers``: processes of a local cluster; default one for two cores, at least two. Raises ``MachineError`` where
    Dask is missing or no scheduler answers.
    """
    _array()
    try:
        import distributed
    except ImportError as error:
        raise MachineError("Dask's scheduler is not installed, and --dask needs it", hint=_MISSING) from error
    import logging

    with contextlib.ExitStack() as stack:
        try:
            if address == LOCAL:
                count = workers or max(2, (os.cpu_count() or 2) // 2)
                cluster = stack.enter_context(
                    distributed.LocalCluster(
                        n_workers=count, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0",
                        silence_logs=logging.CRITICAL,
                    )
                )  # fmt: skip
                client = stack.enter_context(distributed.Client(cluster))
            else:
                client = stack.enter_context(distributed.Client(address, timeout=_PATIENCE))
        except (OSError, ValueError, TimeoutError) as error:
            raise MachineError(
                f"no Dask scheduler answers at {address}: {' '.join(str(error).split())}",
                hint="start one with `dask scheduler`, or leave the address out for a cluster on this machine",
            ) from error
        yield client
