"""Neurons of other frameworks as ops: parameters from decay factors, and what their layers say of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from snnir import ops
from snnir.frontends.torch_fx.builder import Builder, Timed, to_array
from snnir.frontends.torch_fx.signals import Refuse, Signal
from snnir.ops import IF, LI, LIF, Array, CubaLI, CubaLIF, I, Neuron, SpikingNeuron
from snnir.semantics import Decay, Gain, Semantics

NO_LEAK = 2.0**60
"""Steps of a time constant whose leak rounds to none: 1 - 2^-60 and e^(-2^-60) are 1 in double precision."""


@dataclass(frozen=True)
class Rule:
    """What a layer of another framework says of a step: fields of `Semantics`; those that do not concern it are absent.

    Attributes:
        framework: whose layer it is.
        says: field -> value; `dt` where the layer says it.
    """

    framework: str
    says: Mapping[str, Any]

    @property
    def dt(self) -> float | None:
        """The time step in seconds."""
        return self.says.get("dt")


_FIRING = ("comparison", "reset", "spikes_per_step")
_ALWAYS = ("gain", "membrane_floor")


def rule_for(framework: str, semantics: Semantics, op: ops.Op, rests: bool = True, recurrent: bool = False) -> Rule:
    """What a population says of its framework's semantics: only what concerns it.

    Args:
        rests: its resting value is not 0, so where it starts matters.
        recurrent: feedback with a bias reaches it.
    """
    fields = [*_ALWAYS, "dt"]
    if isinstance(op, SpikingNeuron):
        fields += _FIRING
    if isinstance(op, Neuron) and op.time_constants:
        fields.append("decay")
    if isinstance(op, (CubaLI, CubaLIF)):
        fields.append("order")
    if rests and np.any(getattr(op, "v_leak", 0.0)):
        fields.append("start")
    if recurrent:
        fields.append("recurrent_bias_at_start")
    said = {name: getattr(semantics, name) for name in fields}
    if said["dt"] is None:
        del said["dt"]
    return Rule(framework, said)


def step_length(b: Builder) -> float:
    """The time step in seconds; 1 where nobody has said it, which is an error that `rules` reports."""
    return 1.0 if b.dt is None else b.dt


def number(value: Any) -> Array:
    """A number or tensor of a layer as a float64 array."""
    return to_array(value).astype(np.float64) if isinstance(value, Tensor) else np.asarray(value, np.float64)


def euler_tau(decay: Array, dt: float) -> Array:
    """The time constant that shrinks a state by `decay` in a step of forward Euler; NO_LEAK steps for 1."""
    leave = 1.0 - decay
    return np.asarray(dt / np.where(leave > 0, leave, 1.0 / NO_LEAK))


def exponential_tau(decay: Array, dt: float) -> Array:
    """The time constant that shrinks a state by `decay` in a step of exponential Euler; NO_LEAK steps for 1."""
    inside = np.where((decay > 0) & (decay < 1), decay, 0.5)
    return np.asarray(np.where(decay < 1, -dt / np.log(inside), dt * NO_LEAK))


def population(
    b: Builder, x: Signal, kind: type[ops.Op], semantics: Semantics, framework: str, part: str = "", **fields: Any
) -> Signal:
    """Adds a neuron (or a Threshold) whose fields are numbers, float64 arrays, or tensors of the module.

    Tensors stay bound to the module where they are the array; a leading axis of length 1, the batch, is taken away.
    """
    recurrent = bool(fields.pop("recurrent", False))
    tensors: dict[str, Tensor] = {}
    arrays: dict[str, Array] = {}
    for name, value in fields.items():
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() <= len(x.shape):
            tensors[name] = value
            continue
        array = number(value)
        while array.ndim > len(x.shape) and array.shape[0] == 1:
            array = array[0]
        arrays[name] = array
    y = b.emit(kind, x, tensors, part, **arrays)
    op = b.ops[y.sources[0]]
    b.timed.append(Timed(y.sources[0], b.loc, rule_for(framework, semantics, op, recurrent=recurrent)))
    return y


def comparison_of(function: Any, what: str) -> Literal[">", ">="]:
    """Whether a spike function fires above 0 ('>') or at 0 already ('>='), found by asking it.

    Raises:
        Refuse: it is no step from 0 to 1.
    """
    ask = function.forward if isinstance(function, nn.Module) else function  # calls of modules would be traced
    at = torch.tensor([-1.0, -1e-6, 0.0, 1e-6, 1.0])
    try:
        with torch.no_grad():
            fired = [float(v) for v in ask(at).flatten()]
    except Exception as error:
        raise Refuse(f"{what} cannot be asked when it fires: {type(error).__name__}: {error}") from None
    if fired == [0, 0, 0, 1, 1]:
        return ">"
    if fired == [0, 0, 1, 1, 1]:
        return ">="
    raise Refuse(f"{what} is no step from 0 to 1 at the threshold", expected="a surrogate of a step function")


def converted(op: ops.Op, decay: Decay, to: Gain, dt: float) -> ops.Op:
    """A neuron built for one gain as one for the other that adds the same to its states."""
    if isinstance(op, (I, IF)):
        return op.with_(r=_scaled(op.r, np.asarray(dt), to))
    if isinstance(op, (LI, LIF)):
        return op.with_(r=_scaled(op.r, _rise(op.tau, decay, dt), to))
    if isinstance(op, (CubaLI, CubaLIF)):
        r, w_in = _scaled(op.r, _rise(op.tau_mem, decay, dt), to), _scaled(op.w_in, _rise(op.tau_syn, decay, dt), to)
        return op.with_(r=r, w_in=w_in)
    return op


def _scaled(factor: Array, rise: Array, to: Gain) -> Array:
    return np.asarray(factor / rise if to == "ode" else factor * rise)


def _rise(tau: Array, decay: Decay, dt: float) -> Array:
    ratio = dt / tau.astype(np.float64)
    return np.asarray(ratio if decay == "euler" else -np.expm1(-ratio))
