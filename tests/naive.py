"""A second, naive meaning of NIR graphs, apart from the interpreter: one value at a time, straight from the ODEs.

Nothing of `snnir.interpreter`, `snnir.schedule` or `snnir.discretise` is used: PyTorch computes the layers, forward
Euler the neurons, and ops are placed one by one to find the back edges.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from snnir import ops
from snnir.graph import Edge, Graph


def simulate(graph: Graph, inputs: dict[str, Any]) -> dict[str, Any]:
    """Every op's output over time, (T, B, *shape) each, in float64."""
    dt = graph.semantics.dt
    assert dt is not None
    late = back_edges(graph)
    order = topological(graph, late)
    steps, batch = next(iter(inputs.values())).shape[:2]
    at_rest = {n: np.zeros((batch, *graph.shapes[n])) for n in graph.ops}
    for _ in order:  # what every op gives before step 0: until nothing changes any more
        for name in order:
            op = graph[name]
            if isinstance(op, (ops.LI, ops.CubaLI)):
                at_rest[name] = np.zeros_like(at_rest[name]) + op.v_leak.astype(float)
            elif not isinstance(op, (ops.Input, ops.Neuron, ops.Delay)):
                at_rest[name] = apply(op, total(graph, name, at_rest))
    state: dict[str, Any] = {}
    before = at_rest
    history: dict[str, list[Any]] = {name: [] for name in graph.ops}
    for t in range(steps):
        now: dict[str, Any] = {}
        for name in order:
            op = graph[name]
            if isinstance(op, ops.Input):
                now[name] = inputs[name][t]
                continue
            x = sum(before[e.source] if e in late else now[e.source] for e in graph.incoming[name])
            if isinstance(op, ops.Neuron):
                now[name] = neuron(op, name, x, state, dt)
            elif isinstance(op, ops.Delay):
                now[name] = delay(op, name, x, state, dt)
            else:
                now[name] = apply(op, x)
        for name, value in now.items():
            history[name].append(value)
        before = now
    return {name: np.stack(values) for name, values in history.items()}


def total(graph: Graph, name: str, values: dict[str, Any]) -> Any:
    return sum(values[e.source] for e in graph.incoming[name])


def back_edges(graph: Graph) -> set[Edge]:
    """Edges of cycles that end before where they start, when ops are placed one by one.

    Placed is what has all its sources placed. When there is no such op, it is the first op of a cycle that something
    placed feeds, the rest of what feeds that cycle being placed; of a cycle that nothing feeds, its first op.
    """
    reach = {name: after(graph, name) for name in graph.ops}
    placed: list[str] = []
    while len(placed) < len(graph):
        left = [name for name in graph.ops if name not in placed]
        ready = [n for n in left if all(e.source in placed for e in graph.incoming[n])]
        if not ready:
            cycles = {n: {m for m in left if m in reach[n] and n in reach[m]} | {n} for n in left}
            due = [n for n in left if all(e.source in placed for m in cycles[n] for e in outside(graph, m, cycles[n]))]
            fed = [n for n in due if any(e.source in placed for e in graph.incoming[n])]
            alone = [n for n in due if not any(m in fed for m in cycles[n])]
            ready = (fed or alone)[:1]
        placed.append(ready[0])
    return {
        e
        for e in graph.edges
        if placed.index(e.target) <= placed.index(e.source) and e.source in reach[e.target] | {e.target}
    }


def outside(graph: Graph, name: str, cycle: set[str]) -> list[Edge]:
    return [e for e in graph.incoming[name] if e.source not in cycle]


def after(graph: Graph, name: str) -> set[str]:
    """The ops that a value of `name` reaches."""
    found: set[str] = set()
    pending = [name]
    while pending:
        for edge in graph.outgoing[pending.pop()]:
            if edge.target not in found:
                found.add(edge.target)
                pending.append(edge.target)
    return found


def topological(graph: Graph, late: set[Edge]) -> list[str]:
    order: list[str] = []
    while len(order) < len(graph):
        for name in graph.ops:
            if name not in order and all(e in late or e.source in order for e in graph.incoming[name]):
                order.append(name)
    return order


def neuron(op: Any, name: str, x: Any, state: dict[str, Any], dt: float) -> Any:
    op = op.with_(**{field: getattr(op, field).astype(float) for field in op.arrays})
    leak = getattr(op, "v_leak", 0.0)
    v, i = state.get(name, (np.zeros_like(x) + leak, np.zeros_like(x)))
    if isinstance(op, (ops.CubaLI, ops.CubaLIF)):
        i = i + dt / op.tau_syn * (-i + op.w_in * x)
        v = v + dt / op.tau_mem * (leak - v + op.r * i)
    elif isinstance(op, (ops.I, ops.IF)):
        v = v + dt * op.r * x
    else:
        v = v + dt / op.tau * (leak - v + op.r * x)
    out = v
    if isinstance(op, ops.SpikingNeuron):
        out = (v > op.v_threshold).astype(float)  # type: ignore[attr-defined]
        v = np.where(out > 0, op.v_reset, v)  # type: ignore[attr-defined]
    state[name] = (v, i)
    return out


def delay(op: ops.Delay, name: str, x: Any, state: dict[str, Any], dt: float) -> Any:
    line = [x, *state.get(name, [])]
    state[name] = line
    steps = np.broadcast_to(np.rint(op.delay / dt).astype(int), x.shape[1:])
    out = np.zeros_like(x)
    for place in np.ndindex(*x.shape[1:]):
        if steps[place] < len(line):
            out[(slice(None), *place)] = line[steps[place]][(slice(None), *place)]
    return out


def apply(op: Any, x: Any) -> Any:
    functional = torch.nn.functional
    given = torch.from_numpy(np.ascontiguousarray(x))

    def tensor(a: Any) -> torch.Tensor:
        return torch.tensor(np.asarray(a, dtype=np.float64))

    if isinstance(op, ops.Output):
        return x
    if isinstance(op, ops.Linear):
        y = torch.einsum("...oi,b...i->b...o", tensor(op.weight), given)
        return (y + tensor(op.bias) if isinstance(op, ops.Affine) else y).numpy()
    if isinstance(op, ops.Conv):
        padding = op.padding if isinstance(op.padding, str) else tuple(op.padding)  # type: ignore[arg-type]
        call = functional.conv1d if op.axes == 1 else functional.conv2d
        return call(given, tensor(op.weight), tensor(op.bias), op.strides, padding, op.dilations, op.groups).numpy()
    if isinstance(op, ops.Pool2d):
        y = functional.avg_pool2d(given, op.kernel_size, op.stride, op.padding)
        return (y * np.prod(op.kernel_size) if isinstance(op, ops.SumPool2d) else y).numpy()
    if isinstance(op, ops.Flatten):
        shift = [d + 1 if d >= 0 else d for d in (op.start_dim, op.end_dim)]
        return torch.flatten(given, *shift).numpy()
    if isinstance(op, ops.Scale):
        return x * op.scale
    if isinstance(op, ops.Threshold):
        return (x > op.threshold).astype(float)
    raise TypeError(op.kind)
