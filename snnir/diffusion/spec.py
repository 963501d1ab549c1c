"""What a sampler has to know about a denoising network; travels with the graph as metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from snnir.errors import fail
from snnir.graph import Graph
from snnir.ops import Array


@dataclass(frozen=True)
class DiffusionSpec:
    """A network that predicts v (Salimans and Ho, 2022) from a noisy image and its time.

    Args:
        image: channels, height and width of an image, values in [-1, 1].
        steps: SNN steps of one denoising call; the membranes start at rest in each.
        time_size: length of the time embedding (`time_embedding`).
        input: the network's input for the noisy image, as a current at every SNN step.
        time: the network's input for the time embedding, the same at every SNN step.
        fold: space-to-depth factor between an image and the network's currents (`fold_pixels`).
        timesteps: diffusion steps of the training schedule.
        offset: of the cosine schedule (Nichol and Dhariwal, 2021: 0.008).
    """

    image: tuple[int, int, int]
    steps: int
    time_size: int
    input: str = "x"
    time: str = "time"
    fold: int = 1
    timesteps: int = 1000
    offset: float = 0.008

    @property
    def currents(self) -> tuple[int, int, int]:
        """Shape of what the network takes and gives at one SNN step."""
        channels, height, width = self.image
        return channels * self.fold**2, height // self.fold, width // self.fold

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return {**asdict(self), "image": list(self.image)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> DiffusionSpec:
        """What `to_dict` gave."""
        return cls(**{**fields, "image": tuple(fields["image"])})


def spec_of(graph: Graph) -> DiffusionSpec:
    """The specification a graph carries (metadata 'diffusion').

    Raises:
        CompileError: it carries none, so it is no denoising network; or a host's (`snnir.diffusion.events`).
    """
    fields = graph.metadata.get("diffusion")
    if not isinstance(fields, Mapping):
        raise fail(
            "no-diffusion-model",
            "does not say how it is sampled",
            where="graph",
            expected="metadata 'diffusion'",
            hint="give the model an attribute graph_metadata = {'diffusion': DiffusionSpec(...).to_dict()}",
        )
    if "host" in fields:
        raise fail(
            "diffusion-by-host",
            "takes and gives events that a host encodes and decodes between its calls",
            where="graph",
            expected="a network whose input and output are currents",
            hint="sample it with snnir.diffusion.events, or with the sample.py of its Xylo artifact",
        )
    return DiffusionSpec.from_dict(fields)


def time_embedding(t: Array, size: int) -> Array:
    """Sinusoids of t (n,) -> (n, size): sine at even, cosine at odd places, periods from 2 pi to 2 pi 10000."""
    half = size // 2
    rates = np.exp(-np.log(10000.0) * np.arange(half) / (half - 1))
    angles = np.asarray(t, dtype=np.float64)[:, None] * rates
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(len(angles), size)


def fold_pixels(images: Array, factor: int) -> Array:
    """Space to depth: (..., C, H, W) -> (..., C * factor^2, H / factor, W / factor), as torch's pixel_unshuffle."""
    if factor == 1:
        return images
    *lead, c, h, w = images.shape
    parts = images.reshape(*lead, c, h // factor, factor, w // factor, factor)
    n = len(lead)
    moved = parts.transpose(*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return np.ascontiguousarray(moved.reshape(*lead, c * factor**2, h // factor, w // factor))


def unfold_pixels(currents: Array, factor: int) -> Array:
    """Depth to space: the inverse of `fold_pixels`."""
    if factor == 1:
        return currents
    *lead, c, h, w = currents.shape
    parts = currents.reshape(*lead, c // factor**2, factor, factor, h, w)
    n = len(lead)
    moved = parts.transpose(*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return np.ascontiguousarray(moved.reshape(*lead, c // factor**2, h * factor, w * factor))
