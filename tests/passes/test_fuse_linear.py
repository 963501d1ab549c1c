"""fuse-linear: exact on random graphs, borders above all; fuses where it must, and says why where it does not."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnir.graph import Graph, chain
from snnir.ops import (
    LIF,
    Affine,
    AvgPool2d,
    Conv1d,
    Conv2d,
    ConvTranspose2d,
    Delay,
    Flatten,
    Input,
    Linear,
    Op,
    Output,
    Reshape,
    Scale,
    SumPool2d,
    Upsample2d,
)
from snnir.semantics import Semantics
from tests.passes.strategies import declined, graphs, kinds, run, same, several, wired

RNG = np.random.default_rng(5)
MENU = "conv conv conv pointwise dense scale scale pool flatten reshape upsample neuron transposed".split()
BORDER = "conv conv conv pointwise pool scale".split()


def n(*shape: int) -> Any:
    return RNG.normal(size=shape)


def conv(c_in: int, c_out: int, kernel: Any, bias: bool = True, **fields: Any) -> Conv2d:
    kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
    return Conv2d(weight=n(c_out, c_in, *kernel), bias=n(c_out) if bias else np.zeros(c_out), **fields)


def line(shape: tuple[int, ...], *ops: Op) -> Graph:
    named = [(f"op{i}", op) for i, op in enumerate(ops)]
    return chain(("in", Input(shape=shape)), *named, ("out", Output()), semantics=Semantics(dt=1e-3))


def lif() -> LIF:
    return LIF(tau=np.float64(5e-3), v_threshold=np.float64(0.3))


@several
@given(graphs(MENU, branch=6), st.integers(0, 99))
def test_exact_on_random_graphs(graph: Graph, seed: int) -> None:
    same(graph, run("fuse-linear", graph)[0], seed)


@several
@given(graphs(BORDER, shapes=((2, 6, 5), (1, 7, 7), (3, 4, 4), (2, 9)), branch=8, recurrence=False), st.integers(0, 99))
def test_exact_at_borders_whatever_it_costs(graph: Graph, seed: int) -> None:
    same(graph, run("fuse-linear{max_growth=1000}", graph)[0], seed)


@several
@given(graphs(MENU, branch=8, max_ops=4), st.integers(0, 99))
def test_exact_as_dense_matrices(graph: Graph, seed: int) -> None:
    same(graph, run("fuse-linear{dense=true,max_growth=3}", graph)[0], seed)


def test_a_whole_chain_becomes_one_op() -> None:
    graph = line((6,), Affine(weight=n(8, 6), bias=n(8)), Scale(scale=n(8)), Affine(weight=n(4, 8), bias=n(4)))
    after, _ = run("fuse-linear", graph)
    assert kinds(after) == ["Affine"]
    (name,) = [x for x, op in after.ops.items() if isinstance(op, Affine)]
    assert set(after.sources(name)) == {"op0", "op1", "op2"}
    same(graph, after)


@pytest.mark.parametrize(
    ("shape", "ops", "left"),
    [
        ((3,), [Scale(scale=n(3)), Scale(scale=n(1))], ["Scale"]),
        ((3,), [Scale(scale=n(3)), Linear(weight=n(2, 3))], ["Linear"]),
        ((2, 3), [Scale(scale=n(2, 3)), Linear(weight=n(2, 4, 3))], ["Linear"]),
        ((2, 3), [Linear(weight=n(2, 4, 3)), Affine(weight=n(2, 4), bias=n(2))], ["Affine"]),
        ((2, 5, 5), [conv(2, 3, 3, padding=1), Scale(scale=n(3, 1, 1))], ["Conv2d"]),
        ((2, 5, 5), [Scale(scale=n(2, 1, 1)), conv(2, 3, 3, padding=1)], ["Conv2d"]),
        ((2, 5, 5), [conv(2, 3, 3, padding=1), AvgPool2d(kernel_size=2, stride=2), Scale(scale=n(3, 1, 1))],
         ["AvgPool2d", "Conv2d"]),
        ((2, 5, 5), [Scale(scale=n(2, 5, 5)), Flatten(start_dim=0), Affine(weight=n(4, 50), bias=n(4))],
         ["Affine", "Flatten"]),
        ((2, 4, 4), [conv(2, 1, 3), Flatten(start_dim=0), Linear(weight=n(40, 4))], ["Conv2d", "Flatten", "Linear"]),
        ((1, 3, 3), [conv(1, 8, 3, padding=1), Flatten(start_dim=0), Linear(weight=n(4, 72))], ["Affine", "Flatten"]),
        ((4, 5, 5), [conv(4, 2, 1), conv(2, 4, 3)], ["Conv2d", "Conv2d"]),  # a bottleneck is cheaper apart
        ((2, 5, 5), [conv(2, 8, 1), conv(8, 2, 3)], ["Conv2d"]),
        ((2, 5, 5), [conv(2, 4, 3, padding=1), conv(4, 3, 1)], ["Conv2d"]),
        ((4, 6), [Conv1d(weight=n(4, 4, 1), bias=n(4)), Conv1d(weight=n(3, 4, 3), bias=n(3))], ["Conv1d"]),
        ((2, 8, 8), [AvgPool2d(kernel_size=2, stride=2), AvgPool2d(kernel_size=2, stride=2)], ["AvgPool2d"]),
        ((2, 8, 8), [SumPool2d(kernel_size=2, stride=2), SumPool2d(kernel_size=(1, 2), stride=(1, 2))], ["SumPool2d"]),
        ((2, 3, 3), [Upsample2d(), Upsample2d(factor=(1, 3))], ["Upsample2d"]),
        ((2, 3, 3), [Upsample2d(), AvgPool2d(kernel_size=4, stride=2, padding=2)], ["AvgPool2d"]),
        ((4, 3, 3), [Upsample2d(), conv(4, 2, 1)], ["Conv2d", "Upsample2d"]),
        ((2, 3, 3), [ConvTranspose2d(weight=n(2, 3, 2, 2), bias=n(3), stride=2), conv(3, 2, 1)], ["ConvTranspose2d"]),
        ((2, 3, 3), [Scale(scale=n(2, 1, 1)), ConvTranspose2d(weight=n(2, 3, 2, 2), bias=n(3), stride=2)],
         ["ConvTranspose2d"]),
    ],
)  # fmt: skip
def test_it_fuses(shape: tuple[int, ...], ops: list[Op], left: list[str]) -> None:
    graph = line(shape, *ops)
    after, _ = run("fuse-linear", graph)
    assert kinds(after) == left
    same(graph, after)


def test_the_pointwise_op_runs_at_low_resolution() -> None:
    after, _ = run("fuse-linear", line((4, 3, 3), Upsample2d(factor=2), conv(4, 2, 1)))
    assert after.shapes["op1"] == (2, 3, 3)
    assert after.shapes["op0"] == (2, 6, 6)


# -- the border rule ---------------------------------------------------------------------------------------------------


def test_padding_after_a_padded_convolution_is_declined() -> None:
    graph = line((1, 6, 6), conv(1, 4, 3, padding=1), conv(4, 1, 3, padding=1))
    after, log = run("fuse-linear{max_growth=100}", graph)
    assert after is graph
    assert declined(log, "op1", "zero padding does not compose")


def test_but_has_an_exact_dense_form() -> None:
    graph = line((1, 4, 4), conv(1, 4, 3, padding=1), conv(4, 1, 3, padding=1))
    after, _ = run("fuse-linear{dense=true}", graph)
    assert kinds(after) == ["Affine", "Flatten", "Reshape"]
    same(graph, after)
    kept, log = run("fuse-linear{dense=true,max_dense=255}", graph)
    assert kept is graph
    assert declined(log, "256 weights, more than max_dense=255")


def test_padding_after_a_pointwise_convolution_needs_a_bias_map() -> None:
    graph = line((2, 5, 5), conv(2, 8, 1), conv(8, 2, 3, padding=1))
    after, _ = run("fuse-linear", graph)
    assert kinds(after) == ["Conv2d"]
    (fused,) = [op for op in after.ops.values() if isinstance(op, Conv2d)]
    assert fused.bias.shape == (2, 5, 5)
    interior = fused.bias[:, 1:-1, 1:-1]
    np.testing.assert_allclose(interior, np.broadcast_to(interior[:, :1, :1], interior.shape))
    assert not np.isclose(fused.bias[:, 0, 0], interior[:, 0, 0]).any()
    same(graph, after)
    kept, log = run("fuse-linear{bias_map=false}", graph)
    assert kept is graph
    assert declined(log, "op1", "bias map")


def test_no_bias_no_map() -> None:
    after, _ = run("fuse-linear{bias_map=false}", line((2, 5, 5), conv(2, 8, 1, bias=False), conv(8, 2, 3, padding=1)))
    (fused,) = [op for op in after.ops.values() if isinstance(op, Conv2d)]
    assert fused.bias.shape == (2,)


def test_average_pool_then_padded_convolution_is_one_strided_convolution() -> None:
    """FSDDIM's way down: where the windows tile the image, the padding of both falls on the same zeros."""
    graph = line((1, 8, 8), AvgPool2d(kernel_size=2, stride=2), conv(1, 3, 3, padding=1))
    after, _ = run("fuse-linear{max_growth=4}", graph)
    (fused,) = [op for op in after.ops.values() if isinstance(op, Conv2d)]
    assert fused.weight.shape == (3, 1, 6, 6)
    assert (fused.stride, fused.padding) == ((2, 2), (2, 2))
    same(graph, after)


