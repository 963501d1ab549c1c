"""Loops over chip and host: any cut of any cycle gives exactly what the network gives, or is refused by its time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import snnir
from snnir.backends.lava.backend import LAVA
from snnir.errors import CompileError
from snnir.graph import Edge, Graph
from snnir.interpreter.stepping import Steps, rest_of
from snnir.ops import LIF, Affine, Delay, Input, LayerNorm, Linear, Output, Repeat, TemporalMean, Threshold
from snnir.placement import Loop, Part, Placement, partition
from snnir.placement.loop_time import short_loops
from snnir.placement.parts import Step, cut, sides_of
from snnir.placement.running import looped, run
from snnir.semantics import NIR_SEMANTICS
from tests.knots import knots
from tests.strategies import inputs_for, nir_graphs

SIZE = 12


def whole(graph: Graph, x: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = snnir.interpret(graph, dict(x))
    return found if isinstance(found, dict) else {graph.outputs[0]: found}


def cut_anywhere(graph: Graph, seed: int) -> tuple[Step, ...]:
    """Every op on a side of its own choice; what feeds a loop's values before the first step is the one refusal."""
    rng = np.random.default_rng(seed)
    chip = {n for n in graph.ops if rng.random() < 0.5} - {*graph.inputs, *graph.outputs}
    steps: tuple[Step, ...] = ()
    rules: set[str] = set()
    try:
        steps = cut(graph, sides_of(graph, chip))
    except CompileError as error:
        rules = {v.rule for v in error.violations}
    assert rules <= {"placement-rest", "placement-output"}
    assume(not rules)
    return steps


@settings(max_examples=60)
@given(st.one_of(knots(), nir_graphs(several_io=True)), st.integers(0, 2**32 - 1), st.sampled_from(["f4", "f8"]))
def test_loops_cut_anywhere_give_the_very_same_numbers(graph: Graph, seed: int, dtype: str) -> None:
    placement = Placement(graph, "lava", "onnx", {}, cut_anywhere(graph, seed))
    x = {name: values.astype(dtype) for name, values in inputs_for(graph, rng=seed).items()}
    values = run(placement, x)
    for name, expected in whole(graph, x).items():
        assert values[name].dtype == expected.dtype
        assert np.array_equal(values[name], expected, equal_nan=True)


