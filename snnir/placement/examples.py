"""Inputs to look at a network with, where nobody recorded any."""

from __future__ import annotations

from math import lcm

import numpy as np

from snnir.graph import Graph
from snnir.ops import Array, Repeat
from snnir.placement.kinds import rates
from snnir.stimuli import described, stimuli

BATCH, STEPS = 4, 20


def example(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Inputs (T, B, *shape) by name: noise, times and labels for a denoising network, else spikes (`snnir.stimuli`)."""
    fields = graph.metadata.get("diffusion", {})
    if not {"input", "time"} <= set(fields):
        return stimuli(graph, None if described(graph) else _whole_means(graph), BATCH, seed)
    from snnir.diffusion.spec import spec_of

    spec = spec_of(graph)
    rng = np.random.default_rng(seed)
    steps = 1 if any(isinstance(op, Repeat) for op in graph.ops.values()) else spec.steps
    found: dict[str, Array] = {}
    for name in graph.inputs:
        shape = graph.shapes[name]
        if name == spec.input:
            one = rng.standard_normal((1, BATCH, *shape))
        elif name == spec.time:
            times = np.linspace(0, spec.timesteps - 1, BATCH + 2)[1:-1]
            one = np.asarray(spec.embed(times), np.float64).reshape(1, BATCH, *shape)
        else:
            one = np.eye(shape[-1])[rng.integers(0, shape[-1], BATCH)].reshape(1, BATCH, *shape)
        found[name] = one.repeat(steps, axis=0)
    return found


def _whole_means(graph: Graph) -> int:
    """At least `STEPS`, and so many that they divide into every mean."""
    one = lcm(*(rate.denominator for rate in rates(graph).values()))
    return -(-STEPS // one) * one
