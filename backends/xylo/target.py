"""The three Xylo targets, as data: what they hold, what they do in a step, which rules networks must keep."""

from __future__ import annotations

from dataclasses import fields

from snnir.backends.xylo.chip import AUDIO2, AUDIO3, IMU, MAX_EVENTS, MAX_SPIKES, Chip
from snnir.backends.xylo.rules import MEANING, ROOM, bind
from snnir.ops import IF, LIF, CubaLIF, Delay, Input, Output
from snnir.projections import LINEAR_OPS
from snnir.semantics import Semantics
from snnir.target import Ports, Target

SEMANTICS = Semantics(
    decay="shift",
    comparison=">=",
    reset="subtract",
    spikes_per_step=MAX_SPIKES,
    latency_neuron=1,
    start="zero",
    number_format="xylo-int16",
)
"""What the chip does; `snnir.simulators.xylo` is the same, bit for bit. Every field that a network can mean otherwise
either follows from the conversion (decay, comparison, latency, start, order) or has its own rule (reset, floor)."""


def target_of(chip: Chip) -> Target:
    """A chip as a target."""
    limits = {
        "part": chip.part,
        "input channels": str(chip.inputs),
        "events per channel and step": str(MAX_EVENTS),
        "hidden neurons": str(chip.hidden),
        "output neurons": str(chip.outputs),
        "hidden neurons that inputs reach": f"the first {chip.input_expansion}" if chip.expands else "all",
        "hidden neurons that outputs read": f"the last {chip.output_expansion}" if chip.expands else "all",
        "hidden targets of a neuron": str(chip.fan_out),
        "connections between hidden neurons": str(chip.entries),
        "synaptic currents per hidden neuron": str(chip.synapses),
        "spikes per hidden neuron and step": str(MAX_SPIKES),
        "spikes per output neuron and step": "1",
        "weights": "8 bits, shifted left by 0-8 bits per matrix",
        "states and thresholds": "16 bits",
        "biases": "8 bits",
        "decay per step": "1 - 2^-dash, dash 1-15",
    }
    return Target(
        name=chip.name,
        title=chip.title,
        ops=frozenset({Input, Output, CubaLIF, LIF, IF, Delay, *LINEAR_OPS}),
        semantics=SEMANTICS,
        adapts=frozenset(f.name for f in fields(Semantics)),
        rules=tuple(bind(rule, chip) for rule in (*ROOM, *MEANING)),
        extra="xylo",
        limits=limits,
        options={
            "choose_dt": "seconds of the chip's step, or true for what suits its decays best; default the network's"
        },
        ports=Ports(
            most=MAX_EVENTS,
            membranes=False,
            says=f"whole numbers of 0 to {MAX_EVENTS} events",
            inputs=chip.inputs,
            outputs=chip.outputs,
            neurons=chip.hidden + chip.outputs,
            late=frozenset({"xylo-mismatch"}),
            alone=frozenset({"choose_dt"}),
        ),
    )


CHIPS = {chip.name: chip for chip in (AUDIO2, AUDIO3, IMU)}
