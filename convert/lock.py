"""``dense2conv.lock``: what was true of each model when somebody looked; made to be reviewed in a diff.

A JSON object: ``version``, and ``models`` by path, relative to the lock's folder and in order. Each model has, one
line a fact: ``files``, the SHA-256 of its file and of those that hold its weights; ``input``, ``layers`` and
``totals``, its table as ``shapes`` gives it; ``options``, with which it was looked at; and where it is a map, ``pair``:
its reference, the verdict, whether a border effect was accepted, and how far each output was off.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from .errors import FileError, RequestError
from .strict_json import parse

NAME = "dense2conv.lock"
VERSION = 1
OPTIONS = ("size", "batch", "patch", "order", "stride")

_TABLE = ("input", "layers", "totals")
_AGAIN = "write it again: dense2conv check --update"


@dataclass(frozen=True)
class Pair:
    """What was found when a map was run against its ``reference``, a path as in the lock.

    ``figures`` is by check and output: the worst difference as a share of the largest value.
    """

    reference: str
    verdict: str
    accept_border: bool = False
    figures: Mapping[str, Mapping[str, float | str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One model: ``files`` by path, ``shapes`` as ``shapecalc.table`` has them, ``options`` of ``OPTIONS``."""

    files: Mapping[str, str]
    shapes: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    pair: Pair | None = None


Lock = Mapping[str, Entry]


def read_lock(path: str | os.PathLike[str]) -> dict[str, Entry]:
    """The models of the lock file ``path``, by path.

    Raises ``RequestError`` where there is no such file, ``FileError`` where it is not a lock of this version.
    """
    name = os.fspath(path)
    try:
        text = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise RequestError(
            "no such file", file=name, hint="write it first: dense2conv check --update REFERENCE:MAP.onnx ..."
        ) from error
    try:
        return _entries(parse(text, "a lock file"))
    except FileError as error:
        if b"<<<<<<< " in text:
            conflict = "a merge conflict is left in it"
            raise FileError(conflict, file=name, hint=f"resolve it, or {_AGAIN}") from error
        error.file, error.hint = name, error.hint or _AGAIN
        raise


def _entries(document: Mapping[str, Any]) -> dict[str, Entry]:
    version = document.get("version")
    if version != VERSION or isinstance(version, bool):
        raise FileError(f"a lock file's version is {VERSION}, not {version!r}")
    return {
        name: _entry(name, _checked(model, dict, name))
        for name, model in _checked(document.get("models"), dict, "models").items()
    }


def _entry(name: str, model: Mapping[str, Any]) -> Entry:
    if not name or name.startswith("/") or "\0" in name:
        raise FileError("a path in a lock file is relative to its folder", layer=name)
    files = _checked(model.get("files"), dict, name, "files")
    shapes = {key: _checked(model.get(key), list if key == "layers" else dict, name, key) for key in _TABLE}
    rows = [_checked(row, dict, name, "layers") for row in shapes["layers"]]
    options = _checked(model.get("options", {}), dict, name, "options")
    if not set(options) <= set(OPTIONS):
        raise FileError(f"options are {', '.join(OPTIONS)}, not {', '.join(options)}", layer=name)
    for key, value in options.items():
        kinds = {"batch": int, "order": str}
        _checked(value, kinds.get(key, list), name, key)
    for digest in (*files.values(), *(_checked(row.get("name"), str, name, "layers") for row in rows)):
        _checked(digest, str, name, "files")
    pair = model.get("pair")
    return Entry(
        files, shapes, options, None if pair is None else _pair(name, _checked(pair, dict, name, "pair"))
    )


def _pair(name: str, pair: Mapping[str, Any]) -> Pair:
    kinds = {"reference": str, "verdict": str, "accept_border": bool, "figures": dict}
    values = {key: _checked(pair.get(key), kind, name, key) for key, kind in kinds.items()}
    for figures in values["figures"].values():
        _checked(figures, dict, name, "figures")
    return Pair(**values)


