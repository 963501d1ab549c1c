"""The reference interpreter: the one meaning of a graph, in plain NumPy.

Ops outside cycles run over all steps at once; the ops of a cycle run step by step. Which edges are late, and by how
many steps, follows from the structure (`snnir.schedule`) and the semantics' latencies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from snnir.errors import CompileError, UsageError, Violation
from snnir.graph import Edge, Graph
from snnir.interpreter.cells import DelayCell, NeuronCell
from snnir.interpreter.stateless import STATELESS
from snnir.ops import Array, Constant, Delay, Input, Neuron, Op, Repeat, TemporalMean, Threshold
from snnir.schedule import Group, rest_order, schedule
from snnir.semantics import Semantics

Values = Array | dict[str, Array]


def interpret(
    graph: Graph,
    x: Array | Mapping[str, Array],
    semantics: Semantics | None = None,
    record: Sequence[str] | None = None,
    dtype: Any = None,
    overrides: Mapping[str, Semantics] | None = None,
) -> Any:
    """Runs a graph on an input; state at rest before the first step.

    Args:
        graph: the network; it is verified first.
        x: (T, B, *shape), or a dict by input name when there are several inputs.
        semantics: what a step does; default the graph's own.
        record: op names whose outputs are wanted too. `name:v` and `name:i` give a neuron's membrane (after reset)
            and synaptic current.
        dtype: float32 or float64; default that of x, and float64 for other inputs.
        overrides: op name -> what a step means to that neuron, Delay or Threshold alone; latencies are `semantics`'.

    Returns:
        The output (T, B, *shape), or a dict by output name when there are several; with `record` a pair of that and
        a dict from the recorded names to their values (T, B, *shape).

    Raises:
        CompileError: the graph is not sound, the time step is unknown, or x does not fit the inputs.
        UsageError: `record` names an op that does not exist.
    """
    graph.verify()
    wanted = tuple(record or ())
    unknown = [name for name in wanted if name not in graph and name.rpartition(":")[0] not in graph]
    if unknown:
        raise UsageError(f"cannot record {', '.join(unknown)}: no such op; ops: {', '.join(graph.ops)}")
    inputs = as_inputs(graph, x, dtype)
    run = _Run(graph, inputs, semantics or graph.semantics, wanted, overrides or {})
    run.all()
    by_name = {name: run.values[name] for name in graph.outputs}
    outputs: Values = next(iter(by_name.values())) if len(by_name) == 1 else by_name
    return outputs if record is None else (outputs, {name: run.recorded[name] for name in wanted})


def as_inputs(graph: Graph, x: Array | Mapping[str, Array], dtype: Any = None) -> dict[str, Array]:
    """`x` as one float array (T, B, *shape) per input of the graph.

    Raises:
        CompileError: a name, a shape, T or B does not fit, or a value is not finite; all of them at once.
    """
    if not isinstance(x, Mapping):
        if len(graph.inputs) != 1:
            raise UsageError(f"the graph has inputs {', '.join(graph.inputs)}: give a dict by name")
        x = {graph.inputs[0]: x}
    faults = [Violation("input-missing", "no values given", where=name) for name in graph.inputs if name not in x]
    faults += [Violation("input-unknown", "is no input of the graph", where=str(n)) for n in x if n not in graph.inputs]
    arrays: dict[str, Array] = {}
    for name in graph.inputs:
        if name not in x:
            continue
        value = np.asarray(x[name])
        kind = np.dtype(dtype) if dtype is not None else value.dtype if value.dtype == np.float32 else np.dtype(float)
        expected = f"(T, B, {', '.join(map(str, graph.shapes[name]))})"
        if value.ndim < 2 or value.shape[2:] != graph.shapes[name]:
            faults.append(Violation("input-shape", f"shape {list(value.shape)}", where=name, expected=expected))
        elif 0 in value.shape[:2]:
            what = f"shape {list(value.shape)}: no {'steps' if not value.shape[0] else 'batch elements'}"
            faults.append(Violation("input-shape", what, where=name, expected="T and B of at least 1"))
        elif not np.isfinite(value).all():
            faults.append(Violation("input-finite", "holds values that are not finite", where=name))
        else:
            arrays[name] = value.astype(kind)
    if len({a.shape[:2] for a in arrays.values()}) > 1:
        sizes = ", ".join(f"{n} T={a.shape[0]} B={a.shape[1]}" for n, a in arrays.items())
        faults.append(Violation("input-shape", f"inputs differ in steps or batch: {sizes}"))
    if faults:
        raise CompileError(faults, title="the input does not fit the graph")
    return arrays


@dataclass
class _Run:
    graph: Graph
    inputs: dict[str, Array]
    semantics: Semantics
    wanted: tuple[str, ...]
    overrides: Mapping[str, Semantics]

    def __post_init__(self) -> None:
        first = next(iter(self.inputs.values()), np.zeros((1, 1)))
        self.dtype = np.result_type(*self.inputs.values()) if self.inputs else np.dtype(float)
        self.batch = first.shape[1]
        self.values: dict[str, Array] = {}
        self.recorded: dict[str, Array] = {}
        self.readers = Counter(edge.source for edge in self.graph.edges)
        self.lags, self.groups = edge_lags(self.graph, self.semantics)
        self.steps = _steps(self.graph, first.shape[0])
        self.rest: dict[str, Array] = {}

    def all(self) -> None:
        """Runs every group; afterwards `values` holds the outputs and `recorded` what was asked for."""
        for group in self.groups:
            self._stepwise(group.ops) if group.cyclic else self._at_once(group.ops[0])
            self.recorded.update({name: self.values[name] for name in group.ops if name in self.wanted})
            for name in group.ops:
                self._release(name)

    def _release(self, name: str) -> None:
        for edge in self.graph.incoming[name]:
            self.readers[edge.source] -= 1
            if self.readers[edge.source] == 0 and edge.source not in self.graph.outputs:
                self.values.pop(edge.source, None)  # nobody reads it again: keep memory flat

    # -- an op over all steps at once --------------------------------------------------------------------------

    def _at_once(self, name: str) -> None:
        op = self.graph[name]
        arriving = [self._arriving(name, port) for port in op.ports]
        if isinstance(op, Input):
            value = self.inputs[name].astype(self.dtype, copy=False)
        elif isinstance(op, Constant):
            value = _constant(op, self.steps[name], self.batch, self.dtype)
        elif isinstance(op, Repeat):
            value = arriving[0].repeat(op.steps, axis=0)
        elif isinstance(op, TemporalMean):
            value = _temporal_mean(name, op, arriving[0])
        elif isinstance(op, (Neuron, Delay)):
            value = self._neuron(name, op, arriving[0])
        else:
            t, b = arriving[0].shape[:2]
            folded = [a.reshape(t * b, *a.shape[2:]) for a in arriving]
            value = _apply(op, folded, self._meaning(name))
            value = value.reshape(t, b, *value.shape[1:])
        self.values[name] = value

    def _neuron(self, name: str, op: Neuron | Delay, x: Array) -> Array:
        cell = self._cell(name, op)
        out = np.empty_like(x)
        trace = self._traces(name, x)
        for t in range(x.shape[0]):
            out[t] = cell.step(x[t])
            for key, series in trace.items():
                series[t] = getattr(cell, key)
        return out

    def _traces(self, name: str, x: Array) -> dict[str, Array]:
        """Arrays for the recorded states (`name:v`, `name:i`) of an op."""
        series = {key: np.empty_like(x) for key in ("v", "i") if f"{name}:{key}" in self.wanted}
        self.recorded.update({f"{name}:{key}": values for key, values in series.items()})
        return series

    def _meaning(self, name: str) -> Semantics:
        return self.overrides.get(name, self.semantics)

    def _cell(self, name: str, op: Neuron | Delay) -> NeuronCell | DelayCell:
        kind = NeuronCell if isinstance(op, Neuron) else DelayCell
        return kind(op, self._meaning(name), self.batch, self.graph.shapes[name], self.dtype)  # type: ignore[arg-type]

    def _arriving(self, name: str, port: str) -> Array:
        total: Array | None = None
        for edge in self.graph.incoming[name]:
            if edge.port != port:
                continue
            value = self.values[edge.source]
            lag = self.lags.get(edge, 0)
            if lag:
                value = _shifted(value, lag, self._rest(edge.source))
            if total is not None and total.shape[0] != value.shape[0]:
                what = f"{total.shape[0]} and {value.shape[0]} steps meet at {name}"
                raise CompileError([Violation("steps", what, where=name)], title="steps do not fit")
            total = value if total is None else total + value
        assert total is not None  # the graph was verified: every port is fed
        return total

    # -- the ops of a cycle, step by step ----------------------------------------------------------------------

    def _stepwise(self, names: Sequence[str]) -> None:
        members = set(names)
        graph, ops = self.graph, self.graph.ops
        changing = [n for n in names if isinstance(ops[n], (Repeat, TemporalMean))]
        if changing:
            what = f"{ops[changing[0]].kind} changes the number of steps within a cycle"
            raise CompileError([Violation("steps", what, where=changing[0])], title="steps do not fit")
        total = self.steps[names[0]]
        cells = {n: self._cell(n, op) for n in names if isinstance(op := ops[n], (Neuron, Delay))}
        history = {n: np.empty((total, self.batch, *graph.shapes[n]), self.dtype) for n in names}
        outside = {(n, port): self._from_outside(n, port, members) for n in names for port in ops[n].ports}
        inside = {n: [e for e in graph.incoming[n] if e.source in members] for n in names}
        rest = {n: self._rest(n) for n in names}
        traces = {n: self._traces(n, history[n]) for n in cells}
        for t in range(total):
            for n in names:
                arriving: dict[str, Array] = {}
                for port in ops[n].ports:
                    given = outside[n, port]
                    if given is not None:
                        arriving[port] = given[t]
                for edge in inside[n]:
                    at = t - self.lags.get(edge, 0)
                    value = history[edge.source][at] if at >= 0 else rest[edge.source]
                    arriving[edge.port] = arriving[edge.port] + value if edge.port in arriving else value
                if n in cells:
                    history[n][t] = cells[n].step(arriving["input"])
                    for key, series in traces[n].items():
                        series[t] = getattr(cells[n], key)
                else:
                    history[n][t] = _apply(ops[n], [arriving[p] for p in ops[n].ports], self._meaning(n))
        self.values.update(history)

    def _from_outside(self, name: str, port: str, members: set[str]) -> Array | None:
        total: Array | None = None
        for edge in self.graph.incoming[name]:
            if edge.port == port and edge.source not in members:
                value = self.values[edge.source]
                lag = self.lags.get(edge, 0)
                value = _shifted(value, lag, self._rest(edge.source)) if lag else value
                total = value if total is None else total + value
        return total

    # -- values before the first step --------------------------------------------------------------------------

    def _rest(self, name: str) -> Array:
        """The output (B, *shape) of an op before step 0: inputs 0, no spikes, membranes at their start.

        An op without state gives its function of what feeds it, whether those edges are late or not.
        """
        if not self.rest:
            self._rest_values()
        return self.rest[name]

    def _rest_values(self) -> None:
        graph = self.graph
        for name in rest_order(graph):
            op = graph[name]
            if isinstance(op, (Neuron, Delay)):
                self.rest[name] = self._cell(name, op).rest
            elif isinstance(op, (Input, Constant)) or not self.semantics.recurrent_bias_at_start:
                self.rest[name] = np.zeros((self.batch, *graph.shapes[name]), self.dtype)
            else:
                arriving: list[Array] = []
                for port in op.ports:
                    first, *others = [self.rest[e.source] for e in graph.incoming[name] if e.port == port]
                    arriving.append(sum(others, first))
                of_steps = isinstance(op, (Repeat, TemporalMean))  # what does not change stays as it is
                self.rest[name] = arriving[0] if of_steps else _apply(op, arriving, self._meaning(name))


def _apply(op: Op, arriving: list[Array], semantics: Semantics) -> Array:
    if isinstance(op, Threshold):
        x, threshold = arriving[0], op.threshold.astype(arriving[0].dtype, copy=False)
        return (x > threshold if semantics.comparison == ">" else x >= threshold).astype(x.dtype)
    return STATELESS[type(op)](op, *arriving)


def _constant(op: Constant, steps: int, batch: int, dtype: np.dtype) -> Array:
    if not op.series:
        return np.broadcast_to(op.value.astype(dtype), (steps, batch, *op.value.shape))
    held = op.value[np.minimum(np.arange(steps), op.value.shape[0] - 1)].astype(dtype)
    return np.broadcast_to(held[:, None], (steps, batch, *held.shape[1:]))


def _temporal_mean(name: str, op: TemporalMean, x: Array) -> Array:
    if x.shape[0] % op.steps:
        what = f"{x.shape[0]} steps do not divide into means over {op.steps}"
        raise CompileError([Violation("steps", what, where=name)], title="steps do not fit")
    return x.reshape(-1, op.steps, *x.shape[1:]).mean(axis=1)


def _shifted(x: Array, lag: int, rest: Array) -> Array:
    out = np.empty_like(x)
    out[:lag] = rest
    out[lag:] = x[: x.shape[0] - lag]
    return out


def lead_to_neurons(graph: Graph) -> set[str]:
    """The neurons that some output depends on, and the ops whose values reach one of them."""
    live = _before(graph, graph.outputs)
    return _before(graph, [name for name in live if isinstance(graph[name], Neuron)])


def _before(graph: Graph, names: Iterable[str]) -> set[str]:
    """The named ops, and those whose values reach them."""
    found = list(names)
    seen = set(found)
    for name in found:  # grows while it is walked
        new = {e.source for e in graph.incoming[name]} - seen
        seen |= new
        found += new
    return seen


def edge_lags(graph: Graph, semantics: Semantics) -> tuple[dict[Edge, int], tuple[Group, ...]]:
    """Steps by which each edge is late (0 is left out), and the groups to run.

    Latencies are those of the way to a neuron. What reaches outputs alone is read where it is sent, without latency,
    whether weights, a Reshape or a Delay lie in between or not. An op that feeds both gets its values once, in the
    neuron's time. Neurons that no output depends on do not count, so that it does not matter whether they are there.
    """
    whole = schedule(graph)
    if not (semantics.latency_neuron or semantics.latency_input):
        return dict.fromkeys(whole.back_edges, 1), whole.groups
    lags: dict[Edge, int] = {}
    towards = lead_to_neurons(graph)
    for edge in graph.edges:
        source = graph[edge.source]
        if edge.target not in towards:
            continue
        if isinstance(source, Neuron) and semantics.latency_neuron:
            lags[edge] = semantics.latency_neuron
        elif isinstance(source, Input) and semantics.latency_input:
            lags[edge] = semantics.latency_input
    # The latencies already cut every cycle through a neuron; only what they leave needs back edges.
    prompt = schedule(replace(graph, edges=tuple(e for e in graph.edges if e not in lags)))
    lags.update(dict.fromkeys(prompt.back_edges, 1))
    position = {name: i for i, name in enumerate(prompt.order)}
    groups = tuple(Group(tuple(sorted(group.ops, key=position.__getitem__)), group.cyclic) for group in whole.groups)
    return lags, groups


def _steps(graph: Graph, total: int) -> dict[str, int]:
    """How many steps each op runs: the input's, times those of Repeat, divided by those of TemporalMean.

    What nothing but constants feeds runs as long as what reads it, and what is read together with it; or, where no
    input comes near, its last op as long as the inputs.
    """
    steps: dict[str, int] = {}
    for first in (*graph.inputs, *reversed(schedule(graph).order)):
        if first in steps:
            continue
        steps[first] = total
        pending = [first]
        for name in pending:  # grows while it is walked
            after = {e.target: _through(graph[e.target], steps[name]) for e in graph.outgoing[name]}
            before = {e.source: _against(graph[name], steps[name]) for e in graph.incoming[name]}
            new = {other: count for other, count in {**before, **after}.items() if other not in steps}
            steps |= new
            pending += new
    return steps


def _through(op: Op, steps: int) -> int:
    """Steps that leave an op, of those that reach it."""
    return steps * op.steps if isinstance(op, Repeat) else steps // op.steps if isinstance(op, TemporalMean) else steps


def _against(op: Op, steps: int) -> int:
    """Steps that reach an op, of those that leave it."""
    return steps // op.steps if isinstance(op, Repeat) else steps * op.steps if isinstance(op, TemporalMean) else steps
