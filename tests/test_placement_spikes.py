"""A chip gives one spike per step: where a network spikes more often on recorded input, nothing computes with less."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import snnir
from snnir import registry
from snnir.errors import CompileError
from snnir.graph import Edge, Graph
from snnir.ops import LIF, Input, Linear, Op, Output, SpikingNeuron
from snnir.placement import partition
from snnir.placement.running import in_floats, run
from snnir.placement.types import Part
from tests.strategies import inputs_for
from tests.test_placement_chips import ALIKE, SOFT, lif, whole
from tests.test_placement_several import TINY, attempt, gated, shared, shared_networks


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chip for some ten neurons under the name of Xylo Audio 3."""
    real = registry.backend
    monkeypatch.setattr(registry, "backend", lambda name: TINY if name == TINY.target.name else real(name))


def test_spikes_of_one_step_that_chips_hold_back_are_refused_or_counted() -> None:
    graph = shared()
    graph = replace(graph, semantics=graph.semantics.with_(spikes_per_step=31))
    x = {"x": (np.random.default_rng(0).random((30, 2, 16)) < 0.6) * 4.0}
    with pytest.raises(CompileError) as caught:  # so would every way to the host
        partition(graph, "xylo-audio3", chips=2, calibrate=x)
    (last,) = (v for v in caught.value.violations if v.where == "a6.n")
    twice = snnir.interpret(graph, x, record=["a6.n"])[1]["a6.n"] > 1
    assert f"more than once in a step {twice.sum()} times on the recorded input; host.norm, which" in last.what
    assert "allow 'approximate'" in last.hint
    with pytest.raises(CompileError) as caught:
        partition(graph, "xylo-audio3", chips=2, calibrate=x, place={"a6.n": "chip"})
    (fault,) = caught.value.violations
    assert (fault.rule, fault.where) == ("placement-cut-spikes", "a6.n")
    result = snnir.compile(graph, "xylo-audio3", host="onnx", chips="auto", calibrate=x, allow=("approximate",))
    assert len(result.artifact.placement.spreads) == 2  # type: ignore[attr-defined]
    measured = {m["value"]: m for m in result.report["measured"] if m["part"]}
    assert measured["a6.n"]["several"] > 100
    said = "\n".join(result.report["cuts"])
    assert "00-chip/00-chip: a3.n: " in said
    assert f"spiked more than once in a step {measured['a6.n']['several']} times: one leaves the chip" in said
    assert "a6.n (one spike per step leaves the chip)" in str(result.artifact.placement)  # type: ignore[attr-defined]
    one = snnir.compile(graph, "xylo-audio3", host="onnx", calibrate=x, allow=("approximate",))
    assert any(m.get("several", 0) > 100 for m in one.report["measured"])
    assert len(partition(graph, "xylo-audio3", chips=2).spreads) == 2  # on input that is made up it is counted


def test_a_cut_between_chips_that_would_lose_recorded_spikes_is_made_at_the_host() -> None:
    """The host has all spikes of the layer before it, and hands them on as counts."""
    graph = shared()
    more = {n: op.with_(v_threshold=3.4 * op.v_threshold) for n, op in graph.ops.items() if isinstance(op, LIF)}
    ops = {**graph.ops, **more, "a3.n": graph["a3.n"]}
    graph = replace(graph, ops=ops, semantics=graph.semantics.with_(spikes_per_step=15))
    x = {"x": (np.random.default_rng(0).random((30, 2, 16)) < 0.3).astype(np.float64)}
    expected, inside = snnir.interpret(graph, x, record=["a3.n", "a6.n"])
    assert inside["a3.n"].max() > 1
    assert inside["a6.n"].max() == 1
    found = partition(graph, "xylo-audio3", chips=2, calibrate=x)
    assert [m["violations"][0]["rule"] for m in found.misfits] == ["placement-cut-spikes"]
    assert [list(part.gives) for part in found.parts][:2] == [["a3.n"], ["a6.n"]]
    assert found.places["a3.n"].side == "host"
    assert list(found.spreads) == ["03-chip"]  # nothing is lost within the second stack
    values = run(found, x)
    assert np.array_equal(values["y"], expected)
    assert np.array_equal(values["a6.n"], inside["a6.n"])


