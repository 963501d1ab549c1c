"""Ancestral sampling (Ho et al., 2020), over all steps of the schedule or fewer: noise is added after every step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from snnir.diffusion.posterior import Posterior
from snnir.diffusion.spec import DiffusionSpec, fold_pixels
from snnir.ops import Array

Fresh = Callable[[int], Array]
"""Step, the first being 0 -> standard normal noise (n, C, H, W)."""


def ancestral_currents(
    predict: Callable[[Array, int], Array], spec: DiffusionSpec, start: Array, steps: int, fresh: Fresh, clip: bool
) -> Array:
    """The last x, (S, n, *currents): the image is decoded in each step, so it is the same at every SNN step.

    The variance is the network's where it learns one, else the posterior's.

    Args:
        predict: currents (S, n, *currents) and a time -> what the network gives.
        start: noise (n, C, H, W).
        steps: 1 to spec.timesteps, evenly spread.
        fresh: the noise to add.
        clip: clip the predicted image to [-1, 1].
    """
    schedule = spec.noise_schedule
    times = schedule.times(steps)
    angles, posterior = schedule.angles()[times], Posterior.of(schedule, times)
    channels = spec.currents[0]
    x = fold_pixels(start, spec.fold)
    for step, place in enumerate(reversed(range(steps))):
        y = predict(np.repeat(x[None], spec.steps, axis=0), times[place]).mean(axis=0)
        cos, sin = np.cos(angles[place]), np.sin(angles[place])
        prediction = y[:, :channels]
        image = cos * x - sin * prediction if spec.prediction == "v" else (x - sin * prediction) / cos
        if clip:
            image = np.clip(image, -1, 1)
        x = posterior.image[place] * image + posterior.noisy[place] * x
        if place:
            log_var = np.asarray(posterior.log_lower[place])
            if spec.variance:
                upper = (y[:, channels:] + 1) / 2
                log_var = upper * posterior.log_upper[place] + (1 - upper) * posterior.log_lower[place]
            x = x + np.exp(0.5 * log_var) * fold_pixels(fresh(step), spec.fold)
        x = x.astype(start.dtype)
    return np.repeat(x[None], spec.steps, axis=0)
