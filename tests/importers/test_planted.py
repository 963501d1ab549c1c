"""Faults planted one at a time into an importer: each is named, where it is, and nothing else is.

Of n2's membrane no value meets the threshold, so that >= and > are the same to it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from snnir.graph import Edge, Graph
from snnir.importers import IMPORTERS, Importer, check_importer
from snnir.ops import LIF, Affine, Input, Output
from snnir.semantics import Semantics
from tests.importers import planted

DT = planted.DT  # a power of two: sums meet the threshold exactly


def network() -> Graph:
    """Fan-in, square weights, every parameter other than its default; weights of which sums meet the threshold."""
    rng = np.random.default_rng(3)

    def affine(n: int, m: int) -> Affine:
        weight = rng.integers(-2, 5, (n, m)).astype(np.float32) / 4
        return Affine(weight=weight, bias=np.full(n, 0.125, np.float32))

    def lif(n: int) -> LIF:
        full = {"tau": 4 * DT, "r": 4.0, "v_leak": 0.25, "v_threshold": 1.0, "v_reset": -0.5}
        return LIF(**{name: np.full(n, value, np.float32) for name, value in full.items()})

    ops = {"input": Input(shape=(4,)), "a": affine(4, 4), "b": affine(4, 4), "n1": lif(4), "c": affine(4, 4)}
    ops |= {"n2": lif(4), "output": Output(shape=(4,))}
    pairs = ("input a", "input b", "a n1", "b n1", "n1 c", "c n2", "n2 output")
    return Graph(ops, tuple(Edge(*pair.split()) for pair in pairs), Semantics(dt=DT))


@pytest.fixture
def importer(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    mine = Importer("nirtorch", "planted", "tests.importers.planted", "from_nir")
    monkeypatch.setitem(IMPORTERS, "nirtorch", mine)
    yield "nirtorch"
    planted.FAULT = ""


def test_a_right_importer_has_no_fault(importer: str) -> None:
    found = check_importer(network(), importer)
    assert (found.verdict, found.ok, found.faults, found.differing) == ("same", True, (), 0)
    assert found.places == 100 * 8 * 4


@pytest.mark.parametrize(
    ("fault", "kind", "where"),
    [
        ("r", "r-ignored", {"n1", "n2"}),
        ("v_leak", "v-leak-ignored", {"n1", "n2"}),
        ("v_reset", "reset-ignored", {"n1", "n2"}),
        ("dt", "dt-implied", {"n1", "n2"}),
        (">=", "comparison", {"n1"}),
        ("subtract", "reset-rule", {"n1", "n2"}),
        ("bias", "bias-dropped", {"a", "b", "c"}),
        ("weight", "weight-transposed", {"a", "b", "c"}),
        ("edge", "edge-lost", {"n1", "a", "b"}),
    ],
)
def test_a_planted_fault_is_named(importer: str, fault: str, kind: str, where: set[str]) -> None:
    planted.FAULT = fault
    found = check_importer(network(), importer, rate=0.5)
    named = {f.kind: set(f.where) for f in found.faults if f.kind != "node-idle"}
    assert named.pop(kind) == where
    # What follows of it: where a step subtracts the threshold, nothing of v_reset is left.
    assert set(named) <= ({"reset-ignored"} if fault == "subtract" else set())
    assert not found.ok
    assert found.verdict == "wrong"
    assert found.differing
    assert found.explained == found.returned == found.places
    (its,) = (f for f in found.faults if f.kind == kind)
    assert its.places
    assert its.evidence
