"""SDiT networks for tests: small, with weights that make neurons fire and outputs that are not 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from snnir.models import sdit
from snnir.models.sdit_inputs import one_hot, time_features

TINY = dict(image=(1, 4, 6), width=8, time=8, classes=3)
"""Options of `digits`: 6 tokens of the image, 8 channels."""


def lively(preset: str = "digits", seed: int = 3, **options: Any) -> sdit.SDiT:
    """A network as if it were trained: its last layer, which starts at 0, and its positions are something."""
    model = sdit.build(preset, seed=seed, weights="none", **options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.head.weight.normal_(0, 0.2, generator=generator)
        model.position.value.normal_(0, 0.3, generator=generator)
        if model.label_embedding is not None:
            model.label_embedding.weight.normal_(0, 1.0, generator=generator)
        for name, value in model.named_parameters():
            if name.endswith(("time_mix.output.weight", "channel_mix.value.weight")):
                value.mul_(3.0)  # branches that reach the neurons' threshold
    return model.eval()


def example(model: sdit.SDiT, batch: int = 2, seed: int = 0) -> dict[str, Any]:
    """One denoising call's input, float64: noise, some times, labels of which the last is none."""
    rng, config = np.random.default_rng(seed), model.config
    times = time_features(rng.integers(0, 1000, batch), config.time)
    given = {"x": rng.normal(size=(1, batch, *config.image)), "time": times[None]}
    if config.classes:
        labels = [i % config.classes for i in range(batch - 1)]
        given["label"] = one_hot([*labels, None], config.classes)[None]
    return given


def called(model: torch.nn.Module, given: dict[str, Any], dtype: torch.dtype = torch.float64) -> Any:
    """What the module gives, without gradients."""
    with torch.no_grad():
        return model.to(dtype)(*(torch.from_numpy(np.array(v)).to(dtype) for v in given.values())).numpy()
