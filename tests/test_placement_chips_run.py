"""Networks on several Xylo chips, compiled: bit for bit in xylosim, folders that run alone, commands, pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import snnir
import snnir.simulators.xylo
from snnir import registry
from snnir.artifact import write_folder
from snnir.backends.xylo.artifact import as_events
from snnir.backends.xylo.backend import XyloBackend
from snnir.backends.xylo.target import target_of
from snnir.cli import run
from snnir.compiler import CompileResult
from snnir.errors import CompileError, UsageError
from snnir.graph import Graph, chain
from snnir.ops import Input, Linear, Output, Slice
from snnir.placement import lockstep
from snnir.placement.chips import Pick, spread
from snnir.placement.chips.compiled import ChipsArtifact, compiled
from snnir.placement.chips.picture import COLOURS
from snnir.placement.chips.running import picked
from snnir.placement.picture import picture
from snnir.placement.several import Several
from snnir.placement.types import Part
from tests.strategies import inputs_for
from tests.test_placement_chips import (
    ALIKE,
    SMALL,
    SOFT,
    TINY,
    attempt,
    deep_networks,
    layered,
    lif,
    on_tiny,
    spread_over,
    whole,
)
from tests.test_placement_run import run_script
from tests.xylo_oracle import XyloOracle

TWO = [16, 120, 120, 16, 125, 125, 8]


@pytest.fixture(scope="module")
def two() -> CompileResult:
    return snnir.compile(layered(TWO), "xylo-audio3", chips="auto")


def events(steps: int = 60, batch: int = 2, seed: int = 1) -> np.ndarray[Any, Any]:
    return (np.random.default_rng(seed).random((steps, batch, 16)) < 0.3).astype(np.float64)


def artifact(result: CompileResult) -> ChipsArtifact:
    assert isinstance(result.artifact, ChipsArtifact)
    return result.artifact


def test_floats_are_the_whole_network_and_integers_are_near(two: CompileResult) -> None:
    x = {"x": events()}
    expected, inside = snnir.interpret(two.source, x, record=["n3"])
    floats, recorded = artifact(two).run(x, ("n3",), chip="float")
    assert np.array_equal(floats["y"], expected)
    assert np.array_equal(recorded["n3"], inside["n3"])
    assert expected.mean() > 0.05
    got, crossed = artifact(two).run(x, ("n3",))
    assert set(np.unique(crossed["n3"])) == {0.0, 1.0}
    counts = [np.abs(a.sum(axis=0) - b.sum(axis=0)).sum() / b.sum() for a, b in
              ((crossed["n3"], inside["n3"]), (got["y"], expected))]  # fmt: skip
    assert max(counts) < 0.15
    assert two.latency == 0
    with pytest.raises(UsageError, match="inside a part"):
        two.run(x, record=["n1"])


def test_every_chip_is_bit_exact_in_xylosim_over_the_whole_run(two: CompileResult) -> None:
    """The chips chained in SynSense's simulator give the very spikes that the artifact gives."""
    x = {"x": events()}
    values: dict[str, Any] = dict(x)
    ours, recorded = artifact(two).run(x, ("n3",))
    for step in artifact(two).placement.steps:
        if isinstance(step, Pick):
            values[step.name] = picked(step, values)
            continue
        chip = artifact(two).results[step.name].artifact
        late = np.zeros((chip.latency, 2, 16))
        held = {name: np.concatenate([values[name], late]) for name in step.graph.inputs}
        spikes = XyloOracle(chip.spec).run(as_events(chip.plan, held)).spikes  # type: ignore[attr-defined]
        assert spikes.any()
        for op, end in step.gives.items():
            lag = chip.lags[end]  # type: ignore[attr-defined]
            values[op] = spikes[:, :, chip.output_ids(end)][lag:][: len(x["x"])]  # type: ignore[attr-defined]
    assert np.array_equal(values["n3"], recorded["n3"])
    assert np.array_equal(values["y"], ours["y"])


def test_the_report_says_what_every_cut_costs(two: CompileResult) -> None:
    report = two.report
    assert report["chips"] == "2 xylo-audio3"
    assert [(m["part"], m["value"]) for m in report["measured"]] == [("00-chip", "n3"), ("01-chip", "n6"), ("", "y")]
    assert all(0 <= m["differ"] < 0.1 and m["spikes"] > 50 for m in report["measured"])
    lags = [artifact(two).results[name].artifact.latency for name in ("00-chip", "01-chip")]
    assert report["streamed_latency"] == sum(lags) + 1
    used = [r["used"]["connections"] for r in report["part_reports"].values()]
    assert all(have <= limit for have, limit in used)


