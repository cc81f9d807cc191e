"""``dense2conv windows`` as a user runs it."""

import csv
import io
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from dense2conv import cli

GOLDEN = Path(__file__).parent / "golden"
RANDOM = np.random.default_rng(0)
SERIES = RANDOM.standard_normal((300, 10))
CLASSES = RANDOM.integers(0, 2, 300)

CASE_6 = ("--steps", "30000", "--length", "100", "--stride", "1", "--label", "last")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("eeg.npy", SERIES)
    np.save("classes.npy", CLASSES)
    np.savez("both.npz", x=SERIES, y=np.eye(2, dtype=np.float32)[CLASSES])
    np.savetxt("eeg.csv", SERIES, "%.17g", ",", header=",".join("abcdefghij"), comments="")
    np.savetxt("classes.csv", CLASSES, "%d")
    return tmp_path


def run(*arguments):
    return cli.run(["windows", *arguments])


def names(folder):
    return sorted(os.listdir(folder))  # noqa: PTH208


# What is printed.

PRINTED = {
    "case-6": CASE_6,
    "case-6-tiles-from-1": ("--steps", "30000", "--length", "100", "--hop", "100", "--from", "1"),
    "keep-centre": ("--steps", "11", "--length", "4", "--hop", "3", "--rest", "keep", "--label", "centre"),
    "pad-majority": ("--steps", "11", "--length", "4", "--hop", "3", "--rest", "pad", "--label", "majority"),
    "gaps": ("--steps", "13", "--length", "2", "--hop", "4", "--rest", "pad"),
    "left-out": ("--steps", "1000", "--length", "300", "--stride", "patch", "--from", "1"),
    "shorter-than-a-window": ("--steps", "3", "--length", "4", "--rest", "keep"),
}


