"""Figures of a report as SVG: rasters with reference and target on top of one another, divergence over time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from snnir.ops import Array

WIDTH = 760.0  # pixels of the time axis at most
STEPS = 360  # columns of the time axis at most
ROWS = 40  # neurons of a raster at most
DIFFERING = 28  # of them, those that differ
OPS = 40  # rows of the divergence at most
LEFT, TOP, FOOT = 132.0, 6.0, 24.0
ROW = 11.0  # pixels of a neuron
MARKS = 3000  # differing places that are read out under the pointer


@dataclass(frozen=True)
class Window:
    """The steps that a raster shows: `start` to `stop`, of `total`."""

    start: int
    stop: int
    total: int

    @property
    def cell(self) -> float:
        """Pixels of a step."""
        return min(14.0, WIDTH / (self.stop - self.start))

    @property
    def said(self) -> str:
        """What is shown, in words."""
        if (self.start, self.stop) == (0, self.total):
            return f"all {self.total:,} steps"
        return f"steps {self.start:,} to {self.stop - 1:,} of {self.total:,}"


def window(total: int, first: int) -> Window:
    """The steps around the first difference."""
    if total <= STEPS:
        return Window(0, total, total)
    start = max(0, min(first - STEPS // 6, total - STEPS))
    return Window(start, start + STEPS, total)


def chosen(off: Array, active: Array) -> Array:
    """Indices of the neurons that are shown, in order: those that part first, others that spike, then any.

    Args:
        off: (T, neurons) where the two differ; active: (neurons,) those that spike in either.
    """
    count = off.shape[1]
    if count <= ROWS:
        return np.arange(count)
    ever = off.any(axis=0)
    first = np.where(ever, off.argmax(axis=0), off.shape[0])
    found = np.argsort(first, kind="stable")[: min(DIFFERING, int(ever.sum()))]
    for others in (np.flatnonzero(active & ~ever), np.flatnonzero(~active & ~ever), np.flatnonzero(ever)):
        left = np.setdiff1d(others, found)
        room = min(ROWS - len(found), len(left))
        found = np.concatenate([found, left[np.linspace(0, len(left) - 1, room).astype(int)]]) if room else found
    return np.unique(found)


def raster(want: Array, got: Array, off: Array, names: Sequence[str], rows: Array, first: int) -> str:
    """A figure of spikes: grey both, blue (upper half) the reference alone, orange (lower half) the target alone.

    Args:
        want, got: (T, neurons) spikes or counts of one sample; off: where they differ.
        names: of the neurons; rows: those that are shown; first: the step in which the sample parts, -1 for none.
    """
    shown = window(want.shape[0], max(first, 0))
    cell, span = shown.cell, slice(shown.start, shown.stop)
    a, b, differ = (side[span][:, rows] for side in (want, got, off))
    width, height = LEFT + cell * (shown.stop - shown.start) + 8, TOP + ROW * len(rows) + FOOT
    parts = [
        f'<rect class="row" x="{LEFT:g}" y="{TOP + ROW * k:g}" width="{width - LEFT - 8:g}" height="{ROW:g}"/>'
        for k in range(0, len(rows), 2)
    ]
    every = max(1, -(-len(rows) // 20))
    parts += [
        f'<text x="{LEFT - 6:g}" y="{TOP + ROW * k + 9:g}" text-anchor="end">{escape(names[n])}</text>'
        for k, n in enumerate(rows)
        if k % every == 0
    ]
    parts.append(_axis(shown, TOP + ROW * len(rows)))
    wide = max(1.0, cell - 1.0)
    same, more, less = (a != 0) & ~differ, differ & (a > b), differ & (b > a)
    parts.append(_ticks("both", same, cell, wide, 2.0, ROW - 4))
    parts.append(_ticks("reference", more, cell, wide, 0.5, ROW / 2 - 0.5))
    parts.append(_ticks("target", less, cell, wide, ROW / 2 + 0.5, ROW / 2 - 1))
    if shown.start <= first < shown.stop:
        x = LEFT + (first - shown.start) * cell
        parts.append(f'<path class="first" d="M{x:g} {TOP - 5:g}V{TOP + ROW * len(rows) + 3:g}"/>')
    marks = [[int(t), int(k), _short(a[t, k]), _short(b[t, k])] for t, k in np.argwhere(differ)[:MARKS]]
    data = {"left": LEFT, "top": TOP, "cell": cell, "height": ROW, "from": shown.start, "marks": marks}
    data["neurons"] = [names[n] for n in rows]
    kept = escape(json.dumps(data, separators=(",", ":")), quote=True)
    return f'<figure data-marks="{kept}">{_svg(parts, width, height, "raster of reference and target")}'


def _ticks(kind: str, where: Array, cell: float, wide: float, top: float, tall: float) -> str:
    path = "".join(
        f"M{LEFT + t * cell:.4g} {TOP + k * ROW + top:g}h{wide:.3g}v{tall:g}h-{wide:.3g}z"
        for t, k in np.argwhere(where)
    )
    return f'<path class="{kind}" d="{path}"/>' if path else ""


def lines(want: Array, got: Array, first: int) -> str:
    """A figure of one real-valued element (T,): the reference as a line, the target dashed on top of it."""
    shown = window(want.shape[0], max(first, 0))
    a, b = (side[shown.start : shown.stop] for side in (want, got))
    tall = 190.0
    finite = np.concatenate([a, b])
    finite = finite[np.isfinite(finite)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    span = (high - low) or 1.0
    cell = shown.cell
    width, height = LEFT + cell * len(a) + 8, TOP + tall + FOOT
    parts = [_axis(shown, TOP + tall)]
    for value in (low, (low + high) / 2, high):
        y = TOP + tall - (value - low) / span * (tall - 10) - 5
        parts.append(f'<path class="grid" d="M{LEFT:g} {y:.4g}H{width - 8:g}"/>')
        parts.append(f'<text x="{LEFT - 6:g}" y="{y + 4:.4g}" text-anchor="end">{value:.3g}</text>')
    for kind, side in (("line-reference", a), ("line-target", b)):
        points = [
            f"{LEFT + (t + 0.5) * cell:.4g},{TOP + tall - (v - low) / span * (tall - 10) - 5:.4g}"
            for t, v in enumerate(side)
            if np.isfinite(v)
        ]
        parts.append(f'<polyline class="{kind}" points="{" ".join(points)}"/>')
    if shown.start <= first < shown.stop:
        x = LEFT + (first - shown.start + 0.5) * cell
        parts.append(f'<path class="first" d="M{x:g} {TOP - 5:g}V{TOP + tall + 3:g}"/>')
    return f"<figure>{_svg(parts, width, height, 'reference and target over time')}"


def divergence(shares: Mapping[str, Array], totals: Mapping[str, tuple[int, int]]) -> tuple[str, str]:
    """A figure of the share of places that differ, per op and step, and what it leaves out in words.

    Args:
        shares: op -> share (T,), in running order; totals: op -> (differing places, places).
    """
    names = list(shares)
    said = ""
    if len(names) > OPS:
        parting = [n for n in names if totals[n][0]]
        keep = set(parting[: OPS - 4]) | set(names[-4:])
        said = f"{len([n for n in names if n in keep])} of {len(names)} ops: those that part first, and the last. "
        names = [n for n in names if n in keep]
    steps = max((len(values) for values in shares.values()), default=1)
    columns = min(steps, STEPS)
    if columns < steps:
        said += f"A column is the mean of about {steps / columns:.1f} steps. "
    cell, row = min(14.0, WIDTH / columns), 18.0
    most = max((float(_binned(values, columns).max(initial=0.0)) for values in shares.values()), default=0.0)
    if most:
        said += f"At most {most:.2%} of an op's places differ in one column. "
    width, height = LEFT + cell * columns + 150, TOP + row * len(names) + FOOT
    parts = [_axis(Window(0, steps, steps), TOP + row * len(names), cell * columns)]
    for k, name in enumerate(names):
        y = TOP + k * row
        off, places = totals[name]
        parts.append(f'<rect class="row" x="{LEFT:g}" y="{y + 1:g}" width="{cell * columns:g}" height="{row - 2:g}"/>')
        label = name if len(name) <= 20 else "…" + name[-19:]
        parts.append(
            f'<text class="name" x="{LEFT - 6:g}" y="{y + 13:g}" text-anchor="end">{escape(label)}'
            f"<title>{escape(name)}</title></text>"
        )
        amount = "the same" if not off else f"{off:,} of {places:,}"
        parts.append(f'<text x="{LEFT + cell * columns + 8:g}" y="{y + 13:g}">{amount}</text>')
        parts += _heat(np.sqrt(_binned(shares[name], columns) / (most or 1.0)), cell, y + 1, row - 2)
    return f"<figure>{_svg(parts, width, height, 'share of differing places per op and step')}", said


def _heat(shares: Array, cell: float, y: float, tall: float) -> list[str]:
    """Runs of equal shade as one box each."""
    shade = np.where(shares > 0, np.clip(np.ceil(shares * 5), 1, 5), 0).astype(int)
    edges = np.flatnonzero(np.diff(shade)) + 1
    return [
        f'<rect class="heat" x="{LEFT + start * cell:.5g}" y="{y:g}" width="{(stop - start) * cell:.5g}" '
        f'height="{tall:g}" fill-opacity="{0.2 + 0.16 * shade[start]:.2g}"/>'
        for start, stop in zip([0, *edges], [*edges, len(shade)], strict=True)
        if shade[start]
    ]


def strip(share: Array) -> str:
    """The divergence of a whole target, small: for a cell of a table."""
    shares = _binned(share, min(len(share), 60))
    most = float(shares.max(initial=0.0)) or 1.0
    cell = 120.0 / max(len(shares), 1)
    bars = "".join(
        f'<rect class="heat" x="{k * cell:.4g}" y="{20 - 18 * v:.4g}" width="{cell:.4g}" height="{18 * v:.4g}"/>'
        for k, v in enumerate(shares / most)
        if v > 0
    )
    ground = '<path class="grid" d="M0 20.5H120"/>'
    return f'<svg width="120" height="22" role="img" aria-label="differing places over time">{ground}{bars}</svg>'


def _binned(values: Array, columns: int) -> Array:
    if len(values) <= columns:
        return np.asarray(values, np.float64)
    return np.array([part.mean() for part in np.array_split(np.asarray(values, np.float64), columns)])


def _axis(shown: Window, y: float, wide: float | None = None) -> str:
    """Ticks under a figure, with step numbers."""
    count = shown.stop - shown.start
    wide = shown.cell * count if wide is None else wide
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10**9) if count / s <= 12)
    parts = []
    for t in range(-(-shown.start // step) * step, shown.stop, step):
        x = LEFT + (t - shown.start) / count * wide
        parts.append(f'<path class="grid" d="M{x:.5g} {y:g}v4"/><text x="{x:.5g}" y="{y + 15:g}">{t}</text>')
    return "".join(parts) + f'<text x="{LEFT - 6:g}" y="{y + 15:g}" text-anchor="end">step</text>'


def _svg(parts: Sequence[str], width: float, height: float, label: str) -> str:
    size = f'width="{width:.5g}" height="{height:.5g}"'
    return f'<div class="scroll"><svg {size} role="img" aria-label="{label}">{"".join(parts)}</svg></div>'


def _short(value: float) -> float | int:
    return int(value) if float(value).is_integer() else round(float(value), 4)
