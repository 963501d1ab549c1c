"""The rockpool target: Rockpool's own layers where they compute the neuron, exact cells elsewhere; several spikes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rockpool.nn.modules.torch import ExpSynTorch, LIFBitshiftTorch, LIFNeuronTorch, LIFTorch, LinearTorch

import snnir
from snnir import ops
from snnir.errors import CompileError, UsageError
from snnir.graph import Graph, chain
from snnir.interpreter import interpret
from snnir.models import fsddim
from snnir.semantics import ROCKPOOL_SEMANTICS, Semantics
from tests.backends.family import built, same_everywhere
from tests.knots import knots
from tests.strategies import inputs_for, nir_graphs

pytestmark = pytest.mark.oracle
DT = 1e-3
MEANT = ROCKPOOL_SEMANTICS.with_(dt=DT)


def sloped(graph: Graph, **semantics: Any) -> Graph:
    """The graph under Rockpool's semantics, with thresholds that several spikes fit under."""
    return replace(graph, semantics=MEANT.with_(dt=graph.semantics.dt, **semantics))


@settings(max_examples=50)
@given(
    graph=st.one_of(nir_graphs(several_io=True), knots()),
    most=st.sampled_from([1, 2, 31, 2**16]),
    comparison=st.sampled_from([">", ">="]),
    decay=st.sampled_from(["exponential", "euler"]),
    gain=st.sampled_from(["unit", "ode"]),
    seed=st.integers(0, 1000),
)
def test_random_graphs_under_rockpools_semantics(
    graph: Graph, most: int, comparison: str, decay: str, gain: str, seed: int
) -> None:
    meant = sloped(graph, spikes_per_step=most, comparison=comparison, decay=decay, gain=gain)
    same_everywhere(meant, "rockpool", seed=seed)


@pytest.mark.parametrize("comparison", [">", ">="])
@pytest.mark.parametrize("most", [1, 31])
def test_a_membrane_of_very_many_thresholds_spikes(comparison: str, most: int) -> None:
    """Rockpool's own StepPWL counts in float32: at 3 x 2^24 thresholds and one spike at most it gives none."""
    one = np.ones(2)
    net = chain(
        ops.Input(shape=(2,)),
        ("w", ops.Linear(weight=np.array([[3.0 * 2**24, 0], [0, 1.0]]))),
        ("n", ops.LIF(tau=5 * DT * one, r=one, v_threshold=one)),
        ops.Output(),
        semantics=MEANT.with_(dt=DT, comparison=comparison, spikes_per_step=most),
    )
    artifact = built(net, "rockpool")
    x = {"input": np.ones((4, 1, 2))}
    outputs, _ = artifact.run(x, ())
    np.testing.assert_array_equal(outputs["output"], interpret(net, x))
    assert outputs["output"][0, 0, 0] == most


def random_net(seed: int, n: int = 8) -> Graph:
    """Weights, LIF or CubaLIF neurons of many parameters, weights, more neurons, an integrator that leaks."""
    rng = np.random.default_rng(seed)

    def each(low: float, high: float, size: int = n) -> np.ndarray[Any, Any]:
        return rng.uniform(low, high, size)

    def neurons() -> ops.Op:
        more = {"r": each(0.2, 1.0), "v_leak": each(-0.2, 0.4), "v_threshold": each(0.3, 1.2)}
        if rng.random() < 0.5:
            return ops.LIF(tau=each(2e-3, 2e-2), **more)
        return ops.CubaLIF(tau_mem=each(2e-3, 2e-2), tau_syn=each(1e-3, 8e-3), w_in=each(0.1, 0.5), **more)

    return chain(
        ops.Input(shape=(5,)),
        ("into", ops.Affine(weight=rng.normal(0.3, 0.5, (n, 5)), bias=each(-0.1, 0.1))),
        ("first", neurons()),
        ("across", ops.Linear(weight=rng.normal(0.15, 0.3, (n, n)))),
        ("second", neurons()),
        ("trace", ops.LI(tau=each(2e-3, 2e-2), r=each(0.5, 1.5), v_leak=each(-0.2, 0.2))),
        ops.Output(),
        semantics=MEANT,
    )


