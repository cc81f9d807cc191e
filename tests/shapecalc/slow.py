"""What the layers read, said the slow way: every index by its definition, one after the other, and numpy's own.

Nothing here is the library's code, and nothing here is clever.
"""

from fractions import Fraction
from math import ceil, floor

import numpy as np

FAR = 60  # positions that are tried where there is no end


def convolution(position, kernel, stride=1, dilation=1, before=0):
    """Taps of a convolution: element ``position*stride + tap*dilation`` of the padded input."""
    return {position * stride + tap * dilation - before for tap in range(kernel)}


def transposed(position, kernel, stride=1, dilation=1, before=0):
    """A transposed convolution adds tap ``t`` of element ``e`` to place ``e*stride + t*dilation``, then crops."""
    found = set()
    for element in range(-FAR, FAR):
        for tap in range(kernel):
            if element * stride + tap * dilation == position + before:
                found.add(element)
    return found


def adaptive(position, size, output):
    """PyTorch's adaptive pools: from ``floor(j*n/k)`` up to, not including, ``ceil((j+1)*n/k)``."""
    first = floor(Fraction(position * size, output))
    end = ceil(Fraction((position + 1) * size, output))
    return set(range(first, end))


def linear(position, factor, half):
    """Resize's ``half_pixel`` and ``asymmetric``: the elements with a weight above 0 at the place."""
    place = (position + Fraction(1, 2)) / factor - Fraction(1, 2) if half else Fraction(position, factor)
    return {element for element in range(-FAR, FAR) if 1 - abs(place - element) > 0}


def nearest(position, factor):
    """Every element, ``factor`` times."""
    repeated = [element for element in range(-FAR, FAR) for _ in range(factor)]
    return {repeated[position + FAR * factor]}


def mirrored(size, before, after, mode):
    """The elements that a padded axis holds, from numpy."""
    return [int(n) for n in np.pad(np.arange(size), (before, after), mode=mode)]


def windows(size, kernel, stride=1, dilation=1, before=0, after=0):
    """How many windows fit into the padded input, counted one by one."""
    padded = before + size + after
    count = 0
    while count * stride + dilation * (kernel - 1) < padded:
        count += 1
    return count


def dependency(outputs, inputs, reads):
    """Which of ``inputs`` elements each of ``outputs`` positions reads, as a boolean matrix."""
    matrix = np.zeros((outputs, inputs), dtype=bool)
    for position in range(outputs):
        for element in reads(position):
            if 0 <= element < inputs:
                matrix[position, element] = True
    return matrix
