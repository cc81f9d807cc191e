"""A map of one spatial axis, computed in two: ONNX Runtime's fast kernels (NCHWc) are two-dimensional.

    (N, C, T)  Unsqueeze  (N, C, 1, T)   windows (1, k) in place of (k,), kernels (O, I, 1, k)   Squeeze  (N, D, T)

The values in between stay in two dimensions, so that a chain of layers pays for the change once. What is not in the
tables below runs in one dimension as before, between a Squeeze and an Unsqueeze. Kernels get an axis of one element, a
view: they stay bit for bit what they were.

When it is done was measured once (ONNX Runtime 1.32, a shared Zen 4, one thread, 30,000 steps, least of 7 runs, ms):

    Conv of channels, kernel        in one    in two
    10 -> 64, 100, stride 1          19.5      15.5
    10 -> 64, 100, stride 100         0.26      0.16
    32 -> 64, 5                       3.8       3.2
    16 -> 16, 3                       0.43      0.34
    6 -> 10, 5                        0.21      0.25
    1 -> 8, 9                         0.07      0.10
    32 -> 10, 1                       0.16      0.28
    network of 4, with two pools      9.8       6.8    at its own stride of 4
                                     32.4      23.7    at stride 1
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from onnx import NodeProto, helper, numpy_helper

from .constants import attributes
from .graph import Builder
from .kernel import Rearrangement
from .operators import BROADCASTING, ELEMENTWISE
from .ops.pooling import BLOCK

_WINDOWS = ("Conv", "MaxPool", "AveragePool", "LpPool")
_ALIKE = (*ELEMENTWISE, "BatchNormalization", "Dropout", "Identity", "LRN")
_CHANNELS = ("ArgMax", "ArgMin", "Concat", "Gather", "Hardmax", "LogSoftmax", "Softmax", "Split", "TopK")
"""Along axis 1 they do the same in any number of dimensions (the softmaxes: from operator set 13 on)."""

_AXIS = 2  # where the new axis stands


def worth_lifting(builder: Builder) -> bool:
    """Whether a convolution of the map fills a block of channels and reads more than one step: the measured rule."""
    shapes = (_shape(builder, node.input[1]) for node in builder.nodes if node.op_type == "Conv")
    return any(shape and shape[0] % BLOCK == 0 and shape[2:] > (1,) for shape in shapes)


def lift(builder: Builder, source: str, outputs: Sequence[str]) -> None:
    """Rewrite the builder's nodes, a map of one spatial axis on ``source``, into two; ``outputs`` keep their one."""
    nodes, builder.nodes = builder.nodes, []
    lifting = _Lifting(builder, source, nodes)
    for node in nodes:
        lifting.append(node, set(outputs))


def _shape(builder: Builder, name: str) -> tuple[int, ...] | None:
    """Return a constant's shape; None of what a node computes."""
    if name in builder.tensors:
        return tuple(builder.tensors[name].dims)
    return builder.constants.value(name).shape if builder.constants.known(name) else None


