"""The hidden or the output neurons of a chip: synaptic currents, membranes, spikes, aliases."""

from __future__ import annotations

import numpy as np

from snnir.simulators.xylo.spec import HIGH, LOW, Array, alias_pairs


class Neurons:
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
        pairs = alias_pairs(aliases)
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
            leak[leak == LOW] = -LOW  # the chip's model negates in 16 bits: -(-32768) stays -32768
        size = self.v.shape[1]
        change = self.i[:, :size] - leak
        if self.i.shape[1] > size:
            change += self.i[:, size:]
        saturate(change)
        if self.biased:
            change += self.bias
            saturate(change)
        self.v += change
        saturate(self.v)
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


def saturate(x: Array) -> None:
    """Into the range of a state, in place."""
    np.minimum(x, HIGH, out=x)
    np.maximum(x, LOW, out=x)


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
