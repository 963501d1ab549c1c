"""Training a denoising network on the module that was emitted for a target; the weights come back into the graph.

Batches, times and noise of a step follow from the seed and the step's number alone, so a run that is killed and resumed
ends as one that was not.
"""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from snnir.diffusion import checkpoint
from snnir.diffusion.labels import check_labels, one_hot
from snnir.diffusion.losses import VarianceLoss, current_losses, image_of, v_target
from snnir.diffusion.memory import keep_freed_memory
from snnir.diffusion.posterior import Posterior
from snnir.diffusion.processes import Processes
from snnir.diffusion.spec import DiffusionSpec, fold_pixels
from snnir.errors import SnnirError, UsageError
from snnir.ops import Array

HIGHEST_RATE = 1000  # far above what trains anything; far below what float32 overflows at
WORTH_COMPILING = 5000  # images; compiling takes several seconds


@dataclass(frozen=True)
class TrainConfig:
    """How a network is trained: Adam, a short warm-up, then a cosine down to `floor` of the rate.

    Args:
        images: images seen in all; the last batch is full, so it may be a few more.
        batch: images per step, over all processes.
        rate: the highest learning rate.
        warmup: steps until it is reached.
        floor: the last learning rate, as a part of the highest.
        clip: norm to which gradients are clipped.
        ema: decay of the moving average of the weights per step; 0 for none.
        weighting: of the image loss over t: 'uniform', or the paper's 'snr' (abar_t).
        consistency: factor of the synaptic current learning loss; 0 leaves it out.
        label_dropout: part of the images whose label is left out, which guidance needs; of networks with labels.
        seed: of batches, times and noise.
    """

    images: int = 300_000
    batch: int = 16
    rate: float = 3e-3
    warmup: int = 20
    floor: float = 0.05
    clip: float = 1.0
    ema: float = 0.995
    weighting: Literal["uniform", "snr"] = "uniform"
    consistency: float = 1.0
    seed: int = 0
    label_dropout: float = 0.1

    def __post_init__(self) -> None:
        faults = [
            f"{name} is {value}, expected {want}"
            for name, value, ok, want in (
                ("images", self.images, self.images >= 1, "at least 1"),
                ("batch", self.batch, self.batch >= 1, "at least 1"),
                ("rate", self.rate, 0 < self.rate <= HIGHEST_RATE, f"above 0, at most {HIGHEST_RATE}"),
                ("warmup", self.warmup, self.warmup >= 0, "at least 0"),
                ("floor", self.floor, 0 <= self.floor <= 1, "0 to 1"),
                ("clip", self.clip, self.clip > 0, "above 0"),
                ("ema", self.ema, 0 <= self.ema < 1, "at least 0 and below 1"),
                ("weighting", self.weighting, self.weighting in ("uniform", "snr"), "'uniform' or 'snr'"),
                ("consistency", self.consistency, 0 <= self.consistency < math.inf, "a finite number, at least 0"),
                ("label_dropout", self.label_dropout, 0 <= self.label_dropout <= 1, "0 to 1"),
                ("seed", self.seed, self.seed >= 0, "at least 0"),
            )
            if not ok
        ]
        if faults:
            raise UsageError("training: " + "; ".join(faults))

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return -(-self.images // self.batch)

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, the first being 0."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.rate * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2)


@dataclass(frozen=True)
class Progress:
    """What a step came to: means over the steps since the last report."""

    step: int
    steps: int
    images: int
    loss: float
    image_loss: float
    consistency_loss: float
    rate: float
    seconds: float
    variance_loss: float = 0.0


class DivergedError(SnnirError):
    """The loss or its gradient is no longer a finite number."""


def train(
    module: nn.Module,
    spec: DiffusionSpec,
    images: Array,
    config: TrainConfig,
    *,
    folder: Path | None = None,
    resume: bool = False,
    every: int = 500,
    report: Callable[[Progress], None] | None = None,
    processes: Processes | None = None,
    labels: Array | None = None,
    network: str = "",
) -> dict[str, Array]:
    """Trains `module` in place.

    Where the network learns the variance, the loss is improved DDPM's hybrid: the image's, and .001 of the bound.

    Args:
        module: an emitted module, or any that takes and gives the same: (x (S, B, *currents), time (S, B, size)) -> y,
            with label (S, B, classes + 1) as the third where the network has labels.
        spec: what the network is.
        images: (N, C, H, W) in [-1, 1], float32.
        folder: where checkpoint.safetensors is kept; None keeps none.
        resume: go on from the folder's checkpoint.
        every: steps between reports, and between checkpoints.
        report: told of progress.
        processes: the other processes that train on the same batches; default what the launcher of this one says.
        labels: (N,) integers, of the images, where the network has labels.
        network: what tells the network from others with weights of the same shapes (`checkpoint.fingerprint`); a
            checkpoint of another is refused.

    Returns:
        The state dict to use: the moving average where there is one, else the module's own.

    Raises:
        UsageError: images of another shape than the network's; a weighting that is not for what it predicts.
        CompileError: labels that are missing or that the network does not have; the checkpoint cannot be read, or is
            another model's or another run's, or
            of other images.
        DivergedError: the loss or its gradient is no finite number; the checkpoint of the last report is kept.
    """
    if images.ndim != 4 or images.shape[1:] != spec.image:
        raise UsageError(f"images have the shape {list(images.shape[1:])}, but the network's are {list(spec.image)}")
    if config.weighting == "snr" and spec.prediction == "noise":
        raise UsageError("weighting 'snr' makes the loss of v that of noise; this network predicts noise: 'uniform'")
    check_labels(labels, len(images), spec.classes)
    keep_freed_memory()
    _settle_kernels(module, config.images)
    team = processes or Processes.from_environment()
    module.train()
    run = _Run(module, spec, images, labels, config, team, network)
    first = run.load(folder) if resume and folder is not None else 0
    start = time.perf_counter()
    sums = np.zeros(3)
    since = 0
    for step in range(first, config.steps):
        sums += run.step(step)
        since += 1
        done = step + 1
        if done % every and done != config.steps:
            continue
        image_loss, consistency_loss, variance_loss = (float(v) for v in team.mean(sums / since))
        loss = image_loss + config.consistency * consistency_loss + spec.timesteps / 1000 * variance_loss
        run.check_finite(done)
        if report is not None and team.rank == 0:
            rate, seconds = config.rate_at(step), time.perf_counter() - start
            seen = done * config.batch
            parts = (image_loss, consistency_loss, rate, seconds, variance_loss)
            report(Progress(done, config.steps, seen, loss, *parts))
        if folder is not None and team.rank == 0:  # after the report: a run that goes on from here has had it
            run.save(folder, done)
        sums[:], since = 0, 0
    return run.result()


@dataclass(frozen=True, eq=False)
class _Batch:
    """The network's inputs (S, B, ...), its target (B, *currents), times (B,) and images (B, *currents)."""

    inputs: tuple[Tensor, ...]
    target: Tensor
    t: Tensor
    images: Tensor


class _Run:
    """The module, its optimiser and its moving average."""

    def __init__(
        self,
        module: nn.Module,
        spec: DiffusionSpec,
        images: Array,
        labels: Array | None,
        config: TrainConfig,
        team: Processes,
        network: str,
    ) -> None:
        self.module, self.spec, self.images, self.config, self.team = module, spec, images, config, team
        self.network = network
        self.kept = 0  # steps that the last checkpoint has seen
        self.labels = labels if spec.classes else None
        schedule = spec.noise_schedule
        self.variance = VarianceLoss(Posterior.of(schedule)) if spec.variance else None
        self.angles = torch.from_numpy(schedule.angles().astype(np.float32))
        self.abar = torch.from_numpy(schedule.abar().astype(np.float32))
        self.spread = torch.from_numpy(schedule.output_weights().astype(np.float32))
        self.embedding = torch.from_numpy(spec.embed(np.arange(spec.timesteps)).astype(np.float32))
        self.parameters = dict(module.named_parameters())
        self.optimiser = torch.optim.Adam(self.parameters.values(), lr=config.rate, foreach=True)
        self.forward = team.shared(module)
        self.average = {k: v.detach().clone() for k, v in _floats(module)} if config.ema else {}
        self.orders: dict[int, Array] = {}

    def step(self, step: int) -> Array:
        """One optimiser step; the losses of the image, of the current's constancy and of the variance."""
        batch = self.batch(step)
        y = self.forward(*batch.inputs)
        channels = batch.target.shape[1]
        prediction = y[:, :, :channels]
        weight = self.abar[batch.t] if self.config.weighting == "snr" else torch.ones(len(batch.t))
        losses = current_losses(prediction, batch.target, weight, self.spread[batch.t])
        total = losses.image + self.config.consistency * losses.consistency
        found = np.array([losses.image.item(), losses.consistency.item(), 0.0])
        if self.variance is not None:
            x = batch.inputs[0][0]
            guess = image_of(prediction.mean(dim=0), x, self.angles[batch.t], self.spec.prediction)
            bound = self.variance(batch.images, x, guess, y[:, :, channels:].mean(dim=0), batch.t)
            total = total + self.spec.timesteps / 1000 * bound
            found[2] = bound.item()
        if not np.isfinite(found).all():
            raise self.diverged(f"the loss is {total.item()}", step + 1)
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.rate_at(step)
        self.optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip).item()
        if not math.isfinite(norm):  # the weights would be, too
            raise self.diverged(f"the norm of the gradient is {norm}", step + 1)
        self.optimiser.step()
        if self.average:
            mine = [v.detach() for _, v in _floats(self.module)]
            # early on the average follows closely: the first weights are random
            decay = min(self.config.ema, (step + 1) / (step + 10))
            torch._foreach_lerp_(list(self.average.values()), mine, 1 - decay)
        return found

    def check_finite(self, step: int) -> None:
        """That the weights after `step` steps are finite numbers, before they are kept.

        Raises:
            DivergedError: they are not.
        """
        if not all(bool(value.isfinite().all()) for _, value in _floats(self.module)):
            raise self.diverged("weights are no finite numbers", step)

    def diverged(self, what: str, step: int) -> DivergedError:
        """The error that says so."""
        kept = f"the checkpoint after step {self.kept} is kept" if self.kept else "no checkpoint was written before"
        return DivergedError(f"{what} at step {step} of {self.config.steps}; {kept}; try a smaller learning rate")

    def batch(self, step: int) -> _Batch:
        """What a step learns from: this process's share."""
        size, n = self.config.batch, len(self.images)
        places = range(step * size, (step + 1) * size)
        chosen = [int(self.order(place // n)[place % n]) for place in places]
        random = np.random.default_rng([self.config.seed, 1, step])
        t = random.integers(0, self.spec.timesteps, size)
        noise = random.standard_normal((size, *self.spec.image), dtype=np.float32)
        share = self.team.share(size)
        x0 = torch.from_numpy(fold_pixels(self.images[chosen][share], self.spec.fold))
        eps = torch.from_numpy(fold_pixels(noise[share], self.spec.fold))
        times = torch.from_numpy(t[share])
        x, v = v_target(x0, eps, self.angles[times])
        given = [x, self.embedding[times]]
        if self.labels is not None:
            left_out = random.random(size) < self.config.label_dropout
            told = [None if gone else int(self.labels[i]) for i, gone in zip(chosen, left_out, strict=True)]
            given.append(torch.from_numpy(one_hot(told[share], self.spec.classes).astype(np.float32)))
        inputs = tuple(value.expand(self.spec.steps, *value.shape) for value in given)
        return _Batch(inputs, v if self.spec.prediction == "v" else eps, times, x0)

    def order(self, epoch: int) -> Array:
        """The images of an epoch, shuffled."""
        if epoch not in self.orders:
            self.orders = {epoch - 1: self.orders.get(epoch - 1, np.zeros(0))} if epoch else {}
            self.orders[epoch] = np.random.default_rng([self.config.seed, 0, epoch]).permutation(len(self.images))
        return self.orders[epoch]

    @cached_property
    def settings(self) -> dict[str, object]:
        """What a checkpoint must have been trained with to be gone on from: options, network and images."""
        content = hashlib.sha256(f"{self.images.dtype}{self.images.shape}".encode())
        for values in (self.images, self.labels):
            content.update(b"" if values is None else np.ascontiguousarray(values).data)
        found = asdict(self.config) | {f"diffusion.{k}": v for k, v in self.spec.to_dict().items()}
        found |= {"data": content.hexdigest()[:12], **({"network": self.network} if self.network else {})}
        return found if self.spec.classes else {k: v for k, v in found.items() if k != "label_dropout"}

    def save(self, folder: Path, step: int) -> None:
        tensors = {f"weights/{k}": v for k, v in self.module.state_dict().items()}
        tensors |= {f"average/{k}": v for k, v in self.average.items()}
        for name, parameter in self.parameters.items():
            state = self.optimiser.state[parameter]
            tensors |= {f"adam/{name}/{key}": value for key, value in state.items() if isinstance(value, Tensor)}
        checkpoint.write(folder, step, self.settings, tensors)
        self.kept = step

    def load(self, folder: Path) -> int:
        """Takes over the folder's checkpoint; the number of steps it has seen."""
        step, tensors = checkpoint.read(folder, self.settings, self.module.state_dict())
        self.module.load_state_dict(checkpoint.part(tensors, "weights"))
        for name, value in checkpoint.part(tensors, "average").items():
            self.average[name].copy_(value)
        for name, parameter in self.parameters.items():
            self.optimiser.state[parameter] = checkpoint.part(tensors, f"adam/{name}")
        self.kept = step
        return step

    def result(self) -> dict[str, Array]:
        """What a user goes on with."""
        state = {**self.module.state_dict(), **self.average}
        return {k: v.detach().cpu().numpy().copy() for k, v in state.items()}


def _floats(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Everything that training moves, batch norm statistics included."""
    for name, value in module.state_dict(keep_vars=True).items():
        if value.is_floating_point():
            yield name, value


def _settle_kernels(module: nn.Module, images: int) -> None:
    """Emitted kernels are compiled after some use, and may round sums differently then: so at once, or not at all."""
    namespace = vars(sys.modules[type(module).__module__])
    if "NUMBA_AFTER" in namespace:
        namespace["NUMBA_AFTER"] = 0 if images >= WORTH_COMPILING else 1 << 62
