"""What a sampler has to know about a denoising network; travels with the graph as metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

from snnir.diffusion.schedule import CosineSchedule, LinearSchedule, Schedule
from snnir.errors import UsageError, fail
from snnir.graph import Graph
from snnir.ops import Array


@dataclass(frozen=True)
class DiffusionSpec:
    """A network that predicts v (Salimans and Ho, 2022), or the noise, from a noisy image and its time.

    Args:
        image: channels, height and width of an image, values in [-1, 1].
        steps: SNN steps of one denoising call; the membranes start at rest in each.
        time_size: length of the time embedding (`time_embedding`).
        input: the network's input for the noisy image, as a current at every SNN step.
        time: the network's input for the time embedding, the same at every SNN step.
        fold: space-to-depth factor between an image and the network's currents (`fold_pixels`).
        timesteps: diffusion steps of the training schedule.
        offset: of the cosine schedule (Nichol and Dhariwal, 2021: 0.008).
        classes: labels that the network is told; 0 for none. There is one place more, for no label.
        label: the network's input for the label, one-hot over classes + 1 places, the same at every SNN step.
        prediction: 'v' or 'noise', what the output is trained to be.
        variance: whether the output holds, after the prediction's channels, as many of the variance (Nichol and
            Dhariwal, 2021): v in log variance = (v + 1) / 2 log beta + (1 - v) / 2 log posterior variance.
        schedule: 'cosine', or 'linear' betas (Ho et al., 2020).
        features: order of the time embedding: 'alternating' sines and cosines, or 'halves' (cosines, then sines).
    """

    image: tuple[int, int, int]
    steps: int
    time_size: int
    input: str = "x"
    time: str = "time"
    fold: int = 1
    timesteps: int = 1000
    offset: float = 0.008
    classes: int = 0
    label: str = "label"
    prediction: Literal["v", "noise"] = "v"
    variance: bool = False
    schedule: Literal["cosine", "linear"] = "cosine"
    features: Literal["alternating", "halves"] = "alternating"

    def __post_init__(self) -> None:
        known = (
            ("prediction", self.prediction, ("v", "noise")),
            ("schedule", self.schedule, ("cosine", "linear")),
            ("features", self.features, ("alternating", "halves")),
        )
        faults = [f"{name} is {value!r}, expected {' or '.join(ok)}" for name, value, ok in known if value not in ok]
        if len(self.image) != 3 or min(self.image) < 1:
            faults.append(f"image is {list(self.image)}, expected channels, height and width, at least 1 each")
        elif self.fold < 1 or any(side % self.fold for side in self.image[1:]):
            sides = "x".join(map(str, self.image[1:]))
            faults.append(f"fold is {self.fold}, expected a number that divides both sides of {sides} pixels")
        least = 4 if self.features == "alternating" else 2  # sines and cosines, and a shortest and a longest period
        if self.time_size % 2 or self.time_size < least:
            faults.append(f"time_size is {self.time_size}, expected an even number, at least {least}")
        faults += [
            f"{name} is {value}, expected at least 1"
            for name, value in (("steps", self.steps), ("timesteps", self.timesteps))
            if value < 1
        ]
        if self.classes < 0:
            faults.append(f"classes is {self.classes}, expected 0 (no labels) or more")
        if faults:
            raise UsageError("diffusion: " + "; ".join(faults))

    @property
    def currents(self) -> tuple[int, int, int]:
        """Shape of what the network takes and gives at one SNN step."""
        channels, height, width = self.image
        return channels * self.fold**2, height // self.fold, width // self.fold

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the network's inputs: image, time, and label where there are labels."""
        return (self.input, self.time, self.label) if self.classes else (self.input, self.time)

    @property
    def noise_schedule(self) -> Schedule:
        """The schedule that the network is trained with."""
        if self.schedule == "linear":
            return LinearSchedule(self.timesteps)
        return CosineSchedule(self.timesteps, self.offset)

    def embed(self, t: Array) -> Array:
        """The time embedding of t (n,), (n, time_size)."""
        make = time_features if self.features == "halves" else time_embedding
        return make(t, self.time_size)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON has them; those that came later only where they are not as they were before."""
        plain = {name for name, default in _LATER.items() if getattr(self, name) == default}
        return {k: v for k, v in {**asdict(self), "image": list(self.image)}.items() if k not in plain}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> DiffusionSpec:
        """What `to_dict` gave, now or in an earlier version.

        Raises:
            UsageError: fields that this version does not know, or values it does not.
        """
        unknown = sorted(fields.keys() - _FIELDS)
        if unknown:
            raise UsageError(f"diffusion: no field {', '.join(unknown)}; there are {', '.join(sorted(_FIELDS))}")
        return cls(**{**fields, "image": tuple(fields["image"])})


_FIELDS = frozenset(field.name for field in fields(DiffusionSpec))
_LATER = {
    field.name: field.default
    for field in fields(DiffusionSpec)
    if field.name in ("classes", "label", "prediction", "variance", "schedule", "features")
}


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


def check_inputs(graph: Graph, spec: DiffusionSpec) -> None:
    """That a graph takes what its specification says, in that order.

    Raises:
        CompileError: it has other inputs: another network, or one with its time or its sampler compiled in.
    """
    if tuple(graph.inputs) != spec.inputs:
        raise fail(
            "diffusion-inputs",
            f"has the inputs {', '.join(graph.inputs)}",
            where="graph",
            expected=f"{', '.join(spec.inputs)}, as its metadata 'diffusion' says",
            hint="a graph whose time is fixed, or that is a whole sampler, is run as it is",
        )


def time_embedding(t: Array, size: int) -> Array:
    """Sinusoids of t (n,) -> (n, size): sine at even, cosine at odd places, periods from 2 pi to 2 pi 10000."""
    half = size // 2
    rates = np.exp(-np.log(10000.0) * np.arange(half) / (half - 1))
    angles = np.asarray(t, dtype=np.float64)[:, None] * rates
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(len(angles), size)


def time_features(t: Array, size: int) -> Array:
    """Cosines, then sines of t (n,) -> (n, size): periods from 2 pi to 2 pi 10000, as in DiT and SDiT."""
    half = size // 2
    angles = np.asarray(t, np.float64)[:, None] * np.exp(-np.log(10000.0) * np.arange(half) / half)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)


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
