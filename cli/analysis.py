"""How an audit and a conversion are shown: one row a layer, and the sentences under the table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .options import with_axis_names
from .output import Column, escape, in_words

if TYPE_CHECKING:
    from ..convert.analysis import Analysis, Cost
    from ..convert.conversion import Conversion

COLUMNS = (Column("name", "layer"), Column("operator"), Column("action"), Column("reason"))

# What a conversion changes or cannot: shown always; the rest with -v.
_NOTABLE = ("rewritten", "border effect", "not convertible")


def layer_rows(analysis: "Analysis", *, every: bool) -> list[dict[str, str]]:
    """Return one row a layer: what becomes of it and why; without ``every``, only what changes or matters."""
    return [
        {"name": layer.name, "operator": layer.operator, "action": layer.action, "reason": layer.reason}
        for layer in analysis.layers
        if every or layer.action in _NOTABLE
    ]


def analysis_document(analysis: "Analysis") -> dict[str, Any]:
    """Return the JSON of an audit; one entry a spatial axis where there is one."""
    return {
        "exactness": analysis.exactness,
        "patch": list(analysis.patch),
        "stride": list(analysis.stride),
        "receptive_field": list(analysis.receptive_field),
        "order": analysis.order,
        "layout": analysis.layout,
        "layers": layer_rows(analysis, every=True),
    }


def costs(analysis: "Analysis", size: Sequence[int], stride: Sequence[int]) -> list["Cost"]:
    """Return what each method would cost on one input of ``size``, where the network was followed to its end.

    The map at ``stride``; the scan at the same stride, every crop by itself; patches, there and without overlap.
    """
    if analysis.refusals:
        return []
    strides = dict.fromkeys((tuple(stride), analysis.patch))
    return [
        analysis.cost(size, stride, "conv"),
        analysis.cost(size, stride, "scan"),
        *(analysis.cost(size, step, "patches") for step in strides),
    ]


def cost_document(cost: "Cost") -> dict[str, Any]:
    """Return the JSON of one method's cost."""
    return {
        "method": cost.method,
        "stride": list(cost.stride),
        "windows": cost.windows,
        "macs": cost.macs,
        "memory": cost.memory,
    }


def cost_documents(analysis: "Analysis", size: Sequence[int], stride: Sequence[int]) -> dict[str, Any]:
    """Return the JSON of what each method costs on one input of ``size``."""
    found = costs(analysis, size, stride)
    return {"size": list(size), "costs": [cost_document(cost) for cost in found]}


def cost_line(cost: "Cost", size: Sequence[int]) -> str:
    """Return one method's cost as a sentence."""
    how = "every crop by itself," if cost.method == "scan" else f"--method {cost.method}"
    return (
        f"{how} --stride {in_words(cost.stride)} on {in_words(size)}: {cost.windows:,} windows, "
        f"{_engineering(cost.macs)} multiply-adds, about {_engineering(cost.memory)}B of memory"
    )


def other_method(conversion: "Conversion", size: Sequence[int]) -> list[str]:
    """Return the sentences that say what ``--method exact`` took, why, and what each method costs on ``size``."""
    analysis = conversion.analysis
    if conversion.method == "conv":
        lines = ["--method exact took conv: it is exact"]
    elif analysis.refusals:
        first = analysis.refusals[0]
        where = f"{escape(first.name)} ({first.operator})"
        return [f"--method exact took patches: the network is no convolution because of {where}"]
    else:
        lines = ["--method exact took patches: conv has a border effect"]
    methods = sorted(("conv", "patches"), key=lambda method: method != conversion.method)
    return lines + [f"  {cost_line(analysis.cost(size, conversion.stride, m), size)}" for m in methods]


def _first(names: Sequence[str], most: int = 4) -> str:
    """Return the first names, and how many more there are: the table has them all."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(escape(n) for n in names[:most]) + more


def _engineering(number: int) -> str:
    """Return a count with a unit prefix.

    >>> _engineering(1_234_567)
    '1.23 M'
    """
    value, prefixes = float(number), ["", "k", "M", "G", "T", "P"]
    while value >= 1000 and len(prefixes) > 1:
        value, prefixes = value / 1000, prefixes[1:]
    return f"{value:.3g} {prefixes[0]}"


def summary(analysis: "Analysis") -> list[str]:
    """Return the sentences that say how exact a map would be, and its geometry."""
    order = analysis.order.replace("C", "")
    names = with_axis_names
    lines = [
        f"patch {names(analysis.patch, order)}; own stride S {names(analysis.stride, order)}; each vector reads "
        f"{names(analysis.receptive_field, order)} pixels; input order {analysis.order}"
    ]
    if analysis.exactness == "exact":
        lines.append("exact: the map equals the network on every crop, up to rounding")
    elif analysis.exactness == "border effect":
        lines.append(
            "BORDER EFFECT: the patch network pads inside, and on a larger input real neighbours stand where its "
            f"padding stood: {_first(analysis.border)}"
        )
    else:
        named = "; ".join(f"{escape(r.name)} ({r.operator}): {escape(r.reason)}" for r in analysis.refusals)
        lines.append(f"not convertible as a convolution: {named}")
    return lines
