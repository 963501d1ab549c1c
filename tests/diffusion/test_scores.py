"""Scores: Frechet distances that are known in closed form, names that carry the extractor's hash, errors of v."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from snnir.diffusion.data import DEBIAN, Images, load_images
from snnir.diffusion.extractors import FEATURES, NETWORKS, Encoder, Extractor, LeNet, extractor
from snnir.diffusion.held_out import predictor, v_error
from snnir.diffusion.sample import module_denoiser
from snnir.diffusion.schedule import CosineSchedule
from snnir.diffusion.scores import Scorer
from snnir.diffusion.spec import DiffusionSpec
from snnir.diffusion.train_extractors import packed, train_extractor
from snnir.errors import CompileError, MissingPackageError, UsageError

HASHES = {"ae": "29eba196", "lenet": "b2638325"}
RNG = np.random.default_rng(0)


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """|mu_a - mu_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2) in float64, by symmetric eigendecompositions."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


class Pixels(torch.nn.Module):
    """The pixels as features."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.num_features = size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


def gaussian(n: int, size: int) -> np.ndarray:
    """(n, size) with sample mean 0 and sample covariance the identity, exactly."""
    x = RNG.standard_normal((n, size))
    x -= x.mean(0)
    values, vectors = np.linalg.eigh(np.cov(x, rowvar=False))
    return x @ (vectors / np.sqrt(values)) @ vectors.T


def as_images(features: np.ndarray) -> np.ndarray:
    return features.reshape(len(features), 1, 2, -1).astype(np.float32)


@pytest.mark.oracle
def test_distances_known_in_closed_form() -> None:
    """Identity features: 0 for the same set, |shift|^2 for a shift, sum (1 - s)^2 for scales s."""
    base = gaussian(400, 6)
    scorer = Scorer(as_images(base), networks=[Extractor("pixels", Pixels(6))])
    shift, scales = np.array([1.0, -2.0, 0, 0, 0.5, 0]), np.array([1, 2, 0.5, 1, 3, 0.1])
    for made, wanted in ((base, 0.0), (base + shift, 5.25), (base * scales, ((1 - scales) ** 2).sum())):
        (score,) = scorer(as_images(made))
        assert abs(score.value - wanted) < 1e-5
        assert (score.metric, score.n, score.reference) == ("pixels", 400, 400)


@pytest.mark.oracle
def test_torchmetrics_agrees_with_float64_numpy() -> None:
    """With the shipped networks, over sets of unequal size, the second time after another set."""
    reference = RNG.uniform(-1, 1, (300, 1, 28, 28)).astype(np.float32)
    smooth = np.repeat(np.repeat(RNG.uniform(-1, 1, (200, 1, 7, 7)), 4, axis=2), 4, axis=3).astype(np.float32)
    scorer = Scorer(reference)
    for images in (smooth, reference[:150] * 0.5):
        for score, name in zip(scorer(images), NETWORKS, strict=True):
            network = extractor(name).network
            features = [network(torch.from_numpy(x)).numpy() for x in (reference, images)]
            assert score.value == pytest.approx(frechet(*features), rel=1e-5)
            assert score.value > 1
            assert (score.n, score.reference) == (len(images), 300)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_shipped_extractors_are_the_ones_that_the_names_mean(name: str) -> None:
    metric, _, file = NETWORKS[name]
    content = (FEATURES / file).read_bytes()
    assert hashlib.sha256(content).hexdigest()[:8] == HASHES[name]
    assert len(content) < 1 << 20
    made = extractor(name)
    assert made.metric == f"{metric}[{name}-{HASHES[name]}]"
    assert not made.network.training
    assert not any(p.requires_grad for p in made.network.parameters())


@pytest.mark.parametrize("name", list(NETWORKS))
def test_training_an_extractor_again_gives_the_same_file(name: str) -> None:
    pixels, labels = RNG.uniform(-1, 1, (300, 1, 28, 28)).astype(np.float32), RNG.integers(0, 10, 300)
    images = Images("noise", pixels, pixels[:40], labels, labels[:40])
    files = [packed(*train_extractor(name, images, epochs=1, seed=s)) for s in (0, 0, 1)]
    assert files[0] == files[1] != files[2]


def test_what_the_shipped_extractors_can_do() -> None:
    """As their files say, from the data set itself where it is there: held-out accuracy, held-out MSE on [-1, 1]."""
    facts = {}
    for name, (_, _, file) in NETWORKS.items():
        with safe_open(FEATURES / file, framework="np") as opened:
            facts[name] = json.loads(opened.metadata()["facts"])
    assert float(facts["lenet"]["test_accuracy"]) > 0.9
    assert float(facts["ae"]["test_mse"]) < 0.025
    if (DEBIAN / "fashion-mnist").is_dir():
        images = load_images("fashion-mnist")
        network = extractor("lenet").network
        found = network.classes(network(torch.from_numpy(images.test[:2000]))).argmax(1).numpy()
        assert (found == images.test_labels[:2000]).mean() > 0.89


def test_other_weights_are_another_metric(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(LeNet().state_dict(), tmp_path / "mine.safetensors")
    digest = hashlib.sha256((tmp_path / "mine.safetensors").read_bytes()).hexdigest()[:8]
    assert extractor("lenet", tmp_path / "mine.safetensors").metric == f"LeNet-FD[lenet-{digest}]"


def test_bad_weights(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    with pytest.raises(CompileError, match="No such file"):
        extractor("ae", tmp_path / "none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((FEATURES / NETWORKS["ae"][2]).read_bytes()[:5000])
    with pytest.raises(CompileError, match="is no ae extractor"):
        extractor("ae", tmp_path / "cut.safetensors")
    save_file(Encoder().state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(CompileError, match="is no lenet extractor"):
        extractor("lenet", tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="expected ae or lenet"):
        extractor("vgg")


def test_images_that_cannot_be_scored() -> None:
    reference = RNG.uniform(-1, 1, (4, 1, 28, 28)).astype(np.float32)
    scorer = Scorer(reference)
    with pytest.raises(UsageError, match="1 images to score"):
        scorer(reference[:1])
    with pytest.raises(CompileError, match="are of 1x8x8"):
        scorer(np.zeros((4, 1, 8, 8), np.float32))
    broken = reference.copy()
    broken[1, 0, 3, 3], broken[2, 0, 0, 0] = np.nan, np.inf
    with pytest.raises(CompileError, match="2 of 4 have values that are not finite"):
        scorer(broken)
    with pytest.raises(CompileError, match="images of 1x8x8"):
        Scorer(np.zeros((4, 1, 8, 8), np.float32))
    with pytest.raises(CompileError, match="torch-fidelity on GitHub"):
        Scorer(reference, inception="nowhere.pth")


def test_inception_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights.pth").write_bytes(b"x")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="torch-fidelity"):
        Scorer(RNG.uniform(-1, 1, (4, 1, 28, 28)).astype(np.float32), inception=tmp_path / "weights.pth")


class Inception(torch.nn.Module):
    """Stands in for torch-fidelity's network, as torchmetrics calls it: RGB bytes in, 2048 features out."""

    def __init__(self, features_list: list[str], feature_extractor_weights_path: str, **others: object) -> None:
        super().__init__()
        assert features_list == ["2048"]
        self.project = torch.nn.Linear(3 * 16, 2048)
        self.load_state_dict(torch.load(feature_extractor_weights_path))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert (x.dtype, x.shape[1]) == (torch.uint8, 3)
        return self.project(torch.nn.functional.adaptive_avg_pool2d(x / 255.0, 4).flatten(1))


