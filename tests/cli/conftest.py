"""A current folder with a network in it, and targets that no library provides."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest

from snnir import nir_io, ops
from snnir.registry import BACKENDS
from snnir.semantics import Semantics
from snnir.target import Target
from tests.cli.kit import FakeBackend, at_most_two_outputs, network


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder that holds `net.nir`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "net.nir").write_bytes(nir_io.write(network()))
    return tmp_path


@pytest.fixture(autouse=True)
def fake_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets of our own: `fake-chip` and `fake-twin` have two outputs, the package of `fake-gone` is missing."""
    limits = {"outputs": "2"}
    taken = frozenset({ops.Input, ops.Output, ops.Affine, ops.Linear, ops.LIF, ops.LI})
    chip = Target("fake-chip", "a chip of cardboard", taken, Semantics(), rules=(at_most_two_outputs,), limits=limits)
    gone = Target("fake-gone", "a chip that is not there", taken, Semantics(), package="chiplib", extra="fake")
    module = types.ModuleType("fake_backends")
    module.CHIP = FakeBackend(chip)  # type: ignore[attr-defined]
    module.TWIN = FakeBackend(replace(chip, name="fake-twin"))  # type: ignore[attr-defined]
    module.GONE = FakeBackend(gone, missing=True)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_backends", module)
    monkeypatch.setitem(BACKENDS, "fake-chip", "fake_backends:CHIP")
    monkeypatch.setitem(BACKENDS, "fake-twin", "fake_backends:TWIN")
    monkeypatch.setitem(BACKENDS, "fake-gone", "fake_backends:GONE")
