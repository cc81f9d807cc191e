"""What PATHS mean, on a tree of files: Python's own glob is the oracle of patterns."""

import glob
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dense2conv.convert.errors import RequestError
from dense2conv.convert.lock import Entry, Pair
from dense2conv.convert.pairing import _matches, locked, options_of, wanted

NONE = Entry({}, {})
FILES = ["nets/a.onnx", "nets/b.onnx", "maps/a.onnx", "maps/b.onnx", "nets/deep/c.onnx", "k.h5", "nets/read.me",
         "with space.onnx", "a:b.onnx", ".hidden/x.onnx"]  # fmt: skip


@pytest.fixture(autouse=True)
def tree(tmp_path, monkeypatch):
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    monkeypatch.chdir(tmp_path)


def found(function, *paths, lock=None, folder="."):
    return {t.path: t.reference for t in function(folder, {} if lock is None else lock, paths)}


@pytest.mark.parametrize(
    ("paths", "pairs"),
    [
        (["nets/a.onnx"], {"nets/a.onnx": ""}),
        (["./nets/../nets/a.onnx", "nets/a.onnx"], {"nets/a.onnx": ""}),
        (["nets"], {"nets/a.onnx": "", "nets/b.onnx": "", "nets/deep/c.onnx": ""}),
        (["nets/*.onnx"], {"nets/a.onnx": "", "nets/b.onnx": ""}),
        (["nets/**/*.onnx"], {"nets/a.onnx": "", "nets/b.onnx": "", "nets/deep/c.onnx": ""}),
        (["nets/a.onnx:maps/a.onnx"], {"maps/a.onnx": "nets/a.onnx", "nets/a.onnx": ""}),
        (["nets/*.onnx:maps/*.onnx"],
         {"maps/a.onnx": "nets/a.onnx", "maps/b.onnx": "nets/b.onnx", "nets/a.onnx": "", "nets/b.onnx": ""}),
        (["k.h5:maps/*.onnx"], {"maps/a.onnx": "k.h5", "maps/b.onnx": "k.h5", "k.h5": ""}),
        (["maps", "nets/a.onnx:maps/a.onnx"], {"maps/a.onnx": "nets/a.onnx", "maps/b.onnx": "", "nets/a.onnx": ""}),
        (["nets/a.onnx:maps/a.onnx", "maps"], {"maps/a.onnx": "nets/a.onnx", "maps/b.onnx": "", "nets/a.onnx": ""}),
        (["a:b.onnx"], {"a:b.onnx": ""}),
        (["with space.onnx"], {"with space.onnx": ""}),
    ],
)  # fmt: skip
def test_what_an_update_looks_at(paths, pairs):
    assert found(wanted, *paths) == pairs


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["nowhere.onnx"], "no such file"),
        (["nowhere/*.onnx"], "matches nothing"),
        (["*.pb"], "matches nothing"),
        (["nets/deep/*"], None),
        ([".hidden/y"], "no such file"),
        (["nets/x.onnx:maps/a.onnx"], "no such file"),
        (["nets/a.onnx:maps/x.onnx"], "no such file"),
        (["nets/*.onnx:maps/a.onnx"], r"one \* in MAP"),
        (["nets/*/*.onnx:maps/*.onnx"], r"one \* in MAP"),
        ([":maps/a.onnx"], "REFERENCE:MAP"),
        (["nets/*.pb:maps/*.onnx"], "no such file"),
        (["maps/a.onnx:./maps/a.onnx"], "its own reference"),
        (["nets/a.onnx:maps/a.onnx", "nets/b.onnx:maps/a.onnx"], "two references"),
        ([], "holds no model"),
    ],
)
def test_what_finds_nothing_is_refused(paths, words):
    if words is None:
        assert found(wanted, *paths) == {"nets/deep/c.onnx": ""}
        return
    with pytest.raises(RequestError, match=words):
        found(wanted, *paths)


