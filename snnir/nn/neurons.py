"""Neuron layers in multi-step form: x of shape (T, B, *shape) in, (T, B, *shape) out.

Every call starts at rest (membranes at v_leak, currents at 0) and runs all T steps. Parameters carry the names and the
equations of NIR's primitives (`snnir.ops.neurons`); time constants, and the step length dt, are in SECONDS.

A parameter is a number (kept as a float: a hyperparameter, not a weight), an array or tensor that broadcasts to the
population's shape (kept as a buffer), or, when named in `learn`, an `nn.Parameter` (which nothing keeps positive: a
time constant below dt turns the sign of the decay, and the compiler refuses one that is not positive).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnir import ops
from snnir.nn.base import LeakyIntegrator, Neuron, Parameter, SpikingNeuron, number, rule
from snnir.nn.dynamics import Value
from snnir.nn.surrogate import ATan, Surrogate
from snnir.semantics import Comparison, Decay, Gain, Reset

DEFAULT_SURROGATE = ATan()


class I(Neuron):  # noqa: E742 - NIR's own name
    """Integrator: dv/dt = r x; output v. One step: v = v + dt r x (gain 'unit': v + r x)."""

    op_type = ops.I
    r: Value

    def __init__(
        self, r: Parameter = 1.0, *, dt: float | None = None, gain: Gain = "ode", learn: Iterable[str] = ()
    ) -> None:
        super().__init__({"r": r}, dt, rule(gain=gain), learn)

    @classmethod
    def from_gain(cls, factor: Parameter = 1.0, /, *, dt: float, **options: Any) -> I:
        """The integrator that computes v = v + factor x in a step of dt seconds (r = factor / dt)."""
        return cls(number(factor) / dt, dt=dt, **options)


class LI(LeakyIntegrator):
    """Leaky integrator: tau dv/dt = (v_leak - v) + r x; output v."""

    op_type = ops.LI
    tau: Value
    r: Value
    v_leak: Value

    def __init__(
        self,
        tau: Parameter,
        *,
        dt: float | None = None,
        r: Parameter = 1.0,
        v_leak: Parameter = 0.0,
        decay: Decay = "euler",
        gain: Gain = "ode",
        learn: Iterable[str] = (),
    ) -> None:
        super().__init__({"tau": tau, "r": r, "v_leak": v_leak}, dt=dt, decay=decay, gain=gain, learn=learn)

    @classmethod
    def from_decay(cls, factor: Parameter, /, *, dt: float, decay: Decay = "euler", **options: Any) -> LI:
        """The leaky integrator that computes v = factor v + x in a step of dt seconds (see `LIF.from_decay`)."""
        tau, r = _from_factor(factor, dt, decay, options.get("gain", "ode"))
        return cls(**{"tau": tau, "r": r, "dt": dt, "decay": decay, **options})


class CubaLI(LeakyIntegrator):
    """Current-based leaky integrator: tau_syn di/dt = -i + w_in x; tau_mem dv/dt = (v_leak - v) + r i; output v."""

    op_type = ops.CubaLI
    tau_syn: Value
    tau_mem: Value
    r: Value
    v_leak: Value
    w_in: Value

    def __init__(
        self,
        tau_syn: Parameter,
        tau_mem: Parameter,
        *,
        dt: float | None = None,
        r: Parameter = 1.0,
        v_leak: Parameter = 0.0,
        w_in: Parameter = 1.0,
        decay: Decay = "euler",
        gain: Gain = "ode",
        learn: Iterable[str] = (),
    ) -> None:
        fields = {"tau_syn": tau_syn, "tau_mem": tau_mem, "r": r, "v_leak": v_leak, "w_in": w_in}
        super().__init__(fields, dt=dt, decay=decay, gain=gain, learn=learn)

    @classmethod
    def from_decay(
        cls, syn: Parameter, mem: Parameter, /, *, dt: float, decay: Decay = "euler", **options: Any
    ) -> CubaLI:
        """The neuron that computes i = syn i + x, v = mem v + i in a step of dt seconds."""
        return cls(**{**_cuba_from_factors(syn, mem, dt, decay, options), **options})


class IF(SpikingNeuron):
    """Integrate and fire: dv/dt = r x; spike when v passes v_threshold; then v becomes v_reset."""

    op_type = ops.IF
    r: Value
    v_threshold: Value
    v_reset: Value

    def __init__(
        self,
        r: Parameter = 1.0,
        *,
        dt: float | None = None,
        v_threshold: Parameter = 1.0,
        v_reset: Parameter = 0.0,
        reset: Reset = "value",
        comparison: Comparison = ">",
        gain: Gain = "ode",
        detach_reset: bool = True,
        surrogate: Surrogate = DEFAULT_SURROGATE,
        learn: Iterable[str] = (),
    ) -> None:
        super().__init__(
            {"r": r, "v_threshold": v_threshold, "v_reset": v_reset},
            dt=dt,
            reset=reset,
            comparison=comparison,
            decay="euler",
            gain=gain,
            detach_reset=detach_reset,
            surrogate=surrogate,
            learn=learn,
        )

    @classmethod
    def from_gain(cls, factor: Parameter = 1.0, /, *, dt: float, **options: Any) -> IF:
        """The neuron that computes v = v + factor x in a step of dt seconds (r = factor / dt)."""
        return cls(number(factor) / dt, dt=dt, **options)


class LIF(SpikingNeuron):
    """Leaky integrate and fire: tau dv/dt = (v_leak - v) + r x; spike when v passes v_threshold; then v = v_reset."""

    op_type = ops.LIF
    tau: Value
    r: Value
    v_leak: Value
    v_threshold: Value
    v_reset: Value

    def __init__(
        self,
        tau: Parameter,
        *,
        dt: float | None = None,
        r: Parameter = 1.0,
        v_leak: Parameter = 0.0,
        v_threshold: Parameter = 1.0,
        v_reset: Parameter = 0.0,
        reset: Reset = "value",
        comparison: Comparison = ">",
        decay: Decay = "euler",
        gain: Gain = "ode",
        detach_reset: bool = True,
        surrogate: Surrogate = DEFAULT_SURROGATE,
        learn: Iterable[str] = (),
    ) -> None:
        super().__init__(
            {"tau": tau, "r": r, "v_leak": v_leak, "v_threshold": v_threshold, "v_reset": v_reset},
            dt=dt,
            reset=reset,
            comparison=comparison,
            decay=decay,
            gain=gain,
            detach_reset=detach_reset,
            surrogate=surrogate,
            learn=learn,
        )

    @classmethod
    def from_decay(cls, factor: Parameter, /, *, dt: float, decay: Decay = "euler", **options: Any) -> LIF:
        """The neuron that computes v = factor v + x in a step of dt seconds.

        Euler: tau = dt / (1 - factor), r = tau / dt; exponential: tau = -dt / ln(factor), r = 1 / (1 - factor). With
        gain='unit', r is 1. `options` are those of the constructor.
        """
        tau, r = _from_factor(factor, dt, decay, options.get("gain", "ode"))
        return cls(**{"tau": tau, "r": r, "dt": dt, "decay": decay, **options})


class CubaLIF(SpikingNeuron):
    """Current-based LIF: tau_syn di/dt = -i + w_in x; tau_mem dv/dt = (v_leak - v) + r i; spikes and reset as LIF.

    The current is updated first, so an input acts on the membrane in its own step.
    """

    op_type = ops.CubaLIF
    tau_syn: Value
    tau_mem: Value
    r: Value
    v_leak: Value
    v_threshold: Value
    v_reset: Value
    w_in: Value

    def __init__(
        self,
        tau_syn: Parameter,
        tau_mem: Parameter,
        *,
        dt: float | None = None,
        r: Parameter = 1.0,
        v_leak: Parameter = 0.0,
        v_threshold: Parameter = 1.0,
        v_reset: Parameter = 0.0,
        w_in: Parameter = 1.0,
        reset: Reset = "value",
        comparison: Comparison = ">",
        decay: Decay = "euler",
        gain: Gain = "ode",
        detach_reset: bool = True,
        surrogate: Surrogate = DEFAULT_SURROGATE,
        learn: Iterable[str] = (),
    ) -> None:
        super().__init__(
            {
                "tau_syn": tau_syn,
                "tau_mem": tau_mem,
                "r": r,
                "v_leak": v_leak,
                "v_threshold": v_threshold,
                "v_reset": v_reset,
                "w_in": w_in,
            },
            dt=dt,
            reset=reset,
            comparison=comparison,
            decay=decay,
            gain=gain,
            detach_reset=detach_reset,
            surrogate=surrogate,
            learn=learn,
        )

    @classmethod
    def from_decay(
        cls, syn: Parameter, mem: Parameter, /, *, dt: float, decay: Decay = "euler", **options: Any
    ) -> CubaLIF:
        """The neuron that computes i = syn i + x, v = mem v + i in a step of dt seconds."""
        return cls(**{**_cuba_from_factors(syn, mem, dt, decay, options), **options})


def _from_factor(factor: Parameter, dt: float, decay: Decay, gain: Gain) -> tuple[Any, Any]:
    """Time constant and input gain r of v = factor v + x."""
    factor = number(factor)
    low, high = float(np.min(np.asarray(factor))), float(np.max(np.asarray(factor)))
    if not 0 < low <= high < 1:
        raise ValueError(f"a decay factor of {low if low <= 0 else high:g}, expected one between 0 and 1")
    leave = 1.0 - factor
    tau: Any
    if decay == "exponential":
        tau = -dt / (torch.log(factor) if isinstance(factor, Tensor) else np.log(factor))
    else:
        tau = dt / leave
    if gain == "unit":
        return tau, 1.0
    # Euler's gain is dt / tau as rounded, so r is its inverse and not 1 / (1 - factor).
    return tau, tau / dt if decay == "euler" else 1.0 / leave


def _cuba_from_factors(syn: Parameter, mem: Parameter, dt: float, decay: Decay, options: Mapping[str, Any]) -> Any:
    gain = options.get("gain", "ode")
    (tau_syn, w_in), (tau_mem, r) = (_from_factor(f, dt, decay, gain) for f in (syn, mem))
    return {"tau_syn": tau_syn, "w_in": w_in, "tau_mem": tau_mem, "r": r, "dt": dt, "decay": decay}
