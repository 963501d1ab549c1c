"""Layers without memory, over (T, B, *shape): PyTorch's own, with the time axis folded into the batch.

The classes are PyTorch's (a `state_dict` fits either way); only `forward` differs: one call over T * B samples instead
of a loop over time. Layers of PyTorch that take any number of leading axes (`Linear`, `LayerNorm`, activations,
`PixelShuffle`, `PixelUnshuffle`, ...) need no counterpart. `TimeDistributed` folds time for everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnir.nn.source import caller


def over_time(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`layer`, which takes (samples, *shape), over x of shape (T, B, *shape)."""
    return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def _check(layer: nn.Module, x: Tensor, *ranks: int) -> None:
    if x.dim() not in ranks:
        takes = " or ".join(f"{rank} axes" for rank in ranks)
        raise ValueError(f"{type(layer).__name__} takes (T, B, *shape), {takes}, but {list(x.shape)} arrives")


class Conv1d(nn.Conv1d):
    """torch.nn.Conv1d over (T, B, C, L)."""

    def forward(self, input: Tensor) -> Tensor:
        _check(self, input, 4)
        return over_time(super().forward, input)


class Conv2d(nn.Conv2d):
    """torch.nn.Conv2d over (T, B, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        _check(self, input, 5)
        return over_time(super().forward, input)


class ConvTranspose2d(nn.ConvTranspose2d):
    """torch.nn.ConvTranspose2d over (T, B, C, H, W)."""

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        _check(self, input, 5)
        return over_time(lambda x: super(ConvTranspose2d, self).forward(x, output_size), input)


class AvgPool2d(nn.AvgPool2d):
    """torch.nn.AvgPool2d over (T, B, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        _check(self, input, 5)
        return over_time(super().forward, input)


class SumPool2d(nn.Module):
    """The sum over each window of (T, B, C, H, W); stride defaults to the kernel size."""

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.made_at = caller()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        _check(self, x, 5)
        return over_time(lambda y: F.avg_pool2d(y, self.kernel_size, self.stride, self.padding, divisor_override=1), x)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class BatchNorm1d(nn.BatchNorm1d):
    """torch.nn.BatchNorm1d over (T, B, C) or (T, B, C, L): statistics over time and batch."""

    def forward(self, input: Tensor) -> Tensor:
        _check(self, input, 3, 4)
        return over_time(super().forward, input)


class BatchNorm2d(nn.BatchNorm2d):
    """torch.nn.BatchNorm2d over (T, B, C, H, W): statistics over time, batch and space."""

    def forward(self, input: Tensor) -> Tensor:
        _check(self, input, 5)
        return over_time(super().forward, input)


class Flatten(nn.Flatten):
    """torch.nn.Flatten over (T, B, *shape). Axes count as in PyTorch, on (B, *shape): 1 is the first of shape."""

    def forward(self, input: Tensor) -> Tensor:
        if self.start_dim == 0:
            raise ValueError("start_dim 0 would merge the batch; 1 is the first axis of a sample")
        return over_time(super().forward, input)


class Upsample2d(nn.Module):
    """Nearest-neighbour upsampling of (T, B, C, H, W) by whole factors: y[i, j] = x[i // fh, j // fw]."""

    def __init__(self, factor: int | tuple[int, int] = 2) -> None:
        super().__init__()
        self.made_at = caller()
        self.factor = (factor, factor) if isinstance(factor, int) else tuple(factor)
        if len(self.factor) != 2 or min(self.factor) < 1:
            raise ValueError(f"factor is {factor}, expected one or two whole numbers of at least 1")

    def forward(self, x: Tensor) -> Tensor:
        _check(self, x, 5)
        size = (x.shape[-2] * self.factor[0], x.shape[-1] * self.factor[1])
        return over_time(lambda y: F.interpolate(y, size=size, mode="nearest"), x)

    def extra_repr(self) -> str:
        return f"factor={self.factor}"


class Reshape(nn.Module):
    """(T, B, *any) -> (T, B, *shape), the same elements in order."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.made_at = caller()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], *self.shape)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.shape))


class Scale(nn.Module):
    """y = x * scale; scale broadcasts to the shape of a sample. With `learn`, scale is a parameter, else a buffer."""

    scale: Tensor

    def __init__(self, scale: Any, learn: bool = False) -> None:
        super().__init__()
        self.made_at = caller()
        value = torch.as_tensor(scale, dtype=torch.get_default_dtype()).detach().clone()
        if learn:
            self.register_parameter("scale", nn.Parameter(value))
        else:
            self.register_buffer("scale", value)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale

    def extra_repr(self) -> str:
        return f"{self.scale.item():g}" if self.scale.dim() == 0 else f"{list(self.scale.shape)}"


class TimeDistributed(nn.Module):
    """Any module without memory that takes (B, *shape), over (T, B, *shape)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return over_time(self.module, x)
