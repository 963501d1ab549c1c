"""Layers with weights: Gemm, MatMul, convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from snnir.frontends.onnx.builder import Builder
from snnir.frontends.onnx.node import Node
from snnir.frontends.onnx.readers import reads
from snnir.frontends.onnx.values import Const, Refuse, Signal, Skip, Value
from snnir.ops import Affine, Array, Conv1d, Conv2d, ConvTranspose2d, Linear, Transpose


@reads("Gemm")
def gemm(b: Builder, node: Node) -> Value:
    """alpha * x @ W + beta * c."""
    x, weight = node.signal(0), node.const(1, "weight")
    if node.attribute("transA", 0):
        raise Refuse("transposes its input", expected="transA=0")
    weight = weight if node.attribute("transB", 0) else weight.T
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    if alpha != 1:
        weight = weight * weight.dtype.type(alpha)
    offset = node.given(2)
    if isinstance(offset, Signal):
        product = b.emit(Linear(weight=weight, loc=b.loc), x)
        return b.total([product, b.scaled(offset, np.float64(beta), "beta")])
    if offset is None:
        return b.emit(Linear(weight=weight, loc=b.loc), x)
    if not isinstance(offset, Const):
        raise Skip
    bias = b.fitted(offset, Signal(x.sources, (len(weight),), x.lead))
    bias = bias if beta == 1 else bias * bias.dtype.type(beta)
    return b.emit(Affine(weight=weight, bias=np.broadcast_to(bias, (len(weight),)), loc=b.loc), x)


@reads("MatMul")
def matmul(b: Builder, node: Node) -> Value:
    """A signal and a constant matrix, on either side; an Add behind it becomes its bias."""
    left, right = node.given(0), node.given(1)
    if isinstance(left, Signal) and isinstance(right, Const):
        weight = _matrix(right.array)
        return b.emit(Linear(weight=weight.T, loc=b.loc), left)
    if isinstance(left, Const) and isinstance(right, Signal) and len(right.shape) >= 2:
        if left.array.ndim > 2 and right.shape[-1] == 1:  # a matrix of its own for each vector
            vectors = b.reshaped(right, right.shape[:-1], "vectors")
            product = b.emit(Linear(weight=left.array, loc=b.loc), vectors, "product")
            return b.reshaped(product, (*product.shape, 1))
        last = tuple(range(len(right.shape) - 2))
        turn = Transpose(axes=(*last, len(last) + 1, len(last)), loc=b.loc)
        product = b.emit(Linear(weight=_matrix(left.array), loc=b.loc), b.emit(turn, right, "turned"), "product")
        return b.emit(turn, product)
    raise Refuse("multiplies two values that follow from the inputs", expected="a constant matrix on one side")


def _matrix(array: Array) -> Array:
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2:
        raise Refuse(f"its weight has shape {list(array.shape)}", expected="a matrix")
    return array


@reads("Conv")
def conv(b: Builder, node: Node) -> Value:
    """Over one or two spatial axes; padding that differs at both ends becomes weights of zero."""
    x, weight = node.signal(0), node.const(1, "weight")
    n = _spatial(x, weight)
    stride, dilation = _sizes(node, "strides", n), _sizes(node, "dilations", n)
    pads = padding(node, x.shape[1:], weight.shape[2:], stride, dilation)
    weight, each = even_padding(weight, pads, dilation)
    bias = node.maybe(2, "bias")
    kind: Any = Conv1d if n == 1 else Conv2d
    op = kind(
        weight=weight,
        bias=np.zeros(len(weight), weight.dtype) if bias is None else bias,
        stride=stride,
        padding=each,
        dilation=dilation,
        groups=int(node.attribute("group", 1)),
        loc=b.loc,
    )
    return b.emit(op, x)


def _spatial(x: Signal, weight: Array) -> int:
    n = weight.ndim - 2
    if n not in (1, 2):
        raise Refuse(f"is a convolution over {n} axes", expected="1 or 2")
    if len(x.shape) != n + 1:
        raise Refuse(f"takes (channels, {n} spatial axes), but {list(x.shape)} arrives")
    return n


def _sizes(node: Node, name: str, n: int, default: int = 1) -> tuple[int, ...]:
    return tuple(int(v) for v in node.attribute(name, [default] * n))


def padding(
    node: Node, size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> list[tuple[int, int]]:
    """Padding (before, after) per spatial axis, from `pads` or `auto_pad`."""
    mode = node.attribute("auto_pad", "NOTSET")
    n = len(kernel)
    if mode in ("NOTSET", ""):
        pads = [int(p) for p in node.attribute("pads", [0] * (2 * n))]
        if min(pads, default=0) < 0:
            raise Refuse(f"pads by {pads}", expected="0 or more")
        return list(zip(pads[:n], pads[n:], strict=True))
    if mode == "VALID":
        return [(0, 0)] * n
    found = []
    for length, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        total = max(0, (-(-length // s) - 1) * s + d * (k - 1) + 1 - length)
        small, large = total // 2, total - total // 2
        found.append((small, large) if mode == "SAME_UPPER" else (large, small))
    return found


def even_padding(weight: Array, pads: list[tuple[int, int]], dilation: Sequence[int]) -> tuple[Array, tuple[int, ...]]:
    """The weight and equal padding at both ends that do the same: taps of zero reach what is padded too much."""
    reach = [(0, 0), (0, 0)]
    for axis, ((before, after), d) in enumerate(zip(pads, dilation, strict=True)):
        more, left = divmod(abs(after - before), d)
        if left:
            raise Refuse(f"pads axis {axis} by {before} and {after} with dilation {d}", expected="equal padding")
        reach.append((more, 0) if after > before else (0, more))
    return (np.pad(weight, reach) if any(map(any, reach)) else weight), tuple(max(pair) for pair in pads)


@reads("ConvTranspose")
def conv_transpose(b: Builder, node: Node) -> Value:
    """Over two spatial axes, with equal padding at both ends."""
    x, weight = node.signal(0), node.const(1, "weight")
    if _spatial(x, weight) != 2:
        raise Refuse("is a transposed convolution over 1 axis", expected="2")
    stride, dilation = _sizes(node, "strides", 2), _sizes(node, "dilations", 2)
    more, groups = _sizes(node, "output_padding", 2, 0), int(node.attribute("group", 1))
    if node.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID", "") or "output_shape" in node.attributes:
        raise Refuse("derives its padding from its output's shape", expected="pads")
    pads = [int(p) for p in node.attribute("pads", [0] * 4)]
    if pads[:2] != pads[2:] or min(pads) < 0:
        raise Refuse(f"pads by {pads[:2]} and {pads[2:]}", expected="equal padding at both ends")
    bias = node.maybe(2, "bias")
    bias = np.zeros(weight.shape[1] * groups, weight.dtype) if bias is None else bias
    fields: dict[str, Any] = {"stride": stride, "padding": pads[:2], "output_padding": more, "dilation": dilation}
    return b.emit(ConvTranspose2d(weight=weight, bias=bias, groups=groups, **fields, loc=b.loc), x)
