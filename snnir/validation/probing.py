"""Inputs that tell hypotheses apart: made of values that the implementation has already been given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from snnir.ops import Array

STEPS = 80
ELEMENTS = 4


def probe_input(x: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """The values of x (T, B, *shape) in another order, and in turn: dense, sparse, behind silence, a single step.

    Only values that occur in x occur here, and 0, so that whoever took x takes this.
    """
    rng = np.random.default_rng(seed)
    return {name: _one(np.asarray(v), rng, seed % 4) for name, v in x.items()}


def _one(v: Array, rng: np.random.Generator, way: int) -> Array:
    steps, batch = min(STEPS, v.shape[0]), min(ELEMENTS, v.shape[1])
    drawn: Array = rng.choice(v.reshape(-1), (steps, batch, *v.shape[2:]))
    if way == 1:  # sparse
        drawn = drawn * (rng.random(drawn.shape) < 0.3)
    elif way == 2:  # silence, then everything: what the biases and the start do alone
        drawn[: max(1, steps // 3)] = 0.0
    elif way == 3:  # held: the same input for many steps
        drawn = np.repeat(drawn[:: max(1, steps // 5)], max(1, steps // 5), axis=0)[:steps]
    return np.asarray(drawn, np.float64)
