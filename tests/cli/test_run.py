"""``dense2conv run`` as a user runs it: every format, against plain ONNX Runtime's one pass over the whole input."""

import csv
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from dense2conv import cli

ROOT = Path(__file__).parents[2]
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (83, 97, 3), dtype=np.uint8)
SERIES = RANDOM.standard_normal((240, 4)).astype(np.float32)
LABELS = RANDOM.integers(0, 3, 240)
ROUNDING = 1e-5


def network(path, shape, *, heads=1, transpose=False):
    """A convolution, a pool and dense heads; weights are random. ``transpose``: the channels are last."""
    random = np.random.default_rng(1)
    rank = len(shape) - 1
    channels, patch = (shape[-1], shape[:-1]) if transpose else (shape[0], shape[1:])
    tensors = {"k": random.standard_normal((5, channels, *[3] * rank)).astype(np.float32) / 5}
    nodes, x = [], "x"
    if transpose:
        nodes.append(helper.make_node("Transpose", ["x"], ["t"], perm=[0, rank + 1, *range(1, rank + 1)]))
        x = "t"
    nodes += [
        helper.make_node("Conv", [x, "k"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[2] * rank, strides=[2] * rank),
    ]
    rest = "p"
    if transpose:
        nodes.append(helper.make_node("Transpose", ["p"], ["q"], perm=[0, *range(2, rank + 2), 1]))
        rest = "q"
    nodes.append(helper.make_node("Flatten", [rest], ["f"]))
    width = 5 * int(np.prod([(p - 2) // 2 for p in patch]))
    outputs = []
    for i in range(heads):
        tensors[f"w{i}"] = random.standard_normal((width, 3 + i)).astype(np.float32) / np.float32(
            np.sqrt(width)
        )
        nodes.append(helper.make_node("MatMul", ["f", f"w{i}"], [f"y{i}"]))
        outputs.append(helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, ["n", 3 + i]))
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])], outputs,
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """The maps, converted once."""
    folder = tmp_path_factory.mktemp("maps")
    for name, shape, heads, last in (
        ("map", (3, 14, 12), 1, False),
        ("last", (14, 12, 3), 1, True),
        ("two", (3, 14, 12), 2, False),
        ("series", (4, 20), 1, False),
        ("volume", (1, 9, 8, 8), 1, False),
    ):
        network(folder / f"{name}-patch.onnx", shape, heads=heads, transpose=last)
        assert (
            cli.run(["convert", str(folder / f"{name}-patch.onnx"), str(folder / f"{name}.onnx"), "-q"]) == 0
        )
    return folder


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, maps):
    monkeypatch.chdir(tmp_path)
    for path in maps.glob("*.onnx"):
        (tmp_path / path.name).symlink_to(path)
    np.save("pixels.npy", PIXELS)
    np.save("x.npy", PIXELS.transpose(2, 0, 1).astype(np.float32) / 255)
    np.save("series.npy", SERIES)
    np.savetxt("series.csv", SERIES, "%.9g", ",", header="a,b,c,d", comments="")
    np.savetxt("labels.csv", LABELS, "%d")
    return tmp_path


def one_pass(path, x):
    runtime = onnxruntime.InferenceSession(str(Path(path).resolve()), providers=["CPUExecutionProvider"])
    names = [o.name for o in runtime.get_outputs()]
    return dict(zip(names, runtime.run(names, {"x": x}), strict=True))


def scaled():
    return np.load("x.npy")[None]


def run(*arguments):
    return cli.run(["run", *map(str, arguments)])


def close(found, expected):
    return (
        found.shape == expected.shape
        and found.dtype == expected.dtype
        and np.abs(found - expected).max() <= ROUNDING * np.abs(expected).max()
    )


def refused(capsys, *arguments):
    status = run(*arguments)
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith(("dense2conv:", "  "))]
    return status, lines[0].removeprefix("dense2conv: "), lines[1].strip()


def new_files(folder, *known):
    names = {path.name for path in folder.iterdir()} - {path.name for path in folder.glob("*.onnx")}
    return names - {"pixels.npy", "x.npy", "series.npy", "series.csv", "labels.csv"} - set(known)


# What comes out.


