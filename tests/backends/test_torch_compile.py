"""`torch.compile` of an emitted model: the same spikes; with the populations left out of it, whatever the steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import snnir
from snnir.graph import Graph, chain
from snnir.ops import LIF, AvgPool2d, Conv2d, CubaLIF, Flatten, Input, Linear, Output
from snnir.semantics import Semantics


def net() -> Graph:
    rng = np.random.default_rng(0)
    return chain(
        ("in", Input(shape=(2, 6, 6))),
        ("c", Conv2d(weight=rng.normal(0.1, 0.3, (4, 2, 3, 3)), bias=rng.normal(size=4) / 10, padding=(1, 1))),
        ("a", LIF(tau=7.3e-3, r=4.1, v_threshold=0.7)),
        ("p", AvgPool2d(kernel_size=(2, 2), stride=(2, 2))),
        ("f", Flatten()),
        ("w", Linear(weight=rng.normal(0.1, 0.4, (8, 36)))),
        ("b", CubaLIF(tau_mem=9.1e-3, tau_syn=3.3e-3, r=3.0, v_threshold=0.31)),
        ("out", Output()),
        semantics=Semantics(dt=1e-3),
    )


@pytest.mark.parametrize(("steps", "apart"), [(2, False), (30, True)])
def test_the_same_spikes_and_gradients(steps: int, apart: bool) -> None:
    """`apart`: as docs/targets.md proposes for sequences that are not short."""
    spikes = np.random.default_rng(1).random((steps, 3, 2, 6, 6)) < 0.6
    x = torch.from_numpy(spikes.astype(np.float32))
    eager, model = (snnir.compile(net(), "torch").module() for _ in range(2))
    if apart:
        for layer in model.modules():
            if hasattr(layer, "rule"):
                layer.forward = torch.compiler.disable(layer.forward)
    torch._dynamo.reset()
    compiled: Any = torch.compile(model, backend="aot_eager")
    want, got = eager(x), compiled(x)
    assert want.sum() > 10
    assert torch.equal(got, want)
    want.sum().backward()
    got.sum().backward()
    for name, parameter in eager.named_parameters():
        assert parameter.grad.abs().sum() > 0
        torch.testing.assert_close(model.get_parameter(name).grad, parameter.grad)
