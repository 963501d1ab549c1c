"""A Constant that is read at several rates is there once for each, and no number changes."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import snnir
from snnir.errors import CompileError
from snnir.graph import Edge, Graph
from snnir.ops import (
    LIF,
    Activation,
    Affine,
    Constant,
    Input,
    LayerNorm,
    Linear,
    Multiply,
    Op,
    Output,
    Repeat,
    Scale,
    TemporalMean,
)
from snnir.placement.running import run
from snnir.rates import with_own_constants
from snnir.semantics import NIR_SEMANTICS
from tests.strategies import inputs_for

SIZE = 3
MEANING = NIR_SEMANTICS.with_(dt=1e-3, start="zero")
Row = tuple[Graph, Graph, int]


def lif() -> LIF:
    n = SIZE
    return LIF(tau=np.full(n, 0.01), r=np.ones(n), v_leak=np.zeros(n), v_threshold=np.full(n, 0.3))


class Twice:
    """A network in two forms: what is constant shared by all that reads it, or one for each of its readers."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.ops: tuple[dict[str, Op], dict[str, Op]] = ({}, {})
        self.edges: tuple[list[Edge], list[Edge]] = ([], [])
        self.still: dict[str, tuple[str, ...]] = {}

    def add(self, name: str, op: Op, *sources: str) -> str:
        for ops, edges in zip(self.ops, self.edges, strict=True):
            ops[name] = op
            edges += [Edge(source, name) for source in sources]
        return name

    def constant(self, name: str, op: Op, *sources: str) -> str:
        """One that readers share in the first form; the second has none yet."""
        self.ops[0][name] = op
        self.edges[0].extend(Edge(source, name) for source in sources)
        self.still[name] = sources
        return name

    def read(self, source: str, target: str, port: str = "input") -> None:
        """`target` reads a constant: its own, in the second form."""
        self.edges[0].append(Edge(source, target, port))
        self.edges[1].append(Edge(self._own(source, f"{source}.for.{target}.{port}"), target, port))

    def _own(self, name: str, copy: str) -> str:
        self.ops[1][copy] = self.ops[0][name]
        for k, before in enumerate(self.still[name]):
            self.edges[1].append(Edge(self._own(before, f"{copy}.{k}"), copy))
        return copy

    def graphs(self) -> tuple[Graph, Graph]:
        shared, own = (Graph(ops, tuple(e), MEANING) for ops, e in zip(self.ops, self.edges, strict=True))
        return shared, own.verify()


