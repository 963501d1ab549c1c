"""Loihi's integer neurons and synapses as Lava computes them, bit for bit, for a whole batch at once, in NumPy.

Arithmetic: Lava 0.10 (lava-nc), the `fixed_pt` process models of `LIF`, `LIFReset`, `Dense`, `DelayDense`, `Sparse`,
`DelaySparse` and `Conv` (`lava/proc/{lif,dense,sparse,conv}/models.py`, `lava/proc/conv/utils.py`,
`lava/utils/weightutils.py`). Once per connection, but for convolutions:

    w = clip(w): 0..255 excitatory (and "null"), -255..0 inhibitory, -256..255 mixed signs
    w = (w >> k) << k,  k = 8 - num_weight_bits + (1 if mixed)   # floor; of -w if inhibitory

so mixed weights of 8 bits are even. One step t, with tz(x) = x / 4096 rounded towards zero:

    a = sum over connections of  (w @ s[t - 1 - delay]) << weight_exp   # or >> -weight_exp: the floor of the whole sum
          and over convolutions  (w * s[t - 1] + 2**23) % 2**24 - 2**23   # w as it is; 0 where w * s leaves int32
    u = wrap(tz(u * (4095 - du)) + (a << 6))    # u > 2**23: u - 2**24;  u <= -2**23: u + 2**24
    v = clip(tz(v * (4096 - dv)) + u + (bias_mant << bias_exp), -(2**23 - 1), 2**23 - 1)
    s = v > (vth << 6);  v = 0 where s          # strictly above; hard reset

A current that leaves its range changes sign without a word: `largest_currents` says beforehand whether it can. Every
connection takes one step, inputs' too. Sums that leave int32 wrap, as in Lava.

This package needs NumPy and nothing else, and imports nothing else of snnir: `snnir.simulators.source_files` gives it a
name of its own, under which it travels with a compiled network.
"""

from __future__ import annotations

from snnir.simulators.loihi.bounds import largest_currents
from snnir.simulators.loihi.convolution import Convolution, synapse_count
from snnir.simulators.loihi.network import Connection, LoihiSpec, Population
from snnir.simulators.loihi.ranges import CURRENT_LIMIT, MAX_DELAY, MAX_THRESHOLD, SIGN_MODES
from snnir.simulators.loihi.run import LoihiRun, simulate
from snnir.simulators.loihi.steps import LoihiSteps
from snnir.simulators.loihi.synapses import effective_weights

__all__ = [
    "CURRENT_LIMIT",
    "MAX_DELAY",
    "MAX_THRESHOLD",
    "SIGN_MODES",
    "Connection",
    "Convolution",
    "LoihiRun",
    "LoihiSpec",
    "LoihiSteps",
    "Population",
    "effective_weights",
    "largest_currents",
    "simulate",
    "synapse_count",
]
