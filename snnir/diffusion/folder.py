"""A folder of PNG and JPEG images as training and test images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from snnir.errors import CompileError, MissingPackageError, Violation, fail
from snnir.ops import Array

ENDINGS = (".png", ".jpg", ".jpeg")
HELD_OUT = 10  # without a folder `test`, every tenth image is held out
SHOWN = 5  # violations of one kind that are written out


class Folder(NamedTuple):
    """Images (N, C, H, W) float32 in [-1, 1]; labels (N,) int64 by `classes`, or None where there are no classes."""

    train: Array
    test: Array
    train_labels: Array | None
    test_labels: Array | None
    classes: tuple[str, ...]


def load_folder(folder: Path, size: tuple[int, int] | None, channels: int | None) -> Folder:
    """The images below `folder`.

    Subfolders `train` and `test` (or `valid`) are the split where both exist; otherwise every tenth image in the order
    of the paths is held out. Subfolders are walked; files that are not PNG or JPEG are passed over.
    Pictures are turned as their EXIF orientation says. Rule for the size: the largest centred crop of the wanted aspect
    ratio (in whole pixels), then PIL's bilinear resize (antialiased when shrinking). Without a size, all images must
    have the same. RGB unless all are grey; transparency is dropped.
    Classes are the subfolders (of `train` and `test` where these are the split) in the order of their names; there are
    none unless every image lies in one, and there are at least two.

    Raises:
        CompileError: fewer than two images, files that cannot be decoded, or unequal sizes without `size`.
        MissingPackageError: Pillow is not installed.
    """
    parts = [folder / "train", folder / "test" if _paths(folder / "test") else folder / "valid"]
    train = _paths(folder / "train")
    test = _paths(folder / "test") or _paths(folder / "valid")
    if not (train and test):
        every = _paths(folder)
        test = every[HELD_OUT - 1 :: HELD_OUT] or every[-1:]
        held = set(test)
        train = [path for path in every if path not in held]
        parts = [folder, folder]
    if not (train and test):
        raise fail(
            "no-images",
            f"{len(train) + len(test)} images",
            where=str(folder),
            expected=f"at least 2 files {', '.join(ENDINGS)}, or IDX files under their usual names",
        )
    pictures = _decoded([*train, *test], size, channels)
    if channels is None and {p.shape[0] for p in pictures} == {1, 3}:
        pictures = [np.repeat(p, 3, axis=0) if len(p) == 1 else p for p in pictures]
    stacked = np.stack(pictures).astype(np.float32) / np.float32(127.5) - 1
    names = [_class_of(path, part) for paths, part in ((train, parts[0]), (test, parts[1])) for path in paths]
    classes = tuple(sorted({name for name in names if name is not None}))
    if None in names or len(classes) < 2:
        return Folder(stacked[: len(train)], stacked[len(train) :], None, None, ())
    labels = np.array([classes.index(str(name)) for name in names], np.int64)
    halves = labels[: len(train)], labels[len(train) :]
    return Folder(stacked[: len(train)], stacked[len(train) :], *halves, classes)


def resize(images: Array, size: tuple[int, int]) -> Array:
    """(N, C, H, W) float32 -> (N, C, *size): centre crop to the aspect ratio, then PIL's bilinear resize."""
    pil = pillow()
    planes = images.reshape(-1, *images.shape[2:])
    out = np.empty((len(planes), *size), np.float32)
    for i, plane in enumerate(planes):
        out[i] = np.asarray(_fit(pil.fromarray(plane), size))
    return out.reshape(*images.shape[:2], *size)


def pillow() -> Any:
    """The module PIL.Image, or the error that says how to get it."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingPackageError("pillow", "diffusion", "reading and resizing images") from error
    return Image


def _class_of(path: Path, part: Path) -> str | None:
    """The name of the subfolder of a part that an image lies in, however deep; None for one that lies in none."""
    inside = path.relative_to(part).parts
    return inside[0] if len(inside) > 1 else None


def _paths(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())


def _decoded(paths: list[Path], size: tuple[int, int] | None, channels: int | None) -> list[Array]:
    """uint8 (1 or 3, H, W) of every path."""
    pil = pillow()
    found: list[Array] = []
    broken: list[Violation] = []
    for path in paths:
        try:
            with pil.open(path) as picture:
                picture = _upright(picture)
                grey = channels == 1 or (channels is None and picture.mode in ("1", "L", "LA"))
                if picture.mode[0] in "IF":
                    raise ValueError("has more than 8 bits a channel")
                plain = picture.convert("L" if grey else "RGB")
            pixels = np.asarray(plain if size is None else _fit(plain, size))
            found.append(pixels[None] if grey else np.moveaxis(pixels, -1, 0))
        except (OSError, SyntaxError, ValueError, pil.DecompressionBombError) as error:
            hint, wanted = "remove it or save it again", "PNG or JPEG of 8 bits a channel"
            broken.append(Violation("image-unreadable", str(error), str(path), expected=wanted, hint=hint))
    if broken:
        raise CompileError(broken[:SHOWN], title=f"{len(broken)} of {len(paths)} images cannot be read")
    sizes = {p.shape[1:]: path for p, path in zip(found, paths, strict=True)}
    if len(sizes) > 1:
        odd = [Violation("image-size", f"is {h}x{w}", str(path)) for (h, w), path in list(sizes.items())[:SHOWN]]
        hint = "give a size to crop and resize to"
        raise CompileError(
            [*odd, Violation("image-size", f"{len(sizes)} sizes", expected="one size", hint=hint)],
            title="images of unequal sizes",
        )
    return found


def _upright(picture: Any) -> Any:
    """As a viewer shows it: cameras write what they saw, and beside it how it is to be turned."""
    from PIL import ImageOps

    return ImageOps.exif_transpose(picture)


def _fit(picture: Any, size: tuple[int, int]) -> Any:
    """The largest centred crop of the aspect ratio of `size` (height, width), resized to it."""
    height, width = size
    w, h = picture.size
    scale = min(w / width, h / height)
    crop_w, crop_h = max(1, round(scale * width)), max(1, round(scale * height))
    left, top = (w - crop_w) // 2, (h - crop_h) // 2
    # Cropped first: resizing a box would let pixels around it in.
    cropped = picture.crop((left, top, left + crop_w, top + crop_h))
    return cropped.resize((width, height), resample=pillow().Resampling.BILINEAR)