def by_hand(graph: Graph) -> list[Any]:
    """The net in Rockpool's own words, gains and leaks worked into what its layers have."""

    def tensor(value: Any) -> torch.Tensor:
        return torch.tensor(np.array(value), dtype=torch.float32)

    def scaled(gain: torch.Tensor, offset: torch.Tensor) -> Any:
        return lambda x: x * gain + offset

    layers: list[Any] = []
    nothing = torch.zeros(())
    for op in graph.ops.values():
        if isinstance(op, ops.Linear):
            bias = {"bias": tensor(op.bias), "has_bias": True} if isinstance(op, ops.Affine) else {}
            layers.append(LinearTorch(op.weight.shape[::-1], weight=tensor(op.weight.T), **bias))
        elif isinstance(op, (ops.LIF, ops.CubaLIF)):
            tau = op.tau_mem if isinstance(op, ops.CubaLIF) else op.tau
            bias = tensor((1 - np.exp(-DT / tau)) * op.v_leak)
            at: dict[str, Any] = {"bias": bias, "threshold": tensor(op.v_threshold), "tau_mem": tensor(tau), "dt": DT}
            if isinstance(op, ops.CubaLIF):
                gain = op.r * op.w_in / np.exp(-DT / op.tau_syn)
                layers += [scaled(tensor(gain), nothing), LIFTorch(8, tau_syn=tensor(op.tau_syn)[:, None], **at)]
            else:
                layers += [scaled(tensor(op.r), nothing), LIFNeuronTorch(8, **at)]
        elif isinstance(op, ops.LI):
            beta = np.exp(-DT / op.tau)
            layers.append(scaled(tensor(op.r / beta), tensor((1 - beta) * op.v_leak / beta)))
            layers.append(ExpSynTorch(8, tau=tensor(op.tau), dt=DT))
    return layers