class Late:
    """A part in floats whose outputs come late, as off a chip."""

    def __init__(self, part: Part, loop: Loop, graph: Graph, values: Mapping[str, np.ndarray], late: int) -> None:
        inside = loop.members | loop.given
        outside = {name: values[name] for name in part.graph.inputs if name not in inside}
        like = next(iter(values.values()))
        self.steps = Steps(part.graph, inside, outside, rest_of(graph, list(graph.ops), batch=like.shape[1]), like)
        self.left = len(like)
        self.line = [{name: np.zeros(()) for name in part.graph.outputs}] * late

    def step(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        if self.left:
            self.line = [*self.line, self.steps.step(inputs)]
            self.left -= 1
        now, self.line = self.line[0], self.line[1:]
        return now


@settings(max_examples=60)
@given(knots(kinds=("affine", "lif", "cubalif", "delay", "delay")), st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_what_comes_late_never_changes_the_time_of_a_loop(graph: Graph, seed: int, late: int) -> None:
    steps = cut_anywhere(graph, seed)
    loops = [step for step in steps if isinstance(step, Loop)]
    assume(loops)
    x = inputs_for(graph, rng=seed)
    placement = Placement(graph, "lava", "onnx", {}, steps)
    expected = run(placement, x)
    for loop in loops:
        lags = {p.name: dict.fromkeys(p.graph.outputs, late) for p in loop.parts if p.side == "chip"}

        def stepper(part: Part, loop: Loop = loop, lags: Any = lags) -> tuple[Any, Mapping[str, int]]:
            lag = late if part.name in lags else 0
            return Late(part, loop, graph, expected, lag).step, dict.fromkeys(part.graph.outputs, lag)

        fault = next((v for _, v in short_loops(graph, [loop], lags, LAVA.target)), None)
        if fault is None:
            for name, values in looped(placement, loop, expected, stepper).items():
                assert np.array_equal(values, expected[name], equal_nan=True)
        else:
            assert fault.rule == "placement-feedback"
            with pytest.raises(ValueError, match="too short"):
                looped(placement, loop, expected, stepper)


def lif() -> LIF:
    n = SIZE
    return LIF(tau=np.full(n, 0.01), r=np.ones(n), v_leak=np.zeros(n), v_threshold=np.ones(n))


def feedback(delay: int = 3, reset: Any = "value", size: float = 2.0) -> Graph:
    """Two populations; a norm, which no chip has, in the way back; `delay` steps there, and one more into `a`."""
    rng = np.random.default_rng(0)
    n = SIZE
    ops = {
        "x": Input(shape=(n,)),
        "w": Linear(weight=rng.normal(0, 4, (n, n))),
        "a": lif(),
        "wb": Linear(weight=rng.normal(0, 4, (n, n))),
        "b": lif(),
        "norm": LayerNorm(weight=np.ones(n), bias=np.zeros(n)),
        "gate": Threshold(threshold=np.full(n, 0.4)),
        "late": Delay(delay=np.full(n, delay * 1e-3)),
        "back": Linear(weight=rng.normal(0, size, (n, n))),
        "y": Output(),
    }
    forward = [("x", "w"), ("w", "a"), ("a", "wb"), ("wb", "b"), ("b", "norm"), ("norm", "gate")]
    pairs = [*forward, ("gate", "late"), ("late", "back"), ("back", "a"), ("b", "y")]
    return Graph(ops, tuple(Edge(*p) for p in pairs), NIR_SEMANTICS.with_(dt=1e-3, start="zero", reset=reset)).verify()


def test_a_loop_with_a_norm_is_shared() -> None:
    graph = feedback(delay=3)
    placement = partition(graph, "lava")
    places = placement.places
    assert [n for n in graph.ops if places[n].side == "chip"] == ["w", "a", "wb", "b", "gate", "back"]
    assert places["late"].side == "driver"
    (loop,) = placement.loops
    assert [part.side for part in loop.parts] == ["chip", "host", "chip"]
    assert {c.source for c in placement.crossings} == {"x", "late", "b", "norm", "gate"}
    said = str(placement)
    assert "loop-0, step by step:" in said
    assert "late: gate, 3 steps later" in said
    x = inputs_for(graph, T=40, values="spikes")
    values = run(placement, x)
    assert np.array_equal(values["y"], snnir.interpret(graph, x))
    other = feedback(delay=3, size=0.0)
    assert not np.array_equal(values["y"], snnir.interpret(other, x))  # what comes round matters


def test_a_loop_too_short_for_the_chip_stays_on_the_host_or_is_refused() -> None:
    # Two connections on the chip and one back onto it take 3 steps; one step of the network is the late edge's own.
    graph = feedback(delay=2)
    with pytest.raises(CompileError, match=r"cannot lie on both sides: .* comes back after 3 steps; .* takes 4 steps"):
        partition(graph, "lava")
    forced = {"a": "chip", "b": "chip", "gate": "chip", "norm": "host"}
    with pytest.raises(CompileError) as caught:
        partition(graph, "lava", place=forced)
    (fault,) = caught.value.violations
    assert fault.rule == "placement-feedback"
    assert "3 steps late" in fault.what
    assert "a Delay of 1 step more" in fault.hint
    assert partition(feedback(delay=3), "lava", place=forced).loops  # one step more, and it is taken
    # A host that spikes itself saves the chip a step.
    assert partition(graph, "lava", place={**forced, "gate": "host"}).loops


def test_without_a_delay_there_is_no_time_for_a_chip() -> None:
    n = SIZE
    ops = {"x": Input(shape=(n,)), "a": lif(), "w": Affine(weight=np.eye(n), bias=np.full(n, 0.1)), "y": Output()}
    pairs = [("x", "a"), ("a", "w"), ("w", "a"), ("a", "y")]
    graph = Graph(ops, tuple(Edge(*p) for p in pairs), NIR_SEMANTICS.with_(dt=1e-3, start="zero"))
    for target in ("lava", "xylo-audio3"):
        meant = Graph(graph.ops, graph.edges, graph.semantics.with_(reset="subtract" if "xylo" in target else "value"))
        with pytest.raises(CompileError) as caught:
            partition(meant, target, place={"a": "chip", "w": "host"}, calibrate=np.ones((4, 1, n)))
        assert {v.rule for v in caught.value.violations} <= {"placement-feedback", "placement-port"}
    assert partition(graph, "lava").places["w"].side == "chip"


def test_a_loop_on_both_sides_keeps_its_steps() -> None:
    n = SIZE
    ops = {
        "x": Input(shape=(n,)),
        "a": lif(),
        "again": Repeat(steps=2),
        "mean": TemporalMean(steps=2),
        "late": Delay(delay=np.full(n, 4e-3)),
        "norm": LayerNorm(weight=np.ones(n), bias=np.zeros(n)),
        "y": Output(),
    }
    pairs = [("x", "a"), ("a", "again"), ("again", "mean"), ("mean", "late"), ("late", "norm"), ("norm", "a")]
    meaning = NIR_SEMANTICS.with_(dt=1e-3, start="zero")
    graph = Graph(ops, (*(Edge(*p) for p in pairs), Edge("a", "y")), meaning)
    with pytest.raises(CompileError, match="Repeat changes what a step is, in a loop that lies on both sides"):
        cut(graph, sides_of(graph, {"a"}))


def test_weights_that_read_what_comes_late_are_behind_the_loop_too() -> None:
    """Their copy behind the loop reads what waits in it."""
    n, rng = SIZE, np.random.default_rng(0)
    ops = {
        "x": Input(shape=(n,)),
        "w": Affine(weight=rng.normal(0, 4, (n, n)), bias=np.zeros(n)),
        "a": lif(),
        "norm": LayerNorm(weight=np.ones(n), bias=np.zeros(n)),
        "gate": Threshold(threshold=np.full(n, 0.4)),
        "late": Delay(delay=np.full(n, 4e-3)),
        "b": lif(),
        "y": Output(),
    }
    around = [("w", "a"), ("a", "norm"), ("norm", "gate"), ("gate", "late"), ("late", "w")]
    pairs = [("x", "w"), *around, ("w", "b"), ("b", "y")]
    graph = Graph(ops, tuple(Edge(*p) for p in pairs), NIR_SEMANTICS.with_(dt=1e-3, start="zero")).verify()
    placement = partition(graph, "lava")
    behind = placement.parts[-2]
    assert (behind.side, behind.graph.inputs) == ("chip", ("late.before", "x"))
    assert {c.source for c in placement.crossings} == {"x", "late", "a", "norm", "gate", "b"}
    x = inputs_for(graph, T=30, values="spikes")
    assert np.array_equal(run(placement, x)["y"], snnir.interpret(graph, x))
    prompt = Graph(
        {name: op for name, op in ops.items() if name != "late"},
        tuple(Edge(*p) for p in [*(p for p in pairs if "late" not in p), ("gate", "w")]),
        graph.semantics,
    )
    with pytest.raises(CompileError, match="comes back after 1 step; on lava and a host that takes 3 steps"):
        partition(prompt, "lava", place={"a": "chip", "norm": "host"})


def test_what_a_loop_begins_with_is_on_its_side() -> None:
    """The recurrent weights read an Affine, too, so that the value before the first step follows from it."""
    n, rng = SIZE, np.random.default_rng(0)
    ops = {
        "x": Input(shape=(n,)),
        "side": Affine(weight=rng.normal(0, 1, (n, n)), bias=np.ones(n)),
        "w": Linear(weight=rng.normal(0, 4, (n, n))),
        "a": lif(),
        "back": Linear(weight=rng.normal(0, 1, (n, n))),
        "wb": Linear(weight=rng.normal(0, 4, (n, n))),
        "b": lif(),
        "y": Output(),
        "also": Output(),
    }
    pairs = [("x", "side"), ("x", "w"), ("w", "a"), ("a", "back"), ("side", "back"), ("back", "a"), ("a", "wb")]
    pairs += [("wb", "b"), ("b", "y")]
    graph = Graph(
        {name: op for name, op in ops.items() if name != "also"},
        tuple(Edge(*p) for p in pairs),
        NIR_SEMANTICS.with_(dt=1e-3, start="zero"),
    ).verify()
    x = inputs_for(graph, T=30, values="spikes")
    placement = partition(graph, "lava", calibrate=x)
    assert {n for n, p in placement.places.items() if p.side == "host"} == {"x", "y"}
    read = Graph(ops, (*graph.edges, Edge("side", "also")), graph.semantics).verify()  # the host needs it
    placement = partition(read, "lava", calibrate=x)
    assert [n for n, p in placement.places.items() if p.side == "chip"] == ["wb", "b"]
    assert placement.places["a"].reason.startswith("side, which feeds its loop, has to be on the same side")
    found, values = snnir.interpret(read, x), run(placement, x)
    assert all(np.array_equal(values[name], found[name]) for name in ("y", "also"))


def test_a_loop_is_shared_where_only_that_leaves_what_is_asked_for_on_the_chip() -> None:
    n = SIZE
    ops = {"x": Input(shape=(n,)), "late": Delay(delay=np.full(n, 3e-3)), "a": lif(), "y": Output(), "spikes": Output()}
    pairs = [("x", "late"), ("late", "a"), ("a", "late"), ("late", "y"), ("a", "spikes")]
    graph = Graph(ops, tuple(Edge(*p) for p in pairs), NIR_SEMANTICS.with_(dt=1e-3, start="zero")).verify()
    placement = partition(graph, "lava", place={"a": "chip"})  # the host reads what the Delay gives
    assert {name: placement.places[name].side for name in ("late", "a")} == {"late": "driver", "a": "chip"}
    x = inputs_for(graph, T=20, values="spikes")
    found, values = snnir.interpret(graph, x), run(placement, x)
    assert all(np.array_equal(values[name], found[name]) for name in ("y", "spikes"))
