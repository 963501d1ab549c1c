"""Trains the nano network: python -m snnir.models.train_nano fsddim-nano.safetensors (about six minutes on one core).

On noisy images of 898 digits of 4x4 pixels, with fresh noise in every batch, as spikes: the chip's 16 steps, neurons as
the torch target computes them (`spikes`, which tests hold to the emitted module). Weights are 8-bit integers times a
scale per neuron from the start (quantisation-aware, straight-through); the codes of the denoising steps and the decoder
are trained with them. Two things decide how good it gets, and how near the chip stays:

- All 16 channels bring about 7.5 events per step, so what the weights of a neuron have in common moves it far more than
  their differences do. The two are trained apart, as a mean drive and differences (`Training.weights`).
- A neuron of the chip may spike several times in a step, one of the network only once. Those few extra spikes made
  most of what the images of chip and network differed by (rms .011; .006 with one spike per step on the chip, too).
  Below one threshold per step there are none, so currents near it are penalised.

Two stages. In the first the spikes alone make v: v error .292 on held-out digits. Then the part of v that follows from
the noisy image linearly, a factor per component and denoising step, is left to the host, and the spikes are trained on
the rest: .289. (Were it there from the start, it would soon explain so much that the neurons fall silent.)
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnir.diffusion.events import EventHost
from snnir.errors import MissingPackageError
from snnir.models.fsddim_nano import CENTRE, IMAGE, LAYERS, MOST, SPREAD, NanoNet, build, state

CALLS = 20  # K, denoising calls per image
TURN = math.pi / 2 / CALLS
TRAINED_ON = 898
SYNAPSE = 0.5  # decay of the currents per step
MEMBRANE = 1 - 2.0**-15
SLOPE = 2.0  # of the surrogate


@dataclass(frozen=True)
class Recipe:
    """How long, how fast, and from which seed.

    Args:
        first, first_rate: iterations of Adam in the first stage, and its rate, in one cycle up to this highest one and
            down to 0; second, second_rate: of the second.
        batch: noisy images per iteration; fitted: that the linear part is fitted on.
        hold: penalised is what currents exceed this by, in thresholds; penalty: its weight.
    """

    seed: int = 0
    first: int = 16_000
    first_rate: float = 2e-3
    second: int = 3_000
    second_rate: float = 1.5e-3
    batch: int = 128
    fitted: int = 40_000
    hold: float = 0.9
    penalty: float = 5.0


def digits() -> tuple[Any, Any]:
    """scikit-learn's digits as 4x4 means in [-1, 1]: 898 to train on, 899 never seen; a fixed random split."""
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingPackageError("scikit-learn", "diffusion", "the data set 'digits'") from error
    images = load_digits().images / 8.0 - 1.0
    small = images.reshape(-1, 1, 4, 2, 4, 2).mean(axis=(3, 5))
    order = np.random.default_rng(0).permutation(len(small))
    return small[order[:TRAINED_ON]], small[order[TRAINED_ON:]]


def principal(images: Any) -> tuple[Any, Any, Any]:
    """Mean (M,), principal axes (M, M), the largest first, and the variances along them (M,)."""
    flat = images.reshape(len(images), -1)
    variances, axes = np.linalg.eigh(np.cov(flat.T))
    return flat.mean(axis=0), axes[:, ::-1], variances[::-1]


