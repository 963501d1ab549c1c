"""How one neuron of the network becomes one neuron of the chip, in integers.

A Xylo neuron does, per step (`snnir.simulators.xylo`):  i = (i + w) - i/2^dash_syn,  v = v - v/2^dash_mem + i + bias,
a spike per threshold that fits into v. Four uses of it:

- CURRENT: a CubaLIF neuron, one to one. dash = -log2(1 - decay), rounded; 1 is the least (0 would forget at once).
- DIRECT: a LIF or IF neuron, whose input acts at once, while the chip's synapse would spread it over steps. The synapse
  is made the membrane: dash_syn is the membrane's, dash_mem = 0 lets v repeat i, and each spike returns to its own
  neuron with the weight -threshold, which arrives before i is used again: exactly the reset by subtraction.
- RELAY: repeats spike counts one step later. DIRECT with dash_syn = 1, weight 2a, threshold a: i = a n for n spikes,
  and the returning weight -a clears it. As an output neuron, which has no returning weight, a synapse that saturates
  does the same for 0 or 1 spikes: 32512 + 16384 saturates to 32767, so i is 16256 or 16384 after a spike and at most
  8192 after none.
- DRIVER: threshold = bias, so one spike in every step.
- STARTER: spikes in the first step only; from then on its own spikes and the driver's hold it down.

A hidden neuron spikes as often as its threshold fits into its membrane, the source's once per step. DIRECT neurons do
as the source: their membrane is lifted by a constant c, their threshold to threshold + c, while a spike still takes off
the threshold alone. A second spike would need a membrane of 2 threshold + c, and c is chosen so that none gets there.
The starter brings c, the driver keeps it from leaking away. (For IF neurons nothing leaks, but for the chip's least
decay of one unit per step.)
"""

from __future__ import annotations

import numpy as np

from snnir.backends.xylo.chip import MAX_DASH
from snnir.ops import Array
from snnir.projections import Network
from snnir.semantics import Decay, Semantics

DRIVER_BIAS = 100
STARTER_BIAS = 120
STARTER_SPIKES = 8
OUTPUT_RELAY_SHIFT = 8
OUTPUT_RELAY_WEIGHT = 127
OUTPUT_RELAY_THRESHOLD = 16256


def ideal_dash(decay: Array) -> Array:
    """The real number d with 1 - 2^-d = decay; infinite for a state that does not decay."""
    with np.errstate(divide="ignore"):
        return -np.log2(1.0 - np.asarray(decay, np.float64))


def nearest_dash(decay: Array) -> Array:
    """The chip's dash, 1 to 15, whose decay is nearest."""
    return np.clip(np.rint(np.minimum(ideal_dash(decay), MAX_DASH)), 1, MAX_DASH).astype(np.int64)


def dash_decay(dash: Array) -> Array:
    """The decay per step that a dash stands for."""
    return 1.0 - 2.0 ** -np.asarray(dash, np.float64)


def time_constant(decay: Array, dt: float, rule: Decay) -> Array:
    """The tau in seconds that has this decay per step under `rule`; infinite for a state that does not decay."""
    decay = np.asarray(decay, np.float64)
    with np.errstate(divide="ignore"):
        if rule == "euler":
            return dt / (1.0 - decay)
        return np.where(decay > 0, -dt / np.log(np.maximum(decay, 1e-300)), 0.0)


def needs_driver(network: Network, name: str, semantics: Semantics) -> bool:
    """Whether the constant that a population receives is too large for the chip's own 8-bit bias.

    Bias and weights share a scale. A weight of 127 << S moves the membrane by (2^dash_syn - 1) times that in all, a
    bias by at most 127 per step: so biases beyond an eighth (S = 3) of what the largest weight adds to the current at
    once do not fit. DIRECT neurons have no bias that would accumulate at all.
    """
    population = network.populations[name]
    rule = population.rule
    if rule is None:
        return False
    constant = constant_drive(network, name, semantics)
    if not population.current_based:
        return bool(constant.any())
    assert rule.decay_syn is not None
    assert rule.gain_syn is not None
    weights = [np.abs(p.weight).max(axis=0) for p in network.into(name)]
    largest = np.max([np.zeros(population.size), *weights], axis=0)
    amplitude = np.abs(largest * rule.gain * rule.gain_syn) / dash_decay(nearest_dash(rule.decay_syn))
    return bool(((np.abs(constant) > amplitude / 8) & (amplitude > 0)).any())


def constant_drive(network: Network, name: str, semantics: Semantics) -> Array:
    """What the membrane of a population receives in every step when nothing spikes, once currents have settled."""
    population = network.populations[name]
    rule = population.rule
    assert rule is not None
    arriving = network.bias.get(name, np.zeros(population.size)) * rule.gain
    if population.current_based:
        assert rule.decay_syn is not None
        assert rule.gain_syn is not None
        return arriving * rule.gain_syn / (1.0 - rule.decay_syn) + rule.drive
    # A DIRECT membrane that starts at rest keeps v_leak in its threshold instead.
    return arriving + (rule.drive if semantics.start == "zero" else 0.0)
