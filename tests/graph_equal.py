"""Whether two graphs are the same to the bit, and graphs with all that a file must keep."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from snnir.graph import Edge, Graph, chain
from snnir.ops import (
    LIF,
    SNN_OPS,
    Activation,
    Affine,
    BatchNorm,
    Concat,
    Constant,
    Conv2d,
    ConvTranspose2d,
    Input,
    LayerNorm,
    Loc,
    Multiply,
    Op,
    Output,
    Repeat,
    Reshape,
    Slice,
    TemporalMean,
    TokenShift,
    Transpose,
    Upsample2d,
    Wkv,
    same,
)
from snnir.semantics import Semantics
from snnir.values import identical
from tests.strategies import nir_graphs


def assert_same(got: Graph, wanted: Graph, loc: bool = True, edge_order: bool = True) -> None:
    """Fails unless both graphs have the same ops in the same order, fields, metadata, edges, semantics and origin."""
    assert list(got.ops) == list(wanted.ops)
    for name, op in wanted.ops.items():
        assert same(got[name], op), f"{name}: {got[name]} is not {op}"
        for field in op.arrays:
            array, there = getattr(op, field), getattr(got[name], field)
            assert array is None or (array.shape, array.tobytes()) == (there.shape, there.tobytes()), f"{name}.{field}"
        assert identical(got[name].metadata, op.metadata), f"{name}: {got[name].metadata} is not {op.metadata}"
        if loc:
            assert got[name].loc == op.loc
    if edge_order:
        assert got.edges == wanted.edges
    else:
        assert {n: got.incoming[n] for n in got.ops} == {n: wanted.incoming[n] for n in wanted.ops}
        assert sorted(got.edges) == sorted(wanted.edges)
    assert got.semantics == wanted.semantics
    assert dict(got.origin) == dict(wanted.origin)
    assert identical(got.metadata, wanted.metadata)


def snn_graph() -> Graph:
    """A sound graph in which every op of the snn dialect occurs."""
    rng = np.random.default_rng(5)

    def some(*shape: int) -> Any:
        return rng.normal(0.0, 1.0, shape).astype(np.float32)

    line = chain(
        ("x", Input(shape=(2, 4, 4))),
        ("repeat", Repeat(steps=3)),
        ("conv", Conv2d(weight=some(2, 2, 3, 3), bias=some(2, 4, 4), padding=1, loc=Loc("model.py", 12, "net.conv"))),
        ("bn", BatchNorm(weight=some(2), bias=some(2), mean=some(2), var=some(2) ** 2, alpha=0.5, eps=1e-6)),
        ("lif", LIF(tau=np.float64(0.02), v_threshold=np.float32(0.5))),
        ("up", Upsample2d(factor=(2, 1))),
        ("convt", ConvTranspose2d(weight=some(2, 1, 2, 2), bias=some(1), stride=(1, 2))),
        ("cut", Slice(axis=1, start=0, stop=8)),
        ("flat", Reshape(shape=(8, 8))),
        ("turn", Transpose(axes=(1, 0))),
        ("norm", LayerNorm(weight=some(8), bias=some(8))),
        ("shift", TokenShift(mix=some(8))),
        ("act", Activation(function="sigmoid")),
        ("mean", TemporalMean(steps=3)),
        ("y", Output()),
    )
    more: dict[str, Op] = {
        "k": Constant(value=some(5, 8, 8), series=True),
        "wkv": Wkv(log_decay=some(8), first=some(8)),
        "gate": Multiply(),
        "cat": Concat(inputs=2),
        "mix": Affine(weight=some(8, 8), bias=some(8)),
        "z": Output(),
    }
    edges = (
        Edge("k", "wkv", "k"),
        Edge("act", "wkv", "v"),
        Edge("wkv", "gate", "a"),
        Edge("act", "gate", "b"),
        Edge("gate", "cat", "in0"),
        Edge("shift", "cat", "in1"),
        Edge("cat", "mix"),
        Edge("mix", "z"),
    )
    ops = {**line.ops, **more}
    missing = {kind.__name__ for kind in SNN_OPS} - {op.kind for op in ops.values()}
    assert not missing, missing
    semantics = Semantics(dt=1e-3, decay="exponential", reset="subtract", spikes_per_step=None, membrane_floor=-1.5)
    return Graph(ops, (*line.edges, *edges), semantics, {"conv": ("net.conv", "net.bn")}, {"made": "by hand"}).verify()


_ODD = [
    "a.b",
    "a/b",
    "a/b/c",
    "/",
    ".",
    "..",
    "%2F",
    "a%2Fb",
    "",
    " ",
    "a b",
    'say "x"',
    "back\\slash",
    "naïve",
    "層.1",
]
_ODDER = ["line\nbreak", "\u2028", "tab\t", "0", "1_LIF", "it's", "a, b", "x = y", "<- z", "#", "nul\0", "@", "op"]
ODD_NAMES = st.one_of(st.sampled_from([*_ODD, *_ODDER]), st.text(min_size=1, max_size=8))

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.binary(max_size=6),
    st.floats(width=32).map(np.float32),
    st.integers(-128, 127).map(np.int8),
    st.booleans().map(np.bool_),
)


@st.composite
def _arrays(draw: st.DrawFn) -> Any:
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    dtype = draw(st.sampled_from(["f2", "f4", "f8", "i1", "u2", "i8", "?", "c8"]))
    if draw(st.booleans()):
        return np.full(shape, 1, dtype)
    return (rng.normal(0.0, 2.0, shape) + 3).astype(dtype)


METADATA_VALUES = st.recursive(
    st.one_of(_SCALARS, _arrays()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(ODD_NAMES, inner, max_size=3),
        st.dictionaries(st.one_of(st.integers(0, 9), st.sampled_from(["$tuple", "$array"])), inner, max_size=2),
    ),
    max_leaves=6,
)
METADATA = st.dictionaries(ODD_NAMES, METADATA_VALUES, max_size=2)
LOCS = st.one_of(st.none(), st.builds(Loc, st.text(max_size=9), st.integers(0, 999), st.text(max_size=9)))


@st.composite
def decorated(draw: st.DrawFn, graphs: st.SearchStrategy[Graph] | None = None) -> Graph:
    """A graph with odd op names, metadata, source locations, origin, and any semantics."""
    graph = draw(nir_graphs(several_io=True, max_ops=4) if graphs is None else graphs)
    wish = draw(st.lists(ODD_NAMES, min_size=len(graph), max_size=len(graph), unique=True))
    names = dict(zip(graph.ops, wish, strict=True))
    ops = {names[n]: replace(op, metadata=draw(METADATA), loc=draw(LOCS)) for n, op in graph.ops.items()}
    edges = tuple(Edge(names[e.source], names[e.target], e.port) for e in graph.edges)
    origin = draw(st.dictionaries(st.sampled_from(wish), st.lists(ODD_NAMES, max_size=2).map(tuple), max_size=2))
    semantics = graph.semantics.with_(
        dt=draw(st.one_of(st.none(), st.just(graph.semantics.dt))),
        reset=draw(st.sampled_from(["value", "subtract", "delayed-subtract"])),
        membrane_floor=draw(st.one_of(st.none(), st.floats(allow_nan=False))),
    )
    return Graph(ops, edges, semantics, origin, draw(METADATA))
