"""specialise-time: a denoising network for one diffusion time, its time path run once and for all.

What depends on the input `time` alone is a known series over the S SNN steps of a call: neurons start at rest in each.
So it becomes a Constant where it meets what depends on the image, and the input is gone.

    Before:  time -> affine -> lif -> affine -> spread -> lif1;  x -> conv -> lif1
    After:   constant(S steps) -> spread -> lif1;                x -> conv -> lif1

The series is computed in float64 and stored so; it is exact for S steps (after them its last value is held).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from snnir.diffusion.spec import spec_of
from snnir.diffusion.unrolled import TIME
from snnir.graph import Graph
from snnir.ops import Array
from snnir.passes.common import Declined
from snnir.passes.known_time import behind, constants, denoiser, kept_edges, known_time
from snnir.pipeline import Keeps, Log, Pass, Reference


@dataclass(frozen=True)
class SpecialiseTime(Pass):
    """Fixes the diffusion time of a denoising network: its time path becomes constants.

    Attributes:
        t: the diffusion time, 0 to 999 in the schedule of 1000.
    """

    name: ClassVar[str] = "specialise-time"
    keeps: ClassVar[Keeps] = "exact"
    t: int = 999

    def __post_init__(self) -> None:
        if self.t < 0:
            raise ValueError(f"t is {self.t}, expected a diffusion time, 0 or more")

    def run(self, graph: Graph, log: Log) -> Graph:
        try:
            spec = denoiser(graph)
            known = known_time(graph, spec, [self.t])
        except Declined as reason:
            log.declined(next(iter(graph.ops)), str(reason))
            return graph
        series = constants(graph, known, 0)
        ops = {n: series.get(n, op) for n, op in graph.ops.items() if n not in known.gone or n in series}
        origin = {n: sources for n, sources in graph.origin.items() if n in ops}
        origin |= {n: behind(graph, known, n) for n in series}
        for name, op in series.items():
            log.did(name, f"a constant of {op.value.shape[0]} steps at t = {self.t}")
        metadata = {**graph.metadata, TIME: self.t}
        return replace(graph, ops=ops, edges=tuple(kept_edges(graph, known)), origin=origin, metadata=metadata)

    def reference(self, before: Graph, x: Mapping[str, Array], record: Sequence[str]) -> Reference:
        """The network before, at this time."""
        spec = spec_of(before)
        some = next(iter(x.values()))
        embedding = spec.embed(np.asarray([self.t]))
        time = np.broadcast_to(embedding, (*some.shape[:2], spec.time_size))
        return super().reference(before, {**x, spec.time: time}, record)

    def horizon(self, before: Graph) -> int:
        """The steps of a call."""
        return spec_of(before).steps
