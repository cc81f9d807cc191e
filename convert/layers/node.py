"""A node of a graph with what is known of its operands, and what a rule makes of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

from onnx import NodeProto

from ...shapecalc.layers import Read
from ...shapecalc.window import Window
from ..constants import Constants, NotComputed, attributes
from ..dims import Dims, fresh
from ..model import Array


class NoRule(Exception):  # noqa: N818 - an answer: the shape is then taken from onnx
    """There is no rule for this form of the operator."""


class Found(NamedTuple):
    """What a node gives: the dimensions of each output, the readings that differ from what the dimensions say."""

    outputs: tuple[Dims, ...]
    readings: Mapping[int, Read] = MappingProxyType({})
    windows: tuple[Window, ...] = ()
    filter: tuple[int, ...] = ()
    mode: str = ""
    macs: int = 0
    notes: tuple[str, ...] = ()


@dataclass(eq=False)
class Node:
    """A node with what is known of its operands; ``dims`` has those that depend on the network's input."""

    proto: NodeProto
    dims: Mapping[str, Dims]
    constants: Constants
    opset: int
    runtime: str

    def data(self, index: int = 0) -> Dims:
        """The dimensions of operand ``index``, which must depend on the input."""
        inputs = self.proto.input
        if index >= len(inputs) or inputs[index] not in self.dims:
            raise NoRule
        return self.dims[inputs[index]]

    def constant(self, index: int) -> Array | None:
        """Operand ``index`` as a constant, None if it is left out."""
        inputs = self.proto.input
        if index >= len(inputs) or not inputs[index]:
            return None
        try:
            return self.constants.value(inputs[index])
        except (KeyError, NotComputed):
            raise NoRule from None

    def operand(self, index: int) -> Dims:
        """The dimensions of operand ``index``, constant or not."""
        name = self.proto.input[index]
        if name in self.dims:
            return self.dims[name]
        if not name:
            raise NoRule
        try:
            return fresh(self.constants.type_of(name).shape)
        except (KeyError, NotComputed):
            raise NoRule from None

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """The node's attributes as Python values."""
        return attributes(self.proto)

    def numbers(self, name: str, index: int | None = None) -> list[int] | None:
        """A list that is an attribute in older operator sets and operand ``index`` in newer ones."""
        if name in self.attributes:
            return [int(n) for n in self.attributes[name]]
        array = self.constant(index) if index is not None else None
        return None if array is None else [int(n) for n in array.reshape(-1)]


def place_of(dims: Dims, index: int) -> int:
    """A dimension's number, counted from the front."""
    if not -len(dims) <= index < len(dims):
        raise NoRule
    return index % len(dims)
