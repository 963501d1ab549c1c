"""From a layout in real numbers to the chip's integers.

Every neuron gets a scale of its own, `scale` units of the chip per unit of the source's membrane, which multiplies its
incoming weights, its bias and its threshold alike and so changes nothing but precision. A weight acts as q << S with S
common to a whole matrix, a threshold and a bias as they are: S > 0 lifts states above the least significant bits, where
the chip's decay rounds (and falls linearly instead of exponentially), without costing weight precision.

What the chip's decay cannot be is made up for as far as it goes: weights keep the charge of a postsynaptic current,
sum = amplitude * decay / (1 - decay) = q * (2^dash - 1), since a neuron that resets by subtraction spikes once per
threshold of charge, less what leaks. (Measured on random recurrent networks whose time constants are no powers of two:
5-9 % error in spike counts, against 9-60 % with thresholds that follow the membrane's rms or steady response.) What
remains is for calibration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from snnir.backends.xylo.chip import MAX_BIAS, MAX_DASH, MAX_SHIFT, MAX_STATE, MAX_WEIGHT
from snnir.backends.xylo.layout import Feed, Matrix, Plan, Wire
from snnir.backends.xylo.parts import STARTER_SPIKES, constant_drive, dash_decay, nearest_dash
from snnir.ops import Array

EVENTS_PER_STEP = 1.0
SPIKES_PER_STEP = 0.25
"""What every input channel and every neuron is taken to send per step, at most, where no recorded input says better."""


@dataclass(frozen=True, eq=False)
class Ideal:
    """One population in real numbers, as the chip's neurons should behave.

    Attributes:
        name: of the population; direct: LIF or IF neurons (see `parts`).
        decay_mem, decay_syn: per step; DIRECT neurons have only the first, which their synapse takes over.
        charge: per feed, what one spike adds to the membrane in all (sources, targets), before any leak.
        constant: what the membrane receives in every step.
        threshold: what the membrane is compared with; take: what a spike takes off it.
        rest: what the chip's zero stands for (v_leak, for DIRECT neurons that start there); start: the membrane's.
        driver: the wire that brings `constant` as spikes, or None; starter: the one that lifts DIRECT neurons.
        cut: whether a bias that 8 bits do not hold is cut off there, rather than the neuron's scale made smaller.
        lift: how far above its value in the source a DIRECT neuron's membrane stands (see `parts`).
        strict: whether the source spikes at v > threshold only.
        late: whether a spike resets at the next step, after the membrane has decayed.
        is_output: whether its neurons are output neurons.
    """

    name: str
    direct: bool
    decay_mem: Array
    decay_syn: Array
    feeds: tuple[Feed, ...]
    charge: tuple[Array, ...]
    constant: Array
    threshold: Array
    take: Array
    rest: Array
    start: Array
    cut: bool
    lift: Array
    driver: Wire | None
    starter: Wire | None
    strict: bool
    late: bool
    is_output: bool

    @property
    def size(self) -> int:
        return len(self.threshold)


@dataclass(frozen=True)
class Shifts:
    """weight_shift of the three matrices."""

    into: int = 0
    rec: int = 0
    out: int = 0

    def of(self, matrix: Matrix) -> int:
        return {"in": self.into, "rec": self.rec, "out": self.out}[matrix]


@dataclass(frozen=True, eq=False)
class Cells:
    """One population in integers, one value per neuron.

    Attributes:
        shifts: of the matrices that `weights` (one per feed), `returning` and `driving` stand in.
        scale: units of the chip per unit of the source's membrane.
        returning: DIRECT neurons' weights to themselves; driving, starting: weights from driver and starter.
        offset: what stands on DIRECT neurons' membranes and thresholds, by their lift.
    """

    ideal: Ideal
    shifts: Shifts
    dash_mem: Array
    dash_syn: Array
    scale: Array
    threshold: Array
    bias: Array
    weights: tuple[Array, ...]
    returning: Array
    driving: Array
    starting: Array
    offset: Array

    @property
    def back(self) -> int:
        """The shift of `returning` and `driving`."""
        return self.shifts.of("out" if self.ideal.is_output else "rec")

    @property
    def leak(self) -> Array:
        """The dash that stands for the membrane's decay."""
        return self.dash_syn if self.ideal.direct else self.dash_mem


