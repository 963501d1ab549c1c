"""`validate --vendor`: the lava target in Lava itself, beside the simulator that travels with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import snnir
from snnir.backends.lava import vendor
from snnir.backends.lava.environment import VARIABLE, find
from snnir.graph import Graph
from snnir.simulators.loihi import LoihiRun
from tests.backends.test_lava import balanced
from tests.backends.xylo_nets import lif, spikes

NO_LAVA = "no Lava here (make lava): --vendor is not run"


def net() -> tuple[Graph, np.ndarray]:
    return balanced(np.random.default_rng(3), lif, 20, (12, 30, 8)), spikes((40, 2, 12), 0.3)


@pytest.mark.oracle
@pytest.mark.skipif(find() is None, reason=NO_LAVA)
def test_lava_itself_gets_the_verdict_of_the_simulator() -> None:
    graph, x = net()
    report = snnir.validate(graph, ["torch", "lava"], x, vendor=True)
    _, simulated, itself = report.verdicts
    assert itself.target == "lava in Lava 0.10"
    assert simulated.spikes > 100
    assert replace(itself, target="lava") == simulated


@pytest.mark.oracle
@pytest.mark.skipif(find() is None, reason=NO_LAVA)
def test_a_simulator_that_differs_from_lava_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    true = vendor.run_in_lava

    def other(*given: object) -> LoihiRun:
        run = true(*given)  # type: ignore[arg-type]
        run.spikes["n2"][7, 1, 3] ^= 1
        return run

    monkeypatch.setattr(vendor, "run_in_lava", other)
    graph, x = net()
    itself = snnir.validate(graph, "lava", x, vendor=True).verdicts[1]
    assert (itself.verdict, itself.ok) == ("wrong", False)
    assert "gives something else than Lava 0.10 in n2" in itself.cause


def test_without_lava_it_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "python3.10"))
    graph, x = net()
    itself = snnir.validate(graph, "lava", x, vendor=True).verdicts[1]
    assert (itself.verdict, itself.ok) == ("not installed", False)
    assert VARIABLE in itself.cause
