"""One neuron layer over time: its coefficients, and the loop.

`coefficients` is `snnir.discretise.recurrence` in torch, so that gradients reach time constants that are learned (a
test holds the two equal). `run` takes the fused kernels where they apply and plain tensor operations elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from snnir.nn.surrogate import Surrogate
from snnir.semantics import Semantics

Value = float | Tensor


@dataclass(frozen=True)
class Coefficients:
    """The recurrence of one step; floats, or float64 tensors that broadcast to the population's shape.

    i = decay_syn i + gain_syn x (current-based neurons, otherwise i = x); v = decay v + gain i + drive;
    spike at `threshold`, then v = v_reset. `start` is the membrane before the first step; currents start at 0.
    """

    decay: Value
    gain: Value
    drive: Value
    start: Value
    decay_syn: Value | None = None
    gain_syn: Value | None = None
    threshold: Value | None = None
    v_reset: Value | None = None

    def to(self, like: Tensor) -> Coefficients:
        """Tensors cast to the dtype of `like`; floats stay, and take its dtype when they meet it."""
        cast = {f.name: getattr(self, f.name) for f in fields(self)}
        return Coefficients(**{k: v.to(like.dtype) if isinstance(v, Tensor) else v for k, v in cast.items()})

    @property
    def learned(self) -> bool:
        """Whether gradients are asked for with respect to a coefficient."""
        values = (getattr(self, f.name) for f in fields(self))
        return torch.is_grad_enabled() and any(isinstance(v, Tensor) and v.requires_grad for v in values)


@dataclass(frozen=True)
class Firing:
    """How a neuron fires: comparison, reset, and what gradients see of them."""

    subtract: bool
    inclusive: bool
    detach_reset: bool
    surrogate: Surrogate


State = tuple[Value, Value]
"""Membrane and synaptic current, each (B, *shape) or broadcasting to it."""


def coefficients(parameters: Mapping[str, Value], semantics: Semantics, dt: float) -> Coefficients:
    """The recurrence of a neuron with the given parameters (fields of its op) at the step length `dt` in seconds."""
    p = {name: _precise(value) for name, value in parameters.items()}
    threshold, v_reset = p.get("v_threshold"), p.get("v_reset")
    if "v_leak" not in p:  # I, IF
        step = dt if semantics.gain == "ode" else 1.0
        return Coefficients(1.0, step * p["r"], 0.0, 0.0, None, None, threshold, v_reset)
    decay, rise = _decay(p["tau_mem"] if "tau_mem" in p else p["tau"], dt, semantics)
    decay_syn = gain_syn = None
    if "tau_syn" in p:
        decay_syn, rise_syn = _decay(p["tau_syn"], dt, semantics)
        gain_syn = rise_syn * p["w_in"]
    leak = p["v_leak"]
    start = leak if semantics.start == "rest" else 0.0
    return Coefficients(decay, rise * p["r"], (1.0 - decay) * leak, start, decay_syn, gain_syn, threshold, v_reset)


def _precise(value: Value) -> Value:
    # Coefficients are formed in float64: dt / tau in float32 is off by up to 1e-7, and so is every membrane.
    if isinstance(value, Tensor) and value.device.type != "mps":  # which has no float64
        return value.double()
    return value


def _decay(tau: Value, dt: float, semantics: Semantics) -> tuple[Value, Value]:
    ratio = dt / tau
    if semantics.decay == "euler":
        decay, rise = 1.0 - ratio, ratio
    elif isinstance(ratio, Tensor):
        decay, rise = torch.exp(-ratio), -torch.expm1(-ratio)
    else:
        decay, rise = math.exp(-ratio), -math.expm1(-ratio)
    return decay, rise if semantics.gain == "ode" else 1.0


def step(x: Tensor, state: State, c: Coefficients, firing: Firing | None) -> tuple[Tensor, State]:
    """One step: input (B, *shape) -> output (B, *shape) and the new state."""
    v, i = state
    if c.decay_syn is not None and c.gain_syn is not None:
        i = x = c.decay_syn * i + c.gain_syn * x
    v = c.decay * v + c.gain * x + c.drive
    if firing is None or c.threshold is None or c.v_reset is None:
        return v, (v, i)
    s = firing.surrogate.spike(v, c.threshold, firing.inclusive)
    gate = s.detach() if firing.detach_reset else s
    if firing.subtract:
        return s, (v - gate * c.threshold, i)
    kept = torch.where(s > 0, c.v_reset, v)
    if not firing.detach_reset:
        # Adds nothing, and to the gradient what (1 - s) v + s v_reset has through s, without that form's rounding.
        kept = kept + (s - s.detach()) * (c.v_reset - v).detach()
    return s, (kept, i)


def loop(x: Tensor, c: Coefficients, firing: Firing | None) -> Tensor:
    """All steps of x, (T, B, *shape), from rest, in ordinary tensor operations."""
    outputs: list[Tensor] = []
    state: State = (c.start, 0.0)
    for current in x.unbind(0):
        output, state = step(current, state, c, firing)
        outputs.append(output)
    return torch.stack(outputs) if outputs else torch.empty_like(x)


def run(x: Tensor, c: Coefficients, firing: Firing | None) -> Tensor:
    """All steps of x, (T, B, *shape), from rest: the fused kernel, or `loop` where coefficients are being learned."""
    kernels = _kernels()
    if kernels is None or c.learned or x.shape[0] == 0 or (firing and not firing.surrogate.kernel):
        return loop(x, c, firing)
    neuron = kernels.Neuron(decay=c.decay, gain=c.gain, drive=c.drive)
    if c.decay_syn is not None:
        neuron = neuron._replace(decay_syn=c.decay_syn, gain_syn=c.gain_syn)
    if firing is not None:
        bump = firing.surrogate
        neuron = neuron._replace(
            threshold=c.threshold,
            v_reset=c.v_reset,
            v_drop=c.threshold if firing.subtract else None,
            inclusive=firing.inclusive,
            detach_reset=firing.detach_reset,
            surrogate=kernels.Surrogate(bump.kernel, *(getattr(bump, f.name) for f in fields(bump))),
        )
    return kernels.run(x, neuron, kernels.State(v=c.start))[0]


def _kernels() -> Any:
    try:
        from snnir.backends.torch import kernels
    except ImportError:  # a core installed without backends
        return None
    return kernels
