"""Whole samplers on real frameworks: the same spikes and images as the interpreter; and what they cost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import snnir
from snnir.activity import measure
from snnir.diffusion.unrolled import counted_crossing, crossing, crossing_faults
from snnir.operations import AC_JOULES, MAC_JOULES, Operations, assumed, paper_rule, per_image
from snnir.ops import Affine, Conv2d
from snnir.pipeline import parse_pipeline, run_pipeline
from tests.diffusion.denoisers import denoiser, noise, rate, spiking

FUSED = "fold-batch-norm,unroll-sampler{steps=4},fuse-decoder{mode=%s}"


@pytest.mark.parametrize("coding", [{}, {"levels": 3, "steps": 1}], ids=["steps", "levels"])
@pytest.mark.parametrize("mode", ["spikes-only", "factored"])
@pytest.mark.parametrize("target", ["torch", "norse", "snntorch", "sinabs", "spikingjelly"])
def test_a_fused_sampler_runs_alike_on_torch_norse_and_snntorch(target: str, mode: str, coding: dict[str, int]) -> None:
    source = denoiser(3, stem_skip=False, **coding)
    graph = run_pipeline(source, parse_pipeline(FUSED % mode))
    plain = run_pipeline(source, parse_pipeline("unroll-sampler{steps=4}"))
    x = noise(graph)
    senders = [e.source for e in crossing(graph)]
    names = list(dict.fromkeys([*spiking(graph), *senders]))
    want, spikes = snnir.interpret(graph, x, record=names)
    got, found = snnir.compile(graph, target).run(x, record=names)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-9)
    np.testing.assert_allclose(got, snnir.interpret(plain, x), rtol=0, atol=1e-9)
    for name in spiking(graph):
        np.testing.assert_array_equal(found[name], spikes[name], err_msg=name)
    assert 0.02 < rate({n: spikes[n] for n in spiking(graph)}) < 0.6
    assert bool(crossing_faults(graph, found)) == (mode == "factored")  # on the target's own values


def test_validate_counts_what_crosses(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from snnir.cli import run

    for mode, decoder in (("spikes-only", True), ("factored", False)):
        graph = run_pipeline(denoiser(3, stem_skip=False, double=False), parse_pipeline(FUSED % mode))
        snnir.compile(graph, "torch").save(tmp_path / mode)
        command = ["validate", str(tmp_path / mode), "--targets", "torch,norse", "--batch", "1", "--steps", "6"]
        assert run(command) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if "crosses" in line]
        assert len(lines) == (3 if decoder else 0)
        assert [line.partition(":")[0] for line in lines] == ["reference", "torch", "norse"][: len(lines)]
    report = snnir.validate(snnir.load(tmp_path / "spikes-only"), ["torch"], batch=4, steps=6)
    found = report.crossing
    assert found is not None
    fused = snnir.load(tmp_path / "spikes-only")
    senders = {e.source for e in crossing(fused)}
    assert found.values == report.steps * 4 * sum(np.prod(fused.shapes[name]) for name in senders)
    assert found.spikes > 100
    assert report.verdicts[0].crossing == found
    assert report.to_json()["crossing"]["faults"] == ()


def test_a_number_that_crosses_is_a_fault() -> None:
    graph = run_pipeline(denoiser(3, stem_skip=False), parse_pipeline(FUSED % "spikes-only"))
    x = noise(graph)
    senders = list(dict.fromkeys(e.source for e in crossing(graph)))
    _, found = snnir.interpret(graph, x, record=senders)
    values = {name: value.copy() for name, value in found.items()}
    values[senders[1]][2, 0, 0] = 0.5
    counted = counted_crossing(graph, values)
    assert counted is not None
    assert [fault.where for fault in counted.faults] == [f"{senders[1]} ({graph[senders[1]].kind})"]
    assert "sends 0.5 to another call, at step 2" in counted.faults[0].what


def test_inspect_says_what_crosses(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from snnir.cli import main

    graph = run_pipeline(denoiser(3, stem_skip=False, double=False), parse_pipeline(FUSED % "spikes-only"))
    snnir.compile(graph, "torch").save(tmp_path / "out")
    with pytest.raises(SystemExit):
        main(["inspect", str(tmp_path / "out"), "--output-format", "json"])
    assert json.loads(capsys.readouterr().out)["sampler"] == {"calls": 4, "edges": 6, "numbers": []}


def test_the_papers_rule_on_layers_counted_by_hand() -> None:
    conv = Conv2d(weight=np.ones((5, 2, 3, 3)), bias=np.ones(5), padding=1, stride=2)
    ends = (2, 8, 8), (5, 4, 4)
    assert paper_rule(conv, *ends, spikes=7.0) == Operations(acs=7 * 9 * 5 / 4 + 80)
    assert paper_rule(conv, *ends, spikes=None) == Operations(acs=80, macs=80 * 2 * 9)
    dense = Affine(weight=np.ones((3, 6)), bias=np.ones(3))
    assert paper_rule(dense, (6,), (3,), spikes=2.0) == Operations(acs=2 * 3 + 3)
    assert Operations(acs=1e6, macs=1e3).joules == pytest.approx(1e6 * AC_JOULES + 1e3 * MAC_JOULES) == 0.9046e-6


def test_an_image_is_priced_with_measured_rates() -> None:
    source = denoiser(3, stem_skip=False)
    graphs = {m: run_pipeline(source, parse_pipeline(FUSED % m)) for m in ("factored", "spikes-only")}
    prices = {m: per_image(g, 4, measure(g, noise(g))) for m, g in graphs.items()}
    assert prices["spikes-only"].ours.acs > prices["factored"].ours.acs
    assert prices["spikes-only"].ours.macs < prices["factored"].ours.macs
    assert prices["factored"].neuron_additions == prices["spikes-only"].neuron_additions
    neurons = sum(np.prod(graphs["factored"].shapes[n]) for n in spiking(graphs["factored"]))
    assert prices["factored"].neuron_additions == 4 * neurons
    assert prices["factored"].neuron_multiplications < 4 * neurons  # no leak where there was a spike
    some = per_image(graphs["factored"], 4, assumed(graphs["factored"], 0.5))
    full = per_image(graphs["factored"], 4, assumed(graphs["factored"], 1.0))
    assert some.ours.macs == full.ours.macs
    assert 0 <= 2 * some.ours.acs - full.ours.acs < 0.01 * full.ours.acs  # numbers are added at any rate
