"""One axis of a windowed layer, in integers.

Neuron ``j`` of a layer with kernel ``k``, stride ``s``, dilation ``d`` and ``b`` pads before the first
element reads the elements ``j*s - b + i*d`` for ``i`` in ``0..k-1``. With ``e`` pads after the last of ``n``
elements there are

    output = floor((n + b + e - d*(k - 1) - 1) / s) + 1

neurons (ONNX ``Conv``; ``ceil_mode`` of the ONNX pools rounds up, and drops a last window that would start in
the pads behind the input). ``SAME_UPPER`` and ``SAME_LOWER`` choose ``b`` and ``e`` so that ``output = ceil(n
/ s)``; the odd pad goes after (UPPER) or before (LOWER).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A layer's window on one axis: sizes in elements of the layer's own input."""

    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0

    def __post_init__(self) -> None:
        if self.kernel < 1 or self.stride < 1 or self.dilation < 1:
            raise ValueError(
                "kernel, stride and dilation must be at least 1, "
                f"got {self.kernel}, {self.stride} and {self.dilation}"
            )
        if self.before < 0 or self.after < 0:
            raise ValueError(f"pads must not be negative, got {self.before} before and {self.after} after")

    @property
    def extent(self) -> int:
        """Elements from the first to the last that one neuron reads, holes of the dilation included.

        >>> Window(kernel=3, dilation=2).extent
        5
        """
        return self.dilation * (self.kernel - 1) + 1

    def output(self, size: int) -> int:
        """Neurons on an axis of ``size`` elements; 0 where the window does not fit.

        >>> Window(kernel=3, stride=2, before=1, after=1).output(224)
        112
        """
        return max((size + self.before + self.after - self.extent) // self.stride + 1, 0)

    def unused(self, size: int) -> int:
        """Trailing elements, pads included, that no neuron reads: below ``stride`` where ``output`` is
        positive.

        >>> Window(kernel=3, stride=2, before=1, after=1).unused(224)
        1
        """
        return size + self.before + self.after - (self.output(size) - 1) * self.stride - self.extent

    def tiling(self, size: int) -> tuple["Window", int]:
        """Return the same window with as few elements behind ``size`` as its neurons read, and how many to
        cut off.

        The returned window has the same output on ``size``, and leaves nothing unused once ``cut`` elements
        are taken off the end of the input (``cut`` is 0 where taking away pads is enough).

        >>> Window(kernel=3, stride=2, before=1, after=1).tiling(224)
        (Window(kernel=3, stride=2, dilation=1, before=1, after=0), 0)
        >>> Window(kernel=2, stride=2).tiling(9)
        (Window(kernel=2, stride=2, dilation=1, before=0, after=0), 1)
        """
        after = self.after - self.unused(size)
        tight = Window(self.kernel, self.stride, self.dilation, self.before, max(after, 0))
        return tight, max(-after, 0)


def same(size: int, kernel: int, stride: int, dilation: int = 1, *, upper: bool = True) -> Window:
    """Return the window with ONNX's ``auto_pad`` SAME_UPPER (or SAME_LOWER) worked out for an axis of
    ``size``.

    Source: the ONNX operator specification of Conv, ``auto_pad``.

    >>> same(64, kernel=4, stride=1)
    Window(kernel=4, stride=1, dilation=1, before=1, after=2)
    """
    extent = dilation * (kernel - 1) + 1
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + extent - size, 0)
    less, more = total // 2, total - total // 2
    before, after = (less, more) if upper else (more, less)
    return Window(kernel, stride, dilation, before, after)


def rounded_up(size: int, window: Window) -> Window:
    """Return ``window`` with the pads behind that the ``ceil_mode`` of the ONNX pools adds on an axis of
    ``size``.

    A last window that would start in the pads behind the input is dropped, as PyTorch, Caffe and ONNX Runtime
    do.

    >>> rounded_up(23, Window(kernel=2, stride=2))
    Window(kernel=2, stride=2, dilation=1, before=0, after=1)
    """
    span = size + window.before + window.after - window.extent
    outputs = -(-span // window.stride) + 1
    if (outputs - 1) * window.stride >= size + window.before:
        outputs -= 1
    needed = (outputs - 1) * window.stride + window.extent - size - window.before
    return Window(window.kernel, window.stride, window.dilation, window.before, max(needed, window.after))
