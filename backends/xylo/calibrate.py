"""Calibration: integers chosen by what they do on recorded input.

Every population is tried alone, *forced*: it receives the very spikes that the source's neurons sent, so that its own
error is seen and not that of the neurons before it. All neurons and all candidates run side by side.

1. The weight shifts: those with the least deviation.
2. Decays, threshold and bias of every neuron, by its membrane: also the resets are the source's, so the chip's membrane
   should follow the source's at every step. A least-squares fit near the threshold gives the factor of the threshold
   and the bias, and its residual tells which rounding of the decays is better.
3. Threshold and bias once more, by spikes: a change is kept where it clearly lowers the neuron's deviation.

Whether a population goes to step 0, 2 or 3 is decided by what each does on samples that it was not fitted to.

The deviation of a neuron is the mean over time of |spikes so far - spikes so far in the source|, which sees shifts in
time as well as wrong counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np

from snnir.backends.xylo.chip import MAX_BIAS, MAX_SHIFT, MAX_SPIKES, MAX_STATE
from snnir.backends.xylo.parts import STARTER_SPIKES, dash_decay, ideal_dash, nearest_dash
from snnir.backends.xylo.quantise import Cells, Ideal, Shifts, best_shifts, quantise, scale_limit
from snnir.backends.xylo.teacher import Lesson
from snnir.ops import Array

METHODS = ("plain", "membrane", "spikes")
_LOW = -32768
_PARAMETERS = ("dash_mem", "dash_syn", "threshold", "bias", "returning")
_MARGIN = 0.1  # of its deviation that a neuron must gain before step 3 changes it
_PRIOR = 20.0  # steps near the threshold that the uncalibrated values count for in step 2


def forced(variants: Sequence[Cells], lesson: Lesson, resets: Array | None = None) -> tuple[Array, Array | None]:
    """Runs C variants of one population on the spikes that arrive at it.

    The chip's arithmetic, but for one thing: currents saturate per step, not per event.

    Args:
        variants: of one population.
        lesson: what arrives.
        resets: spikes (T, B, n) that reset the membranes in place of their own; then membranes are given too.

    Returns:
        Spike counts (T, C, B, n), and membranes before reset, where asked for.
    """
    ideal = variants[0].ideal
    added = _added(variants, lesson)
    steps, shape = added.shape[0], added.shape[1:]
    dash_mem, dash_syn, threshold, bias, returning = (
        np.stack([getattr(c, k) for c in variants])[:, None].astype(np.int32) for k in _PARAMETERS
    )
    returning = returning << np.array([c.back for c in variants], np.int32)[:, None, None]
    cap = 1 if ideal.is_output else MAX_SPIKES
    i, v, fired = (np.zeros(shape, np.int32) for _ in range(3))
    i += np.stack([STARTER_SPIKES * (c.starting << c.back) for c in variants])[:, None].astype(np.int32)
    counts = np.zeros((steps, *shape), np.int16)
    membranes = None if resets is None else np.zeros((steps, *shape), np.int32)
    for t in range(steps):
        i += added[t]
        if ideal.direct:
            i += returning * fired
        np.clip(i, _LOW, MAX_STATE, out=i)
        i -= _decay(i, dash_syn)
        v += i
        v -= _decay(v - i, dash_mem) - bias
        np.clip(v, _LOW, MAX_STATE, out=v)
        if resets is not None and membranes is not None:
            membranes[t] = v
            fired = np.broadcast_to(resets[t].astype(np.int32), shape)
        else:
            fired = np.clip(v // threshold, 0, cap)
        v -= fired * threshold
        counts[t] = fired
    return counts, membranes


def _added(variants: Sequence[Cells], lesson: Lesson) -> Array:
    """What arrives at the currents, (T, C, B, n)."""
    parts: list[Array] = []
    known: dict[tuple[int, ...], Array] = {}
    for cells in variants:
        key = tuple(map(id, cells.weights))
        if key not in known:
            total = np.zeros(lesson.wanted.shape)
            for feed, x, weight in zip(cells.ideal.feeds, lesson.inputs, cells.weights, strict=True):
                total += x @ (weight.astype(np.float64) * 2 ** cells.shifts.of(feed.matrix))
            total += cells.driving * 2**cells.back
            known[key] = np.clip(total, _LOW * 2, MAX_STATE * 2).astype(np.int32)
        parts.append(known[key])
    return np.stack(parts, axis=1)


def _decay(x: Array, dash: Array) -> Array:
    lost = x >> dash
    return np.maximum(lost, np.minimum(x, 1), out=lost)


def deviation(counts: Array, wanted: Array) -> Array:
    """Mean over steps and batch of the difference in spikes so far: (T, C, B, n) and (T, B, n) give (C, n)."""
    target = np.cumsum(wanted, axis=0, dtype=np.int32)[:, None]
    return np.abs(np.cumsum(counts, axis=0, dtype=np.int32) - target).mean(axis=(0, 2))


# -- step 1 ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Choice:
    """Weight shifts, the populations (biases cut or not) and largest scales (`scale_limit`) that go with them.

    `tried`: all that was tried, with its deviation.
    """

    shifts: Shifts
    ideals: Mapping[str, Ideal]
    limits: Mapping[str, Array]
    tried: tuple[Mapping[str, float], ...]


def choose_shifts(all_ideals: Mapping[str, Ideal], lessons: Mapping[str, Lesson], apart: int = MAX_SHIFT) -> Choice:
    """The shifts and scales with the least deviation, each population forced.

    `apart`: as in `best_shifts`.
    """
    tried: list[dict[str, float]] = []
    found, limits, judged = Shifts(), dict[str, Array](), dict(all_ideals)
    levels = range(max((len(lesson.peaks()) for lesson in lessons.values()), default=0))
    allowed = [{n: scale_limit(i, lessons[n].peaks()[k]) for n, i in all_ideals.items()} for k in levels]
    for uncut, names in ((_hidden(all_ideals), ("into", "rec")), (_outputs(all_ideals), ("out",))):
        used = [n for n in names if _uses(uncut, n)]
        limits.update({i.name: allowed[0][i.name] for i in uncut})
        best, chosen = np.inf, found
        trials = [(level, limit, members) for level, limit in enumerate(allowed) for members in _cuts(uncut, limit)]
        for level, limit, members in trials if used else ():
            start = best_shifts(all_ideals, limit, apart)
            start = replace(found, **{n: getattr(start, n) for n in used})
            scores = _climb(start, used, apart, partial(_score, members, limit, lessons))
            for shifts, value in scores.items():
                kind = {"room": level, "biases_cut": sum(i.cut for i in members), "deviation": value}
                tried.append({**{f"shift_{n}": getattr(shifts, n) for n in used}, **kind})
            least = min(scores, key=scores.__getitem__)
            if scores[least] < best:
                best, chosen = scores[least], least
                limits.update({i.name: limit[i.name] for i in members})
                judged.update({i.name: i for i in members})
        found = chosen
    return Choice(found, judged, limits, tuple(tried))


def _cuts(members: Sequence[Ideal], limit: Mapping[str, Array]) -> list[list[Ideal]]:
    """The populations as they are; and, where 8-bit biases without a driver bind some, with these cut off."""

    def binds(ideal: Ideal) -> bool:
        free = ideal.driver is None and not ideal.direct
        return free and bool((np.abs(ideal.constant) * limit[ideal.name] > MAX_BIAS).any())

    cut = [replace(i, cut=binds(i)) for i in members]
    return [list(members), cut] if any(i.cut for i in cut) else [list(members)]


def _score(
    members: Sequence[Ideal], limit: Mapping[str, Array], lessons: Mapping[str, Lesson], options: Sequence[Shifts]
) -> list[float]:
    """The summed deviation of the populations, per option."""
    total = np.zeros(len(options))
    for ideal in members:
        variants = [quantise(ideal, shifts, limit[ideal.name]) for shifts in options]
        total += deviation(forced(variants, lessons[ideal.name])[0], lessons[ideal.name].wanted).sum(axis=1)
    return [round(value, 6) for value in total.tolist()]


def _climb(
    start: Shifts, used: Sequence[str], apart: int, score: Callable[[Sequence[Shifts]], list[float]]
) -> dict[Shifts, float]:
    """Scores of `start` and all around it, and on in the direction of the best until none around it is better."""
    scores: dict[Shifts, float] = {}
    best = start
    while True:
        steps = product(*((-1, 0, 1) for _ in used))
        around = [replace(best, **{n: getattr(best, n) + d for n, d in zip(used, s, strict=True)}) for s in steps]
        fresh = [s for s in around if s not in scores and _legal(s, used, apart)]
        if fresh:
            scores.update(zip(fresh, score(fresh), strict=True))
        least = min(scores, key=scores.__getitem__)
        if least == best or not fresh:
            return scores
        best = least


def _legal(shifts: Shifts, used: Sequence[str], apart: int) -> bool:
    return all(0 <= getattr(shifts, n) <= MAX_SHIFT for n in used) and abs(shifts.into - shifts.rec) <= apart


def _hidden(all_ideals: Mapping[str, Ideal]) -> list[Ideal]:
    return [i for i in all_ideals.values() if not i.is_output]


def _outputs(all_ideals: Mapping[str, Ideal]) -> list[Ideal]:
    return [i for i in all_ideals.values() if i.is_output]


def _uses(members: Sequence[Ideal], name: str) -> bool:
    matrix = {"into": "in", "rec": "rec", "out": "out"}[name]
    own = name == "rec" and any(i.direct or i.driver for i in members)
    return own or any(f.matrix == matrix for i in members for f in i.feeds)


# -- steps 2 and 3 -----------------------------------------------------------------------------------------------------


def calibrate(ideal: Ideal, shifts: Shifts, limit: Array, lesson: Lesson) -> tuple[Cells, dict[str, float]]:
    """One population's integers by the method that does best on samples it was not fitted to; deviation per method."""
    learn, judge = lesson.halves()
    trials = [
        quantise(ideal, shifts, limit),
        by_membrane(ideal, shifts, limit, learn),
        by_spikes(by_membrane(ideal, shifts, limit, learn), learn),
    ]
    errors = deviation(forced(trials, judge)[0], judge.wanted).sum(axis=1)
    found = {method: round(float(e), 6) for method, e in zip(METHODS, errors, strict=True)}
    method = int(errors.argmin())
    if method == 0:
        return trials[0], found
    cells = by_membrane(ideal, shifts, limit, lesson)
    return (by_spikes(cells, lesson) if method == 2 else cells), found