@pytest.mark.parametrize("seed", range(10))
def test_interpreter_emitted_module_and_rockpool_agree(seed: int) -> None:
    graph = random_net(seed)
    assert same_everywhere(graph, "rockpool", steps=50) > 100
    artifact = built(graph, "rockpool")
    assert set(artifact.report["framework layers"]) == {"into", "first", "across", "second", "trace"}
    assert artifact.report["own cells"] == {}
    x = inputs_for(graph, T=50, B=3, rng=seed)["input"].astype(np.float32)
    expected, inner = interpret(graph, x, record=["first", "second"])
    got, seen = artifact.run({"input": x}, ("first", "second"))
    value, spikes = torch.from_numpy(x).transpose(0, 1), []
    with torch.no_grad():
        for layer in by_hand(graph):
            value = layer(value)
            value = value[0] if isinstance(value, tuple) else value
            if isinstance(layer, (LIFTorch, LIFNeuronTorch)):
                spikes.append(value.transpose(0, 1).numpy())
    for name, theirs in zip(("first", "second"), spikes, strict=True):
        np.testing.assert_array_equal(seen[name], inner[name])
        np.testing.assert_array_equal(theirs, inner[name])
    np.testing.assert_allclose(got["output"], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(value.transpose(0, 1).numpy(), expected, rtol=1e-4, atol=1e-4)
    assert inner["second"].max() > 1  # several spikes in a step


@pytest.mark.parametrize("seed", range(3))
def test_a_training_step_is_finite_and_comes_back(seed: int) -> None:
    """Weights, and time constants and thresholds that are made parameters."""
    graph = random_net(seed)
    model = built(graph, "rockpool").module()
    fields = ("tau", "tau_mem", "tau_syn", "v_threshold", "v_leak")
    for name, buffer in list(model.named_buffers()):
        layer, _, field = name.rpartition(".")
        if field in fields:
            setattr(model.get_submodule(layer), field, torch.nn.Parameter(buffer))
    x = torch.from_numpy(inputs_for(graph, T=40, B=4, rng=seed)["input"]).float()
    times = [p for name, p in model.named_parameters() if ".tau" in name]
    others = [p for name, p in model.named_parameters() if ".tau" not in name]
    optimiser = torch.optim.SGD([{"params": times, "lr": 1e-9}, {"params": others, "lr": 1e-5}])
    model(x).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name
    optimiser.step()
    trained = graph.with_weights(model.state_dict())
    assert not np.array_equal(trained["into"].weight, graph["into"].weight)  # type: ignore[attr-defined]
    assert not np.array_equal(trained["second"].v_threshold, graph["second"].v_threshold)  # type: ignore[attr-defined]
    with torch.no_grad():
        np.testing.assert_allclose(model(x).numpy(), interpret(trained, x.numpy()), rtol=1e-3, atol=1e-3)


def test_layers_are_rockpools() -> None:
    model = built(random_net(0), "rockpool").module()
    assert isinstance(model.into, LinearTorch)
    assert tuple(model.into.weight.shape) == (5, 8)  # as Rockpool has it
    assert tuple(model.state_dict()["into.weight"].shape) == (8, 5)  # as the graph has it
    kinds = {type(layer) for layer in model.modules()}
    assert {LIFTorch, LIFNeuronTorch, ExpSynTorch} & kinds


def test_bitshift_trains_with_the_decays_of_the_chip() -> None:
    """Time constants move to the nearest of 1 - 2^-dash where that is allowed; then LIFBitshiftTorch computes them."""
    graph = chain(
        ops.Input(shape=(4,)),
        ("fc", ops.Linear(weight=np.random.default_rng(0).normal(0.1, 0.2, (6, 4)))),
        ("n", ops.CubaLIF(tau_mem=np.full(6, 0.016), tau_syn=np.float64(0.006), w_in=np.exp(-1 / 6), v_threshold=1.0)),
        ("m", ops.LIF(tau=np.float64(0.02), v_threshold=np.ones(6))),
        ops.Output(),
        semantics=MEANT,
    )
    with pytest.raises(CompileError) as caught:
        snnir.compile(graph, "rockpool", bitshift=True)
    assert [(v.where, v.expected) for v in caught.value.violations] == [
        ("n", "tau_mem = 0.0154946 s"),
        ("n", "tau_syn = 0.00748888 s"),
        ("m", "tau = 0.0154946 s"),
    ]
    compiled = snnir.compile(graph, "rockpool", bitshift=True, allow=["approximate"])
    assert compiled.report["framework layers"] == {"fc": "LinearTorch", "n": "LIFBitshiftTorch", "m": "LIFNeuronTorch"}
    np.testing.assert_allclose(compiled.graph["n"].w_in, 1 - 2**-3)  # type: ignore[attr-defined]
    x = inputs_for(graph, T=60, B=3)["input"]
    expected = interpret(compiled.graph, x)
    assert expected.sum() > 50
    np.testing.assert_array_equal(compiled.run(x), expected)
    # What has such decays already is compiled as it is, and the layer is Rockpool's.
    again = snnir.compile(compiled.graph, "rockpool", bitshift=True)
    np.testing.assert_array_equal(again.run(x), expected)
    assert type(again.module().n.neurons) is LIFBitshiftTorch
    model = again.module()
    model.n.tau_mem *= 1.2
    with pytest.raises(ValueError, match="compile the network with these again"):
        model(torch.from_numpy(x).float())
    with pytest.raises(UsageError, match="bitshift is 3"):
        snnir.compile(graph, "rockpool", bitshift=3)


def test_why_a_neuron_is_written_out() -> None:
    def reason(op: ops.Op, semantics: Semantics = MEANT) -> str:
        graph = chain(ops.Input(shape=(3,)), ("n", op), ops.Output(), semantics=semantics)
        assert same_everywhere(graph, "rockpool", steps=20) >= 0
        return str(built(graph, "rockpool").report["own cells"].get("n", ""))

    lif = ops.LIF(tau=np.float64(5e-3), r=0.3, v_threshold=np.float64(0.5))
    cuba = ops.CubaLIF(tau_syn=np.float64(5e-3), tau_mem=np.float64(5e-3), w_in=0.2, v_threshold=np.float64(0.5))
    assert reason(lif) == reason(cuba) == ""
    assert reason(lif, MEANT.with_(comparison=">")) == ""
    assert reason(lif.with_(metadata={"surrogate": "atan"}), MEANT.with_(spikes_per_step=1)) == ""
    assert reason(cuba, MEANT.with_(decay="euler")) == ""
    assert "this one is 1 - DT/tau" in reason(lif, MEANT.with_(decay="euler"))
    assert "reset is to a value" in reason(cuba, MEANT.with_(reset="value", spikes_per_step=1))
    assert "gradients stop" in reason(lif.with_(metadata={"detach_reset": True}))
    assert "not above 0" in reason(lif.with_(v_threshold=np.float64(0.0)), MEANT.with_(spikes_per_step=1))
    assert "decays its input" in reason(cuba.with_(tau_syn=np.float64(5e-4)), MEANT.with_(decay="euler"))
    assert "sum over time" in reason(ops.I())


def test_several_spikes_and_a_reset_to_a_value_are_refused() -> None:
    graph = random_net(0)
    with pytest.raises(CompileError) as caught:
        snnir.compile(replace(graph, semantics=MEANT.with_(reset="value")), "rockpool")
    assert [(v.rule, v.where) for v in caught.value.violations] == [
        ("rockpool-spikes", "first"),
        ("rockpool-spikes", "second"),
    ]
    low = {**graph.ops, "first": graph["first"].with_(v_threshold=np.zeros(8))}
    with pytest.raises(CompileError, match="a threshold of 0"):
        snnir.compile(replace(graph, ops=low), "rockpool")


def test_the_default_precision_stays_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rockpool puts outputs into tensors of PyTorch's default precision, which is changed for a double model."""
    graph = random_net(1)
    x = inputs_for(graph, T=5)

    def fails(*_: Any) -> None:
        raise RuntimeError("on purpose")

    for default in (torch.float32, torch.float64):
        torch.set_default_dtype(default)
        try:
            assert built(graph, "rockpool").run(x)[0]["output"].dtype == np.float64
            with monkeypatch.context() as patched:
                patched.setattr(ExpSynTorch, "forward", fails)
                with pytest.raises(RuntimeError, match="on purpose"):
                    built(graph, "rockpool").run(x)
            assert torch.get_default_dtype() == default
        finally:
            torch.set_default_dtype(torch.float32)


def test_fsddim_compiles_with_its_hard_reset() -> None:
    """Its neurons reset to 0 with no gradient: written out, and equal to the interpreter at every spike."""
    graph = snnir.load(fsddim.build("digits"))
    artifact = built(graph, "rockpool")
    neurons = [n for n, op in graph.ops.items() if isinstance(op, ops.LIF)]
    assert set(artifact.report["own cells"]) == set(neurons)
    assert len(artifact.report["framework layers"]) >= 3  # LinearTorch
    assert same_everywhere(graph, "rockpool", steps=4, batch=1) > 500


def test_fsddim_with_soft_reset_is_rockpools_own() -> None:
    graph = snnir.load(fsddim.build("digits", reset="subtract"))
    neurons = {n: op.with_(metadata={}) for n, op in graph.ops.items() if isinstance(op, ops.LIF)}
    meant = replace(graph, ops={**graph.ops, **neurons}, semantics=graph.semantics.with_(decay="exponential"))
    artifact = built(meant, "rockpool")
    assert {artifact.report["framework layers"].get(n) for n in neurons} == {"LIFNeuronTorch"}
    assert same_everywhere(meant, "rockpool", steps=4, batch=1) > 100
