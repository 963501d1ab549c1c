"""unroll-conv: exact on random graphs and on every convolution geometry; the body is dense and one-dimensional."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import snnir
from snnir.errors import CompileError
from snnir.graph import Edge, Graph, chain
from snnir.ops import (
    LIF,
    Affine,
    AvgPool2d,
    Concat,
    Conv1d,
    Conv2d,
    ConvTranspose2d,
    CubaLIF,
    Delay,
    Flatten,
    Input,
    LayerNorm,
    Linear,
    Op,
    Output,
    Reshape,
    Scale,
    SumPool2d,
    Threshold,
    Upsample2d,
)
from snnir.semantics import Semantics
from tests.passes.strategies import declined, graphs, kinds, run, same, several, wired

RNG = np.random.default_rng(19)
MENU = (
    "conv conv pool dense neuron neuron scale flatten reshape concat delay threshold upsample norm shift transposed"
    " slice transpose activation constant multiply"
).split()


def n(*shape: int) -> Any:
    return RNG.normal(size=shape)


def line(shape: tuple[int, ...], *ops: Op) -> Graph:
    named = [(f"op{i}", op) for i, op in enumerate(ops)]
    return chain(("in", Input(shape=shape)), *named, ("out", Output()), semantics=Semantics(dt=1e-3))


@several
@given(graphs(MENU), st.integers(0, 99))
def test_exact_on_random_graphs(graph: Graph, seed: int) -> None:
    after, _ = run("unroll-conv", graph)
    same(graph, after, seed)
    assert after.inputs == graph.inputs
    assert all(after.shapes[name] == graph.shapes[name] for name in (*graph.inputs, *graph.outputs))
    assert run("unroll-conv", after)[0] is after


CONVS = [
    Conv2d(
        weight=n(4, 4 // groups, *kernel), bias=n(4), stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    for kernel, stride, padding, dilation, groups in product(
        ((1, 1), (3, 2), (5, 5)), (1, 2), (0, 1, 2, "same"), (1, 2), (1, 2, 4)
    )
    if not (padding == "same" and stride == 2)
]


def test_every_convolution_is_its_matrix() -> None:
    """Each column is what the convolution makes of one unit vector, so the weights are the taps, borders included."""
    x = RNG.normal(size=(3, 2, 4, 9, 9))
    for conv in CONVS:
        graph = line((4, 9, 9), conv)
        after, _ = run("unroll-conv", graph)
        assert kinds(after) == ["Affine", "Flatten", "Reshape"]
        np.testing.assert_allclose(snnir.interpret(after, x), snnir.interpret(graph, x), atol=1e-12)
        found = after["op0"]
        assert isinstance(found, Affine)
        assert set(np.unique(found.weight)) <= {0.0, *conv.weight.reshape(-1)}


@pytest.mark.parametrize(
    ("shape", "op", "left"),
    [
        ((2, 9), Conv1d(weight=n(3, 2, 3), bias=n(3), padding=1, stride=2), ["Affine", "Flatten", "Reshape"]),
        ((2, 4, 4), Conv2d(weight=n(3, 2, 3, 3), bias=n(3, 4, 4), padding=1), ["Affine", "Flatten", "Reshape"]),
        ((2, 4, 4), SumPool2d(kernel_size=3, stride=2, padding=1), ["Flatten", "Linear", "Reshape"]),
        ((2, 4, 4), AvgPool2d(kernel_size=2, stride=2), ["Flatten", "Linear", "Reshape"]),
        ((2, 3, 3), Upsample2d(), ["Flatten", "Linear", "Reshape"]),
        ((2, 3, 3), ConvTranspose2d(weight=n(2, 2, 2, 2), bias=np.zeros(2)), ["Flatten", "Linear", "Reshape"]),
        ((2, 3), Affine(weight=n(4, 3), bias=n(4)), ["Affine", "Flatten", "Reshape"]),
    ],
)
def test_other_linear_ops(shape: tuple[int, ...], op: Op, left: list[str]) -> None:
    graph = line(shape, op)
    after, _ = run("unroll-conv", graph)
    assert kinds(after) == left
    same(graph, after)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_concat_of_one_input_on_any_axis(axis: int) -> None:
    ops = {"in": Input(shape=(2, 3)), "one": Concat(inputs=1, axis=axis), "out": Output()}
    graph = Graph(ops, (Edge("in", "one", "in0"), Edge("one", "out")), Semantics(dt=1e-3)).verify()
    after, _ = run("unroll-conv", graph)
    same(graph, after)


def test_a_small_network_for_a_chip_without_convolutions() -> None:
    graph = line(
        (1, 4, 4),
        Conv2d(weight=n(3, 1, 3, 3), bias=n(3), padding="same"),
        LIF(tau=np.float64(5e-3), v_threshold=RNG.uniform(0.1, 0.3, (3, 1, 1))),
        AvgPool2d(kernel_size=2, stride=2),
        Flatten(start_dim=0),
        Linear(weight=n(5, 12)),
        CubaLIF(tau_syn=np.full(5, 5e-3), tau_mem=np.full(5, 5e-3), v_threshold=np.float64(0.1)),
    )
    after, _ = run("unroll-conv", graph)
    assert kinds(after) == ["Affine", "CubaLIF", "Flatten", "LIF", "Linear", "Linear"]
    assert all(len(after.shapes[name]) == 1 for name in after.ops if name != "in")
    neuron = after["op1"]
    assert isinstance(neuron, LIF)
    assert (neuron.v_threshold.shape, neuron.tau.shape) == ((48,), ())
    assert after.sources("op0") == ("op0",)
    same(graph, after, 1, steps=30)


def test_elementwise_parameters_are_broadcast_and_flattened() -> None:
    per_row = np.arange(6.0).reshape(1, 3, 2)
    graph = line(
        (2, 3, 2),
        Scale(scale=per_row),
        Delay(delay=np.array([1e-3, 2e-3])),
        Threshold(threshold=np.array([[[0.5]], [[1.0]]])),
        Conv2d(weight=n(1, 2, 1, 1), bias=n(1)),
    )
    after, _ = run("unroll-conv", graph)
    np.testing.assert_array_equal(after["op0"].scale, np.tile(np.arange(6.0), 2))  # type: ignore[attr-defined]
    assert after["op1"].delay.shape == after["op2"].threshold.shape == (12,)  # type: ignore[attr-defined]
    same(graph, after)


def test_a_single_number_becomes_a_vector_of_one() -> None:
    graph = line((), Scale(scale=np.float64(2.0)), Delay(delay=np.float64(1e-3)), Threshold(threshold=np.float64(0.5)))
    after, _ = run("unroll-conv", graph)
    assert {name: after.shapes[name] for name in ("op0", "op1", "op2")} == {"op0": (1,), "op1": (1,), "op2": (1,)}
    same(graph, after)
    flat = chain(("in", Input(shape=())), Flatten(), Output(shape=None))
    with pytest.raises(CompileError, match=r"do not name a range of axes of \[\]"):
        flat.verify()


def test_a_recurrent_convolution() -> None:
    graph = wired(
        "in>lif lif>back back>lif lif>out",
        **{"in": Input(shape=(2, 3, 3))},
        lif=LIF(tau=np.float64(5e-3), v_threshold=np.float64(0.1)),
        back=Conv2d(weight=n(2, 2, 3, 3), bias=n(2), padding=1),
        out=Output(shape=(2, 3, 3)),
    )
    after, _ = run("unroll-conv", graph)
    assert kinds(after) == ["Affine", "Flatten", "LIF", "Reshape"]
    same(graph, after, 1)


def test_what_is_too_large_or_not_linear_keeps_its_shape() -> None:
    graph = line(
        (2, 4, 4),
        Conv2d(weight=n(2, 2, 3, 3), bias=n(2), padding=1),
        LayerNorm(weight=n(4), bias=n(4)),
        LIF(tau=np.float64(5e-3), v_threshold=np.float64(0.1)),
    )
    after, log = run("unroll-conv{max_weights=1023}", graph)
    assert declined(log, "op0", "it would take 1024 weights, more than max_weights=1023")
    assert declined(log, "op1", "a LayerNorm over several axes has no dense form")
    assert kinds(after) == ["Conv2d", "Flatten", "LIF", "LayerNorm", "Reshape"]
    same(graph, after)


def test_a_flat_network_is_not_touched() -> None:
    graph = line((2, 3), Flatten(start_dim=0), Linear(weight=n(4, 6)), Reshape(shape=(4,)))
    assert run("unroll-conv", graph)[0] is graph


def test_float32_and_pools_take_the_networks_type() -> None:
    conv = Conv2d(weight=n(2, 1, 3, 3).astype(np.float32), bias=n(2).astype(np.float32))
    after, _ = run("unroll-conv", line((1, 6, 6), conv, AvgPool2d(kernel_size=2, stride=2)))
    assert {v.dtype for v in after.weights().values()} == {np.dtype(np.float32)}
