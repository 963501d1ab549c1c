"""One step of ops as nodes, states explicit: the whole of `step.onnx`, and the body of a Scan around a cycle.

Where an op makes several steps of one (Repeat), the ops behind it take these inner steps within the one step, one after
the other, until a TemporalMean makes one of them again: SDiT's denoising call with its four SNN steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snnir.backends.onnx.neurons import State, delay_step, neuron_step, states, weighted
from snnir.backends.onnx.plan import Plan
from snnir.backends.onnx.stateless import apply
from snnir.backends.onnx.writer import Writer
from snnir.ops import Array, Constant, Delay, Neuron, Op, Repeat, TemporalMean

COUNTER = "step"


@dataclass
class Step:
    """The ops of `groups`, in order, for one step.

    Args:
        rates: inner steps that an op takes within it; where it is not named: one.
        outside: gives what arrives at (op, port) from ops that are not of `groups`, or None.
    """

    w: Writer
    plan: Plan
    groups: Sequence[Sequence[str]]
    rates: Mapping[str, int] = field(default_factory=dict)
    values: dict[str, list[str]] = field(default_factory=dict)  # op -> its value in every inner step
    outside: Callable[[str, str], str | None] = lambda name, port: None
    states: dict[str, State] = field(default_factory=dict)  # name of the value before -> state
    after: dict[str, str] = field(default_factory=dict)  # name of the value before -> value after
    traces: dict[str, str] = field(default_factory=dict)  # `op:v`, `op:i` -> value

    def __post_init__(self) -> None:
        graph, names = self.plan.graph, [name for group in self.groups for name in group]
        self._members = set(names)
        self._own = {
            n: {k: self._enter(s) for k, s in states(n, op, graph.semantics, graph.shapes[n]).items()}
            for n in names
            if isinstance(op := graph[n], (Neuron, Delay))
        }
        self._now = {n: dict(own) for n, own in self._own.items()}  # their states as the inner steps go on
        self._late = {
            n: [
                self._enter(State(f"{n}.late" + (f"_{k}" if k > 1 else ""), self.plan.rest[n])) for k in range(1, m + 1)
            ]
            for n, m in self.plan.late(names).items()
        }
        self._counter: str | None = None
        self._made: dict[tuple[str, ...], str] = {}  # what was computed from equal values before

    def _enter(self, state: State) -> str:
        name = self.w.unique(state.name)
        self.states[name] = state
        return name

    def all(self) -> None:
        """Writes every op; afterwards `values`, `states` and `after` are whole."""
        for group in self.groups:
            given = {name for name in group if name in self.values}
            for k in range(max(self._rate(name) for name in group)):  # one number within a cycle
                for name in group:
                    if name not in given:
                        self.values.setdefault(name, []).append(self._op(name, k))
        for name, own in self._own.items():
            self.after.update({before: self._now[name][key] for key, before in own.items()})
        for name, chain in self._late.items():
            self.after.update({late: self._back(name, self._rate(name), m) for m, late in enumerate(chain, 1)})

    def _rate(self, name: str) -> int:
        return self.rates.get(name, 1)

    def _op(self, name: str, k: int) -> str:
        """The value of an op in inner step k, of its own."""
        op = self.plan.graph[name]
        if isinstance(op, Constant) and op.series:
            value = self._series(name, op, k)
        elif isinstance(op, Repeat):
            if k % op.steps:
                return self.values[name][-1]
            value = self.w.node("Identity", [self._arriving(name, op.ports[0], k // op.steps)], name, own=True)
        elif isinstance(op, TemporalMean):
            several = [self._arriving(name, op.ports[0], k * op.steps + i) for i in range(op.steps)]
            value = self._mean(name, several)
        else:
            arriving = [] if isinstance(op, Constant) else [self._arriving(name, port, k) for port in op.ports]
            key = (name, *arriving)
            if not op.stateful and key in self._made:  # nothing has changed since
                return self._made[key]
            value = self._made[key] = self._computed(name, op, arriving)
        return self.w.note(value, ["B", *self.plan.graph.shapes[name]])

    def _computed(self, name: str, op: Op, arriving: list[str]) -> str:
        graph, w = self.plan.graph, self.w
        semantics = graph.semantics
        if isinstance(op, Constant):
            batch = w.node("Shape", [self.values[graph.inputs[0]][0]], "batch", start=0, end=1)
            shape = w.node("Concat", [batch, w.ints(f"{name}.shape", op.value.shape)], f"{name}.batch_shape", axis=0)
            return w.node("Expand", [w.weight(f"{name}.value", op.value), shape], name, own=True)
        if not isinstance(op, (Neuron, Delay)):
            shapes = [port_shape(self.plan, name, port) for port in op.ports]
            return apply(w, name, op, arriving, shapes, 1, semantics.comparison)
        own = self._now[name]
        if isinstance(op, Neuron):
            x = self._weighted(name, op, arriving[0])
            value, after = neuron_step(w, name, op, semantics, x, own, name)
        else:
            value, after = delay_step(w, name, op, semantics, arriving[0], own, name)
        self._now[name] = {**own, **after}
        self.traces.update({f"{name}:{key}": new for key, new in after.items()})
        return value

    def _weighted(self, name: str, op: Neuron, x: str) -> str:
        key = (name, "weighted", x)
        if key not in self._made:
            self._made[key] = weighted(self.w, name, op, self.plan.graph.semantics, x)
        return self._made[key]

    def _arriving(self, name: str, port: str, k: int) -> str:
        """What arrives in inner step k of the ops that it comes from."""
        found = [given] if (given := self.outside(name, port)) is not None else []
        for edge in self.plan.graph.incoming[name]:
            if edge.port == port and edge.source in self._members:
                found.append(self._back(edge.source, k, self.plan.lag(edge)))
        return self._total(name, port, found)

    def _back(self, source: str, k: int, lag: int) -> str:
        """The value of an op `lag` inner steps before its k-th; before its first, what the step before left."""
        return self.values[source][k - lag] if k >= lag else self._late[source][lag - k - 1]

    def _total(self, name: str, port: str, found: list[str]) -> str:
        key = (name, port, *found)
        if key not in self._made:
            self._made[key] = total(self.w, name, port, found)
        return self._made[key]

    def _mean(self, name: str, values: list[str]) -> str:
        if len(values) == 1:
            return self.w.node("Identity", values, name, own=True)
        whole = self.w.node("Sum", values, f"{name}.whole")
        return self.w.node("Div", [whole, self.w.weight(f"{name}.steps", float(len(values)))], name, own=True)

    def _series(self, name: str, op: Constant, k: int) -> str:
        w, rate = self.w, self._rate(name)
        if self._counter is None:
            self._counter = self._enter(State(COUNTER, np.zeros((), np.int64), integer=True))
            one = w.weight("one_step", 1, np.int64)
            self.after[self._counter] = w.node("Add", [self._counter, one], f"{COUNTER}.next")
        at = self._counter
        if rate > 1:
            first = w.node("Mul", [at, w.weight(f"{name}.rate", rate, np.int64)], f"{name}.first")
            at = w.node("Add", [first, w.weight(f"{name}.inner_{k}", k, np.int64)], f"{name}.inner")
        last = w.weight(f"{name}.last", op.value.shape[0] - 1, np.int64)
        place = w.node("Min", [at, last], f"{name}.place")
        return w.node("Gather", [w.weight(f"{name}.value", op.value), place], name, own=True, axis=0)


def port_shape(plan: Plan, name: str, port: str) -> tuple[int, ...]:
    """The shape, without time and batch, of what arrives at a port."""
    return plan.graph.shapes[next(e.source for e in plan.graph.incoming[name] if e.port == port)]


def total(w: Writer, name: str, port: str, found: Sequence[str]) -> str:
    """The sum of what arrives at a port, in the order of the edges."""
    value = found[0]
    for other in found[1:]:
        value = w.node("Add", [value, other], f"{name}.sum" if port == "input" else f"{name}.{port}.sum")
    return value


@dataclass(frozen=True)
class StepGraph:
    """`step.onnx` before it is a model: the graph, and its states by input name with the output that follows them."""

    graph: Any
    states: Mapping[str, State]
    follows: Mapping[str, str]

    def start(self) -> dict[str, Array]:
        """Every state before step 0, without the batch axis."""
        return {name: state.start for name, state in self.states.items()}


def step_graph(w: Writer, plan: Plan) -> StepGraph:
    """The graph of one step: inputs (B, *shape) and states in, outputs and the next states out.

    For plans without `no_single_step`.
    """
    graph = plan.graph
    rates = {name: int(rate) for name, rate in plan.rate.items()}
    step = Step(w, plan, [g.ops for g in plan.groups], rates, values={name: [name] for name in graph.inputs})
    step.all()
    inputs = [w.info(name, ["B", *graph.shapes[name]]) for name in graph.inputs]
    outputs = [w.info(name, ["B", *graph.shapes[name]]) for name in graph.outputs]
    follows: dict[str, str] = {}
    for name, state in step.states.items():
        dims, kind = ["B", *state.start.shape], np.int64 if state.integer else None
        inputs.append(w.info(name, dims, kind))
        follows[name] = w.node("Identity", [step.after[name]], f"{name}.out")
        outputs.append(w.info(follows[name], dims, kind))
    return StepGraph(w.graph("step", inputs, outputs), step.states, follows)
