"""A NIR importer of the tests' own, right but for the one fault that is planted in it."""

from __future__ import annotations

from typing import Any

import nir
import nirtorch
import torch

FAULT = ""
DT = 2**-10


class Membrane(torch.nn.Module):
    """LIF in forward Euler."""

    def __init__(self, node: Any) -> None:
        super().__init__()
        fields = {
            n: torch.from_numpy(getattr(node, n)).float() for n in ("tau", "r", "v_leak", "v_threshold", "v_reset")
        }
        for name in fields:
            setattr(self, name, torch.zeros_like(fields[name]) if FAULT == name else fields[name])
        if FAULT == "r":
            self.r = torch.ones_like(self.r)
        self.dt = 1e-4 if FAULT == "dt" else DT

    def forward(self, x: Any, state: Any = None) -> Any:
        v = self.v_leak if state is None else state
        v = v + self.dt / self.tau * (self.v_leak - v + self.r * x)
        z = (v >= self.v_threshold if FAULT == ">=" else v > self.v_threshold).float()
        v = v - z * self.v_threshold if FAULT == "subtract" else torch.where(z > 0, self.v_reset, v)
        return z, v


def affine(node: Any) -> Any:
    """A linear layer."""
    weight = torch.from_numpy(node.weight).float()
    made = torch.nn.Linear(weight.shape[1], weight.shape[0])
    made.weight.data = weight.T if FAULT == "weight" else weight
    made.bias.data = torch.from_numpy(node.bias).float() * (FAULT != "bias")
    return made


def from_nir(graph: Any) -> Any:
    """The module of a graph of Affine and LIF."""
    if FAULT == "edge":
        graph.edges = [edge for edge in graph.edges if edge != ("b", "n1")]
    return nirtorch.nir_to_torch(graph, {nir.Affine: affine, nir.LIF: Membrane})
