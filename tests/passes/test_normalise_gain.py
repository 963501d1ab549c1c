"""normalise-gain: exact under every float semantics; canonical where it says so, and reasons elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnir.discretise import recurrence
from snnir.graph import Graph, chain
from snnir.ops import (
    IF,
    LI,
    LIF,
    Affine,
    Conv2d,
    CubaLI,
    CubaLIF,
    Delay,
    Flatten,
    I,
    Input,
    Linear,
    Neuron,
    Output,
    Scale,
)
from snnir.semantics import Semantics
from tests.passes.strategies import declined, graphs, kinds, run, same, several, spikes_somewhere, wired

RNG = np.random.default_rng(13)
MENU = "conv dense neuron neuron neuron scale flatten concat pool slice constant delay".split()
SEMANTICS = (
    Semantics(dt=1e-3),
    Semantics(dt=2e-3, decay="exponential"),
    Semantics(dt=1e-3, decay="exponential", gain="unit"),
    Semantics(dt=1e-3, gain="unit", reset="subtract", comparison=">="),
    Semantics(dt=1e-3, reset="delayed-value"),
    Semantics(dt=1e-3, order="membrane-first", start="zero"),
    Semantics(dt=1e-3, membrane_floor=-0.5),
    Semantics(dt=1e-3, latency_neuron=1),
    Semantics(dt=1e-3, recurrent_bias_at_start=False, reset="delayed-subtract"),
)
ANY = st.sampled_from(SEMANTICS).flatmap(lambda s: graphs(MENU, semantics=s, max_ops=8))


def n(*shape: int) -> Any:
    return RNG.normal(size=shape)


def u(low: float, high: float, *shape: int) -> Any:
    return RNG.uniform(low, high, shape)


@several
@given(ANY, st.integers(0, 99))
def test_exact_on_random_graphs_and_done_in_one_go(graph: Graph, seed: int) -> None:
    after, _ = run("normalise-gain", graph)
    same(graph, after, seed)
    assert run("normalise-gain", after)[0] is after


@several
@given(ANY, st.integers(0, 99))
def test_exact_with_unit_thresholds_and_zero_resets(graph: Graph, seed: int) -> None:
    after, _ = run("normalise-gain{zero=reset,threshold=true}", graph)
    same(graph, after, seed)


CASES = [
    I(r=u(0.5, 2, 3)),
    IF(r=u(50, 200, 3), v_threshold=u(0.5, 1, 3)),
    LI(tau=u(3e-3, 2e-2, 3), r=u(0.5, 3, 3)),
    LIF(tau=u(3e-3, 2e-2, 3), r=u(2, 9, 3), v_leak=u(0.01, 0.1, 3), v_threshold=u(0.3, 0.5, 3), v_reset=u(-0.2, 0, 3)),
    CubaLI(tau_syn=u(2e-3, 9e-3, 3), tau_mem=u(3e-3, 2e-2, 3), r=u(0.5, 3, 3), w_in=u(0.5, 3, 3)),
    CubaLIF(
        tau_syn=u(2e-3, 9e-3, 3),
        tau_mem=u(3e-3, 2e-2, 3),
        r=u(2, 9, 3),
        v_leak=u(0.01, 0.1, 3),
        v_threshold=u(0.3, 0.5, 3),
        w_in=u(2, 5, 3),
    ),
]


@pytest.mark.parametrize("decay", ["euler", "exponential"])
@pytest.mark.parametrize("neuron", CASES, ids=lambda op: op.kind)
def test_the_gain_is_one_afterwards_and_the_weight_has_it(neuron: Neuron, decay: Any) -> None:
    semantics = Semantics(dt=1e-3, decay=decay)
    fc = Affine(weight=n(3, 4), bias=n(3))
    graph = chain(
        ("in", Input(shape=(4,))), ("fc", fc), ("nrn", neuron), ("w", Linear(weight=np.eye(3))), ("out", Output()),
        semantics=semantics,
    )  # fmt: skip
    after, _ = run("normalise-gain", graph)
    rule, old = recurrence(after["nrn"], semantics), recurrence(neuron, semantics)  # type: ignore[arg-type]
    np.testing.assert_allclose(rule.gain, 1, rtol=1e-14)
    total = np.asarray(old.gain)
    if old.gain_syn is not None and rule.gain_syn is not None:
        np.testing.assert_allclose(rule.gain_syn, 1, rtol=1e-14)
        total = total * old.gain_syn
    np.testing.assert_allclose(after["fc"].weight, fc.weight * np.broadcast_to(total, 3)[:, None])  # type: ignore[attr-defined]
    np.testing.assert_allclose(after["fc"].bias, fc.bias * total)  # type: ignore[attr-defined]
    if "v_leak" in neuron.arrays:
        assert not after["nrn"].v_leak.any()  # type: ignore[attr-defined]
    assert len(after) == len(graph)
    same(graph, after, 2, steps=40)
    if neuron.spiking:
        assert spikes_somewhere(graph, 2)


def test_in_nirs_terms() -> None:
    """Euler: r = tau / dt and w_in = tau_syn / dt; thresholds and resets move with v_leak."""
    neuron = CASES[-1]
    graph = chain(("in", Input(shape=(3,))), ("w", Linear(weight=n(3, 3))), ("nrn", neuron), ("out", Output()))
    after, _ = run("normalise-gain", replace(graph, semantics=Semantics(dt=1e-3)))
    found: Any = after["nrn"]
    assert isinstance(neuron, CubaLIF)
    np.testing.assert_allclose(found.r, neuron.tau_mem / 1e-3)
    np.testing.assert_allclose(found.w_in, neuron.tau_syn / 1e-3)
    np.testing.assert_allclose(found.v_threshold, neuron.v_threshold - neuron.v_leak)
    np.testing.assert_allclose(found.v_reset, -neuron.v_leak)


def test_recurrent_weights_are_scaled_too() -> None:
    graph = wired(
        "in>fc fc>lif lif>back back>lif lif>out",
        **{"in": Input(shape=(2,))},
        fc=Affine(weight=n(3, 2), bias=n(3)),
        lif=LIF(tau=np.float64(5e-3), r=np.float64(3.0), v_threshold=np.float64(0.3)),
        back=Affine(weight=n(3, 3), bias=n(3)),
        out=Output(),
    )
    after, _ = run("normalise-gain", graph)
    for name in ("fc", "back"):
        np.testing.assert_allclose(after[name].weight, 0.6 * graph[name].weight)  # type: ignore[attr-defined]
    same(graph, after, 1)


def test_what_has_no_weight_gets_a_scale() -> None:
    graph = wired(
        "in>lif in>fc fc>lif lif>out",
        **{"in": Input(shape=(3,))},
        fc=Linear(weight=n(3, 3)),
        lif=LIF(tau=np.float64(5e-3), r=np.float64(3.0), v_threshold=np.float64(0.3)),
        out=Output(),
    )
    after, _ = run("normalise-gain", graph)
    assert kinds(after) == ["LIF", "Linear", "Scale"]
    same(graph, after)
    kept, log = run("normalise-gain{insert=false}", graph)
    assert kept is graph
    assert declined(log, "lif", "its gain stays: in (Input) feeds it")


def test_a_weight_that_others_read_is_left_alone() -> None:
    graph = wired(
        "in>fc fc>lif fc>out2 lif>out",
        **{"in": Input(shape=(3,))},
        fc=Linear(weight=n(3, 3)),
        lif=LIF(tau=np.float64(5e-3), r=np.float64(3.0), v_threshold=np.float64(0.3)),
        out=Output(),
        out2=Output(),
    )
    after, _ = run("normalise-gain", graph)
    assert after["fc"] is graph["fc"]
    assert kinds(after) == ["LIF", "Linear", "Scale"]
    same(graph, after)


def integrator(*behind: Any, shape: tuple[int, ...] = (3,), **fields: Any) -> Graph:
    op = LI(tau=np.float64(5e-3), r=np.float64(5.0), v_leak=u(0.2, 0.5, shape[0], *[1] * (len(shape) - 1)))
    named = [(f"op{i}", b) for i, b in enumerate(behind)]
    semantics = Semantics(dt=1e-3, **fields)
    return chain(("in", Input(shape=shape)), ("li", op), *named, ("out", Output()), semantics=semantics)


@pytest.mark.parametrize(
    "behind",
    [
        [Linear(weight=n(2, 3))],
        [Scale(scale=n(3)), Affine(weight=n(2, 3), bias=n(2))],
    ],
)
def test_an_offset_is_given_back_downstream(behind: list[Any]) -> None:
    graph = integrator(*behind)
    after, _ = run("normalise-gain", graph)
    assert not after["li"].v_leak.any()  # type: ignore[attr-defined]
    same(graph, after)


def test_as_a_bias_map_behind_padding() -> None:
    graph = integrator(Conv2d(weight=n(2, 2, 3, 3), bias=n(2), padding=1), Flatten(start_dim=0), shape=(2, 4, 4))
    after, _ = run("normalise-gain", graph)
    assert after["op0"].bias.shape == (2, 4, 4)  # type: ignore[attr-defined]
    same(graph, after)
    kept, log = run("normalise-gain{bias_map=false}", graph)
    assert kept is graph
    assert declined(log, "li", "would become a map")


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        (integrator(), "out (Output) reads it and has no bias"),
        (integrator(Delay(delay=np.float64(1e-3)), Linear(weight=n(2, 3))), "op0 (Delay) reads it"),
        (integrator(Linear(weight=n(2, 3)), start="zero"), "starts at 0, not at v_leak"),
        (integrator(Linear(weight=n(2, 3)), membrane_floor=-1.0), "floor -1"),
    ],
)
def test_or_the_log_says_why_not(graph: Graph, why: str) -> None:
    after, log = run("normalise-gain", graph)
    assert after is graph
    assert declined(log, "li", "its potentials stay", why)


def test_a_reset_by_subtraction_forbids_the_shift() -> None:
    lif = LIF(tau=np.float64(5e-3), r=np.float64(5.0), v_leak=np.float64(0.1), v_threshold=np.float64(0.3))
    graph = chain(("in", Input(shape=(3,))), ("lif", lif), ("out", Output()))
    after, log = run("normalise-gain", replace(graph, semantics=Semantics(dt=1e-3, reset="subtract")))
    assert after["lif"] is lif
    assert declined(log, "lif", "subtracts the threshold")


def test_zero_reset_leaves_the_leak_to_carry_the_difference() -> None:
    lif = LIF(tau=np.float64(5e-3), r=np.float64(5.0), v_threshold=np.float64(0.3), v_reset=np.float64(-0.1))
    graph = chain(("in", Input(shape=(3,))), ("lif", lif), ("out", Output()), semantics=Semantics(dt=1e-3))
    after, _ = run("normalise-gain{zero=reset}", graph)
    found: Any = after["lif"]
    assert (float(found.v_reset), float(found.v_leak), float(found.v_threshold)) == (0.0, 0.1, 0.4)
    same(graph, after, 1, steps=30)


def test_an_integrator_starts_at_0_whatever_its_reset() -> None:
    graph = chain(
        ("in", Input(shape=(3,))),
        ("if", IF(r=np.float64(1e3), v_threshold=np.float64(0.3), v_reset=np.float64(-0.1))),
        ("out", Output()),
        semantics=Semantics(dt=1e-3),
    )
    after, log = run("normalise-gain{zero=reset}", graph)
    assert after is graph
    assert declined(log, "if", "starts at 0, not at v_reset")


def test_without_a_time_step_there_is_no_gain_to_speak_of() -> None:
    graph = chain(("in", Input(shape=(3,))), ("w", Linear(weight=n(3, 3))), ("nrn", CASES[3]), ("out", Output()))
    after, log = run("normalise-gain{zero=none}", graph)
    assert after is graph
    assert declined(log, "nrn", "the time step is not known")


def test_float32_comes_to_rest() -> None:
    neuron = CASES[3].with_(**{a: getattr(CASES[3], a).astype(np.float32) for a in CASES[3].arrays})
    fc = Linear(weight=n(3, 3).astype(np.float32))
    graph = chain(
        ("in", Input(shape=(3,))), ("fc", fc), ("nrn", neuron), ("out", Output()), semantics=Semantics(dt=1e-3)
    )
    after, _ = run("normalise-gain", graph)
    assert {v.dtype for v in after.weights().values()} == {np.dtype(np.float32)}
    assert run("normalise-gain", after)[0] is after


def test_shapes_that_inputs_tell_win_over_a_populations_own_parameters() -> None:
    """Per-channel parameters behind a cycle once made the graph seem unsound, depending on the order of its ops."""
    graph = wired(
        "in>lif lif>back back>lif in>sum lif>sum sum>out",
        lif=LIF(tau=u(3e-3, 9e-3, 2, 1, 1), v_threshold=np.float64(0.3)),
        back=Scale(scale=n(2, 1, 1)),
        sum=Scale(scale=np.float64(2.0)),
        out=Output(),
        **{"in": Input(shape=(2, 3, 4))},
    )
    assert graph.shapes["lif"] == (2, 3, 4)


def test_an_offset_on_a_cycle_stays_for_it_arrives_before_the_first_step() -> None:
    """Two late edges in a row: what `back` gives before step 0 does not know the membrane of `li` yet."""
    graph = wired(
        "in>into in>back into>li back>li li>back back>into back>out",
        into=Affine(weight=n(3, 3), bias=n(3)),
        back=Affine(weight=n(3, 3) * 0.3, bias=n(3)),
        li=LI(tau=np.float64(5e-3), v_leak=u(0.5, 1.0, 3)),
        **{"in": Input(shape=(3,))},
        out=Output(),
    )
    after, log = run("normalise-gain", graph)
    assert declined(log, "li", "its potentials stay: it lies on a cycle")
    same(graph, after)
