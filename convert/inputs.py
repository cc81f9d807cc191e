"""The network's input: which of its dimensions is the batch, which the channels, which are rows and columns.

ONNX does not name axes. An input of three to five dimensions is read as channels first, channels last or, up to four
dimensions, without channels; which reading is right shows when the network is followed. Two dimensions are samples of
features, unless the caller says that they are a series.
"""

from collections.abc import Sequence
from typing import NamedTuple

from onnx import ValueInfoProto

from .errors import FileError, NegativeAnswer, RequestError
from .model import Model

SPATIAL_NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
SPATIAL_LETTERS = {1: "L", 2: "HW", 3: "DHW"}
ORDERS = {1: ("CL", "LC"), 2: ("CHW", "HWC"), 3: ("CDHW", "DHWC")}


class Input(NamedTuple):
    """The network's input under one assumption: which of its dimensions is what, and the patch."""

    name: str
    dtype: int
    shape: tuple[int | None, ...]
    channel_axis: int | None
    spatial_axes: tuple[int, ...]
    patch: tuple[int, ...]

    @property
    def order(self) -> str:
        """The assumption in letters, such as CHW."""
        if self.channel_axis is None:
            return ORDERS[len(self.patch)][0][1:]
        return ORDERS[len(self.patch)][0 if self.channel_axis == 1 else 1]

    @property
    def channels_last(self) -> bool:
        """Whether the channels are the last dimension."""
        return self.channel_axis is not None and self.channel_axis != 1


def network_input(model: Model) -> ValueInfoProto:
    """Return the graph's one input that is not a default weight. Raises ``FileError`` unless there is just one."""
    given = set(model.initializers())
    inputs = [i for i in model.proto.graph.input if i.name not in given]
    if len(inputs) != 1:
        names = ", ".join(i.name for i in inputs) or "none"
        raise FileError(
            f"a patch classifier has one input, this graph has {len(inputs)}: {names}",
            hint="make the other inputs initializers, if they are weights",
        )
    return inputs[0]


def assumptions(model: Model, patch: Sequence[int] | None, order: str | None) -> list[Input]:
    """Return the ways to read the input's axes: channels first, channels last, no channels.

    Raises ``RequestError`` where the patch size is free and not given, or contradicts the file,
    ``NegativeAnswer`` where the input has no spatial axis.
    """
    info = network_input(model)
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        raise FileError("the input's shape must be known, at least its rank", layer=info.name)
    shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
    if any(size is not None and size < 1 for size in shape):
        raise FileError(f"the input's sizes must be positive, got {list(shape)}", layer=info.name)
    rank = len(shape)
    if rank < 3 and (rank, order) != (2, "L"):
        raise NegativeAnswer(
            f"nothing to convert: the input has shape {list(shape)}, so it has no rows, columns or steps to slide over",
            hint="if its second axis is a series, not features, say --order L" if rank == 2 else "",
            layer=info.name,
        )
    readings: list[tuple[int | None, tuple[int, ...]]] = []
    if 3 <= rank <= 5:
        readings += [(1, tuple(range(2, rank))), (rank - 1, tuple(range(1, rank - 1)))]
    if rank <= 4:
        readings.append((None, tuple(range(1, rank))))
    if not readings:
        raise FileError(f"inputs have 1 to 3 spatial axes, this one has {rank} dimensions", layer=info.name)
    found: list[Input] = []
    problem: RequestError | None = None
    for channel_axis, spatial in readings:
        sizes = [shape[a] for a in spatial]
        if patch is not None and len(patch) != len(spatial):
            problem = problem or RequestError(
                f"--patch has {len(patch)} sizes, the input {len(spatial)} spatial axes"
            )
            continue
        if channel_axis is not None and shape[channel_axis] is None:
            problem = problem or RequestError(
                f"the number of channels is free in the input's shape {list(shape)}"
            )
            continue
        if patch is None and None in sizes:
            problem = problem or RequestError(
                f"the patch size is free in the file: the input has shape {shown(info)}",
                hint="say on what patch the network was trained, for instance --patch "
                + "x".join(str(s or 32) for s in sizes),
                layer=info.name,
            )
            continue
        if patch is not None and any(s not in (None, p) for s, p in zip(sizes, patch, strict=True)):
            problem = problem or RequestError(
                f"--patch {'x'.join(map(str, patch))} contradicts the input's shape {shown(info)}",
                layer=info.name,
            )
            continue
        known = tuple(int(s) for s in (patch if patch is not None else sizes) if s is not None)
        reading = Input(info.name, tensor.elem_type, shape, channel_axis, spatial, known)
        if channel_axis is None and 1 in known:
            continue  # an axis of one element is a channel, not something to slide over
        if order in (None, reading.order):
            found.append(reading)
    if not found:
        raise problem or RequestError(
            f"--order {order} does not fit an input of shape {shown(info)}", layer=info.name
        )
    return found


def map_place(sizes: Sequence[int], rank: int, channels_last: bool) -> tuple[tuple[int, ...], bool]:
    """Return what of an output's ``sizes`` behind the batch are features, and whether the map stands in front of them.

    An output with a single position an axis, as a global pool leaves them, has the map in their place. Else the map
    stands where the input has its rows and columns: behind the features, or in front of them where channels are last.

    >>> map_place((10,), 2, False), map_place((10, 1, 1), 2, False), map_place((1, 1, 10), 2, False)
    (((10,), False), ((10,), False), ((10,), True))
    """
    if len(sizes) == rank + 1:
        for in_front in (channels_last, not channels_last):
            singles, features = (sizes[:rank], sizes[rank:]) if in_front else (sizes[-rank:], sizes[:-rank])
            if set(singles) == {1}:
                return tuple(features), in_front
    return tuple(sizes), channels_last


def shown(info: ValueInfoProto) -> str:
    """Return an input's shape as people write it."""
    sizes = (
        str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?"
        for d in info.type.tensor_type.shape.dim
    )
    return "x".join(sizes)
