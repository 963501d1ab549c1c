"""Training losses of a network whose output is a synaptic current (FSDDIM, section 3: synaptic current learning)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


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
        v: the target, (B, C, H, W).
        image_weight: (B,).
        consistency_weight: (B,); FSDDIM's is `CosineSchedule.output_weights()[t]`.
    """
    error = (y.mean(dim=0) - v).square().flatten(1).mean(dim=1)
    spread = y.var(dim=0, correction=0).flatten(1).mean(dim=1)
    return Losses((image_weight * error).mean(), (consistency_weight * spread).mean())


def v_target(x0: Tensor, noise: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """(x_t, v) for images and noise (B, C, H, W) at angles phi_t (B,): the image turned towards the noise by phi."""
    shape = (-1, *[1] * (x0.dim() - 1))
    cos, sin = torch.cos(angle).view(shape), torch.sin(angle).view(shape)
    return cos * x0 + sin * noise, cos * noise - sin * x0
