"""Rules that show only as integers are made: what breaks one goes to the host, with its reason, and the rest is cut
again; the parts still give exactly what the whole network gives."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import snnir
from snnir.backends.lava.backend import LavaBackend
from snnir.cli import run as command
from snnir.errors import CompileError, UsageError, Violation
from snnir.graph import Edge, Graph, chain
from snnir.ops import (
    LIF,
    Conv2d,
    CubaLIF,
    Delay,
    Flatten,
    Input,
    LayerNorm,
    Linear,
    Op,
    Output,
    TemporalMean,
    Threshold,
)
from snnir.placement import Placement, partition
from snnir.placement.automatic import placed
from snnir.placement.integers import Integers
from snnir.placement.running import run
from snnir.semantics import NIR_SEMANTICS, Semantics
from tests.strategies import inputs_for, nir_graphs
from tests.test_placement_loops import feedback

MEANING = NIR_SEMANTICS.with_(dt=1e-3, start="zero")
EVENTS = MEANING.with_(reset="subtract", spikes_per_step=1)
HUGE = 1e7  # times what suits a threshold: Loihi's currents would wrap, or its weights not be written


def lif(size: int) -> LIF:
    return LIF(tau=np.full(size, 0.01), r=np.ones(size), v_leak=np.zeros(size), v_threshold=np.ones(size))


def whole(graph: Graph, x: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = snnir.interpret(graph, dict(x))
    return found if isinstance(found, dict) else {graph.outputs[0]: found}


def same_numbers(placement: Placement, x: Mapping[str, np.ndarray]) -> None:
    values = run(placement, x)
    for name, expected in whole(placement.graph, x).items():
        assert np.array_equal(values[name], expected, equal_nan=True)


def sides(placement: Placement, side: str) -> list[str]:
    return [name for name, place in placement.places.items() if place.side == side]


@st.composite
def layered(draw: st.DrawFn) -> tuple[Graph, list[str]]:
    """Populations in a row with skips, loops and norms in between; some of them out of Loihi's range."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ops: dict[str, Op] = {"x": Input(shape=(5,))}
    edges: list[Edge] = []
    planted: list[str] = []
    before, sizes = "x", {"x": 5}
    for k in range(draw(st.integers(1, 5))):
        # Behind a norm, what a population gets may be next to nothing, and its weights then be in range all the same.
        size, bad = draw(st.integers(3, 6)), draw(st.integers(0, 2)) == 0 and not before.startswith("m")
        weights, population = f"w{k}", f"n{k}"
        scale = 4.0 * (HUGE if bad else 1.0)
        ops[weights] = Linear(weight=rng.normal(0, scale, (size, sizes[before])))
        ops[population] = lif(size)
        edges += [Edge(before, weights), Edge(weights, population)]
        planted += [population] * bad
        sizes[population] = size
        if draw(st.integers(0, 3)) == 0:
            ops[f"r{k}"] = Linear(weight=rng.normal(0, 0.3, (size, size)))
            edges += [Edge(population, f"r{k}"), Edge(f"r{k}", population)]
        earlier = [n for n in ops if n.startswith("n") and n not in (population, before)]
        if earlier and draw(st.booleans()):
            source = draw(st.sampled_from(earlier))
            ops[f"s{k}"] = Linear(weight=rng.normal(0, 2, (size, sizes[source])))
            edges += [Edge(source, f"s{k}"), Edge(f"s{k}", population)]
        before = population
        if draw(st.integers(0, 3)) == 0:
            ops[f"m{k}"] = LayerNorm(weight=np.ones(size), bias=np.zeros(size))
            edges.append(Edge(population, f"m{k}"))
            before, sizes[f"m{k}"] = f"m{k}", size
    ops["y"] = Output()
    return Graph(ops, (*edges, Edge(before, "y")), MEANING).verify(), planted


