"""The lock file: written a line a fact, the same for the same facts, and not believed when it is read."""

import json
import random

import pytest

from dense2conv.convert.errors import FileError, RequestError
from dense2conv.convert.lock import Entry, Pair, differences, read_lock, written


def row(name, **fields):
    return {"name": name, "kind": "Conv", "kernel": [3, 3], "stride": [1, 1], "output": [8, 12, 12], **fields}


SHAPES = {
    "input": {"name": "image", "shape": [3, 24, 24]},
    "layers": [row("conv1"), row("relu1", kind="Relu", kernel=None), row("fc", output=[4])],
    "totals": {"parameters": 10, "macs": 20, "neurons": 30},
}
NET = Entry({"net.onnx": "aa", "data/net.bin": "bb"}, SHAPES, {"size": [24, 24], "order": "CHW"})
MAP = Entry(
    {"map.onnx": "cc"}, SHAPES, {}, Pair("net.onnx", "equivalent", False, {"patch": {"y": 1e-7, "z": "inf"}})
)
LOCK = {"net.onnx": NET, "map.onnx": MAP}


def test_it_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "dense2conv.lock"
    path.write_text(written(LOCK))
    assert read_lock(path) == LOCK
    assert json.loads(path.read_text())["models"]["map.onnx"]["pair"]["reference"] == "net.onnx"


def test_the_order_of_what_is_given_is_not_seen():
    text = written(LOCK)
    for seed in range(5):
        names = list(LOCK)
        random.Random(seed).shuffle(names)
        files = dict(reversed(NET.files.items()))
        options = dict(reversed(NET.options.items()))
        shuffled = LOCK | {"net.onnx": Entry(files, SHAPES, options)}
        assert written({name: shuffled[name] for name in names}) == text


def test_a_changed_fact_is_a_changed_line():
    before = written(LOCK).splitlines()
    layers = [row("conv1"), SHAPES["layers"][1], row("fc", output=[5])]
    after = written(
        LOCK | {"net.onnx": Entry({**NET.files, "net.onnx": "ab"}, SHAPES | {"layers": layers}, NET.options)}
    )
    changed = [(a, b) for a, b in zip(before, after.splitlines(), strict=True) if a != b]
    assert len(changed) == 2  # a hash, and a layer
    assert all('"fc"' in line for line in changed[1])


def edited(change):
    document = json.loads(written(LOCK))
    change(document)
    return json.dumps(document)


def model(document, name="net.onnx"):
    return document["models"][name]


BROKEN = {
    "another version": (edited(lambda d: d.update(version=2)), "version is 1, not 2"),
    "true for a version": (edited(lambda d: d.update(version=True)), "version is 1, not True"),
    "no version": (edited(lambda d: d.pop("version")), "version is 1, not None"),
    "a key twice": (written(LOCK).replace('"map.onnx": {', '"net.onnx": {', 1), "the key 'net.onnx' twice"),
    "no JSON": (written(LOCK)[:-10], "not JSON"),
    "a merge conflict": ("<<<<<<< HEAD\n" + written(LOCK), "a merge conflict is left in it"),
    "a list": ("[]", "must be a JSON object"),
    "nothing": ("", "not JSON"),
    "bytes": (b"\xff\xfe\x00", "not JSON"),
    "deep": ("[" * 100_000, "too deeply"),
    "no models": (edited(lambda d: d.pop("models")), "must be a dict, and is missing"),
    "models in a list": (edited(lambda d: d.update(models=[])), "must be a dict, and is not list"),
    "a model that is text": (edited(lambda d: d["models"].update(a="b")), "must be a dict"),
    "an absolute path": (edited(lambda d: d["models"].update({"/etc/passwd": model(d)})), "relative"),
    "no layers": (edited(lambda d: model(d).pop("layers")), "layers must be a list, and is missing"),
    "a layer that is text": (edited(lambda d: model(d)["layers"].append("x")), "layers must be a dict"),
    "a layer without a name": (edited(lambda d: model(d)["layers"].append({})), "layers must be a str"),
    "a hash that is none": (edited(lambda d: model(d)["files"].update(a=1)), "files must be a str"),
    "an unknown option": (edited(lambda d: model(d)["options"].update(run="rm")), "options are size"),
    "an option's type": (edited(lambda d: model(d)["options"].update(size="24")), "size must be a list"),
    "a batch that is true": (edited(lambda d: model(d)["options"].update(batch=True)), "batch must be a int"),
    "a pair without a verdict": (edited(lambda d: model(d, "map.onnx")["pair"].pop("verdict")), "verdict must be"),
    "accepted as text": (edited(lambda d: model(d, "map.onnx")["pair"].update(accept_border="no")), "accept_border"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_lock_is_one_line_with_what_to_do(name, tmp_path):
    text, words = BROKEN[name]
    path = tmp_path / "dense2conv.lock"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FileError, match=words) as caught:
        read_lock(path)
    assert caught.value.file == str(path)
    assert "check --update" in caught.value.hint


def test_no_lock_is_a_request_to_write_one(tmp_path):
    with pytest.raises(RequestError, match="no such file") as caught:
        read_lock(tmp_path / "dense2conv.lock")
    assert "--update" in caught.value.hint


def changed(**fields):
    values = {"files": NET.files, "shapes": NET.shapes, "options": NET.options, "pair": NET.pair, **fields}
    return differences(NET, Entry(**values))


def test_nothing_changed():
    assert changed() == []
    pair = Pair("net.onnx", "equivalent", False, {"patch": {"y": 3e-7}})
    assert differences(MAP, Entry(MAP.files, MAP.shapes, {}, pair)) == []  # another machine rounds otherwise


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([row("conv1", stride=[2, 2], output=[8, 6, 6]), *SHAPES["layers"][1:]],
         ["conv1: stride 1x1 -> 2x2, output 8x12x12 -> 8x6x6"]),
        (SHAPES["layers"][:2], ["fc is gone"]),
        ([*SHAPES["layers"], row("more")], ["more is new: Conv -> 8x12x12"]),
        ([row("conv1"), row("tanh", kind="Tanh", kernel=None), row("fc", output=[4])],
         ["relu1 is gone", "tanh is new: Tanh -> 8x12x12"]),
        ([row("conv1"), row("relu1", kind="Relu", kernel=[1, 1]), row("fc", output=[5])],
         ["relu1: kernel none -> 1x1", "fc: output 4 -> 5"]),
    ],
)  # fmt: skip
def test_which_layer_changed_from_what_to_what(layers, said):
    assert changed(shapes=SHAPES | {"layers": layers}) == said


def test_everything_else_that_changed():
    shapes = SHAPES | {"input": {"name": "image", "shape": [3, 28, 28]}}
    assert changed(shapes=shapes) == ["the input: shape 3x24x24 -> 3x28x28"]
    assert changed(files={"net.onnx": "xx", "other.bin": "bb"}) == [
        "data/net.bin is not part of it any more",
        "the bytes of net.onnx changed",
        "other.bin is new",
    ]
    assert changed(options={}) == ['options {"size": [24, 24], "order": "CHW"} -> {}']
    assert changed(pair=MAP.pair) == ["its reference is net.onnx"]
    worse = Entry(MAP.files, MAP.shapes, {}, Pair("b.onnx", "border effect", True, {}))
    assert differences(MAP, worse) == [
        "reference net.onnx -> b.onnx",
        "verdict equivalent -> border effect",
        "accept border False -> True",
    ]
    assert differences(MAP, Entry(MAP.files, MAP.shapes)) == ["it has no reference any more"]
