"""The SpikingJelly target: SpikingJelly's own nodes, on its kernels where it has them; and there and back again."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

import snnir
from snnir import ops
from snnir.errors import CompileError
from snnir.graph import Graph, chain
from snnir.interpreter import interpret
from snnir.models import fsddim
from snnir.semantics import Semantics
from tests.backends.family import built, same_everywhere
from tests.frontends.live import DT, noise
from tests.strategies import inputs_for

pytestmark = pytest.mark.oracle
MEANT = snnir.semantics_of("spikingjelly", reset="value", dt=DT)
KINDS = ("IFNode", "LIFNode", "LIFNode full", "ParametricLIFNode", "ParametricLIFNode full")


def node(kind: str, v_reset: float | None, **options: Any) -> nn.Module:
    given: dict[str, Any] = {"v_threshold": 0.6, "v_reset": v_reset, "step_mode": "m", **options}
    if kind == "IFNode":
        return neuron.IFNode(**given)
    if kind.startswith("LIFNode"):
        return neuron.LIFNode(3.0, decay_input="full" not in kind, **given)
    return neuron.ParametricLIFNode(2.5, decay_input="full" not in kind, **given)


def theirs(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    functional.reset_net(net)
    return net(x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("v_reset", [0.0, None, -0.4])
@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_again(kind: str, v_reset: float | None, dtype: torch.dtype) -> None:
    """Nodes as a graph as nodes: the same weights, spikes and gradients; in float32 by SpikingJelly's kernels."""
    torch.manual_seed(0)
    net = nn.Sequential(layer.Linear(5, 6, step_mode="m"), node(kind, v_reset), layer.Linear(6, 4)).to(dtype)
    for weights in (net[0].weight, net[2].weight):
        weights.data.mul_(3.0)
    x = noise(5).to(dtype)
    graph = snnir.load(net, dt=DT)
    artifact = built(graph, "spikingjelly")
    assert artifact.report["own cells"] == {}
    model = artifact.module(dtype)
    given, wanted = model(x), theirs(net, x)
    assert float(theirs(net[:2], x).detach().sum()) > 30
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-4}[dtype]
    torch.testing.assert_close(given, wanted, rtol=tolerance, atol=tolerance)
    for name in ("0", "2"):
        for field in ("weight", "bias"):
            np.testing.assert_array_equal(graph.weights()[f"{name}.{field}"], net.state_dict()[f"{name}.{field}"])
    for y in (given, wanted):
        (y * torch.linspace(-1, 1, 4)).sum().backward()
    (ours,) = (p.grad for p in model.parameters() if p.shape == (6, 5))
    scale = float(net[0].weight.grad.abs().max())
    assert scale > 1e-3
    torch.testing.assert_close(
        ours, net[0].weight.grad, rtol=0, atol=(1e-9 if dtype == torch.float64 else 1e-4) * scale
    )


def line(*more: tuple[str, ops.Op], **fields: Any) -> Graph:
    """LIF, CubaLIF and IF one after the other, then `more`."""
    semantics = {key: fields.pop(key) for key in list(fields) if hasattr(MEANT, key)}
    at = {"v_threshold": np.full(3, 0.5), **fields}
    bare = {key: value for key, value in at.items() if key != "v_leak"}
    made = [
        ops.Input(shape=(3,)),
        ("lif", ops.LIF(tau=np.full(3, 5e-3), r=2.0, **at)),
        ("cuba", ops.CubaLIF(tau_syn=np.full(3, 4e-3), tau_mem=np.full(3, 5e-3), w_in=2.0, r=2.0, **at)),
        ("if", ops.IF(r=np.full(3, 300.0), **bare)),
        *more,
        ops.Output(),
    ]
    return chain(*made, semantics=MEANT.with_(**semantics))


def test_layers_are_spikingjelly_s() -> None:
    li = ops.LI(tau=np.full(3, 5e-3))
    artifact = built(line(("li", li)), "spikingjelly")
    assert artifact.report["framework layers"] == {
        "lif": "neuron.LIFNode",
        "cuba": "neuron.CUBALIFNode",
        "if": "neuron.IFNode",
        "li": "neuron.NonSpikingLIFNode",
    }
    nodes = [m for m in artifact.module().modules() if isinstance(m, (neuron.BaseNode, neuron.NonSpikingLIFNode))]
    assert [type(m) for m in nodes] == [
        neuron.LIFNode,
        neuron.CUBALIFNode,
        neuron.IFNode,
        neuron.NonSpikingLIFNode,
    ]
    assert all(type(m.surrogate_function) is surrogate.Sigmoid for m in nodes[:3])
    leaking = built(line(v_leak=np.full(3, 0.2)), "spikingjelly").report["framework layers"]
    assert (leaking["lif"], leaking["cuba"]) == ("neuron.LIFNode", "neuron.LIFNode")


