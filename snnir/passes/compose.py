"""Two linear ops as one: one after the other (`compose`), or side by side on the same input (`add_ops`).

Every result is exact up to rounding; where no single op does the same, `Declined` says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnir.interpreter.stateless import STATELESS
from snnir.ops import (
    Affine,
    Array,
    AvgPool2d,
    Conv,
    ConvTranspose2d,
    Linear,
    Op,
    Pool2d,
    Scale,
    Shape,
    Upsample2d,
)
from snnir.passes import convolution
from snnir.passes.common import Declined, along_channels, compact, float_type, per_channel, size, wide
from snnir.passes.gains import absorb


@dataclass(frozen=True)
class Cost:
    """What an op costs: numbers to keep (biases aside), multiplications per step."""

    weights: int
    macs: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.weights + other.weights, self.macs + other.macs)


Check = Callable[[Cost], None]
"""Raises Declined when a fused op of that cost is not worth it; called before the weights are computed."""


def cost(op: Op, end: Shape) -> Cost:
    """The dense cost of an op whose output has shape `end`."""
    if isinstance(op, Linear):
        return Cost(op.weight.size, size(end) * op.weight.shape[-1])
    if isinstance(op, Conv):
        return Cost(op.weight.size, size(end) * op.weight[0].size)
    if isinstance(op, ConvTranspose2d):
        # Every output sees about one tap in stride of each axis.
        return Cost(op.weight.size, size(end) * op.weight[:, 0].size // op.groups // size(op.stride))
    if isinstance(op, Scale):
        return Cost(op.scale.size, size(end))
    if isinstance(op, Pool2d):
        return Cost(0, size(end) * size(op.kernel_size))
    return Cost(0, 0)


def compose(first: Op, second: Op, start: Shape, middle: Shape, end: Shape, bias_map: bool, check: Check) -> Op:
    """The op that does `second` after `first`.

    Args:
        start, middle, end: shapes of the first one's input and output, and of the second one's output.
        bias_map: whether a convolution may get a bias map (the snn dialect's; NIR has none).
        check: see `Check`.

    Raises:
        Declined: no op does the same, or `check` says so.
    """
    if isinstance(second, Scale) and isinstance(first, (Scale, Linear, Conv, ConvTranspose2d)):
        scaled = absorb(first, compact(wide(second.scale), end), end)
        if scaled is not None:
            check(cost(scaled, end))
            return scaled
    if isinstance(second, Linear) and isinstance(first, (Scale, Linear)):
        return _dense(first, second, middle, end, check)
    if isinstance(first, Upsample2d) and isinstance(second, (Upsample2d, Pool2d)):
        return _after_upsample(first, second, start, end)
    if isinstance(first, ConvTranspose2d) or isinstance(second, ConvTranspose2d):
        return _with_transposed(first, second, start, middle, end, check)
    f, g = convolution.as_filter(first, start), convolution.as_filter(second, middle)
    if f is None or g is None or f.axes != g.axes:
        raise Declined(_no_form(first, second, start, middle))
    convolution.check_border(f, g, start, middle, end)
    fused = convolution.chain(f, g) if isinstance(first, Pool2d) and isinstance(second, Pool2d) else None
    pool = convolution.as_pool(fused, start, end, second) if fused else None
    if pool is not None:
        check(cost(pool, end))
        return pool
    weights = convolution.chained_weights(f, g)
    check(Cost(weights, weights // end[0] * size(end)))
    bias = convolution.bias_through(g, convolution.bias_of(first, middle), middle, end)
    bias = convolution.add_biases(bias, convolution.bias_of(second, end))
    if bias.ndim > 1 and not bias_map:
        raise Declined("the first one's bias would become a bias map, and bias_map=false")
    like = first if isinstance(first, Conv) else second
    kind = float_type(*(getattr(op, name) for op in (first, second) for name in op.arrays))
    return convolution.as_conv(fused or convolution.chain(f, g), bias, start, end, like, kind)


def add_ops(a: Op, b: Op, start: Shape, end: Shape, check: Check) -> Op:
    """The op whose output is the sum of both; they read the same input and give the same shape.

    Raises:
        Declined: no op does the same, or `check` says so.
    """
    kind = float_type(*(getattr(op, name) for op in (a, b) for name in op.arrays))
    if isinstance(a, Scale) and isinstance(b, Scale):
        scaled = Scale(scale=compact(_sum(a.scale, b.scale), start).astype(kind), metadata=a.metadata, loc=a.loc)
        check(cost(scaled, end))
        return scaled
    if isinstance(a, (Scale, Linear)) and isinstance(b, (Scale, Linear)):
        return _dense_sum(a, b, start, end, kind, check)
    f, g = convolution.as_filter(a, start), convolution.as_filter(b, start)
    if f is None or g is None or f.axes != g.axes:
        raise Declined(f"no single op is the sum of a {a.kind} and a {b.kind}")
    total = convolution.add(f, g)
    check(Cost(total.weight.size, size(end) * total.weight[0].size))
    bias = convolution.add_biases(convolution.bias_of(a, end), convolution.bias_of(b, end))
    return convolution.as_conv(total, bias, start, end, a if isinstance(a, Conv) else b, kind)


def affine_form(op: Op, start: Shape, end: Shape) -> tuple[Array, Array]:
    """Any stateless linear op on flattened values: (matrix (out, in), offset (out,)), float64, by its own meaning."""
    n = size(start)
    function = STATELESS[type(op)]
    offset = function(op, np.zeros((1, *start))).reshape(-1)
    # Without the bias nothing has to be taken off again, so the matrix holds the weights to the bit.
    bare = op.with_(bias=op.bias * 0) if "bias" in op.arrays else op  # type: ignore[attr-defined]
    left = function(bare, np.zeros((1, *start))).reshape(-1)
    matrix = np.empty((size(end), n))
    rows = max(1, (1 << 22) // max(size(end), n))  # unit vectors at a time: keeps the memory flat
    for at in range(0, n, rows):
        units = np.zeros((min(rows, n - at), n))
        units[np.arange(units.shape[0]), at + np.arange(units.shape[0])] = 1.0
        found = function(bare, units.reshape(-1, *start)).reshape(units.shape[0], -1)
        matrix[:, at : at + units.shape[0]] = (found - left).T
    return matrix, offset


def is_pointwise(op: Op, middle: Shape) -> bool:
    """Whether an op acts on each pixel of (C, H, W) alone, and on all alike."""
    if isinstance(op, Scale):
        return len(middle) == 3 and per_channel(wide(op.scale), middle) is not None
    return (
        isinstance(op, Conv)
        and op.bias.ndim == 1
        and all(k == 1 for k in op.weight.shape[2:])
        and all(s == 1 for s in op.strides)
        and not any(map(any, op.pads))
    )


# -- dense -------------------------------------------------------------------------------------------------------------


def _dense(first: Op, second: Linear, middle: Shape, end: Shape, check: Check) -> Op:
    """A Linear or Affine after a Scale or another one: W2 diag(s), or W2 W1 and W2 b1 + b2."""
    weight = wide(second.weight)
    if isinstance(first, Scale):
        scale = compact(wide(first.scale), middle)
        shared = all(n == 1 for n in scale.shape[:-1])
        columns = scale.reshape(1, -1) if shared else np.broadcast_to(scale, middle)[..., None, :]
        n = size(np.broadcast_shapes(weight.shape, columns.shape))
        check(Cost(n, size(end) * weight.shape[-1]))
        return second.with_(weight=(weight * columns).astype(float_type(second.weight)))
    if not isinstance(first, Linear):
        raise Declined(f"no single op does a {first.kind} and then a {second.kind}")
    lead = np.broadcast_shapes(first.weight.shape[:-2], second.weight.shape[:-2])
    check(Cost(size(lead) * weight.shape[-2] * first.weight.shape[-1], size(end) * first.weight.shape[-1]))
    kind = float_type(first.weight, second.weight)
    product = (weight @ wide(first.weight)).astype(kind)
    common: dict[str, Any] = {"metadata": first.metadata, "loc": first.loc or second.loc}
    biases = [wide(second.bias)] if isinstance(second, Affine) else []
    if isinstance(first, Affine):
        bias = np.broadcast_to(wide(first.bias), (*first.bias.shape[:-1], first.weight.shape[-2]))
        biases.append((weight @ bias[..., None])[..., 0])
    if not biases:
        return Linear(weight=product, **common)
    return Affine(weight=product, bias=sum(biases[1:], biases[0]).astype(kind), **common)


def _dense_sum(a: Op, b: Op, start: Shape, end: Shape, kind: np.dtype[Any], check: Check) -> Op:
    def parts(op: Op) -> tuple[Array, Array]:
        if isinstance(op, Linear):
            return wide(op.weight), wide(op.bias) if isinstance(op, Affine) else np.zeros(())
        scale = compact(wide(op.scale), start) if isinstance(op, Scale) else np.zeros(())
        if not all(n == 1 for n in scale.shape[:-1]):
            raise Declined("a scale that differs along leading axes has no place in a shared weight")
        return np.diag(np.broadcast_to(scale.reshape(-1), start[-1:])), np.zeros(())

    (w1, b1), (w2, b2) = parts(a), parts(b)
    check(Cost(size(np.broadcast_shapes(w1.shape, w2.shape)), size(end) * w1.shape[-1]))
    like = a if isinstance(a, Linear) else b
    common: dict[str, Any] = {"weight": (w1 + w2).astype(kind), "metadata": like.metadata, "loc": like.loc}
    if not isinstance(a, Affine) and not isinstance(b, Affine):
        return Linear(**common)
    return Affine(bias=_sum(b1, b2).astype(kind), **common)


def _sum(a: Array, b: Array) -> Array:
    return wide(a) + wide(b)


# -- upsampling and transposed convolutions --------------------------------------------------------------------------


def _after_upsample(first: Upsample2d, second: Op, start: Shape, end: Shape) -> Op:
    if isinstance(second, Upsample2d):
        factor = tuple(a * b for a, b in zip(first.factor, second.factor, strict=True))
        return Upsample2d(factor=factor, metadata=first.metadata, loc=first.loc)
    if isinstance(second, AvgPool2d):
        parts = [[n // f for n, f in zip(ns, first.factor, strict=True)] for ns in _geometry(second)]
        whole = all(n % f == 0 for ns in _geometry(second) for n, f in zip(ns, first.factor, strict=True))
        pool = second.with_(kernel_size=parts[0], stride=parts[1], padding=parts[2]) if whole else None
        if pool is not None and pool.infer({"input": start}) == end:
            return pool
    raise Declined(f"the windows of a {second.kind} do not fall on whole pixels of what was upsampled")


def _geometry(pool: Pool2d) -> tuple[tuple[int, ...], ...]:
    return pool.kernel_size, pool.stride, pool.padding


def _with_transposed(first: Op, second: Op, start: Shape, middle: Shape, end: Shape, check: Check) -> Op:
    """Scale, or a pointwise convolution in one group, before or after a transposed convolution."""
    if isinstance(first, Scale) and isinstance(second, ConvTranspose2d):
        channel = per_channel(wide(first.scale), start)
        if channel is None:
            raise Declined("the scale differs within a channel")
        weight = wide(second.weight) * along_channels(channel, 4)
        check(cost(second, end))
        return second.with_(weight=weight.astype(float_type(second.weight)))
    if isinstance(first, ConvTranspose2d) and isinstance(second, Conv) and is_pointwise(second, middle):
        if first.groups == second.groups == 1:
            mix = wide(second.weight)[:, :, 0, 0]
            weights = first.weight.shape[0] * mix.shape[0] * size(first.weight.shape[2:])
            check(Cost(weights, weights // mix.shape[0] * size(end) // size(first.stride)))
            kind = float_type(first.weight, second.weight)
            return first.with_(
                weight=np.einsum("om,imhw->iohw", mix, wide(first.weight)).astype(kind),
                bias=(mix @ wide(first.bias) + wide(second.bias)).astype(kind),
            )
    raise Declined(_no_form(first, second, start, middle))


def _no_form(first: Op, second: Op, start: Shape, middle: Shape) -> str:
    for op, shape in ((first, start), (second, middle)):
        if isinstance(op, Scale) and len(shape) in (2, 3) and per_channel(wide(op.scale), shape) is None:
            return "the scale differs within a channel, which a convolution's weights cannot"
    return f"no single op does a {first.kind} and then a {second.kind}"
