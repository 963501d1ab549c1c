"""Layers over (T, B, *shape): each is its PyTorch parent, step by step, and keeps its parent's state_dict."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from snnir import nn

PAIRS: list[tuple[torch.nn.Module, torch.nn.Module, tuple[int, ...]]] = [
    (nn.Conv1d(3, 4, 3, padding=1, groups=1), torch.nn.Conv1d(3, 4, 3, padding=1), (3, 7)),
    (nn.Conv2d(3, 4, (3, 2), stride=2), torch.nn.Conv2d(3, 4, (3, 2), stride=2), (3, 7, 6)),
    (nn.ConvTranspose2d(3, 2, 2, stride=2), torch.nn.ConvTranspose2d(3, 2, 2, stride=2), (3, 4, 5)),
    (nn.AvgPool2d(2), torch.nn.AvgPool2d(2), (3, 4, 6)),
    (nn.Flatten(), torch.nn.Flatten(), (3, 4, 6)),
    (nn.Flatten(2), torch.nn.Flatten(2), (3, 4, 6)),
    (nn.Upsample2d((2, 3)), torch.nn.Upsample(scale_factor=(2.0, 3.0)), (3, 4, 6)),
    (nn.SumPool2d(2, padding=1), torch.nn.AvgPool2d(2, padding=1, divisor_override=1), (3, 4, 6)),
    (nn.TimeDistributed(torch.nn.MaxPool2d(2)), torch.nn.MaxPool2d(2), (3, 4, 6)),
    (nn.Reshape(4, 3), torch.nn.Unflatten(1, (4, 3)), (12,)),
    (nn.BatchNorm1d(5).eval(), torch.nn.BatchNorm1d(5).eval(), (5,)),
    (nn.BatchNorm2d(3).eval(), torch.nn.BatchNorm2d(3).eval(), (3, 4, 4)),
]


@pytest.mark.parametrize(("ours", "theirs", "shape"), PAIRS, ids=lambda v: type(v).__name__)
def test_like_pytorch_at_every_step(ours: torch.nn.Module, theirs: torch.nn.Module, shape: tuple[int, ...]) -> None:
    for tensor in theirs.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.1)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(5, 2, *shape)
    with torch.no_grad():
        want = torch.stack([theirs(step) for step in x])
        torch.testing.assert_close(ours(x), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [nn.Conv1d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.AvgPool2d(2), nn.BatchNorm2d(3), nn.tdBatchNorm2d(3), nn.Upsample2d()],
    ids=lambda v: type(v).__name__,
)
def test_a_missing_time_axis_is_named(layer: torch.nn.Module) -> None:
    with pytest.raises(ValueError, match=r"takes \(T, B, \*shape\).*arrives"):
        layer(torch.zeros(3, 8, 8))


@pytest.mark.parametrize(
    ("kind", "shape"), [(nn.tdBatchNorm1d, ()), (nn.tdBatchNorm1d, (6,)), (nn.tdBatchNorm2d, (4, 4))]
)
def test_tdbn_is_its_formula(kind: Any, shape: tuple[int, ...]) -> None:
    """y = gamma alpha v_th (x - mean) / sqrt(var + eps) + beta over T, B and space; running statistics as PyTorch's."""
    torch.manual_seed(1)
    layer = kind(3, alpha=0.5**0.5, v_th=0.7)
    twin = (torch.nn.BatchNorm1d if len(shape) < 2 else torch.nn.BatchNorm2d)(3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        layer.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
    x = torch.randn(6, 5, 3, *shape) * 2 + 1
    axes = [0, 1, *range(3, x.dim())]
    mean, var = x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)
    per_channel = (1, 1, 3, *[1] * len(shape))
    gamma, beta = layer.weight.reshape(per_channel), layer.bias.reshape(per_channel)
    want = gamma * 0.5**0.5 * 0.7 * (x - mean) / (var + layer.eps).sqrt() + beta
    torch.testing.assert_close(layer(x), want)
    twin(x.flatten(0, 1))
    torch.testing.assert_close(layer.running_mean, twin.running_mean)
    torch.testing.assert_close(layer.running_var, twin.running_var)
    layer.eval()
    mean, var = layer.running_mean.reshape(per_channel), layer.running_var.reshape(per_channel)
    torch.testing.assert_close(layer(x), gamma * 0.5**0.5 * 0.7 * (x - mean) / (var + layer.eps).sqrt() + beta)


