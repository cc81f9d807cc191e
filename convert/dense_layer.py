"""A dense layer as a network of one convolution, and the proof that the two are the same.

``y[n] = W^T window_n + b`` on every window of an image is one convolution with stride: the proof computes the
left side in numpy, in float64, window by window, and the right side in ONNX Runtime, and compares all
positions. The image is random and larger than the patch by a different amount on each axis, so that a
transposed, flipped or shifted kernel cannot pass. What no proof on numbers can show is in which order the
patch was flattened when the layer was trained: a wrong order gives a consistent pair of another network.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from .compare import Figures, Tolerance, Verdict, compare, tolerance_for
from .errors import NegativeAnswer, RequestError
from .execute import session
from .kernel import dense_to_kernel, kernel_to_dense, units_last
from .model import Model
from .unchanged import same_bytes

Array = NDArray[Any]

OPSET, IR_VERSION = 17, 8  # any ONNX Runtime since 2022 loads it

_AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
_POSITIONS = (3, 2, 4)  # of the proof's map on each axis: different on neighbouring axes
_LARGEST = 2**31 - 2**16  # bytes of a kernel in an ONNX file: protobuf's limit, less the rest
_BLOCK = 1 << 26  # bytes of the weight that the proof computes with at a time


@dataclass(frozen=True)
class DenseLayer:
    """A dense layer on a patch of sizes ``patch``, flattened in ``order``.

    ``weight`` is ``(K, O)``, or ``(O, K)`` where ``weight_layout`` is ``"OK"``; ``bias`` is ``(O,)`` or None.
    """

    weight: Array
    patch: tuple[int, ...]
    order: str
    weight_layout: str = "KO"
    bias: Array | None = None

    def __post_init__(self) -> None:
        if not self.weight.size:
            raise RequestError(f"a dense weight has one value or more, not the shape {self.weight.shape}")
        if self.bias is not None and self.bias.shape != (self.units,):
            raise RequestError(f"a bias has one value a unit: ({self.units},), not {self.bias.shape}")

    @property
    def units(self) -> int:
        """O, the number of outputs."""
        return int(self.weight.shape[self.weight_layout.index("O")])

    @property
    def spatial(self) -> tuple[int, ...]:
        """The patch's sizes without the channels."""
        return tuple(size for size, axis in zip(self.patch, self.order, strict=True) if axis != "C")


def layout_of(shape: Sequence[int], inputs: int) -> str:
    """``KO`` or ``OK``: which axis of a dense weight is as long as the flattened patch.

    Raises ``RequestError`` where neither is, or both are.
    """
    if len(shape) != 2:
        raise RequestError(f"a dense weight has 2 axes, not {len(shape)}: {tuple(shape)}")
    fitting = [layout for layout, size in zip(("KO", "OK"), shape, strict=True) if size == inputs]
    if len(fitting) != 1:
        which = "both are" if fitting else "none is"
        raise RequestError(
            f"one axis of the weight {tuple(shape)} is as long as the patch, {inputs} values, but {which}",
            hint="say which with --weight-layout KO (Keras) or OK (PyTorch)"
            if fitting
            else "is the patch right?",
        )
    return fitting[0]


def correlating(kernel: Array, layout: str, flip: bool) -> Array:
    """A kernel as ONNX's Conv takes it, ``(O, C, *spatial)`` and not flipped: a view."""
    if units_last(layout, kernel.ndim - 2):
        kernel = np.moveaxis(kernel, (-1, -2), (0, 1))  # (*spatial, C, O) -> (O, C, *spatial)
    return kernel[:, :, *(slice(None, None, -1 if flip else 1),) * (kernel.ndim - 2)]


