"""fold-batch-norm: batch norms with fixed statistics disappear in the weights that feed them.

With g = weight * alpha * v_th / sqrt(var + eps), a batch norm of the sum of everything that arrives is

    y = g * (sum_k W_k x_k + b_k - mean) + bias = sum_k (g W_k) x_k + g b_k,   plus   bias - g * mean,   once

so ALL linear ops that feed it are scaled, and one of them takes the offset (tdBN's bias is not scaled by alpha v_th).

    Before:  a -> conv -> bn -> lif;  t -> linear -> upsample -> bn
    After:   a -> conv' -> lif;       t -> linear' -> upsample -> lif

A feeder without weights of its own hands the factor on to what feeds it where that is exact (Flatten, Reshape, pools,
Upsample2d, Concat, Repeat, ...). Where something cannot take it (a neuron, an input, an op that others read too), the
batch norm becomes a 1x1 convolution with one group per channel, in place, which is exact as well; for a value with one
axis a diagonal Affine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from snnir.graph import Graph
from snnir.ops import Affine, Array, BatchNorm, Conv1d, Conv2d, Op, Shape
from snnir.passes.common import Declined, Work, along_channels, float_type, listed, order, wide
from snnir.passes.gains import plan_gain, plan_offset
from snnir.passes.timing import in_time
from snnir.pipeline import Keeps, Log, Pass


@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """Folds `BatchNorm` (and tdBN) into the weights that feed it.

    Attributes:
        copy: duplicate a weight that others read too, instead of leaving a 1x1 convolution behind.
        rewrite: turn what cannot be folded into 1x1 convolutions (or diagonal weights); otherwise it stays.
    """

    name: ClassVar[str] = "fold-batch-norm"
    keeps: ClassVar[Keeps] = "exact"
    copy: bool = False
    rewrite: bool = True

    def run(self, graph: Graph, log: Log) -> Graph:
        if not any(isinstance(op, BatchNorm) for op in graph.ops.values()):
            return graph
        return in_time(graph, log, self._rewrite)

    def _rewrite(self, graph: Graph, log: Log, frozen: frozenset[str]) -> Graph:
        work = Work(graph, frozen)
        for name in order(graph):
            op = work.ops[name]
            if not isinstance(op, BatchNorm):
                continue
            try:
                self._fold(work, name, op, log)
            except Declined as reason:
                log.declined(name, f"not folded: {reason}")
                if self.rewrite:
                    self._replace(work, name, op, log)
        return work.build()

    def _fold(self, work: Work, name: str, op: BatchNorm, log: Log) -> None:
        work.thaw(name)
        factor, offset = coefficients(op)
        rank = len(work.shapes[name])
        # The offset goes to the first that can take it; one that has a bias already pays nothing for it.
        edges = sorted(work.incoming(name), key=lambda e: not hasattr(work.ops[e.source], "bias"))
        plan = plan_gain(work, edges, along_channels(factor, rank), self.copy)
        shift = along_channels(offset, rank)
        if offset.any() and not any(plan_offset(work, plan, edge, shift) for edge in edges):
            raise Declined(f"none of its feeders ({listed(e.source for e in edges)}) has a bias to take the offset")
        if not work.can_bypass(name):
            raise Declined("one of its feeders also feeds what reads it")
        targets = list(plan.ops)
        plan.apply(work, (name,))
        work.bypass(name)
        log.did(name, f"folded into {listed(targets) if targets else 'nothing: it was the identity'}")

    def _replace(self, work: Work, name: str, op: BatchNorm, log: Log) -> None:
        shape = work.shapes[name]
        new = as_weights(op, shape)
        if new is None:
            log.declined(name, f"a batch norm over a value of shape {list(shape)} has no form with weights")
            return
        work.swap(name, new)
        log.did(name, f"became a {new.kind} that does the same")


def coefficients(op: BatchNorm) -> tuple[Array, Array]:
    """The factor and the offset of a batch norm, float64, per channel."""
    factor = wide(op.weight) * (op.alpha * op.v_th) / np.sqrt(wide(op.var) + op.eps)
    return factor, wide(op.bias) - factor * wide(op.mean)


def as_weights(op: BatchNorm, shape: Shape) -> Op | None:
    """The batch norm of a value of that shape as a 1x1 convolution per channel, or a diagonal Affine."""
    factor, offset = coefficients(op)
    kind = float_type(op.weight, op.bias)
    common: dict[str, Any] = {"metadata": op.metadata, "loc": op.loc, "bias": offset.astype(kind)}
    if len(shape) == 1:
        return Affine(weight=np.diag(factor).astype(kind), **common)
    conv = {2: Conv1d, 3: Conv2d}.get(len(shape))
    if conv is None:
        return None
    return conv(weight=along_channels(factor, len(shape) + 1).astype(kind), groups=shape[0], **common)
