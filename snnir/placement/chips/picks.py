"""What lies between chips and is no chip's: slices of values, populations put together again, outputs."""

from __future__ import annotations

import numpy as np

from snnir.errors import Violation
from snnir.graph import Graph
from snnir.ops import Array, Input, Slice
from snnir.placement.chips.parts import Aim, Net
from snnir.placement.chips.types import Pick
from snnir.projections import Reading, read_network

_READING = Reading("placement")


def slice_pick(net: Net, name: str) -> Pick:
    """A Slice of an input or a population, done on the way to a chip's channels."""
    op = net.graph[name]
    assert isinstance(op, Slice)  # a cone's outside holds nothing else that is neither input nor population
    source = net.graph.incoming[name][0].source
    shape = net.graph.shapes[source]
    index = np.arange(net.size(source)).reshape(shape)
    at = [slice(None)] * len(shape)
    at[op.axis] = slice(op.start, op.stop, op.step)
    return Pick(name, (source,), _plain(index[tuple(at)]), net.graph.shapes[name])


def whole_pick(net: Net, aims: list[Aim]) -> Pick:
    """A population that lies on several chips in pieces."""
    ordered = sorted(aims, key=lambda aim: aim.start)
    name = ordered[0].name
    return Pick(name, tuple(aim.value for aim in ordered), tuple(range(net.size(name))), net.graph.shapes[name])


def output_picks(net: Net) -> tuple[list[Pick], list[Violation]]:
    """Which spike each element of each output is; and the outputs that are something else."""
    picks: list[Pick] = []
    faults: list[Violation] = []
    for name in net.graph.outputs:
        found = _output_pick(net, name)
        if isinstance(found, Pick):
            picks.append(found)
        else:
            faults.append(found)
    return picks, faults


def _output_pick(net: Net, name: str) -> Pick | Violation:
    tail, sources = _tail(net, name)
    loc = str(net.graph[name].loc or "")
    if not sources:
        what = "no input reaches it, so nothing says how long it runs"
        return Violation("placement-output", what, name, loc, expected="spikes of neurons that inputs reach")
    network = read_network(tail, _READING)
    arriving = network.into(name)
    stacked = np.concatenate([*(p.weight for p in arriving), np.zeros((1, net.size(name)))])
    sound = all(net.population(p.source) and net.spiking(p.source) for p in arriving) and not network.faults
    sound = sound and name not in network.constants and name not in network.bias
    if not (sound and np.isin(stacked, (0, 1)).all() and (stacked.sum(axis=0) == 1).all()):
        return Violation(
            "placement-output",
            "holds something else than spikes of neurons",
            name,
            loc,
            expected="outputs that are spikes of neurons",
            hint="let the last layer spike, and decode its spikes on the host",
        )
    delays = {p.delay for p in arriving}
    if len(delays) > 1:
        hint = "give every delayed part an output of its own"
        return Violation("placement-output", "its elements come with different delays", name, loc, hint=hint)
    # Rows of `stacked` follow the projections, and so do the elements of the sources laid behind one another.
    return Pick(
        name, tuple(p.source for p in arriving), _plain(stacked.argmax(axis=0)), net.graph.shapes[name], delays.pop()
    )


def _tail(net: Net, name: str) -> tuple[Graph, frozenset[str]]:
    """The ops between an output and the populations that it reads, these as inputs."""
    graph = net.graph
    members, sources = [name], set()
    for op in members:  # grows while it is walked
        for edge in graph.incoming[op]:
            before = edge.source
            if isinstance(graph[before], Input) or net.population(before):
                sources.add(before)
            elif before not in members:
                members.append(before)
    ops = {
        op: Input(shape=graph.shapes[op]) if op in sources else graph[op]
        for op in graph.ops
        if op in sources or op in members
    }
    edges = tuple(e for e in graph.edges if e.target in members)
    return Graph(ops, edges, graph.semantics), frozenset(sources)


def _plain(index: Array) -> tuple[int, ...]:
    return tuple(int(i) for i in index.reshape(-1))
