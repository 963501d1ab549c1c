"""lower-upsample: nearest-neighbour upsampling becomes convolutions at low resolution and a re-interleaving.

Output j of a convolution with stride s, dilation d and padding p on values upsampled by f reads, at tap t, pixel
floor((s*j + d*t - p) / f) of the small image, and 0 where that lies outside. With P = f / gcd(f, s) and j = P*q + r,

    floor((s*j + d*t - p) / f) = (s*P/f) * q + floor((s*r + d*t - p) / f)

so each of the P phases r of an axis is a convolution of the SMALL image with stride s*P/f, whose taps are those of the
large one that fall on the same pixel, added up. It is exact at the border too, because a position outside the large
image lies outside the small one. All phases together are one convolution with P*P times the channels; a Reshape, a
Transpose and a Reshape put their pixels side by side.

    Before:  a -> upsample(2) -> conv(C -> K, 3x3, padding 1)
    After:   a -> conv(C -> 4K, 3x3, padding 1, low resolution) -> reshape -> transpose -> reshape

Upsampled values that something else reads come from a transposed convolution with a kernel of ones, or (alone=shuffle)
from a 1x1 convolution and the same re-interleaving. With alone=shift all upsamplings become masks and shifts, which are
NIR's own ops (`snnir.passes.shifts`), and the convolutions behind them stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, gcd
from typing import Any, ClassVar, Literal

import numpy as np

from snnir.graph import Graph
from snnir.ops import Array, Conv, Conv2d, ConvTranspose2d, Op, Reshape, Shape, Slice, Transpose, Upsample2d
from snnir.passes.common import Declined, Work, float_type, listed, order, wide
from snnir.passes.convolution import Filter, as_conv
from snnir.passes.shifts import upsample_by_shifts
from snnir.passes.timing import in_time
from snnir.pipeline import Keeps, Log, Pass


@dataclass(frozen=True)
class LowerUpsample(Pass):
    """Leaves no `Upsample2d` behind.

    Attributes:
        alone: what becomes of upsampled values that no convolution takes: 'transpose' a ConvTranspose2d, 'shuffle' a
            1x1 convolution and a re-interleaving, 'shift' masks and shifts (then convolutions take them, too).
    """

    name: ClassVar[str] = "lower-upsample"
    keeps: ClassVar[Keeps] = "exact"
    alone: Literal["transpose", "shuffle", "shift"] = "transpose"

    def run(self, graph: Graph, log: Log) -> Graph:
        if not any(isinstance(op, Upsample2d) for op in graph.ops.values()):
            return graph
        return in_time(graph, log, self._rewrite)

    def _rewrite(self, graph: Graph, log: Log, frozen: frozenset[str]) -> Graph:
        work = Work(graph, frozen)
        for name in order(graph):
            op = work.ops[name] if name in work.ops else None
            if isinstance(op, Upsample2d):
                try:
                    work.thaw(name)
                    self._lower(work, name, op, log)
                except Declined as reason:
                    log.declined(name, f"stays: {reason}")
        return work.build()

    def _lower(self, work: Work, name: str, op: Upsample2d, log: Log) -> None:
        if self.alone == "shift":
            added = upsample_by_shifts(work, name, op)
            more = f"{added} masks and shifts" if added != 1 else "a mask or shift"
            log.did(name, f"became {more} and a {work.ops[name].kind}" if added else f"became a {work.ops[name].kind}")
            return
        for edge in work.outgoing(name):
            reader = work.ops[edge.target]
            if not isinstance(reader, Conv2d):
                continue
            others = [f for f in work.feeders(edge.target) if f != name]
            if others:
                log.declined(edge.target, f"not at low resolution: it also reads {listed(others)}")
            elif edge.target in work.frozen:
                log.declined(edge.target, "not at low resolution: it lies on a cycle")
            else:
                _phases_of(work, name, op, edge.target, reader)
                log.did(edge.target, f"became phases at low resolution, in front of {name}")
        if not work.outgoing(name):
            work.remove(name)
            return
        small = work.arriving(name)
        kind = np.dtype(np.float32)
        if self.alone == "transpose":
            weight = np.ones((small[0], 1, *op.factor), kind)
            bias = np.zeros(small[0], kind)
            work.swap(name, ConvTranspose2d(weight=weight, bias=bias, stride=op.factor, groups=small[0], loc=op.loc))
        else:
            copies = op.factor[0] * op.factor[1]
            weight = np.ones((small[0] * copies, 1, 1, 1), kind)
            conv = Conv2d(weight=weight, bias=np.zeros(small[0] * copies, kind), groups=small[0], loc=op.loc)
            _shuffled(work, name, conv, (name,), op.factor, work.shapes[name])
        log.did(name, f"became a {work.ops[name].kind}, for {listed(work.readers(name))}")


def _phases_of(work: Work, upsample: str, op: Upsample2d, name: str, conv: Conv2d) -> None:
    """Lets the convolution at `name` read what `upsample` reads."""
    small, end = work.arriving(upsample), work.shapes[name]
    weight, before, stride, phases = wide(conv.weight), [], [], []
    for axis in range(2):
        f, s, d = op.factor[axis], conv.strides[axis], conv.dilations[axis]
        weight, padding, n_phases = _fold_axis(weight, axis, f, s, d, conv.pads[axis][0])
        before.append(padding)
        stride.append(s * n_phases // f)
        phases.append(n_phases)
    # weight is now (C_out, C_in / groups, kh, kw, phases of h, phases of w)
    weight = weight.transpose(0, 4, 5, 1, 2, 3)
    count = phases[0] * phases[1]
    flat = weight.reshape(end[0] * count, *weight.shape[3:])
    low = (end[0] * count, ceil(end[1] / phases[0]), ceil(end[2] / phases[1]))
    bias = _phase_bias(wide(conv.bias), phases, low, end)
    taps = Filter(flat, tuple(stride), tuple(before), (1, 1), conv.groups)
    phased = as_conv(taps, bias, small, low, conv, float_type(conv.weight))
    for edge in work.incoming(name):
        work.disconnect(edge)
    for edge in work.incoming(upsample):
        work.connect(edge.source, name)
    _shuffled(work, name, phased, (upsample,), tuple(phases), end)


def _fold_axis(
    weight: Array, axis: int, factor: int, stride: int, dilation: int, padding: int
) -> tuple[Array, int, int]:
    """The taps of one axis per phase: (weight with a new last axis of phases, padding in front, phases)."""
    phases = factor // gcd(factor, stride)
    n = weight.shape[2 + axis]
    reach = [[(stride * r + dilation * t - padding) // factor for t in range(n)] for r in range(phases)]
    first, last = min(map(min, reach)), max(map(max, reach))
    first = min(first, 0)  # padding in front cannot be negative
    shape = (*weight.shape[: 2 + axis], last - first + 1, *weight.shape[3 + axis :], phases)
    out = np.zeros(shape)
    for r in range(phases):
        for t in range(n):
            at: Any = (slice(None),) * (2 + axis)
            out[(*at, reach[r][t] - first, ..., r)] += weight[(*at, t)]
    return out, -first, phases


def _phase_bias(bias: Array, phases: list[int], low: Shape, end: Shape) -> Array:
    """The bias of every phase: a vector, or a map whose pixels are dealt out to the phases."""
    if bias.ndim == 1:
        return np.repeat(bias, phases[0] * phases[1])
    full = np.zeros((end[0], low[1] * phases[0], low[2] * phases[1]))
    full[:, : end[1], : end[2]] = bias
    dealt = full.reshape(end[0], low[1], phases[0], low[2], phases[1]).transpose(0, 2, 4, 1, 3)
    return dealt.reshape(low)


def _shuffled(
    work: Work, name: str, conv: Conv, made_from: tuple[str, ...], phases: tuple[int, ...], end: Shape
) -> None:
    """Puts `conv` at `name` and behind it what puts its phases side by side, so that readers find shape `end`."""
    edges = work.outgoing(name)
    height, width = (ceil(n / p) for n, p in zip(end[1:], phases, strict=True))
    work.swap(name, conv, made_from, (end[0] * phases[0] * phases[1], height, width))
    split = (end[0], *phases, height, width)
    chain: list[tuple[str, Op, Shape]] = []
    if phases != (1, 1):
        apart = (end[0], height, phases[0], width, phases[1])
        joined = (end[0], height * phases[0], width * phases[1])
        chain += [
            ("phases", Reshape(shape=split, loc=conv.loc), split),
            ("interleave", Transpose(axes=(0, 3, 1, 4, 2), loc=conv.loc), apart),
            ("pixels", Reshape(shape=joined, loc=conv.loc), joined),
        ]
        for axis in (1, 2):
            shape = (*end[: axis + 1], *joined[axis + 1 :])
            if joined[axis] > end[axis]:
                chain.append(("crop", Slice(axis=axis, start=0, stop=end[axis], loc=conv.loc), shape))
    last = name
    for stem, op, shape in chain:
        new = work.add(f"{name}.{stem}", op, (name,), shape=shape)
        work.connect(last, new)
        last = new
    if last != name:
        for edge in edges:
            work.disconnect(edge)
            work.connect(last, edge.target, edge.port)
