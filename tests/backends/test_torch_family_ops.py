"""Every op of the snn dialect, and the corners of NIR's, in emitted models against the interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnir import ops
from snnir.graph import Edge, Graph, chain
from snnir.semantics import Semantics
from tests.backends.family import FAMILY, same_everywhere
from tests.passes.strategies import BUILDERS, graphs

pytestmark = pytest.mark.oracle
RNG = np.random.default_rng(7)
DT = Semantics(dt=1e-3)


def normal(*shape: int) -> Any:
    return RNG.normal(0.2, 1.0, shape)


IMAGE, TOKENS, VECTOR = (4, 6, 5), (5, 3), (6,)
STATELESS: dict[str, tuple[tuple[int, ...], ops.Op]] = {
    "batch norm": (
        IMAGE,
        ops.BatchNorm(weight=normal(4), bias=normal(4), mean=normal(4), var=RNG.uniform(0.5, 2, 4)),
    ),
    "tdBN": (
        IMAGE,
        ops.BatchNorm(weight=normal(4), bias=normal(4), mean=normal(4), var=np.ones(4), alpha=0.7, v_th=0.5, eps=1e-3),
    ),
    "batch norm of vectors": (
        VECTOR,
        ops.BatchNorm(weight=normal(6), bias=normal(6), mean=normal(6), var=np.ones(6)),
    ),
    "upsample": (IMAGE, ops.Upsample2d(factor=(3, 2))),
    "transposed convolution": (
        IMAGE,
        ops.ConvTranspose2d(weight=normal(4, 3, 3, 2), bias=normal(3), stride=(2, 1), padding=1, output_padding=(1, 0)),
    ),
    "transposed, grouped, dilated": (
        IMAGE,
        ops.ConvTranspose2d(weight=normal(4, 1, 2, 2), bias=normal(2), groups=2, dilation=2),
    ),
    "reshape": (IMAGE, ops.Reshape(shape=(8, 15))),
    "transpose": (IMAGE, ops.Transpose(axes=(2, 0, 1))),
    "slice": (IMAGE, ops.Slice(axis=0, start=1, stop=4, step=2)),
    "slice of a middle axis": (IMAGE, ops.Slice(axis=-2, start=0, stop=5, step=3)),
    "layer norm": (TOKENS, ops.LayerNorm(weight=normal(3), bias=normal(3), eps=1e-3)),
    "layer norm over two axes": (TOKENS, ops.LayerNorm(weight=normal(5, 3), bias=normal(5, 3))),
    "token shift": (TOKENS, ops.TokenShift(mix=RNG.uniform(0, 1, 3))),
    "token shift, one mix": (TOKENS, ops.TokenShift(mix=np.float64(0.3))),
    **{f"activation {f}": (VECTOR, ops.Activation(function=f)) for f in ops.Activation.KINDS},
    "flatten of inner axes": (IMAGE, ops.Flatten(start_dim=1, end_dim=2)),
    "flatten of one axis": (IMAGE, ops.Flatten(start_dim=1, end_dim=1)),
    "convolution with a bias map": (
        IMAGE,
        ops.Conv2d(weight=normal(4, 2, 3, 3), bias=normal(4, 6, 5), padding=1, groups=2),
    ),
    "convolution 1d with a bias map": ((4, 9), ops.Conv1d(weight=normal(3, 4, 3), bias=normal(3, 4), stride=2)),
    "even kernel, same padding": (IMAGE, ops.Conv2d(weight=normal(2, 4, 4, 2), bias=normal(2), padding="same")),
    "batched linear": (TOKENS, ops.Linear(weight=normal(5, 2, 3))),
    "batched affine": (TOKENS, ops.Affine(weight=normal(5, 2, 3), bias=normal(5, 2))),
    "affine with a bias map": (TOKENS, ops.Affine(weight=normal(2, 3), bias=normal(5, 2))),
    "linear over tokens": (TOKENS, ops.Linear(weight=normal(2, 3))),
    "pool with more padding than PyTorch takes": (
        IMAGE,
        ops.AvgPool2d(kernel_size=(2, 2), stride=(2, 2), padding=(2, 0)),
    ),
    "sum pool": (IMAGE, ops.SumPool2d(kernel_size=(3, 2), stride=(1, 2), padding=(1, 1))),
    "delay per element": (VECTOR, ops.Delay(delay=np.array([0, 1, 2, 3, 20, 0]) * 1e-3)),
    "one delay for all": (IMAGE, ops.Delay(delay=np.float64(2e-3))),
    "integer weights": (VECTOR, ops.Linear(weight=RNG.integers(-3, 4, (4, 6)).astype(np.int8))),
}


@pytest.mark.parametrize("target", FAMILY)
@pytest.mark.parametrize("name", STATELESS)
def test_op(name: str, target: str) -> None:
    shape, op = STATELESS[name]
    lif = ops.LIF(tau=np.float64(4e-3), r=4.0, v_threshold=np.float64(0.6))
    # Real values in, and spikes: both as they come after a neuron.
    graph = chain(ops.Input(shape=shape), op, lif, ops.Output(), semantics=DT)
    same_everywhere(graph, target)
    spiking = chain(ops.Input(shape=shape), lif, op, ops.Output(), semantics=DT)
    assert same_everywhere(spiking, target) > 5


def joined(op: ops.Op, ports: tuple[str, ...], shapes: tuple[tuple[int, ...], ...]) -> Graph:
    lif = ops.LIF(tau=np.float64(4e-3), r=4.0, v_threshold=np.float64(0.6))
    inputs = {f"in.{port}": ops.Input(shape=shape) for port, shape in zip(ports, shapes, strict=True)}
    edges = [Edge(f"in.{port}", "op", port) for port in ports]
    return Graph(
        {**inputs, "op": op, "lif": lif, "output": ops.Output()},
        (*edges, Edge("op", "lif"), Edge("lif", "output")),
        DT,
    )


@pytest.mark.parametrize("target", FAMILY)
def test_ops_of_several_inputs(target: str) -> None:
    same_everywhere(joined(ops.Concat(inputs=3), ("in0", "in1", "in2"), ((2, 3), (1, 3), (4, 3))), target)
    same_everywhere(joined(ops.Concat(inputs=2, axis=1), ("in0", "in1"), ((2, 3), (2, 1))), target)
    same_everywhere(joined(ops.Multiply(), ("a", "b"), ((4, 5), (4, 1))), target)
    wkv = ops.Wkv(log_decay=RNG.uniform(-3, 1, 3), first=normal(3))
    same_everywhere(joined(wkv, ("k", "v"), ((7, 3), (7, 3))), target)


@pytest.mark.parametrize("target", FAMILY)
def test_constants_and_changing_numbers_of_steps(target: str) -> None:
    series = ops.Constant(value=normal(5, 3), series=True)
    graph = Graph(
        {
            "input": ops.Input(shape=(3,)),
            "repeat": ops.Repeat(steps=4),
            "series": series,
            "level": ops.Constant(value=np.full(3, 0.25)),
            "scalar_gain": ops.Scale(scale=np.float64(0.5)),
            "lif": ops.LIF(tau=np.float64(4e-3), r=4.0, v_threshold=np.float64(0.6)),
            "mean": ops.TemporalMean(steps=2),
            "output": ops.Output(shape=(3,)),
        },
        (
            Edge("input", "repeat"),
            Edge("repeat", "lif"),
            Edge("series", "scalar_gain"),
            Edge("scalar_gain", "lif"),
            Edge("level", "lif"),
            Edge("lif", "mean"),
            Edge("mean", "output"),
        ),
        DT,
    ).verify()
    assert same_everywhere(graph, target, steps=6) > 20


@pytest.mark.parametrize("target", FAMILY)
def test_a_time_constant_below_the_step(target: str) -> None:
    """Euler's decay is then negative; snnTorch would clamp it."""
    lif = ops.LIF(tau=np.array([0.7e-3, 2e-3, 0.6e-3]), r=1.0, v_threshold=np.float64(0.8))
    cuba = ops.CubaLIF(tau_syn=np.float64(0.8e-3), tau_mem=np.float64(3e-3), r=3.0, v_threshold=np.float64(0.8))
    li = ops.LI(tau=np.float64(0.9e-3))
    for neuron in (lif, cuba, li):
        graph = chain(ops.Input(shape=(3,)), neuron, ops.Output(), semantics=DT)
        assert same_everywhere(graph, target, steps=30) > (5 if neuron.spiking else -1)


