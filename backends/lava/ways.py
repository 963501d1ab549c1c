"""One wire on its way to integers: which connections write it, and what they can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from snnir.backends.lava.chip import EXPONENTS, MAX_MIXED, MAX_SIGNED
from snnir.backends.lava.inputs import Code
from snnir.backends.lava.plan import Wire
from snnir.kernels import Geometry
from snnir.ops import Array
from snnir.simulators.loihi import Connection, Convolution


@dataclass(frozen=True, eq=False)
class Way:
    """What arrives over one wire: weights per unit of what is sent, and the largest value that is.

    `parts`: connections that share its weights, each writing what rounding left over of those before.
    """

    wire: Wire
    weight: Array
    graded: bool
    peak: int
    parts: int

    @cached_property
    def mixed(self) -> bool:
        return bool(self.weight.min() < 0 < self.weight.max())

    @property
    def limit(self) -> int:
        return MAX_MIXED if self.mixed else MAX_SIGNED

    @cached_property
    def largest(self) -> float:
        return float(np.abs(self.weight).max())

    @cached_property
    def power(self) -> float:
        """The sum of squares over all synapses."""
        return float(self.wire.sums(self.weight**2).sum())

    @cached_property
    def shifts(self) -> tuple[int, int]:
        """The least and the largest k. Lava's Conv knows no exponents: its integers are q 2^k, and k is not below 0."""
        low, high = (e + self.mixed for e in EXPONENTS)
        return (low if self.graded and self.wire.geometry is None else 0), high

    def shift(self, scale: float) -> int:
        """The least k that holds the largest weight."""
        least = int(np.ceil(np.log2(self.largest * scale / (self.limit + 0.49))))
        return int(np.clip(least, *self.shifts))

    def rounded(self, scale: float, weight: Array) -> tuple[Array, int]:
        """q and k."""
        k = self.shift(scale)
        return np.clip(np.rint(weight * (scale / 2.0**k)), -self.limit, self.limit), k


def ways_of(wire: Wire, codes: Mapping[str, Code], weight_bits: int) -> list[Way]:
    """What arrives over a wire; `weight_bits` as in `quantise`."""
    code = codes.get(wire.source)
    graded = code is not None and code.graded
    sent = code.parts if code is not None else {wire.source: (1.0, 1)}
    parts = 2 if wire.driven or weight_bits == 16 else 1
    found = []
    for name, (unit, peak) in sent.items():
        weight = wire.weight * unit
        signs = [np.maximum(weight, 0.0), np.minimum(weight, 0.0)] if weight_bits == 9 else [weight]
        found += [Way(replace(wire, source=name), w, graded, peak, parts) for w in signs if w.any()]
    return found


def arriving(ways: Sequence[Way]) -> Array:
    """Thresholds that arrive at each neuron in one step at most, one way or the other."""
    if not ways:
        return np.zeros(1)
    both: Array = np.zeros((2, 1))
    for way in ways:
        up, down = way.wire.sums(np.maximum(way.weight, 0)), way.wire.sums(np.maximum(-way.weight, 0))
        both = both + way.peak * (np.stack([up + down, up + down]) if way.graded else np.stack([up, down]))
    return np.asarray(both.max(axis=0))


def connections_of(way: Way, scale: float) -> tuple[list[Connection | Convolution], Array]:
    """A wire in integers, and the weights that act, in thresholds."""
    made: list[Connection | Convolution] = []
    got = np.zeros_like(way.weight)
    for _ in range(way.parts):
        left = way.weight - got
        if not left.any():
            break
        part = replace(way, weight=left)
        q, k = part.rounded(scale, left)
        if not q.any():
            break
        got = got + q * (2.0**k / scale)
        if way.wire.geometry is not None:
            made.append(_convolution(way, way.wire.geometry, q * 2.0**k))
            continue
        made.append(
            Connection(
                source=way.wire.source,
                target=way.wire.target,
                weights=(2 * q if part.mixed else q).astype(int),
                weight_exp=k - 1 if part.mixed else k,
                delays=way.wire.delay,
                graded=way.graded,
            )
        )
    return made, got


def _convolution(way: Way, geometry: Geometry, weights: Array) -> Convolution:
    """Lava's Conv: X is the width; kernels are turned around, and their channels come last."""
    _, height, width = geometry.source
    return Convolution(
        source=way.wire.source,
        target=way.wire.target,
        weights=weights[:, :, ::-1, ::-1].transpose(0, 3, 2, 1).astype(int),
        input_shape=(width, height, geometry.source[0]),
        stride=geometry.stride[::-1],
        padding=geometry.padding[::-1],
        dilation=geometry.dilation[::-1],
        groups=geometry.groups,
        graded=way.graded,
        layout="cyx",
        phases=geometry.phases[::-1],
    )
