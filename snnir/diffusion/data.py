"""Images to train and to measure on: Fashion-MNIST and MNIST from IDX files, scikit-learn's digits, any folder.

Nothing is downloaded. A data set that is not there says where it was looked for and how to get it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snnir.diffusion.folder import load_folder, resize
from snnir.diffusion.idx import read_idx
from snnir.errors import CompileError, MissingPackageError, UsageError, Violation, fail
from snnir.ops import Array

DEBIAN = Path("/usr/share/datasets")  # where Debian's package dataset-fashion-mnist puts its files
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
# SHA-256 of the unzipped image files without their headers, first 16 digits. MNIST has files of the same names and
# sizes, so only their content tells the two apart.
FASHION_PIXELS = {"train": "2e487a6c89124f78", "test": "c867c93ff9536059"}


@dataclass(frozen=True, eq=False)
class Images:
    """Training and held-out images.

    Attributes:
        name: of the data set.
        train: (N, C, H, W) float32 in [-1, 1].
        test: likewise; no image of `train`.
        train_labels: (N,) int64, or None where the source has no classes.
        test_labels: likewise.
    """

    name: str
    train: Array
    test: Array
    train_labels: Array | None = None
    test_labels: Array | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train.shape[1:]
        return channels, height, width


def load_images(
    source: str | Path,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    data_root: str | Path | None = None,
) -> Images:
    """Images in [-1, 1], float32, (N, C, H, W).

    Args:
        source: 'fashion-mnist', 'mnist', 'digits' (scikit-learn's 1797 digits of 8x8: the first 1500 to train), or a
            folder (write ./digits for one called like a set): of IDX files under their usual names, or of PNG and
            JPEG images (`folder.load_folder`).
        size: height and width wanted (one number: both); images are cropped at the centre to this aspect ratio and
            resized (PIL, bilinear with antialiasing). None keeps their own size.
        channels: 1 for grey (ITU-R 601 luma), 3 for RGB; None keeps what the source has.
        data_root: where the files of a data set are looked for first (in it, or in a folder of the data set's name).
            Then: $SNNIR_DATA, /usr/share/datasets (Debian), ~/.cache/snnir.

    Raises:
        CompileError: files missing (says how to get them), damaged, mixed up, or of unequal sizes without `size`.
        UsageError: neither a known name nor a folder.
        MissingPackageError: scikit-learn (digits) or Pillow (folders, resizing) is not installed.
    """
    if channels not in (None, 1, 3):
        raise UsageError(f"{channels} channels: an image has 1 (grey) or 3 (RGB)")
    hw = (size, size) if isinstance(size, int) else size
    if hw is not None and min(hw) < 1:
        raise UsageError(f"image size {hw[0]}x{hw[1]}: at least 1x1")
    name = str(source)
    if name in NAMED:
        images = NAMED[name](data_root)
    elif not Path(source).is_dir():
        raise UsageError(f"no data set {name!r}: expected {', '.join(NAMED)} or a folder of images")
    elif _in_folder(Path(source), "train", 0) is not None:
        images = _from_idx(str(source), Path(source))
    else:
        found = load_folder(Path(source), hw, channels)
        return Images(Path(source).resolve().name, found.train, found.test, found.train_labels, found.test_labels)
    return _fitted(images, hw, channels)


def check_images(images: Images, image: tuple[int, int, int]) -> None:
    """That a model for `image` (channels, height, width) can take these.

    Raises:
        CompileError: another number of channels or another size.
    """
    if images.shape != tuple(image):
        found, wanted = ("x".join(map(str, s)) for s in (images.shape, image))
        raise fail(
            "image-size",
            f"has images of {found}",
            where=images.name,
            expected=f"{wanted} (channels x height x width), what the model takes",
            hint=f"load them with size=({image[1]}, {image[2]}) and channels={image[0]}, or take a model for {found}",
        )


def roots(data_root: str | Path | None = None) -> tuple[Path, ...]:
    """Where files are looked for, in order."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "snnir"
    named = [data_root, os.environ.get("SNNIR_DATA") or None]
    return (*(Path(r).expanduser() for r in named if r is not None), DEBIAN, cache)


def _in_folder(folder: Path, split: str, kind: int) -> Path | None:
    names = FILES[split]
    candidates = (folder / f"{names[kind]}{ending}" for ending in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def _idx_set(name: str, elsewhere: str, get: str) -> Callable[[str | Path | None], Images]:
    def load(data_root: str | Path | None) -> Images:
        # The last one is torchvision's layout.
        tried = [f for root in roots(data_root) for f in (root / name, root, root / elsewhere / "raw")]
        folder = next((f for f in tried if _in_folder(f, "train", 0) or _in_folder(f, "test", 0)), None)
        if folder is None:
            raise fail(
                "no-data",
                f"{name} is not on this machine",
                where=name,
                expected="its four IDX files in " + " or ".join(str(r / name) for r in roots(data_root)),
                hint=get,
            )
        return _from_idx(name, folder)

    return load


def _from_idx(name: str, folder: Path) -> Images:
    found: list[Array] = []
    wrong: list[Violation] = []
    for split, names in FILES.items():
        for kind, file in enumerate(names):
            path = _in_folder(folder, split, kind)
            if path is None:
                hint = "all four files belong together: get the data set again"
                wrong.append(Violation("no-data", "is missing", where=str(folder / file), hint=hint))
                continue
            try:
                found.append(read_idx(path, dimensions=3 if kind == 0 else 1))
            except CompileError as error:
                wrong.extend(error.violations)
    if wrong:
        raise CompileError(wrong, title=f"{name} cannot be read")
    train, train_labels, test, test_labels = found
    for split, pixels, labels in (("train", train, train_labels), ("test", test, test_labels)):
        if len(pixels) != len(labels) or not len(pixels):
            what = f"{len(pixels)} images and {len(labels)} labels"
            files = " + ".join(FILES[split])
            hint = "files of the training and the test set may be mixed up"
            wrong.append(Violation("idx-count", what, where=f"{folder}: {files}", expected="a label each", hint=hint))
    if train.shape[1:] != test.shape[1:]:
        what = f"training images of {train.shape[1:]}, test images of {test.shape[1:]}"
        wrong.append(Violation("idx-count", what, where=str(folder), expected="one size", hint="two sets are mixed up"))
    if wrong:
        raise CompileError(wrong, title=f"{name} cannot be read")
    _check_content(name, folder, {"train": train, "test": test})
    return Images(name, _scaled(train), _scaled(test), train_labels.astype(np.int64), test_labels.astype(np.int64))


def _scaled(pixels: Array) -> Array:
    """uint8 (N, H, W) -> float32 (N, 1, H, W) in [-1, 1]."""
    return (pixels.astype(np.float32) / np.float32(127.5) - 1)[:, None]


def _check_content(name: str, folder: Path, parts: dict[str, Array]) -> None:
    wrong = []
    for split, pixels in parts.items():
        digest = hashlib.sha256(pixels.tobytes()).hexdigest()[:16]
        if name == "fashion-mnist" and digest != FASHION_PIXELS[split]:
            what = f"the {split} images are not Fashion-MNIST's (sha256 of the pixels {digest})"
            hint = "another data set under the same file names: give its folder instead of the name"
            wrong.append(Violation("wrong-data", what, str(folder), expected=FASHION_PIXELS[split], hint=hint))
        elif name == "mnist" and digest in FASHION_PIXELS.values():
            what = f"the {split} images are Fashion-MNIST's"
            wrong.append(Violation("wrong-data", what, str(folder), expected="MNIST", hint="ask for fashion-mnist"))
    if wrong:
        raise CompileError(wrong, title="the files hold another data set")


def _digits(_: str | Path | None) -> Images:
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingPackageError("scikit-learn", "diffusion", "the data set 'digits'") from error
    loaded = load_digits()
    pixels = (loaded.images.astype(np.float32) / 8 - 1)[:, None]
    labels = loaded.target.astype(np.int64)
    return Images("digits", pixels[:1500], pixels[1500:], labels[:1500], labels[1500:])


def _fitted(images: Images, hw: tuple[int, int] | None, channels: int | None) -> Images:
    train, test = images.train, images.test
    if hw is not None and hw != images.shape[1:]:
        train, test = resize(train, hw), resize(test, hw)
    if channels == 3:
        train, test = (np.repeat(part, 3, axis=1) for part in (train, test))
    return Images(images.name, train, test, images.train_labels, images.test_labels)


NAMED: dict[str, Callable[[str | Path | None], Images]] = {
    "fashion-mnist": _idx_set(
        "fashion-mnist",
        "FashionMNIST",
        "on Debian and Ubuntu `apt-get install dataset-fashion-mnist`; elsewhere put the files of "
        "https://github.com/zalandoresearch/fashion-mnist there, or name their folder (--data-root or $SNNIR_DATA)",
    ),
    "mnist": _idx_set(
        "mnist",
        "MNIST",
        "put the files of https://yann.lecun.com/exdb/mnist (or torchvision's MNIST/raw) there, or name their folder "
        "(--data-root or $SNNIR_DATA)",
    ),
    "digits": _digits,
}
