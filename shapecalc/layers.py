"""A layer as it was asked for, what it reads and gives, and the axes of its window.

A value has channels and, on each of its spatial axes, a number of positions; rank is data. What one number says of
every axis may be a tuple of one.
"""

from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from .errors import ShapeError
from .readings import Beyond, Reading
from .runtimes import DROPS_SINCE, VALID, Padding, Sliding, disagreements
from .window import Window

Read = Reading | Beyond


class Value(NamedTuple):
    """What a layer gives for one sample: ``sizes`` has the positions on each spatial axis, none behind a flatten."""

    channels: int
    sizes: tuple[int, ...] = ()

    @property
    def neurons(self) -> int:
        """Numbers in it.

        >>> Value(8, (64, 64)).neurons
        32768
        """
        return self.channels * prod(self.sizes)


@dataclass(frozen=True)
class Layer:
    """A layer as it was asked for. What one number says of every axis may be a tuple of one.

    ``units``: output channels; ``sizes``: the output's spatial sizes, where they are asked for; ``before`` and
    ``after``: elements that a pad adds (or, below 0, cuts off) on each axis; ``mode``: of a pad or an upsampling;
    ``opset`` and ``loops``: as ``Sliding`` has them, where a runtime's answer depends on it.
    """

    kind: str
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = (1,)
    padding: tuple[Padding, ...] = (VALID,)
    units: int = 0
    groups: int = 1
    bias: bool = True
    ceil: bool = False
    output_padding: tuple[int, ...] = (0,)
    sizes: tuple[int, ...] = ()
    before: tuple[int, ...] = (0,)
    after: tuple[int, ...] = (0,)
    mode: str = ""
    opset: int = DROPS_SINCE
    loops: bool = False


class Effect(NamedTuple):
    """What a layer does: its output, what its positions read (one entry a spatial axis of its inputs), its windows."""

    output: Value
    readings: tuple[Read, ...]
    windows: tuple[Window, ...] = ()
    parameters: int = 0
    macs: int = 0


def on_axes(name: str, numbers: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """One number an axis; a single one counts for all."""
    if len(numbers) == 1:
        return numbers * rank
    if len(numbers) != rank:
        raise ShapeError(
            f"{name} has a number for each spatial axis, but {'x'.join(map(str, numbers))} has {len(numbers)} and the "
            f"input {rank}"
        )
    return numbers


def _paddings(layer: Layer, rank: int) -> tuple[Padding, ...]:
    if len(layer.padding) not in (1, rank):
        raise ShapeError(
            f"padding has an entry for each spatial axis, but there are {len(layer.padding)} and {rank}"
        )
    return layer.padding * rank if len(layer.padding) == 1 else layer.padding


def slidings(layer: Layer, operator: str, rank: int) -> tuple[Sliding, ...]:
    """The layer's axes as they were asked for. The stride of a pool is its kernel, unless it says another."""
    if not layer.kernel:
        raise ShapeError(f"{layer.kind} needs a kernel")
    kernel = on_axes("kernel", layer.kernel, rank)
    stride = layer.stride or (kernel if operator != "conv" else (1,))
    loops = layer.loops or max(layer.dilation) > 1  # a dilation on one axis is enough for all
    return tuple(
        Sliding(operator, k, s, d, p, layer.ceil, layer.opset, loops)
        for k, s, d, p in zip(
            kernel,
            on_axes("stride", stride, rank),
            on_axes("dilation", layer.dilation, rank),
            _paddings(layer, rank),
            strict=True,
        )
    )


WINDOWED = ("conv", "depthwise", "maxpool", "avgpool", "lppool")
"""Kinds whose pads the runtimes may work out differently."""


def runtime_notes(layer: Layer, value: Value, runtime: str) -> tuple[str, ...]:
    """What other runtimes make of a layer on ``value``, where they do not all give what ``runtime`` gives."""
    if layer.kind not in WINDOWED:
        return ()
    operator = layer.kind if layer.kind.endswith("pool") else "conv"
    axes = zip(slidings(layer, operator, len(value.sizes)), value.sizes, strict=True)
    found = [disagreements(axis, size, runtime).items() for axis, size in axes]
    return tuple(dict.fromkeys(f"{name}: {what}" for items in found for name, what in items))


def shown(value: Value) -> str:
    """A value's shape with its channels last."""
    return "x".join(map(str, (*value.sizes, value.channels)))