@settings(max_examples=40, deadline=None)
@given(layered(), st.integers(0, 2**32 - 1))
def test_planted_populations_go_to_the_host_and_the_numbers_stay(case: tuple[Graph, list[str]], seed: int) -> None:
    graph, planted = case
    x = inputs_for(graph, T=8, rng=seed, values="spikes")
    populations = [name for name, op in graph.ops.items() if isinstance(op, LIF)]
    if planted == populations:
        with pytest.raises(CompileError) as caught:
            partition(graph, "lava", calibrate=x)
        assert [(v.rule, v.where) for v in caught.value.violations] == [("placement-nothing", n) for n in populations]
        assert all("[lava-range]" in v.what for v in caught.value.violations)
        return
    placement, integers = placed(graph, "lava", "onnx", calibrate=x)
    assert {n for n in populations if n in sides(placement, "host")} == set(planted)
    for name in planted:
        assert placement.places[name].reason.startswith("its integers show: ")
        assert "[lava-range]" in placement.places[name].reason
    assert integers.rounds == 1 + bool(planted)  # they are all seen at once
    assert [name for moved in placement.moved for name in moved["ops"]] == planted
    assert str(placed(graph, "lava", "onnx", calibrate=x)[0]) == str(placement)
    same_numbers(placement, x)


