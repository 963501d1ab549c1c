"""Loihi's integer neurons and synapses as Lava computes them, bit for bit, for a whole batch at once, in NumPy.

Arithmetic: Lava 0.10 (lava-nc), the `fixed_pt` process models of `LIF`, `LIFReset`, `Dense`, `DelayDense`, `Sparse` and
`DelaySparse` (`lava/proc/{lif,dense,sparse}/models.py`, `lava/utils/weightutils.py`). Once per connection:

    w = clip(w): 0..255 excitatory (and "null"), -255..0 inhibitory, -256..255 mixed signs
    w = (w >> k) << k,  k = 8 - num_weight_bits + (1 if mixed)   # floor; of -w if inhibitory

so mixed weights of 8 bits are even. One step t, with tz(x) = x / 4096 rounded towards zero:

    a = sum over connections of  (w @ s[t - 1 - delay]) << weight_exp   # or >> -weight_exp: the floor of the whole sum
    u = wrap(tz(u * (4095 - du)) + (a << 6))    # u > 2**23: u - 2**24;  u <= -2**23: u + 2**24
    v = clip(tz(v * (4096 - dv)) + u + (bias_mant << bias_exp), -(2**23 - 1), 2**23 - 1)
    s = v > (vth << 6);  v = 0 where s          # strictly above; hard reset

A current that leaves its range changes sign without a word: `largest_currents` says beforehand whether it can. Every
connection takes one step, inputs' too. Sums that leave int32 wrap, as in Lava.

This file needs NumPy and nothing else, and imports nothing of snnir, so that it can travel with a compiled network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

__all__ = [
    "CURRENT_LIMIT",
    "MAX_DELAY",
    "MAX_THRESHOLD",
    "SIGN_MODES",
    "Connection",
    "LoihiRun",
    "LoihiSpec",
    "Population",
    "effective_weights",
    "largest_currents",
    "simulate",
]

Array = np.ndarray[Any, np.dtype[Any]]

CURRENT_LIMIT = 2**23  # a current of this size wraps (or, positive, is the last one that does not)
MAX_DELAY = 63
MAX_THRESHOLD = 2**17 - 1
SIGN_MODES = ("auto", "null", "mixed", "excitatory", "inhibitory")

_UNITY = 4096
_ALIGN = 6  # activations and thresholds are shifted by this much against u and v
_BLOCK = 2**17  # drives computed ahead at a time, in values
_POPULATION = {
    "vth": (0, MAX_THRESHOLD),
    "du": (-1, _UNITY - 1),
    "dv": (0, _UNITY),
    "bias_mant": (-_UNITY, _UNITY - 1),
    "bias_exp": (0, 7),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Population:
    """`size` LIF neurons (CUBA) under Lava's own parameter names; each a scalar or one value per neuron, integers.

    `vth` 0..131071, `du` -1..4095, `dv` 0..4096, `bias_mant` -4096..4095, `bias_exp` 0..7. The current keeps
    (4095 - du)/4096 per step and the membrane (4096 - dv)/4096; du = -1 and dv = 4096 are one beyond the chip's 12
    bits, and Lava takes them. With a `reset_interval` above 0 (`LIFReset`), u and v are zeroed before the update in
    every step t, counted from 1, with t % reset_interval == reset_offset % reset_interval.
    """

    name: str
    size: int
    vth: Any
    du: Any = 0
    dv: Any = 0
    bias_mant: Any = 0
    bias_exp: Any = 0
    reset_interval: int = 0
    reset_offset: int = 0

    def __post_init__(self) -> None:
        for name in _POPULATION:
            object.__setattr__(self, name, _integers(getattr(self, name)))

    def problems(self) -> Iterator[str]:
        """What does not fit, one message each."""
        if self.size < 1:
            yield f"population {self.name!r} has size {self.size}, expected at least 1"
        if self.reset_interval < 0:
            yield f"population {self.name!r}: reset_interval is {self.reset_interval}, expected 0 (never) or more"
        for name, bounds in _POPULATION.items():
            values = getattr(self, name)
            if values.shape not in ((), (self.size,)):
                yield f"population {self.name!r}: {name} has shape {values.shape}, expected () or ({self.size},)"
            yield from _out_of(values, *bounds, f"population {self.name!r}: {name}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Connection:
    """Synapses from an input or a population to a population: Lava's Dense, Sparse, or with delays DelayDense.

    `weights` (n_target, n_source): integers; `effective_weights` gives what acts. `delays`, in steps beyond the one
    that every connection takes: a scalar or one per synapse, 0..63. `sign_mode` "auto" is Lava's own choice: from the
    weights' signs. `graded` multiplies by the value that arrives; otherwise anything but 0 is one spike.
    """

    source: str
    target: str
    weights: Array
    weight_exp: int = 0
    num_weight_bits: int = 8
    sign_mode: str = "auto"
    delays: Any = 0
    graded: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", _integers(self.weights))
        object.__setattr__(self, "delays", _integers(self.delays))

    def problems(self, sizes: Mapping[str, int], targets: set[str]) -> Iterator[str]:
        """What does not fit, one message each; `sizes` of all inputs and populations, `targets` the populations."""
        where = f"connection {self.source!r} -> {self.target!r}"
        if self.source not in sizes:
            yield f"{where}: there is no input or population {self.source!r}"
        if self.target not in targets:
            yield f"{where}: there is no population {self.target!r}"
        if self.source in sizes and self.target in targets:
            expected = (sizes[self.target], sizes[self.source])
            if self.weights.shape != expected:
                yield f"{where}: weights have shape {self.weights.shape}, expected {expected}"
        if self.delays.shape not in ((), self.weights.shape):
            yield f"{where}: delays have shape {self.delays.shape}, expected () or {self.weights.shape}"
        yield from _out_of(self.weights, -(2**31), 2**31 - 1, f"{where}: weights")
        yield from _out_of(self.delays, 0, MAX_DELAY, f"{where}: delays")
        if self.weight_exp not in range(-8, 8):
            yield f"{where}: weight_exp is {self.weight_exp}, allowed -8..7"
        if self.num_weight_bits not in range(1, 9):
            yield f"{where}: num_weight_bits is {self.num_weight_bits}, allowed 1..8"
        if self.sign_mode not in SIGN_MODES:
            yield f"{where}: sign_mode is {self.sign_mode!r}, expected one of {', '.join(SIGN_MODES)}"


@dataclass(frozen=True, kw_only=True, eq=False)
class LoihiSpec:
    """A network for Loihi: `inputs` (name to size), populations, and the connections between them.

    Several connections into one population sum. Raises ValueError, with every problem listed, if a name, a shape or a
    range does not fit.
    """

    inputs: Mapping[str, int]
    populations: tuple[Population, ...]
    connections: tuple[Connection, ...]

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ValueError("not a Loihi network: " + "; ".join(problems))

    def _problems(self) -> Iterator[str]:
        names = [*self.inputs, *(p.name for p in self.populations)]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"the name {name!r} is used more than once"
        for name, size in self.inputs.items():
            if size < 1:
                yield f"input {name!r} has size {size}, expected at least 1"
        for population in self.populations:
            yield from population.problems()
        for connection in self.connections:
            yield from connection.problems(self.sizes, {p.name for p in self.populations})

    @property
    def sizes(self) -> dict[str, int]:
        """The size of every input and population."""
        return dict(self.inputs) | {p.name: p.size for p in self.populations}

    def to_npz_dict(self) -> dict[str, Array]:
        """Plain arrays for `numpy.savez`, readable with `allow_pickle=False`; keys like `populations.0.vth`."""
        arrays = {f"inputs.{name}": np.array(size) for name, size in self.inputs.items()}
        groups: dict[str, Sequence[Population | Connection]] = {
            "populations": self.populations,
            "connections": self.connections,
        }
        for group, items in groups.items():
            for i, item in enumerate(items):
                arrays |= {f"{group}.{i}.{f.name}": np.asarray(getattr(item, f.name)) for f in fields(item)}
        return arrays

    @classmethod
    def from_npz_dict(cls, arrays: Mapping[str, Array]) -> LoihiSpec:
        """The inverse of `to_npz_dict`; takes a loaded `.npz` as it is.

        Raises ValueError if a key is unknown or missing.
        """
        inputs: dict[str, int] = {}
        items: dict[tuple[str, int], dict[str, Any]] = {}
        for key in arrays:
            group, _, rest = key.partition(".")
            index, _, name = rest.partition(".")
            value: Any = np.asarray(arrays[key])
            if group == "inputs":
                inputs[rest] = int(value)
            elif group in ("populations", "connections") and index.isdecimal() and name:
                items.setdefault((group, int(index)), {})[name] = value if value.ndim else value.item()
            else:
                raise ValueError(f"not a Loihi network: unknown key {key!r}")
        try:
            return cls(
                inputs=inputs,
                populations=tuple(Population(**items[key]) for key in sorted(items) if key[0] == "populations"),
                connections=tuple(Connection(**items[key]) for key in sorted(items) if key[0] == "connections"),
            )
        except TypeError as error:
            raise ValueError(f"not a Loihi network: {error}") from error


@dataclass(frozen=True, eq=False)
class LoihiRun:
    """What a run gave, by population, time first: `spikes` (T, B, N) int8, and if recorded `u` and `v` (T, B, N) int32.

    `u` and `v` are as after the step, so `v` is 0 where a neuron has fired.
    """

    spikes: Mapping[str, Array]
    u: Mapping[str, Array] | None = None
    v: Mapping[str, Array] | None = None


def effective_weights(connection: Connection) -> Array:
    """The weights (n_target, n_source) int32 that act, before `weight_exp`: clipped, then truncated."""
    w = connection.weights.astype(np.int32)
    mode = connection.sign_mode
    if mode == "auto":
        mode = "excitatory" if w.min() >= 0 else "inhibitory" if w.max() <= 0 else "mixed"
    sign = -1 if mode == "inhibitory" else 1
    shift = 8 - connection.num_weight_bits + (mode == "mixed")
    w = np.clip(sign * w.astype(np.int64), -256 if mode == "mixed" else 0, 255)
    return (sign * ((w >> shift) << shift)).astype(np.int32)


def largest_currents(spec: LoihiSpec, largest_input: int = 1) -> dict[str, float]:
    """A bound on |u| of every population: below `CURRENT_LIMIT`, no current can ever wrap; infinite if nothing decays.

    In the worst case all that pushes a neuron one way arrives in every step, and nothing that pushes the other way;
    `largest_input` is the largest magnitude that arrives at graded connections from inputs.
    """
    return _current_bounds(spec, _largest_arrivals(spec, _all_slots(spec), largest_input))


def _current_bounds(spec: LoihiSpec, arriving: Mapping[str, Array]) -> dict[str, float]:
    bounds = {}
    for population in spec.populations:
        lost = np.broadcast_to(population.du + 1.0, population.size)
        current = arriving[population.name] * 2.0**_ALIGN
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = np.where(current == 0, 0.0, current * _UNITY / lost)
        bounds[population.name] = float(bound.max())
    return bounds


def _largest_arrivals(spec: LoihiSpec, wires: Mapping[str, list[_Slot]], largest_input: int) -> dict[str, Array]:
    """A bound on the magnitude of what reaches each neuron in one step, before its alignment."""
    arriving = {p.name: np.zeros((2, p.size)) for p in spec.populations}
    for name, slots in wires.items():
        for slot in slots:
            weights = slot.weights.astype(np.float64)
            ways = np.stack([np.maximum(weights, 0).sum(axis=0), np.maximum(-weights, 0).sum(axis=0)])
            if slot.graded and slot.source in spec.inputs:  # values may be negative
                ways = np.broadcast_to(largest_input * ways.sum(axis=0), ways.shape)
            arriving[name] += np.ceil(np.ldexp(ways, slot.exponent))
    return {name: ways.max(axis=0) for name, ways in arriving.items()}


def simulate(spec: LoihiSpec, inputs: Mapping[str, Array], *, record: bool = False) -> LoihiRun:
    """Run `spec` on `inputs`, each (T, B, size) and integer (values, for graded connections); all states start at 0.

    Raises ValueError if an input is missing or unknown, is not integer, or its shape does not fit.
    """
    steps, batch = _checked(spec, inputs)
    spikes: dict[str, Array] = {name: np.asarray(inputs[name], np.int32) for name in spec.inputs}
    spikes |= {p.name: np.zeros((steps, batch, p.size), np.int8) for p in spec.populations}
    extremes = [int(m) for name in spec.inputs for m in (spikes[name].min(initial=0), spikes[name].max(initial=0))]
    largest = max(map(abs, extremes))
    slots = _all_slots(spec)
    arrivals = _largest_arrivals(spec, slots, largest)
    currents = _current_bounds(spec, arrivals)
    wires = {
        name: [slot.ready(largest if slot.source in spec.inputs else 1) for slot in group]
        for name, group in slots.items()
    }
    recorded: list[dict[str, Array]] = [
        {p.name: np.zeros((steps, batch, p.size), np.int32) for p in spec.populations if record} for _ in range(2)
    ]
    for together in _in_order(spec):
        cells = [_Cells(p, batch, currents[p.name], float(arrivals[p.name].max())) for p in together]
        names = {p.name for p in together}
        length = max(1, _BLOCK // (batch * sum(p.size for p in together)))
        for start in range(0, steps, length):
            stop = min(start + length, steps)
            drives = [np.zeros((stop - start, batch, p.size), np.int32) for p in together]
            for population, drive in zip(together, drives, strict=True):
                for slot in wires[population.name]:
                    if slot.source not in names:
                        slot.add(drive, spikes[slot.source], start, stop)
            fired = [spikes[p.name].view(bool) for p in together]
            cyclic = [[slot for slot in wires[p.name] if slot.source in names] for p in together]
            aligned = [_aligned(d) if not back else d for d, back in zip(drives, cyclic, strict=True)]
            for t in range(start, stop):
                for i, cell in enumerate(cells):
                    now, back = aligned[i][t - start], cyclic[i]
                    if back:
                        for slot in back:
                            slot.add(now[None], spikes[slot.source], t, t + 1)
                        now = _aligned(now)
                    cell.step(now, t, fired[i][t])
                    if record:
                        recorded[0][together[i].name][t] = cell.u
                        recorded[1][together[i].name][t] = cell.v
    found = {p.name: spikes[p.name] for p in spec.populations}
    return LoihiRun(found, *recorded) if record else LoihiRun(found)


class _Cells:
    """One population's state for the whole batch, (B, N).

    States are float64: products with a decay, k/4096, and sums are far below 2**53, so all of it is exact, and rounding
    towards zero is one operation. Overflow is looked for only where the bounds on the current and on what arrives in a
    step leave it possible: beyond 24 bits, or beyond int32, and the membrane's clipping likewise.
    """

    def __init__(self, population: Population, batch: int, current: float, arrival: float) -> None:
        size = population.size
        self.u, self.v = np.zeros((2, batch, size))
        self.quiet = np.ones((batch, size), bool)
        self.keep_u = np.broadcast_to((_UNITY - 1 - population.du) / _UNITY, size)
        self.keep_v = np.broadcast_to((_UNITY - population.dv) / _UNITY, size)
        bias = population.bias_mant.astype(np.int64) << population.bias_exp
        self.bias = np.broadcast_to(bias.astype(float), size)
        self.threshold = np.broadcast_to((population.vth * 2.0**_ALIGN), size)
        self.interval, self.offset = population.reset_interval, population.reset_offset
        self.forgets, self.biased = not self.keep_u.any(), bool(bias.any())
        self.narrow = current < CURRENT_LIMIT
        self.overflows = arrival * 2**_ALIGN >= CURRENT_LIMIT
        change = current + float(np.abs(self.bias).max())
        self.clips_high = float(self.threshold.max()) + change >= CURRENT_LIMIT
        most = change / (1 - float(self.keep_v.max())) if self.keep_v.max() < 1 else np.inf
        self.clips_low = most >= CURRENT_LIMIT

    def step(self, drive: Array, t: int, spikes: Array) -> None:
        """Update from the aligned `drive` (B, N) in step `t`, from 0; what fires goes into `spikes` (B, N), bool."""
        u, v = self.u, self.v
        if self.interval and (t + 1 - self.offset) % self.interval == 0:
            u[:], v[:] = 0, 0
        if self.forgets:
            u[:] = drive
        else:
            u *= self.keep_u
            np.trunc(u, out=u)
            u += drive
        if not self.narrow:
            self._wrap()
        v *= self.keep_v
        np.trunc(v, out=v)
        v += u
        if self.biased:
            v += self.bias
        if self.overflows:
            v[:] = _int32(v)
        if self.clips_high:
            np.minimum(v, CURRENT_LIMIT - 1, out=v)
        if self.clips_low:
            np.maximum(v, 1 - CURRENT_LIMIT, out=v)
        np.less_equal(v, self.threshold, out=self.quiet)
        v *= self.quiet  # several times faster than writing zeros through a mask
        np.logical_not(self.quiet, out=spikes)

    def _wrap(self) -> None:
        """Lava's overflow of the current: one turn of 24 bits, after the sum wrapped in 32."""
        u = self.u
        if self.overflows:
            u[:] = _int32(u)
        if u.max() > CURRENT_LIMIT or u.min() <= -CURRENT_LIMIT:
            high, low = u > CURRENT_LIMIT, u <= -CURRENT_LIMIT
            u[high] -= 2 * CURRENT_LIMIT
            u[low] += 2 * CURRENT_LIMIT


