"""The cases of the group 'core': NIR's equations in a forward Euler step, one thing each."""

from __future__ import annotations

from typing import Any

import numpy as np

from snnir import ops
from snnir.graph import Graph
from tests.conformance.parts import (
    STEP,
    affine,
    case,
    cubalif,
    currents,
    full,
    if_,
    later,
    li,
    lif,
    line,
    linear,
    means,
    replaced,
    sets,
    silence,
    skipping,
    spikes,
    weights,
)

Rng = np.random.Generator

# -- one membrane ----------------------------------------------------------------------------------------------------


@case(
    "lif",
    "Euler step of a leaky membrane, spike and reset in the same step",
    {
        "decay by e^(-dt/tau) for 1 - dt/tau": means(decay="exponential"),
        "the spike's threshold is subtracted, v is not set to v_reset": means(reset="subtract"),
        "the input is not multiplied by dt/tau": means(gain="unit"),
    },
)
def _lif(rng: Rng) -> Graph:
    return line(4, 3, fc=linear(rng, 4, 3), lif=lif(3, threshold=0.84375))


@case("lif-r", "r multiplies the input of a LIF", {"r is ignored": sets("lif", r=1.0)})
def _lif_r(rng: Rng) -> Graph:
    return line(4, 3, fc=linear(rng, 4, 3, low=0.0, high=2.0), lif=lif(3, r=3.0, threshold=0.84375))


@case(
    "lif-heterogeneous",
    "tau and v_threshold differ from neuron to neuron",
    {
        "one tau for all neurons: the first's": sets("lif", tau=lambda tau: tau[0]),
        "one tau for all neurons: the mean": sets("lif", tau=lambda tau: tau.mean()),
        "one threshold for all neurons: the first's": sets("lif", v_threshold=lambda v: v[0]),
    },
)
def _heterogeneous(rng: Rng) -> Graph:
    fields: Any = {"tau": [2.0, 4.0, 16.0, 8.0], "threshold": [0.5625, 1.1875, 0.8125, 1.5625]}
    return line(4, 4, fc=linear(rng, 4, 4, low=-0.25), lif=lif(4, **fields))


@case(
    "lif-v-leak",
    "the membrane leaks to v_leak, which is not 0, and starts there",
    {
        "v_leak is ignored": sets("lif", v_leak=0.0),
        "the membrane starts at 0": means(start="zero"),
    },
    stimulus=lambda rng, graph: spikes(rng, graph, rate=0.25),
)
def _v_leak(rng: Rng) -> Graph:
    return line(4, 3, fc=linear(rng, 4, 3), lif=lif(3, leak=0.625, threshold=0.96875))


@case(
    "lif-v-reset",
    "a spike sets the membrane to v_reset, which is not 0",
    {
        "the membrane is reset to 0": sets("lif", v_reset=0.0),
        "the threshold is subtracted": means(reset="subtract"),
    },
)
def _v_reset(rng: Rng) -> Graph:
    return line(4, 3, fc=linear(rng, 4, 3, low=0.0), lif=lif(3, reset=-0.5, threshold=0.96875))


@case(
    "lif-on-threshold",
    "a membrane that equals its threshold exactly gives no spike: v > v_threshold",
    {"a spike already where v = v_threshold": means(comparison=">=")},
    on_threshold=True,
    stimulus=lambda rng, graph: spikes(rng, graph, rate=0.7),
)
def _on_threshold(rng: Rng) -> Graph:
    weight = np.array([[0.5, 0.25, 0.25, 0.0], [0.25, 0.5, 0.0, 0.5], [0.75, 0.0, 0.25, 0.25]], np.float32)
    return line(4, 3, fc=ops.Affine(weight=weight, bias=full(3, 0.0)), lif=lif(3, tau=2.0))


@case(
    "lif-inhibition",
    "membranes go below v_reset and v_leak; nothing bounds them",
    {
        "membranes stop at 0": means(membrane_floor=0.0),
        "membranes stop at -v_threshold": means(membrane_floor=-0.125),
        "negative inputs count as 0": sets("fc", weight=lambda w: np.maximum(w, 0)),
    },
)
def _inhibition(rng: Rng) -> Graph:
    return line(4, 3, fc=linear(rng, 4, 3, low=-1.5, high=1.5), lif=lif(3, tau=8.0, threshold=0.96875))


@case(
    "lif-strong-input",
    "at most one spike per step, however far the threshold is passed",
    {
        "as many spikes as thresholds fit": means(spikes_per_step=None),
        "the threshold is subtracted, not the membrane reset": means(reset="subtract"),
    },
)
def _strong(rng: Rng) -> Graph:
    return line(4, 3, fc=linear(rng, 4, 3, low=0.5, high=3.0), lif=lif(3, threshold=0.96875))


