"""The meaning of every op without state: plain NumPy over (N, *shape), N any number of steps and batch elements.

`STATELESS` maps an op type to its function: op and its inputs (one array per port, in the order of `op.ports`) to the
output. Parameters are cast to the dtype of the inputs, so float32 stays float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from snnir import ops
from snnir.interpreter.windows import convolve, windows
from snnir.ops import Array


def _cast(parameter: Array, like: Array) -> Array:
    return parameter.astype(like.dtype, copy=False)


def _linear(op: ops.Linear, x: Array) -> Array:
    weight = _cast(op.weight, x)
    if weight.ndim == 2:
        return x @ weight.T
    return np.einsum("...oi,n...i->n...o", weight, x)


def _affine(op: ops.Affine, x: Array) -> Array:
    return _linear(op, x) + _cast(op.bias, x)


def _scale(op: ops.Scale, x: Array) -> Array:
    return x * _cast(op.scale, x)


def _conv(op: ops.Conv, x: Array) -> Array:
    y = convolve(x, _cast(op.weight, x), op.strides, op.pads, op.dilations, op.groups)
    bias = _cast(op.bias, x)
    return y + (bias.reshape(-1, *(1,) * op.axes) if bias.ndim == 1 else bias)


def _pooled(op: ops.Pool2d, x: Array) -> Array:
    pads = [(p, p) for p in op.padding]
    return windows(x, op.kernel_size, op.stride, pads, (1, 1))


def _sum_pool(op: ops.SumPool2d, x: Array) -> Array:
    return _pooled(op, x).sum(axis=(-2, -1))


def _avg_pool(op: ops.AvgPool2d, x: Array) -> Array:
    return _pooled(op, x).mean(axis=(-2, -1))


def _reshaped(op: ops.Op, x: Array) -> Array:
    shape = op.infer({"input": x.shape[1:]})
    assert shape is not None  # the graph was verified
    return x.reshape(x.shape[0], *shape)


def _batch_norm(op: ops.BatchNorm, x: Array) -> Array:
    factor = op.weight.astype(np.float64) * (op.alpha * op.v_th) / np.sqrt(op.var.astype(np.float64) + op.eps)
    offset = op.bias.astype(np.float64) - factor * op.mean
    along = (-1, *(1,) * (x.ndim - 2))
    return x * _cast(factor, x).reshape(along) + _cast(offset, x).reshape(along)


def _concat(op: ops.Concat, *xs: Array) -> Array:
    return np.concatenate(xs, axis=op.axis + 1 if op.axis >= 0 else op.axis)


def _upsample(op: ops.Upsample2d, x: Array) -> Array:
    return x.repeat(op.factor[0], axis=-2).repeat(op.factor[1], axis=-1)


def _conv_transpose(op: ops.ConvTranspose2d, x: Array) -> Array:
    n, c_in, h, w = x.shape
    (sh, sw), (dh, dw) = op.stride, op.dilation
    weight = _cast(op.weight, x)
    per_group = c_in // op.groups
    # A transposed convolution is the convolution of the input with zeros put between its elements, filters flipped.
    spread = np.zeros((n, c_in, (h - 1) * sh + 1, (w - 1) * sw + 1), dtype=x.dtype)
    spread[:, :, ::sh, ::sw] = x
    flipped = weight[:, :, ::-1, ::-1].reshape(op.groups, per_group, *weight.shape[1:])
    filters = flipped.swapaxes(1, 2).reshape(-1, per_group, *weight.shape[2:])
    reach = (dh * (weight.shape[2] - 1), dw * (weight.shape[3] - 1))
    wide = convolve(
        np.pad(spread, ((0, 0), (0, 0), (0, op.output_padding[0]), (0, op.output_padding[1]))),
        filters,
        (1, 1),
        [(reach[0], reach[0]), (reach[1], reach[1])],
        op.dilation,
        op.groups,
    )
    (ph, pw), (_, _, full_h, full_w) = op.padding, wide.shape
    return wide[:, :, ph : full_h - ph, pw : full_w - pw] + _cast(op.bias, x)[:, None, None]


def _transpose(op: ops.Transpose, x: Array) -> Array:
    return x.transpose(0, *(a + 1 for a in op.axes))


def _slice(op: ops.Slice, x: Array) -> Array:
    axis = op.axis + 1 if op.axis >= 0 else x.ndim + op.axis
    return x[(*(slice(None),) * axis, slice(op.start, op.stop, op.step))]


def _multiply(_: ops.Multiply, a: Array, b: Array) -> Array:
    return a * b


def _layer_norm(op: ops.LayerNorm, x: Array) -> Array:
    axes = tuple(range(-op.weight.ndim, 0))
    centred = x - x.mean(axis=axes, keepdims=True)
    spread = np.sqrt((centred * centred).mean(axis=axes, keepdims=True) + x.dtype.type(op.eps))
    return centred / spread * _cast(op.weight, x) + _cast(op.bias, x)


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x), without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(x.dtype, copy=False)


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "sigmoid": sigmoid,
    "relu": lambda x: np.maximum(x, 0),
    "relu2": lambda x: np.square(np.maximum(x, 0)),
    "silu": lambda x: x * sigmoid(x),
    "exp": np.exp,
    "tanh": np.tanh,
}


def _activation(op: ops.Activation, x: Array) -> Array:
    return _ACTIVATIONS[op.function](x)


def _token_shift(op: ops.TokenShift, x: Array) -> Array:
    before = np.zeros_like(x)
    before[:, 1:] = x[:, :-1]
    mix = _cast(op.mix, x)
    return mix * x + (1 - mix) * before


def _wkv(op: ops.Wkv, k: Array, v: Array) -> Array:
    # The running form keeps the largest exponent apart (o), so that no exponential overflows.
    decay, first = np.exp(_cast(op.log_decay, k)), _cast(op.first, k)
    p, q = np.zeros_like(k[:, 0]), np.zeros_like(k[:, 0])
    o = np.full_like(k[:, 0], -np.inf)
    y = np.empty_like(v)
    for i in range(k.shape[1]):
        top = np.maximum(o, first + k[:, i])
        a, b = np.exp(o - top), np.exp(first + k[:, i] - top)
        y[:, i] = (a * p + b * v[:, i]) / (a * q + b)
        top = np.maximum(o - decay, k[:, i])
        # (o - top) first: it is exact, so that roundings of o do not add up over the tokens.
        a, b = np.exp((o - top) - decay), np.exp(k[:, i] - top)
        p, q, o = a * p + b * v[:, i], a * q + b, top
    return y


def _output(_: ops.Output, x: Array) -> Array:
    return x


STATELESS: dict[type[ops.Op], Callable[..., Any]] = {
    ops.Output: _output,
    ops.Linear: _linear,
    ops.Affine: _affine,
    ops.Scale: _scale,
    ops.Conv1d: _conv,
    ops.Conv2d: _conv,
    ops.SumPool2d: _sum_pool,
    ops.AvgPool2d: _avg_pool,
    ops.Flatten: _reshaped,
    ops.Reshape: _reshaped,
    ops.BatchNorm: _batch_norm,
    ops.Concat: _concat,
    ops.Upsample2d: _upsample,
    ops.ConvTranspose2d: _conv_transpose,
    ops.Transpose: _transpose,
    ops.Slice: _slice,
    ops.Multiply: _multiply,
    ops.LayerNorm: _layer_norm,
    ops.Activation: _activation,
    ops.TokenShift: _token_shift,
    ops.Wkv: _wkv,
}