def by_membrane(ideal: Ideal, shifts: Shifts, limit: Array, lesson: Lesson) -> Cells:
    """Decays, thresholds and biases with which the membrane follows the source's (step 2)."""
    synapses = [None] if ideal.direct else _near(ideal.decay_syn)
    dashes = list(product(_near(ideal.decay_mem), synapses))
    variants = [quantise(ideal, shifts, limit, dash_mem=mem, dash_syn=syn) for mem, syn in dashes]
    residual = np.zeros((len(variants), ideal.size))
    for _ in range(2):  # the fit is made with the thresholds that it will change
        follow, extra, residual = _fit(variants, lesson)
        variants = [
            quantise(ideal, shifts, limit, dash_mem=mem, dash_syn=syn, follow=f, extra=e)
            for (mem, syn), f, e in zip(dashes, follow, extra, strict=True)
        ]
    return _merge(variants, residual.argmin(axis=0))


def _fit(variants: Sequence[Cells], lesson: Lesson) -> tuple[Array, Array, Array]:
    """Factor of the threshold, extra constant and residual, each (C, n), with which membranes fit the source's best.

    With u the membrane that input alone drives and r the resets, both as the chip decays, the chip spikes where
    u / f + e D / f - threshold r passes the threshold: f is the factor, e an extra constant and D its steady rise.
    Least squares for 1/f and e/f over all steps, weighted by how near the source's membrane is to the threshold.
    """
    ideal, wanted = variants[0].ideal, lesson.wanted
    near = np.exp(-(((lesson.membrane - ideal.threshold) / (0.5 * ideal.threshold)) ** 2)) + 1e-3
    membranes = forced(variants, lesson, resets=wanted)[1]
    assert membranes is not None
    scale = np.stack([c.scale for c in variants])[:, None]
    offset = np.stack([c.offset for c in variants])[:, None]
    taken = np.stack([-(c.returning << c.back) if ideal.direct else c.threshold for c in variants])[:, None] / scale
    decay = dash_decay(np.stack([c.leak for c in variants]))[:, None]
    reset, rise = np.zeros(membranes.shape[1:]), np.zeros_like(decay)
    sums = np.zeros((6, *decay[:, 0].shape))
    for t, fired in enumerate(wanted):
        rise = np.ones_like(decay) if ideal.direct else decay * rise + 1.0
        x = (membranes[t] - offset) / scale + taken * reset
        y = lesson.membrane[t] + ideal.take * reset
        w = near[t]
        wx, wr, wy = w * x, w * rise, w * y
        for k, product_ in enumerate((wx * x, wx * rise, wr * rise, wx * y, wr * y, wy * y)):
            sums[k] += product_.sum(axis=1)
        reset = decay * (reset + fired)
    xx, xr, rr, xy, ry, yy = sums
    steady = rise[:, 0]
    # The prior: the factor 1, and no extra constant, known to a tenth of the threshold.
    level = _PRIOR * ideal.threshold**2
    xx, xy, yy = xx + level, xy + level, yy + level
    rr = rr + level * (steady / (0.1 * ideal.threshold)) ** 2
    det = np.maximum(xx * rr - xr**2, 1e-300)
    a, b = (xy * rr - ry * xr) / det, (xx * ry - xr * xy) / det
    usable = (a > 0.3) & (a < 3.0)
    a, b = np.where(usable, a, 1.0), np.where(usable, b, 0.0)
    residual = yy - 2 * (a * xy + b * ry) + a * a * xx + 2 * a * b * xr + b * b * rr
    return 1.0 / a, b / a, residual


