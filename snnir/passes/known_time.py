"""What a network makes of its time input alone: a known series of values once the diffusion time is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from snnir.diffusion.spec import DiffusionSpec, spec_of
from snnir.edit import Editor
from snnir.graph import Edge, Graph
from snnir.interpreter import interpret
from snnir.ops import Array, Constant, Input, Output, Repeat, TemporalMean, Upsample2d
from snnir.passes.common import Declined


@dataclass(frozen=True)
class KnownTime:
    """The part of a graph that follows from the time input.

    Attributes:
        gone: names of the ops of that part, the input included; all but those of `series` can go.
        series: op name -> its values (steps, times, *shape), float64, where other ops read them.
    """

    gone: frozenset[str]
    series: dict[str, Array]


def denoiser(graph: Graph) -> DiffusionSpec:
    """What a graph says of itself as a denoising network.

    Raises:
        Declined: nothing.
    """
    if "diffusion" not in graph.metadata:
        raise Declined("it is no denoising network: its metadata do not say how it is sampled (key 'diffusion')")
    return spec_of(graph)


def known_time(graph: Graph, spec: DiffusionSpec, times: Sequence[int]) -> KnownTime:
    """Runs what depends on the time input alone, for several diffusion times at once.

    Raises:
        Declined: the graph has no such input (any more), or its steps are not those of one call.
    """
    if spec.time not in graph.inputs:
        raise Declined(f"it has no input {spec.time!r}: its time is fixed already")
    if graph.semantics.latency_neuron or graph.semantics.latency_input:
        raise Declined("the graph's semantics has latencies; put this pass before balance-latency")
    for name, op in graph.ops.items():
        if isinstance(op, (Repeat, TemporalMean)):
            raise Declined(f"{name} ({op.kind}) changes what a step is")
    wrong = [t for t in times if not 0 <= t < spec.timesteps]
    if wrong:
        raise Declined(f"t is {wrong[0]}, and the schedule has 0 to {spec.timesteps - 1}")
    known = _follows(graph, spec.time)
    sends = _senders(graph, known)
    # An upsampling is cheaper done than stored.
    while spread := [n for n in sends if isinstance(graph[n], Upsample2d)]:
        known -= set(spread)
        sends = _senders(graph, known)
    return KnownTime(frozenset(known), _run(graph, spec, known, sends, times) if sends else {})


def _follows(graph: Graph, time: str) -> set[str]:
    """The ops that read the time input, directly or not, and otherwise only constants."""
    fixed = {n for n, op in graph.ops.items() if n == time or not isinstance(op, (Input, Output))}
    lost = [n for n in graph.ops if n not in fixed]
    while lost:
        for edge in graph.outgoing[lost.pop()]:
            if edge.target in fixed:
                fixed.discard(edge.target)
                lost.append(edge.target)
    found, stack = {time}, [time]
    while stack:
        for edge in graph.outgoing[stack.pop()]:
            if edge.target in fixed and edge.target not in found:
                found.add(edge.target)
                stack.append(edge.target)
    return found


def _senders(graph: Graph, known: set[str]) -> list[str]:
    """The ops of the known part that ops outside read, in graph order."""
    return [n for n in graph.ops if n in known and any(e.target not in known for e in graph.outgoing[n])]


def _run(
    graph: Graph, spec: DiffusionSpec, known: set[str], sends: list[str], times: Sequence[int]
) -> dict[str, Array]:
    needed, stack = set(sends), list(sends)
    while stack:
        for edge in graph.incoming[stack.pop()]:
            if edge.source not in needed:
                needed.add(edge.source)
                stack.append(edge.source)
    part = Editor(Graph({n: op for n, op in graph.ops.items() if n in needed}, (), graph.semantics))
    for edge in graph.edges:
        if edge.source in needed and edge.target in needed:
            part.connect(edge.source, edge.target, edge.port)
    for name in sends:
        part.connect(name, part.add(f"{name}.out", Output()))
    embedding = spec.embed(np.asarray(times))
    x = np.broadcast_to(embedding, (spec.steps, *embedding.shape))
    _, found = interpret(part.build(), {spec.time: x}, record=sends, dtype=np.float64)
    return {name: found[name] for name in sends}


def constants(graph: Graph, known: KnownTime, at: int) -> dict[str, Constant]:
    """The series of the time at place `at` as ops, by the names of the ops that they stand for."""
    return {
        name: Constant(value=np.ascontiguousarray(value[:, at]), series=True, loc=graph[name].loc)
        for name, value in known.series.items()
    }


def behind(graph: Graph, known: KnownTime, name: str) -> tuple[str, ...]:
    """The source ops from which a series was computed."""
    found: dict[str, None] = {name: None}
    stack = [name]
    while stack:
        for edge in graph.incoming[stack.pop()]:
            if edge.source in known.gone and edge.source not in found:
                found[edge.source] = None
                stack.append(edge.source)
    return tuple(dict.fromkeys(s for n in graph.ops if n in found for s in graph.sources(n)))


def kept_edges(graph: Graph, known: KnownTime) -> list[Edge]:
    """The edges that stay when the series are constants."""
    return [
        e
        for e in graph.edges
        if e.target not in known.gone and (e.source not in known.gone or e.source in known.series)
    ]