@case(
    "lif-graded-input",
    "inputs are real numbers of both signs, not only spikes",
    {"the input is not multiplied by dt/tau": means(gain="unit"), "the membrane stops at 0": means(membrane_floor=0.0)},
    stimulus=currents,
)
def _graded(rng: Rng) -> Graph:
    return line(3, 3, lif=lif(3, tau=4.0, threshold=1.03125))


@case(
    "if",
    "v grows by dt r I and does not leak (r = 1/dt)",
    {
        "the membrane leaks (beta 15/16)": replaced("if", lambda op: _leaking(op)),
        "the threshold is subtracted": means(reset="subtract"),
    },
)
def _if(rng: Rng) -> Graph:
    middle: Any = {"fc": linear(rng, 4, 3), "if": if_(3, threshold=1.21875)}
    return line(4, 3, **middle)


def _leaking(op: Any) -> Any:
    tau = full(3, 16 * STEP)
    return ops.LIF(tau=tau, r=op.r * tau, v_leak=full(3, 0.0), v_threshold=op.v_threshold, v_reset=op.v_reset)


@case("if-r", "r multiplies the input of an IF", {"r is taken for 1/dt": sets("if", r=1 / STEP)})
def _if_r(rng: Rng) -> Graph:
    middle: Any = {"fc": linear(rng, 4, 3), "if": if_(3, gain=0.5, threshold=0.71875)}
    return line(4, 3, **middle)


@case(
    "if-on-threshold",
    "an IF that equals its threshold exactly gives no spike",
    {"a spike already where v = v_threshold": means(comparison=">=")},
    on_threshold=True,
)
def _if_on_threshold(rng: Rng) -> Graph:
    middle: Any = {"fc": linear(rng, 4, 3, low=0.25, high=0.25), "if": if_(3)}
    return line(4, 3, **middle)


@case(
    "li-readout",
    "the output is the membrane of a leaky integrator",
    {
        "the LI is left out": skipping("li"),
        "decay by e^(-dt/tau)": means(decay="exponential"),
    },
)
def _li(rng: Rng) -> Graph:
    return line(4, 2, fc=linear(rng, 4, 4), lif=lif(4, threshold=0.96875), out=linear(rng, 4, 2), li=li(2))


@case(
    "li-at-rest",
    "without input a leaky integrator stays at v_leak, where it starts",
    {"the membrane starts at 0": means(start="zero"), "v_leak is ignored": sets("li", v_leak=0.0)},
    stimulus=silence,
)
def _li_rest(rng: Rng) -> Graph:
    return line(4, 4, li=li(4, tau=[4.0, 8.0, 4.0, 2.0], leak=[0.5, -0.75, 1.0, 0.25]))


@case(
    "integrator",
    "I adds dt r I to its output and forgets nothing",
    {"the integrator leaks": replaced("i", lambda op: li(2)), "r is ignored": sets("i", r=1.0)},
)
def _integrator(rng: Rng) -> Graph:
    return line(4, 2, fc=linear(rng, 4, 2), i=ops.I(r=full(2, [0.5 / STEP, 0.125 / STEP])))


# -- current-based neurons -------------------------------------------------------------------------------------------

ONE_LATE = "the membrane reads the current of the step before"


@case(
    "cubalif",
    "a synaptic current in front of the membrane, updated before the membrane reads it",
    {
        ONE_LATE: means(order="membrane-first"),
        "decay by e^(-dt/tau)": means(decay="exponential"),
        "r and w_in are ignored": sets("cuba", r=1.0, w_in=1.0),
    },
)
def _cubalif(rng: Rng) -> Graph:
    return line(4, 3, fc=linear(rng, 4, 3), cuba=cubalif(3, threshold=1.21875))


@case(
    "cubalif-gains",
    "w_in multiplies what the current takes, r what the membrane takes",
    {
        "w_in is ignored": sets("cuba", w_in=1.0),
        "r is ignored": sets("cuba", r=1.0),
        "w_in and r are ignored": sets("cuba", w_in=1.0, r=1.0),
        "inputs are not multiplied by dt/tau": means(gain="unit"),
    },
)
def _cubalif_gains(rng: Rng) -> Graph:
    cuba = cubalif(3, r=6.0, w_in=3.0, threshold=2.71875)
    return line(4, 3, fc=linear(rng, 4, 3), cuba=cuba)


