"""The picture of ``locate``: the input as a grid, the pixels that a neuron sees, and the pads outside the image.

matplotlib draws, and comes with the extra ``plot``. Text is large enough to be read on a projector.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..convert.errors import FileError, MachineError, RequestError

Pair = tuple[int, int]

FORMATS = (".png", ".svg")

_MISSING = "pip install 'dense2conv[plot]'"
_MOST_LINES = 64  # a grid of more pixels is drawn without lines
_SEEN, _PAD, _GRID = (
    "#d95f02",
    "#7570b3",
    "#9a9a9a",
)  # told apart in grey and by most eyes (ColorBrewer, Dark2)
_FONT = 18
_STYLE = {"font.size": _FONT, "axes.titlesize": _FONT, "svg.hashsalt": "dense2conv"}


def check_plot(path: str, image: str | None) -> None:
    """Refuse, before any work, what cannot be drawn: another format, no matplotlib, no such image."""
    if Path(path).suffix.lower() not in FORMATS:
        raise RequestError(
            f"a plot ends in {' or '.join(FORMATS)}", file=path, hint="for example --plot seen.png"
        )
    if image is not None and not Path(image).is_file():
        raise RequestError("no such file", file=image)
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise MachineError("matplotlib is not installed, and --plot draws with it", hint=_MISSING)


def draw(
    path: str,
    document: dict[str, Any],
    sizes: tuple[int, ...],
    *,
    image: str | None,
    force: bool,
    inputs: Sequence[str],
) -> None:
    """Draw what ``locate`` found, its document, into ``path``; ``sizes``: the input's.

    Raises ``RequestError`` for more than two axes.
    """
    from ..convert.atomic import replacing

    if len(sizes) > 2:
        raise RequestError(f"1 or 2 axes can be drawn, this input has {len(sizes)}")
    import matplotlib as mpl

    pixels = None if image is None else _image(image, sizes)
    data = io.BytesIO()
    kind = Path(path).suffix.lower()[1:]
    with mpl.rc_context(_STYLE):  # also while it is written: an .svg takes its identifiers from the salt then
        figure = _figure(document, sizes, pixels)
        figure.savefig(data, format=kind, metadata={"Date": None} if kind == "svg" else None)
    with replacing(path, force=force, inputs=inputs) as file:
        file.write(data.getvalue())


def _image(path: str, sizes: tuple[int, ...]) -> Any:
    """The user's image, which must have the input's size."""
    from matplotlib import image as reader

    try:
        pixels = reader.imread(path)
    except Exception as error:  # whatever the decoder says
        raise FileError(
            f"not an image that can be read: {error}", file=path, hint="a .png is always read"
        ) from error
    shape = pixels.shape[: len(sizes)]
    if tuple(shape) != tuple(sizes):
        raise RequestError(
            f"the image must have the input's size, {'x'.join(map(str, sizes))}, but it has "
            f"{'x'.join(map(str, shape))}",
            file=path,
        )
    return pixels


@dataclass(frozen=True)
class _Scene:
    """What is drawn, in pixels counted as the user counts, one pair (first, last) an axis; none where nothing is."""

    title: str
    image: list[Pair]
    box: list[Pair]
    filled: list[Pair]
    box_label: str
    filled_label: str


def _scene(document: dict[str, Any], sizes: Sequence[int]) -> _Scene:
    first = document["from"]
    image = [(first, size + first - 1) for size in sizes]
    if "layer" in document:
        axes = document["axes"]
        place = ", ".join(map(str, document["at"]))
        seen = " x ".join(f"{axis['axis']} {axis['ranges'] or 'none'}" for axis in axes)
        filled = _pairs(axes, "clipped")
        title = f"{document['layer']}, neuron ({place}) sees\n{seen}"
        return _Scene(title, image, _pairs(axes, "box"), filled, "its box", "pixels that it sees")
    pixel = [(place, place) for place in document["pixel"]]
    title = f"pixel ({', '.join(map(str, document['pixel']))})"
    box: list[Pair] = []
    if len(document["layers"]) == 1:
        layer = document["layers"][0]
        title += f" is seen by {layer['layer']}\n" + " x ".join(
            f"{a['axis']} {a['ranges']}" for a in layer["axes"]
        )
        box = _pairs(layer["axes"], "box")
    return _Scene(title, image, box, pixel, "what these neurons see together", "the pixel")


def _pairs(axes: Sequence[dict[str, Any]], key: str) -> list[Pair]:
    """A box, if there is one on every axis."""
    pairs = [(axis[key][0], axis[key][1]) for axis in axes if axis[key]]
    return pairs if len(pairs) == len(axes) else []


def _figure(document: dict[str, Any], sizes: Sequence[int], pixels: Any) -> Any:
    from matplotlib.figure import Figure

    scene = _scene(document, sizes)
    image, box, filled = (_rows_first(pairs) for pairs in (scene.image, scene.box, scene.filled))
    margin = max(0.6, 0.02 * max(high - low for low, high in image))
    shown = [
        (min(a[0], b[0]) - margin, max(a[1], b[1]) + margin) for a, b in zip(image, box or image, strict=True)
    ]
    height, width = (high - low + 1 for low, high in shown)
    tall = 0.2 if len(sizes) == 1 else min(max(height / width, 0.3), 1.5)
    figure = Figure(figsize=(12, 12 * tall + 2.6), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    if box and any(b[0] < i[0] or b[1] > i[1] for b, i in zip(box, image, strict=True)):
        _add(axes, box, 1, facecolor="none", edgecolor=_PAD, hatch="//", label="pads outside the image")
    _add(axes, image, 2, facecolor="white", edgecolor="none")
    if pixels is not None:
        (top, bottom), (left, right) = image
        axes.imshow(pixels, cmap="gray", extent=(left - 0.5, right + 0.5, bottom + 0.5, top - 0.5), zorder=3,
                    interpolation="nearest", aspect="auto")  # fmt: skip
    elif max(height, width) <= _MOST_LINES + 16:
        _grid(axes, image)
    if filled:
        _add(axes, filled, 4, facecolor=_SEEN, alpha=0.45, label=scene.filled_label)
    _add(axes, image, 5, facecolor="none", edgecolor="black", linewidth=3)
    if box:
        _add(axes, box, 6, facecolor="none", edgecolor=_SEEN, linewidth=4, label=scene.box_label)
    rows, columns = shown
    axes.set_xlim(columns[0] - 0.5, columns[1] + 0.5)
    axes.set_ylim(rows[1] + 0.5, rows[0] - 0.5)
    axes.set_aspect("equal" if len(sizes) == 2 else "auto")
    axes.set_xlabel("column" if len(sizes) == 2 else "step")
    if len(sizes) == 2:
        axes.set_ylabel("row")
    else:
        axes.set_yticks([])
    axes.set_title(scene.title)
    if filled or box:
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _rows_first(pairs: Sequence[Pair]) -> list[Pair]:
    """A series is a picture of one row."""
    return [(0, 0), *pairs] if len(pairs) == 1 else list(pairs)


def _add(axes: Any, pairs: Sequence[Pair], layer: int, **style: Any) -> None:
    """A rectangle over whole pixels."""
    from matplotlib.patches import Rectangle

    (top, bottom), (left, right) = pairs
    corner = (left - 0.5, top - 0.5)
    axes.add_patch(Rectangle(corner, right - left + 1, bottom - top + 1, zorder=layer, **style))


def _grid(axes: Any, image: Sequence[Pair]) -> None:
    """A line between the pixels."""
    (top, bottom), (left, right) = image
    style = {"color": _GRID, "linewidth": 0.6, "zorder": 3}
    axes.hlines([row - 0.5 for row in range(top, bottom + 2)], left - 0.5, right + 0.5, **style)
    axes.vlines([column - 0.5 for column in range(left, right + 2)], top - 0.5, bottom + 0.5, **style)
