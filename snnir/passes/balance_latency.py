"""balance-latency: for targets on which a spike needs a step (or several) from one neuron to the next.

There, paths of different depth that meet bring values of different steps. With D(op) the number of steps by which an op
runs behind the source network, an edge must delay by

    D(target) - D(source) + (what the edge delays in the source network)

of which the target's own latency is one part and a Delay op the rest. D is the longest path, so no delay is negative.

    Before:  in -> lif1 -> lif2 -> out;  lif1 -> out                          latency 0
    After:   in -> lif1 -> lif2 -> out;  lif1 -> delay(1 step) -> out         latency 1 per neuron; out is 1 step late

The graph that comes out has the target's latency in its semantics and, in `metadata["latency"]`, the steps by which
each output and each op with state is late. It is exact from the first step on. A neuron that runs D steps behind must
rest in its first D steps, so what biases send it then, q, is cancelled by Constant(-q) and, from step D on, given back
by Constant(q) -> Delay(D); and a Delay behind a biased op starts at that op's resting value instead of 0.

A cycle takes one step in the source network; if it holds more neurons than fit into that step, nothing is done, and the
log names them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from snnir.discretise import recurrence
from snnir.graph import Edge, Graph
from snnir.interpreter import interpret
from snnir.interpreter.run import edge_lags, lead_to_neurons
from snnir.ops import Array, Constant, Delay, Input, Neuron, Op, Output, Repeat, SpikingNeuron, TemporalMean
from snnir.passes.common import Declined, Work, listed
from snnir.pipeline import Keeps, Log, Pass
from snnir.schedule import Group
from snnir.semantics import Semantics


@dataclass(frozen=True)
class BalanceLatency(Pass):
    """Inserts delays so that values which meet belong to the same step.

    Attributes:
        latency: steps from one neuron to the next on the target.
        latency_input: steps from an input to the first neuron.
        align_outputs: make all outputs equally late.
    """

    name: ClassVar[str] = "balance-latency"
    keeps: ClassVar[Keeps] = "exact"
    latency: int = 1
    latency_input: int = 0
    align_outputs: bool = True

    def __post_init__(self) -> None:
        if self.latency < 0 or self.latency_input < 0:
            raise ValueError(f"latencies are {self.latency} and {self.latency_input}, expected 0 or more")

    def run(self, graph: Graph, log: Log) -> Graph:
        try:
            return self._balanced(graph, log)
        except Declined as reason:
            log.declined(reason.args[1], reason.args[0])
            return graph

    def _balanced(self, graph: Graph, log: Log) -> Graph:
        old = graph.semantics
        first = next(iter(graph.ops))
        if old.latency_neuron or old.latency_input:
            raise Declined("the graph's semantics has latencies already", first)
        if old.dt is None:
            raise Declined("a delay is a time, and the time step is not known", first)
        for name, op in graph.ops.items():
            if isinstance(op, (Repeat, TemporalMean)):
                raise Declined(f"a {op.kind} changes what a step is, so depths cannot be compared across it", name)
        new = old.with_(latency_neuron=self.latency, latency_input=self.latency_input)
        if new == old:
            return graph
        lags_before, _ = edge_lags(graph, old)
        lags_after, groups = edge_lags(graph, new)
        depth = _depths(graph, groups, lags_before, lags_after)
        if self.align_outputs:
            latest = max(depth[name] for name in graph.outputs)
            depth.update(dict.fromkeys(graph.outputs, latest))
        needed = {e: lags_before.get(e, 0) + depth[e.target] - depth[e.source] for e in graph.edges}
        _check_start(graph, depth, needed, lags_before, lags_after)
        rest = _rest(graph)
        wild = next((name for name, value in rest.items() if not np.isfinite(value).all()), None)
        if wild is not None:
            raise Declined("its value while nothing arrives is not finite", wild)
        work = Work(graph)
        inserted = _Delays(graph, self, rest, lead_to_neurons(graph))
        for edge in graph.edges:
            if needed[edge] != lags_after.get(edge, 0):
                inserted.put(work, edge, needed[edge], log)
        for name, late in depth.items():
            if late and graph[name].stateful:
                _silence(work, graph, name, late, rest, log)
        after = replace(work.build(), semantics=new, metadata={**graph.metadata, "latency": _late(graph, depth)})
        _check_lags(after, lags_after, {name for name in after.ops if name not in graph})
        return after


@dataclass
class _Delays:
    """The Delay ops that the pass inserts, one per source, length and latency of the edge in front of it."""

    graph: Graph
    options: BalanceLatency
    rest: dict[str, Array]
    towards: set[str]
    names: dict[tuple[str, int, int], str] = field(default_factory=dict)

    def put(self, work: Work, edge: Edge, needed: int, log: Log) -> None:
        """Makes `edge` delay by `needed` steps."""
        source = self.graph[edge.source]
        neuron, entry = isinstance(source, Neuron), isinstance(source, Input)
        own = self.options.latency if neuron else self.options.latency_input if entry else 0
        if edge.target not in self.towards:
            own = 0
        steps = needed - own
        key = edge.source, steps, own
        if key not in self.names:
            op = Delay(delay=np.asarray(steps * float(self.graph.semantics.dt or 0.0)), loc=source.loc)
            shape = self.graph.shapes[edge.source]
            self.names[key] = work.add(f"{edge.source}.delay{steps}", op, (edge.source,), shape=shape)
            work.connect(edge.source, self.names[key])
            if steps and self.rest[edge.source].any():
                _constant(work, f"{edge.source}.start{steps}", -self.rest[edge.source], self.names[key], "input")
        work.disconnect(edge)
        work.connect(self.names[key], edge.target, edge.port)
        if steps and self.rest[edge.source].any():
            _constant(work, f"{edge.source}.rest{steps}", self.rest[edge.source], edge.target, edge.port)
        log.did(edge.source, f"a Delay of {steps} steps behind it, for {edge.target}")


def _constant(work: Work, name: str, value: Array, target: str, port: str) -> None:
    new = work.add(name, Constant(value=value), (target,), shape=value.shape)
    work.connect(new, target, port)


def _silence(work: Work, graph: Graph, name: str, late: int, rest: dict[str, Array], log: Log) -> None:
    """Lets an op with state receive nothing before its own first step.

    Raises:
        Declined: it would not rest even so.
    """
    _check_rest(graph, name)
    arriving = np.sum([rest[e.source] for e in graph.incoming[name]], axis=0)
    if not arriving.any():
        return
    _constant(work, f"{name}.quiet", -arriving, name, "input")
    op = Delay(delay=np.asarray(late * float(graph.semantics.dt or 0.0)), loc=graph[name].loc)
    delay = work.add(f"{name}.awake", op, (name,), shape=graph.shapes[name])
    work.connect(delay, name)
    _constant(work, f"{name}.again", arriving, delay, "input")
    log.did(name, f"Constants in front of it hold back the biases of its first {late} steps")


def _late(graph: Graph, depth: dict[str, int]) -> dict[str, int]:
    return {n: d for n, d in depth.items() if d and (graph[n].stateful or isinstance(graph[n], Output))}


def _check_start(
    graph: Graph, depth: dict[str, int], needed: dict[Edge, int], before: dict[Edge, int], after: dict[Edge, int]
) -> None:
    """Raises Declined where an edge that was late would deliver another value at its target's first step."""
    for edge, lag in before.items():
        source = graph[edge.source]
        if not graph.semantics.recurrent_bias_at_start and not isinstance(source, Neuron):
            raise Declined(f"the bias of {edge.source} reaches a cycle late (recurrent_bias_at_start)", edge.target)
        delayed = needed[edge] > after.get(edge, 0) and depth[edge.source] < lag
        if delayed and not isinstance(source, SpikingNeuron):
            raise Declined(f"a Delay would hold back what {edge.source} sends before the first step", edge.target)


