"""From sides to parts: an order without circles in which every part runs once, over all steps of a call.

A part is one side, one rate of steps, one level; a level begins where a value changes sides. A cycle stays in one part,
so no part waits for a later one and every part keeps its state to itself; a cycle that lies on both sides is opened
(`snnir.placement.opening`), and its parts run step by step. Repeat and TemporalMean lie between parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import groupby
from operator import itemgetter
from typing import Any

from snnir.errors import CompileError, Violation
from snnir.graph import Edge, Graph
from snnir.naming import fresh
from snnir.ops import Constant, Delay, Input, Neuron, Output, Repeat, SpikingNeuron, TemporalMean, Threshold
from snnir.placement.kinds import free_ops, rates
from snnir.placement.opening import Opened, misread, opened, shared
from snnir.placement.types import Encode, Loop, Part, Side
from snnir.schedule import schedule


def sides_of(graph: Graph, chip: frozenset[str] | set[str]) -> dict[str, Side]:
    """The side of every op that some input reaches and some output needs, when those of `chip` are on the chip."""
    left_out = free_ops(graph) | _unread(graph)
    return {
        name: "driver" if isinstance(op, (Repeat, TemporalMean)) else "chip" if name in chip else "host"
        for name, op in graph.ops.items()
        if name not in left_out
    }


def _unread(graph: Graph) -> frozenset[str]:
    """The ops that no output depends on."""
    needed = list(graph.outputs)
    seen = set(needed)
    for name in needed:  # grows while it is walked
        new = {e.source for e in graph.incoming[name]} - seen
        seen |= new
        needed += new
    return frozenset(set(graph.ops) - seen)


Step = Part | Encode | Loop


class Apart(CompileError):
    """Ops are in different parts that belong together: `pairs` of them."""

    def __init__(self, violations: Iterable[Violation], pairs: frozenset[tuple[str, str]]) -> None:
        super().__init__(violations, title="the network cannot be cut like this")
        self.pairs = pairs


def cut(graph: Graph, sides: Mapping[str, Side]) -> tuple[Step, ...]:
    """The parts of a network, and what lies between them, in running order.

    Raises:
        CompileError: a loop on both sides that changes what a step is; an output that no input reaches; a network with
            latencies.
    """
    faults = list(_faults(graph, sides))
    if faults:
        raise CompileError(faults, title="the network cannot be cut like this")
    hold: frozenset[Edge] = frozenset()
    while True:
        found = opened(graph, sides, hold)
        steps = _steps(found)
        wrong = frozenset(e for s in steps if isinstance(s, Loop) for p in s.parts for e in misread(p, found.kept))
        if not wrong:
            return steps
        hold |= wrong


def _steps(found: Opened) -> tuple[Step, ...]:
    graph, sides = found.graph, found.sides
    level = _levels(found)
    speed = rates(found.whole)
    members: dict[tuple[Any, ...], list[str]] = {}
    encoders: dict[int, list[Encode]] = {}
    carried = carried_ops(graph, sides, found.handed)
    component = _components(graph, sides, level, carried)
    for name, side in sides.items():
        op = graph[name]
        if isinstance(op, (Repeat, TemporalMean)):
            kind = "Repeat" if isinstance(op, Repeat) else "TemporalMean"
            sources = tuple(e.source for e in graph.incoming[name])
            encoders.setdefault(level[name][0], []).append(Encode(name, kind, op.steps, sources))  # type: ignore[arg-type]
        elif not isinstance(op, Input) and name not in carried:
            key = (*level[name], side, speed[name], component.get(name, 0))
            members.setdefault(key, []).append(name)
    made: list[Step] = []
    number = 0
    for at in sorted({*encoders, *(key[0] for key in members)}):
        made += encoders.get(at, [])
        for loop, keys in groupby(sorted(key for key in members if key[0] == at), key=itemgetter(1)):
            parts: list[Part] = []
            for key in keys:
                *_, side, rate, _ = key
                parts.append(part_of(graph, sides, f"{number:02d}-{side}", members[key], rate, found))
                number += 1
            made += parts if loop < 0 else [_loop(found, loop, parts)]
    return tuple(made)


def _loop(found: Opened, number: int, parts: list[Part]) -> Loop:
    members = frozenset(n for n, k in found.loop.items() if k == number)
    return Loop(f"loop-{number}", tuple(parts), found.holds[number], members)


def carried_ops(graph: Graph, sides: Mapping[str, Side], handed: frozenset[str] = frozenset()) -> frozenset[str]:
    """Ops on the chip that only neurons there read: weights and wiring. Each part has its own copies.

    `handed`: ops whose values go out in any case.
    """
    found: set[str] = set()
    for group in reversed(schedule(graph).groups):
        name = group.ops[0]
        neuron = isinstance(graph[name], (Neuron, Threshold))
        if group.cyclic or sides.get(name) != "chip" or neuron or name in handed:
            continue
        readers = [e.target for e in graph.outgoing[name] if e.target in sides]
        if all(sides[r] == "chip" and (r in found or isinstance(graph[r], (Neuron, Threshold))) for r in readers):
            found.add(name)
    return frozenset(found)


def _faults(graph: Graph, sides: Mapping[str, Side]) -> list[Violation]:
    faults: list[Violation] = []
    meaning = graph.semantics
    if meaning.latency_input or meaning.latency_neuron:
        what = f"values take {meaning.latency_input} and {meaning.latency_neuron} steps from inputs and neurons"
        hint = "cut the network that it was made from"
        faults.append(Violation("placement-latency", what, expected="a network without latencies", hint=hint))
    for group in shared(graph, sides):
        odd = next((name for name in group.ops if sides[name] == "driver"), None)
        if odd is not None:
            faults.append(
                Violation(
                    "placement-feedback",
                    f"{graph[odd].kind} changes what a step is, in a loop that lies on both sides",
                    where=", ".join(graph.sources(odd)),
                    loc=str(graph[odd].loc or ""),
                    expected="steps of one length in a loop",
                    hint=f"keep {', '.join(group.ops[:6])}{', ...' if len(group.ops) > 6 else ''} together",
                )
            )
    for name in graph.outputs:
        if name not in sides:
            what = "no input reaches it, so nothing says how long it runs"
            faults.append(Violation("placement-output", what, name, str(graph[name].loc or "")))
    return faults


def _levels(found: Opened) -> dict[str, tuple[int, int, int]]:
    """Op name -> how many times a value must have changed sides, or its rate, before it; its loop's number, or -1; and
    how many times it must have changed sides within the loop."""
    graph, sides, loop = found.whole, found.sides, found.loop
    speed = rates(graph)
    level: dict[str, int] = {}
    for group in schedule(graph).groups:
        names = [name for name in group.ops if name in sides]
        best = 0
        for name in names:
            for edge in graph.incoming[name]:
                before = edge.source
                if before not in level or isinstance(graph[before], Input):
                    continue
                same = sides[before] == sides[name] != "driver" and speed[before] == speed[name]
                best = max(best, level[before] + (not same or before in loop or name in loop))
        level.update(dict.fromkeys(names, best))
    return {name: (level[name], loop.get(name, -1), found.inner.get(name, 0)) for name in level}


def _components(
    graph: Graph, sides: Mapping[str, Side], level: Mapping[str, tuple[int, ...]], carried: frozenset[str]
) -> dict[str, int]:
    """Ops on the chip -> a number that those of one piece share: pieces that share no value are parts of their own."""
    members = [name for name, side in sides.items() if side == "chip" and name not in carried]
    leader: dict[tuple[Any, str], tuple[Any, str]] = {}

    def root(key: tuple[Any, str]) -> tuple[Any, str]:
        leader.setdefault(key, key)
        while leader[key] != key:
            leader[key] = leader[leader[key]]
            key = leader[key]
        return key

    for name in members:
        reads = [name]
        for op in reads:  # grows while it is walked
            for edge in graph.incoming[op]:
                leader[root((level[name], edge.source))] = root((level[name], name))
                if edge.source in carried and edge.source not in reads:
                    reads.append(edge.source)
    order = {name: i for i, name in enumerate(graph.ops)}
    return {name: order[root((level[name], name))[1]] for name in members}


def part_of(
    graph: Graph,
    sides: Mapping[str, Side],
    name: str,
    members: list[str],
    rate: Fraction,
    within: Opened | None = None,
) -> Part:
    """The sub-network of `members`, with copies of the free and carried ops that they read; all keep their order.

    `within`: the network opened, where `graph` is that.
    """
    waiting = within.handed if within else frozenset()
    copied = free_ops(graph) | carried_ops(graph, sides, waiting)
    inside = set(members)
    pending = list(members)
    for op in pending:  # grows while it is walked
        for edge in graph.incoming[op]:
            if edge.source in copied and edge.source not in inside:
                inside.add(edge.source)
                pending.append(edge.source)
    outside = {e.source for op in inside for e in graph.incoming[op] if e.source not in inside}
    own = set(members)
    handed = [m for m in members if m in waiting or not _readers(graph, sides, m, copied) <= own]
    shapes = graph.shapes
    ops = {
        op: graph[op] if op in inside or isinstance(graph[op], Input) else Input(shape=shapes[op], loc=graph[op].loc)
        for op in graph.ops
        if op in inside or op in outside
    }
    edges = [e for e in graph.edges if e.target in inside and (e.source in inside or e.source in outside)]
    gives: dict[str, str] = {op: op for op in members if isinstance(graph[op], Output)}
    for source in handed:
        end = fresh(f"{source}.out", {*graph.ops, *ops})
        ops[end] = Output(shape=shapes[source], loc=graph[source].loc)
        edges.append(Edge(source, end))
        gives[source] = end
    origin = {op: graph.sources(op) for op in ops if op in graph.origin}
    made = Graph(ops, tuple(edges), graph.semantics, origin).verify()
    _require_rest(graph, made, outside, within)
    return Part(name, sides[members[0]], made, gives, rate)


def _readers(graph: Graph, sides: Mapping[str, Side], name: str, copied: frozenset[str]) -> set[str]:
    """The ops that read a value and are no copies: directly, or by way of copies."""
    found: set[str] = set()
    pending = [name]
    for op in pending:  # grows while it is walked
        for target in {e.target for e in graph.outgoing[op]} & sides.keys():
            if target not in copied:
                found.add(target)
            elif target not in pending:
                pending.append(target)
    return found


def _require_rest(graph: Graph, part: Graph, outside: set[str], within: Opened | None) -> None:
    """Before step 0 a loop's late values follow from what feeds it; what comes from outside must then be 0.

    Raises:
        Apart: it need not be.
    """
    if not graph.semantics.recurrent_bias_at_start:
        return
    late = {e.source for e in schedule(part).back_edges if not part[e.source].stateful}
    pending = list(late)
    for name in pending:  # grows while it is walked
        for edge in part.incoming[name]:
            if edge.source not in late and not part[edge.source].stateful:
                late.add(edge.source)
                pending.append(edge.source)
    faults: list[Violation] = []
    pairs: set[tuple[str, str]] = set()
    for name in sorted(late & outside):
        own = within.means(name) if within else name
        op = within.whole[own] if within else graph[name]
        if isinstance(op, (Input, SpikingNeuron, Delay, Constant)):
            continue
        pairs |= {(own, edge.target) for edge in part.outgoing[name] if edge.target in late}
        what = "feeds a loop, whose values before the first step follow from its own"
        where, expected = ", ".join(graph.sources(name)), "it on the same side as the loop"
        faults.append(Violation("placement-rest", what, where, str(op.loc or ""), expected))
    if faults:
        raise Apart(faults, frozenset(pairs))
