"""Legalisation for Loihi: in floats, the layout is the network, spike for spike, after the lags it states."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from snnir.backends.lava import LAVA
from snnir.backends.lava.planner import Conv, plan
from snnir.graph import Edge, Graph
from snnir.interpreter import interpret
from snnir.ops import (
    IF,
    LI,
    LIF,
    Affine,
    AvgPool2d,
    Concat,
    Constant,
    Conv2d,
    CubaLI,
    CubaLIF,
    Delay,
    Flatten,
    Input,
    Linear,
    Output,
    Scale,
    SumPool2d,
    Threshold,
)
from snnir.pipeline import run_pipeline
from snnir.semantics import Semantics
from tests.backends.lava_float import run_floats
from tests.backends.xylo_nets import DT, Array, affine, cuba, lif, linear, spikes, wired
from tests.strategies import inputs_for, nir_graphs

HARD = Semantics(dt=DT)
KINDS = (IF, LIF, CubaLIF, LI, CubaLI, Linear, Affine, Conv2d, SumPool2d, AvgPool2d, Flatten, Scale, Delay, Threshold)


def compare(graph: Graph, x: dict[str, Array], conv: Conv = "auto") -> int:
    """Asserts that every population and output is the interpreter's, `lags` steps later; gives the spikes compared."""
    found = plan(graph, conv)
    late = max([0, *found.lags.values()])
    steps = next(iter(x.values())).shape[0]
    longer = {n: np.concatenate([v, np.zeros((late, *v.shape[1:]))]) for n, v in x.items()}
    got_out, got, nearest = run_floats(found, longer, graph.semantics.comparison == ">")
    if nearest < 1e-9:
        reject()  # a membrane on its threshold: rounding decides
    names = [n for n in found.network.populations if found.cells_of(n)[0].trace == "spikes"]
    want_out, want = interpret(graph, x, record=names)
    want_out = want_out if isinstance(want_out, dict) else {graph.outputs[0]: want_out}
    for name, values in {**{n: want[n] for n in names}, **want_out}.items():
        there = (got | got_out)[name][found.lags[name] : found.lags[name] + steps]
        np.testing.assert_allclose(there, values.reshape(there.shape), rtol=1e-6, atol=1e-6, err_msg=name)
    return int(sum(want[n].sum() for n in names))


@settings(max_examples=150)
@given(
    nir_graphs(KINDS, uniform=True, several_io=True, dtypes=(np.float64,)),
    st.sampled_from([0, 1]),
    st.sampled_from([">", ">="]),
    st.sampled_from(["synapse-first", "membrane-first"]),
    st.booleans(),
    st.sampled_from(["conv", "conv", "matrix"]),
    st.integers(0, 99),
)
def test_random_networks_keep_their_meaning(
    graph: Graph, latency: int, comparison: str, order: str, early: bool, conv: Conv, seed: int
) -> None:
    own = graph.semantics.with_(
        latency_neuron=latency, comparison=comparison, order=order, recurrent_bias_at_start=early
    )
    lowered = run_pipeline(Graph(graph.ops, graph.edges, own), LAVA.pipeline(graph, {}))
    assume(not LAVA.target.check(lowered))
    compare(lowered, inputs_for(lowered, T=8, rng=seed), conv)


def everything(rng: np.random.Generator, semantics: Semantics = HARD, loose: bool = True) -> Graph:
    """Neurons with time constants and thresholds of their own, biases, a skip path, currents and spikes as outputs.

    `loose`: with recurrence, and a Delay behind neurons, so that spikes act on later steps.
    """
    taus = rng.choice([4.0, 9.0, 30.0], 12) * DT
    mixed = LIF(tau=taus, r=taus / DT, v_threshold=rng.uniform(0.5, 2.0, 12))
    ops = {"in": Input(shape=(5,)), "w1": affine(rng, 12, 5), "a": mixed}
    ops |= {"w2": affine(rng, 10, 12), "b": cuba(10), "skip": linear(rng, 6, 5), "d": Delay(delay=np.full(5, 2 * DT))}
    ops |= {"w3": affine(rng, 6, 10), "c": cuba(6), "out": Output(), "sum": affine(rng, 3, 6), "currents": Output()}
    ways = ["in > w1 > a > w2 > b > w3 > c > out", "in > d > skip > c", "c > sum > currents"]
    if loose:
        ops |= {"again": Delay(delay=np.full(6, 3 * DT)), "w4": affine(rng, 6, 6), "e": lif(6), "late": Output()}
        ops |= {"back": linear(rng, 12, 12, 0, 0.1)}
        ways += ["c > again > w4 > e > late", "a > back > a"]
    return wired(ops, *ways, semantics=semantics)


