"""The sub-network of one chip: all that some populations need, back to what other chips and the inputs give.

Nothing is computed twice but whole populations: a chip may hold a copy of a population that another holds as well,
which gives the same spikes, where that saves a cut. A population in no loop may also lie on several chips in pieces:
its neurons are sliced off the very same sums, so that not even a rounding changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from snnir.graph import Edge, Graph
from snnir.naming import fresh
from snnir.ops import Flatten, Input, Neuron, Op, Output, Slice, SpikingNeuron, Threshold
from snnir.placement.kinds import free_ops
from snnir.placement.types import Part
from snnir.schedule import schedule


@dataclass(frozen=True, order=True)
class Aim:
    """What a chip has to give: a population, or its neurons from `start` to `stop` in flat order."""

    name: str
    start: int = 0
    stop: int = 0

    @property
    def whole(self) -> bool:
        return not self.stop

    @property
    def value(self) -> str:
        """What its spikes are called."""
        return self.name if self.whole else f"{self.name}[{self.start}:{self.stop}]"


class Net:
    """A graph as it is cut: populations in groups that stay together, and what needs what."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.free = free_ops(graph)
        self.needed = self._needed()

    def _needed(self) -> frozenset[str]:
        found = list(self.graph.outputs)
        seen = set(found)
        for name in found:  # grows while it is walked
            new = {e.source for e in self.graph.incoming[name]} - seen
            seen |= new
            found += new
        return frozenset(seen)

    def population(self, name: str) -> bool:
        """Whether an op is neurons that some input reaches."""
        return isinstance(self.graph[name], (Neuron, Threshold)) and name not in self.free

    def spiking(self, name: str) -> bool:
        """Whether an op's values are spikes."""
        return isinstance(self.graph[name], (SpikingNeuron, Threshold))

    def sliced(self, name: str) -> bool:
        """Whether an op is a slice of something."""
        return isinstance(self.graph[name], Slice)

    def size(self, name: str) -> int:
        """Neurons or channels."""
        return prod(self.graph.shapes[name])

    @cached_property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Populations that outputs depend on, those of one loop together, in an order in which none waits."""
        groups = schedule(self.graph).groups
        found = (tuple(n for n in group.ops if n in self.needed and self.population(n)) for group in groups)
        return tuple(group for group in found if group)

    @cached_property
    def loops(self) -> Mapping[str, tuple[str, ...]]:
        """Op in a loop -> the ops of its loop."""
        cyclic = (group.ops for group in schedule(self.graph).groups if group.cyclic)
        return {name: ops for ops in cyclic for name in ops}

    @cached_property
    def readers(self) -> Mapping[str, frozenset[str]]:
        """Population -> the populations and outputs that its spikes reach without passing another one."""
        return {name: self._readers(name) for group in self.groups for name in group}

    def _readers(self, name: str) -> frozenset[str]:
        found: set[str] = set()
        pending = [name]
        for op in pending:  # grows while it is walked
            for target in {e.target for e in self.graph.outgoing[op]} & self.needed:
                if self.population(target) or isinstance(self.graph[target], Output):
                    found.add(target)
                elif target not in pending:
                    pending.append(target)
        return frozenset(found)

    # -- one chip --------------------------------------------------------------------------------------------------

    def cone(self, aims: tuple[Aim, ...], inside: frozenset[str]) -> Cone:
        """What a chip must hold to give `aims`, when it has no populations but those of `inside`."""
        members: set[str] = set()
        outside: set[str] = set()
        pending = list(dict.fromkeys(aim.name for aim in aims))
        for op in pending:  # grows while it is walked
            members.add(op)
            for edge in self.graph.incoming[op]:
                before = edge.source
                if isinstance(self.graph[before], Input) or (self.population(before) and before not in inside):
                    outside.add(before)
                elif before not in pending:
                    pending.append(before)
        for name in sorted(outside):  # what is read in slices alone comes in slices
            slices = {e.target for e in self.graph.outgoing[name]} & members
            sliced = all(self.sliced(s) for s in slices)
            if sliced and sum(self.size(s) for s in slices) < self.size(name):
                members -= slices
                outside = (outside - {name}) | slices
        return Cone(frozenset(members), frozenset(outside))

    def part(self, name: str, aims: tuple[Aim, ...], inside: frozenset[str]) -> Part:
        """The sub-network; ops keep their names and order."""
        graph, shapes = self.graph, self.graph.shapes
        cone = self.cone(aims, inside)
        pieces: dict[str, list[Aim]] = {}
        for aim in aims:
            pieces.setdefault(aim.name, []).append(aim)
        ops: dict[str, Op] = {}
        edges = [e for e in graph.edges if e.target in cone.members]
        taken = {*graph.ops}
        made_from: dict[str, tuple[str, ...]] = {}
        gives: dict[str, str] = {}
        ends: dict[str, Op] = {}

        def give(aim: Aim, source: str) -> None:
            end = fresh(f"{aim.value}.out", taken)
            taken.add(end)
            size = shapes[source] if source in shapes else (aim.stop - aim.start,)
            ends[end] = Output(shape=size, loc=graph[aim.name].loc)
            edges.append(Edge(source, end))
            gives[aim.value] = end

        for op in graph.ops:
            if op in cone.outside:
                ops[op] = graph[op] if isinstance(graph[op], Input) else Input(shape=shapes[op], loc=graph[op].loc)
            elif op in cone.members:
                wanted = pieces.get(op, [])
                if wanted and not any(e.source == op for e in edges) and not any(aim.whole for aim in wanted):
                    edges = [e for e in edges if e.target != op]
                    for aim in wanted:
                        self._piece(aim, ops, edges, taken, made_from)
                        give(aim, aim.value)
                    continue
                ops[op] = graph[op]
                for aim in wanted:
                    give(aim, op if aim.whole else self._sliced(op, aim, f"{aim.value}", ops, edges, taken, made_from))
        ops |= ends
        origin = {op: graph.sources(op) for op in ops if op in graph.origin} | made_from
        made = Graph(ops, tuple(edges), graph.semantics, origin).verify()
        return Part(name, "chip", made, gives)

    def _piece(
        self,
        aim: Aim,
        ops: dict[str, Op],
        edges: list[Edge],
        taken: set[str],
        made_from: dict[str, tuple[str, ...]],
    ) -> None:
        """Some neurons of a population: sliced off what arrives at it, their own parameters."""
        graph = self.graph
        op, shape = graph[aim.name], graph.shapes[aim.name]
        fields = {
            field: np.broadcast_to(value, shape).reshape(-1)[aim.start : aim.stop].copy()
            for field in op.arrays
            if (value := getattr(op, field)) is not None
        }
        for number, edge in enumerate(graph.incoming[aim.name]):
            cut = self._sliced(edge.source, aim, f"{aim.value}.slice{number}", ops, edges, taken, made_from)
            edges.append(Edge(cut, aim.value))
        ops[aim.value] = op.with_(**fields)
        made_from[aim.value] = graph.sources(aim.name)

    def _sliced(
        self,
        source: str,
        aim: Aim,
        name: str,
        ops: dict[str, Op],
        edges: list[Edge],
        taken: set[str],
        made_from: dict[str, tuple[str, ...]],
    ) -> str:
        """Adds the elements of `source` that `aim` is about, as an op called like `name`."""
        if len(self.graph.shapes[source]) > 1:
            flat = fresh(f"{name}.flat", taken)
            ops[flat], made_from[flat] = Flatten(start_dim=0, end_dim=-1), self.graph.sources(aim.name)
            taken.add(flat)
            edges.append(Edge(source, flat))
            source = flat
        cut = fresh(name, taken)
        ops[cut], made_from[cut] = Slice(axis=0, start=aim.start, stop=aim.stop), self.graph.sources(aim.name)
        taken.add(cut)
        edges.append(Edge(source, cut))
        return cut


@dataclass(frozen=True)
class Cone:
    """The ops of a chip, and the values that it takes: inputs, and populations of other chips or slices of both."""

    members: frozenset[str]
    outside: frozenset[str]
