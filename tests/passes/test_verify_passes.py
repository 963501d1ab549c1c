"""Translation validation: every pass of ours passes it, wrong ones are caught and named, ties are no faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnir.edit import Editor
from snnir.errors import CompileError
from snnir.graph import Graph, chain
from snnir.ops import IF, LIF, Affine, BatchNorm, Conv2d, Delay, Input, Linear, Output, Scale
from snnir.passes.fold_batch_norm import coefficients
from snnir.pipeline import PASSES, Keeps, Log, Pass, Step, parse_pipeline, run_pipeline
from snnir.semantics import Semantics
from snnir.verify_passes import Evidence, check_step
from tests.knots import knots
from tests.passes.strategies import graphs, inputs, run, wired
from tests.strategies import nir_graphs

RNG = np.random.default_rng(29)
MENU = "conv conv dense dense norm scale pool flatten neuron spiking concat0 upsample reshape delay twin slice".split()
ALL = ",".join(sorted(PASSES, key=lambda name: name == "balance-latency"))  # which comes last


def n(*shape: int) -> Any:
    return RNG.normal(size=shape)


def lif(**fields: Any) -> LIF:
    fields = {"v_threshold": np.float64(0.3), **fields}
    return LIF(tau=np.float64(5e-3), r=np.float64(5.0), **fields)


@dataclass(frozen=True)
class Wrong(Pass):
    """A pass made of a function; its name says what is wrong with it."""

    name: ClassVar[str] = "wrong"
    keeps: ClassVar[Keeps] = "exact"
    change: Callable[[Graph], Graph] = lambda graph: graph

    def run(self, graph: Graph, log: Log) -> Graph:
        return self.change(graph)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class WrongSpikes(Wrong):
    keeps: ClassVar[Keeps] = "spikes"


@dataclass(frozen=True)
class Roughly(Wrong):
    keeps: ClassVar[Keeps] = "approximate"


def step(change: Callable[[Graph], Graph], graph: Graph, cls: type[Wrong] = Wrong) -> Step:
    pass_ = cls(change)
    return Step(pass_, graph, pass_.run(graph, Log()).verify(), (), 0.0)


def network() -> Graph:
    """A block whose batch norm sums two convolutions in front of a neuron, then a weight."""
    return wired(
        "in>a in>b a>bn b>bn bn>lif lif>w w>out",
        **{"in": Input(shape=(2, 5, 5))},
        a=Conv2d(weight=n(3, 2, 3, 3), bias=n(3), padding=1),
        b=Conv2d(weight=n(3, 2, 1, 1), bias=n(3)),
        bn=BatchNorm(weight=n(3), bias=n(3), mean=n(3), var=RNG.random(3) + 0.1),
        lif=lif(),
        w=Conv2d(weight=n(2, 3, 3, 3), bias=n(2), padding=1),
        out=Output(),
    )


# -- ours --------------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(graphs(MENU, max_ops=8), st.integers(0, 99))
def test_all_our_passes_in_a_row(graph: Graph, seed: int) -> None:
    run_pipeline(graph, parse_pipeline(ALL), lambda s: void(check_step(s, seed=seed)))


@settings(max_examples=60)
@given(nir_graphs(), st.integers(0, 99))
def test_on_graphs_of_nirs_own_ops_in_both_precisions(graph: Graph, seed: int) -> None:
    run_pipeline(
        graph, parse_pipeline("normalise-gain,fuse-linear,unroll-conv,simplify"), lambda s: void(check_step(s))
    )


LATE = st.builds(
    lambda neuron, entry, bias: Semantics(
        dt=1e-3, latency_neuron=neuron, latency_input=entry, recurrent_bias_at_start=bias
    ),
    st.integers(0, 2),
    st.integers(0, 2),
    st.booleans(),
)
REWRITES = [name for name in sorted(PASSES) if not name.endswith(("-sampler", "-decoder", "-time"))]


@settings(max_examples=120)
@given(
    LATE.flatmap(lambda s: st.one_of(knots(semantics=s), graphs(MENU, semantics=s, max_ops=6, branch=3))),
    st.lists(st.sampled_from(REWRITES), min_size=1, max_size=4),
    st.integers(0, 99),
)
def test_any_passes_in_any_order_where_values_take_their_time(graph: Graph, names: list[str], seed: int) -> None:
    run_pipeline(graph, parse_pipeline(",".join(names)), lambda s: void(check_step(s, seed=seed)))


def test_a_dead_neuron_may_go_although_its_way_would_take_time() -> None:
    graph = wired(
        "in>w w>dead w>out",
        **{"in": Input(shape=(3,))},
        w=Affine(weight=n(3, 3), bias=n(3)),
        dead=lif(),
        out=Output(),
    )
    late = replace(graph, semantics=Semantics(dt=1e-3, latency_input=1, latency_neuron=1))
    steps: list[Step] = []
    run_pipeline(late, parse_pipeline("simplify"), steps.append)
    assert "dead" not in steps[0].after
    assert check_step(steps[0]).error == 0


def void(_: Evidence) -> None:
    return None


def test_the_evidence_counts_what_was_compared() -> None:
    found: list[Evidence] = []
    x = inputs(network(), 1, 9)
    run_pipeline(network(), parse_pipeline("fold-batch-norm"), lambda s: found.append(check_step(s, inputs=x)))
    assert found[0].runs == 7
    assert found[0].spikes > 100
    assert found[0].error < 1e-12
    assert not found[0].ties


def test_nothing_done_nothing_run() -> None:
    found: list[Evidence] = []
    run_pipeline(network(), parse_pipeline("split-concat"), lambda s: found.append(check_step(s)))
    assert found == [Evidence(0, 0.0, 0)]


# -- wrong ones --------------------------------------------------------------------------------------------------------


def fold_into_one_feeder_only(graph: Graph) -> Graph:
    editor = Editor(graph)
    conv: Any = graph["a"]
    factor, offset = coefficients(graph["bn"])  # type: ignore[arg-type]
    weight = conv.weight * factor[:, None, None, None]
    editor.replace("a", conv.with_(weight=weight, bias=conv.bias * factor + offset))
    editor.bypass("bn")
    return editor.build()


def forget_the_padding(graph: Graph) -> Graph:
    editor = Editor(graph)
    conv: Any = graph["w"]
    editor.replace("w", conv.with_(bias=conv.bias + 1e-3))
    return editor.build()


def raise_a_threshold(graph: Graph) -> Graph:
    editor = Editor(graph)
    editor.replace("lif", lif(v_threshold=np.float64(0.33)))
    return editor.build()


def shift_a_step(graph: Graph) -> Graph:
    editor = Editor(graph)
    name = editor.add("late", Delay(delay=np.float64(1e-3)))
    for edge in editor.incoming("w"):
        editor.disconnect(edge)
        editor.connect(edge.source, name)
    editor.connect(name, "w")
    return editor.build()


@pytest.mark.parametrize(
    "change", [fold_into_one_feeder_only, forget_the_padding, raise_a_threshold, shift_a_step], ids=lambda f: f.__name__
)
def test_a_wrong_pass_is_caught_and_named(change: Callable[[Graph], Graph]) -> None:
    with pytest.raises(CompileError) as error:
        check_step(step(change, network()))
    assert "the pass wrong does not keep what it promises" in str(error.value)
    first = error.value.violations[0]
    assert first.rule == "pass-changed-meaning"
    assert first.where in ("out", "lif")
    assert "instead of" in first.what
    assert "at step" in first.what
    assert first.expected == "wrong keeps exact"


def test_a_constant_bias_at_a_border_is_caught() -> None:
    """The classical mistake: the first bias pushed through the second filter is right inside and wrong at the rim."""
    first, second = Conv2d(weight=n(2, 1, 1, 1), bias=n(2)), Conv2d(weight=n(1, 2, 3, 3), bias=n(1), padding=1)
    graph = chain(("in", Input(shape=(1, 6, 6))), ("a", first), ("b", second), ("out", Output()))

    def fuse(g: Graph) -> Graph:
        good, _ = run("fuse-linear", g)
        (name,) = [k for k, op in good.ops.items() if isinstance(op, Conv2d)]
        fused: Any = good[name]
        return replace(good, ops={**good.ops, name: fused.with_(bias=fused.bias[:, 3, 3])})

    with pytest.raises(CompileError, match=r"at step 0, batch element 0, index \[0, 0, 0\]"):
        check_step(step(fuse, graph))


def test_an_error_of_a_thousandth_in_a_weight_is_caught() -> None:
    graph = chain(("in", Input(shape=(3,))), ("w", Linear(weight=n(2, 3))), ("out", Output()))

    def nudge(g: Graph) -> Graph:
        op: Any = g["w"]
        return replace(g, ops={**g.ops, "w": op.with_(weight=op.weight * 1.001)})

    with pytest.raises(CompileError):
        check_step(step(nudge, graph))
    check_step(step(nudge, graph), tolerance=1e-2)


def test_a_difference_that_only_recorded_input_shows() -> None:
    """A neuron that random input, which is made for the others, never drives above its threshold."""

    def thresholds(*last: float) -> Graph:
        neuron = lif(v_threshold=np.array([0.3, 0.3, 0.3, *last]))
        return chain(("in", Input(shape=(4,))), ("lif", neuron), ("out", Output()), semantics=Semantics(dt=1e-3))

    hidden = step(lambda _: thresholds(1e6), thresholds(1e4))
    check_step(hidden)
    with pytest.raises(CompileError, match="recorded input"):
        check_step(hidden, inputs={"in": np.full((5, 1, 4), 3e4)})


def test_spikes_may_be_all_that_is_kept() -> None:
    graph = chain(("in", Input(shape=(3,))), ("lif", lif()), ("out", Output()), semantics=Semantics(dt=1e-3))

    def double(g: Graph) -> Graph:
        editor = Editor(g)
        name = editor.add("twice", Scale(scale=np.float64(2.0)))
        for edge in editor.incoming("out"):
            editor.disconnect(edge)
            editor.connect(edge.source, name)
        editor.connect(name, "out")
        return editor.build()

    check_step(step(double, graph, WrongSpikes))
    with pytest.raises(CompileError):
        check_step(step(double, graph))

    def harder(g: Graph) -> Graph:
        return replace(g, ops={**g.ops, "lif": lif(v_threshold=np.float64(0.6))})

    with pytest.raises(CompileError, match="keeps spikes"):
        check_step(step(harder, graph, WrongSpikes))


def test_an_approximate_pass_must_still_give_the_outputs() -> None:
    check_step(step(raise_a_threshold, network(), Roughly))

    def rename(g: Graph) -> Graph:
        ops = {("other" if k == "out" else k): op for k, op in g.ops.items()}
        edges = tuple(replace(e, target="other") if e.target == "out" else e for e in g.edges)
        return replace(g, ops=ops, edges=edges)

    with pytest.raises(CompileError, match="the output is gone"):
        check_step(step(rename, network(), Roughly))


# -- ties --------------------------------------------------------------------------------------------------------------


def tied() -> Graph:
    """Weights and thresholds of tenths: sums hit the threshold exactly, or miss it by a rounding."""
    weight = np.round(RNG.uniform(0.1, 0.3, (6, 6)), 1)
    cell = IF(r=np.float64(300.0), v_threshold=np.full(6, 0.3))
    layers = [("w", Linear(weight=weight)), ("if", cell), ("v", Linear(weight=weight)), ("if2", cell)]
    return chain(("in", Input(shape=(6,))), *layers, ("out", Output()), semantics=Semantics(dt=1e-3))


def test_ties_are_no_faults() -> None:
    found: list[Evidence] = []
    for _ in range(8):
        run_pipeline(tied(), parse_pipeline("normalise-gain"), lambda s: found.append(check_step(s)))
    assert all(e.spikes > 50 for e in found)
    assert any(e.ties for e in found)


def test_but_a_fault_is_not_excused_as_a_tie() -> None:
    def careless(g: Graph) -> Graph:
        good, _ = run("normalise-gain", g)
        return replace(good, ops={**good.ops, "if2": good["if2"].with_(v_threshold=np.full(6, 0.33))})

    with pytest.raises(CompileError):
        check_step(step(careless, tied()))


def test_float32_rounding_is_no_fault() -> None:
    fc = Affine(weight=n(64, 32).astype(np.float32), bias=n(64).astype(np.float32))
    out = Linear(weight=n(64, 64).astype(np.float32))
    layers = [("fc", fc), ("lif", lif()), ("w", out), ("lif2", lif())]
    graph = chain(("in", Input(shape=(32,))), *layers, ("out", Output()), semantics=Semantics(dt=1e-3))
    for seed in range(3):
        run_pipeline(graph, parse_pipeline("normalise-gain{threshold=true}"), lambda s: void(check_step(s, seed=seed)))  # noqa: B023


# -- graphs that leave things open -------------------------------------------------------------------------------------


def test_without_a_time_step_one_is_chosen_that_delays_divide() -> None:
    graph = chain(
        ("in", Input(shape=(3,))),
        ("one", Scale(scale=np.ones(()))),
        ("late", Delay(delay=np.array([2e-3, 4e-3, 0.0]))),
        ("lif", lif()),
        ("out", Output()),
    )
    found: list[Evidence] = []
    run_pipeline(graph, parse_pipeline("simplify"), lambda s: found.append(check_step(s)))
    assert found[0].runs > 0


def test_latency_that_a_pass_declares_is_allowed_and_no_more() -> None:
    graph = wired(
        "in>a a>b b>out a>out",
        **{"in": Input(shape=(3,))},
        a=lif(),
        b=lif(v_threshold=np.float64(0.6)),
        out=Output(),
    )
    steps: list[Step] = []
    run_pipeline(graph, parse_pipeline("balance-latency"), steps.append)
    assert check_step(steps[0]).spikes > 0
    lied = replace(steps[0].after, metadata={"latency": {"out": 2, "b": 1}})
    with pytest.raises(CompileError):
        check_step(replace(steps[0], after=lied))