@pytest.mark.parametrize("target", FAMILY)
def test_membranes_that_reset_above_their_threshold(target: str) -> None:
    """Where snnTorch's own reset would fire twice or never: high resets, high starts, inputs of many thresholds."""
    high = ops.LIF(tau=np.float64(5e-3), r=5.0, v_threshold=np.float64(0.2), v_reset=np.float64(0.5))
    leaky = ops.LIF(tau=np.float64(5e-3), r=5.0, v_threshold=np.float64(0.2), v_leak=np.float64(0.5))
    negative = ops.LIF(tau=np.float64(5e-3), r=5.0, v_threshold=np.float64(-0.1), v_reset=np.float64(-0.6))
    below = ops.IF(r=500.0, v_threshold=np.float64(-0.1), v_reset=np.float64(0.0))
    for neuron in (high, leaky, negative, below):
        for reset in ("value", "subtract"):
            semantics = DT.with_(reset=reset)
            scale = ops.Scale(scale=np.float64(3.0))
            graph = chain(ops.Input(shape=(4,)), scale, neuron, ops.Output(), semantics=semantics)
            assert same_everywhere(graph, target, steps=30) > 5


@pytest.mark.parametrize("target", FAMILY)
@settings(max_examples=40)
@given(graph=graphs(sorted(BUILDERS), max_ops=9), seed=st.integers(0, 1000))
def test_random_graphs_of_both_dialects(target: str, graph: Graph, seed: int) -> None:
    same_everywhere(graph, target, seed=seed)
