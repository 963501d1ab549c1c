"""Places that are asked for and cannot be: one error that says why, whatever the cut would make of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import snnir
from snnir.errors import CompileError
from snnir.graph import Graph, chain
from snnir.ops import LIF, Input, Linear, Output
from snnir.placement import partition
from snnir.placement.opening import BETWEEN
from snnir.placement.running import run
from snnir.placement.types import Side
from snnir.semantics import NIR_SEMANTICS
from tests.knots import knots
from tests.strategies import inputs_for, nir_graphs


def net() -> Graph:
    return chain(
        ("x", Input(shape=(4,))),
        ("a", LIF(tau=np.full(4, 0.01), v_threshold=np.ones(4))),
        ("out", Linear(weight=np.ones((3, 4)))),
        ("y", Output()),
        semantics=NIR_SEMANTICS.with_(dt=1e-3, start="zero"),
    )


def test_weights_that_only_an_output_reads_cannot_be_asked_onto_the_chip() -> None:
    with pytest.raises(CompileError) as caught:
        partition(net(), "lava", place={"out": "chip"})
    assert [(v.rule, v.where) for v in caught.value.violations] == [("placement-port", "out")]


def test_everything_asked_to_the_host_is_said_to_be_so() -> None:
    with pytest.raises(CompileError) as caught:
        partition(net(), "lava", place={"*": "host"})
    (fault,) = caught.value.violations
    assert (fault.rule, fault.where) == ("placement-nothing", "a")
    assert fault.what == "stays on the host: as you say"
    assert "lava" not in fault.hint


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(nir_graphs(uniform=True, max_ops=6), knots(kinds=("affine", "lif", "threshold", "delay", "delay"))),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["lava", "xylo-audio3"]),
)
def test_what_is_asked_for_is_done_or_refused(graph: Graph, seed: int, target: str) -> None:
    rng = np.random.default_rng(seed)
    if target != "lava":
        graph = replace(graph, semantics=graph.semantics.with_(reset="subtract", spikes_per_step=1, start="zero"))
    inner = [n for n in graph.ops if n not in (*graph.inputs, *graph.outputs)]
    place: dict[str, Side] = {n: "chip" if rng.random() < 0.6 else "host" for n in inner if rng.random() < 0.35}
    x = inputs_for(graph, rng=seed, values="spikes")
    refused: CompileError | None = None
    try:
        placement = partition(graph, target, place=place, calibrate=x)
    except CompileError as error:
        refused = error
    if refused is not None:
        assert all(v.rule.startswith("placement-") and v.what for v in refused.violations)
        return
    needed = [n for n in place if "no output needs it" not in placement.places[n].reason]
    asked = {n: "driver" if BETWEEN in placement.places[n].reason else place[n] for n in needed}
    assert {n: placement.places[n].side for n in needed} == asked
    values = run(placement, x)
    expected = snnir.interpret(graph, x)
    for name, wanted in (expected if isinstance(expected, dict) else {graph.outputs[0]: expected}).items():
        assert np.array_equal(values[name], wanted, equal_nan=True)
