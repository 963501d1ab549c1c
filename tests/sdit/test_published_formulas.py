"""The published network and its sampling once more, in NumPy alone, from the formulas and by plain loops.

Sources: SDiT (arXiv 2402.11588), RWKV-4 (arXiv 2305.13048, eq. 11 to 18), U-ViT (arXiv 2209.12152), improved DDPM
(arXiv 2102.09672), DDIM (arXiv 2010.02502), classifier-free guidance (arXiv 2207.12598).
"""

from __future__ import annotations

from math import cos, exp, log, pi, sqrt
from typing import Any

import numpy as np
import pytest

from snnir.diffusion.labels import told
from snnir.diffusion.sample import sample
from snnir.diffusion.spec import DiffusionSpec
from tests.sdit.nets import TINY, called, example, lively

EPS = 1e-6


class Written:
    """The network in loops over tokens, channels and steps; `w` holds the module's arrays by name."""

    def __init__(self, model: Any) -> None:
        self.w = {name: value.double().numpy() for name, value in model.state_dict().items()}
        self.config = model.config
        self.tokens = 1 + self.config.grid[0] * self.config.grid[1]

    def linear(self, name: str, x: Any) -> Any:
        return x @ self.w[f"{name}.weight"].T + self.w.get(f"{name}.bias", 0.0)

    def shift(self, name: str, x: Any) -> Any:
        mix, y = self.w[f"{name}.mix"], np.zeros_like(x)
        for place in range(len(x)):
            y[place] = mix * x[place] + (1 - mix) * (x[place - 1] if place else 0.0)
        return y

    def wkv(self, name: str, k: Any, v: Any) -> Any:
        """The sums as they stand in the paper: no running state, no largest exponent."""
        decay, first, y = np.exp(self.w[f"{name}.log_decay"]), self.w[f"{name}.first"], np.zeros_like(v)
        for at, channel in np.ndindex(*k.shape):
            own = exp(first[channel] + k[at, channel])
            over, under = own * v[at, channel], own
            for i in range(at):
                weight = exp(-(at - 1 - i) * decay[channel] + k[i, channel])
                over, under = over + weight * v[i, channel], under + weight
            y[at, channel] = over / under
        return y

    def time_mix(self, name: str, x: Any) -> Any:
        k, v, r = (
            self.linear(f"{name}.{layer}", self.shift(f"{name}.shift_{layer[0]}", x))
            for layer in ("key", "value", "receptance")
        )
        return self.linear(f"{name}.output", sigmoid(r) * self.wkv(f"{name}.wkv", k, v))

    def channel_mix(self, name: str, x: Any) -> Any:
        k = self.linear(f"{name}.key", self.shift(f"{name}.shift_k", x))
        r = self.linear(f"{name}.receptance", self.shift(f"{name}.shift_r", x))
        return sigmoid(r) * self.linear(f"{name}.value", np.maximum(k, 0) ** 2)

    def rate(self, current: Any) -> Any:
        """SpikingJelly's LIFNode as it is by default: tau 2, the input decays too, v >= 1, hard reset to 0."""
        v, spikes = np.zeros_like(current), np.zeros_like(current)
        for _ in range(self.config.steps):
            v = v + (current - v) / 2
            spikes += v >= 1
            v = np.where(v >= 1, 0.0, v)
        return spikes / self.config.steps

    def block(self, name: str, x: Any, skip: Any = None) -> Any:
        if skip is not None:
            x = self.linear(f"{name}.join", np.concatenate([x, skip], axis=1))
        if self.config.reconstruction:
            x = np.concatenate([x, self.w[f"{name}.extra.value"]])
        x = x + self.rate(self.time_mix(f"{name}.time_mix", norm(x)))
        x = x + self.rate(self.channel_mix(f"{name}.channel_mix", norm(x)))
        if not self.config.reconstruction:
            return x
        x, r = x[: self.tokens], x[self.tokens :]
        g = self.linear(f"{name}.reconstruction.tokens", self.linear(f"{name}.reconstruction.channels", r).T)
        return x + x * g

    def __call__(self, image: Any, time: Any, label: Any = None) -> Any:
        """One image (C, H, W), its time features, its label's one-hot."""
        patch, (rows, columns) = self.config.patch, self.config.grid
        hidden = self.linear("time1", time)
        token = self.linear("time2", hidden * sigmoid(hidden))
        if label is not None:
            token = token + self.w["label_embedding.weight"][:, int(label.argmax())]
        kernel, bias = self.w["patches.weight"], self.w["patches.bias"]
        x = [token]
        for row, column in np.ndindex(rows, columns):
            cut = image[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            x.append((kernel * cut).sum(axis=(1, 2, 3)) + bias)
        x = np.stack(x) + self.w["position.value"]
        half, skips = self.config.depth // 2, []
        for i in range(half):
            x = self.block(f"blocks_in.{i}", x)
            skips.append(x)
        x = self.block("block_middle", x)
        for i in range(half):
            x = self.block(f"blocks_out.{i}", x, skips[half - 1 - i])
        y = self.linear("head", norm(x))[1:]
        outputs = self.config.outputs
        made = np.zeros((outputs, *image.shape[1:]))
        for place, values in enumerate(y):
            row, column = place // columns * patch, place % columns * patch
            for inner, (down, right) in enumerate(np.ndindex(patch, patch)):
                made[:, row + down, column + right] = values[inner * outputs : (inner + 1) * outputs]
        framed, smooth = np.pad(made, ((0, 0), (1, 1), (1, 1))), np.zeros_like(made)
        for row, column in np.ndindex(*made.shape[1:]):
            seen = framed[:, row : row + 3, column : column + 3]
            smooth[:, row, column] = (self.w["smooth.weight"] * seen).sum(axis=(1, 2, 3)) + self.w["smooth.bias"]
        return smooth


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def norm(x: Any) -> Any:
    return (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + EPS)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prediction": "noise", "variance": True},
        {"depth": 4},
        {"reconstruction": False, "classes": 0},
        {"image": (3, 6, 3), "patch": 3, "steps": 7},
    ],
    ids=str,
)
def test_the_network_is_what_the_formulas_say(options: dict[str, Any]) -> None:
    model = lively(**{**TINY, **options})
    given = example(model, batch=3, seed=2)
    found = called(model, given)
    written = Written(model)
    want = np.stack([written(*(value[0, i] for value in given.values())) for i in range(3)])
    assert np.abs(want).max() > 0.3
    np.testing.assert_allclose(found[0], want, rtol=0, atol=1e-9)


