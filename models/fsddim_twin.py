"""The network that FSDDIM's spiking UNet is measured against: itself, with SiLU where the neurons are, and no time.

Same layers, same parameters (also the same initial weights for the same seed), one step instead of S: what spikes cost
in image quality is the difference between the two after the same training.

    twin = fsddim_twin.build("small"); train(twin, twin.diffusion, images, TrainConfig(...))
"""

from __future__ import annotations

from typing import Any

import torch

from snnir import nn
from snnir.errors import UsageError
from snnir.models import fsddim


def build(preset: str = "small", seed: int = 0, **options: Any) -> fsddim.SpikingUNet:
    """The twin of `fsddim.build(preset, seed=seed, **options)`: x (1, B, *currents), time (1, B, time size) -> v.

    Its `diffusion` says one step. tdBN stays: over one step it is batch norm, with the same initial scales.

    Raises:
        UsageError: no such preset or option, or `steps` or `levels` is given (it has neither).
    """
    if given := [name for name in ("steps", "levels") if name in options]:
        raise UsageError(f"the twin has one step and no neurons: leave `{'`, `'.join(given)}` away")
    network = fsddim.build(preset, weights="none", seed=seed, steps=1, levels=1, **options)
    if not isinstance(network, fsddim.SpikingUNet):
        raise UsageError(f"preset {preset!r} is no UNet, and has no twin")
    return twin_of(network)


def twin_of(network: fsddim.SpikingUNet) -> fsddim.SpikingUNet:
    """Puts SiLU in the place of every LIF neuron, in place; the network itself."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.LIF):
                setattr(module, name, torch.nn.SiLU())
    return network
