"""Labels, guidance, learned variance and ancestral sampling, apart from any network; specifications of old files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from snnir.diffusion.data import load_images
from snnir.diffusion.labels import check_labels, told
from snnir.diffusion.losses import VarianceLoss, image_of
from snnir.diffusion.posterior import Posterior
from snnir.diffusion.sample import fresh_noise, noise, sample
from snnir.diffusion.schedule import CosineSchedule, LinearSchedule
from snnir.diffusion.spec import DiffusionSpec, time_embedding, time_features
from snnir.errors import CompileError, UsageError

SPEC = DiffusionSpec(image=(1, 2, 2), steps=1, time_size=4, classes=3)
NOISE = DiffusionSpec(image=(1, 2, 2), steps=1, time_size=4, prediction="noise", variance=True, schedule="linear")


def test_specifications_of_before_are_read_as_before() -> None:
    old = {"image": [1, 4, 4], "steps": 4, "time_size": 8, "input": "x", "time": "time", "fold": 2}
    old |= {"timesteps": 1000, "offset": 0.008}
    spec = DiffusionSpec.from_dict(old)
    assert spec.to_dict() == old
    assert (spec.classes, spec.prediction, spec.inputs) == (0, "v", ("x", "time"))
    assert spec.noise_schedule == CosineSchedule(1000, 0.008)
    t = np.array([3, 700])
    np.testing.assert_array_equal(spec.embed(t), time_embedding(t, 8))


def test_specifications_with_labels_come_back() -> None:
    spec = DiffusionSpec((3, 4, 4), 1, 8, classes=10, prediction="noise", variance=True, features="halves")
    assert DiffusionSpec.from_dict(spec.to_dict()) == spec
    assert spec.inputs == ("x", "time", "label")
    np.testing.assert_array_equal(spec.embed(np.array([5])), time_features(np.array([5]), 8))
    with pytest.raises(UsageError, match=r"prediction is 'x0'.*classes is -1"):
        DiffusionSpec((3, 4, 4), 1, 8, prediction="x0", classes=-1)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no field temperature"):
        DiffusionSpec.from_dict({**spec.to_dict(), "temperature": 1})


def test_the_linear_schedule_is_ddpm_s() -> None:
    schedule = LinearSchedule()
    betas = schedule.betas()
    assert (betas[0], betas[-1], len(betas)) == (1e-4, 0.02, 1000)
    assert schedule.abar()[-1] == pytest.approx(4.0358e-5, rel=1e-4)  # Ho et al., 2020: nearly nothing of the image
    np.testing.assert_allclose(LinearSchedule(500).betas()[[0, -1]], [2e-4, 0.04])


def test_the_posterior_is_bayes_rule() -> None:
    """From q(x_t | x_before) and q(x_before | x_0), over steps of unequal length."""
    schedule, times = LinearSchedule(), [3, 99, 400, 999]
    posterior, abar = Posterior.of(schedule, times), schedule.abar()[times]
    for i in (1, 2, 3):
        kept, before = abar[i] / abar[i - 1], abar[i - 1]
        precision = kept / (1 - kept) + 1 / (1 - before)
        assert math.exp(posterior.log_lower[i]) == pytest.approx(1 / precision)
        assert posterior.noisy[i] == pytest.approx(math.sqrt(kept) / (1 - kept) / precision)
        assert posterior.image[i] == pytest.approx(math.sqrt(before) / (1 - before) / precision)
        assert math.exp(posterior.log_upper[i]) == pytest.approx(1 - kept)
    assert (posterior.image[0], posterior.noisy[0]) == pytest.approx((1, 0))
    assert posterior.log_lower[0] == posterior.log_lower[1]


def test_the_variance_loss_is_the_divergence_of_two_normals() -> None:
    posterior = Posterior.of(LinearSchedule())
    loss, t = VarianceLoss(posterior), torch.tensor([500])
    generator = torch.Generator().manual_seed(0)
    x0, x, guess, logits = (torch.rand(1, 1, 3, 3, generator=generator, dtype=torch.float64) for _ in range(4))
    upper, lower = posterior.log_upper[500], posterior.log_lower[500]
    scale = torch.exp(((logits + 1) / 2 * upper + (1 - logits) / 2 * lower) / 2)
    mean = [posterior.image[500] * image + posterior.noisy[500] * x for image in (x0, guess)]
    true = torch.distributions.Normal(mean[0], torch.full_like(x, math.exp(lower / 2)))
    want = torch.distributions.kl_divergence(true, torch.distributions.Normal(mean[1], scale)).mean() / math.log(2)
    assert float(loss(x0, x, guess, logits, t)) == pytest.approx(float(want), rel=1e-4)


def test_the_variance_loss_counts_grey_levels_at_the_last_step_and_moves_the_variance_alone() -> None:
    posterior = Posterior.of(LinearSchedule())
    loss, t = VarianceLoss(posterior), torch.tensor([0])
    levels = (torch.arange(256, dtype=torch.float64) / 127.5 - 1).view(256, 1, 1, 1)
    mean = torch.full_like(levels, 0.2)
    scale = math.exp(posterior.log_lower[0] / 2)
    bits = [float(loss(levels[i : i + 1], mean[:1], mean[:1], -torch.ones(1, 1, 1, 1), t)) for i in (153, 154)]
    normal = torch.distributions.Normal(0.2, scale)
    for at, found in zip((153, 154), bits, strict=True):
        edges = (at - 0.5) / 127.5 - 1, (at + 0.5) / 127.5 - 1
        part = normal.cdf(torch.tensor(edges[1])) - normal.cdf(torch.tensor(edges[0]))
        assert found == pytest.approx(-math.log2(float(part)), rel=1e-3, abs=1e-4)
    guess = torch.zeros(1, 1, 1, 1, requires_grad=True)
    logits = torch.zeros(1, 1, 1, 1, requires_grad=True)
    loss(levels[153:154], mean[:1], guess, logits, torch.tensor([400])).backward()
    assert guess.grad is None
    assert logits.grad is not None
    assert float(logits.grad.abs()) > 0


@pytest.mark.parametrize("kind", ["v", "noise"])
def test_predictions_say_the_image(kind: str) -> None:
    x0, eps, phi = torch.tensor([[[[0.3]]]]), torch.tensor([[[[-1.1]]]]), torch.tensor([0.7])
    x = torch.cos(phi) * x0 + torch.sin(phi) * eps
    prediction = torch.cos(phi) * eps - torch.sin(phi) * x0 if kind == "v" else eps
    assert float(image_of(prediction, x, phi, kind)) == pytest.approx(0.3)


def perfect(image: Any, spec: DiffusionSpec) -> Any:
    """A network that knows the one image there is: its time features say the angle."""
    angles = spec.noise_schedule.angles()
    table = spec.embed(np.arange(spec.timesteps))

    def denoise(x: Any, time: Any) -> Any:
        t = int(np.abs(table - time[0, 0]).sum(axis=1).argmin())
        eps = (x - np.cos(angles[t]) * image) / np.sin(angles[t])
        made = eps if spec.prediction == "noise" else np.cos(angles[t]) * eps - np.sin(angles[t]) * image
        return np.concatenate([made, -np.ones_like(made)], axis=2) if spec.variance else made

    return denoise


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
@pytest.mark.parametrize("spec", [NOISE, DiffusionSpec((1, 2, 2), 2, 8)], ids=["noise", "v"])
def test_a_network_that_knows_the_image_draws_it(spec: DiffusionSpec, sampler: Any) -> None:
    image = np.array([[[0.5, -0.5], [0.9, 0.1]]])
    start = noise(spec, 3, dtype=np.float64)
    made = sample(perfect(image, spec), spec, start, steps=7, sampler=sampler).images
    np.testing.assert_allclose(made, np.broadcast_to(image, made.shape), atol=1e-9)


def test_ancestral_sampling_of_nothing_gives_back_the_normal_it_came_from() -> None:
    """Images that are standard normal: v is then 0, and every x on the way is standard normal, too."""
    spec = DiffusionSpec(image=(1, 20, 20), steps=1, time_size=4, timesteps=40)
    start = noise(spec, 50, dtype=np.float64)
    made = sample(
        lambda x, time: np.zeros_like(x), spec, start, 40, sampler="ancestral", fresh=fresh_noise(spec, range(50))
    )
    posterior = Posterior.of(spec.noise_schedule)
    assert abs(made.currents.mean()) < 0.02
    expected = 1.0
    for place in reversed(range(40)):
        gain = posterior.image[place] * math.cos(spec.noise_schedule.angles()[place]) + posterior.noisy[place]
        expected = gain**2 * expected + (math.exp(posterior.log_lower[place]) if place else 0)
    assert made.currents.var() == pytest.approx(expected, rel=0.03)


def test_noise_of_an_image_is_its_own_in_every_batch() -> None:
    whole, part = fresh_noise(SPEC, range(5), seed=2), fresh_noise(SPEC, range(3, 5), seed=2)
    np.testing.assert_array_equal(whole(1)[3:], part(1))
    assert not np.array_equal(whole(0), whole(1))
    assert not np.array_equal(whole(0), noise(SPEC, 5, seed=2))


def test_labels_and_guidance_reach_the_network() -> None:
    seen: list[Any] = []

    def network(x: Any, time: Any, label: Any) -> Any:
        seen.append(label)
        return label.argmax(axis=-1)[..., None, None, None] * np.ones_like(x)

    x, time = np.zeros((1, 2, 1, 2, 2)), np.zeros((1, 2, 4))
    assert told(network, SPEC, [2, None])(x, time)[0, :, 0, 0, 0].tolist() == [2, 3]
    assert seen[0].tolist() == [[[0, 0, 1, 0], [0, 0, 0, 1]]]
    assert told(network, SPEC, [2, 1], 1.5)(x, time)[0, :, 0, 0, 0].tolist() == [3 + 1.5 * -1, 3 + 1.5 * -2]


@pytest.mark.parametrize(
    ("spec", "labels", "guidance", "said"),
    [
        (NOISE, [1], 1.0, "a label: this network has no labels"),
        (NOISE, None, 2.0, "guidance of 2: this network has no labels"),
        (SPEC, None, 1.0, "is told labels, 0 to 2"),
        (SPEC, [0, 3, 3], 1.0, "no label 3; the network has 0 to 2"),
        (SPEC, [0, None], 2.0, "image 1 has none"),
        (SPEC, [0], math.nan, "expected a finite number"),
    ],
)
def test_what_cannot_be_drawn(spec: DiffusionSpec, labels: Any, guidance: float, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        told(lambda *_: None, spec, labels, guidance)


@pytest.mark.parametrize(
    ("labels", "said"), [(None, "one subfolder per class"), ([0, 1], "2 labels for 3"), ([0, 1, 3], "-S classes=4")]
)
def test_what_cannot_be_trained_on(labels: Any, said: str) -> None:
    with pytest.raises(CompileError, match=said):
        check_labels(None if labels is None else np.array(labels), 3, 3)
    check_labels(None if labels is None else np.array(labels), 3, 0)  # a network without labels is not told


def test_subfolders_are_classes(tmp_path: Path) -> None:
    for i, name in enumerate(("b/1", "a/1", "a/deep/2", "b/2")):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((2, 2), 10 * i, np.uint8)).save(path)
    images = load_images(tmp_path)
    assert images.train_labels is not None
    assert images.test_labels is not None
    assert images.train_labels.tolist() == [0, 0, 1]  # a/1, a/deep/2, b/1; held out is the last, b/2
    assert images.test_labels.tolist() == [1]
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "c.png")  # one that lies in no class
    assert load_images(tmp_path).train_labels is None


def test_split_folders_have_the_same_classes(tmp_path: Path) -> None:
    for name in ("train/cat/1", "train/dog/1", "test/dog/1"):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(path)
    images = load_images(tmp_path)
    assert images.train_labels is not None
    assert images.test_labels is not None
    assert (images.train_labels.tolist(), images.test_labels.tolist()) == ([0, 1], [1])
