"""Maps at any stride: random networks, and the rules that a random one seldom meets, against brute force."""

import numpy as np
import pytest
from onnx import TensorProto

from dense2conv.convert.conversion import convert
from dense2conv.convert.errors import FileError
from dense2conv.convert.ops.pooling import CONVOLUTION, NATIVE, SLICES, chosen_form
from dense2conv.shapecalc.window import Window

from .nets import (
    FLOAT,
    FLOAT16,
    GONE,
    Net,
    assert_map,
    assert_sound,
    left,
    serialised,
    uneven,
)
from .test_fuzz import Maker, figures

UINT8, INT8 = TensorProto.UINT8, TensorProto.INT8
QUICK, SLOW = 40, 400


def drawn_stride(random, patch, natural):
    """A stride an axis: small, near the network's own, prime to it, the patch's, or beyond."""
    return tuple(
        int(random.choice([1, 2, 3, max(s - 1, 1), s + 1, 2 * s, p, p + 1, int(random.integers(1, p + 4))]))
        for p, s in zip(patch, natural, strict=True)
    )


def hold(seed):
    """One random network at two random strides: on a patch, and at every position where it is exact."""
    maker = Maker(seed)
    model = maker.make()
    natural = convert(model).analysis.stride
    for _ in range(2):
        stride = drawn_stride(maker.random, maker.patch, natural)
        conversion = convert(model, stride=stride)
        assert (conversion.stride, conversion.analysis.stride) == (stride, natural)
        data = serialised(conversion.map)
        assert_sound(data, gone=GONE)
        shared = (maker.patch, stride, maker.axes, maker.last)
        at_patch = figures(model, data, *shared, maker.patch)
        assert max(at_patch.values()) < 1e-5, (stride, at_patch)
        larger = figures(model, data, *shared, uneven(maker.patch, stride))
        if conversion.exactness == "exact":
            assert max(larger.values()) < 1e-5, (stride, larger)
        else:
            assert maker.padded


@pytest.mark.parametrize("seed", range(1000, 1000 + QUICK))
def test_random_networks_at_random_strides(seed):
    hold(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000 + QUICK, 1000 + SLOW))
def test_more_random_networks_at_random_strides(seed):
    hold(seed)


OPSETS = (7, 9, 10, 11, 13, 18, 22)
POOLS = {
    "max": ("MaxPool", {}),
    "mean": ("AveragePool", {}),
    "mean with its pads": ("AveragePool", {"count_include_pad": 1}),
    "1-norm": ("LpPool", {"p": 1}),
    "2-norm": ("LpPool", {}),
    "3-norm": ("LpPool", {"p": 3}),
}


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("kernel", [(2, 2), (3, 5), (7, 1)], ids=str)
@pytest.mark.parametrize("name", POOLS)
def test_pools_with_holes_in_every_operator_set(name, kernel, opset):
    kind, own = POOLS[name]
    net = Net((None, 2, 17, 16), opset=opset)
    x = net("Tanh", net.conv(strides=[2, 2]))
    x = net(kind, x, kernel_shape=list(kernel), strides=[1, 2] if kernel[1] > 1 else [1, 1], **own)
    model = net.model(net.dense(net.flat(x)))
    for stride in ((1, 1), (3, 2), (4, 5)):
        assert_map(model, stride=stride)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", POOLS)
