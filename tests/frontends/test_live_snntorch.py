"""Live modules of snnTorch: the graph computes what snnTorch's own forward() computes, whatever its reset."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from snntorch import surrogate, utils
from torch import nn

import snnir
from snnir import CompileError
from tests.frontends.live import DT, Double, agree, heaviside, louder, noise, run_on

pytestmark = pytest.mark.oracle
MECHANISMS = ("subtract", "zero", "none")


def layer(kind: str, n: int = 6, **options: Any) -> nn.Module:
    given: dict[str, Any] = {"init_hidden": True, "threshold": 0.7, "spike_grad": heaviside, **options}
    beta = torch.rand(n)
    if kind == "Leaky":
        return snn.Leaky(beta, **given)
    if kind == "Synaptic":
        return snn.Synaptic(torch.rand(n), beta, **given)
    if kind == "RLeaky":
        return snn.RLeaky(beta, linear_features=n, **given)
    if kind == "RLeaky one to one":
        return snn.RLeaky(beta, V=torch.rand(n) - 0.5, all_to_all=False, **given)
    return snn.RSynaptic(torch.rand(n), beta, linear_features=n, **given)


def run(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    utils.reset(net)
    for module in net.modules():
        if isinstance(module, snn.SpikingNeuron):
            module.reset_mem()
    with torch.no_grad():
        return torch.stack([net(step) for step in x])


KINDS = ("Leaky", "Synaptic", "RLeaky", "RLeaky one to one", "RSynaptic")


@pytest.mark.parametrize("delay", [True, False])
@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_and_reset_of_snntorch(kind: str, mechanism: str, delay: bool) -> None:
    torch.manual_seed(2)
    options = {"reset_mechanism": mechanism, "reset_delay": delay}
    net = louder(nn.Sequential(nn.Linear(5, 6), layer(kind, **options), nn.Linear(6, 4)))
    if kind == "RSynaptic" and not delay:
        with pytest.raises(CompileError, match="itself fails on RSynaptic"):
            snnir.load(net, dt=DT)
        return
    graph = snnir.load(net, dt=DT)
    x = noise(5)
    assert float(run(net[:2], x).sum()) > 30
    assert agree(graph, x, run(net, x)) > 10


def test_a_membrane_left_above_the_threshold_is_read_as_snntorch_reads_it() -> None:
    """snn.Leaky(reset_delay=False) after an input of several thresholds: neither a plain subtraction nor a late one."""
    net = nn.Sequential(
        snn.Leaky(0.9, threshold=1.0, init_hidden=True, reset_delay=False, spike_grad=heaviside)
    ).double()
    x = torch.zeros(12, 1, 1, dtype=torch.float64)
    x[0], x[3] = 3.6, 2.6
    graph = snnir.load(net, dt=DT, input_shape=(1,))
    assert graph.semantics.reset == "held-subtract"
    want = run(net, x).numpy()
    np.testing.assert_array_equal(snnir.interpret(graph, x.numpy()), want)
    others = [
        snnir.interpret(graph, x.numpy(), graph.semantics.with_(reset=r)) for r in ("subtract", "delayed-subtract")
    ]
    assert [float(np.abs(other - want).sum()) > 0 for other in others] == [True, True]


def test_float32_spikes_of_snntorch_are_equal() -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"init_hidden": True, "reset_mechanism": "subtract"}
    net = nn.Sequential(
        nn.Linear(5, 20), snn.Leaky(0.9, **options), nn.Linear(20, 20), snn.Synaptic(0.8, 0.95, **options)
    )
    x = torch.randn(50, 4, 5) * 4
    out = run(net, x)
    np.testing.assert_array_equal(snnir.interpret(snnir.load(net, dt=DT), x.numpy()), out.numpy())
    assert 100 < float(out.sum()) < 3000


def test_a_convolutional_net_of_snntorch() -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"init_hidden": True, "threshold": 0.8}
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        snn.Leaky(torch.rand(4, 1, 1), **options),
        Double(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 3, 3, stride=2, padding=(1, 0)),
        snn.RLeaky(0.7, conv2d_channels=3, kernel_size=3, spike_grad=heaviside, **options),
        Double(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(18, 5),
        snn.Leaky(0.9, output=True, **options),
    )
    louder(net)
    graph = snnir.load(net, dt=DT, input_shape=(2, 10, 10))
    x = noise(2, 10, 10, steps=15, batch=2)
    utils.reset(net)
    with torch.no_grad():
        want = torch.stack([net(step)[0] for step in x])
    assert agree(graph, x, want) > 20


class Step(nn.Module):
    """One step, membranes handed through, as snnTorch's tutorials write the body of their loop."""

    def __init__(self, mechanism: str) -> None:
        super().__init__()
        self.hidden = nn.Linear(5, 6)
        self.lif1 = snn.Leaky(
            0.8, reset_mechanism=mechanism, spike_grad=heaviside, learn_beta=True, learn_threshold=True
        )
        self.out = nn.Linear(6, 3)
        self.lif2 = snn.Leaky(0.9, reset_mechanism="none", spike_grad=heaviside)

    def forward(self, x: torch.Tensor, mem1: Any, mem2: Any) -> Any:
        spk1, mem1 = self.lif1(self.hidden(x), mem1)
        _, mem2 = self.lif2(self.out(spk1), mem2)
        return spk1, mem1, mem2


