"""The lava target as data: what Loihi's neurons are in Lava, and which rules networks must keep."""

from __future__ import annotations

from dataclasses import fields

from snnir.backends.lava.chip import EXPONENTS, MAX_BIAS, MAX_BIAS_EXP, MAX_DELAY, MAX_THRESHOLD
from snnir.backends.lava.planner import LARGEST
from snnir.backends.lava.rules import MOST_PARTS, RULES
from snnir.ops import IF, LI, LIF, Constant, CubaLI, CubaLIF, Delay, I, Input, Output, Threshold
from snnir.projections import LINEAR_OPS
from snnir.semantics import Semantics
from snnir.target import Ports, Target

SEMANTICS = Semantics(
    comparison=">",
    reset="value",
    latency_input=1,
    latency_neuron=1,
    start="zero",
    number_format="loihi-int24",
)
"""What Lava's fixed_pt models do; `snnir.simulators.loihi` is the same, bit for bit."""

LIMITS = {
    "status": "Lava is archived since May 2026; the bit-exact model here is what runs, Lava 0.10 its oracle",
    "weights": "8 bits (-127..127, or 0..255 where all of a connection have one sign), times 2^k per connection",
    "matrices": f"up to {LARGEST} weights; larger projections have to be convolutions",
    "convolutions": "Lava's Conv: integers q 2^k written out; strides and the like up to 127; relays for delays",
    "exponents of weights": f"{EXPONENTS[0]}..{EXPONENTS[1]}",
    "threshold": f"17 bits (0..{MAX_THRESHOLD}), one per process",
    "bias": f"-{MAX_BIAS}..{MAX_BIAS}, times 2^(0..{MAX_BIAS_EXP})",
    "decays": "4096ths, 12 bits, one pair per process",
    "states": "24 bits; that no current wraps is proven when the network is compiled",
    "delays": f"up to {MAX_DELAY} steps per connection, beyond the one that each takes",
    "spikes per neuron and step": "1; inputs may be graded (up to 24 bits)",
    "parts of a population with different time constants": str(MOST_PARTS),
}

OPTIONS = {
    "input_bits": "bits of the integers that numbers become, 2 to 24, sign included; default 12, into Conv 10",
    "input_range": "largest magnitude of numbers that go in; default what was recorded",
    "threshold": "units of weight that a threshold is, for all populations; default what suits each best",
    "weight_bits": "16 by a coarse and a fine connection per matrix, 9 by one per sign, 8 by one; default 16",
    "period": "steps of a call, after which every neuron is reset, so that calls may follow one another at once",
    "conv": "'conv' for Lava's Conv wherever there is a convolution, 'matrix' for matrices alone, 'auto' (default)",
    "netx": "true: write network.net too, for lava-dl's netx: chains without biases, weights of 8 bits; default false",
}

TARGET = Target(
    name="lava",
    title="Lava 0.10 (Loihi's arithmetic)",
    ops=frozenset({Input, Output, CubaLIF, LIF, IF, CubaLI, LI, I, Threshold, Delay, Constant, *LINEAR_OPS}),
    semantics=SEMANTICS,
    adapts=frozenset(f.name for f in fields(Semantics)),
    rules=RULES,
    extra="lava",
    limits=LIMITS,
    options=OPTIONS,
    ports=Ports(
        most=None,
        membranes=True,
        says="spikes, or numbers as graded spikes",
        late=frozenset({"lava-range", "lava-wrap", "lava-size"}),
    ),
)