def test_but_not_where_a_window_hangs_over() -> None:
    graph = line((1, 8, 8), AvgPool2d(kernel_size=3, stride=2), conv(1, 3, 3, padding=1))
    after, log = run("fuse-linear{max_growth=100}", graph)
    assert after is graph
    assert declined(log, "zero padding does not compose")


def test_every_small_pair_of_convolutions() -> None:
    """All geometries: one op or a refusal, never a wrong border. At least a third of them fuse."""
    fused = 0
    cases = list(product((1, 2, 3), (1, 2), (0, 1, 2), (1, 3), (1, 2), (0, 1, 2), (1, 2)))
    for k1, s1, p1, k2, s2, p2, d in cases:
        first = conv(2, 2, k1, stride=s1, padding=p1)
        second = conv(2, 2, k2, stride=s2, padding=p2, dilation=d)
        middle = first.infer({"input": (2, 7, 7)})
        assert middle is not None
        if middle[1] + 2 * p2 < d * (k2 - 1) + 1:
            continue
        graph = line((2, 7, 7), first, second)
        after, log = run("fuse-linear{max_growth=1000}", graph)
        assert after is not graph or declined(log, "op1", "border")
        fused += after is not graph
        same(graph, after)
    assert fused > len(cases) / 3


def test_same_padding_of_even_kernels_is_lopsided_and_still_exact() -> None:
    graph = line((1, 5, 6), conv(1, 2, (2, 4), padding="same"), conv(2, 2, 1))
    after, _ = run("fuse-linear{max_growth=2}", graph)
    assert kinds(after) == ["Conv2d"]
    same(graph, after)


