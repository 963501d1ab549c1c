"""Kernels, and what composes, adds and restricts them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from math import gcd, prod

import numpy as np

from snnir.kernels.geometry import Geometry, Image, Pair
from snnir.ops import Array, Shape

_MOST_GROUPS = 127  # what Lava holds; more groups are written as fewer, with zeros


class NoKernel(ValueError):
    """A map is not one convolution; the message says why."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """A linear map from one image to another that is the same everywhere, up to a period, with zeros around the source.

    With (s_h, s_w) = stride, (p_h, p_w) = padding, (f_h, f_w) the number of phases:

        y[c, f_h i + a, f_w j + b] = sum over d, k, l of weight[a, b, c, d, k, l] x[d, s_h i - p_h + k, s_w j - p_w + l]

    `weight`: (f_h, f_w, channels out, channels in, k_h, k_w), float64. `padding` may be negative: where the window
    begins. The target's height and width are multiples of the phases.
    """

    weight: Array
    stride: Pair
    padding: Pair
    source: Image
    target: Image

    @property
    def phases(self) -> Pair:
        return self.weight.shape[0], self.weight.shape[1]

    def scaled(self, factor: Array) -> Kernel:
        """The same, times a factor per channel of the target."""
        return replace(self, weight=self.weight * factor.reshape(1, 1, -1, 1, 1, 1))

    def between(self, source: Array | None, target: Array | None) -> Kernel:
        """Between these channels only; None for all."""
        weight = self.weight if target is None else self.weight[:, :, target]
        weight = weight if source is None else weight[:, :, :, source]
        out, into = weight.shape[2:4]
        return replace(self, weight=weight, source=(into, *self.source[1:]), target=(out, *self.target[1:]))

    def trimmed(self) -> Kernel:
        """Without rows and columns of zeros at the window's edges."""
        weight, padding = self.weight, list(self.padding)
        for axis in range(2):
            there = np.flatnonzero(np.moveaxis(weight, 4 + axis, 0).reshape(weight.shape[4 + axis], -1).any(axis=1))
            first, last = (int(there[0]), int(there[-1])) if len(there) else (0, 0)
            weight = weight.take(range(first, last + 1), axis=4 + axis)
            padding[axis] -= first
        return replace(self, weight=weight, padding=(padding[0], padding[1]))

    def lowered(self) -> tuple[Geometry, Array]:
        """The plain convolution that it is, and its weights (out * phases, in / groups, k_h, k_w)."""
        small = self.trimmed()
        weight, padding, dilation = small.weight, [0, 0], [1, 1]
        for axis in range(2):
            count, taps = self.target[1 + axis] // self.phases[axis], weight.shape[4 + axis]
            stride, before = self.stride[axis], small.padding[axis]
            after = stride * (count - 1) + taps - before - self.source[1 + axis]  # zeros needed behind the source
            padding[axis] = max(before, after, 0)
            lead, trail = padding[axis] - before, max(0, padding[axis] - after - (stride - 1))
            ends = [(0, 0)] * 6
            ends[4 + axis] = (lead, trail)
            weight = np.pad(weight, ends)
            there = np.flatnonzero(np.moveaxis(weight, 4 + axis, 0).reshape(taps + lead + trail, -1).any(axis=1))
            dilation[axis] = max(1, gcd(taps + lead + trail - 1, *there.tolist()))
            weight = weight[(slice(None),) * (4 + axis) + (slice(None, None, dilation[axis]),)]
        f_h, f_w, out, into, k_h, k_w = weight.shape
        flat = weight.transpose(2, 0, 1, 3, 4, 5).reshape(out * f_h * f_w, into, k_h, k_w)
        groups = _groups(flat, out)
        own = np.stack([flat.reshape(groups, -1, groups, into // groups, k_h, k_w)[g, :, g] for g in range(groups)])
        geometry = Geometry(
            source=self.source,
            target=self.target,
            stride=self.stride,
            padding=(padding[0], padding[1]),
            dilation=(dilation[0], dilation[1]),
            groups=groups,
            phases=self.phases,
        )
        return geometry, np.ascontiguousarray(own.reshape(out * f_h * f_w, into // groups, k_h, k_w))


def image_of(shape: Shape) -> Image:
    """The image that a value of this shape is: (C, H, W), (C, 1, L) of (C, L), and one row of anything else."""
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    if len(shape) == 2:
        return shape[0], 1, shape[1]
    return 1, 1, prod(shape)


def identity(image: Image) -> Kernel:
    """The kernel that changes nothing."""
    weight = np.eye(image[0])[None, None, :, :, None, None]
    return Kernel(weight, (1, 1), (0, 0), image, image)


def then(first: Kernel, second: Kernel) -> Kernel:
    """`second` of `first`.

    Raises:
        NoKernel: it is not one convolution, because what lies around the image between them is not 0, or since the
            periods do not fit the sizes.
    """
    if first.target != second.source:
        raise NoKernel(f"{list(first.target)} is reshaped to {list(second.source)} on the way")
    axes = [_axis(first, second, axis) for axis in range(2)]
    phases = tuple(axis.phases for axis in axes)
    for axis, size in zip(axes, second.target[1:], strict=True):
        if size % axis.phases:
            raise NoKernel(f"it repeats every {axis.phases} pixels, which {size} is no multiple of")
    taps = first.weight.shape[4:]
    into = first.source[0]
    shape = tuple(axis.reach + n for axis, n in zip(axes, taps, strict=True))
    found = np.zeros((*phases, second.target[0], into, *shape))
    for (a, t, at_h, phase_h), (b, u, at_w, phase_w) in product(*(axis.taps for axis in axes)):
        part = second.weight[a % second.phases[0], b % second.phases[1], :, :, t, u]
        own = first.weight[phase_h, phase_w]
        if part.any():
            grown = (part @ own.reshape(len(own), -1)).reshape(-1, into, *taps)
            found[a, b, :, :, at_h : at_h + taps[0], at_w : at_w + taps[1]] += grown
    stride = tuple(axis.stride for axis in axes)
    padding = tuple(axis.padding for axis in axes)
    return Kernel(found, stride, padding, first.source, second.target).trimmed()  # type: ignore[arg-type]


def plus(first: Kernel, second: Kernel) -> Kernel | None:
    """The sum of two maps between the same images; None if they differ in stride and phases."""
    if (first.stride, first.phases) != (second.stride, second.phases):
        return None
    before = [max(p, q) for p, q in zip(first.padding, second.padding, strict=True)]
    parts = []
    for kernel in (first, second):
        lead = [b - p for b, p in zip(before, kernel.padding, strict=True)]
        parts.append((kernel.weight, lead, [n + m for n, m in zip(lead, kernel.weight.shape[4:], strict=True)]))
    size = [max(ends) for ends in zip(*(end for _, _, end in parts), strict=True)]
    one, other = (
        np.pad(w, [(0, 0)] * 4 + [(n, whole - end) for n, end, whole in zip(lead, ends, size, strict=True)])
        for w, lead, ends in parts
    )
    return replace(first, weight=one + other, padding=(before[0], before[1]))


@dataclass(frozen=True)
class _Axis:
    """One axis of a composition; `taps`: (phase, tap of the second, offset, phase of the first) of every product."""

    phases: int
    stride: int
    padding: int
    reach: int
    taps: tuple[tuple[int, int, int, int], ...]


def _axis(first: Kernel, second: Kernel, axis: int) -> _Axis:
    f_a, f_b = first.phases[axis], second.phases[axis]
    s_a, s_b = first.stride[axis], second.stride[axis]
    times = f_a // gcd(f_a, s_b)  # blocks of the second after which the first's phases come round again
    found = []
    for r, a, t in product(range(times), range(f_b), range(second.weight.shape[4 + axis])):
        block, phase = divmod(s_b * r + t - second.padding[axis], f_a)
        found.append((r * f_b + a, t, s_a * block - first.padding[axis], phase))
    _check_edges(first, second, axis)
    low = min(offset for _, _, offset, _ in found)
    high = max(offset for _, _, offset, _ in found)
    taps = tuple((a, t, offset - low, phase) for a, t, offset, phase in found)
    return _Axis(times * f_b, s_a * (s_b * times // f_a), -low, high - low, taps)


def _check_edges(first: Kernel, second: Kernel, axis: int) -> None:
    """What `second` reads beyond the image between must be what `first`, continued, gives there: nothing."""
    size, source = first.target[1 + axis], first.source[1 + axis]
    blocks = second.target[1 + axis] // second.phases[axis]
    ways = np.moveaxis(first.weight, (axis, 4 + axis), (0, 1))  # (phase, tap, ...)
    acts: Array = np.any(ways.reshape(*ways.shape[:2], -1), axis=2)
    read = np.moveaxis(second.weight, 4 + axis, 0).reshape(second.weight.shape[4 + axis], -1).any(axis=1)
    for tap in np.flatnonzero(read).tolist():
        at = second.stride[axis] * np.arange(blocks) - second.padding[axis] + tap
        for outside in at[(at < 0) | (at >= size)].tolist():
            block, phase = divmod(outside, first.phases[axis])
            window = first.stride[axis] * block - first.padding[axis] + np.flatnonzero(acts[phase])
            if ((window >= 0) & (window < source)).any():
                raise NoKernel("one is padded, and what is around the image of the one before it is not 0")


def _groups(weight: Array, out: int) -> int:
    """The most groups that (out * phases, in, k_h, k_w) falls into, up to what chips hold."""
    there: Array = np.any(weight.reshape(*weight.shape[:2], -1), axis=2)
    into = weight.shape[1]
    for groups in range(min(gcd(out, into), _MOST_GROUPS), 1, -1):
        if out % groups or into % groups:
            continue
        blocks: Array = np.any(there.reshape(groups, -1, groups, into // groups), axis=(1, 3))
        if not blocks[~np.eye(groups, dtype=bool)].any():
            return groups
    return 1
