"""What a graph costs: parameters, synapses, synaptic operations per step, memory.

Counting rules, the same for a bound and for a measurement:

* A *synapse* is a nonzero connection of a linear op from one element of its input to one of its output
  (`snnir.synapses`).
* A *synaptic operation* is one synapse taking part in one step. Where events arrive (spikes; sums of spikes over a
  window) it is an accumulate (AC), once per event; where other numbers arrive it is a multiply-accumulate (MAC), once
  per value that is not 0. Biases are not counted. (Lemaire et al., "An analytical estimation of spiking neural networks
  energy efficiency", ICONIP 2022, count in the same way.)
* Several edges into one port are several arrivals: each brings its own events. Numbers that meet there are added (an
  accumulate each) and then multiplied once.
* What ops without synapses compute (norms, gates, WKV, means, sums) is no synaptic operation: `other` counts it beside
  them, by the rules of `snnir.arithmetic`.

What is sent is a bound or a count in a run (`snnir.activity`). All figures are per step of the graph's input and per
element of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np

from snnir import ops
from snnir.activity import Activity, bound, pace
from snnir.arithmetic import Arithmetic, others_by_op
from snnir.discretise import delay_steps
from snnir.graph import Graph
from snnir.ops import Array, Op, Shape
from snnir.synapses import fan_out

STATE_BYTES = {"float32": 4, "float64": 8, "xylo-int16": 2, "loihi-int24": 4}


@dataclass(frozen=True)
class Row:
    """One op's cost.

    Attributes:
        name, kind, shape: of the op.
        parameters: numbers in its arrays.
        neurons: elements that hold a state and integrate.
        synapses: nonzero connections from its inputs to its output.
        acs, macs: synaptic operations per step: accumulates (events arrive), multiply-accumulates (numbers arrive).
        rate: mean events per element and step that it sends; None where it sends numbers, or nothing was measured.
        weight_bytes: of its arrays, as stored in the graph.
        state_bytes: of its states, in the semantics' number format, per batch element.
        other: what it computes beside synapses and neurons, per step.
    """

    name: str
    kind: str
    shape: Shape
    parameters: int = 0
    neurons: int = 0
    synapses: int = 0
    acs: float = 0.0
    macs: float = 0.0
    rate: float | None = None
    weight_bytes: int = 0
    state_bytes: int = 0
    other: Arithmetic = Arithmetic()


@dataclass(frozen=True)
class Cost:
    """What a graph costs: one row per op, in graph order, and totals (arrays that ops share counted once).

    Attributes:
        measured: whether the operations are counts from a run, or the bound of one event per neuron and step.
    """

    rows: tuple[Row, ...]
    measured: bool
    parameters: int
    weight_bytes: int

    @property
    def neurons(self) -> int:
        """Neurons of all populations."""
        return sum(row.neurons for row in self.rows)

    @property
    def synapses(self) -> int:
        """Nonzero connections of all ops."""
        return sum(row.synapses for row in self.rows)

    @property
    def acs(self) -> float:
        """Accumulates per step."""
        return sum(row.acs for row in self.rows)

    @property
    def macs(self) -> float:
        """Multiply-accumulates per step."""
        return sum(row.macs for row in self.rows)

    @property
    def other(self) -> Arithmetic:
        """What ops without synapses compute per step."""
        return sum((row.other for row in self.rows), Arithmetic())

    @property
    def state_bytes(self) -> int:
        """Bytes of all states, per batch element."""
        return sum(row.state_bytes for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Rows and totals as plain JSON data."""
        names = ("parameters", "neurons", "synapses", "acs", "macs", "weight_bytes", "state_bytes")
        rows = [{**asdict(row), "shape": list(row.shape)} for row in self.rows]
        totals = {**{name: getattr(self, name) for name in names}, "other": asdict(self.other)}
        return {"measured": self.measured, "rows": rows, "totals": totals}


def cost(graph: Graph, activity: Activity | None = None) -> Cost:
    """Counts what a graph costs.

    Args:
        graph: a sound graph.
        activity: what its ops send, as `snnir.activity.measure` finds it; default one event per neuron and step, and
            graph inputs that send numbers.

    Raises:
        CompileError: shapes do not fit, or a Delay's time step is unknown.
    """
    shapes, paces = graph.shapes, pace(graph)
    sends = activity if activity is not None else bound(graph)
    rows = tuple(
        replace(_row(graph, name, shapes, paces[name], sends, activity is not None), other=other)
        for name, other in others_by_op(graph, sends).items()
    )
    arrays = {_identity(array): array for op in graph.ops.values() for array in _arrays(op)}
    return Cost(
        rows, activity is not None, sum(a.size for a in arrays.values()), sum(a.nbytes for a in arrays.values())
    )


# -- one op --------------------------------------------------------------------------------------------------------


def _row(graph: Graph, name: str, shapes: Mapping[str, Shape], times: Fraction, sends: Activity, measured: bool) -> Row:
    op, shape = graph[name], shapes[name]
    reached = [(port, fan_out(op, shapes[source])) for port, source in _feeders(graph, name)]
    synapses = sum(int(reach.sum()) for _, reach in reached if reach is not None)
    crossing = [arrivals(graph, name, port, sends) for port, reach in reached if reach is not None]
    acs, macs = (float(times) * sum(both[k] for both in crossing) for k in range(2))
    rate = float(np.mean(sends.rate[name])) if measured and name in sends.events and name in sends.rate else None
    return Row(
        name=name,
        kind=op.kind,
        shape=shape,
        parameters=sum(array.size for array in _arrays(op)),
        neurons=prod(shape) if isinstance(op, ops.Neuron) else 0,
        synapses=synapses,
        acs=acs,
        macs=macs,
        rate=rate,
        weight_bytes=sum(array.nbytes for array in _arrays(op)),
        state_bytes=_states(graph, op, shape) * STATE_BYTES[graph.semantics.number_format],
    )


def arrivals(graph: Graph, name: str, port: str, sends: Activity) -> tuple[float, float]:
    """Accumulates and multiply-accumulates that one step causes at one port of an op: the rule above."""
    sources = [e.source for e in graph.incoming[name] if e.port == port]
    reached = fan_out(graph[name], graph.shapes[sources[0]]) if sources else None
    if reached is None:
        return 0.0, 0.0
    acs = sum(float((reached * sends.rate.get(s, 1.0)).sum()) for s in sources if s in sends.events)
    numbers = [sends.rate.get(s, np.ones(())) for s in sources if s not in sends.events]
    if not numbers:
        return acs, 0.0
    macs = float((reached * np.max(np.broadcast_arrays(*numbers), axis=0)).sum())
    return acs + float((len(numbers) - 1) * reached.size), macs


def _feeders(graph: Graph, name: str) -> list[tuple[str, str]]:
    """The ports of an op that something feeds, each with one of its sources."""
    first: dict[str, str] = {}
    for edge in graph.incoming[name]:
        first.setdefault(edge.port, edge.source)
    return list(first.items())


def _arrays(op: Op) -> list[Array]:
    return [value for field in op.arrays if (value := getattr(op, field)) is not None]


def _identity(array: Array) -> tuple[Any, ...]:
    """The same for two views of the same memory: shared weights are stored once."""
    return (array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str)


def _states(graph: Graph, op: Op, shape: Shape) -> int:
    if isinstance(op, (ops.CubaLI, ops.CubaLIF)):
        return 2 * prod(shape)
    if isinstance(op, ops.Neuron):
        return prod(shape)
    if isinstance(op, ops.Delay):
        return int(np.broadcast_to(delay_steps(op, graph.semantics), shape).sum())
    return 0
