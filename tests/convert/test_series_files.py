"""A series in each kind of file, mapped; and the files that must not be believed."""

import mmap
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest

from dense2conv.convert.errors import Dense2ConvError, FileError, RequestError
from dense2conv.convert.series_files import FORMATS, open_data, open_labels

SERIES = np.random.default_rng(0).standard_normal((50, 3))
CLASSES = np.random.default_rng(1).integers(0, 4, 50)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", SERIES)
    np.save("fortran.npy", np.asfortranarray(SERIES))
    np.savez("a.npz", x=SERIES, y=CLASSES)
    np.savez("one.npz", x=np.asfortranarray(SERIES))
    np.savez_compressed("packed.npz", x=SERIES, y=CLASSES)
    np.savetxt("a.csv", SERIES, "%.17g", ",")
    np.savetxt("classes.csv", CLASSES, "%d")
    prefix_zip(tmp_path / "prefix.npz")
    return tmp_path


def prefix_zip(path):
    """A zip behind other bytes, with an extra field in its local header: offsets must come from the headers."""
    with path.open("wb") as file:
        file.write(b"#!/bin/sh\n" * 10)
        with zipfile.ZipFile(file, "w") as archive:
            info = zipfile.ZipInfo("x.npy")
            info.extra = struct.pack("<HH4s", 0x9999, 4, b"junk")
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, SERIES)


def owner(array):
    while isinstance(array, np.ndarray):
        array = array.base
    return array


@pytest.mark.parametrize(
    "reference",
    ["a.npy", "fortran.npy", "a.npz:x", "one.npz", "packed.npz:x", "prefix.npz", "a.csv", "A.NPY"],
)
def test_each_kind_of_file_gives_the_series_as_a_mapping(files, reference):
    if reference == "A.NPY":
        os.link("a.npy", "A.NPY")
    array = open_data(reference)
    assert array.dtype == np.float64
    assert np.array_equal(array, SERIES)
    assert isinstance(owner(array), mmap.mmap)
    assert not array.flags.writeable
    assert sorted(path.name for path in files.iterdir() if path.name.startswith((".", "tmp"))) == []


@pytest.mark.parametrize("reference", ["a.npz:y", "packed.npz:y", "classes.csv"])
@pytest.mark.usefixtures("files")
def test_labels_are_integers(reference):
    labels = open_labels(reference)
    assert labels.dtype == np.int64
    assert np.array_equal(labels, CLASSES)


@pytest.mark.parametrize("dtype", ["?", "i1", ">u2", "f2", ">f4", "f8", "c8"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.usefixtures("files")
def test_numbers_of_every_type(save, dtype):
    array = (SERIES * 3).astype(dtype)
    np.save("t.npy", array)
    save("t.npz", array)
    for reference in ("t.npy", "t.npz"):
        found = open_data(reference)
        assert found.dtype == array.dtype
        assert found.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("a.txt", "a series is read from .npy, .npz, .csv"),
        ("none.npy", "No such file"),
        ("a.npz", "which of its arrays is meant. There is x, y"),
        ("a.npz:z", "there is no array 'z'"),
        ("a.npy:x", "which has no name"),
        ("a.csv:x", "which has no name"),
    ],
)
@pytest.mark.usefixtures("files")
def test_what_is_not_there_is_a_wrong_request(reference, message):
    for read in (open_data, open_labels):
        with pytest.raises(RequestError, match=message):
            read(reference)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array(["rest", "move"]), "numbers are needed, but this is an array of <U4"),
        (np.array([{}, []], object), "a pickle, and none is loaded"),
        (np.zeros(3, [("a", "f4")]), "numbers are needed"),
        (np.zeros(3, "M8[s]"), "numbers are needed"),
        (np.array(3.0), "an axis of steps is needed"),
        (np.zeros((0, 3)), r"at least one step and one value are needed, but the array is \(0, 3\)"),
        (np.zeros((3, 0)), r"at least one step and one value"),
    ],
)
@pytest.mark.parametrize("kind", ["npy", "npz"])
@pytest.mark.usefixtures("files")
def test_an_array_that_is_no_series(array, message, kind):
    np.save("b.npy", array, allow_pickle=True)
    np.savez("b.npz", array)
    for read in (open_data, open_labels):
        with pytest.raises(FileError, match=message) as error:
            read(f"b.{kind}")
        assert error.value.file == f"b.{kind}"


