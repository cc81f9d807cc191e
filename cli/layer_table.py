"""The layer table for people: what ``shapecalc.table`` knows, as the cells of a table."""

from collections.abc import Sequence
from typing import Any

from ..shapecalc.network import Field, Network, Node
from ..shapecalc.readings import Beyond
from ..shapecalc.receptive import ReceptiveField
from .output import Column

COLUMNS = (
    Column("name", "layer"),
    Column("kind"),
    Column("kernel"),
    Column("stride"),
    Column("padding"),
    Column("dilation"),
    Column("output"),
    Column("neurons"),
    Column("parameters"),
    Column("macs", "MACs"),
    Column("receptive_field", "field"),
    Column("jump"),
    Column("start"),
)
_RARE = ("dilation",)

_MODES = {"same_upper": "same ", "same_lower": "same_lower ", "causal": "causal ", "full": "full "}


def columns(network: Network) -> list[Column]:
    """The columns, without those that would say the same of every layer."""
    dilated = any(d != 1 for node in network.nodes for d in node.dilation)
    return [column for column in COLUMNS if column.key not in _RARE or dilated]


def rows(network: Network) -> list[dict[str, Any]]:
    """A row a layer."""
    return [_row(node, fields) for node, fields in zip(network.nodes, network.fields, strict=True)]


def total(network: Network) -> dict[str, Any]:
    """The row at the foot."""
    totals = network.totals
    return {
        "name": "total",
        "neurons": totals.neurons,
        "parameters": totals.parameters,
        "macs": totals.macs,
    }


def _row(node: Node, fields: tuple[Field, ...]) -> dict[str, Any]:
    return {
        "name": node.name,
        "kind": node.kind,
        "kernel": _by(node.filter or node.kernel),
        "stride": _once(node.stride),
        "padding": _padding(node),
        "dilation": _once(node.dilation),
        "output": _by(["?" if n is None else n for n in node.output]),
        "neurons": node.neurons,
        "parameters": node.parameters,
        "macs": node.macs,
        "receptive_field": _once([_field(f, "size") for f in fields]),
        "jump": _once([_field(f, "jump") for f in fields if isinstance(f, ReceptiveField)]),
        "start": _once([_field(f, "start") for f in fields if isinstance(f, ReceptiveField)]),
    }


def _padding(node: Node) -> str | None:
    """``same (1, 2)``: the word, and the pads before and after; each axis, where they differ."""
    if not node.padding:
        return None
    word = _MODES.get(node.mode, "")
    if not word and not any(map(any, node.padding)):
        return "valid"
    return word + str(_once([f"({before}, {after})" for before, after in node.padding]))


def _field(field: Field, name: str) -> str:
    if isinstance(field, Beyond):
        return field.value
    if field is None:
        return "-"
    value = getattr(field, name)
    return "none" if value is None else str(value)


def _by(sizes: Sequence[object]) -> str | None:
    return "x".join(map(str, sizes)) or None


def _once(numbers: Sequence[object]) -> str | None:
    """One number where it holds for every axis, else one an axis."""
    return str(numbers[0]) if numbers and len(set(numbers)) == 1 else _by(numbers)
