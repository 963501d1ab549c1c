"""Images: what comes in is what was stored, and every way a file can be wrong has its own words."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from snnir.diffusion import data
from snnir.diffusion.data import check_images, load_images
from snnir.diffusion.idx import read_idx, write_idx
from snnir.errors import CompileError, UsageError

NAMES = [name for names in data.FILES.values() for name in names]
RNG = np.random.default_rng(0)


def idx_folder(folder: Path, ending: str = "", side: int = 6) -> dict[str, np.ndarray]:
    """Twelve training and five test images, as random bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for name, count in zip(NAMES, (12, 12, 5, 5), strict=True):
        shape = (count, side, side) if "images" in name else (count,)
        made[name] = RNG.integers(0, 256 if "images" in name else 10, shape).astype(np.uint8)
        write_idx(folder / f"{name}{ending}", made[name])
    return made


def rules(caught: pytest.ExceptionInfo[CompileError]) -> list[str]:
    return [v.rule for v in caught.value.violations]


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_files_come_back_byte_for_byte(tmp_path: Path, ending: str) -> None:
    made = idx_folder(tmp_path, ending)
    for name, values in made.items():
        np.testing.assert_array_equal(read_idx(tmp_path / f"{name}{ending}", values.ndim), values)
    images = load_images(tmp_path)
    assert images.train.dtype == np.float32
    assert images.train.shape == (12, 1, 6, 6)
    np.testing.assert_array_equal(np.rint((images.test[:, 0] + 1) * 127.5), made[NAMES[2]])
    np.testing.assert_array_equal(images.train_labels, made[NAMES[1]])


def test_the_header_is_the_published_one(tmp_path: Path) -> None:
    write_idx(tmp_path / "x", np.zeros((3, 28, 28), np.uint8))
    assert (tmp_path / "x").read_bytes()[:16] == struct.pack(">IIII", 2051, 3, 28, 28)


def spoiled(name: str, how: str, content: bytes) -> bytes:
    return {
        "magic": b"PK" + content[2:],
        "floats": content[:2] + b"\x0d" + content[3:],
        "header": content[:9],
        "short": content[:-1],
        "long": content + b"\0",
        "empty": b"",
        "gzip cut": gzip.compress(content)[:-12],
        "gzip checksum": gzip.compress(content)[:-8] + b"\0" * 4 + gzip.compress(content)[-4:],
    }[how]


@pytest.mark.parametrize(
    ("how", "rule"),
    [
        ("magic", "idx-magic"),
        ("empty", "idx-magic"),
        ("gzip checksum", "idx-magic"),
        ("floats", "idx-kind"),
        ("header", "idx-truncated"),
        ("short", "idx-truncated"),
        ("gzip cut", "idx-truncated"),
        ("long", "idx-length"),
    ],
)
def test_damaged_files(tmp_path: Path, how: str, rule: str) -> None:
    idx_folder(tmp_path)
    for name in (NAMES[0], NAMES[3]):  # both are named at once
        path = tmp_path / name
        path.write_bytes(spoiled(name, how, path.read_bytes()))
    with pytest.raises(CompileError) as caught:
        load_images(tmp_path)
    assert rules(caught) == [rule, rule]
    assert [v.where for v in caught.value.violations] == [str(tmp_path / NAMES[0]), str(tmp_path / NAMES[3])]


