"""A network scanned at any stride: on which grid each of its values must be known. Integers, one axis.

Position ``p`` of a value with jump ``j`` lies ``p*j`` pixels into its patch (but for its field's start, the same for
all), and patch ``i`` begins at pixel ``i*s``. All of them together lie on a lattice of step

    g = gcd(s, j):      i*s + p*j = g * (i * s/g + p * j/g)

and on none coarser. So the map keeps a value at every ``g`` pixels. What lies ``p`` positions apart in a patch lies
``p * j/g`` apart there: that factor, the ``spread``, is what stands in front of a layer, and its own dilation, its pads
and every crop are multiplied by it. Behind a layer of stride ``t`` the jump is ``j*t``, and the layer strides from one
lattice to the next:

    dilation' = d * j/g      pads' = b * j/g      stride' = gcd(s, j*t) / g

A layer that reads the whole patch ends on the map itself: ``stride' = s/g``. Where ``s`` is a multiple of ``j*t`` the
layer stays as it is; where ``s = 1`` all strides become dilations. (Giusti et al., "Fast image scanning with deep
max-pooling convolutional neural networks", 2013, and the "a trous" form of Sermanet et al., "OverFeat", 2014, for
s = 1; here for every s, larger, smaller or prime to the network's own.)

With ``n`` positions on a patch a value has, on an input that is ``h`` pixels longer than the patch,

    (n - 1) * j/g + 1 + h // g

positions, if it has that many in front of every layer, and each layer's windows tile the patch: of ``m`` such a
layer of kernel ``k`` makes ``(m - 1 - (k - 1)*dilation') // stride' + 1``, and ``(h // g) // (g'/g) = h // g'``.

A pad is read where it was only on the patch itself, as without a lattice: on a longer input it meets real neighbours.
"""

from dataclasses import replace
from math import gcd

from .window import Window


def step(jump: int, stride: int) -> int:
    """Pixels from one position to the next, of a value with ``jump`` in a map with ``stride``.

    >>> step(4, 6), step(4, 8), step(4, 1)
    (2, 4, 1)
    """
    return gcd(jump, stride)


def spread(jump: int, stride: int) -> int:
    """Positions of the lattice from one position of a patch to the next.

    >>> spread(4, 6), spread(4, 8), spread(4, 1)
    (2, 1, 4)
    """
    return jump // step(jump, stride)


def spread_window(window: Window, jump: int, stride: int) -> Window:
    """What ``window``, on a value with ``jump``, is on the lattice of a map with ``stride``.

    >>> spread_window(Window(kernel=3, stride=2, before=1), jump=4, stride=6)
    Window(kernel=3, stride=1, dilation=2, before=2, after=0)
    >>> spread_window(Window(kernel=2, stride=2), jump=1, stride=6)
    Window(kernel=2, stride=2, dilation=1, before=0, after=0)
    """
    return _spread(window, jump, stride, step(jump * window.stride, stride))


def whole(size: int, jump: int, stride: int) -> Window:
    """The window that reads the ``size`` positions of a patch, at each position of a map with ``stride``.

    >>> whole(5, jump=4, stride=6)
    Window(kernel=5, stride=3, dilation=2, before=0, after=0)
    """
    return _spread(Window(kernel=size), jump, stride, stride)


def positions(size: int, jump: int, stride: int, longer: int) -> int:
    """Positions of a value that has ``size`` on a patch, on an input that is ``longer`` by as many pixels.

    >>> positions(5, jump=4, stride=6, longer=0), positions(5, jump=4, stride=6, longer=7)
    (9, 12)
    """
    return (size - 1) * spread(jump, stride) + 1 + longer // step(jump, stride)


def _spread(window: Window, jump: int, stride: int, behind: int) -> Window:
    factor = spread(jump, stride)
    return replace(
        window,
        stride=behind // step(jump, stride),
        # One element has no holes.
        dilation=window.dilation * factor if window.kernel > 1 else 1,
        before=window.before * factor,
        after=window.after * factor,
    )
