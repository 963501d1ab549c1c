"""Linear maps of images as one convolution each, however many ops they were written with.

Chips that know convolutions want one between two populations, not a chain of ops. A `Kernel` is such a map; `then`
composes two of them, exactly or not at all; `kernel_of` gives an op's; `Kernel.lowered` the plain convolution (strides,
padding, groups, and a shuffle of pixels where it upsamples) that a chip runs.
"""

from __future__ import annotations

from snnir.kernels.geometry import Geometry
from snnir.kernels.kernel import Kernel, NoKernel, identity, image_of, plus, then
from snnir.kernels.of_ops import kernel_of
from snnir.kernels.paths import kernels_from

__all__ = ["Geometry", "Kernel", "NoKernel", "identity", "image_of", "kernel_of", "kernels_from", "plus", "then"]
