"""Trained weights of a graph go back into the module it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import snnir
from snnir import CompileError, nn
from snnir.frontends.torch_fx import load_module, to_module_weights
from snnir.learning import check_trainable

DT = 1e-3
HERE = Path(__file__).name


def lif(**options: Any) -> nn.LIF:
    return nn.LIF.from_decay(0.8, dt=DT, **options)


def test_weights_go_back_into_the_module() -> None:
    def build() -> torch.nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 2, 3),
            nn.tdBatchNorm2d(2),
            nn.LIF(5e-3, r=3.0, dt=DT, learn="tau"),
            nn.Flatten(),
            nn.Recurrent(nn.LIF(np.full(8, 5e-3), dt=DT), nn.Linear(8, 8)),
            nn.Scale(torch.rand(8), learn=True),
        )

    source, target = build(), build()
    for tensor in source.state_dict().values():
        tensor.copy_(torch.rand_like(tensor) + 0.1 if tensor.is_floating_point() else tensor)
    source[2].r = 4.0  # type: ignore[union-attr]
    trained = load_module(source, input_shape=(1, 4, 4))
    mine = load_module(target, input_shape=(1, 4, 4)).with_weights(trained.weights())
    assert to_module_weights(mine, target) is target
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value), key
    assert target[2].r == 4.0  # type: ignore[union-attr]
    x = torch.randn(6, 2, 1, 4, 4)
    torch.testing.assert_close(target.eval()(x), source.eval()(x))


def test_weights_that_have_no_place_are_named_and_nothing_is_written() -> None:
    model = nn.Sequential(nn.Conv1d(1, 2, 2, bias=False), lif(), nn.Linear(4, 4))
    graph = load_module(model, input_shape=(1, 5))
    before = model[2].weight.clone()
    changed = graph.with_weights({"0.bias": np.ones(2), "2.weight": np.ones((4, 4))})
    with pytest.raises(CompileError, match=r"0.bias: has changed, but the module has no parameter for it"):
        to_module_weights(changed, model)
    assert torch.equal(model[2].weight, before)
    with pytest.raises(CompileError, match="exists in the module only"):
        to_module_weights(load_module(nn.Sequential(nn.Linear(4, 4))), nn.Sequential(nn.Linear(4, 4), lif()))
    with pytest.raises(CompileError, match="is Affine"):
        to_module_weights(load_module(nn.Sequential(nn.Linear(4, 4))), nn.Sequential(nn.Linear(4, 4, bias=False)))


def test_a_shared_tensor_takes_one_value() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(torch.relu(self.fc(x)))

    model = Shared()
    graph = load_module(model)
    one = np.ones((3, 3), np.float32)
    with pytest.raises(CompileError, match=r"differs from fc.weight, with which it shares fc.weight"):
        to_module_weights(graph.with_weights({"fc.weight": one}), model)
    to_module_weights(graph.with_weights({"fc.weight": one, "fc.1.weight": one}), model)
    assert torch.equal(model.fc.weight, torch.ones(3, 3))


class Plain(nn.Module):
    input_shape = (4,)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(4, 3)
        self.norm = nn.tdBatchNorm1d(3, momentum=0.25)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.fc(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_precision_go_and_come_back(dtype: torch.dtype) -> None:
    model = Plain().to(dtype)
    graph = snnir.load(model)
    assert graph["fc"].weight.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    np.testing.assert_array_equal(graph["fc"].weight, model.fc.weight.detach().double().numpy())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    to_module_weights(graph, model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    to_module_weights(graph.with_weights({"fc.weight": graph["fc"].weight * 2}), model)
    assert torch.equal(model.fc.weight, before["fc.weight"] * 2)
    assert model.fc.weight.dtype == dtype


def test_layouts_in_memory_do_not_matter() -> None:
    for weight in (torch.randn(4, 3).t(), torch.randn(3, 1).expand(3, 4), torch.randint(-3, 3, (3, 4))):
        model = Plain()
        model.fc.weight = torch.nn.Parameter(weight, requires_grad=weight.is_floating_point())
        graph = snnir.load(model)
        np.testing.assert_array_equal(graph["fc"].weight, weight.numpy())
        emitted = snnir.compile(graph, target="torch").module()
        np.testing.assert_array_equal(emitted.fc.weight.detach().numpy(), weight.numpy())


@pytest.mark.parametrize(
    ("weight", "error"),
    [
        (torch.full((3, 4), torch.nan), "weight holds nan at index"),
        (torch.full((3, 4), torch.inf), "weight holds inf at index"),
        (torch.zeros(3, 4, dtype=torch.complex64), "weight holds complex64, expected numbers"),
        (torch.zeros(3, 4, device="meta"), "on the device 'meta', which holds no numbers"),
        (torch.eye(4)[:3].to_sparse(), "holds a sparse_coo tensor"),
        (torch.zeros(3, 4).to(torch.float8_e4m3fn), "holds float8_e4m3fn"),
    ],
)
def test_weights_that_are_no_numbers_are_refused(weight: torch.Tensor, error: str) -> None:
    model = Plain()
    model.fc.weight = torch.nn.Parameter(weight, requires_grad=False)
    with pytest.raises(CompileError, match=error) as caught:
        snnir.load(model)
    assert len(caught.value.violations) == 1


def test_a_lazy_layer_is_refused() -> None:
    with pytest.raises(CompileError, match=r"nn\.LazyLinear has not seen its input yet") as caught:
        snnir.load(nn.Sequential(torch.nn.LazyLinear(3), nn.LIF(tau=5e-3, dt=1e-3)), input_shape=(4,))
    assert len(caught.value.violations) == 1


def test_statistics_follow_as_they_do_in_the_model_and_come_back() -> None:
    """They followed by PyTorch's default of .1, whatever the model's momentum."""
    model, twin = Plain().train(), Plain()
    emitted = snnir.compile(snnir.load(model), target="torch").module().train()
    for x in (torch.rand(5, 3, 4), torch.rand(5, 3, 4) * 2):
        torch.testing.assert_close(emitted(x), model(x))
    torch.testing.assert_close(emitted.norm.var, model.norm.running_var)
    to_module_weights(snnir.load(twin).with_weights(emitted.state_dict()), twin)
    torch.testing.assert_close(twin.norm.running_mean, model.norm.running_mean)
    torch.testing.assert_close(twin.norm.running_var, model.norm.running_var)


def test_statistics_over_all_batches_are_for_inference() -> None:
    model = Plain()
    model.norm.momentum = None
    graph = snnir.load(model.eval())
    emitted = snnir.compile(graph, target="torch").module()
    x = torch.rand(5, 3, 4)
    torch.testing.assert_close(emitted.eval()(x), model(x))
    with pytest.raises(ValueError, match="averages over all batches"):
        emitted.train()(x)
    with pytest.raises(CompileError, match=r"\[learned-statistics\] norm: averages"):
        check_trainable(graph.ops)
    with pytest.raises(CompileError, match=r"\[learned-nothing\]"):
        check_trainable(snnir.load(Plain().requires_grad_(False)).ops)
