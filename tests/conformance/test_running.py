"""Verdicts on targets and adapters: what is exact, what is refused, how wrong answers and broken adapters are told."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnir.conformance import Case, Refused, cases, check_adapter, check_target, load_adapter
from snnir.conformance import example_adapter as example
from snnir.errors import UsageError
from snnir.interpreter import interpret

(LIF,) = cases(["lif"])
FAMILY = ("lif-v*", "lif-on-threshold", "cubalif", "recurrent-*", "delay", "two-*", "flatten", "reset-*", "start-zero")


@pytest.mark.parametrize("target", ["nir", "onnx"])
def test_targets_of_every_semantics_are_exact_throughout(target: str) -> None:
    score = check_target(target)
    assert score.summary == "62/62 exact · 0 silently wrong"
    assert score.ok


@pytest.mark.parametrize("target", ["torch", "norse", "snntorch", "rockpool", "sinabs", "spikingjelly"])
def test_targets_of_the_pytorch_family_are_exact(target: str) -> None:
    verdicts = {v.case: v for v in check_target(target, cases(FAMILY)).verdicts}
    assert "reset-late" in verdicts
    assert {v.verdict for v in verdicts.values()} == {"exact"}


def test_chips_are_judged_on_their_terms() -> None:
    chosen = cases(["lif", "lif-v-reset", "chain", "decay-exponential", "several-spikes", "rockpool-step"])
    lava = {v.case: v for v in check_target("lava", chosen).verdicts}
    words = {name: v.verdict for name, v in lava.items()}
    assert words == {
        "lif": "exact",
        "chain": "exact",
        "lif-v-reset": "refused",
        "decay-exponential": "exact",
        "several-spikes": "refused",
        "rockpool-step": "refused",
    }
    assert lava["lif-v-reset"].reason.startswith("[lava-start] lif: ")
    score = check_target("xylo-audio3", chosen)
    xylo = {v.case: v for v in score.verdicts}
    assert xylo["rockpool-step"].verdict == "quantised"
    assert xylo["rockpool-step"].reason.startswith("spike counts off by ")
    assert 0 < xylo["rockpool-step"].error < 0.1
    # Output neurons give one spike per step; before they were measured too, this was wrong without a word.
    assert xylo["several-spikes"].reason.startswith("[xylo-mismatch]")
    assert score.summary == "0/6 exact · 1 not exact: quantised · 5 refused · 0 silently wrong"


def test_the_example_adapter_needs_nothing_of_snnir_and_is_exact_or_refuses() -> None:
    score = check_adapter(example.run)
    assert score.count("exact") == 17
    assert score.count("refused") == 45
    assert score.ok


def reference(path: str, inputs: dict[str, Any], dt: float, semantics: dict[str, Any]) -> Any:
    """The interpreter behind an adapter's face."""
    from snnir.frontends.nir_file import load
    from snnir.semantics import NIR_SEMANTICS

    return interpret(load(path, semantics=NIR_SEMANTICS.with_(dt=dt, **semantics)), inputs)


def test_the_reference_through_an_adapter_is_exact() -> None:
    assert check_adapter(reference).summary == "62/62 exact · 0 silently wrong"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda y: np.concatenate([np.zeros_like(y[:1]), y[:-1]]), "every output comes 1 step late"),
        (lambda y: np.concatenate([y[2:], np.zeros_like(y[:2])]), "every output comes 2 steps early"),
        (lambda y: y * 0, "nothing comes out"),
        (lambda y: 1 - y, ""),
        (lambda y: np.full_like(y, np.nan), ""),
    ],
)
def test_wrong_answers_are_told(spoil: Any, says: str) -> None:
    (verdict,) = check_adapter(lambda *call: spoil(reference(*call)), [LIF]).verdicts
    assert verdict.verdict == "wrong"
    assert verdict.looks_like == says
    assert verdict.reason.startswith("output[")


def test_refusals_and_crashes_are_not_wrong() -> None:
    def fails(error: Exception) -> Any:
        def adapter(*call: Any) -> Any:
            raise error

        return check_adapter(adapter, [LIF])

    assert fails(Refused("knows no LIF")).summary == "0/1 exact · 1 refused · 0 silently wrong"
    assert fails(NotImplementedError()).verdicts[0].reason == "no reason given"
    crashed = fails(KeyError("l"))
    assert crashed.verdicts[0].reason == "KeyError: 'l'"
    assert not crashed.ok


def test_an_adapter_that_does_not_come_back_is_stopped() -> None:
    def endless(*call: Any) -> Any:
        while True:
            try:
                time.sleep(0.01)
            except Exception:  # as careless libraries do
                continue

    (verdict,) = check_adapter(endless, [LIF], timeout=0.2).verdicts
    assert (verdict.verdict, verdict.reason) == ("crashed", "TimeoutError: no answer after 0.2 s")


def test_a_wrong_shape_is_wrong() -> None:
    (verdict,) = check_adapter(lambda *call: np.zeros((24, 2, 5)), [LIF]).verdicts
    assert (verdict.verdict, verdict.reason) == ("wrong", "output has shape [24, 2, 5], expected [24, 2, 3]")


@pytest.mark.parametrize(
    ("adapter", "says"),
    [
        (lambda path: 0, r"cannot be called as adapter\(path, inputs, dt, semantics\)"),
        (lambda *call: None, "gives a NoneType, expected a dict with output"),
        (lambda *call: {"lif": 1}, "gives lif, but not output"),
        (lambda *call: {"output": np.array("x")}, "gives output as <U1, expected numbers"),
        (lambda *call: np.zeros((2, 24, 3)), r"steps and batch are swapped; the adapter must give \(T, B, ...\)"),
        (lambda *call: {"output": np.zeros((24, 2, 3)), "lif": np.zeros(3)}, "leave it out if it is not known"),
    ],
)
def test_broken_adapters_are_told_apart_from_wrong_libraries(adapter: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_adapter(adapter, [LIF])


def test_hidden_spikes_are_compared_where_they_are_given() -> None:
    (chain,) = cases(["chain"])
    right = {**chain.expected(), **chain.population_spikes()}
    assert check_adapter(lambda *call: right, [chain]).ok
    (verdict,) = check_adapter(lambda *call: {**right, "n2": right["n2"] * 0}, [chain]).verdicts
    assert verdict.reason.startswith("n2[")


def test_adapters_are_named_by_module_or_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def run(path, inputs, dt, semantics):\n    raise NotImplementedError('none')\n")
    assert check_adapter(load_adapter(f"{tmp_path}/mine.py:run"), [LIF]).count("refused") == 1
    assert load_adapter("snnir.conformance.example_adapter:run") is example.run
    for spec, says in (
        ("mine", "names no adapter; expected package.module:name"),
        ("no_such_package:run", "cannot import no_such_package: ModuleNotFoundError"),
        (f"{tmp_path}/other.py:run", "no such file"),
        (f"{tmp_path}/mine.py:walk", "has no walk; it has run"),
        ("snnir:__version__", "is a str, expected a function"),
    ):
        with pytest.raises(UsageError, match=says):
            load_adapter(spec)


def test_unknown_cases_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no case lav; there are lif, "):
        cases(["lav"])
    with pytest.raises(UsageError, match="no group 'all'"):
        cases(group="all")


def one(case: Case) -> str:
    return case.name


def test_chosen_cases_keep_the_suites_order() -> None:
    assert [one(c) for c in cases(["delay", "cubali*"])] == [
        "cubalif",
        "cubalif-gains",
        "cubalif-heterogeneous",
        "cubalif-v-leak",
        "cubali-readout",
        "delay",
    ]
