"""A network as it is laid out on Xylo, in floats, and each of the chip's roundings, to be put in one at a time.

Before any rounding it is the network (but for what the layout itself bends: biases that begin early, resets that were
approximated). With all of them it is the chip, spike for spike. What a decay is rounded to keeps the charge of a spike,
as `quantise` does; so weights are de-quantised by charge, and weights and decays are two causes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np

from snnir.backends.xylo.artifact import XyloArtifact, as_events
from snnir.backends.xylo.chip import MAX_DASH, MAX_SPIKES
from snnir.backends.xylo.float_cells import EDGE, HIGH, XyloCells
from snnir.backends.xylo.float_numbers import Numbers, got_numbers, rounded_numbers, wanted_numbers
from snnir.backends.xylo.parts import STARTER_SPIKES, nearest_dash, time_constant
from snnir.backends.xylo.quantise import Cells as Integers
from snnir.ops import Array
from snnir.roundings import Cells, Link, Machine, Rounding, percent, span

_INPUTS_FIRST = 1 << 20  # added to the ids of hidden neurons: events of input channels come before theirs


class XyloFloats:
    """A `snnir.roundings.FloatModel` of an artifact whose chip runs at the network's own time step."""

    calibration = "calibration"

    def __init__(self, artifact: XyloArtifact) -> None:
        self.artifact = artifact
        self.plan, self.spec = artifact.plan, artifact.spec
        self.most = artifact.plan.semantics.spikes_per_step  # None: as many as fit
        self.wanted = {n: wanted_numbers(c) for n, c in artifact.cells.items()}
        self.rounded = {n: rounded_numbers(c, self.wanted[n]) for n, c in artifact.cells.items()}
        self.got = {n: got_numbers(c, self.wanted[n]) for n, c in artifact.cells.items()}

    @property
    def work(self) -> int:
        """As `FloatModel.work`."""
        return sum(f.weight.size for f in self.plan.feeds) + 20 * sum(n.threshold.size for n in self.wanted.values())

    @property
    def layout(self) -> str:
        """What was approximated, and how biases begin."""
        report = self.artifact.report
        bent = [v["what"] for v in report.get("approximations", ())]
        return "; ".join(bent + [n for n in report.get("notes", ()) if any(key in n for key in _LAYOUT)])

    # -- what is rounded -------------------------------------------------------------------------------------------

    @cached_property
    def roundings(self) -> tuple[Rounding, ...]:
        """Weights, biases, thresholds, decays, calibration, spikes per step, saturation, whole units."""
        return (
            self._of_weights(),
            self._of("biases", "8 bits, or weights from a driver", "constant", "of a threshold per step"),
            self._of("thresholds", "16 bits", "threshold", "of themselves"),
            self._of_decays("decay-membrane", "decay_mem"),
            self._of_decays("decay-synapse", "decay_syn"),
            self._of_calibration(),
            *self._of_counts(),
            Rounding("saturation", "states end at 16 bits, currents after every event: " + self._room()),
            Rounding("state-rounding", "decays take off whole units, of which a threshold has " + self._units()),
        )

    def _of_weights(self) -> Rounding:
        error = power = 0.0
        lost = total = 0
        for name, wanted in self.wanted.items():
            for w, got in zip(wanted.weights, self.got[name].weights, strict=True):
                unit = self.artifact.cells[name].ideal.threshold
                error, power = error + float((((got - w) / unit) ** 2).sum()), power + float(((w / unit) ** 2).sum())
                lost, total = lost + int(((w != 0) & (got == 0)).sum()), total + int((w != 0).sum())
        off = float(np.sqrt(error / power)) if power else 0.0
        lifting = any(_begins_off(c).any() for c in self.artifact.cells.values())
        gone = f", {lost:,} of {total:,} are 0" if lost else ""
        return Rounding(
            "weights", f"8 bits: off by {percent(off)} (root mean square){gone}", exact=error == 0 and not lifting
        )

    def _of(self, name: str, bits: str, field: str, unit: str) -> Rounding:
        off = 0.0
        for n, wanted in self.wanted.items():
            level = self.artifact.cells[n].ideal.threshold
            change = np.abs(getattr(self.rounded[n], field) - getattr(wanted, field)) / level
            if field == "threshold":
                change = np.maximum(change, np.abs(self.rounded[n].take - wanted.take) / level)
            off = max(off, float(change.max(initial=0.0)))
        return Rounding(name, f"{bits}: off by up to {percent(off)} {unit}", exact=off == 0)

    def _of_decays(self, name: str, field: str) -> Rounding:
        rule = self.plan.semantics.decay
        worst, said, same = -1.0, "", True
        for n, wanted in self.wanted.items():
            if field == "decay_syn" and self.artifact.cells[n].ideal.direct:
                continue
            want, got = getattr(wanted, field), getattr(self.got[n], field)
            same &= bool((want == got).all())
            a, b = time_constant(want, 1.0, rule), time_constant(got, 1.0, rule)
            off = np.abs(b / np.maximum(a, 1e-300) - 1.0)
            if off.size and float(off.max()) > worst:
                k = int(off.argmax())
                worst = float(off.max())
                before = f"{a[k]:.4g} steps" if np.isfinite(a[k]) else "no leak"
                said = f"{before} become{'s' if not np.isfinite(a[k]) else ''} {b[k]:.4g} in {n}"
        return Rounding(name, f"1 - 2^-dash: {said or 'there is none'}", exact=same)

    def _of_calibration(self) -> Rounding:
        off = drift = 0.0
        for n, rounded in self.rounded.items():
            level = self.artifact.cells[n].ideal.threshold
            got = self.got[n]
            off = max(off, float((np.abs(got.threshold - rounded.threshold) / level).max(initial=0.0)))
            off = max(off, float((np.abs(got.take - rounded.take) / level).max(initial=0.0)))
            drift = max(drift, float((np.abs(got.constant - rounded.constant) / level).max(initial=0.0)))
        moved = [f"thresholds by up to {percent(off)}"] if off else []
        moved += [f"biases by up to {percent(drift)} of a threshold per step"] if drift else []
        said = f"moved {' and '.join(moved) or 'nothing'}, to make up for the others"
        return Rounding("calibration", said, exact=not moved)

    def _of_counts(self) -> tuple[Rounding, Rounding]:
        means = "as many as fit" if self.most is None else f"{self.most}"
        fitting = [_fitting(c) for c in self.artifact.cells.values() if not c.ideal.is_output]
        most = np.concatenate([np.zeros(0), *fitting])
        return (
            Rounding(
                "spikes-per-step",
                f"a hidden neuron gives up to {most.max(initial=0.0):g} in a step, in the network {means}",
                exact=self.most is not None and bool((most == self.most).all()),
            ),
            Rounding(
                "output-spikes-per-step",
                f"an output gives 1 in a step, in the network {means}",
                exact=self.most == 1,
            ),
        )

    def _room(self) -> str:
        rooms = [HIGH / (c.scale * c.ideal.threshold) for c in self.artifact.cells.values()]
        return f"{span(rooms)} thresholds"

    def _units(self) -> str:
        return span([c.scale * c.ideal.threshold for c in self.artifact.cells.values()])

    # -- running ---------------------------------------------------------------------------------------------------

    def run(self, inputs: Mapping[str, Array], on: frozenset[str]) -> dict[str, Array]:
        """As `FloatModel.run`."""
        plan, lags = self.plan, self.plan.lags
        batch = as_events(plan, inputs).shape[:2]
        given = {n: np.asarray(inputs[n], np.float64).reshape(*batch, size) for n, size in plan.network.inputs.items()}
        links: list[Link] = []
        constants: dict[str, list[tuple[int, Array]]] = {}
        cells: list[Cells] = []
        for name, integers in self.artifact.cells.items():
            numbers = self._with(name, on)
            for feed, weight in zip(integers.ideal.feeds, numbers.weights, strict=True):
                late = lags[name] - (lags[feed.source] if feed.source in self.artifact.cells else 0)
                ids = feed.pre + (0 if feed.matrix == "in" else _INPUTS_FIRST)
                links.append(Link(feed.source, name, _times(weight), feed.delay + late, weight, ids))
            driven = self._driven(integers, on)
            if integers.ideal.driver is not None:
                constants[name] = [(self._onset(name), driven)]
            cells.append(self._cells(name, integers, numbers, numbers.constant - driven, on))
        found = Machine(cells, links, constants).run(given)
        populations = plan.network.populations
        shaped = {n: found[n].reshape(*found[n].shape[:2], *populations[n].shape) for n in populations}
        return shaped | {name: self._output(name, found, on) for name in plan.network.outputs}

    def _with(self, name: str, on: frozenset[str]) -> Numbers:
        """A population's numbers with some roundings."""
        wanted, rounded, got = self.wanted[name], self.rounded[name], self.got[name]

        def moved(field: str, kind: str) -> Array:
            value: Array = getattr(rounded if kind in on else wanted, field)
            if "calibration" not in on:
                return value
            both: Array = getattr(got, field)
            return both if kind in on else value + (both - getattr(rounded, field))

        decays = {f: getattr(got if k in on else wanted, f) for f, k in _DECAYS}
        return Numbers(
            decays["decay_mem"],
            decays["decay_syn"],
            got.weights if "weights" in on else wanted.weights,
            moved("threshold", "thresholds"),
            moved("take", "thresholds"),
            moved("constant", "biases"),
        )

    def _cells(self, name: str, integers: Integers, numbers: Numbers, drive: Array, on: frozenset[str]) -> Cells:
        ideal = integers.ideal
        most: float | Array = np.inf if self.most is None else float(self.most)
        if ideal.is_output:
            most = 1.0 if "output-spikes-per-step" in on else most
        elif "spikes-per-step" in on:
            most = _fitting(integers)
        strict = ideal.strict and "thresholds" not in on
        edge = EDGE / integers.scale if "thresholds" in on else 0.0
        direct = ideal.direct
        decay_syn = numbers.decay_mem if direct else numbers.decay_syn
        return XyloCells(
            name,
            ideal.size,
            decay=numbers.decay_mem,
            decay_syn=np.zeros(ideal.size) if direct else decay_syn,
            rise=np.ones(ideal.size) if direct else 1.0 - decay_syn,
            drive=drive,
            threshold=numbers.threshold - edge,
            take=numbers.take / numbers.decay_mem if direct and ideal.late else numbers.take,
            strict=strict,
            cap=most,
            direct=direct,
            scale=integers.scale,
            offset=integers.offset.astype(np.float64),
            lift=integers.offset / integers.scale if "spikes-per-step" in on else np.zeros(ideal.size),
            slow=nearest_dash(ideal.decay_mem) == MAX_DASH,
            first=self._onset(name) if ideal.starter is not None else 0,
            start=_begins_off(integers) if "weights" in on else np.zeros(ideal.size),
            ordered="saturation" in on,
            saturates="saturation" in on,
            whole="state-rounding" in on,
            ids=self._ids(name, integers),
        )

    def _ids(self, name: str, integers: Integers) -> dict[str, Array]:
        """Where the events come from that belong to a neuron alone: itself, its driver and its starter."""
        found: dict[str, Array] = {}
        for key, wire in (("driver", integers.ideal.driver), ("starter", integers.ideal.starter)):
            if wire is not None:
                found[key] = np.broadcast_to(wire.pre, integers.ideal.size) + _INPUTS_FIRST
        if integers.ideal.direct:
            found["own"] = self.plan.block_of[name].ids + _INPUTS_FIRST
        return found

    def _driven(self, integers: Integers, on: frozenset[str]) -> Array:
        """The part of a constant that comes from a driver, as charge; the rest is the neuron's own bias."""
        ideal = integers.ideal
        if ideal.driver is None:
            return np.zeros(ideal.size)
        if "biases" not in on:
            return ideal.constant
        own = np.zeros(ideal.size) if ideal.direct else integers.bias / integers.scale
        return np.asarray(self.got[ideal.name].constant - own)

    def _onset(self, name: str) -> int:
        late = self.plan.semantics.order == "membrane-first" and self.plan.network.populations[name].current_based
        return max(1, self.plan.lags[name] + int(late))

    def _output(self, name: str, found: Mapping[str, Array], on: frozenset[str]) -> Array:
        """An output in the chip's time: relays give every spike a step later, and one per step."""
        reads = self.plan.reads[name]
        parts = np.stack([found[population][:, :, index] for population, index in reads], axis=2)
        if self.plan.relayed:
            held = np.zeros_like(parts)
            held[1:] = parts[:-1]
            parts = np.minimum(held, 1.0) if self.most == 1 or "output-spikes-per-step" in on else held
        return parts.reshape(*parts.shape[:2], *self.plan.network.outputs[name])


_DECAYS = (("decay_mem", "decay-membrane"), ("decay_syn", "decay-synapse"))
_LAYOUT = ("membranes start at 0", "no room for a driver", "from a driver", "acts on the membrane", "from the first")


def _begins_off(integers: Integers) -> Array:
    """How far off its lift a lifted neuron begins, in the network's units: the starter's weights are rounded, too."""
    if integers.ideal.starter is None:
        return np.zeros(integers.ideal.size)
    given = integers.starting * STARTER_SPIKES * 2.0**integers.back
    return np.asarray((given - integers.offset) / integers.scale)


def _fitting(integers: Integers) -> Array:
    """The most spikes that a hidden neuron can give in a step: thresholds that 16 bits hold, 31 at most."""
    return np.minimum(HIGH // np.maximum(integers.threshold, 1), MAX_SPIKES).astype(np.float64)


def _times(weight: Array) -> Callable[[Array], Array]:
    return lambda sent: sent @ weight
