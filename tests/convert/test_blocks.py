"""``--method patches`` at any stride: a loop over blocks of positions, for any network."""

import pytest

from .nets import Net, assert_map

K = 3 * 7 * 6


def plain(net):
    return net.dense(net.flat(net("Tanh", net.conv())), inputs=K)


def assert_blocks(model, stride, *, tolerance=1e-6, **how):
    return assert_map(model, method="patches", stride=stride, tolerance=tolerance, **how)


STRIDES = [(1, 1), (3, 3), (8, 7), (9, 9), (12, 11), (1, 20), (9, 5)]


@pytest.mark.parametrize("stride", STRIDES, ids=str)
def test_strides_below_at_and_above_the_patch(stride):
    net = Net()
    assert_blocks(net.model(plain(net)), stride)


@pytest.mark.parametrize(
    "how", [{}, {"size": (14, 17)}, {"size": (14, 17), "batch": 3}, {"batch": 2}], ids=str
)
@pytest.mark.parametrize("batch", [None, 1])
@pytest.mark.parametrize("opset", [9, 10, 11, 13, 14, 17, 21])
def test_sizes_and_batch_free_or_fixed(opset, batch, how):
    if batch and "batch" in how:
        how = {**how, "batch": 1}
    net = Net((batch, 2, 9, 8), opset=opset)
    assert_blocks(net.model(plain(net)), (2, 3), **how)
