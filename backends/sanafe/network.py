"""A graph as SANA-FE's Loihi model takes it: populations with attributes, connections, and biases per step.

One soma per neuron: I <- input_decay I + sum of weights; V <- trunc(64 leak_decay V) / 64 + bias + I; a spike where
V > threshold, then V = reset or V - threshold. V is counted from the resting value, and in units in which the threshold
is between 2^11 and 2^12, so that the truncation to 1/64 stays below 1e-5 of it. SANA-FE keeps attributes in float32.

* Everything linear between neurons is the weights of one connection (`snnir.projections`).
* Every connection takes a step, so populations run behind the source network (`snnir.lags`), and the run is longer by
  the largest lag. Before its first and after its last step a population is silent.
* What is no spike (real-valued inputs, biases) arrives as a bias that changes from step to step: a host computes it.
* Connections that must arrive later than a step afterwards (skip connections) would need the chip's delays, but the
  delay unit of `loihi.yaml` loses spikes (2.2.9: it hands on a charge only if another arrives in that very step). So
  they arrive after a step, where they cost what they cost, and biases move their effect to the right step, by the
  spikes of the source network.
* Outputs that read currents become sums: neurons that never spike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnir.backends.sanafe.chip import UNREACHABLE
from snnir.backends.sanafe.reading import Reader
from snnir.lags import timing
from snnir.ops import Array
from snnir.projections import Population, Projection

SCALE_BITS = 12
SUM_SCALE = 1024.0
SILENCE = -(2.0**19)


@dataclass(frozen=True, eq=False)
class Group:
    """A population on the chip.

    Attributes:
        name: of the op. size: its neurons. lag: steps by which it runs late.
        attributes: of the somas, one number per neuron; empty for spiking inputs. soft: reset by subtraction.
        spikes: (steps, size) of a spiking input; None for others.
        bias: (steps, size) of neurons; None for inputs and sums.
        synapse: the unit that processes what arrives.
    """

    name: str
    size: int
    lag: int
    attributes: Mapping[str, Array]
    soft: bool = False
    spikes: Array | None = None
    bias: Array | None = None
    synapse: str = "loihi_sparse_synapse"


@dataclass(frozen=True, eq=False)
class Connection:
    """Synapses between two groups: indices within them, and weights."""

    source: str
    target: str
    start: Array
    end: Array
    weight: Array


@dataclass(frozen=True, eq=False)
class ChipNetwork:
    """What SANA-FE runs.

    Attributes:
        steps: of the run: those of the input and the largest lag.
        expected: spikes (steps, size) of each group that spikes, as the interpreter has them, in the chip's time.
        moved: synapses whose effect biases move to a later (or, in loops, an earlier) step.
        host: multiply-accumulates of the input's run that a host does, for what is no spike.
    """

    groups: Mapping[str, Group]
    connections: tuple[Connection, ...]
    steps: int
    expected: Mapping[str, Array]
    moved: int
    host: int

    @property
    def synapses(self) -> int:
        """Of all connections."""
        return sum(len(c.weight) for c in self.connections)

    @property
    def neurons(self) -> int:
        """Of all groups, inputs included."""
        return sum(g.size for g in self.groups.values())


def build(reader: Reader) -> ChipNetwork:
    """The network of a sound reading (`Reader.check` raised nothing)."""
    net, length = reader.network, reader.length
    into = [p for p in net.projections if p.source in reader.senders and p.target in reader.receivers]
    lags = timing(
        reader.spiking_inputs, reader.receivers, into, prefix="sanafe", input_lag=0, least=0
    ).lags  # loops that cannot keep their time are moved, like skips
    steps = length + max(lags.values(), default=0)
    sent = {name: _shifted(reader.spikes[name], lags[name], steps) for name in reader.senders}
    groups = {n: Group(n, net.inputs[n], 0, {}, spikes=sent[n]) for n in reader.spiking_inputs}
    moved, host = 0, 0
    gains: dict[str, Array] = {}
    for name in reader.receivers:
        arriving = [p for p in into if p.target == name]
        unit = reader.synapse_unit(name, arriving)
        if name not in net.populations:  # an output that reads currents
            size = int(np.prod(net.outputs[name]))
            attributes = {"threshold": np.full(size, UNREACHABLE), "leak_decay": np.ones(size)}
            groups[name], gains[name] = (
                Group(name, size, lags[name], attributes, synapse=unit),
                np.full(size, SUM_SCALE),
            )
            continue
        current = np.zeros((steps, net.populations[name].size))
        given, macs = reader.from_host(name)
        current += _shifted(given, lags[name], steps)
        host += macs
        for p in arriving:
            late = lags[name] + p.delay
            if late != lags[p.source] + 1:
                moved += int(np.count_nonzero(p.weight))
                spikes = reader.spikes[p.source]
                current += (_shifted(spikes, late, steps) - _shifted(spikes, lags[p.source] + 1, steps)) @ p.weight
        groups[name], gains[name] = _neurons(reader, net.populations[name], lags[name], current, unit)
    connections = tuple(_connection(p, gains[p.target]) for p in into)
    return ChipNetwork(groups, connections, steps, sent, moved, host)


def _neurons(reader: Reader, population: Population, lag: int, current: Array, unit: str) -> tuple[Group, Array]:
    """A population's group, and the factors of weights into it; current: (steps, size) that no spike brings."""
    size, rule = population.size, population.rule
    assert rule is not None  # the time step is known
    full = {
        name: np.broadcast_to(np.asarray(value, np.float64).reshape(-1), (size,))
        for name, value in vars(rule).items()
        if value is not None
    }
    decay, gain, start = full["decay"], full["gain"], full["start"]
    spiking = "threshold" in full
    threshold = full["threshold"] - start if spiking else np.full(size, UNREACHABLE)
    scale = 2.0 ** (SCALE_BITS - np.frexp(threshold)[1]) if spiking else np.full(size, SUM_SCALE)
    attributes: dict[str, Array] = {"leak_decay": decay, "threshold": threshold * scale if spiking else threshold}
    if spiking and reader.graph.semantics.comparison == ">=":
        attributes["threshold"] = np.nextafter(attributes["threshold"].astype(np.float32), np.float32(0))
    if spiking and reader.graph.semantics.reset == "value":
        attributes["reset"] = (full["v_reset"] - start) * scale
    factor = gain * scale
    if "decay_syn" in full:
        attributes["input_decay"] = full["decay_syn"]
        factor = factor * full["gain_syn"]
        current = _filtered(current, full["decay_syn"], full["gain_syn"])
    else:
        attributes["input_decay"] = np.zeros(size)
    bias = current * gain * scale
    end = lag + reader.length
    bias[lag:end] += (full["drive"] - (1.0 - decay) * start) * scale
    if spiking:
        bias[end:] = SILENCE
    soft = spiking and reader.graph.semantics.reset == "subtract"
    return Group(population.name, size, lag, attributes, soft=soft, bias=bias, synapse=unit), factor


