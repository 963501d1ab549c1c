"""How a model learns goes with it: emitted modules have the gradients of the snnir.nn model they came from."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file

import snnir
from snnir import nn
from snnir.backends.torch_source.neurons import check_surrogates
from snnir.diffusion.checkpoint import write_weights
from snnir.errors import CompileError
from snnir.frontends.torch_fx import to_module_weights
from snnir.learning import check_trainable
from snnir.models.loading import load_weights
from snnir.nir_io import write
from tests.backends.family import FAMILY, built

SURROGATES = [nn.Triangle(0.5), nn.ATan(3.0), nn.FastSigmoid(2.0)]


class Net(nn.Module):
    input_shape = (5,)

    def __init__(self, surrogate: nn.Surrogate, reset: str, detach: bool) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 7)
        self.lif = nn.LIF.from_decay(0.8, dt=1e-3, surrogate=surrogate, reset=reset, detach_reset=detach)
        self.out = nn.Linear(7, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.lif(self.fc(x)))


@pytest.mark.oracle
@pytest.mark.parametrize("surrogate", SURROGATES, ids=str)
@pytest.mark.parametrize(("reset", "detach"), [("value", True), ("subtract", True), ("subtract", False)])
@pytest.mark.parametrize("target", ["torch", "norse", "snntorch", "rockpool", "sinabs", "spikingjelly"])
def test_gradients_are_the_model_s(target: str, reset: str, detach: bool, surrogate: nn.Surrogate) -> None:
    torch.manual_seed(0)
    model = Net(surrogate, reset, detach)
    emitted = snnir.compile(snnir.load(model), target=target).module().double()
    model = model.double()
    x = torch.rand(12, 3, 5, dtype=torch.float64) * 2
    for module in (model, emitted):
        module(x).square().sum().backward()
    wanted = model.fc.weight.grad
    assert wanted is not None
    assert wanted.abs().max() > 1e-3
    got = emitted.fc.weight.grad
    got = got.T if target == "rockpool" else got  # its weights are (in, out)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5 if target == "rockpool" else 1e-8)


class Steep(nn.Surrogate):
    """A derivative that no target knows."""

    def derivative(self, u: torch.Tensor) -> torch.Tensor:
        return (u.abs() < 0.1).to(u.dtype) * 5


def test_a_surrogate_of_one_s_own_is_not_replaced_without_a_word() -> None:
    """It was: an emitted module learned by its default, atan, whatever the model said."""
    check_surrogates(snnir.load(Net(nn.ATan(3.0), "value", True)))
    graph = snnir.load(Net(Steep(), "value", False))
    assert graph["lif"].metadata["detach_reset"] is False
    with pytest.raises(CompileError, match=r"\[surrogate-unknown\] lif: learns by the surrogate Steep") as caught:
        check_surrogates(graph)
    assert "train the module itself" in str(caught.value)


class Constants(nn.Module):
    """A number in the code, a buffer and a parameter, all of them factors."""

    input_shape = (4,)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.fixed = nn.Scale(0.5)
        self.free = nn.Scale(0.5, learn=True)
        self.last = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fixed(self.first(x)) * 0.25
        return self.last(self.free(x + x))


@pytest.mark.parametrize("target", ["torch", "norse", "snntorch", "rockpool", "sinabs", "spikingjelly"])
def test_factors_are_trained_where_the_model_trains_them(target: str) -> None:
    """They all were: a number of the code came out of a training as another one."""
    graph = snnir.load(Constants())
    module = snnir.compile(graph, target=target).module()
    scales = {name: p for name, p in module.named_parameters() if name.endswith("scale")}
    assert len(scales) == 4
    assert [name for name, p in scales.items() if p.requires_grad] == ["free.scale"]


def test_what_is_fused_with_trained_weights_is_trained() -> None:
    graph = snnir.load(Constants())
    fused = snnir.compile(graph, target="torch", passes="fuse-linear")
    assert [p.requires_grad for p in fused.module().parameters()] == [True, True]


def test_numbers_of_the_code_are_not_weights(tmp_path: Path) -> None:
    graph = snnir.load(Constants())
    write_weights(tmp_path / "w.safetensors", graph, graph)
    keys = sorted(load_file(tmp_path / "w.safetensors"))
    assert keys == ["first.bias", "first.weight", "fixed.scale", "free.scale", "last.bias", "last.weight"]
    load_weights(Constants(), tmp_path / "w.safetensors")


class Neurons(nn.Module):
    """Neurons all of whose parameters are trained, from values that an emitted layer could leave out (0 and 1)."""

    input_shape = (4,)

    def __init__(self, cuba: bool, reset: Any, learn: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(4, 3)
        common: dict[str, Any] = {"v_threshold": 0.4, "dt": 1e-3, "surrogate": nn.ATan(3.0), "reset": reset}
        fields = ["r", "v_leak", "v_threshold", *(["v_reset"] if reset == "value" else [])]
        if cuba:
            fields += ["tau_syn", "tau_mem", "w_in"]
            self.lif: Any = nn.CubaLIF(4e-3, 8e-3, r=8.0, w_in=4.0, learn=fields if learn else (), **common)
        else:
            self.lif = nn.LIF(5e-3, r=5.0, learn=[*fields, "tau"] if learn else (), **common)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.lif(self.fc(x))
        return y


@pytest.mark.oracle
@pytest.mark.parametrize("reset", ["value", "subtract"])
@pytest.mark.parametrize("cuba", [False, True], ids=["LIF", "CubaLIF"])
@pytest.mark.parametrize("target", FAMILY)
def test_neuron_parameters_are_trained_where_the_model_trains_them(target: str, cuba: bool, reset: str) -> None:
    """They never were: every one of them was a buffer."""
    model = Neurons(cuba, reset).double()
    graph = snnir.load(model)
    emitted = built(graph, target).module(torch.float64)
    fields = [name for name, _ in model.lif.named_parameters()]
    assert sorted(name for name, _ in emitted.lif.named_parameters()) == sorted(fields)
    x = torch.rand(12, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2
    optimisers = [torch.optim.SGD(m.parameters(), lr=1e-6) for m in (model, emitted)]
    for _ in range(3):
        for module, optimiser in zip((model, emitted), optimisers, strict=True):
            optimiser.zero_grad()
            module(x).square().sum().backward()
            optimiser.step()
        for field in fields:
            mine, wanted = getattr(emitted.lif, field).grad, getattr(model.lif, field).grad
            torch.testing.assert_close(mine, wanted, rtol=1e-3, atol=1e-5)
    assert torch.equal(model(x), emitted(x))
    assert torch.equal(copy.deepcopy(emitted)(x), emitted(x))
    assert emitted.state_dict().keys() == {spelt for spelt in graph.weights()}
    back = graph.with_weights(emitted.state_dict())
    twin = to_module_weights(back, Neurons(cuba, reset).double())
    for (name, value), wanted in zip(twin.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-6, atol=1e-9, msg=name)


def test_neuron_parameters_are_buffers_where_the_model_does_not_train_them() -> None:
    module = built(snnir.load(Neurons(False, "value", learn=False)), "torch").module()
    assert [name for name, _ in module.named_parameters()] == ["fc.weight", "fc.bias"]


def test_a_neuron_that_is_used_twice_has_its_parameters_once() -> None:
    class Twice(Neurons):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.lif(self.lif(self.fc(x)))
            return y

    module = built(snnir.load(Twice(False, "value")), "torch").module()
    names = [name for name, _ in module.named_parameters()]
    assert sorted(names) == sorted(
        ["fc.weight", "fc.bias", *(f"lif.{f}" for f, _ in Twice(False, "value").lif.named_parameters())]
    )


@pytest.mark.oracle
def test_parameters_that_a_framework_s_layer_computes_with_are_not_left_out_unnoticed() -> None:
    import snntorch

    model = torch.nn.Sequential(torch.nn.Linear(4, 3), snntorch.Leaky(0.9, init_hidden=True, learn_beta=True))
    with pytest.raises(CompileError, match=r"a time constant or threshold is computed from 1\.beta"):
        check_trainable(snnir.load(model, dt=1e-3).ops)
    said = " ".join(built(snnir.load(model, dt=1e-3), "snntorch").source.text.split())
    assert (
        "In training its model changes what this one leaves as it is: a time constant or threshold of 1 from 1.beta."
        in said
    )
    thresholds = torch.nn.Sequential(torch.nn.Linear(4, 3), snntorch.Leaky(0.9, init_hidden=True, learn_threshold=True))
    graph = snnir.load(thresholds, dt=1e-3)
    check_trainable(graph.ops)
    module = built(graph, "snntorch").module()
    assert [name for name, _ in module.named_parameters()] == ["_0.weight", "_0.bias", "_1.v_threshold"]


class DropsOut(torch.nn.Module):
    input_shape = (5,)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.drop, self.none = torch.nn.Linear(5, 4), torch.nn.Dropout(0.25), torch.nn.Dropout(0.0)
        self.lif = nn.LIF.from_decay(0.8, dt=1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.dropout(self.drop(self.none(self.fc(x))), 0.5, training=self.training)
        return self.lif(y)  # type: ignore[no-any-return]


@pytest.mark.parametrize("train", [True, False])
def test_dropout_is_not_left_out_of_training_unnoticed(train: bool, tmp_path: Path) -> None:
    """`snnir train` trained without the model's dropout, and said nothing."""
    graph = snnir.load(DropsOut().train(train))
    assert graph.metadata["dropout"] == {"drop": 0.25, "dropout": 0.5}
    (tmp_path / "net.nir").write_bytes(write(graph))
    for there in (graph, snnir.load(tmp_path / "net.nir")):
        with pytest.raises(
            CompileError, match=r"\[learned-dropout\] drop: drops out values in training, 0\.25"
        ) as caught:
            check_trainable(there.ops, there.metadata)
        assert [v.where for v in caught.value.violations] == ["drop", "dropout"]
        artifact = built(there, "torch")
        assert "In training its model drops out values (0.25 at drop, 0.5 at dropout)" in artifact.source.text
        assert artifact.report["dropout not in here"] == {"drop": 0.25, "dropout": 0.5}
    assert "dropout" not in snnir.load(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.0))).metadata


@pytest.mark.oracle
def test_dropout_of_other_frameworks_is_not_left_out_of_training_unnoticed() -> None:
    from rockpool.nn.combinators import Sequential
    from rockpool.nn.modules.torch import LIFTorch, LinearTorch, UnitDropout
    from spikingjelly.activation_based import functional, layer, neuron

    jelly = torch.nn.Sequential(layer.Linear(4, 5), layer.Dropout(0.5), neuron.LIFNode())
    functional.set_step_mode(jelly, "m")
    graphs = {
        "1": snnir.load(jelly, dt=1e-3),
        "1_UnitDropout": snnir.load(Sequential(LinearTorch((4, 5)), UnitDropout(5, p=0.5), LIFTorch(5, dt=1e-3))),
    }
    for where, graph in graphs.items():
        assert graph.metadata["dropout"] == {where: 0.5}
        with pytest.raises(CompileError, match=r"\[learned-dropout\]"):
            check_trainable(graph.ops, graph.metadata)
