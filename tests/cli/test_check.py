"""``check`` on small repositories: it passes what is locked, and each way not to be as locked makes it exit with 1."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from onnx import numpy_helper

import dense2conv.cli
from dense2conv.cli import check, run

ROOT = Path(__file__).parents[2]
CLASSIFIER = ROOT / "fixtures" / "patch_classifier.onnx"
PADDED = ROOT / "fixtures" / "references" / "t06_residual_same.onnx"
KERAS = ROOT / "fixtures" / "references" / "k2_gap.h5"
SCHEMA = json.loads((Path(dense2conv.cli.__file__).parent / "report.schema.json").read_text())
LOCK = Path("dense2conv.lock")
NAMES = ["maps/a.onnx", "maps/b.onnx", "nets/a.onnx", "nets/b.onnx", "nets/k.h5"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A locked repository: two networks with their maps, one of them padded, and a Keras file."""
    folder = tmp_path_factory.mktemp("made")
    for name in ("nets", "maps"):
        (folder / name).mkdir()
    shutil.copy(CLASSIFIER, folder / "nets" / "a.onnx")
    shutil.copy(PADDED, folder / "nets" / "b.onnx")
    shutil.copy(KERAS, folder / "nets" / "k.h5")
    for name in ("a", "b"):
        assert (
            run(["-q", "convert", str(folder / f"nets/{name}.onnx"), str(folder / f"maps/{name}.onnx")]) == 0
        )
    patterns = f"{folder}/nets/*.onnx:{folder}/maps/*.onnx"
    lock = ["--lock", str(folder / LOCK)]
    assert run(["-q", "check", "--update", patterns, str(folder / "nets"), "--accept-border", *lock]) == 0
    return folder


@pytest.fixture(autouse=True)
def repository(made, tmp_path, monkeypatch):
    """A copy of it, and in it."""
    shutil.copytree(made, tmp_path / "repository")
    monkeypatch.chdir(tmp_path / "repository")


@pytest.fixture
def checked(capsys):
    """Run ``check``; its exit status, its models by name, and what stderr says."""

    def checked(*arguments):
        capsys.readouterr()
        status = run(["check", *arguments, "--format", "json"])
        out, err = capsys.readouterr()
        document = json.loads(out) if out else {"models": []}
        if out:
            jsonschema.Draft202012Validator(SCHEMA).validate(document)
            assert document["accepted"] is (status == 0)
        return status, {model["model"]: model for model in document["models"]}, err

    return checked


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def edit(path, change):
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)


def tensor(model, name):
    return next(t for t in model.graph.initializer if t.name == name)


def one_weight(model):
    found = tensor(model, next(t.name for t in model.graph.initializer if t.name.startswith("fc1.weight")))
    values = numpy_helper.to_array(found).copy()
    values.flat[5] += 1
    found.CopyFrom(numpy_helper.from_array(values, found.name))


def padded(model):
    """Pads around the first convolution, so that all behind it is larger."""
    conv = next(n for n in model.graph.node if n.name == "conv1")
    next(a for a in conv.attribute if a.name == "pads").ints[:] = [0, 0, 2, 2]


def test_what_is_locked_passes(checked):
    status, models, err = checked()
    assert status == 0
    assert list(models) == NAMES
    assert [models[name]["verdict"] for name in NAMES] == ["equivalent", "border effect", *["as locked"] * 3]
    assert "5 models, all as they should be" in err
    assert models["maps/a.onnx"]["reference"] == "nets/a.onnx"
    assert all(not model["changes"] for model in models.values())
    files = models["maps/a.onnx"]["verify"]["files"]
    assert files["candidate"] == {"maps/a.onnx": sha256("maps/a.onnx")}
    assert files["reference"] == {"nets/a.onnx": sha256("nets/a.onnx")}


