"""The LIF neurons' update, for a whole batch at once."""

from __future__ import annotations

import numpy as np

from snnir.simulators.loihi.network import Population
from snnir.simulators.loihi.ranges import ALIGN, CURRENT_LIMIT, UNITY, Array


class Cells:
    """One population's state for the whole batch, (B, N).

    States are float64: products with a decay, k/4096, and sums are far below 2**53, so all of it is exact, and rounding
    towards zero is one operation. Overflow is looked for only where the bounds on the current and on what arrives in a
    step leave it possible: beyond 24 bits, or beyond int32, and the membrane's clipping likewise.
    """

    def __init__(self, population: Population, batch: int, current: float, arrival: float) -> None:
        size = population.size
        self.both = np.zeros((2, batch, size))
        self.u, self.v = self.both
        self.keep = np.empty((2, 1, size))  # of u and of v
        self.keep[0] = (UNITY - 1 - population.du) / UNITY
        self.keep[1] = (UNITY - population.dv) / UNITY
        bias = population.bias_mant.astype(np.int64) << population.bias_exp
        self.bias = np.broadcast_to(bias.astype(float), size)
        self.threshold = np.broadcast_to((population.vth * 2.0**ALIGN), size)
        self.interval, self.offset = population.reset_interval, population.reset_offset
        self.forgets, self.biased = not self.keep[0].any(), bool(bias.any())
        self.narrow = current < CURRENT_LIMIT
        self.overflows = arrival * 2**ALIGN >= CURRENT_LIMIT
        change = current + float(np.abs(self.bias).max())
        self.clips_high = float(self.threshold.max()) + change >= CURRENT_LIMIT
        most = change / (1 - float(self.keep[1].max())) if self.keep[1].max() < 1 else np.inf
        self.clips_low = most >= CURRENT_LIMIT

    def step(self, drive: Array, t: int, quiet: Array) -> None:
        """Update from the aligned `drive` (B, N) in step `t`, from 0; `quiet` (B, N), bool: what does not fire."""
        u, v = self.u, self.v
        if self.interval and (t + 1 - self.offset) % self.interval == 0:
            u[:], v[:] = 0, 0
        if self.forgets:
            u[:] = drive
            v *= self.keep[1]
            np.trunc(v, out=v)
        else:
            self.both *= self.keep
            np.trunc(self.both, out=self.both)
            u += drive
        if not self.narrow:
            self._wrap()
        v += u
        if self.biased:
            v += self.bias
        if self.overflows:
            v[:] = _int32(v)
        if self.clips_high:
            np.minimum(v, CURRENT_LIMIT - 1, out=v)
        if self.clips_low:
            np.maximum(v, 1 - CURRENT_LIMIT, out=v)
        np.less_equal(v, self.threshold, out=quiet)
        v *= quiet  # several times faster than writing zeros through a mask

    def _wrap(self) -> None:
        """Lava's overflow of the current: one turn of 24 bits, after the sum wrapped in 32."""
        u = self.u
        if self.overflows:
            u[:] = _int32(u)
        if u.max() > CURRENT_LIMIT or u.min() <= -CURRENT_LIMIT:
            high, low = u > CURRENT_LIMIT, u <= -CURRENT_LIMIT
            u[high] -= 2 * CURRENT_LIMIT
            u[low] += 2 * CURRENT_LIMIT


def aligned(drive: Array) -> Array:
    """What the synapses give, int32, as the current takes it: shifted in int32, then float64."""
    return (drive << ALIGN).astype(np.float64)


def _int32(values: Array) -> Array:
    return values.astype(np.int64).astype(np.int32)
