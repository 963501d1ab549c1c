"""What the source network does on recorded input: what quantisation is judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from snnir.backends.xylo.layout import Plan
from snnir.backends.xylo.quantise import Ideal, Peaks
from snnir.graph import Graph
from snnir.interpreter import interpret
from snnir.ops import Array

_MAX_WORK = 2_000_000  # neuron steps of the largest population


@dataclass(frozen=True, eq=False)
class Lesson:
    """One population in the source: what arrives, and what it makes of it.

    Attributes:
        inputs: per feed, the spikes (T, B, sources) that arrive, in the population's own time.
        wanted: its spikes (T, B, n).
        membrane: before reset, and current: into the membrane, (T, B, n), in the source's units.
    """

    inputs: tuple[Array, ...]
    wanted: Array
    membrane: Array
    current: Array

    def halves(self) -> tuple[Lesson, Lesson]:
        """Every other sample of the batch, and the rest; twice the whole where there is but one."""
        if self.wanted.shape[1] < 2:
            return self, self
        return self._samples(slice(0, None, 2)), self._samples(slice(1, None, 2))

    def _samples(self, which: slice) -> Lesson:
        inputs = tuple(x[:, which] for x in self.inputs)
        return Lesson(inputs, self.wanted[:, which], self.membrane[:, which], self.current[:, which])

    def peaks(self, margin: float = 1.25) -> tuple[Peaks, ...]:
        """How far states go, with some room for other input; from all there is to the least that matters.

        Where inhibition drives a membrane far below, it may end at the lowest number; where a current is far above
        what it takes to spike, it may end at the highest. And where a membrane ends below twice its threshold, a
        neuron spikes once per step, as in the source, and not several times.
        """
        high = margin * self.membrane.max(axis=(0, 1), initial=0.0)
        low = -margin * self.membrane.min(axis=(0, 1), initial=0.0)
        current = margin * np.abs(self.current).max(axis=(0, 1), initial=0.0)
        none = np.zeros_like(high)
        return (
            Peaks(np.maximum(high, low), current),
            Peaks(high, current),
            Peaks(high, none),
            Peaks(none, none),
            Peaks(none, none, room=1.25),
        )


def teach(
    graph: Graph, plan: Plan, all_ideals: Mapping[str, Ideal], recorded: Mapping[str, Array]
) -> dict[str, Lesson]:
    """Runs the source network on recorded input.

    Args:
        graph: the network; plan, all_ideals: what was made of it.
        recorded: input name -> (T, B, *shape).

    Returns:
        A lesson per population.
    """
    steps, batch = next(iter(recorded.values())).shape[:2]
    names = list(plan.network.populations)
    _, found = interpret(graph, dict(recorded), record=[*names, *(f"{n}:v" for n in names)])
    flat = {name: value.reshape(steps, batch, -1) for name, value in {**recorded, **found}.items()}
    return {name: _lesson(all_ideals[name], flat) for name in names}


def _lesson(ideal: Ideal, flat: Mapping[str, Array]) -> Lesson:
    inputs = tuple(_late(flat[feed.source], feed.delay) for feed in ideal.feeds)
    after = flat[f"{ideal.name}:v"] - ideal.rest
    current = np.zeros_like(after)
    for x, charge in zip(inputs, ideal.charge, strict=True):
        current += x @ charge
    if not ideal.direct:
        now = np.zeros(after.shape[1:])
        for t in range(len(current)):
            now = ideal.decay_syn * now + (1.0 - ideal.decay_syn) * current[t]
            current[t] = now
    if ideal.late:  # resets come at the start of the next step: what was recorded is the membrane before them
        return Lesson(inputs, flat[ideal.name], after, current)
    before = np.empty_like(after)
    before[1:] = after[:-1]
    before[:1] = ideal.start - ideal.rest
    return Lesson(inputs, flat[ideal.name], ideal.decay_mem * before + current + ideal.constant, current)


def _late(x: Array, steps: int) -> Array:
    if steps <= 0:
        return x
    out = np.zeros_like(x)
    out[steps:] = x[:-steps]
    return out


def kept(plan: Plan, recorded: Mapping[str, Array]) -> dict[str, Array]:
    """As much of the batch of recorded input as keeps calibration quick."""
    steps, batch = next(iter(recorded.values())).shape[:2]
    widest = max((p.size for p in plan.network.populations.values()), default=1)
    most = max(2, min(batch, _MAX_WORK // max(1, steps * widest)))
    return {name: np.asarray(x[:, :most], np.float64) for name, x in recorded.items()}