def test_a_padded_pool_is_right_on_the_patch_and_where_its_pads_do_not_reach(name, opset):
    """Pads are spread like the patch's positions; the crop behind takes off what they touched."""
    kind, own = POOLS[name]
    net = Net((None, 2, 17, 16), opset=opset)
    x = net("Tanh", net.conv(strides=[2, 1]))
    x = net(kind, x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], **own)
    at_patch = net.model(net.dense(net.flat(x)))
    for stride in ((1, 1), (3, 2)):
        assert_map(at_patch, stride=stride, size=(17, 16), exactness="exact")
    axes, starts, ends = (net.integers(*v) for v in ((2, 3), (1, 1), (-1, -1)))
    if opset >= 10:
        x = net("Slice", x, starts, ends, axes)
    else:
        x = net("Slice", x, starts=[1, 1], ends=[-1, -1], axes=[2, 3])
    cropped = net.model(net.dense(net.flat(x)))
    for stride in ((1, 1), (3, 2)):
        assert_map(cropped, stride=stride)


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("opset", [10, 17, 22])
def test_a_window_of_ceil_mode_that_sticks_out(kind, opset):
    """On a patch it reads what is there; what it would find beyond is a border effect."""
    net = Net((None, 2, 12, 11), opset=opset)
    x = net(kind, net("Tanh", net.conv(strides=[2, 1])), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    model = net.model(net.dense(net.flat(x)))
    for stride in ((1, 1), (3, 2), (4, 3)):
        assert_map(model, stride=stride, size=(12, 11))
        assert convert(model, stride=stride).exactness == "border effect"


@pytest.mark.parametrize("opset", [13, 17, 20])
@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2"])
def test_reductions_over_a_patch_of_a_strided_trunk(op, opset):
    net = Net((None, 2, 15, 14), opset=opset)
    x = net("Tanh", net.conv(strides=[2, 3]))
    model = net.model(net.axes(op, x, [2, 3], 13 if op == "ReduceSum" else 18, keepdims=0))
    for stride in ((1, 1), (3, 2), (4, 5)):
        assert_map(model, stride=stride)


def test_every_second_position_and_one_by_its_number():
    net = Net((None, 2, 18, 15), opset=17)
    x = net("Relu", net.conv(strides=[2, 2]))
    x = net("Slice", x, *(net.integers(*v) for v in ((1, 0), (8, 6), (2, 3), (2, 1))))
    model = net.model(net.dense(net.flat(net("Gather", x, net.tensor(2, np.int64), axis=3))))
    for stride in ((1, 1), (3, 2), (4, 5)):
        assert_map(model, stride=stride)


def test_heads_on_branches_of_other_strides():
    net = Net((None, 2, 26, 25), opset=17)
    early = net("Relu", net.conv(strides=[2, 2]))
    late = net.conv(net("MaxPool", early, kernel_shape=[3, 3], strides=[3, 2]), kernel=2)
    model = net.model(net.dense(net.flat(early)), net.dense(net.flat(late)))
    for stride in ((1, 1), (2, 3), (5, 4), (7, 12)):
        assert_map(model, natural=(6, 4), stride=stride)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_pads_of_a_spread_value_are_right_on_the_patch(mode):
    net = Net((None, 2, 16, 15), opset=17)
    x = net("Pad", net.conv(strides=[2, 2]), net.integers(0, 0, 1, 2, 0, 0, 0, 1), mode=mode)
    model = net.model(net.dense(net.flat(net.conv(x))))
    for stride in ((1, 1), (3, 3)):
        assert_map(model, stride=stride, size=(16, 15))


def test_pads_from_the_other_end_are_refused_where_they_would_be_wrong():
    net = Net((None, 2, 16, 15), opset=20)
    x = net(
        "Pad", net.conv(strides=[2, 2]), net.integers(0, 0, 1, 0, 0, 0, 0, 0), mode="wrap", name="wrapped"
    )
    model = net.model(net.dense(net.flat(x), inputs=168))
    convert(model, stride=(2, 1))
    with pytest.raises(FileError, match="elements of the other end") as refused:
        convert(model, stride=(1, 2))
    assert refused.value.layer == "wrapped"


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_blocked_kernels_are_taken_where_there_are_some(rank):
    shape = {1: (60,), 2: (17, 16), 3: (11, 10, 9)}[rank]
    for channels in (16, 5):
        net = Net((None, 2, *shape), opset=17)
        x = net("MaxPool", net.conv(out=channels, strides=[2] * rank), kernel_shape=[3] * rank)
        conversion = assert_map(net.model(net.dense(net.flat(x))), stride=(1,) * rank)
        assert ("MaxPool" in left(conversion)) == (channels == 16 and rank == 2)


HOLES, NONE = [Window(3, dilation=2)] * 2, [Window(3)] * 2


@pytest.mark.parametrize(
    ("kind", "windows", "channels", "dtype", "opset", "form"),
    [
        ("MaxPool", NONE, 10, FLOAT, 7, NATIVE),
        ("MaxPool", HOLES, 10, FLOAT, 17, SLICES),
        ("MaxPool", HOLES, 32, FLOAT, 17, NATIVE),
        ("MaxPool", HOLES, 32, FLOAT, 9, SLICES),
        ("MaxPool", HOLES, 32, FLOAT16, 17, SLICES),
        ("MaxPool", HOLES[:1], 32, FLOAT, 17, SLICES),
        ("AveragePool", NONE, 10, FLOAT, 18, NATIVE),
        ("AveragePool", NONE, 10, FLOAT, 19, CONVOLUTION),
        ("AveragePool", NONE, 32, FLOAT, 19, NATIVE),
        ("AveragePool", HOLES, 32, FLOAT, 19, CONVOLUTION),
        ("LpPool", NONE, 32, FLOAT, 18, CONVOLUTION),
        ("LpPool", HOLES, 10, FLOAT, 18, CONVOLUTION),
    ],
)
def test_the_form_that_is_chosen(kind, windows, channels, dtype, opset, form):
    assert chosen_form(kind, windows, channels, dtype, opset) == form


def test_costs_are_those_of_the_lattice():
    """Multiply-adds at stride 1: the trunk at every pixel, the head at every position of the map."""
    net = Net((None, 2, 12, 12), opset=17)
    x = net.conv(out=3, kernel=2, strides=[2, 2])
    x = net.conv(x, out=5, kernel=3)
    analysis = convert(net.model(net.dense(net.flat(x), 7))).analysis
    trunk = 2 * 3 * 4, 3 * 5 * 9
    head = 7 * 5 * 16
    on = lambda stride: analysis.cost((20, 20), (stride, stride), "conv").macs  # noqa: E731
    assert on(1) == trunk[0] * 19**2 + trunk[1] * 15**2 + head * 9**2
    assert on(2) == trunk[0] * 10**2 + trunk[1] * 8**2 + head * 5**2
    # At 3 the first convolution has every pixel, and the others read every second of its positions.
    assert on(3) == trunk[0] * 19**2 + trunk[1] * 15**2 + head * 3**2
    assert analysis.cost((11, 20), (1, 1), "conv").macs == 0  # no position fits
    scan = analysis.cost((20, 20), (1, 1), "scan")
    assert scan.macs == 81 * (trunk[0] * 36 + trunk[1] * 16 + head)


@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 0, 1, 1]], ids=str)
@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool", "LpPool"])
def test_pools_that_have_holes_of_their_own(kind, pads, ceil):
    net = Net((None, 2, 19, 20), opset=22)
    x = net("Tanh", net.conv(strides=[2, 1]))
    own = {"kernel_shape": [2, 3], "dilations": [2, 3], "strides": [1, 2], "pads": pads, "ceil_mode": ceil}
    x = net(kind, x, **own)
    shape = net.shape_of(x)
    axes, starts, ends = (net.integers(*v) for v in ((2, 3), (2, 1), (-2, -2)))
    cropped = net.dense(net.flat(net("Slice", x, starts, ends, axes)))
    whole = net.dense(net.flat(x))
    assert min(shape[2:]) > 3
    for stride in ((2, 2), (1, 1), (3, 4)):
        assert_map(net.model(whole), stride=stride, size=(19, 20))
        assert_map(net.model(cropped), stride=stride)


