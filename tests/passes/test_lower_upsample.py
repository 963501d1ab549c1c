"""lower-upsample: exact on random graphs and on every small geometry; no Upsample2d is left."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnir.graph import Graph, chain
from snnir.ops import LIF, Conv2d, ConvTranspose2d, Input, Linear, Output, Upsample2d
from snnir.semantics import Semantics
from tests.passes.strategies import MAPS, declined, graphs, kinds, run, same, several, wired

RNG = np.random.default_rng(17)
MENU = "upsample upsample upsample conv conv conv scale pool spiking concat0 norm pointwise transposed".split()


def n(*shape: int) -> Any:
    return RNG.normal(size=shape)


def lif() -> LIF:
    return LIF(tau=np.float64(5e-3), v_threshold=np.float64(0.3))


def up_conv(factor: Any, conv: Conv2d, shape: tuple[int, ...] = (2, 4, 3)) -> Graph:
    start = ("in", Input(shape=shape))
    return chain(start, ("up", Upsample2d(factor=factor)), ("conv", conv), ("lif", lif()), ("out", Output()),
                 semantics=Semantics(dt=1e-3))  # fmt: skip


@pytest.mark.hypothesis  # it draws within, so that it can count; `make fuzz` takes it by this
@pytest.mark.parametrize("alone", ["transpose", "shuffle"])
def test_exact_on_random_graphs(alone: str) -> None:
    @several
    @given(graphs(MENU, shapes=MAPS, max_ops=6, branch=6), st.integers(0, 99))
    def check(graph: Graph, seed: int) -> None:
        after, log = run(f"lower-upsample{{alone={alone}}}", graph)
        assert "Upsample2d" not in kinds(after) or declined(log, "would arrive")
        same(graph, after, seed)

    check()


def test_the_paper_case_needs_four_phases_of_three_by_three() -> None:
    """Nearest x2 and a padded 3x3 convolution: 4 C_out channels at low resolution, taps collapsed to 3x3."""
    graph = up_conv(2, Conv2d(weight=n(3, 2, 3, 3), bias=n(3), padding=1))
    after, _ = run("lower-upsample", graph)
    assert kinds(after) == ["Conv2d", "LIF", "Reshape", "Reshape", "Transpose"]
    conv = after["conv"]
    assert isinstance(conv, Conv2d)
    assert (conv.weight.shape, conv.padding, conv.stride) == ((12, 2, 3, 3), (1, 1), (1, 1))
    # Phase 0 of an axis never looks right of its pixel, phase 1 never left of it (diffusion-models, table 4.3).
    phases = conv.weight.reshape(3, 2, 2, 2, 3, 3)
    assert not phases[:, 0, :, :, 2].any()
    assert not phases[:, 1, :, :, 0].any()
    assert set(after.sources("conv.pixels")) == {"conv", "up"}
    same(graph, after)


def test_every_small_geometry() -> None:
    for factor, kernel, stride, padding, dilation in product(
        ((2, 1), (3, 2)), ((1, 3), (2, 4), (5, 2)), (1, 2, 3), (0, 1, 2), (1, 2)
    ):
        conv = Conv2d(weight=n(2, 2, *kernel), bias=n(2), stride=stride, padding=padding, dilation=dilation)
        size = [m * f + 2 * padding - dilation * (k - 1) for m, f, k in zip((4, 3), factor, kernel, strict=True)]
        if min(size) < 1:
            continue
        graph = up_conv(factor, conv)
        after, _ = run("lower-upsample", graph)
        assert "Upsample2d" not in kinds(after)
        same(graph, after)


def test_groups_and_bias_maps() -> None:
    for conv in (
        Conv2d(weight=n(4, 1, 3, 3), bias=n(4), padding=1, groups=2),
        Conv2d(weight=n(2, 2, 3, 3), bias=n(2, 8, 6), padding=1),
        Conv2d(weight=n(3, 2, 2, 2), bias=n(3, 7, 5)),
        Conv2d(weight=n(2, 2, 4, 4), bias=n(2), padding="same"),
    ):
        graph = up_conv(2, conv)
        same(graph, run("lower-upsample", graph)[0])


def test_a_stride_that_undoes_the_factor_needs_no_interleaving() -> None:
    graph = up_conv(2, Conv2d(weight=n(3, 2, 3, 3), bias=n(3), stride=2, padding=1))
    after, _ = run("lower-upsample", graph)
    assert kinds(after) == ["Conv2d", "LIF"]
    same(graph, after)


@pytest.mark.parametrize(("alone", "kind"), [("transpose", "ConvTranspose2d"), ("shuffle", "Conv2d")])
def test_without_a_convolution_behind_it(alone: str, kind: str) -> None:
    graph = chain(("in", Input(shape=(3, 2, 4))), ("up", Upsample2d(factor=(3, 2))), ("out", Output()))
    after, _ = run(f"lower-upsample{{alone={alone}}}", graph)
    assert kind in kinds(after)
    assert isinstance(after["up"], (ConvTranspose2d, Conv2d))
    same(graph, after)


def test_each_reader_gets_what_it_needs() -> None:
    graph = wired(
        "in>up up>conv up>lif conv>out lif>out",
        **{"in": Input(shape=(2, 3, 3))},
        up=Upsample2d(),
        conv=Conv2d(weight=n(2, 2, 3, 3), bias=n(2), padding=1),
        lif=lif(),
        out=Output(),
    )
    after, _ = run("lower-upsample", graph)
    assert after.shapes["conv"] == (8, 3, 3)
    assert isinstance(after["up"], ConvTranspose2d)
    same(graph, after)


def test_a_convolution_that_reads_more_stays_at_high_resolution() -> None:
    graph = wired(
        "in>up up>conv skip>conv conv>out",
        **{"in": Input(shape=(2, 3, 3))},
        skip=Input(shape=(2, 6, 6)),
        up=Upsample2d(),
        conv=Conv2d(weight=n(2, 2, 3, 3), bias=n(2), padding=1),
        out=Output(),
    )
    after, log = run("lower-upsample", graph)
    assert declined(log, "conv", "it also reads skip")
    assert kinds(after) == ["Conv2d", "ConvTranspose2d"]
    same(graph, after)


def test_no_upsampling_no_change() -> None:
    graph = chain(("in", Input(shape=(2,))), ("w", Linear(weight=n(2, 2))), ("out", Output()))
    assert run("lower-upsample", graph)[0] is graph
