"""SDiT, the spiking diffusion transformer (Yang, Ma, Yu, Wang, Li, arXiv 2402.11588), defined once, at several sizes.

Patches of the image, and one token of time and label, go through RWKV blocks with long skips (as in U-ViT). It is a
real-valued transformer whose branches pass through spiking neurons: norms, gates and exponentials have no place on a
neuromorphic chip, so it runs whole on targets that compute in floats. One denoising call is ONE step of the network,
within which the neurons take `steps` steps of their own.

    snnir compile models/sdit.py --preset mnist --target torch,onnx -o out

Inputs: `x` the noisy image, `time` features of the time (`snnir.models.sdit_inputs.time_features`), `label` one place
per class and a last one for none (`one_hot`). Output: the prediction, and where the variance is learned, its logits.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from snnir import nn
from snnir.diffusion.spec import DiffusionSpec
from snnir.errors import UsageError, there_are
from snnir.models.loading import load_weights, shipped
from snnir.models.sdit_blocks import Block, Shape
from snnir.models.sdit_spiking import LabelledSpikingSDiT, PlainSpikingSDiT, SpikingSDiT


@dataclass(frozen=True)
class Config:
    """One size of the network.

    Args:
        image: channels, height and width of an image (the paper repeats MNIST's grey to 3 channels and resizes
            CIFAR-10 to 28 x 28).
        width: channels of a token.
        depth: blocks beside the one in the middle; even.
        patch: height and width of a patch.
        classes: of labels; 0 for a network without labels.
        steps: SNN steps of the neurons.
        time: length of the time features.
        prediction: what the output is trained to be, 'noise' (the paper) or 'v'.
        variance: whether the output also holds logits of the variance, as many channels again (the paper).
        reconstruction: whether the blocks have the Reconstruction Module.
    """

    image: tuple[int, int, int]
    width: int
    depth: int
    patch: int = 2
    classes: int = 10
    steps: int = 4
    time: int = 256
    prediction: str = "noise"
    variance: bool = True
    reconstruction: bool = True

    def __post_init__(self) -> None:
        whole = ("width", "depth", "patch", "classes", "steps", "time")
        faults = [
            f"{name} is {getattr(self, name)!r}, expected a whole number"
            for name in whole
            if type(getattr(self, name)) is not int
        ]
        if not isinstance(self.image, (tuple, list)) or [type(n) for n in self.image] != [int] * 3:
            faults.insert(0, f"image is {self.image!r}, expected channels, height and width: three whole numbers")
        if faults:
            raise UsageError("; ".join(faults))
        _, height, width = self.image
        checks = (
            (min(self.image) >= 1, f"image is {list(self.image)}, expected channels, height and width of at least 1"),
            (self.patch >= 1, f"patch is {self.patch}, expected at least 1"),
            (
                self.patch < 1 or (height % self.patch, width % self.patch) == (0, 0),
                f"an image of {height} x {width} does not divide into patches of {self.patch} x {self.patch}",
            ),
            (self.width >= 1, f"width is {self.width}, expected at least 1"),
            (self.depth >= 2 and self.depth % 2 == 0, f"depth is {self.depth}, expected an even number of at least 2"),
            (self.classes >= 0, f"classes is {self.classes}, expected 0 (no labels) or more"),
            (self.steps >= 1, f"steps is {self.steps}, expected at least 1"),
            (self.time >= 2 and self.time % 2 == 0, f"time is {self.time}, expected an even number of at least 2"),
            (self.prediction in ("noise", "v"), f"prediction is {self.prediction!r}, expected 'noise' or 'v'"),
        )
        faults = [what for sound, what in checks if not sound]
        if faults:
            raise UsageError("; ".join(faults))

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along height and width."""
        return self.image[1] // self.patch, self.image[2] // self.patch

    @property
    def outputs(self) -> int:
        """Channels of the output."""
        return self.image[0] * (2 if self.variance else 1)

    @property
    def diffusion(self) -> DiffusionSpec:
        """How it is trained and sampled: noise with linear betas (the paper), v with FSDDIM's cosine schedule."""
        return DiffusionSpec(
            image=self.image,
            steps=1,
            time_size=self.time,
            classes=self.classes,
            prediction="v" if self.prediction == "v" else "noise",
            variance=self.variance,
            schedule="cosine" if self.prediction == "v" else "linear",
            features="halves",
        )


PRESETS = {
    "mnist": Config(image=(3, 28, 28), width=384, depth=4),
    "cifar": Config(image=(3, 28, 28), width=512, depth=8),
    "small": Config(image=(1, 28, 28), width=64, depth=2, patch=4, time=64, prediction="v", variance=False),
    "digits": Config(image=(1, 8, 8), width=48, depth=2, time=32, prediction="v", variance=False),
}


