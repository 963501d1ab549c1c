"""What the tests of the torch.fx frontend share: models with random weights, and the check that they agree."""

from __future__ import annotations

from inspect import signature
from typing import Any, ClassVar

import numpy as np
import torch

from snnir import interpret, nn
from snnir.frontends.torch_fx import load_module
from snnir.graph import Graph

DT = 1e-3


def lif(**options: Any) -> nn.LIF:
    return nn.LIF.from_decay(0.8, dt=DT, **options)


def randomised(model: torch.nn.Module, gain: float) -> torch.nn.Module:
    """Float64, with weights that make spikes and norms away from their neutral start."""
    model.double()
    for module in model.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.modules.conv._ConvNd)):
            module.weight.data.mul_(gain)
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                if tensor is not None:
                    tensor.data.uniform_(0.3, 1.2)
    return model


def check(
    model: torch.nn.Module, *shapes: tuple[int, ...], gain: float = 3.0, steps: int = 12, **options: Any
) -> Graph:
    """Loads a model and holds the interpreter to it; returns the graph."""
    torch.manual_seed(0)
    randomised(model, gain)
    names = ["input"] if len(shapes) == 1 else list(signature(model.forward).parameters)
    given = options or {"input_shape": shapes[0] if len(shapes) == 1 else list(shapes)}
    training = [m.training for m in model.modules()]
    graph = load_module(model, **given)
    assert [m.training for m in model.modules()] == training
    x = [torch.randn(steps, 3, *shape, dtype=torch.float64) for shape in shapes]
    model.eval()
    with torch.no_grad():
        want = model(*x)
    got = interpret(graph, dict(zip(names, (v.numpy() for v in x), strict=True)))
    model.train()
    wanted = (
        want
        if isinstance(want, dict)
        else dict(zip(graph.outputs, want if isinstance(want, tuple) else [want], strict=True))
    )
    found = got if isinstance(got, dict) else {graph.outputs[0]: got}
    assert list(found) == list(wanted)
    for name, values in wanted.items():
        values = values.numpy()
        if values.ndim == found[name].ndim - 1:  # time was reduced away: one step in the graph
            values = values[None]
        np.testing.assert_allclose(found[name], values, atol=1e-9, err_msg=name)
        assert 0 < np.abs(values).mean()
        if set(np.unique(values)) <= {0.0, 1.0}:
            assert 0.02 < values.mean() < 0.98, "a test on silence proves nothing"
    return graph


def kinds(graph: Graph) -> list[str]:
    return [op.kind for op in graph.ops.values()]


class Unet(nn.Module):
    """FSDDIM's blocks in small: residual sums of currents, norms on the identity path, skips by concatenation."""

    input_shape: ClassVar = {"x": (1, 8, 8), "temb": (6,)}

    def __init__(self) -> None:
        super().__init__()
        half = 0.5**0.5
        self.conv_in = nn.Conv2d(1, 4, 3, padding=1)
        self.embed = nn.Sequential(nn.Linear(6, 8), lif(), nn.Linear(8, 4))
        self.embed_lif = lif()
        self.project = nn.Linear(4, 4)
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1)
        self.norm1 = nn.tdBatchNorm2d(4)
        self.lif1 = lif()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.norm2 = nn.tdBatchNorm2d(4, alpha=half)
        self.norm_id = nn.tdBatchNorm2d(4, alpha=half)
        self.lif2 = lif()
        self.pool = nn.AvgPool2d(2)
        self.down = nn.Conv2d(4, 6, 1)
        self.up = nn.Upsample2d(2)
        self.mid = nn.Conv2d(6, 4, 3, padding=1)
        self.lif3 = lif()
        self.out = nn.Conv2d(12, 1, 1)

    def forward(self, x: torch.Tensor, temb: torch.Tensor) -> torch.Tensor:
        h0 = self.conv_in(x)
        t = self.project(self.embed_lif(self.embed(temb)))
        h = self.conv1(h0) + t[..., None, None]
        h = self.lif1(self.norm1(h))
        h = self.lif2(self.norm2(self.conv2(h)) + self.norm_id(h0))
        low = self.down(self.pool(h))
        h2 = self.lif3(self.mid(self.up(low)))
        return self.out(torch.cat([h, h2, h0], dim=2))
