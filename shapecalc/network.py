"""A network as its layers read each other: receptive fields, the pixels of a neuron, the neurons of a pixel.

The axes are the spatial axes of the network's input. On each of them a layer has a number of positions, and a reading
of every layer that it reads; a layer behind a flatten has one position an axis, and reads all. From that follow

    the receptive field    forwards from the input; where branches meet, the union of theirs
    pixels of a neuron     backwards from the layer, one set of positions an axis
    neurons of a pixel     forwards from the input, likewise

What a layer reads is kept as products of sets, one set an axis. Where branches with different windows meet there are
several, those left out that lie in another; a network with more than ``MOST_BOXES`` of them at one layer gets one that
covers them all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from types import MappingProxyType
from typing import NamedTuple

from .errors import ShapeError
from .readings import SAME_POSITION, Beyond, Reading
from .receptive import PIXELS, ReceptiveField

INPUT = -1
"""What a layer that reads the network's input names as its source."""

Field = ReceptiveField | Beyond | None
"""None: the layer does not depend on the input."""


class Node(NamedTuple):
    """A layer of the table. ``sources``: earlier layers by index; ``readings``: for each source, one entry an axis.

    ``sizes``: positions on each axis of the input, 1 where it has none left. ``output`` is one sample's shape in the
    file's own order, None where nobody knows. ``kernel``, ``stride``, ``dilation`` and ``padding`` have one entry an
    axis of the layer's own window, none where it has no window; ``filter`` is the shape of one filter of a convolution,
    with the channels that it reads, in the file's own order. ``weights`` names the stored tensors that parameters
    are counted from, where several layers may share them.
    """

    name: str
    kind: str
    sources: tuple[int, ...]
    readings: tuple[tuple[Reading | Beyond, ...], ...]
    sizes: tuple[int, ...]
    output: tuple[int | None, ...]
    kernel: tuple[int, ...] = ()
    filter: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    mode: str = ""
    parameters: int = 0
    macs: int | None = 0
    weights: Mapping[str, int] = MappingProxyType({})
    notes: tuple[str, ...] = ()

    @property
    def neurons(self) -> int | None:
        """Numbers that it gives for one sample."""
        known = [n for n in self.output if n is not None]
        return prod(known) if len(known) == len(self.output) else None


class Totals(NamedTuple):
    """Sums over the layers; a tensor that several layers share is counted once."""

    parameters: int
    macs: int
    neurons: int


Sets = tuple[frozenset[int], ...]
"""Positions, one set an axis: their product."""

MOST_BOXES = 32


