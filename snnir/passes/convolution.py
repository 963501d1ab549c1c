"""The algebra of convolutions: chains into one, sums into one, and where the border forbids it.

Per axis, a convolution reads position s*j + d*u - p of its input for output j and tap u, and 0 outside. So a chain
reads s1*s2*j + s1*d2*u2 + d1*u1 - (s1*p2 + p1): again a convolution, with stride s1*s2 and padding s1*p2 + p1. THE
BORDER RULE: the second one pads the first one's OUTPUT with zeros, whereas the chain computes values there. Fusing is
exact only where no tap reads such a position, or where the first one's filter would find nothing but its own padding
there. That is checked position by position. The first one's bias passes through the second one with its padding, so it
becomes a bias map unless that map is constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np

from snnir.interpreter.windows import convolve
from snnir.ops import Array, AvgPool2d, Conv, Conv1d, Conv2d, Op, Pool2d, Scale, Shape, SumPool2d
from snnir.passes.common import Declined, along_channels, float_type, per_channel, wide


@dataclass(frozen=True)
class Filter:
    """A convolution without its bias. weight: (C_out, C_in / groups, *kernel), float64; `before`: padding in front."""

    weight: Array
    stride: tuple[int, ...]
    before: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def kernel(self) -> tuple[int, ...]:
        """Taps per axis."""
        return self.weight.shape[2:]

    @property
    def axes(self) -> int:
        """Number of spatial axes."""
        return len(self.stride)


def as_filter(op: Op, arriving: Shape) -> Filter | None:
    """A `Conv`, a pool, or a `Scale` that is constant within each channel, as a filter; None for anything else."""
    if isinstance(op, Conv):
        return Filter(wide(op.weight), op.strides, tuple(p for p, _ in op.pads), op.dilations, op.groups)
    if isinstance(op, Pool2d):
        share = 1.0 / float(np.prod(op.kernel_size)) if isinstance(op, AvgPool2d) else 1.0
        weight = np.full((arriving[0], 1, *op.kernel_size), share)
        return Filter(weight, op.stride, op.padding, (1, 1), arriving[0])
    if isinstance(op, Scale) and len(arriving) in (2, 3):
        n = len(arriving) - 1
        channel = per_channel(wide(op.scale), arriving)
        if channel is not None:
            return Filter(along_channels(channel, n + 2), (1,) * n, (0,) * n, (1,) * n, arriving[0])
    return None


def bias_of(op: Op, shape: Shape) -> Array:
    """The bias as a float64 vector (C_out,) or map; zeros for ops without one."""
    return wide(op.bias) if isinstance(op, Conv) else np.zeros(shape[0])


# -- chains ------------------------------------------------------------------------------------------------------------


def check_border(first: Filter, second: Filter, start: Shape, middle: Shape, end: Shape) -> None:
    """Returns when the chain of the two filters is one filter, at the border too.

    Args:
        start, middle, end: shapes of the first one's input and output, and of the second one's output.

    Raises:
        Declined: it is not.
    """
    for axis in range(first.axes):
        n0, n1, n2 = start[axis + 1], middle[axis + 1], end[axis + 1]
        j, u = np.arange(n2), np.arange(second.kernel[axis])
        read = second.stride[axis] * j[:, None] + second.dilation[axis] * u - second.before[axis]
        beyond = np.unique(read[(read < 0) | (read >= n1)])
        taps = first.dilation[axis] * np.arange(first.kernel[axis]) - first.before[axis]
        found = first.stride[axis] * beyond[:, None] + taps
        if ((found >= 0) & (found < n0)).any():
            raise Declined(
                "zero padding does not compose: the second one pads the first one's output with zeros where the fused "
                f"one would compute values (axis {axis + 1}), so the border would differ"
            )


def chain(first: Filter, second: Filter) -> Filter:
    """The filter of `second` after `first`, away from the border."""
    groups = gcd(first.groups, second.groups)
    w1, w2 = regrouped(first, groups), regrouped(second, groups)
    steps, reach = [], []
    for axis in range(first.axes):
        outer = first.stride[axis] * second.dilation[axis]  # distance of the second one's taps on the input
        inner = first.dilation[axis]
        k1, k2 = first.kernel[axis], second.kernel[axis]
        step = gcd(outer if k2 > 1 else 0, inner if k1 > 1 else 0) or 1
        steps.append((outer // step if k2 > 1 else 0, inner // step if k1 > 1 else 0, step))
        reach.append(steps[-1][0] * (k2 - 1) + steps[-1][1] * (k1 - 1) + 1)
    c_out, c_mid, c_in = w2.shape[0] // groups, w2.shape[1], w1.shape[1]
    a = w2.reshape(groups, c_out, c_mid, *second.kernel)
    b = w1.reshape(groups, c_mid, c_in, *first.kernel)
    total = np.zeros((groups, c_out, c_in, *reach))
    for u2 in np.ndindex(*second.kernel):
        part = np.einsum("gom,gmi...->goi...", a[(..., *u2)], b)
        where: Any = tuple(
            slice(outer * at, outer * at + inner * (k - 1) + 1, inner or 1)
            for at, k, (outer, inner, _) in zip(u2, first.kernel, steps, strict=True)
        )
        total[(..., *where)] += part
    return Filter(
        total.reshape(groups * c_out, c_in, *reach),
        tuple(s1 * s2 for s1, s2 in zip(first.stride, second.stride, strict=True)),
        tuple(s1 * p2 + p1 for s1, p2, p1 in zip(first.stride, second.before, first.before, strict=True)),
        tuple(step for *_, step in steps),
        groups,
    )


def chained_weights(first: Filter, second: Filter) -> int:
    """How many weights `chain` would make, without making them."""
    groups = gcd(first.groups, second.groups)
    count = second.weight.shape[0] * first.weight.shape[1] * first.groups // groups
    for axis in range(first.axes):
        outer, inner = first.stride[axis] * second.dilation[axis], first.dilation[axis]
        k1, k2 = first.kernel[axis], second.kernel[axis]
        step = gcd(outer if k2 > 1 else 0, inner if k1 > 1 else 0) or 1
        count *= (outer * (k2 - 1) + inner * (k1 - 1)) // step + 1
    return count


def bias_through(second: Filter, bias: Array, middle: Shape, end: Shape) -> Array:
    """What a bias at the second filter's input becomes at its output: (C,) where that is constant, else a map."""
    if not bias.any():
        return np.zeros(end[0])
    full = np.broadcast_to(along_channels(bias, len(middle)) if bias.ndim == 1 else bias, middle)
    pads = [
        (p, max(0, s * (n2 - 1) + d * (k - 1) + 1 - n1 - p))
        for p, s, n2, d, k, n1 in zip(
            second.before, second.stride, end[1:], second.dilation, second.kernel, middle[1:], strict=True
        )
    ]
    wide_map = convolve(full[None], second.weight, second.stride, pads, second.dilation, second.groups)[0]
    out = wide_map[(slice(None), *(slice(0, n) for n in end[1:]))]
    flat = out.reshape(end[0], -1)
    close = np.isclose(flat, flat[:, :1], rtol=0, atol=1e-12 * np.abs(bias).max() * np.abs(second.weight).sum()).all()
    return flat[:, 0].copy() if close else out


