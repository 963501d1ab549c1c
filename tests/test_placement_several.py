"""A chip's part that needs several chips, beside a host: exact in floats, bit for bit in xylosim, or refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import snnir
from snnir import registry
from snnir.backends.xylo.artifact import as_events
from snnir.backends.xylo.backend import XyloBackend
from snnir.backends.xylo.target import target_of
from snnir.cli import run as command
from snnir.compiler import CompileResult
from snnir.errors import CompileError, UsageError
from snnir.graph import Edge, Graph
from snnir.ops import Delay, Input, LayerNorm, Linear, Op, Output, Slice, Threshold
from snnir.placement import Loop, Placement, partition
from snnir.placement.chips import Pick
from snnir.placement.chips.running import picked
from snnir.placement.compiled import PartitionArtifact
from snnir.placement.fitting import violations_of
from snnir.placement.running import run
from tests.strategies import inputs_for
from tests.test_placement_chips import ALIKE, DT, SMALL, SOFT, deep_networks, lif, whole
from tests.test_placement_chips_run import load
from tests.test_placement_run import run_script
from tests.xylo_oracle import XyloOracle

SMALL3 = replace(SMALL, name="xylo-audio3")
TINY = XyloBackend(SMALL3, target_of(SMALL3))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chip for some ten neurons under the name of Xylo Audio 3."""
    real = registry.backend
    monkeypatch.setattr(registry, "backend", lambda name: TINY if name == TINY.target.name else real(name))


def gated(rng: np.random.Generator, name: str, into: int, out: int) -> Iterator[tuple[str, Op]]:
    """Ops that no chip has: reals, and spikes again."""
    yield f"{name}.norm", LayerNorm(weight=np.ones(into), bias=np.zeros(into))
    yield f"{name}.mix", Linear(weight=rng.normal(0, 0.5, (out, into)))
    yield f"{name}.gate", Threshold(threshold=np.full(out, 0.3))


def layers(rng: np.random.Generator, name: str, sizes: list[int], scale: float = 0.35) -> Iterator[tuple[str, Op]]:
    for k, (into, out) in enumerate(pairwise(sizes), 1):
        yield f"{name}{k}.w", Linear(weight=rng.normal(0.02, scale, (out, into)))
        yield f"{name}{k}.n", lif(out)


def shared(wide: int = 120, first: int = 16) -> Graph:
    """Two spiking stacks with a norm and a gate between them; each needs two chips, with 120 neurons to a layer."""
    rng = np.random.default_rng(0)
    ops = [("x", Input(shape=(first,)))]
    ops += [*layers(rng, "a", [first, wide, wide, 16, wide, wide, 20]), *gated(rng, "host", 20, 12)]
    ops += [*layers(rng, "b", [12, wide, wide, 16, wide, wide, 10])]
    ops += [("head", Linear(weight=rng.normal(size=(3, 10)))), ("y", Output())]
    return snnir.graph.chain(*ops, semantics=SOFT)


@st.composite
def shared_networks(draw: st.DrawFn) -> Graph:
    """Deep networks with skips, slices, delays and loops, of which the host has to do something in between."""
    graph = draw(deep_networks())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ops, edges = dict(graph.ops), list(graph.edges)
    inner = [
        e for e in graph.edges if graph[e.source].kind in ("LIF", "IF", "CubaLIF") and e.target not in graph.outputs
    ]
    for k, edge in enumerate(inner):
        if rng.random() < 0.25:
            size = graph.shapes[edge.source][0]
            made = list(gated(rng, f"h{k}", size, size))
            line = [edge.source, *(name for name, _ in made), edge.target]
            ops |= dict(made)
            edges.remove(edge)
            edges += [*(Edge(a, b) for a, b in pairwise(line[:-1])), Edge(line[-2], edge.target, edge.port)]
    if rng.random() < 0.4:
        first, last = min((n for n in graph.ops if n[1:].isdigit()), key=len), graph.incoming["y"][0].source
        into, out = graph.shapes[last][0], graph.shapes[first][0]
        made = list(gated(rng, "back", into, into))
        made += [("back.late", Delay(delay=np.full(into, DT * int(rng.integers(1, 40)))))]
        made += [("back.w", Linear(weight=rng.normal(0, 0.3, (out, into))))]
        ops |= dict(made)
        edges += [Edge(a, b) for a, b in pairwise([last, *(name for name, _ in made), first])]
    return Graph(ops, tuple(edges), graph.semantics)


