"""One weight in a file: each format there and back, and the files that must not be believed."""

import os
import struct
import zipfile
from contextlib import suppress

import h5py
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from dense2conv.convert.dense_files import FORMATS, find, split_reference, write_arrays, write_files
from dense2conv.convert.errors import Dense2ConvError, FileError, MachineError, RequestError

WEIGHT = np.random.default_rng(0).standard_normal((48, 5)).astype(np.float32)
BIAS = np.arange(5, dtype=np.float32)
NAME = "model_weights/dense/dense/kernel:0"


def dense(shape):
    return len(shape) == 2 and 48 in shape


def look(reference):
    return find(str(reference), dense, "a dense weight")


@pytest.fixture
def files(tmp_path):
    np.save(tmp_path / "a.npy", WEIGHT)
    np.savez(tmp_path / "a.npz", w=WEIGHT, b=BIAS)
    np.savez_compressed(tmp_path / "packed.npz", w=WEIGHT, b=BIAS, labels=np.arange(3))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[NAME] = WEIGHT
        file["model_weights/dense/dense/bias:0"] = BIAS
        file.attrs["model_config"] = "{}"
    tensors = [numpy_helper.from_array(WEIGHT, "fc/w:0"), numpy_helper.from_array(BIAS, "fc/b:0")]
    node = helper.make_node("Gemm", ["x", "fc/w:0", "fc/b:0"], ["y"])
    values = [helper.make_tensor_value_info(name, 1, ["n", size]) for name, size in (("x", 48), ("y", 5))]
    graph = helper.make_graph([node], "g", values[:1], values[1:], tensors)
    onnx.save(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]),
        tmp_path / "a.onnx",
    )
    return tmp_path


@pytest.mark.parametrize(
    ("reference", "full"),
    [
        ("a.npy", "a.npy"),
        ("a.npz:w", "a.npz:w"),
        ("a.npz", "a.npz:w"),
        ("packed.npz", "packed.npz:w"),
        ("a.h5", f"a.h5:{NAME}"),
        (f"a.h5:{NAME}", f"a.h5:{NAME}"),
        (f"a.h5:/{NAME}", f"a.h5:/{NAME}"),
        ("a.onnx", "a.onnx:fc/w:0"),
        ("a.onnx:fc/w:0", "a.onnx:fc/w:0"),
    ],
)
def test_each_format_gives_the_array(files, reference, full):
    name, array = look(files / reference)
    assert name == str(files / full)
    assert array.dtype == np.float32
    assert array.tobytes() == WEIGHT.tobytes()


def test_a_npy_is_mapped_not_read(files):
    array = look(files / "a.npy")[1]
    assert isinstance(array.base, np.memmap)
    assert not array.flags.writeable


@pytest.mark.parametrize(
    ("reference", "split"),
    [
        ("a.npy", ("a.npy", "")),
        ("A.NPZ:w", ("A.NPZ", "w")),
        ("d/a.h5:x/kernel:0", ("d/a.h5", "x/kernel:0")),
        ("C:\\d\\a.h5:x", ("C:\\d\\a.h5", "x")),
        ("a.h5:old.h5:0", ("a.h5", "old.h5:0")),
        ("net.weights.h5:v", ("net.weights.h5", "v")),
        ("a.onnx:", ("a.onnx", "")),
    ],
)
def test_a_reference_is_split_at_the_file_s_ending(reference, split):
    assert split_reference(reference) == split


def test_the_file_that_exists_decides(tmp_path):
    (tmp_path / "a.h5:b").mkdir()
    path = tmp_path / "a.h5:b" / "c.npy"
    np.save(path, WEIGHT)
    assert split_reference(str(path)) == (str(path), "")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("a.txt", "a weight is read from .npy"),
        ("none.npy", "No such file"),
        ("a.npz:v", "there is no array 'v'"),
        ("a.h5:model_weights", "there is no array"),
        ("a.h5:model_weights/dense/kernel:0", "there is no array"),
        ("a.onnx:fc", "there is no array"),
        ("a.npy:w", "which has no name"),
        ("packed.npz:labels", "float16, float32 or float64, but this is int64"),
    ],
)
def test_what_is_not_there_is_a_wrong_request(files, reference, message):
    with pytest.raises(RequestError, match=message):
        look(files / reference)


