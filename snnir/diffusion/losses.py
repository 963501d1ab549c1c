"""Training losses: synaptic current learning (FSDDIM, section 3) and learned variances (Nichol and Dhariwal, 2021)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from snnir.diffusion.posterior import Posterior

BIN = 1 / 255  # half a grey level of an image in [-1, 1]


class Losses(NamedTuple):
    """Two means over the batch; the training loss is `image + weight * consistency`."""

    image: Tensor
    consistency: Tensor


def current_losses(y: Tensor, v: Tensor, image_weight: Tensor, consistency_weight: Tensor) -> Losses:
    """How far the decoded current is from v, and how far it is from being constant over the SNN steps.

    The image loss is E[image_weight * mean_chw (mean_s y - v)^2]; with abar_t (= SNR / (SNR + 1)) as its weight it is
    the plain noise loss of DDPM. The consistency loss (synaptic current learning) is
    E[consistency_weight * mean_chws (encode(decode(y)) - y)^2], the variance of y over s: a sampler that stays in
    current space differs from one that decodes in each step by exactly what it measures.

    Args:
        y: the network's output, (S, B, C, H, W).
        v: the target, v or noise, (B, C, H, W).
        image_weight: (B,).
        consistency_weight: (B,); FSDDIM's is `CosineSchedule.output_weights()[t]`.
    """
    error = (y.mean(dim=0) - v).square().flatten(1).mean(dim=1)
    spread = y.var(dim=0, correction=0).flatten(1).mean(dim=1)
    return Losses((image_weight * error).mean(), (consistency_weight * spread).mean())


class VarianceLoss:
    """The variational bound of improved DDPM (Nichol and Dhariwal, 2021) for one time of each image, in bits a value.

    Its mean over times, 1000 of them, times .001 is their hybrid loss's second term; the mean that the network
    predicts is detached, so that this loss moves the variance alone.
    """

    def __init__(self, posterior: Posterior) -> None:
        tables = (posterior.image, posterior.noisy, posterior.log_lower, posterior.log_upper)
        self.image, self.noisy, self.lower, self.upper = (torch.from_numpy(table).float() for table in tables)

    def __call__(self, x0: Tensor, x: Tensor, guess: Tensor, logits: Tensor, t: Tensor) -> Tensor:
        """The mean over the batch.

        Args:
            x0: images, (B, C, H, W).
            x: the noisy images at times t (B,).
            guess: the images that the prediction comes to; no gradient flows into them.
            logits: of the variance, -1 for the posterior's and 1 for beta, (B, C, H, W).
        """
        at = t.view(-1, 1, 1, 1)
        lower, upper = self.lower[at], self.upper[at]
        log_var = (1 + logits) / 2 * upper + (1 - logits) / 2 * lower
        mean = self.image[at] * guess.detach() + self.noisy[at] * x
        off = self.image[at] * (x0 - guess.detach())
        kl = 0.5 * (log_var - lower - 1 + torch.exp(lower - log_var) + off.square() * torch.exp(-log_var))
        last = -_grey_level(x0, mean, log_var)
        bits = torch.where(at == 0, last, kl) / math.log(2)
        return bits.flatten(1).mean(dim=1).mean()


def _grey_level(x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """The log of a normal's probability of x's grey level; black and white reach to infinity."""
    scale = torch.exp(-0.5 * log_var)
    above = torch.special.ndtr((x - mean + BIN) * scale)
    below = torch.special.ndtr((x - mean - BIN) * scale)
    whole = torch.where(x < -0.999, above, torch.where(x > 0.999, 1 - below, above - below))
    return torch.log(whole.clamp(min=1e-12))


def image_of(prediction: Tensor, x: Tensor, angle: Tensor, kind: str) -> Tensor:
    """The image that a prediction, 'v' or 'noise', (B, C, H, W) for x at angles (B,) comes to."""
    cos, sin = torch.cos(angle).view(-1, 1, 1, 1), torch.sin(angle).view(-1, 1, 1, 1)
    return cos * x - sin * prediction if kind == "v" else (x - sin * prediction) / cos


def v_target(x0: Tensor, noise: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """(x_t, v) for images and noise (B, C, H, W) at angles phi_t (B,): the image turned towards the noise by phi."""
    shape = (-1, *[1] * (x0.dim() - 1))
    cos, sin = torch.cos(angle).view(shape), torch.sin(angle).view(shape)
    return cos * x0 + sin * noise, cos * noise - sin * x0
