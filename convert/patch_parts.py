"""What both forms of a patch map, with and without overlap, are made from and end with."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from onnx import NodeProto, ValueInfoProto, helper

from .inputs import Input, map_place
from .model import Model
from .nodes import graphs_of
from .patch_writer import Size, Writer


class Task(NamedTuple):
    """A network to be run on patches.

    ``inside``: copies of the nodes that run on a patch. ``outputs``: with their sizes on a patch, the batch in front.
    ``patch``: the input's sizes there, -1 for the batch. ``cut``: the sizes of the map's input. Axes as the file has
    them.
    """

    model: Model
    given: Input
    stride: tuple[int, ...]
    inside: list[NodeProto]
    outputs: list[ValueInfoProto]
    patch: tuple[int, ...]
    cut: tuple[Size, ...]

    def features(self, output: ValueInfoProto) -> list[int]:
        """Return an output's sizes behind the batch."""
        return [d.dim_value for d in output.type.tensor_type.shape.dim][1:]

    def place(self, output: ValueInfoProto) -> tuple[tuple[int, ...], bool]:
        """Return what of an output are features, and whether the map stands in front of them."""
        return map_place(self.features(output), len(self.given.patch), self.given.channels_last)

    def windows(self, name: str, count: int | None = None) -> ValueInfoProto:
        """Return the description of a value that holds patches, so many where their number is fixed."""
        return helper.make_tensor_value_info(name, self.given.dtype, [count or "windows", *self.patch[1:]])


def restored(task: Task, write: Writer, output: ValueInfoProto, vectors: str, counts: Sequence[Size]) -> None:
    """Append what puts the vectors of one output, in the order of samples and positions, back on the map."""
    features, in_front = task.place(output)
    rank, depth = len(counts), len(features)
    last = in_front or not features
    parts = [task.cut[0], *counts, *features]
    apart = write.reshape(vectors, parts, output.name if last else "")
    if not last:
        # (N, *map, *features) -> (N, *features, *map)
        order = [0, *range(rank + 1, rank + 1 + depth), *range(1, rank + 1)]
        write.emit("Transpose", [apart], output.name, perm=order)


def renamed(node: NodeProto, names: Mapping[str, str]) -> None:
    """Rename values in a node and in the graphs that it runs."""
    for group in (node.input, node.output):
        for i, name in enumerate(group):
            group[i] = names.get(name, name)
    for graph in graphs_of(node):
        shadowed = {i.name for i in graph.input} | {o for n in graph.node for o in n.output}
        inner = {k: v for k, v in names.items() if k not in shadowed}
        for child in graph.node:
            renamed(child, inner)
        for output in graph.output:
            output.name = inner.get(output.name, output.name)