def classified(net, x):
    """Bytes as numbers, behind a dense layer of numbers."""
    x = net.flat(net("Cast", x, to=FLOAT))
    weight = np.random.default_rng(3).standard_normal((4, net.shape_of(x)[1]))
    return net.model(net("Gemm", x, net.tensor(weight, np.float32), transB=1))


@pytest.mark.parametrize("kind", [UINT8, INT8], ids=["uint8", "int8"])
def test_a_pool_of_integers_keeps_its_form(kind):
    """ONNX Runtime pools bytes, but has no maximum of them."""
    net = Net((None, 2, 19, 18), opset=17, kind=kind)
    x = net("MaxPool", net("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2]), kernel_shape=[3, 3])
    model = classified(net, x)
    for stride in ((1, 1), (3, 2)):
        assert_map(model, stride=stride)


def test_pads_of_bytes_that_are_as_large_as_their_kernel_are_refused():
    net = Net((None, 2, 19, 18), opset=17, kind=UINT8)
    x = net("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2])
    x = net("MaxPool", x, kernel_shape=[2, 2], pads=[1, 1, 0, 0], name="padded")
    model = classified(net, x)
    assert_map(model, size=(19, 18))
    with pytest.raises(FileError, match="as large as its kernel") as refused:
        convert(model, stride=(1, 1))
    assert refused.value.layer == "padded"