def _aligned(drive: Array) -> Array:
    """What the synapses give, int32, as the current takes it: shifted in int32, then float64."""
    return (drive << _ALIGN).astype(np.float64)


def _int32(values: Array) -> Array:
    return values.astype(np.int64).astype(np.int32)


@dataclass(frozen=True, eq=False)
class _Slot:
    """The synapses of one connection that share a delay: `weights` (n_source, n_target)."""

    source: str
    weights: Array
    exponent: int
    delay: int
    graded: bool

    def ready(self, peak: int) -> _Slot:
        """The same with float weights whose products with spikes of up to `peak` are exact."""
        peak = peak if self.graded else 1
        reach = peak * int(np.abs(self.weights.astype(np.int64)).sum(axis=0).max(initial=0))
        kind = np.float32 if reach < 2**24 else np.float64
        return _Slot(self.source, np.ascontiguousarray(self.weights, kind), self.exponent, self.delay, self.graded)

    def add(self, drive: Array, spikes: Array, start: int, stop: int) -> None:
        """Add what arrives in steps `start`..`stop` - 1 to `drive` (stop - start, B, n_target)."""
        late = 1 + self.delay
        skip = max(late - start, 0)
        if start + skip >= stop:
            return
        sent = spikes[start + skip - late : stop - late]
        sent = (sent if self.graded else sent != 0).astype(self.weights.dtype)
        total = sent.reshape(-1, sent.shape[2]) @ self.weights
        whole: Array = total.astype(np.int32 if total.dtype == np.float32 else np.int64)
        if self.exponent > 0:
            whole = np.left_shift(whole, self.exponent)
        elif self.exponent < 0:
            whole = np.right_shift(whole, -self.exponent)
        drive[skip:] += whole.astype(np.int32, copy=False).reshape(drive[skip:].shape)


