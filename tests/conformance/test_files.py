"""The suite's files: what their definitions give, right by two independent simulators, readable without snnir."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from snnir.conformance import Case, cases
from snnir.conformance.judging import judge
from snnir.conformance.suite import FOLDER
from snnir.frontends.nir_file import load
from snnir.interpreter import interpret
from tests.conformance import scalar
from tests.conformance.make_cases import files, suite
from tests.naive import simulate

CASES = cases()
CORE, VARIANTS = cases(group="core"), cases(group="variants")


def names(chosen: tuple[Case, ...]) -> list[str]:
    return [case.name for case in chosen]


def graph_of(case: Case) -> Any:
    return load(str(case.path), semantics=case.semantics)


def test_the_shipped_files_are_what_the_definitions_give() -> None:
    wanted = dict(files())
    there = {path.name for path in FOLDER.iterdir()}
    assert there == set(wanted)
    assert json.loads((FOLDER / "manifest.json").read_text()) == json.loads(wanted["manifest.json"])
    for made, case in zip(suite(), CASES, strict=True):
        for mine, shipped in (
            (made.inputs, case.input_values()),
            (made.expected, case.expected()),
            (made.populations, case.population_spikes()),
        ):
            assert mine.keys() == shipped.keys()
            for name, value in mine.items():
                np.testing.assert_allclose(shipped[name], value, rtol=1e-12, atol=1e-12)
        graph = graph_of(case)
        if made.definition.nested:
            continue
        assert graph.edges == made.graph.edges
        for key, value in made.graph.weights().items():
            np.testing.assert_array_equal(graph.weights()[key], value)


def test_the_files_are_small_and_every_case_has_its_own_words() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_000_000
    assert len(CASES) == len({case.name for case in CASES}) == len({case.probes for case in CASES}) == 62
    assert all(case.mistakes for case in CASES)


@pytest.mark.parametrize("case", CORE, ids=names(CORE))
def test_core_is_what_the_naive_simulator_gives(case: Case) -> None:
    graph = graph_of(case)
    traces = simulate(graph, {n: x.astype(np.float64) for n, x in case.input_values().items()})
    for name, want in {**case.expected(), **case.population_spikes()}.items():
        np.testing.assert_allclose(traces[name], want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", VARIANTS, ids=names(VARIANTS))
def test_variants_are_what_the_scalar_simulator_gives(case: Case) -> None:
    traces = scalar.simulate(graph_of(case), case.input_values())
    for name, want in case.expected().items():
        np.testing.assert_allclose(traces[name], want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
def test_nothing_hangs_on_rounding(case: Case) -> None:
    outputs, spikes = interpret(graph_of(case), case.input_values(), record=case.populations, dtype=np.float32)
    by_name = outputs if isinstance(outputs, dict) else {next(iter(case.outputs)): outputs}
    assert judge(case, {**by_name, **spikes}).verdict == "exact"


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
def test_every_mistake_is_caught_and_named(case: Case) -> None:
    for words, traces in case.mistaken().items():
        found = judge(case, traces)
        assert found.verdict == "wrong"
        assert found.looks_like in case.mistakes  # another may give the same
        assert found.looks_like == words or all(
            np.array_equal(case.mistaken()[found.looks_like][n], traces[n]) for n in traces
        )
        assert found.differing > 0
        assert "expected" in found.reason


def test_nir_itself_reads_every_file() -> None:
    import nir

    for case in CASES:
        graph = nir.read(case.path, type_check=False)
        kinds = {name: type(node).__name__ for name, node in graph.nodes.items()}
        assert {n for n, kind in kinds.items() if kind == "Input"} == set(case.inputs)
        assert {n for n, kind in kinds.items() if kind == "Output"} == set(case.outputs)
    assert type(nir.read(cases(["subgraph"])[0].path).nodes["block"]).__name__ == "NIRGraph"


def test_exact_thresholds_are_met_exactly_in_float32_too() -> None:
    """The cases about > and >= part from the other comparison by at least one spike, whatever the precision."""
    for name in ("lif-on-threshold", "if-on-threshold", "threshold", "comparison-at-least"):
        (case,) = cases([name])
        other = {">": ">=", ">=": ">"}[case.semantics.comparison]
        for dtype in (np.float32, np.float64):
            wrong = interpret(graph_of(case), case.input_values(), case.semantics.with_(comparison=other), dtype=dtype)
            assert judge(case, {"output": wrong.astype(np.float64)}).verdict == "wrong"
