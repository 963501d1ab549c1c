"""Trains the digits network through the module that snnir emits for Norse or snnTorch, and brings the weights back.

    python examples/digits/train.py --target norse

The graph is the network; the emitted module is only where it learns. About half a minute on one core.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

import snnir

sys.path.insert(0, str(Path(__file__).parent))
import data
import model

EPOCHS = 40
BATCH = 64


def train(target: str, epochs: int = EPOCHS, seed: int = 0) -> snnir.Graph:
    """The trained graph: compiled to `target`, trained there with Adam, weights brought back."""
    torch.set_num_threads(1)
    graph = snnir.load(model.build(weights=None, seed=seed))
    module = snnir.compile(graph, target=target).module()
    images, labels, _, _ = data.load()
    optimiser = torch.optim.Adam(module.parameters(), lr=2e-3)
    anneal = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    shuffle = np.random.default_rng(seed)
    start = time.perf_counter()
    for epoch in range(epochs):
        losses = []
        order = shuffle.permutation(len(images))
        for first in range(0, len(order), BATCH):
            chosen = order[first : first + BATCH]
            spikes = module(torch.from_numpy(data.events(images[chosen])))
            loss = torch.nn.functional.cross_entropy(spikes.sum(dim=0) * 0.5, torch.from_numpy(labels[chosen]))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        anneal.step()
        if epoch % 10 == 9:
            seconds = time.perf_counter() - start
            print(f"{target} epoch {epoch + 1}: loss {np.mean(losses):.3f}, {seconds:.0f} s", file=sys.stderr)
    return graph.with_weights(module.state_dict())


def main() -> None:
    """Trains, saves the weights beside the model, and prints the test accuracy of the trained graph."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=["torch", "norse", "snntorch"], default="norse")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    graph = train(options.target, options.epochs, options.seed)
    network = model.build(weights=None)
    trained = {k: torch.from_numpy(v.copy()) for k, v in graph.weights().items() if k in network.state_dict()}
    from safetensors.torch import save_file

    place = model.HERE / "weights" / f"{options.target}.safetensors"
    place.parent.mkdir(exist_ok=True)
    save_file(trained, place)
    _, _, images, labels = data.load()
    spikes = snnir.interpret(graph, data.events(images))
    print(f"{place}: test accuracy {100 * data.accuracy(spikes, labels):.1f} %")


if __name__ == "__main__":
    main()
