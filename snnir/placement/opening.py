"""Cycles that lie on both sides, opened where their values wait: at Delays, and where the network is a step late.

The parts of such a loop run step by step (`snnir.placement.lockstep`). A Delay of at least one step in it is a hold
between the parts; so is every late edge (`snnir.schedule`) between ops of different parts. Without them the cycle is an
order of ops, and ops on the same side with nothing of the other side between them are a part.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from snnir.discretise import delay_steps
from snnir.errors import Violation
from snnir.graph import Edge, Graph
from snnir.naming import fresh
from snnir.ops import Delay, Input, Op, Repeat, TemporalMean, Threshold
from snnir.placement.kinds import free_ops
from snnir.placement.types import Hold, Part, Side
from snnir.schedule import Group, schedule

BETWEEN = "waits between the parts: its loop lies on both sides"


@dataclass(frozen=True, eq=False)
class Opened:
    """A network whose cycles lie on one side each: holds are inputs.

    Attributes:
        whole: the network itself. graph: the opened one.
        sides: of the opened one's ops.
        loop: op -> number of the cycle on both sides that it belongs to, of whole and opened.
        inner: op of such a cycle -> how many times a value must have changed sides before it within a step.
        holds: by number of the cycle.
        kept: late edges of these cycles that lie within a part.
    """

    whole: Graph
    graph: Graph
    sides: Mapping[str, Side]
    loop: Mapping[str, int]
    inner: Mapping[str, int]
    holds: Mapping[int, tuple[Hold, ...]]
    kept: frozenset[Edge]

    @property
    def handed(self) -> frozenset[str]:
        """The ops whose values wait in a hold."""
        names = {name for holds in self.holds.values() for hold in holds for name in hold.sources}
        return frozenset(names - {hold.name for holds in self.holds.values() for hold in holds})

    def means(self, name: str) -> str:
        """The op whose value an input of the opened network takes."""
        return next((h.rest for holds in self.holds.values() for h in holds if h.name == name and h.rest), name)


def waiting(graph: Graph) -> frozenset[str]:
    """The Delays of at least a step for every element, but for those that read what no input reaches."""
    free = free_ops(graph)
    return frozenset(
        name
        for name, op in graph.ops.items()
        if isinstance(op, Delay)
        and int(delay_steps(op, graph.semantics).min(initial=1)) >= 1
        and not any(edge.source in free for edge in graph.incoming[name])
    )


def shared(graph: Graph, sides: Mapping[str, Side]) -> Iterator[Group]:
    """The cycles that lie on both sides."""
    for group in schedule(graph).groups:
        if group.cyclic and {"chip", "host"} <= {sides[n] for n in group.ops if n in sides}:
            yield group


class Loops:
    """Which cycles may lie on both sides while a placement is looked for.

    Attributes:
        cycles: all of them. open: the ops of those that may. closed: op -> why its cycle could not after all.
        waiting: the Delays that can wait between parts.
    """

    def __init__(self, graph: Graph, forced: Mapping[str, str]) -> None:
        self.graph, self.forced, self.waiting = graph, forced, waiting(graph)
        self.cycles = [group for group in schedule(graph).groups if group.cyclic]
        self.open: set[str] = set()
        self.closed: dict[str, str] = {}

    def consider(self, group: Group, barred: Collection[str]) -> None:
        """Opens a cycle that the user cuts, or that is held together by what must stay on the host, if values wait."""
        host = any(name in barred or self.forced.get(name) == "host" for name in group.ops)
        able = any(name not in barred and self.forced.get(name) != "host" for name in group.ops)
        if self._cut_by_user(group) or (self.could(group) and host and able):
            self.open.update(group.ops)

    def could(self, group: Group) -> bool:
        """Whether values wait in a cycle, so that it might lie on both sides."""
        changes = any(isinstance(self.graph[name], (Repeat, TemporalMean)) for name in group.ops)
        return group.cyclic and not changes and any(name in self.waiting for name in group.ops)

    def try_open(self) -> list[Group]:
        """Opens all that might be open and have not been; gives them."""
        found = [g for g in self.cycles if self.could(g) and g.ops[0] not in self.open and g.ops[0] not in self.closed]
        for group in found:
            self.open.update(group.ops)
        return found

    def close(self, why: Violation) -> list[Group]:
        """Closes all that the user does not cut; gives them."""
        found = [g for g in self.cycles if g.ops[0] in self.open and not self._cut_by_user(g)]
        for group in found:
            self.open.difference_update(group.ops)
            self.closed.update(dict.fromkeys(group.ops, why.what))
        return found

    def _cut_by_user(self, group: Group) -> bool:
        return {"chip", "host"} <= {self.forced[name] for name in group.ops if name in self.forced}


def opened(graph: Graph, sides: Mapping[str, Side], hold: frozenset[Edge] = frozenset()) -> Opened:
    """Opens every cycle on both sides; the late edges of `hold` wait between parts in any case."""
    groups = list(shared(graph, sides))
    if not groups:
        return Opened(graph, graph, sides, {}, {}, {}, frozenset())
    loop = {name: number for number, group in enumerate(groups) for name in group.ops}
    delays = waiting(graph) & loop.keys()
    late = schedule(graph).back_edges
    level = _within(graph, sides, groups, late, delays)
    kept = frozenset(e for e in late - hold if e.source in loop and _together(e, sides, level, delays))
    moved = _moved(graph, sides, loop, (late - kept) & _inside(graph, loop))
    if moved:
        late = (late - _of(graph.outgoing, moved)) | _of(graph.incoming, moved)
        level = _within(graph, sides, [Group((*_first(g, moved), *g.ops), True) for g in groups], late, delays)
        apart = frozenset(e for e in kept if not _together(e, sides, level, delays))
        if apart:
            return opened(graph, sides, hold | apart)
    held: dict[tuple[int, str], str] = {}
    for edge in graph.edges:
        key = (loop.get(edge.target, -1), edge.source)
        if edge in late and edge.target in loop and edge not in kept and key not in held:
            held[key] = fresh(f"{edge.source}.before", {*graph.ops, *held.values()})
    before = {e: held[loop[e.target], e.source] for e in late - kept if e.target in loop}
    named = {name: source for (_, source), name in held.items()}
    return Opened(
        graph,
        _without(graph, delays, named, before),
        {**sides, **dict.fromkeys((*delays, *named), "host")},  # type: ignore[dict-item]
        {**loop, **{name: number for (number, _), name in held.items()}},
        level,
        _holds(graph, loop, delays, held, before),
        kept,
    )


def _within(
    graph: Graph, sides: Mapping[str, Side], groups: Sequence[Group], late: frozenset[Edge], delays: frozenset[str]
) -> dict[str, int]:
    """Op of a cycle -> how many times a value must have changed sides before it within a step; ops in their order."""
    level: dict[str, int] = {}
    for group in groups:
        members = set(group.ops)
        for name in dict.fromkeys(group.ops):
            before = [
                level[e.source] + (sides[e.source] != sides[name])
                for e in graph.incoming[name]
                if e.source in members and e not in late and e.source not in delays
            ]
            level[name] = max(before, default=0)
    return level


def _together(edge: Edge, sides: Mapping[str, Side], level: Mapping[str, int], delays: frozenset[str]) -> bool:
    a, b = edge.source, edge.target
    return not {a, b} & delays and (sides[a], level[a]) == (sides[b], level[b])


def _moved(graph: Graph, sides: Mapping[str, Side], loop: Mapping[str, int], late: frozenset[Edge]) -> frozenset[str]:
    """Weights on the chip in front of which values can wait, instead of behind, where they could not come out.

    f of a value that is a step late is f's value a step late; before the first step, too, where that is f of what is
    there then.
    """
    if not graph.semantics.recurrent_bias_at_start:
        return frozenset()
    found: set[str] = set()
    while True:
        now = (late - _of(graph.outgoing, found)) | _of(graph.incoming, found)
        new = {
            e.source
            for e in now
            if e.source in loop
            and e.source not in found
            and sides[e.source] == "chip"
            and not graph[e.source].stateful
            and not isinstance(graph[e.source], Threshold)
            and all(out in now for out in graph.outgoing[e.source])
            and all(into.source in sides for into in graph.incoming[e.source])
        }
        if not new:
            return frozenset(found)
        found |= new


def _first(group: Group, moved: frozenset[str]) -> tuple[str, ...]:
    return tuple(name for name in group.ops if name in moved)


def _of(edges: Mapping[str, tuple[Edge, ...]], names: Iterable[str]) -> frozenset[Edge]:
    return frozenset(e for name in names for e in edges[name])


def _inside(graph: Graph, loop: Mapping[str, int]) -> frozenset[Edge]:
    return frozenset(e for e in graph.edges if e.source in loop and e.target in loop)


def _without(graph: Graph, delays: frozenset[str], named: Mapping[str, str], before: Mapping[Edge, str]) -> Graph:
    """The graph with inputs in the place of holds; all edges keep their order, so that sums are taken in the same."""
    shapes = graph.shapes
    ops: dict[str, Op] = {name: Input(shape=shapes[source], loc=graph[source].loc) for name, source in named.items()}
    ops |= {n: Input(shape=shapes[n], loc=op.loc) if n in delays else op for n, op in graph.ops.items()}
    edges = [replace(e, source=before.get(e, e.source)) for e in graph.edges if e.target not in delays]
    origin = {**graph.origin, **{name: graph.sources(source) for name, source in named.items()}}
    return Graph(ops, tuple(edges), graph.semantics, origin)


def _holds(
    graph: Graph,
    loop: Mapping[str, int],
    delays: frozenset[str],
    held: Mapping[tuple[int, str], str],
    before: Mapping[Edge, str],
) -> dict[int, tuple[Hold, ...]]:
    shapes = graph.shapes
    found: dict[int, list[Hold]] = {number: [] for number in loop.values()}
    for name in (n for n in graph.ops if n in delays):
        op = graph[name]
        assert isinstance(op, Delay)  # `waits` says so
        steps = np.broadcast_to(delay_steps(op, graph.semantics), shapes[name])
        found[loop[name]].append(Hold(name, tuple(before.get(e, e.source) for e in graph.incoming[name]), steps))
    for (number, source), name in held.items():
        found[number].append(Hold(name, (source,), np.ones(shapes[source], int), source))
    return {number: tuple(holds) for number, holds in found.items()}


def misread(part: Part, kept: frozenset[Edge]) -> frozenset[Edge]:
    """The late edges of a part that would be others in the part alone: then all of them, which must wait outside."""
    own = frozenset(e for e in kept if e.source in part.graph and e.target in part.graph)
    return frozenset() if own == schedule(part.graph).back_edges else own
