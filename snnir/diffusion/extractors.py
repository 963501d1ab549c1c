"""The feature networks behind the Frechet distances on 28x28 grey images: an autoencoder's encoder and a LeNet.

A Frechet distance in the features of another network is another metric: between re-trained extractors of the same
architecture its values differ by up to a half. So these two were trained once on Fashion-MNIST's training images
(`python -m snnir.diffusion.train_extractors`), their weights travel with snnir, and the first eight hexadecimal digits
of the weight file's SHA-256 are a part of the metric's name. Values under different names cannot be compared, and none
of them with a published FID.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from snnir.errors import UsageError, fail

FEATURES = Path(__file__).parent / "features"
LATENT = 64
IMAGE = (1, 28, 28)


class Encoder(nn.Module):
    """Images (B, 1, 28, 28) in [-1, 1] -> latents (B, 64) for FAD, the latent size of FSVAE and FSDDIM."""

    num_features = LATENT  # torchmetrics asks for it

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 4, stride=2, padding=1)
        self.latent = nn.Linear(64 * 7 * 7, LATENT)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.conv2(torch.relu(self.conv1(images))))
        return self.latent(h.flatten(1))


class Decoder(nn.Module):
    """Latents (B, 64) -> images (B, 1, 28, 28): only there to train the encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.latent = nn.Linear(LATENT, 64 * 7 * 7)
        self.conv2 = nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1)
        self.conv1 = nn.ConvTranspose2d(32, 1, 4, stride=2, padding=1)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.latent(latents)).unflatten(1, (64, 7, 7))
        return torch.tanh(self.conv1(torch.relu(self.conv2(h))))


class LeNet(nn.Module):
    """Images (B, 1, 28, 28) in [-1, 1] -> the 64 features, after ReLU, that its ten classes are told apart by."""

    num_features = LATENT

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 5, padding=2)
        self.conv2 = nn.Conv2d(16, 32, 5)
        self.hidden = nn.Linear(32 * 5 * 5, 128)
        self.features = nn.Linear(128, LATENT)
        self.classes = nn.Linear(LATENT, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        h = torch.max_pool2d(torch.relu(self.conv1(images)), 2)
        h = torch.max_pool2d(torch.relu(self.conv2(h)), 2)
        return torch.relu(self.features(torch.relu(self.hidden(h.flatten(1)))))


NETWORKS: dict[str, tuple[str, type[Encoder] | type[LeNet], str]] = {
    # short name: the metric it gives, its network, the shipped weights
    "ae": ("FAD", Encoder, "autoencoder-fashion-mnist.safetensors"),
    "lenet": ("LeNet-FD", LeNet, "lenet-fashion-mnist.safetensors"),
}


@dataclass(frozen=True, eq=False)
class Extractor:
    """A frozen feature network and the name of the Frechet distance in its features, e.g. `FAD[ae-1a2b3c4d]`."""

    metric: str
    network: nn.Module


def extractor(name: str, weights: str | Path | None = None) -> Extractor:
    """The shipped feature network `ae` or `lenet`, in evaluation mode, or the same with other weights.

    Raises:
        UsageError: no such network.
        CompileError: the weight file is missing, damaged, or of another network.
    """
    if name not in NETWORKS:
        raise UsageError(f"no feature network {name!r}: expected {' or '.join(NETWORKS)}")
    from safetensors import SafetensorError
    from safetensors.torch import load

    metric, made, file = NETWORKS[name]
    path = FEATURES / file if weights is None else Path(weights)
    hint = "install snnir again" if weights is None else "give a file that snnir.diffusion.train_extractors wrote"
    network = made()
    try:
        content = path.read_bytes()
        network.load_state_dict(load(content))
    except OSError as error:
        raise fail("weights-unreadable", f"cannot be read: {error.strerror}", where=str(path), hint=hint) from error
    except (SafetensorError, RuntimeError) as error:
        raise fail("weights-mismatch", f"is no {name} extractor: {error}", where=str(path), hint=hint) from error
    network.eval().requires_grad_(False)
    return Extractor(f"{metric}[{name}-{hashlib.sha256(content).hexdigest()[:8]}]", network)
