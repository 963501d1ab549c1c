"""balance-latency: after it, a target with latencies gives the source's values, late by what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import snnir
from snnir.graph import Edge, Graph, chain
from snnir.ops import IF, LI, LIF, Affine, Constant, Delay, Input, Linear, Output, Repeat, Reshape
from snnir.semantics import Semantics
from tests.knots import knots
from tests.passes.strategies import declined, graphs, inputs, kinds, run, several, wired

RNG = np.random.default_rng(23)
MENU = "dense conv neuron neuron neuron neuron scale delay activation constant flatten".split()
SEMANTICS = (
    Semantics(dt=1e-3),
    Semantics(dt=2e-3, decay="exponential", reset="subtract"),
    Semantics(dt=1e-3, order="membrane-first", start="zero"),
    Semantics(dt=1e-3, reset="delayed-value"),
    Semantics(dt=1e-3, recurrent_bias_at_start=False),
)
ANY = st.sampled_from(SEMANTICS).flatmap(lambda s: graphs(MENU, semantics=s, max_ops=9))


def n(*shape: int) -> Any:
    return RNG.normal(size=shape)


def lif(threshold: float = 0.2, **fields: Any) -> LIF:
    return LIF(tau=np.float64(5e-3), r=np.float64(3.0), v_threshold=np.float64(threshold), **fields)


def shifted(before: Graph, after: Graph, seed: int = 1, steps: int = 9) -> None:
    """Fails unless `after` gives what `before` gives, as many steps later as its metadata says."""
    late = after.metadata["latency"]
    x = inputs(before, seed, steps + max(late.values(), default=0))
    names = [name for name, op in before.ops.items() if op.spiking and op.stateful]
    want, spikes = snnir.interpret(before, {k: v[:steps] for k, v in x.items()}, record=names)
    got, spikes_after = snnir.interpret(after, x, record=names)
    want = want if isinstance(want, dict) else {before.outputs[0]: want}
    got = got if isinstance(got, dict) else {after.outputs[0]: got}
    for name, value in want.items():
        scale = max(1.0, float(np.abs(value).max()))
        start = late.get(name, 0)
        np.testing.assert_allclose(got[name][start : start + steps], value, atol=1e-9 * scale, err_msg=name)
    for name, value in spikes.items():
        start = late.get(name, 0)
        np.testing.assert_array_equal(spikes_after[name][start : start + steps], value, err_msg=name)


@several
@given(ANY, st.integers(0, 99), st.sampled_from([(1, 0), (1, 1), (2, 0), (0, 1)]))
def test_exact_on_random_graphs(graph: Graph, seed: int, latencies: tuple[int, int]) -> None:
    after, log = run(f"balance-latency{{latency={latencies[0]},latency_input={latencies[1]}}}", graph)
    assert after is not graph or declined(log)
    if after is not graph:
        assert (after.semantics.latency_neuron, after.semantics.latency_input) == latencies
        shifted(graph, after, seed)


KNOTS = st.sampled_from(SEMANTICS).flatmap(lambda s: knots(semantics=s))


@several
@given(KNOTS, st.integers(0, 99), st.sampled_from([(1, 0), (1, 1), (2, 0), (0, 1)]))
def test_exact_on_graphs_that_are_mostly_cycles(graph: Graph, seed: int, latencies: tuple[int, int]) -> None:
    after, log = run(f"balance-latency{{latency={latencies[0]},latency_input={latencies[1]}}}", graph)
    assert after is not graph or declined(log)
    if after is not graph:
        shifted(graph, after, seed)


def skip() -> Graph:
    return wired(
        "in>a a>lif1 lif1>b b>lif2 lif2>lif3 lif1>lif3 lif3>out",
        **{"in": Input(shape=(4,))},
        a=Affine(weight=n(3, 4), bias=n(3)),
        lif1=lif(),
        b=Affine(weight=n(3, 3), bias=n(3)),
        lif2=lif(),
        lif3=lif(0.4),
        out=Output(),
    )


def test_the_short_path_waits_for_the_long_one() -> None:
    graph = skip()
    after, _ = run("balance-latency", graph)
    delays = {name: op for name, op in after.ops.items() if isinstance(op, Delay) and name.startswith("lif1.delay")}
    assert list(delays) == ["lif1.delay1"]
    np.testing.assert_allclose(delays["lif1.delay1"].delay, 1e-3)
    assert Edge("lif1", "lif3") not in after.edges
    assert dict(after.metadata["latency"]) == {"lif2": 1, "lif3": 2, "out": 2}
    shifted(graph, after)


def test_without_it_the_paths_meet_in_different_steps() -> None:
    """The reason for the pass: the target's latency alone changes the spikes."""
    graph = skip()
    raw = Graph(graph.ops, graph.edges, graph.semantics.with_(latency_neuron=1))
    raw = Graph(raw.ops, raw.edges, raw.semantics, metadata={"latency": {"lif2": 1, "lif3": 2, "out": 2}})
    with pytest.raises(AssertionError):
        shifted(graph, raw)


def test_a_bias_that_fires_alone_does_not_run_ahead() -> None:
    """lif2 has a bias: on the target it would start two steps before its input, were it not held back."""
    layers = [("w1", Linear(weight=n(3, 3))), ("lif1", lif()), ("w2", Affine(weight=n(3, 3), bias=np.full(3, 0.5)))]
    graph = chain(("in", Input(shape=(3,))), *layers, ("lif2", lif()), ("out", Output()), semantics=Semantics(dt=1e-3))
    after, _ = run("balance-latency", graph)
    assert {"lif2.quiet", "lif2.awake", "lif2.again"} <= set(after.ops)
    shifted(graph, after)
    silent = {"in": np.zeros((12, 1, 3))}
    np.testing.assert_array_equal(snnir.interpret(after, silent)[1:], snnir.interpret(graph, silent)[:-1])