def convolution(kernel: Array, bias: Array | None, stride: Sequence[int]) -> Model:
    """A network of one Conv, input ``patch``, output ``map``: no padding, free batch and spatial axes.

    ``kernel`` is ``(O, C, *spatial)``. Raises ``RequestError`` for a type that ONNX Runtime cannot convolve, and
    for a bias that the kernel's type cannot hold.
    """
    kernel = kernel.astype(kernel.dtype.newbyteorder("="), copy=False)
    data_type = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT}.get(kernel.dtype.name)
    if data_type is None:
        raise RequestError(
            f"ONNX Runtime has no convolution in {kernel.dtype} on the CPU",
            hint="store the weight as float32, or write .npy, .npz or .h5",
        )
    inputs = ["patch", "kernel"]
    tensors = [TensorProto(name="kernel", data_type=data_type, dims=kernel.shape)]
    if bias is not None:
        inputs.append("bias")
        tensors.append(numpy_helper.from_array(_bias_as(bias, kernel.dtype), "bias"))
    spatial = kernel.shape[2:]
    axes = _AXES.get(len(spatial), tuple(f"size{i}" for i in range(len(spatial))))
    node = helper.make_node("Conv", inputs, ["map"], "conv", kernel_shape=spatial, strides=list(stride))
    graph = helper.make_graph(
        [node],
        "dense2conv",
        [helper.make_tensor_value_info("patch", data_type, ["batch", kernel.shape[1], *axes])],
        [
            helper.make_tensor_value_info(
                "map", data_type, ["batch", kernel.shape[0], *(f"map_{axis}" for axis in axes)]
            )
        ],
        tensors,
    )
    proto = helper.make_model(
        graph,
        producer_name="dense2conv",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    return Model(proto, {"kernel": kernel})


def _bias_as(bias: Array, dtype: "np.dtype[Any]") -> Array:
    """The bias in the kernel's type, which ONNX asks of it; ``RequestError`` where that would change a value."""
    with np.errstate(over="ignore"):  # float16 ends at 65,504: what becomes infinite is refused below
        converted = bias.astype(dtype)
    if not np.array_equal(converted.astype(bias.dtype), bias, equal_nan=True):
        raise RequestError(
            f"in ONNX a bias has the kernel's type, and {dtype.name} does not hold its {bias.dtype} values",
            hint="store weight and bias in one type, or write .npz or .h5",
        )
    return converted


def write_model(model: Model, file: BinaryIO) -> None:
    """Write a network of ``convolution``; ``RequestError`` where protobuf's 2 GiB are too few for it."""
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    for tensor in proto.graph.initializer:
        if tensor.name in model.weights:
            weight = model.weights[tensor.name]
            if weight.nbytes > _LARGEST:
                raise RequestError(
                    f"an ONNX file holds up to {_LARGEST} bytes, the kernel has {weight.nbytes}",
                    hint="write .npy, .npz or .h5",
                )
            # ONNX: little-endian, row-major. (bands() hands out one buffer again and again: join() would keep its end.)
            tensor.raw_data = weight.astype(weight.dtype.newbyteorder("<"), copy=False).tobytes()
    file.write(proto.SerializeToString())


def prove(layer: DenseLayer, kernel: Array, layout: str, *, flip: bool, stride: Sequence[int]) -> Figures:
    """Compare the dense layer on every window of a random image with the convolution of ``kernel``.

    Raises ``NegativeAnswer`` unless ``kernel`` and the layer's weight are each the other rearranged, bit for
    bit, the figures are ``equivalent``, and every value counted.
    """
    there = dense_to_kernel(layer.weight, layer.patch, layer.order, layout, flip, layer.weight_layout)
    back = kernel_to_dense(kernel, layer.order, layout, flip, layer.weight_layout)
    if not (same_bytes(there, kernel) and same_bytes(back, layer.weight)):
        raise NegativeAnswer("the kernel, rearranged back, is not the dense weight")
    image = _image(layer, stride)
    expected = _on_every_window(layer, image, stride)  # (positions, O)
    found = _by_convolution(correlating(kernel, layout, flip), layer.bias, image, stride)
    figures = compare(expected, found, Tolerance(tolerance_for(np.float32)))
    if figures.verdict is not Verdict.EQUIVALENT:
        raise NegativeAnswer(
            f"the convolution is not proven to be the dense layer: {figures.reason}",
            hint="nothing was written; does the weight hold values that float32 cannot?",
        )
    if figures.unproven:
        raise NegativeAnswer(
            f"{figures.unproven} of {figures.count} values of the map are NaN or infinite, which proves nothing",
            hint="nothing was written; look for NaN and infinities in the weight and the bias",
        )
    return figures


def _by_convolution(kernel: Array, bias: Array | None, image: Array, stride: Sequence[int]) -> Array:
    """ONNX Runtime's answer in float32, ``(positions, O)``, some units at a time.

    The runtime lays a kernel out anew for itself, several times over, and takes at most 2 GiB of one.
    """
    units = max(1, _BLOCK // (4 * math.prod(kernel.shape[1:])))
    parts = []
    for start in range(0, len(kernel), units):
        block = slice(start, start + units)
        with np.errstate(
            over="ignore"
        ):  # a float64 that is too large is infinite, and the comparison says so
            kernel32 = kernel[block].astype(np.float32)
            bias32 = None if bias is None else bias[block].astype(np.float32)
        network = session(convolution(kernel32, bias32, stride))
        part = network.run({"patch": image[None].astype(np.float32)})["map"][0]  # (units, *map)
        parts.append(part.reshape(len(part), -1))
    return np.concatenate(parts).T.astype(np.float64)


def _image(layer: DenseLayer, stride: Sequence[int]) -> Array:
    """A random image ``(C, *spatial)`` with room for some positions, and a rest where there can be one."""
    channels = layer.patch[layer.order.index("C")]
    room = [(_POSITIONS[axis % 3] - 1) * step + min(1, step - 1) for axis, step in enumerate(stride)]
    sizes = [size + more for size, more in zip(layer.spatial, room, strict=True)]
    # rounded to float32, so that both sides see the same numbers
    return np.random.default_rng(0).standard_normal((channels, *sizes)).astype(np.float32).astype(np.float64)


def _on_every_window(layer: DenseLayer, image: Array, stride: Sequence[int]) -> Array:
    """The dense layer on each window of ``image (C, *spatial)``: ``(positions, O)`` in float64, row-major."""
    counts = [
        (size - part) // step + 1
        for size, part, step in zip(image.shape[1:], layer.spatial, stride, strict=True)
    ]
    windows = []
    for position in product(*map(range, counts)):
        corner = [index * step for index, step in zip(position, stride, strict=True)]
        window = image[
            :, *(slice(start, start + part) for start, part in zip(corner, layer.spatial, strict=True))
        ]
        # (C, *spatial) -> the order in which the layer reads it
        windows.append(np.moveaxis(window, 0, layer.order.index("C")).reshape(-1))
    stack = np.stack(windows)
    weight = layer.weight if layer.weight_layout == "KO" else layer.weight.T
    units = max(1, _BLOCK // (8 * weight.shape[0]))
    blocks = [
        stack @ weight[:, start : start + units].astype(np.float64) for start in range(0, layer.units, units)
    ]
    result = np.concatenate(blocks, axis=1)
    return result if layer.bias is None else result + layer.bias