@pytest.mark.parametrize("mechanism", ["subtract", "zero"])
def test_a_step_of_snntorch_with_states_as_arguments(mechanism: str) -> None:
    """Membranes of neurons that spike are states; that of one that nothing resets is an output too."""
    torch.manual_seed(0)
    net = louder(Step(mechanism))
    graph = snnir.load(net, dt=DT)
    assert list(graph.outputs) == ["output_0", "output_1"]
    x = noise(5)
    mem1, mem2 = torch.zeros(3, 6, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    spikes, membranes = [], []
    with torch.no_grad():
        for step in x:
            spk, mem1, mem2 = net(step, mem1, mem2)
            spikes.append(spk)
            membranes.append(mem2)
    got = snnir.interpret(graph, x.numpy())
    np.testing.assert_array_equal(got["output_0"], torch.stack(spikes).numpy())
    np.testing.assert_allclose(got["output_1"], torch.stack(membranes).numpy(), rtol=1e-9, atol=1e-9)
    assert float(torch.stack(spikes).sum()) > 50
    assert f"test_live_snntorch.py:{Step.forward.__code__.co_firstlineno + 1}" in str(graph["lif1"].loc)


def test_learned_factors_and_graded_spikes_of_snntorch() -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"init_hidden": True, "spike_grad": heaviside, "reset_delay": False}
    graded = snn.Leaky(1.4, graded_spikes_factor=0.5, learn_beta=True, reset_mechanism="zero", **options)
    net = louder(
        nn.Sequential(nn.Linear(5, 6), graded, nn.Linear(6, 4), snn.Leaky(-0.3, reset_mechanism="zero", **options))
    )
    graph = snnir.load(net, dt=DT)
    assert type(graph["1.neuron"]).__name__ == "IF"  # a beta above 1 is clamped to 1
    assert type(graph["3"]).__name__ == "LIF"
    x = noise(5)
    assert agree(graph, x, run(net, x)) >= 2
    assert float(run(net[:2], x).sum()) > 20


@settings(max_examples=20)
@given(
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=3),
    st.sampled_from([(m, d) for m in MECHANISMS for d in (True, False)]),
    st.integers(0, 99),
)
def test_random_nets_of_snntorch(kinds: list[str], reset: tuple[str, bool], seed: int) -> None:
    torch.manual_seed(seed)
    options = {"reset_mechanism": reset[0], "reset_delay": reset[1], "threshold": 0.2 + torch.rand(6)}
    kinds = [k if reset[1] or k != "RSynaptic" else "RLeaky" for k in kinds]
    layers: list[nn.Module] = [nn.Linear(5, 6)]
    for kind in kinds:
        layers += [layer(kind, **options), nn.Linear(6, 6)]
    net = louder(nn.Sequential(*layers))
    x = noise(5, steps=20)
    agree(snnir.load(net, dt=DT), x, run(net, x))


@pytest.mark.parametrize("target", ["torch", "norse", "snntorch"])
@pytest.mark.parametrize("kind", KINDS)
def test_snntorch_goes_to_targets(kind: str, target: str) -> None:
    """Round trip to snnTorch for both its resets, and what resets at once to the others too."""
    torch.manual_seed(3)
    own = [("subtract", True), ("zero", True), ("subtract", False)]
    for mechanism, late in own if target == "snntorch" else [("zero", False)]:
        if kind == "RSynaptic" and not late:
            continue
        options = {"reset_mechanism": mechanism, "reset_delay": late}
        net = louder(nn.Sequential(nn.Linear(5, 6), layer(kind, **options), nn.Linear(6, 6), layer("Leaky", **options)))
        graph = snnir.load(net, dt=DT)
        x = noise(5)
        want = run(net, x).numpy()
        np.testing.assert_array_equal(run_on(graph, target, x), want)
        assert want.sum() > 10
        np.testing.assert_array_equal(graph["0"].weight, net[0].weight.detach().numpy())


