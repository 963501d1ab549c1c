"""Emitted PyTorch, Norse and snnTorch models against the interpreter: the same spikes at every step of every op."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnir.graph import Graph
from snnir.interpreter import interpret
from snnir.ops import LIF, SpikingNeuron, Threshold
from tests.backends.family import FAMILY, built, same_everywhere
from tests.knots import knots
from tests.strategies import GRAPH_KINDS, STYLES, inputs_for, make_graph, nir_graphs

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("target", FAMILY)
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", GRAPH_KINDS)
def test_named_graphs(kind: str, style: str, target: str) -> None:
    assert same_everywhere(make_graph(3, kind, style), target, steps=40, batch=3) > 20


SEMANTICS = st.fixed_dictionaries(
    {
        "decay": st.sampled_from(["euler", "exponential"]),
        "gain": st.sampled_from(["ode", "unit"]),
        "comparison": st.sampled_from([">", ">="]),
        "reset": st.sampled_from(["value", "subtract"]),
        "start": st.sampled_from(["rest", "zero"]),
        "recurrent_bias_at_start": st.booleans(),
    }
)
GRADIENTS = st.fixed_dictionaries(
    {
        "surrogate": st.sampled_from([None, "triangle", "atan", "fast_sigmoid"]),
        "detach_reset": st.sampled_from([None, True, False]),
    }
)


@pytest.mark.parametrize("target", FAMILY)
@settings(max_examples=60)
@given(graph=knots(), semantics=SEMANTICS, seed=st.integers(0, 1000))
def test_cycles_through_and_through(target: str, graph: Graph, semantics: dict[str, object], seed: int) -> None:
    same_everywhere(replace(graph, semantics=graph.semantics.with_(**semantics)), target, seed=seed)


@pytest.mark.parametrize("target", FAMILY)
@settings(max_examples=60)
@given(graph=nir_graphs(several_io=True), semantics=SEMANTICS, gradients=GRADIENTS, seed=st.integers(0, 1000))
def test_random_graphs_under_every_semantics(
    target: str, graph: Graph, semantics: dict[str, object], gradients: dict[str, object], seed: int
) -> None:
    metadata = {key: value for key, value in gradients.items() if value is not None}
    ops = {n: op.with_(metadata=metadata) if op.spiking else op for n, op in graph.ops.items()}
    meant = replace(graph, ops=ops, semantics=graph.semantics.with_(**semantics))
    same_everywhere(meant, target, seed=seed)


@pytest.mark.parametrize("target", FAMILY)
@pytest.mark.parametrize("reset", ["value", "subtract"])
def test_a_membrane_exactly_at_threshold(target: str, reset: str) -> None:
    # Every number here is a small multiple of a power of two, so v meets the threshold exactly, again and again.
    lif = LIF(tau=np.float64(2e-3), r=2.0, v_threshold=np.float64(1.0), v_reset=np.float64(0.5))
    graph = make_graph(0, "affine-lif")
    chain = {"input": replace(graph["input"], shape=(3,)), "n": lif, "output": replace(graph["output"], shape=(3,))}
    edges = (("input", "n"), ("n", "output"))
    x = np.tile(np.array([1.0, 0.5, 2.0]), (8, 1, 1))
    counts = {}
    for comparison in (">", ">="):
        semantics = graph.semantics.with_(comparison=comparison, reset=reset)
        exact = Graph(chain, edges, semantics)  # type: ignore[arg-type]
        (got,), _ = (list(part.values()) if part else part for part in built(exact, target).run({"input": x}, ()))
        np.testing.assert_array_equal(got, interpret(exact, x))
        counts[comparison] = got.sum()
    assert counts[">="] > counts[">"] > 0  # so the comparison matters on this input


@pytest.mark.parametrize("target", FAMILY)
@pytest.mark.parametrize("kind", ["conv2d-flatten", "recurrence-cubalif", "skip", "heterogeneous"])
def test_float32_flips_few_spikes(target: str, kind: str) -> None:
    """In float32 a membrane within rounding of its threshold may fall either way: at most 1 spike of 1000 differs."""
    graph = make_graph(5, kind, "disc")
    spiking = [n for n, op in graph.ops.items() if isinstance(op, (SpikingNeuron, Threshold))]
    x = {n: v.astype(np.float32) for n, v in inputs_for(graph, T=60, B=8, rng=1).items()}
    _, expected = interpret(graph, x, record=spiking)
    _, got = built(graph, target).run(x, tuple(spiking))
    total = sum(v.sum() for v in expected.values())
    flips = sum(int((expected[n] != got[n]).sum()) for n in spiking)
    assert all(v.dtype == np.float32 for v in got.values())
    assert total > 200
    assert flips <= total / 1000
