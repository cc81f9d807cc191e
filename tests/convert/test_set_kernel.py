"""Kernels set from tensors: every reading against scipy, sample by sample and channel by channel, in float64."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from scipy.signal import convolve, correlate

from dense2conv.convert.errors import FileError, RequestError
from dense2conv.convert.kernel_readings import Place, reading, readings
from dense2conv.convert.kernel_setting import Wanted, connect_kernel, feed_kernel, set_kernel
from dense2conv.convert.opening import open_model

from .nets import Net, serialised

FIXTURE = Path(__file__).parents[2] / "fixtures/dynamic_convolution.onnx"
ROUNDS = 200


def filters_of(tensor, kind, layout, channels, group, count):
    """The tensor as a list of (filter, the channels that it reads): (channels read, *spatial), by the words' meaning.

    Written out by indexing, not by a transposition.
    """
    pick = {
        "OIHW": lambda o, i: tensor[o, i],
        "HWIO": lambda o, i: tensor[..., i, o],
        "CHW": lambda _, c: tensor[c],
        "HWC": lambda _, c: tensor[..., c],
    }[layout]
    found = []
    if kind == "full":
        per = count // group
        for o in range(count):
            read = range(o // per * (channels // group), (o // per + 1) * (channels // group))
            found.append(([pick(o, i) for i in range(channels // group)], read))
    elif kind == "single":
        found.append(([pick(0, c) for c in range(channels)], range(channels)))
    elif layout in ("CHW", "HWC"):
        found = [([pick(0, c)], [c]) for c in range(channels)]
    elif layout == "HWIO" and tensor.shape[-2] == channels:
        found = [([tensor[..., c, m]], [c]) for c in range(channels) for m in range(tensor.shape[-1])]
    else:
        many = tensor.shape[0] if layout == "OIHW" else tensor.shape[-1]
        found = [([pick(o, 0)], [o // (many // channels)]) for o in range(many)]
    return found


def slow(data, filters, bias, strides, flip):
    """One sample ``(C, *spatial)`` through filters, channel by channel, in float64."""
    engine = convolve if flip else correlate
    maps = []
    for number, (planes, read) in enumerate(filters):
        total = sum(
            engine(data[c].astype(np.float64), plane.astype(np.float64), mode="valid", method="direct")
            for plane, c in zip(planes, read, strict=True)
        )
        maps.append(
            total[tuple(slice(None, None, s) for s in strides)] + (0 if bias is None else bias[number])
        )
    return np.stack(maps)


class Draw:
    """A random convolution in a network, and a tensor for it."""

    def __init__(self, seed):
        self.random = np.random.default_rng([7, seed])
        one = lambda *values: values[int(self.random.integers(len(values)))]  # noqa: E731
        self.rank = one(1, 2, 2, 2, 3)
        self.group = one(1, 1, 2, 3)
        self.channels = self.group * one(1, 2, 3)
        self.count = self.group * one(1, 2, 4)
        self.kind = one("full", "single", "depthwise")
        self.layout = one("OIHW", "HWIO") if self.kind == "full" else one("OIHW", "HWIO", "HWC", "CHW")
        self.flip = one(False, True)
        self.batch = one(None, None, 1, 2, 3)
        self.spatial = tuple(int(n) for n in self.random.integers(1, 5, self.rank))
        self.strides = tuple(int(n) for n in self.random.integers(1, 3, self.rank))
        self.size = tuple(int(n) for n in self.random.integers(6, 10, self.rank))
        self.opset = one(10, 11, 13, 17, 20)
        many = one(1, 2)
        pair = {
            "full": (self.count, self.channels // self.group),
            "single": (1, self.channels),
            "depthwise": (self.channels * many, 1),
        }[self.kind]
        self.filters = pair[0]
        tensorflow = self.kind == "depthwise" and self.layout == "HWIO" and one(False, True)
        if self.layout in ("HWC", "CHW"):
            self.filters = 1 if self.kind == "single" else self.channels
            shape = (*self.spatial, self.channels) if self.layout == "HWC" else (self.channels, *self.spatial)
        elif self.layout == "OIHW":
            shape = (*pair, *self.spatial)
        else:
            shape = (*self.spatial, *((self.channels, many) if tensorflow else reversed(pair)))
        self.shape = shape if self.batch is None else (self.batch, *shape)
        self.tensor = self.random.standard_normal(self.shape).astype(np.float32)
        self.bias = one("zero", "given", "keep") if self.filters == self.count else one("zero", "given")
        self.given = self.random.standard_normal(self.filters).astype(np.float32)

    def network(self):
        self.net = Net((None, self.channels, *self.size), opset=self.opset, seed=9)
        y = self.net("Identity", "x")
        y = self.net.conv(y, self.count, [2] * self.rank, channels=self.channels, group=self.group,
                          strides=list(self.strides))  # fmt: skip
        self.name = self.net.nodes[-1].name
        return self.net.model(self.net("Neg", y))

    @property
    def wanted(self):
        bias = self.given if self.bias == "given" else self.bias
        return Wanted(self.layout, self.kind, self.flip, bias, self.batch)

    def expected(self, data):
        kept = next(a for n, a in self.net.tensors.items() if a.shape == (self.count,) and a.ndim == 1)
        bias = {"zero": None, "given": self.given, "keep": kept}[self.bias]
        maps = []
        for number, sample in enumerate(data):
            tensor = self.tensor if self.batch is None else self.tensor[number]
            filters = filters_of(tensor, self.kind, self.layout, self.channels, self.group, self.count)
            maps.append(-slow(sample, filters, bias, self.strides, self.flip))
        return np.stack(maps)


def run(model, feeds):
    data = serialised(model)
    onnx.checker.check_model(data, full_check=True)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, feeds)
    declared = session.get_outputs()[0].shape
    assert all(d == n for d, n in zip(declared, result.shape, strict=True) if isinstance(d, int))
    return result


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_random_kernels(seed):
    """As a constant, as an input with and without a default, and from a value of the graph."""
    draw = Draw(seed)
    model = draw.network()
    before = serialised(model)
    image = draw.random.standard_normal((draw.batch or 2, draw.channels, *draw.size)).astype(np.float32)
    expected = draw.expected(image)
    how = ("constant", "default", "input", "value")[seed % 4]
    feeds = {"x": image}
    if how in ("constant", "default"):
        setting = set_kernel(
            model, draw.name if seed % 3 else "1", draw.tensor, draw.wanted, dynamic=how == "default"
        )
        if how == "constant" and draw.batch is None:
            names = {t.name for t in setting.model.proto.graph.initializer}
            assert names & set(model.initializers()), "the old weight's name stays"
    elif how == "input":
        shape = draw.shape if draw.batch is None else draw.shape[1:]
        setting = feed_kernel(model, "1", shape, draw.wanted)
        feeds[setting.source] = draw.tensor
    else:
        name = draw.net.tensor(draw.tensor, name="computed/constant")
        value = draw.net("Identity", name)
        last = draw.net.nodes[-2].output[0]
        model = draw.net.model(last)
        before = serialised(model)
        setting = connect_kernel(model, "1", value, draw.wanted)
        order = [n.op_type for n in setting.model.proto.graph.node]
        assert "Conv" in order
    found = run(setting.model, feeds)
    assert found.shape == expected.shape
    scale = max(np.abs(expected).max(), 1e-3)
    assert np.abs(found - expected).max() / scale < 1e-5
    if how == "default":
        other = (draw.tensor * 2 + 1).astype(np.float32)
        draw.tensor = other
        again = run(setting.model, feeds | {setting.source: other})
        assert np.abs(again - draw.expected(image)).max() / np.abs(draw.expected(image)).max() < 1e-5
    assert serialised(model) == before, "the model that was given is as it was"


@pytest.mark.parametrize("damage", ["transposed", "flipped", "samples", "filters"])
def test_the_check_finds_a_wrong_kernel(damage):
    """The oracle of the test above is not deaf: each damage moves the numbers far above its limit."""
    found = 0
    for seed in range(ROUNDS):
        draw = Draw(seed)
        model = draw.network()
        image = draw.random.standard_normal((draw.batch or 2, draw.channels, *draw.size)).astype(np.float32)
        expected = draw.expected(image)
        wrong = draw.tensor
        if damage == "transposed" and draw.rank == 2 and draw.spatial[0] == draw.spatial[1] > 1:
            first = (draw.batch is not None) + (
                2 if draw.layout == "OIHW" else 1 if draw.layout == "CHW" else 0
            )
            wrong = np.swapaxes(wrong, first, first + 1)
        elif damage == "flipped" and max(draw.spatial) > 1:
            draw.flip = not draw.flip
        elif damage == "samples" and (draw.batch or 0) > 1:
            wrong = wrong[::-1]
        elif damage == "filters" and draw.kind == "full" and draw.count > 1 and draw.layout == "OIHW":
            wrong = np.flip(wrong, 0 if draw.batch is None else 1)
        else:
            continue
        result = run(set_kernel(model, "1", wrong, draw.wanted).model, {"x": image})
        assert np.abs(result - expected).max() / np.abs(expected).max() > 1e-3
        found += 1
        if found == 5:
            return
    raise AssertionError("this damage was tried nowhere")


# Case 3, end to end.


def case_3(setting, image):
    session = onnxruntime.InferenceSession(serialised(setting.model), providers=["CPUExecutionProvider"])
    return session.run(["answer", "g", "f"], {"image": image})


@pytest.mark.parametrize("kind", ["single", "depthwise"])
@pytest.mark.parametrize("samples", [1, 3])
def test_case_3_a_kernel_that_the_network_computes(kind, samples):
    image = np.random.default_rng(4).standard_normal((samples, 3, 20, 15)).astype(np.float32)
    batch = None if samples == 1 else samples
    setting = connect_kernel(open_model(str(FIXTURE)), "head", "g", Wanted("CHW", kind, batch=batch))
    answer, g, f = case_3(setting, image)
    assert answer.shape == (samples, 1 if kind == "single" else 8, 16, 11)
    for n in range(samples):  # a loop over samples and channels
        planes = np.stack(
            [correlate(f[n, c].astype(float), g[n, c].astype(float), "valid", "direct") for c in range(8)]
        )
        expected = planes.sum(0, keepdims=True) if kind == "single" else planes
        assert np.abs(answer[n] - expected).max() < 1e-5 * np.abs(expected).max()
    assert "head.weight" not in setting.model.initializers()


def test_case_3_another_number_of_samples_is_refused_by_the_runtime():
    setting = connect_kernel(open_model(str(FIXTURE)), "head", "g", Wanted("CHW", "single"))
    image = np.zeros((2, 3, 20, 15), np.float32)
    with pytest.raises(Exception, match=r"(?i)reshape|shape"):
        case_3(setting, image)


def test_case_3_the_mistake_with_128_filters():
    """A (5, 5, 128) tensor is no kernel of a convolution of 128 filters; both of its readings are named."""
    place = Place("head", 128, 128, 1, 2, (5, 5))
    for layout, shape in (("HWIO", (5, 5, 128)), ("HWIO", (5, 5, 128, 1))):
        with pytest.raises(FileError) as caught:
            reading(place, shape, "full", layout)
        shown = "x".join(map(str, shape))
        assert caught.value.message == (
            "the kernel of 128 filters of 5x5 over 128 channels, read as full in HWIO, is 5x5x128x128, "
            f"but the tensor is {shown}"
        )
        bare = "HWC" if len(shape) == 3 else "HWIO"
        assert caught.value.hint.startswith(
            f"it fits as --as single --layout {bare} (1 filter over all channels); "
            f"as --as depthwise --layout {bare} (128 filters, a channel each)"
        )
    assert reading(place, (5, 5, 128, 128), "full", "HWIO").rearrangement.result == (128, 128, 5, 5)
    assert {r.kind for r in readings(place, (5, 5, 128))} == {"single", "depthwise"}


def test_what_fits_nowhere_lists_what_would():
    with pytest.raises(FileError) as caught:
        reading(Place("head", 4, 6, 2, 2, (3, 3)), (7, 7), "full", "OIHW")
    assert "6 filters of 3x3 over 4 channels in 2 groups" in caught.value.message
    assert caught.value.message.endswith("is 6x2x3x3, but the tensor is 7x7")
    assert "no reading fits" in caught.value.hint
    assert "depthwise HWIO 3x3x4xM" in caught.value.hint


def two_convolutions():
    net = Net((None, 2, 9, 8))
    y = net.conv("x", 3)
    y = net("Relu", y)
    return net, net.conv(y, 3)


def test_which_layer_is_meant():
    net, y = two_convolutions()
    model = net.model(y)
    tensor = np.ones((3, 2, 3, 3), np.float32)
    for name in ("the_conv3", "conv3", "0"):
        assert set_kernel(model, name, tensor, Wanted("OIHW")).place.name == "the_conv3"
    with pytest.raises(FileError, match="only a convolution's kernel is set, but this is Relu"):
        set_kernel(model, "the_relu4", tensor, Wanted("OIHW"))
    with pytest.raises(FileError, match="this is Relu"):
        set_kernel(model, "1", tensor, Wanted("OIHW"))
    with pytest.raises(RequestError, match=r"counted from 0 to 2, there is no 3"):
        set_kernel(model, "3", tensor, Wanted("OIHW"))
    with pytest.raises(RequestError, match="there is no layer 'cnv3'; convolutions are the_conv3"):
        set_kernel(model, "cnv3", tensor, Wanted("OIHW"))


def test_a_bias_must_have_a_value_a_filter():
    net, y = two_convolutions()
    tensor = np.ones((3, 3, 2), np.float32)
    with pytest.raises(FileError, match=r"one value a filter: 1, but the convolution's own has 3"):
        set_kernel(net.model(y), "0", tensor, Wanted("HWC", "single"))
    with pytest.raises(FileError, match=r"one value a filter: 3, but the one given is 2"):
        set_kernel(net.model(y), "0", np.ones((3, 2, 3, 3)), Wanted("OIHW", bias=np.ones(2)))


def test_a_network_that_needs_the_old_filters_is_refused():
    net, y = two_convolutions()
    with pytest.raises(FileError, match="kernel 3x3x3x3 reads 3 channels, but it would get 1"):
        set_kernel(net.model(y), "0", np.ones((3, 3, 2), np.float32), Wanted("HWC", "single", bias="zero"))


def test_a_group_that_does_not_divide():
    net, y = two_convolutions()
    model = net.model(y)
    model.proto.graph.node[0].attribute.append(onnx.helper.make_attribute("group", 2))
    with pytest.raises(FileError, match="2 does not divide 3"):
        set_kernel(model, "0", np.ones((3, 2, 3, 3), np.float32), Wanted("OIHW"))


def test_channels_that_do_not_fit_the_input():
    net = Net((None, 2, 9, 8))
    y = net("Conv", "x", net.weight(3, 4, 3, 3))
    with pytest.raises(FileError, match=r"reads 4 channels, but the input is \?x2x9x8"):
        set_kernel(net.model(y), "0", np.ones((3, 4, 3, 3), np.float32), Wanted("OIHW"))


def test_a_bias_that_is_computed_cannot_be_folded():
    net = Net((3, 2, 9, 8))
    bias = net("ReduceMean", "x", axes=[0, 2, 3], keepdims=0)
    y = net("Conv", "x", net.weight(2, 2, 3, 3), bias)
    tensor = np.ones((3, 2, 2, 3, 3), np.float32)
    with pytest.raises(FileError, match="the bias must be constant"):
        set_kernel(net.model(y), "1", tensor, Wanted("OIHW", batch=3))
    set_kernel(net.model(y), "1", tensor[0], Wanted("OIHW"))


def test_a_value_that_depends_on_the_convolution_itself():
    net, y = two_convolutions()
    with pytest.raises(FileError, match="its own output"):
        connect_kernel(
            net.model(y), "0", "relu4", Wanted("CHW", "single", batch=1, bias="zero")
        ) if False else (cycle())


def cycle():
    net = Net((1, 2, 4, 4))
    y = net("Conv", "x", net.weight(2, 2, 3, 3), pads=[1, 1, 1, 1])
    return connect_kernel(net.model(net("Relu", y)), "0", y, Wanted("CHW", "single"))


@pytest.mark.parametrize(
    ("value", "words"),
    [("nothing", "there is no value 'nothing'"), ("x", r"the value 'x' is \?x2x\?x8")],
)
def test_a_value_that_cannot_be_a_kernel(value, words):
    net = Net((None, 2, None, 8))
    y = net.conv("x", 3)
    with pytest.raises(FileError, match=words):
        connect_kernel(net.model(y), "0", value, Wanted("CHW", "single", bias="zero"))


def test_the_samples_must_be_as_many_as_the_batch():
    net, y = two_convolutions()
    with pytest.raises(FileError, match=r"2 of them, but the tensor is 3x3x2x3x3"):
        set_kernel(net.model(y), "0", np.ones((3, 3, 2, 3, 3), np.float32), Wanted("OIHW", batch=2))
    fixed = Net((4, 2, 9, 8))
    with pytest.raises(RequestError, match="--batch is 2, but the convolution's input has 4 samples"):
        set_kernel(fixed.model(fixed.conv("x")), "0", np.ones((2, 3, 2, 3, 3)), Wanted("OIHW", batch=2))


def test_values_that_the_network_cannot_hold():
    net, y = two_convolutions()
    with pytest.raises(FileError, match="float32, which does not hold the tensor's float64"):
        set_kernel(net.model(y), "0", np.full((3, 2, 3, 3), 1e300), Wanted("OIHW"))
    rounded = set_kernel(net.model(y), "0", np.full((3, 2, 3, 3), 0.1), Wanted("OIHW"))
    assert rounded.rounded == "float64"


def test_a_weight_that_others_read_stays():
    net = Net((None, 2, 9, 8))
    weight = net.weight(2, 2, 3, 3)
    y = net("Conv", net("Conv", "x", weight), weight)
    made = set_kernel(net.model(y), "0", np.ones((2, 2, 3, 3), np.float32), Wanted("OIHW")).model
    first, second = made.proto.graph.node
    assert first.input[1] == "the_conv2/kernel"
    assert second.input[1] == weight
    assert np.array_equal(numpy_helper.to_array(made.initializers()[weight]), net.tensors[weight])
