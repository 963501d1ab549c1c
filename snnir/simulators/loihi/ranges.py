"""Loihi's number ranges, and how values are checked against them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

CURRENT_LIMIT = 2**23  # a current of this size wraps (or, positive, is the last one that does not)
MAX_DELAY = 63
MAX_THRESHOLD = 2**17 - 1
SIGN_MODES = ("auto", "null", "mixed", "excitatory", "inhibitory")
UNITY = 4096  # decays are in units of 1/4096
ALIGN = 6  # activations and thresholds are shifted by this much against u and v
INT32 = (-(2**31), 2**31 - 1)
INT8_MAX = 127


def integers(values: Any) -> Array:
    """`values` as integers if whole numbers, and as they are otherwise."""
    array = np.asarray(values)
    whole = array.dtype.kind in "bu" or (array.dtype.kind == "f" and bool(np.all(array == np.rint(array))))
    return array.astype(np.int64) if whole and not np.isinf(array).any() else array


def out_of(values: Array, low: int, high: int, what: str) -> Iterator[str]:
    if values.dtype.kind != "i":
        yield f"{what} must hold integers"
    elif values.size and (values.min() < low or values.max() > high):
        yield f"{what} spans {values.min()}..{values.max()}, allowed {low}..{high}"
