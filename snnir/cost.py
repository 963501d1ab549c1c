"""What a graph costs: parameters, synapses, synaptic operations per step, memory.

Counting rules, the same for a bound and for a measurement:

* A *synapse* is a nonzero connection of a linear op from one element of its input to one of its output. A convolution's
  are counted with its borders exactly: taps that fall on padding are none. Pools, Scale and BatchNorm connect too.
  Ops that only move values (Flatten, Concat, Upsample2d, ...) have no synapses, and ops that are not linear have none.
* A *synaptic operation* is one synapse taking part in one step. Where events arrive (spikes; sums of spikes over a
  window) it is an accumulate (AC), once per event; where other numbers arrive it is a multiply-accumulate (MAC), once
  per value that is not 0. Biases are not counted. (Lemaire et al., "An analytical estimation of spiking neural networks
  energy efficiency", ICONIP 2022, count in the same way.)
* Several edges into one port are several arrivals: each brings its own events. Numbers that meet there are added (an
  accumulate each) and then multiplied once.

Without a measurement every neuron gives one event per step, which bounds from above; `measure` runs the interpreter on
recorded input and counts. All figures are per step of the graph's input and per element of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial, reduce
from math import prod
from typing import Any

import numpy as np

from snnir import ops
from snnir.discretise import delay_steps
from snnir.graph import Graph
from snnir.ops import Array, Op, Shape
from snnir.schedule import schedule

STATE_BYTES = {"float32": 4, "float64": 8, "xylo-int16": 2, "loihi-int24": 4}
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
    def state_bytes(self) -> int:
        """Bytes of all states, per batch element."""
        return sum(row.state_bytes for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Rows and totals as plain JSON data."""
        names = ("parameters", "neurons", "synapses", "acs", "macs", "weight_bytes", "state_bytes")
        rows = [{**asdict(row), "shape": list(row.shape)} for row in self.rows]
        return {"measured": self.measured, "rows": rows, "totals": {name: getattr(self, name) for name in names}}


def cost(graph: Graph, activity: Activity | None = None) -> Cost:
    """Counts what a graph costs.

    Args:
        graph: a sound graph.
        activity: what its ops send, as `measure` finds it; default one event per neuron and step, and graph inputs
            that send numbers.

    Raises:
        CompileError: shapes do not fit, or a Delay's time step is unknown.
    """
    shapes, paces = graph.shapes, pace(graph)
    sends = activity if activity is not None else bound(graph)
    rows = tuple(_row(graph, name, shapes, paces[name], sends, activity is not None) for name in graph.ops)
    arrays = {_identity(array): array for op in graph.ops.values() for array in _arrays(op)}
    return Cost(
        rows, activity is not None, sum(a.size for a in arrays.values()), sum(a.nbytes for a in arrays.values())
    )


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


def fan_out(op: Op, arriving: Shape) -> Array | None:
    """How many outputs each element of the input reaches through a synapse: int64, of shape `arriving`.

    None for ops without synapses.
    """
    if isinstance(op, ops.Linear):
        return np.broadcast_to(np.count_nonzero(op.weight, axis=-2), arriving)
    if isinstance(op, ops.Conv):
        return _windowed(op.weight, op.groups, arriving, _reach_of_conv(op, arriving))
    if isinstance(op, ops.ConvTranspose2d):
        mask = (op.weight != 0).sum(axis=1)
        return _through(mask, _reach_of_transposed(op, arriving))
    if isinstance(op, ops.Pool2d):
        pads = [(p, p) for p in op.padding]
        reach = [
            _reach(n, k, s, pad, 1) for n, k, s, pad in zip(arriving[1:], op.kernel_size, op.stride, pads, strict=True)
        ]
        return _through(np.ones((arriving[0], *op.kernel_size), np.int64), reach)
    if isinstance(op, ops.Scale):
        return np.broadcast_to(op.scale != 0, arriving).astype(np.int64)
    if isinstance(op, ops.BatchNorm):
        return np.broadcast_to((op.weight != 0).reshape(-1, *(1,) * (len(arriving) - 1)), arriving).astype(np.int64)
    if isinstance(op, ops.TokenShift):
        return _token_shift(op, arriving)
    return None


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


# -- who sends what ------------------------------------------------------------------------------------------------


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


# -- fan-out through windows ---------------------------------------------------------------------------------------


def _windowed(weight: Array, groups: int, arriving: Shape, reach: list[Array]) -> Array:
    """Fan-out of a convolution: taps per input channel that hold a weight, times the outputs each tap reaches."""
    per_group = (weight != 0).reshape(groups, -1, *weight.shape[1:]).sum(axis=1)
    return _through(per_group.reshape(arriving[0], *weight.shape[2:]), reach)


def _through(mask: Array, reach: list[Array]) -> Array:
    """sum over taps of mask[channel, *tap] * product over axes of reach[axis][position, tap]."""
    return reduce(lambda found, axis: np.tensordot(found, axis, axes=([1], [1])), reach, mask.astype(np.int64))


def _reach_of_conv(op: ops.Conv, arriving: Shape) -> list[Array]:
    parts = zip(arriving[1:], op.weight.shape[2:], op.strides, op.pads, op.dilations, strict=True)
    return [_reach(*part) for part in parts]


def _reach(size: int, kernel: int, stride: int, pad: tuple[int, int], dilation: int) -> Array:
    """(size, kernel): 1 where input position i meets tap k at some output o, i = o * stride - pad + k * dilation."""
    outputs = (size + sum(pad) - dilation * (kernel - 1) - 1) // stride + 1
    start = np.arange(size)[:, None] + pad[0] - dilation * np.arange(kernel)[None, :]
    return ((start >= 0) & (start % stride == 0) & (start // stride < outputs)).astype(np.int64)


def _reach_of_transposed(op: ops.ConvTranspose2d, arriving: Shape) -> list[Array]:
    """(size, kernel) per axis: 1 where tap k of input i lands in the output, at o = i * stride - pad + k * dilation."""
    shape = op.infer({"input": arriving})
    assert shape is not None
    found: list[Array] = []
    for axis in range(2):
        lands = np.arange(arriving[1 + axis])[:, None] * op.stride[axis] - op.padding[axis]
        lands = lands + np.arange(op.weight.shape[2 + axis])[None, :] * op.dilation[axis]
        found.append(((lands >= 0) & (lands < shape[1 + axis])).astype(np.int64))
    return found


def _token_shift(op: ops.TokenShift, arriving: Shape) -> Array:
    mix = np.broadcast_to(op.mix, arriving[1:])
    found = np.broadcast_to((mix != 0).astype(np.int64) + (mix != 1), arriving).copy()
    found[-1] -= mix != 1  # the last token has no successor
    return found
