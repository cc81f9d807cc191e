"""Tables of numbers, against numpy's reader; and lines that are none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dense2conv.convert import csv_files
from dense2conv.convert.csv_files import map_csv
from dense2conv.convert.errors import FileError, MachineError

numbers = arrays.arrays(np.float64, arrays.array_shapes(min_dims=2, max_dims=2, max_side=6))


@given(table=numbers, header=st.booleans(), newline=st.sampled_from(["\n", "\r\n"]))
def test_every_number_comes_back(tmp_path_factory, table, header, newline):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    lines = [",".join(map(repr, row)) for row in table.tolist()]
    if header:
        lines.insert(0, ",".join(f"channel {i}" for i in range(table.shape[1])))
    path.write_text(newline.join(lines), newline="")
    found = map_csv(str(path))
    assert found.dtype == np.float64
    assert not found.flags.writeable
    theirs = np.loadtxt(path, delimiter=",", skiprows=int(header))
    assert np.array_equal(found, theirs.reshape(found.shape), equal_nan=True)
    assert found.shape == (table.shape if table.shape[1] > 1 else (len(table),))


@pytest.mark.parametrize("buffer", [1, 7, 1 << 17])
@pytest.mark.parametrize("classes", [False, True])
def test_a_table_in_pieces(tmp_path, monkeypatch, buffer, classes):
    monkeypatch.setattr(csv_files, "_BUFFER", buffer)
    table = np.random.default_rng(0).integers(-1000, 1000, (50, 3))
    np.savetxt(tmp_path / "a.csv", table, "%d", ",")
    found = map_csv(str(tmp_path / "a.csv"), classes=classes)
    assert found.dtype == (np.int64 if classes else np.float64)
    assert np.array_equal(found, table)


@pytest.mark.parametrize(
    ("text", "dtype", "values"),
    [
        ("0\n1\n", np.int64, [0, 1]),
        ("label\n-1\n +2 \n", np.int64, [-1, 2]),
        ("0\n1.0\n", np.float64, [0, 1]),
        ("0\n1e3\n", np.float64, [0, 1000]),
        ("999999999999999\n", np.int64, [999999999999999]),
        ("9007199254740993\n", np.float64, [9007199254740992]),
        ("\ufeff0\n\n1\n", np.int64, [0, 1]),
        ('"0"\n"1"', np.int64, [0, 1]),
    ],
)
def test_classes_are_integers_where_they_are_written_so(tmp_path, text, dtype, values):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    found = map_csv(str(tmp_path / "a.csv"), classes=True)
    assert found.dtype == dtype
    assert found.tolist() == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n3,4\n5\n", "line 3 has 1 cells, but the first has 2"),
        ("a,b\n1\n", "line 2 has 1 cells, but the first has 2"),
        ("a,b\n1,2\n3,x\n", "line 3, cell 2: 'x' is no number"),
        ("a,1\n", "line 1, cell 1: 'a' is no number"),
        ("1,2\n3,\n", "line 2, cell 2: '' is no number"),
        ("1;2\n3;4\n", "line 2, cell 1: '3;4' is no number"),
        (f"1\n{'y' * 5000}\n", r"line 2, cell 1: 'y{40}\.\.\.' is no number"),
        ("a,b\n", "no line of numbers"),
        ("\n\n", "no line of numbers"),
        (f"1\n{'y' * 200_000}\n", "line 2: field larger than field limit"),
        ("1\n\x00\n", "is no number"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(FileError, match=message):
        map_csv(str(tmp_path / "a.csv"))


def test_a_line_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "_LONGEST_LINE", 1000)
    (tmp_path / "a.csv").write_text("1," * 600)
    with pytest.raises(FileError, match="a line has 1000 characters or more"):
        map_csv(str(tmp_path / "a.csv"))


def test_no_room_for_the_temporary_file(tmp_path, monkeypatch):
    def full(file, piece):  # noqa: ARG001
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dense2conv.convert.scratch._write", full)
    (tmp_path / "a.csv").write_text("1,2\n")
    with pytest.raises(MachineError, match=r"temporary file into .*No space left") as error:
        map_csv(str(tmp_path / "a.csv"))
    assert "TMPDIR" in error.value.hint
