"""Small denoising networks that do spike: random weights, batch-norm statistics as training leaves them, in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

import snnir
from snnir.diffusion.spec import spec_of
from snnir.graph import Graph
from snnir.models import fsddim

Array = np.ndarray[Any, np.dtype[Any]]
TINY = fsddim.Config(image=(1, 6, 6), widths=(4, 6), blocks=1, time=(8, 16), middle=1)


def denoiser(seed: int = 0, double: bool = True, paper: bool = False, **options: Any) -> Graph:
    """The graph of a tiny network; `options` are fields of `fsddim.Config`."""
    torch.manual_seed(seed)
    config = replace(TINY, **options)
    module = (fsddim.PaperUNet if paper else fsddim.SmallUNet)(config)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, torch.nn.Linear):  # of the time path: as they begin, its neurons would never spike
                layer.weight.mul_(4.0)
                layer.bias.mul_(4.0)
            if isinstance(layer, torch.nn.BatchNorm2d):
                n = layer.running_mean.shape
                layer.running_mean.copy_(0.3 * torch.randn(n, generator=draw))
                layer.running_var.copy_(0.02 + 0.3 * torch.rand(n, generator=draw))
                layer.weight.copy_(0.7 + 0.6 * torch.rand(n, generator=draw))
                layer.bias.copy_(0.2 + 0.4 * torch.randn(n, generator=draw))
    graph = snnir.load(module.eval())
    return doubled(graph) if double else graph


def doubled(graph: Graph) -> Graph:
    """The graph with all arrays in float64, where rounding flips no spike."""
    ops = {
        name: op.with_(**{a: getattr(op, a).astype(np.float64) for a in op.arrays if getattr(op, a) is not None})
        for name, op in graph.ops.items()
    }
    return replace(graph, ops=ops)


def noise(graph: Graph, seed: int = 0, batch: int = 2) -> Array:
    """The start of a sampler: the same noise at every SNN step, (S, B, *currents)."""
    spec = spec_of(graph)
    drawn = np.random.default_rng(seed).normal(size=(1, batch, *spec.currents))
    return np.broadcast_to(drawn, (spec.steps, batch, *spec.currents))


def spiking(graph: Graph) -> list[str]:
    """Names of the ops that spike."""
    return [name for name, op in graph.ops.items() if op.spiking]


def rate(spikes: dict[str, Array]) -> float:
    """Spikes per neuron and step, over all populations."""
    return float(sum(v.sum() for v in spikes.values()) / sum(v.size for v in spikes.values()))
