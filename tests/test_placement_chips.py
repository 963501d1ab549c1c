"""Several Xylo chips as one network: the cuts keep every limit and give the very same spikes, or are refused."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import snnir
from snnir.backends.xylo.backend import XyloBackend
from snnir.backends.xylo.chip import Chip
from snnir.backends.xylo.target import target_of
from snnir.errors import CompileError, UsageError, Violation
from snnir.graph import Edge, Graph, chain
from snnir.ops import IF, LIF, Affine, Concat, CubaLIF, Delay, Flatten, Input, Linear, Op, Output, Reshape, Slice
from snnir.placement.chips import Spread, spread
from snnir.placement.chips.running import run
from snnir.placement.chips.spread import spread_over
from snnir.placement.examples import example
from snnir.placement.fitting import violations_of
from snnir.semantics import Semantics
from tests.strategies import inputs_for

DT = 1e-3
SOFT = Semantics(dt=DT, reset="subtract", comparison=">=")
# A chip so small that networks of some ten neurons need several.
SMALL = Chip("small", "a small chip", "none", 40, 6, 24, 24, 40, 600, 2, inputs=8)
TINY = XyloBackend(SMALL, target_of(SMALL))


def lif(size: int) -> LIF:
    return LIF(tau=np.full(size, 16 * DT), r=np.full(size, 16.0), v_threshold=np.ones(size))


ALIKE = not os.environ.get("SNNIR_FUZZ")  # draws are the same every time; anew, how many of a kind come is luck


def neurons(kind: str, size: int) -> Op:
    if kind == "lif":
        return lif(size)
    if kind == "if":
        return IF(r=np.full(size, 1 / DT), v_threshold=np.ones(size))
    full = np.ones(size)
    return CubaLIF(tau_mem=16 * DT * full, tau_syn=8 * DT * full, r=16 * full, w_in=2 * full, v_threshold=full)


def layered(sizes: list[int], seed: int = 0, spread: float = 0.35, kind: str = "lif", **meaning: Any) -> Graph:
    rng = np.random.default_rng(seed)
    ops: list[Any] = [("x", Input(shape=(sizes[0],)))]
    for k, (into, out) in enumerate(pairwise(sizes), 1):
        ops += [(f"w{k}", Linear(weight=rng.normal(0.02, spread, (out, into)))), (f"n{k}", neurons(kind, out))]
    return chain(*ops, ("y", Output()), semantics=SOFT.with_(**meaning))


DEEP = [16, 120, 120, 16, 120, 120, 16, 120, 120, 8]


@st.composite
def deep_networks(draw: st.DrawFn) -> Graph:
    """Layers with skips, slices, delays, biases and loops; every layer is read by something."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = draw(st.lists(st.integers(2, 14), min_size=3, max_size=9))
    ops: dict[str, Op] = {"x": Input(shape=(int(rng.integers(2, 9)),))}
    edges: list[Edge] = []
    widths = {"x": int(prod(ops["x"].shape))}  # type: ignore[attr-defined]

    def reads(target: str, source: str, size: int) -> None:
        width, at = widths[source], source
        if width > 3 and rng.random() < 0.25:
            start = int(rng.integers(0, width // 2))
            width = int(rng.integers(1, width - start))
            at = f"{source}.{target}.s"
            ops[at] = Slice(axis=0, start=start, stop=start + width)
            edges.append(Edge(source, at))
        if rng.random() < 0.15:
            late = f"{source}.{target}.d"
            ops[late] = Delay(delay=np.full(width, DT * int(rng.integers(1, 3))))
            edges.append(Edge(at, late))
            at = late
        name = f"{source}.{target}.w"
        weight = rng.normal(0.1, 1.2 / np.sqrt(width), (size, width))
        biased = rng.random() < 0.2
        ops[name] = Affine(weight=weight, bias=rng.normal(0, 0.05, size)) if biased else Linear(weight=weight)
        edges.extend([Edge(at, name), Edge(name, target)])

    before = "x"
    for k, size in enumerate(sizes):
        name = f"n{k}"
        sources = [before, *(s for s in widths if s != before and rng.random() < 0.12)]
        for source in sources:
            reads(name, source, size)
        ops[name] = neurons(draw(st.sampled_from(["lif", "cuba", "if"])), size)
        widths[name] = size
        if rng.random() < 0.2:
            ops[f"{name}.back"] = Linear(weight=rng.normal(0, 0.3, (size, size)))
            edges += [Edge(name, f"{name}.back"), Edge(f"{name}.back", name)]
        before = name
    ops["y"] = Output()
    edges.append(Edge(before, "y"))
    if len(sizes) > 4 and rng.random() < 0.4:
        ops["z"] = Output()
        edges.append(Edge(f"n{len(sizes) // 2}", "z"))
    return Graph(ops, tuple(edges), SOFT)


def whole(graph: Graph, x: Mapping[str, Any]) -> dict[str, Any]:
    found = snnir.interpret(graph, x)
    return found if isinstance(found, dict) else {graph.outputs[0]: found}


def width(graph: Graph, names: tuple[str, ...]) -> int:
    return sum(prod(graph.shapes[name]) for name in names)


def on_tiny(graph: Graph, x: Mapping[str, Any], chip: XyloBackend = TINY) -> Spread:
    return spread_over(graph, chip, None, x, strict=False)


def attempt(graph: Graph, x: Mapping[str, Any], chip: XyloBackend = TINY) -> tuple[Spread | None, list[Violation]]:
    try:
        return on_tiny(graph, x, chip), []
    except CompileError as error:
        return None, list(error.violations)


@pytest.mark.hypothesis  # it draws within, so that it can count; `make fuzz` takes it by this
def test_any_spread_keeps_the_limits_and_gives_the_very_same_spikes() -> None:
    counted = {"several": 0, "refused": 0}

    @settings(max_examples=50)
    @given(deep_networks(), st.integers(0, 2**32 - 1))
    def holds(graph: Graph, seed: int) -> None:
        x = inputs_for(graph, T=12, rng=seed, values="spikes")
        found, refused = attempt(graph, x)
        if found is None:
            counted["refused"] += 1
            assert violations_of(graph, TINY, (), {})
            assert refused
            assert all(v.where and v.expected and v.hint for v in refused)
            return
        counted["several"] += len(found.chips) > 1
        values = run(found, x)
        for name, expected in whole(graph, x).items():
            assert np.array_equal(values[name], expected)
        for part in found.chips:
            assert not violations_of(part.graph, TINY, (), {})
            assert width(part.graph, part.graph.inputs) <= SMALL.inputs
            assert width(part.graph, part.graph.outputs) <= SMALL.outputs
        held = {name for name, chips in found.places.items() if chips}
        assert {n for n, op in graph.ops.items() if isinstance(op, (LIF, IF, CubaLIF))} <= held

    holds()
    if ALIKE:
        assert counted["several"] > 3  # or the property says little
        assert counted["refused"] > 2


def test_a_deep_network_is_cut_where_it_is_narrow() -> None:
    graph = layered(DEEP)
    found = spread(graph, "xylo-audio3")
    assert [list(part.gives) for part in found.chips] == [["n3"], ["n6"], ["n9"]]
    assert [(c.value, c.width, c.source, c.targets) for c in found.cuts] == [
        ("n3", 16, "00-chip", ("01-chip",)),
        ("n6", 16, "01-chip", ("02-chip",)),
    ]
    assert found.places["w4"] == found.places["n4"] == ("01-chip",)
    assert "connections between hidden neurons" in str(found)
    x = example(graph)
    assert np.array_equal(run(found, x)["y"], snnir.interpret(graph, x))


def test_one_chip_where_one_is_enough() -> None:
    graph = layered([16, 100, 8])
    assert len(spread(graph, "xylo-audio3", 4).chips) == 1
    result = snnir.compile(graph, "xylo-audio3", chips="auto")
    assert "xylo.npz" in result.files()
    assert result.report["chips"].startswith("1: ")


def test_the_fewest_chips_win_over_a_first_fit() -> None:
    """A greedy first chip would take n1 to n4, and leave n5 a layer too wide to be cut behind n4."""
    graph = layered([6, 12, 5, 10, 5, 14, 12, 5], spread=0.6)
    x = inputs_for(graph, T=10, rng=0, values="spikes")
    found = on_tiny(graph, x)
    assert len(found.chips) == 2
    assert np.array_equal(run(found, x)["y"], snnir.interpret(graph, x))


def test_a_layer_wider_than_the_outputs_goes_in_pieces_that_meet_again() -> None:
    """Audio 2 has 8 outputs: 16 neurons leave two chips, each with the layers before, and enter a third."""
    graph = layered([16, 60, 16, 60, 60, 60, 8], spread=0.4)
    many = [16, *[60] * 9, 16, *[60] * 9, 8]
    assert len(spread(graph, "xylo-audio2").chips) == 1
    graph = layered(many, spread=0.4)
    found = spread(graph, "xylo-audio2")
    assert [list(part.gives) for part in found.chips] == [["n10[0:8]"], ["n10[8:16]"], ["n20"]]
    assert found.places["n1"] == ("00-chip", "01-chip")
    assert found.chips[2].graph.inputs == ("n10",)
    x = example(graph)
    values = run(found, x)
    assert np.array_equal(values["y"], snnir.interpret(graph, x))
    assert np.array_equal(values["n10"], snnir.interpret(graph, x, record=["n10"])[1]["n10"])


def test_pieces_of_populations_of_several_axes_and_outputs_of_two_chips() -> None:
    rng = np.random.default_rng(0)
    ops = {
        "x": Input(shape=(8,)),
        "w": Linear(weight=rng.normal(0, 0.7, (20, 8))),
        "n": lif(20),
        "up": Linear(weight=rng.normal(0, 0.5, (10, 20))),
        "fold": Reshape(shape=(2, 5)),
        "m": LIF(tau=np.full((2, 5), 8e-3), r=np.full((2, 5), 8.0), v_threshold=rng.uniform(0.5, 1.5, (2, 5))),
        "flat": Flatten(),
        "v": Linear(weight=rng.normal(0, 0.7, (4, 20))),
        "k": lif(4),
        "both": Concat(axis=0, inputs=2),
        "y": Output(),
    }
    edges = [Edge(a, b) for line in ("x w n up fold m flat", "n v k") for a, b in pairwise(line.split())]
    edges += [Edge("flat", "both", "in0"), Edge("k", "both", "in1"), Edge("both", "y")]
    graph = Graph(ops, tuple(edges), SOFT)
    x = inputs_for(graph, T=30, rng=1, values="spikes")
    found = on_tiny(graph, x)
    assert len(found.chips) == 3
    assert not found.cuts
    assert np.array_equal(run(found, x)["y"], snnir.interpret(graph, x))


def test_inputs_of_two_branches_are_read_by_two_chips() -> None:
    """32 channels are too many for a chip, but each branch reads a slice of 16."""
    rng = np.random.default_rng(0)
    ops: dict[str, Op] = {"x": Input(shape=(32,))}
    edges: list[Edge] = []
    for side, start in (("a", 0), ("b", 16)):
        ops |= {
            f"{side}.s": Slice(axis=0, start=start, stop=start + 16),
            f"{side}.w": Linear(weight=rng.normal(0.05, 0.4, (90, 16))),
            f"{side}.n": lif(90),
            f"{side}.v": Linear(weight=rng.normal(0.02, 0.3, (8, 90))),
            f"{side}.m": lif(8),
            f"{side}.u": Linear(weight=rng.normal(0.1, 0.5, (5, 8))),
        }
        line = ["x", *(f"{side}.{op}" for op in "swnvmu"), "n"]
        edges += [Edge(a, b) for a, b in pairwise(line)]
    ops |= {"n": lif(5), "y": Output()}
    graph = Graph(ops, (*edges, Edge("n", "y")), SOFT)
    found = spread(graph, "xylo-audio3")
    assert [part.graph.inputs for part in found.chips] == [("a.s",), ("b.s",), ("a.m", "b.m")]
    x = example(graph)
    assert np.array_equal(run(found, x)["y"], snnir.interpret(graph, x))


def test_what_cannot_be_cut_says_by_how_much_and_where_it_could() -> None:
    graph = layered([16, 100, 16, 300, 300, 300, 8])
    with pytest.raises(CompileError, match=r"the most that would go is n1, n2 \(116 neurons\)") as caught:
        spread(graph, "xylo-audio3")
    faults = {v.rule: v for v in caught.value.violations}
    assert set(faults) == {"xylo-input-expansion", "xylo-connections", "xylo-output-expansion"} & set(faults)
    fault = faults["xylo-connections"]
    assert "5.7" in fault.what
    assert "times too much; n3, n4, n5, n6 must share a chip" in fault.what
    assert "(n3 300, n4 300, n5 300)" in fault.what
    assert "n3 is 18.8 times that" in fault.hint
    assert "a cut is possible behind n2" in fault.hint


def test_wide_inputs_loops_and_too_few_chips_are_refused() -> None:
    with pytest.raises(CompileError) as caught:
        spread(layered([40, 100, 8]), "xylo-audio3")
    (fault,) = caught.value.violations
    assert (fault.rule, fault.where) == ("placement-channels", "n1")
    assert "40 input channels" in fault.what
    assert "2.5 times what a chip has" in fault.what
    assert fault.expected == "at most 16 channels"

    with pytest.raises(CompileError, match="needs 3 Xylo Audio 3 chips") as caught:
        spread(layered(DEEP), "xylo-audio3", 2)
    assert caught.value.violations[0].expected == "at most 2"

    graph = layered([4, 20, 4, 20, 4])
    ops = {**graph.ops, "back": Linear(weight=np.full((20, 4), 0.1)), "late": Delay(delay=np.full(20, 5 * DT))}
    edges = (*graph.edges, Edge("n4", "back"), Edge("back", "late"), Edge("late", "n1"))
    looped = Graph(ops, edges, SOFT)
    with pytest.raises(CompileError) as caught:
        on_tiny(looped, example(looped))
    assert any("the loop of n1, n2, n3, n4 lies in one chip" in v.what for v in caught.value.violations)


def test_what_no_number_of_chips_can_do_comes_at_once() -> None:
    graph = layered(DEEP, reset="value")
    ops = dict(graph.ops) | {"n2": LIF(tau=np.full(120, 0.3 * DT), r=np.ones(120), v_threshold=np.ones(120))}
    ops["head"] = Linear(weight=np.full((3, 8), 0.5))
    edges = (*(e for e in graph.edges if e.target != "y"), Edge("n9", "head"), Edge("head", "y"))
    with pytest.raises(CompileError, match="on however many") as caught:
        spread(Graph(ops, edges, graph.semantics), "xylo-audio3")
    assert {v.rule for v in caught.value.violations} == {"xylo-reset", "xylo-tau", "placement-output"}
    with pytest.raises(CompileError, match="placement-latency"):
        spread(layered(DEEP, latency_neuron=1), "xylo-audio3")
    with pytest.raises(UsageError, match="no chip of which several"):
        spread(layered(DEEP), "lava")
    for wrong in (0, -1, "many", 2.5, True):
        with pytest.raises(UsageError, match="expected 'auto' or a number"):
            spread(layered(DEEP), "xylo-audio3", wrong)  # type: ignore[arg-type]
