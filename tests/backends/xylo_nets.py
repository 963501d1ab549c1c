"""Small networks for the Xylo tests."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from snnir.graph import Edge, Graph, chain
from snnir.ops import IF, LIF, Affine, CubaLIF, Input, Linear, Op, Output
from snnir.semantics import Semantics

Array = np.ndarray[Any, np.dtype[Any]]
DT = 1e-3
SOFT = Semantics(dt=DT, reset="subtract", comparison=">=")


def cuba(n: int, tau_mem: float = 16 * DT, tau_syn: float = 8 * DT, threshold: float = 1.0, **more: Any) -> CubaLIF:
    """n CubaLIF neurons in which a spike of weight w adds w / 4 to the membrane's drive at once."""
    full = np.ones(n)
    return CubaLIF(
        tau_mem=tau_mem * full,
        tau_syn=tau_syn * full,
        r=tau_mem / DT * full,
        w_in=tau_syn / DT / 4 * full,
        v_threshold=threshold * full,
        **more,
    )


def lif(n: int, tau: float = 16 * DT, threshold: float = 1.0, **more: Any) -> LIF:
    """n LIF neurons in which a spike of weight w adds w to the membrane."""
    full = np.ones(n)
    return LIF(tau=tau * full, r=tau / DT * full, v_threshold=threshold * full, **more)


def integrate(n: int, threshold: float = 1.0) -> IF:
    """n IF neurons in which a spike of weight w adds w to the membrane."""
    return IF(r=np.full(n, 1 / DT), v_threshold=np.full(n, threshold))


def linear(rng: np.random.Generator, n_out: int, n_in: int, mean: float = 0.1, spread: float = 0.3) -> Linear:
    """Gaussian weights."""
    return Linear(weight=rng.normal(mean, spread, (n_out, n_in)))


def affine(rng: np.random.Generator, n_out: int, n_in: int, bias: float = 0.05) -> Affine:
    """Gaussian weights, and Gaussian biases around `bias`."""
    return Affine(weight=rng.normal(0.1, 0.3, (n_out, n_in)), bias=rng.normal(bias, abs(bias), n_out))


def layers(rng: np.random.Generator, sizes: Sequence[int], kind: Any = cuba, semantics: Semantics = SOFT) -> Graph:
    """Input, then a dense layer of `kind` neurons per further size."""
    ops: list[Op | tuple[str, Op]] = [("in", Input(shape=(sizes[0],)))]
    for at, (before, size) in enumerate(pairwise(sizes), 1):
        ops += [(f"w{at}", linear(rng, size, before)), (f"n{at}", kind(size))]
    return chain(*ops, ("out", Output()), semantics=semantics)


def wired(ops: dict[str, Op], *edges: str, semantics: Semantics = SOFT) -> Graph:
    """A graph from edges written `a > b > c`."""
    pairs = [pair for path in edges for pair in pairwise(path.split(" > "))]
    return Graph(ops, tuple(Edge(a, b) for a, b in pairs), semantics)


def spikes(shape: Sequence[int], rate: float, seed: int = 0) -> Array:
    """Independent random spikes, 0.0 or 1.0."""
    return (np.random.default_rng(seed).random(tuple(shape)) < rate).astype(np.float64)


def count_error(got: Array, want: Array) -> float:
    """Summed difference of spike counts per sample and neuron over summed counts; time first."""
    return float(np.abs(got.sum(axis=0) - want.sum(axis=0)).sum() / want.sum())