def _all_slots(spec: LoihiSpec) -> dict[str, list[_Slot]]:
    """What reaches each population."""
    wires: dict[str, list[_Slot]] = {p.name: [] for p in spec.populations}
    for connection in spec.connections:
        wires[connection.target] += _slots(connection)
    return wires


def _slots(connection: Connection) -> list[_Slot]:
    weights, delays = effective_weights(connection), connection.delays
    by_delay = {int(d): np.where(delays == d, weights, 0) if delays.ndim else weights for d in np.unique(delays)}
    exponent, graded = int(connection.weight_exp), bool(connection.graded)
    return [_Slot(connection.source, w.T, exponent, delay, graded) for delay, w in by_delay.items()]


def _in_order(spec: LoihiSpec) -> list[list[Population]]:
    """Populations grouped so that whatever a group needs from outside is known before: cycles stay together."""
    index = {p.name: i for i, p in enumerate(spec.populations)}
    reaches = np.eye(len(index), dtype=bool)
    for connection in spec.connections:
        if connection.source in index:
            reaches[index[connection.source], index[connection.target]] = True
    for via in range(len(index)):
        reaches |= reaches[:, via, None] & reaches[via]
    groups: dict[tuple[int, ...], list[Population]] = {}
    for i, population in enumerate(spec.populations):
        cycle = tuple(np.flatnonzero(reaches[i] & reaches[:, i]).tolist())
        groups.setdefault(cycle, []).append(population)
    return [groups[cycle] for cycle in sorted(groups, key=lambda cycle: int(reaches[:, cycle[0]].sum()))]