def write_image(name):
    if name.endswith(".zarr"):
        zarr = pytest.importorskip("zarr")
        zarr.create_array(name, shape=PIXELS.shape, chunks=(30, 40, 3), dtype="u1")[:] = PIXELS
    elif name.endswith(".npz"):
        np.savez(name, other=np.zeros(3), pixels=PIXELS)
    elif name.endswith("tif"):
        tifffile = pytest.importorskip("tifffile")
        tifffile.imwrite(name, PIXELS, compression="zlib" if name.startswith("packed") else None)
    elif name.endswith("png"):
        pytest.importorskip("PIL.Image").fromarray(PIXELS).save(name)
    return {"pixels.npz": "pixels.npz:pixels"}.get(name, name)


@pytest.mark.parametrize(
    "name", ["pixels.npy", "pixels.npz", "image.png", "image.tif", "packed.tif", "image.zarr"]
)
def test_each_kind_of_input(capsys, name):
    known = write_image(name)
    order = () if name.endswith(("png", "tif")) else ("--axes", "HWC")
    assert run("map.onnx", known, "out.npy", "--scale", "1/255", "--tile", "31x27", *order) == 0
    (expected,) = one_pass("map.onnx", scaled()).values()
    assert close(np.load("out.npy"), expected[0])
    said = capsys.readouterr()
    assert said.out == ""
    assert "H=83, W=97, C=3, uint8" in said.err
    assert "patch 14x12, a vector every 2x2 pixels: 35x43 positions, 24 tiles of 30x26 at most" in said.err
    assert "in one process, 18.1 kB on disk" in said.err
    assert "wrote out.npy: y0 3x35x43 float32" in said.err


def test_a_jpeg_is_its_own_pixels():
    image = pytest.importorskip("PIL.Image")
    image.fromarray(PIXELS).save("image.jpg")
    x = np.asarray(image.open("image.jpg")).transpose(2, 0, 1)[None].astype(np.float32)
    assert run("map.onnx", "image.jpg", "out.npy", "--mean", "10,20,30", "--std", "50") == 0
    x = (x - np.reshape([10, 20, 30], (1, 3, 1, 1)).astype(np.float32)) / 50
    assert close(np.load("out.npy"), one_pass("map.onnx", x)["y0"][0])


def test_a_palette_is_looked_up():
    image = pytest.importorskip("PIL.Image")
    image.fromarray(PIXELS).quantize(16).save("image.png")
    x = np.asarray(image.open("image.png").convert("RGB")).transpose(2, 0, 1)[None].astype(np.float32)
    assert run("map.onnx", "image.png", "out.npy", "--scale", "1") == 0
    assert close(np.load("out.npy"), one_pass("map.onnx", x)["y0"][0])


@pytest.mark.parametrize("ending", ["npy", "npz", "zarr"])
@pytest.mark.parametrize("name", ["map", "two"])
def test_each_kind_of_output(folder, name, ending):
    if ending == "zarr":
        zarr = pytest.importorskip("zarr")
    np.save("batch.npy", np.concatenate([scaled(), scaled()[..., ::-1]]))
    assert run(f"{name}.onnx", "batch.npy", f"out.{ending}", "--tile", "31x27") == 0
    expected = one_pass(f"{name}.onnx", np.load("batch.npy"))
    if ending == "npz":
        found = dict(np.load("out.npz"))
    elif ending == "zarr":
        opened = zarr.open("out.zarr", mode="r")
        found = {"y0": opened[:]} if name == "map" else {key: array[:] for key, array in opened.arrays()}
        first = opened if name == "map" else opened["y0"]
        assert first.chunks == (1, 3, 9, 8), "a tile is a chunk"
    else:
        files = {"y0": "out.npy"} if name == "map" else {"y0": "out.y0.npy", "y1": "out.y1.npy"}
        found = {key: np.load(file) for key, file in files.items()}
        assert new_files(folder, "batch.npy") == set(files.values())
    assert set(found) == set(expected)
    assert all(close(found[key], expected[key]) for key in expected)


def test_channels_last_stay_last():
    assert run("last.onnx", "pixels.npy", "out.npy", "--scale", "1/255", "--tile", "31x27") == 0
    (expected,) = one_pass("last.onnx", scaled().transpose(0, 2, 3, 1)).values()
    assert expected.shape[-1] == 3
    assert close(np.load("out.npy"), expected[0])


def test_a_volume():
    x = RANDOM.standard_normal((23, 21, 19)).astype(np.float32)
    np.save("volume.npy", x)
    assert run("volume.onnx", "volume.npy", "out.npy", "--tile", "12x11x13") == 0
    assert close(np.load("out.npy"), one_pass("volume.onnx", x[None, None])["y0"][0])
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite("volume.tif", x, photometric="minisblack")
    assert run("volume.onnx", "volume.tif", "again.npy") == 0
    assert close(np.load("again.npy"), np.load("out.npy"))