@settings(max_examples=30, deadline=None)
@given(nir_graphs(uniform=True, max_ops=6), st.integers(0, 2**32 - 1), st.sampled_from([1.0, HUGE]))
def test_any_network_with_anything_planted(graph: Graph, seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    chosen = [n for n, op in graph.ops.items() if hasattr(op, "r") and rng.random() < 0.5]
    graph = replace(graph, ops={n: op.with_(r=op.r * factor) if n in chosen else op for n, op in graph.ops.items()})  # type: ignore[attr-defined]
    x = inputs_for(graph, rng=seed)
    rules: set[str] = set()
    try:
        placement, integers = placed(graph, "lava", "onnx", calibrate=x)
    except CompileError as error:
        rules = {v.rule for v in error.violations}
    if rules:
        assert rules == {"placement-nothing"}
        return
    assert integers.rounds == 1 + len(placement.moved)
    same_numbers(placement, x)


@settings(max_examples=30, deadline=None)
@given(nir_graphs(uniform=True, max_ops=6), st.integers(0, 2**32 - 1))
def test_where_nothing_breaks_the_placement_is_what_it_was(graph: Graph, seed: int) -> None:
    x = inputs_for(graph, rng=seed)
    found: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for made in (Integers.make, lambda self, placement: {}):
            patch.setattr(Integers, "make", made)
            try:
                placement = partition(graph, "lava", calibrate=x)
                assert placement.moved == ()
                found.append(str(placement))
            except CompileError as error:
                found.append(str(error))
    assert found[0] == found[1]


def deep(planted: tuple[int, ...], count: int = 4, semantics: Semantics = MEANING) -> Graph:
    rng = np.random.default_rng(0)
    layers: list[tuple[str, Op]] = []
    for k in range(count):
        layers += [
            (f"w{k}", Linear(weight=rng.normal(0, 4 * HUGE if k in planted else 4, (12, 12)))),
            (f"n{k}", lif(12)),
        ]
    return chain(("x", Input(shape=(12,))), *layers, ("y", Output()), semantics=semantics)


def test_what_the_command_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "net.py").write_text("from tests.test_placement_integers import deep\nmodel = deep((1,))\n")
    out = str(tmp_path / "out")
    assert (
        command(["compile", str(tmp_path / "net.py"), "-t", "lava", "--host", "onnx", "-o", out, "--dump-placement"])
        == 0
    )
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"on the host: .* its integers show: its threshold can be [^\[]+ \[lava-range\] LIF n1 ", said)
    assert "read by what is not on the chip: only membranes and spikes come off the chip Linear w1 " in said
    assert "off the chip, because of what only its integers show:" in said
    assert "with it: w1" in said
    assert "moved_to_host n1: its threshold can be" in said
    (tmp_path / "bad.py").write_text("from tests.test_placement_integers import deep\nmodel = deep((0, 1), 2)\n")
    assert command(["compile", str(tmp_path / "bad.py"), "-t", "lava", "--host", "onnx", "-o", out + "2"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: nothing of the network can go on the chip")
    assert said.count("placement-nothing") == said.count("lava-range") == 2


def test_parts_that_stay_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    graph = deep((3,), 3)
    norm = LayerNorm(weight=np.ones(12), bias=np.zeros(12))
    bad = {"norm": norm, "w3": Linear(weight=rng.normal(0, 4 * HUGE, (12, 12))), "n3": lif(12)}
    ops = {**{n: op for n, op in graph.ops.items() if n != "y"}, **bad, "y": Output()}
    edges = [e for e in graph.edges if e.target != "y"]
    ways = [("n2", "norm"), ("norm", "w3"), ("w3", "n3"), ("n3", "y")]
    graph = Graph(ops, (*edges, *(Edge(*way) for way in ways)), MEANING).verify()
    built: list[tuple[str, ...]] = []
    build = LavaBackend.build

    def counted(self: LavaBackend, part: Graph, options: Mapping[str, Any]) -> Any:
        built.append(part.outputs)
        return build(self, part, options)

    monkeypatch.setattr(LavaBackend, "build", counted)
    result = snnir.compile(graph, "lava", host="onnx")
    assert sides(result.artifact.placement, "chip") == ["w0", "n0", "w1", "n1", "w2", "n2"]  # type: ignore[attr-defined]
    assert built == [("n2.out",), ("n3.out",)]
    report = result.report["moved_to_host"]
    assert report[0].startswith("n3: its threshold can be")
    assert report[1] == "with it: w3"


def test_after_some_rounds_a_part_goes_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many populations break a rule one after the other, it ends, and soon."""

    def first_is_bad(self: Integers, placement: Placement) -> dict[str, tuple[Violation, ...]]:
        self.rounds += 1
        return {
            part.name: (
                Violation("lava-range", "is bad", next(n for n, op in part.graph.ops.items() if isinstance(op, LIF))),
            )
            for part in placement.chips
        }

    monkeypatch.setattr(Integers, "make", first_is_bad)
    integers = Integers(inputs_for(deep((), 20)))
    with pytest.raises(CompileError) as caught:
        placed(deep((), 20), "lava", "onnx", integers=integers)
    assert integers.rounds <= 10
    assert [v.where for v in caught.value.violations] == [f"n{k}" for k in range(20)]


def test_a_loop_goes_with_its_population_and_values_that_wait_cut_it() -> None:
    rng = np.random.default_rng(0)
    ops = {**deep((0,), 2).ops, "r": Linear(weight=rng.normal(0, 0.3, (12, 12)))}
    ways = [("x", "w0"), ("w0", "n0"), ("n0", "w1"), ("w1", "n1"), ("n1", "y")]
    graph = Graph(ops, tuple(Edge(*way) for way in (*ways, ("n0", "r"), ("r", "n0"))), MEANING).verify()
    x = inputs_for(graph, T=20, values="spikes")
    placement = partition(graph, "lava", calibrate=x)
    assert sides(placement, "chip") == ["w1", "n1"]
    assert placement.places["r"].reason.startswith("in a loop with n0: its integers show")
    assert placement.moved[0]["with"] == ["w0", "r"]
    same_numbers(placement, x)

    loop = feedback(delay=4)
    weights = loop["wb"]
    assert isinstance(weights, Linear)
    loop = replace(loop, ops={**loop.ops, "wb": weights.with_(weight=weights.weight * HUGE)})
    x = inputs_for(loop, T=20, values="spikes")
    placement = partition(loop, "lava", calibrate=x)
    assert placement.loops
    assert {"b", "wb"} <= set(sides(placement, "host"))
    assert {"a", "gate"} <= set(sides(placement, "chip"))
    same_numbers(placement, x)


def test_what_the_user_sends_to_the_chip_stays_or_is_refused() -> None:
    graph = deep((1,))
    x = inputs_for(graph, values="spikes")
    placement = partition(graph, "lava", calibrate=x, place={"n2": "chip"})
    assert sides(placement, "host") == ["x", "w1", "n1", "y"]
    assert placement.places["n2"].reason == "as you say"
    with pytest.raises(CompileError) as caught:
        partition(graph, "lava", calibrate=x, place={"n1": "chip", "n3": "chip"})
    (fault,) = caught.value.violations
    assert (fault.rule, fault.where) == ("placement-chip", "n1")
    assert fault.what.startswith("cannot run on lava: its integers show: ")
    assert fault.expected == "at least 16 units"
    with pytest.raises(CompileError) as caught:  # its weights are to be there, and cannot without it
        partition(graph, "lava", calibrate=x, place={"w1": "chip"})
    (fault,) = caught.value.violations
    assert (fault.rule, fault.where) == ("placement-port", "w1")
    assert "n1 is there, since its integers show" in fault.what


def cuba(size: int) -> CubaLIF:
    ones = np.ones(size)
    return CubaLIF(tau_syn=4e-3 * ones, tau_mem=8e-3 * ones, r=ones, v_leak=0 * ones, v_threshold=ones)


def events(planted: bool) -> Graph:
    """Two populations with currents; the first can be made to keep spiking, several times in a step on the chip."""
    rng = np.random.default_rng(0)
    layers: list[tuple[str, Op]] = []
    for k, into in enumerate((4, 12)):
        weight = np.full((12, into), 60.0) if planted and k == 0 else rng.normal(0.3, 1.5, (12, into))
        layers += [(f"w{k}", Linear(weight=weight)), (f"n{k}", cuba(12))]
    return chain(("x", Input(shape=(4,))), *layers, ("y", Output()), semantics=EVENTS)


def test_a_xylo_population_that_comes_out_wrong_goes_to_the_host() -> None:
    x = inputs_for(events(False), T=40, values="spikes")
    assert partition(events(False), "xylo-audio3", calibrate=x).moved == ()
    graph = events(True)
    placement = partition(graph, "xylo-audio3", calibrate=x)
    assert sides(placement, "chip") == ["w1", "n1"]
    assert "several times in a step" in placement.places["n0"].reason
    assert placement.places["n0"].reason.endswith("[xylo-mismatch]")
    same_numbers(placement, x)
    result = snnir.compile(graph, "xylo-audio3", host="onnx", calibrate=x)
    assert str(result.artifact.placement) == str(placement)  # type: ignore[attr-defined]
    allowed = partition(graph, "xylo-audio3", calibrate=x, allow=["approximate"])
    assert sides(allowed, "host") == ["x", "y"]


def test_pieces_of_a_population_on_several_chips_that_come_out_wrong_bring_all_of_it_to_the_host() -> None:
    """The network spikes many times in a step there, a chip's output neurons once."""
    ops = [("x", Input(shape=(4,))), ("w0", Linear(weight=np.full((6, 4), 2.0))), ("n0", cuba(6))]
    ops += [("gate", Threshold(threshold=np.full(6, 0.5)))]  # no chip has it
    ops += [("w1", Linear(weight=np.full((12, 6), 60.0))), ("n1", cuba(12)), ("y", Output())]
    graph = chain(*ops, semantics=EVENTS.with_(spikes_per_step=15))
    x = inputs_for(graph, T=40, values="spikes")
    assert snnir.interpret(graph, x, record=["n0"])[1]["n0"].max() == 1
    bent = partition(graph, "xylo-audio2", chips="auto", calibrate=x, allow=["approximate"])
    assert [list(chip.gives) for spread in bent.spreads.values() for chip in spread.chips] == [
        ["n1[0:6]"],
        ["n1[6:12]"],
    ]
    found = partition(graph, "xylo-audio2", chips="auto", calibrate=x)
    assert sides(found, "host") == ["x", "gate", "w1", "n1", "y"]
    assert found.places["n1"].reason.endswith("[xylo-mismatch] (and 1 more)")
    assert [v["where"] for v in found.moved[0]["violations"]] == ["n1[0:6]", "n1[6:12]"]
    same_numbers(found, x)


def test_what_an_option_asks_for_is_no_reason_to_move_anything() -> None:
    graph = deep(())
    with pytest.raises(CompileError) as caught:
        partition(graph, "lava", period=10, threshold=1 << 20)
    assert {v.rule for v in caught.value.violations} == {"lava-threshold"}
    with pytest.raises(UsageError, match="choose_dt does not go with a host"):
        partition(events(False), "xylo-audio3", choose_dt=True)
    assert partition(events(False), "xylo-audio3", choose_dt="false").chips


def test_a_matrix_that_an_option_makes_too_large_goes_to_the_host() -> None:
    rng, shape = np.random.default_rng(0), (1, 70, 70)
    ones = np.ones(shape)
    ops = [
        ("x", Input(shape=shape)),
        ("c", Conv2d(input_shape=shape[1:], weight=rng.normal(0, 4, (1, 1, 3, 3)), bias=np.zeros(1), padding=1)),
        ("a", LIF(tau=0.01 * ones, r=ones, v_leak=0 * ones, v_threshold=ones)),
        ("f", Flatten(start_dim=0)),
        ("w", Linear(weight=rng.normal(0, 1, (4, 4900)))),
        ("b", lif(4)),
        ("y", Output()),
    ]
    graph = chain(*ops, semantics=MEANING)
    assert sides(partition(graph, "lava"), "host") == ["x", "y"]
    placement = partition(graph, "lava", conv="matrix")
    assert placement.places["a"].reason.endswith("is reached by a matrix of 24010000 weights [lava-size]")
    assert placement.places["b"].side == "chip"


def test_made_up_input_has_as_many_steps_as_means_take() -> None:
    ops = [("x", Input(shape=(4,))), ("a", lif(4)), ("mean", TemporalMean(steps=3)), ("y", Output())]
    graph = chain(*ops, semantics=MEANING)
    result = snnir.compile(graph, "lava", host="onnx")
    assert result.artifact.shown["x"].shape[0] == 21  # type: ignore[attr-defined]
    with pytest.raises(CompileError, match="20 steps do not divide into means over 3"):
        partition(graph, "lava", calibrate=np.ones((20, 1, 4)))


def late_row(delay: float) -> Graph:
    """Two populations, a delay between them."""
    rng = np.random.default_rng(0)
    return chain(
        ("x", Input(shape=(6,))),
        ("w0", Linear(weight=rng.normal(0, 4, (6, 6)))),
        ("a", lif(6)),
        ("late", Delay(delay=np.full(6, delay))),
        ("w1", Linear(weight=rng.normal(0, 4, (6, 6)))),
        ("b", lif(6)),
        ("y", Output()),
        semantics=MEANING,
    )


@pytest.mark.parametrize("place", [{}, {"b": "chip"}, {"a": "chip", "b": "chip"}])
def test_a_delay_beside_what_is_on_the_chip_goes_to_the_host(place: dict[str, Any]) -> None:
    graph = late_row(0.07)
    placement = partition(graph, "lava", place=place)
    assert sides(placement, "chip") == ["w0", "a", "w1", "b"]
    assert "held back by 69 steps" in placement.places["late"].reason
    assert "a, b without late" in str(placement)
    same_numbers(placement, inputs_for(graph, T=90, values="spikes"))
    assert "late" in sides(partition(late_row(0.05), "lava", place=place), "chip")


def test_a_delay_that_is_to_be_on_the_chip_is_refused_with_both() -> None:
    with pytest.raises(CompileError) as caught:
        partition(late_row(0.07), "lava", place={"late": "chip"})
    assert {(v.rule, v.where) for v in caught.value.violations} == {("placement-chip", "late")}
    assert (
        "as you say with a, b: b: from a to b values must be held back by 69 steps" in caught.value.violations[0].what
    )
    assert "a, b on the host" in caught.value.violations[1].what


def wide(sizes: tuple[int, ...]) -> Graph:
    rng = np.random.default_rng(0)
    layers: list[tuple[str, Op]] = []
    for k, (into, out) in enumerate(pairwise(sizes)):
        layers += [(f"w{k}", Linear(weight=rng.normal(0, 4, (out, into)))), (f"n{k}", lif(out))]
    return chain(("x", Input(shape=(sizes[0],))), *layers, ("y", Output()), semantics=EVENTS)


def test_neighbours_make_room_for_what_is_to_be_on_the_chip() -> None:
    graph = wide((8, 20, 100, 20, 1000, 12))
    placement = partition(graph, "xylo-audio3", place={"n1": "chip"})
    assert [n for n in sides(placement, "chip") if n.startswith("n")] == ["n0", "n1", "n2"]
    same_numbers(placement, inputs_for(graph, values="spikes"))
    with pytest.raises(CompileError) as caught:
        partition(graph, "xylo-audio3", place={"n4": "chip"})
    said = [v.what for v in caught.value.violations]
    assert {(v.rule, v.where) for v in caught.value.violations} == {("placement-chip", "n4")}
    assert "with n0, n1, n2, n3: 1152 hidden neurons" in said[0]
    assert "with n0, n1, n2, n3 on the host: n3: 1000 input channels" in said[-1]


def test_what_is_to_be_on_the_chip_in_a_loop_that_cannot_be_cut() -> None:
    """Its loop has no time for the chip, so it would be on the host after all: that is refused, not done."""
    with pytest.raises(CompileError) as caught:
        partition(feedback(delay=2), "lava", place={"a": "chip"})
    (fault,) = caught.value.violations
    assert (fault.rule, fault.where) == ("placement-chip", "a")
    assert "in a loop with norm: LayerNorm does not exist" in fault.what
    assert partition(feedback(delay=3), "lava", place={"a": "chip"}).places["a"].side == "chip"
