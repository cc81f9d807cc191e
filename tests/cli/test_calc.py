"""``dense2conv calc`` as a user runs it: formula, windows, and unknowns solved for."""

import json
import os
from pathlib import Path

import pytest

from dense2conv import cli
from dense2conv.cli.output import FORMATS

GOLDEN = Path(__file__).parent / "golden"

TABLES = {
    "conv": ["conv", "--input", "64", "--kernel", "4", "--stride", "1", "--padding", "same"],
    "pool": ["maxpool", "--input", "64x48", "--kernel", "3x5", "--padding", "1x0:2", "--ceil", "--from", "1"],
    "transposed": [
        "convtranspose",
        "--input",
        "4",
        "--kernel",
        "1",
        "--stride",
        "3",
        "--output-padding",
        "2",
    ],
    "solved": ["conv", "--input", "64x30", "--output", "32x15", "--kernel", "4", "--stride", "2"],
}


def run(capsys, *arguments):
    status = cli.run(["calc", *arguments])
    return status, *capsys.readouterr()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", TABLES)
def test_golden(capsys, name, format):
    status, out, err = run(capsys, *TABLES[name], "--format", format)
    assert status == 0
    text = out + "".join(f"stderr: {line}\n" for line in err.splitlines())
    path = GOLDEN / f"calc_{name}.{format}"
    if os.environ.get("OVERWRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_the_neurons_of_a_first_layer_counted_from_1(capsys):
    """Neuron 64 sees 63..66: two pixels and two pads."""
    document = json.loads(run(capsys, *TABLES["conv"], "--from", "1", "--format", "json")[1])
    (axis,) = document["axes"]
    assert axis["windows"] == [
        {"neuron": 1, "first": 0, "last": 3, "before": 1, "after": 0},
        {"neuron": 2, "first": 1, "last": 4, "before": 0, "after": 0},
        {"neuron": 64, "first": 63, "last": 66, "before": 0, "after": 2},
    ]
    assert (axis["padding"], axis["output"], document["output"]) == ([1, 2], 64, [64])


@pytest.mark.parametrize(
    ("arguments", "answers"),
    [
        ("conv --input 64 --output 32 --kernel 4 --stride 2", "padding  1"),
        ("conv --input 64 --output 32 --kernel 3 --stride 2 --padding ?", "padding  1"),
        ("conv --input 64 --output 32 --kernel 2 --stride 2", "padding  0"),
        ("conv --input 63 --output 32 --kernel 2 --stride 2", "padding  1"),
        ("conv --input 64 --output 64 --kernel 4 --stride 1", "padding  1:2, 2:1"),
        ("conv --input 64 --output 31 --stride 2 --padding valid", "kernel   3..4"),
        ("conv --input 64 --output 31 --stride 2 --kernel ?", "kernel   3..4"),
        ("conv --input 64 --output 32 --kernel 4 --padding same", "stride   2"),
        ("conv --input 20 --output 3 --kernel 2 --padding valid", "stride   7..9"),
        ("conv --input 64 --output 60 --kernel 3 --dilation ?", "dilation  2"),
        ("maxpool --input 64 --output 32 --kernel ?", "kernel   2"),
        ("convtranspose --input 32 --output 64 --kernel 4 --stride 2", "padding  1"),
        ("conv --input 100 --output 1 --padding valid --stride 1 --kernel ? --up-to 100", "kernel   100"),
    ],
)
def test_what_is_left_open_is_solved_for(capsys, arguments, answers):
    status, out, _ = run(capsys, *arguments.split())
    assert status == 0
    assert out.splitlines()[1].split() == ["L", *answers.split()]


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ("conv --input 64 --output 1000 --kernel 3 --stride 1",
         "no padding up to 64 leads from 64 to 1000 on axis L", "leave another number open, or try more with --up-to"),
        ("conv --input 64x9 --output 62x99 --kernel 3 --padding 0 --stride ?",
         "no stride up to 64 leads from 9 to 99 on axis W", "leave another number open, or try more with --up-to"),
        ("conv --input 64 --output 63 --kernel 3 --stride 1 --padding 1", "the output is [64], not [63]", None),
    ],
)  # fmt: skip
def test_no_is_an_answer(capsys, arguments, message, hint):
    status, out, err = run(capsys, *arguments.split())
    assert (status, bool(out)) == (1, True)
    assert err.splitlines() == [f"dense2conv: {message}", *([f"  {hint}"] if hint else [])]


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ("conv --input 64", "a layer needs its --kernel", "dense2conv COMMAND --help lists the options"),
        ("conv --input 64 --kernel 0", "kernel, stride and dilation must be at least 1, got 0, 1 and 1", ""),
        ("conv --input 64 --kernel 3 --stride 0", "kernel, stride and dilation must be at least 1, got 3, 0 and 1", ""),
        ("conv --input 64 --kernel 3 --stride -1", "Invalid value for '--stride': '-1' is no number", ""),
        ("conv --input 64 --kernel 70", "a kernel must not be larger than the padded input, but 70 > 64 + 0 + 0",
         "take a smaller kernel or dilation, more padding or a larger input"),
        ("maxpool --input 64 --kernel 3 --padding 3",
         "ONNX Runtime's pools take pads smaller than the kernel, but 3 and 3 meet 3", "take a larger kernel"),
        ("conv --input 64 --kernel 3 --padding sane", "Invalid value for '--padding': 'sane' is no padding: same,", ""),
        ("conv --input 64 --output 32",
         "one unknown can be solved for, but kernel and stride and padding are left open",
         "write one of them as ?, for instance --kernel ?, or say the others"),
        ("conv --input 64 --output 32 --kernel ? --stride ?",
         "one unknown can be solved for, not 2: kernel, stride", ""),
        ("conv --input 64 --kernel ?", "to solve for the kernel the output must be known", "say --output"),
        ("conv --input ? --kernel 3", "--input and --output are numbers", "write ? for kernel, stride,"),
        ("conv --input 64 --kernel 3x3", "--kernel has 2 numbers, --input 1", ""),
        ("conv --input 64x64 --kernel ? --output 1x1x1", "--output has 3 numbers, --input 2", ""),
        ("conv --input 64 --kernel 3 --ceil", "a conv does not round up: --ceil is for pools", ""),
        ("conv --input 64 --kernel 3 --output-padding 1", "a conv has no output padding: it is for convtranspose", ""),
        ("convtranspose --input 64 --kernel 3 --output-padding 1",
         "output padding must be below the larger of stride and dilation, but 1 meets 1 and 1", ""),
        ("dense --input 64", "Invalid value for", ""),
        ("conv --input 64 --kernel 3 --report x.txt", "x.txt: a report ends in .json", ""),
    ],
)  # fmt: skip
def test_a_wrong_command_line(capsys, arguments, message, hint):
    status, out, err = run(capsys, *arguments.split())
    assert (status, out) == (2, "")
    first, second = err.splitlines()
    assert first.startswith(f"dense2conv: {message}")
    assert second.startswith(f"  {hint}")


