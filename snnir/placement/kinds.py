"""What a value is made of: spikes, counts, or real numbers; and whether it depends on any input at all."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import prod

import numpy as np

from snnir.graph import Graph
from snnir.ops import (
    Array,
    Concat,
    Constant,
    Delay,
    Flatten,
    Input,
    Multiply,
    Repeat,
    Reshape,
    Slice,
    SpikingNeuron,
    SumPool2d,
    TemporalMean,
    Threshold,
    Transpose,
    Upsample2d,
)

_MOVING = (Reshape, Flatten, Transpose, Slice, Upsample2d, Repeat, Delay)


def free_ops(graph: Graph) -> frozenset[str]:
    """The ops that no input reaches: constants and what follows from them alone. Any part can have its own copy."""
    reached = list(graph.inputs)
    seen = set(reached)
    for name in reached:  # grows while it is walked
        for edge in graph.outgoing[name]:
            if edge.target not in seen:
                seen.add(edge.target)
                reached.append(edge.target)
    return frozenset(set(graph.ops) - seen)


def rates(graph: Graph) -> dict[str, Fraction]:
    """Steps of every op per step of the inputs: Repeat multiplies, TemporalMean divides. Free ops are left out."""
    found: dict[str, Fraction] = dict.fromkeys(graph.inputs, Fraction(1))
    pending = list(graph.inputs)
    for name in pending:  # grows while it is walked
        for edge in graph.outgoing[name]:
            if edge.target in found:
                continue
            op = graph[edge.target]
            factor = Fraction(op.steps) if isinstance(op, Repeat) else Fraction(1)
            factor = Fraction(1, op.steps) if isinstance(op, TemporalMean) else factor
            found[edge.target] = found[name] * factor
            pending.append(edge.target)
    return found


def bounds(graph: Graph, shown: Mapping[str, Array]) -> dict[str, int | None]:
    """The largest whole number that an op's value can hold, where it holds whole numbers from 0 on; None otherwise.

    1 is a spike train. What inputs hold is what `shown` holds, (T, B, *shape) by name.
    """
    found: dict[str, int | None] = {}
    for first in graph.ops:
        stack = [first]
        entered: set[str] = set()
        while stack:  # feeders first; a loop that holds no neuron (of Delays) has no bound
            name = stack[-1]
            if name in found:
                stack.pop()
                continue
            waiting = [e.source for e in graph.incoming[name] if e.source not in found and _depends(graph, name)]
            if waiting and name not in entered:
                entered.add(name)
                stack += waiting
                continue
            stack.pop()
            found[name] = _bound(graph, name, found, shown)
    return found


def _depends(graph: Graph, name: str) -> bool:
    return isinstance(graph[name], (*_MOVING, Concat, Multiply, SumPool2d))


def _bound(graph: Graph, name: str, found: Mapping[str, int | None], shown: Mapping[str, Array]) -> int | None:
    op = graph[name]
    if isinstance(op, SpikingNeuron):
        return graph.semantics.spikes_per_step
    if isinstance(op, Threshold):
        return 1
    if isinstance(op, (Input, Constant)):
        return _whole(np.asarray(op.value if isinstance(op, Constant) else shown[name]))
    if not _depends(graph, name):
        return None
    ports: dict[str, int] = {}
    for edge in graph.incoming[name]:
        known = found.get(edge.source)
        if known is None:
            return None
        ports[edge.port] = ports.get(edge.port, 0) + known
    if isinstance(op, Multiply):
        return prod(ports.values())
    return max(ports.values()) * (prod(op.kernel_size) if isinstance(op, SumPool2d) else 1)


def _whole(values: Array) -> int | None:
    if not values.size or (values < 0).any() or (values != np.rint(values)).any():
        return None
    return max(1, int(values.max()))
