"""Networks shared by a chip and a host: any cut gives exactly what the whole network gives, or is refused."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import snnir
from snnir.errors import CompileError, UsageError
from snnir.graph import Graph, chain
from snnir.models import sdit
from snnir.ops import LIF, Activation, Affine, Delay, Input, LayerNorm, Linear, Output, Repeat, TemporalMean
from snnir.placement import Placement, partition
from snnir.placement.examples import example
from snnir.placement.overrides import forced
from snnir.placement.parts import cut, sides_of
from snnir.placement.running import run
from snnir.schedule import schedule
from snnir.semantics import NIR_SEMANTICS
from tests.strategies import inputs_for, nir_graphs

MEANING = NIR_SEMANTICS.with_(dt=1e-3, start="zero")


def lif(size: int) -> LIF:
    return LIF(tau=np.full(size, 0.01), r=np.ones(size), v_leak=np.zeros(size), v_threshold=np.ones(size))


def layer(rng: np.random.Generator, out: int, into: int) -> Linear:
    return Linear(weight=rng.normal(0, 4, (out, into)))


def whole(graph: Graph, x: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = snnir.interpret(graph, x)
    return found if isinstance(found, dict) else {graph.outputs[0]: found}


@settings(max_examples=60)
@given(nir_graphs(several_io=True), st.integers(0, 2**32 - 1))
def test_any_cut_gives_the_very_same_numbers(graph: Graph, seed: int) -> None:
    rng = np.random.default_rng(seed)
    chip = {n for group in schedule(graph).groups if rng.random() < 0.5 for n in group.ops}
    chip -= {*graph.inputs, *graph.outputs}
    placement = Placement(graph, "lava", "onnx", {}, cut(graph, sides_of(graph, chip)))
    x = inputs_for(graph, rng=seed)
    values = run(placement, x)
    for name, expected in whole(graph, x).items():
        assert np.array_equal(values[name], expected, equal_nan=True)


@settings(max_examples=25)
@given(nir_graphs(uniform=True, max_ops=6), st.integers(0, 2**32 - 1))
def test_the_automatic_cut_gives_the_very_same_numbers(graph: Graph, seed: int) -> None:
    x = inputs_for(graph, rng=seed)
    caught: CompileError | None = None
    try:
        placement = partition(graph, "lava", calibrate=x)
    except CompileError as error:
        caught = error
    if caught is not None:
        assert {v.rule for v in caught.violations} == {"placement-nothing"}
        return
    assert placement.chips
    values = run(placement, x)
    for name, expected in whole(graph, x).items():
        assert np.array_equal(values[name], expected, equal_nan=True)


def test_sdit_is_cut_around_its_neurons() -> None:
    graph = snnir.load(sdit.build("digits"))
    placement = partition(graph, "lava")
    on_chip = {name for name, place in placement.places.items() if place.side == "chip"}
    assert on_chip == {name for name, op in graph.ops.items() if isinstance(op, LIF)}
    assert [part.side for part in placement.parts] == ["host", "chip"] * 6 + ["host"]
    assert {(c.kind, c.width) for c in placement.crossings} == {("graded", 34 * 48), ("spikes", 34 * 48)}
    x = example(graph)
    assert np.array_equal(run(placement, x)["output"], snnir.interpret(graph, x))


def test_weights_between_neurons_go_with_them() -> None:
    rng = np.random.default_rng(0)
    graph = chain(
        ("x", Input(shape=(6,))),
        ("norm", LayerNorm(weight=np.ones(6), bias=np.zeros(6))),
        ("w0", layer(rng, 9, 6)),
        ("a", lif(9)),
        ("w1", layer(rng, 4, 9)),
        ("b", lif(4)),
        ("out", layer(rng, 3, 4)),
        ("y", Output()),
        semantics=MEANING,
    )
    places = partition(graph, "lava").places
    assert [name for name in graph.ops if places[name].side == "chip"] == ["w0", "a", "w1", "b"]
    assert "LayerNorm" in places["norm"].reason
    assert "y" in places["out"].reason


def test_real_numbers_do_not_cross_to_a_chip_of_events() -> None:
    rng = np.random.default_rng(0)
    ops = [
        ("x", Input(shape=(6,))),
        ("norm", LayerNorm(weight=np.ones(6), bias=np.zeros(6))),
        ("w0", layer(rng, 5, 6)),
        ("a", lif(5)),
        ("w1", layer(rng, 4, 5)),
        ("b", lif(4)),
        ("y", Output()),
    ]
    graph = chain(*ops, semantics=MEANING.with_(reset="subtract", spikes_per_step=1))
    placement = partition(graph, "xylo-audio3")
    assert [n for n in graph.ops if placement.places[n].side == "chip"] == ["w1", "b"]
    assert "real numbers" in placement.places["a"].reason
    with pytest.raises(CompileError) as caught:
        partition(graph, "xylo-audio3", place={"a": "chip"})
    (fault,) = caught.value.violations
    assert (fault.rule, fault.where) in {("placement-port", "w0"), ("placement-port", "norm")}
    assert "events" in fault.expected


def test_nothing_can_go_on_the_chip() -> None:
    graph = snnir.load(sdit.build("digits"))
    with pytest.raises(CompileError) as caught:
        partition(graph, "xylo-audio3", "torch")
    assert len(caught.value.violations) == 6
    assert all(v.rule == "placement-nothing" and "sdit_blocks.py" in v.loc for v in caught.value.violations)
    real = chain(("x", Input(shape=(3,))), ("f", Activation(function="sigmoid")), ("y", Output()), semantics=MEANING)
    with pytest.raises(CompileError, match="no neurons"):
        partition(real, "lava")


def test_what_does_not_fit_says_by_how_much_and_what_would() -> None:
    rng = np.random.default_rng(0)
    sizes = [8, 20, 100, 20, 1000, 10]
    layers = [
        item
        for k, (into, out) in enumerate(pairwise(sizes))
        for item in ((f"w{k}", layer(rng, out, into)), (f"n{k}", lif(out)))
    ]
    meaning = MEANING.with_(reset="subtract")
    graph = chain(("x", Input(shape=(8,))), *layers, ("y", Output()), semantics=meaning)
    placement = partition(graph, "xylo-audio3")
    (misfit,) = placement.misfits
    assert misfit["populations"] == ["n0", "n1", "n2", "n3", "n4"]
    assert misfit["largest"] == ["n0", "n1", "n2"]
    assert misfit["factor"] == pytest.approx(1150 / 992)  # of hidden neurons
    assert [part.graph.outputs for part in placement.chips] == [("n2.out",)]
    assert "the largest sub-network that fits: n0, n1, n2 (140 neurons)" in str(placement)
    x = example(graph)
    assert np.array_equal(run(placement, x)["y"], snnir.interpret(graph, x))


def test_latencies_and_wrong_names_are_refused() -> None:
    graph = chain(("x", Input(shape=(4,))), ("a", lif(4)), ("y", Output()), semantics=MEANING.with_(latency_neuron=1))
    with pytest.raises(CompileError, match="placement-latency"):
        partition(graph, "lava")
    with pytest.raises(UsageError, match="no chip"):
        partition(graph, "norse")
    with pytest.raises(UsageError, match="host is"):
        partition(graph, "lava", "xylo-imu")


def test_what_is_said_about_places_is_judged_at_once() -> None:
    graph = chain(("x", Input(shape=(4,))), ("a.0", lif(4)), ("a.1", lif(4)), ("b", lif(4)), ("y", Output()))
    wrong = {"nobody*": "chip", "a.2": "host", "b": "moon", "a.*": "host", "*[1b]": "chip", "[xy]": "chip"}
    with pytest.raises(CompileError) as caught:
        forced(graph, wrong)
    said = {v.where: v for v in caught.value.violations}
    assert said.keys() == {"nobody*", "a.2", "b", "[xy]", "*[1b]"}
    assert "names no op" in said["nobody*"].what
    assert "a.0" in said["a.2"].hint
    assert "'moon'" in said["b"].what
    assert "never run on a chip" in said["[xy]"].what
    with pytest.raises(CompileError, match=r"sends a.1 to the chip, and a.\* to the host"):
        forced(graph, {"a.*": "host", "*[1b]": "chip"})
    # The narrower counts, whatever the order; a pattern leaves out what never runs on a chip.
    for order in (("*", "a.*", "a.1"), ("a.1", "a.*", "*")):
        sides = {"*": "chip", "a.*": "host", "a.1": "chip"}
        assert forced(graph, {n: sides[n] for n in order}) == {"a.0": "host", "a.1": "chip", "b": "chip"}


def test_recorded_input_of_a_wrong_shape_is_one_error() -> None:
    graph = chain(
        ("x", Input(shape=(1, 3, 5))),
        ("a", LIF(tau=0.01, r=1.0, v_leak=0.0, v_threshold=1.0)),
        ("y", Output()),
        semantics=MEANING,
    )
    for shape in ((6, 2, 1, 5, 3), (6, 2, 15), (0, 2, 1, 3, 5)):
        with pytest.raises(CompileError, match="input-shape"):
            partition(graph, "lava", calibrate=np.zeros(shape))
    with pytest.raises(CompileError) as caught:
        partition(graph, "lava", calibrate={"z": np.zeros((4, 1, 3))})
    assert {v.rule for v in caught.value.violations} == {"input-missing", "input-unknown"}
    placement = partition(graph, "lava", calibrate=np.ones((4, 2, 1, 3, 5)))  # a grid that is not square
    assert [c.width for c in placement.crossings] == [15, 15]


def test_means_that_a_host_takes_and_delays() -> None:
    rng = np.random.default_rng(0)
    graph = chain(
        ("x", Input(shape=(4,))),
        ("again", Repeat(steps=3)),
        ("late", Delay(delay=np.full(4, 2e-3))),
        ("w", layer(rng, 4, 4)),
        ("a", lif(4)),
        ("mean", TemporalMean(steps=3)),
        ("out", Affine(weight=rng.normal(size=(2, 4)), bias=np.ones(2))),
        ("y", Output()),
        semantics=MEANING,
    )
    placement = partition(graph, "lava")
    assert [n for n in graph.ops if placement.places[n].side == "chip"] == ["late", "w", "a"]
    x = example(graph)
    assert np.array_equal(run(placement, x)["y"], snnir.interpret(graph, x))


def test_a_part_that_was_tried_alone_is_laid_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its layout is kept with its graph, from the first trial to the artifact."""
    from snnir.backends.lava import planner

    read: list[Graph] = []
    real = planner.read_network
    monkeypatch.setattr(planner, "read_network", lambda graph, reading: (read.append(graph), real(graph, reading))[1])

    def norm() -> LayerNorm:
        return LayerNorm(weight=np.ones(4), bias=np.zeros(4))

    ops = [("x", Input(shape=(4,))), ("n0", norm()), ("a", lif(4)), ("n1", norm()), ("b", lif(4)), ("y", Output())]
    graph = chain(*ops, semantics=MEANING)
    x = np.random.default_rng(0).normal(0, 9, (10, 2, 4))
    result = snnir.compile(graph, "lava", host="onnx", calibrate=x)
    placement = result.artifact.placement  # type: ignore[attr-defined]
    assert [list(part.gives) for part in placement.chips] == [["a"], ["b"]]
    assert [list(graph.ops) for graph in read] == [list(part.graph.ops) for part in placement.chips]
    assert np.array_equal(run(placement, {"x": x})["y"], snnir.interpret(graph, x))