def test_the_lock_holds_what_others_say_too():
    """SHA-256 by hashlib; the map's shapes by ONNX Runtime, which runs it."""
    locked = json.loads(LOCK.read_text())["models"]
    assert list(locked) == NAMES
    for name, model in locked.items():
        assert model["files"] == {name: sha256(name)}
    model = locked["maps/a.onnx"]
    proto = onnx.load("maps/a.onnx")
    inner = [node.output[0] for node in proto.graph.node]
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    image = np.zeros((1, *model["input"]["shape"]), np.float32)
    shapes = [list(value.shape[1:]) for value in session.run(None, {"image": image})]
    assert [layer["output"] for layer in model["layers"]] == shapes
    assert model["pair"]["verdict"] == "equivalent"
    assert locked["maps/b.onnx"]["pair"]["accept_border"] is True
    assert max(len(line) for line in LOCK.read_text().splitlines()) < 400


def test_an_update_that_finds_nothing_new_changes_nothing(checked):
    text = re.sub(r'("patch": {"classes": )[^}]*', r"\g<1>5e-09", LOCK.read_text())  # of another machine
    assert text != LOCK.read_text()
    LOCK.write_text(text)
    status, _, err = checked("--update")
    assert status == 0
    assert "up to date" in err
    assert LOCK.read_text() == text
    assert checked()[0] == 0


def test_a_changed_weight(checked, made):
    """The map's own: it is different. The network's: its map is different too, and both are named."""
    edit("maps/a.onnx", one_weight)
    status, models, _ = checked()
    assert status == 1
    assert models["maps/a.onnx"]["verdict"] == "different"
    assert models["maps/a.onnx"]["changes"] == [
        "the bytes of maps/a.onnx changed",
        "verdict equivalent -> different",
    ]
    assert [model["status"] for model in models.values()] == [1, 0, 0, 0, 0]
    shutil.copy(made / "maps" / "a.onnx", "maps/a.onnx")
    edit("nets/a.onnx", one_weight)
    status, models, _ = checked()
    assert status == 1
    assert (models["nets/a.onnx"]["verdict"], models["maps/a.onnx"]["verdict"]) == ("changed", "different")
    assert models["nets/a.onnx"]["changes"] == ["the bytes of nets/a.onnx changed"]


def test_two_right_models_that_changed_at_once_are_not_as_locked(checked):
    edit("nets/a.onnx", one_weight)
    assert run(["-q", "convert", "nets/a.onnx", "maps/a.onnx", "--force"]) == 0
    status, models, err = checked()
    assert status == 1
    assert (models["maps/a.onnx"]["verdict"], models["maps/a.onnx"]["text"]) == ("changed", "equivalent")
    assert "check --update" in err
    status, models, _ = checked("--update")
    assert status == 0
    assert (models["maps/a.onnx"]["verdict"], models["nets/a.onnx"]["verdict"]) == ("equivalent", "changed")
    assert json.loads(LOCK.read_text())["models"]["nets/a.onnx"]["files"] == {
        "nets/a.onnx": sha256("nets/a.onnx")
    }
    assert checked()[0] == 0


def test_which_layer_changed_from_what_to_what(checked):
    edit("maps/a.onnx", padded)
    status, models, err = checked()
    assert status == 1
    changes = models["maps/a.onnx"]["changes"]
    assert changes[0].startswith(
        "conv1: padding [[0, 0], [0, 0]] -> [[0, 2], [0, 2]], output 8x24x24 -> 8x26x26, neurons 4608 -> 5408"
    )
    assert changes[1].startswith("relu1: output 8x24x24 -> 8x26x26")
    assert "conv1: padding [[0, 0], [0, 0]] -> [[0, 2], [0, 2]], output 8x24x24 -> 8x26x26" in err


def test_a_map_that_does_not_run_any_more(checked):
    """Its table says why; the error of the run is what counts."""

    def unknown(model):
        node = next(n for n in model.graph.node if n.name == "softmax")
        node.op_type = "SoftestMax"

    edit("maps/a.onnx", unknown)
    status, models, err = checked()
    assert (status, models["maps/a.onnx"]["verdict"]) == (3, "error")
    assert models["maps/a.onnx"]["changes"][0].startswith("softmax: kind Softmax -> SoftestMax")
    assert "softmax: kind Softmax -> SoftestMax" in err


@pytest.mark.parametrize("lock", [True, False])
def test_a_wrong_map_is_not_locked(checked, lock):
    if not lock:
        LOCK.unlink()
    edit("maps/a.onnx", one_weight)
    before = LOCK.read_bytes() if lock else None
    status, models, err = checked("--update", "nets/a.onnx:maps/a.onnx")
    assert status == 1
    assert models["maps/a.onnx"]["verdict"] == "different"
    assert "is as it was" in err
    assert (LOCK.read_bytes() if LOCK.exists() else None) == before


