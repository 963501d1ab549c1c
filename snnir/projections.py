"""What a graph means to a chip that knows only neurons and weights: populations, and dense matrices between them.

Everything linear between two populations (dense, convolution, pooling, scaling, reshaping, concatenation, sums
of parallel paths) is one matrix per delay. It is found by sending unit vectors through the graph's own ops, so it holds
for every linear op that the interpreter knows. For chips that know convolutions, it may be kernels instead
(`snnir.kernels`), where it is one: composed op by op, and then held to the ops themselves on random images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod
from weakref import WeakKeyDictionary

import numpy as np

from snnir.discretise import Recurrence, delay_steps, recurrence
from snnir.errors import CompileError, Violation
from snnir.graph import Graph
from snnir.interpreter.run import edge_lags
from snnir.interpreter.stateless import STATELESS
from snnir.kernels import kernels_from
from snnir.networks import Network, Population, Projection, Reading
from snnir.ops import Array, Constant, Delay, Neuron, Op, Output, Threshold

__all__ = ["LINEAR_OPS", "Network", "Population", "Projection", "Reading", "read_network"]

LINEAR_OPS: frozenset[type[Op]] = frozenset(kind for kind in STATELESS if kind.linear and kind is not Output)
"""The ops without state that are linear in every port, so that paths of them are matrices."""

_ROWS = 1 << 22  # elements of one batch of unit vectors on its way through the graph


_read: WeakKeyDictionary[Graph, dict[Reading, Network]] = WeakKeyDictionary()


def read_network(graph: Graph, reading: Reading) -> Network:
    """The populations and projections of a sound graph. The answer is kept with the graph.

    Never raises for a network that does not fit: what cannot be read is in `faults`.
    """
    known = _read.setdefault(graph, {})
    if reading not in known:
        known[reading] = _Reader(graph, reading).network()
    return known[reading]


class _Reader:
    def __init__(self, graph: Graph, reading: Reading) -> None:
        self.graph = graph
        self.reading = reading
        self.faults: list[Violation] = []
        self.lags = edge_lags(graph, graph.semantics)[0]
        self.between = [
            n for n, op in graph.ops.items() if type(op) in LINEAR_OPS or isinstance(op, (Delay, Output, Constant))
        ]
        self.delays: dict[str, Array] = {}
        self.zero: dict[str, Array] = {}

    def network(self) -> Network:
        graph = self.graph
        populations = {
            n: self._population(n, op) for n, op in graph.ops.items() if isinstance(op, self.reading.neurons)
        }
        inputs = {n: prod(graph.shapes[n]) for n in graph.inputs}
        outputs = {n: graph.shapes[n] for n in graph.outputs}
        self.targets = {*populations, *outputs}
        found: list[Projection] = []
        constants: dict[str, dict[int, Array]] = {}
        sizes = {**inputs, **{n: p.size for n, p in populations.items()}}
        complete = False
        largest = max(sizes[n] for n in sizes) if sizes else 0
        together = largest * max((p.size for p in populations.values()), default=0)
        if self.reading.kernels == "never" and together > self.reading.largest:
            where = max(sizes, key=lambda n: sizes[n])
            what = f"{sizes[where]} neurons or channels: too large to look at its connections"
            self.faults.append(Violation(f"{self.reading.prefix}-size", what, where, expected=self.reading.room))
        elif complete := self._prepared():
            for name in sizes:
                found += self._of_source(name, sizes[name])
            constants = self._constants()
        position = {name: i for i, name in enumerate(graph.ops)}
        found.sort(key=lambda p: (position[p.target], position[p.source], p.delay))
        return Network(inputs, populations, outputs, tuple(found), constants, tuple(self.faults), complete)

    def _population(self, name: str, op: Neuron | Threshold) -> Population:
        shape = self.graph.shapes[name]
        try:
            rule = _memoryless(op) if isinstance(op, Threshold) else recurrence(op, self.graph.semantics)
        except CompileError as error:
            self._fault(error)
            return Population(name, op, shape, None)
        flat = {k: None if v is None else np.broadcast_to(v, shape).reshape(-1) for k, v in vars(rule).items()}
        return Population(name, op, shape, Recurrence(**flat))  # type: ignore[arg-type]

    def _fault(self, error: CompileError) -> None:
        """Notes why something cannot be read; one reason for many ops is noted once."""
        there = {v.rule for v in self.faults}
        self.faults += [v for v in error.violations if v.rule not in there]

    def _prepared(self) -> bool:
        """Puts the ops between populations into running order and reads their delays and biases."""
        import networkx as nx

        graph = self.graph
        structure = graph.to_networkx().subgraph(self.between)
        if not nx.is_directed_acyclic_graph(structure):
            loop = [a for a, _ in nx.find_cycle(structure)]
            what = f"the cycle {' -> '.join([*loop, loop[0]])} holds delays but no neuron"
            rule = f"{self.reading.prefix}-delay-loop"
            self.faults.append(Violation(rule, what, loop[0], hint="every loop needs a spiking neuron"))
            return False
        rank = {n: i for i, n in enumerate(graph.ops)}
        self.order = list(nx.lexicographical_topological_sort(structure, key=lambda n: rank[n]))
        for name in self.order:
            op = graph[name]
            if isinstance(op, Delay):
                try:
                    self.delays[name] = np.broadcast_to(delay_steps(op, graph.semantics), graph.shapes[name])
                except CompileError as error:
                    self._fault(error)
            elif isinstance(op, Constant) and op.series:
                what, hint = "its values change from step to step", "make it an input"
                self.faults.append(Violation(f"{self.reading.prefix}-series", what, name, hint=hint))
            elif not isinstance(op, (Output, Constant)):
                blank = [np.zeros((1, *graph.shapes[self._feeder(name, port)])) for port in op.ports]
                self.zero[name] = STATELESS[type(op)](op, *blank)
        return not any(isinstance(graph[n], Delay) and n not in self.delays for n in self.order)

    def _feeder(self, name: str, port: str) -> str:
        return next(e.source for e in self.graph.incoming[name] if e.port == port)

    # -- matrices or kernels ---------------------------------------------------------------------------------------

    def _of_source(self, source: str, size: int) -> Iterator[Projection]:
        """All projections from a source."""
        reach = self._reach(source)
        targets = {e.target for name in (source, *reach) for e in self.graph.outgoing[name]} & self.targets
        mode = self.reading.kernels
        if mode == "never":
            yield from self._projections(source, size, targets)
            return
        pairs = {name: size * prod(self.graph.shapes[name]) for name in sorted(targets)}
        most = self.reading.largest if source in self.graph.inputs else min(self.reading.small, self.reading.largest)
        wanted = {name for name, n in pairs.items() if mode != "matrix" and (mode == "conv" or n > most)}
        kernels, reasons = self._kernels(source, wanted) if wanted else ([], {})
        yield from kernels
        matrices = {name for name in targets if name not in wanted or name in reasons}
        for name in sorted(matrices):
            if pairs[name] > self.reading.largest:
                self.faults.append(self._too_large(source, name, pairs[name], reasons.get(name, "")))
        fits = {name for name in matrices if pairs[name] <= self.reading.largest}
        for p in self._projections(source, size, fits) if fits else ():
            yield replace(p, why=reasons.get(p.target, f"{pairs[p.target]} weights are few"))

    def _too_large(self, source: str, target: str, pairs: int, reason: str) -> Violation:
        return Violation(
            f"{self.reading.prefix}-size",
            f"from {source} it is reached by a matrix of {pairs} weights" + (f", since {reason}" if reason else ""),
            where=target,
            expected=self.reading.room,
            hint="make the layers smaller, or put neurons between the ops that are no convolution together",
        )

    def _kernels(self, source: str, targets: set[str]) -> tuple[list[Projection], dict[str, str]]:
        """Kernels from `source` to those of `targets` that are reached by some alone; why the others are not."""
        reasons: dict[str, str] = {}
        found: list[Projection] = []
        ends = kernels_from(self.graph, source, self._towards(source, targets), self.lags, self.order, self.delays)
        for (target, delay), ways in ends.items():
            if target not in targets:
                continue
            broken = [way for way in ways if isinstance(way, str)]
            if broken:
                reasons[target] = broken[0]
                continue
            kernels = [way for way in ways if not isinstance(way, str) and way.weight.any()]
            found += [Projection(source, target, delay, np.zeros((0, 0)), kernel) for kernel in kernels]
        found = [p for p in found if p.target not in reasons]
        for target in self._differing(source, targets - set(reasons), found):
            reasons[target] = "its ops, run on random images, give something else than the convolution they seem to be"
        return [p for p in found if p.target not in reasons], reasons

    def _differing(self, source: str, targets: set[str], found: list[Projection]) -> set[str]:
        """The targets that two random images show to be reached otherwise than by `found`."""
        images = np.random.default_rng(0).standard_normal((2, *self.graph.shapes[source]))
        wanted = self._forward(source, images, self._towards(source, targets), targets)
        for p in found:
            if p.target in targets and p.kernel is not None:
                geometry, weight = p.kernel.lowered()
                got = geometry.apply(weight, images)
                wanted[p.target, p.delay] = wanted.get((p.target, p.delay), 0.0) - got
        scale = max((float(np.abs(p.kernel.weight).max()) for p in found if p.kernel is not None), default=1.0)
        return {target for (target, _), left in wanted.items() if np.abs(left).max(initial=0.0) > 1e-9 * scale}

    def _towards(self, source: str, targets: set[str]) -> set[str]:
        """The ops between a source and some targets."""
        reach = self._reach(source)
        seen: set[str] = set()
        open_ = [e.source for name in targets for e in self.graph.incoming[name]]
        while open_:
            name = open_.pop()
            if name in reach and name not in seen:
                seen.add(name)
                open_ += [e.source for e in self.graph.incoming[name]]
        return seen | (reach & targets)

    # -- unit vectors forward --------------------------------------------------------------------------------------

    def _projections(self, source: str, size: int, targets: set[str]) -> Iterator[Projection]:
        """Matrices from a source to some targets."""
        reach = self._towards(source, targets)
        widest = max((prod(self.graph.shapes[n]) for n in reach), default=1)
        rows = max(1, min(size, _ROWS // widest))
        parts: dict[tuple[str, int], list[tuple[int, Array]]] = {}
        for start in range(0, size, rows):
            unit = np.eye(min(rows, size - start), size, start).reshape(-1, *self.graph.shapes[source])
            for key, value in self._forward(source, unit, reach, targets).items():
                parts.setdefault(key, []).append((start, value))
        for (target, delay), blocks in parts.items():
            weight = np.zeros((size, blocks[0][1].shape[1]))
            for start, block in blocks:
                weight[start : start + len(block)] = block
            if weight.any():
                yield Projection(source, target, delay, weight)

    def _reach(self, source: str) -> set[str]:
        """The ops between populations that values of `source` pass."""
        seen, open_ = set(), [e.target for e in self.graph.outgoing[source]]
        between = set(self.between)
        while open_:
            name = open_.pop()
            if name in between and name not in seen:
                seen.add(name)
                open_ += [e.target for e in self.graph.outgoing[name]]
        return seen

    def _forward(self, source: str, unit: Array, reach: set[str], targets: set[str]) -> dict[tuple[str, int], Array]:
        """Where `unit` (N, *shape) arrives: (target, delay) -> (N, targets)."""
        arriving: dict[tuple[str, str], dict[int, Array]] = {}
        ends: dict[tuple[str, int], Array] = {}

        def send(name: str, values: dict[int, Array]) -> None:
            for edge in self.graph.outgoing[name]:
                lag = self.lags.get(edge, 0)
                for delay, value in values.items():
                    if edge.target in self.targets and edge.target not in targets:
                        continue
                    if edge.target in targets:
                        key = (edge.target, delay + lag)
                        ends[key] = ends.get(key, 0) + value.reshape(len(unit), -1)
                    elif edge.target in reach:
                        slot = arriving.setdefault((edge.target, edge.port), {})
                        slot[delay + lag] = slot.get(delay + lag, 0) + value

        send(source, {0: unit})
        for name in self.order:
            if name not in reach or name in self.targets:
                continue
            op = self.graph[name]
            given = {port: arriving[name, port] for port in op.ports if (name, port) in arriving}
            if not given:
                continue
            send(name, self._delayed(name, given["input"]) if isinstance(op, Delay) else self._through(name, given))
        return ends

    def _delayed(self, name: str, values: dict[int, Array]) -> dict[int, Array]:
        steps = self.delays[name]
        later: dict[int, Array] = {}
        for delay, value in values.items():
            for step in np.unique(steps):
                at = delay + int(step)
                later[at] = later.get(at, 0) + value * (steps == step)
        return later

    def _through(self, name: str, given: dict[str, dict[int, Array]]) -> dict[int, Array]:
        op = self.graph[name]
        some = next(iter(next(iter(given.values())).values()))
        out: dict[int, Array] = {}
        for delay in {d for values in given.values() for d in values}:
            inputs = [
                given.get(port, {}).get(delay, np.zeros((len(some), *self.graph.shapes[self._feeder(name, port)])))
                for port in op.ports
            ]
            out[delay] = STATELESS[type(op)](op, *inputs) - self.zero[name]
        return out

    # -- constants -------------------------------------------------------------------------------------------------

    def _constants(self) -> dict[str, dict[int, Array]]:
        """What arrives at every target while nothing spikes, by the step from which it does.

        A bias is there from the start, over late edges too (`Semantics.recurrent_bias_at_start`), which is written as
        onset -1 on the way. A Delay, whose line is empty at first, gives it a beginning; so does a late Constant.
        """
        early = -1 if self.graph.semantics.recurrent_bias_at_start else 0
        arriving: dict[tuple[str, str], dict[int, Array]] = {}
        for name in self.order:
            op = self.graph[name]
            if isinstance(op, Output):
                continue
            given = {port: arriving[name, port] for port in op.ports if (name, port) in arriving}
            if isinstance(op, Constant):
                values = {0: op.value.astype(np.float64)[None]}
            elif isinstance(op, Delay):
                values = self._delayed(name, _merged(given.get("input", {})))
            else:
                values = self._through(name, given) if given else {}
                values[early] = values.get(early, 0) + self.zero[name]
            for edge in self.graph.outgoing[name]:
                lag = self.lags.get(edge, 0)
                for onset, value in values.items():
                    slot = arriving.setdefault((edge.target, edge.port), {})
                    at = onset + lag if onset >= 0 else onset
                    slot[at] = slot.get(at, 0) + value
        found: dict[str, dict[int, Array]] = {}
        for target in self.targets:
            values = _merged(arriving.get((target, "input"), {}))
            flat = {onset: np.asarray(value).reshape(-1) for onset, value in values.items() if np.any(value)}
            found.update({target: flat} if flat else {})
        return found


def _memoryless(op: Threshold) -> Recurrence:
    zero, one = np.asarray(0.0), np.asarray(1.0)
    return Recurrence(zero, one, zero, zero, threshold=op.threshold.astype(np.float64), v_reset=zero)


def _merged(values: Mapping[int, Array]) -> dict[int, Array]:
    """Constants by onset; one that was always there begins at step 0."""
    merged: dict[int, Array] = {}
    for onset, value in values.items():
        merged[max(onset, 0)] = merged.get(max(onset, 0), 0) + value
    return merged
