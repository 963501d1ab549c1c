"""Xylo, bit for bit: what SynSense's Xylo chips compute, for a whole batch at once, in NumPy.

Arithmetic: xylosim 0.1.3, module v2 (`XyloLayer::evolve`, `XyloIAFNeuron::evolve`), which Rockpool runs for Xylo
Audio 2, Audio 3 and IMU. Every state is int16 and saturates. One step:

1. Input events, then the hidden spikes of the previous step, arrive at the hidden neurons; the same hidden spikes
   arrive at the output neurons. A synaptic current saturates after every single event, in source order.
2. Each neuron: `i -= decay(i)`, `v = sat(v + sat(sat(-decay(v) + sum(i)) + bias))`, then, while `v >= threshold` and
   its spikes are below the cap (31 hidden, 1 output): one spike, `v -= threshold`.
   `decay(x) = x >> dash`, but at least 1 for a positive x.
3. A hidden neuron adds its spikes to those of its alias targets: neurons are updated in order of id, so a target with
   a higher id starts its own count from there, a lower one has already spent its membrane.

So input reaches the hidden neurons in the same step, and each hidden connection or read-out adds one step.

This file needs NumPy and nothing else, and imports nothing of snnir, so that it can travel with a compiled network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

__all__ = [
    "FAMILIES",
    "MAX_HIDDEN_SPIKES",
    "MAX_INPUT_EVENTS",
    "MAX_OUTPUT_SPIKES",
    "XyloRun",
    "XyloSpec",
    "XyloSteps",
    "simulate",
]

Array = np.ndarray[Any, np.dtype[Any]]

FAMILIES = ("xylo-audio2", "xylo-audio3", "xylo-imu")
MAX_INPUT_EVENTS = 15
MAX_HIDDEN_SPIKES = 31
MAX_OUTPUT_SPIKES = 1

_HIGH, _LOW = 32767, -32768
_TILE = 128  # targets per matrix product: narrow enough to skip the empty blocks of a layered network
_STEPS = 2**16  # events followed one by one at a time: few enough to stay in cache
_INTEGERS = (
    dict.fromkeys(("weights_in", "weights_rec", "weights_out"), (-128, 127))
    | dict.fromkeys(("dash_mem", "dash_mem_out", "dash_syn", "dash_syn_2", "dash_syn_out"), (0, 15))
    | dict.fromkeys(("threshold", "threshold_out", "bias", "bias_out"), (_LOW, _HIGH))
)
_SHIFTS = ("weight_shift_in", "weight_shift_rec", "weight_shift_out")


@dataclass(frozen=True, kw_only=True, eq=False)
class XyloSpec:
    """A network as Xylo holds it, under the key names and shapes of Rockpool's own specification.

    Shapes, with S synapses (1 or 2) per hidden neuron; a missing last axis means S = 1:

    - `weights_in` (Nin, N, S): column n feeds hidden neuron n. N is Nhid on Audio 2, and the number of input
      expansion neurons, which are the *first* hidden neurons, on Audio 3 and IMU.
    - `weights_rec` (Nhid, Nhid, S): source by target.
    - `weights_out` (N, Nout): row n leaves from hidden neuron Nhid - N + n. N is Nhid on Audio 2, and the number of
      output expansion neurons, the *last* hidden neurons, on Audio 3 and IMU.
    - `dash_*`, `threshold*`, `bias*`: one value per hidden or output (`_out`) neuron. `dash_syn_2` belongs to the
      second synapse. A dash d decays with a time constant of -dt / ln(1 - 2**-d); 0 forgets at once.
    - `aliases`: for each hidden neuron, the hidden neurons that its spikes are copied to. Empty: none anywhere.

    A weight acts as int16(weight << weight_shift), which wraps for shifts above 8. Thresholds and biases are not
    shifted. Biases have 16 bits here, as in xylosim, but 8 on the chip. `dt` is the time step in seconds; it changes
    nothing in the arithmetic. The limits of a family (channels, neurons, fan-out) are the compiler's to check.

    Raises ValueError, with every problem listed, if a shape or a range does not fit.
    """

    weights_in: Array
    weights_rec: Array
    weights_out: Array
    dash_mem: Array
    dash_mem_out: Array
    dash_syn: Array
    dash_syn_2: Array
    dash_syn_out: Array
    threshold: Array
    threshold_out: Array
    bias: Array
    bias_out: Array
    dt: float
    family: str
    weight_shift_in: int = 0
    weight_shift_rec: int = 0
    weight_shift_out: int = 0
    aliases: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ValueError("not a Xylo specification: " + "; ".join(problems))
        for name, (low, _) in _INTEGERS.items():
            kind = np.int16 if low == _LOW else np.int8 if low < 0 else np.uint8
            values = np.array(getattr(self, name), kind)
            values.flags.writeable = False
            object.__setattr__(self, name, values)
        aliases = self.aliases or ((),) * self.n_hidden
        object.__setattr__(self, "aliases", tuple(tuple(map(int, targets)) for targets in aliases))

    def _problems(self) -> Iterator[str]:
        rec, into, out = (np.shape(w) for w in (self.weights_rec, self.weights_in, self.weights_out))
        hidden, outputs = (*rec, 0)[0], (0, *out)[-1]
        synapses = ((), (1,), (2,))
        if len(rec) < 2 or rec[1] != hidden or rec[2:] not in synapses:
            yield f"weights_rec has shape {rec}, expected (Nhid, Nhid) or (Nhid, Nhid, 1 or 2)"
        if len(into) < 2 or into[1] > hidden or into[2:] not in synapses:
            yield f"weights_in has shape {into}, expected (Nin, at most {hidden}) or (Nin, at most {hidden}, 1 or 2)"
        if len(out) != 2 or out[0] > hidden:
            yield f"weights_out has shape {out}, expected (at most {hidden}, Nout)"
        for name, (low, high) in _INTEGERS.items():
            values = np.asarray(getattr(self, name))
            size = outputs if name.endswith("_out") else hidden
            if not name.startswith("weights") and values.shape != (size,):
                yield f"{name} has shape {values.shape}, expected ({size},)"
            if not _is_integer(values):
                yield f"{name} must hold integers"
            elif values.size and (values.min() < low or values.max() > high):
                yield f"{name} spans {values.min()}..{values.max()}, allowed {low}..{high}"
        for name in _SHIFTS:
            if getattr(self, name) not in range(16):
                yield f"{name} is {getattr(self, name)}, allowed 0..15"
        if len(self.aliases) not in (0, hidden):
            yield f"aliases has {len(self.aliases)} entries, expected none or one per hidden neuron ({hidden})"
        if any(target not in range(hidden) for targets in self.aliases for target in targets):
            yield f"aliases must name hidden neurons, 0..{hidden - 1}"
        if not (np.isfinite(self.dt) and self.dt > 0):
            yield f"dt is {self.dt}, expected a positive number of seconds"
        if self.family not in FAMILIES:
            yield f"family is {self.family!r}, expected one of {', '.join(FAMILIES)}"

    @property
    def n_in(self) -> int:
        return self.weights_in.shape[0]

    @property
    def n_hidden(self) -> int:
        return self.weights_rec.shape[0]

    @property
    def n_out(self) -> int:
        return self.weights_out.shape[1]

    @property
    def n_synapses(self) -> int:
        """Synaptic currents per hidden neuron: 1 or 2."""
        return max(w.shape[2] if w.ndim == 3 else 1 for w in (self.weights_in, self.weights_rec))

    def to_npz_dict(self) -> dict[str, Array]:
        """Plain arrays for `numpy.savez`, readable with `allow_pickle=False`.

        `aliases` becomes (source, target) pairs, and the hidden bias appears twice: Rockpool's simulator reads it as
        `bias`, its chip configuration as `bias_hidden` (and drops `bias` without a word).
        """
        arrays: dict[str, Array] = {name: getattr(self, name) for name in _INTEGERS}
        arrays["bias_hidden"] = arrays["bias"]
        arrays |= {name: np.array(getattr(self, name)) for name in _SHIFTS}
        arrays["aliases"] = _alias_pairs(self.aliases)
        arrays["dt"] = np.array(self.dt)
        arrays["family"] = np.array(self.family)
        return arrays

    @classmethod
    def from_npz_dict(cls, arrays: Mapping[str, Array]) -> XyloSpec:
        """The inverse of `to_npz_dict`; takes a loaded `.npz` as it is.

        Raises ValueError if a key is missing or unknown, or if `bias` and `bias_hidden` differ.
        """
        found = {name: np.asarray(arrays[name]) for name in arrays}
        hidden_bias = found.pop("bias_hidden", None)
        if hidden_bias is not None and not np.array_equal(hidden_bias, found.setdefault("bias", hidden_bias)):
            raise ValueError("bias and bias_hidden differ: both name the hidden neurons' bias")
        names = {field.name for field in fields(cls)}
        missing, unknown = names - set(found), set(found) - names
        if missing or unknown:
            raise ValueError(f"not a Xylo specification: missing {sorted(missing)}, unknown {sorted(unknown)}")
        values: dict[str, Any] = {name: array if array.ndim else array.item() for name, array in found.items()}
        pairs = found["aliases"].reshape(-1, 2).tolist()
        sources = range((*found["weights_rec"].shape, 0)[0])
        if any(source not in sources for source, _ in pairs):
            raise ValueError(f"aliases must name hidden neurons, 0..{len(sources) - 1}")
        values["aliases"] = tuple(tuple(target for source, target in pairs if source == n) for n in sources)
        return cls(**values)


@dataclass(frozen=True, eq=False)
class XyloRun:
    """What a run gave, as int16 and time first: `spikes` (T, B, Nout), 0 or 1.

    Recorded on request, after each step: `spikes_hidden` (T, B, Nhid) counts 0..31 with what aliases added,
    `v_hidden` (T, B, Nhid), `i_hidden` (T, B, Nhid, S), `v_out` and `i_out` (T, B, Nout).
    """

    spikes: Array
    spikes_hidden: Array | None = None
    v_hidden: Array | None = None
    i_hidden: Array | None = None
    v_out: Array | None = None
    i_out: Array | None = None


def simulate(spec: XyloSpec, events: Array, *, record: bool = False) -> XyloRun:
    """Run `spec` on `events` (T, B, Nin), counts of input events per channel and step; states start at rest.

    Counts above 15 act as 15, as on the chip and in xylosim (which refuses counts above 255). With `record`, hidden
    spikes, membranes and currents are kept as well. Raises ValueError if the shape does not fit or a count is
    negative or not an integer.
    """
    events = np.asarray(events)
    if events.ndim != 3 or events.shape[2] != spec.n_in:
        raise ValueError(f"events have shape {events.shape}, expected (steps, batch, {spec.n_in})")
    if not _is_integer(events) or (events.size and events.min() < 0):
        raise ValueError("events must be counts: integers, none below zero")
    steps, batch, _ = events.shape
    chip = XyloSteps(spec, batch)
    spikes = np.zeros((steps, batch, spec.n_out), np.int16)
    n, m = spec.n_hidden, spec.n_out
    sizes = {"spikes_hidden": (n,), "v_hidden": (n,), "i_hidden": (n, spec.n_synapses), "v_out": (m,), "i_out": (m,)}
    kept = {name: np.zeros((steps, batch, *size), np.int16) for name, size in sizes.items() if record}

    for t in range(steps):
        spikes[t] = chip.step(events[t])
        if record:
            hidden, outputs = chip.hidden, chip.outputs
            currents = hidden.i.reshape(batch, spec.n_synapses, spec.n_hidden).transpose(0, 2, 1)
            for values, now in zip(kept.values(), (chip.fired, hidden.v, currents, outputs.v, outputs.i), strict=True):
                values[t] = now
    return XyloRun(spikes, **kept)


class XyloSteps:
    """A chip that is stepped by hand, at rest before the first step: what `simulate` does, one step per call.

    `fired` (B, Nhid) are the hidden neurons' spikes of the last step.
    """

    def __init__(self, spec: XyloSpec, batch: int) -> None:
        dash_syn = spec.dash_syn if spec.n_synapses == 1 else np.concatenate([spec.dash_syn, spec.dash_syn_2])
        self.hidden = _Population(
            batch, spec.dash_mem, dash_syn, spec.threshold, spec.bias, MAX_HIDDEN_SPIKES, spec.aliases
        )
        self.outputs = _Population(
            batch, spec.dash_mem_out, spec.dash_syn_out, spec.threshold_out, spec.bias_out, MAX_OUTPUT_SPIKES
        )
        self.from_input = _Projection(_to_hidden(spec.weights_in, spec), spec.weight_shift_in)
        self.from_hidden = _Projection(_to_hidden(spec.weights_rec, spec), spec.weight_shift_rec)
        self.to_output = _Projection(_to_output(spec.weights_out, spec), spec.weight_shift_out)
        self.fired = np.zeros((batch, spec.n_hidden), np.float32)

    def step(self, events: Array) -> Array:
        """One step of `events` (B, Nin), counts from 0 on: the output spikes (B, Nout)."""
        self.from_input.deliver(np.minimum(events, MAX_INPUT_EVENTS).astype(np.float32), self.hidden.i)
        self.from_hidden.deliver(self.fired, self.hidden.i)
        self.to_output.deliver(self.fired, self.outputs.i)
        self.fired = self.hidden.step().astype(np.float32)
        return self.outputs.step()


class _Population:
    """The hidden or the output neurons, for the whole batch.

    `i` (B, S*N) holds the synaptic currents, first synapse first, `v` (B, N) the membranes: int32 within int16's range.
    """

    def __init__(
        self,
        batch: int,
        dash_mem: Array,
        dash_syn: Array,
        threshold: Array,
        bias: Array,
        cap: int,
        aliases: tuple[tuple[int, ...], ...] = (),
    ) -> None:
        pairs = _alias_pairs(aliases)
        self.dash_mem, self.dash_syn = dash_mem.astype(np.int32), dash_syn.astype(np.int32)
        self.threshold, self.bias = threshold.astype(np.int32), bias.astype(np.int32)
        self.forgets, self.biased, self.aliased = (dash_mem == 0).any(), bias.any(), len(pairs) > 0
        self.cap = cap
        self.i = np.zeros((batch, len(dash_syn)), np.int32)
        self.v = np.zeros((batch, len(dash_mem)), np.int32)
        upwards = pairs[:, 1] > pairs[:, 0]
        self.ahead, self.behind = pairs[upwards], pairs[~upwards]
        self.waves = _waves(len(dash_mem), self.ahead)

    def step(self) -> Array:
        """Update all neurons once; returns their spike counts (B, N), aliases included."""
        self.i -= _decay(self.i, self.dash_syn)
        leak = _decay(self.v, self.dash_mem)
        if self.forgets:
            leak[leak == _LOW] = -_LOW  # the chip's model negates in 16 bits: -(-32768) stays -32768
        size = self.v.shape[1]
        change = self.i[:, :size] - leak
        if self.i.shape[1] > size:
            change += self.i[:, size:]
        _saturate(change)
        if self.biased:
            change += self.bias
            _saturate(change)
        self.v += change
        _saturate(self.v)
        return self._fire()

    def _fire(self) -> Array:
        counts = np.zeros_like(self.v)
        if not self.aliased:
            return _spike(self.v, self.threshold, counts, self.cap)
        for wave in self.waves:
            arriving = self.ahead[np.isin(self.ahead[:, 1], wave)]
            np.add.at(counts.T, arriving[:, 1], counts.T[arriving[:, 0]])
            v, start = self.v[:, wave], np.minimum(counts[:, wave], self.cap)
            counts[:, wave] = _spike(v, self.threshold[wave], start, self.cap)
            self.v[:, wave] = v
        total = counts.copy()
        np.add.at(total.T, self.behind[:, 1], counts.T[self.behind[:, 0]])
        return np.minimum(total, self.cap)


def _saturate(x: Array) -> None:
    np.minimum(x, _HIGH, out=x)
    np.maximum(x, _LOW, out=x)


def _decay(x: Array, dash: Array) -> Array:
    """x >> dash, but 1 where a positive x would lose nothing; a negative x always loses at least 1 by the shift."""
    lost = x >> dash
    return np.maximum(lost, np.minimum(x, 1), out=lost)


def _spike(v: Array, threshold: Array, counts: Array, cap: int) -> Array:
    """Take thresholds off `v` (B, N) and add spikes to `counts` up to `cap`, both in place; returns `counts`."""
    where = (v >= threshold).ravel().nonzero()[0]
    if not len(where):
        return counts
    value, step, count = v.take(where), threshold.take(where % v.shape[1]), counts.take(where)
    rising = step <= 0
    more = np.minimum(value // np.maximum(step, 1), cap - count)
    if rising.any():
        more[rising] = 0
        for _ in range(cap):  # v grows with every spike, and wraps: only the chip's own loop says when it ends
            again = rising & (value >= step) & (count < cap)
            value = np.where(again, value - step, value).astype(np.int16).astype(np.int32)
            count += again
    v.put(where, value - more * step)
    counts.put(where, count + more)
    return counts


def _waves(size: int, ahead: Array) -> list[Array]:
    """Neurons grouped so that every alias to a higher id comes from an earlier group."""
    depth = np.zeros(size, int)
    for source, target in ahead:  # in order of source
        depth[target] = max(depth[target], depth[source] + 1)
    return [np.flatnonzero(depth == level) for level in range(depth.max(initial=0) + 1)]


@dataclass(frozen=True, eq=False)
class _Tile:
    """Some targets of a projection, and the sources that reach any of them."""

    sources: slice | Array
    targets: slice
    weights: Array
    positive: Array  # max(weights, 0)
    largest: float  # magnitude of one weight
    heaviest: float  # sum of magnitudes into one target


class _Projection:
    """All connections from one group of sources to one group of targets, `weights` (sources, targets).

    They act as int16(weights << shift), in float32: sums below 2**24 are exact, and a larger one is out of bounds, by
    far more than its error.
    """

    def __init__(self, weights: Array, shift: int) -> None:
        self.weights = (weights.astype(np.int32) << shift).astype(np.int16).astype(np.float32)
        starts = range(0, weights.shape[1], _TILE)
        tiles = (self._tile(slice(start, start + _TILE)) for start in starts)
        self.tiles = [tile for tile in tiles if tile.largest]

    def _tile(self, targets: slice) -> _Tile:
        sources = np.flatnonzero(self.weights[:, targets].any(axis=1))
        contiguous = len(sources) and sources[-1] - sources[0] + 1 == len(sources)
        rows = slice(int(sources[0]), int(sources[-1]) + 1) if contiguous else sources
        block = np.ascontiguousarray(self.weights[rows, targets])
        size = np.abs(block)
        heaviest = float(size.sum(axis=0).max(initial=0))
        return _Tile(rows, targets, block, np.maximum(block, 0), float(size.max(initial=0)), heaviest)

    @cached_property
    def incoming(self) -> tuple[Array, Array]:
        """The sources of every target and their weights, as `_packed` gives them."""
        return _packed(self.weights.T)

    def deliver(self, counts: Array, current: Array) -> None:
        """Add the events `counts` (B, sources) to `current` (B, targets), saturating after each, in order of source.

        Where no partial sum can leave int16, a matrix product gives the same. Two bounds show that: a tile's, from
        its largest weights, then each target's own, from all that pushes it up and all that pulls it down. What
        neither clears goes source by source.
        """
        peak = float(counts.max(initial=0))
        if not peak:
            return
        most = float(counts.sum(axis=1).max())
        before = current.astype(np.float32)
        doubtful: list[tuple[Array, Array]] = []
        for tile in self.tiles:
            events, start = counts[:, tile.sources], before[:, tile.targets]
            after = events @ tile.weights
            after += start
            reach = min(peak * tile.heaviest, most * tile.largest)
            if start.max() + reach > _HIGH or start.min() - reach < _LOW:
                up = events @ tile.positive
                unsafe = np.flatnonzero((start + up > _HIGH) | (after - up < _LOW))
                row, column = np.divmod(unsafe, after.shape[1])
                doubtful.append((row, column + tile.targets.start))
                np.put(after, unsafe, 0)
            current[:, tile.targets] = after
        if any(len(row) for row, _ in doubtful):
            rows, columns = (np.concatenate(parts) for parts in zip(*doubtful, strict=True))
            current[rows, columns] = self._one_by_one(counts, before, rows, columns)

    def _one_by_one(self, counts: Array, before: Array, rows: Array, columns: Array) -> Array:
        """The currents at (rows, columns), saturated after each source; its equal events saturate like their sum."""
        sources, weights = self.incoming
        active, events = _packed(counts)
        width = min(events.shape[1], weights.shape[1])
        if events.shape[1] * before.size < 4 * width * len(rows):  # nearly all saturate: all targets, without gathering
            for k in range(events.shape[1]):
                before += events[:, k, None] * self.weights[active[:, k]]
                _saturate(before)
            return before[rows, columns]
        values = before[rows, columns]
        n_sources, n_targets = self.weights.shape
        size = max(512, _STEPS // width)
        for start in range(0, len(values), size):
            part = slice(start, start + size)
            row, column, state = rows[part], columns[part], values[part]
            if width == events.shape[1]:
                steps = events[row] * self.weights.take(active[row] * n_targets + column[:, None])
            else:
                steps = weights[column] * counts.take(row[:, None] * n_sources + sources[column])
            for step in np.ascontiguousarray(steps.T):
                state += step
                _saturate(state)
        return values


def _packed(matrix: Array) -> tuple[Array, Array]:
    """Every row's entries other than 0, in order, filled up with zeros: their columns, and their values."""
    row, column = np.nonzero(matrix)
    length = np.bincount(row, minlength=len(matrix))
    rank = np.arange(len(row)) - (np.cumsum(length) - length)[row]
    columns = np.zeros((len(matrix), length.max(initial=0)), int)
    values = np.zeros(columns.shape, matrix.dtype)
    columns[row, rank], values[row, rank] = column, matrix[row, column]
    return columns, values


def _to_hidden(weights: Array, spec: XyloSpec) -> Array:
    """Weights as (sources, S*Nhid), first synapse first; absent columns and synapses are zero."""
    full = np.zeros((len(weights), spec.n_synapses, spec.n_hidden), np.int8)
    by_synapse = np.atleast_3d(weights).transpose(0, 2, 1)
    full[:, : by_synapse.shape[1], : by_synapse.shape[2]] = by_synapse
    return full.reshape(len(weights), -1)


def _to_output(weights: Array, spec: XyloSpec) -> Array:
    """Weights as (Nhid, Nout); the hidden neurons before the last len(weights) do not reach the outputs."""
    return np.concatenate([np.zeros((spec.n_hidden - len(weights), spec.n_out), np.int8), weights])


def _alias_pairs(aliases: Sequence[Sequence[int]]) -> Array:
    pairs = [(source, target) for source, targets in enumerate(aliases) for target in targets]
    return np.array(pairs, int).reshape(-1, 2)


def _is_integer(values: Array) -> bool:
    if values.dtype.kind == "f":
        return bool(np.all(np.isfinite(values) & (values == np.rint(values))))
    return values.dtype.kind in "iub"
