"""``dense2conv kernel`` as a user runs it."""

import json
import os
import subprocess
import sys

import h5py
import numpy as np
import onnxruntime
import pytest

from dense2conv import cli

KERAS = "model_weights/dense/dense"
WEIGHT = np.random.default_rng(0).standard_normal((4000, 64)).astype(np.float32)
BIAS = np.random.default_rng(1).standard_normal(64).astype(np.float32)
CASE_1 = ["--patch", "20x20x10", "--order", "HWC"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("dense.npy", WEIGHT)
    np.savez("dense.npz", weight=WEIGHT, bias=BIAS)
    with h5py.File("dense.h5", "w") as file:
        file[f"{KERAS}/kernel:0"] = WEIGHT
        file[f"{KERAS}/bias:0"] = BIAS
    return tmp_path


def run(*arguments):
    return cli.run(["kernel", *arguments])


def names(folder):
    return sorted(os.listdir(folder))  # noqa: PTH208


def test_case_1_end_to_end(folder):
    """A Keras weight to four files in one call, in a process of its own; then back."""
    command = [sys.executable, "-m", "dense2conv", "kernel"]
    outputs = ["k.npy=OIHW", "k.npz=HWIO", "k.h5=HWIO", "conv.onnx"]
    arguments = [f"dense.h5:{KERAS}/kernel:0", *CASE_1, "--bias", f"dense.h5:{KERAS}/bias:0"]
    for output in outputs:
        arguments += ["-o", output]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "patch H=20, W=20, C=10; stride H=20, W=20" in done.stderr
    assert "assumed: the patch was flattened in the order HWC (row-major" in done.stderr
    for output in outputs:
        assert output.split("=")[0] in done.stdout
    assert done.stdout.count("bit-equal") == 4
    oihw = WEIGHT.reshape(20, 20, 10, 64).transpose(3, 2, 0, 1)
    assert np.load("k.npy").tobytes() == oihw.tobytes()
    with np.load("k.npz") as archive:
        assert archive["kernel"].tobytes() == WEIGHT.tobytes()
        assert archive["kernel"].shape == (20, 20, 10, 64)
        assert archive["bias"].tobytes() == BIAS.tobytes()
    with h5py.File("k.h5") as file:
        assert file["kernel"].shape == (20, 20, 10, 64)
        assert np.array_equal(file["bias"], BIAS)
    image = np.random.default_rng(2).standard_normal((1, 10, 100, 60)).astype(np.float32)
    (found,) = onnxruntime.InferenceSession("conv.onnx").run(None, {"patch": image})
    assert found.shape == (1, 64, 5, 3)
    window = image[0, :, 80:, 20:40].transpose(1, 2, 0).reshape(-1)
    assert np.allclose(found[0, :, 4, 1], window @ WEIGHT + BIAS, atol=1e-2)

    back = [
        *command,
        "k.npy",
        "--from-kernel",
        "OIHW",
        "--order",
        "HWC",
        "-o",
        "back.npy=KO",
        "-o",
        "back.npz=OK",
    ]
    assert subprocess.run(back, capture_output=True, timeout=120, check=False).returncode == 0
    assert (folder / "back.npy").read_bytes() == (folder / "dense.npy").read_bytes()
    with np.load("back.npz") as archive:
        assert archive["weight"].tobytes() == WEIGHT.T.tobytes()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("layout", ["OIHW", "HWIO"])
@pytest.mark.parametrize(("order", "patch"), [("HWC", (20, 20, 10)), ("CHW", (10, 20, 20))])
def test_case_1_in_each_form(folder, order, patch, layout, flip):
    sizes = "x".join(map(str, patch))
    flag = "--flip" if flip else "--no-flip"
    assert run("dense.npy", "--patch", sizes, "--order", order, "-o", f"k.npy={layout}", flag) == 0
    channels_last = (
        WEIGHT.reshape(*patch, 64) if order == "HWC" else WEIGHT.reshape(*patch, 64).transpose(1, 2, 0, 3)
    )
    hwio = channels_last[::-1, ::-1] if flip else channels_last
    expected = hwio if layout == "HWIO" else hwio.transpose(3, 2, 0, 1)
    assert np.array_equal(np.load("k.npy"), expected)
    assert run("k.npy", "--from-kernel", layout, "--order", order, flag, "-o", "back.npy=KO") == 0
    assert (folder / "back.npy").read_bytes() == (folder / "dense.npy").read_bytes()


@pytest.mark.usefixtures("folder")
def test_json_and_report_say_the_same(capsys):
    arguments = ("dense.npz:weight", *CASE_1, "-o", "k.npy=oihw", "--stride", "4", "--report", "r.json")
    assert run(*arguments, "--format", "json") == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    with open("r.json") as file:  # noqa: PTH123
        assert json.load(file) == document
    assert document["weights"] == "dense.npz:weight"
    assert document["stride"] == [4, 4]
    assert document["outputs"][0]["shape"] == [64, 10, 20, 20]
    assert document["outputs"][0]["layout"] == "OIHW"
    assert document["proof"]["OIHW"]["verdict"] == "equivalent"
    assert "order HWC" in document["assumption"]
    assert "assumed: " in err
    assert run(*arguments, "-q", "--force", "--format", "csv") == 0
    out, err = capsys.readouterr()
    assert out.startswith(
        "file,layout,shape,dtype,round_trip,ratio\nk.npy,OIHW,64x10x20x20,float32,bit-equal,"
    )
    assert err == ""


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dense.npy", "--order", "HWC", "-o", "k.npy=OIHW"], "needs --patch"),
        (["dense.npy", "--patch", "20x20x10", "-o", "k.npy=OIHW"], "--order"),
        (["dense.npy", *CASE_1], "--output"),
        (["dense.npy", *CASE_1, "-o", "k.npy"], "is not FILE=LAYOUT"),
        (["dense.npy", *CASE_1, "-o", "k.npy=OIWH"], "not 'OIWH'"),
        (["dense.npy", *CASE_1, "-o", "k.npy=KO"], "not 'KO'"),
        (["dense.npy", *CASE_1, "-o", "k.txt=OIHW"], "ends in .npy"),
        (["dense.npy", *CASE_1, "-o", "k.npy=OIHW", "-o", "./k.npy=HWIO"], "written twice"),
        (["dense.npy", *CASE_1, "-o", "dense.npy=OIHW", "--force"], "same file"),
        (["dense.npy", *CASE_1, "-o", "dense.npz=OIHW"], "exists"),
        (["dense.npy", *CASE_1, "-o", "c.onnx", "--flip"], "does not flip"),
        (["dense.npy", *CASE_1, "-o", "c.onnx=HWIO"], "kernel is OIHW, not HWIO"),
        (["dense.npy", *CASE_1, "-o", "no/k.npy=OIHW"], "no directory"),
        (["dense.npy", "--patch", "20x20x11", "--order", "HWC", "-o", "k.npy=OIHW"], "4400 values"),
        (["dense.npy", "--patch", "20x20x10", "--order", "DHWC", "-o", "k.npy=OIHW"], "4 axes"),
        (["dense.npy", *CASE_1, "-o", "k.npy=OIHW", "--stride", "1x1x1"], "2 spatial axes"),
        (["dense.npy", *CASE_1, "-o", "k.npy=OIHW", "--bias", "dense.npy"], "a bias of 64 values is needed"),
        (["dense.npz:bias", *CASE_1, "-o", "k.npy=OIHW"], "2 axes, not 1"),
        (["dense.npz:nope", *CASE_1, "-o", "k.npy=OIHW"], "no array 'nope'"),
        (["gone.npy", *CASE_1, "-o", "k.npy=OIHW"], "gone.npy: "),
        (["dense.npy", *CASE_1, "-o", "k.npy=OIHW", "--report", "r.txt"], "a report ends in"),
        (["dense.npy", "--from-kernel", "OIHW", "--order", "HWC", "-o", "k.npy=KO"], "a kernel with 4 axes"),
    ],
)
def test_a_wrong_request_is_status_2_and_writes_nothing(tmp_path, capsys, arguments, message):
    before = names(tmp_path)
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err.splitlines()[0]
    assert len(err.splitlines()) == 2
    assert names(tmp_path) == before


