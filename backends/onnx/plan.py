"""What both files are written from: running order, lags, values before step 0, and how often each op runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from snnir.discretise import recurrence
from snnir.graph import Edge, Graph
from snnir.interpreter.run import edge_lags
from snnir.interpreter.stateless import STATELESS
from snnir.ops import (
    Array,
    Constant,
    Input,
    Neuron,
    Op,
    Output,
    Repeat,
    SpikingNeuron,
    TemporalMean,
    Threshold,
)
from snnir.schedule import Group, rest_order, schedule


@dataclass(frozen=True)
class Plan:
    """A graph as it runs, one step after the other."""

    graph: Graph

    @cached_property
    def _lags_and_groups(self) -> tuple[dict[Edge, int], tuple[Group, ...]]:
        return edge_lags(self.graph, self.graph.semantics)

    @property
    def groups(self) -> tuple[Group, ...]:
        """Ops that run together, in order."""
        return self._lags_and_groups[1]

    def lag(self, edge: Edge) -> int:
        """Steps by which an edge is late."""
        return self._lags_and_groups[0].get(edge, 0)

    def late(self, names: Sequence[str]) -> dict[str, int]:
        """Ops whose values are read late among `names` by ops of `names`: how many steps back at most."""
        members = set(names)
        found: dict[str, int] = {}
        for edge, lag in self._lags_and_groups[0].items():
            if lag and edge.source in members and edge.target in members:
                found[edge.source] = max(lag, found.get(edge.source, 0))
        return {name: found[name] for name in names if name in found}

    @cached_property
    def rest(self) -> dict[str, Array]:
        """Every op's value before step 0, float64, without batch: what a late edge gives first."""
        graph, s = self.graph, self.graph.semantics
        found: dict[str, Array] = {}
        for name in rest_order(graph):
            op, shape = graph[name], graph.shapes[name]
            if isinstance(op, Neuron) and not isinstance(op, SpikingNeuron):
                found[name] = np.broadcast_to(recurrence(op, s).start, shape)
            elif op.stateful or isinstance(op, (Input, Constant)) or not s.recurrent_bias_at_start:
                found[name] = np.zeros(shape)
            else:
                found[name] = self._of_feeders(name, op, found)
        return found

    def _of_feeders(self, name: str, op: Op, rest: dict[str, Array]) -> Array:
        arriving: list[Array] = []
        for port in op.ports:
            first, *others = [rest[e.source] for e in self.graph.incoming[name] if e.port == port]
            arriving.append(sum(others, first)[None])
        if isinstance(op, (Repeat, TemporalMean)):
            return arriving[0][0]
        if isinstance(op, Threshold):
            x, limit = arriving[0][0], op.threshold
            return (x > limit if self.graph.semantics.comparison == ">" else x >= limit).astype(np.float64)
        return np.asarray(STATELESS[type(op)](op, *arriving)[0])

    @cached_property
    def rate(self) -> dict[str, Fraction]:
        """Steps of each op per step of the inputs."""
        graph = self.graph
        order = schedule(graph).order
        found: dict[str, Fraction] = {}
        for name in order:
            op = graph[name]
            before = next((found[e.source] for e in graph.incoming[name] if e.source in found), None)
            if isinstance(op, Input):
                found[name] = Fraction(1)
            elif before is not None:
                found[name] = before * _factor(op)
        for name in reversed(order):  # what only constants feed runs as long as what reads it
            if name not in found:
                reader = next((e.target for e in graph.outgoing[name] if e.target in found), None)
                found[name] = Fraction(1) if reader is None else found[reader] / _factor(graph[reader])
        return found

    @cached_property
    def no_single_step(self) -> tuple[str, ...]:
        """Why one step of the inputs is no step of the whole, if so: what it cannot make anything of, or too much."""
        graph, found = self.graph, list[str]()
        for name, op in graph.ops.items():
            here, before = self.rate[name], self.rate[name] / _factor(op)
            if isinstance(op, TemporalMean) and here.denominator > before.denominator:
                found.append(f"{name} makes one value of {here.denominator} steps of the input")
            elif isinstance(op, Output) and here.denominator == 1 and here > 1:
                found.append(f"{name} has {here} steps for one of the input")
        return tuple(found)


def _factor(op: Op) -> Fraction:
    if isinstance(op, Repeat):
        return Fraction(op.steps)
    return Fraction(1, op.steps) if isinstance(op, TemporalMean) else Fraction(1)
