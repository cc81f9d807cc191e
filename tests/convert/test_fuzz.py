"""Random networks, by seed: each map is held against brute force, and its verdict against what was measured.

A network is a trunk of random layers (any stride, pad, dilation, remainder, branch, layout and operator set) with a
random head. Where ONNX Runtime itself cannot run it, or the patch has become too small for a layer, the layer is left
out while the network is made.
"""

import numpy as np
import pytest

from dense2conv.convert.conversion import convert

from .nets import (
    GONE,
    Net,
    assert_sound,
    difference,
    noise,
    on_the_map,
    run,
    scan,
    serialised,
    uneven,
)  # fmt: skip

QUICK, SLOW = 40, 600
OPSETS = (7, 8, 9, 10, 11, 12, 13, 15, 17, 18, 20, 22)


class Maker:
    """Draws a network; ``shape`` is always (C, *spatial) of the value at hand, as plain integer arithmetic has it."""

    def __init__(self, seed):
        self.random = np.random.default_rng([20, seed])
        self.rank = int(self.choice([1, 2, 2, 2, 3]))
        self.opset = int(self.choice(OPSETS))
        self.last = self.chance(0.3)
        self.padded = self.chance(0.3)
        channels = int(self.choice([1, 2, 3]))
        low, high = {1: (12, 40), 2: (9, 18), 3: (6, 10)}[self.rank]
        self.patch = tuple(int(self.random.integers(low, high + 1)) for _ in range(self.rank))
        shape = (*self.patch, channels) if self.last else (channels, *self.patch)
        self.axes = tuple(range(1, self.rank + 1)) if self.last else tuple(range(2, self.rank + 2))
        self.net = Net((None, *shape), opset=self.opset, seed=seed + 1)
        self.start = (channels, *self.patch)

    def choice(self, values):
        return values[int(self.random.integers(len(values)))]

    def chance(self, probability):
        return bool(self.random.random() < probability)

    def each(self, low, high):
        return [int(v) for v in self.random.integers(low, high + 1, self.rank)]

    def pads(self, extent):
        """Random pads, each below half the window, or none."""
        if not self.padded or self.chance(0.4):
            return [0] * 2 * self.rank
        return [int(self.random.integers(0, (e + 1) // 2 + 1)) if e > 1 else 0 for e in (*extent, *extent)]

    def window(self, shape, *, dilated=True, strides=3):
        """A window that leaves at least 2 positions on each axis (None where there is no room)."""
        kernel, stride = self.each(1, 4), self.each(1, strides)
        dilation = self.each(1, 2) if dilated and self.chance(0.3) else [1] * self.rank
        extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        pads = self.pads(kernel)
        ends = zip(pads[: self.rank], pads[self.rank :], strict=True)
        room = [n + b + e for n, (b, e) in zip(shape[1:], ends, strict=True)]
        out = [(n - x) // s + 1 for n, x, s in zip(room, extent, stride, strict=True)]
        return (kernel, stride, dilation, pads, out) if min(out) >= 2 else None

    def conv(self, x, shape, out=None, drawn=None):
        drawn = drawn or self.window(shape)
        if drawn is None:
            return x, shape
        kernel, stride, dilation, pads, size = drawn
        group = shape[0] if shape[0] > 1 and self.chance(0.2) else 1
        count = out or int(self.choice([2, 3, 4, 6]))
        if group > 1:
            count = out if out and out % group == 0 else group
            group = group if count % group == 0 else 1
        own = {"strides": stride, "pads": pads, "dilations": dilation}
        y = self.net.conv(
            x, out=count, kernel=kernel, channels=shape[0], group=group, bias=self.chance(0.7), **own
        )
        return y, (count, *size)

    def pool(self, x, shape):
        kind = self.choice(["MaxPool", "MaxPool", "AveragePool", "LpPool"])
        drawn = self.window(shape, dilated=kind == "MaxPool" and self.opset >= 10)
        if drawn is None:
            return x, shape
        kernel, stride, dilation, pads, size = drawn
        own = {"kernel_shape": kernel, "strides": stride, "pads": pads}
        if max(dilation) > 1:
            own["dilations"] = dilation
        if kind == "AveragePool" and self.chance(0.5):
            own["count_include_pad"] = 1
        elif self.padded and kind != "LpPool" and self.opset >= 10 and self.chance(0.5):
            # One window more, where it starts in the pool's input; where it does not, onnx's own inference differs
            # from what ONNX Runtime computes, and the network does not load.
            extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
            ends = zip(shape[1:], pads[: self.rank], pads[self.rank :], extent, stride, strict=True)
            more = [-(-(n + b + e - x) // s) + 1 for n, b, e, x, s in ends]
            if all((m - 1) * s < n + b for m, s, n, b in zip(more, stride, shape[1:], pads, strict=False)):
                own["ceil_mode"], size = 1, more
        return self.net(kind, x, **own), (shape[0], *size)

    def same(self, x, shape):
        """A convolution or a pool with auto_pad; in a network without padding, VALID."""
        if min(shape[1:]) < 6:
            return x, shape
        kernel, stride = (
            self.each(2, 4),
            self.each(1, 2),
        )  # ONNX Runtime has no SAME pool of stride above kernel
        size = [-(-n // s) for n, s in zip(shape[1:], stride, strict=True)]
        kind = self.choice(["SAME_UPPER", "SAME_LOWER"])
        if not self.padded:
            kind = "VALID"
            size = [(n - k) // s + 1 for n, k, s in zip(shape[1:], kernel, stride, strict=True)]
        if self.chance(0.5):
            y = self.net("MaxPool", x, kernel_shape=kernel, strides=stride, auto_pad=kind)
            return y, (shape[0], *size)
        y = self.net.conv(x, out=3, kernel=kernel, channels=shape[0], strides=stride, auto_pad=kind)
        return y, (3, *size)

    def pad(self, x, shape):
        """Pad: crops where it is negative, and adds zeros, or the image's own border, in a padded network."""
        if min(shape[1:]) < 6:
            return x, shape
        amounts = [int(v) for v in self.random.integers(-1, 3 if self.padded else 1, 2 * self.rank)]
        size = [n + b + e for n, b, e in zip(shape[1:], amounts, amounts[self.rank :], strict=False)]
        widths = [0, 0, *amounts[: self.rank], 0, 0, *amounts[self.rank :]]
        mode = self.choice(["constant", "edge", "reflect"]) if min(amounts) >= 0 else "constant"
        if self.opset < 11:
            return self.net("Pad", x, pads=widths, mode=mode), (shape[0], *size)
        return self.net("Pad", x, self.net.integers(*widths), mode=mode), (shape[0], *size)

    def pointwise(self, x, shape):
        net, kind = self.net, self.choice(["Relu", "Tanh", "LeakyRelu", "norm", "scale", "PRelu", "gate"])
        ones = (1,) * self.rank
        if kind == "norm":
            constants = [net.weight(shape[0], fan=1) for _ in range(3)]
            variance = net.tensor(self.random.uniform(0.5, 2, shape[0]), np.float32)
            return net("BatchNormalization", x, *constants, variance), shape
        if kind == "scale":
            return net("Mul", x, net.weight(shape[0], *ones, fan=1)), shape
        if kind == "PRelu":
            return net("PRelu", x, net.weight(shape[0], *ones, fan=1)), shape
        if kind == "gate":
            return net("Mul", x, net("Sigmoid", net.conv(x, out=1, kernel=1, channels=shape[0]))), shape
        return net(kind, x), shape

    def branches(self, x, shape):
        """Two branches of the same windows, with other layers, joined or added."""
        drawn = self.window(shape, dilated=False)
        if drawn is None:
            return x, shape
        kernel, stride, dilation, pads, size = drawn
        a, left = self.conv(x, shape, out=shape[0], drawn=drawn)
        other = (kernel, stride, dilation, [0] * 2 * self.rank, size)
        if self.chance(0.5) and not any(pads):
            b = self.net("MaxPool", x, kernel_shape=kernel, strides=stride)
            right = (shape[0], *size)
        else:
            b, right = self.conv(x, shape, out=shape[0], drawn=other if not any(pads) else drawn)
        if left[0] == right[0] and self.chance(0.5):
            return self.net("Add", a, b), left
        return self.net("Concat", a, b, axis=1), (left[0] + right[0], *left[1:])

    def residual(self, x, shape):
        """A valid convolution and its input, cropped to meet it."""
        if min(shape[1:]) < 5:
            return x, shape
        k = self.choice([2, 3])
        y = self.net.conv(x, out=shape[0], kernel=k, channels=shape[0])
        before, after = (k - 1) // 2, k - 1 - (k - 1) // 2
        axes = list(range(2, self.rank + 2))
        ends = [n - after for n in shape[1:]] if self.chance(0.5) else [-after] * self.rank
        return self.net("Add", y, self.slice(x, [before] * self.rank, ends, axes)), (
            shape[0],
            *(n - k + 1 for n in shape[1:]),
        )

    def slice(self, x, starts, ends, axes):
        if self.opset >= 10:
            return self.net("Slice", x, *(self.net.integers(*v) for v in (starts, ends, axes)))
        return self.net("Slice", x, starts=starts, ends=ends, axes=axes)

    def crop(self, x, shape):
        if min(shape[1:]) < 5:
            return x, shape
        starts, ends = self.each(0, 1), [-n for n in self.each(1, 2)]
        out = tuple(n - b + e for n, b, e in zip(shape[1:], starts, ends, strict=True))
        return self.slice(x, starts, ends, list(range(2, self.rank + 2))), (shape[0], *out)

    def shuffle(self, x, shape):
        if shape[0] % 2 or shape[0] < 4:
            return x, shape
        apart = self.net("Reshape", x, self.net.integers(-1, 2, shape[0] // 2, *shape[1:]))
        mixed = self.net("Transpose", apart, perm=[0, 2, 1, *range(3, self.rank + 3)])
        return self.net("Reshape", mixed, self.net.integers(-1, *shape)), shape

    def detour(self, x, shape):
        """Channels last and back, with an operator in between."""
        there, back = [0, *range(2, self.rank + 2), 1], [0, self.rank + 1, *range(1, self.rank + 1)]
        y = self.net("Transpose", x, perm=there)
        y = self.net("Add", self.net("Tanh", y), self.net.weight(shape[0], fan=1))
        if self.chance(0.5):
            y = self.net("MatMul", y, self.net.weight(shape[0], shape[0], fan=shape[0]))
        return self.net("Transpose", y, perm=back), shape

    def flat(self, x, shape):
        """Flatten in one of its spellings; the value and its features."""
        if self.chance(0.5):
            order = [int(i) for i in 1 + self.random.permutation(self.rank + 1)]
            x = self.net("Transpose", x, perm=[0, *order])
        count = int(np.prod(shape))
        if self.chance(0.5):
            return self.net(
                "Reshape", x, self.net.integers(*self.choice([(-1, count), (0, -1), (0, count)]))
            ), count
        return self.net("Flatten", x), count

    def head(self, x, shape):
        kind = self.choice(["dense", "dense", "dense", "pool", "branches", "convolution", "rows"])
        net = self.net
        if kind == "pool":
            y = net(self.choice(["GlobalAveragePool", "GlobalMaxPool"]), x)
            y, count = net("Flatten", y), shape[0]
        elif kind == "convolution":
            y = net.conv(x, out=5, kernel=shape[1:], channels=shape[0])
            y, count = net("Flatten", y), 5
        elif kind == "rows" and self.opset < 18:
            y = net(self.choice(["ReduceMean", "ReduceMax"]), x, axes=[2], keepdims=0)
            y, count = net("Flatten", y), shape[0] * int(np.prod(shape[2:]))
        elif kind == "branches":
            z, deeper = self.pool(x, shape)
            (a, m), (b, n) = self.flat(x, shape), self.flat(z, deeper)
            y, count = net("Concat", a, b, axis=1), m + n
        else:
            y, count = self.flat(x, shape)
        units = int(self.choice([1, 3, 5]))
        if self.chance(0.5):
            y = net("Gemm", y, net.weight(units, count), net.weight(units, fan=1), transB=1)
        else:
            y = net("Add", net("MatMul", y, net.weight(count, units, fan=count)), net.weight(units, fan=1))
        return y, units

    def behind(self, y, units):
        net = self.net
        for _ in range(int(self.random.integers(0, 3))):
            kind = self.choice(["Tanh", "bias", "dense", "softmax", "norm"])
            if kind == "bias":
                y = net("Mul", y, net.weight(units, fan=1))
            elif kind == "dense":
                y, units = net.dense(y, 4, inputs=units), 4
            elif kind == "softmax" and units > 1:
                y = net("Softmax", y, axis=1)
            elif kind == "norm":
                constants = [net.weight(units, fan=1) for _ in range(3)]
                y = net("BatchNormalization", y, *constants, net.tensor(np.ones(units), np.float32))
            else:
                y = net("Tanh", y)
        return y

    def make(self):
        x, shape = "x", self.start
        if self.last:
            x = self.net("Transpose", x, perm=[0, self.rank + 1, *range(1, self.rank + 1)])
        layers = [self.conv, self.conv, self.pool, self.pointwise, self.branches, self.residual, self.crop,
                  self.shuffle, self.detour, self.same, self.pad]  # fmt: skip
        x, shape = self.conv(x, shape, drawn=([2] * self.rank, [1] * self.rank, [1] * self.rank,
                                              [0] * 2 * self.rank, [n - 1 for n in shape[1:]]))  # fmt: skip
        outputs = []
        for _ in range(int(self.random.integers(1, 6))):
            x, shape = self.choice(layers)(x, shape)
            if self.chance(0.1):
                outputs.append(self.behind(*self.head(x, shape)))
        outputs.append(self.behind(*self.head(x, shape)))
        return self.net.model(*dict.fromkeys(outputs))


def figures(model, data, patch, stride, axes, last, size, seed=5):
    """For each output the difference between the map and the scan on an input of ``size``."""
    image = noise(model, size, axes, seed)
    expected, found = scan(model, image, patch, stride, axes), run(data, image)
    return {
        name: difference(on_the_map(found[name], last, len(patch)), array) for name, array in expected.items()
    }


def hold(seed):
    """One random network: its map, its verdict and its patch-sized map."""
    maker = Maker(seed)
    model = maker.make()
    conversion = convert(model)
    analysis = conversion.analysis
    assert analysis.exactness in ("exact", "border effect")
    assert analysis.patch == maker.patch
    data = serialised(conversion.map)
    assert_sound(data, gone=GONE)
    shared = (maker.patch, conversion.stride, maker.axes, maker.last)
    at_patch = figures(model, data, *shared, maker.patch)
    assert max(at_patch.values()) < 1e-5, at_patch
    size = uneven(maker.patch, conversion.stride)
    larger = figures(model, data, *shared, size)
    if analysis.exactness == "exact":
        assert max(larger.values()) < 1e-5, larger
    else:
        assert maker.padded
        # Both ways: a border effect that no input shows would be a false alarm. (A maximum shows it now and then.)
        images = range(6, 30)
        assert any(max(figures(model, data, *shared, size, seed).values()) > 1e-5 for seed in images)
    return conversion, maker, model


@pytest.mark.parametrize("seed", range(QUICK))
def test_random_networks(seed):
    hold(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(QUICK, QUICK + SLOW))
def test_many_random_networks(seed):
    conversion, maker, model = hold(seed)
    data = {}
    for factor in (2, 3):
        stride = tuple(s * factor for s in conversion.stride)
        made = convert(model, stride=stride)
        data[factor] = figures(
            model,
            serialised(made.map),
            maker.patch,
            stride,
            maker.axes,
            maker.last,
            uneven(maker.patch, stride),
        )
        if conversion.exactness == "exact":
            assert max(data[factor].values()) < 1e-5


@pytest.mark.parametrize("seed", range(0, QUICK, 4))
def test_random_networks_patch_by_patch(seed):
    """Bit for bit what the network gives for the same patches in one batch, padded or not."""
    maker = Maker(seed)
    model = maker.make()
    size = [2 * p + 1 for p in maker.patch]
    # Before operator set 9 no graph can crop to a size that it computes.
    conversion = convert(model, method="patches", stride="patch", size=size if maker.opset < 9 else None)
    assert conversion.exactness == "exact"
    found = run(serialised(conversion.map), noise(model, size, maker.axes))
    expected = scan(model, noise(model, size, maker.axes), maker.patch, maker.patch, maker.axes)
    for name, array in expected.items():
        laid = on_the_map(found[name], maker.last, len(maker.patch))
        assert difference(laid, array) < 1e-6


@pytest.mark.parametrize("seed", range(1, QUICK, 4))
def test_random_networks_on_patches_at_any_stride(seed):
    """The network's own crops, padded or not, at a stride that has nothing to do with its own."""
    maker = Maker(seed)
    model = maker.make()
    random = np.random.default_rng(seed)
    stride = tuple(int(random.integers(1, p + 4)) for p in maker.patch)
    size = uneven(maker.patch, stride)
    image = noise(model, size, maker.axes)
    # Before operator set 9 no graph can count to a number that it computes.
    fixed = {"size": size, "batch": len(image)} if maker.opset < 9 else {}
    conversion = convert(model, method="patches", stride=stride, **fixed)
    assert conversion.exactness == "exact"
    expected = scan(model, image, maker.patch, stride, maker.axes)
    found = run(serialised(conversion.map), image)
    for name, array in expected.items():
        assert difference(on_the_map(found[name], maker.last, len(maker.patch)), array) < 2e-6


def test_the_fuzz_finds_what_it_is_for():
    """Networks of every kind are among the quick ones, and a wrong map is seen."""
    makers = [Maker(seed) for seed in range(QUICK)]
    assert {m.rank for m in makers} == {1, 2, 3}
    assert {m.last for m in makers} == {m.padded for m in makers} == {True, False}
    verdicts = [convert(m.make()).exactness for m in makers]
    assert verdicts.count("border effect") >= 3
    assert verdicts.count("exact") >= 20
    maker = next(m for m, v in zip(map(Maker, range(QUICK)), verdicts, strict=True) if v == "exact")
    model = maker.make()
    conversion = convert(model)
    wrong = conversion.map
    for name in list(wrong.weights):
        wrong.weights[name] = np.flip(wrong.weights[name], -1)
    for tensor in wrong.proto.graph.initializer:
        if tensor.raw_data and len(tensor.dims) > 2:
            tensor.raw_data = np.frombuffer(tensor.raw_data, np.float32)[::-1].tobytes()
    size = uneven(maker.patch, conversion.stride)
    shared = (maker.patch, conversion.stride, maker.axes, maker.last)
    assert max(figures(model, serialised(wrong), *shared, size).values()) > 1e-3