def noisy(points: Any, repeats: int, seed: int) -> list[tuple[int, Any, Any]]:
    """Noisy components and their v at every step k: [(k, z, v)], each image `repeats` times."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(1, CALLS + 1):
        x = np.repeat(points, repeats, axis=0)
        noise, c, s = rng.standard_normal(x.shape), math.cos(k * TURN), math.sin(k * TURN)
        found.append((k, c * x + s * noise, c * noise - s * x))
    return found


def integers(weight: Tensor) -> Tensor:
    """Weights rounded to 127 levels either side, with a scale per neuron; the gradient passes as if they were not."""
    unit = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-6) / 127
    return weight + ((weight / unit).round().clamp(-127, 127) * unit - weight).detach()


class _Fire(torch.autograd.Function):
    """Currents (S, B, n) -> spikes: v <- MEMBRANE v + i, a spike at v >= 1, which takes 1 off.

    Backwards a spike counts as if it grew by 1 / (1 + SLOPE |v - 1|)^2 with v, and the reset is seen: over a call, a
    count then grows by about one per threshold of input, whenever it arrives. All steps in one function, because in
    ordinary operations the loop takes twice the time.
    """

    @staticmethod
    def forward(ctx: Any, current: Tensor) -> Tensor:
        v, before, spikes = torch.zeros_like(current[0]), torch.empty_like(current), torch.empty_like(current)
        for k in range(len(current)):
            torch.add(current[k], v, alpha=MEMBRANE, out=before[k])
            spikes[k] = before[k] >= 1.0
            torch.sub(before[k], spikes[k], out=v)
        ctx.save_for_backward(before)
        return spikes

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (before,) = ctx.saved_tensors
        slope = before.sub(1).abs_().mul_(SLOPE).add_(1).square_().reciprocal_()
        direct = grads[0] * slope
        kept = slope.neg_().add_(1).mul_(MEMBRANE)
        found, later = torch.empty_like(direct), torch.zeros_like(direct[0])
        for k in range(len(found) - 1, -1, -1):
            later = torch.addcmul(direct[k], later, kept[k], out=found[k])
        return found


def spikes(events: Tensor, weights: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Event counts (S, B, C + 2) -> the outputs' spikes (S, B, N) and the currents (S, B, n) of each layer."""
    t = torch.arange(len(events), dtype=events.dtype)
    kernel = torch.tril(SYNAPSE ** (t[:, None] - t + 1))  # i <- (i + x) / 2
    x, currents = events, []
    for weight in weights:
        arriving = torch.nn.functional.linear(x, weight)
        currents.append((kernel @ arriving.flatten(1)).reshape(arriving.shape))
        x = _Fire.apply(currents[-1])  # type: ignore[no-untyped-call]
    return x, currents


