"""split-concat: a concatenation in front of weights becomes a sum of smaller weights.

    W cat(a, b) = W_a a + W_b b,   conv(cat(a, b)) = conv_a(a) + conv_b(b)        (bias once)

    Before:  a, b -> concat -> conv -> lif
    After:   a -> conv.part0 -> lif;  b -> conv.part1 -> lif

Weights take a concatenation of what they sum over: the channels of a convolution, the last axis of Linear and Affine.
What acts on each element or channel alone (neurons, Scale, BatchNorm, pools, Upsample2d, grouped convolutions whose
groups the cut does not sever, Reshape, Transpose, Slice, ...) is cut too, each part with its own parameters, as long as
everything behind it ends in such weights. Otherwise the whole concatenation stays, and the log says what is in the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import Any, ClassVar

import numpy as np

from snnir.graph import Edge, Graph
from snnir.ops import (
    Activation,
    Affine,
    Array,
    BatchNorm,
    Concat,
    Conv,
    ConvTranspose2d,
    Delay,
    Flatten,
    LayerNorm,
    Linear,
    Neuron,
    Op,
    Pool2d,
    Repeat,
    Reshape,
    Scale,
    Shape,
    Slice,
    TemporalMean,
    Threshold,
    TokenShift,
    Transpose,
    Upsample2d,
)
from snnir.passes.common import Declined, Work, layout, listed, order
from snnir.passes.timing import in_time
from snnir.pipeline import Keeps, Log, Pass


@dataclass(frozen=True)
class SplitConcat(Pass):
    """Turns concatenations into sums of weights.

    Attributes:
        through: also cut neurons and other ops that stand between a concatenation and weights.
        copy: duplicate a weight that acts on each part alike (a Linear over another axis than the concatenation's).
    """

    name: ClassVar[str] = "split-concat"
    keeps: ClassVar[Keeps] = "exact"
    through: bool = True
    copy: bool = False

    def run(self, graph: Graph, log: Log) -> Graph:
        if not any(isinstance(op, Concat) for op in graph.ops.values()):
            return graph
        parts: dict[str, str] = {}
        return in_time(graph, log, lambda g, log, frozen: self._rewrite(g, log, frozen, parts), parts)

    def _rewrite(self, graph: Graph, log: Log, frozen: frozenset[str], parts: dict[str, str]) -> Graph:
        work = Work(graph, frozen)
        # Readers first: a concatenation of a concatenation can only go when the one behind it is gone.
        for name in reversed(order(graph)):
            if name not in work.ops or not isinstance(work.ops[name], Concat):
                continue
            try:
                work.thaw(name)
                cuts = self._plan(work, name)
            except Declined as reason:
                log.declined(name, f"stays: {reason}")
                continue
            _apply(work, name, cuts, parts)
            log.did(name, f"went into {listed(cut.edge.target for cut in cuts)}")
        return work.build()

    def _plan(self, work: Work, concat: str) -> list[Cut]:
        """How every op behind the concatenation is cut, feeders first."""
        op = work.ops[concat]
        axis = op.axis % len(work.shapes[concat])  # type: ignore[attr-defined]
        todo = [(concat, axis, [work.arriving(concat, port) for port in op.ports])]
        cuts: list[Cut] = []
        seen = {concat}
        while todo:
            source, axis, shapes = todo.pop()
            for edge in work.outgoing(source):
                target = edge.target
                work.thaw(target)
                if target in seen:
                    raise Declined(f"{target} is reached from it by two ways")
                seen.add(target)
                others = [f for f in work.feeders(target, edge.port) if f != source]
                if others:
                    raise Declined(f"{target} ({work.ops[target].kind}) also reads {listed(others)}")
                cut = _cut(work.ops[target], edge, axis, shapes, work.shapes[source], work.shapes[target], self.copy)
                if not cut.summed and not isinstance(work.ops[target], Concat):
                    if not self.through:
                        raise Declined(f"{target} ({work.ops[target].kind}) reads it, and through=false")
                    todo.append((target, cut.axis, _shapes(cut, shapes)))
                cuts.append(cut)
        if not any(cut.summed or isinstance(work.ops[cut.edge.target], Concat) for cut in cuts):
            raise Declined("nothing behind it takes it up")
        return cuts


@dataclass(frozen=True)
class Cut:
    """One op behind a concatenation, cut in parts.

    Attributes:
        edge: the edge through which the parts arrive.
        ops: one op per part; None for a part of which nothing is left, `KEEP` for one that passes unchanged.
        summed: the parts' outputs add up; otherwise they are concatenated along `axis`.
    """

    edge: Edge
    ops: list[Any]
    summed: bool
    axis: int = 0


KEEP = "keep"


def _shapes(cut: Cut, shapes: list[Shape]) -> list[Shape]:
    """The shapes of the parts behind a cut."""
    found: list[Shape] = []
    for op, shape in zip(cut.ops, shapes, strict=True):
        if op is not None:
            found.append(shape if op is KEEP else op.infer({"input": shape}))
    return found


def _apply(work: Work, concat: str, cuts: list[Cut], whole: dict[str, str]) -> None:
    parts = {concat: [work.feeders(concat, port) for port in work.ops[concat].ports]}
    shapes = {concat: [work.arriving(concat, port) for port in work.ops[concat].ports]}
    for cut in cuts:
        source, target = cut.edge.source, cut.edge.target
        if isinstance(work.ops[target], Concat):
            _widen(work, cut, parts[source])
            continue
        after: list[list[str]] = []
        arriving = shapes[source]
        for i, (op, sources, shape) in enumerate(zip(cut.ops, parts[source], arriving, strict=True)):
            if op is KEEP:
                after.append(sources)
            elif op is not None:
                new = work.add(f"{target}.part{i}", op, (target, concat), shape=op.infer({"input": shape}))
                for feeder in sources:
                    work.connect(feeder, new)
                after.append([new])
                if op.stateful:
                    whole[new] = whole.get(target, target)
        if cut.summed:
            for reader in work.outgoing(target):
                for (new,) in after:
                    work.connect(new, reader.target, reader.port)
        parts[target], shapes[target] = after, _shapes(cut, arriving)
    for cut in cuts:
        if cut.edge.target in parts:
            work.remove(cut.edge.target)
    work.remove(concat)


def _widen(work: Work, cut: Cut, parts: list[list[str]]) -> None:
    """A concatenation of a concatenation takes the parts at ports of its own."""
    target: Any = work.ops[cut.edge.target]
    at = target.ports.index(cut.edge.port)
    ways: list[list[str]] = [work.feeders(cut.edge.target, port) for port in target.ports]
    ways[at : at + 1] = parts
    for edge in work.incoming(cut.edge.target):
        work.disconnect(edge)
    work.swap(cut.edge.target, target.with_(inputs=len(ways)), (cut.edge.source,))
    for i, sources in enumerate(ways):
        for source in sources:
            work.connect(source, cut.edge.target, f"in{i}")


# -- how one op is cut -------------------------------------------------------------------------------------------------


def _cut(op: Op, edge: Edge, axis: int, shapes: list[Shape], start: Shape, end: Shape, copy: bool) -> Cut:
    """Cuts `op`, which reads parts of `shapes`, concatenated along `axis` to `start`.

    Raises:
        Declined: it cannot be cut there exactly.
    """
    ends = list(accumulate(s[axis] for s in shapes))
    spans = [slice(e - s[axis], e) for e, s in zip(ends, shapes, strict=True)]
    target = f"{edge.target} ({op.kind})"

    def each(make: Callable[[slice], Op], to: int = axis) -> Cut:
        return Cut(edge, [make(span) for span in spans], summed=False, axis=to)

    if isinstance(op, Linear):
        return _cut_linear(op, edge, axis, spans, start, end, copy)
    if isinstance(op, (Conv, ConvTranspose2d)):
        if axis != 0:
            raise Declined(f"{target} slides along the axis of the concatenation")
        return _cut_conv(op, edge, spans)
    if isinstance(op, (Neuron, Scale, Threshold, Delay)):
        return each(lambda span: _sliced(op, op.arrays, span, axis, len(start)))
    if isinstance(op, TokenShift) and axis == 1:
        return each(lambda span: _sliced(op, op.arrays, span, 0, 1))
    if isinstance(op, BatchNorm):
        return each(lambda span: _sliced(op, op.arrays, span, 0, 1) if axis == 0 else op)
    if isinstance(op, (Activation, Repeat, TemporalMean)):
        return each(lambda span: op)
    if isinstance(op, (Pool2d, Upsample2d)) and axis == 0:
        return each(lambda span: op)
    if isinstance(op, LayerNorm) and axis < len(start) - op.weight.ndim and copy:
        return each(lambda span: op)
    if isinstance(op, Transpose):
        return each(lambda span: op, op.axes.index(axis))
    if isinstance(op, Concat):
        if op.axis % len(end) != axis:
            raise Declined(f"{target} concatenates along another axis")
        return Cut(edge, [KEEP] * len(shapes), summed=False, axis=axis)
    if isinstance(op, (Flatten, Reshape)):
        return Cut(edge, [_reshaped(op, s, axis, start, end, target) for s in shapes], summed=False, axis=axis)
    if isinstance(op, Slice):
        if op.axis % len(start) != axis:
            return each(lambda span: op)
        return Cut(edge, [_part_of_slice(op, span, axis) for span in spans], summed=False, axis=axis)
    raise Declined(f"{target} reads it and cannot be cut")


def _cut_linear(op: Linear, edge: Edge, axis: int, spans: list[slice], start: Shape, end: Shape, copy: bool) -> Cut:
    if axis == len(start) - 1:
        first = [op.with_(weight=op.weight[..., spans[0]])]
        rest = [Linear(weight=op.weight[..., span], metadata=op.metadata, loc=op.loc) for span in spans[1:]]
        return Cut(edge, first + rest, summed=True)
    if op.weight.ndim == 2 and not copy:
        raise Declined(f"{edge.target} ({op.kind}) uses its weight for every part alike, and copy=false")
    arrays = ["weight"] if op.weight.ndim > 2 else []
    # The weight has one axis more than the value, behind all others, so leading axes agree.
    parts = [_sliced(op, arrays, span, axis, len(start) + 1) for span in spans]
    if isinstance(op, Affine):
        parts = [_sliced(part, ["bias"], span, axis, len(end)) for part, span in zip(parts, spans, strict=True)]
    return Cut(edge, parts, summed=False, axis=axis)


def _cut_conv(op: Conv | ConvTranspose2d, edge: Edge, spans: list[slice]) -> Cut:
    common = {"input_shape": op.input_shape} if isinstance(op, Conv) else {}
    if op.groups == 1:
        inner = 1 if isinstance(op, Conv) else 0
        weights = [op.weight[(slice(None),) * inner + (span,)] for span in spans]
        biases = [op.bias, *[np.zeros(op.bias.shape[:1], op.bias.dtype)] * (len(spans) - 1)]
        return Cut(
            edge, [op.with_(weight=w, bias=b, **common) for w, b in zip(weights, biases, strict=True)], summed=True
        )
    transposed = isinstance(op, ConvTranspose2d)
    n_in = op.weight.shape[0] // op.groups if transposed else op.weight.shape[1]
    n_out = op.weight.shape[1] if transposed else op.weight.shape[0] // op.groups
    if any(span.stop % n_in for span in spans):
        raise Declined(f"the cut severs a group of {edge.target} ({op.kind}), which has {n_in} channels per group")
    parts: list[Any] = []
    for span in spans:
        outputs = slice(span.start // n_in * n_out, span.stop // n_in * n_out)
        weight = op.weight[span if transposed else outputs]
        groups = (span.stop - span.start) // n_in
        parts.append(op.with_(weight=weight, bias=op.bias[outputs], groups=groups))
    return Cut(edge, parts, summed=False, axis=0)


def _sliced(op: Op, arrays: list[str] | tuple[str, ...], span: slice, axis: int, rank: int) -> Any:
    """The op with arrays that broadcast to a value of `rank` axes cut along one of them."""
    changes: dict[str, Array] = {}
    for name in arrays:
        array: Array = getattr(op, name)
        at = axis - (rank - array.ndim)
        if at >= 0 and array.shape[at] > 1:
            changes[name] = array[(slice(None),) * at + (span,)]
    return op.with_(**changes)


def _reshaped(op: Op, part: Shape, axis: int, start: Shape, end: Shape, target: str) -> Any:
    """The same change of shape for one part, where the parts stay whole."""
    inner = prod(end[axis + 1 :])
    whole = end[:axis] == start[:axis] and len(end) > axis and prod(part[axis:]) % inner == 0
    if not whole:
        raise Declined(f"{target} mixes the parts")
    new = (*end[:axis], prod(part[axis:]) // inner, *end[axis + 1 :])
    return KEEP if new == part else layout(op, part, new)


def _part_of_slice(op: Slice, span: slice, axis: int) -> Any:
    kept = [i - span.start for i in range(op.start, op.stop, op.step) if span.start <= i < span.stop]
    if not kept:
        return None
    if len(kept) == span.stop - span.start:
        return KEEP
    return op.with_(axis=axis, start=kept[0], stop=kept[-1] + 1)
