"""Another time step, so that decays become what shifts can be (option `choose_dt`).

A decay of 1 - 2^-dash needs tau = 2^dash dt (forward Euler). Where the network's taus lie between, another dt can meet
them; input must then be counted in bins of that length. The network is kept in continuous time: taus, the charge of
every spike, and constant drives per second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from snnir.backends.xylo.chip import MAX_DASH
from snnir.backends.xylo.parts import ideal_dash
from snnir.backends.xylo.quantise import Ideal
from snnir.backends.xylo.teacher import Lesson
from snnir.ops import Array
from snnir.semantics import Decay

RANGE = (0.5, 2.0)  # times the network's own dt


def scaled_decay(decay: Array, ratio: float, rule: Decay) -> Array:
    """The decay per step of `ratio` times the length."""
    return 1.0 - (1.0 - decay) * ratio if rule == "euler" else np.asarray(decay) ** ratio


def dash_error(all_ideals: Iterable[Ideal], ratio: float, rule: Decay) -> float:
    """Root mean square over neurons and states of the distance between the dash wanted and a whole one, 1 to 15."""
    squares: list[Array] = []
    for ideal in all_ideals:
        for decay in {id(d): d for d in (ideal.decay_mem, ideal.decay_syn)}.values():
            slow = decay < 1.0 - 2.0 ** -(MAX_DASH + 0.5)  # what hardly decays is no reason to change anything
            dash = ideal_dash(scaled_decay(decay[slow], ratio, rule))
            squares.append((dash - np.clip(np.rint(dash), 1, MAX_DASH)) ** 2)
    together = np.concatenate(squares) if squares else np.zeros(0)
    return float(np.sqrt(together.mean())) if together.size else 0.0


def best_ratio(all_ideals: Mapping[str, Ideal], rule: Decay) -> float:
    """The ratio of time steps within `RANGE` with the least error of dashes; of equals the one nearest to 1."""
    ideals_ = list(all_ideals.values())
    candidates = [1.0, *np.geomspace(*RANGE, 241).tolist()]
    for ideal in ideals_:  # those that make some neuron's decay exact
        for decay in (ideal.decay_mem, ideal.decay_syn):
            loss = np.unique(np.round(1.0 - decay if rule == "euler" else -np.log(np.maximum(decay, 1e-9)), 12))[:8]
            for dash in range(1, MAX_DASH + 1):
                wanted = 2.0**-dash if rule == "euler" else -np.log1p(-(2.0**-dash))
                candidates += [float(wanted / x) for x in loss if x > 0]
    allowed = [r for r in candidates if RANGE[0] <= r <= RANGE[1]]
    return min(allowed, key=lambda r: (round(dash_error(ideals_, r, rule), 4), abs(np.log(r))))


def retimed(ideal: Ideal, ratio: float, rule: Decay) -> Ideal:
    """The population with steps of `ratio` times the length."""
    decay_mem = scaled_decay(ideal.decay_mem, ratio, rule)
    loss = 1.0 - ideal.decay_mem
    with np.errstate(divide="ignore", invalid="ignore"):
        drive = np.where(loss > 0, (1.0 - decay_mem) / loss, ratio)
    return replace(
        ideal,
        decay_mem=decay_mem,
        decay_syn=scaled_decay(ideal.decay_syn, ratio, rule),
        constant=ideal.constant * drive,
    )


def rebinned(counts: Array, ratio: float) -> Array:
    """Counts (T, ...) in bins of `ratio` times the length, as many as it takes."""
    steps = len(counts)
    into = np.floor((np.arange(steps) + 0.5) / ratio).astype(int)
    out = np.zeros((int(np.ceil(steps / ratio)), *counts.shape[1:]), counts.dtype)
    np.add.at(out, np.minimum(into, len(out) - 1), counts)
    return out


def retimed_lesson(lesson: Lesson, ratio: float) -> Lesson:
    """What the population should do in the longer or shorter steps."""
    inputs = tuple(rebinned(x, ratio) for x in lesson.inputs)
    wanted = rebinned(lesson.wanted, ratio)
    at = np.clip(np.ceil((np.arange(len(wanted)) + 1) * ratio).astype(int) - 1, 0, len(lesson.membrane) - 1)
    return Lesson(inputs, wanted, lesson.membrane[at], lesson.current[at] * max(ratio, 1.0))
