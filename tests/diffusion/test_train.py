"""Training: resumed runs, several processes, what stops a run."""

from __future__ import annotations

import csv
import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save

import snnir
from snnir.diffusion import checkpoint
from snnir.diffusion.log import Log, plot
from snnir.diffusion.spec import spec_of
from snnir.diffusion.train import DivergedError, Progress, TrainConfig, train
from snnir.errors import CompileError, UsageError
from snnir.models import fsddim

TINY = dict(image=(1, 6, 4), widths=(4, 6), time=(8, 8), steps=2)
CONFIG = TrainConfig(images=96, batch=8, rate=5e-3, warmup=2, seed=4)


def network(**options):
    graph = snnir.load(fsddim.build("digits", **{"seed": 1, **TINY, **options}))
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


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("moment", "ema"), [("step", 0.9), ("step", 0.0), ("write", 0.9), ("rename", 0.0), ("report", 0.9)]
)
def test_a_run_that_is_killed_and_resumed_ends_as_one_that_was_not(tmp_path, monkeypatch, moment, ema):
    graph, spec = network()
    config = replace(CONFIG, ema=ema)

    def module():
        return snnir.compile(graph, target="torch").module()

    reports = {"whole": [], "resumed": []}
    whole = train(module(), spec, pictures(), config, every=4, report=reports["whole"].append)
    before = Log(tmp_path)

    def killer(after):
        calls = []

        def call(*arguments, **options):
            calls.append(arguments)
            if len(calls) == after:
                raise Killed
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        report = before.add
        if moment == "step":
            real = torch.optim.Adam.step
            patch.setattr(torch.optim.Adam, "step", killer(10))
        elif moment == "report":
            real = before.add
            report = killer(2)
        else:  # while the second checkpoint is being written
            name = {"write": "fsync", "rename": "replace"}[moment]
            real = getattr(os, name)
            patch.setattr(os, name, killer(2))
        with pytest.raises(Killed):
            train(module(), spec, pictures(), config, folder=tmp_path, every=4, report=report)
    seen = checkpoint.steps_seen(tmp_path)
    assert seen == (8 if moment == "step" else 4)
    log = Log(tmp_path, seen)

    def told(progress):
        log.add(progress)
        reports["resumed"].append(progress)

    resumed = train(module(), spec, pictures(), config, folder=tmp_path, resume=True, every=4, report=told)
    assert [p.step for p in reports["resumed"]] == list(range(seen + 4, 13, 4))
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        assert np.array_equal(value, resumed[key]), key
    assert [int(row["step"]) for row in log.rows()] == [4, 8, 12]
    assert losses(tmp_path) == [p.loss for p in reports["whole"]]


def test_a_full_disk_is_said_and_the_checkpoint_kept(tmp_path, monkeypatch):
    graph, spec = network()
    module = snnir.compile(graph, target="torch").module()

    def full(*_):
        if checkpoint.steps_seen(tmp_path) == 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CompileError, match="the disk is full"):
        train(module, spec, pictures(), CONFIG, folder=tmp_path, every=4)
    assert checkpoint.steps_seen(tmp_path) == 8
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.NAME]


def test_a_log_that_is_torn_or_none_is_begun_anew(tmp_path):
    progress = Progress(4, 12, 32, 1.0, 0.5, 0.5, 1e-3, 2.0)
    Log(tmp_path).add(progress)
    whole = (tmp_path / "log.csv").read_text()
    for cut in range(len(whole)):
        (tmp_path / "log.csv").write_text(whole[:cut])
        assert len(Log(tmp_path, 4).rows()) <= 1
    (tmp_path / "log.csv").write_bytes(bytes(range(256)))
    assert Log(tmp_path, 4).rows() == []
    (tmp_path / "log.csv").write_text(whole)
    assert [row["step"] for row in Log(tmp_path, 4).rows()] == ["4"]
    assert Log(tmp_path, 3).rows() == []


