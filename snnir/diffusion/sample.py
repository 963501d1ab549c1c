"""DDIM in current space: the sampler never decodes an image until the last step.

x[s] <- a x[s] + b y[s] at every SNN step s, with y the network's output current: a rotation of (x, v), see
`CosineSchedule`. It starts with the same noise at every s, and the image is the mean of the last x over s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnir.diffusion.schedule import CosineSchedule
from snnir.diffusion.spec import DiffusionSpec, fold_pixels, spec_of, time_embedding, unfold_pixels
from snnir.errors import UsageError
from snnir.graph import Graph
from snnir.interpreter import interpret
from snnir.ops import Array

Denoiser = Callable[[Array, Array], Array]
"""(x (S, B, *currents), time (S, B, time_size)) -> y (S, B, *currents), membranes starting at rest in every call."""


@dataclass(frozen=True)
class Sampled:
    """What a sampler made.

    Args:
        images: (n, C, H, W), the mean currents clipped to [-1, 1].
        currents: (S, n, *currents), what the last step left.
    """

    images: Array
    currents: Array


def noise(spec: DiffusionSpec, n: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    """Standard normal start images (n, C, H, W); image i of a seed is the same for every n."""
    made = [np.random.default_rng([seed, i]).standard_normal(spec.image) for i in range(n)]
    return np.asarray(np.stack(made), dtype=dtype)


def sample(
    denoise: Denoiser,
    spec: DiffusionSpec,
    start: Array,
    steps: int = 50,
    *,
    clip: bool = False,
) -> Sampled:
    """Images from noise.

    Args:
        denoise: the network.
        start: noise (n, C, H, W).
        steps: DDIM steps, 1 to spec.timesteps.
        clip: decode in each step and clip the predicted image to [-1, 1], as samplers outside the network do. Then the
            loop is no longer linear, and cannot be compiled into the network.

    Raises:
        UsageError: the noise has another shape than the network's images; more steps than the schedule has.
    """
    if start.ndim != 4 or start.shape[1:] != spec.image:
        raise UsageError(f"the noise is {list(start.shape)}, expected (n, {', '.join(map(str, spec.image))})")
    schedule = CosineSchedule(spec.timesteps, spec.offset)
    phi = schedule.angles()
    folded = fold_pixels(start, spec.fold)
    x = np.repeat(folded[None], spec.steps, axis=0)
    for turn in schedule.rotations(steps):
        embedded = time_embedding(np.full(1, turn.t), spec.time_size).astype(start.dtype)
        y = denoise(x, np.broadcast_to(embedded, (spec.steps, len(start), spec.time_size)))
        if clip:
            x = _clipped_step(x, y, float(phi[turn.t]), turn.b)
        else:
            x = np.asarray(turn.a, x.dtype) * x + np.asarray(turn.b, x.dtype) * y
    images = unfold_pixels(x.mean(axis=0), spec.fold)
    return Sampled(np.clip(images, -1, 1), x)


def _clipped_step(x: Array, y: Array, phi: float, b: float) -> Array:
    """The DDIM step through a decoded, clipped image; the same current at every SNN step."""
    mean, v = x.mean(axis=0), y.mean(axis=0)
    image = np.clip(np.cos(phi) * mean - np.sin(phi) * v, -1, 1)
    eps = (mean - np.cos(phi) * image) / max(np.sin(phi), 1e-8)
    after = phi - np.arcsin(-b)
    turned = np.cos(after) * image + np.sin(after) * eps
    return np.repeat(turned[None].astype(x.dtype), len(x), axis=0)


def module_denoiser(module: Any) -> Denoiser:
    """A torch module as a `Denoiser`, in evaluation mode and without gradients."""
    import torch

    module.eval()

    def denoise(x: Array, time: Array) -> Array:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(x), torch.from_numpy(time.copy())).numpy())

    return denoise


def compiled_denoiser(result: Any, spec: DiffusionSpec) -> Denoiser:
    """A network compiled for a chip (a `snnir.CompileResult`) as a `Denoiser`, in the chip's simulator.

    A call runs as many steps longer as outputs come late, with nothing on the inputs.
    """

    def denoise(x: Array, time: Array) -> Array:
        rest = ((0, result.latency), (0, 0))
        inputs = {spec.input: np.pad(x, (*rest, (0, 0), (0, 0), (0, 0))), spec.time: np.pad(time, (*rest, (0, 0)))}
        return np.asarray(result.run(inputs)[result.latency :], x.dtype)

    return denoise


def graph_denoiser(graph: Graph) -> Denoiser:
    """A graph as a `Denoiser`, run by the reference interpreter."""
    spec = spec_of(graph)

    def denoise(x: Array, time: Array) -> Array:
        return np.asarray(interpret(graph, {spec.input: x, spec.time: time}))

    return denoise
