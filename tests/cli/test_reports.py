"""Reports: JSON against its schema, JUnit and pages read back by other parsers, and all of them in step with the exit
status."""

import hashlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import dense2conv.cli
from dense2conv.cli import run
from dense2conv.cli.gates import cases_of, gate_of
from dense2conv.cli.output import Column, annotate, to_json
from dense2conv.cli.reports import Case, Gate, Suite, check_reports, write_reports
from dense2conv.convert.errors import RequestError

ROOT = Path(__file__).parents[2]
CLASSIFIER = ROOT / "fixtures" / "patch_classifier.onnx"
REFERENCES = ROOT / "fixtures" / "references"
PADDED = REFERENCES / "t06_residual_same.onnx"
SCHEMA = json.loads((Path(dense2conv.cli.__file__).parent / "report.schema.json").read_text())
DOCUMENT = {"layers": [], "scale": float("inf"), "size": (3, 4)}

# https://github.com/jenkinsci/xunit-plugin, junit-10.xsd: the elements, their attributes and what is inside, in order.
JUNIT = {
    "testsuites": ({"name", "time", "tests", "failures", "errors", "disabled"}, ("testsuite",)),
    "testsuite": (
        {"name", "tests", "failures", "errors", "time", "disabled", "skipped", "timestamp", "hostname", "id",
         "package"},
        ("properties", "testcase", "system-out", "system-err"),
    ),
    "properties": (set(), ("property",)),
    "property": ({"name", "value"}, ()),
    "testcase": ({"name", "assertions", "time", "classname", "status"}, ("skipped", "error", "failure", "system-out")),
    "skipped": ({"message", "type"}, ()),
    "error": ({"message", "type"}, ()),
    "failure": ({"message", "type"}, ()),
    "system-out": (set(), ()),
}  # fmt: skip


def junit(path):
    """The root of a report of JUnit, held against the schema above, its counts counted again."""
    root = ElementTree.fromstring(path.read_bytes())
    assert root.tag == "testsuites"
    for element in root.iter():
        attributes, inside = JUNIT[element.tag]
        assert set(element.attrib) <= attributes, element.tag
        order = [inside.index(child.tag) for child in element]
        assert order == sorted(order), element.tag
    for group in (root, *root.iter("testsuite")):
        assert int(group.get("tests")) == len(list(group.iter("testcase")))
        assert int(group.get("failures")) == len(list(group.iter("failure")))
        assert int(group.get("errors")) == len(list(group.iter("error")))
    for suite in root.iter("testsuite"):
        assert int(suite.get("skipped")) == len(list(suite.iter("skipped")))
    return root