class Training:
    """What is trained: the network, the codes of the denoising steps and the decoder."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.net = build(seed=recipe.seed)
        config = self.net.config
        images, _ = digits()
        self.mean, self.basis, self.variances = principal(images)
        components = (images.reshape(len(images), -1) - self.mean) @ self.basis
        self.points = torch.tensor(components[:, : config.components], dtype=torch.float32)
        raw = [getattr(self.net, name).weight.detach().clone() for name in LAYERS]
        self.raw = [torch.nn.Parameter(weight) for weight in raw]
        self.drive = torch.nn.Parameter(raw[0].sum(dim=1) * CENTRE)
        ramp = torch.linspace(0, 1, CALLS)
        self.code = torch.nn.Parameter(torch.stack([ramp, 1 - ramp], dim=1))
        self.decoder = torch.nn.Linear(config.outputs, config.components)
        self.skip = torch.nn.Parameter(torch.zeros(CALLS, config.components))
        self.shift = torch.nn.Parameter(torch.zeros(CALLS, config.components))
        with torch.no_grad():
            self.decoder.weight.normal_(0, 0.1)
            self.decoder.bias.zero_()

    def weights(self) -> list[Tensor]:
        """The weights as the chip will have them; those of the first layer from their differences and `drive`.

        `drive` is what a neuron receives in a step, in thresholds, when all channels are at their centre.
        """
        into, *others = self.raw
        each = self.drive / (CENTRE * into.shape[1])
        return [integers(w) for w in (into - into.mean(dim=1, keepdim=True) + each[:, None], *others)]

    def batch(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy components (n, C), their denoising steps (n,), and v (n, C)."""
        x = self.points[torch.randint(len(self.points), (n,), generator=self.generator)]
        k = torch.randint(1, CALLS + 1, (n,), generator=self.generator)
        noise = torch.randn(x.shape, generator=self.generator)
        c, s = (k * TURN).cos()[:, None], (k * TURN).sin()[:, None]
        return c * x + s * noise, k, c * noise - s * x

    def events(self, z: Tensor, k: Tensor) -> Tensor:
        """Event counts (S, B, C + 2); to the gradient they are the levels that they follow."""
        levels = torch.cat([CENTRE + SPREAD * z, self.code[k - 1] * MOST], dim=1).clamp(0, MOST)
        t = torch.arange(self.net.config.steps + 1, dtype=levels.dtype)[:, None, None]
        counts = torch.diff(torch.floor(t * levels.detach() + 0.5), dim=0)
        return levels + (counts - levels).detach()

    def stage(self, iterations: int, rate: float, linear: bool) -> None:
        """Trains for some iterations; `linear`: also the host's linear part."""
        r = self.recipe
        parameters = [*self.raw, self.drive, self.code, *self.decoder.parameters()]
        if linear:
            parameters += [self.skip, self.shift]
        rates = [rate / 2, *[rate] * (len(parameters) - 1)]
        optimiser = torch.optim.Adam([{"params": [p]} for p in parameters], lr=rate)
        plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, max(iterations, 1), pct_start=0.1)
        errors = 0.0
        for i in range(iterations):
            z, k, v = self.batch(r.batch)
            out, currents = spikes(self.events(z, k), self.weights())
            guess = self.decoder(out.sum(dim=0)) + self.skip[k - 1] * z + self.shift[k - 1]
            error = (guess - v).square().mean()
            crowded = torch.stack([(c - r.hold).relu().mean() for c in currents[:-1]]).sum()  # outputs are capped at 1
            if not torch.isfinite(error):
                raise FloatingPointError(f"the loss is {error.item()}; lower the learning rate")
            optimiser.zero_grad()
            (error + r.penalty * crowded).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            plan.step()
            errors += error.item()
            if (i + 1) % 500 == 0:
                rate = out.detach().mean().item()
                tell(f"{i + 1}: v error {errors / 500:.4f}, crowded {crowded.item():.5f}, {rate:.3f} spikes")
                errors = 0.0

    @torch.no_grad()
    def settle(self) -> None:
        """Makes the first stage's result what the second starts from: whole weights, with random numbers of its own."""
        for raw, weight in zip(self.raw, self.weights(), strict=True):
            raw.copy_(weight)
        self.drive.copy_(self.raw[0].sum(dim=1) * CENTRE)
        self.code.copy_((self.code * MOST).clamp(0, MOST) / MOST)
        self.generator.manual_seed(self.recipe.seed + 1)

    @torch.no_grad()
    def fit(self) -> None:
        """The linear part, a factor and a constant per component and step, and the decoder, by turns of least squares.

        Each turn fits one of the two to what the other leaves.
        """
        z, k, v = self.batch(self.recipe.fitted)
        parts = zip(z.split(1000), k.split(1000), strict=True)
        counts = torch.cat([spikes(self.events(*part), self.weights())[0].sum(dim=0) for part in parts])
        design = torch.cat([counts, torch.ones(len(counts), 1)], dim=1).double()
        ridge = 1e-4 * len(design) * torch.eye(design.shape[1], dtype=design.dtype)
        for _ in range(6):
            left = v - self.decoder(counts)
            for step in range(CALLS):
                here, rest = z[k == step + 1], left[k == step + 1]
                centred = here - here.mean(dim=0)
                self.skip[step] = (centred * rest).mean(dim=0) / centred.square().mean(dim=0)
                self.shift[step] = (rest - self.skip[step] * here).mean(dim=0)
            wanted = (v - self.skip[k - 1] * z - self.shift[k - 1]).double()
            found = torch.linalg.solve(design.T @ design + ridge, design.T @ wanted)
            self.decoder.weight.copy_(found[:-1].T)
            self.decoder.bias.copy_(found[-1])

    @torch.no_grad()
    def result(self) -> NanoNet:
        """The network with its host."""
        host = EventHost(
            image=IMAGE,
            steps=self.net.config.steps,
            most=MOST,
            centre=CENTRE,
            spread=SPREAD,
            mean=self.mean,
            basis=self.basis,
            variances=self.variances,
            time_code=(self.code * MOST).clamp(0, MOST).double().numpy(),
            decoder=self.decoder.weight.T.double().numpy(),
            skip=self.skip.double().numpy(),
            offset=(self.decoder.bias + self.shift).double().numpy(),
        )
        made = NanoNet(self.net.config, host)
        for name, weight in zip(LAYERS, self.weights(), strict=True):
            getattr(made, name).weight.copy_(weight)
        return made


def train(recipe: Recipe) -> NanoNet:
    """The trained network; the same for the same recipe on the same machine."""
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    training = Training(recipe)
    training.stage(recipe.first, recipe.first_rate, linear=False)
    training.settle()
    training.fit()
    training.stage(recipe.second, recipe.second_rate, linear=True)
    return training.result()


def tell(text: str) -> None:
    """A line of progress on stderr."""
    print(f"{time.process_time():6.0f} s  {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Trains and writes a weights file."""
    import argparse

    from safetensors.numpy import save_file

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", help="the .safetensors file to write")
    default = Recipe()
    for name in default.__dataclass_fields__:
        value = getattr(default, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"default {value}")
    given = vars(parser.parse_args())
    output = Path(given.pop("output"))
    recipe = replace(default, **given)
    arrays = {name: np.ascontiguousarray(array) for name, array in state(train(recipe)).items()}
    save_file(arrays, output, metadata={"recipe": str(recipe)})
    tell(f"written to {output}")


if __name__ == "__main__":
    main()
