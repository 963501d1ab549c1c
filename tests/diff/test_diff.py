"""Networks under shuffled names are recognised; one planted change is named, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnir.diff import Difference, compare
from snnir.diff.canonical import canonical
from snnir.diff.colours import Pair, side
from snnir.edit import Editor
from snnir.graph import Edge, Graph, chain
from snnir.nir_io import read, write
from snnir.ops import LI, LIF, Affine, Delay, Input, Linear, Neuron, Op, Output, Scale
from snnir.schedule import schedule
from snnir.semantics import Semantics
from tests.graph_kinds import GRAPH_KINDS, make_graph
from tests.strategies import nir_graphs
from tests.work import calls


def shuffled(graph: Graph, seed: int, same_names: bool = False) -> tuple[Graph, dict[str, str]]:
    """The graph with other names (or its own, dealt anew), its edges in another order; and old name -> new name."""
    rng = np.random.default_rng(seed)
    names = list(graph.ops)
    others = names if same_names else [f"op{k}" for k in range(len(names))]
    new = dict(zip(names, (others[k] for k in rng.permutation(len(names))), strict=True))
    edges = [Edge(new[e.source], new[e.target], e.port) for e in graph.edges]
    mixed = tuple(edges[k] for k in rng.permutation(len(edges)))
    return Graph({new[n]: op for n, op in graph.ops.items()}, mixed, graph.semantics), new


def is_isomorphism(a: Graph, b: Graph, found: Difference) -> bool:
    match = {name: name for name in a.ops} | dict(found.renamed)
    return (
        found.matched == len(a.ops) == len(b.ops)
        and sorted(match.values()) == sorted(b.ops)
        and {Edge(match[e.source], match[e.target], e.port) for e in a.edges} == set(b.edges)
    )


# -- the same network ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", GRAPH_KINDS)
def test_every_kind_is_equal_to_itself_and_under_other_names(kind: str) -> None:
    graph = make_graph(3, kind)
    assert compare(graph, graph) == Difference(matched=len(graph))
    for same_names in (False, True):
        other, new = shuffled(graph, 1, same_names)
        found = compare(graph, other)
        assert found.verdict == "equal but for names"
        assert found.equal
        assert is_isomorphism(graph, other, found)
        assert dict(found.renamed) == {a: b for a, b in new.items() if a != b}


@settings(max_examples=60)
@given(nir_graphs(several_io=True), st.integers(0, 2**31), st.booleans())
def test_random_networks_under_shuffled_names(graph: Graph, seed: int, same_names: bool) -> None:
    other, _ = shuffled(graph, seed, same_names)
    found = compare(graph, other)
    assert found.verdict in ("equal", "equal but for names")
    assert is_isomorphism(graph, other, found)
    back = compare(other, graph)
    assert back.verdict == found.verdict


@settings(max_examples=30)
@given(nir_graphs(max_ops=5), st.integers(0, 2**31))
def test_the_match_is_found_where_only_structure_tells_ops_apart(graph: Graph, seed: int) -> None:
    """All numbers differ, all names too."""
    other, _ = shuffled(graph, seed)
    rng = np.random.default_rng(seed)
    noisy = {n: op.with_(**_noise(op, rng)) for n, op in other.ops.items()}
    found = compare(graph, replace(other, ops=noisy))
    has_numbers = any(op.arrays for op in graph.ops.values())
    assert found.verdict == ("same structure, other numbers" if has_numbers else "equal but for names")
    assert is_isomorphism(graph, other, found)


def _noise(op: Op, rng: np.random.Generator) -> dict[str, Any]:
    return {n: (getattr(op, n) * rng.uniform(1.1, 1.4)).astype(getattr(op, n).dtype) + 1 for n in op.arrays}


@pytest.mark.parametrize("n", [2, 3, 8])
def test_symmetric_networks(n: int) -> None:
    """Equal branches side by side, a ring of equal neurons: which is which does not matter, that it fits does."""
    for graph in (branches(n), ring(n)):
        for seed in range(3):
            other, _ = shuffled(graph, seed)
            found = compare(graph, other)
            assert found.verdict == "equal but for names"
            assert is_isomorphism(graph, other, found)


def lif(n: int = 3) -> LIF:
    return LIF(tau=np.full(n, 0.02), v_threshold=np.full(n, 1.0))


def branches(n: int) -> Graph:
    ops: dict[str, Op] = {"in": Input(shape=(3,)), "out": Output(shape=(3,))}
    edges = []
    for k in range(n):
        ops |= {f"w{k}": Linear(weight=np.ones((3, 3))), f"n{k}": lif()}
        edges += [("in", f"w{k}"), (f"w{k}", f"n{k}"), (f"n{k}", "out")]
    return Graph(ops, tuple(Edge(*e) for e in edges), Semantics(dt=1e-3))


def ring(n: int) -> Graph:
    ops: dict[str, Op] = {"in": Input(shape=(3,)), "out": Output(shape=(3,)), **{f"n{k}": lif() for k in range(n)}}
    edges = [("in", "n0"), ("n0", "out"), *((f"n{k}", f"n{(k + 1) % n}") for k in range(n))]
    return Graph(ops, tuple(Edge(*e) for e in edges), Semantics(dt=1e-3))


def test_graphs_that_colours_alone_cannot_tell_apart() -> None:
    """Two rings of 3 and one ring of 6 have the same colours (Weisfeiler and Leman's limit), and are not the same."""

    def rings(*sizes: int) -> list[Edge]:
        names = iter(f"n{k}" for k in range(sum(sizes)))
        groups = [[next(names) for _ in range(size)] for size in sizes]
        return [Edge(g[k], g[(k + 1) % len(g)]) for g in groups for k in range(len(g))]

    names = [f"n{k}" for k in range(6)]
    one, two = (side(names, rings(*sizes), lambda edge: edge.port) for sizes in ((3, 3), (6,)))
    same = dict.fromkeys(names, 0)

    def liking(a: str, b: str) -> tuple[int, ...]:
        return (0,)

    apart, alike = Pair(one, two), Pair(two, side(names, rings(6)[::-1], lambda edge: edge.port))
    assert apart.stable(apart.first(same, same)) is not None
    assert apart.isomorphism(apart.first(same, same), liking) is None
    assert alike.isomorphism(alike.first(same, same), liking) is not None


def test_writing_to_nir_and_scalars_do_not_count() -> None:
    """A NIR file has all parameters in full, float32 or not; our own notes aside it is the same network."""
    full = chain(Input(shape=(3,)), ("n", lif()), Output(), semantics=Semantics(dt=1e-3))
    brief = LIF(tau=np.float64(0.02), v_threshold=np.ones(1), v_leak=np.float64(-0.0))
    short = chain(Input(shape=(3,)), ("n", brief), Output(shape=(3,)), semantics=Semantics(dt=1e-3))
    assert compare(full, short).verdict == "equal"
    for kind in GRAPH_KINDS[:6]:
        graph = make_graph(0, kind)
        assert compare(graph, read(write(graph))).verdict == "equal"


def test_types_of_numbers_are_told_beside() -> None:
    graph = chain(Input(shape=(3,)), ("w", Linear(weight=np.ones((3, 3)))), ("n", lif()), Output())
    other = Editor(graph)
    other.replace("w", Linear(weight=np.ones((3, 3), np.float32)))
    found = compare(graph, other.build())
    assert found.verdict == "equal"
    assert found.dtypes == (("w", "weight", "float64", "float32"),)


def test_semantics_are_compared_beside() -> None:
    graph = make_graph(0, "affine-lif")
    other = replace(graph, semantics=graph.semantics.with_(dt=1e-4, reset="subtract"))
    found = compare(graph, other)
    assert (found.verdict, found.equal) == ("equal", False)
    assert found.semantics == {"dt": (1e-3, 1e-4), "reset": ("value", "subtract")}


def test_the_order_of_ops_counts_where_it_says_which_edge_is_late() -> None:
    """Two neurons that feed each other, both fed from outside: the first in order starts."""
    graph = chain(Input(shape=(3,)), ("a", lif()), ("b", lif()), Output(), semantics=Semantics(dt=1e-3))
    edges = (*graph.edges, Edge("b", "a"), Edge("input", "b"))
    one = Graph(graph.ops, edges, graph.semantics)
    ops = {n: one.ops[n] for n in ("input", "b", "a", "output")}
    two = Graph({**ops, "a": ops["a"].with_(tau=np.full(3, 0.03))}, edges, graph.semantics)
    one = Graph({**one.ops, "a": two.ops["a"]}, edges, graph.semantics)
    assert schedule(one).back_edges != schedule(two).back_edges
    found = compare(one, two)
    assert found.verdict == "other structure"
    assert (found.late_only_a, found.late_only_b) == ((Edge("b", "a"),), (Edge("a", "b"),))
    assert (found.edges_only_a, found.edges_only_b, found.renamed) == ((), (), ())


# -- one planted change ----------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(nir_graphs(), st.integers(0, 2**31))
def test_one_changed_number_is_named(graph: Graph, seed: int) -> None:
    """In the widest of its surroundings, under shuffled names, the op and the parameter that was changed."""
    rng = np.random.default_rng(seed)
    places = [(n, f) for n, op in graph.ops.items() for f in op.arrays if getattr(op, f).size]
    if not places:
        return
    name, field = places[rng.integers(len(places))]
    value = np.array(getattr(graph[name], field))
    spot = tuple(rng.integers(n) for n in value.shape)
    value[spot] += 0.5
    changed = Graph({**graph.ops, name: graph[name].with_(**{field: value})}, graph.edges, graph.semantics)
    other, new = shuffled(changed, seed)
    found = compare(graph, other)
    assert found.verdict == "same structure, other numbers"
    (row,) = found.numbers
    assert row.parameter == field
    assert row.absolute == pytest.approx(0.5, rel=1e-5)
    assert (row.a, row.b) == (name, new[name]) or _alike(graph, row.a, name)


def _alike(graph: Graph, one: str, other: str) -> bool:
    """Whether two ops are the same op, so that either may be called the changed one."""
    canon = canonical(graph)
    return canon[one].structure == canon[other].structure and canon[one].digest == canon[other].digest


def _drop_edge(e: Editor) -> None:
    e.disconnect(Edge("n1", "n2"))


def _add_edge(e: Editor) -> None:
    e.connect("input", "n1")


def _insert(e: Editor) -> None:
    e.add("between", Scale(scale=np.full(4, 2.0)))
    e.disconnect(Edge("fc2", "n2"))
    e.connect("fc2", "between")
    e.connect("between", "n2")


def _delay(e: Editor) -> None:
    e.add("late", Delay(delay=np.full(4, 1e-3)))
    e.disconnect(Edge("n1", "fc2"))
    e.connect("n1", "late")
    e.connect("late", "fc2")


def _readout(e: Editor) -> None:
    e.replace("n2", LI(tau=e.ops["n2"].tau, r=e.ops["n2"].r))  # type: ignore[attr-defined]


def _no_bias(e: Editor) -> None:
    e.replace("fc2", Linear(weight=e.ops["fc2"].weight))  # type: ignore[attr-defined]


def _wider(e: Editor) -> None:
    rng = np.random.default_rng(7)
    e.replace("fc3", Affine(weight=rng.normal(0, 1, (5, 4)), bias=rng.normal(0, 1, 5)))
    e.replace("n3", lif(5))
    e.replace("output", Output(shape=(5,)))


# a change to the graph kind `skip` -> what is found, under the old names
CHANGES: list[tuple[Callable[[Editor], None], dict[str, Any]]] = [
    (_drop_edge, {"edges_only_a": (Edge("n1", "n2"),)}),
    (_add_edge, {"edges_only_b": (Edge("input", "n1"),)}),
    (_insert, {"only_b": {"between": "Scale"}, "edges_only_a": (Edge("fc2", "n2"),)}),
    (_delay, {"only_b": {"late": "Delay"}, "edges_only_a": (Edge("n1", "fc2"),)}),
    (_readout, {"changed": [("n2", {"kind"})]}),
    (_no_bias, {"changed": [("fc2", {"kind"})]}),
    (_wider, {"changed": [("fc3", {"shape", "weight"}), ("n3", {"shape"}), ("output", {"shape"})]}),
]


@pytest.mark.parametrize(("change", "wanted"), CHANGES, ids=[c.__name__.strip("_") for c, _ in CHANGES])
@pytest.mark.parametrize("names", ["own", "new", "dealt anew"])
def test_one_change_of_structure_is_named(change: Callable[[Editor], None], wanted: dict[str, Any], names: str) -> None:
    graph = make_graph(5, "skip")
    editor = Editor(graph)
    change(editor)
    changed = Graph(editor.build().ops, editor.build().edges, graph.semantics)
    other, new = (changed, {n: n for n in changed.ops}) if names == "own" else shuffled(changed, 3, names != "new")
    found = compare(graph, other)
    old = {there: here for here, there in new.items()}
    assert found.verdict == "other structure"
    assert found.edges_only_a == wanted.get("edges_only_a", ())
    assert {old[n]: kind for n, kind in found.only_b.items()} == wanted.get("only_b", {})
    assert found.only_a == {}
    back = tuple(Edge(old[e.source], old[e.target], e.port) for e in found.edges_only_b)
    added = set(wanted.get("only_b", {}))
    assert set(back) == set(wanted.get("edges_only_b", ())) | {e for e in back if added & {e.source, e.target}}
    assert len(back) == len(wanted.get("edges_only_b", ())) + 2 * len(added)
    assert [(c.a, set(c.fields)) for c in found.changed] == wanted.get("changed", [])
    assert all(old[c.b] == c.a for c in found.changed)
    assert dict(found.renamed) == {a: b for a, b in new.items() if a != b and a in graph}


@settings(max_examples=40)
@given(nir_graphs(max_ops=10), st.integers(0, 2**31))
def test_one_op_put_in_between_is_found_in_random_networks(graph: Graph, seed: int) -> None:
    rng = np.random.default_rng(seed)
    edge = graph.edges[rng.integers(len(graph.edges))]
    editor = Editor(graph)
    new_op = editor.add("inserted", Scale(scale=np.asarray(rng.uniform(2.5, 3.0))))
    editor.disconnect(edge)
    editor.connect(edge.source, new_op)
    editor.connect(new_op, edge.target, edge.port)
    other, new = shuffled(Graph(editor.build().ops, editor.build().edges, graph.semantics), seed)
    found = compare(graph, other)
    assert found.verdict == "other structure"
    assert found.only_a == {}
    assert len(found.only_b) == 1
    assert len(found.edges_only_a) == 1
    assert len(found.edges_only_b) == 2
    assert not found.numbers
    assert not found.changed
    if len({(c.structure, c.digest) for c in canonical(graph).values()}) == len(graph):  # nothing is alike
        assert found.only_b == {new["inserted"]: "Scale"}
        assert found.edges_only_a == (edge,)


def test_networks_that_have_little_in_common() -> None:
    one, two = make_graph(0, "conv2d-flatten"), make_graph(1, "recurrence-cubalif")
    found = compare(one, two)
    assert found.verdict == "other structure"
    assert found.only_a or found.only_b
    kinds = {(one[a].kind, two[b].kind) for a, b in found.renamed}
    assert all(a == b for a, b in kinds)


def layers_and_shuffled(layers: int) -> tuple[Graph, Graph, Graph]:
    """A chain, the same under other names, and that with one number changed."""
    rng = np.random.default_rng(0)
    middle: list[tuple[str, Op]] = []
    for k in range(layers):
        middle += [(f"w{k}", Linear(weight=rng.normal(0, 1, (4, 4)))), (f"n{k}", lif(4))]
    graph = chain(Input(shape=(4,)), *middle, Output(), semantics=Semantics(dt=1e-3))
    other, _ = shuffled(graph, 0)
    editor = Editor(other)
    target = next(n for n, op in other.ops.items() if isinstance(op, Neuron))
    editor.replace(target, lif(4).with_(tau=np.full(4, 0.03)))
    return graph, other, editor.build()


def test_the_work_of_comparing_grows_with_the_layers() -> None:
    work = {}
    for layers in (125, 500):
        graph, renamed, changed = layers_and_shuffled(layers)
        assert compare(graph, renamed).verdict == "equal but for names"
        assert [n.parameter for n in compare(graph, changed).numbers] == ["tau"]
        work[layers] = calls(lambda a=graph, b=changed: compare(a, b))
    assert work[500] < 1.2 * 4 * work[125]
