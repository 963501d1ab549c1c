"""Graphs as ONNX in ONNX Runtime: every op, semantics and cycle against the interpreter, at once and step by step."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from snnir import ops
from snnir.backends.onnx import ONNX
from snnir.backends.onnx.backend import session
from snnir.graph import Edge, Graph, chain
from snnir.interpreter import interpret
from snnir.semantics import Semantics
from tests.backends.onnx_family import built, same_everywhere
from tests.backends.test_torch_family_cycles import population, weights
from tests.backends.test_torch_family_ops import STATELESS, joined, normal
from tests.knots import knots
from tests.strategies import GRAPH_KINDS, STYLES, inputs_for, make_graph, nir_graphs

pytestmark = pytest.mark.oracle
DT = Semantics(dt=1e-3)
QUICK = settings(max_examples=25)
LIF = ops.LIF(tau=np.float64(4e-3), r=4.0, v_threshold=np.float64(0.6))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", GRAPH_KINDS)
def test_graph_kinds(kind: str, style: str) -> None:
    assert same_everywhere(make_graph(0, kind, style), steps=30) > 10


@QUICK
@given(nir_graphs(several_io=True))
def test_random_graphs(graph: Graph) -> None:
    same_everywhere(graph, steps=6)


@QUICK
@given(knots())
def test_random_cycles(graph: Graph) -> None:
    same_everywhere(graph, steps=8)


@pytest.mark.parametrize("name", STATELESS)
def test_op(name: str) -> None:
    shape, op = STATELESS[name]
    same_everywhere(chain(ops.Input(shape=shape), op, LIF, ops.Output(), semantics=DT))
    assert same_everywhere(chain(ops.Input(shape=shape), LIF, op, ops.Output(), semantics=DT)) > 5


def test_ops_of_several_inputs() -> None:
    concat = joined(ops.Concat(inputs=3), ("in0", "in1", "in2"), ((2, 3), (1, 3), (4, 3)))
    assert same_everywhere(concat) > 5
    assert same_everywhere(joined(ops.Concat(inputs=2, axis=1), ("in0", "in1"), ((2, 3), (2, 1)))) > 5
    assert same_everywhere(joined(ops.Multiply(), ("a", "b"), ((4, 5), (4, 1)))) > 5


def constants(repeat: int = 1, mean: int = 1) -> Graph:
    """Constants into a population that takes `repeat` steps for one of the input; `mean` of them make one again."""
    nodes: dict[str, ops.Op] = {
        "input": ops.Input(shape=(3,)),
        "series": ops.Constant(value=normal(5, 3), series=True),
        "level": ops.Constant(value=np.full(3, 0.25)),
        "gain": ops.Scale(scale=np.float64(0.5)),
        "lif": LIF,
        "repeat": ops.Repeat(steps=repeat),
        "mean": ops.TemporalMean(steps=mean),
        "output": ops.Output(shape=(3,)),
    }
    edges = [Edge("series", "gain"), Edge("gain", "lif"), Edge("level", "lif")]
    edges += [Edge("input", "repeat"), Edge("repeat", "lif"), Edge("lif", "mean"), Edge("mean", "output")]
    return Graph(nodes, tuple(edges), DT).verify()


@pytest.mark.parametrize(("repeat", "mean"), [(1, 1), (4, 4), (4, 2), (1, 3), (2, 6)])
def test_constants_and_changing_numbers_of_steps(repeat: int, mean: int) -> None:
    assert same_everywhere(constants(repeat, mean), steps=12) > 20


@pytest.mark.parametrize("fields", [{}, {"latency_neuron": 3}, {"reset": "delayed-value"}], ids=str)
def test_loops_and_delays_within_a_step(fields: dict[str, Any]) -> None:
    """Inner steps, in a cycle and out of it, begin where those of the step before ended."""
    rng = np.random.default_rng(1)
    nodes: dict[str, ops.Op] = {
        "input": ops.Input(shape=(4,)),
        "twice": ops.Repeat(steps=2),
        "thrice": ops.Repeat(steps=3),
        "series": ops.Constant(value=normal(40, 4), series=True),
        "n": population("CubaLIF"),
        "back": ops.Affine(weight=weights(rng, 4, 4, 0.3), bias=rng.normal(0.2, 0.5, 4)),
        "delay": ops.Delay(delay=np.array([1e-3, 2e-3, 0.0, 8e-3])),
        "out": population("LIF", v_threshold=np.full(4, 0.4)),
        "mean": ops.TemporalMean(steps=2),
        "last": population("LI"),
        "third": ops.TemporalMean(steps=3),
        "output": ops.Output(),
    }
    pairs = [("input", "twice"), ("twice", "thrice"), ("thrice", "n"), ("series", "n"), ("n", "back"), ("back", "n")]
    pairs += [("n", "delay"), ("delay", "out"), ("n", "out"), ("out", "mean"), ("mean", "last"), ("last", "third")]
    graph = Graph(nodes, tuple(Edge(*p) for p in [*pairs, ("third", "output")]), DT.with_(**fields)).verify()
    assert "step.onnx" in built(graph).files()
    assert same_everywhere(graph, steps=7) > 50


@pytest.mark.parametrize(
    ("repeat", "mean", "why"),
    [
        (4, 2, "output has 2 steps for one of the input"),
        (1, 3, "mean makes one value of 3 steps of the input"),
        (2, 6, "mean makes one value of 3 steps of the input"),
    ],
)
def test_where_a_step_of_the_input_is_none_of_the_output_the_report_says_why(repeat: int, mean: int, why: str) -> None:
    artifact = built(constants(repeat, mean))
    assert sorted(artifact.files()) == ["npz_files.py", "run.py", "sequence.onnx"]
    assert artifact.report == {"no step.onnx": why}
    assert not built(constants(6, 6)).report


SEMANTICS: list[dict[str, Any]] = [
    {},
    {"decay": "exponential"},
    {"gain": "unit"},
    {"order": "membrane-first"},
    {"comparison": ">="},
    {"reset": "subtract"},
    {"reset": "delayed-value"},
    {"reset": "delayed-subtract"},
    {"reset": "subtract", "spikes_per_step": None},
    {"reset": "subtract", "spikes_per_step": 3, "comparison": ">="},
    {"start": "zero"},
    {"membrane_floor": -0.1},
    {"latency_neuron": 1},
    {"latency_neuron": 2, "latency_input": 1},
    {"recurrent_bias_at_start": False},
]


@pytest.mark.parametrize("fields", SEMANTICS, ids=lambda f: " ".join(f"{k}={v}" for k, v in f.items()) or "NIR")
def test_semantics(fields: dict[str, Any]) -> None:
    spikes = 0
    for kind, loop in product(("LIF", "IF", "CubaLIF", "LI", "CubaLI"), (False, True)):
        rng = np.random.default_rng(1)
        nodes = {
            "input": ops.Input(shape=(4,)),
            "n": population(kind),
            "back": ops.Affine(weight=weights(rng, 4, 4, 0.3), bias=rng.normal(0.2, 0.5, 4)),
            "out": population("LIF", v_threshold=np.full(4, 0.4)),
            "output": ops.Output(),
        }
        pairs = [("input", "n"), ("n", "back"), ("back", "n" if loop else "out"), ("n", "out"), ("out", "output")]
        graph = Graph(nodes, tuple(Edge(*pair) for pair in pairs), DT.with_(**fields)).verify()
        spikes += same_everywhere(graph, steps=20)
    assert spikes > 200


def test_a_cycle_that_nothing_feeds() -> None:
    nodes = {
        "input": ops.Input(shape=(4,)),
        "level": ops.Output(),
        "n": population("LI", v_leak=np.full(4, 0.5)),
        "back": ops.Scale(scale=np.float64(-0.5)),
        "out": ops.Output(),
    }
    edges = (Edge("input", "level"), Edge("n", "back"), Edge("back", "n"), Edge("n", "out"))
    graph = Graph(nodes, edges, DT).verify()
    artifact = built(graph)
    x = inputs_for(graph, T=7, B=3)
    outputs, _ = artifact.run(x)
    expected = interpret(graph, x)
    assert np.ptp(expected["out"]) > 0
    np.testing.assert_allclose(outputs["out"], expected["out"], atol=1e-12)


def test_a_single_slow_neuron_keeps_its_decay() -> None:
    # ONNX Runtime drops a single factor within 1e-5 of 1.
    slow = ops.LI(tau=np.float64(500.0), r=np.float64(5e5))
    graph = chain(ops.Input(shape=(1,)), slow, ops.Output(), semantics=DT)
    x = np.ones((400, 1, 1))
    expected = interpret(graph, x)
    assert abs(expected[-1, 0, 0] - 400) > 0.1  # what the decay is worth here
    outputs, _ = built(graph).run({graph.inputs[0]: x})
    np.testing.assert_allclose(outputs[graph.outputs[0]], expected, rtol=1e-12)


def test_a_factor_beside_a_matrix_keeps_its_digits() -> None:
    """ONNX Runtime would fuse it into the product, as a float32."""
    matrix = ops.Linear(weight=np.random.default_rng(3).normal(size=(4, 3)))
    third = ops.Scale(scale=np.float64(1 / 3))
    same_everywhere(chain(ops.Input(shape=(2, 3)), third, matrix, ops.Output(), semantics=DT), steps=6)


def test_a_single_neuron_keeps_a_small_drive() -> None:
    # ONNX Runtime drops the addition of a single number below 1e-8.
    drawn = ops.LI(tau=np.float64(500.0), v_leak=np.float64(-1e-3))
    graph = chain(ops.Input(shape=(1,)), drawn, ops.Output(), semantics=DT.with_(start="zero"))
    x = np.zeros((400, 1, 1), np.float32)
    outputs, _ = built(graph).run({graph.inputs[0]: x})
    assert outputs[graph.outputs[0]][-1, 0, 0] == pytest.approx(-1e-3 * 400 * 2e-6, rel=1e-3)


def test_membranes_and_currents_can_be_recorded() -> None:
    for kind in ("cubalif", "recurrence-cubalif"):
        graph = make_graph(3, kind, "disc")
        x = inputs_for(graph, T=15)
        wanted = ("n1:v", "n1:i", "n1", "n2:v")
        _, expected = interpret(graph, x, record=wanted)
        _, got = built(graph).run(x, wanted)
        assert tuple(got) == wanted
        for name in wanted:
            assert np.ptp(expected[name]) > 0
            np.testing.assert_allclose(got[name], expected[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_refusals_come_all_at_once() -> None:
    wkv = ops.Wkv(log_decay=np.full(3, -0.7), first=np.zeros(3))
    graph = joined(wkv, ("k", "v"), ((7, 3), (7, 3)))
    delay = ops.Delay(delay=np.float64(0.5e-3))
    nodes = {**graph.ops, "late": delay, "second": ops.Output()}
    edges = (*graph.edges, Edge("lif", "late"), Edge("late", "second"))
    bad = Graph(nodes, edges, DT.with_(reset="value", spikes_per_step=None, number_format="loihi-int24"))
    rules = [violation.rule for violation in ONNX.target.check(bad)]
    assert rules == ["onnx-numbers", "onnx-spikes", "delay-steps"]
    unknown = Graph(bad.ops, bad.edges, Semantics(decay="shift"))
    assert [v.rule for v in ONNX.target.check(unknown)] == ["onnx-decay", "time-step"]


def test_an_empty_name_is_refused() -> None:
    graph = chain(ops.Input(shape=(3,)), ("", LIF), ops.Output(), semantics=DT)
    assert [(v.rule, v.what) for v in ONNX.target.check(graph)] == [("onnx-name", "the name of a LIF is empty")]


def test_weights_beyond_float32_are_refused_unless_the_network_means_float64() -> None:
    large = ops.Linear(weight=np.full((2, 2), 1e39))
    graph = chain(ops.Input(shape=(2,)), large, ops.Output(), semantics=DT)
    assert [v.rule for v in ONNX.target.check(graph)] == ["onnx-range"]
    double = Graph(graph.ops, graph.edges, DT.with_(number_format="float64"))
    artifact = built(double)
    (given_type,) = {i.type for i in session(artifact.sequence()).get_inputs()}
    assert given_type == "tensor(double)"


def test_what_no_single_file_holds_is_refused() -> None:
    wide = ops.Linear(weight=np.broadcast_to(np.int8(1), (23000, 23000)))
    graph = chain(ops.Input(shape=(23000,)), wide, ops.Output(), semantics=DT)
    (violation,) = ONNX.target.check(graph)
    assert (violation.rule, violation.what) == ("onnx-size", "the weights take 2.1 GB")


def test_names_that_look_like_those_of_states_and_weights() -> None:
    lif = make_graph(0, "affine-lif", "disc")
    odd = {"n1": "n1.v", "fc1": "n1.v.next", "fc2": "n1.v.rows", "n2": "batch", "input": "shape", "output": "a/b c"}
    nodes = {odd[name]: op for name, op in lif.ops.items()}
    edges = tuple(Edge(odd[e.source], odd[e.target], e.port) for e in lif.edges)
    assert same_everywhere(Graph(nodes, edges, lif.semantics).verify(), steps=30) > 10
