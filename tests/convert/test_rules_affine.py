"""Constants that differ from position to position of the patch: taken in by a dense layer behind, or refused."""

from collections.abc import Callable

import numpy as np
import pytest

from dense2conv.convert.conversion import convert
from dense2conv.convert.errors import FileError

from .nets import Net, assert_map, left


def conv(net: Net) -> str:
    return net("Relu", net.conv("x", out=3))  # (N, 3, 7, 6) on a 9x8 patch


def normalized(net: Net, x: str, features: int) -> str:
    uniform = lambda: net.tensor(net.random.uniform(0.5, 2, features), np.float32)  # noqa: E731
    return net(
        "BatchNormalization",
        x,
        uniform(),
        net.weight(features, fan=1),
        net.weight(features, fan=1),
        uniform(),
    )


def last(net: Net, x: str) -> str:
    return net("Transpose", x, perm=[0, 2, 3, 1])


# name: what stands between the convolution's output and the dense layer
CASES: dict[str, Callable[[Net, str], str]] = {
    "BatchNormalization behind Flatten": lambda net, x: normalized(net, net.flat(x), 126),
    "BatchNormalization behind a channels-last Flatten": lambda net, x: normalized(net, net.flat(last(net, x)), 126),
    "two of them": lambda net, x: normalized(net, normalized(net, net.flat(x), 126), 126),
    "Add of a map": lambda net, x: net.flat(net("Add", x, net.weight(1, 3, 7, 6, fan=1))),
    "Add of a map, constant first": lambda net, x: net.flat(net("Add", net.weight(3, 7, 6, fan=1), x)),
    "Sub of rows, Div by columns of channels": lambda net, x: net.flat(
        last(net, net("Div", net("Sub", x, net.weight(7, 1, fan=1)), net.weight(3, 1, 6, fan=1, offset=3)))
    ),
    "Mul of features, Add of a scalar": lambda net, x: net(
        "Add", net("Mul", net.flat(x), net.weight(126, fan=1)), net.tensor(0.7, np.float32)
    ),
    "Mul, Dropout, Reshape": lambda net, x: net(
        "Reshape", net("Dropout", net("Mul", x, net.weight(1, 3, 7, 6, fan=1))), net.integers(0, -1)
    ),
    "Add, then BatchNormalization": lambda net, x: normalized(
        net, net("Add", net.flat(x), net.weight(1, 126, fan=1)), 126
    ),
}  # fmt: skip


@pytest.mark.parametrize("opset", [9, 13, 17, 20])
@pytest.mark.parametrize("name", CASES)
def test_a_dense_layer_takes_it_in(name: str, opset: int) -> None:
    net = Net((None, 2, 9, 8), opset=opset)
    out = net.dense(net("Relu", net.dense(CASES[name](net, conv(net)), out=5)))
    conversion = assert_map(net.model(out))
    kernels = [r.target for r in conversion.rewrites if r.target.endswith("kernel")]
    assert kernels  # the dense weights are in the file as they were, rearranged


@pytest.mark.parametrize("bias", [True, False])
def test_with_and_without_a_bias(bias: bool) -> None:
    net = Net((None, 2, 9, 8))
    flat = net("Add", net.flat(conv(net)), net.weight(126, fan=1))
    weight = net.weight(126, 4)
    out = net("Gemm", flat, weight, *([net.weight(4, fan=1)] if bias else []))
    assert_map(net.model(out))


REFUSED: dict[str, tuple[Callable[[Net, str], str], str]] = {
    "Relu in between": (lambda net, x: net.flat(net("Relu", net("Add", x, net.weight(1, 3, 7, 6)))), "Relu"),
    "a convolution behind": (lambda net, x: net.flat(net.conv(net("Add", x, net.weight(1, 3, 7, 6)))), "Conv"),
    "constant minus value": (lambda net, x: net.flat(net("Sub", net.weight(1, 3, 7, 6), x)), "Sub"),
    "Pow": (lambda net, x: net.flat(net("Pow", x, net.weight(1, 3, 7, 6, offset=2))), "Pow"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_dense_layer_can_take_in_is_refused(name: str) -> None:
    build, operator = REFUSED[name]
    net = Net((None, 2, 9, 8))
    model = net.model(net.dense(build(net, conv(net))))
    with pytest.raises(FileError, match="from position to position") as refused:
        convert(model)
    assert f": {operator}: " in refused.value.message


def test_the_network_itself_must_not_differ_by_position_at_its_end() -> None:
    net = Net((None, 2, 9, 8))
    with pytest.raises(FileError, match="from position to position"):
        convert(net.model(net("Add", net.flat(conv(net)), net.weight(126, fan=1))))


def test_constants_along_the_channels_need_no_dense_layer() -> None:
    net = Net((None, 2, 9, 8))
    scaled = net("Mul", conv(net), net.weight(1, 3, 1, 1, fan=1))
    assert "Reciprocal" not in left(assert_map(net.model(net.dense(net.flat(scaled)))))
