"""The layer table as data: one dictionary a layer, one for the totals; how it is printed is not known here.

One entry an axis where there is one: ``kernel``, ``stride``, ``dilation`` and ``padding`` (pairs before and after) on
the axes of the layer's own window, ``receptive_field``, ``jump`` and ``start`` on the spatial axes of the input. A
field that is the whole input, or that nobody knows, is None. ``start`` is the first pixel of neuron 0, negative in the
pads. ``output`` is one sample's shape in the source's own order.
"""

from typing import Any

from .network import Field, Network
from .receptive import ReceptiveField


def document(network: Network) -> dict[str, Any]:
    """The table of a network: ``input``, ``layers`` and ``totals``.

    >>> from .chain import with_input
    >>> row = document(with_input("input 9x9x1, conv 3x3/2 4", None))["layers"][0]
    >>> row["output"], row["receptive_field"], row["jump"], row["start"]
    ([4, 4, 4], [3, 3], [2, 2], [0, 0])
    """
    layers = []
    for node, fields in zip(network.nodes, network.fields, strict=True):
        layers.append(
            {
                "name": node.name,
                "kind": node.kind,
                "kernel": list(node.kernel) or None,
                "stride": list(node.stride) or None,
                "padding": [list(pair) for pair in node.padding] or None,
                "dilation": list(node.dilation) or None,
                "output": list(node.output),
                "neurons": node.neurons,
                "parameters": node.parameters,
                "macs": node.macs,
                "receptive_field": _each(fields, "size"),
                "jump": _each(fields, "jump"),
                "start": _each(fields, "start"),
            }
            | ({"notes": list(node.notes)} if node.notes else {})
        )
    return {
        "input": {"name": network.name, "shape": list(network.shape)},
        "layers": layers,
        "totals": network.totals._asdict(),
    }


def _each(fields: tuple[Field, ...], name: str) -> list[int | float | None] | None:
    values = [getattr(f, name) if isinstance(f, ReceptiveField) else None for f in fields]
    found = [n if n is None or isinstance(n, int) else float(n) for n in values]  # a jump may be a fraction
    return found if any(n is not None for n in found) else None
