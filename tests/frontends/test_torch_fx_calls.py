"""Single functions, methods and layers as torch.fx meets them: each gives what PyTorch gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from snnir import nn
from tests.frontends.fx_models import DT, check


class Call(nn.Module):
    """A model whose forward is a function of two linear maps and the model itself."""

    def __init__(self, function: Callable[..., Any], out: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        size = int(np.prod(out))
        self.a, self.b = nn.Linear(5, size), nn.Linear(5, size)
        self.shape = nn.Reshape(*out) if len(out) > 1 else nn.Identity()
        self.spike = nn.LI(3e-3, dt=DT)
        self.gamma = torch.nn.Parameter(torch.rand(out) + 0.5)
        self.position = torch.nn.Parameter(torch.rand(1, 1, *out))
        self.register_buffer("series", torch.rand(12, 1, *out))

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self, self.shape(self.a(x)), self.shape(self.spike(self.b(x))))


CALLS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "a + b": ((6,), lambda m, a, b: a + b),
    "a - b": ((6,), lambda m, a, b: a - b),
    "torch.sub alpha": ((6,), lambda m, a, b: torch.sub(a, b, alpha=3)),
    "torch.add alpha": ((6,), lambda m, a, b: torch.add(a, b, alpha=-0.5)),
    "a += b": ((6,), lambda m, a, b: m.added(a, b)),
    "a + a": ((6,), lambda m, a, b: a + a),
    "a + b + a": ((6,), lambda m, a, b: a + b + a),
    "-a": ((6,), lambda m, a, b: -a),
    "a * 3": ((6,), lambda m, a, b: a * 3),
    "0.5 * a": ((6,), lambda m, a, b: 0.5 * a),
    "a / 4": ((6,), lambda m, a, b: a / 4),
    "a.div(parameter)": ((6,), lambda m, a, b: a.div(m.gamma)),
    "a + 1": ((6,), lambda m, a, b: a + 1),
    "1 - a": ((6,), lambda m, a, b: 1 - a),
    "a * b": ((6,), lambda m, a, b: a * b),
    "a * (a + b)": ((6,), lambda m, a, b: a * (a + b)),
    "channel gate": ((3, 2, 2), lambda m, a, b: a[..., :1, :1] * b),
    "a ** 2": ((6,), lambda m, a, b: a**2),
    "a.square()": ((6,), lambda m, a, b: a.square()),
    "gamma * a": ((6,), lambda m, a, b: m.gamma * a),
    "a * gamma.exp()": ((6,), lambda m, a, b: a * m.gamma.exp()),
    "a + position": ((4, 3), lambda m, a, b: a + m.position),
    "series + a": ((4, 3), lambda m, a, b: m.series + a),
    "channel sum": ((3, 2, 4), lambda m, a, b: a + b.mean((-2, -1), keepdim=True)),
    "matmul": ((6,), lambda m, a, b: a @ m.a.weight[:, :3]),
    "F.linear": ((5,), lambda m, a, b: F.linear(a, m.a.weight, m.b.bias)),
    "F.linear without bias": ((5,), lambda m, a, b: F.linear(a, m.a.weight)),
    "cat": ((6,), lambda m, a, b: torch.cat([a, b], dim=2)),
    "cat of constants": ((6,), lambda m, a, b: torch.cat((a, m.gamma.expand_as(a)), -1)),
    "cat inner": ((3, 2, 4), lambda m, a, b: torch.concat((a, b, a), dim=-2)),
    "flatten": ((3, 2, 4), lambda m, a, b: a.flatten(2)),
    "flatten inner": ((3, 2, 4), lambda m, a, b: torch.flatten(a, start_dim=-2)),
    "unflatten": ((6,), lambda m, a, b: a.unflatten(-1, (2, 3))),
    "nn.Unflatten": ((6,), lambda m, a, b: m.layers["unflatten"](a)),
    "reshape": ((3, 2, 4), lambda m, a, b: a.reshape(a.shape[0], a.size(1), -1, 4)),
    "view": ((3, 2, 4), lambda m, a, b: a.view(*a.shape[:2], 6, 4)),
    "unpacked sizes": ((3, 2, 4), lambda m, a, b: m.unpacked(a)),
    "permute": ((3, 2, 4), lambda m, a, b: a.permute(0, 1, 4, 2, 3)),
    "transpose": ((3, 4), lambda m, a, b: a.transpose(-2, -1)),
    "unsqueeze": ((3, 4), lambda m, a, b: a.unsqueeze(2).squeeze(2).unsqueeze(-1)),
    "slices": ((3, 2, 4), lambda m, a, b: a[:, :, 1:, :, ::2] + a[:, :, :2, :, 1::2]),
    "single index": ((3, 2, 4), lambda m, a, b: a[:, :, 1] + a[..., -1, :, :]),
    "chunk": ((6,), lambda m, a, b: m.gated(a)),
    "split": ((6,), lambda m, a, b: torch.cat(a.split([1, 2, 3], dim=-1)[::-1], -1)),
    "narrow": ((6,), lambda m, a, b: a.narrow(2, 1, 4)),
    "expand": ((3, 2, 4), lambda m, a, b: a[..., :1, :1].expand(*a.shape[:2], -1, 2, 4) * b),
    "builtin sum": ((6,), lambda m, a, b: sum([a, b])),
    "relu": ((6,), lambda m, a, b: F.relu(a) + torch.sigmoid(b) + a.tanh() + F.silu(a) + torch.exp(b)),
    "activations": ((6,), lambda m, a, b: m.layers["relu"](a) + m.layers["silu"](b)),
    "interpolate": ((3, 2, 4), lambda m, a, b: m.up(a)),
    "pools": ((3, 4, 6), lambda m, a, b: m.pooled(a)),
    "repeats": ((3, 2, 4), lambda m, a, b: a.repeat_interleave(2, dim=-1).repeat_interleave(3, 3)),
    "spatial mean": ((3, 4, 6), lambda m, a, b: a.mean(dim=(3, 4))),
    "casts": ((6,), lambda m, a, b: a.double().contiguous().to(b.dtype).detach() + b.clone()),
    "dropout": ((6,), lambda m, a, b: F.dropout(a, 0.5, training=m.training)),
    "shape arithmetic": ((4, 6), lambda m, a, b: m.halves(a)),
    "layer norm": ((4, 6), lambda m, a, b: m.layers["norm"](a) * m.layers["plain norm"](b)),
}


class Methods(Call):
    def added(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        a = a * 1.0
        a += b
        return a

    def unpacked(self, a: torch.Tensor) -> torch.Tensor:
        t, b, c, h, w = a.shape
        return a.view(t, b, c, h * w)

    def gated(self, a: torch.Tensor) -> torch.Tensor:
        value, gate = a.chunk(2, dim=2)
        return value * torch.sigmoid(gate)

    def up(self, a: torch.Tensor) -> torch.Tensor:
        t, b = a.shape[:2]
        y = F.interpolate(a.flatten(0, 1), scale_factor=2)
        return F.interpolate(y, size=(8, 8), mode="nearest").view(t, b, 3, 8, 8)

    def pooled(self, a: torch.Tensor) -> torch.Tensor:
        y = a.flatten(0, 1)
        y = F.avg_pool2d(y, 2) + F.adaptive_avg_pool2d(y, (2, 3)) + F.avg_pool2d(y, (2, 2), divisor_override=1)
        return y.unflatten(0, a.shape[:2])

    def halves(self, a: torch.Tensor) -> torch.Tensor:
        assert a.shape[2] == 4
        assert a.ndim == 4
        total = a[..., : a.shape[-1] // 2]
        for i in range(1, a.shape[2] // 2):
            total = total + a[..., : a.shape[-1] // 2] * i
        return total if len(a.shape) == 4 else a


LAYERS: dict[str, torch.nn.Module] = {
    "unflatten": torch.nn.Unflatten(2, (2, -1)),
    "relu": torch.nn.ReLU(),
    "silu": torch.nn.SiLU(),
    "norm": torch.nn.LayerNorm(6),
    "plain norm": torch.nn.LayerNorm(6, elementwise_affine=False),
}


@pytest.mark.parametrize("call", CALLS)
def test_calls(call: str) -> None:
    out, function = CALLS[call]
    model = Methods(function, out)
    model.layers = torch.nn.ModuleDict(LAYERS)
    check(model, (5,), gain=1.0)
