"""How many steps an op runs for one step of the graph's inputs: Repeat multiplies them, TemporalMean divides them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

from snnir.ops import Repeat, TemporalMean

if TYPE_CHECKING:
    from snnir.graph import Edge, Graph


def meeting_rates(graph: Graph) -> Iterator[tuple[Edge, Fraction, Fraction]]:
    """Edges that bring an op values at another rate than its others: the edge, its rate, that of the others.

    An op has one rate, and so has a Constant: what reads it at two rates needs two of them.
    """
    if not any(isinstance(op, (Repeat, TemporalMean)) for op in graph.ops.values()):
        return
    rates: dict[str, Fraction] = {}
    named: set[str] = set()
    for first in (*graph.inputs, *graph.ops):
        if first in rates:
            continue
        rates[first] = Fraction(1)
        pending = deque([first])
        while pending:
            name = pending.popleft()
            for edge in graph.outgoing[name]:
                rate = rates[name] * _factor(graph, edge)
                if edge.target not in rates:
                    rates[edge.target] = rate
                    pending.append(edge.target)
                elif rates[edge.target] != rate and edge.target not in named:
                    named.add(edge.target)
                    yield edge, rate, rates[edge.target]
            for edge in graph.incoming[name]:
                if edge.source not in rates:
                    rates[edge.source] = rates[name] / _factor(graph, edge)
                    pending.append(edge.source)


def _factor(graph: Graph, edge: Edge) -> Fraction:
    """Steps of an edge's target for one of its source."""
    target = graph[edge.target]
    if not isinstance(target, (Repeat, TemporalMean)):
        return Fraction(1)
    steps = max(1, target.steps)  # fewer are a fault of the op's own
    return Fraction(steps) if isinstance(target, Repeat) else Fraction(1, steps)
