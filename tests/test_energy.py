"""Energy of an inference: rows and totals against brute force, and the runs that the counts come from."""

from __future__ import annotations

import numpy as np
import pytest

import snnir
from snnir import ops
from snnir.activity import measure
from snnir.cost import cost
from snnir.diffusion.sample import noise, sample
from snnir.diffusion.spec import spec_of
from snnir.energy import MEASURED_CALLS, MEASURED_IMAGES, energy, made_up, recorded
from snnir.graph import Edge, Graph, chain
from snnir.models import fsddim
from snnir.operations import AC_JOULES, MAC_JOULES
from snnir.pipeline import parse_pipeline, run_pipeline
from snnir.semantics import Semantics
from tests.diffusion.denoisers import denoiser

DT = 1e-3


def network(inputs: int = 6) -> Graph:
    rng = np.random.default_rng(0)
    return chain(
        ops.Input(shape=(inputs,)),
        ("fc", ops.Affine(weight=rng.normal(0, 0.6, (9, inputs)), bias=np.full(9, 0.1))),
        ("lif", ops.LIF(tau=np.full(9, 0.005), r=5.0, v_threshold=0.8)),
        ("out", ops.Linear(weight=rng.normal(0, 1, (3, 9)))),
        ("li", ops.LI(tau=np.full(3, 0.01))),
        ops.Output(),
        semantics=Semantics(dt=DT),
    )


def test_an_inference_is_counted_event_by_event() -> None:
    graph = network()
    rng = np.random.default_rng(1)
    x = (rng.random((25, 4, 6)) < 0.5).astype(float)
    found = energy(graph, recorded(graph, {"input": x}))
    _, sent = snnir.interpret(graph, x, record=["lif"])
    spikes = sent["lif"].sum()
    rows = {row.name: row for row in found.rows}
    assert rows["fc"].operations.acs == pytest.approx(x.sum() * 9 / 4)
    assert rows["out"].operations.acs == pytest.approx(spikes * 3 / 4)
    assert (rows["lif"].updates, rows["li"].updates) == (9 * 25, 3 * 25)
    assert rows["lif"].rate == pytest.approx(spikes / (25 * 4 * 9))
    assert found.rate == rows["lif"].rate
    assert 0.05 < found.rate < 0.9
    total = x.sum() * 9 / 4 + spikes * 3 / 4
    assert found.inference.ours.joules == pytest.approx(total * 0.9e-12)
    biases = 25 * (9 + 3)  # the authors add one per output
    assert found.inference.papers.acs == pytest.approx(total + biases)
    assert found.neurons.macs == pytest.approx(25 * 12 - spikes / 4)  # no leak where there was a spike
    assert found.neurons.acs == pytest.approx(spikes / 4)
    assert found.calls is None
    assert "per_image" not in found.to_json()
    assert (MAC_JOULES, AC_JOULES) == (4.6e-12, 0.9e-12)


def test_numbers_that_go_in_are_multiplied() -> None:
    graph = network()
    x = np.random.default_rng(1).normal(size=(10, 2, 6))
    rows = {row.name: row for row in energy(graph, recorded(graph, {"input": x})).rows}
    assert (rows["fc"].operations.acs, rows["fc"].operations.macs) == (0, 10 * 54)
    assert rows["fc"].operations.joules == pytest.approx(10 * 54 * 4.6e-12)


@pytest.mark.parametrize("stem_skip", [False, True])
def test_rows_add_up_to_the_tables_of_cost(stem_skip: bool) -> None:
    graph = denoiser(3, stem_skip=stem_skip)
    run = made_up(graph, calls=3)
    found, counted = energy(graph, run), cost(graph, run.activity)
    total = found.inference.ours
    assert sum(r.operations.acs for r in found.rows) == pytest.approx(total.acs) == pytest.approx(counted.acs * 4)
    assert sum(r.operations.macs for r in found.rows) == pytest.approx(total.macs) == pytest.approx(counted.macs * 4)
    assert sum(r.updates for r in found.rows) == found.inference.neuron_additions == counted.neurons * 4
    for row in counted.rows:
        mine = next(r for r in found.rows if r.name == row.name)
        assert (mine.operations.acs, mine.operations.macs) == pytest.approx((row.acs * 4, row.macs * 4))


