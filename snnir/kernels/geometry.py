"""A convolution as chips have it: symmetric padding, groups, and a shuffle of pixels behind it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from snnir.interpreter.windows import convolve
from snnir.ops import Array

Pair = tuple[int, int]
Image = tuple[int, int, int]


@dataclass(frozen=True)
class Geometry:
    """How weights (out * phases, in / groups, k_h, k_w) act: PyTorch's convolution, then its PixelShuffle.

    Attributes:
        source, target: (channels, height, width). All pairs are (height, width).
        stride, padding, dilation, groups: of the convolution; it pads both sides alike.
        phases: the shuffle. Channel c * f_h * f_w + a * f_w + b of the convolution's output, at (i, j), is channel c of
            the target at (f_h * i + a, f_w * j + b); (1, 1) is none.
    """

    source: Image
    target: Image
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    phases: Pair

    def apply(self, weight: Array, x: Array) -> Array:
        """The map itself: x (N, source elements) to (N, target elements), both in C order of their images."""
        pads = [(p, p) for p in self.padding]
        x = x.reshape(-1, *self.source)
        y = convolve(x, weight.astype(x.dtype, copy=False), self.stride, pads, self.dilation, self.groups)
        f_h, f_w = self.phases
        n, _, height, width = y.shape
        parts = y.reshape(n, -1, f_h, f_w, height, width).transpose(0, 1, 4, 2, 5, 3)
        return np.ascontiguousarray(parts).reshape(n, -1)

    def sums(self, weight: Array) -> Array:
        """What every target element gives where all of the source is 1: (target elements,)."""
        found: Array = self.apply(weight, np.ones((1, prod(self.source))))[0]
        return found

    def matrix(self, weight: Array) -> Array:
        """The map as a matrix (source elements, target elements)."""
        return self.apply(weight, np.eye(prod(self.source)))

    def synapses(self, weight: Array) -> int:
        """Elements of the matrix that are not 0, without making it."""
        return int(self.sums((weight != 0).astype(np.float64)).sum())
