"""Names, source lines, inputs and the time axis of models read through torch.fx."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snnir import CompileError, interpret, nn
from snnir.frontends.torch_fx import load_module
from tests.frontends.fx_models import DT, Unet, check, kinds, lif, randomised

HERE = Path(__file__).name


def test_ops_know_the_line_of_forward_and_the_module() -> None:
    model = Unet()
    graph = load_module(model)
    first = Unet.forward.__code__.co_firstlineno
    for name, line in (("conv_in", 1), ("embed.1", 2), ("lif1", 4), ("cat", 8)):
        loc = graph[name].loc
        assert loc is not None
        assert Path(loc.file).name == "fx_models.py"
        assert loc.line == first + line
    assert graph["embed.1"].loc.module == "embed.1"  # type: ignore[union-attr]


def test_layers_of_a_bare_sequential_know_where_they_were_made() -> None:
    model = nn.Sequential(
        nn.Linear(3, 3),
        nn.LIF(0.01, dt=DT),
    )
    loc = load_module(model)["1"].loc
    line = test_layers_of_a_bare_sequential_know_where_they_were_made.__code__.co_firstlineno + 3
    assert (Path(loc.file).name, loc.line, loc.module) == (HERE, line, "1")  # type: ignore[union-attr]


def test_a_single_layer_is_a_model() -> None:
    assert list(load_module(nn.LIF(np.full(4, 0.01), dt=DT)).ops) == ["input", "lif", "output"]
    assert list(load_module(nn.Recurrent(lif(), nn.Linear(3, 3))).ops) == [
        "input",
        "recurrent.neuron",
        "recurrent.connection",
        "output",
    ]


def test_input_shape_from_everywhere() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), lif(), nn.TemporalMean(4))
    for options in (
        {"input_shape": (1, 5, 6)},
        {"input_shape": [1, 5, 6]},
        {"input_shape": {"input": (1, 5, 6)}},
        {"input_shape": np.array([1, 5, 6]).tolist()},
        {"input_shape": tuple(np.array([1, 5, 6]))},
        {"example_input": np.zeros((8, 2, 1, 5, 6))},
        {"example_input": torch.zeros(8, 2, 1, 5, 6)},
        {"example_input": (torch.zeros(8, 2, 1, 5, 6),)},
        {"example_input": {"input": torch.zeros(8, 2, 1, 5, 6)}},
    ):
        assert load_module(model, **options).shapes["input"] == (1, 5, 6)
    model.input_shape = (1, 5, 6)  # type: ignore[assignment]
    assert load_module(model).shapes["0"] == (2, 3, 4)
    plain = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(24, 3))
    assert load_module(plain, example_input=torch.zeros(2, 1, 5, 6)).shapes["input"] == (1, 5, 6)
    with pytest.raises(CompileError, match=r"input-shape.*the example has shape \[5, 6\]"):
        load_module(model, example_input=torch.zeros(5, 6))
    with pytest.raises(CompileError, match=r"'y' is no argument of forward\(\)"):
        load_module(model, input_shape={"y": (1, 5, 6)})


def test_unknown_input_shape_is_an_error() -> None:
    with pytest.raises(CompileError, match=r"the shape of the input 'input' is not known(.|\n)*attribute input_shape"):
        load_module(nn.Sequential(nn.Conv2d(1, 2, 3), lif()))


def test_a_mean_over_time_needs_the_number_of_steps() -> None:
    class Rate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(4, 3), lif()

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            y = self.lif(self.fc(x))
            return y.mean(0), y.sum(dim=0)

    check(Rate(), (4,), example_input=torch.zeros(12, 1, 4))
    with pytest.raises(CompileError, match=r"reduces over time(.|\n)*TemporalMean"):
        load_module(Rate())


def test_arguments_with_a_default_keep_it_and_dead_code_goes() -> None:
    class Optional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.unused, self.lif = nn.Linear(4, 3), nn.Linear(4, 3), nn.LIF(1.0, dt=7.0)

        def forward(self, x: torch.Tensor, state: Any = None, *, scale: float = 2.0) -> torch.Tensor:
            self.unused(x)
            return self.fc(x) * scale if state is None else self.lif(x)

    graph = check(Optional(), (4,), input_shape=(4,))
    assert "unused" not in graph
    assert "Scale" in kinds(graph)


def test_plain_pytorch_layers_without_time_axis() -> None:
    """The usual way to write an SNN in Sequential: layers of PyTorch that would see one step."""
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3),
        torch.nn.BatchNorm2d(4),
        nn.LIF(5e-3, r=5.0, dt=DT),
        torch.nn.AvgPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 5),
        nn.LIF(5e-3, r=5.0, dt=DT),
    )
    torch.manual_seed(0)
    randomised(model, 3.0).eval()
    graph = load_module(model, input_shape=(1, 6, 6))
    x = torch.randn(10, 2, 1, 6, 6, dtype=torch.float64)
    y = x
    with torch.no_grad():
        for layer in model:
            y = layer(y) if isinstance(layer, (nn.LIF, torch.nn.Linear)) else nn.over_time(layer, y)
    np.testing.assert_array_equal(interpret(graph, x.numpy()), y.numpy())
    assert 0.02 < y.mean() < 0.98


def test_a_plain_network_without_time() -> None:
    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = torch.nn.Conv2d(1, 2, 3), torch.nn.Linear(18, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = torch.relu(self.conv(x))
            return self.fc(torch.cat([h, -h], dim=1)[:, :2].flatten(1)) + self.fc(h.view(h.size(0), -1))

    model = Plain().double()
    graph = load_module(model, input_shape=(1, 5, 5))
    assert graph.semantics.dt is None
    x = torch.randn(4, 3, 1, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        want = torch.stack([model(step) for step in x]).numpy()
    np.testing.assert_allclose(interpret(graph, x.numpy()), want, atol=1e-12)


def test_load_takes_live_modules() -> None:
    import snnir

    assert snnir.load(nn.Sequential(nn.Linear(3, 2), nn.LIF(0.01)), dt=DT).semantics.dt == DT
