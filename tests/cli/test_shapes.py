"""``dense2conv shapes`` as a user runs it: golden tables, the sums under them, and what is refused."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dense2conv import cli
from dense2conv.cli.output import FORMATS

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
MODEL = str(ROOT / "fixtures/patch_classifier.onnx")
CASE_5 = (
    "conv 4x4 8 same nobias, relu, maxpool 8x8/8 same, conv 2x2 16 same nobias, relu, maxpool 4x4/4 same, flatten, "
    "dense 6"
)
KEYS = [
    "name", "kind", "kernel", "stride", "padding", "dilation", "output", "neurons", "parameters", "macs",
    "receptive_field", "jump", "start",
]  # fmt: skip

# What is told apart in the tables: fractions, holes, uneven axes, dilation, notes, and fields that nobody has.
TABLES = {
    "chain": ["--input", "64x64x3", CASE_5],
    "odd": [
        "--input",
        "20x9x2",
        "stem: conv 3x4 4 same_lower, up: upsample 2x3, conv 3x3/2 6 dilation 1x2 pad 1:0x2, "
        "convtranspose 1/2 2 nobias, "
        "avgpool 2 ceil, pad 1 reflect, batchnorm, side: conv 1 2 from stem, globalpool, dense 3",
    ],
    "model": [MODEL],
}


def run(capsys, *arguments):
    status = cli.run(["shapes", *arguments])
    return status, *capsys.readouterr()


def refused(capsys, *arguments):
    """The status and the two lines of an error; nothing of a result is printed."""
    status, out, err = run(capsys, *arguments)
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith("dense2conv: ")
    assert second.startswith("  ")
    return status, first.removeprefix("dense2conv: "), second.strip()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", TABLES)
def test_golden(capsys, name, format):
    status, out, err = run(capsys, *TABLES[name], "--format", format)
    assert status == 0
    text = out + "".join(f"stderr: {line}\n" for line in err.splitlines())
    path = GOLDEN / f"shapes_{name}.{format}"
    if os.environ.get("OVERWRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", TABLES)
def test_the_printed_columns_sum_to_the_printed_totals(capsys, name):
    header, *lines = run(capsys, *TABLES[name], "--format", "markdown")[1].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (header, *lines)]
    for heading in ("neurons", "parameters", "MACs"):
        column = [row[cells[0].index(heading)] for row in cells[2:]]
        *numbers, total = map(int, column)
        assert sum(numbers) == total > 0
    assert cells[-1][0] == "total"


@pytest.mark.parametrize("name", TABLES)
def test_json_has_the_keys_that_are_promised(capsys, name):
    document = json.loads(run(capsys, *TABLES[name], "--format", "json")[1])
    assert list(document) == ["input", "layers", "totals"]
    assert set(document["totals"]) == {"parameters", "macs", "neurons"}
    for layer in document["layers"]:
        assert [key for key in layer if key != "notes"] == KEYS
    for key in ("neurons", "parameters", "macs"):
        assert document["totals"][key] == sum(layer[key] for layer in document["layers"])
    first = document["layers"][0]
    for key in ("kernel", "stride", "padding", "dilation", "receptive_field", "jump", "start"):
        assert len(first[key]) == 2, "an entry an axis"
    last = document["layers"][-1]
    assert [last[key] for key in ("kernel", "padding", "receptive_field", "jump", "start")] == [None] * 5


def test_csv_has_the_rows_without_a_total(capsys):
    rows = list(csv.DictReader(io.StringIO(run(capsys, *TABLES["chain"], "--format", "csv")[1])))
    assert [row["parameters"] for row in rows] == ["384", "0", "0", "512", "0", "0", "0", "390"]
    assert [row["receptive_field"] for row in rows] == ["4", "4", "11", "19", "19", "43", "whole", "whole"]


@pytest.mark.parametrize(
    ("arguments", "row"),
    [
        (
            ["--input", "100x60x10", "conv 20x20/20 64"],
            "20x20x10  20      valid    5x3x64      960      256064",
        ),
        (
            ["--input", "100x60x10", "conv 20x20 64"],
            "20x20x10  1       valid    81x41x64   212544      256064",
        ),
        (["--input", "100x10", "conv 3 20 same"], "3x10    1       same (1, 1)  100x20     2000         620"),
        (["--input", "100x10", "conv 3 20 valid"], "3x10    1       valid    98x20      1960         620"),
        (
            ["--input", "100x10", "conv 3 20 causal"],
            "3x10    1       causal (2, 0)  100x20     2000         620",
        ),
    ],
)
def test_the_worked_cases(capsys, arguments, row):
    assert row in run(capsys, *arguments)[1]


def test_a_text_file_and_a_report(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = "\n".join(
        ["# what it is", "", "input 64x64x3", *CASE_5.split(", ")[:3], "# more", *CASE_5.split(", ")[3:]]
    )
    Path("net.txt").write_text(lines)
    status, out, _ = run(capsys, "net.txt", "--report", "r.json")
    assert (status, out) == (0, (GOLDEN / "shapes_chain.table").read_text())
    assert json.loads(Path("r.json").read_text())["totals"]["parameters"] == 1286
    assert run(capsys, "net.txt", "--report", "r.json")[0] == 2
    assert run(capsys, "net.txt", "--report", "r.json", "--force")[0] == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "conv 3x3 4"),
        ("a", "#comment\nconv 3x3 4"),
        ("a", "stem: conv 3x3 4"),
        ("a", "Stem:conv 3x3 4"),
        ("a", "\ufeffconv 3x3 4\r\n"),
        ("a", "# the first\n\n\tCONV 3x3 4"),
    ],
)
def test_what_is_a_file_of_layers(capsys, tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    status, out, _ = run(capsys, str(path), "--input", "9x9x1")
    assert status == 0
    assert "7x7x4" in out
    status, message, _ = refused(capsys, str(path))
    assert status == 3
    assert message == f"{path}: a chain of layers needs its input"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("input 9x9x1\nconv 99 8", "conv1: a kernel must not be larger than the padded input, but 99 > 9 + 0 + 0",
         "take a smaller kernel or dilation, more padding or a larger input"),
        ("cnov 3x3 8", "in 'cnov 3x3 8': there is no layer 'cnov', did you mean conv", "there is conv, depthwise,"),
        ("# nothing", "there is no layer in the text", 'write layers such as "conv 3x3 8 same, relu"'),
        ("", "not an ONNX file: it is empty", "was the copy or download interrupted?"),
    ],
)  # fmt: skip
def test_a_wrong_file_of_layers_is_named(capsys, tmp_path, text, message, hint):
    path = tmp_path / "net.txt"
    path.write_text(text)
    status, line, what_to_do = refused(capsys, str(path))
    assert (status, line) == (3, f"{path}: {message}")
    assert what_to_do.startswith(hint)


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["relu, cnov 3x3 8"], "in 'cnov 3x3 8': there is no layer 'cnov', did you mean conv", "there is conv,"),
        (["conv 10x3 8"], "conv1: a kernel must not be larger than the padded input, but 10 > 9 + 0 + 0",
         "take a smaller kernel"),
        (["conv 3x3/0 8"], "conv1: kernel, stride and dilation must be at least 1, got 3, 0 and 1", ""),
        (["conv 3x3/-1 8"], "in 'conv 3x3/-1 8': '-1' is no number, and no sizes such as 3x5", "--help has"),
        (["maxpool 3 pad 3"], "maxpool1: ONNX Runtime's pools take pads smaller than the kernel, but 3 and 3 meet 3",
         "take a larger kernel"),
        (["relu", "--size", "3x3"], "--size is for a model's free axes; LAYERS have none", "their input is said by"),
        (["relu", "--batch", "3"], "--batch is for a model's free axes; LAYERS have none", "their input is said by"),
        (["nosuch.onnx"], "nosuch.onnx: no such file", ""),
        (["nosuch.txt"], "nosuch.txt: no such file", ""),
        (["no such.onnx"], "no such.onnx: no such file", ""),
        ([MODEL], "--input is for LAYERS; a model says its own", "say --size for its free axes"),
        (["a: relu, maxpool 3 same, conv 3 1 from input, add a"],
         "add1: add combines values of one shape, but 7x7x1 meets 9x9x1", ""),
        (["relu", "--runtime", "caffe"], "Invalid value for '--runtime': 'caffe' is not one of", ""),
        (["relu", "--report", "x.pdf"], "x.pdf: a report ends in .json", ""),
    ],
)  # fmt: skip
def test_a_wrong_command_line(capsys, arguments, message, hint):
    status, line, what_to_do = refused(capsys, *arguments, "--input", "9x9x1")
    assert status == 2
    assert line.startswith(message)
    assert what_to_do.startswith(hint)


def test_an_input_is_needed(capsys):
    status, message, hint = refused(capsys, "relu")
    assert (status, message) == (2, "a chain of layers needs its input")
    assert hint == "say --input 64x64x3, or begin with: input 64x64x3"


def saved(path, shape, *nodes, kernel=(4, 3, 3, 3)):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        list(nodes),
        "g",
        [value("x", TensorProto.FLOAT, shape)],
        [value("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros(kernel, np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


def test_free_axes_of_a_model(capsys, tmp_path):
    path = saved(
        tmp_path / "free.onnx", ["n", 3, "h", "w"], helper.make_node("Conv", ["x", "w"], ["y"], "stem")
    )
    status, message, hint = refused(capsys, path)
    assert (status, message) == (2, f"{path}: x: 2 axes of the input are free: nx3xhxw")
    assert hint == "say their sizes with --size, for instance --size 224x224"
    assert "4x30x38" in run(capsys, path, "--size", "32x40")[1]
    assert "4x30x38" in run(capsys, path, "--size", "H=32,W=40")[1]
    status, message, _ = refused(capsys, path, "--size", "32")
    assert (status, message) == (2, f"{path}: x: --size 32 does not fit an input of shape nx3xhxw")


def test_a_broken_model_names_file_layer_and_rule(capsys, tmp_path):
    path = saved(tmp_path / "bad.onnx", [1, 3, 2, 9], helper.make_node("Conv", ["x", "w"], ["y"], "stem"))
    status, message, _ = refused(capsys, path)
    rule = "a kernel must not be larger than the padded input, but 3 > 2 + 0 + 0"
    assert (status, message) == (3, f"{path}: stem: {rule}")


def test_branches_that_drift_apart_name_both(capsys, tmp_path):
    nodes = [
        helper.make_node("MaxPool", ["x"], ["a"], "left", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["x", "w"], ["b"], "right"),
        helper.make_node("Add", ["a", "b"], ["y"], "meet"),
    ]
    path = saved(tmp_path / "drift.onnx", [1, 3, 8, 8], *nodes, kernel=(3, 3, 5, 5))
    status, message, _ = refused(capsys, path)
    rule = "branches that meet must have the same jump, but left has one of 2 pixels and right one of 1"
    assert (status, message) == (3, f"{path}: meet: {rule}")


def test_branches_that_drift_apart_in_text(capsys, tmp_path):
    text = "a: maxpool 2, b: adaptivepool 4 from input, add a"
    rule = "add1: branches that meet must have the same jump, but b has one of 9/4 pixels and a one of 2"
    assert refused(capsys, text, "--input", "9x9x1")[:2] == (2, rule)
    path = tmp_path / "net.txt"
    path.write_text(text)
    assert refused(capsys, str(path), "--input", "9x9x1")[:2] == (3, f"{path}: {rule}")


FOREIGN = """
import sys
from dense2conv import cli
status = cli.run(sys.argv[1:])
known = set(sys.stdlib_module_names) | {"click", "__main__", "__mp_main__"}
ours = {"cli", "shapecalc", "convert", "convert.errors", "convert.kernel"}
found = {m for m in sys.modules if m.split(".")[0] not in known and not m.startswith(("_", "dense2conv"))}
found |= {m for m in sys.modules if m.startswith("dense2conv.convert.") and m[11:] not in ours}
print(status, sorted(found), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("arguments", "foreign"),
    [
        (["shapes", "--input", "9x9x1", "conv 3x3 4, relu"], False),
        (["shapes", "--input", "9x9x1", "conv 3x3 4, relu", "--format", "json"], False),
        (["calc", "conv", "--input", "9", "--kernel", "3"], False),
        (["calc", "conv", "--input", "9", "--output", "3", "--kernel", "3", "--stride", "?"], False),
        (["locate", "--input", "9x9x1", "conv 3x3 4, relu", "--pixel", "1,1"], False),
        (["shapes", MODEL], True),  # what the check is for is found
    ],
)
def test_a_piped_chain_imports_click_and_nothing_heavy(arguments, foreign):
    done = subprocess.run([sys.executable, "-c", FOREIGN, *arguments], capture_output=True, text=True, timeout=120,
                          check=True)  # fmt: skip
    status, _, found = done.stderr.splitlines()[-1].partition(" ")
    assert status == "0"
    assert ("numpy" in found) == foreign
    assert (found == "[]") != foreign, found
