"""The kernel of every op that has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from snnir import ops
from snnir.kernels.geometry import Image, Pair
from snnir.kernels.kernel import Kernel, NoKernel, identity, image_of
from snnir.ops import Array, Op, Shape


def kernel_of(op: Op, port: str, sources: Mapping[str, Shape], target: Shape) -> Kernel:
    """What `op` does to the value at `port`, without its bias; `sources` are the shapes at its ports.

    Raises:
        NoKernel: it is no convolution.
    """
    if isinstance(op, ops.Concat):
        return _concat(op, port, sources)
    if isinstance(op, ops.Scale):
        return _by_channel(np.broadcast_to(op.scale.astype(np.float64), sources[port]), image_of(sources[port]))
    make = _KERNELS.get(type(op))
    if make is None:
        raise NoKernel(f"{op.kind} is no convolution")
    return make(op, image_of(sources[port]), image_of(target))


def _conv(op: ops.Conv, source: Image, target: Image) -> Kernel:
    weight = op.weight.astype(np.float64)
    strides, dilations, before = op.strides, op.dilations, tuple(p for p, _ in op.pads)
    if op.axes == 1:  # a row
        weight, strides, dilations, before = weight[:, :, None], (1, *strides), (1, *dilations), (0, *before)
    out, per_group, *kernel = weight.shape
    taps = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    full = np.zeros((1, 1, out, source[0], *taps))
    for g in range(op.groups):
        rows = slice(g * out // op.groups, (g + 1) * out // op.groups)
        full[0, 0, rows, g * per_group : (g + 1) * per_group, :: dilations[0], :: dilations[1]] = weight[rows]
    return Kernel(full, _pair(strides), _pair(before), source, target)


def _pool(op: ops.Pool2d, source: Image, target: Image) -> Kernel:
    share = 1.0 / np.prod(op.kernel_size) if isinstance(op, ops.AvgPool2d) else 1.0
    window = np.full(op.kernel_size, share)
    weight = np.eye(source[0])[None, None, :, :, None, None] * window
    return Kernel(weight, _pair(op.stride), _pair(op.padding), source, target)


def _upsample(op: ops.Upsample2d, source: Image, target: Image) -> Kernel:
    weight = np.broadcast_to(np.eye(source[0])[:, :, None, None], (*op.factor, source[0], source[0], 1, 1))
    return Kernel(weight, (1, 1), (0, 0), source, target)


def _conv_transpose(op: ops.ConvTranspose2d, source: Image, target: Image) -> Kernel:
    """Output pixel s m + a takes input pixel m + (a + p - d k) / s through tap k, where that is a whole number."""
    if any(size % s for size, s in zip(target[1:], op.stride, strict=True)):
        raise NoKernel(f"its output {list(target[1:])} is no multiple of its stride {list(op.stride)}")
    weight = op.weight.astype(np.float64)
    into, per_group = weight.shape[:2]
    full = np.zeros((target[0], into, *weight.shape[2:]))
    for g in range(op.groups):
        part = slice(g * into // op.groups, (g + 1) * into // op.groups)
        full[g * per_group : (g + 1) * per_group, part] = weight[part].swapaxes(0, 1)
    ways = [
        [(a, k, (a + p - d * k) // s) for a in range(s) for k in range(n) if (a + p - d * k) % s == 0]
        for s, p, d, n in zip(op.stride, op.padding, op.dilation, weight.shape[2:], strict=True)
    ]
    low = [min(at for _, _, at in way) for way in ways]
    reach = [max(at for _, _, at in way) - first + 1 for way, first in zip(ways, low, strict=True)]
    found = np.zeros((*op.stride, *full.shape[:2], *reach))
    for a, k, at_h in ways[0]:
        for b, n, at_w in ways[1]:
            found[a, b, :, :, at_h - low[0], at_w - low[1]] += full[:, :, k, n]
    return Kernel(found, (1, 1), (-low[0], -low[1]), source, target)


def _batch_norm(op: ops.BatchNorm, source: Image, target: Image) -> Kernel:
    factor = op.weight.astype(np.float64) * (op.alpha * op.v_th) / np.sqrt(op.var.astype(np.float64) + op.eps)
    if len(factor) != source[0]:
        raise NoKernel("its factors differ from place to place")
    return identity(source).scaled(factor)


def _by_channel(factor: Array, source: Image) -> Kernel:
    flat = factor.reshape(source[0], -1)
    if (flat != flat[:, :1]).any():
        raise NoKernel("its factors differ from place to place")
    return identity(source).scaled(flat[:, 0])


def _concat(op: ops.Concat, port: str, sources: Mapping[str, Shape]) -> Kernel:
    shape = sources[port]
    if len(shape) not in (2, 3) or op.axis % len(shape):
        raise NoKernel("it joins images side by side, not their channels")
    before = sum(sources[other][0] for other in op.ports[: op.ports.index(port)])
    source, whole = image_of(shape), sum(each[0] for each in sources.values())
    weight = np.eye(whole)[:, before : before + source[0], None, None][None, None]
    return Kernel(weight, (1, 1), (0, 0), source, (whole, *source[1:]))


def _slice(op: ops.Slice, source: Image, target: Image) -> Kernel:
    if source[1:] != target[1:] or op.axis not in (0, -3):
        raise NoKernel("it cuts the image, not its channels")
    return identity(source).between(None, np.arange(op.start, op.stop, op.step))


def _pair(values: tuple[int, ...]) -> Pair:
    first, second = values
    return first, second


_KERNELS: dict[type[Op], Callable[[Any, Image, Image], Kernel]] = {
    ops.Conv1d: _conv,
    ops.Conv2d: _conv,
    ops.SumPool2d: _pool,
    ops.AvgPool2d: _pool,
    ops.Upsample2d: _upsample,
    ops.ConvTranspose2d: _conv_transpose,
    ops.BatchNorm: _batch_norm,
    ops.Slice: _slice,
}
