"""The sinabs target: sinabs's own layers, several spikes per step and bounded membranes; and there and back again."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sinabs
import sinabs.activation as sa
import sinabs.layers as sl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import snnir
from snnir import ops
from snnir.errors import CompileError
from snnir.graph import Graph, chain
from snnir.interpreter import interpret
from snnir.models import fsddim
from snnir.registry import backend
from snnir.semantics import Semantics
from tests.backends.family import built, same_everywhere
from tests.frontends.live import DT, Double, noise
from tests.knots import knots
from tests.strategies import inputs_for, nir_graphs

pytestmark = pytest.mark.oracle
MEANT = snnir.semantics_of("sinabs", dt=DT)
RESETS: dict[str, Any] = {"subtract": sa.MembraneSubtract(), "value": sa.MembraneReset()}
SPIKES: dict[str, Any] = {"single": sa.SingleSpike, "multi": sa.MultiSpike, "most 2": sa.MaxSpike(2)}
KINDS = ("LIF", "LIF full", "LIF alphas", "LIF syn", "IAF", "IAF syn", "ExpLeak", "LIFRecurrent", "IAFRecurrent")


@settings(max_examples=60)
@given(
    graph=st.one_of(nir_graphs(several_io=True), knots()),
    spikes_per_step=st.sampled_from([1, 2, 31]),  # without limit, feedback grows beyond all rounding
    membrane_floor=st.sampled_from([None, -0.2, -1.0]),
    comparison=st.sampled_from([">", ">="]),
    reset=st.sampled_from(["subtract", "value"]),
    decay=st.sampled_from(["exponential", "euler"]),
    gain=st.sampled_from(["unit", "ode"]),
    start=st.sampled_from(["rest", "zero"]),
    seed=st.integers(0, 1000),
)
def test_random_graphs_are_refused_or_exact(graph: Graph, seed: int, **semantics: Any) -> None:
    meant = replace(graph, semantics=graph.semantics.with_(**semantics))
    violations = backend("sinabs").target.check(meant)
    assert {v.rule for v in violations} <= {"sinabs-spikes", "sinabs-floor"}
    if not violations:
        same_everywhere(meant, "sinabs", seed=seed)


def population(kind: str, n: int = 6, **options: Any) -> nn.Module:
    """A layer of sinabs's with its own parameters."""
    tau = torch.rand(n) * 10 + 5
    syn = {"tau_syn": 4.0} if "syn" in kind else {}
    back = nn.Sequential(Double(), nn.Linear(n, n))
    back[1].weight.data.mul_(0.3)
    if kind == "ExpLeak":
        return sl.ExpLeak(tau, norm_input=True)
    if kind == "LIFRecurrent":
        return sl.LIFRecurrent(12.0, back, **options)
    if kind == "IAFRecurrent":
        return sl.IAFRecurrent(back, **options)
    if kind.startswith("IAF"):
        return sl.IAF(**syn, **options)
    return sl.LIF(tau, norm_input="full" not in kind, train_alphas="alphas" in kind, **syn, **options)


def net_of(kind: str, **options: Any) -> nn.Module:
    net = nn.Sequential(nn.Linear(5, 6), population(kind, **options), Double(), nn.Linear(6, 4)).double()
    for weights in (net[0].weight, net[3].weight):
        weights.data.mul_(3.0)
    return net


def theirs(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """x (T, B, ...) through sinabs's layers, which take (B, T, ...), from rest."""
    for module in net.modules():
        if isinstance(module, sl.StatefulLayer):
            for name in ("v_mem", "i_syn"):
                if getattr(module, name, None) is not None:
                    setattr(module, name, torch.zeros(0))
    return net(x.transpose(0, 1)).transpose(0, 1)


@pytest.mark.parametrize("floor", [None, -0.5])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_again(kind: str, reset: str, floor: float | None) -> None:
    """sinabs's layers as a graph as sinabs's layers: the same weights, the same spikes, the same gradients."""
    if kind == "ExpLeak" and (floor is not None or reset != "subtract"):
        return  # sinabs bounds it behind its output, which a graph does not say; it does not reset
    for seed, (spikes, function) in enumerate(SPIKES.items()):
        torch.manual_seed(seed)
        options = {"min_v_mem": floor, "spike_threshold": torch.tensor(0.7)}
        net = net_of(kind, spike_fn=function, reset_fn=RESETS[reset], **options)
        x = noise(5, steps=25, scale=4.0)
        graph = snnir.load(net, dt=DT)
        artifact = built(graph, "sinabs")
        assert artifact.report["own cells"] == {}
        model = artifact.module(torch.float64)
        given, wanted = model(x), theirs(net, x)
        torch.testing.assert_close(given, wanted, rtol=1e-9, atol=1e-9)
        counts = theirs(net[:2], x).detach()
        assert float(counts.abs().sum()) > 15
        if kind in ("IAF", "LIF full"):
            most = {"single": 1, "most 2": 2}.get(spikes, 99)
            assert (1 if spikes == "single" else 2) <= float(counts.max()) <= most
        for name in ("0", "3"):
            for field in ("weight", "bias"):
                key = f"{name}.{field}"
                np.testing.assert_array_equal(graph.weights()[key], net.state_dict()[key].numpy())
        for y in (given, wanted):
            (y * torch.linspace(-1, 1, 4)).sum().backward()
        ours = {name: p.grad for name, p in model.named_parameters()}
        scale = float(net[0].weight.grad.abs().max())
        assert scale > 1e-3
        found = [grad for name, grad in ours.items() if grad is not None and grad.shape == (6, 5)]
        torch.testing.assert_close(found[0], net[0].weight.grad, rtol=0, atol=1e-5 * scale)


def test_float32_is_sinabs_to_the_spike() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 20), sl.LIF(8.0), nn.Linear(20, 20), sl.IAF(spike_fn=sa.SingleSpike))
    net[1].spike_fn = sa.SingleSpike
    for weights in (net[0].weight, net[2].weight):
        weights.data.mul_(6)
    x = torch.randn(50, 4, 5)
    with torch.no_grad():
        wanted = theirs(net, x)
        got = built(snnir.load(net, dt=DT), "sinabs").module()(x)
    assert 100 < float(wanted.sum()) < 3900
    np.testing.assert_array_equal(got.numpy(), wanted.numpy())