def test_tdbn_without_affine_keeps_the_factor() -> None:
    x = torch.randn(4, 8, 2, 3, 3)
    plain = nn.BatchNorm2d(2, affine=False, momentum=None)
    layer = nn.tdBatchNorm2d(2, alpha=2.0, v_th=0.25, affine=False, momentum=None)
    torch.testing.assert_close(layer(x), 0.5 * plain(x))
    layer(x + 1)
    plain(x + 1)
    torch.testing.assert_close(layer.running_mean, plain.running_mean)


def test_repeat_and_mean_are_inverse() -> None:
    x = torch.randn(3, 2, 4)
    y = nn.Repeat(4)(x)
    assert y.shape == (12, 2, 4)
    assert torch.equal(y[4:8], x[1].expand(4, -1, -1))
    torch.testing.assert_close(nn.TemporalMean(4)(y), x)
    with pytest.raises(ValueError, match="12 steps do not divide into means over 5"):
        nn.TemporalMean(5)(y)
    with pytest.raises(ValueError, match="whole number"):
        nn.Repeat(0)


def test_delay() -> None:
    x = torch.arange(1.0, 7.0).reshape(6, 1, 1).expand(6, 1, 3)
    y = nn.Delay(torch.tensor([0.0, 2e-3, 9e-3]), dt=1e-3)(x)
    assert y[:, 0].T.tolist() == [[1, 2, 3, 4, 5, 6], [0, 0, 1, 2, 3, 4], [0] * 6]
    assert nn.Delay(1e-3, dt=1e-3)(x)[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="expected 0 or more"):
        nn.Delay(-1e-3)


def test_scale_and_learning_it() -> None:
    x = torch.randn(4, 2, 3)
    torch.testing.assert_close(nn.Scale([1.0, 2.0, 3.0])(x), x * torch.tensor([1.0, 2.0, 3.0]))
    assert [n for n, _ in nn.Scale(2.0, learn=True).named_parameters()] == ["scale"]
    assert list(nn.Scale(2.0).parameters()) == []


def test_recurrent_by_hand() -> None:
    """y[t] = lif(x[t] + W y[t-1] + b), y[-1] = 0: the bias acts at step 0 already."""
    torch.manual_seed(0)
    neuron, connection = nn.LIF.from_decay(0.7, dt=1e-3), nn.Linear(4, 4)
    x = torch.rand(25, 3, 4)
    v, y, want = torch.zeros(3, 4), torch.zeros(3, 4), []
    for current in x:
        v = 0.7 * v + current + connection(y)
        y = (v > 1).float()
        v = v * (1 - y)
        want.append(y)
    got = nn.Recurrent(neuron, connection)(x)
    assert torch.equal(got, torch.stack(want))
    assert 0.05 < got.mean() < 0.9


def test_recurrent_refuses_what_it_cannot_step() -> None:
    with pytest.raises(ValueError, match="the connection holds a LIF"):
        nn.Recurrent(nn.LIF(0.01), nn.Sequential(nn.Linear(3, 3), nn.LIF(0.01)))
    with pytest.raises(ValueError, match="neuron is a Linear"):
        nn.Recurrent(nn.Linear(3, 3), nn.Linear(3, 3))  # type: ignore[arg-type]


def test_channels_last_and_half_precision_go_through() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.tdBatchNorm2d(3), nn.LIF.from_decay(0.8, dt=1e-3), nn.AvgPool2d(2))
    x = torch.randn(4, 2, 2, 8, 8)
    want = model.eval()(x)
    last = x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (4, 2))
    torch.testing.assert_close(model(last), want)
    assert model.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