# Rows of a series.


def rows(name="out.csv"):
    with Path(name).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("align", "offset"), [("last", 19), ("centre", 10), ("first", 0)])
@pytest.mark.parametrize("source", ["series.csv", "series.npy"])
def test_a_row_a_step(align, offset, source):
    order = ("--axes", "TC") if source.endswith("npy") else ()
    given = (
        "series.onnx",
        source,
        "out.csv",
        "--labels",
        "labels.csv",
        "--align",
        align,
        "--tile",
        "50",
        *order,
    )
    assert run(*given) == 0
    expected = one_pass("series.onnx", SERIES.T[None])["y0"][0]  # (3, positions)
    found = rows()
    assert [row["step"] for row in found] == [str(step) for step in range(240)]
    assert [row["label"] for row in found] == [str(label) for label in LABELS]
    seen = 0
    for step, row in enumerate(found):
        place, rest = divmod(step - offset, 2)
        if rest or not 0 <= place < expected.shape[1]:
            assert {row[key] for key in ("start", "stop", "prediction", "value_0", "value_2")} == {"nan"}
            continue
        seen += 1
        assert (row["start"], row["stop"]) == (str(2 * place), str(2 * place + 20))
        values = np.array([float(row[f"value_{i}"]) for i in range(3)])
        assert np.abs(values - expected[:, place]).max() < ROUNDING
        assert row["prediction"] == str(values.argmax())
    assert seen == expected.shape[1] == 111


def test_pads_are_what_was_said_and_may_be_left_out():
    assert run("series.onnx", "series.csv", "out.csv", "--pad", "-1") == 0
    assert [rows()[i]["prediction"] for i in (0, 18)] == ["-1", "-1"]
    assert "label" not in rows()[0]
    assert run("series.onnx", "series.csv", "out.csv", "--pad", "drop", "--force") == 0
    assert [int(row["step"]) for row in rows()] == list(range(19, 240, 2))


def test_rows_in_several_blocks(monkeypatch):
    assert run("series.onnx", "series.csv", "out.csv") == 0
    monkeypatch.setattr("dense2conv.convert.step_rows._BLOCK", 7)
    assert run("series.onnx", "series.csv", "small.csv") == 0
    assert Path("out.csv").read_bytes() == Path("small.csv").read_bytes()


# The picture.


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_class_is_drawn(folder, ending):
    pytest.importorskip("matplotlib")
    picture = f"seen.{ending}"
    assert run("map.onnx", "x.npy", "out.npy", "--heatmap", picture, "--class", "2") == 0
    assert Path(picture).stat().st_size > 3000
    assert new_files(folder) == {"out.npy", picture}