# -- sums --------------------------------------------------------------------------------------------------------------


def add(a: Filter, b: Filter) -> Filter:
    """The filter whose output is the sum of both; they read the same input and give the same output shape.

    Raises:
        Declined: their strides differ.
    """
    if a.stride != b.stride:
        raise Declined(f"strides {list(a.stride)} and {list(b.stride)} differ")
    groups = gcd(a.groups, b.groups)
    steps, before, reach = [], [], []
    for axis in range(a.axes):
        step = 0
        for f in (a, b):
            step = gcd(step, f.dilation[axis] if f.kernel[axis] > 1 else 0)
        step = gcd(step, a.before[axis] - b.before[axis]) or 1
        first = max(a.before[axis], b.before[axis])
        last = max(f.dilation[axis] * (f.kernel[axis] - 1) - f.before[axis] for f in (a, b))
        steps.append(step)
        before.append(first)
        reach.append((last + first) // step + 1)
    weights = [regrouped(f, groups) for f in (a, b)]
    total = np.zeros((*weights[0].shape[:2], *reach))
    for f, weight in zip((a, b), weights, strict=True):
        where: Any = []
        for axis in range(a.axes):
            offset, stretch = (before[axis] - f.before[axis]) // steps[axis], f.dilation[axis] // steps[axis] or 1
            where.append(slice(offset, offset + stretch * (f.kernel[axis] - 1) + 1, stretch))
        total[(..., *where)] += weight
    return Filter(total, a.stride, tuple(before), tuple(steps), groups)


def add_biases(a: Array, b: Array) -> Array:
    """The sum of two biases, each a vector or a map."""
    if a.ndim == b.ndim:
        return a + b
    vector, full = (a, b) if a.ndim == 1 else (b, a)
    return along_channels(vector, full.ndim) + full


# -- back to ops -------------------------------------------------------------------------------------------------------


def regrouped(f: Filter, groups: int) -> Array:
    """The weights with fewer groups (`groups` divides `f.groups`): zeros between what was apart."""
    if groups == f.groups:
        return f.weight
    merge = f.groups // groups
    c_out, c_in = f.weight.shape[0] // f.groups, f.weight.shape[1]
    out = np.zeros((groups, merge, c_out, merge, c_in, *f.kernel))
    parts = f.weight.reshape(groups, merge, c_out, c_in, *f.kernel)
    for i in range(merge):
        out[:, i, :, i] = parts[:, i]
    return out.reshape(groups * merge * c_out, merge * c_in, *f.kernel)


def as_conv(f: Filter, bias: Array, start: Shape, end: Shape, like: Op, kind: np.dtype[Any] | None = None) -> Conv:
    """The filter as a convolution op from shape `start` to shape `end`; metadata and loc from `like`.

    NIR pads both sides alike, so a lopsided padding is mended by taps of zeros.
    """
    weight, dilation, padding = f.weight, list(f.dilation), []
    for axis in range(f.axes):
        n_in, n_out, stride = start[axis + 1], end[axis + 1], f.stride[axis]
        taps, before, d = weight.shape[axis + 2], f.before[axis], dilation[axis]
        if taps == 1:
            d = dilation[axis] = 1
        front, back = _mend(n_in, n_out, before, taps, d, stride)
        if front + back and d > 1 and _slack(n_in, n_out, before, taps, d, stride, front, back) is None:
            weight = _spread(weight, axis + 2, d)
            taps, d, dilation[axis] = weight.shape[axis + 2], 1, 1
            front, back = _mend(n_in, n_out, before, taps, d, stride)
        pads = [(0, 0)] * weight.ndim
        pads[axis + 2] = (front, back)
        weight = np.pad(weight, pads)
        padding.append(before + d * front)
    kind = kind or float_type(*(getattr(like, name) for name in like.arrays))
    options: dict[str, Any] = {
        "weight": weight.astype(kind),
        "bias": bias.astype(kind),
        "stride": f.stride,
        "padding": tuple(padding),
        "dilation": tuple(dilation),
        "groups": f.groups,
        "input_shape": None if getattr(like, "input_shape", None) is None else start[1:],
        "metadata": like.metadata,
        "loc": like.loc,
    }
    return Conv2d(**options) if f.axes == 2 else Conv1d(**options)


def _slack(n_in: int, n_out: int, before: int, taps: int, d: int, stride: int, front: int, back: int) -> int | None:
    """What is left of the input behind the last window, or None when the output has another size than `n_out`."""
    left = n_in + 2 * (before + d * front) - d * (taps + front + back - 1) - 1 - stride * (n_out - 1)
    return left if 0 <= left < stride else None


def _mend(n_in: int, n_out: int, before: int, taps: int, d: int, stride: int) -> tuple[int, int]:
    """Zero taps to put in front and behind, the fewest with which the output has size `n_out`."""
    for extra in range(0, taps + n_in + before + 1):
        for front, back in ((extra, 0), (0, extra)):
            if _slack(n_in, n_out, before, taps, d, stride, front, back) is not None:
                return front, back
    return 1, 0  # no such number at this dilation: the caller spreads the filter and asks again


def _spread(weight: Array, axis: int, dilation: int) -> Array:
    """The filter with its dilation written out as zeros along `axis`."""
    shape = list(weight.shape)
    shape[axis] = dilation * (shape[axis] - 1) + 1
    out = np.zeros(shape)
    out[(slice(None),) * axis + (slice(None, None, dilation),)] = weight
    return out


def as_pool(f: Filter, start: Shape, end: Shape, like: Op) -> Pool2d | None:
    """The filter as a pool, when it is one: every channel for itself, one value in the whole window."""
    if f.axes != 2 or f.groups != start[0] or f.weight.shape[0] != start[0] or any(d > 1 for d in f.dilation):
        return None
    if any(2 * p > k for p, k in zip(f.before, f.kernel, strict=True)):
        return None  # PyTorch's limit on the padding of a pool
    value = float(f.weight.flat[0])
    n = int(np.prod(f.kernel))
    if not np.isclose(f.weight, value, rtol=1e-12, atol=0).all():
        return None
    cls = AvgPool2d if np.isclose(value * n, 1, rtol=1e-12) else SumPool2d if np.isclose(value, 1, rtol=1e-12) else None
    if cls is None:
        return None
    pool = cls(kernel_size=f.kernel, stride=f.stride, padding=f.before, metadata=like.metadata, loc=like.loc)
    return pool if pool.infer({"input": start}) == end else None