# -- sums --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "a", "b", "left"),
    [
        ((3,), Linear(weight=n(2, 3)), Affine(weight=n(2, 3), bias=n(2)), ["Affine", "LIF"]),
        ((3,), Scale(scale=n(3)), Scale(scale=n(1)), ["LIF", "Scale"]),
        ((3,), Scale(scale=n(3)), Linear(weight=n(3, 3)), ["LIF", "Linear"]),
        ((2, 5, 5), conv(2, 3, 3, padding=1), conv(2, 3, 1), ["Conv2d", "LIF"]),
        ((2, 5, 5), conv(2, 2, 3, padding=1), Scale(scale=n(2, 1, 1)), ["Conv2d", "LIF"]),
        ((2, 6, 6), conv(2, 3, 3, padding=2, dilation=2), conv(2, 3, 3, padding=1), ["Conv2d", "Conv2d", "LIF"]),
        ((4, 5, 5), conv(4, 4, 3, padding=1), conv(2, 4, 3, padding=1, groups=2), ["Conv2d", "LIF"]),
        ((2, 6, 6), conv(2, 3, 2, stride=2), conv(2, 3, 2, stride=2), ["Conv2d", "LIF"]),
        ((2, 6), Conv1d(weight=n(2, 2, 3), bias=n(2), padding=1), Conv1d(weight=n(2, 2, 1), bias=n(2)),
         ["Conv1d", "LIF"]),
    ],
)  # fmt: skip
def test_parallel_paths_merge(shape: tuple[int, ...], a: Op, b: Op, left: list[str]) -> None:
    graph = wired("in>a in>b a>lif b>lif lif>out", **{"in": Input(shape=shape)}, a=a, b=b, lif=lif(), out=Output())
    after, _ = run("fuse-linear", graph)
    assert kinds(after) == left
    same(graph, after)
    same(graph, run("fuse-linear{max_growth=50}", graph)[0])


def test_a_sum_in_front_of_a_weight_fuses_one_by_one_with_the_bias_once() -> None:
    graph = wired(
        "x>a y>b a>w b>w w>out",
        x=Input(shape=(3,)),
        y=Input(shape=(3,)),
        a=Affine(weight=n(8, 3), bias=n(8)),
        b=Affine(weight=n(8, 3), bias=n(8)),
        w=Affine(weight=n(2, 8), bias=n(2)),
        out=Output(),
    )
    after, _ = run("fuse-linear", graph)
    assert kinds(after) == ["Affine", "Affine"]
    same(graph, after)


