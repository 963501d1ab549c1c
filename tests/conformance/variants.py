"""The cases of the group 'variants': what some simulators do in a step that NIR's forward Euler does not.

Which one is stated with the case. Whoever cannot do it should refuse; whoever takes the file silently is wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from snnir import ops
from snnir.graph import Graph
from snnir.semantics import NIR_SEMANTICS
from tests.conformance.parts import case, cubalif, full, lif, line, linear, means, net, sets, weights, without
from tests.conformance.structure import recurrent

Rng = np.random.Generator


def _variant(rng: Rng, neuron: Any, n: int = 3, **fields: Any) -> Graph:
    return line(4, n, NIR_SEMANTICS.with_(**fields), fc=linear(rng, 4, n), lif=neuron)


@case(
    "reset-subtract",
    "a spike subtracts the threshold",
    {"v is set to v_reset": means(reset="value"), "the reset comes one step late": means(reset="delayed-subtract")},
    group="variants",
)
def _subtract(rng: Rng) -> Graph:
    return _variant(rng, lif(3, threshold=0.84375), reset="subtract")


@case(
    "comparison-at-least",
    "a spike already where v equals the threshold",
    {"a spike only where v > v_threshold": means(comparison=">")},
    group="variants",
    on_threshold=True,
)
def _at_least(rng: Rng) -> Graph:
    weight = np.array([[0.5, 0.25, 0.25, 0.0], [0.25, 0.5, 0.0, 0.5], [0.75, 0.0, 0.25, 0.25]], np.float32)
    semantics = NIR_SEMANTICS.with_(comparison=">=")
    return line(4, 3, semantics, fc=ops.Affine(weight=weight, bias=full(3, 0.0)), lif=lif(3, tau=2.0))


@case(
    "decay-exponential",
    "states decay by e^(-dt/tau), inputs enter by 1 - e^(-dt/tau)",
    {"decay by 1 - dt/tau": means(decay="euler"), "inputs enter in full": means(gain="unit")},
    group="variants",
)
def _exponential(rng: Rng) -> Graph:
    return _variant(rng, lif(3, threshold=0.84375), decay="exponential")


@case(
    "gain-unit",
    "inputs enter in full, whatever tau is: v = (1 - dt/tau) v + r I",
    {"inputs enter by dt/tau": means(gain="ode"), "r is ignored": sets("lif", r=1.0)},
    group="variants",
)
def _unit(rng: Rng) -> Graph:
    return _variant(rng, lif(3, tau=8.0, r=0.5, threshold=0.59375), gain="unit")


@case(
    "several-spikes",
    "as many spikes in a step as thresholds fit into the membrane, each subtracting one",
    {"at most one spike": means(spikes_per_step=1), "v is set to v_reset": means(reset="value")},
    group="variants",
)
def _several(rng: Rng) -> Graph:
    return _variant(rng, lif(3, threshold=0.34375), reset="subtract", spikes_per_step=None)


@case(
    "reset-late",
    "the threshold is subtracted in the step behind the spike, as snnTorch's Leaky does by default",
    {"the threshold is subtracted at once": means(reset="subtract"), "v is set to v_reset": means(reset="value")},
    group="variants",
)
def _late(rng: Rng) -> Graph:
    return _variant(rng, lif(3, r=1.0, threshold=0.84375), reset="delayed-subtract", gain="unit")


@case(
    "membrane-floor",
    "membranes do not fall below -1/16",
    {"nothing bounds membranes": means(membrane_floor=None), "membranes stop at 0": means(membrane_floor=0.0)},
    group="variants",
)
def _floor(rng: Rng) -> Graph:
    fc = linear(rng, 4, 3, low=-1.0)
    return line(4, 3, NIR_SEMANTICS.with_(membrane_floor=-0.0625), fc=fc, lif=lif(3, threshold=0.84375))


@case(
    "start-zero",
    "membranes start at 0, although they leak to v_leak",
    {"membranes start at v_leak": means(start="rest"), "v_leak is ignored": sets("lif", v_leak=0.0)},
    group="variants",
)
def _start(rng: Rng) -> Graph:
    return _variant(rng, lif(3, tau=8.0, leak=0.75, threshold=0.96875), start="zero")


@case(
    "membrane-first",
    "the membrane reads the current of the step before",
    {"the current is updated first": means(order="synapse-first")},
    group="variants",
)
def _membrane_first(rng: Rng) -> Graph:
    return _variant(rng, cubalif(3, threshold=1.34375), order="membrane-first")


@case(
    "latency",
    "a spike reaches the next layer one step later, as on chips",
    {"spikes pass within the step": means(latency_neuron=0)},
    group="variants",
)
def _latency(rng: Rng) -> Graph:
    middle: Any = {
        "fc1": linear(rng, 4, 4),
        "n1": lif(4, threshold=0.84375),
        "fc2": linear(rng, 4, 3),
        "n2": lif(3, threshold=0.71875),
        "skip": linear(rng, 4, 3),
    }
    edges = "input>fc1 fc1>n1 n1>fc2 fc2>n2 input>skip skip>n2 n2>output"
    return net({"input": 4}, {"output": 3}, edges, NIR_SEMANTICS.with_(latency_neuron=1), **middle)


@case(
    "recurrent-bias-late",
    "the bias of a recurrent connection arrives with its first values, at step 1",
    {
        "the bias is there at step 0": means(recurrent_bias_at_start=True),
        "the bias is dropped": sets("back", bias=0.0),
    },
    group="variants",
)
def _recurrent_bias(rng: Rng) -> Graph:
    back = ops.Affine(weight=weights(rng, 4, 4, low=-1.0), bias=np.array([0.75, -0.5, 0.375, 0.25], np.float32))
    return recurrent(rng, lif(4, threshold=0.84375), back, NIR_SEMANTICS.with_(recurrent_bias_at_start=False))


@case(
    "rockpool-step",
    "exponential decay, inputs in full, subtraction, several spikes: Rockpool's LIF",
    {
        "decay by 1 - dt/tau": means(decay="euler"),
        "at most one spike": means(spikes_per_step=1),
        "inputs enter by 1 - e^(-dt/tau)": means(gain="ode"),
    },
    group="variants",
)
def _rockpool(rng: Rng) -> Graph:
    neuron = cubalif(3, r=1.0, w_in=1.0, threshold=1.15625)
    neuron = neuron.with_(w_in=full(3, float(np.exp(-1 / 2.0))))  # the input decays in the step that it comes
    fields: Any = {"decay": "exponential", "gain": "unit", "comparison": ">=", "reset": "subtract"}
    return _variant(rng, neuron, spikes_per_step=2**16, start="zero", **fields)


@case(
    "sinabs-step",
    "exponential decay, inputs in full, subtraction, several spikes, no current: sinabs's LIF",
    {
        "decay by 1 - dt/tau": means(decay="euler"),
        "at most one spike": means(spikes_per_step=1),
        "inputs enter by 1 - e^(-dt/tau)": means(gain="ode"),
    },
    group="variants",
)
def _sinabs(rng: Rng) -> Graph:
    neuron = lif(3, r=1.0, threshold=0.71875)
    fields: Any = {"decay": "exponential", "gain": "unit", "comparison": ">=", "reset": "subtract"}
    return _variant(rng, neuron, spikes_per_step=None, recurrent_bias_at_start=False, start="zero", **fields)


# What Xylo does in a step, but for its integers: decays are 1 - 2^-dash (tau of 2, 4, 8 steps), inputs enter in full,
# membranes subtract, a spike takes a step to the next layer.
CHIP = NIR_SEMANTICS.with_(
    gain="unit", comparison=">=", reset="subtract", spikes_per_step=31, latency_neuron=1, start="zero"
)
_ONE_STEP = {"spikes pass within the step": means(latency_neuron=0), "v is set to v_reset": means(reset="value")}


@case(
    "chip-layers",
    "two layers of current-based neurons as on Xylo: unit gain, subtraction, a step from layer to layer",
    _ONE_STEP,
    group="variants",
)
def _chip_layers(rng: Rng) -> Graph:
    middle: Any = {
        "fc1": linear(rng, 4, 4),
        "n1": cubalif(4, r=1.0, w_in=1.0, threshold=2.84375),
        "fc2": linear(rng, 4, 3),
        "n2": cubalif(3, r=1.0, w_in=1.0, threshold=2.71875),
    }
    return line(4, 3, CHIP, **middle)


@case(
    "chip-recurrent",
    "a recurrent layer as on Xylo: spikes come back after a step, and reach the next layer then",
    {**_ONE_STEP, "the recurrent connection is lost": without("n>back back>n")},
    group="variants",
)
def _chip_recurrent(rng: Rng) -> Graph:
    neuron = cubalif(4, r=1.0, w_in=1.0, threshold=2.84375)
    middle: Any = {"fc": linear(rng, 4, 4), "n": neuron, "back": linear(rng, 4, 4, low=-1.0, high=0.5)}
    middle |= {"out": linear(rng, 4, 3), "m": cubalif(3, r=1.0, w_in=1.0, threshold=2.71875)}
    return net({"input": 4}, {"output": 3}, "input>fc fc>n n>back back>n n>out out>m m>output", CHIP, **middle)
