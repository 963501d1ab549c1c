"""A layout for Loihi run in floats, straight from its meaning: what the integers approximate, before any rounding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from snnir.backends.lava.plan import Plan

Array = np.ndarray[Any, np.dtype[Any]]


def run_floats(
    plan: Plan, inputs: Mapping[str, Array], strict: bool
) -> tuple[dict[str, Array], dict[str, Array], float]:
    """Outputs and populations' spikes (T, B, size) in the chip's own time; every wire takes a step and its delay.

    The last value is how near any membrane came to its threshold of 1: at 0, rounding decides whether it spikes.
    """
    nearest = np.inf
    steps, batch = next(iter(inputs.values())).shape[:2]
    sent = {name: x.reshape(steps, batch, -1) for name, x in inputs.items()}
    sent |= {c.name: np.zeros((steps, batch, c.size)) for c in plan.cells}
    state = {c.name: np.zeros((2, batch, c.size)) for c in plan.cells}
    numbers = {c.name: np.zeros((steps, batch, c.size)) for c in plan.cells}
    for t in range(steps):
        for c in plan.cells:
            if c.driver:
                sent[c.name][t] = 1.0
                continue
            if plan.resets.get(c.name) == t:
                state[c.name][:] = 0.0
            u, v = state[c.name]
            u *= c.decay_syn
            for w in plan.wires:
                if w.target == c.name and t - 1 - w.delay >= 0:
                    u += w.apply(sent[w.source][t - 1 - w.delay])
            v *= c.decay
            v += u + plan.bias.get(c.name, 0.0)
            if c.trace == "spikes":
                nearest = min(nearest, float(np.abs(v - 1.0).min()))
                fired = v > 1 if strict else v >= 1
                sent[c.name][t] = fired
                v[fired] = 0.0
            numbers[c.name][t] = u if c.trace == "u" else v
    outputs = {}
    for name, read in plan.reads.items():
        parts = np.zeros((steps, batch, len(read.which)))
        for e, (which, index, shift) in enumerate(zip(read.which, read.index, read.shift, strict=True)):
            source = (sent if read.trace == "spikes" else numbers)[read.cells[which]]
            parts[shift:, :, e] = source[: steps - shift, :, index]
        outputs[name] = parts + read.constant
    spikes = {}
    for name, population in plan.network.populations.items():
        spikes[name] = np.zeros((steps, batch, population.size))
        for c in plan.cells_of(name):
            spikes[name][:, :, c.ids] = sent[c.name]
    return outputs, spikes, nearest