class Tutorial(nn.Module):
    """The loop that snnTorch's tutorials have in forward()."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(5, 6), snn.Leaky(0.9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mem, out = self.lif.init_leaky(), []
        for step in range(x.size(0)):
            spk, mem = self.lif(self.fc(x[step]), mem)
            out.append(spk)
        return torch.stack(out)


class Fresh(Tutorial):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spk, _ = self.lif(self.fc(x), self.lif.init_leaky())
        return spk


class Membrane(Tutorial):
    def forward(self, x: torch.Tensor, mem: Any = None) -> Any:
        _, mem = self.lif(self.fc(x), mem)
        return mem * 2


HIDDEN: dict[str, Any] = {"init_hidden": True}


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Tutorial(), "the shape of the input 'x' is not known"),
        (Fresh(), "makes the state of snntorch's Leaky anew"),
        (Membrane(), "computes with the state of lif"),
        (nn.Sequential(nn.Linear(5, 6), snn.Leaky(0.9)), None),
        (nn.Sequential(nn.Linear(5, 6), snn.Leaky(0.9), nn.Linear(6, 6)), "called with something else than one tensor"),
        (nn.Sequential(nn.Linear(5, 6), snn.Leaky(0.9), snn.Leaky(0.9)), "gets an output and a state as its input"),
        (nn.Sequential(nn.Linear(5, 6), snn.Leaky(0.9, inhibition=True, **HIDDEN)), "inhibition=True"),
        (nn.Sequential(nn.Linear(5, 6), snn.Leaky(0.9, state_quant=torch.round, **HIDDEN)), "state_quant"),
        (nn.Sequential(nn.Linear(5, 6), snn.Leaky(0.9, threshold=-1.0, **HIDDEN)), "resets before the first spike"),
        (nn.Sequential(nn.Linear(5, 6), snn.Leaky(0.9, spike_grad=torch.sigmoid, **HIDDEN)), "is no step from 0 to 1"),
        (nn.Sequential(nn.Linear(5, 6), snn.Alpha(0.9, 0.8, **HIDDEN)), "Alpha is a layer of snntorch"),
        (nn.Sequential(nn.Linear(5, 6), snn.Lapicque(0.9, **HIDDEN)), "Lapicque is a layer of snntorch"),
    ],
)
@pytest.mark.filterwarnings("ignore:Inhibition")
def test_what_snntorch_cannot_mean_is_refused(net: nn.Module, message: str | None) -> None:
    if message is None:  # (spikes, membrane) at the end: the membrane is a state
        assert snnir.load(net, dt=DT).outputs == ("output",)
        return
    with pytest.raises(CompileError) as caught:
        snnir.load(net, dt=DT)
    assert message in str(caught.value)


def test_faults_of_snntorch_layers_come_together_and_dt_is_asked_for() -> None:
    net = nn.Sequential(
        nn.Linear(5, 6),
        snn.Leaky(0.9, **HIDDEN),
        snn.Synaptic(0.9, 0.8, reset_mechanism="zero", **HIDDEN),
        snn.Alpha(0.9, 0.8, **HIDDEN),
    )
    with pytest.raises(CompileError) as caught:
        snnir.load(net)
    assert sorted(v.rule for v in caught.value.violations) == ["semantics-conflict", "time-step", "trace-unsupported"]


def test_subclasses_count_while_they_change_nothing() -> None:
    class Named(snn.Leaky):
        pass

    class Other(snn.Leaky):
        def _base_sub(self, input_: torch.Tensor) -> torch.Tensor:
            return input_

    assert "1" in snnir.load(nn.Sequential(nn.Linear(5, 6), Named(0.9, **HIDDEN)), dt=DT)
    with pytest.raises(CompileError, match="it changes what Leaky computes"):
        snnir.load(nn.Sequential(nn.Linear(5, 6), Other(0.9, **HIDDEN)), dt=DT)


def test_surrogates_of_snntorch_fire_above_zero() -> None:
    for function in (
        surrogate.atan(),
        surrogate.fast_sigmoid(),
        surrogate.sigmoid(),
        surrogate.straight_through_estimator(),
    ):
        net = nn.Sequential(nn.Linear(2, 3), snn.Leaky(0.9, spike_grad=function, **HIDDEN))
        assert snnir.load(net, dt=DT).semantics.comparison == ">"


@pytest.mark.parametrize("target", ["torch", "norse", "snntorch", "rockpool", "spikingjelly"])
@pytest.mark.parametrize("mechanism", ["subtract", "zero"])
@pytest.mark.parametrize("delay", [True, False])
def test_a_network_of_snntorch_runs_as_it_does_there_elsewhere(target: str, mechanism: str, delay: bool) -> None:
    torch.manual_seed(2)
    options: dict[str, Any] = {"reset_mechanism": mechanism, "reset_delay": delay}
    kinds = [layer("Leaky", **options), nn.Linear(6, 6), layer("Synaptic", **options), nn.Linear(6, 6)]
    net = louder(nn.Sequential(nn.Linear(5, 6), *kinds, layer("RLeaky", **options), nn.Linear(6, 4)))
    x = noise(5)
    want = run(net, x)
    assert float(want.abs().sum()) > 10
    np.testing.assert_allclose(run_on(snnir.load(net, dt=DT), target, x), want.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("target", ["sinabs", "onnx", "xylo-audio3", "lava"])
def test_a_subtraction_that_holds_is_refused_where_nothing_does_it(target: str) -> None:
    net = nn.Sequential(nn.Linear(5, 6), snn.Leaky(0.5, reset_delay=False, **HIDDEN), nn.Linear(6, 2))
    graph = snnir.load(nn.Sequential(*net, snn.Leaky(0.5, reset_delay=False, **HIDDEN)), dt=DT)
    with pytest.raises(CompileError) as caught:
        snnir.compile(graph, target)
    assert any(v.rule.endswith("-reset") for v in caught.value.violations)