class _Lifting:
    def __init__(self, builder: Builder, source: str, nodes: Sequence[NodeProto]) -> None:
        self.builder = builder
        self.computed = {source}  # from the input
        self.flat = {source}  # values that are there in one dimension
        self.lifted: dict[str, str] = {}  # their names in two
        # Constants that something else reads than a convolution as its kernel.
        self.read_elsewhere = {
            n for node in nodes for i, n in enumerate(node.input) if (node.op_type, i) != ("Conv", 1)
        }

    def append(self, node: NodeProto, outputs: set[str]) -> None:
        data = [i for i, name in enumerate(node.input) if name in self.computed]
        if not data:  # of constants alone, such as a kernel
            self.builder.nodes.append(node)
            return
        self.builder.layer = node.name
        self.computed.update(node.output)
        if not self._lifts(node, data):
            for i in data:
                node.input[i] = self._in_one(node.input[i])
            self.builder.nodes.append(node)
            self.flat.update(node.output)
            return
        for i in data:
            node.input[i] = self._in_two(node.input[i])
        self._settings(node, data)
        kept = [name for name in node.output if name in outputs]
        for i, name in enumerate(node.output):
            if name in kept:
                node.output[i] = self.lifted[name] = self.builder.fresh(f"{name}/in_two")
            elif name:
                self.lifted[name] = name
        self.builder.nodes.append(node)
        for name in kept:
            self._squeeze(self.lifted[name], name)

    def _in_one(self, name: str) -> str:
        if name not in self.flat:
            one = self.builder.fresh(f"{name}/in_one")
            self._squeeze(name, one)
            self.flat.add(one)
            return one
        return name

    def _in_two(self, name: str) -> str:
        if name not in self.lifted:
            self.lifted[name] = self.builder.axes_operand("Unsqueeze", name, [_AXIS])
        return self.lifted[name]

    def _squeeze(self, name: str, output: str) -> None:
        self.builder.axes_operand("Squeeze", name, [_AXIS], output=output)
        self.flat.add(output)

    def _lifts(self, node: NodeProto, data: Sequence[int]) -> bool:
        """Whether the node does the same in two dimensions, its settings changed by ``_settings``."""
        given = attributes(node)
        if node.domain not in ("", "ai.onnx"):
            return False
        if node.op_type == "Conv":
            return data == [0] and self._owned(node.input[1])
        if node.op_type in _CHANNELS:
            softmax = node.op_type.endswith("ax") and not node.op_type.startswith("Arg")
            return given.get("axis") == 1 and (not softmax or self.builder.opset >= 13)
        if node.op_type == "Slice":
            return data == [0]
        if node.op_type in BROADCASTING:  # a constant that nodes compute has a shape that is not known here
            constants = [name for i, name in enumerate(node.input) if name and i not in data]
            return all(_shape(self.builder, name) is not None for name in constants)
        return node.op_type in _WINDOWS or node.op_type in _ALIKE

    def _owned(self, weight: str) -> bool:
        """Whether a rewritten kernel is read by convolutions only, so that its own shape may change."""
        return weight not in self.builder.tensors or weight not in self.read_elsewhere

    def _settings(self, node: NodeProto, data: Sequence[int]) -> None:
        if node.op_type in _WINDOWS:
            _widen(node)
        if node.op_type == "Conv":
            node.input[1] = self._kernel(node.input[1])
        elif node.op_type == "Slice":
            self._slice(node)
        elif node.op_type in BROADCASTING:
            for i, name in enumerate(node.input):
                if i not in data and name:
                    node.input[i] = self._constant(name)

    def _kernel(self, name: str) -> str:
        """Return a kernel ``(O, I, k)`` as ``(O, I, 1, k)``."""
        build = self.builder
        shape = _shape(build, name)
        if shape is None:  # computed by nodes of constants: one number repeated, factors taken in
            return build.axes_operand("Unsqueeze", name, [_AXIS])
        if name not in build.tensors:
            return build.rearranged(name, Rearrangement(shape, (0, 1, 2), (*shape[:2], 1, shape[2])))
        if len(shape) == 3:  # else another convolution has been here
            wide = (*shape[:2], 1, shape[2])
            tensor = build.tensors[name]
            del tensor.dims[:]
            tensor.dims.extend(wide)
            if name in build.weights:
                build.weights[name] = build.weights[name].reshape(wide)
            build.rewrites[:] = [
                replace(r, rearrangement=replace(r.rearrangement, result=wide)) if r.target == name else r
                for r in build.rewrites
            ]
        return name

    def _constant(self, name: str) -> str:
        """Return a constant that met ``(N, C, T)`` so that it meets ``(N, C, 1, T)``."""
        shape = _shape(self.builder, name) or ()
        if len(shape) < 2:  # one number for all
            return name
        return self.builder.axes_operand("Unsqueeze", name, [len(shape) - 1])

    def _slice(self, node: NodeProto) -> None:
        """Change the axes: all of them stand there, as ``Builder.slice`` writes them."""
        build = self.builder
        if build.opset < 10:
            _set(node, "axes", [_moved(a) for a in attributes(node)["axes"]])
            return
        axes = [_moved(int(a)) for a in _integers(build, node.input[3])]
        node.input[3] = build.integers(axes, "axes")


def _integers(builder: Builder, name: str) -> list[int]:
    """Return the numbers of a constant that the builder has made."""
    return [int(n) for n in numpy_helper.to_array(builder.tensors[name])]


def _moved(axis: int) -> int:
    return axis + 1 if axis >= _AXIS else axis


def _set(node: NodeProto, name: str, value: Any) -> None:
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def _widen(node: NodeProto) -> None:
    """Give a window a first axis of one element."""
    given = attributes(node)
    for name in ("kernel_shape", "strides", "dilations"):
        if name in given:
            _set(node, name, [1, *given[name]])
    if "pads" in given:
        before, after = given["pads"]
        _set(node, "pads", [0, before, 0, after])
