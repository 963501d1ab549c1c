"""Sliding windows over the trailing axes: what convolutions and pools share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from snnir.ops import Array


def windows(
    x: Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    pads: Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> Array:
    """A view (N, C, *output size, *kernel) of the zero-padded x (N, C, *size)."""
    n = len(kernel)
    padded = np.pad(x, ((0, 0), (0, 0), *pads)) if any(map(any, pads)) else x
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    view = sliding_window_view(padded, reach, axis=tuple(range(2, 2 + n)))
    steps = tuple(slice(None, None, s) for s in stride)
    taps = tuple(slice(None, None, d) for d in dilation)
    return view[(slice(None), slice(None), *steps, *taps)]


def convolve(
    x: Array,
    weight: Array,
    stride: Sequence[int],
    pads: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    groups: int = 1,
) -> Array:
    """Cross-correlation of x (N, C_in, *size) with weight (C_out, C_in / groups, *kernel), without bias."""
    view = windows(x, weight.shape[2:], stride, pads, dilation)
    n_axes = len(stride)
    size = view.shape[2 : 2 + n_axes]
    c_out, c_in = weight.shape[0] // groups, weight.shape[1]
    out = np.empty((x.shape[0], weight.shape[0], *size), dtype=np.result_type(x, weight))
    # One matrix product per group and chunk; a chunk's patches stay below about 64 MB.
    patch_bytes = max(1, int(np.prod(view.shape[2:])) * c_in * out.itemsize)
    chunk = max(1, (64 << 20) // patch_bytes)
    for g in range(groups):
        filters = weight[g * c_out : (g + 1) * c_out].reshape(c_out, -1).T
        part = view[:, g * c_in : (g + 1) * c_in]
        for start in range(0, x.shape[0], chunk):
            piece = np.moveaxis(part[start : start + chunk], 1, 1 + n_axes)
            rows = piece.reshape(-1, filters.shape[0]) @ filters
            shaped = rows.reshape(piece.shape[0], *size, c_out)
            out[start : start + chunk, g * c_out : (g + 1) * c_out] = np.moveaxis(shaped, -1, 1)
    return out
