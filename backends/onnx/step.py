"""One step of ops as nodes, states explicit: the whole of `step.onnx`, and the body of a Scan around a cycle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snnir.backends.onnx.neurons import State, delay_step, neuron_step, states, weighted
from snnir.backends.onnx.plan import Plan
from snnir.backends.onnx.stateless import apply
from snnir.backends.onnx.writer import Writer
from snnir.ops import Array, Constant, Delay, Neuron

COUNTER = "step"


@dataclass
class Step:
    """The ops `names`, in order, for one step.

    Args:
        outside: gives what arrives at (op, port) from ops that are not among `names`, or None.
    """

    w: Writer
    plan: Plan
    names: Sequence[str]
    values: dict[str, str] = field(default_factory=dict)
    outside: Callable[[str, str], str | None] = lambda name, port: None
    states: dict[str, State] = field(default_factory=dict)  # name of the value before -> state
    after: dict[str, str] = field(default_factory=dict)  # name of the value before -> value after
    traces: dict[str, str] = field(default_factory=dict)  # `op:v`, `op:i` -> value

    def __post_init__(self) -> None:
        graph = self.plan.graph
        self._own = {
            n: {k: self._enter(s) for k, s in states(n, op, graph.semantics, graph.shapes[n]).items()}
            for n in self.names
            if isinstance(op := graph[n], (Neuron, Delay))
        }
        self._late = {
            n: [
                self._enter(State(f"{n}.late" + (f"_{k}" if k > 1 else ""), self.plan.rest[n])) for k in range(1, m + 1)
            ]
            for n, m in self.plan.late(self.names).items()
        }
        self._counter: str | None = None

    def _enter(self, state: State) -> str:
        name = self.w.unique(state.name)
        self.states[name] = state
        return name

    def all(self) -> None:
        """Writes every op; afterwards `values`, `states` and `after` are whole."""
        for name in self.names:
            if name not in self.values:
                self._op(name)
        for name, chain in self._late.items():
            self.after.update(zip(chain, [self.values[name], *chain[:-1]], strict=True))

    def _op(self, name: str) -> None:
        graph, w = self.plan.graph, self.w
        op, semantics = graph[name], graph.semantics
        if isinstance(op, Constant):
            self.values[name] = self._constant(name, op)
            return
        arriving = [self._arriving(name, port) for port in op.ports]
        if isinstance(op, (Neuron, Delay)):
            own = self._own[name]
            if isinstance(op, Neuron):
                x = weighted(w, name, op, semantics, arriving[0])
                value, after = neuron_step(w, name, op, semantics, x, own, name)
            else:
                value, after = delay_step(w, name, op, semantics, arriving[0], own, name)
            self.values[name] = value
            self.after.update({own[key]: new for key, new in after.items()})
            self.traces.update({f"{name}:{key}": new for key, new in after.items()})
        else:
            shapes = [port_shape(self.plan, name, port) for port in op.ports]
            self.values[name] = apply(w, name, op, arriving, shapes, 1, semantics.comparison)
        w.note(self.values[name], ["B", *graph.shapes[name]])

    def _arriving(self, name: str, port: str) -> str:
        found = [given] if (given := self.outside(name, port)) is not None else []
        for edge in self.plan.graph.incoming[name]:
            if edge.port == port and edge.source in self._members:
                lag = self.plan.lag(edge)
                found.append(self._late[edge.source][lag - 1] if lag else self.values[edge.source])
        return total(self.w, name, port, found)

    @property
    def _members(self) -> set[str]:
        return set(self.names)

    def _constant(self, name: str, op: Constant) -> str:
        w, graph = self.w, self.plan.graph
        if op.series:
            if self._counter is None:
                self._counter = self._enter(State(COUNTER, np.zeros((), np.int64), integer=True))
                one = w.weight("one_step", 1, np.int64)
                self.after[self._counter] = w.node("Add", [self._counter, one], f"{COUNTER}.next")
            last = w.weight(f"{name}.last", op.value.shape[0] - 1, np.int64)
            place = w.node("Min", [self._counter, last], f"{name}.place")
            return w.node("Gather", [w.weight(f"{name}.value", op.value), place], name, own=True, axis=0)
        batch = w.node("Shape", [self.values[graph.inputs[0]]], "batch", start=0, end=1)
        shape = w.node("Concat", [batch, w.ints(f"{name}.shape", op.value.shape)], f"{name}.batch_shape", axis=0)
        return w.node("Expand", [w.weight(f"{name}.value", op.value), shape], name, own=True)


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
    """The graph of one step: inputs (B, *shape) and states in, outputs and the next states out."""
    graph = plan.graph
    names = [name for group in plan.groups for name in group.ops]
    step = Step(w, plan, names, values={name: name for name in graph.inputs})
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
