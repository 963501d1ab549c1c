"""Emitted models as modules: they train, and their weights go back into the graph."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from snnir import ops
from snnir.backends.torch_source.weights import state
from snnir.graph import Graph, chain
from snnir.interpreter import interpret
from snnir.learning import TRAINED
from snnir.naming import identifiers
from snnir.semantics import Semantics
from tests.backends.family import FAMILY, built
from tests.strategies import GRAPH_KINDS, inputs_for, make_graph

pytestmark = pytest.mark.oracle
TRAINABLE = ["affine-lif", "li-readout", "cubalif", "conv2d-flatten", "recurrence-affine", "long-recurrence", "skip"]


def x_of(graph: Graph, steps: int = 15, batch: int = 4, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.from_numpy(inputs_for(graph, T=steps, B=batch, rng=2)["input"]).to(dtype)


@pytest.mark.parametrize("target", FAMILY)
@pytest.mark.parametrize("kind", TRAINABLE)
def test_training_lowers_the_loss_and_the_weights_go_back(kind: str, target: str) -> None:
    graph = make_graph(0, kind, "disc", dtype=np.float64)
    if (target, kind) == ("sinabs", "long-recurrence"):  # its own surrogate is too steep for so long a way back
        graph = replace(graph, ops={n: op.with_(metadata={"surrogate": "atan"}) for n, op in graph.ops.items()})
    model = built(graph, target).module(torch.float64)
    x = x_of(graph)
    wish = torch.from_numpy(np.random.default_rng(1).uniform(0, 1, (4, *graph.shapes["output"])))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = (model(x).mean(0) - wish).square().mean()
        loss.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < 0.9 * losses[0]
    trained = graph.with_weights(model.state_dict())
    with torch.no_grad():
        after = model(x).numpy()
    np.testing.assert_allclose(interpret(trained, x.numpy()), after, atol=1e-9)
    assert not np.array_equal(after, interpret(graph, x.numpy()))


@pytest.mark.parametrize("target", FAMILY)
@pytest.mark.parametrize("kind", GRAPH_KINDS)
def test_the_state_dict_is_the_graph(kind: str, target: str) -> None:
    graph = make_graph(0, kind, "r1")
    model = built(graph, target).module()
    assert {n: tuple(v.shape) for n, v in model.state_dict().items()} == {n: v.shape for n, v in state(graph).items()}
    trained = {name for name, _ in model.named_parameters()}
    spelt = identifiers(graph.ops)
    assert trained == {
        f"{spelt[n]}.{f}" for n, op in graph.ops.items() for f in TRAINED.get(op.kind, ()) if f in op.arrays
    }
    back = graph.with_weights(model.state_dict())
    for name, array in graph.weights().items():
        np.testing.assert_array_equal(back.weights()[name], array)


@pytest.mark.parametrize("target", FAMILY)
def test_neuron_parameters_follow_the_state_dict(target: str) -> None:
    """Coefficients are made from the buffers at each call, so loaded time constants count."""
    graph = make_graph(0, "recurrence-cubalif", "r1", dtype=np.float64)
    model = built(graph, target).module(torch.float64)
    changed = {name: value * (1.3 if ".tau" in name else 1.0) for name, value in model.state_dict().items()}
    model.load_state_dict(changed)
    x = x_of(graph, steps=40)
    with torch.no_grad():
        got = model(x).numpy()
    np.testing.assert_array_equal(got, interpret(graph.with_weights(changed), x.numpy()))
    assert not np.array_equal(got, interpret(graph, x.numpy()))


@pytest.mark.parametrize("target", FAMILY)
@pytest.mark.parametrize("kind", ["recurrence-affine", "recurrence-cubalif", "cubali-readout"])
def test_a_default_model_becomes_double_and_half_trained_models_can_be_copied(kind: str, target: str) -> None:
    graph = make_graph(1, kind, "disc", dtype=np.float32)
    model = built(graph, target).module()
    assert {v.dtype for v in model.state_dict().values()} == {torch.float32}
    model(x_of(graph, dtype=torch.float32)).sum().backward()
    twin = copy.deepcopy(model).double()
    x = x_of(graph)
    assert twin(x).dtype == torch.float64
    np.testing.assert_allclose(twin(x).detach().numpy(), interpret(graph, x.numpy()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("target", FAMILY)
def test_calls_do_not_remember_one_another(target: str) -> None:
    graph = make_graph(1, "recurrence-lif", "disc")
    model = built(graph, target).module()
    x = x_of(graph, dtype=torch.float32)
    first = model(x)
    model(torch.rand(7, 2, 4))
    torch.testing.assert_close(model(x), first, rtol=0, atol=0)


@pytest.mark.parametrize("target", FAMILY)
def test_an_array_that_two_ops_share_is_one_parameter(target: str) -> None:
    weight, bias = np.random.default_rng(0).normal(size=(4, 4)), np.zeros(4)
    lif = ops.LIF(tau=np.float64(5e-3), r=5.0, v_threshold=np.float64(0.5))
    graph = chain(
        ops.Input(shape=(4,)),
        ("first", ops.Affine(weight=weight, bias=bias)),
        ("lif1", lif),
        ("second", ops.Affine(weight=weight, bias=bias + 1.0)),
        ("lif2", lif),
        ops.Output(),
        semantics=Semantics(dt=1e-3),
    )
    model = built(graph, target).module()
    assert model.second.weight is model.first.weight
    assert model.second.bias is not model.first.bias
    assert len(list(model.parameters())) == 3
    assert {"first.weight", "second.weight"} < set(model.state_dict())


@pytest.mark.parametrize("target", FAMILY)
def test_batch_norm_trains_with_its_momentum(target: str) -> None:
    rng = np.random.default_rng(0)
    norm = ops.BatchNorm(
        weight=rng.normal(1, 0.1, 3), bias=np.zeros(3), mean=np.zeros(3), var=np.ones(3), metadata={"momentum": 0.3}
    )
    lif = ops.LIF(tau=np.float64(5e-3), r=5.0, v_threshold=np.float64(0.5))
    graph = chain(ops.Input(shape=(3, 4, 4)), ("norm", norm), lif, ops.Output(), semantics=Semantics(dt=1e-3))
    model = built(graph, target).module(torch.float64).train()
    x = torch.from_numpy(rng.normal(0.7, 2.0, (6, 2, 3, 4, 4)))
    reference = torch.nn.BatchNorm2d(3, momentum=0.3).double()
    reference.load_state_dict({"weight": torch.from_numpy(norm.weight.copy())}, strict=False)
    with torch.no_grad():
        _, seen = model(x, record=("norm",))
        torch.testing.assert_close(seen["norm"].flatten(0, 1), reference(x.flatten(0, 1)))
    torch.testing.assert_close(model.norm.mean, reference.running_mean)
    torch.testing.assert_close(model.norm.var, reference.running_var)
    trained = graph.with_weights(model.state_dict())
    with torch.no_grad():
        np.testing.assert_allclose(interpret(trained, x.numpy()), model.eval()(x).numpy())


@pytest.mark.parametrize("target", FAMILY)
def test_recorded_values_take_part_in_training_and_leave_the_outputs_alone(target: str) -> None:
    graph = make_graph(0, "conv2d-flatten", "disc", dtype=np.float64)
    model = built(graph, target).module(torch.float64)
    x = x_of(graph)
    plain = model(x)
    output, seen = model(x, record=["lif", "conv", "input", "output"])
    torch.testing.assert_close(output, plain, rtol=0, atol=0)
    torch.testing.assert_close(seen["output"], plain, rtol=0, atol=0)
    _, expected = interpret(graph, x.numpy(), record=["conv"])
    np.testing.assert_allclose(seen["conv"].detach().numpy(), expected["conv"], atol=1e-12)
    seen["lif"].sum().backward()
    assert model.conv.weight.grad is not None
    assert model.fc.weight.grad is None


@pytest.mark.parametrize("target", ["norse", "snntorch"])
def test_parameters_that_were_left_out_of_the_source_cannot_come_back_unnoticed(target: str) -> None:
    """A leak of 0 (snnTorch) and a gain of 1 (Norse) cost nothing; loaded weights that change them are refused."""
    model = built(make_graph(0, "affine-lif", "r1"), target).module()
    field = {"norse": "r", "snntorch": "v_leak"}[target]
    changed = {name: value + 0.3 if name.endswith(f".{field}") else value for name, value in model.state_dict().items()}
    model.load_state_dict(changed)
    with pytest.raises(ValueError, match="compile the network with these again"):
        model(torch.zeros(2, 1, 4))
