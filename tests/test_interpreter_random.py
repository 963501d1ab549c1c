"""The interpreter against a second, naive simulator, on random graphs and on the table of known trouble cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import snnir
from snnir.graph import Graph
from snnir.ops import SpikingNeuron
from tests.graph_kinds import GRAPH_KINDS, STYLES, make_graph
from tests.knots import knots
from tests.naive import simulate
from tests.strategies import inputs_for, nir_graphs


def check(graph: Graph, x: dict[str, np.ndarray]) -> float:
    names = list(graph.ops)
    _, got = snnir.interpret(graph, x, record=names)
    want = simulate(graph, x)
    for name in names:
        scale = max(1.0, float(np.abs(want[name]).max()))
        np.testing.assert_allclose(got[name], want[name], atol=1e-9 * scale, err_msg=name)
    return sum(float(want[n].sum()) for n in names if isinstance(graph[n], SpikingNeuron))


@settings(max_examples=200)
@given(graph=nir_graphs(), seed=st.integers(0, 2**16))
def test_random_graphs(graph: Graph, seed: int) -> None:
    check(graph, inputs_for(graph, 12, 2, np.random.default_rng(seed)))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", GRAPH_KINDS)
def test_every_kind_of_graph(kind: str, style: str) -> None:
    graph = make_graph(np.random.default_rng(1), kind, style)
    x = inputs_for(graph, 100, 2, np.random.default_rng(2))
    spikes = check(graph, x)
    if any(isinstance(op, SpikingNeuron) for op in graph.ops.values()):
        assert spikes > 0


@settings(max_examples=300)
@given(graph=knots(), seed=st.integers(0, 2**16))
def test_cycles_through_and_through(graph: Graph, seed: int) -> None:
    check(graph, inputs_for(graph, 8, 2, np.random.default_rng(seed)))