def test_skips_go_from_the_last_to_the_first_block() -> None:
    """With the skips crossed the network would be another one, so the test above can fail."""
    model = lively(**TINY, depth=4)
    written, given = Written(model), example(model, batch=1)
    right = called(model, given)[0, 0]
    names = ("join.weight", "join.bias")
    for name in names:  # each takes the other's
        one, two = (f"blocks_out.{i}.{name}" for i in (0, 1))
        written.w[one], written.w[two] = written.w[two], written.w[one]
    assert np.abs(written(*(value[0, 0] for value in given.values())) - right).max() > 1e-3


# -- sampling ----------------------------------------------------------------------------------------------------------

SHAPE = (2, 2, 3)


def abar(schedule: str) -> list[float]:
    """The products of 1 - beta over 1000 steps."""
    kept, found = 1.0, []
    for t in range(1000):
        if schedule == "linear":
            beta = 1e-4 + (0.02 - 1e-4) * t / 999
        else:
            now, after = (cos((at / 1000 + 0.008) / 1.008 * pi / 2) ** 2 for at in (t, t + 1))
            beta = min(max(1 - after / now, 0.0), 0.999)
        kept *= 1 - beta
        found.append(kept)
    return found


def answer(spec: DiffusionSpec, x: Any, t: int, label: int | None) -> Any:
    """A network of no meaning that depends on all it is given: its prediction, then the variance's logits."""
    known = 0.3 if label is None else 0.5 + label
    said = np.tanh(0.7 * x + known * cos(t / 300) + 0.1)
    return np.concatenate([said, 1.4 * np.sin(x + t / 100 + known)]) if spec.variance else said