def test_the_same_run_gives_the_same_bytes_in_another_process(tmp_path):
    common = ("--data", "digits", "--images", "48", "--every", "1")
    for name in ("one", "two"):
        done = run(*common, "-o", str(tmp_path / name))
        assert done.returncode == 0, done.stderr
    for file in ("checkpoint.safetensors", "weights.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    assert losses(tmp_path / "one") == losses(tmp_path / "two")


def test_a_plot_of_the_same_log_has_the_same_bytes(tmp_path):
    log = Log(tmp_path)
    for step in (4, 8):
        log.add(Progress(step, 12, 8 * step, 1.0 / step, 0.5, 0.5, 1e-3, 2.0))
    assert plot(log.path, tmp_path / "a.svg")
    assert plot(log.path, tmp_path / "b.svg")
    first = (tmp_path / "a.svg").read_text()
    assert first == (tmp_path / "b.svg").read_text()
    assert "images seen" in first or "<path" in first
    assert "dc:date" not in first


def test_a_checkpoint_as_they_were_before_is_read(tmp_path):
    graph, spec = network()
    config = replace(CONFIG, images=16)
    state = train(snnir.compile(graph, target="torch").module(), spec, pictures(), config, folder=tmp_path)
    path = tmp_path / checkpoint.NAME
    said = {"format": "snnir-checkpoint-1", "step": "2", "config": json.dumps({"images": 16, "seed": 4})}
    path.write_bytes(save(load_file(path), metadata=said))
    assert checkpoint.steps_seen(tmp_path) == 2
    module = snnir.compile(graph, target="torch").module()
    again = train(module, spec, pictures(), config, folder=tmp_path, resume=True)
    assert all(np.array_equal(value, again[key]) for key, value in state.items())
    for said in ({}, {"snnir.checkpoint": "{"}, {"snnir.checkpoint": "[]"}, {"format": "other"}):
        path.write_bytes(save(load_file(path), metadata=said))
        assert checkpoint.steps_seen(tmp_path) == 0
        with pytest.raises(CompileError, match="is no checkpoint of a training run"):
            train(module, spec, pictures(), config, folder=tmp_path, resume=True)


def test_what_a_kill_left_beside_the_checkpoint_is_removed(tmp_path):
    (tmp_path / f".{checkpoint.NAME}.x1").write_bytes(b"half")
    (tmp_path / "mine").write_bytes(b"")
    checkpoint.clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("weighting", ["uniform", "snr"])
def test_a_step_s_loss_is_the_papers(weighting):
    """Recomputed from what the network was given and gave, with nothing but the paper's formulas.

    arXiv 2312.01742: abar of the clipped cosine betas; v = sqrt(abar) eps - sqrt(1 - abar) x_0; the image loss times
    abar ('snr'); synaptic current learning times |b_t| / max |b_t|, b_t = -c1 sqrt(1 - abar_t) of the DDIM update
    x_{t-1} = c1 x0_hat + c2 x_t.
    """
    t = np.arange(1001) / 1000
    curve = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    abar = np.cumprod(1 - np.clip(1 - curve[1:] / curve[:-1], 0, 0.999))
    before = np.append(1.0, abar[:-1])
    c1 = np.sqrt(before) - np.sqrt(abar) * np.sqrt(1 - before) / np.sqrt(1 - abar)
    b = -c1 * np.sqrt(1 - abar)
    frequencies = np.exp(-np.log(10000) * np.arange(4) / 3)
    table = np.zeros((1000, 8))
    table[:, 0::2], table[:, 1::2] = (f(np.arange(1000)[:, None] * frequencies) for f in (np.sin, np.cos))

    graph, spec = network()
    images = pictures(1)  # the same for all of a batch, so noise follows from what the network is given
    seen = []

    class Watched(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = snnir.compile(graph, target="torch").module()

        def forward(self, x, time):
            y = self.inner(x, time)
            seen.append([value.detach().double().numpy().copy() for value in (x, time, y)])
            return y

    config = replace(CONFIG, images=3 * 16, batch=16, weighting=weighting, consistency=0.7)
    reports = []
    train(Watched(), spec, images, config, every=1, report=reports.append)
    assert len(seen) == len(reports) == 3
    for (x, time, y), progress in zip(seen, reports, strict=True):
        assert np.array_equal(x[0], x[1])  # the linear encoder repeats
        assert np.array_equal(time[0], time[1])
        at = np.abs(time[0][:, None] - table).max(axis=2).argmin(axis=1)
        assert np.abs(time[0] - table[at]).max() < 1e-6
        a = abar[at][:, None, None, None]
        noise = (x[0] - np.sqrt(a) * images) / np.sqrt(1 - a)
        v = np.sqrt(a) * noise - np.sqrt(1 - a) * images
        decoded = y.mean(axis=0)
        image = ((decoded - v) ** 2).mean(axis=(1, 2, 3))
        consistency = ((decoded[None] - y) ** 2).mean(axis=(0, 2, 3, 4))
        image_loss = (image * (abar[at] if weighting == "snr" else 1)).mean()
        consistency_loss = (consistency * np.abs(b[at]) / np.abs(b).max()).mean()
        assert consistency_loss > 1e-5
        assert progress.image_loss == pytest.approx(image_loss, rel=1e-4)
        assert progress.consistency_loss == pytest.approx(consistency_loss, rel=1e-4)
        assert progress.loss == pytest.approx(image_loss + 0.7 * consistency_loss, rel=1e-4)


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
    with pytest.raises(DivergedError, match="the loss is nan at step 6 of 12; no checkpoint was written before"):
        train(snnir.compile(graph, target="torch").module(), spec, images, CONFIG, folder=tmp_path, every=50)
    assert (tmp_path / checkpoint.NAME).read_bytes() == kept


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_stops_before_it_spoils_the_weights(tmp_path, value):
    graph, spec = network()
    module = snnir.compile(graph, target="torch").module()
    calls = []

    def spoilt(gradient):
        calls.append(1)
        return gradient * value if len(calls) == 6 else gradient

    dict(module.named_parameters())["conv_out.weight"].register_hook(spoilt)
    said = r"the norm of the gradient is (nan|inf) at step 6 of 12; the checkpoint after step 4 is kept"
    with pytest.raises(DivergedError, match=said):
        train(module, spec, pictures(), CONFIG, folder=tmp_path, every=2)
    assert checkpoint.steps_seen(tmp_path) == 4
    assert all(np.isfinite(array).all() for array in load_file(tmp_path / checkpoint.NAME).values())


def test_weights_that_are_no_numbers_are_not_kept(tmp_path):
    graph, spec = network()
    module = snnir.compile(graph, target="torch").module()
    with torch.no_grad():
        module.get_buffer("up_norm1.var")[0] = torch.inf  # training does not use it
    with pytest.raises(DivergedError, match="weights are no finite numbers at step 1 of 12; no checkpoint"):
        train(module, spec, pictures(), CONFIG, folder=tmp_path, every=1)
    assert not (tmp_path / checkpoint.NAME).exists()


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


def test_a_network_with_the_same_shapes_or_other_images_is_another_run(tmp_path):
    graph, spec = network()
    config = replace(CONFIG, images=16)

    def resumed(of, spec, images):
        module = snnir.compile(of, target="torch").module()
        mark = checkpoint.fingerprint(of)
        return train(module, spec, images, config, folder=tmp_path, resume=True, network=mark)

    module = snnir.compile(graph, target="torch").module()
    state = train(module, spec, pictures(), config, folder=tmp_path, network=checkpoint.fingerprint(graph))
    with pytest.raises(CompileError, match="steps is 2 there and 3 here"):
        resumed(*network(steps=3), pictures())
    with pytest.raises(CompileError, match="the digest of the network but its weights is"):
        resumed(*network(reset="subtract"), pictures())
    with pytest.raises(CompileError, match="the digest of the training images is"):
        resumed(graph, spec, -pictures())
    # what the weights were before does not count: they come from the checkpoint
    other, _ = network(seed=2)
    assert not np.array_equal(other.weights()["conv_in.weight"], graph.weights()["conv_in.weight"])
    for start in (other, graph.with_weights(state)):
        again = resumed(start, spec, pictures())
        assert all(np.array_equal(value, again[key]) for key, value in state.items())


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
        TrainConfig(images=0, rate=-1.0, ema=1.0, consistency=float("inf"), seed=-1)
    wrong = ("images is 0", "rate is -1.0", "ema is 1.0", "consistency is inf", "seed is -1")
    assert all(name in str(caught.value) for name in wrong)


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
