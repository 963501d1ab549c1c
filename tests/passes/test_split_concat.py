"""split-concat: exact on random graphs; sums where weights follow, cuts through neurons, and reasons elsewhere."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnir.graph import Graph
from snnir.ops import (
    LIF,
    Affine,
    AvgPool2d,
    Concat,
    Conv1d,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    Input,
    Linear,
    Op,
    Output,
    Slice,
    Transpose,
)
from tests.passes.strategies import declined, graphs, kinds, run, same, several, wired

RNG = np.random.default_rng(11)
MENU = (
    "concat0 concat0 concat0 concat conv conv dense dense neuron scale flatten pool slice delay norm upsample"
    " transposed reshape transpose activation shift"
).split()


def n(*shape: int) -> Any:
    return RNG.normal(size=shape)


def lif(spread: tuple[int, ...] = ()) -> LIF:
    return LIF(tau=np.float64(5e-3), v_threshold=RNG.uniform(0.1, 0.5, spread))


def joined(shapes: list[tuple[int, ...]], *ops: Op, axis: int = 0) -> Graph:
    """Inputs of these shapes, concatenated, then ops in a row."""
    inputs = {f"x{i}": Input(shape=s) for i, s in enumerate(shapes)}
    chain = {f"op{i}": op for i, op in enumerate(ops)}
    names = ["cat", *chain, "out"]
    edges = [f"x{i}>cat.in{i}" for i in range(len(shapes))] + [f"{a}>{b}" for a, b in pairwise(names)]
    return wired(" ".join(edges), **inputs, cat=Concat(inputs=len(shapes), axis=axis), **chain, out=Output())


@several
@given(graphs(MENU, closed=True, branch=8), st.integers(0, 99))
def test_exact_on_random_graphs(graph: Graph, seed: int) -> None:
    same(graph, run("split-concat", graph)[0], seed)


@several
@given(graphs(MENU, branch=5), st.integers(0, 99))
def test_exact_with_copies_and_open_ends(graph: Graph, seed: int) -> None:
    same(graph, run("split-concat{copy=true}", graph)[0], seed)


def test_a_convolution_of_skips_is_a_sum_with_the_bias_once() -> None:
    conv = Conv2d(weight=n(4, 5, 3, 3), bias=n(4), padding=1)
    graph = joined([(2, 5, 5), (3, 5, 5)], conv, lif())
    after, _ = run("split-concat", graph)
    assert kinds(after) == ["Conv2d", "Conv2d", "LIF"]
    parts = [op for op in after.ops.values() if isinstance(op, Conv2d)]
    np.testing.assert_array_equal(np.concatenate([p.weight for p in parts], axis=1), conv.weight)
    np.testing.assert_array_equal(sum(p.bias for p in parts), conv.bias)
    assert after.sources("op0.part1") == ("op0", "cat")
    same(graph, after)


@pytest.mark.parametrize(
    ("shapes", "ops", "axis", "left"),
    [
        ([(2,), (3,)], [Affine(weight=n(4, 5), bias=n(4))], 0, ["Affine", "Linear"]),
        ([(2, 2), (2, 3)], [Linear(weight=n(2, 4, 5))], -1, ["Linear", "Linear"]),
        ([(2, 3), (1, 3)], [Affine(weight=n(3, 4, 3), bias=n(3, 4)), Conv1d(weight=n(2, 3, 1), bias=n(2))], 0,
         ["Affine", "Affine", "Conv1d", "Conv1d"]),
        ([(2, 6), (2, 6)], [Conv1d(weight=n(3, 4, 2), bias=n(3, 5))], 0, ["Conv1d", "Conv1d"]),
        ([(2, 3, 3), (1, 3, 3)], [ConvTranspose2d(weight=n(3, 2, 2, 2), bias=n(2))], 0,
         ["ConvTranspose2d", "ConvTranspose2d"]),
        ([(2, 4, 4), (4, 4, 4)],
         [Conv2d(weight=n(3, 2, 3, 3), bias=n(3), groups=3), Conv2d(weight=n(2, 3, 1, 1), bias=n(2))],
         0, ["Conv2d"] * 4),
        ([(2, 4, 4), (1, 4, 4)],
         [lif((3, 1, 1)), AvgPool2d(kernel_size=2, stride=2), Flatten(start_dim=0), Linear(weight=n(2, 12))],
         0, ["AvgPool2d", "AvgPool2d", "Flatten", "Flatten", "LIF", "LIF", "Linear", "Linear"]),
        ([(2, 4), (1, 4)], [Transpose(axes=(1, 0)), Linear(weight=n(2, 3))], 0,
         ["Linear", "Linear", "Transpose", "Transpose"]),
        ([(2,), (2,), (2,)], [Slice(axis=0, start=1, stop=4), Linear(weight=n(2, 3))], 0,
         ["Linear", "Linear", "Slice"]),
    ],
)  # fmt: skip
def test_it_splits(shapes: list[tuple[int, ...]], ops: list[Op], axis: int, left: list[str]) -> None:
    graph = joined(shapes, *ops, axis=axis)
    after, _ = run("split-concat", graph)
    assert kinds(after) == left
    same(graph, after)


def test_parameters_of_neurons_are_cut_with_them() -> None:
    graph = joined([(2,), (3,)], lif((5,)), Linear(weight=n(2, 5)))
    after, _ = run("split-concat", graph)
    neuron = graph["op0"]
    assert isinstance(neuron, LIF)
    np.testing.assert_array_equal(after["op0.part0"].v_threshold, neuron.v_threshold[:2])  # type: ignore[attr-defined]
    np.testing.assert_array_equal(after["op0.part1"].v_threshold, neuron.v_threshold[2:])  # type: ignore[attr-defined]
    same(graph, after)
    kept, log = run("split-concat{through=false}", graph)
    assert kept is graph
    assert declined(log, "cat", "op0 (LIF) reads it, and through=false")


def test_a_concat_in_a_concat() -> None:
    graph = wired(
        "x>c.in0 y>c.in1 c>d.in1 y>d.in0 d>w w>out",
        x=Input(shape=(2,)),
        y=Input(shape=(3,)),
        c=Concat(inputs=2),
        d=Concat(inputs=2),
        w=Affine(weight=n(2, 8), bias=n(2)),
        out=Output(),
    )
    after, _ = run("split-concat", graph)
    assert "Concat" not in kinds(after)
    same(graph, after)


def test_a_recurrent_cell_that_reads_input_and_state_together() -> None:
    graph = wired(
        "in>cat.in0 lif>cat.in1 cat>w w>lif lif>out",
        **{"in": Input(shape=(2,))},
        cat=Concat(inputs=2),
        w=Affine(weight=n(3, 5), bias=n(3)),
        lif=lif(),
        out=Output(),
    )
    after, _ = run("split-concat", graph)
    assert kinds(after) == ["Affine", "LIF", "Linear"]
    same(graph, after, 1)


@pytest.mark.parametrize(
    ("shapes", "ops", "axis", "why"),
    [
        ([(2,), (3,)], [lif()], 0, "out (Output) reads it"),
        ([(1, 2, 4), (1, 3, 4)], [Conv2d(weight=n(2, 1, 3, 3), bias=n(2))], 1, "slides along the axis"),
        ([(1, 4, 4), (3, 4, 4)], [Conv2d(weight=n(2, 2, 3, 3), bias=n(2), groups=2)], 0, "severs a group of op0"),
        ([(2, 4), (1, 4)], [Linear(weight=n(2, 4)), Conv1d(weight=n(2, 3, 1), bias=n(2))], 0, "copy=false"),
        ([(2, 2), (2, 4)], [Flatten(start_dim=0), Linear(weight=n(2, 12))], 1, "mixes the parts"),
    ],
)
def test_it_says_why_not(shapes: list[tuple[int, ...]], ops: list[Op], axis: int, why: str) -> None:
    graph = joined(shapes, *ops, axis=axis)
    after, log = run("split-concat", graph)
    assert after is graph
    assert declined(log, "cat", why)


def test_a_weight_that_reads_more_than_the_concat_stays() -> None:
    graph = wired(
        "x>cat.in0 x>cat.in1 cat>w y>w w>out",
        x=Input(shape=(2,)),
        y=Input(shape=(4,)),
        cat=Concat(inputs=2),
        w=Linear(weight=n(2, 4)),
        out=Output(),
    )
    after, log = run("split-concat", graph)
    assert after is graph
    assert declined(log, "cat", "w (Linear) also reads y")
