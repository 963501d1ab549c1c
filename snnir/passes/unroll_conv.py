"""unroll-conv: everything between inputs and outputs becomes dense and one-dimensional, for chips without convolutions.

A linear op without state is its matrix: column k is what it makes of the k-th unit vector, less what it makes of 0,
which is its bias. So a convolution with any stride, padding, dilation and groups, a pool, a transposed convolution or a
dense weight over the last of several axes becomes one Affine (or Linear) on flattened values, borders included. Neurons
and other ops that act on each element alone get their parameters broadcast and flattened. Flatten and Reshape
disappear; inputs and outputs keep their shapes behind a Flatten and a Reshape of their own.

    Before:  in (1, 4, 4) -> conv -> lif (3, 4, 4) -> avgpool -> flatten -> fc -> out (5)
    After:   in (1, 4, 4) -> flatten -> affine 16x48 -> lif (48) -> linear 48x12 -> fc -> out (5)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from snnir.graph import Graph
from snnir.ops import (
    Activation,
    Affine,
    Array,
    Concat,
    Constant,
    Delay,
    Flatten,
    Input,
    Linear,
    Multiply,
    Neuron,
    Op,
    Output,
    Repeat,
    Reshape,
    Scale,
    Shape,
    TemporalMean,
    Threshold,
)
from snnir.passes.common import Declined, Work, float_type, size
from snnir.passes.compose import affine_form
from snnir.passes.timing import in_time
from snnir.pipeline import Keeps, Log, Pass


@dataclass(frozen=True)
class UnrollConv(Pass):
    """Makes the body of a graph dense and one-dimensional.

    Attributes:
        max_weights: most weights of one unrolled op; a larger one stays as it is, between reshapes.
    """

    name: ClassVar[str] = "unroll-conv"
    keeps: ClassVar[Keeps] = "exact"
    max_weights: int = 1 << 24

    def run(self, graph: Graph, log: Log) -> Graph:
        if not any(_has_axes(graph, name) for name in graph.ops):
            return graph
        return in_time(graph, log, self._rewrite)

    def _rewrite(self, graph: Graph, log: Log, frozen: frozenset[str]) -> Graph:
        work = Work(graph, frozen)
        fallback = float_type(*graph.weights().values())
        flat: set[str] = set()
        worth = False
        for name, op in graph.ops.items():
            if isinstance(op, (Input, Output)):
                continue
            start = graph.shapes[graph.incoming[name][0].source] if op.ports else ()
            try:
                work.thaw(name)
                new = self._flattened(op, start, graph, name, fallback)
            except Declined as reason:
                log.declined(name, f"keeps its shape: {reason}")
                continue
            flat.add(name)
            if new is not op:
                work.swap(name, new, (), (size(graph.shapes[name]),))
            if _has_axes(graph, name):
                worth = True
                log.did(name, _what(op, new))
        if not worth:
            return graph
        _join(work, graph, flat)
        for name in flat:
            if isinstance(graph[name], (Flatten, Reshape)) and work.can_bypass(name):
                work.bypass(name)
        return work.build()

    def _flattened(self, op: Op, start: Shape, graph: Graph, name: str, fallback: np.dtype[Any]) -> Op:
        """The op on flattened values.

        Raises:
            Declined: it has no such form, or it would be too large.
        """
        end = graph.shapes[name]
        if isinstance(op, (Flatten, Reshape)):
            return Reshape(shape=(size(end),), metadata=op.metadata, loc=op.loc)
        if not _has_axes(graph, name) or isinstance(op, (Activation, Repeat, TemporalMean)):
            return op
        if isinstance(op, (Neuron, Scale, Threshold, Delay)):
            return op.with_(**{array: _spread(getattr(op, array), end) for array in op.arrays})
        if isinstance(op, Constant):
            lead = op.value.shape[:1] if op.series else ()
            return op.with_(value=op.value.reshape(*lead, size(end)))
        if isinstance(op, Concat) and (op.inputs == 1 or all(n == 1 for n in end[: op.axis % len(end)])):
            return op.with_(axis=0)
        if isinstance(op, Multiply) and len({graph.shapes[e.source] for e in graph.incoming[name]}) == 1:
            return op
        if not op.linear or op.stateful or len(op.ports) != 1:
            raise Declined(f"a {op.kind} over several axes has no dense form")
        if size(start) * size(end) > self.max_weights:
            raise Declined(f"it would take {size(start) * size(end)} weights, more than max_weights={self.max_weights}")
        matrix, offset = affine_form(op, start, end)
        kind = float_type(*(getattr(op, array) for array in op.arrays)) if op.arrays else fallback
        common: dict[str, Any] = {"weight": matrix.astype(kind), "metadata": op.metadata, "loc": op.loc}
        return Affine(bias=offset.astype(kind), **common) if offset.any() else Linear(**common)


def _join(work: Work, graph: Graph, flat: set[str]) -> None:
    """Puts a Flatten or a Reshape on every edge between a flattened op and one that keeps its shape."""
    adapters: dict[tuple[str, bool], str] = {}
    for edge in graph.edges:
        to_flat = edge.target in flat
        shape = graph.shapes[edge.source]
        if len(shape) == 1 or (edge.source in flat) == to_flat:
            continue
        if (edge.source, to_flat) not in adapters:
            loc = graph[edge.source].loc
            after = (size(shape),) if to_flat else shape
            # A single number has no axes that a Flatten could merge.
            op = Flatten(start_dim=0, loc=loc) if to_flat and shape else Reshape(shape=after, loc=loc)
            name = f"{edge.source}.{'flatten' if to_flat else 'reshape'}"
            adapters[edge.source, to_flat] = work.add(name, op, (edge.source,), shape=after)
            work.connect(edge.source, adapters[edge.source, to_flat])
        work.disconnect(edge)
        work.connect(adapters[edge.source, to_flat], edge.target, edge.port)


def _has_axes(graph: Graph, name: str) -> bool:
    """Whether an op of the body reads or gives a value with several axes."""
    op = graph[name]
    if isinstance(op, (Input, Output, Flatten, Reshape)):
        return False
    return any(len(graph.shapes[n]) != 1 for n in (name, *(e.source for e in graph.incoming[name])))


def _spread(parameter: Array, shape: Shape) -> Array:
    """A parameter per element of the flattened value; a single number stays one."""
    return parameter.reshape(()) if parameter.size == 1 else np.broadcast_to(parameter, shape).reshape(-1).copy()


def _what(old: Op, new: Op) -> str:
    if isinstance(new, Linear):
        return f"this {old.kind} became a {new.kind} of {new.weight.size} weights"
    return f"this {old.kind} now acts on flattened values"
