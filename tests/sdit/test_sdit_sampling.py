"""SDiT as users meet it: whole sampling runs on every target, training that can be resumed, the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import snnir
from snnir.cli import run as snnir_run
from snnir.diffusion import checkpoint
from snnir.diffusion.held_out import predictor, v_error
from snnir.diffusion.labels import told
from snnir.diffusion.sample import graph_denoiser, module_denoiser, noise, sample
from snnir.diffusion.spec import DiffusionSpec, spec_of
from snnir.diffusion.train import TrainConfig, train
from snnir.errors import CompileError, UsageError
from snnir.models import sdit, sdit_twin
from tests.backends import family, onnx_family
from tests.sdit.nets import TINY, lively

MODEL = str(Path(__file__).parents[2] / "models" / "sdit.py")
TARGETS = ("torch", "norse", "snntorch", "onnx")
STEPS = 10
CONFIG = TrainConfig(images=48, batch=4, rate=5e-3, warmup=2, seed=4)


@pytest.mark.oracle
@pytest.mark.parametrize(
    "options", [{}, {"prediction": "noise", "variance": True}], ids=["v, DDIM, guided", "noise, ancestral, guided"]
)
def test_a_sampling_run_is_the_same_everywhere(options: dict[str, Any]) -> None:
    """SDiT-digits in float64, so that no spike falls on another side: fixed noise, labels of which one is none."""
    graph = snnir.load(lively("digits", **options))
    spec = spec_of(graph)
    start = noise(spec, 2, seed=1, dtype=np.float64)

    def drawn(network: Any) -> Any:
        guided = sample(told(network, spec, [3, 8], 1.5), spec, start, STEPS).currents
        plain = sample(told(network, spec, [None, 8]), spec, start, STEPS).currents
        return np.stack([guided, plain])

    def through(target: str) -> Any:
        artifact = onnx_family.built(graph) if target == "onnx" else family.built(graph, target)
        return lambda *given: artifact.run(dict(zip(spec.inputs, map(np.array, given), strict=True)))[0]["output"]

    want = drawn(graph_denoiser(graph))
    assert want.std() > 0.1
    assert np.abs(want[0, :, 1] - want[1, :, 1]).max() > 0.01  # guidance is something
    for target in TARGETS:
        np.testing.assert_allclose(drawn(through(target)), want, rtol=0, atol=1e-4, err_msg=target)


def pictures(n: int = 24) -> tuple[Any, Any]:
    """Images whose brightness is their label."""
    labels = np.arange(n) % 3
    random = np.random.default_rng(0)
    images = 0.6 * (labels - 1)[:, None, None, None] + 0.2 * random.standard_normal((n, 1, 4, 6))
    return images.astype(np.float32), labels


def trained(config: TrainConfig, folder: Path | None = None, labels: Any = None, **options: Any) -> Any:
    graph = snnir.load(sdit.build("digits", weights="none", seed=1, **{**TINY, **options}))
    images, theirs = pictures()
    module = snnir.compile(graph, target="torch").module()
    there = folder is not None and (folder / checkpoint.NAME).exists()
    return train(
        module,
        spec_of(graph),
        images,
        config,
        folder=folder,
        resume=there,
        every=4,
        labels=theirs if labels is None else labels,
    )


@pytest.mark.parametrize("options", [{}, {"prediction": "noise", "variance": True}], ids=["v", "noise and variance"])
def test_a_run_that_is_killed_and_resumed_ends_as_one_that_was_not(tmp_path: Path, options: dict[str, Any]) -> None:
    whole = trained(CONFIG, tmp_path / "whole", **options)
    graph = snnir.load(sdit.build("digits", weights="none", seed=1, **{**TINY, **options}))
    images, labels = pictures()

    class Killed(Exception):
        pass

    def kill(progress: Any) -> None:
        if progress.step == 8:
            assert (progress.variance_loss > 0) == bool(options)
            raise Killed

    spec, killed = spec_of(graph), tmp_path / "killed"
    module = snnir.compile(graph, target="torch").module()
    with pytest.raises(Killed):
        train(module, spec, images, CONFIG, folder=killed, every=4, report=kill, labels=labels)
    assert checkpoint.steps_seen(killed) == 4  # of the step whose report killed it there is none yet
    resumed = trained(CONFIG, killed, **options)
    for key, value in whole.items():
        assert np.array_equal(value, resumed[key]), key


def test_what_a_run_is_resumed_with_includes_the_label_dropout(tmp_path: Path) -> None:
    trained(replace(CONFIG, images=16), tmp_path)
    with pytest.raises(CompileError, match=r"label_dropout is 0.1 there and 0.2 here"):
        trained(replace(CONFIG, images=16, label_dropout=0.2), tmp_path)


def test_the_dropout_trains_the_null_label_and_nothing_else_does() -> None:
    start = sdit.build("digits", weights="none", seed=1, **TINY).label_embedding
    assert start is not None
    before = start.weight.detach().numpy()
    config = replace(CONFIG, ema=0.0)
    moved = [
        np.abs(trained(replace(config, label_dropout=part))["label_embedding.weight"] - before).max(axis=0) > 1e-6
        for part in (0.0, 0.5, 1.0)
    ]
    assert [m.tolist() for m in moved] == [[True] * 3 + [False], [True] * 4, [False] * 3 + [True]]


def test_labels_that_are_told_are_learnt() -> None:
    options = {**TINY, "width": 24, "patch": 1}
    config = replace(CONFIG, images=1600, batch=8, ema=0.9, rate=1e-2)
    graph = snnir.load(sdit.build("digits", weights="none", seed=1, **options))
    graph = graph.with_weights(trained(config, **options))
    spec, module = spec_of(graph), snnir.compile(graph, target="torch").module()
    denoise = told(module_denoiser(module), spec, [0, 1, 2] * 5)
    made = sample(denoise, spec, noise(spec, 15), 10).images
    means = [float(made[label::3].mean()) for label in range(3)]
    assert means == pytest.approx([-0.6, 0, 0.6], abs=0.3)  # as in the data


def test_weightings_of_v_are_not_for_noise() -> None:
    with pytest.raises(UsageError, match="this network predicts noise"):
        trained(replace(CONFIG, weighting="snr"), prediction="noise")


def test_the_command_line_trains_resumes_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["-S", "width=8", "-S", "time=8"]
    common = ["train", MODEL, "--preset", "digits", *small, "--data", "digits", "--images", "32", "--batch", "8"]
    assert snnir_run([*common, "-o", str(tmp_path / "run")]) == 0, capsys.readouterr().err
    weights = tmp_path / "run" / "weights.safetensors"
    assert load_file(weights)["label_embedding.weight"].shape == (8, 11)
    for more in ((), ("--label", "7", "--guidance", "2"), ("--label", "1", "--label", "none")):
        draw = ["sample", MODEL, "--preset", "digits", *small, "--weights", str(weights), "-n", "3", "--steps", "2"]
        assert snnir_run([*draw, *more, "-o", str(tmp_path / "images.npz"), "--force"]) == 0
        assert np.load(tmp_path / "images.npz")["images"].shape == (3, 1, 8, 8)


def test_images_of_a_batch_are_those_of_another(tmp_path: Path) -> None:
    """Ancestral noise belongs to the image, labels to its number."""
    drawn = []
    for batch in ("2", "5"):
        path = tmp_path / f"{batch}.npz"
        options = ["-S", "width=8", "-S", "time=8", "-S", "prediction=noise", "-S", "variance=true", "--steps", "3"]
        command = ["sample", MODEL, "--preset", "digits", "--weights", "none", *options, "-n", "5", "--batch", batch]
        assert snnir_run([*command, "-t", "interpreter", "-o", str(path)]) == 0
        drawn.append(np.load(path)["images"])
    np.testing.assert_allclose(drawn[0], drawn[1], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--label", "10"), "no label 10; the network has 0 to 9"),
        (("--label", "shoe"), "'shoe', expected a number, or none"),
        (("--label", "none", "--guidance", "1.5"), "guidance of 1.5 is towards a label, and image 0 has none"),
        (("-S", "classes=0", "--label", "3"), "a label: this network has no labels"),
        (("-S", "classes=0", "--guidance", "3"), "guidance of 3: this network has no labels"),
        (("--steps", "1001"), "the schedule has 1 to 1000"),
        (("-S", "prediction=noise", "-S", "variance=true", "--steps", "1001"), "the schedule has 1 to 1000"),
    ],
)
def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str) -> None:
    path = tmp_path / "grid.png"
    command = ["sample", MODEL, "--preset", "digits", "--weights", "none", "-o", str(path), *options]
    assert snnir_run(command) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert said in error
    assert error.count("error") <= 1
    assert not path.exists()


def test_training_needs_labels_that_the_network_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["train", MODEL, "--preset", "digits", "--data", "digits", "-o", str(tmp_path / "run")]
    assert snnir_run([*common, "-S", "classes=4"]) == 1
    assert "-S classes=10" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("prediction", ["v", "noise"])
def test_the_held_out_error_is_of_v_and_told_the_labels(prediction: Any) -> None:
    """A network that knows the image by its label has none."""
    spec = DiffusionSpec((1, 4, 6), 1, 64, classes=3, prediction=prediction, features="halves")
    images = np.stack([np.full((1, 4, 6), level, np.float32) for level in (-0.5, 0, 0.7)])
    table, angles = spec.embed(np.arange(spec.timesteps)), spec.noise_schedule.angles()

    def network(x: Any, time: Any, label: Any) -> Any:
        phi = angles[np.abs(table[None] - time[0][:, None]).sum(axis=-1).argmin(axis=1)].reshape(1, -1, 1, 1, 1)
        known = images[label.argmax(axis=-1)[0]][None]
        eps = (x - np.cos(phi) * known) / np.sin(phi)
        return eps if prediction == "noise" else np.cos(phi) * eps - np.sin(phi) * known

    labels = np.arange(12) % 3
    assert v_error(predictor(network, spec), images[labels], n=12, labels=labels).mean < 1e-4
    assert v_error(predictor(network, spec), images[labels], n=12, labels=labels[::-1]).mean > 0.1


def test_the_twin_is_the_same_network_without_neurons() -> None:
    graph, twin = snnir.load(sdit.build("digits", weights="none")), snnir.load(sdit_twin.build("digits"))
    assert "LIF" not in {op.kind for op in twin.ops.values()}
    theirs = twin.weights()
    assert theirs.keys() == {key for key in graph.weights() if graph[key.rpartition(".")[0]].kind != "LIF"}
    assert all(np.array_equal(value, graph.weights()[key]) for key, value in theirs.items())
    with pytest.raises(UsageError, match="no neurons"):
        sdit_twin.build("digits", steps=8)