def test_numbers_that_meet_are_added_and_then_multiplied_once() -> None:
    named = {
        "a": ops.Input(shape=(4,)),
        "b": ops.Input(shape=(4,)),
        "fc": ops.Linear(weight=np.ones((5, 4))),
        "out": ops.Output(),
    }
    graph = Graph(named, (Edge("a", "fc"), Edge("b", "fc"), Edge("fc", "out")), Semantics(dt=DT))
    x = {n: np.random.default_rng(k).normal(size=(3, 1, 4)) for k, n in enumerate("ab")}
    row = next(r for r in cost(graph, measure(graph, x)).rows if r.name == "fc")
    assert (row.acs, row.macs) == (4, 20)
    events = {**x, "b": np.ones((3, 1, 4))}
    row = next(r for r in cost(graph, measure(graph, events)).rows if r.name == "fc")
    assert (row.acs, row.macs) == (20, 20)


def test_a_denoising_network_is_measured_while_it_samples() -> None:
    graph = denoiser(3)
    run = made_up(graph, calls=20, seed=4)
    spec = spec_of(graph)
    names = [n for n, op in graph.ops.items() if op.spiking]
    seen: list[dict[str, float]] = []

    def denoise(x: np.ndarray, time: np.ndarray) -> np.ndarray:
        y, sent = snnir.interpret(graph, {"x": x, "time": time}, record=names)
        seen.append({n: float(v.mean()) for n, v in sent.items()})
        return y

    sample(denoise, spec, noise(spec, MEASURED_IMAGES, 4), MEASURED_CALLS)
    assert len(seen) == MEASURED_CALLS < 20
    for name in names:
        assert float(run.activity.rate[name].mean()) == pytest.approx(np.mean([s[name] for s in seen])), name
    assert (run.steps, run.calls) == (4, 20)
    assert set(run.inputs) == {"x", "time"}
    found = energy(graph, run)
    image = found.to_json()["per_image"]
    assert image["ours"]["joules"] == pytest.approx(20 * found.inference.ours.joules)
    assert image["updates"] == 20 * 4 * sum(np.prod(graph.shapes[n]) for n in names)


def test_a_whole_sampler_is_one_inference() -> None:
    graph = run_pipeline(denoiser(3, stem_skip=False), parse_pipeline("fold-batch-norm,unroll-sampler{steps=3}"))
    run = made_up(graph)
    assert (run.calls, run.steps) == (1, 4)
    found = energy(graph, run)
    assert found.inference.ours.macs > 0
    assert 0.02 < (found.rate or 0) < 0.6


def test_a_network_with_a_host_is_driven_by_it() -> None:
    graph = snnir.load(fsddim.build("nano"))
    run = made_up(graph)
    assert (run.calls, run.steps) == (20, 16)
    found = energy(graph, run)
    assert found.inference.ours.macs == 0  # events only
    assert 0.05 < (found.rate or 0) < 0.4


def test_stimuli_are_what_anything_else_gets() -> None:
    graph = network()
    run = made_up(graph, steps=12, seed=3)
    assert (run.steps, run.calls) == (12, None)
    assert "random spikes" in run.origin
    x = run.inputs["input"]
    assert x.shape == (12, 8, 6)
    assert energy(graph, run) == energy(graph, made_up(graph, steps=12, seed=3))
    compiled = snnir.compile(graph, "torch")
    there = made_up(graph, steps=12, seed=3, run=compiled.run)
    assert energy(graph, there).inference.ours.acs == energy(graph, run).inference.ours.acs