def _filtered(x: Array, decay: Array, gain: Array) -> Array:
    """i <- decay i + gain x, over the steps."""
    found, i = np.empty_like(x), np.zeros(x.shape[1])
    for t, now in enumerate(x):
        found[t] = i = decay * i + gain * now
    return found


def _shifted(x: Array, by: int, steps: int) -> Array:
    """(T, n) -> (steps, n), later by `by` steps, 0 elsewhere."""
    found = np.zeros((steps, x.shape[1]))
    length = max(0, min(len(x), steps - by))
    found[by : by + length] = x[:length]
    return found


def _connection(p: Projection, factor: Array) -> Connection:
    start, end = np.nonzero(p.weight)
    return Connection(p.source, p.target, start, end, p.weight[start, end] * factor[end])


def changes(network: ChipNetwork) -> dict[str, Any]:
    """Biases as changes: by step, which neuron of which group gets which; `starts` says where each step begins."""
    parts: list[tuple[Array, Array, Array, Array]] = []
    for k, group in enumerate(network.groups.values()):
        if group.bias is None:
            continue
        bias = group.bias.astype(np.float32)
        before = np.concatenate([np.zeros((1, group.size), np.float32), bias[:-1]])
        t, neuron = np.nonzero(bias != before)
        parts.append((t, neuron, np.full(len(t), k), bias[t, neuron].astype(np.float64)))
    empty = np.zeros(0, np.int64)
    t, neuron, population, value = (
        np.concatenate(columns) for columns in zip(*(parts or [(empty, empty, empty, empty)]), strict=True)
    )
    order = np.argsort(t, kind="stable")
    starts = np.searchsorted(t[order], np.arange(network.steps + 1))
    return {"neuron": neuron[order], "population": population[order], "value": value[order], "starts": starts}
