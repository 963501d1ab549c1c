"""Chains of convolutions, pools and the like as one convolution: exactly, or not at all and with a reason."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest

from snnir.graph import Graph, chain
from snnir.kernels import Geometry, NoKernel, identity, kernel_of, plus, then
from snnir.ops import (
    LIF,
    AvgPool2d,
    Concat,
    Conv1d,
    Conv2d,
    ConvTranspose2d,
    Delay,
    Flatten,
    Input,
    Linear,
    Neuron,
    Op,
    Output,
    Reshape,
    Scale,
    Shape,
    Slice,
    SumPool2d,
    Transpose,
    Upsample2d,
)
from snnir.projections import Projection, Reading, read_network
from snnir.semantics import Semantics
from tests.backends.xylo_nets import wired

ONE = np.ones(())
CELL = LIF(tau=5e-3 * ONE, r=ONE, v_threshold=ONE)
SEMANTICS = Semantics(dt=1e-3)


def reading(kernels: Any, **more: Any) -> Reading:
    return Reading("test", neurons=(Neuron,), kernels=kernels, **more)


def conv(
    rng: np.random.Generator, out: int, into: int, kernel: tuple[int, int], groups: int = 1, **more: Any
) -> Conv2d:
    weight = rng.normal(size=(out, into // groups, *kernel))
    return Conv2d(weight=weight, bias=rng.normal(size=out), groups=groups, **more)


def some_op(rng: np.random.Generator, shape: Shape) -> Op:
    """Any op that has a kernel, on an image of this shape."""
    c = shape[0]
    groups = int(rng.choice([n for n in range(1, c + 1) if c % n == 0]))
    kernel, stride, dilation = (tuple(rng.integers(1, n, 2).tolist()) for n in (4, 4, 3))
    padding = tuple(rng.integers(0, 3, 2).tolist())
    kind = rng.choice(["conv", "conv", "same", "pool", "mean", "up", "transposed", "scale"])
    if kind == "conv":
        out = groups * int(rng.integers(1, 3))
        return conv(rng, out, c, kernel, groups, stride=stride, padding=padding, dilation=dilation)
    if kind == "same":
        return conv(rng, 2, c, kernel, padding="same", dilation=dilation)
    if kind in ("pool", "mean"):
        pool = SumPool2d if kind == "pool" else AvgPool2d
        return pool(
            kernel_size=kernel, stride=stride, padding=tuple(np.minimum(padding, np.array(kernel) // 2).tolist())
        )
    if kind == "up":
        return Upsample2d(factor=tuple(rng.integers(1, 4, 2).tolist()))
    if kind == "scale":
        return Scale(scale=rng.normal(size=(c, 1, 1)))
    out = int(rng.integers(1, 3))
    weight = rng.normal(size=(c, out, *kernel))
    return ConvTranspose2d(
        weight=weight, bias=np.zeros(out * groups), stride=stride, padding=padding, dilation=dilation, groups=groups
    )


def some_chain(rng: np.random.Generator) -> Graph | None:
    shape: Shape = (int(rng.integers(1, 5)), *rng.integers(3, 10, 2).tolist())
    ops: list[tuple[str, Op]] = [("in", Input(shape=shape))]
    for i in range(int(rng.integers(1, 4))):
        op = some_op(rng, shape)
        try:
            found = op.infer({"input": shape})
        except ValueError:
            continue
        if found is not None and 1 <= min(found) and prod(found) < 2000 and not list(op.verify()):
            shape = found
            ops.append((f"op{i}", op))
    return chain(*ops, ("n", CELL), ("out", Output()), semantics=SEMANTICS) if len(ops) > 1 else None


def test_whatever_is_one_convolution_is_the_matrix_of_its_ops() -> None:
    """Random chains: where a kernel is found, unrolled it is the matrix that unit vectors through the ops give."""
    rng = np.random.default_rng(0)
    kinds: set[tuple[bool, bool, bool]] = set()
    found = refused = 0
    while found < 120:
        graph = some_chain(rng)
        if graph is None:
            continue
        (wanted,) = [p.weight for p in read_network(graph, reading("matrix")).into("n")] or [np.zeros(())]
        for p in read_network(graph, reading("conv")).into("n"):
            if p.kernel is None:
                refused += 1
                np.testing.assert_array_equal(p.weight, wanted)
                assert "of op" in p.why
                continue
            geometry, weight = p.kernel.lowered()
            np.testing.assert_allclose(geometry.matrix(weight), wanted * np.ones((1, 1)), atol=1e-9)
            found += 1
            kinds.add((geometry.groups > 1, geometry.phases != (1, 1), max(geometry.dilation) > 1))
    assert refused > 20
    assert len(kinds) >= 6


def only(graph: Graph, target: str = "n") -> Geometry:
    (p,) = read_network(graph, reading("conv")).into(target)
    assert p.kernel is not None, p.why
    return p.kernel.lowered()[0]


def of(*ops: Op, shape: Shape) -> Graph:
    named = [(f"op{i}", op) for i, op in enumerate(ops)]
    return chain(("in", Input(shape=shape)), *named, ("n", CELL), ("out", Output()), semantics=SEMANTICS)


def test_what_becomes_of_ops_one_after_the_other() -> None:
    rng = np.random.default_rng(1)
    pool = AvgPool2d(kernel_size=(2, 2), stride=(2, 2))
    pooled = only(of(pool, conv(rng, 5, 3, (1, 1)), shape=(3, 6, 8)))
    assert (pooled.stride, pooled.padding, pooled.phases) == ((2, 2), (0, 0), (1, 1))
    padded = only(of(pool, conv(rng, 5, 3, (3, 3), padding=(1, 1)), shape=(3, 6, 8)))
    assert (padded.stride, padded.padding) == ((2, 2), (2, 2))
    upsampled = only(of(Upsample2d(), conv(rng, 4, 3, (3, 3), padding=(1, 1)), shape=(3, 5, 4)))
    assert (upsampled.stride, upsampled.phases, upsampled.target) == ((1, 1), (2, 2), (4, 10, 8))
    undone = only(of(Upsample2d(), pool, shape=(3, 5, 4)))
    assert (undone.phases, undone.stride, undone.groups) == ((1, 1), (1, 1), 3)
    strided = only(
        of(conv(rng, 4, 2, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(2, 3), groups=2), shape=(2, 9, 8))
    )
    assert strided == Geometry((2, 9, 8), (4, 4, 5), (2, 1), (1, 0), (2, 3), 2, (1, 1))
    row = only(of(Conv1d(weight=rng.normal(size=(3, 2, 4)), bias=np.zeros(3), stride=2, padding=1), shape=(2, 9)))
    assert (row.source, row.target, row.stride, row.padding) == ((2, 1, 9), (3, 1, 4), (1, 2), (0, 1))


@pytest.mark.parametrize(("channels", "groups"), [(127, 127), (128, 64), (130, 65), (131, 1)])
def test_more_groups_than_chips_hold_are_written_as_fewer(channels: int, groups: int) -> None:
    graph = of(SumPool2d(kernel_size=(1, 2), stride=(1, 2)), shape=(channels, 1, 2))
    (p,) = read_network(graph, reading("conv")).into("n")
    assert p.kernel is not None
    geometry, weight = p.kernel.lowered()
    assert geometry.groups == groups
    np.testing.assert_array_equal(geometry.matrix(weight), np.repeat(np.eye(channels), 2, axis=0))


@pytest.mark.parametrize(
    ("ops", "why"),
    [
        ([conv(np.random.default_rng(0), 2, 2, (3, 3), padding=(1, 1))] * 2, "of op1 (Conv2d), one is padded"),
        (
            [AvgPool2d(kernel_size=(2, 2), stride=(2, 2)), conv(np.random.default_rng(0), 2, 2, (3, 3), padding=1)],
            "padded",
        ),
        ([Scale(scale=np.arange(70.0).reshape(2, 5, 7))], "of op0 (Scale), its factors differ from place to place"),
        ([Transpose(axes=(0, 2, 1))], "Transpose is no convolution"),
        ([Flatten(), Linear(weight=np.ones((3, 70)))], "of op1 (Linear), Linear is no convolution"),
        ([Delay(delay=np.arange(70).reshape(2, 5, 7) * 1e-3)], "op0 delays some of it longer than the rest"),
        ([Slice(axis=1, start=1, stop=3)], "it cuts the image, not its channels"),
        ([Upsample2d(factor=(3, 3)), conv(np.random.default_rng(0), 1, 2, (2, 2))], "it repeats every 3 pixels"),
        ([Scale(scale=2 * ONE), Reshape(shape=(7, 5, 2)), SumPool2d(kernel_size=(1, 1), stride=(1, 1))], "is reshaped"),
    ],
)
def test_what_is_no_convolution_says_why(ops: list[Op], why: str) -> None:
    (p,) = read_network(of(*ops, shape=(2, 5, 7)), reading("conv")).into("n")[:1]
    assert p.kernel is None
    assert why in p.why


def test_ways_between_the_same_populations_add_up() -> None:
    """A residual, and two parts of a concatenation: one kernel where strides agree."""
    rng = np.random.default_rng(2)
    ops = {"in": Input(shape=(2, 4, 6)), "a": conv(rng, 2, 2, (3, 3), padding=(1, 1)), "n": CELL, "out": Output()}
    graph = wired(ops, "in > a > n > out", "in > n", semantics=SEMANTICS)
    (matrix,) = read_network(graph, reading("matrix")).into("n")
    (p,) = read_network(graph, reading("conv")).into("n")
    assert p.kernel is not None
    geometry, weight = p.kernel.lowered()
    np.testing.assert_allclose(geometry.matrix(weight), matrix.weight, atol=1e-12)


def test_channels_of_a_concatenation_are_kernels_of_their_own() -> None:
    from snnir.graph import Edge

    rng = np.random.default_rng(3)
    ops = {"x": Input(shape=(2, 4, 6)), "y": Input(shape=(3, 4, 6)), "both": Concat(inputs=2)}
    ops |= {"c": conv(rng, 4, 5, (3, 3), padding=(1, 1)), "n": CELL, "out": Output()}
    edges = [
        ("x", "both", "in0"),
        ("y", "both", "in1"),
        ("both", "c", "input"),
        ("c", "n", "input"),
        ("n", "out", "input"),
    ]
    graph = Graph(ops, tuple(Edge(*edge) for edge in edges), SEMANTICS)
    wanted = {p.source: p.weight for p in read_network(graph, reading("matrix")).into("n")}
    for p in read_network(graph, reading("conv")).into("n"):
        assert p.kernel is not None
        geometry, weight = p.kernel.lowered()
        np.testing.assert_allclose(geometry.matrix(weight), wanted[p.source], atol=1e-12)
        assert geometry.source == ops[p.source].shape  # type: ignore[attr-defined]


def test_matrices_where_they_are_small_and_kernels_where_they_are_not() -> None:
    rng = np.random.default_rng(4)
    graph = of(conv(rng, 3, 2, (3, 3)), shape=(2, 8, 8))
    assert [p.kernel is None for p in read_network(graph, reading("auto")).into("n")] == [True]
    assert [p.kernel is None for p in read_network(graph, reading("auto", largest=5000)).into("n")] == [False]
    stacked = of(conv(rng, 2, 2, (3, 3), padding=1), conv(rng, 3, 2, (3, 3), padding=1), shape=(2, 8, 8))
    network = read_network(stacked, reading("auto", largest=5000, room="5000"))
    assert not network.into("n")
    (fault,) = network.faults
    assert fault.rule == "test-size"
    assert "from in it is reached by a matrix of 24576 weights, since of op1 (Conv2d), one is padded" in fault.what


def test_a_kernel_that_is_wrong_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are held to the ops themselves: a fault in how they are composed makes matrices, not wrong networks."""
    import snnir.projections as projections

    def wrong(*arguments: Any) -> Any:
        found = kernels_from(*arguments)
        return {key: [k.scaled(np.full(k.target[0], 1.001)) for k in kernels] for key, kernels in found.items()}

    kernels_from = projections.kernels_from
    graph = of(conv(np.random.default_rng(5), 3, 2, (3, 3)), shape=(2, 8, 8))
    monkeypatch.setattr(projections, "kernels_from", wrong)
    (p,) = read_network(graph, reading("conv")).into("n")
    assert p.kernel is None
    assert "run on random images" in p.why


def test_kernels_of_different_images_do_not_compose() -> None:
    one, other = identity((2, 3, 4)), identity((3, 2, 4))
    with pytest.raises(NoKernel, match="reshaped"):
        then(one, other)
    assert (
        plus(one, kernel_of(SumPool2d(kernel_size=(1, 1), stride=(2, 2)), "input", {"input": (2, 3, 4)}, (2, 2, 2)))
        is None
    )
    assert isinstance(Projection("a", "b", 0, np.zeros((0, 0)), one).kernel, type(one))
