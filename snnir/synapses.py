"""Synapses of linear ops: the nonzero connections from one element of the input to one of the output.

A convolution's are counted with its borders exactly: taps that fall on padding are none. Pools, Scale, BatchNorm and
TokenShift connect too. Ops that only move values (Flatten, Concat, Upsample2d, ...) have none, and those that are not
linear have none either.
"""

from __future__ import annotations

from functools import reduce

import numpy as np

from snnir import ops
from snnir.ops import Array, Op, Shape


def fan_out(op: Op, arriving: Shape) -> Array | None:
    """How many outputs each element of the input reaches through a synapse: int64, of shape `arriving`.

    None for ops without synapses.
    """
    if isinstance(op, ops.Linear):
        return np.broadcast_to(np.count_nonzero(op.weight, axis=-2), arriving)
    if isinstance(op, ops.Conv):
        return _windowed(op.weight, op.groups, arriving, _reach_of_conv(op, arriving))
    if isinstance(op, ops.ConvTranspose2d):
        mask = (op.weight != 0).sum(axis=1)
        return _through(mask, _reach_of_transposed(op, arriving))
    if isinstance(op, ops.Pool2d):
        pads = [(p, p) for p in op.padding]
        reach = [
            _reach(n, k, s, pad, 1) for n, k, s, pad in zip(arriving[1:], op.kernel_size, op.stride, pads, strict=True)
        ]
        return _through(np.ones((arriving[0], *op.kernel_size), np.int64), reach)
    if isinstance(op, ops.Scale):
        return np.broadcast_to(op.scale != 0, arriving).astype(np.int64)
    if isinstance(op, ops.BatchNorm):
        return np.broadcast_to((op.weight != 0).reshape(-1, *(1,) * (len(arriving) - 1)), arriving).astype(np.int64)
    if isinstance(op, ops.TokenShift):
        return _token_shift(op, arriving)
    return None


def _windowed(weight: Array, groups: int, arriving: Shape, reach: list[Array]) -> Array:
    """Fan-out of a convolution: taps per input channel that hold a weight, times the outputs each tap reaches."""
    per_group = (weight != 0).reshape(groups, -1, *weight.shape[1:]).sum(axis=1)
    return _through(per_group.reshape(arriving[0], *weight.shape[2:]), reach)


def _through(mask: Array, reach: list[Array]) -> Array:
    """sum over taps of mask[channel, *tap] * product over axes of reach[axis][position, tap]."""
    return reduce(lambda found, axis: np.tensordot(found, axis, axes=([1], [1])), reach, mask.astype(np.int64))


def _reach_of_conv(op: ops.Conv, arriving: Shape) -> list[Array]:
    parts = zip(arriving[1:], op.weight.shape[2:], op.strides, op.pads, op.dilations, strict=True)
    return [_reach(*part) for part in parts]


def _reach(size: int, kernel: int, stride: int, pad: tuple[int, int], dilation: int) -> Array:
    """(size, kernel): 1 where input position i meets tap k at some output o, i = o * stride - pad + k * dilation."""
    outputs = (size + sum(pad) - dilation * (kernel - 1) - 1) // stride + 1
    start = np.arange(size)[:, None] + pad[0] - dilation * np.arange(kernel)[None, :]
    return ((start >= 0) & (start % stride == 0) & (start // stride < outputs)).astype(np.int64)


def _reach_of_transposed(op: ops.ConvTranspose2d, arriving: Shape) -> list[Array]:
    """(size, kernel) per axis: 1 where tap k of input i lands in the output, at o = i * stride - pad + k * dilation."""
    shape = op.infer({"input": arriving})
    assert shape is not None
    found: list[Array] = []
    for axis in range(2):
        lands = np.arange(arriving[1 + axis])[:, None] * op.stride[axis] - op.padding[axis]
        lands = lands + np.arange(op.weight.shape[2 + axis])[None, :] * op.dilation[axis]
        found.append(((lands >= 0) & (lands < shape[1 + axis])).astype(np.int64))
    return found


def _token_shift(op: ops.TokenShift, arriving: Shape) -> Array:
    mix = np.broadcast_to(op.mix, arriving[1:])
    found = np.broadcast_to((mix != 0).astype(np.int64) + (mix != 1), arriving).copy()
    found[-1] -= mix != 1  # the last token has no successor
    return found