def test_candidates_are_listed_with_their_shapes(files):
    np.savez(files / "two.npz", one=WEIGHT, other=WEIGHT.T, small=BIAS)
    with pytest.raises(RequestError, match=r"several fit: one 48x5 float32; other 5x48 float32$") as error:
        look(files / "two.npz")
    assert error.value.hint == f"name it: {files / 'two.npz'}:NAME"
    np.savez(files / "none.npz", small=BIAS)
    with pytest.raises(RequestError, match=r"none fits: small 5 float32"):
        look(files / "none.npz")
    np.savez(files / "none.npz", quantized=WEIGHT.astype(np.int8), small=BIAS)
    with pytest.raises(RequestError, match=r"none fits: small 5 float32; quantized 48x5 int8"):
        look(files / "none.npz")
    np.save(files / "none.npy", WEIGHT.astype(np.int32))
    with pytest.raises(
        RequestError, match=r"a dense weight is needed, in floats, and none fits: the array 48x5 int32"
    ):
        look(files / "none.npy")


# Files that must not be believed. Each is refused before its claim costs memory or another file is read.


def hdf5(build):
    def make(path):
        with h5py.File(path, "w") as file:
            build(file, path)

    return ".h5", make


def external_storage(file, path):
    secret = path.with_name("secret.bin")
    secret.write_bytes(b"s" * WEIGHT.nbytes)
    file.create_dataset("k", (48, 5), "f4", external=[(str(secret), 0, WEIGHT.nbytes)])


def external_link(file, path):
    with h5py.File(path.with_name("other.h5"), "w") as other:
        other["k"] = WEIGHT
    file["k"] = h5py.ExternalLink("other.h5", "/k")


def soft_link(file, path):  # noqa: ARG001
    file["other"] = WEIGHT
    file["k"] = h5py.SoftLink("/other")


def group_behind_an_external_link(file, path):
    with h5py.File(path.with_name("other.h5"), "w") as other:
        other["g/k"] = WEIGHT
    file["k"] = h5py.ExternalLink("other.h5", "/g")


def virtual(file, path):  # noqa: ARG001
    layout = h5py.VirtualLayout((48, 5), "f4")
    layout[:] = h5py.VirtualSource("missing.h5", "k", (48, 5))
    file.create_virtual_dataset("k", layout)


def never_written(file, path):  # noqa: ARG001
    file.create_dataset("k", (48, 5), "f4", fillvalue=7)


def terabytes(file, path):  # noqa: ARG001
    file.create_dataset("k", (48, 1 << 36), "f4", chunks=(48, 1 << 10), compression="gzip")


def one_chunk_of_many(file, path):  # noqa: ARG001
    dataset = file.create_dataset("k", (48, 5), "f4", chunks=(8, 5), compression="gzip")
    dataset[:8] = WEIGHT[:8]


def one_chunk_without_gzip(file, path):  # noqa: ARG001
    dataset = file.create_dataset("k", (48, 5), "f4", chunks=(8, 5))
    dataset[:8] = WEIGHT[:8]


def another_filter(file, path):  # noqa: ARG001
    file.create_dataset("k", data=WEIGHT, compression="lzf")


def scale_offset(file, path):  # noqa: ARG001
    file.create_dataset("k", data=WEIGHT, scaleoffset=2)


def npz(*members, method=zipfile.ZIP_DEFLATED):
    def make(path):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members:
                archive.writestr(zipfile.ZipInfo(name), data, method)

    return ".npz", make


def npy_header(text, version=b"\x01\x00"):
    header = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header


def npy_bytes(shape, data=b"", descr="<f4", version=b"\x01\x00"):
    return npy_header(f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}", version) + data


def raw(ending, data):
    return ending, lambda path: path.write_bytes(data)


