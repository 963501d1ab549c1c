"""lift-vectors: vectors that are to become maps are maps of one pixel from the start.

NIR can flatten but not unflatten, so no vector of a NIR graph can reach a convolution. A vector of n values is a map of
shape (n, 1, 1): weights become 1x1 convolutions, neurons keep their parameters, and the Reshape disappears. Where the
vector comes from a graph input, that input takes (n, 1, 1) from now on: who runs the graph adds two axes of length 1.

    Before:  time (32) -> affine -> lif -> affine -> reshape (24, 1, 1) -> ...
    After:   time (32, 1, 1) -> conv 1x1 -> lif -> conv 1x1 -> ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from snnir.graph import Graph
from snnir.ops import (
    Affine,
    Array,
    BatchNorm,
    Concat,
    Constant,
    Conv2d,
    Delay,
    Input,
    Linear,
    Neuron,
    Op,
    Reshape,
    Scale,
    Threshold,
)
from snnir.passes.common import Declined, Work, listed
from snnir.passes.timing import in_time
from snnir.pipeline import Keeps, Log, Pass, Reference


@dataclass(frozen=True)
class LiftVectors(Pass):
    """Turns vectors that a Reshape makes maps of into maps of one pixel, back to the inputs they come from."""

    name: ClassVar[str] = "lift-vectors"
    keeps: ClassVar[Keeps] = "exact"

    def run(self, graph: Graph, log: Log) -> Graph:
        if not any(_lifts(graph, name) for name in graph.ops):
            return graph
        return in_time(graph, log, self._rewrite)

    def _rewrite(self, graph: Graph, log: Log, frozen: frozenset[str]) -> Graph:
        work = Work(graph, frozen)
        done: set[str] = set()
        for name in graph.ops:
            if name in done or not _lifts(graph, name):
                continue
            try:
                region, ends = _region(graph, name)
                work.thaw(*region, *ends)
                changed = {n: _lifted(graph[n], n) for n in region}
            except Declined as reason:
                log.declined(name, f"stays: {reason}")
                continue
            for n, op in changed.items():
                work.swap(n, op, (), (*graph.shapes[n], 1, 1))
                if isinstance(op, Input):
                    log.did(n, f"takes maps of one pixel, {list(op.shape)}, instead of vectors")
            for end in ends:
                if not work.can_bypass(end):
                    work.swap(end, graph[end])  # it stays and does nothing
                    continue
                work.bypass(end)
            done.update(ends)
            log.did(name, f"{len(region)} ops in front of it work on maps of one pixel")
        return work.build()

    def reference(self, before: Graph, x: Mapping[str, Array], record: Sequence[str]) -> Reference:
        """The graph before on vectors."""
        shapes = before.shapes
        vectors = {n: np.reshape(v, (*v.shape[:2], *shapes[n])) for n, v in x.items()}
        return super().reference(before, vectors, record)


def _lifts(graph: Graph, name: str) -> bool:
    """Whether an op makes a map of one pixel of a vector."""
    if not isinstance(graph[name], Reshape):
        return False
    before = graph.shapes[graph.incoming[name][0].source]
    return len(before) == 1 and graph.shapes[name] == (*before, 1, 1)


def _region(graph: Graph, name: str) -> tuple[list[str], list[str]]:
    """The vectors that hang together with one that is lifted, and all the Reshapes that lift them, in graph order.

    Raises:
        Declined: one of them is needed as a vector.
    """
    region: set[str] = set()
    ends: set[str] = set()
    stack = [name]
    while stack:
        at = stack.pop()
        if at in region or at in ends:
            continue
        if _lifts(graph, at):
            ends.add(at)
        else:
            if len(graph.shapes[at]) != 1 or not isinstance(graph[at], LIFTED):
                raise Declined(f"{at} ({graph[at].kind}) has no form on maps of one pixel")
            region.add(at)
            stack += [e.target for e in graph.outgoing[at]]
        stack += [e.source for e in graph.incoming[at]]
    if not region:
        raise Declined(f"nothing feeds {listed(sorted(ends))}")
    return [n for n in graph.ops if n in region], [n for n in graph.ops if n in ends]


LIFTED = (Input, Linear, Neuron, Scale, Threshold, Delay, BatchNorm, Concat, Constant)


def _lifted(op: Op, name: str) -> Op:
    if isinstance(op, Input):
        return op.with_(shape=(*op.shape, 1, 1))
    if isinstance(op, Linear):
        if op.weight.ndim != 2:
            raise Declined(f"{name} ({op.kind}) has weights per leading axis")
        n_out = op.weight.shape[0]
        bias = np.broadcast_to(op.bias, (n_out,)) if isinstance(op, Affine) else np.zeros(n_out, op.weight.dtype)
        common: dict[str, Any] = {"metadata": op.metadata, "loc": op.loc}
        return Conv2d(weight=op.weight[:, :, None, None], bias=bias, **common)
    if isinstance(op, (Neuron, Scale, Threshold, Delay)):
        arrays = {a: getattr(op, a) for a in op.arrays if getattr(op, a) is not None}
        return op.with_(**{a: v[:, None, None] if v.ndim else v for a, v in arrays.items()})
    if isinstance(op, Constant):
        return op.with_(value=op.value[..., None, None])
    if isinstance(op, Concat):
        return op.with_(axis=0)
    return op  # a BatchNorm acts on axis 0 as it is
