"""What the PATHS of ``check`` mean: which models are looked at, and against which references.

A path is a file, a folder (all models in it), a pattern (``*``, ``**``, ``?``), or REFERENCE:MAP, a pair of those. In a
pair, what ``*`` stands for in MAP stands for it in REFERENCE: ``nets/*.onnx:maps/*.onnx``. Nothing is skipped in
silence: what is not there, matches nothing or is not locked is said.
"""

import fnmatch
import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .errors import RequestError
from .lock import Entry

ENDINGS = (".onnx", ".h5", ".hdf5", ".keras")
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Target:
    """A model to look at, relative to the lock's folder; ``entry`` is what the lock has of it, None if nothing.

    ``reference`` is "" where it has none. ``gone``: it is in the lock, and there is no such file.
    """

    path: str
    reference: str = ""
    entry: Entry | None = None
    gone: bool = False


def locked(folder: str, lock: Mapping[str, Entry], paths: Sequence[str]) -> list[Target]:
    """What ``check`` looks at: the models of the lock that ``paths`` name, by default all.

    Also models that ``paths`` find and the lock does not have. Raises ``RequestError`` where a path finds nothing.
    """
    if not lock:
        raise RequestError("the lock holds no model", hint="dense2conv check --update REFERENCE:MAP.onnx ...")
    found = set(lock) if not paths else set()
    pairs: dict[str, str] = {}
    for path in paths:
        if _is_pair(path):
            named = dict(_pairs(folder, path))
            pairs |= named
            found |= set(named)
            continue
        inside = _relative(path, folder)
        here = {name for name in lock if name == inside or name.startswith(f"{inside}/") or inside == "."}
        if _WILD.search(path) and not Path(path).exists():
            here = {name for name in lock if _matches(name.split("/"), inside.split("/"))}
        here |= {_relative(name, folder) for name in _files(path, needed=not here)}
        found |= here
    return [_target(folder, lock, name, pairs) for name in sorted(found)]


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path matches a pattern as ``glob`` reads it: ``**`` is any number of folders, ``*`` stays in one.

    >>> _matches(["a", "b", "c.onnx"], ["**", "*.onnx"]), _matches(["a", "c.onnx"], ["*.onnx"])
    (True, False)
    """
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _target(folder: str, lock: Mapping[str, Entry], name: str, pairs: Mapping[str, str]) -> Target:
    entry = lock.get(name)
    reference = entry.pair.reference if entry is not None and entry.pair is not None else ""
    if name in pairs and entry is not None and pairs[name] != reference:
        raise RequestError(
            f"the lock has {reference or 'no file'} as its reference, not {pairs[name]}",
            file=name,
            hint="--update takes the new one over",
        )
    return Target(name, reference or pairs.get(name, ""), entry, not Path(folder, name).is_file())


def wanted(folder: str, lock: Mapping[str, Entry], paths: Sequence[str]) -> list[Target]:
    """What ``check --update`` looks at: all of the lock, or what ``paths`` name, with the references they name.

    A map that is named without its reference keeps the one that the lock has. Raises ``RequestError`` where a path
    finds nothing, and where there is nothing to do.
    """
    if not paths:
        return locked(folder, lock, ())
    found: dict[str, str] = {}
    for path in paths:
        pairs = _pairs(folder, path) if _is_pair(path) else ((_relative(p, folder), "") for p in _files(path))
        for name, reference in pairs:
            if found.get(name) and reference and found[name] != reference:
                raise RequestError(
                    f"two references are named for it: {found[name]} and {reference}", file=name
                )
            found[name] = reference or found.get(name, "")
    for name in (*found, *found.values()):
        if any("\ud800" <= character <= "\udfff" for character in name):  # how Python spells other bytes
            raise RequestError(
                "a name in a lock file is UTF-8, and this one is not", file=name, hint="rename it"
            )
    # A reference has its table too, so that the diff of a pull request shows what became of it.
    for reference in [name for name in found.values() if name]:
        found.setdefault(reference, "")
    return [
        replace(target, reference=found[target.path] or target.reference)
        for target in (_target(folder, lock, name, {}) for name in sorted(found))
    ]


def _is_pair(path: str) -> bool:
    return ":" in path and not Path(path).exists()


def _pairs(folder: str, path: str) -> Iterator[tuple[str, str]]:
    """The maps that REFERENCE:MAP names, each with its reference, relative to ``folder``."""
    reference, _, candidate = path.rpartition(":")
    if not reference or not candidate:
        raise RequestError("a pair is REFERENCE:MAP", file=path)
    stars = reference.count("*"), candidate.count("*")
    if stars[0] > 1 or stars[1] > 1 or (stars[0] and not stars[1]):
        raise RequestError(
            "a pair has one * in MAP, and one or none in REFERENCE",
            file=path,
            hint="for instance 'nets/*.onnx:maps/*.onnx'",
        )
    head, _, tail = candidate.partition("*")
    for found in _files(candidate):
        stem = found[len(head) : len(found) - len(tail)] if stars[1] else ""
        (ours,) = _files(reference.replace("*", stem), literal=True)
        if Path(ours).samefile(found):
            raise RequestError("a map is not its own reference", file=path)
        yield _relative(found, folder), _relative(ours, folder)


def _files(path: str, *, needed: bool = True, literal: bool = False) -> Iterable[str]:
    """The files that a path names; ``RequestError`` for none, where one is ``needed``."""
    if os.path.isdir(path):  # noqa: PTH112
        found = sorted(_models(path))
        fault = f"no model is in this folder: none ends in {', '.join(ENDINGS)}"
    elif not literal and _WILD.search(path) and not os.path.exists(path):  # noqa: PTH110
        found = sorted(p for p in glob.glob(path, recursive=True) if os.path.isfile(p))  # noqa: PTH113, PTH207
        fault = "the pattern matches nothing"
    else:
        found = [path] if os.path.isfile(path) else []  # noqa: PTH113
        fault = "no such file"
    if needed and not found:
        raise RequestError(fault, file=path, hint="is the path right? it is read from the current folder")
    return found


def _models(folder: str) -> Iterator[str]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(root, name) for name in names if name.lower().endswith(ENDINGS))  # noqa: PTH118


def _relative(path: str, folder: str) -> str:
    return Path(os.path.relpath(path, folder or ".")).as_posix()


def options_of(target: Target, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options to look at a target with: those that the lock has, and over them those that were given."""
    kept = dict(target.entry.options) if target.entry is not None else {}
    kept |= {key: value for key, value in given.items() if value is not None}
    if not target.reference:
        kept.pop("stride", None)  # it is a map's
    return kept
