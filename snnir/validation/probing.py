"""Inputs that tell hypotheses apart, where the implementation can be run again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from snnir.ops import Array

STEPS = 60
ELEMENTS = 4


def probe_input(x: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """The values of x (T, B, *shape) in another order, and in turn: all, sparse, behind silence, held, loud, real.

    The loud ones are four times as large, the real ones normal numbers; the others hold only values of x, and 0.
    """
    rng = np.random.default_rng(seed)
    return {name: _one(np.asarray(v), rng, seed % 6) for name, v in x.items()}


def _one(v: Array, rng: np.random.Generator, way: int) -> Array:
    steps, batch = min(STEPS, v.shape[0]), min(ELEMENTS, v.shape[1])
    drawn: Array = rng.choice(v.reshape(-1), (steps, batch, *v.shape[2:]))
    if way == 1:  # sparse
        drawn = np.where(rng.random(drawn.shape) < 0.3, drawn, 0.0)
    elif way == 2:  # silence, then everything: what the biases and the start do alone
        drawn[: max(1, steps // 3)] = 0.0
    elif way == 3:  # held: the same input for many steps
        drawn = np.repeat(drawn[:: max(1, steps // 5)], max(1, steps // 5), axis=0)[:steps]
    elif way == 4:  # loud: who was silent may speak
        drawn = drawn * np.float64(4.0)
    elif way == 5:
        spread = 2.0 * max(1.0, float(np.abs(v).max(initial=0.0)))
        drawn = np.asarray(rng.normal(0.2, spread, drawn.shape))
    return np.asarray(drawn, np.float64)