def test_mixed_up_files(tmp_path: Path) -> None:
    idx_folder(tmp_path)
    images, labels, test_images, test_labels = (tmp_path / n for n in NAMES)
    kept = images.read_bytes()
    images.write_bytes(labels.read_bytes())
    with pytest.raises(CompileError, match="mixed up") as caught:
        load_images(tmp_path)
    assert rules(caught) == ["idx-kind"]
    images.write_bytes(kept)
    kept = labels.read_bytes()
    labels.write_bytes(test_labels.read_bytes())
    test_labels.write_bytes(kept)
    with pytest.raises(CompileError, match="12 images and 5 labels") as caught:
        load_images(tmp_path)
    assert rules(caught) == ["idx-count", "idx-count"]
    labels.write_bytes(kept)
    write_idx(test_labels, np.zeros(5, np.uint8))
    write_idx(test_images, np.zeros((5, 7, 7), np.uint8))
    with pytest.raises(CompileError, match="two sets are mixed up"):
        load_images(tmp_path)
    test_images.unlink()
    with pytest.raises(CompileError, match="is missing") as caught:
        load_images(tmp_path)
    assert rules(caught) == ["no-data"]


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without data sets."""
    monkeypatch.delenv("SNNIR_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "DEBIAN", tmp_path / "debian")
    return tmp_path


@pytest.mark.parametrize("name", ["fashion-mnist", "mnist"])
def test_a_missing_data_set_says_how_to_get_it(nowhere: Path, name: str) -> None:
    with pytest.raises(CompileError) as caught:
        load_images(name, data_root=nowhere / "mine")
    (violation,) = caught.value.violations
    assert violation.rule == "no-data"
    for place in ("mine", "debian", "cache/snnir"):
        assert f"{place}/{name}" in violation.expected
    assert ("apt-get install dataset-fashion-mnist" in violation.hint) == (name == "fashion-mnist")
    assert "--data-root" in violation.hint


def test_where_files_are_found(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each place hides the later ones; told apart by the size of the images."""
    places = ["cache/snnir/mnist", "debian/mnist", "env/MNIST/raw", "mine"]
    monkeypatch.setenv("SNNIR_DATA", str(nowhere / "env"))
    for side, place in enumerate(places, 4):
        idx_folder(nowhere / place, side=side)
        assert load_images("mnist", data_root=nowhere / "mine").shape == (1, side, side)


def test_another_data_set_under_the_same_names(nowhere: Path) -> None:
    idx_folder(nowhere / "mine")
    with pytest.raises(CompileError, match="not Fashion-MNIST's") as caught:
        load_images("fashion-mnist", data_root=nowhere / "mine")
    assert rules(caught) == ["wrong-data", "wrong-data"]


