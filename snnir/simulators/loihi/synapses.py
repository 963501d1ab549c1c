"""What connections add to their targets in every step: dense and sparse ones alike, convolutions by other rules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from snnir.simulators.loihi.convolution import Convolution, convolve
from snnir.simulators.loihi.network import Connection, LoihiSpec
from snnir.simulators.loihi.ranges import CURRENT_LIMIT, INT32, Array

_EXACT32, _EXACT64 = 2**24, 2**53  # whole numbers below these are exact in float32, float64


class Synapses(Protocol):
    """Synapses of one connection that share a delay."""

    @property
    def source(self) -> str:
        """The input or population they come from."""

    @property
    def graded(self) -> bool:
        """Whether they multiply by the values that arrive."""

    @property
    def delay(self) -> int:
        """Steps beyond the one that every connection takes."""

    def reach(self, peak: int | None) -> Array:
        """Bounds (2, n_target) on what they give upwards and downwards, from values up to +-`peak`; None: spikes."""

    def ready(self, peak: int) -> Synapses:
        """The same with weights in a float type whose sums over values of up to `peak` are exact."""

    def sums(self, sent: Array) -> Array:
        """What (n, n_source) values or spikes give: (n, n_target), int32 or int64 that wraps to it."""


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


def all_synapses(spec: LoihiSpec) -> dict[str, list[Synapses]]:
    """What reaches each population."""
    found: dict[str, list[Synapses]] = {p.name: [] for p in spec.populations}
    for connection in spec.connections:
        if isinstance(connection, Convolution):
            found[connection.target].append(_Kernels(connection, connection.weights))
        else:
            found[connection.target] += _by_delay(connection)
    return found


def add(synapses: Synapses, drive: Array, spikes: Array, start: int, stop: int) -> None:
    """Add what arrives in steps `start`..`stop` - 1 to `drive` (stop - start, B, n_target), int32, which wraps."""
    late = 1 + synapses.delay
    skip = max(late - start, 0)
    if start + skip >= stop:
        return
    sent = spikes[start + skip - late : stop - late]
    sent = sent if synapses.graded else sent != 0
    sums = synapses.sums(sent.reshape(-1, sent.shape[2]))
    drive[skip:] += sums.astype(np.int32, copy=False).reshape(drive[skip:].shape)


@dataclass(frozen=True, eq=False)
class _Matrix:
    """The synapses of a dense or sparse connection that share a delay: `weights` (n_source, n_target)."""

    source: str
    weights: Array
    exponent: int
    delay: int
    graded: bool

    def reach(self, peak: int | None) -> Array:
        weights = self.weights.astype(np.float64)
        ways = np.stack([np.maximum(weights, 0).sum(axis=0), np.maximum(-weights, 0).sum(axis=0)])
        return np.ceil(np.ldexp(_both_ways(ways, peak if self.graded else None), self.exponent))

    def ready(self, peak: int) -> _Matrix:
        reach = (peak if self.graded else 1) * int(np.abs(self.weights.astype(np.int64)).sum(axis=0).max(initial=0))
        return replace(self, weights=np.ascontiguousarray(self.weights, _exact_type(reach, self.source)))

    def sums(self, sent: Array) -> Array:
        total = sent.astype(self.weights.dtype) @ self.weights
        whole: Array = total.astype(np.int32 if total.dtype == np.float32 else np.int64)
        if self.exponent > 0:
            return np.left_shift(whole, self.exponent)
        return np.right_shift(whole, -self.exponent) if self.exponent < 0 else whole


@dataclass(frozen=True, eq=False)
class _Kernels:
    """A convolution; `wide` if its sums may leave 24 bits."""

    convolution: Convolution
    weights: Array
    wide: bool = True

    delay = 0

    @property
    def source(self) -> str:
        return self.convolution.source

    @property
    def graded(self) -> bool:
        return self.convolution.graded

    def reach(self, peak: int | None) -> Array:
        ones = np.ones((1, int(np.prod(self.convolution.input_shape))))
        weights = self.convolution.weights.astype(np.float64)
        ways = np.concatenate([convolve(self.convolution, np.maximum(w, 0), ones) for w in (weights, -weights)])
        return np.minimum(_both_ways(ways, peak if self.graded else None), CURRENT_LIMIT)

    def ready(self, peak: int) -> _Kernels:
        weights = np.abs(self.convolution.weights.astype(np.int64)).reshape(len(self.weights), -1)
        reach = (peak if self.graded else 1) * int(weights.sum(axis=1).max())
        kind = _exact_type(reach, self.source)
        return replace(self, weights=self.convolution.weights.astype(kind), wide=reach >= CURRENT_LIMIT)

    def sums(self, sent: Array) -> Array:
        total = convolve(self.convolution, self.weights, sent)
        whole: Array = total.astype(np.int32 if total.dtype == np.float32 else np.int64)
        if not self.wide:
            return whole
        wrapped = (whole.astype(np.int64) + CURRENT_LIMIT) % (2 * CURRENT_LIMIT) - CURRENT_LIMIT
        return np.where((whole < INT32[0]) | (whole > INT32[1]), 0, wrapped)


def _by_delay(connection: Connection) -> list[_Matrix]:
    weights, delays = effective_weights(connection), connection.delays
    by_delay = {int(d): np.where(delays == d, weights, 0) if delays.ndim else weights for d in np.unique(delays)}
    exponent, graded = int(connection.weight_exp), bool(connection.graded)
    return [_Matrix(connection.source, w.T, exponent, delay, graded) for delay, w in by_delay.items()]


def _both_ways(ways: Array, peak: int | None) -> Array:
    """Values of either sign turn every weight both ways; spikes, of which there are none but ones, do not."""
    return ways if peak is None else np.broadcast_to(peak * ways.sum(axis=0), ways.shape)


def _exact_type(reach: int, source: str) -> type[np.floating]:
    if reach >= _EXACT64:
        raise ValueError(f"cannot run: sums of up to {reach} from {source!r} are beyond 2**53")
    return np.float32 if reach < _EXACT32 else np.float64
