"""fuse-linear: chains of linear ops become one op, and so do parallel paths, where that lowers cost.

    W2 (W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2)              one after the other
    (W1 x + b1) + (W2 x + b2) = (W1 + W2) x + (b1 + b2)          side by side, into one port

    Before:  a -> conv -> scale -> lif;  a -> conv1x1 -> lif
    After:   a -> conv' -> lif

What fuses: Scale, Linear and Affine with one another; Scale into whatever weights feed it, also through pools and
reshapes; Conv1d, Conv2d, pools and per-channel Scale with one another; pools of pools and of upsampled values; a
Scale, convolution or pool in front of Flatten and a dense weight. Pointwise ops move in front of Upsample2d, where
there are fewer pixels. Sums of several linear ops in front of another linear op fuse one by one, the bias once.

Convolution after convolution obeys the border rule (`snnir.passes.convolution`): zero padding does not compose, so a
fusion that would differ at the border is declined, or becomes a dense Affine with `dense=true`. The first one's bias
may become a bias map. An op that others read too is not fused away; neurons, delays and other ops with state end every
chain; cycles keep their delays (`snnir.passes.timing`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from snnir.graph import Graph
from snnir.ops import (
    Affine,
    Conv,
    ConvTranspose2d,
    Flatten,
    Input,
    Linear,
    Neuron,
    Op,
    Pool2d,
    Reshape,
    Scale,
    Shape,
    Upsample2d,
)
from snnir.passes.common import Declined, Work, compact, float_type, listed, order, size, wide
from snnir.passes.compose import Check, Cost, add_ops, affine_form, compose, cost, is_pointwise
from snnir.passes.gains import plan_gain
from snnir.passes.timing import in_time
from snnir.pipeline import Keeps, Log, Pass

FUSIBLE = (Linear, Scale, Conv, ConvTranspose2d, Pool2d, Upsample2d)


@dataclass(frozen=True)
class FuseLinear(Pass):
    """Fuses linear ops.

    Attributes:
        max_growth: how many times the weights, and the multiplications per step, of what it replaces a fused op may
            have. 1: never more than before.
        bias_map: let a convolution's bias become a map (snn dialect only).
        dense: where the border forbids a convolution, build the dense matrix on flattened values.
        max_dense: most weights of such a matrix.
        chains, sums: what to look for.
    """

    name: ClassVar[str] = "fuse-linear"
    keeps: ClassVar[Keeps] = "exact"
    max_growth: float = 1.0
    bias_map: bool = True
    dense: bool = False
    max_dense: int = 65536
    chains: bool = True
    sums: bool = True

    def __post_init__(self) -> None:
        if not self.max_growth >= 0:
            raise ValueError(f"max_growth is {self.max_growth:g}, expected 0 or more")

    def run(self, graph: Graph, log: Log) -> Graph:
        return in_time(graph, log, self._rewrite)

    def _rewrite(self, graph: Graph, log: Log, frozen: frozenset[str]) -> Graph:
        return _Fusion(self, Work(graph, frozen), log).run(order(graph))


class TooCostly(Declined):
    """The fused op would be dearer than what it replaces."""


class _Fusion:
    """One run of the pass: a list of ops still to look at, each with what feeds it."""

    def __init__(self, options: FuseLinear, work: Work, log: Log) -> None:
        self.options, self.work, self.log = options, work, log
        self.refusals: dict[tuple[str, str], None] = {}

    def run(self, names: tuple[str, ...]) -> Graph:
        pending, waiting = deque(names), set(names)
        while pending:
            name = pending.popleft()
            waiting.discard(name)
            if name not in self.work.ops:
                continue
            for again in self._look_at(name):
                if again not in waiting and again in self.work.ops:
                    waiting.add(again)
                    pending.append(again)
        for where, why in self.refusals:
            if where in self.work.ops:
                self.log.declined(where, why)
        return self.work.build()

    def _look_at(self, name: str) -> list[str]:
        """Fuses what can be fused at op `name`; gives the names of ops to look at again."""
        again: list[str] = []
        if self.options.sums:
            for port in self.work.ops[name].ports:
                again += self._merge_feeders(name, port)
        op = self.work.ops[name]
        if not self.options.chains or not isinstance(op, FUSIBLE):
            return again
        try:
            again += self._fuse(name, op)
        except Declined as reason:
            self.refusals[name, f"not fused with {listed(self.work.feeders(name))}: {reason}"] = None
        return again

    # -- chains ----------------------------------------------------------------------------------------------------

    def _fuse(self, name: str, op: Op) -> list[str]:
        work, feeders = self.work, self.work.feeders(name)
        if name in feeders:
            return []
        if isinstance(op, Scale) and not all(isinstance(work.ops[f], (Input, Neuron)) for f in feeders):
            try:
                return self._scale_feeders(name, op)
            except Declined:
                if len(feeders) > 1:
                    raise
        if len(feeders) == 1 and isinstance(work.ops[feeders[0]], (Flatten, Reshape)):
            return self._through_layout(name, op, feeders[0])
        if len(feeders) == 1 and isinstance(work.ops[feeders[0]], Upsample2d) and is_pointwise(op, work.shapes[name]):
            return self._before_upsample(name, op, feeders[0])
        if isinstance(op, Upsample2d) and not all(isinstance(work.ops[f], Upsample2d) for f in feeders):
            return []
        if not all(isinstance(work.ops[f], FUSIBLE) for f in feeders):
            if any(isinstance(work.ops[f], FUSIBLE) for f in feeders):
                others = listed(f for f in feeders if not isinstance(work.ops[f], FUSIBLE))
                raise Declined(f"{others} feeds it too, so its weights must stay")
            return []
        if any(isinstance(work.ops[f], Upsample2d) for f in feeders) and isinstance(op, (Conv, ConvTranspose2d)):
            return []  # lower-upsample's work
        return self._into_feeders(name, op, feeders)

    def _scale_feeders(self, name: str, op: Scale) -> list[str]:
        """A factor disappears in the weights behind it, all of them, wherever they are."""
        work = self.work
        work.thaw(name)
        plan = plan_gain(work, work.incoming(name), op.scale)
        if not work.can_bypass(name):
            raise Declined("one of its feeders also feeds what reads it")
        before, after = cost(op, work.shapes[name]), Cost(0, 0)
        for feeder, (_, new) in plan.ops.items():
            before += cost(work.ops[feeder], work.shapes[feeder])
            after += cost(new, work.shapes[feeder])
        self._check(before)(after)
        readers = work.readers(name)
        plan.apply(work, (name,))
        work.bypass(name)
        self.log.did(name, f"its factor went into {listed(plan.ops) if plan.ops else 'nothing: it was 1'}")
        return [*plan.ops, *readers]

    def _into_feeders(self, name: str, op: Op, feeders: list[str]) -> list[str]:
        work = self.work
        work.thaw(name, *feeders)
        for feeder in feeders:
            work.only_reader(feeder)
        before = cost(op, work.shapes[name])
        for feeder in feeders:
            before += cost(work.ops[feeder], work.shapes[feeder])
        fused: list[Op] = []
        spent = Cost(0, 0)
        for i, feeder in enumerate(feeders):
            second = op if i == 0 else _without_bias(op)
            shapes = (work.arriving(feeder), work.shapes[feeder], work.shapes[name])
            check = self._check(before, spent)
            try:
                new = compose(work.ops[feeder], second, *shapes, self.options.bias_map, check)
            except Declined as reason:
                if len(feeders) > 1 or not self.options.dense or isinstance(reason, TooCostly):
                    raise
                return self._densely(name, op, feeder, reason)
            spent += cost(new, work.shapes[name])
            fused.append(new)
        readers, shape = work.readers(name), work.shapes[name]
        for feeder, new in zip(feeders, fused, strict=True):
            work.swap(feeder, new, (name,), shape)
        work.bypass(name)
        self.log.did(name, f"fused into {listed(feeders)}: {_count(before)} became {_count(spent)}")
        return [*feeders, *readers]

    def _densely(self, name: str, op: Op, feeder: str, reason: Declined) -> list[str]:
        """Two ops as one dense matrix between flattened values, which no border troubles."""
        work, first = self.work, self.work.ops[feeder]
        start, middle, end = work.arriving(feeder), work.shapes[feeder], work.shapes[name]
        if size(start) * size(end) > self.options.max_dense:
            what = f"its dense form takes {size(start) * size(end)} weights"
            raise Declined(f"{reason}; {what}, more than max_dense={self.options.max_dense}")
        (m1, b1), (m2, b2) = affine_form(first, start, middle), affine_form(op, middle, end)
        kind = float_type(*(getattr(o, array) for o in (first, op) for array in o.arrays))
        loc = first.loc or op.loc
        flat = Affine(weight=(m2 @ m1).astype(kind), bias=(m2 @ b1 + b2).astype(kind), loc=loc)
        readers = work.readers(name)
        if len(end) > 1:
            work.swap(name, Reshape(shape=end, loc=loc), (feeder,))
        else:
            work.bypass(name)
        work.swap(feeder, flat, (name,), (size(end),))
        if len(start) > 1:
            flatten = work.add(f"{feeder}.flatten", Flatten(loc=loc), (feeder,), shape=(size(start),))
            for edge in work.incoming(feeder):
                work.disconnect(edge)
                work.connect(edge.source, flatten)
            work.connect(flatten, feeder)
        self.log.did(name, f"fused into {feeder} as a dense matrix of {flat.weight.size} weights ({reason})")
        return readers

    def _through_layout(self, name: str, op: Op, layout: str) -> list[str]:
        """A Scale, convolution or pool, then Flatten or Reshape, then `op`: the first one goes into `op`."""
        work = self.work
        feeders = work.feeders(layout)
        first = work.ops[feeders[0]]
        if len(feeders) > 1 or not isinstance(first, (Scale, Conv, Pool2d)):
            return []
        work.thaw(name, layout, feeders[0])
        work.only_reader(layout)
        work.only_reader(feeders[0])
        start, middle, end = work.arriving(feeders[0]), work.shapes[layout], work.shapes[name]
        before = cost(first, work.shapes[layout]) + cost(op, end)
        check = self._check(before)
        if isinstance(first, Scale):
            full = np.broadcast_to(wide(first.scale), start).reshape(middle)
            moved = first.with_(scale=compact(full, middle).astype(float_type(first.scale)))
            new = compose(moved, op, middle, middle, end, self.options.bias_map, check)
            if not work.can_bypass(feeders[0]):
                raise Declined(f"what feeds {feeders[0]} also feeds {layout}")
        else:
            if not isinstance(op, Linear) or len(middle) != 1:
                return []
            if not work.can_bypass(feeders[0]):
                raise Declined(f"what feeds {feeders[0]} also feeds {layout}")
            new = self._dense_after(first, op, start, work.shapes[feeders[0]], end, check)
            work.swap(layout, Flatten(metadata=work.ops[layout].metadata, loc=work.ops[layout].loc), (), (size(start),))
        work.swap(name, new, (feeders[0],))
        work.bypass(feeders[0])
        self.log.did(feeders[0], f"fused into {name}, through {layout}")
        return [name, layout]

    @staticmethod
    def _dense_after(first: Op, op: Linear, start: Shape, middle: Shape, end: Shape, check: Check) -> Op:
        check(Cost(size(start) * size(end), size(start) * size(end)))
        matrix, offset = affine_form(first, start, middle)
        kind = float_type(op.weight)
        weight = wide(op.weight) @ matrix
        common: dict[str, Any] = {"weight": weight.astype(kind), "metadata": op.metadata, "loc": op.loc}
        if not isinstance(op, Affine) and not offset.any():
            return Linear(**common)
        bias = wide(op.weight) @ offset + (wide(op.bias) if isinstance(op, Affine) else 0.0)
        return Affine(bias=bias.astype(kind), **common)

    def _before_upsample(self, name: str, op: Op, upsample: str) -> list[str]:
        """A pointwise op and the upsampling before it change places."""
        work = self.work
        work.thaw(name, upsample)
        work.only_reader(upsample)
        channels = work.shapes[name][0]
        small = (channels, *work.arriving(upsample)[1:])
        readers = work.outgoing(name)
        for edge in work.incoming(upsample):
            work.disconnect(edge)
            work.connect(edge.source, name)
        for edge in (*work.outgoing(upsample), *readers):
            work.disconnect(edge)
        work.connect(name, upsample)
        for edge in readers:
            work.connect(upsample, edge.target, edge.port)
        if isinstance(op, Scale):
            moved = op.with_(scale=compact(op.scale, work.shapes[name]))
        else:
            moved = op.with_(input_shape=None)
        work.swap(upsample, work.ops[upsample], (), (channels, *work.shapes[upsample][1:]))
        work.swap(name, moved, (), small)
        self.log.did(name, f"moved in front of {upsample}, where there are fewer pixels")
        return [name, upsample, *(e.target for e in readers)]

    # -- sums ------------------------------------------------------------------------------------------------------

    def _merge_feeders(self, name: str, port: str) -> list[str]:
        """Linear ops that read the same values and feed the same port become one."""
        work = self.work
        alike: dict[frozenset[str], list[str]] = {}
        for feeder in work.feeders(name, port):
            op = work.ops[feeder]
            if isinstance(op, (Linear, Scale, Conv, Pool2d)) and feeder != name:
                alike.setdefault(frozenset(work.feeders(feeder)), []).append(feeder)
        again: list[str] = []
        for first, *others in alike.values():
            for other in others:
                try:
                    self._merge(first, other)
                    again = [name, first]
                except Declined as reason:
                    self.refusals[other, f"not merged with {first}, which reads the same: {reason}"] = None
        return again

    def _merge(self, a: str, b: str) -> None:
        work = self.work
        work.thaw(a, b)
        work.only_reader(a)
        work.only_reader(b)
        end = work.shapes[a]
        before = cost(work.ops[a], end) + cost(work.ops[b], end)
        total = add_ops(work.ops[a], work.ops[b], work.arriving(a), end, self._check(before))
        work.swap(a, total, (b,))
        work.remove(b)
        self.log.did(b, f"merged into {a}, which reads the same")

    def _check(self, before: Cost, spent: Cost | None = None) -> Check:
        """Refuses what, on top of `spent`, costs too much in the place of `before`."""

        def check(after: Cost) -> None:
            after = after + spent if spent else after
            growth = max(_ratio(after.weights, before.weights), _ratio(after.macs, before.macs))
            if growth > self.options.max_growth:
                needed = f"max_growth={growth:.3g} would allow it" if growth < 1e6 else "they had none before"
                raise TooCostly(f"it would cost {_count(after)} instead of {_count(before)} ({needed})")

        return check


def _ratio(after: int, before: int) -> float:
    return after / before if before else float("inf") if after else 1.0


def _count(c: Cost) -> str:
    return f"{c.weights} weights and {c.macs} multiplications"


def _without_bias(op: Op) -> Op:
    """The op without its bias, for all summands but one."""
    if isinstance(op, Affine):
        return Linear(weight=op.weight, metadata=op.metadata, loc=op.loc)
    if isinstance(op, (Conv, ConvTranspose2d)):
        return op.with_(bias=op.bias * 0)
    return op
