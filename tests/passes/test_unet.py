"""All passes on a small spiking U-Net as FSDDIM has it: residual blocks, time projection, skips, linear up and down."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snnir.edit import Editor
from snnir.graph import Edge, Graph
from snnir.ops import LIF, Affine, AvgPool2d, BatchNorm, Concat, Conv2d, Input, Op, Output, Reshape, Shape, Upsample2d
from snnir.pipeline import Step, parse_pipeline, run_pipeline
from snnir.semantics import Semantics
from snnir.verify_passes import check_step
from tests.passes.strategies import kinds, same


class Unet:
    """Builds the network; each method adds ops behind `x` and gives the name of the last one."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.ops: dict[str, Op] = {"image": Input(shape=(1, 8, 8)), "time": Input(shape=(6,))}
        self.edges: list[Edge] = []

    def n(self, *shape: int) -> Any:
        return self.rng.normal(0.1, 1.0, shape) / np.sqrt(max(1, int(np.prod(shape[1:]))))

    def add(self, name: str, op: Op, *sources: str) -> str:
        ports = op.ports if len(op.ports) > 1 else op.ports * len(sources)
        self.ops[name] = op
        self.edges += [Edge(s, name, p) for s, p in zip(sources, ports, strict=True)]
        return name

    def conv(self, name: str, c_in: int, c_out: int, k: int, *x: str) -> str:
        return self.add(name, Conv2d(weight=self.n(c_out, c_in, k, k), bias=self.n(c_out), padding=k // 2), *x)

    def norm(self, name: str, c: int, alpha: float, *x: str) -> str:
        fields = {"weight": 1 + self.n(c), "bias": self.n(c), "mean": self.n(c), "var": self.rng.random(c) + 0.2}
        return self.add(name, BatchNorm(**fields, alpha=alpha, v_th=0.5), *x)

    def lif(self, name: str, *x: str) -> str:
        cell = LIF(tau=np.float64(5e-3), r=np.float64(5.0), v_threshold=np.float64(0.5))
        return self.add(name, cell, *x)

    def block(self, name: str, c_in: int, c: int, size: Shape, x: str) -> str:
        h = self.conv(f"{name}.conv1", c_in, c, 3, x)
        t = self.add(f"{name}.time", Affine(weight=self.n(c, 6), bias=self.n(c)), "time_lif")
        t = self.add(f"{name}.cast", Reshape(shape=(c, 1, 1)), t)
        t = self.add(f"{name}.spread", Upsample2d(factor=size), t)
        h = self.lif(f"{name}.lif1", self.norm(f"{name}.bn1", c, 1.0, h, t))
        h = self.norm(f"{name}.bn2", c, 0.7, self.conv(f"{name}.conv2", c, c, 3, h))
        short = x if c_in == c else self.conv(f"{name}.short", c_in, c, 1, x)
        return self.lif(f"{name}.lif2", h, self.norm(f"{name}.bn3", c, 0.7, short))

    def graph(self) -> Graph:
        self.lif("time_lif", self.add("embed", Affine(weight=self.n(6, 6), bias=self.n(6)), "time"))
        x = self.conv("conv_in", 1, 4, 3, "image")
        skip = self.block("down0", 4, 4, (8, 8), x)
        x = self.conv("down1", 4, 6, 1, self.add("pool", AvgPool2d(kernel_size=2, stride=2), skip))
        x = self.block("mid", 6, 6, (4, 4), x)
        x = self.conv("up1", 6, 4, 3, self.add("up", Upsample2d(), x))
        x = self.block("up0", 8, 4, (8, 8), self.add("cat", Concat(inputs=2), x, skip))
        x = self.conv("conv_out", 8, 1, 1, self.add("all", Concat(inputs=2), x, skip))
        self.add("out", Output(shape=(1, 8, 8)), x)
        return Graph(self.ops, tuple(self.edges), Semantics(dt=1e-3)).verify()


PIPELINES = (
    "fold-batch-norm,split-concat,fuse-linear,lower-upsample,simplify",
    "split-concat,fold-batch-norm,fuse-linear{max_growth=9},normalise-gain,lower-upsample{alone=shuffle},simplify",
    "simplify,fold-batch-norm,split-concat,unroll-conv,fuse-linear,normalise-gain",
    "fold-batch-norm,split-concat,fuse-linear,balance-latency",
)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_step_is_exact(pipeline: str) -> None:
    graph = Unet(0).graph()
    steps: list[Step] = []
    run_pipeline(graph, parse_pipeline(pipeline), steps.append)
    for step in steps:
        evidence = check_step(step)
        assert step.after is step.before or evidence.spikes > 100


def test_what_is_left_is_convolutions_and_neurons() -> None:
    graph = Unet(1).graph()
    after = run_pipeline(graph, parse_pipeline(PIPELINES[0]))
    assert not {"BatchNorm", "Concat", "Upsample2d"} & set(kinds(after))
    assert kinds(after).count("LIF") == kinds(graph).count("LIF")
    same(graph, after, 2, steps=12)
    # The 1x1 convolution on the way down is linear in front of a padded one, and read by the shortcut too: it stays.
    assert "down1" in after
    # The shortcut's batch norm went into the shortcut's weights, both parts of it.
    assert {"up0.short.part0", "up0.short.part1"} <= set(after.ops)
    assert set(after.sources("up0.short.part0")) == {"up0.short", "up0.bn3", "cat"}


def test_origin_leads_every_op_back_to_the_model() -> None:
    graph = Unet(2).graph()
    for pipeline in PIPELINES:
        after = run_pipeline(graph, parse_pipeline(pipeline))
        for name in after.ops:
            assert set(after.sources(name)) <= set(graph.ops), name


def test_the_passes_find_a_copied_op_again() -> None:
    """The same block twice on the same input is one block."""
    graph = Unet(3).graph()
    editor = Editor(graph)
    editor.add("twin", graph["conv_in"])
    editor.connect("image", "twin")
    editor.add("also", Output())
    editor.connect("twin", "also")
    doubled = editor.build()
    after = run_pipeline(doubled, parse_pipeline("simplify"))
    assert "twin" not in after
    same(doubled, after)
