"""From NIR's continuous equations to the recurrence of one step: the only place where dt meets tau.

Every neuron, under every float semantics, is an instance of

    i = decay_syn * i + gain_syn * x                      (current-based neurons; otherwise i = x)
    v = decay * v + gain * i + drive
    spike where v > threshold (or >=); then v = v_reset, or v = v - threshold

and every emitter and the interpreter take their coefficients from `recurrence`, so that no two can disagree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnir.errors import fail
from snnir.ops import IF, LI, LIF, Array, CubaLI, CubaLIF, Delay, I, Neuron
from snnir.semantics import Semantics


@dataclass(frozen=True)
class Recurrence:
    """Coefficients of one step, float64 arrays that broadcast to the population's shape.

    Attributes:
        decay, gain, drive: of the membrane; start: its value before the first step.
        decay_syn, gain_syn: of the synaptic current (which starts at 0); None when the input acts at once.
        threshold, v_reset: None for neurons that do not spike.
    """

    decay: Array
    gain: Array
    drive: Array
    start: Array
    decay_syn: Array | None = None
    gain_syn: Array | None = None
    threshold: Array | None = None
    v_reset: Array | None = None


def step_length(semantics: Semantics, why: str) -> float:
    """The time step in seconds.

    Raises:
        CompileError: nobody has said it.
    """
    if semantics.dt is None:
        raise fail(
            "time-step", f"the time step is not known, but {why} needs it", hint="say it: dt=... (seconds), --dt"
        )
    return semantics.dt


def recurrence(op: Neuron, semantics: Semantics) -> Recurrence:
    """The recurrence that `op` obeys under `semantics`.

    Raises:
        CompileError: the time step is unknown, or the decay rule is an integer one ('shift').
    """
    if semantics.decay == "shift":
        raise fail("semantics-decay", "decay 'shift' is an integer rule; it has its own simulator", where=op.kind)
    dt = step_length(semantics, op.kind)
    one, zero = np.asarray(1.0), np.asarray(0.0)
    if isinstance(op, (I, IF)):
        gain = (dt if semantics.gain == "ode" else 1.0) * op.r.astype(np.float64)
        rule = Recurrence(one, gain, zero, zero)
    elif isinstance(op, (LI, LIF)):
        decay, rise = _decay(op.tau, dt, semantics)
        rule = _leaky(decay, rise, op.r, op.v_leak, semantics)
    elif isinstance(op, (CubaLI, CubaLIF)):
        decay, rise = _decay(op.tau_mem, dt, semantics)
        decay_syn, rise_syn = _decay(op.tau_syn, dt, semantics)
        base = _leaky(decay, rise, op.r, op.v_leak, semantics)
        rule = Recurrence(base.decay, base.gain, base.drive, base.start, decay_syn, rise_syn * op.w_in)
    else:
        raise TypeError(f"{op.kind} is not a neuron of NIR")
    if not isinstance(op, (IF, LIF, CubaLIF)):
        return rule
    return Recurrence(
        rule.decay,
        rule.gain,
        rule.drive,
        rule.start,
        rule.decay_syn,
        rule.gain_syn,
        op.v_threshold.astype(np.float64),
        op.v_reset.astype(np.float64),
    )


def _decay(tau: Array, dt: float, semantics: Semantics) -> tuple[Array, Array]:
    """Factor of the state and factor of the input, per step."""
    ratio = dt / tau.astype(np.float64)
    if semantics.decay == "euler":
        decay, rise = 1.0 - ratio, ratio
    else:
        decay, rise = np.exp(-ratio), -np.expm1(-ratio)
    return np.asarray(decay), np.asarray(rise if semantics.gain == "ode" else np.ones_like(rise))


def _leaky(decay: Array, rise: Array, r: Array, v_leak: Array, semantics: Semantics) -> Recurrence:
    leak = v_leak.astype(np.float64)
    start = leak if semantics.start == "rest" else np.zeros_like(leak)
    return Recurrence(decay, np.asarray(rise * r), np.asarray((1.0 - decay) * leak), start)


def delay_steps(op: Delay, semantics: Semantics) -> Array:
    """The delay in whole steps, an int64 array of the delay's shape.

    Raises:
        CompileError: some delay is not a whole number of steps (to within 1e-3 of a step).
    """
    dt = step_length(semantics, "Delay")
    exact = op.delay.astype(np.float64) / dt
    steps = np.rint(exact)
    off = np.abs(exact - steps)
    if off.size and off.max() > 1e-3:
        worst = float(op.delay.reshape(-1)[off.argmax()])
        what = f"a delay of {worst:.6g} s is {worst / dt:.6g} steps of {dt:.6g} s"
        raise fail("delay-steps", what, where="Delay", expected="a whole number of steps", hint="choose another dt")
    return steps.astype(np.int64)
