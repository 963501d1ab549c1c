"""Explanations: where, which, how many at once, and when none is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import snnir
from snnir import interpret
from snnir.graph import Graph
from snnir.semantics import Semantics
from snnir.validation import aligned, compare, first_difference, judge, populations
from tests.graph_kinds import make_graph


def spikes(graph: Graph, steps: int = 60, batch: int = 4, rate: float = 0.4) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {n: rng.binomial(1, rate, (steps, batch, *graph.shapes[n])).astype(float) for n in graph.inputs}


def traces(graph: Graph, x: Mapping[str, Any], semantics: Semantics | None = None) -> dict[str, Any]:
    out, seen = interpret(graph, x, semantics=semantics, record=populations(graph))
    return {**seen, graph.outputs[0]: out}


def without_bias(graph: Graph, *names: str) -> Graph:
    changed = {n: graph[n].with_(bias=np.zeros_like(graph[n].bias)) for n in names}  # type: ignore[attr-defined]
    return replace(graph, ops={**graph.ops, **changed})


def test_the_first_difference_is_where_inputs_still_agree() -> None:
    """n2 parts at step 1 and n1 at step 9, each on its own: n1 comes first. Had n1 parted at 0, n2 would follow."""
    graph = make_graph(1, "affine-lif")
    right = traces(graph, spikes(graph))
    wrong = {name: values.copy() for name, values in right.items()}
    wrong["n1"][9, 2, 4] = 1 - wrong["n1"][9, 2, 4]
    wrong["n2"][1, 0, 1] = 1 - wrong["n2"][1, 0, 1]
    first = first_difference(graph, aligned(graph, right, wrong))
    assert first is not None
    assert (first.op, first.step, first.batch, first.neuron) == ("n1", 9, 2, (4,))
    assert first.got == 1 - first.expected


def test_on_a_cycle_what_feeds_back_is_no_cause() -> None:
    """n2 feeds n1 back: n2 parts at step 5, n1 at step 6 because of it."""
    graph = make_graph(1, "long-recurrence")
    right = traces(graph, spikes(graph))
    wrong = {name: values.copy() for name, values in right.items()}
    wrong["n2"][5, 0, 0] = 1 - wrong["n2"][5, 0, 0]
    wrong["n1"][6, 0, 0] = 1 - wrong["n1"][6, 0, 0]
    first = first_difference(graph, aligned(graph, right, wrong))
    assert first is not None
    assert (first.op, first.step) == ("n2", 5)


def test_three_faults_at_once() -> None:
    graph = make_graph(2, "skip", "disc")
    x = spikes(graph)
    faulty = without_bias(graph, "fc1", "fc3")
    turned = faulty["fc2"].with_(weight=faulty["fc2"].weight.T)  # type: ignore[attr-defined]
    faulty = replace(faulty, ops={**faulty.ops, "fc2": turned})
    found = snnir.explain(graph, x, traces(faulty, x), probe=lambda y: traces(faulty, y))
    named = {(c.name, c.where) for c in found.causes}
    assert named == {("bias-dropped", "fc1"), ("weight-transposed", "fc2"), ("bias-dropped", "fc3")}, found.text
    assert found.explained == 1.0
    assert [c.explained for c in found.causes][-1] == 1.0
    assert found.model is not None
    again = found.model.run(x, ["output"])["output"]
    np.testing.assert_array_equal(again, traces(faulty, x)["output"])


def test_outputs_alone_are_enough() -> None:
    graph = make_graph(3, "affine-lif")
    x = spikes(graph)
    faulty = without_bias(graph, "fc1")
    found = snnir.explain(graph, x, {"output": interpret(faulty, x)})
    assert [(c.name, c.where) for c in found.causes] == [("bias-dropped", "fc1")], found.text


def test_nonsense_is_unknown_and_never_guessed() -> None:
    graph = make_graph(4, "affine-lif")
    x = spikes(graph)
    noise = {n: np.random.default_rng(9).permutation(v) for n, v in traces(graph, x).items()}
    found = snnir.explain(graph, x, noise, runs=800)
    assert found.causes == ()
    assert found.model is None
    assert found.text.startswith("unknown: none of ")
    assert all(0 < c.explained < 0.99 for c in found.partial)
    verdict, _ = judge(graph, x, noise, "noise")
    assert not verdict.ok
    assert verdict.causes == ()
    assert verdict.cause.startswith("unknown")


def test_what_nothing_tells_apart_is_said() -> None:
    """In a chain of two populations, a delay of every spike is a delay of the one connection."""
    graph = make_graph(1, "affine-lif")
    x = spikes(graph)
    late = graph.semantics.with_(latency_neuron=1)
    (cause,) = snnir.explain(graph, x, traces(graph, x, late), probe=lambda y: traces(graph, y, late)).causes
    assert cause.name == "latency_neuron"
    assert any(s.startswith("edge-delayed at n1 -> fc2") for s in cause.same)


def test_a_fault_of_one_population_is_not_the_networks() -> None:
    graph = make_graph(6, "linear")
    x = spikes(graph)
    own = {"n2": graph.semantics.with_(reset="subtract")}

    def run(y: Any) -> dict[str, Any]:
        out, seen = interpret(graph, y, record=populations(graph), overrides=own)
        return {**seen, "output": out}

    (cause,) = snnir.explain(graph, x, run(x), probe=run).causes
    assert (cause.name, cause.where, cause.does) == ("reset", "n2", "'subtract'")


def test_no_difference() -> None:
    graph = make_graph(7, "cubalif")
    x = spikes(graph)
    found = snnir.explain(graph, x, traces(graph, x))
    assert (found.causes, found.first, found.text, found.explained) == ((), None, "no difference", 1.0)


def test_small_values_before_large_ones_count() -> None:
    """An integrator that ends at 1e4 and is wrong by 1e-3 in its first steps."""
    graph = make_graph(8, "integrator-readout")
    grown = {"output": np.linspace(0.0, 1e4, 50).reshape(50, 1, 1) * np.ones((1, 1, 3))}
    off = {"output": grown["output"] + np.where(np.arange(50) == 0, 1e-3, 0.0).reshape(50, 1, 1)}
    verdict = compare(graph, "other", aligned(graph, grown, off))
    assert verdict.first is not None
    assert verdict.first.step == 0
    assert verdict.differing == 3


def test_a_wrong_shape_is_a_wrong_network() -> None:
    graph = make_graph(9, "affine-lif")
    x = spikes(graph)
    got = {**traces(graph, x), "output": np.zeros((60, 4, 6))}
    verdict, kept = judge(graph, x, got, "other")
    assert (verdict.verdict, verdict.ok) == ("wrong", False)
    assert verdict.cause == "output has shape [60, 4, 6] (steps, batch, ...), the network means [60, 4, 3]"
    assert set(kept.misshapen) == {"output"}


def test_the_document() -> None:
    """Keys of the JSON are only ever added."""
    graph = make_graph(5, "affine-lif")
    x = spikes(graph)
    verdict, kept = judge(graph, x, traces(graph, x, graph.semantics.with_(reset="subtract")), "other")
    document = json.loads(json.dumps(verdict.to_json()))
    (cause,) = document["causes"]
    assert set(cause) >= {"name", "kind", "where", "meant", "does", "explained", "remedy", "same"}
    assert (cause["name"], cause["kind"], cause["explained"]) == ("reset", "semantics", 1.0)
    assert document["explained"] == 1.0
    assert [p["op"] for p in document["populations"]] == ["n1", "n2", "output"]
    assert sum(p["differing"] for p in document["populations"]) == document["differing"]
    assert {n: int(c.sum()) for n, c in kept.divergence().items()} == {
        p["op"]: p["differing"] for p in document["populations"]
    }


@pytest.mark.parametrize("runs", [1, 30])
def test_a_search_that_may_cost_little_says_what_it_tried(runs: int) -> None:
    graph = make_graph(4, "affine-lif")
    x = spikes(graph)
    noise = {n: np.random.default_rng(9).permutation(v) for n, v in traces(graph, x).items()}
    found = snnir.explain(graph, x, noise, runs=runs)
    assert found.causes == ()
    assert found.tried <= runs + 2
