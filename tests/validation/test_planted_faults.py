"""Faults planted one at a time by a simulator of its own: all that show are detected, and get their right name."""

from __future__ import annotations

from tests.graph_kinds import make_graph
from tests.planted import Outcome, drawn, outcomes, ready, summary

KINDS = ("recurrence-affine", "cubalif", "conv2d-flatten")


def checked(found: list[Outcome]) -> None:
    """100 % of what shows is detected; 95 % is named as planted, or by what no input distinguishes from it."""
    print(summary(found))
    visible = [o for o in found if o.word != "invisible"]
    assert not [o for o in visible if o.word == "undetected"], summary(found)
    right = [o for o in visible if o.word in ("named", "equivalent")]
    assert len(right) >= 0.95 * len(visible), summary(found)
    assert sum(o.word == "named" for o in visible) >= 0.7 * len(visible), summary(found)


def test_random_graphs() -> None:
    """`python benchmarks/planted_faults.py` plants faults in as many as one likes."""
    found: list[Outcome] = []
    for k, graph in enumerate(drawn(2, 1)):
        found += outcomes(*ready(graph, k), seed=k)
    assert len(found) >= 30
    checked(found)


def test_named_graphs() -> None:
    found: list[Outcome] = []
    for k, kind in enumerate(KINDS):
        found += outcomes(*ready(make_graph(k, kind), k), seed=k)
    right = {o.plant.name for o in found if o.word in ("named", "equivalent")}
    wanted = {"dt", "reset", "comparison", "r-ignored", "bias-dropped", "edge-lost", "edge-delayed", "decay", "order"}
    wanted |= {"weight-transposed", "weight-wrapped", "recurrent-edge-lost", "kernel-flipped"}
    assert wanted <= right, wanted - right
    checked(found)
