"""Tiles as Dask tasks: they equal plain ONNX Runtime's one pass, on threads, on processes, and when a worker dies."""

import os
import signal
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

from dense2conv import cli
from dense2conv.convert import scan
from dense2conv.convert.conversion import convert
from dense2conv.convert.errors import MachineError, RequestError
from dense2conv.convert.pixels import Pixels, Scaling
from dense2conv.convert.scan_files import FileSource
from dense2conv.convert.scanning import Plan, load
from dense2conv.convert.writing import write_model

from . import nets
from .test_scanning import EXACT, PADDED, ROUNDING, by_name

da = pytest.importorskip("dask.array", reason="the extra dask is not installed")
RANDOM = np.random.default_rng(4)


@pytest.mark.parametrize("name", [*EXACT, *PADDED])
def test_a_dask_array_gives_one_pass(name):
    made, axes, size = (EXACT | PADDED)[name]
    model = made()
    conversion = convert(model)
    x = nets.noise(model, size, axes)
    expected = nets.run(nets.serialised(conversion.map), x)
    scanner = load(conversion)
    least = [r.least for r in scanner.reaches]
    for tile in (least, [p + 9 for p in least], None):
        for cut in (-1, 17):
            found = by_name(scan(da.from_array(x, chunks=cut), scanner, tile=tile), conversion)
            assert set(found) == set(expected)
            for key, array in found.items():
                assert array.dtype == expected[key].dtype
                whole = array.compute(scheduler="threads", num_workers=2)
                assert array.shape == whole.shape
                assert nets.difference(whole, expected[key]) < ROUNDING


def test_nothing_is_computed_until_it_is_asked_for():
    made, axes, size = EXACT["image"]
    model = made()

    def refuse(block):
        if block.size:  # dask itself asks with nothing what the type is
            raise AssertionError("computed")
        return block

    x = da.from_array(nets.noise(model, size, axes), chunks=20).map_blocks(
        refuse, dtype="f4", meta=np.empty((0,) * 4, "f4")
    )
    found = scan(x, convert(model), tile=(30, 30))
    assert found.numblocks[0] == 2
    assert min(found.numblocks[2:]) > 2
    with pytest.raises(AssertionError, match="computed"):
        found.compute(scheduler="sync")


def test_only_the_tiles_that_are_asked_for_are_run(monkeypatch):
    made, axes, size = EXACT["image"]
    model = made()
    x = nets.noise(model, size, axes)
    scanner = load(convert(model))
    found = scan(da.from_array(x, chunks=20), scanner, tile=(26, 22))
    runs = []
    own = scanner.run
    monkeypatch.setattr(scanner, "run", lambda block, tile: runs.append(tile) or own(block, tile))
    part = found[0, :, :2, :2].compute(scheduler="sync")
    (expected,) = nets.run(nets.serialised(convert(model).map), x).values()
    assert len(runs) == 1
    assert nets.difference(part, expected[0, :, :2, :2]) < ROUNDING


def test_axes_and_scales_of_a_dask_array():
    conversion = convert(EXACT["image"][0]())
    x = RANDOM.integers(0, 256, (71, 59, 3), np.uint8)
    how = {
        "axes": "HWC",
        "scale": 1 / 255,
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.3, 0.25],
        "tile": (40, 30),
    }
    found = scan(da.from_array(x, chunks=25), conversion, **how)
    assert np.array_equal(found.compute(scheduler="threads"), scan(x, conversion, **how))
    with pytest.raises(RequestError, match="pixels of uint8"):
        scan(da.from_array(x, chunks=25), conversion, axes="HWC")


def test_a_map_of_one_size_is_refused():
    conversion = convert(EXACT["image"][0](), size=(43, 37))
    with pytest.raises(RequestError, match="takes one size only"):
        scan(da.zeros((3, 71, 59), dtype="f4"), conversion)


def test_no_scheduler_answers(monkeypatch):
    clusters = pytest.importorskip("dense2conv.convert.clusters")
    pytest.importorskip("distributed")
    monkeypatch.setattr(clusters, "_PATIENCE", "1s")
    with (
        pytest.raises(MachineError, match="no Dask scheduler answers"),
        clusters.connected("tcp://127.0.0.1:9"),
    ):
        pass