def neurons(**fields: Any) -> dict[str, ops.Op]:
    at = {"v_threshold": np.full(3, 0.5), **fields}
    return {
        "lif": ops.LIF(tau=np.full(3, 5e-3), r=2.0, **at),
        "cuba": ops.CubaLIF(tau_syn=np.full(3, 4e-3), tau_mem=np.full(3, 5e-3), w_in=2.0, r=2.0, **at),
        "if": ops.IF(r=np.full(3, 300.0), **{k: v for k, v in at.items() if k != "v_leak"}),
    }


def line(**fields: Any) -> Graph:
    semantics = {key: fields.pop(key) for key in list(fields) if hasattr(MEANT, key)}
    made = [ops.Input(shape=(3,)), *neurons(**fields).items(), ops.Output()]
    return chain(*made, semantics=MEANT.with_(**{"spikes_per_step": 1, **semantics}))


def test_layers_are_sinabs_s() -> None:
    report = built(line(), "sinabs").report
    assert report["framework layers"] == {"lif": "sl.LIF", "cuba": "sl.LIF", "if": "sl.IAF"}
    leaking = built(line(v_leak=np.full(3, 0.2)), "sinabs").report
    assert leaking["framework layers"]["cuba"] == "sl.ExpLeak + sl.LIF"
    model = built(line(), "sinabs").module()
    assert [type(layer) for layer in model.modules() if isinstance(layer, sl.StatefulLayer)] == [sl.LIF, sl.LIF, sl.IAF]
    assert type(model.get_submodule("lif").neurons.reset_fn) is sa.MembraneSubtract
    assert model.get_submodule("lif").neurons.spike_fn is sa.SingleSpike
    several = built(line(spikes_per_step=3), "sinabs").module()
    assert several.get_submodule("lif").neurons.spike_fn == sa.MaxSpike(3)


@pytest.mark.parametrize("comparison", [">", ">="])
@pytest.mark.parametrize("detach", [None, True, False])
@pytest.mark.parametrize("reset", ["value", "subtract"])
def test_every_way_to_reset(reset: str, detach: bool | None, comparison: str) -> None:
    metadata = {} if detach is None else {"detach_reset": detach}
    for v_reset, leak in ((0.0, 0.0), (0.1, 0.0), (-0.3, 0.2)):
        fields = {"v_reset": np.full(3, v_reset), "v_leak": np.full(3, leak), "metadata": metadata}
        for most in (1, None):
            graph = line(reset=reset, comparison=comparison, spikes_per_step=most, **fields)
            assert same_everywhere(graph, "sinabs", steps=30) > 20


def test_thresholds_that_sinabs_s_gradient_divides_by() -> None:
    """At 0 and below sinabs's own surrogate gradient is infinite or negative; the emitted one is not."""
    for level in (0.0, -0.2):
        graph = line(v_threshold=np.full(3, level), v_reset=np.full(3, -0.5), reset="value")
        same_everywhere(graph, "sinabs", steps=20)
        model = built(graph, "sinabs").module()
        x = torch.randn(10, 2, 3, requires_grad=True)
        model(x).sum().backward()
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()
        assert float(x.grad.abs().max()) > 1e-3


def test_all_violations_come_at_once() -> None:
    graph = line(spikes_per_step=None, membrane_floor=0.2, v_threshold=np.array([0.1, -0.5, 1.0]))
    graph = replace(graph, ops={**graph.ops, "sum": ops.I(r=np.full(3, 1.0))})
    edges = (*(e for e in graph.edges if e.target != "output"), ("if", "sum"), ("sum", "output"))
    graph = Graph(graph.ops, edges, graph.semantics).verify()  # type: ignore[arg-type]
    with pytest.raises(CompileError) as caught:
        snnir.compile(graph, "sinabs")
    found = {(v.rule, v.where) for v in caught.value.violations}
    assert found == {(rule, n) for rule in ("sinabs-spikes", "sinabs-floor") for n in ("lif", "cuba", "if")} | {
        ("sinabs-floor", "sum")
    }
    low = line(membrane_floor=-0.2, reset="value", v_reset=np.full(3, -0.5))
    with pytest.raises(CompileError, match=r"resets to -0\.5.*bounds membranes"):
        snnir.compile(low, "sinabs")