class SDiT(nn.Module):
    """Common to networks with and without labels. Tokens: time and label first, then the patches row by row."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        channels, width, patch = config.image[0], config.width, config.patch
        rows, columns = config.grid
        tokens, half = 1 + rows * columns, config.depth // 2

        def block(layer: int, skip: bool = False) -> Block:
            return Block(Shape(width, tokens, config.steps, config.reconstruction, layer, config.depth), skip)

        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.time1 = nn.Linear(config.time, width)
        self.time_silu = nn.SiLU()
        self.time2 = nn.Linear(width, width)
        self.label_embedding = nn.Linear(config.classes + 1, width, bias=False) if config.classes else None
        self.position = nn.Constant(torch.zeros(tokens, width), learn=True)
        self.blocks_in = torch.nn.ModuleList(block(i) for i in range(half))
        self.block_middle = block(half)
        self.blocks_out = torch.nn.ModuleList(block(i, skip=True) for i in range(half))
        self.norm = nn.PlainLayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, patch * patch * config.outputs)
        self.smooth = nn.Conv2d(config.outputs, config.outputs, 3, padding=1)
        self.input_shape = {"x": config.image, "time": (config.time,)}
        if config.classes:
            self.input_shape["label"] = (config.classes + 1,)
        self.diffusion = config.diffusion
        self.graph_metadata = {
            "sdit": {**asdict(config), "image": list(config.image), "variant": "published"},
            "diffusion": self.diffusion.to_dict(),
            "instead": {"nir": "--variant spiking"},
        }
        self._initialise()

    def _initialise(self) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                torch.nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    torch.nn.init.zeros_(layer.bias)
        if self.label_embedding is not None:
            torch.nn.init.normal_(self.label_embedding.weight, std=0.02)
        torch.nn.init.zeros_(self.head.weight)

    def denoise(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """The image and the token of what is known of it -> the prediction."""
        patches = self.patches(x).flatten(-2).transpose(-1, -2)
        x = torch.cat([condition.unsqueeze(-2), patches], dim=-2)
        x = x + self.position(x)
        skips: list[torch.Tensor] = []
        for block in self.blocks_in:
            x = block(x)
            skips.append(x)
        x = self.block_middle(x)
        for block in self.blocks_out:
            x = block(x, skips.pop())
        return self.smooth(self._image(self.head(self.norm(x))[..., 1:, :]))

    def _image(self, x: torch.Tensor) -> torch.Tensor:
        """Patches as tokens -> (T, B, outputs, height, width)."""
        (rows, columns), patch = self.config.grid, self.config.patch
        _, height, width = self.config.image
        x = x.reshape(*x.shape[:2], rows, columns, patch, patch, self.config.outputs)
        return x.permute(0, 1, 6, 2, 4, 3, 5).reshape(*x.shape[:2], self.config.outputs, height, width)

    def time_token(self, time: torch.Tensor) -> torch.Tensor:
        """Features of the time -> (T, B, width)."""
        return self.time2(self.time_silu(self.time1(time)))


class LabelledSDiT(SDiT):
    """x (T, B, *image), time (T, B, features), label (T, B, classes + 1) -> (T, B, outputs, height, width)."""

    def forward(self, x: torch.Tensor, time: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        assert self.label_embedding is not None  # built with classes
        return self.denoise(x, self.time_token(time) + self.label_embedding(label))


class PlainSDiT(SDiT):
    """x (T, B, *image), time (T, B, features) -> (T, B, outputs, height, width)."""

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return self.denoise(x, self.time_token(time))


VARIANTS: dict[str, tuple[type[SDiT], type[SDiT]] | tuple[type[SpikingSDiT], type[SpikingSDiT]]] = {
    "published": (PlainSDiT, LabelledSDiT),
    "spiking": (PlainSpikingSDiT, LabelledSpikingSDiT),
}


def build(
    preset: str = "small", weights: str | None = "default", seed: int = 0, variant: str = "published", **options: Any
) -> SDiT | SpikingSDiT:
    """The network of a preset.

    Args:
        preset: one of PRESETS.
        weights: 'shipped' for the weights that come with snnir; a .safetensors file; 'none' or None for random
            ones. The default is 'shipped' where the preset has them and no options change it, else 'none'.
        seed: of random weights.
        variant: 'published', or 'spiking', which NIR and chips take (`snnir.models.sdit_spiking`).
        options: fields of `Config` to change, e.g. classes=0, reconstruction=False.

    Raises:
        UsageError: no such preset, variant, option or shipped weights; options that do not fit together; all at once.
        CompileError: weights that do not fit, or cannot be read.
    """
    known = [field.name for field in fields(Config)]
    unknown = [name for name in options if name not in known]
    faults = [
        f"{what} is {value!r}, expected one of {', '.join(there)}"
        for what, value, there in (("preset", preset, PRESETS), ("variant", variant, VARIANTS))
        if value not in there
    ]
    faults += [f"no option {', '.join(unknown)}{there_are(unknown, known)}"] if unknown else []
    path = None if faults else shipped(f"sdit-{preset}" if variant == "published" else f"sdit-{preset}-{variant}")
    if weights == "default":
        weights = "shipped" if path is not None and not options else "none"
    if weights == "shipped" and path is None and not faults:
        faults.append(f"snnir comes with no weights for SDiT {preset!r}" + f", {variant}" * (variant != "published"))
    if faults:
        raise UsageError("; ".join(faults))
    config = replace(PRESETS[preset], **options)
    torch.manual_seed(seed)
    plain, labelled = VARIANTS[variant]
    model = labelled(config) if config.classes else plain(config)
    file = None if weights in ("none", None) else path if weights == "shipped" else Path(weights)
    if file is not None:
        load_weights(model, file)
    return model
