"""A part of a cycle, step by step: what the rest of the cycle gives is handed in when the step comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from snnir.graph import Graph
from snnir.interpreter.cells import DelayCell, NeuronCell
from snnir.interpreter.run import _apply, _Run, edge_lags
from snnir.ops import Array, Delay, Input, Neuron


class Steps:
    """Ops of one cycle of a larger network that run together, their state at rest before the first step.

    It computes what `interpret` computes for the whole network, to the last bit: sums are taken in the same order, what
    the cycle does not reach over all steps at once, and values before the first step are the whole network's.

    Args:
        graph: the ops, and an Input for every value from elsewhere.
        cyclic: the names of ops and inputs that belong to the cycle.
        given: the other inputs, (T, B, *shape) by name.
        rest: op name -> the whole network's value before step 0, (B, *shape).
        like: (T, B, ...), of the type to compute in.
    """

    def __init__(
        self, graph: Graph, cyclic: frozenset[str], given: Mapping[str, Array], rest: Mapping[str, Array], like: Array
    ) -> None:
        self.graph, self.cyclic, self.rest = graph, cyclic, rest
        steps, self.batch = like.shape[:2]
        self.dtype = like.dtype
        self.lags, groups = edge_lags(graph, graph.semantics)
        order = [name for group in groups for name in group.ops]
        later = _reached(graph, [n for n in order if n in cyclic])
        idle = {n: np.zeros((steps, self.batch, *graph.shapes[n]), self.dtype) for n in graph.inputs if n in cyclic}
        ahead = _Run(graph, {**idle, **given}, graph.semantics, (), {})
        for group in groups:
            if group.ops[0] not in later:
                ahead._stepwise(group.ops) if group.cyclic else ahead._at_once(group.ops[0])
        self.known = ahead.values
        self.order = [n for n in order if n in later and not isinstance(graph[n], Input)]
        self.cells: dict[str, NeuronCell | DelayCell] = {
            n: ahead._cell(n, op) for n in self.order if isinstance(op := graph[n], (Neuron, Delay))
        }
        self.before: dict[str, Array] = {}
        self.t = 0

    def step(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs (B, *shape) by name, for the cycle's inputs (B, *shape) of this step."""
        now: dict[str, Array] = {name: np.asarray(inputs[name], self.dtype) for name in inputs if name in self.cyclic}
        for name in self.order:
            op = self.graph[name]
            arriving = {port: self._arriving(name, port, now) for port in op.ports}
            cell = self.cells.get(name)
            now[name] = (
                cell.step(arriving["input"])
                if cell is not None
                else _apply(op, [arriving[port] for port in op.ports], self.graph.semantics)
            )
        self.t += 1
        self.before = now
        return {name: now[name] if name in now else self.known[name][self.t - 1] for name in self.graph.outputs}

    def _arriving(self, name: str, port: str, now: Mapping[str, Array]) -> Array:
        total: Array | None = None
        edges = [e for e in self.graph.incoming[name] if e.port == port]
        for edge in sorted(edges, key=lambda e: e.source in self.cyclic):  # what comes from outside is added up first
            if edge.source in self.known and edge.source not in self.cyclic:
                value = self.known[edge.source][self.t]
            elif edge in self.lags:
                value = self.before[edge.source] if self.t else self._rest(edge.source)
            else:
                value = now[edge.source]
            total = value if total is None else total + value
        assert total is not None  # the graph was verified: every port is fed
        return total

    def _rest(self, name: str) -> Array:
        return np.asarray(self.rest[name], self.dtype)


def rest_of(graph: Graph, names: Sequence[str], dtype: Any = float, batch: int = 1) -> dict[str, Array]:
    """What ops give before step 0, (B, *shape) by name, computed in `dtype`; equal for all samples but for rounding."""
    inputs = {name: np.zeros((1, batch, *graph.shapes[name]), dtype) for name in graph.inputs}
    run = _Run(graph, inputs, graph.semantics, (), {})
    return {name: run._rest(name) for name in names}


def _reached(graph: Graph, names: Sequence[str]) -> frozenset[str]:
    found = list(names)
    seen = set(found)
    for name in found:  # grows while it is walked
        new = {e.target for e in graph.outgoing[name]} - seen
        seen |= new
        found += new
    return frozenset(seen)