def _checked(spec: LoihiSpec, inputs: Mapping[str, Array]) -> tuple[int, int]:
    problems = [f"there is no input {name!r}" for name in inputs if name not in spec.inputs]
    problems += [f"input {name!r} is missing" for name in spec.inputs if name not in inputs]
    if not spec.inputs:
        problems.append("a network without inputs has no length to run for")
    shape: tuple[int, ...] = (0, 0)
    for name, size in spec.inputs.items():
        values = _integers(inputs.get(name, np.zeros((0, 0, size), int)))
        if values.ndim != 3 or values.shape[2] != size:
            problems.append(f"input {name!r} has shape {values.shape}, expected (steps, batch, {size})")
            continue
        if name in inputs and shape not in ((0, 0), values.shape[:2]):
            problems.append(f"input {name!r} has {values.shape[:2]} steps and samples, another has {shape}")
        shape = values.shape[:2] if name in inputs else shape
        problems += _out_of(values, -(2**31), 2**31 - 1, f"input {name!r}")
    if problems:
        raise ValueError("cannot run: " + "; ".join(problems))
    return shape[0], shape[1]


def _integers(values: Any) -> Array:
    """`values` as integers if whole numbers, and as they are otherwise."""
    array = np.asarray(values)
    whole = array.dtype.kind in "bu" or (array.dtype.kind == "f" and bool(np.all(array == np.rint(array))))
    return array.astype(np.int64) if whole and not np.isinf(array).any() else array


def _out_of(values: Array, low: int, high: int, what: str) -> Iterator[str]:
    if values.dtype.kind != "i":
        yield f"{what} must hold integers"
    elif values.size and (values.min() < low or values.max() > high):
        yield f"{what} spans {values.min()}..{values.max()}, allowed {low}..{high}"
