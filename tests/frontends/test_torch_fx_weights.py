"""Trained weights of a graph go back into the module it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snnir import CompileError, nn
from snnir.frontends.torch_fx import load_module, to_module_weights

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
