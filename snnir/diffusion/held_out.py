"""How well a network predicts v on images it has not seen: cheap, without sampling, and steady enough to rank by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnir.diffusion.labels import told
from snnir.diffusion.sample import Network
from snnir.diffusion.schedule import CosineSchedule, Schedule
from snnir.diffusion.spec import DiffusionSpec, fold_pixels, unfold_pixels
from snnir.errors import UsageError
from snnir.ops import Array

Predictor = Callable[..., Array]
"""Noisy images (B, C, H, W) float32, their times (B,) int64, 0 the least noisy, and labels (B,) where there are labels
-> v (B, C, H, W)."""

QUARTERS = 4


@dataclass(frozen=True)
class VError:
    """Mean squared error of v per pixel; 1 is about what predicting 0 comes to.

    Attributes:
        mean: over all images.
        quarters: over the images of each quarter of the schedule, the least noisy first.
        standard_error: of `mean`, over images.
        n: images, each used once.
        seed: of the noise and of the order of the times.
    """

    mean: float
    quarters: tuple[float, float, float, float]
    standard_error: float
    n: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return {**vars(self), "quarters": list(self.quarters)}

    def __str__(self) -> str:
        parts = " ".join(f"{q:.3f}" for q in self.quarters)
        return f"v error {self.mean:.4f} +- {self.standard_error:.4f} [{parts}] (n={self.n}, seed {self.seed})"


def predictor(network: Network, spec: DiffusionSpec) -> Predictor:
    """A network of currents as one of images: encoded by repeating, decoded by the mean over the SNN steps.

    Where it predicts noise, v follows from it and the noisy image.
    """
    angles = spec.noise_schedule.angles()

    def predict(x: Array, t: Array, labels: Array | None = None) -> Array:
        denoise = told(network, spec, None if labels is None else [int(label) for label in labels])
        folded = fold_pixels(x, spec.fold)
        embedded = spec.embed(t).astype(x.dtype)
        y = denoise(np.repeat(folded[None], spec.steps, axis=0), np.repeat(embedded[None], spec.steps, axis=0))
        found = unfold_pixels(y[:, :, : spec.currents[0]].mean(axis=0), spec.fold)
        if spec.prediction == "v":
            return found
        phi = angles[t].astype(x.dtype)[:, None, None, None]
        return np.asarray((found - np.sin(phi) * x) / np.cos(phi))

    return predict


def v_error(
    predict: Predictor,
    images: Array,
    schedule: Schedule | None = None,
    n: int = 2000,
    seed: int = 0,
    batch: int = 100,
    labels: Array | None = None,
) -> VError:
    """The held-out error of v = cos(phi_t) noise - sin(phi_t) x_0 (Salimans and Ho, 2022), unweighted.

    The noise is fixed by the seed and the times are stratified (image i of n, in a fixed random order, gets the middle
    of the i-th of n equal parts of the schedule), so two networks are compared on the same numbers: their difference is
    known far better than either error.

    Args:
        predict: the network, e.g. `predictor(module_denoiser(module), spec)`.
        images: (N, C, H, W) in [-1, 1]; the first n are used.
        schedule: that the network was trained with.
        n: how many; at least 4.
        batch: how many at once.
        labels: (N,) of the images, for a network that is told them.

    Raises:
        UsageError: fewer images than n, or fewer than 4.
    """
    schedule = schedule or CosineSchedule()
    if not QUARTERS <= n <= len(images):
        raise UsageError(f"held-out error over {n} images: expected {QUARTERS} to {len(images)}, as many as there are")
    random = np.random.default_rng([seed, n])
    t = (random.permutation(n) * schedule.timesteps * 2 + schedule.timesteps) // (2 * n)
    angles = schedule.angles()
    errors = np.empty(n)
    for start in range(0, n, batch):
        x0 = images[start : min(start + batch, n)]
        noise = random.standard_normal(x0.shape, dtype=np.float32)
        times = t[start : start + len(x0)]
        phi = angles[times].astype(np.float32)[:, None, None, None]
        told_labels = () if labels is None else (labels[start : start + len(x0)],)
        predicted = predict(np.cos(phi) * x0 + np.sin(phi) * noise, times, *told_labels)
        wanted = np.cos(phi) * noise - np.sin(phi) * x0
        errors[start : start + len(x0)] = np.square(predicted - wanted, dtype=np.float64).mean(axis=(1, 2, 3))
    quarter = t * QUARTERS // schedule.timesteps
    a, b, c, d = (float(errors[quarter == q].mean()) for q in range(QUARTERS))
    return VError(float(errors.mean()), (a, b, c, d), float(errors.std(ddof=1) / n**0.5), n, seed)
