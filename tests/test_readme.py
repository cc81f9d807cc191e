"""README is kept true: its table of operators is generated, its Python runs, its commands exist."""

import os
import re
import shlex
from pathlib import Path

import pytest

from dense2conv import cli
from dense2conv.convert.ops import OPERATORS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
START = "<!-- operators: generated from convert/ops, checked by tests/test_readme.py -->\n"
END = "<!-- end of operators -->\n"

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


def test_the_table_of_operators_is_the_table_of_rules() -> None:
    text = README.read_text()
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    assert before != text, "README has lost the marker of the table"
    assert after, "README has lost the marker of the table's end"
    fresh = f"{before}{START}{operator_table()}{END}{after}"
    if os.environ.get("OVERWRITE_GOLDEN"):
        README.write_text(fresh)
    assert README.read_text() == fresh, "write it again with OVERWRITE_GOLDEN=1 pytest tests/test_readme.py"


def test_every_rule_is_in_the_table() -> None:
    known = {"refused", *MEANING}
    assert {o.behaviour.partition(":")[0] for o in OPERATORS.values()} == known


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "classifier.onnx").write_bytes((ROOT / "fixtures" / "patch_classifier.onnx").read_bytes())
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "map.onnx").stat().st_size > 10_000


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
