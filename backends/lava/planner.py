"""From a graph to its layout on Loihi (`snnir.backends.lava.plan`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod
from typing import Literal, get_args
from weakref import WeakKeyDictionary

import numpy as np

from snnir.backends.lava.chip import MAX_DELAY, UNITY
from snnir.backends.lava.convolutions import convolutions, relayed, selection
from snnir.backends.lava.plan import FORGET, PART, RELAY, Cell, Plan, Read, Trace, Wire, mark
from snnir.discretise import Recurrence
from snnir.errors import Violation
from snnir.graph import Graph
from snnir.kernels import NoKernel
from snnir.lags import timing
from snnir.ops import Array, Neuron, Threshold
from snnir.projections import Network, Population, Projection, Reading, read_network
from snnir.semantics import Semantics

Conv = Literal["auto", "matrix", "conv"]
LARGEST = 1 << 24  # weights of a matrix
READINGS: dict[Conv, Reading] = {
    mode: Reading(
        "lava",
        neurons=(Neuron, Threshold),
        room=f"at most {LARGEST} weights in a matrix" + ("" if mode == "matrix" else ", or what is one convolution"),
        largest=LARGEST,
        kernels=mode,
    )
    for mode in get_args(Conv)
}

_plans: WeakKeyDictionary[Graph, dict[Conv, Plan]] = WeakKeyDictionary()


def plan(graph: Graph, conv: Conv = "auto") -> Plan:
    """The layout of a sound graph, kept with it. Never raises for one that does not fit: the rules judge the plan.

    `conv`: whether convolutions are Lava's Conv where they can be ("conv"), matrices ("matrix"), or Lava's where the
    matrix would be large ("auto").
    """
    known = _plans.setdefault(graph, {})
    if conv not in known:
        network = read_network(graph, READINGS[conv])
        ready = network.complete and all(p.rule is not None for p in network.populations.values())
        known[conv] = _Planner(network, graph.semantics).plan() if ready else Plan(network, faults=network.faults)
    return known[conv]


def spiking(population: Population) -> bool:
    """Whether its neurons spike; otherwise its membranes are read by the host."""
    return population.op.spiking


def level_of(rule: Recurrence) -> Array:
    """What the chip's 0 stands for: the reset's value, and of what never spikes where it starts."""
    return rule.start if rule.v_reset is None else rule.v_reset


class _Planner:
    def __init__(self, network: Network, semantics: Semantics) -> None:
        self.network = network
        self.semantics = semantics
        self.faults: list[Violation] = list(network.faults)
        self.notes: list[str] = []
        self.part = mark(PART, network)
        self.driver = f"{self.part}driver"
        self.direct = {name: self._selected(name) for name in network.outputs}
        self.readouts = [name for name, found in self.direct.items() if found is None]
        self._check_membranes()
        cells = {*network.populations, *self.readouts}
        self.timing = timing(
            tuple(network.inputs),
            (*network.populations, *self.readouts),
            [replace(p, delay=p.delay + self._late(p.target)) for p in network.projections if p.target in cells],
            prefix="lava",
            input_lag=0,
            least=1,  # so that drivers, which need a step themselves, are in time for all
        )

    def _late(self, target: str) -> int:
        """With the membrane updated before the current, what arrives acts one step later."""
        population = self.network.populations.get(target)
        current_based = population is not None and population.current_based
        return int(current_based and self.semantics.order == "membrane-first")

    # -- outputs ---------------------------------------------------------------------------------------------------

    def _selected(self, name: str) -> tuple[tuple[Projection, int], ...] | None:
        """Per element of an output the projection and the neuron that it is; None where it is a weighted sum."""
        arriving = self.network.into(name)
        size = int(np.prod(self.network.outputs[name]))
        if name in self.network.constants or not all(p.source in self.network.populations for p in arriving):
            return None
        if len({spiking(self.network.populations[p.source]) for p in arriving}) > 1:
            return None
        which, index = np.zeros((2, size), int)
        found = np.zeros(size)
        for k, p in enumerate(arriving):
            selected = selection(p, self.network.size(p.source))
            if selected is None:
                return None
            count, neuron = selected
            found += count
            which, index = np.where(count > 0, k, which), np.where(count > 0, neuron, index)
        if not (found == 1).all():
            return None
        return tuple((arriving[k], i) for k, i in zip(which.tolist(), index.tolist(), strict=True))

    def _check_membranes(self) -> None:
        """Membranes can be read, but not sent."""
        for p in self.network.projections:
            if p.source not in self.network.populations or spiking(self.network.populations[p.source]):
                continue
            if p.target in self.network.outputs and self.direct[p.target] is not None:
                continue
            self.faults.append(
                Violation(
                    "lava-membrane",
                    f"the membranes of {p.source} ({self.network.populations[p.source].op.kind}) go into {p.target}",
                    where=p.source,
                    expected="spikes between neurons; a membrane can only be read as it is, by an output",
                    hint="let the layer spike, or move what follows it to the host",
                )
            )
        for name in self.readouts:
            if not self.network.into(name):
                what = "nothing but constants arrives" if name in self.network.constants else "nothing arrives"
                self.faults.append(Violation("lava-output", what, where=name, hint="remove the output"))

    # -- the plan --------------------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        self.lags = {name: lag for name, lag in self.timing.lags.items() if name not in self.network.inputs}
        cells = [*(c for n in self.network.populations for c in self._cells(n)), *map(self._readout, self.readouts)]
        self.of = {name: [c for c in cells if c.source == name] for name in (*self.network.populations, *self.readouts)}
        wires = relayed(list(self._wires()), cells, mark(RELAY, self.network))
        bias, driven, resets = self._constants(cells, wires)
        if driven:
            cells.append(_driver(self.driver))
        reads = {name: self._read(name) for name in self.network.outputs}
        return Plan(
            self.network,
            tuple(cells),
            (*wires, *driven),
            reads,
            bias,
            resets,
            {**self.lags, **{name: read.lag for name, read in reads.items()}},
            tuple(self.faults),
            self.timing.slow_loops,
            tuple(self.notes),
        )

    def _cells(self, name: str) -> Iterator[Cell]:
        """A population, in parts of equal du and dv."""
        population = self.network.populations[name]
        rule = population.rule
        assert rule is not None  # otherwise nothing is laid out
        pairs = np.stack(integer_decays(rule, population.size), axis=1)
        kinds, part = np.unique(pairs, axis=0, return_inverse=True)
        part = part.reshape(-1)
        level, threshold = level_of(rule), rule.threshold
        unit = np.ones(population.size) if threshold is None else threshold - level
        gain = rule.gain if rule.gain_syn is None else rule.gain * rule.gain_syn
        drive = rule.drive - (1.0 - rule.decay) * level
        trace: Trace = "spikes" if spiking(population) else "v"
        for k, (du, dv) in enumerate(kinds.tolist()):
            ids = np.flatnonzero(part == k)
            yield Cell(
                name=name if len(kinds) == 1 else f"{name}{self.part}{k}",
                source=name,
                ids=ids,
                trace=trace,
                decay=rule.decay[ids],
                decay_syn=np.zeros(len(ids)) if rule.decay_syn is None else rule.decay_syn[ids],
                du=du,
                dv=dv,
                level=level[ids],
                unit=np.where(unit > 0, unit, 1.0)[ids],  # the rules refuse the others
                gain=gain[ids],
                drive=drive[ids],
                lag=self.lags[name],
            )

    def _readout(self, name: str) -> Cell:
        """What adds up the currents of an output: its u is read, and it never spikes."""
        size = int(np.prod(self.network.outputs[name]))
        zero, one, ids = np.zeros(size), np.ones(size), np.arange(size)
        return Cell(name, name, ids, "u", zero, zero, FORGET, FORGET, zero, one, one, zero, self.lags[name])

    def _wires(self) -> Iterator[Wire]:
        for p in self.timing.projections:
            if p.kernel is None:
                yield from self._matrices(p)
                continue
            pairs = prod(p.kernel.source) * prod(p.kernel.target)
            try:
                if p.source in self.network.inputs and self.timing.slack(p) and pairs <= LARGEST:
                    raise NoKernel("Lava's Conv has no delays, and relays in front of it would hand on no numbers")
                if self.timing.slack(p) > MAX_DELAY:
                    raise NoKernel(f"it would take {self.timing.slack(p)} relays, one per step of delay")
                for wire in convolutions(p.kernel, self._parts(p.source), self.of[p.target]):
                    yield replace(wire, delay=self.timing.slack(p), source_delay=p.delay)
            except NoKernel as reason:
                if pairs <= LARGEST:
                    geometry, weight = p.kernel.lowered()
                    yield from self._matrices(replace(p, weight=geometry.matrix(weight), why=str(reason)))
                    continue
                what = f"from {p.source} it is reached by a matrix of {pairs} weights, since {reason}"
                hint = "make the layers smaller, or let the neurons of a channel share thresholds and time constants"
                self.faults.append(Violation("lava-size", what, p.target, expected=READINGS["auto"].room, hint=hint))

    def _parts(self, source: str) -> list[tuple[str, Array | None]]:
        """The cells of a source, and which of its neurons they are; an input is one, of all."""
        parts = [(c.name, c.ids) for c in self.of.get(source, ())]
        return [*parts] or [(source, None)]

    def _matrices(self, p: Projection) -> Iterator[Wire]:
        for cell in self.of[p.target]:
            scaled = (p.weight[:, cell.ids] * (cell.gain / cell.unit)).T
            for name, ids in self._parts(p.source):
                weight = scaled if ids is None else scaled[:, ids]
                if weight.any():
                    yield Wire(name, cell.name, weight, self.timing.slack(p), p.delay, why=p.why)

    def _read(self, name: str) -> Read:
        found = self.direct[name]
        size = int(np.prod(self.network.outputs[name]))
        if found is None:
            constant = np.broadcast_to(self.network.constants.get(name, {}).get(0, 0.0), size)
            zero = np.zeros(size, int)
            return Read((name,), zero, np.arange(size), zero, "u", self.lags[name], constant)
        lags = [max(0, self.lags[p.source] - p.delay) for p, _ in found]
        late = max([0, *lags])
        # Element e of step t is what its neuron does in step t + lag - delay; in the output's time, `shift` steps ago.
        shift = np.array([late - (self.lags[p.source] - p.delay) for p, _ in found], int)
        names = tuple(dict.fromkeys(c.name for p, _ in found for c in self.of[p.source]))
        place = {
            (c.source, int(n)): (names.index(c.name), k)
            for p in {id(p): p for p, _ in found}.values()
            for c in self.of[p.source]
            for k, n in enumerate(c.ids)
        }
        where = np.array([place[p.source, i] for p, i in found], int).reshape(-1, 2)
        level = np.zeros(size)
        trace: Trace = self.of[found[0][0].source][0].trace if found else "spikes"
        if trace == "v":
            cells = {c.name: c for p, _ in found for c in self.of[p.source]}
            level = np.array([cells[names[which]].level[k] for which, k in where])
        return Read(names, where[:, 0], where[:, 1], shift, trace, late, level)

    # -- constants -------------------------------------------------------------------------------------------------

    def _constants(self, cells: list[Cell], wires: list[Wire]) -> tuple[dict[str, Array], list[Wire], dict[str, int]]:
        """Biases of cells, wires from the driver, and resets."""
        bias: dict[str, Array] = {}
        driven: list[Wire] = []
        for cell in cells:
            own = cell.drive / cell.unit
            for onset, value in self.network.constants.get(cell.source, {}).items():
                part = value[cell.ids] * cell.gain / cell.unit
                if onset == 0 and cell.trace == "u":
                    continue  # the host adds it
                late = self._late(cell.source)
                if onset + late == 0 and not cell.current_based:
                    own = own + part
                elif part.any():
                    driven.append(self._driven(cell, part, onset + late))
            if own.any():
                bias[cell.name] = own
        loose = _loose(bias, wires)
        if _comes_back(loose, wires):
            for cell in cells:
                if cell.name in bias and not cell.current_based:
                    driven.append(self._driven(cell, bias.pop(cell.name), 0))
            loose = _loose(bias, wires)
            if _comes_back(loose, wires):
                what = "their leak drives them from the run's first step, before the network's time begins there"
                self.notes.append(f"{', '.join(bias)}: {what}")
        return bias, driven, {cell.name: cell.lag for cell in cells if cell.name in loose}

    def _driven(self, cell: Cell, part: Array, onset: int) -> Wire:
        return Wire(self.driver, cell.name, part[:, None], cell.lag + onset - 1, driven=True)


def _driver(name: str) -> Cell:
    """A neuron that spikes in every step: its bias alone is above its threshold."""
    one, zero, ids = np.ones(1), np.zeros(1), np.zeros(1, int)
    return Cell(name, name, ids, "spikes", zero, zero, FORGET, FORGET, zero, one, one, zero, 0, driver=True)


def _loose(bias: Mapping[str, Array], wires: list[Wire]) -> set[str]:
    """The cells that may do something before the network's time begins there: those with biases, and all behind."""
    found = list(bias)
    for name in found:  # grows while it is walked
        found += [w.target for w in wires if w.source == name and w.target not in found]
    return set(found)


def _comes_back(loose: set[str], wires: list[Wire]) -> bool:
    """Whether what happened before a network's time began would act within it."""
    return any(w.source_delay > 0 for w in wires if w.source in loose)


def integer_decays(rule: Recurrence, size: int) -> tuple[Array, Array]:
    """du and dv of every neuron: its current keeps (4095 - du)/4096 in a step, its membrane (4096 - dv)/4096."""
    dv = np.clip(np.rint(UNITY * (1.0 - rule.decay)), 0, FORGET).astype(int)
    if rule.decay_syn is None:
        return np.full(size, FORGET), dv
    return np.clip(np.rint(UNITY * (1.0 - rule.decay_syn)) - 1, 0, FORGET).astype(int), dv
