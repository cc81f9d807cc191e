"""What a map says about itself: one JSON text in the file's metadata, under the key ``dense2conv``.

The file comes from anyone, so nothing in it is believed: every field has its type and range checked here,
and what the fields claim is checked against the reference network by whoever uses them.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from onnx import ModelProto

from .errors import FileError
from .kernel import Rearrangement

KEY = "dense2conv"
VERSION = 1
METHODS = ("conv", "patches")
LAYOUTS = ("channels first", "channels last")

_LARGEST_TEXT = 1 << 24  # characters; a network has at most thousands of layers
_LARGEST_SIZE = 1 << 40  # pixels, elements: far above any tensor, far below an overflow
_MOST_AXES = 8

T = TypeVar("T")


@dataclass(frozen=True)
class RewrittenTensor:
    """One tensor of the map that is a tensor of the reference in another order.

    ``source`` is the name of a constant value of the reference; where ``rows`` is given, only entries
    ``rows[0]..rows[1]-1`` of its axis ``axis`` are meant. ``target`` is the initializer of the map.
    """

    layer: str
    source: str
    target: str
    rearrangement: Rearrangement
    rows: tuple[int, int] | None
    axis: int


@dataclass(frozen=True)
class Metadata:
    """The map's own description; one entry a spatial axis in ``patch``, ``stride`` and the like.

    ``spatial_axes`` are their places in the reference's input, ``layout`` where that has its channels.
    """

    method: str
    patch: tuple[int, ...]
    stride: tuple[int, ...]
    natural_stride: tuple[int, ...]
    layout: str
    spatial_axes: tuple[int, ...]
    exactness: str
    receptive_field: tuple[int, ...]
    rewrites: tuple[RewrittenTensor, ...]


def read_metadata(proto: ModelProto, path: str = "") -> Metadata | None:
    """The map's description, or None in a file that has none.

    Raises ``FileError`` for a description that is not what this version writes.
    """
    texts = [p.value for p in proto.metadata_props if p.key == KEY]
    if not texts:
        return None
    try:
        if len(texts) > 1:
            _refuse(f"it must stand once, but is there {len(texts)} times")
        return _metadata(_parsed(texts[0]))
    except FileError as error:
        error.file = error.file or path
        error.hint = error.hint or "the file was edited or damaged since dense2conv wrote it; convert again"
        raise


def _parsed(text: str) -> dict[str, Any]:
    if len(text) > _LARGEST_TEXT:
        _refuse(f"it has at most {_LARGEST_TEXT} characters, not {len(text)}")
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        _refuse(f"it is not JSON: {error}")
    if not isinstance(value, dict):
        _refuse("it is one JSON object")
    return value


def _metadata(value: dict[str, Any]) -> Metadata:
    if value.get("version") != VERSION or isinstance(value["version"], bool):
        _refuse(f"its version is {VERSION}, not {value.get('version')!r}")
    patch = _sizes(value, "patch")
    rank = len(patch)
    spatial_axes = _field(value, "spatial_axes", _integers)
    if len(set(spatial_axes)) != rank or not all(1 <= axis <= rank + 1 for axis in spatial_axes):
        _refuse(f"spatial_axes are {rank} different axes behind the batch, not {list(spatial_axes)}")
    return Metadata(
        method=_choice(value, "method", METHODS),
        patch=patch,
        stride=_sizes(value, "stride", rank),
        natural_stride=_sizes(value, "natural_stride", rank),
        layout=_choice(value, "layout", LAYOUTS),
        spatial_axes=spatial_axes,
        exactness=_field(value, "exactness", _text),
        receptive_field=_sizes(value, "receptive_field", rank),
        rewrites=tuple(map(_rewrite, _field(value, "rewrites", _list))),
    )


def _rewrite(value: Any) -> RewrittenTensor:
    if not isinstance(value, dict):
        _refuse("each of its rewrites is one JSON object")
    axis = value.get("axis", 0)
    if type(axis) is not int or axis not in (0, 1):
        _refuse(f"the axis of a rewrite is 0 or 1, not {axis!r}")
    rows = value.get("rows")
    if rows is not None:
        rows = _field(value, "rows", _integers)
        if len(rows) != 2 or not 0 <= rows[0] < rows[1]:
            _refuse(f"the rows of a rewrite are [start, stop] with start < stop, not {list(rows)}")
    parts = {name: value.get(name) for name in ("shape", "permutation", "result")}
    return RewrittenTensor(
        layer=_field(value, "layer", _text),
        source=_field(value, "source", _text),
        target=_field(value, "target", _text),
        rearrangement=Rearrangement.from_json({**parts, "flip": value.get("flip", [])}),
        rows=rows,
        axis=axis,
    )


def _refuse(reason: str) -> NoReturn:
    raise FileError(f"the metadata {KEY!r} is not a map's: {reason}")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        _refuse("a field must stand once")
    return fields


def _field(value: dict[str, Any], name: str, check: Callable[[Any], T | None]) -> T:
    checked = check(value.get(name))
    if checked is None:
        _refuse(f"{name} is {'missing' if name not in value else 'of another type'}")
    return checked


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _list(value: Any) -> list[Any] | None:
    return value if isinstance(value, list) else None


def _integers(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, list) or any(type(n) is not int or abs(n) > _LARGEST_SIZE for n in value):
        return None
    return tuple(value)


def _sizes(value: dict[str, Any], name: str, rank: int | None = None) -> tuple[int, ...]:
    sizes = _field(value, name, _integers)
    if any(size < 1 for size in sizes) or not 1 <= len(sizes) <= _MOST_AXES:
        _refuse(f"{name} has one positive number for each spatial axis, not {list(sizes)}")
    if rank is not None and len(sizes) != rank:
        _refuse(f"{name} has {len(sizes)} numbers for {rank} spatial axes")
    return sizes


def _choice(value: dict[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    text = _field(value, name, _text)
    if text not in allowed:
        _refuse(f"{name} is one of {', '.join(allowed)}, not {text!r}")
    return text
