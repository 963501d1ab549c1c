"""The chip of SANA-FE's `loihi.yaml`, and where neurons go on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from snnir.ops import Array

CORES, NEURONS_PER_CORE = 128, 1024
NEURONS = CORES * NEURONS_PER_CORE
SYNAPSES = 4_000_000
"""Not Loihi's limit: SANA-FE 2.2.9 takes 1 kB and 20 us for each, so this is 4 GB and two minutes."""
UNREACHABLE = 1e30
"""Threshold of what never spikes."""


@dataclass(frozen=True, eq=False)
class Place:
    """Where the neurons of a population are.

    Attributes:
        core: of each neuron. unit: its number within its core, among those of its kind (inputs, neurons).
    """

    core: Array
    unit: Array


def place(sizes: Mapping[str, int], inputs: frozenset[str]) -> dict[str, Place]:
    """Populations onto cores in order: each from a core of its own on, or without gaps where that takes too many.

    Args:
        sizes: population -> neurons, at most NEURONS in all; inputs: the populations that are inputs.
    """
    own = sum(-(-size // NEURONS_PER_CORE) for size in sizes.values())
    at, used, placed = 0, [0] * CORES, {}
    for name, size in sizes.items():
        if own <= CORES and at % NEURONS_PER_CORE:
            at += NEURONS_PER_CORE - at % NEURONS_PER_CORE
        core = (at + np.arange(size)) // NEURONS_PER_CORE
        unit = np.zeros(size, np.int64)
        if name in inputs:  # every input neuron is a unit of its own
            for one in np.unique(core):
                here = core == one
                unit[here] = used[one] + np.arange(here.sum())
                used[one] += int(here.sum())
        placed[name] = Place(core, unit)
        at += size
    return placed
