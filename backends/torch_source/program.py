"""From a schedule to the statements of `forward`: layer by layer over all steps, step by step only on cycles.

Every op but Input and Output is a child module `self.<identifier>`, so that forward hooks see all values. A value that
only the next statement reads is called `x`, as people do; every other has its op's name.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import gcd

from snnir import ops
from snnir.backends.torch_source.source import fitted, literal, visible
from snnir.graph import Edge, Graph
from snnir.ops import Neuron, SpikingNeuron
from snnir.schedule import Group, Schedule, rest_order, schedule

_LOCALS = {"x", "x_now", "self", "record", "steps", "batch", "torch", "nn", "F", "_"}
_KEEPS_ZERO = (
    ops.Linear,
    ops.Scale,
    ops.Pool2d,
    ops.Flatten,
    ops.Reshape,
    ops.Transpose,
    ops.Slice,
    ops.Concat,
    ops.Multiply,
    ops.Upsample2d,
    ops.TokenShift,
    ops.Wkv,
    ops.Repeat,
    ops.TemporalMean,
)


@dataclass
class Program:
    """The body of `forward` for a graph.

    Args:
        graph: the network. attributes: op name -> name of its child module. taken: names that locals must not have.
    """

    graph: Graph
    attributes: Mapping[str, str]
    taken: frozenset[str]
    lines: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.plan: Schedule = schedule(self.graph)
        reserved = {*self.taken, *dir(builtins), *_LOCALS}
        self.locals = {n: f"{a}_" if a in reserved else a for n, a in self.attributes.items()}
        self._own_names = {*self.locals.values(), *reserved}
        self.units = [g for g in self.plan.groups if g.cyclic or not self._is_port(g.ops[0])]
        self.last_use = self._last_uses()
        self.readers = {n: {self._unit_of[e.target] for e in self.graph.outgoing[n]} for n in self.graph.ops}
        self.rate = self._rates()
        self.position = {name: i for i, name in enumerate(rest_order(self.graph))}
        self._ending: dict[int, list[str]] = {}
        for name, k in self.last_use.items():
            if k >= 0 and not isinstance(self.graph[name], ops.Output) and self._unit_of[name] != k:
                self._ending.setdefault(k, []).append(name)
        self._rests: dict[str, str | None] = {}  # op -> variable of its value before step 0; None for zeros
        self.holder: str | None = None  # the op whose value `x` is
        self.sizes: set[str] = set()

    def _is_port(self, name: str) -> bool:
        return isinstance(self.graph[name], (ops.Input, ops.Output))

    def _last_uses(self) -> dict[str, int]:
        end = len(self.units)
        self._unit_of = {name: end for name in self.graph.ops}
        self._unit_of.update({name: k for k, unit in enumerate(self.units) for name in unit.ops})
        return {n: max((self._unit_of[e.target] for e in self.graph.outgoing[n]), default=-1) for n in self.graph.ops}

    # -- the statements ----------------------------------------------------------------------------------------------

    def parameters(self) -> list[str]:
        """Names of the parameters of `forward`, one per input."""
        inputs = self.graph.inputs
        if len(inputs) == 1:
            self.variables[inputs[0]], self.holder = "x", inputs[0]
        else:
            self.variables.update({name: self.locals[name] for name in inputs})
        return [self.variables[name] for name in inputs]

    def body(self) -> list[str]:
        """The statements, not indented; `parameters` comes first."""
        first = self.variables[self.graph.inputs[0]]
        for k, unit in enumerate(self.units):
            self._loop(k, unit) if unit.cyclic else self._at_once(k, unit.ops[0])
            self._forget(k)
        outputs = {name: self._sum(self.graph.incoming[name]) for name in self.graph.outputs}
        if len(outputs) == 1:
            self.lines += fitted("return ", next(iter(outputs.values())), 0)
        else:
            self.lines += ["return {", *(f"    {literal(n)}: {value}," for n, value in outputs.items()), "}"]
        head = [f"steps = {first}.shape[0]"] if "steps" in self.sizes else []
        head += [f"batch = {first}.shape[1]"] if "batch" in self.sizes else []
        return [*head, *self.lines]

    def _sum(self, edges: tuple[Edge, ...], port: str | None = None) -> str:
        found = [self.variables[e.source] for e in edges if port is None or e.port == port]
        return " + ".join(found)

    def _at_once(self, k: int, name: str) -> None:
        op = self.graph[name]
        if isinstance(op, ops.Constant):
            arguments = f"{self._steps(name)}, {self._batch()}"
        else:
            arguments = ", ".join(self._sum(self.graph.incoming[name], port) for port in op.ports)
        value = f"self.{self.attributes[name]}({arguments})"
        self.lines += fitted(f"{self._name(k, name)} = ", value, 0)

    def _name(self, k: int, name: str) -> str:
        """The variable for an op's value: `x` where only the next statement reads it, and `x` is free."""
        free = self.holder is None or self.last_use[self.holder] <= k
        if free and self.readers[name] == {k + 1}:
            self.variables[name], self.holder = "x", name
        else:
            self.variables[name] = self.locals[name]
        return self.variables[name]

    def _forget(self, k: int) -> None:
        """Deletes values that were read for the last time, unless the end is near anyway."""
        if k + 3 < len(self.units):
            dead = [self.variables[n] for n in self._ending.get(k, ()) if n not in self.graph.inputs]
            dead = [v for v in dead if v != "x"]
            self.lines += [f"del {', '.join(dead)}"] if dead else []

    def _steps(self, name: str) -> str:
        self.sizes.add("steps")
        factor, divisor = self.rate[name]
        return "steps" + (f" * {factor}" if factor > 1 else "") + (f" // {divisor}" if divisor > 1 else "")

    def _batch(self) -> str:
        self.sizes.add("batch")
        return "batch"

    # -- cycles ------------------------------------------------------------------------------------------------------

    def _loop(self, k: int, unit: Group) -> None:
        members = set(unit.ops)
        late = {e.source for e in self.plan.back_edges if e.source in members}
        shown = [n for n in unit.ops if self.readers[n] - {k}]
        self.lines.append(f"# On a cycle, so step by step: {visible(', '.join(unit.ops))}.")
        outside, given = self._outside(unit, members)
        self._before(unit, late)
        for name in unit.ops:
            if self._has_state(name):
                self.lines.append(f"{self._extra(name, 'state')} = None")
        self.lines += [f"{self._extra(name, 'steps')} = []" for name in shown]
        self.lines += self._head(unit, given)
        for name in unit.ops:
            self._step(name, members, outside)
        self.lines += [f"    {self._extra(n, 'steps')}.append({self.locals[n]})" for n in shown]
        for name in shown:
            self.lines.append(f"{self._name(k, name)} = torch.stack({self._extra(name, 'steps')})")

    def _extra(self, name: str, what: str) -> str:
        """A local that belongs to an op: `lif_state`, and no op's own name."""
        found = f"{self.locals[name]}_{what}"
        while found in self._own_names:
            found += "_"
        return found

    def _outside(self, unit: Group, members: set[str]) -> tuple[dict[tuple[str, str], str], dict[str, str]]:
        """What comes in from outside the cycle: (op, port) -> loop variable; loop variable -> its whole sequence."""
        found: dict[tuple[str, str], str] = {}
        given: dict[str, str] = {}
        for name in unit.ops:
            for port in self.graph[name].ports:
                edges = tuple(e for e in self.graph.incoming[name] if e.port == port and e.source not in members)
                if edges:
                    whole = self._sum(edges)
                    new = self._now(name, port, edges)
                    found[name, port] = next((v for v, w in given.items() if w == whole), new)
                    given[found[name, port]] = whole
        return found, given

    def _now(self, name: str, port: str, edges: tuple[Edge, ...]) -> str:
        """The name of what arrives from outside in one step."""
        source, *others = (edge.source for edge in edges)
        if others:
            return self._extra(name, f"{port}_now")
        return "x_now" if source == self.graph.inputs[0] == self.holder else self._extra(source, "now")

    def _head(self, unit: Group, given: dict[str, str]) -> list[str]:
        if not given:
            return [f"for _ in range({self._steps(unit.ops[0])}):"]
        if len(given) == 1:
            return [f"for {name} in {whole}:" for name, whole in given.items()]
        lines = fitted(f"for {', '.join(given)} in ", f"zip({', '.join(given.values())}, strict=True)", 0)
        return [*lines[:-1], lines[-1] + ":"]

    def _step(self, name: str, members: set[str], outside: dict[tuple[str, str], str]) -> None:
        arguments: list[str] = []
        for port in self.graph[name].ports:
            terms = [outside[name, port]] if (name, port) in outside else []
            inside = (e for e in self.graph.incoming[name] if e.port == port and e.source in members)
            arguments.append(" + ".join([*terms, *(self.locals[e.source] for e in inside)]))
        local = self.locals[name]
        if self._has_state(name):
            state = self._extra(name, "state")
            self.lines += fitted(f"{local}, {state} = ", f"self.{self.attributes[name]}({arguments[0]}, {state})", 4)
        else:
            self.lines += fitted(f"{local} = ", f"self.{self.attributes[name]}({', '.join(arguments)})", 4)

    def _has_state(self, name: str) -> bool:
        return isinstance(self.graph[name], (Neuron, ops.Delay))

    # -- values before the first step --------------------------------------------------------------------------------

    def _before(self, unit: Group, late: set[str]) -> None:
        """Gives the sources of back edges their values before step 0: inputs 0, no spikes, membranes at their start."""
        for name in self._feeding(late):
            self._rest_variable(name)
        for name in unit.ops:
            if name in late:
                value = self._rest(name) or self._zeros(name)
                self.lines += fitted(f"{self.locals[name]} = ", value, 0)

    def _feeding(self, names: set[str]) -> list[str]:
        """What the values before step 0 of the named ops follow from, in that order, without these ops."""
        found: set[str] = set()
        left = list(names)
        while left:
            name = left.pop()
            if not self.graph[name].stateful and self.graph.semantics.recurrent_bias_at_start:
                new = {e.source for e in self.graph.incoming[name]} - found
                found |= new
                left += new
        return sorted(found - names, key=self.position.__getitem__)

    def _zeros(self, name: str) -> str:
        return f"{self.variables[self.graph.inputs[0]]}.new_zeros({self._shape(name)})"

    def _shape(self, name: str) -> str:
        return ", ".join([self._batch(), *map(str, self.graph.shapes[name])])

    def _rest(self, name: str) -> str | None:
        """The value (B, *shape) of an op before step 0 as source; None for zeros."""
        op, semantics = self.graph[name], self.graph.semantics
        if isinstance(op, Neuron):
            if isinstance(op, SpikingNeuron) or "v_leak" not in op.arrays or semantics.start == "zero":
                return None
            return f"self.{self.attributes[name]}.v_leak.expand({self._shape(name)})"
        if isinstance(op, (ops.Input, ops.Constant, ops.Delay)) or not semantics.recurrent_bias_at_start:
            return None
        arriving = [self._rest_at(name, port) for port in op.ports]
        if isinstance(op, (ops.Repeat, ops.TemporalMean)):
            return arriving[0]
        # Affine is a Linear with a bias, so it does not keep zeros.
        if not any(arriving) and isinstance(op, _KEEPS_ZERO) and not isinstance(op, ops.Affine):
            return None
        sources = [next(e.source for e in self.graph.incoming[name] if e.port == port) for port in op.ports]
        given = [value or self._zeros(source) for value, source in zip(arriving, sources, strict=True)]
        # `forward`, not a call: hooks are for the values of steps.
        return f"self.{self.attributes[name]}.forward({', '.join(given)})"

    def _rest_at(self, name: str, port: str) -> str | None:
        """The sum at a port, over prompt and late edges."""
        known = [self._rest_variable(e.source) for e in self.graph.incoming[name] if e.port == port]
        return " + ".join(value for value in known if value) or None

    def _rest_variable(self, name: str) -> str | None:
        """As `_rest`, but as a variable that is assigned once."""
        if name not in self._rests:
            value = self._rest(name)
            if value is not None:
                self.lines += fitted(f"{self._extra(name, 'rest')} = ", value, 0)
                value = self._extra(name, "rest")
            self._rests[name] = value
        return self._rests[name]

    # -- time --------------------------------------------------------------------------------------------------------

    def _rates(self) -> dict[str, tuple[int, int]]:
        """Steps of each op per step of the input, as (factor, divisor): Repeat multiplies, TemporalMean divides."""
        rates: dict[str, tuple[int, int]] = {}
        for name in self.plan.order:
            before = next((rates[e.source] for e in self.graph.incoming[name] if e.source in rates), None)
            if isinstance(self.graph[name], ops.Input):
                rates[name] = (1, 1)
            elif before is not None:
                rates[name] = self._through(name, before, False)
        # What nothing but constants feeds runs as long as what reads it.
        for name in reversed(self.plan.order):
            if name not in rates:
                reader = next((e.target for e in self.graph.outgoing[name] if e.target in rates), None)
                rates[name] = (1, 1) if reader is None else self._through(reader, rates[reader], True)
        return rates

    def _through(self, name: str, rate: tuple[int, int], backwards: bool) -> tuple[int, int]:
        op, (factor, divisor) = self.graph[name], rate
        if isinstance(op, ops.Repeat) != backwards and isinstance(op, (ops.Repeat, ops.TemporalMean)):
            factor *= op.steps
        elif isinstance(op, (ops.Repeat, ops.TemporalMean)):
            divisor *= op.steps
        common = gcd(factor, divisor)
        return factor // common, divisor // common
