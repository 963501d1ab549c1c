"""Which ops go on the chip: a minimum cut, in which every neuron there is a gain and every crossing costs.

Costs are bits per step of the inputs. A value costs once, however many ops on the other side read it. What cannot be
costs more than everything else together, so that it happens only where the user forces it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise
from math import prod
from typing import Any

from snnir.graph import Graph
from snnir.ops import Input, Neuron, Op, Output, SpikingNeuron, Threshold
from snnir.placement.kinds import rates
from snnir.schedule import schedule
from snnir.target import Ports

REAL_BITS = 24
_NEURON = 1 << 24  # the gain of a neuron on the chip: more than it costs to reach it
_NEVER = 1 << 64  # more than 10^12 neurons gain
_FORCED = 1 << 80
_TOGETHER = 1 << 96
_WEIGHTS = 1  # between equal costs, weights go where their neurons are


def bits(most: int | None) -> int:
    """Of one number that crosses."""
    return REAL_BITS if most is None else max(1, most.bit_length())


def may_enter(most: int | None, ports: Ports) -> bool:
    """Whether a value that holds whole numbers up to `most` (None: real numbers) can go into the chip."""
    return ports.most is None or (most is not None and most <= ports.most)


def may_leave(op: Op, ports: Ports) -> bool:
    """Whether a host can read an op's value off the chip."""
    return isinstance(op, (SpikingNeuron, Threshold)) or (ports.membranes and isinstance(op, Neuron))


def on_chip(
    graph: Graph,
    able: frozenset[str],
    forced: Mapping[str, str],
    ports: Ports,
    most: Mapping[str, int | None],
    loose: frozenset[str] = frozenset(),
    together: Iterable[tuple[str, str]] = (),
    crowded: Collection[str] = (),
) -> frozenset[str]:
    """The ops that go on the chip.

    Args:
        graph: the network. able: the ops that the chip can run. forced: op -> 'chip' or 'host'.
        ports: what can cross. most: of every op's value, see `bounds`.
        loose: ops of loops that may lie on both sides; all others stay together.
        together: pairs of ops that are to be on one side, besides.
        crowded: neurons that spike more than once in a step, so that a host that computes with them cannot have them
            from the chip.
    """
    import networkx as nx

    speed, shapes = rates(graph), graph.shapes
    flow: Any = nx.DiGraph()
    flow.add_edge("chip", "host", capacity=0)

    def add(a: Any, b: Any, capacity: int) -> None:
        old = flow.edges[a, b]["capacity"] if flow.has_edge(a, b) else 0
        flow.add_edge(a, b, capacity=old + capacity)

    for name, op in graph.ops.items():
        if name not in speed:
            continue
        node = ("op", name)
        if name in forced:
            ends = ("chip", node) if forced[name] == "chip" else (node, "host")
            add(ends[0], ends[1], _FORCED)
        if name not in able:
            add(node, "host", _NEVER)
        else:
            add("chip", node, _NEURON * prod(shapes[name]) if isinstance(op, (Neuron, Threshold)) else _WEIGHTS)
        readers = {e.target for e in graph.outgoing[name]} & speed.keys()
        if not readers:
            continue
        cost = int(prod(shapes[name]) * bits(most[name]) * max(1.0, float(speed[name])))
        # One end each way, so that a value costs once: cut where any reader is on the other side.
        into, out = ("into", name), ("out", name)
        add(node, out, cost if isinstance(op, Input) or may_leave(op, ports) else _NEVER)
        add(into, node, cost if may_enter(most[name], ports) else _NEVER)
        for reader in readers:
            add(out, ("op", reader), _TOGETHER)
            add(("op", reader), into, _TOGETHER)
            if name in crowded and not isinstance(graph[reader], Output):
                add(node, ("op", reader), _NEVER)
    cycles = [group.ops for group in schedule(graph).groups if group.cyclic and group.ops[0] not in loose]
    for a, b in [*(pair for ops in cycles for pair in pairwise(ops)), *together]:
        if a in speed and b in speed:
            add(("op", a), ("op", b), _NEVER)
            add(("op", b), ("op", a), _NEVER)
    _, (chip, _) = nx.minimum_cut(flow, "chip", "host")
    # Where what is forced leaves only cuts that cannot be, an op that is not able may come to lie on the chip's side.
    return able & {node[1] for node in chip if isinstance(node, tuple) and node[0] == "op"}
