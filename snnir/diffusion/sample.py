"""Sampling: DDIM in current space, which never decodes an image until the last step, or ancestral.

x[s] <- a x[s] + b y[s] at every SNN step s, with y the network's output current: a rotation of (x, v), see
`Schedule`. It starts with the same noise at every s, and the image is the mean of the last x over s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from snnir.diffusion.ancestral import Fresh, ancestral_currents
from snnir.diffusion.spec import DiffusionSpec, fold_pixels, spec_of, unfold_pixels
from snnir.errors import UsageError, fail
from snnir.graph import Graph
from snnir.interpreter import interpret
from snnir.ops import Array

Denoiser = Callable[[Array, Array], Array]
"""(x (S, B, *currents), time (S, B, time_size)) -> y (S, B, *currents), membranes starting at rest in every call.

A network that learns the variance gives as many channels of it after those of its prediction."""

Network = Callable[..., Array]
"""A `Denoiser`, or where the network has labels one that takes (S, B, classes + 1), too: see `labels.told`."""

Sampler = Literal["ddim", "ancestral"]


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


def fresh_noise(spec: DiffusionSpec, images: range, seed: int = 0, dtype: Any = np.float32) -> Fresh:
    """The noise that ancestral sampling adds to these images of a seed; the same for an image in whatever batch."""

    def fresh(step: int) -> Array:
        # + 1: to NumPy's seeds a 0 at the end is nothing, and [seed, i] made the image's start.
        made = [np.random.default_rng([seed, i, step + 1]).standard_normal(spec.image) for i in images]
        return np.asarray(np.stack(made), dtype=dtype)

    return fresh


def usual_sampler(spec: DiffusionSpec) -> Sampler:
    """Ancestral where the network learns the variance, which nothing else needs; else DDIM."""
    return "ancestral" if spec.variance else "ddim"


def sample(
    denoise: Denoiser,
    spec: DiffusionSpec,
    start: Array,
    steps: int = 50,
    *,
    clip: bool = False,
    sampler: Sampler | None = None,
    fresh: Fresh | None = None,
) -> Sampled:
    """Images from noise.

    Args:
        denoise: the network; with labels see `snnir.diffusion.labels.told`.
        start: noise (n, C, H, W).
        steps: denoising steps, 1 to spec.timesteps.
        clip: decode in each step and clip the predicted image to [-1, 1], as samplers outside the network do. Then the
            loop is no longer linear, and cannot be compiled into the network.
        sampler: default `usual_sampler(spec)`.
        fresh: the noise that ancestral sampling adds; default that of the first n images of seed 0.

    Raises:
        UsageError: the noise has another shape than the network's images; more steps than the schedule has.
        CompileError: the network, or what becomes of the image, is no longer finite.
    """
    if start.ndim != 4 or start.shape[1:] != spec.image:
        raise UsageError(f"the noise is {list(start.shape)}, expected (n, {', '.join(map(str, spec.image))})")
    given = partial(_called, denoise, spec)
    if (sampler or usual_sampler(spec)) == "ancestral":
        fresh = fresh or fresh_noise(spec, range(len(start)), dtype=start.dtype)
        draw = partial(ancestral_currents, given, spec, start, steps, fresh, clip)
    else:
        draw = partial(_ddim_currents, given, spec, start, steps, clip)
    with np.errstate(over="ignore", invalid="ignore"):  # `_finite` says it, once
        x = draw()
    _finite(x, "the images after the last step")
    images = unfold_pixels(x.mean(axis=0), spec.fold)
    return Sampled(np.clip(images, -1, 1), x)


def _called(denoise: Denoiser, spec: DiffusionSpec, x: Array, t: int) -> Array:
    """The network at a time."""
    embedded = spec.embed(np.full(1, t)).astype(x.dtype)
    y = denoise(x, np.broadcast_to(embedded, (*x.shape[:2], spec.time_size)))
    _finite(y, f"what the network gives at time {t}")
    return y


def _finite(values: Array, where: str) -> None:
    if not np.isfinite(values).all():
        what, hint = "holds values that are not finite", "smaller guidance, or weights of another training run"
        raise fail("sampling-diverged", what, where=where, expected="finite numbers", hint=hint)


def _ddim_currents(
    given: Callable[[Array, int], Array], spec: DiffusionSpec, start: Array, steps: int, clip: bool
) -> Array:
    """The last x of DDIM, (S, n, *currents)."""
    schedule = spec.noise_schedule
    phi = schedule.angles()
    channels = spec.currents[0]
    x = np.repeat(fold_pixels(start, spec.fold)[None], spec.steps, axis=0)
    for turn in schedule.rotations(steps):
        y = given(x, turn.t)[:, :, :channels]
        angle = float(phi[turn.t])
        if spec.prediction == "noise":
            y = (y - np.asarray(np.sin(angle), x.dtype) * x) / np.asarray(np.cos(angle), x.dtype)  # v
        if clip:
            x = _clipped_step(x, y, angle, turn.b)
        else:
            x = np.asarray(turn.a, x.dtype) * x + np.asarray(turn.b, x.dtype) * y
    return x


def _clipped_step(x: Array, y: Array, phi: float, b: float) -> Array:
    """The DDIM step through a decoded, clipped image; the same current at every SNN step."""
    mean, v = x.mean(axis=0), y.mean(axis=0)
    image = np.clip(np.cos(phi) * mean - np.sin(phi) * v, -1, 1)
    eps = (mean - np.cos(phi) * image) / max(np.sin(phi), 1e-8)
    after = phi - np.arcsin(-b)
    turned = np.cos(after) * image + np.sin(after) * eps
    return np.repeat(turned[None].astype(x.dtype), len(x), axis=0)


def module_denoiser(module: Any) -> Network:
    """A torch module as a `Network`, in evaluation mode and without gradients."""
    import torch

    module.eval()

    def denoise(*given: Array) -> Array:
        with torch.inference_mode():
            return np.asarray(module(*(torch.from_numpy(np.array(value)) for value in given)).numpy())

    return denoise


def compiled_denoiser(result: Any, spec: DiffusionSpec) -> Network:
    """A compiled network (a `snnir.CompileResult`) as a `Network`: in ONNX Runtime, or in a chip's simulator.

    A call runs as many steps longer as outputs come late, with nothing on the inputs.
    """

    def denoise(*given: Array) -> Array:
        late = ((0, result.latency), (0, 0))
        inputs = {
            name: np.pad(value, (*late, *((0, 0) for _ in value.shape[2:])))
            for name, value in zip(spec.inputs, given, strict=True)
        }
        return np.asarray(result.run(inputs)[result.latency :], given[0].dtype)

    return denoise


def graph_denoiser(graph: Graph) -> Network:
    """A graph as a `Network`, run by the reference interpreter."""
    spec = spec_of(graph)

    def denoise(*given: Array) -> Array:
        return np.asarray(interpret(graph, dict(zip(spec.inputs, given, strict=True))))

    return denoise