def test_fid_with_the_users_inception_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch-fidelity asks for torchvision, which can replace PyTorch, so a small network takes its network's place."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("torchmetrics.image.fid._TORCH_FIDELITY_AVAILABLE", True)
    monkeypatch.setattr("torchmetrics.image.fid.NoTrainInceptionV3", Inception)
    # the root of a product of 2048x2048 matrices takes a minute
    monkeypatch.setattr("torchmetrics.image.fid._compute_fid", lambda a, _, b, __: (a - b).square().sum())
    path = tmp_path / "weights.pth"
    torch.save(torch.nn.ModuleDict({"project": torch.nn.Linear(48, 2048)}).state_dict(), path)
    for channels in (1, 3):
        images = RNG.uniform(-1, 1, (40, channels, 28, 28)).astype(np.float32)
        scorer = Scorer(images, networks=(), inception=path)
        (same,), (other,) = scorer(images), scorer(images * 0.5 + 0.4)
        assert re.fullmatch(r"FID\[inception-[0-9a-f]{8}\]", same.metric)
        assert abs(same.value) < 1e-9 < 1e-3 < other.value
    for content in (b"nothing", b""):
        path.write_bytes(content)
        with pytest.raises(CompileError, match="is not Inception's: "):
            Scorer(images, networks=(), inception=path)
    torch.save({"conv": torch.zeros(2)}, path)
    with pytest.raises(CompileError, match=r"pt_inception-2015-12-05-6726825d.pth"):
        Scorer(images, networks=(), inception=path)