@dataclass(frozen=True, eq=False)
class Peaks:
    """Largest magnitudes (targets,) that states reach, in the source's units.

    `room`: what membranes need in any case, in thresholds.
    """

    membrane: Array
    current: Array
    room: float = 2.0


def ideals(plan: Plan) -> dict[str, Ideal]:
    """The populations of a plan in real numbers, not lifted yet."""
    return {name: _ideal(plan, name) for name in plan.network.populations}


def _ideal(plan: Plan, name: str) -> Ideal:
    population = plan.network.populations[name]
    rule = population.rule
    assert rule is not None  # a plan without faults knows the time step
    assert rule.threshold is not None
    feeds = tuple(f for f in plan.feeds if f.target == name)
    direct = not population.current_based
    decay_syn, charge, rest = rule.decay, rule.gain, np.zeros(population.size)
    if rule.decay_syn is not None and rule.gain_syn is not None:
        decay_syn, charge = rule.decay_syn, rule.gain * rule.gain_syn / (1.0 - rule.decay_syn)
    elif plan.semantics.start == "rest":
        rest = rule.start
    return Ideal(
        name=name,
        direct=direct,
        decay_mem=rule.decay,
        decay_syn=decay_syn,
        feeds=feeds,
        charge=tuple(f.weight * charge for f in feeds),
        constant=constant_drive(plan.network, name, plan.semantics),
        threshold=rule.threshold - rest,
        take=rule.threshold,
        rest=rest,
        start=rule.start,
        cut=False,
        lift=np.zeros(population.size),
        driver=next((w for w in plan.biases if w.target == name), None),
        starter=next((w for w in plan.starts if w.target == name), None),
        strict=plan.semantics.comparison == ">",
        late=plan.semantics.reset.startswith("delayed"),
        is_output=name in plan.outputs,
    )


def lifted(ideal: Ideal, peaks: Peaks, margin: float = 1.5) -> Ideal:
    """The population with the lift that keeps its membranes below their second spike of a step."""
    if ideal.starter is None:
        return ideal
    return replace(ideal, lift=np.maximum(margin * peaks.membrane - 2.0 * ideal.threshold, 0.0))


def amplitudes(ideal: Ideal, dash_syn: Array) -> Array:
    """Weight on the chip per unit of charge (targets,). The chip's current has decayed once before it first acts."""
    return 1.0 / dash_decay(dash_syn) if ideal.direct else 1.0 / (2.0**dash_syn - 1.0)


def assumed_peaks(ideal: Ideal) -> Peaks:
    """Peaks for input nobody has recorded: all channels and neurons at their assumed rates, pushing the same way."""
    up, down = np.maximum(ideal.constant, 0.0), np.maximum(-ideal.constant, 0.0)
    for feed, charge in zip(ideal.feeds, ideal.charge, strict=True):
        rate = EVENTS_PER_STEP if feed.matrix == "in" else SPIKES_PER_STEP
        up, down = up + rate * np.maximum(charge, 0).sum(axis=0), down + rate * np.maximum(-charge, 0).sum(axis=0)
    if ideal.direct:  # jumps pile up while spikes take them off one by one
        return Peaks(3.0 * (np.abs(ideal.threshold) + up), np.zeros_like(up))
    return Peaks(np.abs(ideal.threshold) + up, np.maximum(up, down))


def scale_limit(ideal: Ideal, peaks: Peaks) -> Array:
    """The largest scale (targets,) at which what `peaks` says stays within 16 bits."""
    before = dash_decay(nearest_dash(ideal.decay_syn))  # a current must fit before its decay, too
    membrane = np.maximum(peaks.room * np.abs(ideal.threshold), peaks.membrane) + ideal.lift
    largest = np.maximum(membrane / (before if ideal.direct else 1.0), peaks.current / before)
    return MAX_STATE / np.maximum(largest, 1e-300)


