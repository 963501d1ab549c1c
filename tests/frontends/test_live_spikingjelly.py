"""Live modules of SpikingJelly: the graph computes what SpikingJelly's own forward() computes, in both step modes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

import snnir
from snnir import CompileError
from tests.frontends.live import DT, agree, louder, noise, run_on

pytestmark = pytest.mark.oracle
KINDS = ("IFNode", "LIFNode", "LIFNode full", "ParametricLIFNode", "ParametricLIFNode full")


def node(kind: str, mode: str, v_reset: float | None = 0.0, **options: Any) -> nn.Module:
    given: dict[str, Any] = {"v_threshold": 0.6, "v_reset": v_reset, "step_mode": mode, **options}
    if kind == "IFNode":
        return neuron.IFNode(**given)
    if kind.startswith("LIFNode"):
        return neuron.LIFNode(3.0, decay_input="full" not in kind, **given)
    return neuron.ParametricLIFNode(2.5, decay_input="full" not in kind, **given)


def run(net: nn.Module, x: torch.Tensor, mode: str) -> torch.Tensor:
    functional.reset_net(net)
    with torch.no_grad():
        return net(x) if mode == "m" else torch.stack([net(step) for step in x])


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("v_reset", [0.0, None, -0.4])
@pytest.mark.parametrize("kind", KINDS)
def test_every_node_and_reset_of_spikingjelly(kind: str, v_reset: float | None, mode: str) -> None:
    torch.manual_seed(0)
    net = louder(nn.Sequential(layer.Linear(5, 6, step_mode=mode), node(kind, mode, v_reset), layer.Linear(6, 4)))
    graph = snnir.load(net, dt=DT)
    assert graph.semantics.comparison == ">="
    assert graph.semantics.reset == ("subtract" if v_reset is None else "value")
    x = noise(5)
    assert float(run(net[:2], x, mode).sum()) > 30
    assert agree(graph, x, run(net, x, mode)) > 10


@settings(max_examples=20)
@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4), st.sampled_from([None, 0.0, 0.2]), st.integers(0, 99))
def test_random_nets_of_spikingjelly_mix_both_ways_to_take_an_input(
    kinds: list[str], v_reset: float | None, seed: int
) -> None:
    torch.manual_seed(seed)
    mode = "sm"[seed % 2]
    layers: list[nn.Module] = [nn.Linear(5, 6)]
    for kind in kinds:
        layers += [node(kind, mode, v_reset, v_threshold=0.3 + 0.1 * len(layers)), nn.Linear(6, 6)]
    net = louder(nn.Sequential(*layers))
    x = noise(5, steps=20)
    agree(snnir.load(net, dt=DT), x, run(net, x, mode))


def test_a_convolutional_net_of_spikingjelly() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1, bias=False, step_mode="m"),
        layer.BatchNorm2d(4, step_mode="m"),
        node("IFNode", "m"),
        layer.AvgPool2d(2, 2, step_mode="m"),
        layer.SeqToANNContainer(nn.Conv2d(4, 3, 3, stride=2, padding=(1, 0)), nn.BatchNorm2d(3)),
        node("LIFNode", "m"),
        layer.Dropout(step_mode="m"),
        layer.Flatten(step_mode="m"),
        layer.Linear(18, 20, step_mode="m"),
        layer.MultiStepContainer(node("IFNode", "s"), nn.Linear(20, 20, bias=False), node("LIFNode", "s")),
        layer.VotingLayer(5, step_mode="m"),
    )
    for norm in (net[1], net[4][1]):
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.data.uniform_(0.3, 1.2)
    louder(net, 8.0)
    graph = snnir.load(net, dt=DT, input_shape=(2, 10, 10))
    x = noise(2, 10, 10, steps=15, batch=2)
    assert agree(graph, x, run(net, x, "m")) > 20


def test_single_step_layers_of_spikingjelly_and_tdbn() -> None:
    torch.manual_seed(0)
    single = nn.Sequential(
        layer.Conv2d(1, 3, 3), layer.BatchNorm2d(3), node("LIFNode", "s"), layer.Flatten(), layer.Linear(48, 5)
    )
    louder(single)
    x = noise(1, 6, 6, steps=12)
    assert agree(snnir.load(single, dt=DT, input_shape=(1, 6, 6)), x, run(single, x, "s")) > 20

    norm = layer.ThresholdDependentBatchNorm2d(1.0, 0.5, 3)
    norm.weight.data.uniform_(0.3, 1.0)
    norm.running_var.uniform_(0.3, 1.0)
    net = louder(nn.Sequential(layer.Conv2d(1, 3, 3, step_mode="m"), norm, node("IFNode", "m")))
    assert agree(snnir.load(net, dt=DT, input_shape=(1, 6, 6)), x, run(net, x, "m")) > 20


def test_feedback_delays_and_step_modes_of_spikingjelly() -> None:
    torch.manual_seed(0)
    net = louder(
        nn.Sequential(
            layer.LinearRecurrentContainer(node("IFNode", "s"), 5, 5, step_mode="m"),
            layer.Delay(2, step_mode="m"),
            layer.ElementWiseRecurrentContainer(node("LIFNode", "s"), lambda y, x: x - 0.5 * y, step_mode="m"),
            layer.StepModeContainer(True, "m", nn.Linear(5, 4), node("IFNode", "s")),
        )
    )
    graph = snnir.load(net, dt=DT)
    x = noise(5)
    assert agree(graph, x, run(net, x, "m")) > 10


def test_a_readout_of_spikingjelly_that_does_not_spike() -> None:
    torch.manual_seed(0)
    mean = neuron.NonSpikingLIFNode(2.5, decode="mean-mem")
    net = louder(nn.Sequential(layer.Linear(5, 6, step_mode="m"), node("LIFNode", "m"), nn.Linear(6, 3), mean))
    x = noise(5)
    graph = snnir.load(net, dt=DT, example_input=x)
    got = snnir.interpret(graph, x.numpy())
    np.testing.assert_allclose(got[0], run(net, x, "m").numpy(), rtol=1e-9, atol=1e-9)


def test_float32_spikes_of_spikingjelly_are_equal() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 20), node("LIFNode", "m"), nn.Linear(20, 20), node("ParametricLIFNode", "m"))
    net[2].weight.data.mul_(8)
    x = torch.randn(50, 4, 5) * 8
    out = run(net, x, "m")
    np.testing.assert_array_equal(snnir.interpret(snnir.load(net, dt=DT), x.numpy()), out.numpy())
    assert 100 < float(out.sum()) < 3000


@pytest.mark.parametrize("target", ["torch", "norse", "snntorch"])
@pytest.mark.parametrize("v_reset", [0.0, None])
def test_spikingjelly_goes_to_targets(v_reset: float | None, target: str) -> None:
    torch.manual_seed(3)
    net = louder(
        nn.Sequential(nn.Linear(5, 6), node("LIFNode", "m", v_reset), nn.Linear(6, 6), node("IFNode", "m", v_reset))
    )
    graph = snnir.load(net, dt=DT)
    x = noise(5)
    want = run(net, x, "m").numpy()
    np.testing.assert_array_equal(run_on(graph, target, x), want)
    assert want.sum() > 20
    np.testing.assert_array_equal(graph["2"].weight, net[2].weight.detach().numpy())


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            nn.Sequential(nn.Linear(5, 4), neuron.LIFNode(), neuron.LIFNode(step_mode="m")),
            "takes (T, B, ...), but (B, ...)",
        ),
        (nn.Sequential(nn.Linear(5, 4), neuron.QIFNode()), "QIFNode is a layer of spikingjelly"),
        (nn.Sequential(nn.Linear(5, 4), neuron.OTTTLIFNode()), "OTTTLIFNode is a layer of spikingjelly"),
        (nn.Sequential(nn.Linear(5, 4), layer.SynapseFilter()), "SynapseFilter is a layer of spikingjelly"),
        (nn.Sequential(nn.Linear(5, 4), neuron.NonSpikingLIFNode(decode="last_mem")), "which picks a step"),
        (
            nn.Sequential(nn.Linear(5, 4), neuron.LIFNode(surrogate_function=surrogate.Sigmoid(spiking=False))),
            "is no step from 0 to 1",
        ),
        (nn.Sequential(nn.Conv2d(1, 1, 1), neuron.LIFNode(step_mode="m")), "takes no time axis"),
        (
            nn.Sequential(layer.Conv2d(1, 1, 1, step_mode="m"), nn.Flatten(), neuron.IFNode(step_mode="m")),
            "leading axes",
        ),
        (nn.Sequential(layer.MaxPool2d(2), neuron.IFNode()), "MaxPool2d is a layer of spikingjelly"),
    ],
)
def test_what_spikingjelly_cannot_mean_is_refused(net: nn.Module, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        snnir.load(net, dt=DT, input_shape=(1, 4, 4) if "Conv2d" in str(net) or "Pool" in str(net) else (5,))
    assert message in str(caught.value)
