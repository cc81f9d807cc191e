"""The order in which Keras lists the layers of a Functional network, whatever order its configuration has them in.

A file's weights are dealt to the layers by it, so a writer must follow it. By depth, the largest first; layers of one
depth as a walk from the outputs to the inputs meets them (keras/src/ops/function.py, ``map_graph``; the same in
Keras 2, keras/engine/functional.py, ``_map_graph_network``)::

    depth of a call    0, or 1 more than that of a call that reads it
    depth of a layer   the largest of its calls
"""

from collections.abc import Iterator

from ..network import Layer, Network, tensors


def keras_order(network: Network) -> tuple[Layer, ...]:
    """The layers of a network without nested models, as Keras lists them."""
    calls = network.calls
    met, finished = _walk(network)
    depths = [0] * len(calls)
    by_layer: dict[str, int] = {}
    for number in reversed(finished):
        name = calls[number].layer.name
        # A layer that is called again is as deep as its deepest call, and so is that call.
        depths[number] = by_layer[name] = max(depths[number], by_layer.get(name, 0))
        for read in _reads(network, number):
            depths[read] = max(depths[read], depths[number] + 1)
    for tensor in network.inputs:  # one that no output depends on stands with the other inputs
        name = calls[tensor.call].layer.name
        by_layer.setdefault(name, max(by_layer.values(), default=0))
        met.setdefault(name, len(met))
    return tuple(sorted(network.layers, key=lambda layer: (-by_layer[layer.name], met[layer.name])))


def _reads(network: Network, number: int) -> Iterator[int]:
    """The calls that a call reads, in the order of its arguments."""
    for tensor in tensors(network.calls[number].arguments):
        yield tensor.call


def _walk(network: Network) -> tuple[dict[str, int], list[int]]:
    """From the outputs, depth first: how early each layer is met, and the calls as they are finished."""
    met: dict[str, int] = {}
    finished: list[int] = []
    entered: set[int] = set()
    for output in network.outputs:
        waiting: list[tuple[int, Iterator[int]]] = []
        following: int | None = output.call
        while True:
            if following is not None and following not in entered:
                entered.add(following)
                met.setdefault(network.calls[following].layer.name, len(met))
                waiting.append((following, _reads(network, following)))
            if not waiting:
                break
            number, rest = waiting[-1]
            following = next(rest, None)
            if following is None:
                finished.append(number)
                waiting.pop()
    return met, finished
