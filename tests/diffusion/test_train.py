"""Training: resumed runs, several processes, what stops a run."""

from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import snnir
from snnir.diffusion import checkpoint
from snnir.diffusion.spec import spec_of
from snnir.diffusion.train import DivergedError, TrainConfig, train
from snnir.errors import CompileError, UsageError
from snnir.models import fsddim

TINY = dict(image=(1, 6, 4), widths=(4, 6), time=(8, 8), steps=2)
CONFIG = TrainConfig(images=96, batch=8, rate=5e-3, warmup=2, seed=4)


def network(**options):
    graph = snnir.load(fsddim.build("digits", seed=1, **{**TINY, **options}))
    return graph, spec_of(graph)


def pictures(n: int = 40) -> np.ndarray:
    made = np.random.default_rng(0).uniform(-1, 1, (n, 1, 6, 4)).astype(np.float32)
    return np.clip(made + np.linspace(-0.6, 0.6, 4, dtype=np.float32), -1, 1)


@pytest.mark.parametrize("target", ["torch", "norse", "snntorch", "rockpool", "sinabs", "spikingjelly"])
def test_training_lowers_the_loss_and_comes_back_into_the_graph(target):
    graph, spec = network()
    module = snnir.compile(graph, target=target).module()
    seen = []
    config = replace(CONFIG, images=1600, ema=0.0)
    state = train(module, spec, pictures(), config, every=25, report=lambda p: seen.append(p.loss))
    assert seen[-1] < 0.87 * seen[0]
    trained = graph.with_weights(state)
    moved = [key for key, value in trained.weights().items() if not np.array_equal(value, graph.weights()[key])]
    assert "conv_in.weight" in moved
    assert "down.norm1.mean" in moved
    assert not [key for key in moved if "neurons" in key]
    x = np.random.default_rng(2).standard_normal((2, 3, 1, 6, 4)).astype(np.float32)
    time = np.random.default_rng(3).standard_normal((2, 3, 8)).astype(np.float32)
    given = snnir.interpret(trained, {"x": x, "time": time})
    module.eval()
    with torch.no_grad():
        assert module(torch.from_numpy(x), torch.from_numpy(time)).numpy() == pytest.approx(given, abs=2e-5)


def test_a_run_that_is_killed_and_resumed_ends_as_one_that_was_not(tmp_path):
    graph, spec = network()
    whole = train(snnir.compile(graph, target="torch").module(), spec, pictures(), CONFIG)

    class Killed(Exception):
        pass

    def kill(progress):
        if progress.step == 8:
            raise Killed

    with pytest.raises(Killed):
        train(
            snnir.compile(graph, target="torch").module(),
            spec, pictures(), CONFIG, folder=tmp_path, every=4, report=kill,
        )  # fmt: skip
    assert checkpoint.steps_seen(tmp_path) == 8
    steps = []
    resumed = train(
        snnir.compile(graph, target="torch").module(),
        spec, pictures(), CONFIG, folder=tmp_path, resume=True, every=4, report=lambda p: steps.append(p.step),
    )  # fmt: skip
    assert steps == [12]
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        assert np.array_equal(value, resumed[key]), key


def test_average_is_that_of_the_weights():
    graph, spec = network()
    plain = train(snnir.compile(graph, target="torch").module(), spec, pictures(), replace(CONFIG, images=8, ema=0.0))
    averaged = train(snnir.compile(graph, target="torch").module(), spec, pictures(), replace(CONFIG, images=8))
    key = "conv_in.weight"
    start = graph.weights()[key]
    assert averaged[key] == pytest.approx(start + (1 - 0.1) * (plain[key] - start), abs=1e-7)  # the first decay: 1/10


def test_a_loss_that_is_no_number_stops_with_the_step_and_keeps_the_checkpoint(tmp_path):
    graph, spec = network()
    images = pictures(96)
    train(snnir.compile(graph, target="torch").module(), spec, images, replace(CONFIG, images=16), folder=tmp_path)
    kept = (tmp_path / checkpoint.NAME).read_bytes()
    order = np.random.default_rng([CONFIG.seed, 0, 0]).permutation(len(images))
    images[order[8 * 5]] = np.nan  # met first in step 6
    with pytest.raises(DivergedError, match="the loss is nan at step 6"):
        train(snnir.compile(graph, target="torch").module(), spec, images, CONFIG, folder=tmp_path, every=50)
    assert (tmp_path / checkpoint.NAME).read_bytes() == kept