@pytest.mark.parametrize("loose", [False, True])
@pytest.mark.parametrize("order", ["synapse-first", "membrane-first"])
def test_time_begins_where_the_first_input_arrives(loose: bool, order: str) -> None:
    """Biases act from the network's own first step on, whatever the depth: by resets, or by a driver in loops."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        graph = everything(rng, HARD.with_(order=order), loose)
        assert LAVA.target.check(graph) == []
        assert compare(graph, {"in": spikes((40, 3, 5), 0.4, seed)}) > 500
    found = plan(graph)
    assert len(found.cells_of("a")) == 3  # one per pair of decays
    assert "#driver" in {c.name for c in found.cells if c.driver}  # the constants of b and c go through their currents
    assert ("a#0" in found.resets) is (not loose and order == "synapse-first")


def test_a_constant_through_a_delay_begins_late() -> None:
    """Nothing has come out of a Delay in its first steps, so neither has a bias in front of it."""
    rng = np.random.default_rng(0)
    ops = {"in": Input(shape=(3,)), "w": linear(rng, 3, 3), "n": lif(3), "o": Output(), "c": Constant(value=np.ones(3))}
    ops |= {"b": affine(rng, 3, 3, 0.4), "d": Delay(delay=np.full(3, 4 * DT))}
    graph = wired(ops, "in > w > n > o", "c > b > d > n", semantics=HARD)
    assert compare(graph, {"in": spikes((30, 2, 3), 0.2)}) > 20
    assert [w.delay for w in plan(graph).wires if w.driven] == [4]


def test_populations_that_only_constants_reach_give_the_driver_its_step() -> None:
    """A current-based population gets its bias as spikes, even where nothing else arrives, and also in a loop."""
    rng = np.random.default_rng(0)
    alone = Affine(weight=np.zeros((3, 4)), bias=np.array([0.2, 0.4, 0.6]))
    ops = {"in": Input(shape=(4,)), "w": alone, "n": cuba(3), "out": Output()}
    assert compare(wired(ops, "in > w > n > out", semantics=HARD), {"in": spikes((40, 2, 4), 0.2)}) > 5
    ops |= {"d": Delay(delay=np.full(3, DT)), "back": affine(rng, 3, 3)}
    assert compare(wired(ops, "in > w > n > d > back > n > out", semantics=HARD), {"in": spikes((40, 2, 4), 0.2)}) > 5


def test_two_populations_in_a_loop_need_two_steps() -> None:
    """A loop that takes one step in the source is refused; with a step for each connection it is itself."""
    rng = np.random.default_rng(1)
    ops = {"in": Input(shape=(4,)), "w": linear(rng, 6, 4), "p": lif(6), "there": linear(rng, 6, 6), "q": lif(6)}
    ops |= {"back": linear(rng, 6, 6), "out": Output()}
    fast = wired(ops, "in > w > p > there > q > back > p", "q > out", semantics=HARD)
    (fault,) = LAVA.target.check(fast)
    assert fault.rule == "lava-loop"
    assert "p -> q -> p" in fault.what or "q -> p -> q" in fault.what
    slow = Graph(fast.ops, fast.edges, HARD.with_(latency_neuron=1))
    assert LAVA.target.check(slow) == []
    assert compare(slow, {"in": spikes((40, 3, 4), 0.4)}) > 100
    assert plan(slow).lags["q"] == 1


def test_outputs_can_mix_populations_of_different_depth() -> None:
    rng = np.random.default_rng(2)
    ops = {"in": Input(shape=(4,)), "w": linear(rng, 3, 4), "p": lif(3), "v": linear(rng, 2, 3), "q": lif(2)}
    ops |= {"both": Concat(inputs=2), "out": Output()}
    straight = wired(ops, "in > w > p > v > q", "both > out", semantics=HARD)
    graph = Graph(ops, (*straight.edges, Edge("p", "both", "in0"), Edge("q", "both", "in1")), HARD)
    assert compare(graph, {"in": spikes((30, 2, 4), 0.4)}) > 20
    assert plan(graph).reads["out"].shift.tolist() == [1, 1, 1, 0, 0]


def test_a_threshold_is_a_neuron_that_keeps_nothing() -> None:
    """Beside neurons, on its own path, in front of an output, and with a reset that it does not have."""
    rng = np.random.default_rng(4)
    level = Threshold(threshold=rng.uniform(0.2, 0.6, 5))
    ops = {"in": Input(shape=(4,)), "w": affine(rng, 5, 4), "t": level, "v": linear(rng, 3, 5), "n": lif(3)}
    ops |= {"skip": linear(rng, 3, 4), "out": Output(), "crossed": Output()}
    graph = wired(ops, "in > w > t > v > n > out", "in > skip > n", "t > crossed", semantics=HARD)
    assert LAVA.target.check(graph) == []
    assert compare(graph, {"in": spikes((40, 3, 4), 0.4)}) > 100
    alone = wired(
        {n: ops[n] for n in ("in", "w", "t", "crossed")}, "in > w > t > crossed", semantics=HARD.with_(reset="subtract")
    )
    assert LAVA.target.check(alone) == []
    assert compare(alone, {"in": spikes((40, 3, 4), 0.4)}) > 100
    low = Graph(
        {**alone.ops, "t": Threshold(threshold=np.array([0.1, 0.0, 1.0, -0.2, 1.0]))}, alone.edges, alone.semantics
    )
    (fault,) = LAVA.target.check(low)
    assert (fault.rule, fault.what, fault.expected) == (
        "lava-threshold",
        "threshold is -0.2 (2 of 5)",
        "a threshold above 0",
    )
