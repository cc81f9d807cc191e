"""A network written as a line of text: the layers in order, with commas or line ends between them.

    [LABEL:] KIND [WORDS] [from LABEL ...]

Words may stand in any order. A number, or sizes such as ``4x4``, mean what the kind's row in ``kinds.KINDS`` says, one
after the other; ``4x4/2`` is a kernel and its stride. Further words are in ``FLAGS`` and ``NUMBERS``. A layer reads the
one before it, or those named behind ``from``; ``add``, ``mul`` and ``concat`` read the one before and those they name.
Every layer can be named: by its label, or by its kind and number (``conv1``, ``conv2``, ``relu1``). ``#`` starts a
comment; ``input 64x64x3`` as the first layer says what is read, channels last.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from .errors import ShapeError
from .kinds import KINDS, effect
from .layers import Effect, Layer, Value, runtime_notes
from .network import INPUT, Network, Node
from .notation import WORDS, paddings, pads, sizes
from .readings import Beyond
from .runtimes import DEFAULT_RUNTIME
from .window import Window

# Words that stand for themselves: the field of Layer, and its value.
FLAGS: dict[str, tuple[str, Any]] = {
    **{word: ("padding", (padding,)) for word, padding in WORDS.items()},
    "bias": ("bias", True),
    "nobias": ("bias", False),
    "ceil": ("ceil", True),
    **{mode: ("mode", mode) for mode in ("nearest", "linear", "constant", "reflect", "edge", "wrap")},
}

# Words that a number or sizes follow: the field of Layer.
NUMBERS = {
    "kernel": "kernel",
    "stride": "stride",
    "dilation": "dilation",
    "filters": "units",
    "units": "units",
    "groups": "groups",
    "size": "sizes",
    "pad": "padding",
    "output_padding": "output_padding",
}

# What a number without a word fills, where that is not the field of its own name.
_FILLED = {"pads": ("before", "after"), "shape": ("sizes", "units")}

_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")


class Statement(NamedTuple):
    """One layer as it was written: ``sources`` are labels, none for the layer before."""

    text: str
    label: str
    layer: Layer
    sources: tuple[str, ...] = ()


def parsed(text: str) -> tuple[Value | None, list[Statement]]:
    """The input, where the text says it, and the layers. Raises ``ShapeError`` that quotes what is not understood."""
    lines = [line.split("#", 1)[0] for line in text.splitlines()]
    parts = [part.strip() for line in lines for part in line.split(",")]
    parts = [part for part in parts if part]
    given = None
    if parts and parts[0].split()[0] == "input":
        given = input_value(" ".join(parts.pop(0).split()[1:]))
    if not parts:
        raise ShapeError("there is no layer in the text", hint='write layers such as "conv 3x3 8 same, relu"')
    return given, [_statement(part) for part in parts]


def input_value(text: str) -> Value:
    """``64x64x3``: spatial sizes, then channels; one number is a flat input.

    >>> input_value("64x64x3")
    Value(channels=3, sizes=(64, 64))
    """
    try:
        *spatial, channels = sizes(text)
    except ShapeError:
        spatial, channels = [], 0
    if min([channels, *spatial]) < 1:
        raise ShapeError(f"an input is written as 64x64x3 (rows x columns x channels), not {text!r}")
    return Value(channels, tuple(spatial))


def _statement(text: str) -> Statement:
    label, colon, rest = text.partition(":")
    if not colon or " " in label.strip() or not _LABEL.fullmatch(label.strip()):
        label, rest = "", text
    words = rest.split()
    if not words:
        raise _unknown(text, "a layer needs a kind behind its label")
    kind = words.pop(0).lower()
    if kind not in KINDS:
        import difflib

        near = difflib.get_close_matches(kind, KINDS, n=3)
        meant = f", did you mean {' or '.join(near)}" if near else ""
        raise _unknown(text, f"there is no layer {kind!r}{meant}", hint=f"there is {', '.join(KINDS)}")
    return _with_words(text, label.strip(), kind, words)


def _with_words(text: str, label: str, kind: str, words: list[str]) -> Statement:
    row = KINDS[kind]
    numbers = list(row.numbers)
    known = {*row.takes, *(field for name in row.numbers for field in _FILLED.get(name, (name,)))}
    fields: dict[str, Any] = {}
    sources: list[str] = []

    def put(word: str, found: dict[str, Any]) -> None:
        if found.keys() - known:
            raise _unknown(text, f"{word!r} means nothing to {kind}")
        twice = fields.keys() & found.keys()
        if twice:
            raise _unknown(text, f"{min(twice)} is said twice")
        fields.update(found)

    while words:
        word = words.pop(0)
        meaning = word.lower()
        if meaning == "from" or row.inputs == 0:
            sources += [label for label in (word, *words) if label.lower() != "from"]
            words = []
        elif meaning in FLAGS:
            put(word, dict([FLAGS[meaning]]))
        elif meaning in NUMBERS:
            if not words:
                raise _unknown(text, f"a number must follow {word!r}")
            put(word, _number(text, NUMBERS[meaning], words.pop(0)))
        elif numbers:
            size, slash, stride = word.partition("/")
            put(word, _number(text, numbers.pop(0), size))
            if slash:
                put(f"/{stride}", _number(text, "stride", stride))
        else:
            raise _unknown(text, f"{word!r} is not understood")
    if row.inputs == 0 and not sources:
        raise _unknown(text, f"{kind} needs the labels of the layers that it reads too")
    return Statement(text, label, Layer(kind, **fields), tuple(sources))


def _number(text: str, name: str, word: str) -> dict[str, Any]:
    """One number, sizes or pads as the fields of the layer that they fill."""
    try:
        if name == "padding":
            return {"padding": paddings(word)}
        if name == "pads":
            return dict(zip(("before", "after"), zip(*pads(word), strict=True), strict=True))
        numbers = sizes(word)
    except ShapeError as error:
        raise _unknown(text, error.message) from None
    if name == "shape":
        return {"sizes": numbers[:-1], "units": numbers[-1]}
    if name in ("units", "groups"):
        if len(numbers) > 1:
            raise _unknown(text, f"{name} is one number, not {word!r}")
        return {name: numbers[0]}
    return {name: numbers}


def _unknown(text: str, message: str, hint: str = "") -> ShapeError:
    return ShapeError(f"in {text!r}: {message}", hint=hint or "--help has the notation")


def network(given: Value, statements: Sequence[Statement], runtime: str = DEFAULT_RUNTIME) -> Network:
    """The network that reads ``given``. Raises ``ShapeError`` that names the layer."""
    rank = len(given.sizes)
    values: list[Value] = []
    nodes: list[Node] = []
    labels: dict[str, int] = {"input": INPUT}
    counts: dict[str, int] = {}
    for index, statement in enumerate(statements):
        layer = statement.layer
        counts[layer.kind] = counts.get(layer.kind, 0) + 1
        name = statement.label or f"{layer.kind}{counts[layer.kind]}"
        sources = [labels.get(label, index) for label in statement.sources]
        if index in sources:
            missing = statement.sources[sources.index(index)]
            raise _unknown(statement.text, f"no layer before it is called {missing!r}")
        if KINDS[layer.kind].inputs == 0 or not sources:
            sources.insert(0, index - 1)
        read = [given if source == INPUT else values[source] for source in sources]
        try:
            done = effect(layer, read, runtime)
        except ShapeError as error:
            error.layer = name
            raise
        values.append(done.output)
        nodes.append(_node(name, layer, done, sources, read, rank, runtime))
        if name in labels:
            raise _unknown(statement.text, f"two layers are called {name!r}")
        labels[name] = index
    return Network("input", given.sizes, (*given.sizes, given.channels), tuple(nodes)).checked()


def _node(
    name: str,
    layer: Layer,
    done: Effect,
    sources: Sequence[int],
    read: Sequence[Value],
    rank: int,
    runtime: str,
) -> Node:
    flat = (Beyond.WHOLE,) * rank
    readings = tuple(done.readings if value.sizes and len(done.readings) == rank else flat for value in read)
    windows = done.windows
    padding = tuple((w.before, w.after) for w in windows)
    slides = any(w.kernel > 1 or w.stride > 1 for w in windows)
    return Node(
        name=name,
        kind=layer.kind,
        sources=tuple(sources),
        readings=readings,
        sizes=done.output.sizes if len(done.output.sizes) == rank else (1,) * rank,
        output=(*done.output.sizes, done.output.channels),
        kernel=tuple(w.kernel for w in windows) if layer.kernel else (),
        filter=_filter(layer, windows, read[0]),
        stride=tuple(w.stride for w in windows) if layer.kernel else (),
        dilation=tuple(w.dilation for w in windows) if layer.kernel else (),
        padding=padding if slides or any(map(any, padding)) or layer.kernel else (),
        mode=layer.padding[0].mode if layer.kernel else "",
        parameters=done.parameters,
        macs=done.macs,
        notes=runtime_notes(layer, read[0], runtime),
    )


def _filter(layer: Layer, windows: Sequence[Window], value: Value) -> tuple[int, ...]:
    """The shape of one filter of a convolution, channels last."""
    if layer.kind not in ("conv", "depthwise", "convtranspose"):
        return ()
    channels = 1 if layer.kind == "depthwise" else value.channels // layer.groups
    return (*(w.kernel for w in windows), channels)


def with_input(text: str, given: Value | None, runtime: str = DEFAULT_RUNTIME) -> Network:
    """The network of a text, whose input the text says or the caller.

    >>> with_input("conv 4x4 8 same nobias", input_value("64x64x3")).nodes[0].output
    (64, 64, 8)
    """
    own, statements = parsed(text)
    if given is not None and own is not None and given != own:
        raise ShapeError("the input is said twice, and not alike", hint="leave one of the two out")
    if given is None and own is None:
        raise ShapeError(
            "a chain of layers needs its input", hint="say --input 64x64x3, or begin with: input 64x64x3"
        )
    value = own if given is None else given
    if value is None:
        raise ShapeError(
            "a chain of layers needs its input", hint="say --input 64x64x3, or begin with: input 64x64x3"
        )
    return network(value, statements, runtime)
