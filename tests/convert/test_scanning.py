"""A map in tiles, against plain ONNX Runtime: the original network on every crop, and the map in one pass."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dense2conv.convert import open_model, scan
from dense2conv.convert.conversion import convert
from dense2conv.convert.errors import FileError, RequestError
from dense2conv.convert.model import Model
from dense2conv.convert.pixels import Pixels, Scaling
from dense2conv.convert.scanning import Plan, default_cores, layer_bytes, load
from dense2conv.convert.writing import write_model

from . import nets
from .nets import Net

RANDOM = np.random.default_rng(3)
ROUNDING = 1e-5  # of the largest value


def pooled(net, x, pads=0):
    y = net.conv(x, 5, pads=[pads] * (2 * len(net.shape[2:]))) if pads else net.conv(x, 5)
    rank = len(net.shape) - 2
    return net("MaxPool", net("Relu", y), kernel_shape=[2] * rank, strides=[2] * rank)


def image(pads=0):
    net = Net((None, 3, 18, 14))
    return net.model(net.dense(net.flat(pooled(net, pooled(net, "x", pads), pads))))


def two_heads():
    net = Net((None, 2, 13, 12))
    flat = net.flat(pooled(net, "x"))
    scores = net.dense(flat, 6)
    return net.model(net("Softmax", scores, axis=-1), net("ArgMax", net.dense(flat, 3), axis=1, keepdims=0))


def channels_last():
    net = Net((None, 14, 11, 2))
    y = net("Transpose", "x", perm=[0, 3, 1, 2])
    y = net("MaxPool", net.conv(y, 4, channels=2), kernel_shape=[2, 2], strides=[2, 2])
    y = net.flat(net("Transpose", y, perm=[0, 2, 3, 1]))
    return net.model(net("Softmax", net.dense(y, 5, inputs=6 * 4 * 4), axis=-1))


def series():
    net = Net((None, 4, 25))
    return net.model(net.dense(net.flat(pooled(net, pooled(net, "x")))))


def volume():
    net = Net((None, 1, 9, 8, 7))
    return net.model(net.dense(net.flat(pooled(net, "x"))))


def without_channels():
    net = Net((None, 12, 10))
    y = net.axes("Unsqueeze", "x", [1])
    return net.model(net.dense(net.flat(net.conv(y, 3, channels=1)), inputs=3 * 10 * 8))


def cropped_then_padded():
    """Its first convolution pads what a Slice left of the patch: its own end is 5 pixels inside the tile's."""
    net = Net((None, 2, 17, 15))
    y = net("Slice", "x", net.integers(5, 3), net.integers(-2, -4), net.integers(2, 3))
    return net.model(net.dense(net.flat(net.conv(y, 3, channels=2, pads=[1, 1, 1, 1])), inputs=3 * 10 * 8))


EXACT = {
    "image": (image, (2, 3), (71, 59)),
    "two heads": (two_heads, (2, 3), (53, 47)),
    "channels last": (channels_last, (1, 2), (45, 51)),
    "series": (series, (2,), (211,)),
    "volume": (volume, (2, 3, 4), (23, 21, 18)),
    "without channels": (without_channels, (1, 2), (31, 29)),
}
PADDED = {
    "padded": (lambda: image(1), (2, 3), (157, 163)),
    "cropped": (cropped_then_padded, (2, 3), (131, 117)),
}


