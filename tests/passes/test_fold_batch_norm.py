"""fold-batch-norm: exact on random graphs; folds where it must, and says why where it does not."""

from __future__ import annotations

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
    BatchNorm,
    Conv1d,
    Conv2d,
    ConvTranspose2d,
    Input,
    Linear,
    Output,
    Reshape,
    SumPool2d,
    Upsample2d,
)
from tests.passes.strategies import declined, graphs, kinds, run, same, several, wired

RNG = np.random.default_rng(3)
MENU = (
    "norm norm norm norm conv dense scale pool upsample reshape flatten neuron concat transposed constant transpose"
    " slice delay shift"
).split()


def n(*shape: int) -> Any:
    return RNG.normal(size=shape)


def norm(channels: int, **fields: Any) -> BatchNorm:
    var = RNG.random(channels) + 0.1
    return BatchNorm(weight=n(channels), bias=n(channels), mean=n(channels), var=var, **fields)


def lif(threshold: float = 0.3) -> LIF:
    return LIF(tau=np.float64(5e-3), v_threshold=np.float64(threshold))


@several
@given(graphs(MENU), st.integers(0, 99))
def test_exact_on_random_graphs(graph: Graph, seed: int) -> None:
    after, log = run("fold-batch-norm", graph)
    assert "BatchNorm" not in kinds(after) or declined(log, "would arrive")
    same(graph, after, seed)


@several
@given(graphs(MENU), st.integers(0, 99))
def test_exact_with_copies(graph: Graph, seed: int) -> None:
    after, _ = run("fold-batch-norm{copy=true}", graph)
    same(graph, after, seed)


def test_the_algebra_of_tdbn() -> None:
    """gamma * alpha * v_th scales, beta does not (Zheng et al., AAAI 2021, eq. 8)."""
    bn, conv = norm(2, alpha=0.5, v_th=0.7), Conv2d(weight=n(2, 3, 3, 3), bias=n(2), padding=1)
    graph = chain(("in", Input(shape=(3, 5, 5))), ("conv", conv), ("bn", bn), ("out", Output()))
    after, _ = run("fold-batch-norm", graph)
    g = bn.weight * 0.5 * 0.7 / np.sqrt(bn.var + bn.eps)
    np.testing.assert_allclose(after["conv"].weight, conv.weight * g[:, None, None, None])  # type: ignore[attr-defined]
    np.testing.assert_allclose(after["conv"].bias, g * (conv.bias - bn.mean) + bn.bias)  # type: ignore[attr-defined]
    assert after.sources("conv") == ("conv", "bn")


def test_all_feeders_of_a_residual_block() -> None:
    """FSDDIM: conv and time projection are summed, then normalised; the shortcut has a batch norm of its own."""
    graph = wired(
        "x>conv conv>bn t>time time>cast cast>spread spread>bn bn>lif x>short short>lif lif>out",
        x=Input(shape=(3, 6, 6)),
        t=Input(shape=(5,)),
        conv=Conv2d(weight=n(3, 3, 3, 3), bias=n(3), padding=1),
        time=Linear(weight=n(3, 5)),
        cast=Reshape(shape=(3, 1, 1)),
        spread=Upsample2d(factor=(6, 6)),
        bn=norm(3, alpha=0.7),
        short=norm(3, alpha=0.7),
        lif=lif(),
        out=Output(),
    )
    after, log = run("fold-batch-norm", graph)
    assert kinds(after) == ["Conv2d", "Conv2d", "LIF", "Linear", "Reshape", "Upsample2d"]
    assert declined(log, "short", "x (Input) feeds it, which has no weights")
    short = after["short"]
    assert isinstance(short, Conv2d)
    assert (short.groups, short.weight.shape) == (3, (3, 1, 1, 1))
    same(graph, after)


@pytest.mark.parametrize(
    ("feeder", "shape"),
    [
        (Affine(weight=n(4, 6), bias=n(4)), (6,)),
        (Linear(weight=n(4, 6)), (6,)),
        (Affine(weight=n(3, 2, 6), bias=n(2)), (3, 6)),
        (Conv1d(weight=n(4, 3, 2), bias=n(4), stride=2, padding=1), (3, 6)),
        (Conv2d(weight=n(4, 1, 3, 3), bias=n(4, 6, 6), groups=2, padding="same"), (2, 6, 6)),
        (ConvTranspose2d(weight=n(4, 2, 2, 3), bias=n(4), stride=2, groups=2), (4, 3, 3)),
    ],
)
def test_every_weight_takes_it(feeder: Any, shape: tuple[int, ...]) -> None:
    channels = feeder.infer({"input": shape})[0]
    graph = chain(("in", Input(shape=shape)), ("w", feeder), ("bn", norm(channels)), ("out", Output()))
    after, _ = run("fold-batch-norm", graph)
    assert len(kinds(after)) == 1
    same(graph, after, 1)


