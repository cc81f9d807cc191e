"""Windows cut out by number and then reduced, as PyTorch's exporter writes an adaptive pool that does not divide."""

import numpy as np
import pytest

from dense2conv.convert.conversion import convert
from dense2conv.convert.errors import FileError

from .nets import Net, assert_map, left


def table(*axes: tuple[int, int, int, int, int]) -> np.ndarray:
    """Return GatherND indices: for each axis (base, windows, stride, elements, dilation), windows before elements."""
    numbers = [
        base + stride * np.arange(windows)[:, None] + dilation * np.arange(elements)
        for base, windows, stride, elements, dilation in axes
    ]
    rank = 2 * len(axes)
    spread = [
        n.reshape([n.shape[i - 2 * k] if i in (2 * k, 2 * k + 1) else 1 for i in range(rank)])
        for k, n in enumerate(numbers)
    ]
    return np.stack(np.broadcast_arrays(*spread), axis=-1).astype(np.int64)


def pooled(
    net: Net,
    indices: np.ndarray,
    reduce: str = "ReduceMean",
    axes: tuple[int, ...] = (-3, -1),
    **attributes: int,
) -> str:
    """Append windows of both spatial axes, reduced over ``axes`` of (N, C, windows, elements, windows, elements)."""
    moved = net("Transpose", net("Relu", net.conv("x")), perm=[2, 3, 0, 1])  # (H, W, N, C)
    windows = net("GatherND", moved, net.tensor(indices))
    return net.axes(
        reduce, net("Transpose", windows, perm=[4, 5, 0, 1, 2, 3]), axes, 18, keepdims=0, **attributes
    )


# (N, 3, 10, 9) behind the convolution
TABLES = {
    "overlapping, of 10 and of 9": table((0, 3, 3, 4, 1), (0, 4, 2, 3, 1)),
    "not from the first, not to the last": table((1, 2, 4, 3, 1), (2, 3, 2, 2, 1)),
}


@pytest.mark.parametrize("reduce", ["ReduceMean", "ReduceMax", "ReduceL2"])
@pytest.mark.parametrize("name", TABLES)
def test_reduced_windows_are_a_pool(name: str, reduce: str) -> None:
    net = Net((None, 2, 12, 11), opset=17)
    assert_map(net.model(net.dense(net.flat(pooled(net, TABLES[name], reduce)))))


def test_reduced_over_the_windows_instead_of_their_elements() -> None:
    net = Net((None, 2, 12, 11), opset=17)
    indices = table((0, 4, 1, 3, 3), (0, 3, 1, 4, 2))  # the strides of the elements are the larger ones
    assert_map(net.model(net.dense(net.flat(pooled(net, indices, axes=(-4, -2))))))


REGULAR = TABLES["overlapping, of 10 and of 9"]
OTHERS = {
    "uneven windows": (np.where(REGULAR == 9, 8, REGULAR), "regular"),
    "backwards": (table((9, 3, -3, 4, -1), (0, 4, 2, 3, 1)), "regular"),
    "no windows": (table((0, 5, 2, 1, 1), (0, 4, 2, 2, 1)), "windows have two"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_tables_are_refused(name: str) -> None:
    indices, words = OTHERS[name]
    net = Net((None, 2, 12, 11), opset=17)
    with pytest.raises(FileError, match=words):
        convert(net.model(net.dense(net.flat(pooled(net, indices)), inputs=36)))


def test_windows_that_are_read_before_they_are_reduced_are_refused() -> None:
    net = Net((None, 2, 12, 11), opset=17)
    moved = net("Transpose", net.conv("x"), perm=[2, 3, 0, 1])
    windows = net("GatherND", moved, net.tensor(table((0, 3, 3, 4, 1), (0, 4, 2, 3, 1))))
    relu = net("Relu", net("Transpose", windows, perm=[4, 5, 0, 1, 2, 3]))
    model = net.model(net.dense(net.flat(net.axes("ReduceMean", relu, (-3, -1), 18, keepdims=0))))
    with pytest.raises(FileError, match="only a reduction may do"):
        convert(model)


def test_nothing_but_a_pool_is_left() -> None:
    net = Net((None, 2, 12, 11), opset=17)
    conversion = assert_map(
        net.model(net.dense(net.flat(pooled(net, TABLES["overlapping, of 10 and of 9"]))))
    )
    assert left(conversion) == ["Conv", "Relu", "AveragePool", "Conv"]