def test_checkpoint_of_another_model_names_every_difference(tmp_path):
    graph, spec = network()
    train(snnir.compile(graph, target="torch").module(), spec, pictures(), replace(CONFIG, images=16), folder=tmp_path)
    other, spec = network(widths=(6, 6), stem_skip=True)
    with pytest.raises(CompileError) as caught:
        train(
            snnir.compile(other, target="torch").module(),
            spec, pictures(), replace(CONFIG, images=16), folder=tmp_path, resume=True,
        )  # fmt: skip
    said = str(caught.value)
    assert "conv_in.weight is [4, 1, 3, 3] there and [6, 1, 3, 3] here" in said
    assert "conv_out.weight is [1, 8, 1, 1] there and [1, 18, 1, 1] here" in said


def test_checkpoint_of_another_run(tmp_path):
    graph, spec = network()
    module = snnir.compile(graph, target="torch").module()
    train(module, spec, pictures(), replace(CONFIG, images=16), folder=tmp_path)
    with pytest.raises(CompileError, match="seed is 4 there and 5 here"):
        train(module, spec, pictures(), replace(CONFIG, images=16, seed=5), folder=tmp_path, resume=True)


@pytest.mark.parametrize("content", [b"", b"not one", b"\x10\0\0\0\0\0\0\0{}"])
def test_broken_checkpoint(tmp_path, content):
    graph, spec = network()
    (tmp_path / checkpoint.NAME).write_bytes(content)
    with pytest.raises(CompileError, match="cannot be read"):
        train(snnir.compile(graph, target="torch").module(), spec, pictures(), CONFIG, folder=tmp_path, resume=True)


def test_images_of_another_size():
    graph, spec = network()
    with pytest.raises(UsageError, match=r"\[1, 8, 8\], but the network's are \[1, 6, 4\]"):
        train(snnir.compile(graph, target="torch").module(), spec, np.zeros((4, 1, 8, 8), np.float32), CONFIG)


def test_wrong_settings_are_all_said_at_once():
    with pytest.raises(UsageError) as caught:
        TrainConfig(images=0, rate=-1.0, ema=1.0)
    assert all(name in str(caught.value) for name in ("images is 0", "rate is -1.0", "ema is 1.0"))


def run(*arguments: str, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *launcher, "-m", "snnir", "train", "models/fsddim.py", "--preset", "digits"]
    options = [item for pair in ("widths=(4,6)", "time=(8,8)", "steps=2") for item in ("-S", pair)]
    root = Path(__file__).parents[2]
    return subprocess.run([*command, *options, *arguments], capture_output=True, text=True, cwd=root, timeout=300)


def losses(folder: Path) -> list[float]:
    with (folder / "log.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ACCELERATE = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--main_process_port", "0")


@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_two_processes_train_as_one(tmp_path, launcher):
    common = ("--data", "digits", "--images", "64", "--batch", "16", "--every", "1")
    one = run(*common, "-o", str(tmp_path / "one"))
    assert one.returncode == 0, one.stderr
    two = run(*common, "-o", str(tmp_path / "two"), launcher=launcher)
    assert two.returncode == 0, two.stderr
    assert len(losses(tmp_path / "one")) == 4
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    first, second = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    for key in ("conv_in.weight", "conv_out.weight", "up.norm1.weight", "up.norm1.mean", "up.norm1.var"):
        assert second[key] == pytest.approx(first[key], abs=1e-4), key


def test_command_line_refuses_to_write_over_a_run_and_to_resume_none(tmp_path):
    common = ("--data", "digits", "--images", "16", "-o", str(tmp_path / "run"))
    none = run(*common, "--resume")
    assert none.returncode == 1
    assert "holds no checkpoint.safetensors" in " ".join(none.stderr.split())
    assert run(*common).returncode == 0
    again = run(*common)
    assert again.returncode == 1
    assert "holds a checkpoint.safetensors" in " ".join(again.stderr.split())
    assert "--resume" in again.stderr