def _check_lags(graph: Graph, expected: dict[Edge, int], inserted: set[str]) -> None:
    """Raises Declined when a Delay moved the back edge of a cycle that holds no neuron."""
    lags, _ = edge_lags(graph, graph.semantics)
    for edge in graph.edges:
        if not {edge.source, edge.target} & inserted and lags.get(edge, 0) != expected.get(edge, 0):
            raise Declined(f"the step that a cycle through {edge.source} takes would move", edge.target)


def _depths(
    graph: Graph, groups: tuple[Group, ...], lags_before: dict[Edge, int], lags_after: dict[Edge, int]
) -> dict[str, int]:
    """By how many steps each op runs behind the source network, at least.

    Raises:
        Declined: a cycle holds more latency than the source network gives it.
    """
    depth = dict.fromkeys(graph.ops, 0)
    for group in groups:
        # Every sweep settles all paths with one more late edge; only a cycle without room never settles.
        for _ in range(2 + sum(e in lags_before for n in group.ops for e in graph.incoming[n])):
            settled = True
            for name in group.ops:
                for edge in graph.incoming[name]:
                    least = depth[edge.source] + lags_after.get(edge, 0) - lags_before.get(edge, 0)
                    if least > depth[name]:
                        depth[name], settled = least, False
            if settled or not group.cyclic:
                break
        else:
            members = set(group.ops)
            neurons = [n for n in graph.ops if n in members and isinstance(graph[n], Neuron)]
            what = f"a cycle through {listed(neurons)} takes one step in the source network, and more on the target"
            raise Declined(what, group.ops[0])
    return depth


def _check_rest(graph: Graph, name: str) -> None:
    """Raises Declined unless an op with state stays as it starts while nothing arrives."""
    op, semantics = graph[name], graph.semantics
    if not isinstance(op, Neuron):
        return
    rule = recurrence(op, semantics)
    drift = np.abs(rule.decay * rule.start + rule.drive - rule.start)
    if (drift > 1e-12 * (1 + np.abs(rule.start))).any():
        raise Declined("its membrane drifts while nothing arrives, so it cannot start later", name)
    if rule.threshold is not None and _fires(rule.start, rule.threshold, semantics):
        raise Declined("it spikes while nothing arrives, so it cannot start later", name)


def _fires(v: Array, threshold: Array, semantics: Semantics) -> bool:
    return bool((v > threshold if semantics.comparison == ">" else v >= threshold).any())


def _rest(graph: Graph) -> dict[str, Array]:
    """What every op gives before anything has happened: inputs and constants 0, ops with state at rest."""
    held: dict[str, Op] = {}
    for name, op in graph.ops.items():
        if not op.stateful and not isinstance(op, Constant):
            continue
        value = np.zeros(graph.shapes[name])
        if isinstance(op, Neuron) and not isinstance(op, SpikingNeuron):
            value = value + recurrence(op, graph.semantics).start
        held[name] = Constant(value=value)
    edges = tuple(e for e in graph.edges if e.target not in held)
    still = Graph({name: held.get(name, op) for name, op in graph.ops.items()}, edges, graph.semantics)
    zeros = {name: np.zeros((1, 1, *graph.shapes[name])) for name in graph.inputs}
    _, found = interpret(still, zeros, record=list(graph.ops))
    return {name: value[0, 0] for name, value in found.items()}