@pytest.mark.usefixtures("files")
def test_labels_have_at_most_two_axes_and_are_real():
    np.save("b.npy", np.zeros((5, 2, 2)))
    with pytest.raises(FileError, match=r"labels are \(steps,\) or \(steps, k\), but these are \(5, 2, 2\)"):
        open_labels("b.npy")
    assert open_data("b.npy").shape == (5, 2, 2)
    np.save("c.npy", np.zeros(5, complex))
    with pytest.raises(FileError, match="numbers are needed, but this is an array of complex128"):
        open_labels("c.npy")


@pytest.mark.parametrize("name", ["a.npz", "packed.npz"])
def test_a_damaged_member_is_found_by_its_checksum(files, name):
    data = bytearray((files / name).read_bytes())
    data[600] ^= 1
    (files / name).write_bytes(data)
    with pytest.raises(FileError, match=r"CRC|decompress"):
        open_data(f"{name}:x")


def test_a_stored_member_that_claims_more_than_it_has(files):
    """The directory claims ten rows more than are stored, header and checksum agree: they would be other bytes."""
    data = bytearray((files / "one.npz").read_bytes())
    start = data.index(b"(50, 3)")
    data[start : start + 7] = b"(60, 3)"
    at = data.rindex(b"PK\x01\x02")
    _, stored, claimed = struct.unpack_from("<3L", data, at + 16)
    assert stored == claimed
    member = data[data.index(b"\x93NUMPY") :][:stored]
    struct.pack_into("<3L", data, at + 16, zlib.crc32(member), stored, claimed + 10 * 3 * 8)
    (files / "one.npz").write_bytes(data)
    with pytest.raises(FileError, match=rf"'x.npy' claims {claimed + 240} bytes in {stored}"):
        open_data("one.npz")


def test_every_truncation_of_a_small_file_is_one_of_our_errors(files):
    np.save("small.npy", np.ones((2, 1)))
    np.savez("small.npz", np.ones((2, 1)))
    np.savez_compressed("dense.npz", np.ones((2, 1)))
    for name in ("small.npy", "small.npz", "dense.npz"):
        whole = (files / name).read_bytes()
        assert open_data(name).shape == (2, 1)
        for length in range(len(whole)):
            (files / name).write_bytes(whole[:length])
            with pytest.raises(Dense2ConvError):
                open_data(name)


@pytest.mark.parametrize("name", ["small.npy", "small.npz", "packed.npz"])
def test_damaged_bytes_are_one_of_our_errors_or_an_array(files, name):
    """Every byte set to a few others: what comes out is an array of as many bytes as are there, or an error."""
    np.save("small.npy", np.ones((2, 1)))
    np.savez("small.npz", np.ones((2, 1)))
    np.savez_compressed("packed.npz", np.ones((2, 1)))
    whole = (files / name).read_bytes()
    ends = {"array": 0, "error": 0}
    for at in range(len(whole)):
        for value in (0, 0x28, 0x7F, 0xFF, whole[at] ^ 1):
            (files / name).write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
            try:
                ends["array"] += open_data(name).nbytes > 0
            except Dense2ConvError:
                ends["error"] += 1
    assert min(ends.values()) > 0


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.usefixtures("files")
def test_a_pipe_or_directory_is_no_file(ending):
    os.mkfifo(f"pipe{ending}")
    os.mkdir(f"folder{ending}")  # noqa: PTH102
    with pytest.raises(FileError, match="a regular file is needed"):
        open_data(f"pipe{ending}")
    with pytest.raises(RequestError, match="directory"):
        open_data(f"folder{ending}")
