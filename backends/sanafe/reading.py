"""What of a graph and its input SANA-FE can take, and the reasons where it cannot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from snnir.backends.sanafe.chip import CORES, NEURONS, NEURONS_PER_CORE, SYNAPSES
from snnir.cost import cost
from snnir.errors import CompileError, Violation
from snnir.graph import Graph
from snnir.interpreter import interpret
from snnir.ops import Array, Conv, ConvTranspose2d, Neuron, Pool2d, Repeat, TemporalMean
from snnir.projections import Network, Projection, Reading, read_network
from snnir.synapses import fan_out

READING = Reading("sanafe", neurons=(Neuron,), room=f"{CORES} cores of {NEURONS_PER_CORE} neurons")
TITLE = "SANA-FE's Loihi model cannot take this network"


class Reader:
    """A graph, one sample of its input, and what the interpreter makes of it.

    Attributes:
        network: populations and matrices between them. length: steps of the input.
        spiking_inputs: inputs that hold 0 and 1 only; the others come from a host.
        senders: spiking inputs and spiking populations. receivers: populations, and outputs that read currents.
        spikes: sender -> (T, size).
    """

    network: Network

    def __init__(self, graph: Graph, x: Mapping[str, Array]) -> None:
        self.graph = graph
        self.inputs = {n: np.asarray(v[:, :1], np.float64) for n, v in x.items()}
        self.length = len(next(iter(self.inputs.values())))
        self.spiking_inputs = [n for n, v in self.inputs.items() if bool(np.isin(v, (0.0, 1.0)).all())]
        self.populations = [n for n, op in graph.ops.items() if isinstance(op, Neuron)]
        self.sums = [n for n in graph.outputs if _reads_currents(graph, n)]
        self.receivers = [*self.populations, *self.sums]

    def check(self) -> None:
        """Reads the network, and runs it.

        Raises:
            CompileError: with every reason why SANA-FE cannot take it.
        """
        faults = [*self._semantics(), *self._size()]
        if not faults:
            self.network = read_network(self.graph, READING)
            faults = [*self.network.faults, *(self._network() if self.network.complete else ())]
        if faults:
            raise CompileError(faults, title=TITLE)
        spiking = [n for n in self.populations if self.graph[n].spiking]
        _, recorded = interpret(self.graph, self.inputs, record=spiking)
        self.senders = [*self.spiking_inputs, *spiking]
        self.spikes = {n: v.reshape(self.length, -1) for n, v in {**self.inputs, **recorded}.items()}

    def from_host(self, name: str) -> tuple[Array, int]:
        """What reaches a population and is no spike, (T, size), and the multiply-accumulates it takes."""
        found = np.zeros((self.length, self.network.populations[name].size))
        macs = 0
        for p in self.network.into(name):
            if p.source in self.inputs and p.source not in self.spiking_inputs:
                x = self.spikes[p.source]
                found[p.delay :] += (x @ p.weight)[: self.length - p.delay]
                macs += int((x != 0).sum(axis=0) @ np.count_nonzero(p.weight, axis=1))
        for onset, value in self.network.constants.get(name, {}).items():
            found[max(onset, 0) :] += value
        return found, macs

    def synapse_unit(self, name: str, arriving: Sequence[Projection]) -> str:
        """The synapse unit of a population: of convolutions, dense or sparse weights, as most of its synapses are."""
        counts = {"loihi_conv_synapse": 0, "loihi_dense_synapse": 0, "loihi_sparse_synapse": 0}
        for p in arriving:
            entries = int(np.count_nonzero(p.weight))
            dense = "loihi_dense_synapse" if 2 * entries > p.weight.size else "loihi_sparse_synapse"
            counts["loihi_conv_synapse" if self._windowed(p) else dense] += entries
        return max(counts, key=lambda unit: counts[unit]) if arriving else "loihi_sparse_synapse"

    def _windowed(self, p: Projection) -> bool:
        kinds = (Conv, ConvTranspose2d, Pool2d)
        between = _walk(self.graph, p.source, True) & _walk(self.graph, p.target, False)
        return any(isinstance(self.graph[name], kinds) for name in between)

    # -- reasons ---------------------------------------------------------------------------------------------------

    def _semantics(self) -> Iterator[Violation]:
        s = self.graph.semantics
        current_based = any(hasattr(self.graph[n], "tau_syn") for n in self.populations)
        hint = "--no-sanafe leaves it out"
        for wrong, what, expected in (
            (s.dt is None, "the time step is not known", "dt"),
            (s.decay == "shift", "decays are shifts of integers", "a network before it is lowered to integers"),
            (s.reset not in ("value", "subtract"), f"reset {s.reset!r}", "'value' or 'subtract'"),
            (s.spikes_per_step != 1, f"{s.spikes_per_step or 'any number of'} spikes per step", "1"),
            (s.membrane_floor is not None, f"membranes have a floor, {s.membrane_floor}", "none"),
            (s.latency_input or s.latency_neuron, "it has latencies", "the network before it is lowered"),
            (current_based and s.order != "synapse-first", f"order {s.order!r}", "'synapse-first'"),
        ):
            if wrong:
                yield Violation("sanafe-semantics", what, expected=expected, hint=hint)
        for name, op in self.graph.ops.items():
            if isinstance(op, (Repeat, TemporalMean)):
                what = "populations take steps of their own within a step"
                where = f"{name} ({op.kind})"
                yield Violation("sanafe-steps", what, where, expected="one step for all", hint=hint)
                break

    def _size(self) -> Iterator[Violation]:
        shapes = self.graph.shapes
        names = [*self.spiking_inputs, *self.receivers]
        neurons = sum(int(np.prod(shapes[n])) for n in names)
        if neurons > NEURONS:
            expected = f"{NEURONS:,} ({CORES} cores of {NEURONS_PER_CORE})"
            yield Violation("sanafe-neurons", f"{neurons:,} neurons and spiking inputs", expected=expected)
        synapses = cost(self.graph).synapses
        if synapses > SYNAPSES:
            yield _too_many(synapses)

    def _network(self) -> Iterator[Violation]:
        for name, population in self.network.populations.items():
            rule = population.rule
            if rule is None or rule.threshold is None:
                for p in self.network.projections:
                    if p.source == name and p.target in self.network.populations:
                        yield Violation("sanafe-numbers", f"sends numbers to {p.target}", name, expected="spikes")
                continue
            if (np.asarray(rule.threshold) <= rule.start).any():
                yield Violation("sanafe-threshold", "neurons that spike at rest", name, expected="threshold > v_leak")
            if self.graph.semantics.reset == "subtract" and np.any(rule.start):
                yield Violation("sanafe-reset", "reset by subtraction and v_leak that is not 0", name, expected="0")
        into = [p for p in self.network.projections if p.target in self.receivers]
        senders = {*self.spiking_inputs, *(n for n in self.populations if self.graph[n].spiking)}
        synapses = sum(int(np.count_nonzero(p.weight)) for p in into if p.source in senders)
        if synapses > SYNAPSES:
            yield _too_many(synapses)


def _too_many(synapses: int) -> Violation:
    what, why = f"{synapses:,} synapses", "SANA-FE takes about 1 kB and 20 us for each"
    return Violation("sanafe-synapses", what, expected=f"at most {SYNAPSES:,}: {why}")


def _walk(graph: Graph, name: str, onward: bool) -> set[str]:
    """The ops that values of `name` pass before they reach neurons (or that they passed since)."""
    step = graph.outgoing if onward else graph.incoming
    ends = [e.target if onward else e.source for e in step[name]]
    seen: set[str] = set()
    while ends:
        at = ends.pop()
        if at in seen or isinstance(graph[at], Neuron):
            continue
        seen.add(at)
        ends += [e.target if onward else e.source for e in step[at]]
    return seen


def _reads_currents(graph: Graph, output: str) -> bool:
    """Whether synapses lie between an output and the spiking neurons before it."""
    passed = _walk(graph, output, False)
    feeders = {e.source for name in (output, *passed) for e in graph.incoming[name]}
    weighted = any(
        fan_out(graph[n], graph.shapes[graph.incoming[n][0].source]) is not None for n in passed if graph.incoming[n]
    )
    return weighted and any(graph[n].spiking for n in feeders)
