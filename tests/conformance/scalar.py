"""A third meaning of the cases in the group 'variants': one number at a time, in plain Python, straight from the words.

It knows lines of Affine, LIF, CubaLIF and LI, a connection "back", and the latency of one step between neurons, and
shares nothing with the interpreter.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from snnir import ops
from snnir.graph import Edge, Graph


def simulate(graph: Graph, inputs: dict[str, Any]) -> dict[str, Any]:
    """Outputs by name (T, B, n)."""
    first = next(iter(inputs.values()))
    steps, batch = first.shape[:2]
    results: dict[str, list[Any]] = {name: [] for name in graph.outputs}
    for b in range(batch):
        before: dict[str, list[float]] = {}
        states = {n: _state(op, graph.shapes[n][0], graph.semantics) for n, op in graph.ops.items()}
        traces: dict[str, list[list[float]]] = {name: [] for name in graph.outputs}
        for t in range(steps):
            now: dict[str, list[float]] = {n: [float(x) for x in inputs[n][t, b]] for n in inputs}
            for name in _order(graph):
                op = graph[name]
                if isinstance(op, ops.Input):
                    continue
                arriving = [0.0] * len(_width(graph, name))
                for edge in graph.incoming[name]:
                    given = before.get(edge.source, [0.0] * graph.shapes[edge.source][0])
                    given = given if _late(graph, edge) else now[edge.source]
                    arriving = [a + g for a, g in zip(arriving, given, strict=True)]
                now[name] = _give(op, states[name], arriving, graph.semantics)
            for name in graph.outputs:
                traces[name].append(now[name])
            before = now
        for name, trace in traces.items():
            results[name].append(trace)
    return {name: np.array(samples).swapaxes(0, 1) for name, samples in results.items()}


def _width(graph: Graph, name: str) -> range:
    return range(graph.shapes[graph.incoming[name][0].source][0])


def _late(graph: Graph, edge: Edge) -> bool:
    """Whether an edge carries the values of the step before."""
    if graph.semantics.latency_neuron:
        return isinstance(graph[edge.source], ops.SpikingNeuron) and not isinstance(graph[edge.target], ops.Output)
    return edge.source == "back"


def _order(graph: Graph) -> list[str]:
    done: list[str] = []
    while len(done) < len(graph):
        ready = (n for n in graph.ops if all(e.source in done or _late(graph, e) for e in graph.incoming[n]))
        done.append(next(n for n in ready if n not in done))
    return done


def _state(op: Any, n: int, s: Any) -> list[dict[str, float]]:
    if not isinstance(op, ops.Neuron):
        return []
    leak = op.v_leak.reshape(-1) if "v_leak" in op.arrays else np.zeros(n)
    return [{"v": float(leak[k]) if s.start == "rest" else 0.0, "i": 0.0, "late": 0.0} for k in range(n)]


def _give(op: Any, state: list[dict[str, float]], x: list[float], s: Any) -> list[float]:
    if isinstance(op, ops.Output):
        return x
    if isinstance(op, ops.Linear):
        bias = op.bias if isinstance(op, ops.Affine) else np.zeros(len(op.weight))
        return [
            float(c) + sum(float(w) * a for w, a in zip(row, x, strict=True))
            for row, c in zip(op.weight, bias, strict=True)
        ]
    return [_neuron(op, k, cell, x[k], s) for k, cell in enumerate(state)]


def _neuron(op: Any, k: int, cell: dict[str, float], x: float, s: Any) -> float:
    p = {name: float(getattr(op, name)[k]) for name in op.arrays}

    def factors(tau: float) -> tuple[float, float]:
        keep = 1 - s.dt / tau if s.decay == "euler" else math.exp(-s.dt / tau)
        return keep, (1 - keep if s.gain == "ode" else 1.0)

    if isinstance(op, ops.CubaLIF):
        keep, rise = factors(p["tau_syn"])
        old, cell["i"] = cell["i"], keep * cell["i"] + rise * p["w_in"] * x
        x = old if s.order == "membrane-first" else cell["i"]
    keep, rise = factors(p["tau_mem"] if isinstance(op, ops.CubaLIF) else p["tau"])
    v = keep * cell["v"] + (1 - keep) * p["v_leak"] + rise * p["r"] * x
    if not isinstance(op, ops.SpikingNeuron):
        cell["v"] = v
        return v
    threshold = p["v_threshold"]
    v -= cell["late"] * threshold
    if s.membrane_floor is not None:
        v = max(v, s.membrane_floor)
    spikes = 0.0
    above = v >= threshold if s.comparison == ">=" else v > threshold
    if s.reset == "value":
        spikes, v = (1.0, p["v_reset"]) if above else (0.0, v)
    elif s.reset == "delayed-subtract":
        spikes = cell["late"] = float(above)
    else:
        while above and (s.spikes_per_step is None or spikes < s.spikes_per_step):
            spikes, v = spikes + 1, v - threshold
            above = v >= threshold if s.comparison == ">=" else v > threshold
    cell["v"] = v
    return spikes
