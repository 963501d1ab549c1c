"""Layers of snnTorch, read from live modules; what they compute is `snnir.frameworks.FRAMEWORKS["snntorch"]`.

snnTorch 1.0.0 counts steps: mem = clamp(beta) mem + x, with a current syn = clamp(alpha) syn + x in front of it in
snn.Synaptic; a spike where mem - threshold > 0. A reset comes one step late (reset_delay=True): by subtraction from the
new membrane; 'zero' clears the old one in snn.Leaky, and the new one, with what came in, in all others. Without delay
'zero' is prompt. 'subtract' is too, but a membrane that a reset leaves above the threshold raises the threshold of the
next step by itself ('held-subtract'). 'none' resets nothing: LI and Threshold. The recurrent layers read their own
spikes of the step before, biases from step 0 on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from snnir import ops
from snnir.frameworks import semantics_of
from snnir.frontends.torch_fx.foreign import Call, Table
from snnir.frontends.torch_fx.populations import comparison_of, euler_tau, number, population, step_length
from snnir.frontends.torch_fx.signals import STEP, Lead, Refuse, Signal, State
from snnir.ops import Array, Shape
from snnir.semantics import Semantics


def _layer(call: Call) -> Any:
    """snn.Leaky, snn.Synaptic, snn.RLeaky and snn.RSynaptic."""
    call.takes(STEP)
    call.once()
    call.given_states()
    m = call.layer
    current_based, recurrent = hasattr(m, "alpha"), hasattr(m, "recurrent")
    _refuse(call, recurrent)
    semantics = _semantics(call)
    graded = float(number(m.graded_spikes_factor).flat[0])
    parts = ("neuron", "") if graded != 1 else ("", "")
    mem: Signal | State = call.state()
    if m.reset_mechanism == "none":
        y, mem = _unreset(call, semantics, current_based, parts[0])
    else:
        y = _resetting(call, semantics, current_based, recurrent, parts[0])
    first = (mem if isinstance(mem, Signal) else y).sources[0]
    if graded != 1:
        y = call.b.emit(ops.Scale, y, {"scale": m.graded_spikes_factor}, parts[1])
    if recurrent:
        _feed_back(call, y, first)
    if m.init_hidden and not m.output:
        return y
    return (y, call.state(), mem) if current_based else (y, mem)


def _refuse(call: Call, recurrent: bool) -> None:
    """What has no counterpart."""
    m = call.layer
    if m.inhibition:
        raise Refuse(f"{call.kind} with inhibition=True lets one neuron of a layer spike", expected="inhibition=False")
    if m.state_quant:
        raise Refuse(f"{call.kind} rounds its states (state_quant)", expected="state_quant=False")
    if m.graded_spikes_factor.numel() != 1 or float(m.graded_spikes_factor) == 0:
        raise Refuse("graded_spikes_factor is no single number other than 0")
    if not m.reset_delay and recurrent and hasattr(m, "alpha"):
        raise Refuse("snnTorch 1.0.0 itself fails on RSynaptic with reset_delay=False", expected="reset_delay=True")
    if (number(m.threshold) < 0).any():
        raise Refuse(
            f"a threshold of {number(m.threshold).min():g} resets before the first spike", expected="0 or more"
        )


def _semantics(call: Call) -> Semantics:
    m = call.layer
    comparison = comparison_of(m.spike_grad, "spike_grad")
    if comparison == ">=" and (number(m.threshold) <= 0).any():
        raise Refuse("a threshold of 0 with a spike function that fires at 0 resets before the first spike")
    reset = "subtract" if m.reset_mechanism == "none" else m.reset_mechanism
    return semantics_of("snntorch", reset=reset, reset_delay=bool(m.reset_delay)).with_(comparison=comparison)


def _decay(value: Any) -> Array:
    """beta or alpha as the layer uses it."""
    return np.clip(number(value), 0.0, 1.0)


def _resetting(call: Call, semantics: Semantics, current_based: bool, recurrent: bool, part: str) -> Signal:
    m, dt = call.layer, step_length(call.b)
    beta = _decay(m.beta)
    fields: dict[str, Any] = {"v_threshold": m.threshold, "recurrent": recurrent}
    if current_based:
        taus = {"tau_syn": euler_tau(_decay(m.alpha), dt), "tau_mem": euler_tau(beta, dt)}
        return population(call.b, call.x, ops.CubaLIF, semantics, "snntorch", part, **taus, **fields)
    if recurrent and semantics.reset == "delayed-value":
        # snn.RLeaky clears the new membrane, as snn.Synaptic does: a current that lasts for one step alone.
        taus = {"tau_syn": np.asarray(dt), "tau_mem": euler_tau(beta, dt)}
        return population(call.b, call.x, ops.CubaLIF, semantics, "snntorch", part, **taus, **fields)
    if (beta == 1).all():
        return population(call.b, call.x, ops.IF, semantics, "snntorch", part, **fields)
    return population(call.b, call.x, ops.LIF, semantics, "snntorch", part, tau=euler_tau(beta, dt), **fields)


def _unreset(call: Call, semantics: Semantics, current_based: bool, part: str) -> tuple[Signal, Signal]:
    """A membrane that nothing resets, and its spikes."""
    m, dt, b = call.layer, step_length(call.b), call.b
    beta = _decay(m.beta)
    if current_based:
        taus = {"tau_syn": euler_tau(_decay(m.alpha), dt), "tau_mem": euler_tau(beta, dt)}
        mem = population(b, call.x, ops.CubaLI, semantics, "snntorch", "mem", **taus)
    elif (beta == 1).all():
        mem = population(b, call.x, ops.I, semantics, "snntorch", "mem")
    else:
        mem = population(b, call.x, ops.LI, semantics, "snntorch", "mem", tau=euler_tau(beta, dt))
    spikes = population(b, mem, ops.Threshold, semantics, "snntorch", part, threshold=m.threshold)
    return spikes, mem


def _feed_back(call: Call, y: Signal, neuron: str) -> None:
    back = call.inside(call.layer.recurrent, STEP, y)
    if isinstance(back, Signal):
        if back.shape != call.x.shape:
            raise Refuse(f"the feedback has shape {list(back.shape)}, the input {list(call.x.shape)}", rule="shape")
        call.b.connect(back, neuron)


def _lead(m: nn.Module) -> Lead | None:
    return STEP


def _input_shape(m: nn.Module) -> Shape | None:
    size: Any = getattr(m, "linear_features", None)
    return None if not size else (int(size),)


TABLE = Table(
    title="snnTorch",
    prefix="snntorch.",
    layers={"Leaky": _layer, "Synaptic": _layer, "RLeaky": _layer, "RSynaptic": _layer},
    through=frozenset({"RecurrentOneToOne"}),
    lead=_lead,
    input_shape=_input_shape,
)