def test_a_border_effect_is_locked_only_where_it_is_accepted(checked):
    LOCK.unlink()
    status, models, err = checked("--update", "nets/*.onnx:maps/*.onnx")
    assert (status, models["maps/b.onnx"]["verdict"]) == (1, "border effect")
    assert "--accept-border" in err
    assert not LOCK.exists()
    assert checked("--update", "nets/*.onnx:maps/*.onnx", "--accept-border")[0] == 0
    locked = json.loads(LOCK.read_text())["models"]
    assert [locked[f"maps/{name}.onnx"]["pair"]["accept_border"] for name in "ab"] == [False, True]
    LOCK.write_text(LOCK.read_text().replace('"accept_border": true', '"accept_border": false'))
    status, models, _ = checked()
    assert (status, models["maps/b.onnx"]["status"]) == (1, 1)


def test_a_missing_file(checked):
    Path("nets/k.h5").unlink()
    status, models, _ = checked()
    assert (status, models["nets/k.h5"]["verdict"]) == (1, "missing")
    assert "no such file" in models["nets/k.h5"]["text"]
    assert checked("--update")[0] == 0
    assert list(json.loads(LOCK.read_text())["models"]) == NAMES[:-1]
    Path("nets/a.onnx").unlink()
    status, models, _ = checked()
    assert (status, models["maps/a.onnx"]["verdict"], models["nets/a.onnx"]["verdict"]) == (
        2,
        "error",
        "missing",
    )
    assert models["maps/a.onnx"]["text"] == "nets/a.onnx: no such file"
    before = LOCK.read_bytes()
    assert checked("--update")[0] == 2
    assert LOCK.read_bytes() == before


def test_it_goes_on_after_a_failure_and_ends_with_the_worst(checked):
    edit("maps/a.onnx", one_weight)
    Path("nets/b.onnx").write_bytes(Path("nets/b.onnx").read_bytes()[:-50])
    status, models, err = checked("--jobs", "1")
    assert status == 3
    assert [model["status"] for model in models.values()] == [1, 3, 0, 3, 0]
    lines = [line for line in err.splitlines() if line.startswith("dense2conv: ")]
    assert [line.split(": ")[1] for line in lines] == ["maps/a.onnx", "maps/b.onnx", "nets/b.onnx"]
    assert "5 models, 3 failed" in err


def test_a_crash_is_one_line_and_not_the_end(checked, monkeypatch):
    work = check._work

    def crash(job):
        if job.path == "nets/a.onnx":
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGSEGV)
        return work(job)

    monkeypatch.setattr(check, "_work", crash)
    status, models, err = checked()
    assert status == 3
    assert models["nets/a.onnx"]["text"] == "the reader crashed (signal 11)"
    assert [model["status"] for model in models.values()] == [0, 0, 3, 0, 0]
    assert err.count("crashed") == 1


def test_external_data_counts(checked):
    edit("nets/a.onnx", lambda _: None)
    model = onnx.load("nets/a.onnx")
    onnx.save(model, "nets/a.onnx", save_as_external_data=True, location="a.bin", size_threshold=0)
    assert checked("--update", "nets/a.onnx")[0] == 0
    files = json.loads(LOCK.read_text())["models"]["nets/a.onnx"]["files"]
    assert files == {"nets/a.onnx": sha256("nets/a.onnx"), "nets/a.bin": sha256("nets/a.bin")}
    data = bytearray(Path("nets/a.bin").read_bytes())
    data[100] ^= 1
    Path("nets/a.bin").write_bytes(data)
    status, models, _ = checked("nets/a.onnx")
    assert (status, models["nets/a.onnx"]["changes"]) == (1, ["the bytes of nets/a.bin changed"])


def test_paths_choose(checked):
    edit("maps/a.onnx", one_weight)
    assert list(checked("nets")[1]) == NAMES[2:]
    assert checked("nets", "maps/b.onnx")[0] == 0
    assert checked("maps/*.onnx")[0] == 1
    assert list(checked("nets/b.onnx:maps/b.onnx")[1]) == ["maps/b.onnx"]