# -- held-out error of v ---------------------------------------------------------------------------------------------


def test_v_error_of_networks_that_are_known() -> None:
    """A perfect network has none; one that says 0 has E v^2 = cos^2 E noise^2 + sin^2 E x^2 in every quarter."""
    images = np.full((4000, 1, 4, 4), 0.5, np.float32)
    angles = CosineSchedule().angles()

    def perfect(x: np.ndarray, t: np.ndarray) -> np.ndarray:
        c, s = np.cos(angles[t]), np.sin(angles[t])
        noise = (x - c[:, None, None, None] * 0.5) / s[:, None, None, None]
        return c[:, None, None, None] * noise - s[:, None, None, None] * 0.5

    assert v_error(perfect, images, n=4000).mean < 1e-8
    zero = v_error(lambda x, t: np.zeros_like(x), images, n=4000)
    expected = np.cos(angles) ** 2 + 0.25 * np.sin(angles) ** 2
    np.testing.assert_allclose(zero.quarters, expected.reshape(4, -1).mean(1), rtol=0.05)
    assert abs(zero.mean - expected.mean()) < 4 * zero.standard_error
    assert zero.standard_error < 0.01


def test_v_error_is_fixed_and_stratified() -> None:
    images = RNG.uniform(-1, 1, (40, 1, 4, 4)).astype(np.float32)
    seen: list[np.ndarray] = []

    def watch(x: np.ndarray, t: np.ndarray) -> np.ndarray:
        seen.append(t)
        return x

    first = v_error(watch, images, n=40, batch=7)
    assert sorted(np.concatenate(seen).tolist()) == [12 + 25 * i for i in range(40)]
    again = v_error(watch, images, n=40, batch=40)
    assert again.quarters == pytest.approx(first.quarters, rel=1e-6)
    assert v_error(watch, images, n=40, seed=1).mean != first.mean
    for n in (3, 41):
        with pytest.raises(UsageError, match="expected 4 to 40"):
            v_error(watch, images, n=n)


def test_a_network_of_currents_is_scored_on_images() -> None:
    """Folded, repeated over the steps, and decoded by the mean: with an own factor per step and the time added."""
    spec = DiffusionSpec(image=(1, 4, 4), steps=3, time_size=8, fold=2)

    def denoise(x: np.ndarray, time: np.ndarray) -> np.ndarray:
        assert x.shape == (3, 5, 4, 2, 2)
        assert time.shape == (3, 5, 8)
        return x * np.array([1, 2, 6.0]).reshape(3, 1, 1, 1, 1) + time[:, :, :1, None, None]

    x, t = RNG.uniform(-1, 1, (5, 1, 4, 4)).astype(np.float32), np.arange(5)
    wanted = 3 * x + np.sin(t)[:, None, None, None]  # the first component of the embedding is sin t
    np.testing.assert_allclose(predictor(denoise, spec)(x, t), wanted, atol=1e-6)


# -- the twin --------------------------------------------------------------------------------------------------------


def test_the_twin_is_the_same_network_without_spikes() -> None:
    from snnir import nn
    from snnir.models import fsddim, fsddim_twin

    spiking, twin = fsddim.build("small-temporal", weights="none", seed=3), fsddim_twin.build("small", seed=3)
    mine, its = spiking.state_dict(), twin.state_dict()
    assert all(torch.equal(mine[k], v) for k, v in its.items())
    assert sum(p.numel() for p in twin.parameters()) == 264_804 == sum(p.numel() for p in spiking.parameters())
    kinds = [type(m) for m in twin.modules()]
    neurons = sum(isinstance(m, nn.LIF) for m in spiking.modules())
    assert nn.LIF not in kinds
    assert kinds.count(torch.nn.SiLU) == neurons == 13
    assert (twin.diffusion.steps, twin.diffusion.image) == (1, (1, 28, 28))
    images = RNG.uniform(-1, 1, (8, 1, 28, 28)).astype(np.float32)
    error = v_error(predictor(module_denoiser(twin), twin.diffusion), images, n=8)
    assert 0.3 < error.mean < 3
    with pytest.raises(UsageError, match="one step"):
        fsddim_twin.build("small", steps=4)
