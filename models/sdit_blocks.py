"""The blocks of SDiT (Yang et al., arXiv 2402.11588): RWKV-4's two mixes, each through spiking neurons.

A block is real-valued arithmetic on tokens; its two branches pass through leaky integrate-and-fire neurons that see
the branch's value for T steps and give their mean rate: 0, 1/4, 1/2 or 1 of a value that is below 1.07, 1.33, 2 or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch

from snnir import nn

DT = 1e-3  # seconds; tau is two steps, so the paper's SpikingJelly neuron: v <- v + (x - v) / 2, a spike at v >= 1


@dataclass(frozen=True)
class Shape:
    """What a block has to know.

    Args:
        width: channels of a token. tokens: of the image, and the one of time and label.
        steps: SNN steps of the neurons. reconstruction: whether there is a Reconstruction Module.
        layer, layers: place among the blocks, which the decays and mixes start from.
    """

    width: int
    tokens: int
    steps: int
    reconstruction: bool
    layer: int
    layers: int


class Rate(nn.Sequential):
    """Values -> the mean rate of neurons that take them as a constant current for `steps` steps."""

    def __init__(self, steps: int) -> None:
        neurons = nn.LIF(2 * DT, dt=DT, comparison=">=", detach_reset=False, surrogate=nn.ATan())
        super().__init__()
        self.repeat = nn.Repeat(steps)
        self.neurons = neurons
        self.mean = nn.TemporalMean(steps)


class TimeMix(nn.Module):
    """sigmoid(r) * wkv(k, v), with r, k, v linear in a token and the one before it (RWKV-4)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, (early, late) = shape.width, _place(shape)
        at = torch.arange(width) / width
        self.shift_k = nn.TokenShift(at**late)
        self.shift_v = nn.TokenShift(at**late + 0.3 * early)
        self.shift_r = nn.TokenShift(at ** (0.5 * late))
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.receptance = nn.Linear(width, width, bias=False)
        speed = (torch.arange(width) / max(width - 1, 1)) ** (0.7 + 1.3 * early)
        zigzag = (torch.arange(width) + 1) % 3 - 1
        self.wkv = nn.Wkv(-5 + 8 * speed, log(0.3) + 0.5 * zigzag)
        self.gate = nn.Sigmoid()
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed = self.wkv(self.key(self.shift_k(x)), self.value(self.shift_v(x)))
        return self.output(self.gate(self.receptance(self.shift_r(x))) * mixed)


class ChannelMix(nn.Module):
    """sigmoid(r) * W relu(k)^2, with r and k linear in a token and the one before it (RWKV-4)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, (_, late) = shape.width, _place(shape)
        at = torch.arange(width) / width
        self.shift_k = nn.TokenShift(at**late)
        self.shift_r = nn.TokenShift(at**late)
        self.key = nn.Linear(width, 4 * width, bias=False)
        self.square = nn.SquaredReLU()
        self.value = nn.Linear(4 * width, width, bias=False)
        self.receptance = nn.Linear(width, width, bias=False)
        self.gate = nn.Sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.value(self.square(self.key(self.shift_k(x))))
        return self.gate(self.receptance(self.shift_r(x))) * inner


class Reconstruction(nn.Module):
    """x + x * g, with g from the reconstruction tokens: linear over channels, then over tokens.

    These tokens stand last, so they have seen the whole image: the only way by which later tokens reach earlier ones.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.channels = nn.Linear(shape.width, shape.tokens)
        self.tokens = nn.Linear(shape.tokens, shape.width)

    def forward(self, x: torch.Tensor, extra: torch.Tensor) -> torch.Tensor:
        return x + x * self.tokens(self.channels(extra).transpose(-1, -2))


class Block(nn.Module):
    """Tokens in, tokens out: (T, B, tokens, width); a block of the second half also takes what an earlier one gave."""

    def __init__(self, shape: Shape, skip: bool = False) -> None:
        super().__init__()
        self.count = shape.tokens
        self.join = nn.Linear(2 * shape.width, shape.width) if skip else None
        self.norm1 = nn.PlainLayerNorm(shape.width, eps=1e-6)
        self.time_mix = TimeMix(shape)
        self.rate1 = Rate(shape.steps)
        self.norm2 = nn.PlainLayerNorm(shape.width, eps=1e-6)
        self.channel_mix = ChannelMix(shape)
        self.rate2 = Rate(shape.steps)
        self.extra: nn.Constant | None = None
        self.reconstruction: Reconstruction | None = None
        if shape.reconstruction:
            self.extra = nn.Constant(torch.ones(shape.tokens, shape.width), learn=True)
            self.reconstruction = Reconstruction(shape)

    def forward(self, x: torch.Tensor, skip: torch.Tensor | None = None) -> torch.Tensor:
        if self.join is not None and skip is not None:
            x = self.join(torch.cat([x, skip], dim=-1))
        if self.extra is not None:
            x = torch.cat([x, self.extra(x)], dim=-2)
        x = x + self.rate1(self.time_mix(self.norm1(x)))
        x = x + self.rate2(self.channel_mix(self.norm2(x)))
        if self.reconstruction is None:
            return x
        return self.reconstruction(x[..., : self.count, :], x[..., self.count :, :])


def _place(shape: Shape) -> tuple[float, float]:
    """How far a layer is through the network: 0 to 1 from the first to the last, and what is left of the way."""
    return shape.layer / max(shape.layers - 1, 1), 1 - shape.layer / shape.layers
