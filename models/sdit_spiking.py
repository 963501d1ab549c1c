"""SDiT's variant that is spiking throughout: what NIR and a neuromorphic chip take in place of what they have not.

    snnir compile models/sdit.py --preset digits --variant spiking --target nir -o out

| published | here |
|---|---|
| layer norm | batch norm, whose statistics are fixed and fold into weights, before neurons |
| WKV: tokens weighed by exponentials of a key, causal | the exponential filter that WKV is where keys are constant: a |
| | quarter of the channels decays from each corner, so both directions along rows and columns are heard |
| token shift | a depthwise 3x3 convolution: every neighbour, not only the one before |
| sigmoid(r) * wkv | neurons that take r + wkv as their current: both together reach the threshold |
| relu(k)^2 | neurons |
| x + x g (Reconstruction Module) | x + g, where g comes from neurons that see the whole image |
| one token of time and label | currents into neurons of every block, the same at every place |
| T steps inside each branch | T steps of the whole network, as in FSDDIM: membranes start at rest in every call |

The stream between blocks is a sum of currents, never a spike and never read by anything but neurons and the head, so
all of it is weights between populations. Tokens lie as a map, (width, rows, columns), patches folded into channels
outside the network (DiffusionSpec.fold), so that no op has to move values.

No published figures exist for it: docs/sdit.md has our own.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import torch

from snnir import nn
from snnir.diffusion.spec import DiffusionSpec

if TYPE_CHECKING:
    from snnir.models.sdit import Config

DT = 1e-3  # seconds
DECAY = 0.8  # of a membrane in a step: FSDDIM's neuron, which also reaches a spike by a current of a third
HALF = 0.5**0.5  # tdBN's alpha where two currents meet before one neuron
EXPAND = 4  # hidden neurons per channel of the channel mix, as in RWKV
RANK = 4  # channels through which the whole image is seen, and spoken to
WHOLE = 7  # grids up to this size are filtered whole, ...
REACH = 3  # ... larger ones as far as this many tokens, so that kernels in one group (NIR) stay below 2^24 weights


def lif() -> nn.LIF:
    """u <- 0.8 u + I, a spike above 1 (NIR's comparison), hard reset that gradients do not see."""
    return nn.LIF.from_decay(DECAY, dt=DT, v_threshold=1.0, detach_reset=True, surrogate=nn.Triangle(width=0.5))


class Condition(nn.Module):
    """A vector of spikes -> the same current at every place, (T, B, width, 1, 1)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.weights = nn.Linear(inputs, width)
        self.spread = nn.Reshape(width, 1, 1)

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        return self.spread(self.weights(spikes))


class TimeMix(nn.Module):
    """Neurons that take the filtered and the neighbouring tokens' spikes, and say what they heard to the stream."""

    def __init__(self, width: int, reach: int) -> None:
        super().__init__()
        self.norm = nn.tdBatchNorm2d(width)
        self.neurons = lif()
        self.filter = nn.ExponentialFilter2d(width, reach)
        self.value = nn.Conv2d(width, width, 1)
        self.value_norm = nn.tdBatchNorm2d(width, HALF)
        self.shift = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.receptance = nn.Conv2d(width, width, 1)
        self.receptance_norm = nn.tdBatchNorm2d(width, HALF)
        self.condition = Condition(width, width)
        self.gate = lif()
        self.output = nn.Conv2d(width, width, 1)

    def forward(self, x: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        spikes = self.neurons(self.norm(x))
        heard = self.value_norm(self.value(self.filter(spikes)))
        wanted = self.receptance_norm(self.receptance(self.shift(spikes)))
        return self.output(self.gate(heard + wanted + self.condition(known)))


class ChannelMix(nn.Module):
    """Every token on its own, with its neighbours: EXPAND neurons per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shift = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.key = nn.Conv2d(width, EXPAND * width, 1)
        self.norm = nn.tdBatchNorm2d(EXPAND * width)
        self.neurons = lif()
        self.value = nn.Conv2d(EXPAND * width, width, 1)

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        return self.value(self.neurons(self.norm(self.key(self.shift(spikes)))))


class Reconstruction(nn.Module):
    """Neurons that see the whole image and know time and label -> a current for every place."""

    def __init__(self, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        # nir's reader (1.0.8) takes a kernel's height for its width: a square one, whose rim sees zeros only, where
        # padding on both sides makes the grid square. No gradient ever reaches the rim.
        even = (grid[0] - grid[1]) % 2 == 0
        kernel = (max(grid), max(grid)) if even else grid
        rim = [k - n for k, n in zip(kernel, grid, strict=True)]
        self.narrow = nn.Conv2d(width, RANK, 1)
        self.whole = nn.Conv2d(RANK, width, kernel, padding=(rim[0] // 2, rim[1] // 2))
        self.norm = nn.tdBatchNorm2d(width)
        self.condition = Condition(width, width)
        self.neurons = lif()
        pads = (grid[0] + rim[0] // 2 - 1, grid[1] + rim[1] // 2 - 1)
        self.places = nn.Conv2d(width, RANK, kernel, padding=pads)  # of one pixel: a value per place
        self.widen = nn.Conv2d(RANK, width, 1)

    def forward(self, spikes: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        seen = self.norm(self.whole(self.narrow(spikes)))
        return self.widen(self.places(self.neurons(seen + self.condition(known))))


class Block(nn.Module):
    """A stream of currents in and out, (T, B, width, rows, columns); `known`: spikes that tell time and label."""

    def __init__(self, width: int, grid: tuple[int, int], reconstruction: bool, skip: bool = False) -> None:
        super().__init__()
        whole = max(grid) <= WHOLE
        self.join = nn.Conv2d(2 * width, width, 1) if skip else None
        self.time_mix = TimeMix(width, max(grid) - 1 if whole else REACH)
        self.norm = nn.tdBatchNorm2d(width)
        self.neurons = lif()
        self.channel_mix = ChannelMix(width)
        self.reconstruction = Reconstruction(width, grid) if reconstruction else None

    def forward(self, x: torch.Tensor, known: torch.Tensor, skip: torch.Tensor | None = None) -> torch.Tensor:
        if self.join is not None and skip is not None:
            x = self.join(torch.cat([x, skip], dim=2))
        x = x + self.time_mix(x, known)
        spikes = self.neurons(self.norm(x))
        x = x + self.channel_mix(spikes)
        return x if self.reconstruction is None else x + self.reconstruction(spikes, known)


class SpikingSDiT(nn.Module):
    """Common to networks with and without labels: x (T, B, C p^2, rows, columns), T = config.steps."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        channels, height, width = config.image
        fold, half = config.patch**2, config.depth // 2
        self.currents = (channels * fold, height // config.patch, width // config.patch)

        def block(skip: bool = False) -> Block:
            return Block(config.width, config.grid, config.reconstruction, skip)

        self.patches = nn.Conv2d(channels * fold, config.width, 1)
        self.time_current = nn.Linear(config.time, config.width)
        self.label_embedding = nn.Linear(config.classes + 1, config.width, bias=False) if config.classes else None
        self.known = lif()
        self.blocks_in = torch.nn.ModuleList(block() for _ in range(half))
        self.block_middle = block()
        self.blocks_out = torch.nn.ModuleList(block(skip=True) for _ in range(half))
        self.head = nn.Conv2d(config.width, fold * config.outputs, 3, padding=1)
        self.input_shape = {"x": self.currents, "time": (config.time,)}
        if config.classes:
            self.input_shape["label"] = (config.classes + 1,)
        self.diffusion = DiffusionSpec(
            **{**asdict(config.diffusion), "image": config.image, "fold": config.patch, "steps": config.steps}
        )
        self.graph_metadata = {
            "sdit": {**asdict(config), "image": list(config.image), "variant": "spiking"},
            "diffusion": self.diffusion.to_dict(),
        }

    def denoise(self, x: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        """The noisy image and the current that tells time and label -> the prediction, a current per step."""
        known = self.known(told)
        x = self.patches(x)
        skips: list[torch.Tensor] = []
        for block in self.blocks_in:
            x = block(x, known)
            skips.append(x)
        x = self.block_middle(x, known)
        for block in self.blocks_out:
            x = block(x, known, skips.pop())
        return self.head(x)


class LabelledSpikingSDiT(SpikingSDiT):
    """x (T, B, C p^2, rows, columns), time (T, B, features), label (T, B, classes + 1) -> the prediction, as x."""

    def forward(self, x: torch.Tensor, time: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        assert self.label_embedding is not None  # built with classes
        return self.denoise(x, self.time_current(time) + self.label_embedding(label))


class PlainSpikingSDiT(SpikingSDiT):
    """x (T, B, C p^2, rows, columns), time (T, B, features) -> the prediction, as x."""

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return self.denoise(x, self.time_current(time))
