"""Layers that change the size of the space: upsampling, resizing, crops of the centre.

A point ``i`` of the result lies, in pixels of the input, at

    half pixel   (i + 0.5) / scale - 0.5      Keras 3 and tf.keras of TensorFlow 2
    asymmetric   i / scale                    Keras up to 2.3, on the TensorFlow of its time
"""

from collections.abc import Sequence

import numpy as np

from ..emit import Value
from ..step import Step

_HALF_PIXEL = (2, 4)  # the first Keras that calls tf.image.resize of TensorFlow 2
_EITHER = ((2, 2, 4), (2, 3, 0))  # also what tf.keras of TensorFlow 2.0 to 2.2 calls itself


def upsample(step: Step) -> Value:
    """UpSampling1D, 2D, 3D: each element ``size`` times, or between neighbours with interpolation bilinear."""
    name, channels, space = step.channels_first()
    factors = step.sizes("size", len(space), 2)
    sizes = [None if n is None else n * factor for n, factor in zip(space, factors, strict=True)]
    if step.argument("interpolation", "nearest") == "nearest":
        made = _resize(step, name, factors, "asymmetric", mode="nearest", nearest_mode="floor")
    else:
        made = _bilinear(step, name, factors)
    return step.placed(made, channels, sizes)


def resize(step: Step) -> Value:
    """Resizing to ``height`` and ``width``, without regard to the aspect ratio."""
    name, channels, space = step.channels_first()
    for option in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"):
        if step.argument(option, False):
            raise step.refusal(f"{option} is not supported")
    given = [n for n in space if n is not None]
    if len(space) != 2 or len(given) < 2:
        raise step.refusal(
            "the input must be an image of a known size",
            "give the model a fixed input size, and save it again",
        )
    wanted = [step.integer("height"), step.integer("width")]
    if step.argument("interpolation", "bilinear") == "nearest":
        made = name
        for axis, (n, m) in enumerate(zip(given, wanted, strict=True)):
            # floor((i + 0.5) * n / m), in integers
            indices = [(2 * i + 1) * n // (2 * m) for i in range(m)]
            operand = step.graph.integers(indices)
            made = step.emit("Gather", [made, operand], "" if axis else "rows", axis=axis + 2)
    else:
        made = _bilinear(step, name, [m / n for n, m in zip(given, wanted, strict=True)])
    return step.placed(made, channels, wanted)


def center_crop(step: Step) -> Value:
    """CenterCrop to ``height`` and ``width``, of an image at least as large."""
    name, channels, space = step.channels_first()
    given = [n for n in space if n is not None]
    wanted = [step.integer("height"), step.integer("width")]
    if len(space) != 2 or len(given) < 2:
        raise step.refusal(
            "the input must be an image of a known size",
            "give the model a fixed input size, and save it again",
        )
    if any(n < m for n, m in zip(given, wanted, strict=True)):
        raise step.refusal(f"a smaller image, {given}, is resized to {wanted}: not supported")
    starts = [(n - m) // 2 for n, m in zip(given, wanted, strict=True)]
    ends = [start + m - n or (1 << 63) - 1 for start, n, m in zip(starts, given, wanted, strict=True)]
    made = step.emit("Slice", [name, *(step.graph.integers(v) for v in (starts, ends, [2, 3]))])
    return step.placed(made, channels, wanted)


def _bilinear(step: Step, name: str, factors: Sequence[float]) -> str:
    interpolation = step.argument("interpolation", "bilinear")
    if interpolation != "bilinear":
        raise step.refusal(f"interpolation must be nearest or bilinear, but it is {interpolation!r}")
    if step.options.origin.theano:
        raise step.refusal("Theano's bilinear interpolation is not supported")
    if step.options.origin.version in _EITHER:
        version = ".".join(map(str, step.options.origin.version))
        raise step.refusal(
            f"interpolation bilinear differs between Keras and tf.keras {version}",
            "load the model in the Keras that it was trained with, and save it with a later one",
        )
    half = step.options.origin.version[:2] >= _HALF_PIXEL
    return _resize(step, name, factors, "half_pixel" if half else "asymmetric", mode="linear")


def _resize(step: Step, name: str, factors: Sequence[float], where: str, **attributes: str) -> str:
    """Append Resize by ``factors`` along the space of ``(N, C, *space)``."""
    scales = np.asarray([1, 1, *factors], dtype=np.float32)
    # ONNX rounds the new size down: a factor must not be a hair below m / n.
    scales = np.where(
        scales.astype(np.float64) < [1, 1, *factors], np.nextafter(scales, np.float32(np.inf)), scales
    )
    operand = step.graph.constant(f"scales/{'_'.join(map(repr, scales.tolist()))}", scales)
    return step.emit("Resize", [name, "", operand], coordinate_transformation_mode=where, **attributes)
