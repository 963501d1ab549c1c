"""The time step that r and tau imply, and a loader that never guesses one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnir
from snnir.errors import CompileError, UsageError
from snnir.frontends.nir_file import load
from snnir.graph import Graph, chain
from snnir.nir_io import time_step_hint, to_nir, write
from snnir.ops import IF, LI, LIF, CubaLIF, Delay, I, Input, Linear, Op, Output
from snnir.semantics import NIR_SEMANTICS, Semantics
from tests.graph_kinds import GRAPH_KINDS, make_graph


def proposed(*ops: Op) -> list[float]:
    return [p.dt for p in time_step_hint(chain(Input(shape=(3,)), *ops, Output())).proposals]


def lif(tau: Any, r: Any) -> LIF:
    return LIF(tau=np.asarray(tau), r=np.asarray(r), v_threshold=np.float64(1))


@pytest.mark.parametrize("dt", [1e-3, 1e-4, 2.5e-4])
@pytest.mark.parametrize("kind", GRAPH_KINDS)
def test_the_dt_of_every_kind_is_found_in_style_disc_and_not_in_r1(kind: str, dt: float) -> None:
    hint = time_step_hint(make_graph(0, kind, "disc", dt=dt))
    assert [p.dt for p in hint.proposals] == [dt]
    assert f"r and tau imply dt = {dt:g} s: pass --dt {dt:g} / dt={dt:g}" in hint.text
    if kind not in ("if", "integrator-readout"):  # r = 1 says nothing of a neuron without time constant either
        silent = time_step_hint(make_graph(0, kind, "r1", dt=dt))
        assert silent.proposals == ()
        assert silent.text.startswith("r = 1 everywhere says nothing")


def test_what_each_neuron_implies() -> None:
    assert proposed(lif(0.02, 20.0)) == [1e-3]
    assert proposed(LI(tau=np.float32(0.05), r=np.float32(500))) == [1e-4]
    assert proposed(IF(r=np.float64(2000), v_threshold=np.float64(1))) == [5e-4]
    assert proposed(I(r=np.float64(100))) == [0.01]
    cuba = CubaLIF(
        tau_mem=np.float64(0.02),
        tau_syn=np.float64(0.01),
        r=np.float64(1),
        w_in=np.float64(10),
        v_threshold=np.float64(1),
    )
    assert proposed(cuba) == [1e-3]


def test_per_neuron_parameters_must_agree() -> None:
    tau = np.array([0.01, 0.02, 0.035])
    assert proposed(lif(tau, tau / 1e-3)) == [1e-3]
    assert proposed(lif(tau.astype(np.float32), (tau / 1e-3).astype(np.float32))) == [1e-3]
    assert proposed(lif(tau, [10.0, 20.0, 30.0])) == []
    hint = time_step_hint(chain(Input(shape=(3,)), lif(tau, [10.0, 20.0, 30.0]), Output()))
    assert hint.text.startswith("r and tau stand in no fixed ratio (lif)")


def test_a_gain_of_one_or_less_says_nothing() -> None:
    for r in (1.0, 0.5, -3.0, 0.0):
        assert proposed(lif(0.02, r)) == []


def test_the_rule_of_rockpool_is_recognised() -> None:
    """The NIR paper's lif_rockpool.nir: tau 2.5 ms, r 24.019737, written at dt 0.1 ms."""
    hint = time_step_hint(chain(Input(shape=(1,)), lif(np.float32(0.0025), np.float32(24.019737)), Output()))
    assert [p.dt for p in hint.proposals] == [1e-4]
    assert "as Rockpool writes it" in hint.proposals[0].reasons[0]
    tau = np.array([0.01, 0.02, 0.04])
    assert proposed(lif(tau, tau * np.exp(-1e-3 / tau) / 1e-3)) == [1e-3]


def test_several_answers_are_all_given_the_commonest_first() -> None:
    hint = time_step_hint(
        chain(Input(shape=(3,)), lif(0.02, 200.0), ("b", lif(0.02, 20.0)), ("c", lif(0.03, 30.0)), Output())
    )
    assert [(p.dt, len(p.reasons)) for p in hint.proposals] == [(1e-3, 2), (1e-4, 1)]
    assert "but some ops imply 0.0001 s (lif: r = tau/dt)" in hint.text


def test_a_value_that_is_not_round_keeps_its_digits() -> None:
    assert proposed(lif(0.02, 13.0)) == [0.00153846]


# -- the loader ------------------------------------------------------------------------------------------------------