def statuses(root):
    return {
        case.get("name"): next((child.tag for child in case if child.tag != "system-out"), "passed")
        for case in root.iter("testcase")
    }


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The classifier, its map, a wrong map, a padded network and its map."""
    folder = tmp_path_factory.mktemp("reports")
    assert run(["-q", "convert", str(CLASSIFIER), str(folder / "map.onnx")]) == 0
    assert run(["-q", "convert", str(PADDED), str(folder / "padded.onnx")]) == 0
    wrong = onnx.load(folder / "map.onnx")
    kernel = next(t for t in wrong.graph.initializer if t.name == "fc1.weight/kernel")
    values = numpy_helper.to_array(kernel).copy()
    values[3, 5, 2, 1] += 1
    kernel.CopyFrom(numpy_helper.from_array(values, kernel.name))
    onnx.save(wrong, folder / "wrong.onnx")
    for name in ("still", "still2"):
        onnx.save(still(), folder / f"{name}.onnx")
    return folder


def still():
    """A network whose output never varies: its weights are zeros."""
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])],
        "still",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 5, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.zeros((40, 3), np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


# what is compared: (reference, candidate, options, exit status, the statuses of JUnit that are not "passed")
CASES = {
    "equivalent": (CLASSIFIER, "map.onnx", [], 0, {}),
    "different": (CLASSIFIER, "wrong.onnx", [], 1,
                  dict.fromkeys(("structure", "probes", "patch", "patch, offset", "windows"), "failure")),
    "border effect": (PADDED, "padded.onnx", [], 1, {"windows": "failure"}),
    "accepted": (PADDED, "padded.onnx", ["--accept-border"], 0, {}),
    "inconclusive": ("still.onnx", "still2.onnx", [], 1,
                     {"structure": "skipped", "patch": "error", "windows": "skipped"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_report_of_verify(name, files, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(files)
    reference, candidate, options, status, faults = CASES[name]
    endings = ("json", "xml", "md", "html")
    wanted = [word for ending in endings for word in ("--report", str(tmp_path / f"r.{ending}"))]
    command = ["verify", str(reference), candidate, *options, *wanted]
    assert run([*command, "--format", "json"]) == status
    printed = json.loads(capsys.readouterr().out)

    document = json.loads((tmp_path / "r.json").read_text())
    assert document == printed
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert document["verdict"] == ("border effect" if name == "accepted" else name)
    assert document["versions"] == {
        "python": sys.version.split()[0],
        "onnxruntime": onnxruntime.__version__,
        **{package: metadata.version(package) for package in ("dense2conv", "numpy", "onnx")},
    }
    assert document["files"] == {
        "reference": {str(reference): sha256(reference)},
        "candidate": {candidate: sha256(candidate)},
    }

    found = statuses(junit(tmp_path / "r.xml"))
    saturated = {
        ("patch, offset", "skipped"),
        ("patch, wide range", "skipped"),
    }  # inputs that say nothing here
    assert dict({case for case in found.items() if case[1] != "passed"} - saturated) == faults
    assert list(found) == [check["name"] for check in document["checks"]]
    properties = {p.get("name"): p.get("value") for p in junit(tmp_path / "r.xml").iter("property")}
    assert properties["seed"] == "0"
    assert properties["provider"] == "cpu"
    assert sha256(candidate) in properties.values()

    page = (tmp_path / "r.md").read_text().splitlines()
    assert page[0] == f"## dense2conv verify: {document['verdict']}"
    assert page[2] == "| check | verdict | evidence |"
    assert sum(line.startswith(("| interface |", "| patch |")) for line in page[:10]) == 2
    assert any(sha256(candidate) in line for line in page)
    assert document["verdict"] in texts(tmp_path / "r.html")["h1"][0]
    assert sha256(candidate) in texts(tmp_path / "r.html")["td"]


def texts(path):
    """The texts of a page by the tag that they stand in; nothing on it comes from elsewhere."""
    source = path.read_text()
    assert not re.search(r"<script|<link|<img|https?://|@import|url\(", source)
    found, open_tags = {}, []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):  # noqa: ARG002
            if tag != "meta":
                open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

        def handle_data(self, data):
            if open_tags:
                found.setdefault(open_tags[-1], []).append(data)

    Reader().feed(source)
    assert not open_tags
    return found


def test_the_schema_refuses_what_is_none(files, capsys):
    """A validator is shown to find what it is for."""
    assert run(["verify", str(CLASSIFIER), str(files / "map.onnx"), "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    validator.check_schema(SCHEMA)
    assert validator.is_valid(document)
    for broken in (
        {key: value for key, value in document.items() if key != "checks"},
        document | {"verdict": "fine"},
        document | {"checks": []},
        document | {"files": {"reference": {"a": "12"}}},
        document | {"versions": {}},
        document | {"checks": [document["checks"][0] | {"verdict": "skipped"}]},
    ):
        assert not validator.is_valid(broken)


def test_the_reports_of_convert(tmp_path):
    names = [str(tmp_path / f"r.{ending}") for ending in ("json", "xml", "md")]
    wanted = [word for name in names for word in ("--report", name)]
    out = tmp_path / "map.onnx"
    assert run(["convert", str(CLASSIFIER), str(out), *wanted]) == 0
    document = json.loads(Path(names[0]).read_text())
    jsonschema.validate(document, SCHEMA)
    assert document["verify"]["files"] == {
        "reference": {str(CLASSIFIER): sha256(CLASSIFIER)},
        "candidate": {str(out): sha256(out)},
    }
    assert set(statuses(junit(Path(names[1]))).values()) == {"passed"}
    assert Path(names[2]).read_text().startswith("## dense2conv convert: equivalent\n")

    maps = tmp_path / "maps"
    maps.mkdir()
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(CLASSIFIER.read_bytes()[:-100])
    several = [
        "convert",
        str(CLASSIFIER),
        str(broken),
        str(PADDED),
        "--output-dir",
        str(maps),
        *wanted,
        "--force",
    ]
    assert run(several) == 3
    document = json.loads(Path(names[0]).read_text())
    jsonschema.validate(document, SCHEMA)
    assert [model.get("status", 0) for model in document["models"]] == [0, 3, 0]
    root = junit(Path(names[1]))
    assert [suite.get("name") for suite in root] == [str(CLASSIFIER), str(broken), str(PADDED)]
    assert [suite.get("errors") for suite in root] == ["0", "1", "0"]


def test_a_config_is_one_of_the_files(tmp_path):
    weights, config = REFERENCES / "k1_valid_th_w_only.h5", REFERENCES / "k1_valid_th_w_only.json"
    out, report = tmp_path / "map.onnx", tmp_path / "r.json"
    command = ["convert", str(weights), str(out), "--config", str(config), "--report", str(report)]
    assert run(command) == 0
    files = json.loads(report.read_text())["verify"]["files"]
    assert files["reference"] == {str(path): sha256(path) for path in (weights, config)}
    assert files["candidate"] == {str(out): sha256(out)}


def test_a_conversion_that_fails_leaves_its_reports(files, tmp_path, capsys):
    """They are the ones that are read: of a proof that failed, and of a file that cannot be converted."""
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(CLASSIFIER.read_bytes()[:-100])
    for source, status, kind in ((files / "still.onnx", 1, "error"), (broken, 3, "error")):
        names = [str(tmp_path / f"r.{ending}") for ending in ("json", "xml")]
        wanted = ["--report", names[0], "--report", names[1], "--force"]
        assert run(["convert", str(source), str(tmp_path / "o.onnx"), "--order", "CHW", *wanted]) == status
        capsys.readouterr()
        document = json.loads(Path(names[0]).read_text())
        jsonschema.validate(document, SCHEMA)
        assert document["status"] == status
        assert kind in statuses(junit(Path(names[1]))).values()
        assert not (tmp_path / "o.onnx").exists()


def test_strict_without_a_map_is_red(tmp_path):
    for options in (["-n"], [str(tmp_path / "out.onnx")]):
        xml = tmp_path / "r.xml"
        assert run(["convert", str(PADDED), *options, "--strict", "--report", str(xml), "--force"]) == 1
        assert "failure" in statuses(junit(xml)).values()


def check(verdict):
    return {"name": "patch", "verdict": verdict, "text": "why", "outputs": {}}


@pytest.mark.parametrize("verdict", ["equivalent", "border effect", "different", "inconclusive"])
@pytest.mark.parametrize("accepted", [True, False])
@pytest.mark.parametrize("inner", ["equivalent", "border effect", "inconclusive", None])
def test_junit_is_red_exactly_where_the_gate_is_shut(verdict, accepted, inner):
    report = {"verdict": verdict, "accepted": accepted, "checks": [check(inner)]}
    red = {case.status for case in cases_of(report)} & {"failure", "error"}
    assert bool(red) is not accepted
    for status in (0, 1, 3):
        gate = gate_of("verify", {"m": {"checks": [], "accepted": True, "verdict": "equivalent"}}, status)
        assert bool({c.status for c in gate.suites["m"].cases} & {"failure", "error"}) is (status != 0)


NASTY = [
    "a<b>&\"'",
    "]]>",
    "x\n::error::y",
    "\x00\x1b[2J",
    "\udcff",
    "\ufffe",
    "|`*_|",
    "<script>alert(1)</script>",
    "%0A::error::z",
]


@pytest.mark.parametrize("name", NASTY)
def test_a_name_stays_a_name(name, tmp_path):
    paths = [str(tmp_path / f"r.{ending}") for ending in ("xml", "md", "html", "json")]
    cases = [Case(name, status, name, name) for status in ("failure", "error", "skipped", "passed")]
    gate = Gate("verify", "different", {name: Suite(cases, {name: name})})
    write_reports(paths, {"name": name}, [{"name": name}], [Column("name")], force=False, gate=gate)
    root = junit(tmp_path / "r.xml")
    assert [len(list(root.iter(tag))) for tag in ("testcase", "failure", "error", "skipped")] == [4, 1, 1, 1]
    plain = name.isprintable() and not name.startswith("::")
    assert not plain or root[0].get("name") == name
    lines = (tmp_path / "r.md").read_text().splitlines()
    assert [line for line in lines if not line.startswith(("|", "#"))] == [""] * lines.count("")
    assert "script" not in texts(tmp_path / "r.html")
    json.loads((tmp_path / "r.json").read_text())
    for path in paths:
        assert not [line for line in Path(path).read_text().splitlines() if line.lstrip().startswith("::")]


@pytest.mark.parametrize("name", NASTY)
def test_an_annotation_is_one_command(name, capsys, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    annotate("error", f"{name}\nwhat to do, 100%", title=f"a: b, {name}", file=f"{name},line=1::x")
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    # As the runner takes it apart: https://github.com/actions/runner, ActionCommand.TryParseV2.
    command, properties, data = re.fullmatch(r"::(\w+) (.*?)::(.*)", line).groups()
    assert command == "error"
    assert [part.split("=")[0] for part in properties.split(",")] == ["file", "title"]
    assert data.endswith("%0Awhat to do, 100%25")
    monkeypatch.setenv("GITHUB_ACTIONS", "false")
    annotate("error", "x")
    assert capsys.readouterr() == ("", "")


def test_a_workflow_is_annotated_and_its_json_stays_clean(files):
    """In a process of its own: stdout is a document, stderr has one annotation of the verdict."""
    environment = {**os.environ, "GITHUB_ACTIONS": "true"}
    command = [sys.executable, "-m", "dense2conv", "verify", str(CLASSIFIER)]
    for candidate, level, status in (("map.onnx", "notice", 0), ("wrong.onnx", "error", 1)):
        done = subprocess.run([*command, str(files / candidate), "--format", "json"],
                              capture_output=True, text=True, env=environment, timeout=120, check=False)  # fmt: skip
        assert done.returncode == status
        json.loads(done.stdout)
        lines = [line for line in done.stderr.splitlines() if line.startswith("::")]
        assert len(lines) == 1
        assert lines[0].startswith(f"::{level} file={files / candidate},title=dense2conv%3A ")
    done = subprocess.run([*command, "nowhere.onnx"],
                          capture_output=True, text=True, env=environment, timeout=120, check=False)  # fmt: skip
    assert "::error title=dense2conv::nowhere.onnx: no such file%0A" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["shapes", "--input", "9x9x1", "conv 3x3 4, relu"],
        ["calc", "conv", "--input", "64", "--kernel", "4"],
        ["locate", "--input", "9x9x1", "conv 3x3 4, relu", "--pixel", "1,1"],
        ["windows", "--steps", "30", "--length", "10"],
        ["audit", str(CLASSIFIER)],
    ],
    ids=lambda arguments: arguments[0],
)
def test_other_commands_have_pages_and_no_junit(arguments, tmp_path, capsys):
    assert run([*arguments, "--format", "markdown"]) == 0
    printed = capsys.readouterr().out
    page, html = tmp_path / "r.md", tmp_path / "r.html"
    assert run([*arguments, "--report", str(page), "--report", str(html)]) == 0
    table = [line for line in page.read_text().splitlines() if line.startswith("|")]
    assert table == [line for line in printed.splitlines() if line.startswith("|")]
    assert len(texts(html)["th"]) == table[0].count(" | ") + 1
    assert run([*arguments, "--report", str(tmp_path / "r.xml")]) == 2
    assert "this command makes none" in capsys.readouterr().err
    assert not (tmp_path / "r.xml").exists()


def test_a_report_is_refused_before_any_work(tmp_path):
    path = tmp_path / "report.json"
    check_reports([str(path)], force=False)
    write_reports([str(path)], DOCUMENT, force=False)
    assert path.read_text() == to_json(DOCUMENT)
    with pytest.raises(RequestError, match="OUT exists"):
        check_reports([str(path)], force=False)
    with pytest.raises(RequestError, match="same file"):
        check_reports([str(path)], force=True, inputs=[str(path)])
    with pytest.raises(RequestError, match=r"a report ends in \.json, \.md, \.html, \.xml"):
        check_reports([str(tmp_path / "report.doc")], force=False)
    with pytest.raises(RequestError, match="two reports"):
        check_reports([str(tmp_path / "a.md")] * 2, force=False)
