"""Random small networks of one input, whose values are positive: all that a layer reads moves what it gives."""

from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from dense2conv.convert.model import Model

from .runtime import DROPS, LEAVES_OUT_EVENLY, run

CHANNELS = 2


@dataclass
class Builder:
    """A random network of ``rank`` axes; ``kinds``, ``branched`` and ``mirrored`` say what came into it."""

    random: Random
    rank: int
    kinds: list[str] = field(default_factory=list)
    branched: bool = False
    mirrored: bool = False

    def __post_init__(self) -> None:
        self.sizes = tuple(self.random.randint(*((16, 48), (8, 14))[self.rank - 1]) for _ in range(self.rank))
        self.nodes: list[NodeProto] = []
        self.tensors: list[TensorProto] = []
        self.weights = np.random.default_rng(self.random.randrange(1 << 30))

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node; its name is its output's."""
        name = f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def tensor(self, values: Any, kind: type) -> str:
        self.tensors.append(numpy_helper.from_array(np.asarray(values, kind), f"w{len(self.tensors)}"))
        return self.tensors[-1].name

    def integers(self, *values: int) -> str:
        return self.tensor(values, np.int64)

    def numbers(self, low: int, high: int) -> list[int]:
        return [self.random.randint(low, high) for _ in range(self.rank)]

    def weight(self, *shape: int) -> str:
        """Positive numbers that keep values of 1 about 1."""
        values = self.weights.uniform(0.5, 1.5, shape) / np.prod(shape[1:])
        return self.tensor(values, np.float32)

    def conv(self, x: str) -> str:
        kernel = self.numbers(1, 4)
        given: dict[str, Any] = {"strides": self.numbers(1, self.random.choice((1, 1, 3)))}
        if self.random.random() < 0.3:
            given["dilations"] = self.numbers(1, 3)
            given["pads"] = self.numbers(0, 2) + self.numbers(0, 2)
        elif self.random.random() < 0.5:
            given["auto_pad"] = self.random.choice(("SAME_UPPER", "SAME_LOWER"))
            if not LEAVES_OUT_EVENLY:
                given["strides"] = [1] * self.rank
        else:
            given["pads"] = self.numbers(0, 3) + self.numbers(0, 3)
        group = self.random.choice((1, CHANNELS))
        return self.node("Conv", x, self.weight(CHANNELS, CHANNELS // group, *kernel), group=group, **given)

    def pool(self, x: str) -> str:
        operator = self.random.choice(("MaxPool", "AveragePool", "LpPool"))
        kernel = self.numbers(1, 3)
        given: dict[str, Any] = {
            "strides": self.numbers(1, 3),
            "ceil_mode": self.random.randint(0, 1) if DROPS else 0,
        }
        if self.random.random() < 0.3:
            given["auto_pad"] = self.random.choice(("SAME_UPPER", "SAME_LOWER"))
        else:
            given["pads"] = [self.random.randint(0, k - 1) for k in kernel * 2]
            given["dilations"] = self.numbers(1, self.random.choice((1, 1, 2)))
        return self.node(operator, x, kernel_shape=kernel, **given)

    def transposed(self, x: str) -> str:
        kernel, strides = self.numbers(1, 4), self.numbers(1, 2)
        given: dict[str, Any] = {"strides": strides}
        if self.random.random() < 0.4:
            given["auto_pad"] = self.random.choice(("SAME_UPPER", "SAME_LOWER"))
        else:
            given["pads"] = self.numbers(0, 1) + self.numbers(0, 1)
            given["output_padding"] = [self.random.randint(0, s - 1) for s in strides]
        return self.node("ConvTranspose", x, self.weight(CHANNELS, CHANNELS, *kernel), **given)

    def upsampling(self, x: str) -> str:
        scales = self.tensor([1, 1, *self.numbers(1, 2)], np.float32)
        mode = self.random.choice(("nearest", "nearest", "linear"))
        where = self.random.choice(("asymmetric", "half_pixel"))
        given = {"nearest_mode": "floor"} if where == "asymmetric" else {}
        return self.node("Resize", x, "", scales, mode=mode, coordinate_transformation_mode=where, **given)

    def crop(self, x: str) -> str:
        axes = self.integers(*range(2, 2 + self.rank))
        starts, ends = self.integers(*self.numbers(0, 2)), self.integers(*self.numbers(-2, -1))
        return self.node("Slice", x, starts, ends, axes)

    def pad(self, x: str) -> str:
        pads = self.integers(0, 0, *self.numbers(0, 2), 0, 0, *self.numbers(0, 2))
        mode = "constant" if self.mirrored else self.random.choice(("constant", "reflect", "edge"))
        self.mirrored |= mode != "constant"  # once: a mirror's mirror image looks like what is inside
        return self.node("Pad", x, pads, mode=mode)

    def pointwise(self, x: str) -> str:
        return self.node(self.random.choice(("Relu", "Softplus")), x)

    def branches(self, x: str) -> str:
        """Two ways of one stride, through windows of their own; what one makes smaller, the other crops."""
        self.branched = True
        lost = self.numbers(2, 4)
        stride = self.random.choice((1, 1, 2))
        ways = [self._way(x, lost, stride), self._way(x, lost, stride)]
        if self.random.random() < 0.5:
            return self.node("Add", *ways)
        joined = self.node("Concat", *ways, axis=1)
        return self.node("Conv", joined, self.weight(CHANNELS, 2 * CHANNELS, *[1] * self.rank))

    def _way(self, x: str, lost: list[int], stride: int) -> str:
        """A convolution after which ``lost`` elements are gone on each axis, and then a pool with ``stride``."""
        kernel = [self.random.randint(1, n + 1) for n in lost]
        rest = [n - k + 1 for n, k in zip(lost, kernel, strict=True)]
        before = [self.random.randint(0, n) for n in rest]
        ends = [b - r if b < r else 1 << 30 for b, r in zip(before, rest, strict=True)]
        axes = self.integers(*range(2, 2 + self.rank))
        y = self.node("Slice", x, self.integers(*before), self.integers(*ends), axes)
        y = self.node("Conv", y, self.weight(CHANNELS, CHANNELS, *kernel))
        size = [stride] * self.rank
        if self.random.random() < 0.5:
            return self.node("AveragePool", y, kernel_shape=size, strides=size)
        return self.node("Conv", y, self.weight(CHANNELS, CHANNELS, *size), strides=size)

    def head(self, x: str) -> str:
        return self.node("GlobalAveragePool", x)

    def build(self) -> Model:
        x = "x"
        ways = ("conv", "conv", "pool", "transposed", "upsampling", "crop", "pad", "pointwise", "branches")
        kinds = self.random.choices(ways, k=self.random.randint(2, 5))
        for kind in [*kinds, "head"]:
            if kind == "head" and self.random.random() < 0.8:
                continue
            count = len(self.nodes)
            y = getattr(self, kind)(x)
            # Layer by layer, because onnx's inference ends the process where a Slice reads fewer than no elements.
            outputs = run(self.model(y).proto, np.ones((1, CHANNELS, *self.sizes), np.float32))
            # The maximum of pads alone is the least number, their mean is none: nothing could be seen behind them.
            if outputs is None or not outputs[0].size or not (np.abs(outputs[0]) < 1e6).all():
                del self.nodes[count:]
                continue
            self.kinds.append(kind)
            x = y
        return self.model(*(node.output[0] for node in self.nodes))

    def model(self, *outputs: str) -> Model:
        shape = ["batch", CHANNELS, *self.sizes]
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.tensors,
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
        return Model(proto)