@pytest.mark.parametrize("most", [1, None])
def test_neuron_parameters_can_be_trained_and_come_back(most: int | None) -> None:
    """Every parameter of a neuron made an nn.Parameter: finite gradients, and the state dict stays the graph's."""
    graph = line(spikes_per_step=most, v_leak=np.full(3, 0.1), comparison=">", gain="unit")
    model = built(graph, "sinabs").module(torch.float64)
    keys = set(model.state_dict())
    for name, buffer in list(model.named_buffers()):
        layer, _, field = name.rpartition(".")
        if field in ("tau", "tau_mem", "tau_syn", "v_threshold", "r", "v_leak", "w_in"):
            setattr(model.get_submodule(layer), field, nn.Parameter(buffer))
    x = torch.from_numpy(inputs_for(graph, T=30, B=4, rng=1)["input"])
    model(x).sum().backward()
    assert set(model.state_dict()) == keys
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1.3
        got = model(x).numpy()
    trained = graph.with_weights(model.state_dict())
    np.testing.assert_allclose(interpret(trained, x.numpy()), got, atol=1e-9)
    assert not np.array_equal(got, interpret(graph, x.numpy()))


def test_sinabs_s_own_tools_do_no_harm() -> None:
    """sinabs.reset_states, zero_grad and copies leave the parameters alone; a call starts at rest all the same."""
    graph = line()
    model = built(graph, "sinabs").module()
    x = torch.randn(20, 2, 3).abs()
    before = model(x)
    before.sum().backward() if before.requires_grad else None
    twin = copy.deepcopy(model)
    sinabs.reset_states(model)
    sinabs.zero_grad(model)
    torch.testing.assert_close(model(x), before, rtol=0, atol=0)
    torch.testing.assert_close(twin(torch.cat([x, x], 1))[:, :2], before, rtol=0, atol=0)
    assert float(before.sum()) > 20
    assert "LIF(" in repr(model)


def test_a_large_time_constant_keeps_its_gain() -> None:
    """norm_input=True would make the gain of 1 - alpha_mem, of which nothing is left here."""
    lif = ops.LIF(tau=np.float64(1e9), r=1e12, v_threshold=np.float64(0.5))
    graph = chain(ops.Input(shape=(3,)), ("n", lif), ops.Output(), semantics=MEANT.with_(spikes_per_step=1))
    assert same_everywhere(graph, "sinabs", steps=30) > 20


def test_fsddim_on_sinabs_s_own_layers() -> None:
    """Hard reset to 0, a strict threshold, v = 0.8 v + I, a triangle: functions that sinabs's LIF takes."""
    graph = snnir.load(fsddim.build("digits"))
    artifact = built(graph, "sinabs")
    there = {n for n, op in graph.ops.items() if isinstance(op, ops.LIF)}
    assert {n for n, uses in artifact.report["framework layers"].items() if uses == "sl.LIF"} == there
    assert artifact.report["own cells"] == {}
    assert same_everywhere(graph, "sinabs", steps=4, batch=1) > 500


def test_a_late_subtraction_needs_a_membrane_that_lasts() -> None:
    """The threshold is subtracted at once, divided by the step's decay."""
    steps = {tau: Semantics(dt=DT, reset="delayed-subtract", comparison=">=") for tau in (1.0, 1.001, 0.5, 4.0)}
    for tau, semantics in steps.items():
        lif = ops.LIF(tau=np.full(3, tau * DT), r=np.float64(2.0), v_threshold=np.full(3, 0.6))
        graph = chain(ops.Input(shape=(3,)), ("n", lif), ops.Output(), semantics=semantics)
        if tau == 1.0:
            with pytest.raises(CompileError, match="nothing of its membrane is left"):
                snnir.compile(graph, "sinabs")
        else:
            assert same_everywhere(graph, "sinabs", steps=40, batch=3) > 20
    bounded = replace(graph, semantics=semantics.with_(membrane_floor=-1.0))
    with pytest.raises(CompileError, match="a threshold is subtracted in the next step"):
        snnir.compile(bounded, "sinabs")


def test_semantics_that_are_not_sinabs_s_are_refused_with_a_reason() -> None:
    graph = line()
    for name, value in {"order": "membrane-first", "latency_neuron": 1, "reset": "held-subtract"}.items():
        other = replace(graph, semantics=Semantics(dt=DT, **{name: value}))  # type: ignore[arg-type]
        with pytest.raises(CompileError, match=str(value)):
            snnir.compile(other, "sinabs")
