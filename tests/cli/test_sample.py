"""`snnir sample`: pictures from the shipped networks, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from snnir.cli import run

MODEL = str(Path(__file__).parents[2] / "models" / "fsddim.py")


def drawn(tmp_path: Path, *options: str) -> np.ndarray:
    path = tmp_path / "images.npz"
    assert run(["sample", MODEL, "-o", str(path), "--force", *options]) == 0
    return np.load(path)["images"]


def test_targets_draw_the_same_digits(tmp_path):
    images = drawn(tmp_path, "--preset", "digits", "-n", "3", "--steps", "5", "--batch", "2")
    assert images.shape == (3, 1, 8, 8)
    assert images.std() > 0.3
    for target in ("interpreter", "onnx"):
        same = drawn(tmp_path, "--preset", "digits", "-n", "3", "--steps", "5", "-t", target)
        assert np.median(np.abs(images - same)) < 1e-5  # a spike that flips by rounding may move a few pixels


def test_chip_draws_what_the_network_draws(tmp_path):
    images = drawn(tmp_path, "--preset", "nano", "-n", "16")
    assert images.shape == (16, 1, 4, 4)
    chip = drawn(tmp_path, "--preset", "nano", "-n", "16", "-t", "xylo-audio3")
    assert np.sqrt(np.mean((images - chip) ** 2)) < 0.02
    assert not np.array_equal(images, chip)


def test_picture_is_a_png(tmp_path):
    path = tmp_path / "grid.png"
    assert run(["sample", MODEL, "--preset", "nano", "-n", "5", "-o", str(path)]) == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    assert run(["sample", MODEL, "--preset", "nano", "-n", "5", "-o", str(path)]) == 1  # it exists


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--preset", "digits", "--steps", "1001"), 2, "the schedule has 1 to 1000"),
        (("--preset", "nano", "--steps", "7"), 2, "made for 20 steps"),
        (("--preset", "digits", "-t", "xylo-audio3"), 2, "takes events"),
        (("--preset", "paper", "--weights", "shipped"), 2, "comes with no weights"),
        (("--preset", "digits", "--weights", "no.safetensors"), 2, "no such file"),
    ],
)
def test_refusals(tmp_path, capsys, options, status, said):
    path = tmp_path / "grid.png"
    assert run(["sample", MODEL, "-o", str(path), *options]) == status
    assert said in " ".join(capsys.readouterr().err.split())
    assert not path.exists()


def test_a_folder_that_is_missing_is_said_before_drawing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("snnir.cli.sample.load_source", lambda *_: pytest.fail("was loaded first"))
    assert run(["sample", MODEL, "--preset", "digits", "-o", str(tmp_path / "none" / "grid.png")]) == 1
    assert "there is no folder" in " ".join(capsys.readouterr().err.split())


def test_where_nothing_can_be_written_is_said_before_drawing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("snnir.cli.sample.load_source", lambda *_: pytest.fail("was loaded first"))
    (tmp_path / "grid.png").mkdir()
    assert run(["sample", MODEL, "-o", str(tmp_path / "grid.png"), "--force"]) == 1
    assert "is a folder" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr("os.access", lambda *_: False)  # to root, every folder is writable
    assert run(["sample", MODEL, "-o", str(tmp_path / "other.png")]) == 1
    assert "may not write in" in " ".join(capsys.readouterr().err.split())


def test_images_that_are_no_picture_are_not_drawn_as_one(tmp_path, capsys):
    options = ("--preset", "digits", "-S", "image=(2,4,4)", "-n", "1", "--steps", "1")
    assert run(["sample", MODEL, *options, "-o", str(tmp_path / "grid.png")]) == 2
    assert "images of 2 channels are no picture: expected .npz" in " ".join(capsys.readouterr().err.split())
    assert drawn(tmp_path, *options).shape == (1, 2, 4, 4)


def test_a_network_with_a_host_is_not_trained_without_it(tmp_path, capsys):
    train = ["train", MODEL, "--preset", "nano", "--data", "digits", "-o", str(tmp_path / "run")]
    assert run(train) == 1
    assert "python -m snnir.models.train_nano" in " ".join(capsys.readouterr().err.split())
    assert run([*train, "--seed", "-1"]) == 2
    assert not (tmp_path / "run").exists()


def test_images_that_are_no_numbers_are_not_written(tmp_path, capsys):
    """Guidance that overflows: beyond float32 at once in the first call."""
    model, path = str(Path(MODEL).with_name("sdit.py")), tmp_path / "grid.png"
    with np.errstate(all="ignore"):
        options = ("--preset", "digits", "--weights", "none", "--guidance", "1e300", "-n", "2", "--steps", "2")
        assert run(["sample", model, "-o", str(path), *options]) == 1
    assert "sampling-diverged" in capsys.readouterr().err
    assert not path.exists()
