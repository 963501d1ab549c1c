"""Trains the nano network: python -m snnir.models.train_nano fsddim-nano.safetensors (about five minutes on one core).

Digits of 4x4 pixels are few (898), so v is not learned from noisy samples but from the closed form of what it is on
average for a smoothed data set (`Teacher`). Three stages:

1. As rates. A neuron that resets by subtraction spikes about once per threshold of input in a call, so the network is
   first trained as one of counts, 0 to 16, rounded at random; a hundred times cheaper than spikes.
2. As spikes, through the module that the torch target emits. Weights are 8-bit integers times a scale per neuron from
   the start (quantisation-aware, straight-through). Currents above one threshold per step are penalised: below, no
   neuron could spike twice in a step, and a chip that would let it computes the same as one that would not.
3. The decoder, by least squares on the spikes that come out.
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

import snnir
from snnir.diffusion.events import EventHost
from snnir.errors import MissingPackageError
from snnir.models.fsddim_nano import CENTRE, IMAGE, LAYERS, MOST, SPREAD, NanoNet, build, state

CALLS = 20  # K, denoising calls per image
TURN = math.pi / 2 / CALLS
TRAINED_ON = 898
SYNAPSE = 0.5  # decay of the currents per step


@dataclass(frozen=True)
class Recipe:
    """How long, how fast, and from which seed.

    Args:
        rate_iterations, rate_lr: of stage 1, 256 samples each; spike_iterations, spike_lr: of stage 2, 128 each.
        hold: penalised is what currents exceed this by, in thresholds; penalty: its weight.
        bank: samples (z, k, v) that all stages draw from.
        width: of the teacher's blur; 0: the best on halves of the training images.
    """

    seed: int = 0
    rate_iterations: int = 30_000
    rate_lr: float = 2e-3
    spike_iterations: int = 24_000
    spike_lr: float = 1e-3
    hold: float = 0.9
    penalty: float = 0.5
    bank: int = 400_000
    width: float = 0.0


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


@dataclass(frozen=True)
class Teacher:
    """E[v | z] in closed form, for images that are points drawn towards their mean, each blurred by a Gaussian.

    Blurring by `width` standard deviations of the data, with points times sqrt(1 - width^2), leaves mean and
    covariance as they are; it keeps the estimate from being that of the training images alone.
    """

    points: Tensor
    variances: Tensor
    width: float

    def v(self, z: Tensor, k: Tensor) -> Tensor:
        """The mean v at noisy components z (B, C) and denoising steps k (B,)."""
        phi = (k * TURN)[:, None]
        c, s, blur = phi.cos(), phi.sin(), self.width**2 * self.variances
        inverse = 1 / (c * c * blur + s * s)
        means = math.sqrt(1 - self.width**2) * self.points
        near = 2 * c * (z * inverse) @ means.T - c * c * inverse @ (means * means).T
        middle = (near / 2).softmax(dim=1) @ means
        x = middle + c * blur * inverse * (z - c * middle)
        return c * (z - c * x) / s - s * x

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy components, their steps, and the mean v."""
        chosen = torch.randint(len(self.points), (n,), generator=generator)
        blur = self.width * self.variances.sqrt() * torch.randn(n, self.points.shape[1], generator=generator)
        x = math.sqrt(1 - self.width**2) * self.points[chosen] + blur
        k = torch.randint(1, CALLS + 1, (n,), generator=generator)
        phi = (k * TURN)[:, None]
        z = phi.cos() * x + phi.sin() * torch.randn(x.shape, generator=generator)
        return z, k, torch.cat([self.v(*part) for part in zip(z.split(512), k.split(512), strict=True)])


