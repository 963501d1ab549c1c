"""From sides to parts: an order without circles in which every part runs once, over all steps of a call.

A part is one side, one rate of steps, one level; a level begins where a value changes sides. Loops stay in one part, so
no part waits for a later one and every part keeps its state to itself. Repeat and TemporalMean lie between parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from snnir.errors import CompileError, Violation
from snnir.graph import Edge, Graph
from snnir.naming import fresh
from snnir.ops import Constant, Delay, Input, Neuron, Output, Repeat, SpikingNeuron, TemporalMean, Threshold
from snnir.placement.kinds import free_ops, rates
from snnir.placement.types import Encode, Part, Side
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


def cut(graph: Graph, sides: Mapping[str, Side]) -> tuple[Part | Encode, ...]:
    """The parts of a network, and what lies between them, in running order.

    Raises:
        CompileError: a loop that lies on both sides; an output that no input reaches; a network with latencies.
    """
    faults = list(_faults(graph, sides))
    if faults:
        raise CompileError(faults, title="the network cannot be cut like this")
    level = _levels(graph, sides)
    speed = rates(graph)
    members: dict[tuple[int, Side, Fraction, int], list[str]] = {}
    encoders: dict[int, list[Encode]] = {}
    carried = carried_ops(graph, sides)
    component = _components(graph, sides, level, carried)
    for name, side in sides.items():
        op = graph[name]
        if isinstance(op, (Repeat, TemporalMean)):
            kind = "Repeat" if isinstance(op, Repeat) else "TemporalMean"
            sources = tuple(e.source for e in graph.incoming[name])
            encoders.setdefault(level[name], []).append(Encode(name, kind, op.steps, sources))  # type: ignore[arg-type]
        elif not isinstance(op, Input) and name not in carried:
            members.setdefault((level[name], side, speed[name], component.get(name, 0)), []).append(name)
    keys = sorted(members, key=lambda key: (key[0], key[1], key[2], key[3]))
    made: list[Part | Encode] = []
    number = 0
    for at in sorted({*encoders, *(key[0] for key in keys)}):
        made += encoders.get(at, [])
        for key in (key for key in keys if key[0] == at):
            made.append(part_of(graph, sides, f"{number:02d}-{key[1]}", members[key], key[2]))
            number += 1
    return tuple(made)


def carried_ops(graph: Graph, sides: Mapping[str, Side]) -> frozenset[str]:
    """Ops on the chip that only neurons there read: weights and wiring. Each part has its own copies."""
    found: set[str] = set()
    for group in reversed(schedule(graph).groups):
        name = group.ops[0]
        if group.cyclic or sides.get(name) != "chip" or isinstance(graph[name], (Neuron, Threshold)):
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
    for group in schedule(graph).groups:
        here = {sides[name]: name for name in group.ops if name in sides}
        if group.cyclic and len(here) > 1:
            chip, other = here.get("chip", group.ops[0]), here.get("host", here.get("driver", group.ops[0]))
            faults.append(
                Violation(
                    "placement-feedback",
                    f"is on the chip, {other} is not, and each waits for the other within a step",
                    where=", ".join(graph.sources(chip)),
                    loc=str(graph[chip].loc or ""),
                    expected="a loop on one side",
                    hint=f"keep {', '.join(group.ops[:6])}{', ...' if len(group.ops) > 6 else ''} together",
                )
            )
    for name in graph.outputs:
        if name not in sides:
            what = "no input reaches it, so nothing says how long it runs"
            faults.append(Violation("placement-output", what, name, str(graph[name].loc or "")))
    return faults


def _levels(graph: Graph, sides: Mapping[str, Side]) -> dict[str, int]:
    """Op name -> how many times a value must have changed sides, or its rate, before it."""
    speed = rates(graph)
    found: dict[str, int] = {}
    for group in schedule(graph).groups:
        names = [name for name in group.ops if name in sides]
        best = 0
        for name in names:
            for edge in graph.incoming[name]:
                before = edge.source
                if before not in found or isinstance(graph[before], Input):
                    continue
                same = sides[before] == sides[name] != "driver" and speed[before] == speed[name]
                best = max(best, found[before] + (not same))
        found.update(dict.fromkeys(names, best))
    return found


def _components(
    graph: Graph, sides: Mapping[str, Side], level: Mapping[str, int], carried: frozenset[str]
) -> dict[str, int]:
    """Ops on the chip -> a number that those of one piece share: pieces that share no value are parts of their own."""
    members = [name for name, side in sides.items() if side == "chip" and name not in carried]
    leader: dict[tuple[int, str], tuple[int, str]] = {}

    def root(key: tuple[int, str]) -> tuple[int, str]:
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


def part_of(graph: Graph, sides: Mapping[str, Side], name: str, members: list[str], rate: Fraction) -> Part:
    """The sub-network of `members`, with copies of the free and carried ops that they read; all keep their order."""
    copied = free_ops(graph) | carried_ops(graph, sides)
    inside = set(members)
    pending = list(members)
    for op in pending:  # grows while it is walked
        for edge in graph.incoming[op]:
            if edge.source in copied and edge.source not in inside:
                inside.add(edge.source)
                pending.append(edge.source)
    outside = {e.source for op in inside for e in graph.incoming[op] if e.source not in inside}
    own = set(members)
    handed = [m for m in members if not _readers(graph, sides, m, copied) <= own]
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
    _require_rest(graph, made, outside)
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


def _require_rest(graph: Graph, part: Graph, outside: set[str]) -> None:
    """Before step 0 a loop's late values follow from what feeds it; what comes from outside must then be 0.

    Raises:
        CompileError: it need not be.
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
    for name in sorted(late & outside):
        if not isinstance(graph[name], (Input, SpikingNeuron, Delay, Constant)) or (
            isinstance(graph[name], Neuron) and not isinstance(graph[name], SpikingNeuron)
        ):
            raise CompileError(
                [
                    Violation(
                        "placement-rest",
                        "feeds a loop, whose values before the first step follow from its own",
                        where=", ".join(graph.sources(name)),
                        loc=str(graph[name].loc or ""),
                        expected="it on the same side as the loop",
                    )
                ],
                title="the network cannot be cut like this",
            )
