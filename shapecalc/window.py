"""One axis of a windowed layer, in integers.

Neuron ``j`` of a layer with kernel ``k``, stride ``s``, dilation ``d`` and ``b`` pads before the first
element reads the elements ``j*s - b + i*d`` for ``i`` in ``0..k-1``. With ``e`` pads after the last of ``n``
elements there are

    output = floor((n + b + e - d*(k - 1) - 1) / s) + 1

neurons (ONNX ``Conv``; ``ceil_mode`` of the ONNX pools rounds up, and drops a last window that would start in
the pads behind the input). How ``b`` and ``e`` follow from words such as SAME stands in ``runtimes``.
"""

from dataclasses import dataclass, replace
from math import gcd


@dataclass(frozen=True)
class Window:
    """A layer's window on one axis: sizes in elements of the layer's own input. A negative pad cuts elements off."""

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

    period = 1
    """Neurons after which the reading repeats, ``advance`` elements further on."""

    @property
    def advance(self) -> int:
        """Elements from one neuron's first to the next one's."""
        return self.stride

    def reads(self, position: int) -> range:
        """Elements that neuron ``position`` reads; below 0 and from the size on they are pads.

        >>> list(Window(kernel=3, dilation=2, before=2).reads(0))
        [-2, 0, 2]
        """
        first = position * self.stride - self.before
        return range(first, first + self.extent, self.dilation)

    def readers(self, element: int) -> range:
        """Neurons that read ``element``, counted on both sides without end; the caller keeps those that are there.

        Neuron ``j`` reads it where ``element + before - j*stride`` is ``i*dilation`` for an ``i`` in ``0..kernel-1``.

        >>> list(Window(kernel=3, stride=2).readers(4))
        [1, 2]
        """
        place = element + self.before
        first = -((self.extent - 1 - place) // self.stride)  # ceil((place - extent + 1) / stride)
        near = range(first, place // self.stride + 1)
        # Two neurons both read it only where their distance times the stride is a multiple of the dilation.
        step = self.dilation // gcd(self.dilation, self.stride)
        hit = (i for i in range(min(step, len(near))) if (place - near[i] * self.stride) % self.dilation == 0)
        skipped = next(hit, None)
        return range(0) if skipped is None else near[skipped::step]

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


def rounded_up(size: int, window: Window, *, drops: bool = True) -> Window:
    """Return ``window`` with the pads behind that the ``ceil_mode`` of the ONNX pools asks for on an axis of
    ``size``.

    With ``drops``, a last window that would start in the pads behind the input is left out, as PyTorch, Caffe, ONNX
    Runtime and ONNX from operator set 22 on do.

    >>> rounded_up(23, Window(kernel=2, stride=2))
    Window(kernel=2, stride=2, dilation=1, before=0, after=1)
    """
    span = size + window.before + window.after - window.extent
    outputs = -(-span // window.stride) + 1
    if drops and (outputs - 1) * window.stride >= size + window.before:
        outputs -= 1
    needed = (outputs - 1) * window.stride + window.extent - size - window.before
    return replace(window, after=needed)
