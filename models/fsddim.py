"""FSDDIM's spiking UNet (Watanabe, Mukuta and Harada, arXiv 2312.01742), defined once, at several sizes.

The network predicts v from a noisy image. Both come and go as synaptic currents, one value per SNN step: the image is
repeated (linear encoder), the last layer is a current without a neuron, and its mean over time is v (linear decoder).
Between the first and the last convolution everything that a neuron sends is a spike.

    snnir compile models/fsddim.py --preset small --target torch,norse -o out
    snnir sample models/fsddim.py --preset small --weights shipped -n 64 -o grid.png
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from snnir import nn
from snnir.diffusion.spec import DiffusionSpec
from snnir.errors import UsageError, there_are
from snnir.models.fsddim_nano import NanoNet
from snnir.models.fsddim_nano import build as nano
from snnir.models.loading import load_weights, shipped

DT = 1e-3  # seconds
DECAY = 0.8  # of the membrane in a step; the configuration files of the paper call it tau
V_TH = 1.0
HALF = 0.5**0.5  # alpha of tdBN where two branches meet before one neuron


@dataclass(frozen=True)
class Config:
    """One size of the network.

    Args:
        image: channels, height and width of an image.
        fold: space-to-depth factor; the network sees (C * fold^2, H / fold, W / fold), pixels only re-indexed.
        steps: SNN steps of one denoising call (4 or 8 in the paper).
        widths: channels of the levels, as the paper writes them: base * [1, 2, 3, 4].
        blocks: ResBlocks per level.
        time: length of the sinusoidal time embedding, and of the vector made from it.
        reset: 'value' (the paper's hard reset to 0) or 'subtract' (soft: what Xylo has).
        stem_skip: whether the first convolution's real-valued output also goes to later ones, as in the paper. Without
            it the last convolution sees spikes only, and so does the next denoising call (fuse-decoder).
        middle: ResBlocks at the lowest resolution.
        levels: neurons per channel, with graded thresholds (`Levels`); 1 is the paper's.
    """

    image: tuple[int, int, int]
    widths: tuple[int, ...]
    fold: int = 1
    steps: int = 4
    blocks: int = 2
    time: tuple[int, int] = (128, 512)
    reset: str = "value"
    stem_skip: bool = True
    middle: int = 2
    levels: int = 1


PRESETS = {
    "paper": Config(image=(1, 32, 32), widths=(128, 256, 384, 512)),
    "small": Config(image=(1, 28, 28), fold=2, widths=(32, 64), blocks=1, time=(64, 128), steps=1, levels=8),
    "small-temporal": Config(image=(1, 28, 28), fold=2, widths=(32, 64), blocks=1, time=(64, 128)),
    "digits": Config(image=(1, 8, 8), widths=(24, 48), blocks=1, time=(32, 64), stem_skip=False, middle=1),
}


def lif(config: Config) -> nn.LIF | Levels:
    """What stands behind every norm: the paper's neuron, or several with graded thresholds."""
    return neuron(config, V_TH) if config.levels == 1 else Levels(config)


def neuron(config: Config, v_threshold: float) -> nn.LIF:
    """u <- 0.8 u (1 - o) + I, a spike above the threshold, hard reset that is detached.

    Learns by a triangle of width 0.5, as the paper's; among graded ones by an arc tangent, which leaves no gaps.
    """
    return nn.LIF.from_decay(
        DECAY,
        dt=DT,
        v_threshold=v_threshold,
        reset=config.reset,
        detach_reset=True,
        surrogate=nn.Triangle(width=0.5) if config.levels == 1 else nn.ATan(4.0),
    )


class Levels(nn.Module):
    """Neurons with graded thresholds in the place of one: the part of them that spikes says how large a current is.

    `config.levels` neurons share a channel's current; the k-th, from 0, fires above (k + 1/2) / levels. In a step they
    say as much as one neuron in that many steps of a steady current, and they add up the same weights. What one spike
    counts, 1 / levels at first, is learned, a number for all of them; what follows could take it over.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        levels = config.levels
        self.neurons = torch.nn.ModuleList(neuron(config, (k + 0.5) / levels) for k in range(levels))
        self.worth = nn.Scale(1 / levels, learn=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, *others = self.neurons.children()
        spikes = first(x)
        for other in others:
            spikes = spikes + other(x)
        return self.worth(spikes)


def norm(channels: int, alpha: float = 1.0) -> nn.tdBatchNorm2d:
    return nn.tdBatchNorm2d(channels, alpha=alpha, v_th=V_TH)


class TimeEmbedding(nn.Module):
    """The sinusoid of t, a current at every step -> currents for the ResBlocks' own time neurons."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        size, width = config.time
        self.expand = nn.Linear(size, width)
        self.neurons = lif(config)
        self.mix = nn.Linear(width, width)

    def forward(self, time: torch.Tensor) -> torch.Tensor:
        return self.mix(self.neurons(self.expand(time)))


class ResBlock(nn.Module):
    """Spikes and time currents in, spikes out: the two branches' currents are summed before the last neuron."""

    def __init__(self, config: Config, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time_neurons = lif(config)
        self.time = nn.Linear(config.time[1], outputs)
        self.spread = nn.Reshape(outputs, 1, 1)
        self.norm1 = norm(outputs)
        self.neurons1 = lif(config)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm2 = norm(outputs, HALF)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        self.shortcut_norm = norm(outputs, HALF)
        self.neurons2 = lif(config)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        h = self.conv1(x) + self.spread(self.time(self.time_neurons(time)))
        h = self.norm2(self.conv2(self.neurons1(self.norm1(h))))
        return self.neurons2(h + self.shortcut_norm(self.shortcut(x)))


class ConvNeurons(nn.Module):
    """Conv3x3, tdBN, LIF: what ends the level that is not resampled."""

    def __init__(self, config: Config, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm = norm(outputs)
        self.neurons = lif(config)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.neurons(self.norm(self.conv(x)))


class Down(nn.Module):
    """Half the resolution, linear: average pooling and a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(2)
        self.conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.pool(x))


class Up(nn.Module):
    """Twice the resolution, linear: nearest neighbour and a convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.upsample = nn.Upsample2d(2)
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.upsample(x))


class SpikingUNet(nn.Module):
    """Common to both arrangements: what goes in and out, and what a sampler has to know."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        channels, height, width = config.image
        fold = config.fold
        self.config = config
        self.currents = (channels * fold**2, height // fold, width // fold)
        self.input_shape = {"x": self.currents, "time": (config.time[0],)}
        self.diffusion = DiffusionSpec(
            image=config.image, fold=fold, steps=config.steps, time_size=config.time[0], input="x", time="time"
        )
        self.graph_metadata = {"diffusion": self.diffusion.to_dict()}


class PaperUNet(SpikingUNet):
    """The UNet of the paper: levels of ResBlocks, the last one without resampling, ResBlocks in the middle, and back.

    x (S, B, *currents), time (S, B, time size) -> v as currents (S, B, *currents).
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        base = config.widths[0]
        levels = list(zip((base, *config.widths[:-1]), config.widths, strict=True))
        last, n = len(levels) - 1, config.blocks
        self.time_embedding = TimeEmbedding(config)
        self.conv_in = nn.Conv2d(self.currents[0], base, 3, padding=1)
        self.down = torch.nn.ModuleList(
            torch.nn.ModuleList(ResBlock(config, inner, inner) for _ in range(n)) for inner, _ in levels
        )
        self.down_end = torch.nn.ModuleList(
            ConvNeurons(config, *level) if i == last else Down(*level) for i, level in enumerate(levels)
        )
        self.middle = torch.nn.ModuleList(
            ResBlock(config, config.widths[-1], config.widths[-1]) for _ in range(config.middle)
        )
        self.up = torch.nn.ModuleList(
            torch.nn.ModuleList(ResBlock(config, outer + inner, outer) for _ in range(n))
            for inner, outer in reversed(levels)
        )
        self.up_end = torch.nn.ModuleList(
            ConvNeurons(config, outer, inner) if i == last else Up(outer, inner, 3)
            for i, (inner, outer) in enumerate(reversed(levels))
        )
        self.final = ResBlock(config, 2 * base, base)
        joined = base * (1 + config.stem_skip + 2 * n)
        self.conv_out = nn.Conv2d(joined, self.currents[0], 1)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        time = self.time_embedding(time)
        stem = x = self.conv_in(x)
        skips: list[torch.Tensor] = []
        for blocks, end in zip(self.down, self.down_end, strict=True):
            for block in blocks.children():
                x = block(x, time)
                skips.append(x)
            x = end(x)
        outer = skips[: self.config.blocks]
        for block in self.middle:
            x = block(x, time)
        for blocks, end in zip(self.up, self.up_end, strict=True):
            ups: list[torch.Tensor] = []
            for block in blocks.children():
                x = block(torch.cat([x, skips.pop()], dim=2), time)
                ups.append(x)
            x = end(x)
        x = self.final(torch.cat([x, stem], dim=2), time)
        parts = [x, stem, *outer, *ups] if self.config.stem_skip else [x, *outer, *ups]
        return self.conv_out(torch.cat(parts, dim=2))


class SmallUNet(SpikingUNet):
    """Two resolutions: the same parts, in an arrangement that trains on one processor core.

    The stem, real-valued, goes where it does in the paper, to the last ResBlock and the last convolution, and
    also down: what the first ResBlock says in spikes of a very noisy image is too coarse for the shape of the whole.

    x (S, B, *currents), time (S, B, time size) -> v as currents (S, B, *currents).
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        wide, deep = config.widths
        stem = wide * config.stem_skip
        self.time_embedding = TimeEmbedding(config)
        self.conv_in = nn.Conv2d(self.currents[0], wide, 3, padding=1)
        self.down = ResBlock(config, wide, wide)
        self.down_end = Down(wide + stem, deep)
        self.middle = torch.nn.ModuleList(ResBlock(config, deep, deep) for _ in range(config.middle))
        self.up_end = Up(deep, wide, 1)
        self.up = ResBlock(config, 2 * wide + stem, wide)
        self.conv_out = nn.Conv2d(2 * wide + stem, self.currents[0], 1)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        time = self.time_embedding(time)
        stem = self.conv_in(x)
        down = self.down(stem, time)
        skips = [down, stem] if self.config.stem_skip else [down]
        x = self.down_end(torch.cat(skips, dim=2) if self.config.stem_skip else down)
        for block in self.middle.children():
            x = block(x, time)
        x = self.up(torch.cat([self.up_end(x), *skips], dim=2), time)
        return self.conv_out(torch.cat([x, *skips], dim=2))


def _faults(config: Config, paper: bool) -> list[str]:
    """What is wrong with a size, all of it."""
    found = []
    for name, least in (("levels", 1), ("steps", 1), ("blocks", 1), ("fold", 1), ("middle", 0)):
        value = getattr(config, name)
        if not _whole(value):
            found.append(f"{name} is {value!r}, expected a whole number")
        elif value < least:
            found.append(f"{name} is {value}, expected at least {least}")
    for name, length in (("image", 3), ("widths", 0), ("time", 2)):
        value = getattr(config, name)
        several = isinstance(value, (tuple, list)) and len(value) == (length or len(value))
        if not several or not value or not all(_whole(n) and n >= 1 for n in value):
            found.append(f"{name} is {value!r}, expected {length or 'several'} whole numbers, at least 1 each")
    if config.reset not in ("value", "subtract"):
        found.append(f"reset is {config.reset!r}, expected 'value' or 'subtract'")
    if not isinstance(config.stem_skip, bool):
        found.append(f"stem_skip is {config.stem_skip!r}, expected true or false")
    if found:
        return found
    halvings = len(config.widths) - 1
    if not paper:
        if len(config.widths) != 2:
            found.append(f"widths are {list(config.widths)}, expected two: this preset has two resolutions")
        if config.blocks != 1:
            found.append(f"blocks is {config.blocks}, expected 1: only preset paper has more per level")
    divisor = config.fold * 2**halvings
    if any(side % divisor for side in config.image[1:]):
        sides = "x".join(map(str, config.image[1:]))
        found.append(f"image is {sides}, expected sides that {divisor} divides (fold, and a half per further level)")
    return found


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def build(
    preset: str = "small", weights: str | None = "default", seed: int = 0, **options: Any
) -> SpikingUNet | NanoNet:
    """The network of a preset.

    Args:
        preset: one of PRESETS, or 'nano' (`snnir.models.fsddim_nano`).
        weights: 'shipped' for the weights that come with snnir; a .safetensors file of `snnir train`; 'none' (or
            None) for random ones. The default is 'shipped' where the preset has them and no options change it, else
            'none'.
        seed: of random weights.
        options: fields of `Config` to change, e.g. steps=8, reset='subtract', stem_skip=False.

    Raises:
        UsageError: no such preset, option or shipped weights.
        ValueError: weights that do not fit.
    """
    if preset not in (*PRESETS, "nano"):
        raise UsageError(f"preset is {preset!r}, expected one of {', '.join(PRESETS)}, nano")
    path = shipped(f"fsddim-{preset}")
    if weights == "default":
        weights = "shipped" if path is not None and not options else "none"
    if weights == "shipped" and path is None:
        raise UsageError(f"snnir comes with no weights for {preset!r}; train them: snnir train")
    file = None if weights in ("none", None) else path if weights == "shipped" else Path(weights)
    if preset == "nano":
        return nano(file, seed, **options)
    known = [field.name for field in fields(Config)]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UsageError(f"no option {', '.join(unknown)}{there_are(unknown, known)}")
    config = replace(PRESETS[preset], **options)
    if faults := _faults(config, paper=preset == "paper"):
        raise UsageError("; ".join(faults))
    torch.manual_seed(seed)
    model = PaperUNet(config) if preset == "paper" else SmallUNet(config)
    if file is not None:
        load_weights(model, file)
    return model