def _checked(value: Any, kind: type, name: str, key: str = "") -> Any:
    """``value``, if it is of that JSON type."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        found = "missing" if value is None else f"not {type(value).__name__}"
        raise FileError(f"{key or 'a model'} must be a {kind.__name__}, and is {found}", layer=name)
    return value


def written(lock: Lock) -> str:
    """The text of a lock file: the same for the same facts, whatever order they came in.

    >>> print(written({"a.onnx": Entry({"a.onnx": "12"}, {"input": {}, "layers": [{"name": "f"}], "totals": {}})}))
    {
      "version": 1,
      "models": {
        "a.onnx": {
          "files": {
            "a.onnx": "12"
          },
          "input": {},
          "layers": [
            {"name": "f"}
          ],
          "totals": {}
        }
      }
    }
    <BLANKLINE>
    """
    lines = ["{", f'  "version": {VERSION},', '  "models": {']
    for i, (name, entry) in enumerate(sorted(lock.items())):
        lines += [f"    {_text(name)}: {{", *_members(list(_facts(entry)), "      ")]
        lines.append("    }" + "," * (i + 1 < len(lock)))
    return "\n".join([*lines, "  }", "}", ""])


def _facts(entry: Entry) -> Iterator[tuple[str, Any]]:
    """The members of one model's object, with those that are written a line an item as they are."""
    yield "files", dict(sorted(entry.files.items()))
    yield "input", _Line(entry.shapes["input"])
    yield "layers", [_Line(row) for row in entry.shapes["layers"]]
    yield "totals", _Line(entry.shapes["totals"])
    if entry.options:
        yield "options", {key: _Line(value) for key, value in sorted(entry.options.items())}
    if entry.pair is not None:
        figures = {key: _Line(value) for key, value in entry.pair.figures.items()}
        yield "pair", {**vars(entry.pair), "figures": figures}


@dataclass(frozen=True)
class _Line:
    """A value that stands on one line, however deep it is."""

    value: Any


def _members(members: Sequence[tuple[str | None, Any]], indent: str) -> list[str]:
    """The lines of an object's members, or of a list's items (whose key is None)."""
    lines: list[str] = []
    for i, (key, value) in enumerate(members):
        head = indent + (f"{_text(key)}: " if key is not None else "")
        comma = "," * (i + 1 < len(members))
        if isinstance(value, (dict, list)) and value:
            inside = list(value.items()) if isinstance(value, dict) else [(None, item) for item in value]
            brackets = "{}" if isinstance(value, dict) else "[]"
            lines += [head + brackets[0], *_members(inside, indent + "  "), indent + brackets[1] + comma]
        else:
            lines.append(head + _text(value.value if isinstance(value, _Line) else value) + comma)
    return lines


def _text(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def differences(before: Entry, after: Entry) -> list[str]:
    """What is not as locked, a sentence a fact: layers first, then bytes, then the verdict."""
    found = _shape_differences(before.shapes, after.shapes)
    for path in sorted({*before.files, *after.files}):
        if path not in after.files:
            found.append(f"{path} is not part of it any more")
        elif path not in before.files:
            found.append(f"{path} is new")
        elif before.files[path] != after.files[path]:
            found.append(f"the bytes of {path} changed")
    if before.options != after.options:
        found.append(f"options {_text(before.options)} -> {_text(after.options)}")
    old, new = before.pair, after.pair
    if (old is None) != (new is None):
        found.append("it has no reference any more" if new is None else f"its reference is {new.reference}")
    elif old is not None and new is not None:
        for key in ("reference", "verdict", "accept_border"):
            if getattr(old, key) != getattr(new, key):
                found.append(f"{key.replace('_', ' ')} {getattr(old, key)} -> {getattr(new, key)}")
    return found


def _shape_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    found = _changed("the input", before["input"], after["input"])
    old, new = before["layers"], after["layers"]
    before_names, after_names = [[str(row["name"]) for row in rows] for rows in (old, new)]
    matcher = SequenceMatcher(None, before_names, after_names, autojunk=False)
    for kind, i, j, k, m in matcher.get_opcodes():
        if kind == "equal":
            for a, b in zip(old[i:j], new[k:m], strict=True):
                found += _changed(a["name"], a, b)
        else:
            found += [f"{row['name']} is gone" for row in old[i:j]]
            found += [
                f"{row['name']} is new: {row.get('kind')} -> {_said(row.get('output'))}" for row in new[k:m]
            ]
    return found


def _changed(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The fields of one row that changed, in the order of the table, in one sentence."""
    fields = [
        f"{key.replace('_', ' ')} {_said(before.get(key))} -> {_said(after.get(key))}"
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    ]
    return [f"{name}: {', '.join(fields)}"] if fields else []


def _said(value: Any) -> str:
    """Sizes as 3x4, anything else as JSON has it.

    >>> _said([3, 4]), _said([[0, 1]]), _said(None)
    ('3x4', '[[0, 1]]', 'none')
    """
    if isinstance(value, list) and value and all(isinstance(n, int) for n in value):
        return "x".join(map(str, value))
    return "none" if value is None else value if isinstance(value, str) else _text(value)