@pytest.mark.usefixtures("folder")
def test_a_square_weight_asks_which_axis_is_which(capsys):
    np.save("square.npy", np.random.default_rng(0).standard_normal((12, 12)).astype(np.float32))
    arguments = ("square.npy", "--patch", "6x2", "--order", "LC", "-o", "k.npy=OIL")
    assert run(*arguments) == 2
    assert "--weight-layout" in capsys.readouterr().err
    assert run(*arguments, "--weight-layout", "ok") == 0
    assert np.array_equal(np.load("k.npy"), np.load("square.npy").reshape(12, 6, 2).transpose(0, 2, 1))


@pytest.mark.usefixtures("folder")
def test_a_bias_that_the_network_cannot_hold_is_refused(capsys):
    """The proof runs in float32 and cannot see what a float16 network would round."""
    np.save("half.npy", WEIGHT.astype(np.float16))
    np.save("bias.npy", BIAS * np.float32(1e6))
    assert run("half.npy", *CASE_1, "--bias", "bias.npy", "-o", "c.onnx", "-o", "k.npz=OIHW") == 2
    err = capsys.readouterr().err
    assert "float16 does not hold its float32 values" in err
    assert not os.path.exists("k.npz")  # noqa: PTH110
    assert run("half.npy", *CASE_1, "--bias", "bias.npy", "-o", "k.npz=OIHW") == 0


