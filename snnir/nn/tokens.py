"""Layers of RWKV over tokens, (T, B, tokens, channels): token shift, WKV, squared ReLU; learned tokens; plain norm.

`ExponentialFilter2d` is WKV without keys, over tokens that lie as a map.

Each is one op of the graph under the same parameter names, so weights go either way by `state_dict`.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snnir.nn.layers import _check, over_time
from snnir.nn.source import caller
from snnir.nn.wkv import wkv_parallel, wkv_running

Form = Literal["auto", "running", "parallel"]


class TokenShift(nn.Module):
    """y[l] = mix * x[l] + (1 - mix) * x[l - 1] along the tokens of (T, B, tokens, channels), x[-1] = 0 (RWKV-4).

    Args:
        mix: (channels,), or one number for all; learned.
    """

    def __init__(self, mix: Any) -> None:
        super().__init__()
        self.made_at = caller()
        self.mix = nn.Parameter(torch.as_tensor(mix, dtype=torch.get_default_dtype()).detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        _check(self, x, 4)
        return self.mix * x + (1 - self.mix) * F.pad(x[..., :-1, :], (0, 0, 1, 0))

    def extra_repr(self) -> str:
        return f"{list(self.mix.shape)}"


class Wkv(nn.Module):
    """RWKV-4's causal mean of v weighted by e^k, k and v (T, B, tokens, channels); see `snnir.nn.wkv`.

    Args:
        log_decay, first: (channels,); learned. The paper's time_decay and time_first.
        form: 'running' (token by token, least work), 'parallel' (all tokens at once) or 'auto': running on a CPU.
    """

    def __init__(self, log_decay: Any, first: Any, form: Form = "auto") -> None:
        super().__init__()
        self.made_at = caller()
        if form not in ("auto", "running", "parallel"):
            raise ValueError(f"form is {form!r}, expected 'auto', 'running' or 'parallel'")
        dtype = torch.get_default_dtype()
        self.log_decay = nn.Parameter(torch.as_tensor(log_decay, dtype=dtype).detach().clone())
        self.first = nn.Parameter(torch.as_tensor(first, dtype=dtype).detach().clone())
        self.form = form
        if self.log_decay.dim() != 1 or self.first.shape != self.log_decay.shape:
            shapes = f"{list(self.log_decay.shape)} and {list(self.first.shape)}"
            raise ValueError(f"log_decay and first have shapes {shapes}, expected (channels,) both")

    def forward(self, k: Tensor, v: Tensor, /) -> Tensor:
        _check(self, k, 4)
        parallel = self.form == "parallel" or (self.form == "auto" and k.device.type != "cpu")
        return (wkv_parallel if parallel else wkv_running)(k, v, self.log_decay, self.first)

    def extra_repr(self) -> str:
        return f"{len(self.first)}, form={self.form!r}"


class ExponentialFilter2d(nn.Module):
    """A mean of tokens that lie as a map, (T, B, channels, rows, columns), weighed by how near they are, per channel.

    y[r, c] = sum over i, j of 0 to reach of d^(i + j) x[r +- i, c +- j], over the sum of those weights; beyond the
    border x is 0. It is what WKV (RWKV-4, arXiv 2305.13048) is where all keys are equal: an exponential filter, which
    is a convolution. Channels k, k + 4, ... look towards one of four corners (both signs), so that together they hear
    every direction; their d rises with k from e^-2.7 to e^-0.05. Nothing is learned: weights around it choose.

    Args:
        channels: at least 1. reach: tokens that it looks away, along either axis.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, channels: int, reach: int) -> None:
        super().__init__()
        self.made_at = caller()
        if channels < 1 or reach < 0:
            raise ValueError(f"channels {channels}, reach {reach}: expected at least 1 and at least 0")
        rank = torch.arange(channels) // 4 / max((channels - 1) // 4, 1)
        decay = torch.exp(-torch.exp(1 - 4 * rank)).view(-1, 1)
        far = torch.arange(reach + 1)
        after = F.pad(decay**far, (reach, 0))  # (channels, 2 reach + 1): what lies behind in a convolution's order
        sides = torch.stack([after, after.flip(-1)])
        corner = torch.arange(channels) % 4
        rows, columns = (sides[side, torch.arange(channels)] for side in (corner // 2, corner % 2))
        kernel = rows[:, :, None] * columns[:, None, :]
        self.register_buffer("weight", (kernel / kernel.sum((-1, -2), keepdim=True))[:, None])
        self.register_buffer("bias", torch.zeros(channels))  # as in the graph, whose convolutions have one
        self.reach = reach

    def forward(self, x: Tensor) -> Tensor:
        _check(self, x, 5)
        return over_time(lambda y: F.conv2d(y, self.weight, self.bias, padding=self.reach, groups=len(self.weight)), x)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, reach={self.reach}"


class SquaredReLU(nn.Module):
    """y = max(x, 0)^2, of any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu().square()


class Constant(nn.Module):
    """`value` at every step and for every sample, whatever x of (T, B, *any) holds: (T, B, *value.shape).

    Args:
        value: of one sample. learn: whether training changes it (a position embedding, learned tokens).
    """

    value: Tensor

    def __init__(self, value: Any, learn: bool = False) -> None:
        super().__init__()
        self.made_at = caller()
        kept = torch.as_tensor(value, dtype=torch.get_default_dtype()).detach().clone()
        if learn:
            self.register_parameter("value", nn.Parameter(kept))
        else:
            self.register_buffer("value", kept)

    def forward(self, x: Tensor) -> Tensor:
        return self.value.expand(*x.shape[:2], *self.value.shape)

    def extra_repr(self) -> str:
        return f"{list(self.value.shape)}"


class PlainLayerNorm(nn.Module):
    """(x - mean) / sqrt(var + eps) over the last axis of length `size`, with nothing learned.

    It is torch.nn.LayerNorm(size, elementwise_affine=False), whose ones and zeros are buffers, as in the graph.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.made_at = caller()
        self.register_buffer("weight", torch.ones(size))
        self.register_buffer("bias", torch.zeros(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, None, None, self.eps)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps:g}"