def network(spec: DiffusionSpec) -> Any:
    """The same for `sample`, which finds its time by the features it is given."""
    table = spec.embed(np.arange(1000))

    def run(x: Any, time: Any, label: Any) -> Any:
        t = int(np.abs(table - time[0, 0]).sum(axis=1).argmin())
        who = [None if place == spec.classes else int(place) for place in label[0].argmax(axis=1)]
        return np.stack([answer(spec, one, t, told_) for one, told_ in zip(x[0], who, strict=True)])[None]

    return run


def drawn(spec: DiffusionSpec, x: Any, label: int, guidance: float, steps: int, noises: Any, sampler: str) -> Any:
    """One image by the papers' formulas, from the noisiest of `steps` even times to the first."""
    kept = abar(spec.schedule)
    times = [-(-1000 * (i + 1) // steps) - 1 for i in range(steps)]
    assert times[-1] == 999
    for step in range(steps):
        place = steps - 1 - step
        t, now = times[place], kept[times[place]]
        before = kept[times[place - 1]] if place else 1.0
        with_label = answer(spec, x, t, label)
        said, logits = with_label[:2], with_label[2:]
        if guidance != 1:
            none = answer(spec, x, t, None)[:2]
            said = (1 - guidance) * none + guidance * said
        if spec.prediction == "v":
            image, eps = sqrt(now) * x - sqrt(1 - now) * said, sqrt(1 - now) * x + sqrt(now) * said
        else:
            image, eps = (x - sqrt(1 - now) * said) / sqrt(now), said
        if sampler == "ddim":
            x = sqrt(before) * image + sqrt(1 - before) * eps
            continue
        beta = 1 - now / before
        x = (sqrt(before) * beta * image + sqrt(1 - beta) * (1 - before) * x) / (1 - now)
        if place:
            smallest = beta * (1 - before) / (1 - now)
            share = (logits + 1) / 2 if spec.variance else np.zeros(SHAPE)
            x = x + np.exp((share * log(beta) + (1 - share) * log(smallest)) / 2) * noises[step]
    return x


@pytest.mark.parametrize("guidance", [0.0, 1.0, 3.5])
@pytest.mark.parametrize("steps", [1, 2, 7, 250])
@pytest.mark.parametrize(
    ("prediction", "variance", "sampler"),
    [("noise", True, "ancestral"), ("noise", True, "ddim"), ("v", False, "ddim"), ("v", True, "ancestral")],
)
def test_sampling_is_what_the_formulas_say(
    prediction: Any, variance: bool, sampler: Any, steps: int, guidance: float
) -> None:
    schedule: Any = "linear" if prediction == "noise" else "cosine"
    spec = DiffusionSpec(SHAPE, 1, 64, classes=3, prediction=prediction, variance=variance, schedule=schedule)
    rng = np.random.default_rng(5)
    start, fresh = rng.normal(size=(2, *SHAPE)), rng.normal(size=(steps, 2, *SHAPE))
    labels = [2, 0]
    denoise = told(network(spec), spec, labels, guidance)
    got = sample(denoise, spec, start, steps, sampler=sampler, fresh=lambda step: fresh[step]).currents[0]
    for i in range(2):
        want = drawn(spec, start[i], labels[i], guidance, steps, fresh[:, i], sampler)
        np.testing.assert_allclose(got[i], want, rtol=1e-6, atol=1e-6 * np.abs(want).max())
