"""A network as it is laid out for Loihi, in floats, and each rounding of its integers, to be put in one at a time.

Before any rounding the layout is the network, spike for spike (but for what was approximated). With all of them it is
the chip, but for what exponents below 0 cut off of sums of graded spikes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from snnir.backends.lava.artifact import LavaArtifact
from snnir.backends.lava.chip import ALIGN, MAX_THRESHOLD, STATE_LIMIT, UNITY
from snnir.backends.lava.inputs import Code
from snnir.backends.lava.plan import Wire
from snnir.backends.lava.quantise import Quantised
from snnir.backends.lava.ways import connections_of, ways_of
from snnir.ops import Array
from snnir.roundings import Cells, Link, Machine, Rounding, near, percent, span
from snnir.simulators.loihi import Connection


class LavaFloats:
    """A `snnir.roundings.FloatModel` of an artifact."""

    calibration = ""

    def __init__(self, artifact: LavaArtifact) -> None:
        self.artifact, self.plan = artifact, artifact.plan
        self.strict = artifact.graph.semantics.comparison == ">"
        self.of = {q.cell.name: q for q in artifact.cells}
        self.relays = {q.cell.name: q.cell.relay for q in artifact.cells if q.cell.relay}
        self.spiking = [q for q in artifact.cells if q.cell.trace == "spikes" and not q.cell.driver]

    @property
    def layout(self) -> str:
        """What was approximated."""
        meant = self.artifact.graph.semantics
        bent = (
            [] if meant.reset == "value" else [f"a spike sets the membrane to v_reset, in the network: {meant.reset}"]
        )
        bent += [] if meant.membrane_floor is None else [f"membranes do not end at {meant.membrane_floor:g}"]
        bent += [v["what"] for v in self.artifact.report.get("approximations", ())]
        return "; ".join([*bent, *self.plan.notes])

    @property
    def work(self) -> int:
        """As `FloatModel.work`."""
        return sum(q.weights + 20 * q.cell.size for q in self.artifact.cells)

    # -- what is rounded -------------------------------------------------------------------------------------------

    @cached_property
    def roundings(self) -> tuple[Rounding, ...]:
        """Weights, biases, thresholds, decays, numbers that go in, saturation, whole units."""
        return (
            self._of_weights(),
            self._of_biases(),
            self._of_thresholds(),
            self._of_decays("decay-membrane"),
            self._of_decays("decay-synapse"),
            self._of_inputs(),
            Rounding("graded-sums", "what numbers give over weights below a unit is cut off", exact=not self._below()),
            Rounding("saturation", f"membranes end at 24 bits: {self._room()} thresholds"),
            Rounding("state-rounding", "states are whole units after decay, of which a threshold has " + self._units()),
        )

    def _of_weights(self) -> Rounding:
        own = [q for q in self.artifact.cells if not q.cell.relay and q.weights]
        total = sum(q.weights for q in own)
        off = float(np.sqrt(sum(q.weights * q.weight_error**2 for q in own) / max(total, 1)))
        lost = sum(q.lost for q in own)
        gone = f", {lost:,} of {total:,} are 0" if lost else ""
        said = (
            f"{self.artifact.weight_bits} bits: off by {percent(off if off > _NONE else 0.0)} (root mean square){gone}"
        )
        return Rounding("weights", said, exact=off <= _NONE)

    def _of_biases(self) -> Rounding:
        off = 0.0
        for q in self.artifact.cells:
            off = max(off, float(np.abs(self._bias(q, True) - self._bias(q, False)).max(initial=0.0)))
        for wire in self.plan.wires:
            if wire.driven:
                off = max(off, float(np.abs(self._acting(wire) - wire.weight).max(initial=0.0)))
        said = f"12 bits and an exponent: off by up to {percent(off)} of a threshold per step"
        return Rounding("biases", said, exact=off == 0)

    def _of_thresholds(self) -> Rounding:
        off = max((abs(q.vth / q.scale - 1.0) for q in self.spiking), default=0.0)
        return Rounding("thresholds", f"17 bits: off by up to {percent(off)}", exact=off == 0 and self.strict)

    def _of_decays(self, name: str) -> Rounding:
        worst, said, same = -1.0, "", True
        for q in self.artifact.cells:
            if q.cell.driver or q.cell.relay or q.cell.trace == "u":
                continue
            want, got = (self._decays(q, rounded)[name == "decay-synapse"] for rounded in (False, True))
            if name == "decay-synapse" and not q.cell.current_based:
                continue
            same &= bool((want == got).all())
            off = np.abs(got - want) / np.maximum(1.0 - want, 1.0 / UNITY)
            if off.size and float(off.max()) > worst:
                k = int(off.argmax())
                worst = float(off[k])
                said = f"{want[k]:.6g} per step becomes {np.broadcast_to(got, off.shape)[k]:.6g} in {q.cell.source}"
        return Rounding(name, f"4096ths: {said or 'there is none'}", exact=same)

    def _of_inputs(self) -> Rounding:
        codes = [c for c in self.artifact.codes.values() if c.graded and c.scale != 1.0]
        said = "spikes or whole numbers, as they are"
        if codes:
            said = f"numbers in steps of {max(1.0 / c.scale for c in codes):.3g}, cut at "
            said += f"{min(c.peak / c.scale for c in codes):.4g}"
        return Rounding("inputs", said, exact=not codes)

    def _below(self) -> bool:
        """Whether some connection of numbers has an exponent below 0."""
        connections = [c for c in self.artifact.spec.connections if isinstance(c, Connection)]
        return any(c.graded and c.weight_exp < 0 for c in connections)

    def _room(self) -> str:
        return span([STATE_LIMIT / (ALIGN * q.scale) for q in self.spiking])

    def _units(self) -> str:
        return span([ALIGN * q.scale for q in self.spiking])

    # -- running ---------------------------------------------------------------------------------------------------

    def run(self, inputs: Mapping[str, Array], on: frozenset[str]) -> dict[str, Array]:
        """As `FloatModel.run`."""
        given = {name: self._sent(code, np.asarray(inputs[name], np.float64), on) for name, code in self._codes()}
        cells = [self._cells(q, on) for q in self.artifact.cells if not q.cell.driver and not q.cell.relay]
        links: list[Link] = []
        constants: dict[str, list[tuple[int, Array]]] = {}
        for wire in self.plan.wires:
            if wire.target in self.relays:
                continue
            if wire.driven:
                weight = self._acting(wire) if "biases" in on else wire.weight
                constants.setdefault(wire.target, []).append((1 + wire.delay, weight[:, 0]))
                continue
            links += self._links(wire, on)
        found = Machine(cells, links, constants).run(given)
        return self._populations(found) | self._outputs(found)

    def _codes(self) -> list[tuple[str, Code]]:
        return list(self.artifact.codes.items())

    def _sent(self, code: Code, x: Array, on: frozenset[str]) -> Array:
        """An input as it is sent, (T, B, size), in its own units."""
        x = x.reshape(*x.shape[:2], -1)
        if not code.graded or "inputs" not in on:
            return x
        return np.asarray(np.clip(np.rint(x * code.scale), -code.peak, code.peak) / code.scale)

    def _links(self, wire: Wire, on: frozenset[str]) -> Iterator[Link]:
        source, held = wire.source, 0
        if source in self.relays:
            source, held = self.relays[source]
        scale = self.of[wire.target].scale
        for apply, cut in self._sums(wire, source, on):
            link = _whole(apply, scale) if cut and "graded-sums" in on else apply
            yield Link(source, wire.target, link, 1 + wire.delay + held)

    def _sums(self, wire: Wire, source: str, on: frozenset[str]) -> Iterator[tuple[Callable[[Array], Array], bool]]:
        """What a wire makes of what is sent, in the sums that the chip makes, and whether it cuts off their digits."""
        code = self.artifact.codes.get(source)
        graded = code is not None and code.graded
        if "weights" not in on:
            yield wire.apply, graded and wire.geometry is None and self._below()
        elif code is None or not graded or wire.geometry is not None:
            if code is not None and code.base:
                yield from ((_of_part(w.apply, code, n), False) for n, w in self._by_part(wire, code).items())
            else:
                yield replace(wire, weight=self._acting(wire)).apply, False
        else:
            scale = self.of[wire.target].scale
            for way in ways_of(wire, self.artifact.codes, self.artifact.weight_bits):
                part = way.wire.source
                for made in connections_of(way, scale)[0]:
                    assert isinstance(made, Connection)
                    weight = made.weights * (2.0**made.weight_exp / scale / code.parts[part][0])
                    apply = replace(wire, weight=weight).apply
                    yield _of_part(apply, code, part) if code.base else apply, made.weight_exp < 0

    def _by_part(self, wire: Wire, code: Code) -> dict[str, Wire]:
        """The wires of the two parts in which large integers go in, weights that act per unit of the input."""
        found: dict[str, Wire] = {}
        for way in ways_of(wire, self.artifact.codes, self.artifact.weight_bits):
            name = way.wire.source
            got = connections_of(way, self.of[wire.target].scale)[1] / code.parts[name][0]
            found[name] = replace(wire, weight=got + (found[name].weight if name in found else 0.0))
        return found

    def _acting(self, wire: Wire) -> Array:
        """The weights that act, in thresholds per unit of what is sent."""
        code = self.artifact.codes.get(wire.source)
        unit = 1.0 if code is None or not code.graded else code.scale
        got = np.zeros_like(wire.weight)
        for way in ways_of(wire, self.artifact.codes, self.artifact.weight_bits):
            got += connections_of(way, self.of[wire.target].scale)[1] * unit
        return near(got, wire.weight)

    def _bias(self, q: Quantised, rounded: bool) -> Array:
        exact = np.broadcast_to(self.plan.bias.get(q.cell.name, np.zeros(1)), q.cell.size)
        if not rounded or q.cell.driver:
            return exact
        return near(np.broadcast_to(q.bias_mant * 2.0**q.bias_exp / (ALIGN * q.scale), q.cell.size), exact)

    def _decays(self, q: Quantised, rounded: bool) -> tuple[Array, Array]:
        """Of membrane and current."""
        cell = q.cell
        if not rounded:
            return cell.decay, cell.decay_syn
        keep = np.full(cell.size, (UNITY - cell.dv) / UNITY), np.full(cell.size, (UNITY - 1 - cell.du) / UNITY)
        return near(keep[0], cell.decay), near(keep[1], cell.decay_syn)

    def _cells(self, q: Quantised, on: frozenset[str]) -> Cells:
        cell = q.cell
        own = next(p for p in self.artifact.spec.populations if p.name == cell.name)
        threshold = None if cell.trace != "spikes" else np.full(cell.size, 1.0)
        if threshold is not None and "thresholds" in on:
            threshold = np.full(cell.size, q.vth / q.scale)
        return _LavaCells(
            cell.name,
            cell.size,
            decay=self._decays(q, "decay-membrane" in on)[0],
            decay_syn=self._decays(q, "decay-synapse" in on)[1],
            rise=np.ones(cell.size),
            drive=self._bias(q, "biases" in on),
            threshold=threshold,
            strict=self.strict or "thresholds" in on,
            trace=cell.trace,
            reset=(own.reset_interval, own.reset_offset),
            units=ALIGN * q.scale,
            saturates="saturation" in on,
            whole="state-rounding" in on,
        )

    def _populations(self, found: Mapping[str, Array]) -> dict[str, Array]:
        values: dict[str, Array] = {}
        for name, population in self.plan.network.populations.items():
            cells = self.plan.cells_of(name)
            if cells[0].trace != "spikes":
                continue
            first = found[cells[0].name]
            every = np.zeros((*first.shape[:2], population.size))
            for cell in cells:
                every[:, :, cell.ids] = found[cell.name]
            values[name] = every.reshape(*first.shape[:2], *population.shape)
        return values

    def _outputs(self, found: Mapping[str, Array]) -> dict[str, Array]:
        values: dict[str, Array] = {}
        for name, read in self.plan.reads.items():
            steps, batch = found[read.cells[0]].shape[:2]
            first = np.cumsum([0, *(found[c].shape[2] for c in read.cells)])
            every = np.concatenate([found[c] for c in read.cells], axis=2)[:, :, first[read.which] + read.index]
            for late in np.unique(read.shift[read.shift > 0]):
                held = np.zeros_like(every)
                held[late:] = every[: max(0, steps - late)]
                every = np.where(read.shift == late, held, every)
            values[name] = (every + read.constant).reshape(steps, batch, *self.plan.network.outputs[name])
        return values


_EDGE = 1e-6  # units: decayed integers that were divided by a scale are truncated as integers
_NONE = 1e-9  # of weights: what the choice of V leaves where all lie on a grid


@dataclass(eq=False, kw_only=True)
class _LavaCells(Cells):
    """Neurons that can do their arithmetic in whole `units`, of which a threshold has so many."""

    units: float
    saturates: bool
    whole: bool

    def advance(self, a: Array) -> None:
        """State before spikes: decays round towards zero, membranes end at 24 bits."""
        if not (self.saturates or self.whole):
            super().advance(a)
            return
        self.u = self._kept(self.u, self.decay_syn) + a
        self.v = self._kept(self.v, self.decay) + self.u + self.drive
        if self.saturates:
            most = (STATE_LIMIT - 1) / self.units
            self.v = np.clip(self.v, -most, most)
            if self.threshold is None:  # what never spikes does, where it is as high as a threshold can be
                self.v = np.where(self.v * self.units > ALIGN * MAX_THRESHOLD, 0.0, self.v)

    def _kept(self, state: Array, decay: Array) -> Array:
        kept = state * decay
        if not self.whole:
            return kept
        units = kept * self.units
        return np.asarray(np.trunc(units + np.sign(units) * _EDGE) / self.units)


def _whole(apply: Callable[[Array], Array], scale: float) -> Callable[[Array], Array]:
    """Sums in whole units, as the chip's shift to the right makes them."""
    return lambda sent: np.asarray(np.floor(apply(sent) * scale + _EDGE) / scale)


def _of_part(apply: Callable[[Array], Array], code: Code, name: str) -> Callable[[Array], Array]:
    """What arrives of the high or the low part of numbers that go in as two."""

    def of(sent: Array) -> Array:
        high = np.floor((np.rint(sent * code.scale) + code.base // 2) / code.base) * (code.base / code.scale)
        return apply(high if name == code.name else sent - high)

    return of