def test_one_number_for_all_neurons_runs_on_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """SpikingJelly's operators take numbers and surrogate functions that it knows; for others its plain code runs."""
    import importlib

    lif = importlib.import_module("spikingjelly._ops.lif")
    used: list[tuple[Any, ...]] = []
    kernel = lif._forward

    def spy(*arguments: Any) -> Any:
        used.append(arguments)
        return kernel(*arguments)

    monkeypatch.setattr(lif, "_forward", spy)

    def spikes(comparison: str = ">=", reset: str = "value", train: bool = False, **fields: Any) -> float:
        op = ops.LIF(tau=np.full(3, 5e-3), r=2.0, v_threshold=np.full(3, 0.5)).with_(**fields)
        semantics = MEANT.with_(comparison=comparison, reset=reset)
        graph = chain(ops.Input(shape=(3,)), ("n", op), ops.Output(), semantics=semantics)
        model = built(graph, "spikingjelly").module()
        if train:
            model.n.tau = nn.Parameter(model.n.tau)
        x = torch.from_numpy(inputs_for(graph, T=20, B=2, rng=3)["input"]).float()
        used.clear()
        y = model(x)
        np.testing.assert_array_equal(y.detach().numpy(), interpret(graph, x.numpy()))
        if train:
            y.sum().backward()
            assert float(model.n.tau.grad.abs().sum()) > 0
        return float(y.detach().sum())

    for comparison, reset in ((">=", "value"), (">=", "subtract"), (">", "value")):
        assert spikes(comparison, reset) > 5
        assert len(used) == 1
        assert all(isinstance(used[0][i], float) for i in (2, 4))
    assert spikes(">", "subtract") > 5  # a surrogate function of the file's
    assert used == []
    assert spikes(tau=np.array([4e-3, 5e-3, 6e-3])) > 5
    assert used == []
    assert spikes(train=True) > 5
    assert used == []


@pytest.mark.parametrize("comparison", [">", ">="])
@pytest.mark.parametrize("detach", [None, True, False])
@pytest.mark.parametrize("reset", ["value", "subtract"])
def test_every_way_to_reset_and_to_leak(reset: str, detach: bool | None, comparison: str) -> None:
    metadata = {} if detach is None else {"detach_reset": detach}
    for v_reset, leak in ((0.0, 0.0), (0.1, 0.0), (0.2, 0.2), (-0.3, 0.2)):
        fields = {"v_reset": np.full(3, v_reset), "v_leak": np.full(3, leak), "metadata": metadata}
        for gain in ("ode", "unit"):
            for decay in ("euler", "exponential"):
                graph = line(reset=reset, comparison=comparison, gain=gain, decay=decay, **fields)
                assert same_everywhere(graph, "spikingjelly", steps=30) > 20


def test_membranes_that_do_not_spike() -> None:
    """NonSpikingLIFNode starts at 0: another start goes onto its output, another leak into its input."""
    li = ops.LI(tau=np.array([2e-3, 5e-3, 0.7e-3]), r=1.5, v_leak=np.full(3, 0.3))
    cuba = ops.CubaLI(tau_syn=np.full(3, 3e-3), tau_mem=np.full(3, 5e-3), r=1.5, w_in=0.7, v_leak=np.full(3, 0.3))
    for op in (li, cuba):
        for start in ("rest", "zero"):
            for gain in ("ode", "unit"):
                for decay in ("euler", "exponential"):
                    graph = line(("m", op), start=start, gain=gain, decay=decay)
                    same_everywhere(graph, "spikingjelly", steps=20)
                    assert "NonSpikingLIFNode" in built(graph, "spikingjelly").report["framework layers"]["m"]


def test_why_a_neuron_is_written_out() -> None:
    fast = built(line(v_threshold=np.full(3, 0.5), decay="euler"), "spikingjelly")
    assert fast.report["own cells"] == {}
    lif = ops.LIF(tau=np.full(3, 1e-3), v_threshold=np.full(3, 0.5))
    graph = chain(ops.Input(shape=(3,)), ("n", lif), ops.Output(), semantics=MEANT)
    assert "tau above one step" in built(graph, "spikingjelly").report["own cells"]["n"]
    assert same_everywhere(graph, "spikingjelly", steps=20) > 5
    li = ops.LI(tau=np.full(3, 5e-3))
    nodes = {"input": ops.Input(shape=(3,)), "m": li, "w": ops.Scale(scale=np.full(3, 0.5)), "output": ops.Output()}
    loop = Graph(nodes, (("input", "m"), ("m", "w"), ("w", "m"), ("m", "output")), MEANT).verify()  # type: ignore[arg-type]
    assert "takes no state" in built(loop, "spikingjelly").report["own cells"]["m"]
    same_everywhere(loop, "spikingjelly", steps=20)
    total = chain(ops.Input(shape=(3,)), ("n", ops.I(r=np.full(3, 1.0))), ops.Output(), semantics=MEANT)
    assert "sum over time" in built(total, "spikingjelly").report["own cells"]["n"]