@pytest.mark.parametrize("name", PRINTED)
@pytest.mark.parametrize("format", ["table", "markdown"])
def test_golden(name, format, capsys):
    assert run(*PRINTED[name], "--format", format) == 0
    out, err = capsys.readouterr()
    path = GOLDEN / "windows" / f"{name}.{format}"
    if os.environ.get("OVERWRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(out + err)
    assert out + err == path.read_text()


@pytest.mark.parametrize(
    ("length", "hop", "count", "last"),
    [(100, 1, 29901, 29900), (300, 1, 29701, 29700), (100, 100, 300, 29900)],
)
def test_case_6(capsys, length, hop, count, last):
    assert run("--steps", "30000", "--length", str(length), "--hop", str(hop), "--format", "json") == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["count"] == len(document["windows"]) == count
    first, second, *_, final = document["windows"]
    assert first == {"window": 0, "first": 0, "last": length - 1, "label_step": length - 1}
    assert second == {"window": 1, "first": hop, "last": hop + length - 1, "label_step": hop + length - 1}
    assert final == {"window": count - 1, "first": last, "last": 29999, "label_step": 29999}
    assert document["convolution"] == {"kernel": length, "stride": hop, "padding": [0, 0], "output": count}
    assert (
        f"one Conv1D of kernel {length}, stride {hop}, no padding (valid): 30000 steps in, {count} outputs"
        in err
    )


@pytest.mark.parametrize("count_from", [0, 1])
@pytest.mark.parametrize("rest", ["drop", "pad", "keep"])
@pytest.mark.parametrize("rule", ["last", "first", "centre", "majority", "per-step"])
def test_csv_and_json_list_every_window(capsys, count_from, rest, rule):
    """Against ranges written out by hand, counted from either number."""
    arguments = ("--steps", "41", "--length", "7", "--hop", "3", "--rest", rest, "--label", rule)
    steps = list(range(count_from, 41 + count_from))
    windows = [steps[start : start + 7] for start in range(0, 36, 3)]
    if rest != "drop":
        windows.append(steps[36:])  # step 40 is in no whole window

    def place(window):
        return {"last": window[-1], "first": window[0], "centre": window[len(window) // 2]}

    expected = [[k + count_from, w[0], w[-1], place(w).get(rule)] for k, w in enumerate(windows)]
    for format in ("json", "csv"):
        assert run(*arguments, "--from", str(count_from), "--format", format) == 0
        out, _ = capsys.readouterr()
        if format == "json":
            document = json.loads(out)
            assert document["from"] == count_from
            found = [list(window.values()) for window in document["windows"]]
        else:
            header, *rows = csv.reader(io.StringIO(out))
            assert header == ["window", "first", "last", "label_step"]
            found = [[int(cell) if cell else None for cell in row] for row in rows]
        assert found == expected


@pytest.mark.parametrize("count", [10, 11, 12, 30])
def test_only_a_long_table_is_abbreviated(capsys, count):
    assert run("--steps", str(count), "--length", "1", "-q") == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == (
        [*map(str, range(count))]
        if count <= 11
        else [*map(str, range(5)), "...", *map(str, range(count - 5, count))]
    )


def test_a_csv_of_many_windows_is_written_row_by_row(monkeypatch):
    """Nothing of the rows stays in memory; a list of them would be seen."""

    class Sink(io.TextIOBase):
        characters = 0

        def write(self, text):
            self.characters += len(text)
            return len(text)

    sink = Sink()
    assert run("--steps", "9", "--length", "9", "-q") == 0  # imports what it imports
    monkeypatch.setattr(sys, "stdout", sink)
    tracemalloc.start()
    try:
        assert run("--steps", "20099", "--length", "100", "--format", "csv", "-q") == 0
        streamed = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        assert run("--steps", "20099", "--length", "100", "--format", "json", "-q") == 0
        listed = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sink.characters > 400_000
    assert streamed < 200_000 < listed


def test_json_of_too_many_windows_says_what_to_do(tmp_path, capsys):
    arguments = ("--steps", "2000000", "--length", "100")
    assert run(*arguments, "--format", "json") == 2
    assert "at most 1000000 windows, but there are 1999901\n  --format csv" in capsys.readouterr().err
    assert run(*arguments, "--report", str(tmp_path / "r.json")) == 2
    assert run(*arguments) == 0
    assert names(tmp_path) == []


def test_without_data_only_click_is_imported():
    """And of dense2conv only what the options need: no module of convert that imports numpy."""
    script = (
        "import sys\nbefore = set(sys.modules)\nfrom dense2conv import cli\n"
        f"assert cli.run(['windows', *{CASE_6!r}]) == 0\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    modules = done.stdout.splitlines()[-1].split()
    assert "dense2conv.shapecalc.series" in modules
    roots = {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names)
    assert {root for root in roots if not root.startswith("_")} == {"click", "dense2conv"}
    assert [m for m in modules if m.startswith("dense2conv.convert.")] == ["dense2conv.convert.errors"]


def test_a_reader_that_has_seen_enough(tmp_path):
    """``| head``: it ends at once, without a word, however many windows there are."""
    with (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "dense2conv", "windows", "--steps", "2000000", "--length", "9", "--format", "csv"],
            stdout=subprocess.PIPE, stderr=err,
        )  # fmt: skip
        assert process.stdout.readline() == b"window,first,last,label_step\n"
        process.stdout.close()
        assert process.wait(timeout=30) == 141
    assert (tmp_path / "err").read_text() == ""


# What is cut.


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        ("eeg.npy", "classes.npy"),
        ("eeg.csv", "classes.csv"),
        ("both.npz:x", "both.npz:y"),
        ("eeg.npy", "classes.csv"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_series_is_cut(capsys, data, labels):
    arguments = ("--data", data, "--labels", labels, "--length", "100", "--hop", "50", "-o", "out.npz")
    assert run(*arguments, "--format", "json", "--report", "r.json") == 0
    out, err = capsys.readouterr()
    starts = range(0, 201, 50)
    with np.load("out.npz") as archive:
        found = dict(archive)
    assert np.array_equal(found["X"], [SERIES[start : start + 100] for start in starts])
    classes = found["Y"].argmax(1) if found["Y"].ndim == 2 else found["Y"]
    assert classes.tolist() == [CLASSES[start + 99] for start in starts]
    assert found["index"].tolist() == [[start, start + 100] for start in starts]
    document = json.loads(out)
    assert json.loads(Path("r.json").read_text()) == document
    assert (document["data"], document["labels"], document["output"]) == (data, labels, "out.npz")
    assert {name: (tuple(a["shape"]), a["dtype"]) for name, a in document["arrays"].items()} == {
        name: (array.shape, str(array.dtype)) for name, array in found.items()
    }
    assert f"{data}: 300 steps of 10 float64\n" in err
    assert err.splitlines()[-1].startswith("wrote out.npz: X 5x100x10 float64, Y 5")


@pytest.mark.usefixtures("folder")
def test_without_output_the_data_is_only_counted(folder, capsys):
    before = names(folder)
    assert run("--data", "eeg.npy", "--labels", "classes.npy", "--length", "100") == 0
    assert "201 whole windows = floor((300 - 100) / 1) + 1" in capsys.readouterr().err
    assert names(folder) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--length", "10"], "the series needs --steps, or --data"),
        (["--steps", "30"], "--length"),
        (["--steps", "0", "--length", "10"], "0 is not in the range"),
        (["--steps", "30", "--length", "31"], "length must be at most the number of steps, but 31 > 30"),
        (["--steps", "30", "--length", "10", "--stride", "0"], "'0' is no stride"),
        (
            ["--steps", "30", "--length", "10", "--hop", "2x3"],
            "a series has one axis, but --stride has 2 numbers",
        ),
        (["--steps", "30", "--length", "10", "--rest", "cut"], "'cut' is not one of"),
        (["--steps", "30", "--length", "10", "--label", "mean"], "'mean' is not one of"),
        (["--steps", "30", "--length", "10", "--from", "2"], "2 is not in the range"),
        (["--steps", "30", "--length", "10", "--labels", "classes.npy"], "--labels needs --data"),
        (["--steps", "30", "--length", "10", "-o", "out.npz"], "--output needs --data"),
        (["--data", "eeg.npy", "--length", "10", "-o", "out.npy"], "out.npy: windows are written as .npz"),
        (["--data", "eeg.npy", "--length", "10", "-o", "both.npz"], "both.npz: OUT exists"),
        (["--data", "both.npz:x", "--length", "10", "-o", "both.npz", "--force"], "same file"),
        (["--data", "eeg.npy", "--length", "10", "-o", "no/out.npz"], "no directory"),
        (
            ["--data", "eeg.npy", "--length", "10", "--steps", "301"],
            "eeg.npy: --steps is 301, but the data has 300",
        ),
        (["--data", "eeg.npy", "--length", "301", "-o", "out.npz"], "301 > 300"),
        (["--data", "gone.npy", "--length", "10", "-o", "out.npz"], "gone.npy: cannot read the file"),
        (["--data", "eeg.txt", "--length", "10", "-o", "out.npz"], "eeg.txt: a series is read from .npy"),
        (
            ["--data", "eeg.npy", "--labels", "few.npy", "--length", "10", "-o", "out.npz"],
            "eeg.npy and few.npy: data and labels must have the same number of steps, but have 300 and 299",
        ),
        (
            ["--data", "eeg.npy", "--length", "70", "--hop", "70", "--rest", "keep", "-o", "out.npz"],
            "eeg.npy: all windows of one array have one length, but the last one stays short: 20 of 70 steps",
        ),
        (
            [
                "--data",
                "eeg.npy",
                "--labels",
                "soft.npy",
                "--length",
                "9",
                "--label",
                "majority",
                "-o",
                "out.npz",
            ],
            "eeg.npy and soft.npy: the most frequent label is that of classes",
        ),
        (["--steps", "30", "--length", "10", "--report", "r.txt"], "a report ends in"),
    ],
)
def test_a_wrong_request_is_status_2_and_writes_nothing(folder, capsys, arguments, message):
    np.save("few.npy", CLASSES[1:])
    np.save("soft.npy", RANDOM.random((300, 2)))
    before = names(folder)
    assert run("-q", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err.splitlines()[0]
    assert len(err.splitlines()) == 2
    assert names(folder) == before


@pytest.mark.parametrize(
    "name", ["cut.npy", "cut.npz", "pickle.npy", "words.npy", "words.csv", "ragged.csv", "none.csv"]
)
@pytest.mark.parametrize("option", ["--data", "--labels"])
def test_a_file_that_must_not_be_believed_is_status_3_and_writes_nothing(folder, capsys, name, option):
    (folder / "cut.npy").write_bytes((folder / "eeg.npy").read_bytes()[:-1])
    (folder / "cut.npz").write_bytes((folder / "both.npz").read_bytes()[:-1])
    np.save("pickle.npy", np.array([{}], object), allow_pickle=True)
    np.save("words.npy", np.array(["rest", "move"]))
    (folder / "words.csv").write_text("1\nrest\n")
    (folder / "ragged.csv").write_text("1,2\n3\n")
    (folder / "none.csv").write_bytes(b"")
    before = names(folder)
    files = {"--data": "eeg.npy", option: name}
    assert (
        run("-q", *[word for pair in files.items() for word in pair], "--length", "2", "-o", "out.npz") == 3
    )
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"dense2conv: {name}: ")
    assert len(err.splitlines()) == 2
    assert names(folder) == before


def test_an_existing_file_stays_without_force(folder):
    (folder / "out.npz").write_bytes(b"mine")
    arguments = ("--data", "eeg.npy", "--length", "10", "-o", "out.npz", "-q")
    assert run(*arguments) == 2
    assert (folder / "out.npz").read_bytes() == b"mine"
    assert run(*arguments, "--force") == 0
    with np.load("out.npz") as archive:
        assert archive["X"].shape == (291, 10, 10)


def test_a_file_that_grows_shorter_while_it_is_read_is_one_line(folder):
    """The mapping then has no bytes behind it, and the system sends a signal that no try catches."""
    script = (
        "import os, sys\nfrom dense2conv import cli\nfrom dense2conv.convert import series\n"
        "real = series.write_windows\n"
        "def shrunk(*arguments, **named):\n    os.truncate('eeg.npy', 10)\n    return real(*arguments, **named)\n"
        "series.write_windows = shrunk\n"
        "sys.argv[1:] = ['windows', '-q', '--data', 'eeg.npy', '--length', '10', '-o', 'out.npz']\ncli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 3
    assert done.stderr.startswith("dense2conv: eeg.npy: the file changed while it was read\n")
    assert not (folder / "out.npz").exists()