def best_shifts(all_ideals: Mapping[str, Ideal], limits: Mapping[str, Array], apart: int = MAX_SHIFT) -> Shifts:
    """Per matrix, the shift at which 8 bits of weight just reach the limit, for the population that needs most.

    `apart`: how far the shifts of `in` and `rec` may differ (relays need units that both can write).
    """
    rooms: dict[Matrix, list[float]] = {"in": [], "rec": [], "out": []}

    def note(matrix: Matrix, largest: Array, limit: Array) -> None:
        if (largest > 0).any():
            rooms[matrix].append(float(np.median(np.log2((limit * largest)[largest > 0] / MAX_WEIGHT))))

    for ideal in all_ideals.values():
        per_charge = amplitudes(ideal, nearest_dash(ideal.decay_syn))
        for feed, charge in zip(ideal.feeds, ideal.charge, strict=True):
            note(feed.matrix, np.abs(charge).max(axis=0) * per_charge, limits[ideal.name])
        helped = np.abs(ideal.constant) * per_charge if ideal.driver is not None else np.zeros(ideal.size)
        helped = np.maximum(helped, ideal.threshold) if ideal.direct else helped
        note("out" if ideal.is_output else "rec", helped, limits[ideal.name])
    found = {m: int(np.clip(np.ceil(max(room, default=0.0) + 0.25), 0, MAX_SHIFT)) for m, room in rooms.items()}
    found["in"] = min(found["in"], found["rec"] + apart)
    found["rec"] = min(found["rec"], found["in"] + apart)
    return Shifts(found["in"], found["rec"], found["out"])


def quantise(
    ideal: Ideal,
    shifts: Shifts,
    limit: Array,
    *,
    dash_mem: Array | None = None,
    dash_syn: Array | None = None,
    follow: Array | None = None,
    extra: Array | None = None,
) -> Cells:
    """One population in integers.

    Args:
        ideal: the population.
        shifts: of the weight matrices.
        limit: largest scale per neuron (`scale_limit`).
        dash_mem, dash_syn: default the nearest.
        follow: what thresholds (and what spikes take off) are multiplied with.
        extra: added to the constant (DIRECT: taken off the threshold), in the source's units.
    """
    dash_mem = nearest_dash(ideal.decay_mem) if dash_mem is None else dash_mem
    dash_syn = (dash_mem if ideal.direct else nearest_dash(ideal.decay_syn)) if dash_syn is None else dash_syn
    follow = np.ones(ideal.size) if follow is None else follow
    extra = np.zeros(ideal.size) if extra is None else extra
    per_charge = amplitudes(ideal, dash_syn)
    wanted = [charge * per_charge for charge in ideal.charge]
    take = ideal.take * follow * (per_charge if ideal.late else 1.0) if ideal.direct else np.zeros(ideal.size)
    by_driver = ideal.constant * per_charge if ideal.driver is not None else np.zeros(ideal.size)
    slow = nearest_dash(ideal.decay_mem) == MAX_DASH  # hardly leaks: nothing need keep a lift up
    hold = np.where(slow, 0.0, ideal.lift / (2.0**dash_syn - 1.0))
    back = 2.0 ** shifts.of("out" if ideal.is_output else "rec")
    scale = limit / np.maximum(follow, 1.0)
    for feed, weight in zip(ideal.feeds, wanted, strict=True):
        scale = np.minimum(scale, _bound(np.abs(weight).max(axis=0), 2.0 ** shifts.of(feed.matrix)))
    largest = np.maximum.reduce([take + _own(ideal, wanted), np.abs(by_driver) + hold, ideal.lift / STARTER_SPIKES])
    scale = np.minimum(scale, (MAX_WEIGHT - 1) * back / np.maximum(largest, 1e-300))  # sums of two that are rounded
    if not ideal.direct:
        scale = _on_grid(ideal, wanted, shifts, scale)
    constant = ideal.constant + (0.0 if ideal.direct else extra)
    if ideal.driver is None and not ideal.direct and not ideal.cut:
        scale = np.minimum(scale, MAX_BIAS / np.maximum(np.abs(constant), 1e-300))
    if ideal.direct:  # what a spike takes off must be a multiple of the matrix's unit
        unit = back / np.maximum(take, 1e-300)
        scale = np.where(scale >= unit, np.floor(scale / unit + 1e-9) * unit, scale)
    weights = [
        np.clip(np.rint(w * scale / 2.0 ** shifts.of(f.matrix)), -MAX_WEIGHT, MAX_WEIGHT).astype(np.int64)
        for f, w in zip(ideal.feeds, wanted, strict=True)
    ]
    holding = np.rint(hold * scale / back)
    # A state that a constant keeps up rests in the middle of those whose decay is that constant.
    kept = np.where(holding > 0, holding * back * (2.0**dash_syn - 1.0) + 2.0 ** (dash_syn - 1.0), 0.0)
    offset = np.rint(np.where(slow, ideal.lift * scale, kept))
    driving = np.rint(by_driver * scale / back)
    left = constant * scale - driving * back * (2.0**dash_syn - 1.0)
    bias = np.zeros(ideal.size) if ideal.direct else np.clip(np.rint(left), -MAX_BIAS, MAX_BIAS)
    level = ideal.threshold * follow - (extra if ideal.direct else 0.0)
    return Cells(
        ideal=ideal,
        shifts=shifts,
        dash_mem=np.zeros_like(dash_mem) if ideal.direct else dash_mem,
        dash_syn=dash_syn,
        scale=scale,
        threshold=np.minimum(integer_threshold(level * scale, ideal.strict) + offset, MAX_STATE).astype(np.int64),
        bias=bias.astype(np.int64),
        weights=tuple(weights),
        returning=-np.rint(take * scale / back).astype(np.int64),
        driving=(driving + holding).astype(np.int64),
        # An offset that rests amid its states may be above the lift that the scale was chosen for.
        starting=np.minimum(np.rint(offset / (STARTER_SPIKES * back)), MAX_WEIGHT).astype(np.int64),
        offset=offset.astype(np.int64),
    )


