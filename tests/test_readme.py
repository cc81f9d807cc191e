"""README is kept true: its tables of operators and layers are generated, its Python runs, its commands exist."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from dense2conv import cli
from dense2conv.convert.keras.layers import LAYERS, REFUSED
from dense2conv.convert.keras.layers.functions import FUNCTIONS
from dense2conv.convert.keras.layers.operations import OPERATIONS
from dense2conv.convert.keras.layers.tensorflow import FUNCTIONS as TENSORFLOW
from dense2conv.convert.ops import OPERATORS
from dense2conv.convert.rules import RULES

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
OPERATOR_TABLE = (
    "<!-- operators: generated from convert/ops, checked by tests/test_readme.py -->\n",
    "<!-- end of operators -->\n",
)
LAYER_TABLE = (
    "<!-- layers: generated from convert/keras/layers, checked by tests/test_readme.py -->\n",
    "<!-- end of layers -->\n",
)
RULE_TABLE = (
    "<!-- rules: generated from convert/rules, checked by tests/test_readme.py -->\n",
    "<!-- end of rules -->\n",
)

MEANING = {
    "pointwise": "stays; every position or channel alike",
    "windowed": "stays; slides, with the pads it has on a patch",
    "view": "goes; regroups axes",
    "dense": "becomes a convolution",
    "whole patch": "becomes a window as large as the patch's feature map",
    "features": "moves to the channel axis of the map",
}


def operator_table() -> str:
    """Return README's table of operators, from the one table of rules."""
    lines = ["| under a scan | operators |", "|---|---|"]
    for behaviour, meaning in MEANING.items():
        names = sorted(n for n, o in OPERATORS.items() if o.behaviour == behaviour)
        lines.append(f"| {meaning} | {', '.join(names)} |")
    reasons: dict[str, list[str]] = {}
    for name, operator in sorted(OPERATORS.items()):
        if operator.behaviour.startswith("refused: "):
            reasons.setdefault(operator.behaviour.removeprefix("refused: "), []).append(name)
    lines += [f"| refused: {reason} | {', '.join(names)} |" for reason, names in sorted(reasons.items())]
    return "\n".join(lines) + "\n"


def ranks(names: list[str]) -> str:
    """Names as a list, with Conv1D, Conv2D, Conv3D as Conv1D/2D/3D."""
    families: dict[tuple[str, str], list[str]] = {}
    for name in sorted(names):
        start, rank, end = re.fullmatch(r"(.*?)((?:\dD)?)((?:Transpose)?)", name).groups()  # type: ignore[union-attr]
        families.setdefault((start, end), []).append(rank)
    return ", ".join(f"{start}{'/'.join(found)}{end}" for (start, end), found in families.items())


def layer_table() -> str:
    """Return README's table of Keras layers, from the one table of rules."""
    rows = {
        "layers": ranks(
            [name for name in LAYERS if not name.startswith("ops.") and not name.endswith("OpLambda")]
        ),
        "activations by name": ", ".join(sorted(name for name in FUNCTIONS if name.islower())),
        "functions of `keras.ops`": ", ".join(sorted(OPERATIONS)),
        "functions of TensorFlow": ", ".join(f"`{name}`" for name in sorted(TENSORFLOW)),
    }
    reasons: dict[str, list[str]] = {}
    for name, reason in REFUSED.items():
        reasons.setdefault(reason, []).append(name)
    lines = [
        "| Keras | understood |",
        "|---|---|",
        *(f"| {kind} | {names} |" for kind, names in rows.items()),
    ]
    lines += [
        f"| refused: {reason} | {ranks(names).replace('__lambda__', '`__lambda__`')} |"
        for reason, names in sorted(reasons.items())
    ]
    return "\n".join(lines) + "\n"


def rule_table() -> str:
    """Return README's table of rewrites, from the one table of rules."""
    rows = (
        f"| `{name}` | {rule.finds} | {rule.writes}{'; ' * bool(rule.caution)}{rule.caution} |\n"
        for name, rule in RULES.items()
    )
    return "| rule | finds | writes |\n|---|---|---|\n" + "".join(rows)


@pytest.mark.parametrize(
    ("table", "marks"),
    [(operator_table, OPERATOR_TABLE), (layer_table, LAYER_TABLE), (rule_table, RULE_TABLE)],
)
def test_a_table_is_the_table_of_rules(table: Callable[[], str], marks: tuple[str, str]) -> None:
    start, end = marks
    text = README.read_text()
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    assert before != text, "README has lost the marker of the table"
    assert after, "README has lost the marker of the table's end"
    fresh = f"{before}{start}{table()}{end}{after}"
    if os.environ.get("OVERWRITE_GOLDEN"):
        README.write_text(fresh)
    assert README.read_text() == fresh, "write it again with OVERWRITE_GOLDEN=1 pytest tests/test_readme.py"


def test_every_rule_is_in_the_table() -> None:
    known = {"refused", *MEANING}
    assert {o.behaviour.partition(":")[0] for o in OPERATORS.values()} == known


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "classifier.onnx").write_bytes((ROOT / "fixtures" / "patch_classifier.onnx").read_bytes())
    monkeypatch.chdir(tmp_path)
    test, example = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "map.onnx").stat().st_size > 10_000
    (tmp_path / "test_map.py").write_text(test)
    run = [sys.executable, "-m", "pytest", "-q", "--confcutdir", ".", "-p", "no:cacheprovider"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert "1 passed" in done.stdout, done.stdout
    swapped = onnx.load("map.onnx")
    for tensor in swapped.graph.initializer:
        if tensor.name == "fc2.bias":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[::-1].copy(), tensor.name))
    onnx.save(swapped, "map.onnx")
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert "1 failed" in done.stdout, done.stdout
    assert "windows: different: " in done.stdout


def test_every_command_is_described() -> None:
    text = README.read_text()
    for name in cli.COMMANDS:
        assert f"| `{name} " in text, f"README does not describe {name}"


def test_the_first_command_prints_what_readme_shows(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Each line that README shows stands in the output, up to figures that differ from machine to machine ("...")."""
    blocks = re.findall(r"```\n(layer  operator.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 1
    assert cli.run(["convert", str(ROOT / "fixtures/patch_classifier.onnx"), str(tmp_path / "map.onnx")]) == 0
    said = capsys.readouterr()
    printed = (said.out + said.err).replace(f"{tmp_path}/", "").splitlines()
    shown = blocks[0].splitlines()
    assert len(shown) == len(printed)
    for expected, line in zip(shown, printed, strict=True):
        assert line.startswith(expected.removesuffix("...")), (expected, line)


def test_the_layer_table_is_what_readme_shows(capsys: pytest.CaptureFixture[str]) -> None:
    shown = r"```sh\ndense2conv (shapes .*?)\n```\n\n```\n(.*?)```"
    ((command, table),) = re.findall(shown, README.read_text(), re.DOTALL)
    assert cli.run(shlex.split(command)) == 0
    assert capsys.readouterr().out == table
