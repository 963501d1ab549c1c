"""The table in docs/importers.md: snnir's side has nothing wrong, the importers' side is pinned to their versions."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from snnir.importers import importer_names
from tests.graph_kinds import GRAPH_KINDS
from tests.importers.results import benchmark, stored

# Of 25 kinds those that tell the most, for every run of the tests; the benchmark runs them all.
TELLING = ("affine-lif", "li-readout", "cubalif", "recurrence-lif", "fan-in", "v-reset", "conv2d-flatten", "scale")


def test_the_document_shows_the_stored_results() -> None:
    made = benchmark()
    assert made.document(stored()) == made.DOCUMENT.read_text()


def test_the_stored_results_are_of_the_installed_versions() -> None:
    """Another release may be better, or worse: run the benchmark again."""
    assert stored()["versions"] == {name: version(name) for name in stored()["versions"]}
    assert set(stored()["kinds"]) == set(GRAPH_KINDS)
    assert len(GRAPH_KINDS) >= 19


def test_snnir_is_nowhere_silently_wrong_in_the_stored_results() -> None:
    words = [w for row in stored()["kinds"].values() for target in row["snnir"].values() for w in target]
    assert len(words) == 4 * 6 * len(GRAPH_KINDS)
    assert {w for w in words if w != "same" and not w.startswith("refused: ")} == set()
    for row in stored()["kinds"].values():
        assert all(set(row["snnir"][target]) == {"same"} for target in ("torch", "norse", "snntorch"))


@pytest.mark.oracle
@pytest.mark.parametrize("name", importer_names())
def test_the_importers_do_as_stored(name: str) -> None:
    made = benchmark()
    for kind in TELLING:
        want = stored()["kinds"][kind]["own"][name]["disc"]
        found = made.own_importer(name, kind, "disc")
        if made.by_chance(want):  # memory addresses decide
            assert made.by_chance(found), (kind, found)
            continue
        assert found == want, kind