def tiles(patch, size):
    """The smallest, an uneven one, one that is almost all, one that is more, and the default."""
    return [
        tuple(patch),
        tuple(p + (3 + i) * (1 + p // 3) for i, p in enumerate(patch)),
        tuple(max(p, h - 1) for p, h in zip(patch, size, strict=True)),
        tuple(h + 10 for h in size),
        None,
    ]


def by_name(found, conversion):
    names = [o.name for o in conversion.map.proto.graph.output]
    return found if isinstance(found, dict) else {names[0]: found}


def assert_equal(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert nets.difference(found[name], array) < ROUNDING, name


@pytest.mark.parametrize("strides", ["own", "twice", "beyond the patch"])
@pytest.mark.parametrize("name", EXACT)
def test_tiles_are_the_network_on_every_crop(name, strides):
    made, axes, size = EXACT[name]
    model = made()
    own = convert(model).analysis.stride
    stride = {"own": own, "twice": [2 * s for s in own], "beyond the patch": [7 * s for s in own]}[strides]
    conversion = convert(model, stride=stride)
    assert conversion.exactness == "exact"
    x = nets.noise(model, size, axes)
    patch = conversion.analysis.patch
    expected = nets.scan(model, x, patch, conversion.stride, axes)
    last = axes[-1] != x.ndim - 1
    for tile in tiles(patch, size):
        found = by_name(scan(x, conversion, tile=tile), conversion)
        assert set(found) == set(expected)
        for key, array in found.items():
            laid = nets.on_the_map(array, last, len(axes))
            assert laid.dtype == expected[key].dtype
            if laid.dtype.kind == "f":
                assert nets.difference(laid, expected[key]) < ROUNDING
            else:
                assert (laid == expected[key]).mean() > 0.999  # two scores may be equal up to rounding


@pytest.mark.parametrize("name", [*PADDED, *EXACT])
def test_tiles_are_one_pass(name):
    made, axes, size = (PADDED | EXACT)[name]
    model = made()
    conversion = convert(model)
    assert (conversion.exactness == "exact") == (name in EXACT)
    x = nets.noise(model, size, axes)
    expected = nets.run(nets.serialised(conversion.map), x)
    scanner = load(conversion)
    least = [r.least for r in scanner.reaches]
    for tile in tiles(least, size):
        assert_equal(by_name(scan(x, scanner, tile=tile), conversion), expected)


def test_a_tile_that_drops_less_than_its_border_would_be_found():
    """The checker can fail: without the margin, tiles of a padded map differ from one pass."""
    made, axes, size = PADDED["padded"]
    model = made()
    conversion = convert(model)
    x = nets.noise(model, size, axes)
    scanner = load(conversion)
    scanner.reaches = tuple(type(r)(r.patch, r.stride, 0, 0) for r in scanner.reaches)
    (expected,) = nets.run(nets.serialised(conversion.map), x).values()
    assert nets.difference(scan(x, scanner, tile=(40, 40)), expected) > 0.01


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_tiles_of_random_padded_networks_are_one_pass(data):
    draw = data.draw
    seed = draw(st.integers(0, 1000))
    net = Net((None, 2, draw(st.integers(8, 13)), draw(st.integers(8, 13))), seed=seed)
    y = "x"
    for _ in range(draw(st.integers(1, 3))):
        shape = net.shape_of(y)
        if min(shape[2:]) < 5:
            break
        kind = draw(st.sampled_from(["conv", "pool", "slice"]))
        pads = draw(st.lists(st.integers(0, 1), min_size=4, max_size=4))
        if kind == "conv":
            strides = [draw(st.integers(1, 2))] * 2
            y = net("Relu", net.conv(y, 3, pads=pads, strides=strides))
        elif kind == "pool":
            y = net("MaxPool", y, kernel_shape=[2, 2], strides=[draw(st.integers(1, 2))] * 2, pads=pads)
        else:
            a, b = draw(st.integers(0, 1)), draw(st.integers(1, 2))
            y = net("Slice", y, net.integers(a, b), net.integers(-b, -1 - a), net.integers(2, 3))
    if min(net.shape_of(y)[2:]) > 2:
        y = net.conv(y, 2)
    conversion = convert(net.model(net.dense(net.flat(y))), order="CHW")
    scanner = load(conversion)
    size = [r.least + draw(st.integers(0, 40)) for r in scanner.reaches]
    x = RANDOM.standard_normal((1, 2, *size)).astype(np.float32)
    expected = nets.run(nets.serialised(conversion.map), x)
    tile = [r.least + draw(st.integers(0, 9)) for r in scanner.reaches]
    assert_equal(by_name(scan(x, scanner, tile=tile), conversion), expected)


def test_the_patches_method_and_its_map():
    model = image(1)
    x = nets.noise(model, (95, 101), (2, 3))
    for stride in ((18, 14), (7, 5)):  # patches side by side, and patches that overlap
        conversion = convert(model, method="patches", stride=stride)
        (expected,) = nets.scan(model, x, (18, 14), stride, (2, 3)).values()
        for tile in ((18, 14), (40, 60), None):
            found = nets.on_the_map(scan(x, conversion, tile=tile), False, 2)
            assert nets.difference(found, expected) < ROUNDING


def test_a_map_of_one_size_is_its_own_tile():
    model = image()
    conversion = convert(model, size=(43, 37))
    for size in ((43, 37), (71, 59), (43, 90), (20, 18), (18, 14)):
        x = nets.noise(model, size, (2, 3))
        (expected,) = nets.scan(model, x, (18, 14), conversion.stride, (2, 3)).values()
        assert nets.difference(nets.on_the_map(scan(x, conversion), False, 2), expected) < ROUNDING
    with pytest.raises(RequestError, match="takes tiles of 43 pixels only, not 30"):
        scan(x, conversion, tile=(30, 37))
    padded = convert(image(1), size=(43, 37))
    x = nets.noise(model, (43, 37), (2, 3))
    (expected,) = nets.run(nets.serialised(padded.map), x[:1]).values()
    assert nets.difference(scan(x[:1], padded), expected) < ROUNDING
    with pytest.raises(RequestError, match="border effect and takes 43 pixels only on spatial axis 0"):
        scan(nets.noise(model, (50, 37), (2, 3)), padded)


def test_a_batch_of_its_own_is_filled_up():
    model = image()
    conversion = convert(model, batch=4)
    x = RANDOM.standard_normal((7, 3, 31, 29)).astype(np.float32)
    (expected,) = nets.scan(model, x, (18, 14), conversion.stride, (2, 3)).values()
    assert nets.difference(nets.on_the_map(scan(x, conversion), False, 2), expected) < ROUNDING


# The input's axes and numbers.


def test_axes_in_any_order():
    conversion = convert(image())
    x = RANDOM.standard_normal((2, 3, 41, 33)).astype(np.float32)
    expected = scan(x, conversion)
    for axes in ("NHWC", "CHWN", "WNCH"):
        turned = x.transpose(["NCHW".index(letter) for letter in axes])
        assert np.array_equal(scan(turned, conversion, axes=axes), expected)
    for axes in ("CHW", "hwc", "WHC"):
        turned = x[1].transpose(["CHW".index(letter) for letter in axes.upper()])
        assert np.array_equal(scan(turned, conversion, axes=axes), expected[1])
    one = convert(volume())
    v = RANDOM.standard_normal((14, 13, 12)).astype(np.float32)
    assert np.array_equal(scan(v, one), scan(v[None], one))
    assert np.array_equal(scan(v[..., None], one, axes="DHWC"), scan(v, one))
    flat = convert(without_channels())
    assert np.array_equal(scan(v[:, :, 0], flat), scan(v[None, :, :, 0], flat)[0])
    assert np.array_equal(scan(v[:, :, :1], flat, axes="HWC"), scan(v[:, :, 0], flat))


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((41, 33, 3), None, "takes 3 channels, but the input 41x33x3 has 41 (its axes are read as CHW)"),
        ((4, 41, 33), None, "takes 3 channels, but the input 4x41x33 has 4"),
        ((41, 33), None, "the input's axes are NCHW or CHW, but it has 2: 41x33"),
        ((3, 41, 33), "HW", "--axes HW does not fit this map: it needs each of C, H, W once"),
        ((3, 41, 33), "CHH", "--axes CHH does not fit this map"),
        ((3, 41, 33), "CTH", "--axes CTH does not fit this map"),
        ((3, 41, 33), "NCHW", "--axes NCHW names 4 axes, but the input has 3: 3x41x33"),
        ((3, 17, 33), None, "no position fits: the input is 17x33, smaller than the patch 18x14"),
        ((3, 41, 13), None, "no position fits: the input is 41x13, smaller than the patch 18x14"),
        ((0, 3, 41, 33), None, "the input has no pixels: it is 0x3x41x33"),
    ],
)
def test_axes_that_do_not_fit(shape, axes, message):
    with pytest.raises(RequestError) as caught:
        scan(np.zeros(shape, np.float32), convert(image()), axes=axes)
    assert message in caught.value.message


def test_the_hint_names_the_other_order():
    with pytest.raises(RequestError) as caught:
        scan(np.zeros((41, 33, 3), np.float32), convert(image()))
    assert "say --axes HWC" in caught.value.hint


@pytest.mark.parametrize(
    ("tile", "message"),
    [
        ((17, 14), "the tile 17x14 is smaller than the patch 18x14"),
        ((40,), "--tile has 1 sizes, the map 2 spatial axes"),
    ],
)
def test_tiles_that_do_not_fit(tile, message):
    with pytest.raises(RequestError) as caught:
        scan(np.zeros((3, 71, 59), np.float32), convert(image()), tile=tile)
    assert message in caught.value.message


def test_a_tile_of_a_padded_map_needs_room_for_what_it_drops():
    conversion = convert(image(1))
    least = [r.least for r in load(conversion).reaches]
    with pytest.raises(
        RequestError, match=f"smaller than {least[0]}x{least[1]}, the patch and what the border effect"
    ):
        scan(np.zeros((3, 300, 300), np.float32), conversion, tile=(least[0] - 1, least[1]))


def test_integer_pixels_need_a_scale():
    conversion = convert(image())
    x = RANDOM.integers(0, 256, (3, 41, 33), np.uint8)
    with pytest.raises(RequestError, match="pixels of uint8, the network reads float32") as caught:
        scan(x, conversion)
    assert all(option in caught.value.hint for option in ("--scale", "--mean", "--std"))
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
    scaled = x.astype(np.float64) / 255
    scaled = (scaled - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    expected = scan(scaled.astype(np.float32), conversion)
    assert nets.difference(scan(x, conversion, scale=1 / 255, mean=mean, std=std), expected) < ROUNDING
    turned = x.transpose(1, 2, 0)
    assert (
        nets.difference(scan(turned, conversion, axes="HWC", scale=1 / 255, mean=mean, std=std), expected)
        < ROUNDING
    )
    assert np.array_equal(scan(x, conversion, scale=1), scan(x.astype(np.float32), conversion))
    with pytest.raises(RequestError, match="--mean has 2 numbers, the network 3 channels"):
        scan(x, conversion, mean=[1, 2])
    with pytest.raises(RequestError, match="--std divides"):
        scan(x, conversion, std=0)
    with pytest.raises(RequestError, match="holds complex128"):
        scan(x.astype(complex), conversion)


def test_a_network_of_integers():
    net = Net((None, 2, 9, 8))
    y = net("Cast", "x", to=nets.FLOAT)
    y = net.dense(net.flat(net.conv(y, 3, channels=2)), inputs=3 * 7 * 6)
    net.kind = nets.TensorProto.INT32  # of the input; the weights are floats
    conversion = convert(net.model(y))
    x = RANDOM.integers(0, 200, (2, 21, 20), np.uint8)
    (expected,) = nets.run(nets.serialised(conversion.map), x[None].astype(np.int32)).values()
    assert np.array_equal(scan(x, conversion), expected[0])
    with pytest.raises(RequestError, match="pixels of int64, which do not all fit the network's int32"):
        scan(x.astype(np.int64), conversion)
    with pytest.raises(RequestError, match="give fractions, but the network reads int32"):
        scan(x, conversion, scale=0.5)


# Maps, plans and what they say.


def test_what_is_no_map():
    with pytest.raises(FileError, match="this network is not a map"):
        load(image())
    with pytest.raises(RequestError, match="a map is a path, a Model or a Conversion, not int"):
        load(3)
    conversion = convert(image())
    lying = Model(nets.ModelProto(), conversion.map.weights)
    lying.proto.CopyFrom(conversion.map.proto)
    for prop in lying.proto.metadata_props:
        prop.value = prop.value.replace('"stride":[4,4]', '"stride":[4,8]')
    with pytest.raises(FileError, match="not what its metadata says"):
        load(lying)


def test_a_path_and_a_pickle_are_the_map(tmp_path):
    conversion = convert(image())
    write_model(conversion.map, tmp_path / "map.onnx")
    x = RANDOM.standard_normal((3, 41, 33)).astype(np.float32)
    expected = scan(x, conversion)
    assert np.array_equal(scan(x, tmp_path / "map.onnx"), expected)
    scanner = load(open_model(tmp_path / "map.onnx"))
    again = pickle.loads(pickle.dumps(scanner))
    assert np.array_equal(scan(x, again), expected)
    assert pickle.loads(pickle.dumps(scanner)) is again, "a process loads a map once"


def test_progress_counts_the_tiles():
    told = []
    x = RANDOM.standard_normal((2, 3, 71, 59)).astype(np.float32)
    scan(x, convert(image()), tile=(40, 40), progress=lambda done, total: told.append((done, total)))
    assert told == [(i + 1, len(told)) for i in range(len(told))]
    assert len(told) == 2 * 3 * 2  # 14 rows and 12 columns of positions, 6 or 7 a tile


def test_the_default_tile_keeps_the_layers_small():
    scanner = load(convert(image()))
    assert default_cores(scanner, (71, 59)) == (14, 12)
    cores = default_cores(scanner, (100_000, 100_000))
    extents = [reach.pixels(core) for reach, core in zip(scanner.reaches, cores, strict=True)]
    assert layer_bytes(scanner, extents) <= 64 << 20
    assert min(extents) > 200
    # counted by hand: convolution, Relu, pool twice, and the head
    values = 5 * (64 * 54 * 2 + 32 * 27) + 5 * (30 * 25 * 2 + 15 * 12) + 4 * 13 * 11
    assert abs(layer_bytes(scanner, (66, 56)) - 4 * values) < 0.1 * 4 * values


def test_an_estimate_knows_the_bytes_and_some_time():
    scanner = load(convert(two_heads()))
    x = np.zeros((2, 2, 53, 47), np.float32)
    plan = Plan(scanner, Pixels(x, scanner, None, Scaling()))
    found = scan(x, scanner)
    estimate = plan.estimate()
    assert estimate.bytes == sum(array.nbytes for array in found.values())
    assert 0 < estimate.seconds < 10
