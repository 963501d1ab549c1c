"""Neurons and links between them in chip time, in floats: what layouts are before, and after, their roundings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from snnir.ops import Array

TIE = 1e-9  # relative: nearer to its threshold, a membrane stands at it, and floats do not decide on which side
_BLOCK = 1 << 22  # values sent over a link at a time


@dataclass(eq=False)
class Cells:
    """`size` neurons with the same rules, in the network's own units, where 0 is what the chip's 0 stands for.

        u = decay_syn u + rise a;  v = decay v + u + drive;  spikes where v >= threshold (or >)

    Attributes:
        decay, decay_syn: per step; a decay_syn of 0 keeps nothing. rise: of what arrives (a). drive: in every step.
        threshold: None for what never spikes. take: what a spike takes off; None resets to 0.
        strict: whether it spikes above its threshold only. cap: spikes per step, inf for as many as fit.
        trace: what leaves it.
        ordered: whether it matters in which order events of one step arrive (`in_order`).
        reset: (interval, offset): state is zeroed before step t, counted from 1, where t % interval is offset.
    """

    name: str
    size: int
    decay: Array
    decay_syn: Array
    rise: Array
    drive: Array
    threshold: Array | None
    take: Array | None = None
    strict: bool = False
    cap: float | Array = 1.0
    trace: Literal["spikes", "u", "v"] = "spikes"
    reset: tuple[int, int] = (0, 0)
    ordered: bool = False
    u: Array = field(default_factory=lambda: np.zeros(0), repr=False)
    v: Array = field(default_factory=lambda: np.zeros(0), repr=False)

    def begin(self, batch: int) -> None:
        """State at rest."""
        self.u, self.v = np.zeros((batch, self.size)), np.zeros((batch, self.size))

    def step(self, a: Array, t: int) -> Array:
        """One step, of what arrives (B, size) in step `t`: what leaves, (B, size)."""
        interval, offset = self.reset
        if interval and (t + 1 - offset) % interval == 0:
            self.u, self.v = np.zeros_like(self.u), np.zeros_like(self.v)
        self.advance(a)
        if self.threshold is None:
            return self.u if self.trace == "u" else self.v
        count = self.counted()
        self.v = np.where(count > 0, 0.0, self.v) if self.take is None else self.v - count * self.take
        return count

    def advance(self, a: Array) -> None:
        """State before spikes."""
        self.u = self.decay_syn * self.u + self.rise * a
        self.v = self.decay * self.v + self.u + self.drive

    def in_order(self, events: Sequence[tuple[Link, Array]], constant: Array, t: int) -> Array:
        """What arrives in step `t`, (B, size), of what is sent over links, (B, sources) each, and of a constant."""
        return sum((link.apply(sent) for link, sent in events), constant)

    def counted(self) -> Array:
        """Spikes of this step."""
        assert self.threshold is not None
        level = self.threshold
        fired = self.v > level * (1 + TIE) if self.strict else self.v >= level * (1 - TIE)
        if np.all(np.asarray(self.cap) == 1):
            return fired.astype(np.float64)
        ratio = self.v / level
        fits = np.ceil(ratio * (1 - TIE)) - 1 if self.strict else np.floor(ratio * (1 + TIE))
        return np.where(fired, np.minimum(np.maximum(fits, 1.0), self.cap), 0.0)


@dataclass(frozen=True, eq=False)
class Link:
    """What arrives at cells: `apply` takes (n, sources) to (n, targets), `delay` steps later in the chip's time.

    `weight` (sources, targets), where it is a matrix, and the chip's `ids` of the sources say in which order they come.
    """

    source: str
    target: str
    apply: Callable[[Array], Array]
    delay: int
    weight: Array | None = None
    ids: Array | None = None


@dataclass(frozen=True, eq=False)
class Machine:
    """Cells and links; `constants`: cell -> (onset, what arrives in every step from that one on)."""

    cells: Sequence[Cells]
    links: Sequence[Link]
    constants: Mapping[str, Sequence[tuple[int, Array]]] = field(default_factory=dict)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """What leaves every cell, (T, B, size); inputs likewise.

        Loops run step by step; whatever feeds forward gets all its input at once.
        """
        steps, batch = next(iter(inputs.values())).shape[:2]
        values = dict(inputs)
        for group in self._groups():
            names = {c.name for c in group}
            arriving = {c.name: np.zeros((steps, batch, c.size)) for c in group}
            for cells in group:
                for onset, value in self.constants.get(cells.name, ()):
                    arriving[cells.name][max(onset, 0) :] += value
                cells.begin(batch)
            ordered = {c.name for c in group if c.ordered}
            for link in self.links:
                if link.target in names - ordered and link.source not in names:
                    _send(link, values[link.source], arriving[link.target])
            inside: dict[str, list[Link]] = {n: [] for n in names}
            for link in self.links:
                if link.target in ordered or (link.target in names and link.source in names):
                    inside[link.target].append(link)
            values |= {c.name: np.zeros((steps, batch, c.size)) for c in group}
            for t in range(steps):
                for cells in group:
                    a = arriving[cells.name][t]
                    sent = [(k, values[k.source][t - k.delay]) for k in inside[cells.name] if t >= k.delay]
                    if cells.ordered:
                        a = cells.in_order(sent, a, t)
                    else:
                        for link, value in sent:
                            a += link.apply(value)
                    values[cells.name][t] = cells.step(a, t)
        return values

    def _groups(self) -> list[list[Cells]]:
        """Cells so that what a group needs from outside is known before; loops (of a step at least) together."""
        index = {c.name: i for i, c in enumerate(self.cells)}
        reaches = np.eye(len(index), dtype=bool)
        for link in self.links:
            if link.source in index:
                reaches[index[link.source], index[link.target]] = True
        for via in range(len(index)):
            reaches |= reaches[:, via, None] & reaches[via]
        groups: dict[tuple[int, ...], list[Cells]] = {}
        for i, cells in enumerate(self.cells):
            groups.setdefault(tuple(np.flatnonzero(reaches[i] & reaches[:, i]).tolist()), []).append(cells)
        return [groups[cycle] for cycle in sorted(groups, key=lambda cycle: int(reaches[:, cycle[0]].sum()))]


def _send(link: Link, sent: Array, arriving: Array) -> None:
    """Adds all that a link brings, in blocks of steps."""
    steps, batch, size = sent.shape
    block = max(1, _BLOCK // max(1, batch * max(size, arriving.shape[2])))
    for start in range(0, steps - link.delay, block):
        part = sent[start : min(start + block, steps - link.delay)]
        got = link.apply(part.reshape(-1, size))
        arriving[start + link.delay : start + link.delay + len(part)] += got.reshape(len(part), batch, -1)
