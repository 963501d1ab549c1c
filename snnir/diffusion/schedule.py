"""Noise schedules, and DDIM as a rotation in the plane of image and noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from snnir.errors import UsageError
from snnir.ops import Array


@dataclass(frozen=True)
class Rotation:
    """One DDIM step on currents: x <- a x + b y, with y the network's output at time t."""

    t: int
    a: float
    b: float


@dataclass(frozen=True)
class Schedule(ABC):
    """How much noise there is at each of `timesteps` times, the first the least noisy.

    x_t = cos(phi_t) x_0 + sin(phi_t) noise with cos(phi_t) = sqrt(abar_t); v = cos(phi_t) noise - sin(phi_t) x_0, and
    a DDIM step from t to t' turns (x, v) by phi_t - phi_t'.
    """

    timesteps: int = 1000

    @abstractmethod
    def betas(self) -> Array:
        """The variances of the noise added in each step, (timesteps,)."""

    def abar(self) -> Array:
        """The cumulative products of 1 - beta, (timesteps,)."""
        return np.asarray(np.cumprod(1 - self.betas()))

    def angles(self) -> Array:
        """phi_t in radians, (timesteps,)."""
        return np.asarray(np.arccos(np.sqrt(self.abar())))

    def times(self, steps: int) -> list[int]:
        """`steps` times evenly spread over the schedule, ascending; the last is the noisiest.

        Raises:
            UsageError: not between 1 and `timesteps`.
        """
        if not 1 <= steps <= self.timesteps:
            raise UsageError(f"{steps} denoising steps: the schedule has 1 to {self.timesteps}")
        return [-(-self.timesteps * (i + 1) // steps) - 1 for i in range(steps)]

    def rotations(self, steps: int) -> tuple[Rotation, ...]:
        """The DDIM steps, first to last (eta = 0), at `times(steps)`; ends at t = -1.

        Raises:
            UsageError: not between 1 and `timesteps`.
        """
        times = self.times(steps)
        turns = np.diff(self.angles()[times], prepend=0.0)
        made = [Rotation(t, float(np.cos(d)), -float(np.sin(d))) for t, d in zip(times, turns, strict=True)]
        return tuple(reversed(made))

    def output_weights(self) -> Array:
        """w_t = |b_t| / max |b_t| with b_t the network's coefficient in the full DDIM of all steps, (timesteps,)."""
        b = np.abs([r.b for r in reversed(self.rotations(self.timesteps))])
        return np.asarray(b / b.max())


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    """abar(t) = cos^2(((t / T + s) / (1 + s)) pi / 2) / abar(0), betas at most 0.999 (Nichol and Dhariwal, 2021)."""

    offset: float = 0.008

    def betas(self) -> Array:
        """From the curve, clipped to 0 to 0.999; (timesteps,)."""
        t = np.arange(self.timesteps + 1, dtype=np.float64) / self.timesteps
        curve = np.cos((t + self.offset) / (1 + self.offset) * np.pi / 2) ** 2
        return np.asarray(np.clip(1 - curve[1:] / curve[:-1], 0, 0.999))


@dataclass(frozen=True)
class LinearSchedule(Schedule):
    """betas evenly from `first` to `last` (Ho, Jain and Abbeel, 2020), scaled by 1000 / timesteps, at most 0.999."""

    first: float = 1e-4
    last: float = 0.02

    def betas(self) -> Array:
        """(timesteps,)."""
        scale = 1000 / self.timesteps
        return np.clip(np.linspace(scale * self.first, scale * self.last, self.timesteps, dtype=np.float64), 0, 0.999)
