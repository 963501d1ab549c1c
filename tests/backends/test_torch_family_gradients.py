"""One network, four frameworks, one gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from snnir.graph import Graph
from tests.backends.family import FAMILY, built
from tests.strategies import inputs_for, make_graph

pytestmark = pytest.mark.oracle


def spiking_with(graph: Graph, **metadata: Any) -> Graph:
    made = {n: op.with_(metadata=metadata) if op.spiking else op for n, op in graph.ops.items()}
    return replace(graph, ops=made)


def x_of(graph: Graph, steps: int = 15, batch: int = 4, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.from_numpy(inputs_for(graph, T=steps, B=batch, rng=2)["input"]).to(dtype)


@pytest.mark.parametrize("surrogate", [("triangle", 0.5), ("triangle", 1.0), ("atan", 2.0), ("fast_sigmoid", 1.0)])
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("reset", ["value", "subtract"])
def test_the_same_gradients_in_every_framework(surrogate: tuple[str, float], detach: bool, reset: str) -> None:
    """With the surrogate and the reset's gradient said by the source, four implementations give one gradient.

    The spikes of snnTorch and Rockpool are float32 whatever the model is, and so are the gradients through them.
    """
    for kind in ("conv2d-flatten", "recurrence-affine", "cubalif", "threshold", "if"):
        graph = make_graph(4, kind, "disc", dtype=np.float64)
        graph = spiking_with(graph, surrogate=surrogate[0], surrogate_param=surrogate[1], detach_reset=detach)
        for comparison in (">", ">="):
            meant = replace(graph, semantics=graph.semantics.with_(reset=reset, comparison=comparison))
            found = {target: gradients(meant, target) for target in FAMILY}
            for target in FAMILY[1:]:
                assert found[target].keys() == found["torch"].keys()
                for name, value in found[target].items():
                    scale = float(found["torch"][name].abs().max())
                    assert scale > 1e-6, name
                    tolerance = {"norse": 1e-10}.get(target, 1e-6) * scale
                    torch.testing.assert_close(value, found["torch"][name], rtol=0, atol=tolerance)


def gradients(graph: Graph, target: str) -> dict[str, torch.Tensor]:
    model = built(graph, target).module(torch.float64)
    x = x_of(graph).requires_grad_()
    weight = torch.from_numpy(np.random.default_rng(3).normal(size=(15, 4, *graph.shapes["output"])))
    (model(x) * weight).sum().backward()
    named = {name: as_in_the_graph(model, name, p.grad) for name, p in model.named_parameters() if p.grad is not None}
    return {"input": x.grad, **named} if x.grad is not None else named


def as_in_the_graph(model: torch.nn.Module, name: str, grad: torch.Tensor) -> torch.Tensor:
    """Rockpool's weight matrices are (in, out)."""
    layer = type(model.get_submodule(name.rpartition(".")[0]))
    return grad.T if layer.__mro__[1].__name__ == "LinearTorch" and grad.ndim == 2 else grad


def test_time_constants_can_be_trained() -> None:
    """A neuron parameter that is made an nn.Parameter gets the same, finite gradient from every framework."""
    for kind in ("conv2d-flatten", "recurrence-affine", "cubalif", "li-readout"):
        graph = spiking_with(make_graph(4, kind, "disc", dtype=np.float64), surrogate="atan", detach_reset=True)
        found: dict[str, dict[str, torch.Tensor]] = {}
        for target in FAMILY:
            model = built(graph, target).module(torch.float64)
            for name, buffer in list(model.named_buffers()):
                layer, _, field = name.rpartition(".")
                if field in ("tau", "tau_mem", "tau_syn", "v_threshold"):
                    setattr(model.get_submodule(layer), field, torch.nn.Parameter(buffer))
            model(x_of(graph)).square().sum().backward()
            found[target] = {n: p.grad for n, p in model.named_parameters() if n.partition(".")[2] != "weight"}
        for target in FAMILY[1:]:
            for name, expected in found["torch"].items():
                scale = float(expected.abs().max())
                assert np.isfinite(scale)
                torch.testing.assert_close(found[target][name], expected, rtol=0, atol=1e-5 * max(scale, 1e-9))
        assert any("tau" in name and float(g.abs().max()) > 1e-3 for name, g in found["torch"].items())
