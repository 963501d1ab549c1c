"""Random networks over tokens, of the ops that RWKV blocks are made of, on every target that runs them whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnir import ops
from snnir.graph import Edge, Graph
from snnir.semantics import Semantics
from tests.backends import family, onnx_family

pytestmark = pytest.mark.oracle
CHANNELS = 4
MENU = ("shift", "wkv", "norm", "activation", "gate", "linear", "spikes", "tokens", "more", "turn")


class Growing:
    """A network whose values are tokens x channels, and whose last op is `last`."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw, self.rng = draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.tokens = draw(st.integers(1, 6))
        self.ops: dict[str, ops.Op] = {"input": ops.Input(shape=(self.tokens, CHANNELS))}
        self.edges: list[Edge] = []
        self.last = "input"

    def add(self, op: ops.Op, *sources: str) -> str:
        name = f"{op.kind.lower()}{len(self.ops)}"
        self.ops[name] = op
        self.edges += [Edge(source, name, port) for source, port in zip(sources, op.ports, strict=True)]
        self.last = name
        return name

    def linear(self, source: str) -> str:
        return self.add(ops.Linear(weight=self.rng.normal(0, 0.6, (CHANNELS, CHANNELS))), source)

    def grow(self, what: str) -> None:
        x, rng = self.last, self.rng
        if what == "shift":
            self.add(ops.TokenShift(mix=rng.random(CHANNELS)), x)
        elif what == "wkv":
            op = ops.Wkv(log_decay=rng.uniform(-8, 5, CHANNELS), first=rng.normal(size=CHANNELS))
            self.add(op, self.linear(x), self.linear(x))
        elif what == "norm":
            self.add(ops.LayerNorm(weight=rng.normal(size=CHANNELS), bias=rng.normal(size=CHANNELS), eps=1e-6), x)
        elif what == "activation":
            self.add(ops.Activation(function=self.draw(st.sampled_from(["sigmoid", "silu", "tanh", "relu"]))), x)
        elif what == "gate":
            self.add(ops.Multiply(), self.add(ops.Activation(function="sigmoid"), self.linear(x)), x)
        elif what == "spikes":
            lif = ops.LIF(tau=np.float64(2e-3), r=2.0, v_threshold=np.float64(0.5))
            spikes = self.add(lif, self.add(ops.Repeat(steps=4), x))
            mean = self.add(ops.TemporalMean(steps=4), spikes)
            self.add(ops.Linear(weight=np.eye(CHANNELS)), mean)
            self.edges.append(Edge(x, self.last))  # the residual sum
        elif what == "tokens":
            count = self.draw(st.integers(1, 2))
            more = self.add(ops.Constant(value=rng.normal(size=(count, CHANNELS))))
            self.add(ops.Concat(inputs=2), *self.draw(st.sampled_from([(x, more), (more, x)])))
            self.tokens += count
        elif what == "more" and self.tokens > 1:
            start = self.draw(st.integers(0, self.tokens - 1))
            stop = self.draw(st.integers(start + 1, self.tokens))
            self.add(ops.Slice(axis=-2, start=start, stop=stop), x)
            self.tokens = stop - start
        elif what == "turn":
            across = self.add(ops.Transpose(axes=(1, 0)), x)
            mixed = self.add(ops.Linear(weight=rng.normal(size=(self.tokens, self.tokens))), across)
            self.add(ops.Transpose(axes=(1, 0)), mixed)
        else:
            self.linear(x)


@st.composite
def networks(draw: st.DrawFn) -> Graph:
    """Some ops of the menu behind one another; each stands at least at one place of a hundred networks."""
    growing = Growing(draw)
    for what in draw(st.lists(st.sampled_from(MENU), min_size=3, max_size=8)):
        growing.grow(what)
    last = growing.last
    growing.ops["output"] = ops.Output()
    return Graph(growing.ops, (*growing.edges, Edge(last, "output")), Semantics(dt=1e-3)).verify()


@pytest.mark.parametrize("target", [*family.FAMILY, "onnx"])
@settings(max_examples=40)
@given(graph=networks(), seed=st.integers(0, 1000))
def test_every_op_gives_what_the_interpreter_gives(target: str, graph: Graph, seed: int) -> None:
    if target == "onnx":
        onnx_family.same_everywhere(graph, steps=3, seed=seed)
    else:
        family.same_everywhere(graph, target, steps=3, seed=seed)