def saved(graph: Graph, folder: Path, semantics: Any = NIR_SEMANTICS) -> Path:
    path = folder / "net.nir"
    path.write_bytes(write(Graph(graph.ops, graph.edges, semantics)))
    return path


def test_the_time_step_is_asked_for_with_a_proposal(tmp_path: Path) -> None:
    path = saved(make_graph(0, "recurrence-cubalif", "disc", dt=1e-4), tmp_path)
    with pytest.raises(CompileError) as caught:
        load(path)
    (fault,) = caught.value.violations
    assert (fault.rule, fault.where) == ("time-step", str(path))
    assert "2 of its ops need it (n1, n2)" in fault.what
    assert fault.hint.startswith("r and tau imply dt = 0.0001 s: pass --dt 0.0001 / dt=0.0001 (n1: r = tau_mem/dt, ")
    graph = load(path, dt=1e-4)
    assert graph.semantics == NIR_SEMANTICS.with_(dt=1e-4)


def test_the_time_step_is_asked_for_where_nothing_implies_it(tmp_path: Path) -> None:
    path = saved(make_graph(0, "affine-lif", "r1"), tmp_path)
    with pytest.raises(CompileError, match="r = 1 everywhere says nothing"):
        load(str(path))
    delay = chain(Input(shape=(2,)), Delay(delay=np.float64(1e-3)), Output())
    with pytest.raises(CompileError, match=r"1 of its ops need it \(delay\)[\s\S]*nothing in the network implies it"):
        load(saved(delay, tmp_path))


def test_a_network_without_time_needs_none(tmp_path: Path) -> None:
    graph = load(saved(chain(Input(shape=(2,)), Linear(weight=np.ones((2, 2))), Output()), tmp_path))
    assert graph.semantics.dt is None
    assert graph["linear"].loc is not None
    assert str(graph["linear"].loc) == f"{tmp_path / 'net.nir'} (linear)"


def test_what_the_file_says_holds(tmp_path: Path) -> None:
    says = NIR_SEMANTICS.with_(dt=2e-3, reset="subtract")
    path = saved(make_graph(0, "affine-lif"), tmp_path, says)
    assert load(path).semantics == says
    assert load(path, dt=2e-3).semantics == says
    with pytest.raises(CompileError, match=r"dt=0\.001 s is asked for, but the file says 0\.002 s"):
        load(path, dt=1e-3)
    assert load(path, semantics=NIR_SEMANTICS).semantics == NIR_SEMANTICS.with_(dt=2e-3)
    assert load(path, semantics=NIR_SEMANTICS.with_(dt=5e-3)).semantics.dt == 5e-3


@pytest.mark.parametrize("dt", [0.0, -1e-3, float("nan")])
def test_a_time_step_must_be_positive(dt: float, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="positive time in seconds"):
        load(saved(make_graph(0, "affine-lif"), tmp_path), dt=dt)


def test_live_graphs_and_bytes_load_too() -> None:
    graph = make_graph(0, "affine-lif", dt=1e-3)
    assert load(write(graph)).semantics.dt == 1e-3
    assert load(to_nir(graph)).semantics.dt == 1e-3
    live = to_nir(graph)
    live.metadata = {}
    with pytest.raises(CompileError, match="NIRGraph: nothing says its time step"):
        load(live)
    assert load(live, dt=1e-3).semantics.dt == 1e-3
    with pytest.raises(UsageError, match="takes no option colour, size"):
        load(live, colour=1, size=2)


@pytest.mark.parametrize("target", ["torch", "onnx"])
def test_an_unstable_step_is_refused(target: str) -> None:
    """Forward Euler with tau < dt/2 multiplies the membrane by less than -1 in every step."""
    graph = chain(Input(shape=(3,)), ("lif", LIF(tau=np.array([1e-3, 4e-4, 3e-4]), v_threshold=np.ones(3))), Output())
    with pytest.raises(CompileError, match=r"tau = 0.0003 s is less than half a step") as caught:
        snnir.compile(graph, target, dt=1e-3)
    (fault,) = caught.value.violations
    assert (fault.rule, fault.where) == ("time-step-unstable", "lif")
    assert "(2 of 3 values)" in fault.what
    assert "0.0006 s or less" in fault.expected
    snnir.compile(graph, target, dt=6e-4)  # exactly half a step: the membrane swings, but does not grow
    snnir.compile(graph, target, semantics=Semantics(dt=1e-3, decay="exponential"))