def _bound(largest: Array, unit: float) -> Array:
    return (MAX_WEIGHT + 0.49) * unit / np.maximum(largest, 1e-300)


def trained_as_integers(ideal: Ideal) -> bool:
    """Whether all weights are 8-bit integers times a scale per neuron already, the largest of each neuron 127."""
    if ideal.direct:
        return False
    per_charge = amplitudes(ideal, nearest_dash(ideal.decay_syn))
    grid, whole = _grid(ideal, [charge * per_charge for charge in ideal.charge], Shifts())
    return bool((whole | (grid > 1e200)).all())  # a neuron without weights is on any grid


def _on_grid(ideal: Ideal, wanted: Sequence[Array], shifts: Shifts, scale: Array) -> Array:
    """Scales at which weights that were trained as 8-bit integers stay these very integers."""
    grid, whole = _grid(ideal, wanted, shifts)
    return np.where(whole & (grid <= scale), grid, scale)


def _grid(ideal: Ideal, wanted: Sequence[Array], shifts: Shifts) -> tuple[Array, Array]:
    """The scale that makes each neuron's largest weight 127, and whether all its others are then whole, too."""
    units = [2.0 ** shifts.of(feed.matrix) for feed in ideal.feeds]
    sizes = [np.abs(w).max(axis=0, initial=0.0) / unit for w, unit in zip(wanted, units, strict=True)]
    largest = np.max([np.zeros(ideal.size), *sizes], axis=0)
    grid = MAX_WEIGHT / np.maximum(largest, 1e-300)
    whole = largest > 0
    for weight, unit in zip(wanted, units, strict=True):
        q = weight * grid / unit
        whole &= np.abs(q - np.rint(q)).max(axis=0, initial=0.0) < 1e-3
    return grid, whole


def _own(ideal: Ideal, wanted: Sequence[Array]) -> Array:
    """Magnitude of each neuron's weight to itself, which shares a place with what its spikes take off."""
    total = np.zeros(ideal.size)
    for feed, weight in zip(ideal.feeds, wanted, strict=True):
        if feed.matrix == "rec" and np.array_equal(feed.pre, feed.post):
            total += np.abs(np.diag(weight))
    return total


def integer_threshold(value: Array, strict: bool) -> Array:
    """The chip fires at v >= threshold. Rounded; where the source asks for v > x and x is whole, one more."""
    nearest = np.rint(value)
    whole = np.abs(value - nearest) < 1e-6 * np.maximum(np.abs(value), 1.0)
    return np.clip(nearest + (strict & whole), 1, MAX_STATE).astype(np.int64)
