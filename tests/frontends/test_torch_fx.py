"""Tracing: the graph of a module computes what the module computes, in float64, spike by spike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from snnir import nn
from snnir.frontends.torch_fx import load_module
from tests.frontends.fx_models import DT, Unet, check, kinds, lif


def test_mlp_infers_its_input() -> None:
    graph = check(nn.Sequential(nn.Linear(8, 16), lif(), nn.Linear(16, 4, bias=False), lif()), (8,), example_input=None)
    assert list(graph.ops) == ["input", "0", "1", "2", "3", "output"]
    assert kinds(graph) == ["Input", "Affine", "LIF", "Linear", "LIF", "Output"]
    assert graph["1"].tau.shape == ()  # type: ignore[attr-defined]
    assert graph.semantics.dt == DT


@pytest.mark.parametrize(
    "options",
    [{"reset": "subtract"}, {"comparison": ">="}, {"decay": "exponential"}, {"decay": "exponential", "gain": "unit"}],
    ids=str,
)
def test_semantics_follow_the_layers(options: dict[str, Any]) -> None:
    model = nn.Sequential(nn.Linear(6, 12), lif(**options), nn.Linear(12, 5), lif(**options))
    graph = check(model, (6,))
    assert {k: getattr(graph.semantics, k) for k in options} == options


def test_current_based_and_readout() -> None:
    model = nn.Sequential(
        nn.Linear(6, 12),
        nn.CubaLIF(3e-3, 8e-3, r=10.0, w_in=2.0, v_leak=0.1, v_threshold=0.7, v_reset=-0.2, dt=DT),
        nn.Linear(12, 5),
        nn.CubaLI(2e-3, 5e-3, r=2.0, dt=DT),
        nn.LI(5e-3, v_leak=0.3, dt=DT),
        nn.I(0.5 / DT, dt=DT),
    )
    assert kinds(check(model, (6,))).count("CubaLI") == 1


def test_parameters_per_neuron_and_learned() -> None:
    model = nn.Sequential(
        nn.Linear(6, 4),
        nn.LIF(np.linspace(2e-3, 9e-3, 4), r=3.0, v_threshold=torch.linspace(0.2, 0.5, 4), dt=DT, learn="tau"),
        nn.IF(torch.full((4,), 400.0), v_threshold=0.5, dt=DT),
    )
    graph = check(model, (6,))
    assert graph["1"].tau.shape == (4,)  # type: ignore[attr-defined]


def test_recurrent() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Recurrent(lif(v_leak=0.05), nn.Linear(8, 8)), nn.Linear(8, 3), lif())
    graph = check(model, (6,))
    assert {"1.neuron", "1.connection"} <= set(graph.ops)
    assert ("1.connection", "1.neuron") in {(e.source, e.target) for e in graph.edges}


def test_recurrent_convolution_with_several_layers_and_a_leaky_neuron() -> None:
    connection = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 3, 1))
    check(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Recurrent(lif(), connection)), (2, 6, 6))
    check(nn.Sequential(nn.Recurrent(nn.LI(5e-3, v_leak=0.4, dt=DT), nn.Linear(4, 4))), (4,), gain=0.5)


def test_convolutions_norms_pools_flatten() -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 4, (3, 2), stride=(1, 2), padding=1, bias=False),
        nn.BatchNorm2d(4),
        lif(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 6, 3, padding="same", groups=2, dilation=2),
        nn.tdBatchNorm2d(6, alpha=0.5**0.5, v_th=0.8),
        lif(v_threshold=0.8),
        nn.SumPool2d(2, stride=1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(6 * 4 * 2, 10),
        nn.tdBatchNorm1d(10, affine=False),
        lif(),
    )
    graph = check(model, (2, 10, 11))
    assert "Dropout" not in kinds(graph)
    assert graph["5"].alpha == pytest.approx(0.5**0.5)  # type: ignore[attr-defined]


def test_one_dimensional_and_transposed_convolution() -> None:
    check(
        nn.Sequential(nn.Conv1d(2, 3, 3, stride=2), nn.BatchNorm1d(3), lif(), nn.Flatten(2), nn.Linear(9, 4)), (2, 19)
    )
    check(
        nn.Sequential(nn.ConvTranspose2d(2, 3, 3, stride=2, output_padding=1), lif(), nn.Upsample2d((1, 2))), (2, 4, 4)
    )


def test_pixel_shuffles_and_reshape() -> None:
    model = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(8, 4, 3), lif(), nn.PixelShuffle(2), nn.Reshape(4, 9))
    graph = check(model, (2, 10, 10))
    assert graph.shapes["output"] == (4, 9)


def test_repeat_as_a_function() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(4, 6), lif()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lif(self.fc(torch.repeat_interleave(x, 4, dim=0)))

    assert "Repeat" in kinds(check(Encoder(), (4,), steps=3))


def test_delay_scale_repeat_mean() -> None:
    model = nn.Sequential(
        nn.Repeat(3), nn.Linear(4, 6), lif(), nn.Delay(2e-3, dt=DT), nn.Scale([1.0, 2, 3, 4, 5, 6]), nn.TemporalMean(3)
    )
    check(model, (4,), steps=5)


def test_time_distributed_and_manual_folding() -> None:
    class Folding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(2, 3, 3)
            self.lif = lif()
            self.head = nn.TimeDistributed(torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.Flatten(1)))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            steps, batch = x.shape[:2]
            y = self.conv(x.flatten(0, 1))
            y = self.lif(y.view(steps, batch, *y.shape[1:]))
            return self.head(y) + self.head(y.reshape(steps * batch, 3, 4, 4).unflatten(0, (steps, batch)))

    graph = check(Folding(), (2, 6, 6))
    assert "head.module.0.1" in graph.ops  # called twice
    assert "twice" not in str(list(graph.ops))


def test_spiking_unet() -> None:
    graph = check(Unet(), (1, 8, 8), (6,))
    assert graph.inputs == ("x", "temb")
    assert {"embed.0", "embed.1", "cat", "add.spread"} <= set(graph.ops)
    assert {e.source for e in graph.incoming["lif2"]} == {"norm2", "norm_id"}


def test_outputs_by_name_and_by_number() -> None:
    class Two(nn.Module):
        def __init__(self, named: bool) -> None:
            super().__init__()
            self.a, self.b, self.lif = nn.Linear(4, 3), nn.Linear(4, 3), lif()
            self.named = named

        def forward(self, x: torch.Tensor) -> Any:
            spikes, current = self.lif(self.a(x)), self.b(x)
            return {"spikes": spikes, "sum": spikes + current} if self.named else (spikes, spikes + current, x)

    assert check(Two(True), (4,)).outputs == ("spikes", "sum")
    graph = check(Two(False), (4,))
    assert graph.outputs == ("output_0", "output_1", "output_2")
    assert {e.source for e in graph.incoming["output_1"]} == {"lif", "b"}


def test_a_shared_layer_becomes_two_ops_with_one_array() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(5, 5), lif()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lif(self.fc(self.lif(self.fc(x))))

    graph = check(Shared(), (5,))
    assert list(graph.ops) == ["input", "fc", "lif", "fc.1", "lif.1", "output"]
    assert np.shares_memory(graph["fc"].weight, graph["fc.1"].weight)  # type: ignore[attr-defined]


def test_the_graph_does_not_follow_training() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LIF(np.full(3, 5e-3), dt=DT))
    graph = load_module(model)
    before = {k: v.copy() for k, v in graph.weights().items()}
    with torch.no_grad():
        model[0].weight.fill_(7.0)
        model[1].tau.fill_(1.0)  # type: ignore[union-attr]
    assert all(np.array_equal(before[k], v) for k, v in graph.weights().items())
    assert graph["0"].weight.dtype == np.float32  # type: ignore[attr-defined]
