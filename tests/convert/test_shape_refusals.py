"""Graphs that cannot be: ``network_of`` refuses what ONNX Runtime refuses, with the numbers."""

import pytest

from dense2conv.convert.errors import FileError
from dense2conv.convert.model import Model
from dense2conv.convert.shapes import network_of

from .nets import Net, noise, run, serialised


def _concat(net: Net) -> str:
    return net("Concat", "x", net.weight(1, 2, 1, 8), axis=1)


def _split(net: Net) -> str:
    return net("Split", "x", net.integers(4, 4), axis=2, outputs=2)[0]


def _squeeze(net: Net) -> str:
    return net("Squeeze", "x", net.integers(0, 2))


def _pad(net: Net) -> str:
    return net("Pad", "x", net.integers(0, 0, -5, 0, 0, 0, -5, 0))


CASES = {
    "concat of other sizes": (
        _concat,
        "Concat joins what differs on axis 1 only, but gets [[1, 2, 9, 8], [1, 2, 1, 8]]",
    ),
    "split that leaves one over": (_split, "the parts of a Split do not add up: [4, 4] of 9 elements"),
    "pad that cuts off ten": (_pad, "a Pad cuts off 5 and 5 of 9 elements"),
    "squeeze of an axis with nine": (
        _squeeze,
        "Squeeze takes away axes of size 1, but [0, 2] of [1, 2, 9, 8] are named",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_onnx_runtime_refuses(name: str) -> None:
    make, message = CASES[name]
    net = Net((1, 2, 9, 8))
    proto = net.proto([make(net)], check=False)
    proto.graph.output[0].type.tensor_type.elem_type = proto.graph.input[0].type.tensor_type.elem_type
    model = Model(proto)
    with pytest.raises(Exception, match=r"(?i)concat|split|squeeze|pad|size|overflow"):
        run(serialised(model), noise(model, (9, 8), (2, 3)))
    with pytest.raises(FileError) as caught:
        network_of(model)
    assert caught.value.message == message
