"""In which order ops run, and which edges carry a value of the step before.

Every cycle has a back edge, which is one step late (a cycle that can be entered in one place only has exactly one). It
is found by one rule that depends on the structure and the order of the ops alone: walk forward from the inputs, never
taking an op before everything that feeds it; where a cycle blocks the walk, enter it at the op (first in graph order)
that something outside already feeds. The edges of the cycle that end before they start are the back edges. So for
`input -> lif -> linear -> lif` it is `linear -> lif`.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

from snnir.graph import Edge, Graph


@dataclass(frozen=True)
class Group:
    """Ops that run together: one op over all steps at once, or (`cyclic`) several ops step by step."""

    ops: tuple[str, ...]
    cyclic: bool


@dataclass(frozen=True)
class Schedule:
    """Groups in an order in which each finds its inputs ready, and the back edges, one step late."""

    groups: tuple[Group, ...]
    back_edges: frozenset[Edge]

    @property
    def order(self) -> tuple[str, ...]:
        """All op names in running order."""
        return tuple(name for group in self.groups for name in group.ops)


_KNOWN: dict[tuple[Any, ...], Schedule] = {}  # of the last structures: graphs that differ in numbers alone share one
_KEPT = 64


def schedule(graph: Graph) -> Schedule:
    """The running order of a graph; linear in its size but for a logarithm."""
    key = (tuple(graph.ops), graph.edges)
    if key not in _KNOWN:
        if len(_KNOWN) >= _KEPT:
            _KNOWN.clear()
        _KNOWN[key] = _schedule(graph)
    return _KNOWN[key]


def _schedule(graph: Graph) -> Schedule:
    import networkx as nx

    structure = graph.to_networkx()
    rank = {name: i for i, name in enumerate(graph.ops)}
    condensed = nx.condensation(structure)
    first = {c: min(rank[n] for n in data["members"]) for c, data in condensed.nodes(data=True)}
    groups: list[Group] = []
    late: set[Edge] = set()
    done: set[str] = set()
    for component in nx.lexicographical_topological_sort(condensed, key=lambda c: first[c]):
        members: set[str] = condensed.nodes[component]["members"]
        name = next(iter(members))
        if len(members) == 1 and not structure.has_edge(name, name):
            groups.append(Group((name,), cyclic=False))
        else:
            order = _break_cycles(graph, members, rank, done, late)
            groups.append(Group(tuple(order), cyclic=True))
        done |= members
    return Schedule(tuple(groups), frozenset(late))


def _break_cycles(graph: Graph, members: set[str], rank: dict[str, int], done: set[str], late: set[Edge]) -> list[str]:
    """An order of one strongly connected component; adds its back edges to `late`."""
    missing = {m: sum(e.source in members for e in graph.incoming[m]) for m in members}
    ready: list[tuple[int, str]] = []
    # Where the walk can enter: ops that something already run feeds; ops that nothing outside feeds come last.
    entry = [(not any(e.source in done for e in graph.incoming[m]), rank[m], m) for m in members]
    heapq.heapify(entry)
    placed: set[str] = set()
    order: list[str] = []
    while len(order) < len(members):
        if not ready:
            while entry[0][2] in placed:
                heapq.heappop(entry)
            heapq.heappush(ready, (entry[0][1], entry[0][2]))
        name = heapq.heappop(ready)[1]
        if name in placed:
            continue
        placed.add(name)
        order.append(name)
        for edge in graph.outgoing[name]:
            if edge.target not in members or edge.target in placed:
                continue
            missing[edge.target] -= 1
            if missing[edge.target] == 0:
                heapq.heappush(ready, (rank[edge.target], edge.target))
            else:
                heapq.heappush(entry, (False, rank[edge.target], edge.target))
    position = {name: i for i, name in enumerate(order)}
    for name in order:
        late.update(e for e in graph.outgoing[name] if e.target in members and position[e.target] <= position[name])
    return order


def rest_order(graph: Graph) -> tuple[str, ...]:
    """All op names, every op without state behind all that feeds it, late edges too.

    It is the order in which the values before step 0 follow from one another. Those of inputs, constants and ops with
    state are given; that of any other op is its function of its feeders'. A sound graph holds state on every cycle, so
    the order exists.
    """
    missing = {n: 0 if op.stateful else len(graph.incoming[n]) for n, op in graph.ops.items()}
    order = [name for name, count in missing.items() if count == 0]
    for name in order:  # grows while it is walked
        for edge in graph.outgoing[name]:
            if not graph[edge.target].stateful:
                missing[edge.target] -= 1
                if missing[edge.target] == 0:
                    order.append(edge.target)
    return tuple(order)


def stateless_cycles(graph: Graph) -> list[list[str]]:
    """The cycles that hold no neuron, integrator or delay, one per knot of ops; each as a list of op names."""
    import networkx as nx

    structure = graph.to_networkx()
    structure.remove_nodes_from([name for name, op in graph.ops.items() if op.stateful])
    found: list[list[str]] = []
    for knot in nx.strongly_connected_components(structure):
        name = next(iter(knot))
        if len(knot) > 1 or structure.has_edge(name, name):
            found.append([edge[0] for edge in nx.find_cycle(structure.subgraph(knot))])
    return found
