"""Whether the loops over chip and host keep the network's time: what comes off a chip may be late.

A part makes step n when all it reads is there. What it gives for step t of the network comes out in its own step
t + lag (0 for a host), and what waits in a hold is read `steps` later. So around a loop the holds must add up to more
steps than the lags, or some step would have to be made before itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from snnir.errors import Violation
from snnir.graph import Graph
from snnir.placement.types import Encode, Loop, Part
from snnir.target import Target

Lags = Mapping[str, Mapping[str, int]]
"""Part name -> output -> steps by which it comes late."""


def short_loops(
    graph: Graph, steps: Iterable[Part | Encode | Loop], lags: Lags, target: Target
) -> Iterator[tuple[Loop, Violation]]:
    """The loops that would take longer than in the network, and by how many steps."""
    for loop in steps:
        if isinstance(loop, Loop):
            fault = _short(graph, loop, lags, target)
            if fault:
                yield loop, fault


def _short(graph: Graph, loop: Loop, lags: Lags, target: Target) -> Violation | None:
    import networkx as nx

    made = {op: (part, end) for part in loop.parts for op, end in part.gives.items()}
    ways: nx.DiGraph[str] = nx.DiGraph()
    ways.add_nodes_from(("", *(part.name for part in loop.parts)))
    for part in loop.parts:
        ways.add_edge("", part.name, weight=0)
        for name in part.graph.inputs:
            for source, held in _sources(loop, name):
                if source not in made:
                    continue
                before, end = made[source]
                late = lags.get(before.name, {}).get(end, 0)
                # A sum of at most 0 around a loop becomes a negative one, and no other does.
                weight = (held - late) * (len(loop.parts) + 1) - 1
                old = ways.edges.get((before.name, part.name), {}).get("weight")
                if old is None or weight < old:
                    ways.add_edge(before.name, part.name, weight=weight, source=source, held=held, late=late)
    if not nx.negative_edge_cycle(ways):
        return None
    round_ = nx.find_negative_cycle(ways, "")
    edges = [ways.edges[a, b] for a, b in pairwise(round_)]
    held, late = sum(e["held"] for e in edges), sum(e["late"] for e in edges)
    missing = late + 1 - held
    names = [e["source"] for e in edges]
    first = next((e["source"] for e in edges if e["late"]), names[0])
    path = " -> ".join([*names, names[0]])
    return Violation(
        "placement-feedback",
        f"in the network what goes around the loop {path} comes back after {_steps(held)}; on {target.name} and a host "
        f"that takes {_steps(late + 1)}, since what the chip gives comes {_steps(late)} late",
        where=", ".join(graph.sources(first)),
        loc=str(graph[first].loc or ""),
        expected=f"at least {_steps(late + 1)} around a loop that lies on both sides",
        hint=f"train it with a Delay of {_steps(missing)} more in the loop, or keep the loop on one side (--place)",
    )


def _sources(loop: Loop, name: str, held: int = 0, passed: frozenset[str] = frozenset()) -> Iterator[tuple[str, int]]:
    """The ops behind what a part reads, and for how many steps their values wait at least."""
    hold = next((hold for hold in loop.holds if hold.name == name), None)
    if hold is None:
        yield name, held
        return
    for source in hold.sources:
        if source not in passed:  # Delays around a circle of their own only add to it
            yield from _sources(loop, source, held + int(hold.steps.min()), passed | {name})


def _steps(number: int) -> str:
    return f"{number} step{'' if number == 1 else 's'}"
