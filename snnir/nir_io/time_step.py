"""Which time step a network's parameters imply. NIR stores none, but many exporters choose r = tau/dt so that a step
adds the whole input; then dt can be read off. It is a proposal for a person to confirm, never a value to run with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnir.graph import Graph
from snnir.ops import IF, LI, LIF, Array, CubaLI, CubaLIF, Delay, I, Neuron, Op

SPREAD = 1e-3
"""How far the ratios of one op may differ, relatively: parameters are often float32, and r a rounded number."""


@dataclass(frozen=True)
class TimeStep:
    """One time step that some ops imply: dt in seconds, and per op what says so."""

    dt: float
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class TimeStepHint:
    """What the parameters of a graph say about its time step.

    Attributes:
        needed_by: the ops whose step depends on dt.
        proposals: the time steps implied, the one that most ops imply first; empty when nothing implies one.
        text: the same in a sentence or two.
    """

    needed_by: tuple[str, ...]
    proposals: tuple[TimeStep, ...]
    text: str


def needs_time_step(op: Op) -> bool:
    """Whether one step of `op` depends on dt: every neuron and integrator of NIR, and Delay."""
    return isinstance(op, (Neuron, Delay))


def time_step_hint(graph: Graph) -> TimeStepHint:
    """The dt that r and tau imply: r = tau/dt (LIF, LI, CubaLIF, CubaLI), w_in = tau_syn/dt, r = 1/dt (IF, I).

    Where that gives no round number but r = tau e^(-dt/tau) / dt does, which is what Rockpool writes, the latter is
    proposed. r = 1 says nothing.
    """
    votes: dict[float, list[str]] = {}
    for name, op in graph.ops.items():
        for what, dt in _implied(op):
            votes.setdefault(dt, []).append(f"{name}: {what}")
    proposals = tuple(
        TimeStep(dt, tuple(reasons)) for dt, reasons in sorted(votes.items(), key=lambda item: -len(item[1]))
    )
    needed_by = tuple(name for name, op in graph.ops.items() if needs_time_step(op))
    return TimeStepHint(needed_by, proposals, _text(proposals, graph))


def _implied(op: Op) -> list[tuple[str, float]]:
    """What each pair of parameters of one op implies: (the relation, dt)."""
    pairs: list[tuple[str, Array, Array]] = []
    if isinstance(op, (I, IF)):
        pairs = [("r = 1/dt", np.ones(()), op.r)]
    elif isinstance(op, (LI, LIF)):
        pairs = [("r = tau/dt", op.tau, op.r)]
    elif isinstance(op, (CubaLI, CubaLIF)):
        pairs = [("r = tau_mem/dt", op.tau_mem, op.r), ("w_in = tau_syn/dt", op.tau_syn, op.w_in)]
    found: list[tuple[str, float]] = []
    for relation, tau, gain in pairs:
        tau, gain = np.broadcast_arrays(tau.astype(np.float64), gain.astype(np.float64))
        if not gain.size or (gain <= 1.0).any():  # 1: no gain at all; less: a step longer than tau
            continue
        straight = one_value(tau / gain)
        if straight is not None and is_round(straight):
            found.append((relation, straight))
            continue
        late = None if isinstance(op, (I, IF)) else one_value(damped(tau, gain))
        if late is not None and is_round(late):
            found.append((relation.replace("/dt", " e^(-dt/tau) / dt (as Rockpool writes it)"), late))
        elif straight is not None:
            found.append((relation, straight))
    return found


def one_value(values: Array) -> float | None:
    """The value that all agree on, rounded to what its precision carries; None when they differ."""
    low, high = float(values.min()), float(values.max())
    if not 0.0 < low or high - low > SPREAD * high:
        return None
    middle = float(np.median(values))
    rounded = float(f"{middle:.2g}")
    return rounded if abs(rounded - middle) <= SPREAD * middle else float(f"{middle:.6g}")


def is_round(value: float) -> bool:
    """Whether a time step is one that a person would choose: two significant digits."""
    return value == float(f"{value:.2g}")


def damped(tau: Array, gain: Array) -> Array:
    """dt from gain = tau e^(-dt/tau) / dt, by Newton's method on x e^x = 1/gain with x = dt/tau."""
    x = 1.0 / (1.0 + gain)
    for _ in range(30):
        x = x - (x * np.exp(x) - 1.0 / gain) / (np.exp(x) * (1.0 + x))
    return x * tau


def _text(proposals: tuple[TimeStep, ...], graph: Graph) -> str:
    if proposals:
        first, *others = proposals
        text = f"r and tau imply dt = {first.dt:g} s: pass --dt {first.dt:g} / dt={first.dt:g} ({_some(first.reasons)})"
        also = [f"{other.dt:g} s ({_some(other.reasons)})" for other in others]
        return text + (f"; but some ops imply {', '.join(also)}" if also else "")
    neurons = {name: op for name, op in graph.ops.items() if isinstance(op, Neuron)}
    if not neurons:
        return "nothing in the network implies it"
    if all((getattr(op, gain) == 1).all() for op in neurons.values() for gain in ("r", "w_in") if gain in op.arrays):
        return "r = 1 everywhere says nothing: ask who trained the network for the dt of its training"
    names = _some([name for name, op in neurons.items()])
    return f"r and tau stand in no fixed ratio ({names}), so nothing implies it: ask for the dt of its training"


def _some(names: list[str] | tuple[str, ...], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