@pytest.mark.usefixtures("folder")
def test_several_that_fit_are_listed(capsys):
    np.savez("two.npz", one=WEIGHT, other=WEIGHT.T)
    assert run("two.npz", *CASE_1, "-o", "k.npy=OIHW") == 2
    err = capsys.readouterr().err
    assert "one 4000x64 float32; other 64x4000 float32" in err


@pytest.mark.parametrize("kind", ["nan", "overflow"])
def test_a_proof_that_fails_is_status_1_and_writes_nothing(folder, capsys, kind):
    weight = WEIGHT.astype(np.float64)
    weight[0, 0] = np.nan if kind == "nan" else 1e300
    np.save("bad.npy", weight)
    before = names(folder)
    assert run("bad.npy", *CASE_1, "-o", "k.npy=OIHW", "-o", "k.npz=HWIO") == 1
    assert "nothing was written" in capsys.readouterr().err
    assert names(folder) == before


def test_a_damaged_file_is_status_3(folder, capsys):
    data = (folder / "dense.h5").read_bytes()
    (folder / "cut.h5").write_bytes(data[: len(data) // 2])
    assert run("cut.h5", *CASE_1, "-o", "k.npy=OIHW") == 3
    assert capsys.readouterr().err.startswith("dense2conv: cut.h5: not an HDF5 file, or a damaged one")


def test_an_existing_file_stays_without_force(folder, capsys):
    (folder / "k.npy").write_bytes(b"mine")
    assert run("dense.npy", *CASE_1, "-o", "new.npy=OIHW", "-o", "k.npy=OIHW") == 2
    assert "k.npy: OUT exists" in capsys.readouterr().err
    assert (folder / "k.npy").read_bytes() == b"mine"
    assert not (folder / "new.npy").exists()
    assert run("dense.npy", *CASE_1, "-o", "new.npy=OIHW", "-o", "k.npy=OIHW", "--force") == 0
    assert np.load("k.npy").shape == (64, 10, 20, 20)


@pytest.mark.usefixtures("folder")
def test_a_weight_from_an_onnx():
    assert run("dense.npy", *CASE_1, "-o", "conv.onnx") == 0
    assert run("conv.onnx:kernel", "--from-kernel", "oihw", "--order", "HWC", "-o", "back.npy=KO") == 0
    assert np.load("back.npy").tobytes() == WEIGHT.tobytes()


@pytest.mark.parametrize(
    ("order", "patch", "layout", "kernel"),
    [
        ("LC", "100x10", "OIL", (4, 10, 100)),
        ("CL", "10x100", "LIO", (100, 10, 4)),
        ("DHWC", "3x4x5x2", "OIDHW", (4, 2, 3, 4, 5)),
        ("CDHW", "C=2,D=3,H=4,W=5", "HWIO", (3, 4, 5, 2, 4)),
    ],
)
@pytest.mark.usefixtures("folder")
def test_series_and_volumes(order, patch, layout, kernel):
    weight = np.random.default_rng(0).standard_normal((int(np.prod(kernel)) // 4, 4)).astype(np.float16)
    np.save("w.npy", weight)
    assert (
        run(
            "w.npy",
            "--patch",
            patch,
            "--order",
            order,
            "-o",
            f"k.npy={layout}",
            "-o",
            "c.onnx",
            "--stride",
            "1",
        )
        == 0
    )
    assert np.load("k.npy").shape == kernel
    assert run("k.npy", "--from-kernel", layout, "--order", order, "--patch", patch, "-o", "b.npy=KO") == 0
    assert np.load("b.npy").tobytes() == weight.tobytes()


def test_an_hdf5_file_that_crashes_its_reader_is_one_line(folder):
    """The guard is between the reader and the shell: the real thing, a signal in the middle of reading."""
    script = (
        "import os, sys\nfrom dense2conv import cli\nfrom dense2conv.convert import dense_files\n"
        "row = dense_files.FORMATS['.h5']\n"
        "dense_files.FORMATS['.h5'] = row._replace(entries=lambda path: os.kill(os.getpid(), 11))\n"
        f"sys.argv[1:] = ['kernel', 'dense.h5', *{CASE_1!r}, '-o', 'k.npy=OIHW']\ncli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 3
    assert done.stderr.startswith("dense2conv: dense.h5: the reader crashed (signal 11)\n")
    assert not (folder / "k.npy").exists()


FUZZ = """
import random, sys
from pathlib import Path
from dense2conv import cli
from dense2conv.cli.guard import guarded
import numpy, h5py, dense2conv.convert.kernel_files  # once, not in each child
random.seed(0)
good = Path("small.h5").read_bytes()
for round in range(int(sys.argv[1])):
    data = bytearray(good)
    for _ in range(random.choice((1, 1, 1, 2, 8))):
        data[random.randrange(len(data))] = random.choice((0, 1, 127, 128, 255, random.randrange(256)))
    if random.random() < 0.1:
        del data[random.randrange(len(data)):]
    Path("bad.h5").write_bytes(data)
    Path("out.npy").unlink(missing_ok=True)
    arguments = ["bad.h5:model_weights/dense/kernel:0", "--patch", "4x3", "--order", "LC", "-o", "out.npy=OIL"]
    status = guarded(lambda: cli.run(["-q", "kernel", *arguments]))
    print(status, Path("out.npy").exists(), flush=True)
"""


@pytest.mark.slow
def test_damaged_hdf5_files_end_in_a_documented_status(folder):
    with h5py.File("small.h5", "w") as file:
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = [b"dense"]
        weights.attrs["backend"] = "tensorflow"
        weights["dense/kernel:0"] = WEIGHT[:12, :5]
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, "1500"],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ends = [line.split() for line in done.stdout.splitlines() if line.endswith(("True", "False"))]
    assert len(ends) == 1500
    # 0 where a value or something that nobody reads was hit: HDF5 as Keras writes it has no checksum
    assert {status for status, _ in ends} <= {"0", "1", "2", "3"}
    assert all((status == "0") == (written == "True") for status, written in ends)
    assert "Traceback" not in done.stderr


def probes(order, name="probes.npz", mirrored=False):
    """Patches (H, W, C) that were flattened in ``order``, and what case 1's layer gives for them."""
    patches = np.random.default_rng(3).standard_normal((5, 20, 20, 10)).astype(np.float32)
    axes = ["HWC".index(axis) + 1 for axis in order]
    rows = (patches[:, ::-1, ::-1] if mirrored else patches).transpose(0, *axes).reshape(5, -1)
    np.savez(name, patch_x=patches, patch_y=rows @ WEIGHT + BIAS)


AUTO = ["dense.npz:weight", "--patch", "H=20,W=20,C=10", "--order", "auto", "--bias", "dense.npz:bias"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("order", ["HWC", "CHW"])
def test_the_order_is_found(order, capsys):
    probes(order)
    assert run(*AUTO, "--probe", "probes.npz", "-o", "k.npy=OIHW", "--format", "json") == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["order"] == document["found"]["winner"]["order"] == order
    assert document["assumption"] is None
    assert document["found"]["runner_up"]["error"] > 0.1
    assert f"found: the patch was flattened in the order {order}: on 5 probes" in said.err
    assert "the runner-up, " in said.err
    kernel = WEIGHT.reshape(20, 20, 10, 64).transpose(3, 2, 0, 1)
    if order == "CHW":
        kernel = WEIGHT.T.reshape(64, 10, 20, 20)
    assert np.load("k.npy").tobytes() == kernel.tobytes()


@pytest.mark.usefixtures("folder")
def test_an_order_without_a_name_is_put_right(capsys):
    """Columns before rows, and the image upside down: the kernel is that of the rearranged rows."""
    probes("WHC", mirrored=True)
    assert run(*AUTO, "--probe", "probes.npz", "-o", "conv.onnx") == 0
    assert "in the order WHC with H and W reversed" in capsys.readouterr().err
    with np.load("probes.npz") as archive:
        patches, outputs = archive["patch_x"], archive["patch_y"]
    session = onnxruntime.InferenceSession("conv.onnx")
    found = session.run(None, {"patch": patches.transpose(0, 3, 1, 2)})[0][..., 0, 0]
    assert np.abs(found - outputs).max() < 1e-3


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["dense.npy", *CASE_1, "--probe", "probes.npz"], 2, "--probe needs --order auto"),
        (AUTO, 2, "--order auto needs --probe"),
        ([*AUTO[:2], "20x20x10", *AUTO[3:], "--probe", "probes.npz"], 2, "the patch's axes must have names"),
        ([*AUTO[:5], "--probe", "probes.npz"], 1, "no order fits"),
        ([*AUTO, "--probe", "dense.npz"], 3, "patch_x"),
        ([*AUTO, "--probe", "missing.npz"], 2, "cannot read the file"),
        (
            ["dense.npy", "--from-kernel", "OIHW", "--order", "auto", "--probe", "probes.npz"],
            2,
            "for dense weights",
        ),
    ],
)
def test_orders_that_are_not_found(arguments, status, words, folder, capsys):
    probes("HWC")
    before = names(folder)
    assert run(*arguments, "-o", "k.npy=OIHW") == status
    assert words in capsys.readouterr().err
    assert names(folder) == before