def test_a_name_that_json_cannot_hold_is_refused():
    for name in (b"\xff.onnx", b"nets/a.onnx:\xff.onnx", b"\xff.onnx:nets/a.onnx"):
        Path(os.fsdecode(b"\xff.onnx")).touch()
        with pytest.raises(RequestError, match="UTF-8"):
            found(wanted, os.fsdecode(name))


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for function in (wanted, locked):
        with pytest.raises(RequestError, match="no model is in this folder"):
            found(function, "empty", lock={"nets/a.onnx": NONE})


LOCK = {
    "nets/a.onnx": NONE,
    "maps/a.onnx": Entry({}, {}, {"stride": [4, 4]}, Pair("nets/a.onnx", "equivalent")),
    "gone/z.onnx": NONE,
}


def test_a_map_keeps_the_reference_of_the_lock():
    assert found(wanted, "maps/a.onnx", lock=LOCK)["maps/a.onnx"] == "nets/a.onnx"
    assert found(wanted, "nets/b.onnx:maps/a.onnx", lock=LOCK)["maps/a.onnx"] == "nets/b.onnx"


def test_what_a_check_looks_at():
    every = {"gone/z.onnx": "", "maps/a.onnx": "nets/a.onnx", "nets/a.onnx": ""}
    assert found(locked, lock=LOCK) == every
    assert [t.path for t in locked(".", LOCK, ()) if t.gone] == ["gone/z.onnx"]
    assert found(locked, "gone", lock=LOCK) == {"gone/z.onnx": ""}
    assert found(locked, "gone/*.onnx", lock=LOCK) == {"gone/z.onnx": ""}
    assert found(locked, "maps", lock=LOCK) == {"maps/a.onnx": "nets/a.onnx", "maps/b.onnx": ""}
    assert [t.path for t in locked(".", LOCK, ["maps"]) if t.entry is None] == ["maps/b.onnx"]
    assert found(locked, "nets/a.onnx:maps/a.onnx", lock=LOCK) == {"maps/a.onnx": "nets/a.onnx"}
    assert set(found(locked, ".", lock=LOCK)) > set(every)
    for paths, words in (
        (["nowhere"], "no such file"),
        (["nowhere/*"], "matches nothing"),
        (["nets/b.onnx:maps/a.onnx"], "the lock has nets/a.onnx as its reference"),
    ):
        with pytest.raises(RequestError, match=words):
            found(locked, *paths, lock=LOCK)
    with pytest.raises(RequestError, match="holds no model"):
        found(locked)


def test_paths_of_a_lock_elsewhere_are_relative_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "nets")
    assert found(wanted, "a.onnx:../maps/a.onnx", folder="..") == {
        "maps/a.onnx": "nets/a.onnx",
        "nets/a.onnx": "",
    }
    assert found(wanted, "a.onnx:../maps/a.onnx") == {"../maps/a.onnx": "a.onnx", "a.onnx": ""}


def test_options_are_kept_and_a_stride_is_a_map_s():
    targets = {t.path: t for t in locked(".", LOCK, ())}
    given = {"size": [9, 9], "stride": None, "batch": None}
    assert options_of(targets["maps/a.onnx"], given) == {"stride": [4, 4], "size": [9, 9]}
    assert options_of(targets["nets/a.onnx"], given | {"stride": [2, 2]}) == {"size": [9, 9]}


PARTS = st.lists(st.sampled_from(["a", "b", "*", "**", "?", "a*", "[ab]"]), min_size=1, max_size=4)
NAMES = [(), ("a",), ("b",), ("a", "a"), ("a", "b"), ("b", "a", "ab"), ("a", "b", "a", "a")]


@given(PARTS)
def test_patterns_match_the_lock_as_glob_matches_the_disk(tmp_path_factory, pattern):
    folder = tmp_path_factory.getbasetemp() / "globbed"
    names = {"/".join((*name, "f")) for name in NAMES}
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    text = "/".join([*pattern, "f"])
    on_disk = set(glob.glob(text, root_dir=folder, recursive=True))  # noqa: PTH207
    assert {name for name in names if _matches(name.split("/"), text.split("/"))} == on_disk