def attempt(
    graph: Graph, x: Any, chips: int | str = "auto", allow: tuple[str, ...] = ("approximate",)
) -> tuple[Placement | None, set[str]]:
    try:
        return partition(graph, "xylo-audio3", "onnx", chips=chips, calibrate=x, allow=allow), set()
    except CompileError as error:
        return None, {v.rule for v in error.violations}


@pytest.mark.hypothesis  # it draws within, so that it can count; `make fuzz` takes it by this
def test_any_placement_on_several_chips_gives_the_very_same_numbers_and_xylosim_the_folder_s(
    tiny: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Random networks on several chips and a host, loops over both too: in floats, and whole runs of the folders."""
    counted = {"several": 0, "loops": 0, "spikes": 0}

    @settings(max_examples=16, deadline=None)
    @given(shared_networks(), st.integers(0, 2**32 - 1))
    def holds(graph: Graph, seed: int) -> None:
        x = inputs_for(graph, T=12, rng=seed, values="spikes")
        how: Any = {"host": "onnx", "chips": "auto", "calibrate": x, "allow": ("approximate",)}
        result: CompileResult | None = None
        try:
            result = snnir.compile(graph, "xylo-audio3", **how)
        except CompileError:
            found, refused = attempt(graph, x)
            if found is None:
                assert refused == {"placement-nothing"}
                return
        else:
            assert isinstance(result.artifact, PartitionArtifact)
            found = result.artifact.placement
        values = run(found, x)
        for name, expected in whole(graph, x).items():
            assert np.array_equal(values[name], expected)
        for part in found.chips:
            spread = found.spreads.get(part.name)
            assert bool(violations_of(part.graph, TINY, (), {})) == (spread is not None)
            for chip in spread.chips if spread else (part,):
                assert not violations_of(chip.graph, TINY, (), {})
        if result is None or not found.spreads:
            return
        folder = tmp_path_factory.mktemp("several") / "out"
        result.save(folder)
        script = load(folder)
        plan = json.loads((folder / "placement.json").read_text())
        ours, _ = result.artifact.run(x)
        plain, xylosim = script.run(plan, x), script.run(plan, x, vendor="")
        for name in graph.outputs:
            assert np.array_equal(plain[name], xylosim[name])
            np.testing.assert_allclose(plain[name], ours[name], atol=1e-4)
        counted["several"] += 1
        counted["loops"] += any(isinstance(step, Loop) for step in found.steps)
        counted["spikes"] += int(sum(v.sum() for v in ours.values()))

    holds()
    if ALIKE:
        assert counted["several"] > 3  # or the property says little
        assert counted["loops"] > 0
        assert counted["spikes"] > 100


def ring(delay: int) -> Graph:
    """A stack that needs two of the tiny chips, in a loop with a norm and a gate, which no chip has."""
    rng = np.random.default_rng(0)
    made = [*layers(rng, "a", [3, 12, 5, 14, 12, 5], 0.9), *gated(rng, "host", 5, 5)]
    made += [("late", Delay(delay=np.full(5, delay * DT))), ("back", Linear(weight=rng.normal(0.2, 0.4, (12, 5))))]
    ops = {"x": Input(shape=(3,)), **dict(made), "y": Output()}
    edges = [Edge(a, b) for a, b in pairwise(["x", *(name for name, _ in made), "a1.n"])]
    return Graph(ops, (*edges, Edge("a5.n", "y")), SOFT)


def test_a_part_of_a_loop_on_two_chips_that_run_side_by_side(tiny: None, tmp_path: Path) -> None:
    graph = ring(7)  # no step more than it has to be
    x = {"x": (np.random.default_rng(3).random((50, 2, 3)) < 0.5).astype(np.float64)}
    result = snnir.compile(graph, "xylo-audio3", host="onnx", chips="auto", calibrate=x)
    artifact = result.artifact
    assert isinstance(artifact, PartitionArtifact)
    (loop,) = artifact.placement.loops
    (part,) = (p for p in loop.parts if p.side == "chip")
    assert len(artifact.placement.spreads[part.name].chips) == 2
    floats, recorded = artifact.run(x, ("host.gate",), chip="float")
    expected = snnir.interpret(graph, x)
    assert np.array_equal(floats["y"], expected)
    assert recorded["host.gate"].any()  # something does go round
    result.save(tmp_path / "out")
    np.savez(tmp_path / "in.npz", **x)
    ours, _ = artifact.run(x)
    assert (ours["y"] != expected).any()
    for more, wanted in ([], ours["y"]), (["--vendor"], ours["y"]), (["--float"], expected):
        done = run_script(tmp_path / "out", str(tmp_path / "in.npz"), "-o", str(tmp_path / "y.npz"), *more)
        assert done.returncode == 0, done.stderr
        with np.load(tmp_path / "y.npz") as file:
            assert np.array_equal(file["y"], wanted)


def test_a_loop_too_short_for_two_chips_keeps_to_one(tiny: None) -> None:
    """Two chips are later than one: what they have no time for is made as small as for one, and no smaller."""
    x = {"x": np.ones((5, 1, 3))}
    several = partition(ring(7), "xylo-audio3", chips="auto", calibrate=x)
    assert [len(spread.chips) for spread in several.spreads.values()] == [2]
    short, one = (partition(ring(6), "xylo-audio3", chips=chips, calibrate=x) for chips in ("auto", 1))
    assert not short.spreads
    assert short.loops
    assert short.places == one.places
    assert sum(p.side == "chip" for p in short.places.values()) == 6
    for found in (several, short):
        x = inputs_for(found.graph, T=20, rng=0, values="spikes")
        assert np.array_equal(run(found, x)["y"], snnir.interpret(found.graph, x))
    assert attempt(ring(4), x) == (None, {"placement-nothing"})


def test_a_part_that_reads_a_slice_of_what_others_read_whole_goes_on_its_chip(tiny: None, tmp_path: Path) -> None:
    """All that arrives is too wide for the chip, what it reads of it is not: the part's script takes the slice."""
    rng = np.random.default_rng(2)
    first, second = dict(gated(rng, "first", 4, 6)), dict(gated(rng, "second", 6, 3))
    ops: dict[str, Op] = {"x": Input(shape=(4,)), **first, **dict(layers(rng, "a", [6, 6], 0.9)), **second}
    ops |= {"cut": Slice(axis=0, start=2, stop=5), "cut.w": Linear(weight=rng.normal(0.2, 0.6, (5, 3)))}
    ops |= {"rest.w": Linear(weight=rng.normal(0.2, 0.6, (5, 3))), "n": lif(5), "y": Output()}
    ways = [["x", *first, "a1.w", "a1.n", *second, "rest.w", "n", "y"], ["first.gate", "cut", "cut.w", "n"]]
    graph = Graph(ops, tuple(Edge(*pair) for way in ways for pair in pairwise(way)), SOFT)
    x = inputs_for(graph, T=30, rng=0)
    result = snnir.compile(graph, "xylo-audio3", host="onnx", chips="auto", calibrate=x)
    artifact = result.artifact
    assert isinstance(artifact, PartitionArtifact)
    ((name, found),) = artifact.placement.spreads.items()
    (chip,) = found.chips
    assert [found.graph.inputs, chip.graph.inputs] == [("first.gate", "second.gate"), ("second.gate", "cut")]
    assert f"{name}: why the chip does not run it as it is:" in str(artifact.placement)
    assert result.report["chips"] == ["1 for each part (2)"]
    expected = snnir.interpret(graph, x)
    assert expected.any()
    assert np.array_equal(artifact.run(x, chip="float")[0]["y"], expected)
    result.save(tmp_path / "out")
    np.savez(tmp_path / "in.npz", **x)
    ours, _ = artifact.run(x)
    for more, wanted in ([], ours["y"]), (["--vendor"], ours["y"]), (["--float"], expected):
        done = run_script(tmp_path / "out", str(tmp_path / "in.npz"), "-o", str(tmp_path / "y.npz"), *more)
        assert done.returncode == 0, done.stderr
        with np.load(tmp_path / "y.npz") as file:
            assert np.array_equal(file["y"], wanted)


@pytest.fixture(scope="module")
def two() -> CompileResult:
    return snnir.compile(shared(), "xylo-audio3", host="onnx", chips="auto")


def spikes(steps: int = 60, batch: int = 2, seed: int = 1) -> dict[str, Any]:
    return {"x": (np.random.default_rng(seed).random((steps, batch, 16)) < 0.3).astype(np.float64)}


def test_both_stacks_go_on_two_chips_each(two: CompileResult) -> None:
    placement = two.artifact.placement  # type: ignore[attr-defined]
    assert [(part.side, len(part.graph)) for part in placement.parts][1::2] == [("host", 5), ("host", 3)]
    assert {name: [list(c.gives) for c in s.chips] for name, s in placement.spreads.items()} == {
        "00-chip": [["a3.n"], ["a6.n"]],
        "02-chip": [["b3.n"], ["b6.n"]],
    }
    assert "00-chip/01-chip  260 neurons" in str(placement)
    words = " ".join(str(placement).split())
    assert "neurons that the chip has (00-chip/01-chip) LIF a4.n, a5.n, a6.n " in words
    assert two.report["chips"] == ["2 for 00-chip, 2 for 02-chip; 2 if they are loaded anew for each part, else 4"]
    assert any(line.startswith("02-chip/01-chip: b6.n: ") for line in two.report["cuts"])
    one = snnir.compile(shared(), "xylo-audio3", host="onnx").artifact.placement  # type: ignore[attr-defined]
    assert not one.spreads
    assert len(one.misfits) == 2


def test_floats_are_the_network_and_integers_xylosim_over_the_whole_run(two: CompileResult, tmp_path: Path) -> None:
    """Every chip in SynSense's simulator, chained over picks and the host: what the artifact and its folder give."""
    artifact = two.artifact
    assert isinstance(artifact, PartitionArtifact)
    x = spikes()
    expected, inside = snnir.interpret(two.source, x, record=["a6.n", "b6.n"])
    floats, recorded = artifact.run(x, ("a6.n", "b6.n"), chip="float")
    assert np.array_equal(floats["y"], expected)
    assert all(np.array_equal(recorded[name], inside[name]) for name in inside)
    ours, recorded = artifact.run(x, ("host.gate", "a6.n", "b6.n"))
    assert (recorded["b6.n"] != inside["b6.n"]).any()
    for name in ("00-chip", "02-chip"):
        inner = artifact.results[name].artifact
        (source,), (end,) = inner.placement.graph.inputs, inner.placement.graph.outputs  # type: ignore[attr-defined]
        values: dict[str, Any] = {source: (x | recorded)[source]}
        for step in inner.placement.steps:  # type: ignore[attr-defined]
            if isinstance(step, Pick):
                values[step.name] = picked(step, values)
                continue
            chip = inner.results[step.name].artifact  # type: ignore[attr-defined]
            late = {n: np.zeros((chip.latency, *values[n].shape[1:])) for n in step.graph.inputs}
            held = {n: np.concatenate([values[n], late[n]]) for n in step.graph.inputs}
            found = XyloOracle(chip.spec).run(as_events(chip.plan, held)).spikes
            assert found.any()
            for op, out in step.gives.items():
                values[op] = found[:, :, chip.output_ids(out)][chip.lags[out] :][: len(x["x"])]
        assert np.array_equal(values[end], recorded[end.removesuffix(".out")])

    two.save(tmp_path / "out")
    np.savez(tmp_path / "in.npz", **x)
    for more, wanted in ([], ours), (["--vendor"], ours), (["--float"], {"y": expected}):
        done = run_script(tmp_path / "out", str(tmp_path / "in.npz"), "-o", str(tmp_path / "y.npz"), *more)
        assert done.returncode == 0, done.stderr
        with np.load(tmp_path / "y.npz") as file:
            np.testing.assert_allclose(file["y"], wanted["y"], atol=1e-4)
    assert run_script(tmp_path / "out" / "02-chip", "--float").returncode == 0
    np.savez(tmp_path / "bad.npz", x=np.full((5, 1, 16), 0.5))
    done = run_script(tmp_path / "out", str(tmp_path / "bad.npz"))
    assert done.returncode == 1
    assert "whole numbers of 0 to 15" in done.stderr


def test_what_no_number_of_chips_holds_stays_on_the_host_and_says_why() -> None:
    """300 neurons read by 300: no cut can lie between them, so each is too much; the other stack goes."""
    rng = np.random.default_rng(0)
    ops = [("x", Input(shape=(16,))), *layers(rng, "a", [16, 300, 300, 300, 8]), *gated(rng, "host", 8, 12)]
    ops += [*layers(rng, "b", [12, 120, 120, 16, 120, 120, 10]), ("y", Output())]
    graph = snnir.graph.chain(*ops, semantics=SOFT)
    found = partition(graph, "xylo-audio3", chips="auto")
    (misfit,) = found.misfits
    assert misfit["populations"] == ["a1.n", "a2.n", "a3.n", "a4.n"]
    said = " ".join(v["what"] for v in misfit["violations"])
    assert "must share a chip: what they send one another is wider than 16 channels" in said
    assert {name: len(spread.chips) for name, spread in found.spreads.items()} == {"00-chip": 10, "02-chip": 2}
    assert misfit["largest"] == ["a1.n"]  # 300 spikes per step for the host, 30 from each chip
    assert "(00-chip/00-chip, 00-chip/01-chip, 00-chip/02-chip, 7 more)" in str(found)
    found = partition(graph, "xylo-audio3", chips=2)
    assert [len(spread.chips) for spread in found.spreads.values()] == [2]
    assert found.misfits[0]["largest"] == []  # the whole stack stays on the host
    with pytest.raises(CompileError) as caught:
        partition(graph, "xylo-audio3", chips="auto", place={"a*.n": "chip"})
    assert {v.rule for v in caught.value.violations} == {"placement-chip"}
    assert any("must share a chip" in v.what for v in caught.value.violations)


def test_as_many_chips_as_there_are() -> None:
    """A stack that needs three chips: on two a part of it is made smaller, and the report says what it needs."""
    rng = np.random.default_rng(0)
    ops = [("x", Input(shape=(16,))), *layers(rng, "a", [16, 120, 120, 16, 120, 120, 16, 120, 120, 20])]
    ops += [*gated(rng, "host", 20, 12), ("y", Output())]
    graph = snnir.graph.chain(*ops, semantics=SOFT)
    (spread,) = partition(graph, "xylo-audio3", chips=3).spreads.values()
    assert len(spread.chips) == 3
    found = partition(graph, "xylo-audio3", chips=2)
    (misfit,) = found.misfits
    assert [v["what"] for v in misfit["violations"]] == ["needs 3 Xylo Audio 3 chips"]
    assert (misfit["factor"], misfit["largest"]) == (1.5, [f"a{k}.n" for k in range(4, 10)])
    assert not partition(graph, "xylo-audio3", chips=1).spreads
    for wrong in (0, "many", 1.5):
        with pytest.raises(UsageError, match="expected 'auto' or a number"):
            partition(shared(), "xylo-audio3", chips=wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no chip of which several"):
        partition(shared(), "lava", chips=2)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "net.py").write_text("from tests.test_placement_several import shared\nmodel = shared()\n")
    source, both = str(tmp_path / "net.py"), ["--target", "xylo-audio3", "--host", "onnx", "--chips", "2"]
    assert command(["compile", source, *both, "-o", str(tmp_path / "out"), "--dump-placement"]) == 0
    said = capsys.readouterr().out
    assert "02-chip/00-chip  256 neurons (b1.n, b2.n, b3.n): 12 of 16 channels in (host.gate)" in said
    assert "02-chip: why one chip does not hold it:" in said
    plan = json.loads((tmp_path / "out" / "placement.json").read_text())
    assert [step["chips"] for step in plan["steps"]] == [2, 1, 2, 1]
    assert plan["ops"]["a4.n"]["chips"] == ["00-chip/01-chip"]
    assert command(["visualize", source, *both, "-o", str(tmp_path / "both.svg")]) == 0
    assert command(["compile", source, "--target", "lava", *both[2:], "-o", str(tmp_path / "b")]) == 2
    assert not (tmp_path / "b").exists()
