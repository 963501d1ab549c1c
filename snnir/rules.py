"""Design rules that hold for every target which runs a graph as it is, step by step, in floating point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from snnir.discretise import delay_steps
from snnir.errors import CompileError, Violation
from snnir.graph import Graph
from snnir.ops import Delay, Neuron, Repeat, TemporalMean
from snnir.schedule import schedule


def known_time_step(graph: Graph) -> Iterator[Violation]:
    """Whatever has a time constant or a delay needs to know how long a step is."""
    timed = [name for name, op in graph.ops.items() if isinstance(op, (Neuron, Delay))]
    if timed and graph.semantics.dt is None:
        what = "the time step is not known, but neurons and delays need it"
        where = ", ".join(timed[:4]) + (", ..." if len(timed) > 4 else "")
        yield Violation("time-step", what, where=where, hint="say it: dt=... (seconds), --dt")


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
