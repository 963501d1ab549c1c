"""snnTorch's own resets, one step after the spike: interpreter, emitted code and real snnTorch layers agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import snntorch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from snntorch import surrogate

import snnir
from snnir import ops
from snnir.errors import CompileError
from snnir.graph import Graph, chain
from snnir.registry import backend
from snnir.semantics import Semantics
from tests.backends.family import FAMILY, built, same_everywhere
from tests.strategies import make_graph, nir_graphs

pytestmark = pytest.mark.oracle

ALL = ("torch", "norse", "snntorch", "rockpool", "spikingjelly")  # targets that have these resets
LATE = {"zero": "delayed-value", "subtract": "delayed-subtract"}
RESETS = (*LATE.values(), "held-subtract")
THRESHOLD = 0.5
ATAN = {"surrogate": "atan", "surrogate_param": 2.0}


def drive(steps: int = 60) -> np.ndarray:
    return np.random.default_rng(0).normal(0.3, 0.6, (steps, 3, 5))


def pair(layer: str, mechanism: str) -> tuple[Graph, torch.nn.Module]:
    """A population as a graph, and as snnTorch's layer with its defaults (reset_delay=True)."""
    options = {"threshold": THRESHOLD, "reset_mechanism": mechanism, "spike_grad": surrogate.atan(alpha=2.0)}
    at = {"v_threshold": np.full(5, THRESHOLD), "metadata": ATAN}
    op: ops.Neuron
    if layer == "Leaky":
        net, op = snntorch.Leaky(0.75, **options), ops.LIF(tau=4e-3, **at)
    else:
        net, op = snntorch.Synaptic(0.5, 0.75, **options), ops.CubaLIF(tau_syn=2e-3, tau_mem=4e-3, **at)
    semantics = Semantics(dt=1e-3, gain="unit", reset=LATE[mechanism])  # type: ignore[arg-type]
    return chain(ops.Input(shape=(5,)), op, ops.Output(), semantics=semantics), net.double()


def loop(net: Any, x: torch.Tensor) -> torch.Tensor:
    """snnTorch's usual loop over time."""
    state = net.reset_mem()
    state = state if isinstance(state, tuple) else (state,)
    state = tuple(torch.zeros_like(x[0]) for _ in state)
    out = []
    for step in x:
        spikes, *state = net(step, *state)
        out.append(spikes)
    return torch.stack(out).to(x.dtype)


@pytest.mark.parametrize("target", ALL)
@pytest.mark.parametrize("layer", ["Leaky", "Synaptic"])
@pytest.mark.parametrize("mechanism", LATE)
def test_interpreter_and_emitted_layer_do_what_snntorch_does(layer: str, mechanism: str, target: str) -> None:
    graph, net = pair(layer, mechanism)
    graph = replace(graph, ops={n: _detached(op) for n, op in graph.ops.items()})  # as snnTorch's own reset is
    theirs, ours = (torch.from_numpy(drive()).requires_grad_() for _ in range(2))
    expected = loop(net, theirs)
    np.testing.assert_array_equal(snnir.interpret(graph, drive()), expected.detach().numpy())
    assert 200 < float(expected.detach().sum()) < 700

    artifact = built(graph, target)
    if target == "snntorch":
        assert list(artifact.report["framework layers"].values()) == [f"snn.{layer}"]
    got = artifact.module(torch.float64)(ours)
    assert torch.equal(got, expected)
    weight = torch.from_numpy(np.random.default_rng(1).normal(size=got.shape))
    for y in (got, expected):
        (y * weight).sum().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    scale = float(theirs.grad.abs().max())
    assert scale > 0.1
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-6 * scale)


def _detached(op: ops.Op) -> ops.Op:
    return op.with_(metadata={**op.metadata, "detach_reset": True}) if op.spiking else op


def test_late_and_prompt_resets_differ() -> None:
    """To 0, a late reset of snn.Leaky gives the prompt one's spikes; of snn.Synaptic, and by subtraction, others."""
    for layer, mechanism, same in (("Leaky", "zero", True), ("Synaptic", "zero", False), ("Leaky", "subtract", False)):
        graph, _ = pair(layer, mechanism)
        reset = graph.semantics.reset.removeprefix("delayed-")
        prompt = replace(graph, semantics=graph.semantics.with_(reset=reset))  # type: ignore[arg-type]
        assert np.array_equal(snnir.interpret(graph, drive()), snnir.interpret(prompt, drive())) is same


