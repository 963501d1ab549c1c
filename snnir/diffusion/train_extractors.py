"""Trains the two feature networks of the Frechet distances on Fashion-MNIST: once, on one thread, a few minutes each.

    python -m snnir.diffusion.train_extractors [ae|lenet ...] [--out FOLDER] [--epochs N] [--data-root FOLDER]

The same seed and one thread give the same weights on the same machine and build of PyTorch. Another machine may differ
in the last digits, and then every value of the metric and its name do: that is why the shipped files are the metric.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch.nn import functional as F

from snnir.diffusion.data import Images, load_images
from snnir.diffusion.extractors import FEATURES, NETWORKS, Decoder, Encoder, LeNet

BATCH = 128
RATE = 2e-3
EPOCHS = 6


def train_extractor(name: str, images: Images, epochs: int, seed: int = 0) -> tuple[Encoder | LeNet, dict[str, str]]:
    """A trained network and what there is to say about it (held-out error or accuracy, budget).

    Adam with a cosine rate from 2e-3 to 0, batches of 128. The autoencoder learns to reproduce its input (MSE), the
    LeNet to tell the ten classes apart (cross entropy).
    """
    torch.manual_seed(seed)
    network = Encoder() if name == "ae" else LeNet()
    decoder = Decoder() if name == "ae" else None
    parameters = [*network.parameters(), *(decoder.parameters() if decoder else ())]
    optimiser = torch.optim.Adam(parameters, lr=RATE)
    pixels = torch.from_numpy(images.train)
    labels = torch.from_numpy(images.train_labels)
    order = np.random.default_rng(seed)
    steps = epochs * (len(pixels) // BATCH)
    done = 0
    for _ in range(epochs):
        shuffled = torch.from_numpy(order.permutation(len(pixels)))
        for chosen in shuffled[: len(pixels) // BATCH * BATCH].split(BATCH):
            for group in optimiser.param_groups:
                group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * done / steps))
            loss = _loss(network, decoder, pixels[chosen], labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            done += 1
    network.eval()
    facts = {"data": images.name, "seed": str(seed), "epochs": str(epochs), "batch": str(BATCH), "rate": str(RATE)}
    return network, {**facts, **_held_out(network, decoder, images)}


def _loss(network: torch.nn.Module, decoder: Decoder | None, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if decoder is not None:
        return F.mse_loss(decoder(network(x)), x)
    return F.cross_entropy(network.classes(network(x)), labels)  # type: ignore[operator]


@torch.no_grad()
def _held_out(network: torch.nn.Module, decoder: Decoder | None, images: Images) -> dict[str, str]:
    losses, right = 0.0, 0
    labels = torch.from_numpy(images.test_labels)
    for start in range(0, len(images.test), 500):
        x, wanted = torch.from_numpy(images.test[start : start + 500]), labels[start : start + 500]
        features = network(x)
        if decoder is not None:
            losses += float(F.mse_loss(decoder(features), x)) * len(x)
        else:
            right += int((network.classes(features).argmax(1) == wanted).sum())  # type: ignore[operator]
    n = len(images.test)
    return {"test_mse": f"{losses / n:.6f}"} if decoder is not None else {"test_accuracy": f"{right / n:.4f}"}


def packed(network: torch.nn.Module, facts: dict[str, str]) -> bytes:
    """The weight file; the same for the same weights and facts."""
    # One entry: safetensors writes several in random order, and the file's hash is the metric's name.
    note = {"facts": json.dumps(facts, sort_keys=True)}
    return save({k: v.contiguous() for k, v in network.state_dict().items()}, metadata=note)


def main(arguments: list[str] | None = None) -> None:
    """The command line above."""
    parser = argparse.ArgumentParser(description="Train the feature networks of the Frechet distances.")
    parser.add_argument("names", nargs="*", default=[], help="ae, lenet (default: both)")
    parser.add_argument("--out", type=Path, default=FEATURES)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--data-root", type=Path)
    given = parser.parse_args(arguments)
    names = given.names or list(NETWORKS)
    if unknown := set(names) - set(NETWORKS):
        parser.error(f"no feature network {', '.join(sorted(unknown))}: expected {' or '.join(NETWORKS)}")
    torch.set_num_threads(1)
    images = load_images("fashion-mnist", data_root=given.data_root)
    for name in names:
        started = time.process_time()
        network, facts = train_extractor(name, images, given.epochs)
        content = packed(network, facts)
        given.out.mkdir(parents=True, exist_ok=True)
        path = given.out / NETWORKS[name][2]
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()[:8]
        seconds = time.process_time() - started
        sys.stdout.write(f"{path.name}: {name}-{digest}, {len(content)} bytes, {facts}, {seconds:.0f} CPU-s\n")


if __name__ == "__main__":
    main()
