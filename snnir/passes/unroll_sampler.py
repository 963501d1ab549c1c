"""unroll-sampler: K denoising calls as one graph over the S SNN steps of a call.

DDIM acts on currents, step for step: x <- a x[s] + b y[s] (arXiv 2312.01742, section 4). So call k + 1 can run in the
same S steps as call k, a copy behind a copy, all membranes at rest at the start, as in every call.

    Before:  x, time -> network -> output
    After:   x -> network at t_0 (call.0) -> turn (b_0) -> network at t_1 (call.1) -> ... -> output
             x -> keep (a_0) ------------------------------^

Every copy has its time written into it (see specialise-time) and the very same weights, not equal ones: in memory, in
the store and in emitted files they are there once. Fold batch norms before, not after, or each copy gets its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from snnir.diffusion.schedule import Rotation
from snnir.diffusion.spec import DiffusionSpec, spec_of
from snnir.diffusion.unrolled import SAMPLER, UnrolledSampler, in_call, sampler_of
from snnir.graph import Edge, Graph
from snnir.naming import fresh
from snnir.ops import Array, Op, Scale
from snnir.passes.common import Declined
from snnir.passes.known_time import KnownTime, behind, constants, denoiser, kept_edges, known_time
from snnir.pipeline import Keeps, Log, Pass, Reference


@dataclass(frozen=True)
class UnrollSampler(Pass):
    """Makes one graph of K denoising calls: noise in, image current out, weights shared by all calls.

    Attributes:
        steps: the number of denoising calls, K.
    """

    name: ClassVar[str] = "unroll-sampler"
    keeps: ClassVar[Keeps] = "exact"
    steps: int = 50

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}, expected 1 or more")

    def run(self, graph: Graph, log: Log) -> Graph:
        try:
            spec = denoiser(graph)
            calls = _calls(spec, self.steps)
            _check(graph, spec)
            known = known_time(graph, spec, [call.t for call in calls])
        except Declined as reason:
            log.declined(next(iter(graph.ops)), str(reason))
            return graph
        copies = _Copies(graph, spec, known)
        for k, call in enumerate(calls):
            copies.add(k, call)
        log.did(spec.input, f"{self.steps} calls of {len(graph) - len(known.gone)} ops, weights shared")
        return copies.build(calls)

    def reference(self, before: Graph, x: Mapping[str, Array], record: Sequence[str]) -> Reference:
        """The network before, called by a loop."""
        spec = spec_of(before)
        current = x[spec.input]
        inside = [n for n in before.ops if before[n].spiking]
        recorded: dict[str, Array] = {}
        for k, call in enumerate(_calls(spec, self.steps)):
            embedding = spec.embed(np.asarray([call.t]))
            time = np.broadcast_to(embedding, (*current.shape[:2], spec.time_size))
            wanted = [n for n in inside if in_call(k, n) in record]
            outputs, found = super().reference(before, {spec.input: current, spec.time: time}, wanted)
            recorded |= {in_call(k, n): found[n] for n in wanted}
            current = call.a * current + call.b * outputs[before.outputs[0]]
        return {before.outputs[0]: current}, recorded

    def horizon(self, before: Graph) -> int:
        """The steps of a call."""
        return spec_of(before).steps


def _calls(spec: DiffusionSpec, steps: int) -> tuple[Rotation, ...]:
    return spec.noise_schedule.rotations(steps)


def _check(graph: Graph, spec: DiffusionSpec) -> None:
    """Raises Declined for a graph that is no denoising call."""
    if sampler_of(graph) is not None:
        raise Declined("it is an unrolled sampler already")
    if spec.prediction != "v":
        raise Declined(f"it predicts {spec.prediction}; a DDIM step is a turn of x and v")
    extra = sorted(set(graph.inputs) - {spec.input, spec.time})
    if extra or spec.input not in graph.inputs:
        raise Declined(f"it has the inputs {', '.join(graph.inputs)}; a call has {spec.input} and {spec.time}")
    if len(graph.outputs) != 1:
        raise Declined(f"it has {len(graph.outputs)} outputs; a call has one")
    if graph.shapes[graph.outputs[0]] != graph.shapes[spec.input]:
        raise Declined("its output is not of its input's shape")


class _Copies:
    """The unrolled graph as it grows: everything by name, linear in the number of calls."""

    def __init__(self, graph: Graph, spec: DiffusionSpec, known: KnownTime) -> None:
        self.graph, self.known, self.spec = graph, known, spec
        self.ends = {spec.input, graph.outputs[0]}
        self.edges = kept_edges(graph, known)
        self.behind = {n: behind(graph, known, n) for n in known.series}
        self.turned = tuple(dict.fromkeys(s for e in graph.incoming[graph.outputs[0]] for s in graph.sources(e.source)))
        start = graph[spec.input]
        self.ops: dict[str, Op] = {spec.input: start}
        self.origin: dict[str, tuple[str, ...]] = {}
        self.new_edges: list[Edge] = []
        self.current: tuple[str, ...] = (spec.input,)  # the ops whose sum is x

    def add(self, k: int, call: Rotation) -> None:
        """Adds the copy for call k, and the DDIM step after it."""
        graph, known = self.graph, self.known
        series = constants(graph, known, k)
        for name, op in graph.ops.items():
            if name in self.ends or (name in known.gone and name not in series):
                continue
            new = in_call(k, name)
            self.ops[new] = series.get(name, op)
            self.origin[new] = self.behind.get(name) or graph.sources(name)
        given: list[str] = []
        for edge in self.edges:
            sources = self.current if edge.source == self.spec.input else (in_call(k, edge.source),)
            if edge.target in self.ends:
                given += sources
            else:
                self.new_edges += [Edge(s, in_call(k, edge.target), edge.port) for s in sources]
        keep = self._relay(in_call(k, "ddim.keep"), call.a, self.current, self.graph.sources(self.spec.input))
        turn = self._relay(in_call(k, "ddim.turn"), call.b, given, self.turned)
        self.current = (keep, turn)

    def _relay(self, name: str, factor: float, sources: Sequence[str], behind: tuple[str, ...]) -> str:
        name = fresh(name, self.ops)
        self.ops[name] = Scale(scale=np.asarray(factor))
        self.origin[name] = behind
        self.new_edges += [Edge(s, name) for s in sources]
        return name

    def build(self, calls: tuple[Rotation, ...]) -> Graph:
        """The graph, with its output behind the last call."""
        out = self.graph.outputs[0]
        self.ops[out] = self.graph[out]
        origin = {n: s for n, s in self.graph.origin.items() if n in self.ends} | self.origin
        edges = [*self.new_edges, *(Edge(s, out) for s in self.current)]
        metadata = {**self.graph.metadata, SAMPLER: UnrolledSampler(calls).to_dict()}
        return replace(self.graph, ops=self.ops, edges=tuple(edges), origin=origin, metadata=metadata)
