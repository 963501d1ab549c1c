"""Images as one picture."""

from __future__ import annotations

import math
from io import BytesIO

import numpy as np

from snnir.errors import MissingPackageError, UsageError
from snnir.ops import Array


def image_grid(images: Array, columns: int | None = None, gap: int = 1) -> Array:
    """Images (n, C, H, W) in [-1, 1], C 1 or 3, side by side -> (rows, width, 3) uint8; white between them."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise UsageError(f"a grid takes images (n, 1 or 3, H, W), but got {list(images.shape)}")
    n, _, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = -(-n // columns)
    grid = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, dtype=np.uint8)
    pixels = np.clip(np.rint((images.astype(np.float64) + 1) * 127.5), 0, 255).astype(np.uint8)
    for i, image in enumerate(pixels):
        y, x = divmod(i, columns)
        top, left = y * (height + gap) + gap, x * (width + gap) + gap
        grid[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return grid


def to_png(grid: Array, scale: int | None = None) -> bytes:
    """A grid as PNG, each pixel `scale` x `scale` (default: so that the picture is about 600 pixels wide).

    Raises:
        MissingPackageError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise MissingPackageError("pillow", "diffusion", "a picture of images") from None
    scale = scale or max(1, 600 // grid.shape[1])
    picture = Image.fromarray(np.repeat(np.repeat(grid, scale, axis=0), scale, axis=1))
    file = BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return file.getvalue()