# With processes.


class Noted(Pixels):
    """Pixels that take their time, and note which process runs a tile."""

    def prepared(self, block):
        time.sleep(0.03)
        (self.folder / f"{os.getpid()}-{uuid.uuid4()}").touch()
        return super().prepared(block)


@pytest.fixture
def large(tmp_path):
    """An input of 2 samples, its map, and one pass."""
    model = EXACT["image"][0]()
    x = RANDOM.standard_normal((2, 3, 211, 199)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    conversion = convert(model)
    write_model(conversion.map, tmp_path / "map.onnx")
    (expected,) = nets.run(nets.serialised(conversion.map), x).values()
    return tmp_path, expected


@pytest.mark.dask
@pytest.mark.filterwarnings("default")
def test_two_processes_are_one_pass(large, capsys, monkeypatch):
    folder, expected = large
    monkeypatch.chdir(folder)
    zarr = pytest.importorskip("zarr")
    zarr.create_array("x.zarr", shape=(2, 3, 211, 199), chunks=(1, 3, 64, 64), dtype="f4")[:] = np.load(
        "x.npy"
    )
    for source, out in (("x.npy", "out.npy"), ("x.zarr", "out.zarr")):
        assert cli.run(["run", "map.onnx", source, out, "--tile", "50x46", "--dask"]) == 0
    assert np.abs(np.load("out.npy") - expected).max() < ROUNDING * np.abs(expected).max()
    assert np.array_equal(zarr.open("out.zarr", mode="r")[:], np.load("out.npy"))
    assert "on disk" in capsys.readouterr().err


@pytest.mark.dask
@pytest.mark.filterwarnings("default")
def test_a_scheduler_that_runs_already(large, monkeypatch):
    distributed = pytest.importorskip("distributed")
    folder, expected = large
    monkeypatch.chdir(folder)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
    ) as cluster:
        address = cluster.scheduler_address
        assert cli.run(["run", "map.onnx", "x.npy", "out.npy", "--tile", "90x96", "--dask", address]) == 0
        assert len(cluster.scheduler_info["workers"]) == 1, "it goes on"
    assert np.abs(np.load("out.npy") - expected).max() < ROUNDING * np.abs(expected).max()


@pytest.mark.dask
@pytest.mark.filterwarnings("default")
def test_a_worker_that_is_killed_costs_only_its_tiles(large, monkeypatch):
    pytest.importorskip("distributed")
    # The workers import this module by name, to unpickle ``Noted``; they get the path of this process.
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    from dense2conv.convert.clusters import connected, run_on

    folder, expected = large
    scanner = load(folder / "map.onnx")
    pixels = Noted(FileSource(str(folder / "x.npy")), scanner, None, Scaling())
    pixels.folder = folder / "runs"
    pixels.folder.mkdir()
    plan = Plan(scanner, pixels, (50, 46))
    found = {o.name: np.full(plan.shape(o), np.nan, np.float32) for o in scanner.outputs}
    told, killed = [], []
    with connected("local", workers=2) as client:
        pids = client.run(os.getpid)

        def progress(done, total):
            told.append((done, total))
            if done == total // 3:
                killed.append(next(iter(pids.values())))
                os.kill(killed[0], signal.SIGKILL)

        run_on(plan, client, found, progress)
    assert told == [(i + 1, plan.steps) for i in range(plan.steps)], "each tile is written once"
    assert np.abs(found[scanner.outputs[0].name] - expected).max() < ROUNDING * np.abs(expected).max()
    runs = [int(path.name.split("-")[0]) for path in pixels.folder.iterdir()]
    again = len(runs) - plan.steps
    print(f"{plan.steps} tiles, {again} of them run again; the killed worker had run {runs.count(killed[0])}")
    assert len(set(runs)) >= 2
    assert 0 <= again <= runs.count(killed[0]) < plan.steps
    assert again <= plan.steps // 4, "what was taken from it already is not run again"
