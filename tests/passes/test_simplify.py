"""simplify: exact on random graphs full of twins and identities; each rule, and what must stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnir.graph import Edge, Graph, chain
from snnir.ops import (
    LIF,
    Affine,
    AvgPool2d,
    Concat,
    Delay,
    Flatten,
    Input,
    Linear,
    Op,
    Output,
    Repeat,
    Reshape,
    Scale,
    Slice,
    SumPool2d,
    TemporalMean,
    Transpose,
    Upsample2d,
)
from snnir.semantics import Semantics
from tests.passes.strategies import declined, graphs, kinds, run, same, several, wired

RNG = np.random.default_rng(7)
MENU = (
    "twin conv scale reshape reshape flatten flatten spiking slice concat upsample pool delay transpose pointwise"
).split()
SEMANTICS = (
    Semantics(dt=1e-3),
    Semantics(dt=1e-3, latency_neuron=1),
    Semantics(dt=1e-3, recurrent_bias_at_start=False),
)


def n(*shape: int) -> Any:
    return RNG.normal(size=shape)


def lif(threshold: float = 0.3) -> LIF:
    return LIF(tau=np.float64(5e-3), v_threshold=np.float64(threshold))


@several
@given(st.sampled_from(SEMANTICS).flatmap(lambda s: graphs(MENU, max_ops=10, semantics=s)), st.integers(0, 99))
def test_exact_on_random_graphs_and_done_in_one_go(graph: Graph, seed: int) -> None:
    after, log = run("simplify", graph)
    same(graph, after, seed)
    # Where a delay would have moved, the cycles were left alone, and a second look at the rest may find more.
    assert run("simplify", after)[0] is after or declined(log, "would arrive")


@pytest.mark.parametrize(
    ("shape", "op"),
    [
        ((3,), Scale(scale=np.ones(3))),
        ((3,), Delay(delay=np.zeros(()))),
        ((2, 3), Reshape(shape=(2, 3))),
        ((3,), Flatten(start_dim=0)),
        ((2, 3), Flatten(start_dim=1, end_dim=1)),
        ((1, 2, 2), AvgPool2d(kernel_size=1, stride=1)),
        ((1, 2, 2), SumPool2d(kernel_size=1, stride=1)),
        ((1, 2, 2), Upsample2d(factor=1)),
        ((3,), Slice(axis=0, start=0, stop=3)),
        ((2, 3), Transpose(axes=(0, 1))),
        ((3,), Repeat(steps=1)),
        ((3,), TemporalMean(steps=1)),
    ],
)
def test_an_identity_goes(shape: tuple[int, ...], op: Op) -> None:
    graph = chain(("in", Input(shape=shape)), ("same", op), ("out", Output()), semantics=Semantics(dt=1e-3))
    after, _ = run("simplify", graph)
    assert after.edges == (Edge("in", "out"),)
    assert run("simplify{identities=false}", graph)[0] is graph


def test_a_concat_of_one_goes() -> None:
    graph = wired("in>cat.in0 cat>out", **{"in": Input(shape=(3,))}, cat=Concat(inputs=1), out=Output())
    assert kinds(run("simplify", graph)[0]) == []


@pytest.mark.parametrize(
    ("shape", "op"),
    [
        ((3,), Scale(scale=np.array([1.0, 1.0, 1.0 + 1e-12]))),
        ((3,), Delay(delay=np.array([0.0, 0.0, 1e-3]))),
        ((1, 2, 2), AvgPool2d(kernel_size=1, stride=1, padding=1)),
        ((1, 4, 4), SumPool2d(kernel_size=1, stride=2)),
        ((3,), Slice(axis=0, start=0, stop=2)),
        ((3, 3), Transpose(axes=(1, 0))),
    ],
)
def test_a_near_identity_stays(shape: tuple[int, ...], op: Op) -> None:
    graph = chain(("in", Input(shape=shape)), ("almost", op), ("out", Output()))
    assert run("simplify", graph)[0] is graph


def test_an_identity_that_holds_two_edges_apart_stays() -> None:
    graph = wired("in>same same>out in>out", **{"in": Input(shape=(3,))}, same=Scale(scale=np.ones(())), out=Output())
    after, log = run("simplify", graph)
    assert after is graph
    assert declined(log, "same", "two equal edges")
    same(graph, after)


def test_layouts_in_a_row_become_one_flatten_where_nir_has_it() -> None:
    graph = chain(
        ("in", Input(shape=(2, 3, 4))),
        ("a", Flatten(start_dim=1)),
        ("b", Reshape(shape=(4, 6))),
        ("c", Flatten(start_dim=0)),
        ("out", Output()),
    )
    after, _ = run("simplify", graph)
    assert kinds(after) == ["Flatten"]
    assert after.sources("c") == ("c", "b", "a")
    same(graph, after)


def test_and_a_reshape_elsewhere_or_nothing() -> None:
    start = ("in", Input(shape=(2, 6)))
    graph = chain(start, ("a", Flatten(start_dim=0)), ("b", Reshape(shape=(4, 3))), ("out", Output()))
    assert kinds(run("simplify", graph)[0]) == ["Reshape"]
    graph = chain(start, ("a", Flatten(start_dim=0)), ("b", Reshape(shape=(2, 6))), ("out", Output()))
    assert kinds(run("simplify", graph)[0]) == []


def test_what_reaches_no_output_goes_but_inputs_stay() -> None:
    graph = wired(
        "x>w w>out y>dead dead>deader deader>dead",
        x=Input(shape=(3,)),
        y=Input(shape=(3,)),
        w=Linear(weight=n(2, 3)),
        dead=lif(),
        deader=Linear(weight=n(3, 3)),
        out=Output(),
    )
    after, _ = run("simplify", graph)
    assert list(after.ops) == ["x", "y", "w", "out"]
    same(graph, after)


def twins(second: Op) -> Graph:
    weight, bias = n(3, 3), n(3)
    return wired(
        "in>a in>b a>lif1 b>lif2 lif1>out lif2>out2",
        **{"in": Input(shape=(3,))},
        a=Affine(weight=weight, bias=bias),
        b=Affine(weight=weight.copy(), bias=bias.copy()),
        lif1=lif(),
        lif2=second,
        out=Output(),
        out2=Output(),
    )


def test_twins_become_one_neurons_too() -> None:
    graph = twins(lif())
    after, _ = run("simplify", graph)
    assert kinds(after) == ["Affine", "LIF"]
    assert after.sources("lif1") == ("lif1", "lif2")
    same(graph, after)
    assert run("simplify{duplicates=false}", graph)[0] is graph


def test_but_not_neurons_that_differ() -> None:
    after, _ = run("simplify", twins(lif(0.31)))
    assert kinds(after) == ["Affine", "LIF", "LIF"]


def test_nor_twins_that_add_up() -> None:
    weight = n(3, 3)
    graph = wired(
        "in>a in>b a>out b>out",
        **{"in": Input(shape=(3,))},
        a=Linear(weight=weight),
        b=Linear(weight=weight),
        out=Output(),
    )
    after, log = run("simplify", graph)
    assert after is graph
    assert declined(log, "b", "both feed one port")


def test_an_identity_in_a_loop_goes() -> None:
    graph = wired(
        "in>lif lif>one one>lif lif>out",
        **{"in": Input(shape=(3,))},
        lif=lif(),
        one=Scale(scale=np.ones(3)),
        out=Output(),
    )
    after, _ = run("simplify", graph)
    assert Edge("lif", "lif") in after.edges
    same(graph, after)


def test_but_not_one_that_others_read_in_the_same_step() -> None:
    """What comes back to `one` is a step late; its reader `out` sees that, and would not without it."""
    graph = wired(
        "in>one one>lif lif>one one>out",
        **{"in": Input(shape=(3,))},
        one=Scale(scale=np.ones(3)),
        lif=lif(),
        out=Output(),
    )
    after, log = run("simplify", graph)
    assert after is graph
    assert declined(log, "instead of")


def test_nor_one_that_gives_an_edge_its_latency() -> None:
    """`one` has its values once, in the time of `next`; read from `lif` itself, the output would come a step early."""
    graph = wired(
        "in>lif lif>one one>next one>out next>out2",
        **{"in": Input(shape=(3,))},
        lif=lif(),
        one=Scale(scale=np.ones(3)),
        next=lif(),
        out=Output(),
        out2=Output(),
    )
    late = Graph(graph.ops, graph.edges, Semantics(dt=1e-3, latency_neuron=1))
    after, log = run("simplify", late)
    assert after is late
    assert declined(log, "what lif sends to out would arrive in the same step instead of 1 later")
    assert "one" not in run("simplify", graph)[0]


def test_but_one_on_the_way_to_outputs_alone_gives_none() -> None:
    layers = [("lif", lif()), ("one", Scale(scale=np.ones(3)))]
    late = Semantics(dt=1e-3, latency_neuron=1)
    graph = chain(("in", Input(shape=(3,))), *layers, ("out", Output()), semantics=late)
    after, _ = run("simplify", graph)
    assert kinds(after) == ["LIF"]
    same(graph, after)


def test_twins_go_also_where_edges_have_latency() -> None:
    graph = wired(
        "in>a in>b a>w w>out b>out",
        **{"in": Input(shape=(3,))},
        a=lif(),
        b=lif(),
        w=Scale(scale=n(3)),
        out=Output(),
    )
    late = Graph(graph.ops, graph.edges, Semantics(dt=1e-3, latency_neuron=1))
    after, _ = run("simplify", late)
    assert kinds(after) == ["LIF", "Scale"]
    same(late, after)


def test_but_not_the_delay_of_0_that_gives_an_edge_its_latency() -> None:
    """`b` is a twin of `a`; without the Delay its spikes would reach the output a step early."""
    graph = wired(
        "in>a in>b a>w w>out b>wait wait>out2 wait>c c>out",
        **{"in": Input(shape=(3,))},
        a=lif(),
        b=lif(),
        w=Scale(scale=n(3)),
        wait=Delay(delay=np.zeros(())),
        c=lif(),
        out=Output(),
        out2=Output(),
    )
    late = Graph(graph.ops, graph.edges, Semantics(dt=1e-3, latency_neuron=1))
    after, log = run("simplify", late)
    assert "wait" in after
    assert declined(log, "would arrive in the same step")
    same(late, after)


def test_a_delay_of_0_stays_where_a_cycle_has_no_other_state() -> None:
    graph = wired(
        "in>wait wait>flat flat>wait flat>out in>far far>out",
        **{"in": Input(shape=(3,))},
        wait=Delay(delay=np.zeros(3)),
        flat=Flatten(),
        far=Delay(delay=np.zeros(3)),
        out=Output(),
    )
    after, log = run("simplify{identities=true}", graph)
    assert "wait" in after
    assert "far" not in after
    assert declined(log, "a cycle would hold no state")
    same(graph, after)


def test_linear_in_the_size_of_the_graph() -> None:
    """A thousand identities and twins in a row: a restart after each change would take minutes."""
    ops: dict[str, Op] = {"in": Input(shape=(2,))}
    edges = []
    last = "in"
    for i in range(1000):
        ops |= {f"s{i}": Scale(scale=np.ones(2)), f"a{i}": lif(), f"b{i}": lif(), f"w{i}": Scale(scale=np.full(2, 2.0))}
        edges += [(last, f"s{i}"), (f"s{i}", f"a{i}"), (f"s{i}", f"b{i}"), (f"a{i}", f"w{i}")]
        last = f"w{i}"
    ops["out"] = Output()
    edges.append((last, "out"))
    after, _ = run("simplify", Graph(ops, tuple(Edge(*e) for e in edges)))
    assert len(after) == 2002