def test_the_folder_runs_alone_and_in_xylosim(two: CompileResult, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    two.save(folder)
    np.savez(tmp_path / "in.npz", x=events())
    ours, _ = artifact(two).run({"x": events()})
    floats = snnir.interpret(two.source, events())
    assert (ours["y"] != floats).any()
    for more, expected in ([], ours["y"]), (["--xylosim"], ours["y"]), (["--float"], floats):
        done = run_script(folder, str(tmp_path / "in.npz"), "-o", str(tmp_path / "out.npz"), *more)
        assert done.returncode == 0, done.stderr
        with np.load(tmp_path / "out.npz") as file:
            assert np.array_equal(file["y"], expected)
    said = run_script(folder).stdout
    assert "00-chip (xylo-audio3)\n    n3: " in said
    assert "beside the whole network in floats: y: " in said
    part = subprocess.run(
        [sys.executable, "-I", str(folder / "01-chip" / "run.py"), "--help"], capture_output=True, check=False
    )
    assert part.returncode == 0
    plan = json.loads((folder / "placement.json").read_text())
    assert [c["value"] for c in plan["cuts"]] == ["n3"]
    for wrong, says in ((np.full((5, 1, 16), 0.5), "whole numbers"), (np.zeros((5, 1, 3)), r"expected (T, B, 16)")):
        np.savez(tmp_path / "bad.npz", x=wrong)
        done = run_script(folder, str(tmp_path / "bad.npz"))
        assert done.returncode == 1
        assert says in done.stderr


def load(folder: Path) -> Any:
    """A folder's `run.py` as a module."""
    spec = spec_from_file_location("chips_run", folder / "run.py")
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stepped(folder: Path, x: dict[str, Any], late: Mapping[str, int]) -> dict[str, Any]:
    """What the chips give when they run side by side, step by step, with what is late put back."""
    steps, batch = next(iter(x.values())).shape[:2]
    step, own = lockstep.in_folder(folder, "xylo-audio3", batch, True, snnir.simulators.xylo)
    assert own == late
    longer = {name: np.concatenate([v, np.zeros((max(late.values()), *v.shape[1:]))]) for name, v in x.items()}
    found = [step({name: v[t] for name, v in longer.items()}) for t in range(steps + max(late.values()))]
    return {name: np.stack([f[name] for f in found])[lag:][:steps] for name, lag in late.items()}


@pytest.mark.hypothesis  # it draws within, so that it can count; `make fuzz` takes it by this
def test_any_folder_gives_the_network_in_floats_and_xylosim_in_integers(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Random deep networks with skips, slices, delays, loops, pieces: what `run.py` makes of them, in every mode."""
    small = replace(SMALL, name="xylo-audio3")
    tiny, real, counted = (
        XyloBackend(small, target_of(small)),
        registry.backend,
        {"several": 0, "spikes": 0, "differ": 0},
    )
    monkeypatch.setattr(registry, "backend", lambda name: tiny if name == small.name else real(name))

    @settings(max_examples=40, deadline=None)
    @given(deep_networks(), st.integers(0, 2**32 - 1))
    def holds(graph: Graph, seed: int) -> None:
        x = inputs_for(graph, T=12, rng=seed, values="spikes")
        found, _ = attempt(graph, x, tiny)
        if found is None or found.alone:
            return
        made = compiled(found, x, recorded=True, allow=("approximate",))
        folder = tmp_path_factory.mktemp("tiny")
        write_folder(folder / "out", made.files())
        script = load(folder / "out")
        plan = json.loads((folder / "out" / "placement.json").read_text())
        floats, _ = script.run(plan, x, floats=True)
        ours, _ = made.run(x)
        integers, _ = script.run(plan, x)
        xylosim, _ = script.run(plan, x, xylosim=True)
        for name, expected in whole(graph, x).items():
            assert np.array_equal(floats[name], expected)
            assert np.array_equal(integers[name], ours[name])
            counted["differ"] += not np.array_equal(expected, ours[name])
        assert all(np.array_equal(integers[name], xylosim[name]) for name in integers)
        by_steps = stepped(folder / "out", x, Several(graph, tiny, None, x, False).lags(Part("p", "chip", graph, {})))
        assert all(np.array_equal(by_steps[name], ours[name]) for name in graph.outputs)
        counted["several"] += 1
        counted["spikes"] += int(sum(x.sum() for x in xylosim.values()))

    holds()
    if ALIKE:
        assert counted["several"] > 2  # or the property says little
        assert counted["spikes"] > 100
        assert counted["differ"] > 0  # the integers are not the floats by another name


def test_one_chip_that_reads_a_slice_of_what_is_too_wide_for_it(tmp_path: Path) -> None:
    """What is read of an input has room on the chip, all of it has not: the script takes the slice."""
    rng = np.random.default_rng(0)
    ops = [("x", Input(shape=(20,))), ("part", Slice(axis=0, start=3, stop=10))]
    ops += [("w", Linear(weight=rng.normal(0.2, 0.4, (8, 7)))), ("n", lif(8)), ("y", Output())]
    graph = chain(*ops, semantics=SOFT)
    with pytest.raises(CompileError, match="20 input channels"):
        snnir.compile(graph, "xylo-audio3")
    x = {"x": (rng.random((40, 2, 20)) < 0.4).astype(np.float64)}
    result = snnir.compile(graph, "xylo-audio3", chips=1, calibrate=x)
    one = artifact(result)
    assert [(part.graph.inputs, len(part.gives)) for part in one.placement.chips] == [(("part",), 1)]
    assert "on one xylo-audio3 chip\n" in str(one.placement)
    assert "why the chip does not run it as it is:\n  20 input channels" in str(one.placement)
    assert result.report["chips"] == "1 xylo-audio3"
    expected = snnir.interpret(graph, x)
    assert expected.any()
    assert np.array_equal(one.run(x, chip="float")[0]["y"], expected)
    result.save(tmp_path / "out")
    np.savez(tmp_path / "in.npz", **x)
    for more, wanted in ([], one.run(x)[0]["y"]), (["--xylosim"], one.run(x)[0]["y"]), (["--float"], expected):
        done = run_script(tmp_path / "out", str(tmp_path / "in.npz"), "-o", str(tmp_path / "y.npz"), *more)
        assert done.returncode == 0, done.stderr
        with np.load(tmp_path / "y.npz") as file:
            assert np.array_equal(file["y"], wanted)


def test_no_floats_without_onnx(two: CompileResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chip needs no ONNX, so a network is compiled without it; `--float` says what it lacks."""
    monkeypatch.setattr("snnir.placement.chips.compiled.find_spec", lambda name: None)
    made = compiled(artifact(two).placement, {"x": events()}, recorded=True)
    write_folder(tmp_path / "out", made.files())
    assert not (tmp_path / "out" / "00-chip" / "float").exists()
    assert "--float" not in (tmp_path / "out" / "README.md").read_text()
    assert "pip install onnx" in run_script(tmp_path / "out", "--float").stderr
    assert "exclude each other" in run_script(tmp_path / "out", "--float", "--xylosim").stderr
    assert run_script(tmp_path / "out").returncode == 0


def test_spikes_that_a_cut_would_lose_are_refused_or_counted(tmp_path: Path) -> None:
    graph = layered([6, 12, 5, 14, 12, 5], spread=0.9, spikes_per_step=31)
    x = {"x": (np.random.default_rng(0).random((30, 2, 6)) < 0.5) * 6.0}
    with pytest.raises(CompileError, match="would lose spikes") as caught:
        spread_over(graph, TINY, None, x, strict=True)
    (fault,) = caught.value.violations
    assert (fault.rule, fault.where) == ("placement-cut-spikes", "n2")
    found = on_tiny(graph, x)
    twice = snnir.interpret(graph, x, record=["n2"])[1]["n2"] > 1
    assert found.cuts[0].several == int(twice.sum()) > 0
    assert "one crosses" in str(found)

    result = snnir.compile(layered(TWO, spread=0.9, spikes_per_step=31), "xylo-audio3", chips=2)
    (first, *_) = result.report["measured"]
    assert first["several"] > 0
    assert "more than once in a step" in result.report["cuts"][0]
    result.save(tmp_path / "out")
    with np.load(tmp_path / "out" / "expected.npz") as file:
        assert file["n3"].max() > 1
    said = run_script(tmp_path / "out", "--float").stdout
    assert "values differ" in said
    assert said.count(", 0 % of") == 3  # several spikes in a step are the network's own, and floats pass them on
    said = run_script(tmp_path / "out").stdout
    assert f"n3: spiked more than once in a step {first['several']} times; one spike leaves the chip" in said


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.py").write_text(
        f"from tests.test_placement_chips import layered\n\ndef build(wide=120):\n    return layered({TWO!r})\n"
    )
    source, out, svg = (str(tmp_path / name) for name in ("net.py", "out", "chips.svg"))
    assert run(["compile", source, "--target", "xylo-audio3", "--chips", "auto", "-o", out, "--dump-placement"]) == 0
    said = capsys.readouterr().out
    assert "n3: 16 spikes, 00-chip -> 01-chip" in said
    assert "why one chip does not hold it:" in said
    assert "all chips together: y" in said
    assert run(["compile", source, "--target", "xylo-audio3", "--chips", "1", "-o", str(tmp_path / "b")]) == 1
    assert "needs 2 Xylo Audio 3 chips" in capsys.readouterr().err
    for wrong in (["--chips", "0"], ["--chips", "few"], ["--chips", "0", "--host", "onnx"]):
        assert run(["compile", source, "--target", "xylo-audio3", "-o", str(tmp_path / "b"), *wrong]) == 2
    assert run(["visualize", source, "--chips", "auto", "-o", svg]) == 2
    assert not (tmp_path / "b").exists()
    assert run(["visualize", source, "--target", "xylo-audio3", "--chips", "auto", "-o", svg]) == 0
    assert "01-chip (xylo-audio3)" in Path(svg).read_text()


def test_the_picture_gives_every_chip_its_colour() -> None:
    placement = spread(layered(TWO), "xylo-audio3")
    for form in ("svg", "dot", "mermaid"):
        text = picture(placement, form, layout="own")  # type: ignore[arg-type]
        assert "00-chip (xylo-audio3)" in text
        assert "01-chip (xylo-audio3)" in text
        assert all(fill in text for fill, _ in COLOURS[:2])
