"""Design rules that hold for every target which runs a graph as it is, step by step, in floating point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from snnir.discretise import delay_steps
from snnir.errors import CompileError, Violation
from snnir.graph import Graph
from snnir.ops import Delay, Neuron, Op, Repeat, TemporalMean
from snnir.schedule import schedule


def known_time_step(graph: Graph) -> Iterator[Violation]:
    """Whatever has a time constant or a delay needs to know how long a step is; forward Euler needs a short one."""
    timed = [name for name, op in graph.ops.items() if isinstance(op, (Neuron, Delay))]
    dt = graph.semantics.dt
    if timed and dt is None:
        what = "the time step is not known, but neurons and delays need it"
        where = ", ".join(timed[:4]) + (", ..." if len(timed) > 4 else "")
        yield Violation("time-step", what, where=where, hint="say it: dt=... (seconds), --dt")
    if dt is not None and graph.semantics.decay == "euler":
        for name in timed:
            yield from _diverging(name, graph[name], dt)


def _diverging(name: str, op: Op, dt: float) -> Iterator[Violation]:
    """Forward Euler multiplies a state by 1 - dt/tau per step, so one with tau < dt/2 changes sign and grows."""
    for field in ("tau", "tau_syn", "tau_mem"):
        tau = np.asarray(getattr(op, field, np.inf), np.float64)
        least = float(tau.min(initial=np.inf))
        if dt > 2 * least * (1 + 1e-9):
            count = int((dt > 2 * tau).sum())
            yield Violation(
                "time-step-unstable",
                f"{field} = {least:.6g} s is less than half a step: forward Euler multiplies the state by "
                f"{1 - dt / least:.4g} in every step, so it grows without end ({count} of {tau.size} values)",
                where=name,
                loc=str(op.loc or ""),
                expected=f"a time step of {2 * least:.6g} s or less (it is {dt:.6g} s)",
                hint="use a shorter time step, a longer time constant, or semantics with decay='exponential'",
            )


def whole_delays(graph: Graph) -> Iterator[Violation]:
    """Delays are whole steps."""
    if graph.semantics.dt is None:
        return
    for name, op in graph.ops.items():
        if isinstance(op, Delay):
            try:
                delay_steps(op, graph.semantics)
            except CompileError as error:
                yield from (replace(v, where=name, loc=str(op.loc or "")) for v in error.violations)


def steady_cycles(graph: Graph) -> Iterator[Violation]:
    """Within a cycle the number of steps cannot change."""
    for group in schedule(graph).groups:
        for name in group.ops if group.cyclic else ():
            if isinstance(graph[name], (Repeat, TemporalMean)):
                what = f"{graph[name].kind} changes the number of steps within a cycle"
                yield Violation("steps", what, where=name, loc=str(graph[name].loc or ""))
