"""Running what Xylo cannot do exactly: only when it is asked for, and then with the effect measured.

`compile(..., allow=("approximate",))` adds this pass. It changes nothing in the network, which keeps meaning what its
author meant: it marks the graph, so that rules about *meaning* (a hard reset, a time constant below the shortest that
the chip has, a loop that is too fast, a membrane with a floor) let it pass. Rules about *room* stay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from snnir.graph import Graph
from snnir.pipeline import Keeps, Log, Pass

_MARK = "xylo.approximate"


@dataclass(frozen=True)
class AllowApproximate(Pass):
    """Marks a graph as one that may be approximated."""

    name: ClassVar[str] = "allow-approximate"
    keeps: ClassVar[Keeps] = "exact"

    def run(self, graph: Graph, log: Log) -> Graph:
        if approximation_allowed(graph):
            return graph
        log.did("graph", "rules about meaning are reported instead of enforced")
        return replace(graph, metadata={**graph.metadata, _MARK: True})


def approximation_allowed(graph: Graph) -> bool:
    """Whether the graph has been marked."""
    return bool(graph.metadata.get(_MARK, False))
