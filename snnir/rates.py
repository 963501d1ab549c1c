"""How many steps an op runs for one step of the graph's inputs: Repeat multiplies them, TemporalMean divides them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from snnir.naming import fresh
from snnir.ops import Constant, Output, Repeat, TemporalMean

if TYPE_CHECKING:
    from snnir.graph import Edge, Graph
    from snnir.ops import Op


def meeting_rates(graph: Graph) -> Iterator[tuple[Edge, Fraction, Fraction]]:
    """Edges that bring an op values at another rate than its others: the edge, its rate, that of the others.

    An op has one rate, and so has a Constant: what reads it at two rates needs two of them (`with_own_constants`).
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
                rate = rates[name] * _factor(graph[edge.target])
                if edge.target not in rates:
                    rates[edge.target] = rate
                    pending.append(edge.target)
                elif rates[edge.target] != rate and edge.target not in named:
                    named.add(edge.target)
                    yield edge, rate, rates[edge.target]
            for edge in graph.incoming[name]:
                if edge.source not in rates:
                    rates[edge.source] = rates[name] / _factor(graph[edge.target])
                    pending.append(edge.source)


def _factor(target: Op) -> Fraction:
    """Steps of an op for one of what it reads."""
    if not isinstance(target, (Repeat, TemporalMean)):
        return Fraction(1)
    steps = max(1, target.steps)  # fewer are a fault of the op's own
    return Fraction(steps) if isinstance(target, Repeat) else Fraction(1, steps)


def with_own_constants(graph: Graph) -> Graph:
    """A graph in which a Constant that is read at several rates is there once for each of them.

    A constant is the same in every step, and so is all that follows from constants without state; so no value changes.
    Copies hold the very same op, and an edge stays in its place, so that sums are taken in the same order. Other
    values of several rates that meet stay as they are, for `Graph.verify` to refuse.

    What follows from constants and is not read by anything else is there once: any rate would do, so it gets one of
    those that most of what it reads has (of these the least), which takes few copies. An output of constants alone is
    as long as they are; if they are read at different rates, nobody can say how long, and it is refused.

    `graph`: sound, but for its rates.
    """
    still = _still(graph)
    rates = _rates_of_driven(graph, still)
    unread = _rates_of_unread(graph, still, rates)
    rates |= unread
    edges = list(graph.edges)
    ops = dict(graph.ops)
    made: dict[str, list[str]] = {}
    for name in reversed(still):  # what it is read by comes before it, with its own copies
        of: dict[Fraction, str] = {}
        here = [k for k, edge in enumerate(edges) if edge.source == name and edge.target in rates]
        for k in sorted(here, key=lambda k: edges[k].target in unread):  # the op itself serves what is read
            rate = rates[edges[k].target] / _factor(ops[edges[k].target])
            if rate not in of:
                of[rate] = fresh(name, ops) if of else name
                ops[of[rate]] = ops[name]
            edges[k] = replace(edges[k], source=of[rate])
        rates |= {copy: rate for rate, copy in of.items()}
        made[name] = [copy for copy in of.values() if copy != name]
        edges += [replace(e, target=copy) for copy in made[name] for e in edges if e.target == name]
    ordered = {copy: ops[name] for name in graph.ops for copy in (name, *made.get(name, ()))}
    origin = {copy: graph.sources(name) for name, copies in made.items() for copy in copies}
    return replace(graph, ops=ordered, edges=tuple(edges), origin={**graph.origin, **origin})


def _still(graph: Graph) -> tuple[str, ...]:
    """Constants, and what follows from them alone without state; each behind what it reads."""
    found: dict[str, None] = {n: None for n, op in graph.ops.items() if isinstance(op, Constant) and not op.series}
    moving = (Repeat, TemporalMean, Output)
    pending = list(found)
    for name in pending:  # grows while it is walked
        for target in dict.fromkeys(e.target for e in graph.outgoing[name]):
            op = graph[target]
            if target in found or op.stateful or isinstance(op, moving):
                continue
            if all(e.source in found for e in graph.incoming[target]):
                found[target] = None
                pending.append(target)
    return tuple(found)


def _rates_of_driven(graph: Graph, still: Collection[str]) -> dict[str, Fraction]:
    """The rate of what inputs drive, or is joined to that by others than constants."""
    rates: dict[str, Fraction] = dict.fromkeys(graph.inputs, Fraction(1))
    pending = deque(rates)
    while pending:
        name = pending.popleft()
        near = [(e.target, rates[name] * _factor(graph[e.target])) for e in graph.outgoing[name]]
        near += [(e.source, rates[name] / _factor(graph[name])) for e in graph.incoming[name]]
        for other, rate in near:
            if other not in rates and other not in still:
                rates[other] = rate
                pending.append(other)
    return rates


def _rates_of_unread(graph: Graph, still: Sequence[str], driven: Mapping[str, Fraction]) -> dict[str, Fraction]:
    """A rate for what is constant and is not read by anything else; what hangs together has one."""
    at: dict[str, set[Fraction]] = {}
    for name in reversed(still):
        targets = [e.target for e in graph.outgoing[name]]
        at[name] = {driven[t] / _factor(graph[t]) for t in targets if t in driven}
        at[name].update(rate for t in targets if t in at for rate in at[t])
    rates: dict[str, Fraction] = {}
    pending = dict.fromkeys(name for name in still if not at[name])
    while pending:
        group = [next(iter(pending))]
        del pending[group[0]]
        for name in group:  # grows while it is walked
            for near in (*(e.target for e in graph.outgoing[name]), *(e.source for e in graph.incoming[name])):
                if near in pending:
                    group.append(near)
                    del pending[near]
        if any(e.target not in at for name in group for e in graph.outgoing[name]):
            continue
        feeders = dict.fromkeys(e.source for name in group for e in graph.incoming[name])
        counts = Counter(rate for feeder in feeders for rate in at[feeder])
        if counts:  # otherwise nothing that has a rate is near
            rates |= dict.fromkeys(group, min(counts, key=lambda rate: (-counts[rate], rate)))
    return rates
