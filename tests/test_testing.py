"""snnir.testing: what passes, what a failure says, and that pytest needs nothing registered."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnir.errors import MissingPackageError, UsageError
from snnir.graph import Graph
from snnir.interpreter import interpret
from snnir.registry import BACKENDS
from snnir.semantics import Semantics
from snnir.target import Target
from snnir.testing import NotEquivalentError, assert_equivalent
from tests.cli.kit import network

ROOT = Path(__file__).parents[1]


class Artifact:
    """Runs the graph in the interpreter, with a reset of its own."""

    latency = 0
    report: Mapping[str, Any] = {}

    def __init__(self, graph: Graph, **changes: Any) -> None:
        self.graph, self.semantics = graph, graph.semantics.with_(**changes)

    def files(self) -> dict[str, bytes]:
        return {}

    def run(self, inputs: Mapping[str, Any], record: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
        outputs, recorded = interpret(self.graph, inputs, semantics=self.semantics, record=record)
        return {self.graph.outputs[0]: outputs}, recorded


class Backend:
    """A target that is not the network."""

    def __init__(self, name: str, **changes: Any) -> None:
        from snnir.registry import backend

        like = backend("torch").target
        self.target = Target(name, name, like.ops, like.semantics, like.adapts)
        self.changes = changes

    def pipeline(self, graph: Graph, options: Any) -> tuple[Any, ...]:
        return ()

    def build(self, graph: Graph, options: Any) -> Artifact:
        return Artifact(graph, **self.changes)


SUBTRACTS = Backend("subtracts", reset="subtract")


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(BACKENDS, "subtracts", f"{__name__}:SUBTRACTS")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    return "subtracts"


def test_the_same_network_passes() -> None:
    report = assert_equivalent(network(), ["torch", "nir"], steps=30, batch=2)
    assert report.ok
    assert [v.verdict for v in report.verdicts] == ["identical", "identical"]
    assert set(report.traces) == {"torch", "nir"}
    assert_equivalent(network(), "torch", np.ones((10, 1, 4)))


def test_a_failure_says_where_and_why(other: str) -> None:
    with pytest.raises(NotEquivalentError) as caught:
        assert_equivalent(network(), ["torch", other], steps=40)
    text = str(caught.value)
    (v,) = (v for v in caught.value.report.verdicts if v.target == other)
    assert v.first is not None
    assert "1 of 2 targets is not the network (1 is)" in text
    assert "40 steps, batch 8, random spikes, seed 0" in text
    assert f"x  subtracts  {v.verdict}" in text
    assert "reference spikes  differing  count error" in text
    assert f"subtracts: parts at {v.first.op}[{v.first.neuron[0]}], step {v.first.step}, sample {v.first.batch}" in text
    assert (
        "subtracts: cause: reset: it computes 'subtract', the network means 'value' (100% of the differences)" in text
    )
    assert "to remove it:" in text
    assert isinstance(caught.value, AssertionError)


def test_a_refusal_lists_its_reasons() -> None:
    with pytest.raises(NotEquivalentError, match=r"xylo-imu: refused: \[[\w-]+\] .*"):
        assert_equivalent(network(), "xylo-imu", steps=5)


def test_exactly_asks_more_than_a_chip_promises() -> None:
    from snnir.graph import chain
    from snnir.ops import LIF, Input, Linear, Output

    rng = np.random.default_rng(1)
    graph = chain(
        Input(shape=(4,)),
        ("w1", Linear(weight=rng.normal(0, 1, (12, 4)))),
        ("n1", LIF(tau=np.full(12, 0.02), r=np.full(12, 20.0), v_threshold=np.full(12, 1.0))),
        ("w2", Linear(weight=rng.normal(0, 1, (6, 12)))),
        ("n2", LIF(tau=np.full(6, 0.02), r=np.full(6, 20.0), v_threshold=np.full(6, 1.0))),
        ("w3", Linear(weight=rng.normal(0, 1, (3, 6)))),
        ("n3", LIF(tau=np.full(3, 0.02), r=np.full(3, 20.0), v_threshold=np.full(3, 1.0))),
        Output(shape=(3,)),
        semantics=Semantics(dt=1e-3),
    )
    report = None
    try:
        report = assert_equivalent(graph, "xylo-audio3", allow=("approximate",))
    except NotEquivalentError as error:
        report = error.report
    (v,) = report.verdicts
    assert v.verdict not in ("identical", "identical after latency")
    with pytest.raises(NotEquivalentError, match="spike by spike"):
        assert_equivalent(graph, "xylo-audio3", allow=("approximate",), exactly=True)


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from snnir import validation

    def absent(*_: Any, **__: Any) -> Any:
        verdicts = (validation.Verdict("norse", "not installed", False, cause="norse is not here"),)
        return validation.Report(verdicts, 1, 1, 0)

    monkeypatch.setattr("snnir.testing.validate", absent)
    with pytest.raises(MissingPackageError, match="norse is not here"):
        assert_equivalent(network(), "norse")
    with pytest.raises(pytest.skip.Exception, match="norse is not here"):
        assert_equivalent(network(), "norse", missing="skip")
    with pytest.raises(UsageError, match="expected 'fail' or 'skip'"):
        assert_equivalent(network(), "norse", missing="ignore")  # type: ignore[arg-type]


def test_pytest_needs_nothing_registered(tmp_path: Path) -> None:
    """A project of its own: no plugin, no conftest; the failure points at the test's line and holds the message."""
    (tmp_path / "test_mine.py").write_text(
        "import numpy as np\n"
        "import snnir\n"
        "from snnir import ops\n"
        "from snnir.graph import chain\n"
        "from snnir.testing import assert_equivalent\n"
        "NET = chain(ops.Input(shape=(2,)), ('w', ops.Linear(weight=np.eye(2))), ops.Output(shape=(2,)),\n"
        "            semantics=snnir.Semantics(dt=1e-3))\n"
        "def test_right():\n"
        "    assert_equivalent(NET, 'nir')\n"
        "def test_wrong():\n"
        "    assert_equivalent(NET, 'xylo-imu')\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed" in run.stdout
    assert "1 of 1 targets is not the network" in run.stdout
    assert "test_mine.py:11: " in run.stdout
    assert "testing.py" not in run.stdout