def test_the_runtime_decides(capsys):
    pool = [
        "maxpool",
        "--input",
        "9",
        "--kernel",
        "2",
        "--stride",
        "1",
        "--dilation",
        "2",
        "--padding",
        "same",
    ]
    arguments = [*pool, "--format", "json", "--runtime"]
    outputs = {
        name: json.loads(run(capsys, *arguments, name)[1])["output"] for name in ("onnx", "onnxruntime")
    }
    assert outputs == {"onnx": [9], "onnxruntime": [8]}
    status, _, err = run(capsys, *arguments, "pytorch")
    assert (status, "PyTorch's pools take their pads as a number" in err) == (2, True)


def test_a_report_says_what_json_says(capsys, tmp_path):
    path = tmp_path / "r.json"
    _, out, _ = run(capsys, *TABLES["solved"], "--format", "json", "--report", str(path))
    assert path.read_text() == out
    assert json.loads(out)["solutions"] == [[{"before": 1, "after": 1}]] * 2


def test_an_answer_of_no_is_reported_too(capsys, tmp_path):
    path = tmp_path / "r.json"
    arguments = ["conv", "--input", "9", "--output", "999", "--kernel", "3", "--stride", "1"]
    status, _, _ = run(capsys, *arguments, "--report", str(path))
    assert status == 1
    assert json.loads(path.read_text())["solutions"] == [[]]


def test_a_hole_of_a_transposed_convolution_is_null(capsys):
    (axis,) = json.loads(run(capsys, *TABLES["transposed"], "--format", "json")[1])["axes"]
    hole = {"neuron": 1, "first": None, "last": None, "before": None, "after": None}
    assert axis["windows"][1] == hole
