"""The network that SDiT is measured against: itself, with SiLU where the neurons are.

Same layers, same parameters (also the same initial weights for the same seed): what the neurons' four levels cost in
image quality is the difference between the two after the same training.
"""

from __future__ import annotations

from typing import Any

from snnir import nn
from snnir.errors import UsageError
from snnir.models import sdit
from snnir.models.sdit_blocks import Rate


def build(preset: str = "small", seed: int = 0, **options: Any) -> sdit.SDiT:
    """The twin of `sdit.build(preset, weights="none", seed=seed, **options)`: takes and gives the same.

    Raises:
        UsageError: no such preset or option, or `steps` is given (it has no neurons).
    """
    if "steps" in options:
        raise UsageError("the twin has no neurons: leave `steps` away")
    network = sdit.build(preset, weights="none", seed=seed, **options)
    if not isinstance(network, sdit.SDiT):
        raise UsageError("only the published form has a twin")
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, Rate):
                setattr(module, name, nn.SiLU())
    return network