@dataclass(frozen=True)
class Network:
    """``sizes``: the input's spatial sizes; ``shape``: one sample's shape in the file's own order."""

    name: str
    sizes: tuple[int, ...]
    shape: tuple[int | None, ...]
    nodes: tuple[Node, ...]

    @cached_property
    def fields(self) -> tuple[tuple[Field, ...], ...]:
        """The receptive field of each layer, on each axis.

        Raises ``ShapeError``, naming both, where branches with different jumps meet.
        """
        found: list[tuple[Field, ...]] = []
        for node in self.nodes:
            found.append(tuple(self._field(node, axis, found) for axis in range(len(self.sizes))))
        return tuple(found)

    def checked(self) -> "Network":
        """The network itself; raises ``ShapeError`` where it has no receptive fields."""
        _ = self.fields
        return self

    def _field(self, node: Node, axis: int, found: Sequence[tuple[Field, ...]]) -> Field:
        result: Field = None
        first = ""
        for source, readings in zip(node.sources, node.readings, strict=True):
            below: Field = PIXELS if source == INPUT else found[source][axis]
            name = self.name if source == INPUT else self.nodes[source].name
            here = _behind(below, readings[axis], node.name)
            if result is None:
                result, first = here, name
            elif isinstance(here, ReceptiveField) and isinstance(result, ReceptiveField):
                try:
                    result = result.joined(here)
                except ValueError:
                    raise ShapeError(
                        f"branches that meet must have the same jump, but {first} has one of {result.jump} pixels and "
                        f"{name} one of {here.jump}",
                        layer=node.name,
                    ) from None
            else:
                result = Beyond.UNKNOWN if Beyond.UNKNOWN in (result, here) else Beyond.WHOLE
        return result

    @cached_property
    def totals(self) -> Totals:
        """The sums at the foot of the table."""
        shared: dict[str, int] = {}
        for node in self.nodes:
            shared.update(node.weights)
        own = sum(node.parameters for node in self.nodes if not node.weights)
        return Totals(
            own + sum(shared.values()),
            sum(node.macs or 0 for node in self.nodes),
            sum(node.neurons or 0 for node in self.nodes),
        )

    def find(self, layer: str, *, first: int = 0) -> int:
        """The index of a layer, from its name, the end of its name, or its number counted from ``first``.

        Raises ``ShapeError`` where there is none or where there are several.
        """
        names = [node.name for node in self.nodes]
        if layer in names:
            return names.index(layer)
        if layer.lstrip("-").isdigit():
            number = int(layer)
            index = number - first if number >= first else len(names) + number
            if 0 <= index < len(names) and (number >= first or number < 0):
                return index
            raise ShapeError(
                f"layers are counted from {first} to {first + len(names) - 1}, there is no {number}"
            )
        ends = [index for index, name in enumerate(names) if name.endswith(layer)]
        if len(ends) == 1:
            return ends[0]
        if ends:
            several = ", ".join(names[index] for index in ends[:5])
            raise ShapeError(f"several layers end in {layer!r}: {several}", hint="say more of the name")
        import difflib

        near = difflib.get_close_matches(layer, names, n=3) or names[:3]
        raise ShapeError(f"there is no layer {layer!r}; there is {', '.join(near)}")

    def pixels(self, layer: int, position: Sequence[int]) -> Sets:
        """The pixels that a position of a layer is computed from, one set an axis; pads are not among them."""
        wanted: list[list[Sets]] = [[] for _ in self.nodes]
        seen: list[Sets] = []
        _put(wanted[layer], tuple(frozenset((place,)) for place in position))
        for index in range(layer, -1, -1):
            node = self.nodes[index]
            for source, readings in zip(node.sources, node.readings, strict=True):
                sizes = self.sizes if source == INPUT else self.nodes[source].sizes
                for box in wanted[index]:
                    read = tuple(
                        _inside(reading, places, size, forwards=False)
                        for reading, places, size in zip(readings, box, sizes, strict=True)
                    )
                    _put(seen if source == INPUT else wanted[source], read)
        return _shadow(seen, len(self.sizes))

    def neurons(self, pixel: Sequence[int]) -> list[Sets]:
        """For each layer the positions that read a pixel of the input, one set an axis; all empty where none does."""
        reached: list[list[Sets]] = [[] for _ in self.nodes]
        start = [tuple(frozenset((place,)) for place in pixel)]
        for index, node in enumerate(self.nodes):
            for source, readings in zip(node.sources, node.readings, strict=True):
                for box in start if source == INPUT else reached[source]:
                    read = tuple(
                        _inside(reading, places, size, forwards=True)
                        for reading, places, size in zip(readings, box, node.sizes, strict=True)
                    )
                    _put(reached[index], read)
        return [_shadow(boxes, len(self.sizes)) for boxes in reached]


def _put(boxes: list[Sets], new: Sets) -> None:
    """Add a product of sets to those of a layer, unless it is empty or in another; drop those that are in it."""
    if not all(new) or any(_holds(box, new) for box in boxes):
        return
    boxes[:] = [box for box in boxes if not _holds(new, box)]
    boxes.append(new)
    if len(boxes) > MOST_BOXES:
        boxes[:] = [_shadow(boxes, len(new))]


def _holds(box: Sets, other: Sets) -> bool:
    return all(inner <= outer for inner, outer in zip(other, box, strict=True))


def _shadow(boxes: Sequence[Sets], rank: int) -> Sets:
    """What is read on each axis by itself."""
    return tuple(frozenset().union(*(box[axis] for box in boxes)) for axis in range(rank))


def _behind(below: Field, reading: Reading | Beyond, layer: str) -> Field:
    if reading is SAME_POSITION:
        return below
    if below is None or below is Beyond.UNKNOWN or reading is Beyond.UNKNOWN:
        return below if below is None else Beyond.UNKNOWN
    if isinstance(below, Beyond) or isinstance(reading, Beyond):
        return Beyond.WHOLE
    try:
        return below.behind(reading)
    except ValueError as error:
        raise ShapeError(str(error), layer=layer) from None


def _inside(
    reading: Reading | Beyond, places: frozenset[int], size: int, *, forwards: bool
) -> frozenset[int]:
    """The positions on the other side of a reading, as far as they are among ``size``."""
    if isinstance(reading, Beyond):
        return frozenset(range(size))
    of = reading.readers if forwards else reading.reads
    return frozenset(other for place in places for other in of(place) if 0 <= other < size)
