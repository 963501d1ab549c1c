"""Layers over tokens: read into the graph op by op, emitted again, trained where they are trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import snnir
from snnir import nn, ops
from snnir.errors import CompileError
from tests.backends.family import FAMILY, built

TOKENS, CHANNELS = 7, 4


class Mixer(torch.nn.Module):
    """Every layer over tokens once, behind one another."""

    input_shape = (TOKENS, CHANNELS)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.position = nn.Constant(torch.randn(TOKENS, CHANNELS), learn=True)
        self.scale = nn.Constant(torch.full((1, CHANNELS), 0.5))
        self.norm = nn.PlainLayerNorm(CHANNELS, eps=1e-6)
        self.shift = nn.TokenShift(torch.rand(CHANNELS))
        self.key = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.wkv = nn.Wkv(torch.linspace(-4, 1, CHANNELS), torch.randn(CHANNELS))
        self.gate = nn.Sigmoid()
        self.square = nn.SquaredReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(x + self.position(x))
        y = self.wkv(self.key(self.shift(x)), x)
        y = self.gate(x) * self.square(y)
        return torch.cat([y, self.scale(x)], dim=-2)


def example(dtype: Any = np.float64) -> Any:
    return np.random.default_rng(0).normal(size=(3, 2, TOKENS, CHANNELS)).astype(dtype)


def test_the_graph_computes_what_the_module_does() -> None:
    module = Mixer()
    graph = snnir.load(module)
    kinds = [op.kind for op in graph.ops.values()]
    for kind in ("Constant", "LayerNorm", "TokenShift", "Wkv", "Activation", "Multiply", "Concat"):
        assert kind in kinds
    want = module.double()(torch.from_numpy(example())).detach().numpy()
    assert want.shape == (3, 2, TOKENS + 1, CHANNELS)
    np.testing.assert_allclose(snnir.interpret(graph, example()), want, rtol=1e-9, atol=1e-9)


def test_ops_know_the_lines_and_the_names_of_the_module() -> None:
    module = Mixer()
    graph = snnir.load(module)
    assert {"position", "norm", "shift", "key", "wkv", "gate", "square"} <= set(graph.ops)
    loc = graph["wkv"].loc
    assert loc is not None
    assert (loc.file.rpartition("/")[2], loc.module) == ("test_tokens.py", "wkv")
    state = {key: value.numpy() for key, value in module.state_dict().items()}
    for key in state:
        name, _, field = key.rpartition(".")
        np.testing.assert_array_equal(getattr(graph[name], field), state[key])


@pytest.mark.parametrize("target", FAMILY)
def test_what_the_module_trains_is_trained_where_it_is_emitted(target: str) -> None:
    module = Mixer()
    emitted = built(snnir.load(module), target).module(torch.float64)
    names = {name for name, _ in module.named_parameters()}
    assert {name for name, _ in emitted.named_parameters()} == names
    x = torch.from_numpy(example())
    found = []
    for net in (module.double(), emitted):
        net.zero_grad()
        (net(x) ** 2).sum().backward()
        found.append({name: p.grad.numpy() for name, p in net.named_parameters()})
    if target == "rockpool":  # its layer keeps (in, out) inside
        found[1]["key.weight"] = found[1]["key.weight"].T
    for name in names:
        assert np.abs(found[0][name]).max() > 0, name
        np.testing.assert_allclose(found[1][name], found[0][name], rtol=1e-7, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("target", FAMILY)
def test_emitted_wkv_survives_extremes(target: str) -> None:
    rng = np.random.default_rng(1)
    decay = np.array([-80.0, -6.0, 0.0, 3.0, 80.0])
    wkv = ops.Wkv(log_decay=decay, first=rng.normal(size=5))
    nodes = {"k": ops.Input(shape=(394, 5)), "v": ops.Input(shape=(394, 5)), "wkv": wkv, "y": ops.Output()}
    edges = [("k", "wkv", "k"), ("v", "wkv", "v"), ("wkv", "y")]
    graph = snnir.Graph(nodes, tuple(snnir.Edge(*e) for e in edges)).verify()
    for spread, single in ((3.0, 1e-5), (1e3, 1e-3)):
        x = {"k": rng.normal(0, spread, (1, 2, 394, 5)), "v": rng.normal(size=(1, 2, 394, 5))}
        want = snnir.interpret(graph, x)
        got, _ = built(graph, target).run(x)
        np.testing.assert_allclose(got["y"], want, rtol=0, atol=1e-11)
        short, _ = built(graph, target).run({n: a.astype(np.float32) for n, a in x.items()})
        np.testing.assert_allclose(short["y"], want, rtol=0, atol=single)
    model = built(graph, target).module()
    k, v = (torch.from_numpy(a).float().requires_grad_() for a in x.values())
    model(k, v).square().sum().backward()
    grads = [k.grad, v.grad, *(p.grad for p in model.parameters())]
    assert all(g is not None and bool(g.isfinite().all()) for g in grads)


def test_layers_refuse_what_is_no_tokens() -> None:
    with pytest.raises(ValueError, match="4 axes"):
        nn.TokenShift(torch.zeros(3))(torch.zeros(2, 2, 3))

    class Wrong(torch.nn.Module):
        input_shape = (TOKENS, CHANNELS)

        def __init__(self) -> None:
            super().__init__()
            self.wkv = nn.Wkv(torch.zeros(CHANNELS), torch.zeros(CHANNELS))
            self.fc = nn.Linear(CHANNELS, CHANNELS + 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.wkv(x)  # type: ignore[call-arg]
            return y + self.wkv(self.fc(x), x)

    with pytest.raises(CompileError) as caught:
        snnir.load(Wrong())
    whats = [v.what for v in caught.value.violations]
    assert whats == [
        "snnir.nn.Wkv is called with something else than two tensors",
        f"k [{TOKENS}, {CHANNELS + 1}] and v [{TOKENS}, {CHANNELS}] differ",
    ]
    assert all("test_tokens.py:" in v.loc for v in caught.value.violations)


def test_a_norm_without_weights_of_its_own_is_not_trained_either() -> None:
    for norm, trained in (
        (torch.nn.LayerNorm(CHANNELS, elementwise_affine=False), False),
        (torch.nn.LayerNorm(CHANNELS), True),
        (nn.PlainLayerNorm(CHANNELS), False),
    ):
        model = torch.nn.Sequential(nn.TokenShift(0.5), norm)
        model.input_shape = (TOKENS, CHANNELS)
        emitted = built(snnir.load(model), "torch").module(torch.float64)
        names = {name for name, _ in emitted.named_parameters()}
        assert (len(names) == 3) is trained
        x = torch.from_numpy(example())
        with torch.no_grad():
            np.testing.assert_allclose(emitted(x).numpy(), model.double()(x).numpy(), rtol=1e-9, atol=1e-9)
