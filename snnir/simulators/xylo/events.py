"""Events that arrive at neurons: all connections from one group to another, saturating after every event."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from snnir.simulators.xylo.neurons import saturate
from snnir.simulators.xylo.spec import HIGH, LOW, Array

_TILE = 128  # targets per matrix product: narrow enough to skip the empty blocks of a layered network
_STEPS = 2**16  # events followed one by one at a time: few enough to stay in cache


@dataclass(frozen=True, eq=False)
class _Tile:
    """Some targets of a projection, and the sources that reach any of them."""

    sources: slice | Array
    targets: slice
    weights: Array
    positive: Array  # max(weights, 0)
    largest: float  # magnitude of one weight
    heaviest: float  # sum of magnitudes into one target


class Projection:
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
            if start.max() + reach > HIGH or start.min() - reach < LOW:
                up = events @ tile.positive
                unsafe = np.flatnonzero((start + up > HIGH) | (after - up < LOW))
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
                saturate(before)
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
                saturate(state)
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
