"""What stays on a chip of a part that does not fit it."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from snnir.graph import Edge, Graph
from snnir.ops import LIF, Input, Op, Output, Scale
from snnir.placement.mincut import on_chip
from snnir.placement.smaller import smaller
from snnir.semantics import NIR_SEMANTICS
from snnir.target import Ports


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=16), st.integers(1, 60), st.data())
def test_the_largest_run_that_there_is_room_for(sizes: list[int], room: int, data: st.DataObject) -> None:
    names = [f"n{k}" for k in range(len(sizes))]
    held = [n for n in names if data.draw(st.integers(0, 5)) == 0]
    size = dict(zip(names, sizes, strict=True))
    trials: list[Sequence[str]] = []

    def neurons(kept: Sequence[str]) -> int:
        return sum(size[n] for n in kept)

    def fits(off: frozenset[str], kept: Sequence[str]) -> bool:
        assert off == set(names) - set(kept)
        trials.append(kept)
        return neurons(kept) <= room

    found = smaller(names, held, (), neurons, fits)
    runs = [
        [n for n in names if n in held or n in names[i:j]] for i in range(len(names)) for j in range(i, len(names) + 1)
    ]
    possible = [run for run in runs if run and len(run) < len(names) and neurons(run) <= room]
    if not possible:
        assert found is None
    else:
        assert found is not None
        assert set(held) <= set(found[0])
        assert neurons(found[0]) == max(map(neurons, possible))
    assert len(trials) <= max(2 * len(names) + 1, 56)


def test_one_op_besides_populations_goes_where_one_is_enough() -> None:
    names, others = ["a", "b"], ["w", "late", "v"]

    def fits(off: frozenset[str], kept: Sequence[str]) -> bool:
        return list(kept) == names and "late" in off

    assert smaller(names, (), others, len, fits) == (("a", "b"), ("late",))
    assert smaller(names, (), others, len, lambda off, kept: off >= {"w", "late"}) == (("a", "b"), ("w", "late", "v"))
    only = smaller(names, ["b"], others, len, lambda off, kept: list(kept) == ["b"] and off >= {"a", *others})
    assert only == (("b",), ("w", "late", "v"))


def test_a_million_neurons_are_no_reason_to_cut_a_loop() -> None:
    shape = (64, 64, 1024)  # four million
    ops: dict[str, Op] = {
        "x": Input(shape=shape),
        "a": LIF(tau=0.01, v_threshold=1.0),
        "back": Scale(scale=0.5),
        "y": Output(),
    }
    ways = [("x", "a"), ("a", "back"), ("back", "a"), ("a", "y")]
    graph = Graph(ops, tuple(Edge(*way) for way in ways), NIR_SEMANTICS.with_(dt=1e-3)).verify()
    ports, most = Ports(most=None, membranes=True, says=""), {"x": 1, "a": 1, "back": None, "y": 1}
    assert on_chip(graph, frozenset({"a"}), {}, ports, most) == frozenset()
    assert on_chip(graph, frozenset({"a", "back"}), {}, ports, most) == {"a", "back"}