def test_a_model_that_is_not_locked_does_not_pass(checked):
    shutil.copy("nets/a.onnx", "nets/new.onnx")
    assert checked()[0] == 0  # nobody asked for it
    status, models, err = checked("nets")
    assert (status, models["nets/new.onnx"]["verdict"]) == (1, "not locked")
    assert "check --update" in err
    assert checked("--update", "nets/new.onnx")[0] == 0
    assert checked("nets")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["nowhere/*.onnx"], 2, "the pattern matches nothing"),
        (["--update", "nowhere/*.onnx"], 2, "the pattern matches nothing"),
        (["--update", "nets/*.h5:maps/*.onnx"], 2, "nets/a.h5: no such file"),
        (["nowhere.onnx"], 2, "no such file"),
        (["--lock", "nowhere.lock"], 2, "write it first"),
        (["--lock", "nowhere/x.lock", "--update", "nets"], 2, "there is no directory"),
        (["--accept-border"], 2, "add --update"),
        (["--patch", "24x24"], 2, "add --update"),
        (["--update", "--stride", "patch"], 2, "in numbers"),
        (["--report", "r.pdf"], 2, "a report ends in"),
        (["--update", "nets/b.onnx:maps/a.onnx"], 3, "must have the same inputs"),
    ],
)
def test_a_wrong_request(arguments, status, words, checked):
    before = LOCK.read_bytes()
    found, _, err = checked(*arguments)
    assert found == status, err
    assert words in err
    assert LOCK.read_bytes() == before


def test_a_map_is_not_locked_without_its_reference(checked):
    LOCK.unlink()
    status, models, err = checked("--update", "maps", "nets/b.onnx")
    assert status == 2
    assert "none is named" in models["maps/a.onnx"]["text"]
    assert "check --update REFERENCE:maps/a.onnx" in err


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        (lambda text: text.replace('"version": 1', '"version": 9'), 3, "version is 1, not 9"),
        (lambda text: text.replace('"nets/a.onnx": {', '"nets/b.onnx": {'), 3, "twice"),
        (lambda text: "<<<<<<< HEAD\n" + text, 3, "merge conflict"),
        (lambda text: text[:-20], 3, "not JSON"),
        (lambda _: '{"version": 1, "models": {}}', 2, "the lock holds no model"),
    ],
)
def test_a_lock_that_is_none(change, status, words, checked):
    LOCK.write_text(change(LOCK.read_text()))
    found, _, err = checked()
    assert found == status
    assert words in err
    assert len(err.splitlines()) == 2


def test_a_map_of_another_tool_and_a_free_axis(checked):
    """What they do not say of themselves is locked with them."""
    LOCK.unlink()
    edit("maps/a.onnx", lambda model: model.metadata_props.pop())
    status, models, _ = checked("--update", "nets/a.onnx:maps/a.onnx")
    assert status == 2
    assert "stride" in models["maps/a.onnx"]["text"]
    assert checked("--update", "nets/a.onnx:maps/a.onnx", "--stride", "4x4", "--size", "24x24")[0] == 0
    locked = json.loads(LOCK.read_text())["models"]
    assert locked["maps/a.onnx"]["options"] == {"size": [24, 24], "stride": [4, 4]}
    assert locked["nets/a.onnx"]["options"] == {"size": [24, 24]}
    assert checked()[0] == 0


def test_from_another_folder(checked, monkeypatch):
    monkeypatch.chdir("nets")
    assert checked("--lock", "../dense2conv.lock")[0] == 0
    assert list(checked("--lock", "../dense2conv.lock", "../maps/a.onnx")[1]) == ["maps/a.onnx"]


def test_a_provider_that_is_not_there_is_status_4(checked):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("CUDA is there")
    status, models, _ = checked("--provider", "cuda")
    assert status == 4
    assert [model["status"] for model in models.values()] == [4, 4, 0, 0, 0]