def test_pools_hand_it_on_but_padding_keeps_the_offset() -> None:
    conv = Conv2d(weight=n(2, 2, 3, 3), bias=n(2), padding=1)
    for pool in (AvgPool2d(kernel_size=2, stride=2), SumPool2d(kernel_size=3, stride=1)):
        graph = chain(
            ("in", Input(shape=(2, 6, 6))), ("conv", conv), ("pool", pool), ("bn", norm(2)), ("out", Output())
        )
        after, _ = run("fold-batch-norm", graph)
        assert kinds(after) == sorted(["Conv2d", pool.kind])
        same(graph, after)
    padded = AvgPool2d(kernel_size=2, stride=2, padding=1)
    graph = chain(("in", Input(shape=(2, 6, 6))), ("conv", conv), ("pool", padded), ("bn", norm(2)), ("out", Output()))
    after, log = run("fold-batch-norm", graph)
    assert declined(log, "bn", "none of its feeders (pool) has a bias to take the offset")
    assert kinds(after) == ["AvgPool2d", "Conv2d", "Conv2d"]
    same(graph, after)


def shared() -> Graph:
    return wired(
        "in>conv conv>bn bn>lif conv>other lif>out other>out",
        **{"in": Input(shape=(2, 4, 4))},
        conv=Conv2d(weight=n(2, 2, 3, 3), bias=n(2), padding=1),
        bn=norm(2),
        lif=lif(),
        other=lif(0.1),
        out=Output(),
    )


def test_a_weight_with_another_reader_is_not_touched() -> None:
    graph = shared()
    after, log = run("fold-batch-norm", graph)
    assert declined(log, "bn", "conv (Conv2d) is also read by other")
    assert after["conv"] is graph["conv"]
    assert isinstance(after["bn"], Conv2d)
    same(graph, after)


def test_unless_a_copy_is_asked_for() -> None:
    graph = shared()
    after, _ = run("fold-batch-norm{copy=true}", graph)
    assert after["conv"] is graph["conv"]
    assert sorted(name for name, op in after.ops.items() if isinstance(op, Conv2d)) == ["conv", "conv.1"]
    assert after.sources("conv.1") == ("conv", "bn")
    same(graph, after)


def test_it_may_be_told_to_leave_the_rest() -> None:
    graph = chain(("in", Input(shape=(2, 4, 4))), ("bn", norm(2)), ("out", Output()))
    after, log = run("fold-batch-norm{rewrite=false}", graph)
    assert after is graph
    assert declined(log, "bn", "in (Input)")


def test_in_a_loop_where_no_delay_moves() -> None:
    graph = wired(
        "in>lif lif>back back>bn bn>lif lif>out",
        **{"in": Input(shape=(3,))},
        lif=lif(),
        back=Affine(weight=n(3, 3), bias=n(3)),
        bn=norm(3),
        out=Output(),
    )
    after, _ = run("fold-batch-norm", graph)
    assert kinds(after) == ["Affine", "LIF"]
    same(graph, after, 1)


def test_not_in_a_loop_where_a_delay_would_move() -> None:
    """The batch norm is where the loop enters, and its sum is read in the same step outside of the loop too."""
    graph = wired(
        "in>first first>bn bn>lif lif>back back>bn bn>watch watch>out lif>out",
        **{"in": Input(shape=(3,))},
        first=Affine(weight=n(3, 3), bias=n(3)),
        bn=norm(3),
        lif=lif(),
        back=Affine(weight=n(3, 3), bias=n(3)),
        watch=lif(),
        out=Output(),
    )
    after, log = run("fold-batch-norm", graph)
    assert any(e.kind == "declined" for e in log)
    same(graph, after, 1)


def test_float32_stays_float32() -> None:
    conv = Conv2d(weight=n(2, 2, 3, 3).astype(np.float32), bias=n(2).astype(np.float32))
    graph = chain(("in", Input(shape=(2, 4, 4))), ("conv", conv), ("bn", norm(2)), ("out", Output()))
    after, _ = run("fold-batch-norm", graph)
    assert {v.dtype for v in after.weights().values()} == {np.dtype(np.float32)}
    same(graph, after, tolerance=1e-5)


def test_no_batch_norm_no_change() -> None:
    graph = chain(("in", Input(shape=(2,))), ("w", Linear(weight=n(2, 2))), ("out", Output()))
    assert run("fold-batch-norm", graph)[0] is graph