def by_spikes(best: Cells, lesson: Lesson) -> Cells:
    """Biases, then thresholds, that clearly lower a neuron's deviation (step 3)."""
    for vary in (_biases, _thresholds):
        variants = [best, *vary(best)]
        errors = deviation(forced(variants, lesson)[0], lesson.wanted)
        errors[0] *= 1.0 - _MARGIN
        best = _merge(variants, errors.argmin(axis=0))
    return best


def _thresholds(best: Cells) -> list[Cells]:
    steps = (0.94, 0.97, 0.985, 1.015, 1.03, 1.06)
    levels = [best.offset + np.rint((best.threshold - best.offset) * f) for f in steps]
    return [replace(best, threshold=np.clip(level, best.offset + 1, MAX_STATE).astype(int)) for level in levels]


def _biases(best: Cells) -> list[Cells]:
    """Biases by which the membrane shifts by 1, 2 or 4 per cent of the threshold."""
    if best.ideal.direct:
        return []
    unit = 0.01 * best.threshold / 2.0 ** np.minimum(best.dash_mem, 12)
    shifted = [np.clip(np.rint(best.bias + unit * n), -MAX_BIAS, MAX_BIAS).astype(int) for n in (-4, -2, -1, 1, 2, 4)]
    return [replace(best, bias=bias) for bias in shifted]


def _near(decay: Array) -> list[Array]:
    """The nearest dash of each neuron, and the second nearest where the two are about as good."""
    first = nearest_dash(decay)
    exact = np.clip(ideal_dash(decay), 1, 15)
    second = np.where(np.abs(exact - first) > 0.2, first + np.sign(exact - first).astype(np.int64), first)
    second = np.clip(second, 1, 15)
    return [first] if np.array_equal(first, second) else [first, second]


def _merge(variants: Sequence[Cells], choice: Array) -> Cells:
    """Neuron n as in variant `choice[n]`."""
    where = np.arange(len(choice))

    def of(name: str) -> Array:
        return np.stack([getattr(c, name) for c in variants])[choice, where]

    first = variants[0]
    weights = tuple(np.stack([c.weights[k] for c in variants])[choice, :, where].T for k in range(len(first.weights)))
    names = ("dash_mem", "dash_syn", "scale", "threshold", "bias", "returning", "driving", "starting", "offset")
    return Cells(first.ideal, first.shifts, weights=weights, **{name: of(name) for name in names})