@pytest.mark.parametrize("name", ["two", "last", "series"])
def test_what_is_drawn_is_the_class(name):
    pytest.importorskip("matplotlib")
    from dense2conv.cli.heatmap import Heatmap
    from dense2conv.convert.pixels import Pixels, Scaling
    from dense2conv.convert.scanning import Plan, load, scan

    x = {"two": scaled()[0], "last": scaled()[0].transpose(1, 2, 0), "series": SERIES.T}[name]
    scanner = load(f"{name}.onnx")
    plan = Plan(scanner, Pixels(x, scanner, None, Scaling()))
    arrays = scan(x, scanner)
    arrays = arrays if isinstance(arrays, dict) else {"y0": arrays}
    key = "y1" if name == "two" else "y0"
    values, steps = Heatmap(plan, f"{key}:2").values(arrays[key])
    assert set(steps) == {1}
    assert np.array_equal(values, arrays[key][..., 2] if name == "last" else arrays[key][2])
    figure = Heatmap(plan, f"{key}:2")._figure(arrays[key])
    if name != "series":
        drawn = figure.axes[0].images[0]
        # the first vector stands for pixels 6, 7 of 14 rows and 5, 6 of 12 columns
        assert drawn.get_extent()[0::3] == [4.5, 5.5]
        assert np.array_equal(drawn.get_array(), values)


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "status", "message", "hint"),
    [
        (("pixels.npy", "out.npy", "--axes", "HWC"), 2, "pixels of uint8, the network reads float32", "--scale"),
        (("pixels.npy", "out.npy"), 2, "takes 3 channels, but the input 83x97x3 has 83", "say --axes HWC"),
        (("x.npy", "out.npy", "--axes", "XYZ"), 2, "--axes XYZ does not fit this map", "NCHW"),
        (("x.npy", "out.npy", "--tile", "13x12"), 2, "the tile 13x12 is smaller than the patch 14x12", "larger --tile"),
        (("x.npy", "out.npy", "--tile", "100"), 2, "--tile has 1 sizes, the map 2 spatial axes", ""),
        (("x.npy", "x.npy"), 2, "OUT must not be an input", "another name"),
        (("x.npy", "x.npy", "--force"), 2, "OUT must not be an input", "another name"),
        (("x.npy", "map.onnx.npy.txt"), 2, "a map is written as .npy, .npz, .csv, .zarr", "OUT.npy"),
        (("x.npy", "out.csv"), 2, "rows a step are those of a series, but this map has 2 axes", ""),
        (("x.npy", "no/out.npy"), 2, "there is no directory", "mkdir"),
        (("none.npy", "out.npy"), 2, "no such file", "path"),
        (("x.npy", "out.npy", "--class", "1"), 2, "--class says what --heatmap draws", "--heatmap"),
        (("x.npy", "out.npy", "--heatmap", "h.png"), 2, "output 'y0' has 3 classes: which is drawn?", "--class 0"),
        (("x.npy", "out.npy", "--heatmap", "h.png", "--class", "3"), 2, "has classes 0 to 2, so there is no 3", ""),
        (("x.npy", "out.npy", "--heatmap", "h.jpg"), 2, "a plot ends in .png or .svg", ""),
        (("x.npy", "out.npy", "--labels", "labels.csv"), 2, "--labels stand in the rows of a .csv", "OUT.csv"),
        (("x.npy", "out.npy", "--dask", "x.npy"), 2, "'x.npy' is no Dask scheduler", "--dask local"),
        (("x.npy", "out.npy", "--mean", "1,2"), 2, "--mean has 2 numbers, the network 3 channels", "commas"),
        (("x.npy", "out.npy", "--scale", "1/0"), 2, "'1/0' is no number", "--help"),
        (("small.npy", "out.npy"), 2, "no position fits: the input is 13x97, smaller than the patch 14x12", "larger"),
        (("damaged.npy", "out.npy"), 3, "damaged.npy: ", ""),
        (("damaged.png", "out.npy"), 3, "damaged.png: not an image that can be read", ""),
        (("words.npy", "out.npy"), 3, "numbers are needed", ""),
    ],
)  # fmt: skip
def test_refusals(folder, capsys, arguments, status, message, hint):
    np.save("small.npy", np.zeros((3, 13, 97), np.float32))
    np.save("words.npy", np.array([["a"]]))
    Path("damaged.npy").write_bytes(Path("x.npy").read_bytes()[:-1])
    if arguments[0].endswith("png"):
        pytest.importorskip("PIL.Image").fromarray(PIXELS).save("whole.png")
        Path("damaged.png").write_bytes(Path("whole.png").read_bytes()[:2000])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    found, first, second = refused(capsys, "map.onnx", *arguments)
    assert (found, message in first, hint in second) == (status, True, True), (found, first, second)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_is_no_map_is_refused(capsys):
    status, first, second = refused(capsys, "map-patch.onnx", "x.npy", "out.npy")
    assert (status, "this network is not a map" in first, "convert" in second) == (3, True, True)


def test_another_number_of_labels(folder, capsys):
    np.save("few.npy", LABELS[:-1])
    status, first, _ = refused(capsys, "series.onnx", "series.csv", "out.csv", "--labels", "few.npy")
    assert (status, "have 240 and 239" in first) == (2, True)
    assert new_files(folder) == {"few.npy"}


@pytest.mark.parametrize("out", ["out.npy", "out.npz", "out.zarr"])
def test_an_out_that_exists_stays_unless_forced(folder, capsys, out):
    if out.endswith("zarr"):
        pytest.importorskip("zarr")
    assert run("map.onnx", "x.npy", out) == 0
    capsys.readouterr()
    before = Path(out).stat().st_ino
    assert refused(capsys, "map.onnx", "x.npy", out)[:2] == (2, f"{out}: OUT exists")
    assert Path(out).stat().st_ino == before
    assert run("map.onnx", "x.npy", out, "--force") == 0
    assert Path(out).stat().st_ino != before
    assert new_files(folder) == {out}


