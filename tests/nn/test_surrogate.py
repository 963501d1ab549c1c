"""Surrogate gradients: the formulas at known points, a hard step forward, and that training works."""

from __future__ import annotations

import math

import pytest
import torch

from snnir import nn

VALUES = [
    (nn.Triangle(0.5), {0.0: 1.0, 0.25: 0.5, -0.25: 0.5, 0.5: 0.0, 2.0: 0.0}),
    (nn.Triangle(1.0), {0.0: 0.5, 0.5: 0.25, -1.0: 0.0}),
    (nn.ATan(2.0), {0.0: 1.0, 1 / math.pi: 0.5, -1 / math.pi: 0.5}),
    (nn.ATan(4.0), {0.0: 2.0, 1 / math.pi: 2.0 / 5.0}),
    (nn.FastSigmoid(25.0), {0.0: 1.0, 0.04: 0.25, -0.12: 1 / 16}),
]


@pytest.mark.parametrize(("surrogate", "points"), VALUES, ids=lambda v: str(v))
def test_formula(surrogate: nn.Surrogate, points: dict[float, float]) -> None:
    """By the derivative itself, and through one step of a layer in which v = x."""
    u = torch.tensor(list(points), dtype=torch.float64)
    want = torch.tensor(list(points.values()), dtype=torch.float64)
    torch.testing.assert_close(surrogate.derivative(u), want)
    for layer in (
        nn.IF.from_gain(dt=1.0, v_threshold=1.5, surrogate=surrogate),
        nn.IF.from_gain(dt=1.0, v_threshold=1.5, surrogate=surrogate, learn="v_threshold").double(),
    ):
        x = (u + 1.5).reshape(1, 1, -1).requires_grad_()
        spikes = layer(x)
        assert torch.equal(spikes.flatten(), (x > 1.5).double().flatten())
        spikes.sum().backward()
        torch.testing.assert_close(x.grad.flatten(), want)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("surrogate", "want"), [(nn.Triangle(0.5), 0.5), (nn.ATan(2.0), 1.0), (nn.FastSigmoid(2.0), 1.0)], ids=str
)
def test_area(surrogate: nn.Surrogate, want: float) -> None:
    """A triangle has half its base times height, the arc tangent's area is 1, the fast sigmoid's 2 / slope."""
    u = torch.linspace(-2000, 2000, 4_000_001, dtype=torch.float64)
    assert torch.trapezoid(surrogate.derivative(u), u).item() == pytest.approx(want, rel=1e-3)


def test_comparison() -> None:
    v = torch.tensor([0.9, 1.0, 1.1])
    assert nn.ATan().spike(v, 1.0).tolist() == [0, 0, 1]
    assert nn.ATan().spike(v, 1.0, inclusive=True).tolist() == [0, 1, 1]


def test_own_surrogate_runs_without_a_kernel() -> None:
    class Box(nn.Surrogate):
        def derivative(self, u: torch.Tensor) -> torch.Tensor:
            return (u.abs() < 0.5).to(u.dtype)

    layer = nn.LIF.from_decay(0.5, dt=1e-3, surrogate=Box())
    x = torch.tensor([0.2, 0.8, 1.2, 1.8]).reshape(1, 1, 4).requires_grad_()
    layer(x).sum().backward()
    assert x.grad.flatten().tolist() == [0, 1, 1, 0]  # type: ignore[union-attr]


@pytest.mark.parametrize("surrogate", [nn.Triangle(1.0), nn.ATan(2.0), nn.FastSigmoid(5.0)], ids=str)
def test_training_lowers_the_loss(surrogate: nn.Surrogate) -> None:
    """Two classes that differ in which half of the inputs is active, told apart by spikes."""
    torch.manual_seed(0)
    labels = torch.arange(32) % 2
    rates = torch.where(torch.arange(10)[None] < 5, labels[:, None], 1 - labels[:, None]) * 0.5 + 0.1
    x = (torch.rand(20, 32, 10) < rates).float()
    model = nn.Sequential(
        nn.Linear(10, 16),
        nn.LIF(0.01, r=10.0, dt=1e-3, surrogate=surrogate),
        nn.Recurrent(nn.LIF(0.01, r=10.0, dt=1e-3, surrogate=surrogate), nn.Linear(16, 16)),
        nn.Linear(16, 2),
        nn.LI(0.01, r=10.0, dt=1e-3),
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x).mean(0), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
