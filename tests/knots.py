"""Random graphs that are mostly cycles: few ops of one shape, edges anywhere, several late edges in a row."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from snnir import ops
from snnir.graph import Edge, Graph
from snnir.ops import Op
from snnir.semantics import Semantics

SIZE = 2
KINDS = ("affine", "affine", "scale", "lif", "lif", "cubalif", "li", "delay", "flatten")


def made(kind: str, rng: np.random.Generator, dt: float) -> Op:
    """An op of that kind on values of shape (SIZE,)."""
    level = rng.uniform(0.1, 0.5, SIZE)
    tau = dt * rng.uniform(2.0, 8.0, SIZE)
    if kind == "affine":
        return ops.Affine(weight=rng.normal(0.1, 0.6, (SIZE, SIZE)), bias=rng.normal(0.2, 0.4, SIZE))
    if kind == "scale":
        return ops.Scale(scale=rng.normal(0.3, 0.5, SIZE))
    if kind == "threshold":
        return ops.Threshold(threshold=level)
    if kind == "lif":
        return ops.LIF(tau=tau, r=np.full(SIZE, 3.0), v_leak=level / 3, v_threshold=level)
    if kind == "cubalif":
        return ops.CubaLIF(tau_syn=tau / 2, tau_mem=tau, r=np.full(SIZE, 3.0), v_threshold=level)
    if kind == "li":
        return ops.LI(tau=tau, v_leak=level)
    if kind == "delay":
        return ops.Delay(delay=dt * rng.integers(0, 3, SIZE).astype(float))
    return ops.Flatten(start_dim=0)


@st.composite
def knots(
    draw: st.DrawFn, kinds: tuple[str, ...] = KINDS, max_ops: int = 7, semantics: Semantics | None = None
) -> Graph:
    """A sound graph of 2 to `max_ops` ops besides its inputs and outputs."""
    semantics = semantics or Semantics(dt=1e-3)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    drawn = draw(st.lists(st.sampled_from(kinds), min_size=2, max_size=max_ops))
    inner = [f"{kind}{i}" for i, kind in enumerate(drawn)]
    inputs = ["in0", "in1"][: draw(st.integers(1, 2))]
    nodes: dict[str, Any] = {name: ops.Input(shape=(SIZE,)) for name in inputs}
    nodes |= {name: made(kind, rng, semantics.dt or 1e-3) for name, kind in zip(inner, drawn, strict=True)}
    edges: dict[Edge, None] = {Edge(inputs[0], inner[0]): None}
    if len(inputs) > 1:
        edges[Edge(inputs[1], draw(st.sampled_from(inner)))] = None
    for before, name in pairwise(inner):  # a chain, an op of which may hang somewhere else
        edges[Edge(before if draw(st.integers(0, 5)) else draw(st.sampled_from([*inputs, *inner])), name)] = None
    for _ in range(draw(st.integers(1, max_ops))):
        edges[Edge(draw(st.sampled_from([*inputs, *inner, *inner])), draw(st.sampled_from(inner)))] = None
    for k in range(draw(st.integers(1, 2))):
        nodes[f"out{k}"] = ops.Output()
        edges[Edge(draw(st.sampled_from(inner)), f"out{k}")] = None
    graph = Graph(nodes, tuple(edges), semantics)
    assume(not list(graph.violations()))
    return graph
