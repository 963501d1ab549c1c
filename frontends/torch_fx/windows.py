"""Linear layers, convolutions, pools and upsampling, as functions."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from snnir import ops
from snnir.frontends.torch_fx.builder import Builder
from snnir.frontends.torch_fx.calls import handles
from snnir.frontends.torch_fx.shapes import reshaped, transposed
from snnir.frontends.torch_fx.signals import Refuse, Signal, axis_of, is_time


@handles("linear")
def linear(b: Builder, x: Signal, weight: Tensor, bias: Tensor | None = None) -> Signal:
    """torch.nn.functional.linear."""
    return b.emit(ops.Linear if bias is None else ops.Affine, x, {"weight": weight, "bias": bias})


@handles("conv1d", "conv2d")
def conv(
    b: Builder,
    x: Signal,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Signal:
    """Convolution over one or two spatial axes."""
    kind: type[ops.Conv] = ops.Conv1d if weight.dim() == 3 else ops.Conv2d
    fields: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if bias is None:
        fields["bias"] = np.zeros(weight.shape[0], b.array(weight).dtype)
    return b.emit(kind, x, {"weight": weight, "bias": bias}, **fields)


def spatial(x: Signal) -> tuple[int, int, int]:
    """Channels, height and width of an image signal."""
    if len(x.shape) != 3:
        raise Refuse(f"takes (channels, height, width), but {list(x.shape)} arrives", rule="shape")
    return x.shape[0], x.shape[1], x.shape[2]


@handles("avg_pool2d")
def pool(
    b: Builder,
    x: Signal,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Signal:
    """Mean (or, with divisor 1, sum) over windows."""
    if ceil_mode:
        raise Refuse("ceil_mode=True has no counterpart in the graph", expected="ceil_mode=False")
    if np.any(padding) and not count_include_pad:
        raise Refuse("count_include_pad=False has no counterpart in the graph", expected="count_include_pad=True")
    if divisor_override not in (None, 1):
        raise Refuse(f"divisor_override={divisor_override} has no counterpart in the graph", expected="None or 1")
    kind = ops.AvgPool2d if divisor_override is None else ops.SumPool2d
    # PyTorch's functions take an empty stride for "the kernel size".
    stride = kernel_size if stride is None or (isinstance(stride, (tuple, list)) and not stride) else stride
    return b.emit(kind, x, kernel_size=kernel_size, stride=stride, padding=padding)


@handles("adaptive_avg_pool2d")
def adaptive_pool(b: Builder, x: Signal, output_size: Any) -> Signal:
    """Mean over windows such that the output has the given size, which must divide the input's."""
    _, *size = spatial(x)
    wanted = [output_size] * 2 if not isinstance(output_size, (tuple, list)) else list(output_size)
    wanted = [n if w is None else w for n, w in zip(size, wanted, strict=True)]
    if any(n % w for n, w in zip(size, wanted, strict=True)):
        raise Refuse(f"{size} does not divide into {wanted} equal windows", rule="shape")
    kernel = tuple(n // w for n, w in zip(size, wanted, strict=True))
    return b.emit(ops.AvgPool2d, x, kernel_size=kernel, stride=kernel)


@handles("interpolate", "upsample_nearest")
def upsample(
    b: Builder, x: Signal, size: Any = None, scale_factor: Any = None, mode: str = "nearest", **options: Any
) -> Signal:
    """Nearest-neighbour upsampling by whole factors."""
    if mode != "nearest":
        raise Refuse(f"mode {mode!r} has no counterpart in the graph", expected="'nearest'")
    _, h, w = spatial(x)
    if size is not None:
        wanted = (size, size) if isinstance(size, int) else tuple(size)
        factor = tuple(n / m for n, m in zip(wanted, (h, w), strict=True))
    else:
        factor = tuple(scale_factor) if isinstance(scale_factor, (tuple, list)) else (scale_factor, scale_factor)
    if any(f != int(f) or f < 1 for f in factor):
        raise Refuse(f"upsampling by {factor[0]:g} x {factor[1]:g}", expected="whole factors")
    return b.emit(ops.Upsample2d, x, factor=tuple(int(f) for f in factor))


@handles("pixel_shuffle")
def shuffle(b: Builder, x: Signal, upscale_factor: int) -> Signal:
    """(C r^2, H, W) -> (C, H r, W r)."""
    c, h, w = spatial(x)
    r = upscale_factor
    if c % (r * r):
        raise Refuse(f"{c} channels do not divide into {r} x {r}", rule="shape")
    y = transposed(b, reshaped(b, x, (c // (r * r), r, r, h, w), "split"), (0, 3, 1, 4, 2), "order")
    return reshaped(b, y, (c // (r * r), h * r, w * r))


@handles("pixel_unshuffle")
def unshuffle(b: Builder, x: Signal, downscale_factor: int) -> Signal:
    """(C, H r, W r) -> (C r^2, H, W)."""
    c, h, w = spatial(x)
    r = downscale_factor
    if h % r or w % r:
        raise Refuse(f"{h} x {w} does not divide by {r}", rule="shape")
    y = transposed(b, reshaped(b, x, (c, h // r, r, w // r, r), "split"), (0, 2, 4, 1, 3), "order")
    return reshaped(b, y, (c * r * r, h // r, w // r))


@handles("repeat_interleave")
def repeat(b: Builder, x: Signal, repeats: Any, dim: int | None = None) -> Signal:
    """Every step several times (the linear encoder), or every row or column of an image."""
    if not isinstance(repeats, int) or dim is None:
        raise Refuse("repeats other than a whole number of times along one axis")
    if is_time(x, dim):
        return b.emit(ops.Repeat, x, steps=repeats)
    axis = axis_of(x, dim)
    spatial(x)
    if axis == 0:
        raise Refuse("repeats channels", expected="time, height or width")
    return b.emit(ops.Upsample2d, x, factor=(repeats, 1) if axis == 1 else (1, repeats))
