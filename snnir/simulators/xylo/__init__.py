"""Xylo, bit for bit: what SynSense's Xylo chips compute, for a whole batch at once, in NumPy.

Arithmetic: xylosim 0.1.3, module v2 (`XyloLayer::evolve`, `XyloIAFNeuron::evolve`), which Rockpool runs for Xylo
Audio 2, Audio 3 and IMU. Every state is int16 and saturates. One step:

1. Input events, then the hidden spikes of the previous step, arrive at the hidden neurons; the same hidden spikes
   arrive at the output neurons. A synaptic current saturates after every single event, in source order.
2. Each neuron: `i -= decay(i)`, `v = sat(v + sat(sat(-decay(v) + sum(i)) + bias))`, then, while `v >= threshold` and
   its spikes are below the cap (31 hidden, 1 output): one spike, `v -= threshold`.
   `decay(x) = x >> dash`, but at least 1 for a positive x.
3. A hidden neuron adds its spikes to those of its alias targets: neurons are updated in order of id, so a target with
   a higher id starts its own count from there, a lower one has already spent its membrane.

So input reaches the hidden neurons in the same step, and each hidden connection or read-out adds one step.

This package needs NumPy and nothing else, and imports nothing else of snnir: `snnir.simulators.source_files` gives it a
name of its own, under which it travels with a compiled network.
"""

from __future__ import annotations

from snnir.simulators.xylo.run import XyloRun, XyloSteps, simulate
from snnir.simulators.xylo.spec import FAMILIES, MAX_HIDDEN_SPIKES, MAX_INPUT_EVENTS, MAX_OUTPUT_SPIKES, XyloSpec

__all__ = [
    "FAMILIES",
    "MAX_HIDDEN_SPIKES",
    "MAX_INPUT_EVENTS",
    "MAX_OUTPUT_SPIKES",
    "XyloRun",
    "XyloSpec",
    "XyloSteps",
    "simulate",
]