# -- what must stay ----------------------------------------------------------------------------------------------------


def test_an_op_with_several_readers_stays() -> None:
    graph = wired(
        "in>a a>b a>lif b>lif2 lif>out lif2>out",
        **{"in": Input(shape=(3,))},
        a=Affine(weight=n(3, 3), bias=n(3)),
        b=Linear(weight=n(3, 3)),
        lif=lif(),
        lif2=lif(),
        out=Output(),
    )
    after, log = run("fuse-linear", graph)
    assert after is graph
    assert declined(log, "b:", "a is read by b, lif")


def test_a_neuron_among_the_feeders_keeps_the_weight() -> None:
    graph = wired(
        "in>a in>lif a>b lif>b b>out",
        **{"in": Input(shape=(3,))},
        a=Affine(weight=n(3, 3), bias=n(3)),
        lif=lif(),
        b=Linear(weight=n(3, 3)),
        out=Output(),
    )
    after, log = run("fuse-linear", graph)
    assert after is graph
    assert declined(log, "b:", "lif feeds it too")


@pytest.mark.parametrize("between", [lif(), Delay(delay=np.float64(1e-4))])
def test_state_between_ends_a_chain(between: Op) -> None:
    graph = line((3,), Linear(weight=n(3, 3)), between, Linear(weight=n(3, 3)))
    assert run("fuse-linear", graph)[0] is graph


def test_growth_is_refused_with_the_price() -> None:
    graph = line((16,), Linear(weight=n(2, 16)), Linear(weight=n(16, 2)))
    after, log = run("fuse-linear", graph)
    assert after is graph
    assert declined(log, "256 weights", "instead of 64 weights", "max_growth=4 would allow it")
    assert kinds(run("fuse-linear{max_growth=4}", graph)[0]) == ["Linear"]


def test_a_factor_within_a_channel_is_no_convolution() -> None:
    graph = line((2, 4, 4), conv(2, 2, 3, padding=1), Scale(scale=n(1, 4, 4)))
    after, log = run("fuse-linear", graph)
    assert after is graph
    assert declined(log, "op1", "within a channel")


def test_a_loop_fuses_where_no_delay_moves() -> None:
    graph = wired(
        "in>lif lif>a a>b b>lif lif>out",
        **{"in": Input(shape=(3,))},
        lif=lif(),
        a=Affine(weight=n(3, 3), bias=n(3)),
        b=Scale(scale=n(3)),
        out=Output(),
    )
    after, _ = run("fuse-linear", graph)
    assert kinds(after) == ["Affine", "LIF"]
    same(graph, after, 1)


def test_and_is_left_alone_where_one_would() -> None:
    """`scale` is where the loop enters, so what comes back to it is a step late, and `watch` sees that."""
    graph = wired(
        "in>first first>scale scale>lif lif>back back>scale scale>watch watch>out lif>out",
        **{"in": Input(shape=(3,))},
        first=Affine(weight=n(3, 3), bias=n(3)),
        scale=Scale(scale=n(3)),
        lif=lif(),
        back=Affine(weight=n(3, 3), bias=n(3)),
        watch=lif(),
        out=Output(),
    )
    after, log = run("fuse-linear", graph)
    assert any(e.kind == "declined" for e in log)
    same(graph, after, 1)


def test_shared_arrays_do_not_share_their_fate() -> None:
    weight = n(3, 3)
    graph = wired(
        "in>a in>b a>s s>out b>out2",
        **{"in": Input(shape=(3,))},
        a=Linear(weight=weight),
        b=Linear(weight=weight),
        s=Scale(scale=np.full(3, 2.0)),
        out=Output(),
        out2=Output(),
    )
    after, _ = run("fuse-linear", graph)
    np.testing.assert_array_equal(after["b"].weight, weight)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(after["a"].weight, 2 * weight)  # type: ignore[attr-defined]


def test_a_scale_passes_reshapes_in_both_directions() -> None:
    graph = line((12,), Linear(weight=n(12, 12)), Reshape(shape=(3, 2, 2)), Scale(scale=n(3, 2, 2)), lif())
    after, _ = run("fuse-linear", graph)
    assert kinds(after) == ["LIF", "Linear", "Reshape"]
    same(graph, after)