def test_spikes_of_one_step_that_a_later_part_needs_do_not_leave_the_chip(tiny: None) -> None:
    """One population of the first part is read by the second: it spikes twice in a step, so the host keeps it."""
    rng = np.random.default_rng(0)
    first = {"a.w": Linear(weight=np.full((4, 4), 0.6)), "a.n": lif(4)}
    second = {"b.w": Linear(weight=np.eye(4) * 0.3), "b.n": lif(4)}
    host, third = dict(gated(rng, "host", 4, 4)), {"c.w": Linear(weight=np.eye(4)), "c.n": lif(4)}
    ops: dict[str, Op] = {"x": Input(shape=(4,)), **first, **second, **host, **third, "y": Output()}
    ops["c.skip"] = Linear(weight=np.eye(4) * 0.2)
    ways = [["x", *first, *second, *host, *third, "y"], ["a.n", "c.skip", "c.n"]]
    meaning = SOFT.with_(spikes_per_step=15)
    graph = Graph(ops, tuple(Edge(*pair) for way in ways for pair in pairwise(way)), meaning)
    x = {"x": (np.random.default_rng(1).random((30, 2, 4)) < 0.5).astype(np.float64)}
    expected, inside = snnir.interpret(graph, x, record=["a.n", "b.n"])
    assert inside["a.n"].max() > 1
    assert inside["b.n"].max() == 1
    bent = partition(graph, "xylo-audio3", calibrate=x, allow=("approximate",))
    assert bent.places["a.n"].side == "chip"
    found = partition(graph, "xylo-audio3", calibrate=x)
    assert {n: found.places[n].side for n in ("a.n", "b.n", "c.n")} == {"a.n": "host", "b.n": "chip", "c.n": "chip"}
    assert "placement-cut-spikes" in found.places["a.n"].reason
    assert np.array_equal(run(found, x)["y"], expected)
    assert expected.any()
    with pytest.raises(CompileError) as caught:
        partition(graph, "xylo-audio3", calibrate=x, place={"a.n": "chip"})
    (fault,) = caught.value.violations
    assert (fault.rule, fault.where) == ("placement-cut-spikes", "a.n")
    assert "02-chip needs all of them" in fault.what


@pytest.mark.hypothesis  # it draws within, so that it can count; `make fuzz` takes it by this
def test_chips_that_give_one_spike_per_step_lose_none_of_what_was_recorded(tiny: None) -> None:
    """Random networks that spike up to 15 times in a step: nothing but an output misses a spike."""
    counted = {"placed": 0, "crowded": 0}

    @settings(max_examples=20, deadline=None)
    @given(shared_networks(), st.integers(0, 2**32 - 1), st.sampled_from([1, "auto"]))
    def holds(graph: Graph, seed: int, chips: int | str) -> None:
        graph = replace(graph, semantics=graph.semantics.with_(spikes_per_step=15))
        x = inputs_for(graph, T=12, rng=seed, values="spikes")
        found, refused = attempt(graph, x, chips, allow=())
        if found is None:
            assert refused == {"placement-nothing"}
            return
        neurons = [n for n, op in graph.ops.items() if isinstance(op, SpikingNeuron)]
        inside = snnir.interpret(graph, x, record=neurons)[1]
        counted["placed"] += 1
        counted["crowded"] += any(values.max() > 1 for values in inside.values())
        if found.loops:
            return

        def one_spike(part: Part, given: Any) -> dict[str, Any]:
            values = in_floats(part, given)
            return {n: np.minimum(v, 1) for n, v in values.items()} if part.side == "chip" else values

        values = run(found, x, one_spike)
        for name, expected in whole(graph, x).items():
            source = graph.incoming[name][0].source
            most = 1 if found.places[source].side == "chip" and source in inside else np.inf
            assert np.array_equal(values[name], np.minimum(expected, most))

    holds()
    if ALIKE:
        assert counted["placed"] > 2  # or the property says little
        assert counted["crowded"] > 0