def test_only_a_zarr_directory_is_replaced(capsys):
    zarr = pytest.importorskip("zarr")
    Path("out.zarr").mkdir()
    Path("out.zarr/thesis.txt").write_text("all of it")
    status, first, _ = refused(capsys, "map.onnx", "x.npy", "out.zarr", "--force")
    assert (status, "is no Zarr directory" in first) == (2, True)
    assert Path("out.zarr/thesis.txt").read_text() == "all of it"
    zarr.create_array("in.zarr", shape=(3, 83, 97), dtype="f4")[:] = scaled()[0]
    status, first, _ = refused(capsys, "map.onnx", "in.zarr", "./in.zarr", "--force")
    assert (status, "OUT must not be an input" in first) == (2, True)
    group = zarr.open_group("group.zarr", mode="w")
    group.create_array("a", shape=(3, 83, 97), dtype="f4")[:] = scaled()[0]
    group.create_array("b", shape=(3, 8, 9), dtype="f4")
    status, first, _ = refused(capsys, "map.onnx", "group.zarr", "out.npy")
    assert (status, "which array is meant? There is a, b" in first) == (2, True)
    status, first, _ = refused(capsys, "map.onnx", "group.zarr:c", "out.npy")
    assert (status, "there is no array 'c'" in first) == (2, True)
    assert run("map.onnx", "group.zarr:a", "out.npy") == 0


def test_a_full_disk_is_seen_before_the_work(capsys, monkeypatch):
    free = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("dense2conv.convert.scan_files.shutil.disk_usage", lambda _: free)
    status, first, _ = refused(capsys, "map.onnx", "x.npy", "out.npy")
    assert (status, "need 18060 bytes, but only 1000 are free" in first) == (4, True)


@pytest.mark.parametrize(
    ("package", "source", "out", "extra"),
    [
        ("PIL", "image.png", "out.npy", "images"),
        ("tifffile", "image.tif", "out.npy", "images"),
        ("zarr", "x.npy", "out.zarr", "zarr"),
    ],
)
def test_an_extra_that_is_missing(capsys, monkeypatch, package, source, out, extra):
    if source != "x.npy":
        write_image(source)
    monkeypatch.setitem(sys.modules, package, None)
    status, first, second = refused(capsys, "map.onnx", source, out)
    assert (status, "is not installed" in first) == (4, True)
    assert second == f"pip install 'dense2conv[{extra}]'"


# Interrupted, and large.


def start(folder, *arguments, **how):
    command = [sys.executable, "-c", "from dense2conv.cli import main; main()", "run", *map(str, arguments)]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, **how)


@pytest.mark.parametrize("out", ["out.npy", "out.npz", "out.zarr"])
def test_an_interrupted_run_leaves_nothing(folder, out):
    if out.endswith("zarr"):
        pytest.importorskip("zarr")
    np.save("large.npy", np.zeros((3, 3000, 3000), np.float32))
    process = start(folder, "map.onnx", "large.npy", out, "--tile", "16x14")
    for line in process.stderr:
        if "on disk" in line:
            break
    time.sleep(0.5)
    assert process.poll() is None, "it was too fast to be interrupted"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    process.stderr.close()
    assert new_files(folder) == {"large.npy"}


@pytest.mark.slow
def test_two_gigabytes_in_600_megabytes(folder):
    """A sparse file with pixels here and there, so that it need not be written; they are compared there."""
    side = 13_400  # 3 * side**2 * 4 bytes = 2.15 GB
    x = np.lib.format.open_memmap("large.npy", "w+", np.float32, (3, side, side))
    places = [(0, 0), (side - 400, side - 400), (5000, 7000), (9000, 100)]
    for row, column in places:
        x[:, row : row + 400, column : column + 400] = RANDOM.standard_normal((3, 400, 400))
    del x
    process = start(folder, "map.onnx", "large.npy", "out.npy")
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    assert process.returncode == 0, said
    peak = max(usage.ru_maxrss, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024
    print(f"peak {peak:.0f} MB; {said}")
    assert peak < 600
    found = np.load("out.npy", mmap_mode="r")
    x = np.load("large.npy", mmap_mode="r")
    for row, column in places:
        (expected,) = one_pass(
            "map.onnx", np.array(x[None, :, row : row + 400, column : column + 400])
        ).values()
        assert expected.std() > 0.1
        part = found[
            :, row // 2 : row // 2 + expected.shape[2], column // 2 : column // 2 + expected.shape[3]
        ]
        assert close(np.array(part), expected[0])