def test_fashion_mnist_taken_for_mnist(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    made = idx_folder(nowhere / "mine")
    monkeypatch.setitem(data.FASHION_PIXELS, "train", hashlib.sha256(made[NAMES[0]].tobytes()).hexdigest()[:16])
    with pytest.raises(CompileError, match="are Fashion-MNIST's") as caught:
        load_images("mnist", data_root=nowhere / "mine")
    assert rules(caught) == ["wrong-data"]


def test_fashion_mnist_is_the_published_one() -> None:
    if not (data.DEBIAN / "fashion-mnist").is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")
    images = load_images("fashion-mnist")
    assert images.train.shape == (60000, 1, 28, 28)
    assert images.test.shape == (10000, 1, 28, 28)
    assert (float(images.train.min()), float(images.train.max())) == (-1.0, 1.0)
    assert np.bincount(images.test_labels).tolist() == [1000] * 10
    assert abs((images.train.mean(dtype=np.float64) + 1) / 2 - 0.2860) < 1e-4


def test_digits() -> None:
    images = load_images("digits")
    assert (images.train.shape, images.test.shape) == ((1500, 1, 8, 8), (297, 1, 8, 8))
    assert set(np.unique((images.train + 1) * 8)) == set(range(17))
    wide = load_images("digits", size=16, channels=3)
    assert wide.train.shape == (1500, 3, 16, 16)
    np.testing.assert_array_equal(wide.train[:, 0], wide.train[:, 2])
    assert np.abs(wide.train.mean((1, 2, 3)) - images.train.mean((1, 2, 3))).max() < 0.06


def picture(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (20, 5, 7))
    for i, values in enumerate(pixels):
        picture(tmp_path / f"class{i // 10}" / f"{i:02}.png", values)
    (tmp_path / "notes.txt").write_text("not an image")
    images = load_images(tmp_path)
    assert (images.train.shape, images.test.shape) == ((18, 1, 5, 7), (2, 1, 5, 7))
    held = [9, 19]
    np.testing.assert_array_equal(np.rint((images.test[:, 0] + 1) * 127.5), pixels[held])
    np.testing.assert_array_equal(np.rint((images.train[:, 0] + 1) * 127.5), np.delete(pixels, held, 0))
    assert load_images(tmp_path, channels=3).shape == (3, 5, 7)


def test_a_folder_that_says_its_split_and_has_colours(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "a.png", np.full((4, 4, 3), (255, 0, 0)))
    picture(tmp_path / "train" / "b.png", np.full((4, 4), 128))  # a grey one among them
    picture(tmp_path / "test" / "c.jpg", np.full((4, 4, 3), (0, 0, 255)))
    images = load_images(tmp_path)
    assert (len(images.train), len(images.test), images.shape) == (2, 1, (3, 4, 4))
    assert images.train[0, :, 0, 0].tolist() == [1, -1, -1]
    grey = load_images(tmp_path, channels=1).train[0, 0, 0, 0]
    assert abs((grey + 1) / 2 - 0.299) < 0.003  # ITU-R 601


def test_crop_then_resize(tmp_path: Path) -> None:
    """A white square in the middle of a wide black picture fills the crop; halving keeps a linear ramp."""
    wide = np.zeros((8, 24))
    wide[:, 8:16] = 255
    for i in range(2):
        picture(tmp_path / f"{i}.png", wide)
    images = load_images(tmp_path, size=4)
    assert images.shape == (1, 4, 4)
    np.testing.assert_array_equal(images.train, np.ones((1, 1, 4, 4)))
    ramp = np.tile(np.arange(8) * 30.0, (8, 1))
    for i in range(2):
        picture(tmp_path / "ramp" / f"{i}.png", ramp)
    inner = (load_images(tmp_path / "ramp", size=4).train[0, 0, 1, 1:3] + 1) * 127.5
    np.testing.assert_allclose(inner, [75, 135], atol=1)  # a linear ramp stays one


def test_folders_that_cannot_be_taken(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="0 images"):
        load_images(tmp_path)
    picture(tmp_path / "a.png", np.zeros((4, 4)))
    with pytest.raises(CompileError, match="1 images"):
        load_images(tmp_path)
    picture(tmp_path / "b.png", np.zeros((4, 5)))
    with pytest.raises(CompileError, match="give a size") as caught:
        load_images(tmp_path)
    assert "is 4x4" in str(caught.value)
    assert "is 4x5" in str(caught.value)
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "c.png")
    (tmp_path / "d.jpg").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    with pytest.raises(CompileError, match="2 of 4 images cannot be read") as caught:
        load_images(tmp_path, size=4)
    assert [Path(v.where).name for v in caught.value.violations] == ["c.png", "d.jpg"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_a_viewer_shows_them(tmp_path: Path, orientation: int) -> None:
    """EXIF 2.32, 4.6.5: what the first row and column of the file are in the scene."""
    scene = np.zeros((8, 8))
    scene[:4, :4], scene[:4, 4:], scene[4:, :4] = 255, 170, 85
    turns = {1: "", 2: "m", 3: "rr", 4: "rrm", 5: "rrrm", 6: "r", 7: "rm", 8: "rrr"}
    stored = scene  # what a viewer turns back: the other way round
    for turn in turns[orientation]:
        stored = np.rot90(stored) if turn == "r" else stored[:, ::-1]
    exif = Image.Exif()
    exif[0x112] = orientation
    for i in range(2):
        Image.fromarray(stored.astype(np.uint8)).save(tmp_path / f"{i}.png", exif=exif)
    np.testing.assert_array_equal(np.rint((load_images(tmp_path).train[0, 0] + 1) * 127.5), scene)


def test_a_picture_too_large_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(2):
        picture(tmp_path / f"{i}.png", np.zeros((20, 20)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(CompileError, match="2 of 2 images cannot be read"):
        load_images(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(source="imagenet"), "expected fashion-mnist, mnist, digits or a folder"),
        (dict(source="digits", channels=2), "2 channels"),
        (dict(source="digits", size=0), "image size 0x0"),
    ],
)
def test_wrong_calls(arguments: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_images(**arguments)


def test_images_of_another_size_than_the_models() -> None:
    digits = load_images("digits")
    check_images(digits, (1, 8, 8))
    with pytest.raises(CompileError) as caught:
        check_images(digits, (1, 28, 28))
    (violation,) = caught.value.violations
    assert (violation.rule, violation.what) == ("image-size", "has images of 1x8x8")
    assert "1x28x28" in violation.expected
    check_images(load_images("digits", size=(28, 28)), (1, 28, 28))
