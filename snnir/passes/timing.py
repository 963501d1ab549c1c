"""Whether a rewrite kept the steps at which values arrive; what passes ask before they touch a cycle.

One edge of every cycle is a step late, and which one follows from the structure (`snnir.schedule`). So a rewrite
within a cycle may move the delay to a place where it means something else. `in_time` runs a rewrite, compares the
steps along all paths between the ops that it left where they were, and lets it run again with those ops frozen where
they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from snnir.graph import Edge, Graph
from snnir.interpreter.run import edge_lags
from snnir.ops import Constant, Input, Output
from snnir.pipeline import Log
from snnir.schedule import stateless_cycles

Rewrite = Callable[[Graph, Log, frozenset[str]], Graph]
Paths = dict[tuple[str, str, str], frozenset[int]]
MOST_ATTEMPTS = 5
"""How often a rewrite may be tried; the last time without any cycle."""
MOST_NEW_WAYS = 64
"""How many new ways between ops are looked into before a rewrite counts as having moved a delay: keeps it linear."""


def in_time(graph: Graph, log: Log, rewrite: Rewrite, alias: dict[str, str] | None = None) -> Graph:
    """Runs `rewrite(graph, log, frozen)`, and again with the ops frozen where it moved a delay.

    A rewrite must leave ops named in `frozen`, and the edges between them, as they are. The result keeps the graph's
    timing, else it is the graph itself. Latencies of the graph's semantics count too: they belong to edges, and a
    rewrite moves edges.

    Args:
        alias: filled by the rewrite with the names of ops with state that it made or removed -> the name of the op
            whose spikes they give: a part of it, or its twin.
    """
    lags, groups = edge_lags(graph, graph.semantics)
    cyclic = frozenset(name for group in groups if group.cyclic for name in group.ops)
    latencies = bool(graph.semantics.latency_neuron or graph.semantics.latency_input)
    frozen = cyclic if not graph.semantics.recurrent_bias_at_start else frozenset[str]()
    for left in reversed(range(MOST_ATTEMPTS)):
        attempt = Log(log.pass_name)
        if alias:
            alias.clear()
        after = rewrite(graph, attempt, frozen)
        moves = _moves(graph, lags, cyclic, after, alias or {}) if lags or latencies else []
        if not moves:
            log.entries += attempt.entries
            return after
        for move in moves:
            log.declined(move.target, move.what)
        frozen |= {name for move in moves for name in _around(graph, after, move)} if left > 1 else cyclic
    return graph


@dataclass(frozen=True)
class _Move:
    """A value that a rewrite delivers in another step."""

    source: str
    target: str
    what: str


def _around(before: Graph, after: Graph, move: _Move) -> set[str]:
    """The ops of `before` between the two ends of a move, as far as the rewrite took them away, and the ends."""
    found = {name for name in (move.source, move.target) if name in before}
    for start, edges, end in ((move.source, before.outgoing, "target"), (move.target, before.incoming, "source")):
        stack = [start] if start in before else []
        while stack:
            for edge in edges[stack.pop()]:
                name = getattr(edge, end)
                if name not in found:
                    found.add(name)
                    if name not in after:
                        stack.append(name)
    return found


def _moves(
    before: Graph, lags_before: Mapping[Edge, int], cyclic: frozenset[str], after: Graph, alias: Mapping[str, str]
) -> list[_Move]:
    """Where `after` delivers a value in another step than `before`."""
    if after is before:
        return []
    loops = [name for cycle in stateless_cycles(after) for name in cycle]
    if loops:  # the rewrite took away all that held state on a cycle, e.g. a Delay of 0
        what = "a cycle would hold no state"
        return [_Move(name, name, what) for name in loops]
    fixed = {
        name
        for name, op in before.ops.items()
        if name in after.ops
        and (
            op.stateful
            or isinstance(op, (Input, Output, Constant))
            or set(before.incoming[name]) == set(after.incoming[name])
        )
    }
    fixed |= set(alias.values())
    lags_after, groups = edge_lags(after, after.semantics)
    if before.semantics.latency_neuron or before.semantics.latency_input:
        cyclic = frozenset([*before.ops, *after.ops])  # every edge of a neuron is late
    cyclic |= {name for group in groups if group.cyclic for name in group.ops}
    stops = {name for graph in (before, after) for name, op in graph.ops.items() if op.stateful} | fixed
    old = _renamed(_paths(before, lags_before, stops, stops), alias)
    new = _renamed(_paths(after, lags_after, stops, stops), alias)
    unknown, moves = 0, []
    for key, now in new.items():
        was = old.get(key, frozenset())
        source, target, _ = key
        if now | was == {0} and (source not in cyclic or not {source, target} <= fixed):
            continue  # off the cycles no edge is late
        if not was and unknown < MOST_NEW_WAYS:
            # Before, the way led through ops that are still there: all ways there were must have taken as long.
            unknown += 1
            ends = {name for name, op in before.ops.items() if op.stateful or name == target}
            was = _paths(before, lags_before, ends, {source}).get(key, was)
        if was != now or len(now) > 1:
            what = f"what {source} sends to {target} would arrive {_steps(now)} instead of {_steps(was)}"
            moves.append(_Move(source, target, what))
    return moves


def _renamed(paths: Paths, alias: Mapping[str, str]) -> Paths:
    found: Paths = {}
    for (source, target, port), delays in paths.items():
        key = alias.get(source, source), alias.get(target, target), port
        found[key] = found.get(key, frozenset()) | delays
    return found


def _steps(delays: frozenset[int]) -> str:
    if not delays:
        return "nowhere"
    return " and ".join("in the same step" if d == 0 else f"{d} later" for d in sorted(delays))


def _paths(graph: Graph, lags: Mapping[Edge, int], stops: set[str], sources: set[str]) -> Paths:
    """(source, stop, port) -> the delays along the paths between them that cross no other stop."""
    onward: dict[str, frozenset[tuple[str, str, int]]] = {}

    def ends(name: str) -> frozenset[tuple[str, str, int]]:
        """Where the output of op `name` arrives: target, port, delay."""
        stack = [name]
        while stack:
            top = stack[-1]
            missing = [e.target for e in graph.outgoing[top] if e.target not in stops and e.target not in onward]
            if top in onward or missing:
                stack = stack[:-1] if top in onward else stack + missing
                continue
            found: set[tuple[str, str, int]] = set()
            for edge in graph.outgoing[top]:
                lag = lags.get(edge, 0)
                if edge.target in stops:
                    found.add((edge.target, edge.port, lag))
                else:
                    found |= {(target, port, delay + lag) for target, port, delay in onward[edge.target]}
            onward[stack.pop()] = frozenset(found)
        return onward[name]

    paths: dict[tuple[str, str, str], set[int]] = {}
    for source in sources & set(graph.ops):
        for target, port, delay in ends(source):
            paths.setdefault((source, target, port), set()).add(delay)
    return {key: frozenset(delays) for key, delays in paths.items()}
