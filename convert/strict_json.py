"""JSON that means one thing to every reader.

Python's parser takes the last of two equal keys, takes NaN and Infinity, which are no JSON, and half a surrogate pair,
which no other format can hold. A configuration that another reader understands differently is refused instead.
"""

import json
import math
from typing import Any

from .errors import FileError

MOST_BYTES = 1 << 26  # 64 MiB; the configuration of a model with 1000 layers has 1


def parse(text: bytes | str, what: str) -> dict[str, Any]:
    """The object that ``text`` holds, in UTF-8; ``what`` names it in the ``FileError`` for anything else."""
    if len(text) > MOST_BYTES:
        raise FileError(f"{what} has at most {MOST_BYTES} bytes, but this one has {len(text)}")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise FileError(f"{what} has the key {twice!r} twice in one object")
        for key, value in pairs:
            fault = _fault([key, value])
            if fault:
                raise FileError(f"{what} has {fault}, at {key!r}")
        return found

    try:
        document = json.loads(
            text.decode("utf-8") if isinstance(text, bytes) else text, object_pairs_hook=unique
        )
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise FileError(f"{what} is not JSON: {reason}") from error
    if not isinstance(document, dict):
        raise FileError(f"{what} must be a JSON object, but it is {type(document).__name__}")
    return document


def _fault(value: Any) -> str:
    """What is wrong with a value of an object, also in lists; "" for nothing. Objects in it were seen before."""
    if isinstance(value, list):
        return next(filter(None, map(_fault, value)), "")
    if isinstance(value, float) and not math.isfinite(value):
        return "a number that is not finite, which is no JSON"
    if (
        isinstance(value, str)
        and not value.isascii()
        and any("\ud800" <= character <= "\udfff" for character in value)
    ):
        return "text that is half a character, which is no UTF-8"
    return ""