def noisy(points: Any, repeats: int, seed: int) -> list[tuple[int, Any, Any]]:
    """Noisy components and their v at every step k: [(k, z, v)], each image `repeats` times."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(1, CALLS + 1):
        x = np.repeat(points, repeats, axis=0)
        noise, c, s = rng.standard_normal(x.shape), math.cos(k * TURN), math.sin(k * TURN)
        found.append((k, c * x + s * noise, c * noise - s * x))
    return found


def best_width(points: Tensor, variances: Tensor) -> float:
    """The width whose teacher errs least on the half of the training images that it does not hold."""
    errors: dict[float, float] = {}
    halves = points[::2], points[1::2]
    for width in (0.35, 0.4, 0.45, 0.5, 0.55):
        errors[width] = 0.0
        for own, other in (halves, halves[::-1]):
            teacher = Teacher(own, variances, width)
            for k, z, v in noisy(other.numpy(), 4, 1):
                guess = teacher.v(torch.tensor(z, dtype=torch.float32), torch.full((len(z),), k))
                errors[width] += float(((guess.numpy() - v) ** 2).mean())
    return min(errors, key=errors.__getitem__)


def integers(weight: Tensor) -> Tensor:
    """Weights rounded to 127 levels either side, with a scale per neuron; the gradient passes as if they were not."""
    unit = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-6) / 127
    return weight + ((weight / unit).round().clamp(-127, 127) * unit - weight).detach()


class Integers(torch.nn.Module):
    """`integers` as a parametrization."""

    def forward(self, weight: Tensor) -> Tensor:
        """The weights as the chip will have them."""
        return integers(weight)


class Training:
    """The parts that are trained, beside the network."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.net = build(seed=recipe.seed)
        config = self.net.config
        images, _ = digits()
        self.mean, self.basis, self.variances = principal(images)
        seen = config.components
        points = torch.tensor((images.reshape(len(images), -1) - self.mean) @ self.basis, dtype=torch.float32)
        variances = torch.tensor(self.variances[:seen].copy(), dtype=torch.float32)
        width = recipe.width or best_width(points[:, :seen], variances)
        self.teacher = Teacher(points[:, :seen], variances, width)
        self.bank = self.teacher.draw(recipe.bank, self.generator)
        ramp = torch.linspace(0, 1, CALLS)
        self.code = torch.nn.Parameter(torch.stack([ramp, 1 - ramp], dim=1))
        self.decoder = torch.nn.Linear(config.outputs, seen)
        with torch.no_grad():
            self.decoder.weight.normal_(0, 0.1)
            self.decoder.bias.zero_()

    def batch(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Samples of the bank."""
        chosen = torch.randint(len(self.bank[0]), (n,), generator=self.generator)
        z, k, v = (part[chosen] for part in self.bank)
        return z, k, v

    def levels(self, z: Tensor, k: Tensor) -> Tensor:
        """Events per step and channel, before they are counted (B, C + 2)."""
        return torch.cat([(CENTRE + SPREAD * z).clamp(0, MOST), (self.code[k - 1] * MOST).clamp(0, MOST)], dim=1)

    def events(self, z: Tensor, k: Tensor) -> Tensor:
        """Event counts (S, B, C + 2); to the gradient they are the levels."""
        levels = self.levels(z, k)
        t = torch.arange(self.net.config.steps + 1, dtype=levels.dtype)[:, None, None]
        counts = torch.diff(torch.floor(t * levels.detach() + 0.5), dim=0)
        return levels + (counts - levels).detach()

    # -- stage 1 ---------------------------------------------------------------------------------------------------

    def rates(self) -> None:
        """The network as one of counts."""
        r, net = self.recipe, self.net
        slow, others = [net.into.weight], [net.middle.weight, net.out.weight, self.code, *self.decoder.parameters()]
        optimiser = torch.optim.Adam([{"params": slow}, {"params": others}], lr=r.rate_lr)
        plan = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, [r.rate_lr / 2, r.rate_lr], r.rate_iterations, pct_start=0.1
        )
        for i in range(r.rate_iterations):
            z, k, v = self.batch(256)
            x, crowded = self.levels(z, k), torch.zeros(())
            for name, arriving in zip(LAYERS, (15.5, 0.95, 0.95), strict=True):  # of 16 steps' charge
                x, over = self._counts(x @ integers(getattr(net, name).weight).T * arriving)
                crowded = crowded + over
            loss = ((self.decoder(x) - v) ** 2).mean()
            self._step(optimiser, plan, loss + 0.05 * crowded, [*slow, *others])
            if (i + 1) % 2500 == 0:
                tell(f"rates {i + 1}: {loss.item():.4f} from the teacher, {x.mean().item():.2f} spikes per output")

    def _counts(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Thresholds of input in a call -> spikes, rounded at random; and what is too near to one in every step."""
        steps = self.net.config.steps
        rounded = (u + 0.6 * torch.rand(u.shape, generator=self.generator) - 0.3).floor().clamp(0, steps)
        c = u - 0.5
        c = torch.where((c > 0) & (c < steps), c, 0.05 * c)
        return c + (rounded - c).detach(), (u - 0.75 * steps).relu().square().mean()

    # -- stage 2 ---------------------------------------------------------------------------------------------------

    def spikes(self) -> None:
        """The spiking network, as the torch target writes it."""
        from torch.nn.utils import parametrize

        r = self.recipe
        model = snnir.compile(self.net, "torch").module()
        for name in LAYERS:
            parametrize.register_parametrization(model.get_submodule(name), "weight", Integers())
        parameters = [*model.parameters(), self.code, *self.decoder.parameters()]
        optimiser = torch.optim.Adam(parameters, lr=r.spike_lr)
        plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, r.spike_lr, max(1, r.spike_iterations), pct_start=0.1)
        for i in range(r.spike_iterations):
            z, k, v = self.batch(128)
            spikes, seen = model(self.events(z, k), record=("into", "middle"))
            loss = ((self.decoder(spikes.sum(dim=0)) - v) ** 2).mean()
            crowded = sum(self._over(x) for x in seen.values())
            self._step(optimiser, plan, loss + r.penalty * crowded, parameters)
            if (i + 1) % 500 == 0:
                tell(f"spikes {i + 1}: {loss.item():.4f} from the teacher, crowded {float(crowded):.5f}")
        with torch.no_grad():
            for name in LAYERS:
                getattr(self.net, name).weight.copy_(model.get_submodule(name).weight)
            self._decode(model)

    def _over(self, x: Tensor) -> Tensor:
        """Mean of what currents, from what arrives (S, B, n), exceed `hold` by."""
        t = torch.arange(len(x), dtype=x.dtype)
        kernel = torch.tril(SYNAPSE ** (t[:, None] - t + 1))
        return (kernel @ x.flatten(1) - self.recipe.hold).relu().mean()

    # -- stage 3 ---------------------------------------------------------------------------------------------------

    def _decode(self, model: Any) -> None:
        """The decoder by least squares, on 40,000 samples of the bank."""
        z, k, v = (part[:40_000] for part in self.bank)
        events = zip(z.split(1000), k.split(1000), strict=True)
        counts = torch.cat([model(self.events(*part)).sum(dim=0) for part in events]).double()
        design = torch.cat([counts, torch.ones(len(counts), 1)], dim=1)
        ridge = 1e-4 * len(counts) * torch.eye(design.shape[1], dtype=design.dtype)
        found = torch.linalg.solve(design.T @ design + ridge, design.T @ v.double())
        self.decoder.weight.copy_(found[:-1].T)
        self.decoder.bias.copy_(found[-1])

    def _step(self, optimiser: Any, plan: Any, loss: Tensor, parameters: list[Any]) -> None:
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()}; lower the learning rate")
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        plan.step()

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
            time_code=(self.code.detach() * MOST).clamp(0, MOST).double().numpy(),
            decoder=self.decoder.weight.detach().T.double().numpy(),
            offset=self.decoder.bias.detach().double().numpy(),
        )
        made = NanoNet(self.net.config, host)
        made.load_state_dict(self.net.state_dict())
        return made


def train(recipe: Recipe) -> NanoNet:
    """The trained network; the same for the same recipe on the same machine."""
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    training = Training(recipe)
    tell(f"the teacher's width is {training.teacher.width}")
    training.rates()
    training.spikes()
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