@pytest.mark.parametrize("target", ALL)
@pytest.mark.parametrize("detach", [True, False])
def test_gradients_through_a_late_reset_to_zero_are_those_of_the_prompt_one(detach: bool, target: str) -> None:
    graph, _ = pair("Leaky", "zero")
    op = graph["lif"].with_(metadata={**ATAN, "detach_reset": detach})
    graph = replace(graph, ops={**graph.ops, "lif": op})
    found = []
    for reset in ("delayed-value", "value"):
        meant = replace(graph, semantics=graph.semantics.with_(reset=reset))
        x = torch.from_numpy(drive()).requires_grad_()
        (built(meant, target).module(torch.float64)(x) * torch.linspace(0, 1, 5)).sum().backward()
        assert x.grad is not None
        found.append(x.grad)
    scale = float(found[1].abs().max())  # what passes through spikes is float32 in snnTorch
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize("kind", ["conv2d-flatten", "recurrence-affine", "recurrence-cubalif", "cubalif", "if"])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("target", ALL)
def test_whole_networks_and_cycles(kind: str, reset: str, target: str) -> None:
    graph = make_graph(4, kind)
    zero = {
        n: op.with_(v_reset=op.v_reset * 0) if isinstance(op, ops.SpikingNeuron) else op for n, op in graph.ops.items()
    }
    zero = {n: op.with_(v_leak=op.v_leak * 0) if isinstance(op, ops.CubaLIF) else op for n, op in zero.items()}
    for comparison in (">", ">="):
        semantics = graph.semantics.with_(reset=reset, comparison=comparison)
        assert same_everywhere(replace(graph, ops=zero, semantics=semantics), target, steps=30, batch=3) > 20


@pytest.mark.parametrize("target", FAMILY)
@settings(max_examples=60)
@given(
    graph=nir_graphs(several_io=True),
    decay=st.sampled_from(["euler", "exponential"]),
    gain=st.sampled_from(["ode", "unit"]),
    comparison=st.sampled_from([">", ">="]),
    reset=st.sampled_from(RESETS),
    detach=st.sampled_from([None, True, False]),
    surrogate=st.sampled_from([None, "triangle", "atan"]),
)
def test_random_graphs(target: str, graph: Graph, detach: bool | None, surrogate: str | None, **semantics: Any) -> None:
    """Either refused, with what is unlike the framework named, or exactly as the interpreter does it."""
    metadata = {k: v for k, v in (("detach_reset", detach), ("surrogate", surrogate)) if v is not None}
    made = {n: op.with_(metadata=metadata) if op.spiking else op for n, op in graph.ops.items()}
    meant = replace(graph, ops=made, semantics=graph.semantics.with_(**semantics))
    violations = backend(target).target.check(meant)
    assert {v.rule for v in violations} <= {"snntorch": {"snntorch-reset"}}.get(target, {"torch-reset"})
    assert not violations or target in ("snntorch", "sinabs")
    if not violations:
        same_everywhere(meant, target)


@pytest.mark.parametrize("target", ALL)
def test_a_membrane_exactly_at_threshold(target: str) -> None:
    lif = ops.LIF(tau=np.float64(2e-3), r=2.0, v_threshold=np.float64(1.0))  # v = v / 2 + x
    x = np.tile(np.array([1.0, 0.5, 1.5]), (12, 1, 1))
    first = {">": [0, 0, 1], ">=": [1, 0, 1]}
    for comparison in (">", ">="):
        semantics = Semantics(dt=1e-3, reset="delayed-subtract", comparison=comparison)  # type: ignore[arg-type]
        graph = chain(ops.Input(shape=(3,)), lif, ops.Output(), semantics=semantics)
        y, _ = built(graph, target).run({"input": x}, ())
        np.testing.assert_array_equal(y["output"], snnir.interpret(graph, x))
        np.testing.assert_array_equal(y["output"][0, 0], first[comparison])


def test_what_snntorch_does_not_do_is_refused_in_one_go() -> None:
    def violations(op: ops.Op, reset: str, start: str = "rest") -> list[str]:
        semantics = Semantics(dt=1e-3, reset=reset, start=start)  # type: ignore[arg-type]
        graph = chain(ops.Input(shape=(3,)), op, ops.Output(), semantics=semantics)
        try:
            snnir.compile(graph, "snntorch")
        except CompileError as error:
            return [v.what.split(",")[0] for v in error.violations]
        return []

    fast = {"tau": np.float64(5e-4), "v_threshold": np.float64(0.5), "v_reset": np.float64(0.1), "v_leak": 0.5}
    start, decay = "the membrane starts at its threshold or above", "a time constant is below dt"
    assert violations(ops.LIF(**fast), "delayed-value") == [decay, start, "v_reset is not 0"]
    assert violations(ops.LIF(**fast), "delayed-subtract", "zero") == [decay]
    cuba = ops.CubaLIF(tau_syn=np.float64(2e-3), tau_mem=np.float64(2e-3), v_leak=0.1, v_threshold=np.float64(0.5))
    assert violations(cuba, "delayed-value") == ["v_leak is not 0"]
    assert violations(cuba, "delayed-subtract") == []


def test_no_graph_stays_alive_in_a_layer_whose_reset_passes_gradients() -> None:
    graph, _ = pair("Leaky", "subtract")
    op = graph["lif"].with_(metadata={**ATAN, "detach_reset": False})
    model = built(replace(graph, ops={**graph.ops, "lif": op}), "snntorch").module()
    model(torch.from_numpy(drive()).float().requires_grad_())
    layer = model.get_submodule("lif")
    kept = [value for value in [*vars(layer).values(), *layer.buffers()] if isinstance(value, torch.Tensor)]
    assert kept
    assert not any(value.requires_grad for value in kept)