def test_a_large_time_constant_keeps_its_gain() -> None:
    lif = ops.LIF(tau=np.float64(1e9), r=1e12, v_threshold=np.float64(0.5))
    for decay in ("euler", "exponential"):
        graph = chain(ops.Input(shape=(3,)), ("n", lif), ops.Output(), semantics=MEANT.with_(decay=decay))
        assert same_everywhere(graph, "spikingjelly", steps=30) > 20


def test_neuron_parameters_can_be_trained_and_come_back() -> None:
    """Every parameter of a neuron made an nn.Parameter: finite gradients, and the state dict stays the graph's."""
    for gain in ("unit", "ode"):
        graph = line(v_leak=np.full(3, 0.1), comparison=">", gain=gain, reset="subtract")
        model = built(graph, "spikingjelly").module()
        keys = set(model.state_dict())
        for name, buffer in list(model.named_buffers()):
            where, _, field = name.rpartition(".")
            if field in ("tau", "tau_mem", "tau_syn", "v_threshold", "r", "v_leak", "w_in"):
                setattr(model.get_submodule(where), field, nn.Parameter(buffer))
        x = torch.from_numpy(inputs_for(graph, T=30, B=4, rng=1)["input"]).float()
        model(x).sum().backward()
        assert set(model.state_dict()) == keys
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter *= 1.5 if name.endswith("v_threshold") else 1.01
            got = model(x).numpy()
        trained = graph.with_weights(model.state_dict())
        assert np.mean(interpret(trained, x.numpy()) != got) < 0.01  # float32
        if gain == "ode":  # with inputs in full the last layer spikes always
            assert np.mean(interpret(graph, x.numpy()) != got) > 0.01


def test_parameters_that_the_source_takes_for_granted_cannot_change_unnoticed() -> None:
    model = built(line(), "spikingjelly").module()
    x = torch.randn(5, 2, 3)
    for key, value in (("lif.tau", 5e-4), ("lif.v_leak", 0.3), ("cuba.v_leak", 0.3)):
        state = model.state_dict()
        kept = state[key].clone()
        model.load_state_dict({**state, key: torch.full_like(kept, value)})
        with pytest.raises(ValueError, match="compile the network with these again"):
            model(x)
        model.load_state_dict({**state, key: kept})


def test_spikingjelly_s_own_tools_do_no_harm() -> None:
    model = built(line(), "spikingjelly").module()
    x = 2 * torch.randn(20, 2, 3).abs()
    before = model(x)
    functional.reset_net(model)
    functional.detach_net(model)
    twin = copy.deepcopy(model)
    torch.testing.assert_close(model(x), before, rtol=0, atol=0)
    torch.testing.assert_close(twin(torch.cat([x, x], 1))[:, :2], before, rtol=0, atol=0)
    assert float(before.sum()) > 5
    assert "LIFNode" in repr(model)


def test_fsddim_on_spikingjelly_s_own_nodes() -> None:
    """Hard reset to 0, a strict threshold, v = 0.8 v + I: LIFNode of tau 5 with decay_input=False, and its kernels."""
    graph = snnir.load(fsddim.build("digits"))
    artifact = built(graph, "spikingjelly")
    there = {n for n, op in graph.ops.items() if isinstance(op, ops.LIF)}
    assert {n for n, uses in artifact.report["framework layers"].items() if uses == "neuron.LIFNode"} == there
    assert artifact.report["own cells"] == {}
    assert same_everywhere(graph, "spikingjelly", steps=4, batch=1) > 500


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [("spikes_per_step", None, "spikes_per_step=None"), ("latency_neuron", 1, "latency_neuron=1")],
)  # which do not go together
def test_all_violations_come_at_once(field: str, value: Any, word: str) -> None:
    semantics = {"membrane_floor": -1.0, "decay": "shift", field: value}
    graph = replace(line(), semantics=Semantics(dt=DT, **semantics))
    with pytest.raises(CompileError) as caught:
        snnir.compile(graph, "spikingjelly")
    said = " ".join(v.what for v in caught.value.violations)
    assert all(name in said for name in (word, "membrane_floor=-1.0", "shift"))
