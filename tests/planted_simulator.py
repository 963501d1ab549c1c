"""A simulator in which one fault can be planted: the naive one (`tests.naive`) with hooks.

Other parameters, edges lost or late, another rule of the step. Nothing of `snnir.validation`'s faults is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snnir import ops
from snnir.graph import Edge, Graph
from tests.naive import apply, back_edges, topological

Array = np.ndarray[Any, np.dtype[Any]]
DT = 2.0**-10  # seconds per step; a power of two, so that products with it are exact


@dataclass(frozen=True)
class Plant:
    """A fault: what it should be called, and how the simulator computes with it."""

    name: str
    where: str = ""
    does: str = ""  # what the cause's words must hold
    ops: Mapping[str, Any] = field(default_factory=dict)
    lost: frozenset[Edge] = frozenset()
    late: Mapping[Edge, int] = field(default_factory=dict)
    instead: Mapping[str, str] = field(default_factory=dict)  # output -> the op it reads
    orders: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # flatten -> order of its axes
    rule: Mapping[str, Any] = field(default_factory=dict)  # of the step, everywhere
    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of single ops

    def __str__(self) -> str:
        return f"{self.name} at {self.where or 'all'} {self.does}"


SOUND = Plant("sound")


def run(graph: Graph, inputs: Mapping[str, Any], plant: Plant = SOUND) -> dict[str, Array]:
    """What every spiking op and every output gives, (T, B, *shape), float64."""
    late = back_edges(graph)
    order = topological(graph, late)
    steps, batch = next(iter(inputs.values())).shape[:2]
    table = {name: plant.ops.get(name, op) for name, op in graph.ops.items()}
    rules = {name: {"dt": DT, **plant.rule, **plant.rules.get(name, {})} for name in table}
    rest = {n: np.zeros((batch, *graph.shapes[n])) for n in graph.ops}
    for _ in order:
        for name in order:
            op = table[name]
            if isinstance(op, (ops.LI, ops.CubaLI)):
                start = 0.0 if rules[name].get("start") == "zero" else op.v_leak.astype(float)
                rest[name] = np.zeros_like(rest[name]) + start
            elif not isinstance(op, (ops.Input, ops.Neuron, ops.Delay)):
                rest[name] = _stateless(graph, plant, name, op, _sum(graph, plant, name, [rest], late, rest), rules)
    state: dict[str, Any] = {}
    past: list[dict[str, Any]] = []
    for t in range(steps):
        now: dict[str, Any] = {}
        past.append(now)
        for name in order:
            op = table[name]
            if isinstance(op, ops.Input):
                now[name] = inputs[name][t]
                continue
            x = _sum(graph, plant, name, past, late, rest)
            if isinstance(op, ops.Neuron):
                now[name] = _neuron(op, name, x, state, rules[name])
            elif isinstance(op, ops.Delay):
                now[name] = _delay(op, name, x, state, DT)
            else:
                now[name] = _stateless(graph, plant, name, op, x, rules)
    shown = [n for n, op in graph.ops.items() if isinstance(op, (ops.SpikingNeuron, ops.Threshold, ops.Output))]
    return {name: np.stack([values[name] for values in past]) for name in shown}


def _sum(graph: Graph, plant: Plant, name: str, past: list[Any], late: set[Edge], rest: dict[str, Any]) -> Any:
    if name in plant.instead:
        return past[-1][plant.instead[name]]
    total = np.zeros_like(rest[graph.incoming[name][0].source])
    for edge in graph.incoming[name]:
        if edge in plant.lost:
            continue
        back = len(past) - 1 - (edge in late) - plant.late.get(edge, 0)
        if past[-1] is not rest and back >= 0:
            value = past[back][edge.source]
        else:  # a late edge holds what is there at rest; on its way in a delay line there is nothing yet
            value = 0.0 if edge in plant.late else rest[edge.source]
        total = total + value
    return total


def _stateless(graph: Graph, plant: Plant, name: str, op: Any, x: Any, rules: Mapping[str, Any]) -> Any:
    if isinstance(op, ops.Threshold) and rules[name].get("comparison") == ">=":
        return (x >= op.threshold).astype(float)
    if name in plant.orders:
        return np.ascontiguousarray(x.transpose(0, *(a + 1 for a in plant.orders[name]))).reshape(x.shape[0], -1)
    return apply(op, x)


def _neuron(op: Any, name: str, x: Any, state: dict[str, Any], rule: Mapping[str, Any]) -> Any:
    dt = rule["dt"]
    leak = np.asarray(getattr(op, "v_leak", 0.0), float)
    v, i = state.get(name, (np.zeros_like(x) + (0.0 if rule.get("start") == "zero" else leak), np.zeros_like(x)))
    exponential = rule.get("decay") == "exponential"

    def share(tau: Any) -> Any:
        ratio = dt / np.asarray(tau, float)
        return 1 - np.exp(-ratio) if exponential else ratio

    if isinstance(op, (ops.CubaLI, ops.CubaLIF)):
        a, b = share(op.tau_syn), share(op.tau_mem)
        full = rule.get("gain") == "unit"
        before, i = i, i - a * i + (1.0 if full else a) * op.w_in * x
        seen = before if rule.get("order") == "membrane-first" else i
        v = v - b * v + b * leak + (1.0 if full else b) * op.r * seen
    elif isinstance(op, (ops.I, ops.IF)):
        v = v + (1.0 if rule.get("gain") == "unit" else dt) * op.r * x
    else:
        b = share(op.tau)
        v = v - b * v + b * leak + (1.0 if rule.get("gain") == "unit" else b) * op.r * x
    out = v
    if isinstance(op, ops.SpikingNeuron):
        threshold = op.v_threshold  # type: ignore[attr-defined]
        out = (v >= threshold if rule.get("comparison") == ">=" else v > threshold).astype(float)
        v = v - out * threshold if rule.get("reset") == "subtract" else np.where(out > 0, op.v_reset, v)  # type: ignore[attr-defined]
    state[name] = (v, i)
    return out


def _delay(op: ops.Delay, name: str, x: Any, state: dict[str, Any], dt: float) -> Any:
    line = [x, *state.get(name, [])]
    state[name] = line
    steps = np.broadcast_to(np.rint(op.delay / dt).astype(int), x.shape[1:])
    out = np.zeros_like(x)
    for place in np.ndindex(*x.shape[1:]):
        if steps[place] < len(line):
            out[(slice(None), *place)] = line[steps[place]][(slice(None), *place)]
    return out