BAD = {
    "h5 external storage": (
        *hdf5(external_storage),
        "data must be in the file itself, but that of 'k' is in .*secret",
    ),
    "h5 external link": (*hdf5(external_link), "'k' is a ExternalLink to 'other.h5'"),
    "h5 soft link": (*hdf5(soft_link), "'k' is a SoftLink to '/other'"),
    "h5 group elsewhere": (*hdf5(group_behind_an_external_link), "only hard links"),
    "h5 virtual, source missing": (*hdf5(virtual), "virtual dataset"),
    "h5 never written": (*hdf5(never_written), "declares 960 bytes .* but stores 0"),
    "h5 terabytes": (*hdf5(terabytes), "declares 13194139533312 bytes"),
    "h5 missing chunks": (*hdf5(one_chunk_of_many), "has 1 of its 6 chunks"),
    "h5 missing chunks, no gzip": (*hdf5(one_chunk_without_gzip), "declares 960 bytes .* but stores 160"),
    "h5 lzf": (*hdf5(another_filter), "has filter 32000"),
    "h5 scale-offset": (*hdf5(scale_offset), "has filter 6"),
    "h5 that is none": (*raw(".h5", b"x" * 1000), "not an HDF5 file, or a damaged one"),
    "npy empty": (*raw(".npy", b""), "empty"),
    "npy that is none": (*raw(".npy", b"x" * 1000), "cannot be read"),
    "npy cut off": (*raw(".npy", npy_bytes((48, 5), b"x" * 100)), "960 bytes, but 100 are there"),
    "npy of terabytes": (*raw(".npy", npy_bytes((1 << 40, 48), b"x" * 100)), "bytes, but 100 are"),
    "npy overflow": (*raw(".npy", npy_bytes((1 << 62, 48), b"x" * 100)), "bytes, but 100 are"),
    "npy negative": (*raw(".npy", npy_bytes((-48, -5), b"x" * 960)), r"array \(-48, -5\)"),
    "npy pickle": (*raw(".npy", npy_bytes((48, 5), b"cos\nsystem\n(S'exit 1'\ntR.", "|O")), "cannot be read"),
    "npy code in the header": (*raw(".npy", npy_bytes("__import__('os')")), "cannot be read"),
    "npy header that ends early": (*raw(".npy", npy_header("{'descr': '<f4'")), "no description of an array"),
    "npy header too deep": (*raw(".npy", npy_header("-" * 9000 + "1")), "no description of an array"),
    "npy header with a list as key": (*raw(".npy", npy_header("{[]: 1}")), "no description of an array"),
    "npy header of no type": (
        *raw(".npy", npy_header("{'descr': ',,', 'fortran_order': False, 'shape': (1,)}")),
        "no description of an array",
    ),
    "npz that is none": (*raw(".npz", b"PK\x03\x04" + b"x" * 100), "cannot be read"),
    "npz twice": (
        *npz(("w.npy", npy_bytes((48, 5), WEIGHT.tobytes())), ("w.npy", b"")),
        "'w.npy' is there twice",
    ),
    "npz bzip2": (
        *npz(("w.npy", bytes(50_000_000)), method=zipfile.ZIP_BZIP2),
        "packed otherwise than by deflate",
    ),
    "npz short": (*npz(("w.npy", npy_bytes((48, 5), b"x" * 8))), "960 bytes, but 8 are there"),
    "npz no npy": (*npz(("w.npy", b"x" * 100)), "cannot be read"),
    "npz pickle": (*npz(("w.npy", npy_bytes((48, 5), b"cos\nsystem\n.", "|O"))), "none fits|object"),
    "npz version 3": (*npz(("w.npy", npy_bytes((48, 5), WEIGHT.tobytes(), version=b"\x03\x00"))), "version"),
    "onnx that is none": (*raw(".onnx", b"\x89HDF\r\n\x1a\n" + b"x" * 100), "it is an HDF5 file"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("named", [False, True])
def test_a_file_that_must_not_be_believed(tmp_path, case, named):
    ending, make, message = BAD[case]
    path = tmp_path / f"bad{ending}"
    make(path)
    name = {".h5": ":k", ".npz": ":w", ".npy": "", ".onnx": ":w"}[ending] if named else ""
    with pytest.raises((FileError, RequestError), match=message) as error:
        look(f"{path}{name}")
    # an array of objects is no weight: asked for by name, that is a wrong request; else there is just none
    assert isinstance(error.value, RequestError) == (case == "npz pickle")
    assert error.value.file == str(path)


def test_a_damaged_member_is_found_by_its_checksum(files):
    data = bytearray((files / "a.npz").read_bytes())
    at = data.index(WEIGHT.tobytes()[:16])
    data[at + 100] ^= 1
    (files / "a.npz").write_bytes(data)
    with pytest.raises(FileError, match="CRC"):
        look(files / "a.npz:w")


@pytest.mark.parametrize("ending", FORMATS)
def test_a_pipe_or_directory_is_no_file(tmp_path, ending):
    os.mkfifo(tmp_path / f"pipe{ending}")
    (tmp_path / f"folder{ending}").mkdir()
    with pytest.raises(FileError, match="a regular file is needed"):
        look(tmp_path / f"pipe{ending}")
    with pytest.raises(RequestError, match="directory"):
        look(tmp_path / f"folder{ending}")


@pytest.mark.parametrize("ending", [ending for ending in FORMATS if ending != ".onnx"])
def test_a_file_that_may_not_be_read_is_a_wrong_request(files, monkeypatch, ending):
    """Not a damaged one. The right is taken away by hand, for root has them all."""
    (files / f"locked{ending}").write_bytes(b"x" * 100)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(RequestError, match="Permission denied") as error:
        look(files / f"locked{ending}")
    assert error.value.hint == "is the path right, and may this user read it?"


def test_every_truncation_of_a_small_file_is_one_of_our_errors(files):
    np.savez(files / "small.npz", w=np.ones((1, 2), np.float32))
    np.save(files / "small.npy", np.ones((1, 2), np.float32))
    for name in ("small.npz", "small.npy"):
        whole = (files / name).read_bytes()
        for length in range(len(whole)):
            (files / name).write_bytes(whole[:length])
            with pytest.raises(Dense2ConvError):
                find(str(files / name), lambda shape: shape == (1, 2), "a weight")


def test_every_damaged_header_is_one_of_our_errors(files):
    """numpy parses a header as Python, and an open bracket or a quote ends that in other errors than ValueError."""
    np.save(files / "small.npy", np.ones((1, 2), np.float32))
    whole = (files / "small.npy").read_bytes()
    for place in range(len(whole) - 8):
        for byte in b"(['\"\\\n\0#9":
            (files / "small.npy").write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
            with suppress(Dense2ConvError):
                find(str(files / "small.npy"), lambda _: True, "a weight")


def test_groups_in_a_circle_end(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["g/h/w"] = WEIGHT
        file["g/h/back"] = file["g"]
    assert look(tmp_path / "a.h5")[0].endswith(":g/h/w")


@pytest.mark.parametrize(
    "options", [{}, {"chunks": (7, 3)}, {"compression": "gzip", "shuffle": True, "fletcher32": True}]
)
def test_large_hdf5_is_read_in_slabs(tmp_path, monkeypatch, options):
    monkeypatch.setattr("dense2conv.convert.hdf5._SLAB", 100)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("w", data=WEIGHT, **options)
    assert look(tmp_path / "a.h5")[1].tobytes() == WEIGHT.tobytes()


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("ending", [".npy", ".npz", ".h5", ".hdf5"])
def test_written_views_are_read_back_by_their_own_libraries(tmp_path, ending, dtype):
    """A transposed and reversed view comes back in its own order, its own type, bit for bit."""
    array = np.random.default_rng(1).standard_normal((3, 4, 5)).astype(dtype).transpose(2, 0, 1)[:, ::-1]
    path = tmp_path / f"k{ending}"
    write_files({str(path): write_arrays(str(path), {"kernel": array, "bias": BIAS})})
    if ending == ".npy":
        found = {"kernel": np.load(path)}
    elif ending == ".npz":
        with np.load(path) as archive:
            found = dict(archive)
    else:
        with h5py.File(path) as file:
            found = {name: file[name][()] for name in file}
    assert found["kernel"].dtype == array.dtype
    assert found["kernel"].shape == array.shape
    assert found["kernel"].tobytes() == array.tobytes()
    assert ending == ".npy" or np.array_equal(found["bias"], BIAS)


def test_a_npy_is_byte_for_byte_numpy_s(tmp_path):
    np.save(tmp_path / "theirs.npy", WEIGHT)
    path = str(tmp_path / "ours.npy")
    write_files({path: write_arrays(path, {"kernel": WEIGHT})})
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()


def test_all_files_appear_or_none(tmp_path):
    first, second = str(tmp_path / "a.npy"), str(tmp_path / "b.npy")

    def full_disk(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(MachineError, match="no space"):
        write_files({first: write_arrays(first, {"w": WEIGHT}), second: full_disk})
    assert list(tmp_path.iterdir()) == []
    write_files({first: write_arrays(first, {"w": WEIGHT}), second: write_arrays(second, {"w": WEIGHT})})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy", "b.npy"]
    with pytest.raises(RequestError, match="OUT exists"):
        write_files({second: write_arrays(second, {"w": BIAS})})
    assert np.array_equal(np.load(second), WEIGHT)


def test_an_onnx_holds_no_loose_arrays(tmp_path):
    with pytest.raises(RequestError, match="no arrays are written"):
        write_arrays(str(tmp_path / "a.onnx"), {"w": WEIGHT})
