"""What the tests of the command line share: a small network, targets of cardboard, and running a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnir import ops
from snnir.cli import run
from snnir.errors import MissingPackageError, Violation
from snnir.graph import Graph, chain
from snnir.semantics import Semantics
from snnir.target import Target

ROOT = Path(__file__).parents[2]
PYTHON = [sys.executable, "-m", "snnir"]


def network(outputs: int = 3) -> Graph:
    rng = np.random.default_rng(0)
    return chain(
        ops.Input(shape=(4,)),
        ("fc", ops.Affine(weight=rng.normal(0, 1, (8, 4)), bias=rng.normal(0, 1, 8))),
        ("lif", ops.LIF(tau=np.full(8, 0.01), v_threshold=np.full(8, 0.3))),
        ("out", ops.Linear(weight=rng.normal(0, 1, (outputs, 8)))),
        ("li", ops.LI(tau=np.full(outputs, 0.01))),
        ops.Output(shape=(outputs,)),
        semantics=Semantics(dt=1e-3),
    )


@dataclass(frozen=True)
class FakeArtifact:
    options: Mapping[str, Any]
    latency: int = 2
    report: Mapping[str, Any] = field(default_factory=lambda: {"weights": {"bits": np.int64(8), "error": 0.125}})

    def files(self) -> dict[str, bytes]:
        return {"chip.json": json.dumps({k: str(v) for k, v in self.options.items()}).encode()}


def at_most_two_outputs(graph: Graph) -> Iterator[Violation]:
    """The chip has two output pins.

    More does not fit.
    """
    for name in graph.outputs:
        if graph.shapes[name][0] > 2:
            what = f"has {graph.shapes[name][0]} outputs"
            yield Violation("fake-outputs", what, name, "model.py:7 (net.out)", "at most 2", "use fewer classes")


@dataclass(frozen=True)
class FakeBackend:
    target: Target
    missing: bool = False

    def pipeline(self, graph: Graph, options: Mapping[str, Any]) -> tuple[Any, ...]:
        if self.missing:
            raise MissingPackageError("chiplib", "fake", "target fake-gone")
        return ()

    def build(self, graph: Graph, options: Mapping[str, Any]) -> FakeArtifact:
        return FakeArtifact(options)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of a command."""
    status = run(list(arguments))
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return status, out, err


def process(folder: Path, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more.pop("env", {})}
    return subprocess.run(
        [*PYTHON, *arguments], cwd=folder, text=True, env=environment, check=False, **{"capture_output": True, **more}
    )
