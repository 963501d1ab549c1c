"""What the tests of the PyTorch family share: compile, run, compare with the interpreter value by value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from snnir.backends.torch_source import TorchArtifact, TorchBackend
from snnir.graph import Graph
from snnir.interpreter import interpret
from snnir.registry import backend
from snnir.target import require
from tests.strategies import inputs_for
from tests.values_equal import same_values

FAMILY = ("torch", "norse", "snntorch", "rockpool", "sinabs", "spikingjelly")


def built(graph: Graph, target: str) -> TorchArtifact:
    """The artifact of a graph, which the target must accept."""
    chosen = backend(target)
    assert isinstance(chosen, TorchBackend)
    require(chosen.target, graph)
    return chosen.build(graph, {})


def same_everywhere(graph: Graph, target: str, steps: int = 12, batch: int = 2, seed: int = 0) -> int:
    """Every op's output in float64: spikes equal at every step, values to 1e-9 of their size. Gives the spike count."""
    artifact = built(graph, target)
    x = inputs_for(graph, T=steps, B=batch, rng=seed)
    wanted, expected = interpret(graph, x, record=list(graph.ops))
    outputs, recorded = artifact.run(x, tuple(graph.ops))
    spikes = same_values(graph, recorded, expected, target)
    by_name = wanted if isinstance(wanted, Mapping) else {graph.outputs[0]: wanted}
    for name, value in by_name.items():
        np.testing.assert_allclose(outputs[name], value, rtol=1e-9, atol=1e-9)
    return spikes


def tensors(inputs: Mapping[str, Any], dtype: Any) -> list[Any]:
    """Inputs as torch tensors, in order."""
    import torch

    return [torch.from_numpy(np.array(value)).to(dtype) for value in inputs.values()]
