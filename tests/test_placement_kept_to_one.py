"""What keeps to one chip beside a host for its loop's sake, and what goes on several all the same."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import snnir
from snnir import registry
from snnir.backends.xylo.artifact import XyloArtifact
from snnir.graph import Edge, Graph, chain
from snnir.ops import Input, Output
from snnir.placement import partition
from snnir.placement.automatic import placed
from snnir.placement.chips import spread
from snnir.placement.chips.compiled import ChipsArtifact
from snnir.placement.running import run
from tests.strategies import inputs_for
from tests.test_placement_chips import SOFT
from tests.test_placement_several import TINY, layers, ring


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chip for some ten neurons under the name of Xylo Audio 3."""
    real = registry.backend
    monkeypatch.setattr(registry, "backend", lambda name: TINY if name == TINY.target.name else real(name))


def behind(loop: Graph) -> Graph:
    """A loop, and a stack that reads its last neurons and needs two chips."""
    made = dict(layers(np.random.default_rng(1), "b", [5, 12, 5, 14, 12, 5], 0.9))
    edges = [Edge(a, b) for a, b in pairwise(["a5.n", *made, "z"])]
    return replace(loop, ops={**loop.ops, **made, "z": Output()}, edges=(*loop.edges, *edges))


def test_what_reads_a_loop_that_keeps_to_one_chip_may_have_two(tiny: None) -> None:
    """It counted as the loop's, as its input has the name of the loop's neurons, and so most of it left the chip."""
    graph = behind(ring(6))
    x = inputs_for(graph, T=20, rng=0, values="spikes")
    found = partition(graph, "xylo-audio3", chips="auto", calibrate={"x": np.ones((5, 1, 3))})
    assert all(found.places[f"b{k}.n"].side == "chip" for k in range(1, 6))
    spread_out = [part for part in found.chips if part.name in found.spreads]
    assert ["b1.n" in part.graph.ops and "a1.n" not in part.graph.ops for part in spread_out] == [True]
    assert found.loops
    values, wanted = run(found, x), snnir.interpret(graph, x)
    assert all(np.array_equal(values[name], wanted[name]) for name in graph.outputs)


def test_a_part_on_another_number_of_chips_is_made_again() -> None:
    stack = layers(np.random.default_rng(1), "a", [4, 6])
    graph = chain(("x", Input(shape=(4,))), *stack, ("y", Output()), semantics=SOFT)
    placement, integers = placed(graph, "xylo-audio3", "onnx")
    (part,), (made,) = placement.chips, integers.made
    assert not integers.make(placement)
    assert integers.made[0] is made
    several = replace(placement, spreads={part.name: spread(part.graph, "xylo-audio3", "auto")})
    assert not integers.make(several)
    assert isinstance(integers.results(several)[part.name].artifact, ChipsArtifact)
    assert not integers.make(placement)
    assert isinstance(integers.results(placement)[part.name].artifact, XyloArtifact)
