"""What the decoder of an image costs, by our counting rule and by the FSDDIM authors'."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnir.graph import Edge, Graph
from snnir.operations import Operations, our_rule, paper_rule
from snnir.ops import Concat, Conv, Op, Scale, Shape
from snnir.passes.common import size
from snnir.passes.decoder_paths import Paths
from snnir.passes.decoder_spikes import Target


@dataclass(frozen=True)
class Price:
    """Operations of an image: what begins its calls, what lies between them, and what makes the output."""

    ours: Operations
    papers: Operations

    def __str__(self) -> str:
        return f"{self.ours} (counted as the paper's authors do: {self.papers})"


def price_spikes(paths: Paths, plan: list[Target], rate: float, steps: int) -> Price:
    """The price of `spikes_only`, without building it."""
    graph = paths.graph
    ours = papers = Operations()
    known: dict[tuple[int, Shape, bool], tuple[Operations, Operations]] = {}
    for target in plan:
        end = graph.shapes[target.name]
        for term in target.terms:
            if term.bias:
                continue
            start, spikes = graph.shapes[term.source], term.source in paths.binary
            if target.weights is None and not term.chain:
                one = _one(Scale(scale=np.ones(())), start, end, None)
            else:
                op = paths.composed(term, target.weights)
                key = id(op), start, spikes
                one = known.get(key) or _one(op, start, end, rate if spikes else None)
                known[key] = one
            ours, papers = ours + one[0], papers + one[1]
    planned = {target.name for target in plan}
    return _per_image(graph, paths, [n for n in paths.entries(0) if n not in planned], (ours, papers), rate, steps)


def price_factored(graph: Graph, rate: float, steps: int) -> Price:
    """The price of the same in a graph with a relay."""
    paths = Paths(graph)
    return _per_image(graph, paths, paths.between(), (Operations(), Operations()), rate, steps)


def _per_image(
    graph: Graph, paths: Paths, names: list[str], so_far: tuple[Operations, Operations], rate: float, steps: int
) -> Price:
    ours, papers = so_far
    known: dict[tuple[int, Shape, bool], tuple[Operations, Operations]] = {}
    for name in names:
        numbers = False
        for edge in graph.incoming[name]:
            if edge.source not in paths.binary and not isinstance(graph[edge.source], Concat):
                if numbers:  # added to those that are there, and multiplied once
                    ours += Operations(acs=float(size(graph.shapes[edge.source])))
                    continue
                numbers = True
            for op, source in _parts(graph, paths, edge):
                start, spikes = graph.shapes[source], source in paths.binary
                key = id(op), start, spikes
                one = known.get(key) or _one(op, start, graph.shapes[name], rate if spikes else None)
                if op is graph[name]:  # the graph holds it, so its id stays its own
                    known[key] = one
                ours, papers = ours + one[0], papers + one[1]
    return Price(ours.times(steps), papers.times(steps))


def _parts(graph: Graph, paths: Paths, edge: Edge) -> list[tuple[Op, str]]:
    """What an op does for an edge; where that brings spikes and numbers side by side, apart."""
    op, joined = graph[edge.target], graph[edge.source]
    whole = (
        edge.source in paths.binary or not isinstance(joined, Concat) or joined.axis % len(graph.shapes[edge.source])
    )
    if whole or not isinstance(op, Conv) or op.groups > 1:
        return [(op, edge.source)]
    found: list[tuple[Op, str]] = []
    at = 0
    for port in joined.ports:
        sources = [e.source for e in graph.incoming[edge.source] if e.port == port]
        width = graph.shapes[sources[0]][0]
        part = op.with_(weight=op.weight[:, at : at + width], bias=np.zeros(len(op.weight)), input_shape=None)
        found += [(part, source) for source in sources]
        at += width
    return found


def _one(op: Op, start: Shape, end: Shape, rate: float | None) -> tuple[Operations, Operations]:
    return our_rule(op, start, rate), paper_rule(op, start, end, None if rate is None else rate * size(start))
