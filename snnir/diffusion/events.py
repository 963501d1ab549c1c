"""What a host computes around a denoising network that takes and gives events: images to counts, counts to v, DDIM.

The network sees 16 channels of event counts, 0 to `most` per step: the largest principal components of a noisy image,
and two channels for the time. Its output neurons' spikes, counted over a call, decode linearly to v; what of v follows
from the noisy image linearly, a factor per component and denoising step, the host adds itself, so that the few spikes
are spent on the rest. Everything else is a rotation per denoising step: a chip without floating point does all that is
not linear.

Time is K equal turns of a pure cosine schedule: with phi = k pi / (2 K), k = K, ..., 1, a noisy image is
z = cos(phi) x + sin(phi) noise, the network says v = cos(phi) noise - sin(phi) x, and the DDIM step (eta = 0; Song et
al., 2021; v as in Salimans and Ho, 2022) is z <- cos(d) z - sin(d) v with d = pi / (2 K).

This file needs NumPy and nothing else, and imports nothing of snnir, so that it can travel with a compiled network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

__all__ = ["EventHost", "images_of", "linear_v", "sample", "sigma_delta"]

Array = np.ndarray[Any, np.dtype[Any]]
Network = Callable[[Array], Array]

_ARRAYS = ("mean", "basis", "variances", "time_code", "decoder", "skip", "offset")


@dataclass(frozen=True, eq=False)
class EventHost:
    """The host's side of a denoising network; M pixels, C components that the network sees, N outputs.

    Attributes:
        image: channels, height and width.
        steps: SNN steps of one call; states start at rest in each.
        most: events that a channel takes per step.
        centre, spread: a component z becomes the level centre + spread z, cut to 0..most, in events per step.
        mean: of the images' pixels (M,); basis: principal axes, orthonormal, the largest first (M, M).
        variances: of the images along these axes (M,).
        time_code: levels of the two time channels at denoising step k = 1..K (K, 2).
        decoder, skip, offset: v = counts @ decoder + skip[k] z + offset[k]; (N, C), (K, C) and (K, C).
    """

    image: tuple[int, int, int]
    steps: int
    most: int
    centre: float
    spread: float
    mean: Array
    basis: Array
    variances: Array
    time_code: Array
    decoder: Array
    skip: Array
    offset: Array

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            values = np.array(getattr(self, name), np.float64)
            values.flags.writeable = False
            object.__setattr__(self, name, values)
        pixels, (outputs, seen) = int(np.prod(self.image)), self.decoder.shape
        shapes = {
            "mean": (pixels,),
            "basis": (pixels, pixels),
            "variances": (pixels,),
            "time_code": (len(self.time_code), 2),
            "decoder": (outputs, seen),
            "skip": (len(self.time_code), seen),
            "offset": (len(self.time_code), seen),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, expected {shape}")
        if not 0 < seen <= pixels or self.steps < 1 or not 0 < self.most <= 255:
            raise ValueError(f"{seen} components of {pixels} pixels, {self.steps} steps, {self.most} events")

    @property
    def components(self) -> int:
        """C: components that the network sees; the host draws the others as Gaussians."""
        return self.decoder.shape[1]

    @property
    def calls(self) -> int:
        """K: denoising calls per image."""
        return len(self.time_code)

    @property
    def turn(self) -> float:
        """d: the angle in radians by which a call turns image and noise."""
        return float(np.pi / 2 / self.calls)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: v.tolist() if name in _ARRAYS else v for name, v in found.items()} | {"image": list(self.image)}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> EventHost:
        """What `to_dict` gave."""
        return cls(**{**given, "image": tuple(given["image"])})

    # -- one call --------------------------------------------------------------------------------------------------

    def project(self, images: Array) -> Array:
        """Images (B, *image) in [-1, 1] -> their components (B, M)."""
        return np.asarray((images.reshape(len(images), -1) - self.mean) @ self.basis)

    def encode(self, z: Array, k: int) -> Array:
        """Components (B, at least C) of noisy images at denoising step k -> event counts (steps, B, C + 2), int64."""
        levels = np.clip(self.centre + self.spread * z[:, : self.components], 0, self.most)
        time = np.broadcast_to(self.time_code[k - 1], (len(z), 2))
        return sigma_delta(np.concatenate([levels, time], axis=1), self.steps)

    def decode(self, counts: Array, z: Array, k: int) -> Array:
        """Spikes of the outputs in a call (B, N), and the components that it was about (B, at least C) -> v (B, C)."""
        return np.asarray(counts @ self.decoder + self.skip[k - 1] * z[:, : self.components] + self.offset[k - 1])


def sigma_delta(levels: Array, steps: int) -> Array:
    """Counts (steps, *levels.shape) whose sum follows t * level to half an event: a first-order sigma-delta coder."""
    t = np.arange(steps + 1).reshape(-1, *[1] * np.ndim(levels))
    return np.diff(np.floor(t * np.asarray(levels, np.float64) + 0.5), axis=0).astype(np.int64)


def linear_v(z: Array, variances: Array, phi: float) -> Array:
    """The best linear estimate of v from z (B, n), for images that vary by `variances` (n,) along these axes."""
    c, s = np.cos(phi), np.sin(phi)
    return np.asarray(z * (c * s * (1.0 - variances) / (c**2 * variances + s**2)))


def sample(host: EventHost, network: Network, noise: Array) -> Array:
    """Images from noise: the whole DDIM loop, all samples at once.

    Args:
        host: the host's side.
        network: event counts (steps, B, C + 2) -> spike counts (B, N) of one call, states at rest before it.
        noise: standard normal components (B, M).

    Returns:
        Images (B, *image), cut to [-1, 1].
    """
    z = np.array(noise, np.float64)
    seen, d = host.components, host.turn
    for k in range(host.calls, 0, -1):
        counts = network(host.encode(z, k))
        v = np.concatenate([host.decode(counts, z, k), linear_v(z[:, seen:], host.variances[seen:], k * d)], axis=1)
        z = np.cos(d) * z - np.sin(d) * v
    return images_of(host, z)


def images_of(host: EventHost, z: Array) -> Array:
    """Components (B, M) -> images (B, *image), cut to [-1, 1]."""
    return np.clip(z @ host.basis.T + host.mean, -1.0, 1.0).reshape(-1, *host.image)
