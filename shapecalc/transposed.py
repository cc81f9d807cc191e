"""A transposed convolution on one axis: the convolution whose gradient it is, and the size of the large side.

With kernel ``k``, stride ``s``, dilation ``d``, pads ``b`` and ``e`` and output padding ``o`` on ``n`` elements,

    output = s*(n - 1) + o + d*(k - 1) + 1 - b - e

(ONNX operator specification, ConvTranspose). A size that is asked for, and SAME, which asks for ``n*s``, leave the
pads to be worked out; the odd one goes after for SAME_UPPER, else before. Of the two, the size counts.
"""

from typing import NamedTuple

from .errors import ShapeError
from .runtimes import DEFAULT_RUNTIME, Sliding
from .window import Window


class Enlarging(NamedTuple):
    """One axis of a transposed convolution, as it was asked for. ``size``: the output asked for, if any."""

    sliding: Sliding
    output_padding: int = 0
    size: int | None = None

    def resolved(self, size: int, runtime: str = DEFAULT_RUNTIME) -> tuple[Window, int]:
        """The convolution's window, and the output, for ``size`` elements, as ``runtime`` works them out.

        Raises ``ShapeError`` where the runtime refuses the layer or nothing is left.

        >>> Enlarging(Sliding("conv", kernel=3, stride=2), output_padding=1).resolved(4)
        (Window(kernel=3, stride=2, dilation=1, before=0, after=0), 10)
        """
        layer = self.sliding
        if not 0 <= self.output_padding < max(layer.stride, layer.dilation):
            raise ShapeError(
                "output padding must be below the larger of stride and dilation, but "
                f"{self.output_padding} meets {layer.stride} and {layer.dilation}"
            )
        full = layer.stride * (size - 1) + self.output_padding + layer.extent
        window = self._unpadded()
        output = full - window.before - window.after
        if layer.padding.same:
            if runtime == "pytorch":
                raise ShapeError("PyTorch's transposed convolutions take their pads as numbers, not as SAME")
            wanted = size * layer.stride if self.size is None else self.size
            window, output = self._asked(wanted, full, runtime)
        elif self.size is not None:
            window, output = self._asked(self.size, full, runtime)
        elif runtime == "tensorflow" and layer.padding.mode == "valid":
            # Keras, keras/src/backend/common/backend_utils.py, compute_conv_transpose_output_shape
            output = size * layer.stride + max(layer.extent - layer.stride, 0)
        elif runtime == "pytorch" and window.before != window.after:
            raise ShapeError(
                f"PyTorch's layers crop both sides alike, but {window.before} and {window.after} are asked for",
                hint="crop behind the layer",
            )
        if output < 1:
            raise ShapeError(
                f"an output must have at least 1 element, but pads of {window.before} and {window.after} leave "
                f"{output} of {full}"
            )
        if runtime == "onnxruntime" and window.output(output) != size:
            # onnxruntime/core/providers/cpu/nn/conv_transpose_attributes.h
            raise ShapeError(
                f"ONNX Runtime takes an output from which the convolution leads back to {size} elements, but from "
                f"{output} it leads to {window.output(output)}"
            )
        return window, output

    def _unpadded(self) -> Window:
        if self.sliding.padding.mode in ("causal", "full"):
            raise ShapeError(f"a transposed convolution has no padding {self.sliding.padding.mode!r}")
        return self.sliding.unpadded() if not self.sliding.padding.same else Window(1)

    def _asked(self, wanted: int, full: int, runtime: str) -> tuple[Window, int]:
        """The window that leaves ``wanted`` of ``full`` elements."""
        layer = self.sliding
        total = full - wanted
        if total < 0 and self.size is None and runtime != "tensorflow":
            total, wanted = 0, full  # SAME with a stride larger than the kernel: nothing is added
        pads = max(total, 0)
        less = pads // 2
        before = less if layer.padding.mode == "same_upper" else pads - less
        return Window(layer.kernel, layer.stride, layer.dilation, before, pads - before), wanted
