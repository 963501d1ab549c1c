"""ungroup-conv: convolutions in groups become convolutions in one group, with zeros between the groups.

When it checks types, nir's own reader (1.0.8) takes the channels of ONE group for those of the whole input, so it
refuses every graph with a grouped convolution. In one group it reads them.

    Before:  Conv2d(weight (C, 1, k, k), groups=C)
    After:   Conv2d(weight (C, C, k, k), groups=1), all but the diagonal zero
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnir.graph import Graph
from snnir.ops import Array, Conv
from snnir.passes.common import Work
from snnir.pipeline import Keeps, Log, Pass


@dataclass(frozen=True)
class UngroupConv(Pass):
    """Writes grouped convolutions as dense ones, for readers that do not know groups.

    Attributes:
        max_weights: most weights that one of them may then have.
    """

    name: ClassVar[str] = "ungroup-conv"
    keeps: ClassVar[Keeps] = "exact"
    max_weights: int = 1 << 24

    def run(self, graph: Graph, log: Log) -> Graph:
        work = Work(graph)
        dense: dict[tuple[object, ...], Array] = {}
        for name, op in graph.ops.items():
            if not isinstance(op, Conv) or op.groups == 1:
                continue
            if op.weight.size * op.groups > self.max_weights:
                log.declined(
                    name, f"it would take {op.weight.size * op.groups} weights, max_weights={self.max_weights}"
                )
                continue
            # One-hot weights of shifts are alike: they stay one array.
            key = op.weight.shape, op.groups, op.weight.dtype, op.weight.tobytes()
            if key not in dense:
                dense[key] = _one_group(op)
            work.swap(name, op.with_(weight=dense[key], groups=1))
            log.did(name, f"{op.groups} groups became one, {op.weight.size} weights {dense[key].size}")
        return work.build()


def _one_group(op: Conv) -> Array:
    """The weights with zeros between what was apart; untouched zeros take no memory."""
    c_out, c_in = op.weight.shape[0] // op.groups, op.weight.shape[1]
    out = np.zeros((op.weight.shape[0], c_in * op.groups, *op.weight.shape[2:]), op.weight.dtype)
    for g in range(op.groups):
        rows = slice(g * c_out, (g + 1) * c_out)
        out[rows, g * c_in : (g + 1) * c_in] = op.weight[rows]
    return out
