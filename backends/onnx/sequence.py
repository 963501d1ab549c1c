"""A whole sequence as nodes: layer by layer over all steps, a Scan per population, and one around each cycle.

A value is either `steps` (T, B, *shape) or `rows` (T*B, *shape), which is how a convolution takes all steps at once;
each form is made when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from snnir.backends.onnx.neurons import State, chosen, neuron_step, states, weighted
from snnir.backends.onnx.plan import Plan
from snnir.backends.onnx.stateless import ANY_LEADING, apply
from snnir.backends.onnx.step import Step, port_shape, total
from snnir.backends.onnx.writer import Writer
from snnir.discretise import delay_steps
from snnir.ops import Array, Constant, Delay, Input, Neuron, Output, Repeat, Shape, TemporalMean
from snnir.schedule import Group

END = np.iinfo(np.int64).max
NO_BATCH: Shape = (-1,)  # marks a value that has time only
Forms = dict[str, str]


def sequence_graph(w: Writer, plan: Plan, record: Sequence[str] = ()) -> Any:
    """The graph of whole sequences: inputs (T, B, *shape) to outputs.

    `record` gives more outputs, behind the graph's own and in that order: ops, or `op:v`, `op:i` for a state after
    each step.
    """
    return _Sequence(w, plan, tuple(record)).whole()


@dataclass
class _Sequence:
    w: Writer
    plan: Plan
    record: tuple[str, ...]
    values: dict[str, Forms] = field(default_factory=dict)
    traces: dict[str, str] = field(default_factory=dict)
    _sizes: dict[Any, str] = field(default_factory=dict)
    _shifted: dict[tuple[str, int], str] = field(default_factory=dict)

    def whole(self) -> Any:
        graph, w = self.plan.graph, self.w
        for group in self.plan.groups:
            self._cycle(group) if group.cyclic else self._at_once(group.ops[0])
        outputs = [w.info(name, self._dims(name)) for name in graph.outputs]
        for name in self.record:
            op = name if name in graph else name.rpartition(":")[0]
            value = self._steps(name) if name in graph else self.traces[name]
            made = w.node("Identity", [value], f"{name}.recorded")
            outputs.append(w.info(made, self._dims(op)))
        inputs = [w.info(name, self._dims(name)) for name in graph.inputs]
        return w.graph("sequence", inputs, outputs)

    # -- forms -------------------------------------------------------------------------------------------------------

    def _time(self, rate: Fraction) -> str:
        many = "T" if rate.numerator == 1 else f"{rate.numerator}*T"
        return many if rate.denominator == 1 else f"{many}/{rate.denominator}"

    def _dims(self, name: str, more: int = 0) -> list[int | str]:
        steps = self._time(self.plan.rate[name])
        return [f"{steps}+{more}" if more else steps, "B", *self.plan.graph.shapes[name]]

    def _row_count(self, name: str) -> str:
        return f"{self._time(self.plan.rate[name])}*B"

    def _steps(self, name: str) -> str:
        forms, shape = self.values[name], self.plan.graph.shapes[name]
        if "steps" not in forms:
            whole = self._size(self.plan.rate[name], shape)
            forms["steps"] = self.w.node("Reshape", [forms["rows"], whole], f"{name}.steps")
            self.w.note(forms["steps"], self._dims(name))
        return forms["steps"]

    def _rows(self, name: str) -> str:
        forms = self.values[name]
        if "rows" not in forms:
            forms["rows"] = self._as_rows(name, forms["steps"], self.plan.graph.shapes[name])
        return forms["rows"]

    def _as_rows(self, name: str, value: str, shape: Shape) -> str:
        made = self.w.node("Reshape", [value, self.w.ints(f"{name}.row_shape", [-1, *shape])], f"{name}.rows")
        return self.w.note(made, [self._row_count(name), *shape])

    def _batch(self) -> str:
        if "B" not in self._sizes:
            self._sizes["B"] = self.w.node("Shape", [self.plan.graph.inputs[0]], "batch", start=1, end=2)
        return self._sizes["B"]

    def _length(self, rate: Fraction) -> str:
        """T, times a rate, as an array of one."""
        key = ("T", rate)
        if key not in self._sizes:
            value = self.w.node("Shape", [self.plan.graph.inputs[0]], "steps", start=0, end=1)
            if rate.numerator != 1:
                value = self.w.node("Mul", [value, self.w.ints("steps_times", [rate.numerator])], "steps")
            if rate.denominator != 1:
                value = self.w.node("Div", [value, self.w.ints("steps_by", [rate.denominator])], "steps")
            self._sizes[key] = value
        return self._sizes[key]

    def _size(self, first: Fraction | int | None, shape: Shape) -> str:
        """The shape (T, B, *shape); `first` is T's rate, or a number that stands in T's place, or None: no T."""
        key = (type(first).__name__, first, shape)
        if key not in self._sizes:
            parts = [self._length(first)] if isinstance(first, Fraction) else []
            parts += [self.w.ints("first_size", [first])] if isinstance(first, int) else []
            parts += [self._batch()]
            parts += [self.w.ints("rest_of_shape", shape)] if shape else []
            self._sizes[key] = self.w.node("Concat", parts, "shape", axis=0)
        return self._sizes[key]

    def _spread(self, name: str, value: Array, first: int | None, shape: Shape) -> str:
        """A value of the network, equal for all samples: (B, *shape), or with `first` steps before."""
        if value.size and (value == value.flat[0]).all():
            value = value.reshape(-1)[0]
        return self.w.node("Expand", [self.w.weight(name, value), self._size(first, shape)], f"{name}.start")

    # -- ops over all steps ------------------------------------------------------------------------------------------

    def _feeding(self, name: str, port: str, members: set[str], rows: bool) -> str | None:
        """What arrives at a port from ops that are not `members`, late edges shifted; None when nothing does."""
        found = []
        for edge in self.plan.graph.incoming[name]:
            if edge.port == port and edge.source not in members:
                lag = self.plan.lag(edge)
                if lag:
                    value = self._late(edge.source, lag)
                    shape = self.plan.graph.shapes[edge.source]
                    found.append(self._as_rows(edge.source, value, shape) if rows else value)
                else:
                    found.append(self._rows(edge.source) if rows else self._steps(edge.source))
        return total(self.w, name, port, found) if found else None

    def _late(self, source: str, lag: int) -> str:
        key = (source, lag)
        if key not in self._shifted:
            w, shape = self.w, self.plan.graph.shapes[source]
            before = self._spread(f"{source}.rest", self.plan.rest[source], lag, shape)
            longer = w.node("Concat", [before, self._steps(source)], f"{source}.longer", axis=0)
            w.note(longer, self._dims(source, lag))
            ends = [w.ints("from_0", [0]), w.ints(f"to_minus_{lag}", [-lag]), w.ints("axis_0", [0])]
            self._shifted[key] = w.note(w.node("Slice", [longer, *ends], f"{source}.late"), self._dims(source))
        return self._shifted[key]

    def _at_once(self, name: str) -> None:
        graph, w = self.plan.graph, self.w
        op = graph[name]
        if isinstance(op, Input):
            self.values[name] = {"steps": name}
            return
        if isinstance(op, Constant):
            self.values[name] = {"steps": self._constant(name, op)}
            return
        if isinstance(op, (Neuron, Delay, Repeat, TemporalMean)):
            x = self._feeding(name, op.ports[0], set(), rows=False)
            assert x is not None  # the graph was verified
            self.values[name] = {"steps": self._in_time(name, op, x)}
            w.note(name, self._dims(name))
            return
        rows = not isinstance(op, ANY_LEADING) or not self._all_steps(name)
        if isinstance(op, Output):
            rows = False
        arriving = [v for port in op.ports if (v := self._feeding(name, port, set(), rows)) is not None]
        shapes = [port_shape(self.plan, name, port) for port in op.ports]
        value = apply(w, name, op, arriving, shapes, 1 if rows else 2, graph.semantics.comparison)
        self.values[name] = {"rows" if rows else "steps": value}
        w.note(value, [self._row_count(name), *graph.shapes[name]] if rows else self._dims(name))

    def _all_steps(self, name: str) -> bool:
        edges = self.plan.graph.incoming[name]
        return all("steps" in self.values[e.source] or self.plan.lag(e) for e in edges)

    def _in_time(self, name: str, op: Neuron | Delay | Repeat | TemporalMean, x: str) -> str:
        if isinstance(op, Neuron):
            return self._population(name, op, x)
        return self._delay(name, op, x) if isinstance(op, Delay) else self._resampled(name, op, x)

    def _resampled(self, name: str, op: Repeat | TemporalMean, x: str) -> str:
        w, shape = self.w, self.plan.graph.shapes[name]
        whole = w.node("Concat", [w.ints("any", [-1]), self._batch(), w.ints("value_shape", shape)], "shape", axis=0)
        if isinstance(op, Repeat):
            each = w.node("Unsqueeze", [x, w.ints("axis_1", [1])], f"{name}.each")
            copies = w.node("Concat", [each] * op.steps, f"{name}.copies", axis=1)
            return w.node("Reshape", [copies, whole], name, own=True)
        parts = [w.ints("any", [-1]), w.ints(f"{name}.steps", [op.steps]), self._batch(), w.ints("value_shape", shape)]
        grouped = w.node("Reshape", [x, w.node("Concat", parts, "shape", axis=0)], f"{name}.grouped")
        return w.node("ReduceMean", [grouped, w.ints("axis_1", [1])], name, own=True, keepdims=0)

    def _constant(self, name: str, op: Constant) -> str:
        w, shape, rate = self.w, self.plan.graph.shapes[name], self.plan.rate[name]
        if op.series:
            zero, one = w.weight("zero_step", 0, np.int64), w.weight("one_step", 1, np.int64)
            count = w.node("Squeeze", [self._length(rate)], f"{name}.count")
            times = w.node("Range", [zero, count, one], f"{name}.times")
            last = w.weight(f"{name}.last", op.value.shape[0] - 1, np.int64)
            held = w.node("Min", [times, last], f"{name}.place")
            series = w.node("Gather", [w.weight(f"{name}.value", op.value), held], f"{name}.series", axis=0)
            value = w.node("Unsqueeze", [series, w.ints("axis_1", [1])], f"{name}.alike")
        else:
            value = w.weight(f"{name}.value", op.value)
        return w.node("Expand", [value, self._size(rate, shape)], name, own=True)

    def _delay(self, name: str, op: Delay, x: str) -> str:
        w, steps = self.w, delay_steps(op, self.plan.graph.semantics)
        longest = int(steps.max(initial=0))
        if not longest:
            return w.node("Identity", [x], name, own=True)
        before = self._spread(f"{name}.nothing", np.zeros(()), longest, self.plan.graph.shapes[name])
        line = w.note(w.node("Concat", [before, x], f"{name}.line", axis=0), self._dims(name, longest))

        def back(k: int, end: str, own: bool) -> str:
            ends = [w.ints("begin", [longest - k]), w.ints("end", [-k if k else END]), w.ints("axis_0", [0])]
            return w.note(w.node("Slice", [line, *ends], end, own), self._dims(name))

        return chosen(w, name, steps, back, name)

    # -- Scans -------------------------------------------------------------------------------------------------------

    def _population(self, name: str, op: Neuron, x: str) -> str:
        """A Scan over one population; what needs no state is done before it, for all steps at once."""
        graph, w = self.plan.graph, self.w
        whole = weighted(w, name, op, graph.semantics, x)
        body = Writer(w.dtype, parent=w)
        own = states(name, op, graph.semantics, graph.shapes[name])
        before = {key: body.unique(state.name) for key, state in own.items()}
        now = body.unique(f"{name}.input_now")
        spikes, after = neuron_step(body, name, op, graph.semantics, now, before, body.unique(f"{name}.now"))
        carried = {before[key]: (own[key], after[key]) for key in own}
        traced = {f"{name}:{key}": value for key, value in after.items() if f"{name}:{key}" in self.record}
        shown = {name: (spikes, graph.shapes[name]), **{t: (v, graph.shapes[name]) for t, v in traced.items()}}
        self._scan(name, body, carried, {now: (whole, graph.shapes[name])}, shown, {name: name})
        return name

    def _cycle(self, group: Group) -> None:
        """One Scan around the ops of a cycle."""
        graph, w = self.plan.graph, self.w
        members = set(group.ops)
        body = Writer(w.dtype, parent=w)
        arriving: dict[str, tuple[str, Shape]] = {}
        inner: dict[tuple[str, str], str] = {}
        for name in group.ops:
            for port in graph[name].ports:
                whole = self._feeding(name, port, members, rows=False)
                if whole is not None:
                    now = body.unique(f"{name}.{port}_now")
                    inner[name, port] = now
                    arriving[now] = (whole, port_shape(self.plan, name, port))
        if not arriving:  # nothing comes in, but something has to say how many steps there are
            ticks = w.node("Expand", [w.weight("zero", 0.0), self._length(self.plan.rate[group.ops[0]])], "ticks")
            arriving[body.unique("tick")] = (ticks, NO_BATCH)
        step = Step(body, self.plan, [group.ops], outside=lambda name, port: inner.get((name, port)))
        step.all()
        carried = {before: (state, step.after[before]) for before, state in step.states.items()}
        read = {n for n in group.ops if n in self.record or any(e.target not in members for e in graph.outgoing[n])}
        shown = {n: (step.values[n][0], graph.shapes[n]) for n in group.ops if n in read}
        traced = {t: v for t, v in step.traces.items() if t in self.record}
        shown |= {t: (v, graph.shapes[t.rpartition(":")[0]]) for t, v in traced.items()}
        self._scan(group.ops[0], body, carried, arriving, shown, {})

    def _scan(
        self,
        name: str,
        body: Writer,
        carried: dict[str, tuple[State, str]],
        arriving: dict[str, tuple[str, Shape]],
        shown: dict[str, tuple[str, Shape]],
        own: dict[str, str],
    ) -> None:
        """The Scan node of a body.

        Args:
            carried: input of the body -> state and its value after the step. arriving: input of the body -> its
                values over all steps. shown: op or trace -> its value in the body. own: names that outputs must have.
        """
        graph, w = self.plan.graph, self.w
        inputs = [body.info(before, ["B", *state.start.shape]) for before, (state, _) in carried.items()]
        inputs += [body.info(n, [] if s is NO_BATCH else ["B", *s]) for n, (_, s) in arriving.items()]
        outputs, last = [], []
        for before, (state, after) in carried.items():
            value = body.node("Identity", [after], f"{before}.out")
            outputs.append(body.info(value, ["B", *state.start.shape]))
            last.append(w.unique(f"{before}.last"))
        outside: list[str] = []
        for key, (value, shape) in shown.items():
            given = body.node("Identity", [value], f"{key}.shown")
            outputs.append(body.info(given, ["B", *shape]))
            outside.append(own[key] if key in own else w.unique(f"{key}.steps"))
            if key in graph:
                self.values[key] = {"steps": outside[-1]}
            else:
                self.traces[key] = outside[-1]
        starts = [
            self._spread(f"{state.name}.rest", state.start, None, state.start.shape) for state, _ in carried.values()
        ]
        given_in = [*starts, *(whole for whole, _ in arriving.values())]
        inner = body.graph(f"{name}.step", inputs, outputs)
        w.nodes_out("Scan", given_in, [*last, *outside], body=inner, num_scan_inputs=len(arriving))
        w.nodes[-1].name = name if own else f"{name}.cycle"