@st.composite
def rows(draw: st.DrawFn) -> tuple[Graph, Graph, dict[str, set[Fraction]]]:
    """Ops in a row over changing rates that read constants, and what follows from constants; who reads at which."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    both = Twice(rng)
    both.add("x", Input(shape=(SIZE,)))
    kinds = draw(st.lists(st.sampled_from(["constant", "scale", "affine", "sum", "norm"]), min_size=1, max_size=4))
    for k, kind in enumerate(["constant", *kinds]):
        before = draw(st.sampled_from(list(both.still))) if both.still else ""
        if kind == "constant" or not before:
            both.constant(f"c{k}", Constant(value=rng.normal(0, 1, SIZE)))
        elif kind == "scale":
            both.constant(f"c{k}", Scale(scale=rng.normal(0, 1, SIZE)), before)
        elif kind == "affine":
            op = Affine(weight=rng.normal(0, 1, (SIZE, SIZE)), bias=rng.normal(0, 1, SIZE))
            both.constant(f"c{k}", op, before)
        elif kind == "norm":
            both.constant(f"c{k}", LayerNorm(weight=np.ones(SIZE), bias=np.zeros(SIZE)), before)
        else:
            two = draw(st.sampled_from(list(both.still)))
            both.constant(f"c{k}", Activation(function="sigmoid"), *dict.fromkeys((before, two)))
    last, rate, wanted = "x", Fraction(1), dict[str, set[Fraction]]()
    for k in range(draw(st.integers(1, 8))):
        name, kind = f"n{k}", draw(st.sampled_from(["repeat", "mean", "lif", "linear", "gate"]))
        if kind in ("repeat", "mean") and (kind == "repeat" or rate > 1):
            op: Op = Repeat(steps=2) if kind == "repeat" else TemporalMean(steps=2)
            last = both.add(name, op, last)
            rate *= Fraction(2) if kind == "repeat" else Fraction(1, 2)
            continue
        ports = ["input"]
        if kind == "gate":
            both.add(name, Multiply())
            for edges in both.edges:
                edges.append(Edge(last, name, "a"))
            ports = ["b"]
        else:
            both.add(name, lif() if kind == "lif" else Linear(weight=rng.normal(0, 1, (SIZE, SIZE))), last)
        chosen = draw(st.sets(st.sampled_from(list(both.still)), min_size=1 if kind == "gate" else 0, max_size=2))
        for source in sorted(chosen):
            both.read(source, name, ports[0])
            wanted.setdefault(source, set()).add(rate)
        last = name
    both.add("y", Output(), last)
    for name in reversed(list(both.still)):  # what is read by something that is read at a rate is read at it
        for before in both.still[name]:
            wanted.setdefault(before, set()).update(wanted.get(name, set()))
    for rate, feeders in unread(both.still, wanted):
        for name in reversed(list(both.still)):
            if name in feeders:
                wanted[name].add(rate)
                feeders.update(both.still[name])
    return *both.graphs(), wanted


def unread(still: dict[str, tuple[str, ...]], wanted: dict[str, set[Fraction]]) -> list[tuple[Fraction, set[str]]]:
    """Of every group of constants that nothing reads: its rate, and the constants at rates that it reads."""
    groups: list[set[str]] = []
    for name in (n for n in still if not wanted.get(n)):
        near = [g for g in groups if g & set(still[name]) or any(name in still[n] for n in g)]
        groups = [g for g in groups if g not in near] + [{name}.union(*near)]
    found = []
    for group in groups:
        feeders = {n for name in group for n in still[name]} - group
        rates = sorted(set[Fraction]().union(*(wanted[n] for n in feeders)))
        if rates:
            found.append((max(rates, key=lambda rate: sum(rate in wanted[n] for n in feeders)), feeders))
    return found


@settings(max_examples=150, deadline=None)
@given(rows(), st.integers(0, 2**32 - 1))
def test_sharing_constants_changes_nothing(case: tuple[Graph, Graph, dict[str, set[Fraction]]], seed: int) -> None:
    shared, own, wanted = case
    graph = snnir.load(shared)
    x = inputs_for(own, T=4, rng=seed)
    assert np.array_equal(snnir.interpret(graph, x), snnir.interpret(own, x))
    for name, rates in wanted.items():  # as many as there are rates, and no more
        assert sum(name in graph.sources(n) for n in graph.ops) == max(1, len(rates))
    faults = list(shared.violations())
    assert bool(faults) == any(len(rates) > 1 for rates in wanted.values())
    if not faults:
        assert graph is shared


def both_rates(still: Op | None = None) -> Graph:
    """A bias that is added before and within four steps for one of the input."""
    ops: dict[str, Op] = {
        "x": Input(shape=(SIZE,)),
        "bias": Constant(value=np.array([0.1, 0.2, 0.3])),
        "before": Linear(weight=np.eye(SIZE)),
        "again": Repeat(steps=4),
        "a": lif(),
        "mean": TemporalMean(steps=4),
        "y": Output(),
    }
    ways = [("x", "before"), ("before", "again"), ("again", "a"), ("a", "mean"), ("mean", "y")]
    source = "bias"
    if still is not None:
        ops["still"], source = still, "still"
        ways.append(("bias", "still"))
    ways += [(source, "before"), (source, "a")]
    return Graph(ops, tuple(Edge(*way) for way in ways), MEANING)


@pytest.mark.parametrize("target", ["torch", "onnx"])
def test_it_compiles(target: str) -> None:
    shared = both_rates()
    with pytest.raises(CompileError, match="brings 1 steps"):
        shared.verify()
    graph = snnir.load(shared)
    assert [n for n in graph.ops if "bias" in graph.sources(n)] == ["bias", "bias.1"]
    assert graph["bias"] is graph["bias.1"]
    x = inputs_for(graph, T=6, values="spikes")
    expected = snnir.interpret(graph, x)
    assert expected.any()
    np.testing.assert_allclose(snnir.compile(shared, target).run(x), expected, atol=1e-6)
    placed = snnir.compile(shared, "lava", host=target)
    values: Any = run(placed.artifact.placement, x)  # type: ignore[attr-defined]
    assert np.array_equal(values["y"], expected)
    assert placed.artifact.placement.places["a"].side == "chip"  # type: ignore[attr-defined]


def test_what_has_a_state_is_not_copied() -> None:
    """A population that constants drive has its own time; what it is at two rates nobody can say."""
    with pytest.raises(CompileError) as caught:
        snnir.load(both_rates(lif()))
    assert {v.rule for v in caught.value.violations} == {"graph-steps"}
    series = both_rates()
    values = Constant(value=np.ones((5, SIZE)), series=True)
    series = Graph({**series.ops, "bias": values}, series.edges, MEANING)
    with pytest.raises(CompileError) as caught:
        snnir.load(series)
    assert {v.rule for v in caught.value.violations} == {"graph-steps"}
    wrong = both_rates()
    faulty = Graph({**wrong.ops, "lost": Linear(weight=np.eye(SIZE))}, wrong.edges, MEANING)
    with pytest.raises(CompileError) as caught:  # other faults come with it
        snnir.load(faulty)
    assert {v.rule for v in caught.value.violations} >= {"op-unconnected"}


def test_a_constant_that_also_something_unread_reads_runs_as_long_as_what_is_read() -> None:
    ops: dict[str, Op] = {
        "x": Input(shape=(SIZE,)),
        "c": Constant(value=np.ones(SIZE)),
        "unread": Scale(scale=np.ones(SIZE)),
        "again": Repeat(steps=2),
        "gate": Multiply(),
        "y": Output(),
    }
    ways = [("c", "unread"), ("x", "again"), ("again", "gate", "a"), ("c", "gate", "b"), ("gate", "y")]
    x = np.random.default_rng(0).random((4, 1, SIZE))
    assert np.array_equal(snnir.interpret(Graph(ops, tuple(Edge(*w) for w in ways), MEANING), x), x.repeat(2, axis=0))


def unread_of_two_rates(*extra: str) -> Graph:
    """An op that only constants of two rates feed; `extra` reads it, or the constant of rate 2."""
    ops: dict[str, Op] = {
        "x": Input(shape=(SIZE,)),
        "fast": Constant(value=np.full(SIZE, 2.0)),
        "slow": Constant(value=np.ones(SIZE)),
        "unread": Activation(function="sigmoid"),
        "before": Linear(weight=np.eye(SIZE)),
        "again": Repeat(steps=2),
        "a": lif(),
        "y": Output(),
    }
    ways = [("fast", "unread"), ("slow", "unread"), ("x", "before"), ("slow", "before"), ("before", "again")]
    ways += [("again", "a"), ("fast", "a"), ("a", "y")]
    for source in extra:
        ops["more"] = Output()
        ways.append((source, "more"))
    return Graph(ops, tuple(Edge(*way) for way in ways), MEANING)


def test_what_nothing_reads_refuses_no_network() -> None:
    shared = unread_of_two_rates()
    with pytest.raises(CompileError, match="graph-steps"):
        shared.verify()
    graph = snnir.load(shared)
    assert [n for n in graph.ops if n not in shared.ops] == ["fast.1"]  # at the least rate of both
    assert {e.source for e in graph.incoming["unread"]} == {"fast.1", "slow"}
    ops = {name: op for name, op in shared.ops.items() if name != "unread"}
    without = Graph(ops, tuple(e for e in shared.edges if e.target != "unread"), MEANING)
    x = inputs_for(without, T=5)
    expected = snnir.interpret(without.verify(), x)
    assert expected.any()
    assert np.array_equal(snnir.interpret(graph, x), expected)


def test_an_output_of_constants_is_as_long_as_what_it_reads() -> None:
    with pytest.raises(CompileError) as caught:  # of one step per step, or of two?
        snnir.load(unread_of_two_rates("unread"))
    assert {v.rule for v in caught.value.violations} == {"graph-steps"}
    graph = snnir.load(unread_of_two_rates("fast"))  # read at rate 2 by 'a', and copied for what nothing reads
    assert len(snnir.interpret(graph, inputs_for(graph, T=5))["more"]) == 10


def test_a_sound_graph_stays_the_same_object() -> None:
    own = with_own_constants(both_rates()).verify()
    assert snnir.load(own) is own
    again = with_own_constants(own)
    assert (again.ops, again.edges, again.origin) == (own.ops, own.edges, own.origin)