def test_reports_have_a_case_a_model(checked):
    edit("maps/a.onnx", one_weight)
    Path("nets/b.onnx").write_bytes(b"\x08")
    endings = ("xml", "md", "html", "json")
    assert checked(*(word for ending in endings for word in ("--report", f"r.{ending}")))[0] == 3
    (suite,) = ElementTree.parse("r.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("5", "1", "2")
    assert [case.get("name") for case in suite.iter("testcase")] == NAMES
    assert [[child.tag for child in case] for case in suite.iter("testcase")][2:] == [[], ["error"], []]
    page = Path("r.md").read_text().splitlines()
    assert page[0] == "## dense2conv check: 3 of 5 models failed"
    assert page[2] == "| model | verdict | what changed |"
    jsonschema.validate(json.loads(Path("r.json").read_text()), SCHEMA)
    assert "3 of 5 models failed" in Path("r.html").read_text()


def test_a_table_and_annotations():
    edit("maps/a.onnx", one_weight)
    environment = {**os.environ, "GITHUB_ACTIONS": "true"}
    command = [sys.executable, "-m", "dense2conv", "check"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["model", "verdict", "what", "changed"]
    assert [line.split()[0] for line in lines[1:]] == NAMES
    annotations = [line for line in done.stderr.splitlines() if line.startswith("::")]
    assert len(annotations) == 1
    assert annotations[0].startswith("::error file=maps/a.onnx,title=dense2conv::maps/a.onnx: different: ")


STOPPED = """
import os, sys, time
from pathlib import Path
from dense2conv.cli import check, main

def work(job):
    (Path("ids") / job.path.replace("/", "-")).write_text(str(os.getpid()))
    time.sleep(60)

check._work = work
sys.argv[1:] = ["check", "--jobs", "2"]
main()
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_it_and_its_workers(number, status):
    ids = Path("ids")
    ids.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED], stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while len([path for path in ids.iterdir() if path.read_text()]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (status, b"", b"")
    for path in ids.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)


ACTION = yaml.safe_load((ROOT / "action.yml").read_text())


def test_the_action_runs_no_input_as_a_script():
    steps = ACTION["runs"]["steps"]
    assert ACTION["runs"]["using"] == "composite"
    assert [step.get("uses", step.get("shell")) for step in steps] == [
        "actions/setup-python@v5",
        "bash",
        "bash",
    ]
    assert not any("${{" in step.get("run", "") for step in steps)
    used = {value for step in steps for value in step.get("env", step.get("with", {})).values()}
    assert used == {f"${{{{ inputs.{name} }}}}" for name in ACTION["inputs"]}


@pytest.mark.parametrize(
    ("inputs", "status", "said"),
    [
        ({}, 0, "5 models as they should be"),
        ({"paths": "nets\nmaps/b.onnx\n"}, 0, "4 models as they should be"),
        ({"paths": "maps/*.onnx"}, 1, "1 of 2 models failed"),
        ({"paths": "$(touch owned); nets"}, 2, ""),
        ({"paths": "--update"}, 2, ""),
        ({"lock": "nowhere.lock"}, 2, ""),
    ],
)
def test_the_action_s_commands(inputs, status, said, tmp_path):
    """The steps as they stand, in the shell that the runner uses; pip is a script that notes what it was asked."""
    if "*" in inputs.get("paths", ""):
        edit("maps/a.onnx", one_weight)
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "python").write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/asked"\n')
    (tools / "dense2conv").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dense2conv "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    given = {name: spec["default"] for name, spec in ACTION["inputs"].items()} | inputs
    environment = {
        **os.environ,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_ACTION_PATH": str(ROOT),
        "GITHUB_ACTIONS": "true",
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "RUNNER_TEMP": str(tmp_path),
    }
    for step in ACTION["runs"]["steps"]:
        if "run" not in step:
            continue
        values = {
            key: given[text.removeprefix("${{ inputs.").removesuffix(" }}")]
            for key, text in step.get("env", {}).items()
        }
        script = tmp_path / "script.sh"
        script.write_text(step["run"])
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)],
            env=environment | values, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == (status if step["name"] == "Check" else 0), done.stderr
    assert (tmp_path / "asked").read_text() == f"-m pip install {ROOT}\n"
    assert not Path("owned").exists()
    if said:
        assert said in (tmp_path / "summary").read_text()
        junit = (tmp_path / "output").read_text().strip().removeprefix("junit=")
        assert ElementTree.parse(junit).getroot().tag == "testsuites"
    else:
        assert not (tmp_path / "summary").exists()
