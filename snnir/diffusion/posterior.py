"""One ancestral step: what x was before its last noise was added, over all steps of a schedule or a few of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from snnir.diffusion.schedule import Schedule
from snnir.ops import Array

SMALLEST = 1e-20


@dataclass(frozen=True, eq=False)
class Posterior:
    """q(x_before | x_t, x_0) = N(image x_0 + noisy x_t, exp(log_lower)), by place in the list of times.

    With fewer times than the schedule has, beta is that of the whole way between two of them (Nichol and Dhariwal,
    2021, section 4). A network that learns the variance gives it between `log_lower` and `log_upper` (their eq. 15).

    Attributes:
        image, noisy: factors of the mean, (n,).
        log_lower: log of the posterior's variance; at the first time, where that is 0, the next one's.
        log_upper: log beta.
    """

    image: Array
    noisy: Array
    log_lower: Array
    log_upper: Array

    @classmethod
    def of(cls, schedule: Schedule, times: Sequence[int] | None = None) -> Posterior:
        """For ascending times; default all of the schedule."""
        abar = schedule.abar()
        abar = abar if times is None else abar[list(times)]
        before = np.concatenate([[1.0], abar[:-1]])
        betas = 1 - abar / before
        variance = betas * (1 - before) / (1 - abar)
        variance[0] = variance[1] if len(variance) > 1 else betas[0]
        factors = betas * np.sqrt(before) / (1 - abar), (1 - before) * np.sqrt(1 - betas) / (1 - abar)
        return cls(*factors, np.log(np.maximum(variance, SMALLEST)), np.log(np.maximum(betas, SMALLEST)))
