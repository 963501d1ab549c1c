"""What the tests of live modules of other frameworks share: inputs, and the check that we agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

import snnir
from snnir.backends.torch_source import TorchBackend
from snnir.graph import Graph
from snnir.registry import backend
from snnir.target import require

DT = 1e-3


class Double(nn.Module):
    """Spikes of frameworks that give float32 whatever their input is, back in float64, so that weights can follow."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.double()


def heaviside(u: torch.Tensor) -> torch.Tensor:
    """A spike function that keeps the precision of its input."""
    return (u > 0).to(u.dtype)


def louder(net: nn.Module, gain: float = 3.0) -> nn.Module:
    """Float64, weights large enough for spikes."""
    net.double().eval()
    for parameter in net.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(gain)
    return net


def noise(*shape: int, steps: int = 30, batch: int = 3, scale: float = 2.0) -> torch.Tensor:
    """Input (T, B, *shape)."""
    return torch.randn(steps, batch, *shape, dtype=torch.float64) * scale


def agree(graph: Graph, x: torch.Tensor, want: torch.Tensor) -> float:
    """Holds the interpreter to what a framework gave, both in float64; gives the sum of the output's sizes."""
    got = snnir.interpret(graph, x.numpy())
    expected = want.detach().numpy()
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)
    return float(np.abs(expected).sum())


def run_on(graph: Graph, target: str, x: torch.Tensor) -> Any:
    """The output of the graph's artifact for a target of the PyTorch family, in float64."""
    chosen = backend(target)
    assert isinstance(chosen, TorchBackend)
    require(chosen.target, graph)
    outputs, _ = chosen.build(graph, {}).run({graph.inputs[0]: x.numpy()}, ())
    return outputs[graph.outputs[0]]