@case(
    "cubalif-heterogeneous",
    "tau_syn, tau_mem and w_in differ from neuron to neuron",
    {
        "one tau_syn for all neurons": sets("cuba", tau_syn=lambda tau: tau[0]),
        "one tau_mem for all neurons": sets("cuba", tau_mem=lambda tau: tau[0]),
        "tau_syn and tau_mem are swapped": replaced(
            "cuba", lambda op: op.with_(tau_syn=op.tau_mem, tau_mem=op.tau_syn)
        ),
        "one w_in for all neurons": sets("cuba", w_in=lambda w: w[0]),
    },
)
def _cubalif_each(rng: Rng) -> Graph:
    fields: Any = {
        "tau_syn": [2.0, 4.0, 8.0],
        "tau_mem": [4.0, 16.0, 2.0],
        "w_in": [2.0, 4.0, 8.0],
        "r": [4.0, 8.0, 2.0],
    }
    return line(4, 3, fc=linear(rng, 4, 3), cuba=cubalif(3, threshold=[1.84375, 2.28125, 1.65625], **fields))


@case(
    "cubalif-v-leak",
    "v_leak acts on the membrane alone, not on the current",
    {
        "v_leak is ignored": sets("cuba", v_leak=0.0),
        "the membrane starts at 0": means(start="zero"),
    },
)
def _cubalif_leak(rng: Rng) -> Graph:
    return line(4, 3, fc=linear(rng, 4, 3), cuba=cubalif(3, leak=0.75, threshold=1.34375))


@case(
    "cubali-readout",
    "the output is the membrane of a CubaLI",
    {
        "the output is the input": skipping("cuba"),
        ONE_LATE: means(order="membrane-first"),
        "w_in is ignored": sets("cuba", w_in=1.0),
    },
)
def _cubali(rng: Rng) -> Graph:
    fields: Any = {"tau_syn": full(2, 2 * STEP), "tau_mem": full(2, 8 * STEP), "r": full(2, 4.0), "w_in": full(2, 2.0)}
    return line(4, 2, fc=linear(rng, 4, 2), cuba=ops.CubaLI(v_leak=full(2, 0.0), **fields))


# -- weights ---------------------------------------------------------------------------------------------------------


@case(
    "linear-orientation",
    "Linear's weights are (out, in); the matrix is square, so no shape tells",
    {"the weight is transposed": sets("fc", weight=lambda w: w.T)},
)
def _orientation(rng: Rng) -> Graph:
    return line(4, 4, fc=ops.Linear(weight=weights(rng, 4, 4)), lif=lif(4, threshold=0.84375))


@case(
    "affine-bias",
    "a bias is added in every step, the first included",
    {"the bias is dropped": sets("fc", bias=0.0)},
    stimulus=lambda rng, graph: spikes(rng, graph, rate=0.2),
)
def _bias(rng: Rng) -> Graph:
    fc = ops.Affine(weight=weights(rng, 3, 4), bias=np.array([0.375, 0.25, 0.4375], np.float32))
    return line(4, 3, fc=fc, lif=lif(3, threshold=0.84375))


@case(
    "affine-output",
    "an output that no neuron precedes is what the weights give, in the same step",
    {"the bias is dropped": sets("out", bias=0.0), "the output comes one step late": later("lif>out")},
)
def _affine_output(rng: Rng) -> Graph:
    return line(4, 2, fc=linear(rng, 4, 4), lif=lif(4, threshold=0.84375), out=affine(rng, 4, 2))


@case("scale", "Scale multiplies element by element", {"Scale is left out": skipping("scale")})
def _scale(rng: Rng) -> Graph:
    scale = ops.Scale(scale=full(3, [0.5, 2.0, -0.75]))
    return line(4, 3, fc=linear(rng, 4, 3, low=-1.5, high=1.5), scale=scale, lif=lif(3, threshold=0.84375))


@case(
    "threshold",
    "Threshold gives 1 where its input is above, and not where it is equal",
    {
        "a spike already where the input equals the threshold": means(comparison=">="),
        "Threshold is left out": skipping("step"),
    },
    on_threshold=True,
)
def _threshold(rng: Rng) -> Graph:
    weight = np.array([[0.5, 0.25, 0.25, 1.0], [0.25, 0.5, 1.0, 0.5], [0.75, 0.5, 0.25, 0.25]], np.float32)
    return line(
        4, 3, fc=ops.Affine(weight=weight, bias=full(3, 0.0)), step=ops.Threshold(threshold=full(3, [0.75, 1.0, 0.5]))
    )
