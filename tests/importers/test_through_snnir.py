"""Through snnir: every kind of graph, two conventions of r, arrays and scalars, in every framework."""

from __future__ import annotations

import pytest

from tests.graph_kinds import GRAPH_KINDS
from tests.importers.results import benchmark, stored


@pytest.mark.oracle
@pytest.mark.parametrize("kind", GRAPH_KINDS)
def test_through_snnir_every_framework_is_the_same_or_refuses(kind: str) -> None:
    """Two conventions of r, arrays and scalars, six targets: torch, norse, snntorch, sinabs, spikingjelly, rockpool."""
    made = benchmark()
    assert len(made.TARGETS) == 6
    found = made.through_snnir(kind, steps=30, batch=2)
    assert found == stored()["kinds"][kind]["snnir"]
