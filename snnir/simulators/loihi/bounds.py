"""Before a run: how large a current can become, so that none wraps unnoticed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from snnir.simulators.loihi.network import LoihiSpec
from snnir.simulators.loihi.ranges import ALIGN, UNITY, Array
from snnir.simulators.loihi.synapses import Synapses, all_synapses


def largest_currents(spec: LoihiSpec, largest_input: int | Mapping[str, int] = 1) -> dict[str, float]:
    """A bound on |u| of every population: below `CURRENT_LIMIT`, no current can ever wrap; infinite if nothing decays.

    In the worst case all that pushes a neuron one way arrives in every step, and nothing that pushes the other way;
    `largest_input` is the largest magnitude that arrives at graded connections from inputs, of all or by name.
    """
    peaks = largest_input if isinstance(largest_input, Mapping) else dict.fromkeys(spec.inputs, largest_input)
    return current_bounds(spec, largest_arrivals(spec, all_synapses(spec), peaks))


def current_bounds(spec: LoihiSpec, arriving: Mapping[str, Array]) -> dict[str, float]:
    bounds = {}
    for population in spec.populations:
        lost = np.broadcast_to(population.du + 1.0, population.size)
        current = arriving[population.name] * 2.0**ALIGN
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = np.where(current == 0, 0.0, current * UNITY / lost)
        bounds[population.name] = float(bound.max())
    return bounds


def largest_arrivals(
    spec: LoihiSpec, synapses: Mapping[str, list[Synapses]], largest: Mapping[str, int]
) -> dict[str, Array]:
    """A bound on the magnitude of what reaches each neuron in one step, before its alignment."""
    arriving = {p.name: np.zeros((2, p.size)) for p in spec.populations}
    for name, group in synapses.items():
        for each in group:  # values from inputs may be negative
            arriving[name] += each.reach(largest[each.source] if each.source in spec.inputs else None)
    return {name: ways.max(axis=0) for name, ways in arriving.items()}
