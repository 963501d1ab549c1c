"""What the ops of a graph send, as a bound or counted in a run, and how often they do.

Without a measurement every neuron gives one event per step, which bounds from above; `measure` runs the interpreter on
recorded input and counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import prod
from typing import Any

import numpy as np

from snnir import ops
from snnir.graph import Graph
from snnir.ops import Array, Op
from snnir.schedule import schedule
from snnir.synapses import fan_out

MOVES: tuple[type[Op], ...] = (
    ops.Output,
    ops.Flatten,
    ops.Reshape,
    ops.Transpose,
    ops.Slice,
    ops.Concat,
    ops.Upsample2d,
    ops.Delay,
    ops.Repeat,
    ops.SumPool2d,
    ops.Multiply,
)
"""Ops whose outputs are event counts when all their inputs are."""


@dataclass(frozen=True)
class Activity:
    """What the ops of a graph send.

    Attributes:
        rate: op name -> mean per step and batch element, an array of the op's shape: events where the op sends
            events, else the fraction of steps at which the value is not 0.
        events: names of the ops that send events; all others send numbers.
    """

    rate: Mapping[str, Array]
    events: frozenset[str]


def measure(
    graph: Graph, x: Array | Mapping[str, Array], run: Callable[..., tuple[Any, Mapping[str, Array]]] | None = None
) -> Activity:
    """Runs a graph and counts what every op sends.

    Args:
        graph: a sound graph.
        x: (T, B, *shape), or a dict by input name. An input that holds whole numbers of 0 or more sends events.
        run: what runs it, called as `run(x, record=[op names])`: the `run` of a compiled network, say, whose own
            spikes are then counted; default the reference interpreter.

    Raises:
        CompileError: x does not fit the graph, or the time step is unknown.
    """
    from snnir.interpreter import as_inputs, interpret

    inputs = as_inputs(graph, x)
    counts = frozenset(name for name, value in inputs.items() if _whole(value))
    events = _event_ops(graph, counts)
    synaptic = {e.source for e in graph.edges if fan_out(graph[e.target], graph.shapes[e.source]) is not None}
    senders = [n for n, op in graph.ops.items() if (op.spiking or n in synaptic) and n not in inputs]
    _, recorded = (run or partial(interpret, graph))(inputs, record=senders)
    sent = {**inputs, **recorded}
    rate = {n: (v if n in events else v != 0).mean(axis=(0, 1), dtype=np.float64) for n, v in sent.items()}
    return Activity(rate, events)


def _event_ops(graph: Graph, inputs: frozenset[str]) -> frozenset[str]:
    """The ops that send events when the graph inputs in `inputs` do."""
    # Start from all that could, and take away whatever something else feeds: so a cycle stays if nothing breaks it.
    found = {name for name, op in graph.ops.items() if op.spiking or isinstance(op, MOVES)} | inputs
    lost = [name for name in graph.ops if name not in found]
    while lost:
        for edge in graph.outgoing[lost.pop()]:
            if edge.target in found and not graph[edge.target].spiking:
                found.discard(edge.target)
                lost.append(edge.target)
    return frozenset(found)


def bound(graph: Graph) -> Activity:
    """One event per neuron and step, inputs that send numbers: what each op can send at most, given that."""
    most: dict[str, float] = {}
    events = _event_ops(graph, frozenset())
    for name in schedule(graph).order:
        op = graph[name]
        if name not in events or op.spiking:
            most[name] = 1.0
            continue
        arriving = [sum(most.get(e.source, 1.0) for e in graph.incoming[name] if e.port == port) for port in op.ports]
        joined = prod(arriving) if isinstance(op, ops.Multiply) else max(arriving)
        most[name] = joined * prod(op.kernel_size) if isinstance(op, ops.SumPool2d) else joined
    return Activity(
        {name: np.broadcast_to(np.float64(value), graph.shapes[name]) for name, value in most.items()}, events
    )


def _whole(value: Array) -> bool:
    return bool((value >= 0).all() and (value == np.rint(value)).all())


def pace(graph: Graph) -> dict[str, Fraction]:
    """Steps that each op takes per step of the graph's input: Repeat multiplies them, TemporalMean divides."""
    found: dict[str, Fraction] = {}
    for name in schedule(graph).order:
        op = graph[name]
        before = next((found[e.source] for e in graph.incoming[name] if e.source in found), Fraction(1))
        if isinstance(op, ops.Repeat):
            before *= op.steps
        elif isinstance(op, ops.TemporalMean):
            before /= op.steps
        found[name] = before
    return found