def test_no_bias_no_constants() -> None:
    layers = [("a", lif()), ("w", Linear(weight=n(3, 3))), ("b", lif())]
    graph = chain(("in", Input(shape=(3,))), *layers, ("out", Output()), semantics=Semantics(dt=1e-3))
    after, _ = run("balance-latency", graph)
    assert kinds(after) == kinds(graph)
    shifted(graph, after)


def test_a_loop_of_one_neuron_fits_into_the_step_it_takes_anyway() -> None:
    graph = wired(
        "in>lif lif>back back>lif lif>out",
        **{"in": Input(shape=(3,))},
        lif=lif(),
        back=Affine(weight=n(3, 3), bias=n(3)),
        out=Output(),
    )
    after, _ = run("balance-latency", graph)
    assert kinds(after) == ["Affine", "LIF"]
    shifted(graph, after)


def test_a_loop_of_two_does_not() -> None:
    graph = wired(
        "in>a a>b b>w w>a b>out",
        **{"in": Input(shape=(3,))},
        a=lif(),
        b=lif(),
        w=Linear(weight=n(3, 3)),
        out=Output(),
    )
    after, log = run("balance-latency", graph)
    assert after is graph
    assert declined(log, "a cycle through a, b takes one step in the source network, and more on the target")


def test_unless_a_delay_gives_it_time() -> None:
    graph = wired(
        "in>a a>w w>a a>b b>out",
        **{"in": Input(shape=(3,))},
        a=lif(),
        w=Linear(weight=n(3, 3)),
        b=lif(),
        out=Output(),
    )
    after, _ = run("balance-latency", graph)
    shifted(graph, after)
    kept, log = run("balance-latency{latency=2}", graph)
    assert kept is graph
    assert declined(log, "a cycle through a takes one step")


def test_outputs_are_equally_late_or_each_as_soon_as_it_can() -> None:
    graph = wired(
        "in>a a>b a>early b>late",
        **{"in": Input(shape=(3,))},
        a=lif(),
        b=lif(),
        early=Output(),
        late=Output(),
    )
    after, _ = run("balance-latency", graph)
    assert dict(after.metadata["latency"]) == {"b": 1, "early": 1, "late": 1}
    shifted(graph, after)
    after, _ = run("balance-latency{align_outputs=false}", graph)
    assert dict(after.metadata["latency"]) == {"b": 1, "late": 1}
    shifted(graph, after)


@pytest.mark.parametrize("between", [[], [Reshape(shape=(3, 1))], [Delay(delay=np.float64(2e-3))]], ids=len)
def test_what_reaches_outputs_alone_is_not_late_by_itself(between: list[Any]) -> None:
    """One neuron: nothing to wait for, whatever lies behind it; the early output waits for the late one."""
    layers = [(f"way{k}", op) for k, op in enumerate(between)]
    graph = chain(("in", Input(shape=(3,))), ("a", lif()), *layers, ("out", Output()), semantics=Semantics(dt=1e-3))
    after, _ = run("balance-latency", graph)
    assert kinds(after) == kinds(graph)
    assert dict(after.metadata["latency"]) == {}
    shifted(graph, after)
    edges = (*graph.edges, Edge("a", "w"), Edge("w", "b"), Edge("b", "late"))
    parts = {"w": Linear(weight=n(3, 3)), "b": lif(), "late": Output()}
    both = Graph({**graph.ops, **parts}, edges, graph.semantics)
    after, _ = run("balance-latency", both)
    assert dict(after.metadata["latency"]) == {"b": 1, "late": 1, "out": 1} | {
        name: 1 for name, op in layers if op.stateful and name in after.metadata["latency"]
    }
    shifted(both, after)


def test_constants_wait_too() -> None:
    graph = wired(
        "in>a a>b c>b b>out",
        **{"in": Input(shape=(3,))},
        a=lif(),
        b=lif(0.5),
        c=Constant(value=RNG.random((5, 3)), series=True),
        out=Output(),
    )
    after, _ = run("balance-latency", graph)
    assert "c.delay1" in after
    shifted(graph, after)


@pytest.mark.parametrize(
    ("neuron", "semantics", "why"),
    [
        (LIF(tau=np.float64(5e-3), v_leak=np.float64(1.0), v_threshold=np.float64(0.5)), Semantics(dt=1e-3), "spikes"),
        (LI(tau=np.float64(5e-3), v_leak=np.float64(1.0)), Semantics(dt=1e-3, start="zero"), "drifts"),
        (IF(v_threshold=np.float64(0.0)), Semantics(dt=1e-3, comparison=">="), "spikes"),
    ],
)
def test_a_neuron_that_moves_by_itself_cannot_start_later(neuron: Any, semantics: Semantics, why: str) -> None:
    start = ("in", Input(shape=(3,)))
    graph = chain(start, ("a", lif()), ("b", neuron), ("out", Output()), semantics=semantics)
    after, log = run("balance-latency", graph)
    assert after is graph
    assert declined(log, "b", why, "while nothing arrives")


def test_what_else_it_declines() -> None:
    start, end = ("in", Input(shape=(3,))), ("out", Output())
    after, log = run("balance-latency", chain(start, ("a", lif()), end))
    assert declined(log, "the time step is not known")
    repeated = chain(start, ("twice", Repeat(steps=2)), ("a", lif()), end, semantics=Semantics(dt=1e-3))
    after, log = run("balance-latency", repeated)
    assert after is repeated
    assert declined(log, "twice", "a Repeat changes what a step is")
    twice = run("balance-latency", skip())[0]
    after, log = run("balance-latency", twice)
    assert after is twice
    assert declined(log, "latencies already")
