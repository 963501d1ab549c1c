"""Nested NIR graphs dissolve exactly: no value is lost, doubled or renamed at a subgraph's boundary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

from snnir.errors import CompileError
from snnir.graph import Edge, Graph
from snnir.interpreter import interpret
from snnir.nir_io import from_nir, read, write
from snnir.ops import Input, Linear, Op, Output, Scale
from snnir.semantics import NIR_SEMANTICS

RNG = np.random.default_rng(0)


def ports(n: int = 3, m: int | None = None) -> dict[str, Any]:
    return {"input": nir.Input(np.array([n])), "output": nir.Output(np.array([n if m is None else m]))}


def weight(n: int = 3, m: int = 3) -> Any:
    return RNG.normal(0.5, 1.0, (m, n)).astype(np.float32)


def lif(n: int = 3) -> Any:
    return nir.LIF(*(np.full(n, v, np.float32) for v in (0.01, 10.0, 0.0, 1.0)))


def sub(nodes: dict[str, Any], edges: list[tuple[str, str]], **more: Any) -> Any:
    return nir.NIRGraph({**ports(), **nodes}, edges, type_check=False, **more)


def run(graph: Graph, T: int = 12) -> Any:
    x = np.random.default_rng(1).normal(0.4, 1.0, (T, 2, 3))
    return interpret(graph, x, semantics=NIR_SEMANTICS.with_(dt=1e-3))


def both_ways(live: Any, folder: Path) -> tuple[Graph, Graph]:
    """The graph as a live object gives it, and as its file does (in which nir has sorted the nodes)."""
    nir.write(folder / "nested.nir", live)
    return from_nir(live), read(folder / "nested.nir")


def test_a_block_becomes_part_of_the_graph(tmp_path: Path) -> None:
    w, v = weight(), weight()
    block = sub({"fc": nir.Linear(w), "lif": lif()}, [("input", "fc"), ("fc", "lif"), ("lif", "output")])
    outer = nir.NIRGraph(
        {**ports(), "block": block, "fc2": nir.Linear(v)},
        [("input", "block"), ("block", "fc2"), ("fc2", "output")],
        type_check=False,
    )
    for graph in both_ways(outer, tmp_path):
        assert sorted(graph.ops) == ["block.fc", "block.lif", "fc2", "input", "output"]
        wanted = ["block.fc -> block.lif", "block.lif -> fc2", "fc2 -> output", "input -> block.fc"]
        assert sorted(map(str, graph.edges)) == wanted
    flat = nir.NIRGraph(
        {**ports(), "fc": nir.Linear(w), "lif": lif(), "fc2": nir.Linear(v)},
        [("input", "fc"), ("fc", "lif"), ("lif", "fc2"), ("fc2", "output")],
    )
    assert run(from_nir(flat)).any()
    assert np.array_equal(run(from_nir(outer)), run(from_nir(flat)))


def test_sums_at_the_boundary_are_kept(tmp_path: Path) -> None:
    """Two values arrive at the block, two nodes sum in its output, and two nodes read it."""
    w = [weight() for _ in range(6)]
    block = sub(
        {"p": nir.Linear(w[0]), "q": nir.Linear(w[1])},
        [("input", "p"), ("input", "q"), ("p", "output"), ("q", "output")],
    )
    names = ["a", "b", "c", "d"]
    pairs = [("input", "a"), ("input", "b"), ("a", "block"), ("b", "block"), ("block", "c"), ("block", "d")]
    pairs += [("c", "output"), ("d", "output")]
    outer = nir.NIRGraph(
        {**ports(), "block": block, **{n: nir.Linear(w[i + 2]) for i, n in enumerate(names)}},
        pairs,
        type_check=False,
    )
    x = np.random.default_rng(2).normal(size=(2, 1, 3))
    p, q, a, b, c, d = (m.astype(np.float64) for m in w)
    for graph in both_ways(outer, tmp_path):
        assert len(graph.edges) == 4 + 2 + 4 + 2  # two into each of p, q; two into each of c, d
        assert np.allclose(interpret(graph, x), x @ ((c + d) @ (p + q) @ (a + b)).T, rtol=1e-6)


def test_a_straight_wire_beside_a_skip_path_stays_two_paths(tmp_path: Path) -> None:
    """y = x + wire(x) = 2x: without the identity the two paths would be one edge, and half the value lost."""
    outer = nir.NIRGraph(
        {**ports(), "wire": sub({}, [("input", "output")]), "s": nir.Scale(np.ones(3))},
        [("input", "wire"), ("wire", "s"), ("input", "s"), ("s", "output")],
        type_check=False,
    )
    x = np.ones((1, 1, 3))
    for graph in both_ways(outer, tmp_path):
        assert np.array_equal(interpret(graph, x), 2 * x)
        assert [op.kind for op in graph.ops.values()].count("Scale") == 2
        again = read(write(graph))
        assert np.array_equal(interpret(again, x), 2 * x)


def test_two_wires_in_a_row_and_blocks_in_blocks(tmp_path: Path) -> None:
    w = weight()
    inner = sub({"fc": nir.Linear(w), "lif": lif()}, [("input", "fc"), ("fc", "lif"), ("lif", "output")])
    middle = sub(
        {"wire": sub({}, [("input", "output")]), "in": inner},
        [("input", "wire"), ("wire", "in"), ("in", "output"), ("input", "output")],
        metadata={"by": "me"},
    )
    outer = nir.NIRGraph({**ports(), "mid": middle}, [("input", "mid"), ("mid", "output")], type_check=False)
    for graph in both_ways(outer, tmp_path):
        assert sorted(graph.ops) == ["input", "mid.in.fc", "mid.in.lif", "output"]
        assert sorted(map(str, graph.edges)) == sorted(
            ["input -> mid.in.fc", "mid.in.fc -> mid.in.lif", "mid.in.lif -> output", "input -> output"]
        )
        assert dict(graph.metadata) == {"subgraphs": {"mid": {"by": "me"}}}


def test_recurrence_through_the_boundary(tmp_path: Path) -> None:
    """A block whose output feeds its own input, as snnTorch writes recurrent layers."""
    w, v = weight(), weight()
    block = sub({"lif": lif()}, [("input", "lif"), ("lif", "output")])
    nodes = {**ports(), "fc": nir.Linear(w), "block": block, "rec": nir.Linear(v)}
    edges = [("input", "fc"), ("fc", "block"), ("block", "rec"), ("rec", "block"), ("block", "output")]
    flat = nir.NIRGraph(
        {**ports(), "fc": nir.Linear(w), "lif": lif(), "rec": nir.Linear(v)},
        [("input", "fc"), ("fc", "lif"), ("lif", "rec"), ("rec", "lif"), ("lif", "output")],
    )
    wanted = run(from_nir(flat))
    assert wanted.any()
    for graph in both_ways(nir.NIRGraph(nodes, edges, type_check=False), tmp_path):
        assert np.array_equal(run(graph), wanted)


def test_a_wire_that_feeds_itself_is_named_as_a_cycle() -> None:
    outer = nir.NIRGraph(
        {**ports(), "wire": sub({}, [("input", "output")])},
        [("input", "wire"), ("wire", "wire"), ("wire", "output")],
        type_check=False,
    )
    with pytest.raises(CompileError, match=r"the cycle .*wire\.(in|out)put.* holds no state"):
        from_nir(outer)


def test_the_declared_shape_of_a_block_is_checked() -> None:
    block = nir.NIRGraph({**ports(4, 4)}, [("input", "output")], type_check=False)
    outer = nir.NIRGraph({**ports(3, 4), "b": block}, [("input", "b"), ("b", "output")], type_check=False)
    with pytest.raises(CompileError) as caught:
        from_nir(outer)
    (fault,) = caught.value.violations
    assert (fault.rule, fault.where) == ("shape", "b.input (Input of a subgraph)")
    assert fault.what == "declares shape [4], but [3] arrives"


def test_nothing_arriving_at_a_block_is_named() -> None:
    block = sub({"lif": lif()}, [("input", "lif"), ("lif", "output")])
    outer = nir.NIRGraph({**ports(), "b": block}, [("b", "output")], type_check=False)
    with pytest.raises(CompileError, match=r"b\.input \(Input of a subgraph\): nothing arrives"):
        from_nir(outer)


def test_blocks_with_several_inputs_or_outputs_are_refused_once_each() -> None:
    two = nir.NIRGraph(
        {"a": nir.Input(np.array([3])), "b": nir.Input(np.array([3])), "s": nir.Scale(np.ones(3))}
        | {"y": nir.Output(np.array([3])), "z": nir.Output(np.array([3]))},
        [("a", "s"), ("b", "s"), ("s", "y"), ("s", "z")],
        type_check=False,
    )
    nodes = {**ports(), "two": two, "fc": nir.Linear(weight())}
    edges = [("input", "two"), ("fc", "two"), ("two", "output"), ("input", "fc")]
    with pytest.raises(CompileError) as caught:
        from_nir(nir.NIRGraph(nodes, edges, type_check=False))
    said = [(v.where, v.what) for v in caught.value.violations if v.rule == "nir-subgraph"]
    assert said == [
        ("two", "the subgraph has 2 inputs (two.a, two.b), so an edge to it is unclear"),
        ("two", "the subgraph has 2 outputs (two.y, two.z), so an edge from it is unclear"),
    ]


def test_a_path_that_is_taken_gets_another_name() -> None:
    block = sub({"s": nir.Scale(np.full(3, 2.0))}, [("input", "s"), ("s", "output")])
    outer = nir.NIRGraph(
        {**ports(), "b.s": nir.Scale(np.full(3, 3.0)), "b": block},
        [("input", "b.s"), ("b.s", "b"), ("b", "output")],
        type_check=False,
    )
    graph = from_nir(outer)
    assert list(graph.ops) == ["input", "output", "b.s", "b.s.1"]
    assert np.array_equal(interpret(graph, np.ones((1, 1, 3))), np.full((1, 1, 3), 6.0))


def test_random_nesting_changes_nothing(tmp_path: Path) -> None:
    """Random linear networks, cut at random into nested blocks: y = x @ M either way."""
    rng = np.random.default_rng(7)
    for _ in range(40):
        flat_ops: dict[str, Op] = {"input": Input(shape=(3,))}
        flat_edges: list[Edge] = []
        count = [0]

        def grow(depth: int, entry: str, flat_ops: Any = flat_ops, flat_edges: Any = flat_edges, count: Any = count):
            """A block, and what it gives as the names of the flat ops that sum in its output."""
            nodes, edges = ports(), []
            values: dict[str, list[str]] = {"input": [entry]}
            for _ in range(rng.integers(1, 4)):
                feeders = list(rng.choice(list(values), rng.integers(1, min(3, len(values)) + 1), replace=False))
                count[0] += 1
                joined = f"sum{count[0]}"  # an explicit sum in the flat graph: a Scale by one
                flat_ops[joined] = Scale(scale=np.float64(1))
                flat_edges.extend(dict.fromkeys(Edge(s, joined) for f in feeders for s in values[f]))
                name = f"n{count[0]}"
                if depth < 3 and rng.random() < 0.6:
                    nodes[name], values[name] = grow(depth + 1, joined)
                else:
                    w = rng.normal(size=(3, 3))
                    nodes[name] = nir.Linear(w)
                    flat_ops[name], values[name] = Linear(weight=w), [name]
                    flat_edges.append(Edge(joined, name))
                edges += [(str(f), name) for f in feeders]
            ends = list(rng.choice(list(values), rng.integers(1, len(values) + 1), replace=False))
            edges += [(str(e), "output") for e in ends]
            count[0] += 1
            total = f"total{count[0]}"
            flat_ops[total] = Scale(scale=np.float64(1))
            flat_edges.extend(Edge(s, total) for e in ends for s in values[e])
            return nir.NIRGraph(nodes, edges, type_check=False), [total]

        live, (last,) = grow(0, "input")
        flat_ops["output"] = Output()
        flat_edges.append(Edge(last, "output"))
        x = rng.normal(size=(1, 2, 3))
        wanted = interpret(Graph(flat_ops, tuple(flat_edges)), x)
        for graph in both_ways(live, tmp_path):
            assert not any("Input" in op.kind and "." in name for name, op in graph.ops.items())
            assert np.allclose(interpret(graph, x), wanted, rtol=1e-9, atol=1e-9)
