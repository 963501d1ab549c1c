"""Xylo's neurons in floats, which can do their arithmetic in units of the chip, event by event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from snnir.ops import Array
from snnir.roundings import Cells, Link

EDGE = 1e-6  # units: integers that were divided by a scale are compared as integers
_LOW, HIGH = -32768.0, 32767.0


@dataclass(eq=False, kw_only=True)
class XyloCells(Cells):
    """Neurons that can do their arithmetic in units of the chip: `scale` units per unit of the network.

    DIRECT neurons stand `offset` units higher there, which the driver keeps up (unless they are slow), from the step
    `first` on; they begin `start` off.
    """

    direct: bool
    scale: Array
    offset: Array
    lift: Array
    slow: Array
    first: int
    start: Array
    saturates: bool
    whole: bool
    ids: Mapping[str, Array]
    membrane: Array = field(default_factory=lambda: np.zeros(()), repr=False)
    taken: Array = field(default_factory=lambda: np.zeros(()), repr=False)

    def step(self, a: Array, t: int) -> Array:
        """One step; lifted neurons do nothing before they are."""
        if t < self.first:
            return np.zeros_like(self.v)
        if t == self.first:
            self.v = self.v + self.start
        count = super().step(a, t)
        if self.direct and self.take is not None:
            self.taken = count * self.take
        return count

    def in_order(self, events: Sequence[tuple[Link, Array]], constant: Array, t: int) -> Array:
        """What arrives in one step, where the state ends at 16 bits after each event, by the ids of what sends them.

        Only where the sum of all that push up, or down, leaves 16 bits are events added one by one. What DIRECT
        neurons' spikes take off arrives as an event, too, and so does what lifts them.
        """
        if t < self.first:
            return constant
        unit = self.scale / self.decay if self.direct else self.scale * self.rise / self.decay_syn
        level, hold = self._lifted() if self.direct else (np.zeros(self.size), np.zeros(self.size))
        begins = self.start if t == self.first else np.zeros(self.size)
        state = self.u * self.scale
        own: list[tuple[Array, Array]] = []
        if self.direct:
            state = (self.v + self.taken) * self.scale + level
            own.append((self.ids["own"], -self.taken * self.scale))
            if t == self.first and "starter" in self.ids:
                state = state - level
                own.append((self.ids["starter"], level + begins * self.scale))
        if "driver" in self.ids:
            own.append((self.ids["driver"], constant * unit + hold))
        else:
            state = state + constant * unit
        sent, weight, ids = self._sorted(events)
        up = (sent @ np.maximum(weight, 0.0)) * unit + sum(np.maximum(v, 0.0) for _, v in own)
        down = (sent @ np.minimum(weight, 0.0)) * unit + sum(np.minimum(v, 0.0) for _, v in own)
        final = state + up + down
        row, column = np.nonzero((state + up > HIGH) | (state + down < _LOW))
        if len(row):
            steps = [sent[row] * weight[:, column].T * unit[column, None]]
            steps += [np.broadcast_to(value, state.shape)[row, column][:, None] for _, value in own]
            order = [np.broadcast_to(ids, (len(row), len(ids))), *(of[column][:, None] for of, _ in own)]
            final[row, column] = _one_by_one(state[row, column], np.hstack(steps), np.hstack(order))
        if self.direct:
            return np.asarray(((final - level - hold) / self.scale - self.v - begins) * self.decay - self.drive)
        return np.asarray((final / self.scale - self.u) / (self.rise / self.decay_syn))

    def _sorted(self, events: Sequence[tuple[Link, Array]]) -> tuple[Array, Array, Array]:
        """What is sent (B, sources), its weights (sources, targets) and the chip's ids, of what sends anything."""
        if not events:
            return np.zeros((len(self.v), 0)), np.zeros((0, self.size)), np.zeros(0, int)
        sent = np.concatenate([value for _, value in events], axis=1)
        there = sent.any(axis=0)
        weight = np.concatenate([link.weight for link, _ in events if link.weight is not None])
        ids = np.concatenate([link.ids for link, _ in events if link.ids is not None])
        return sent[:, there], weight[there], ids[there]

    def advance(self, a: Array) -> None:
        """State before spikes."""
        if not (self.saturates or self.whole):
            super().advance(a)
        elif self.direct:
            self._advance_direct(a)
        else:
            arrived = self._held((self.u + a * (self.rise / self.decay_syn)) * self.scale)
            current = arrived - self._lost(arrived, self.decay_syn)
            membrane = self.v * self.scale
            change = self._held(current - self._lost(membrane, self.decay))
            membrane = self._held(membrane + self._held(change + self.drive * self.scale))
            self.u, self.v = current / self.scale, membrane / self.scale

    def _advance_direct(self, a: Array) -> None:
        level, hold = self._lifted()
        arrived = self._held((self.v + (a + self.drive) / self.decay) * self.scale + level + hold)
        current = arrived - self._lost(arrived, self.decay)
        self.v = (current - level) / self.scale
        # The membrane takes the current over, by a change that ends at 16 bits, too.
        self.membrane = self._held(self.membrane + self._held(current - self.membrane))

    def _lifted(self) -> tuple[Array, Array]:
        """Where a lifted membrane stands, in units, and what the driver brings in every step to keep it there."""
        leak = np.maximum(1.0 - self.decay, 1e-300)
        level, hold = self.offset, np.where(self.slow, 0.0, self.offset * leak / self.decay)
        if self.whole:  # the driver's weight is whole, and the lift rests amid the states whose decay is that weight
            hold = np.where(hold > 0, np.rint(hold - 0.5 / self.decay), 0.0)
            level = np.where(hold > 0, (hold * self.decay + 0.5) / leak, self.offset)
        return level, hold

    def _lost(self, units: Array, decay: Array) -> Array:
        """x >> dash, but at least 1 of a positive x; or all digits of it."""
        lost = units * (1.0 - decay)
        return np.maximum(np.floor(lost + EDGE), np.minimum(units, 1.0)) if self.whole else lost

    def _held(self, units: Array) -> Array:
        return np.clip(units, _LOW, HIGH) if self.saturates else units

    def counted(self) -> Array:
        """Spikes of this step; lifted membranes need twice their threshold and the lift for a second one."""
        if self.threshold is None or not (self.direct and self.saturates):
            return self._fitting()
        current, level = self.v, self._lifted()[0]
        self.v = (self.membrane - level) / self.scale
        count = self._fitting()
        self.v = current
        self.membrane = self.membrane - count * (self.threshold * self.scale + level)
        return count

    def _fitting(self) -> Array:
        if self.threshold is None or not self.lift.any():
            return super().counted()
        fits = np.floor((self.v + self.lift) / (self.threshold + self.lift))
        return np.clip(fits, 0.0, self.cap)


def _one_by_one(state: Array, steps: Array, ids: Array) -> Array:
    """States (n,) after steps (n, events) in the order of ids, held after each; those of one id are one event."""
    order = np.argsort(ids, axis=1, kind="stable")
    steps, ids = np.take_along_axis(steps, order, 1), np.take_along_axis(ids, order, 1)
    for k in range(steps.shape[1]):
        state = state + steps[:, k]
        last = ids[:, k] != ids[:, k + 1] if k + 1 < steps.shape[1] else np.ones(len(state), bool)
        state = np.where(last, np.clip(state, _LOW, HIGH), state)
    return state
