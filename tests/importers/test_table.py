"""The table in docs/importers.md: snnir's side has nothing wrong, the importers' side is pinned to their versions."""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from snnir.importers import importer_names
from tests.graph_kinds import GRAPH_KINDS

ROOT = Path(__file__).parents[2]
# Of 25 kinds those that tell the most, for every run of the tests; the benchmark runs them all.
TELLING = (
    "affine-lif",
    "li-readout",
    "cubalif",
    "recurrence-lif",
    "fan-in",
    "v-reset",
    "conv2d-flatten",
    "if",
    "scale",
)


@cache
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("nir_importers", ROOT / "benchmarks" / "nir_importers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["nir_importers"] = module
    spec.loader.exec_module(module)
    return module


@cache
def stored() -> dict[str, Any]:
    return dict(json.loads((ROOT / "benchmarks" / "nir_importers.json").read_text()))


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
@pytest.mark.parametrize("kind", GRAPH_KINDS)
def test_through_snnir_every_framework_is_the_same_or_refuses(kind: str) -> None:
    """Two conventions of r, arrays and scalars, six targets: torch, norse, snntorch, sinabs, spikingjelly, rockpool."""
    made = benchmark()
    assert len(made.TARGETS) == 6
    found = made.through_snnir(kind, steps=30, batch=2)
    assert found == stored()["kinds"][kind]["snnir"]


@pytest.mark.oracle
@pytest.mark.parametrize("name", importer_names())
def test_the_importers_do_as_stored(name: str) -> None:
    made = benchmark()
    for kind in TELLING:
        for style in ("r1", "disc") if kind == "if" else ("disc",):
            want = stored()["kinds"][kind]["own"][name][style]
            found = made.own_importer(name, kind, style)
            if made.by_chance(want):  # memory addresses decide
                assert made.by_chance(found), (kind, found)
                continue
            assert found == want, (kind, style)
