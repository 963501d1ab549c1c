"""Convolutions on Loihi: between cells, with relays in front of those that have to wait, and as what outputs read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from snnir.backends.lava.chip import MAX_CONV
from snnir.backends.lava.plan import FORGET, Cell, Wire
from snnir.kernels import Geometry, Kernel, NoKernel, identity
from snnir.ops import Array
from snnir.projections import Projection

_WHY = "with all linear ops between"
_RELAYS = "hands spikes on, one step later: Lava's Conv has no delays"


def convolutions(kernel: Kernel, sources: Sequence[tuple[str, Array | None]], targets: Sequence[Cell]) -> list[Wire]:
    """The parts of a convolution between cells; `sources`: names, and which neurons they are (None: all).

    Raises:
        NoKernel: cells that do not hold whole channels, or numbers beyond those of Lava's Conv.
    """
    wires = []
    for cell in targets:
        target = None if cell.size == prod(kernel.target) else _channels(cell.ids, kernel)
        factor = _per_channel(cell.gain / cell.unit, kernel)
        for name, ids in sources:
            source = None if ids is None or len(ids) == prod(kernel.source) else _channels(ids, kernel, "source")
            part = kernel.between(source, target).scaled(factor)
            if part.weight.any():
                geometry, weight = part.lowered()
                _require_small(geometry, weight)
                wires.append(Wire(name, cell.name, weight, 0, 0, geometry, _WHY))
    return wires


def relayed(wires: Sequence[Wire], cells: list[Cell], mark: str) -> list[Wire]:
    """All wires, those of convolutions without delays: relays, which are added to `cells`, hold the spikes back.

    `mark` stands in their names between the source's and the steps.
    """
    there = {c.name: c for c in cells}
    found = []
    for wire in wires:
        if wire.geometry is None or wire.delay == 0:
            found.append(wire)
            continue
        geometry, weight = identity(wire.geometry.source).lowered()
        before = wire.source
        for step in range(1, wire.delay + 1):
            name = f"{wire.source}{mark}{step}"
            if name not in there:
                lag = there[wire.source].lag if wire.source in there else 0
                there[name] = _relay(name, prod(geometry.source), lag + step, (wire.source, step))
                cells.append(there[name])
                found.append(Wire(before, name, 2.0 * weight, 0, 0, geometry, _RELAYS))  # twice what it takes to spike
            before = name
        found.append(replace(wire, source=before, delay=0))
    return found


def _relay(name: str, size: int, lag: int, relay: tuple[str, int]) -> Cell:
    """Neurons that spike as many steps after their one source as `relay` says."""
    zero, one, ids = np.zeros(size), np.ones(size), np.arange(size)
    return Cell(name, name, ids, "spikes", zero, zero, FORGET, FORGET, zero, one, one, zero, lag, relay)


def selection(p: Projection, size: int) -> tuple[Array, Array] | None:
    """Per target how many sources it is, and which; None where it is a weighted sum."""
    if p.kernel is None:
        weights, neurons = p.weight, np.arange(size) @ p.weight
        return (weights.sum(axis=0), neurons.astype(int)) if np.isin(weights, (0, 1)).all() else None
    if not np.isin(p.kernel.weight, (0, 1)).all():
        return None
    geometry, weight = p.kernel.lowered()
    return geometry.sums(weight), geometry.apply(weight, np.arange(size)[None].astype(float))[0].astype(int)


def _channels(ids: Array, kernel: Kernel, end: str = "target") -> Array:
    """The channels of a kernel's source or target that these neurons are."""
    _, height, width = getattr(kernel, end)
    pixels = height * width
    channels: Array = np.unique(ids // pixels)
    if len(ids) != len(channels) * pixels or (ids != np.add.outer(channels * pixels, np.arange(pixels)).ravel()).any():
        raise NoKernel(f"neurons of one channel of its {end} differ in their time constants")
    return channels


def _per_channel(factor: Array, kernel: Kernel) -> Array:
    """A factor per neuron of some channels, as one per channel."""
    by_channel: Array = np.reshape(factor, (-1, kernel.target[1] * kernel.target[2]))
    if (by_channel != by_channel[:, :1]).any():
        raise NoKernel("neurons of one channel of its target differ in their thresholds, gains or time constants")
    return by_channel[:, 0]


def _require_small(geometry: Geometry, weight: Array) -> None:
    """Lava's Conv holds its numbers in 8 bits."""
    for what in ("stride", "padding", "dilation"):
        if max(getattr(geometry, what)) > MAX_CONV:
            raise NoKernel(f"its {what} is {max(getattr(geometry, what))}, and Lava's Conv takes {MAX_CONV} at most")
    if max(weight.shape[2:]) > MAX_CONV:
        raise NoKernel(f"its kernel is {max(weight.shape[2:])} wide, and Lava's Conv takes {MAX_CONV} at most")
