"""Recorded input for every command that takes it, and snnir validate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnir
from snnir import nir_io, ops
from snnir.activity import measure
from snnir.cost import cost
from snnir.graph import chain
from snnir.semantics import Semantics
from tests.cli.kit import network, said


def test_recorded_input(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(1).integers(0, 3, (20, 2, 4))
    np.savez(folder / "one.npz", anything=x)
    np.savez(folder / "two.npz", input=x, labels=np.arange(2))
    np.save(folder / "plain.npy", x)
    graph = network()
    expected = cost(graph, measure(graph, x)).to_json()["totals"]
    for name in ("one.npz", "two.npz", "plain.npy"):
        status, out, _ = said(capsys, "inspect", "net.nir", "--input", name, "--output-format", "json")
        assert status == 0
        document = json.loads(out)
        assert document["measured"] is True
        assert document["totals"].pop("other") == {**expected["other"]}
        assert document["totals"] == pytest.approx({k: v for k, v in expected.items() if k != "other"})


def broken_inputs(folder: Path) -> dict[str, str]:
    """File name -> what its message must say."""
    np.savez(folder / "names.npz", x=np.ones((3, 1, 4)), y=np.ones(3))
    np.savez(folder / "shape.npz", input=np.ones((3, 4)))
    np.savez(folder / "nan.npz", input=np.full((3, 1, 4), np.nan))
    np.savez(folder / "timeless.npz", input=np.ones((0, 2, 4)))
    np.savez(folder / "nobody.npz", input=np.ones((3, 0, 4)))
    np.savez(folder / "text.npz", input=np.array(["a"]))
    np.savez(folder / "objects.npz", input=np.array([{}], dtype=object))
    (folder / "empty.npz").write_bytes(b"")
    (folder / "noise.npz").write_bytes(b"PK\x03\x04 this is no archive")
    whole = (folder / "shape.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(folder / "none.npz")
    return {
        "names.npz": "holds x, y, but not input",
        "shape.npz": "(T, B, 4)",
        "nan.npz": "not finite",
        "timeless.npz": "shape [0, 2, 4]: no steps",
        "nobody.npz": "shape [3, 0, 4]: no batch elements",
        "text.npz": "holds no arrays",
        "objects.npz": "cannot be read as arrays",
        "empty.npz": "cannot be read as arrays",
        "noise.npz": "cannot be read as arrays",
        "cut.npz": "cannot be read as arrays",
        "none.npz": "holds no arrays",
    }


@pytest.mark.parametrize("command", ["inspect", "validate", "compile"])
def test_broken_input_files(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = {
        "inspect": ["--input"],
        "validate": ["-t", "nir", "--input"],
        "compile": ["-t", "nir", "-o", "out", "--calibrate"],
    }
    for name, words in broken_inputs(folder).items():
        status, out, err = said(capsys, command, "net.nir", *more[command], name)
        assert (status, out) == (1, ""), name
        assert words in " ".join(err.split()), (name, err)
    assert not (folder / "out").exists()


# -- validate ------------------------------------------------------------------------------------------------------


def test_validate_prints_a_verdict_per_target(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("validate", "net.nir", "-t", "nir", "--steps", "30", "--batch", "2", "--seed", "3")
    status, out, err = said(capsys, *arguments, "-o", "report.json")
    assert (status, err) == (0, "")
    assert "30 steps, batch 2, random spikes (seed 3)" in out
    assert "identical" in out
    head = out.splitlines()[1:3]
    assert head[0].split() == ["reference"]  # whose spikes the column counts
    assert head[0].rstrip().endswith("reference")
    assert head[1].index("spikes") + len("spikes") == len(head[0].rstrip())
    status, out, _ = said(capsys, *arguments, "--output-format", "json")
    document = json.loads(out)
    assert document == json.loads((folder / "report.json").read_text())
    assert document["schema"] == "snnir.validate.v1"
    assert document["ok"] is True
    assert [v["verdict"] for v in document["verdicts"]] == ["identical"]


def test_validate_says_who_refuses_and_who_is_missing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "validate", "net.nir", "-t", "nir,fake-chip", "--steps", "20")
    assert status == 1
    assert "refused" in out
    assert "fake-chip: [fake-outputs] output: has 3 outputs (limit: at most 2)" in out
    assert said(capsys, "validate", "net.nir", "-t", "nir,fake-gone", "--steps", "20")[0] == 3
    assert said(capsys, "validate", "net.nir", "-t", "fake-chip,fake-gone", "--steps", "20")[0] == 1


def test_validate_with_recorded_input(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(folder / "x.npz", input=np.random.default_rng(0).random((12, 3, 4)))
    status, out, _ = said(capsys, "validate", "net.nir", "-t", "nir", "--input", "x.npz", "--output-format", "json")
    assert status == 0
    assert json.loads(out)["input"] == {"steps": 12, "batch": 3, "origin": "recorded"}


def test_what_grows_beyond_all_numbers_is_not_identical(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A readout whose time constant is a tenth of a step: forward Euler multiplies it by -9."""
    wild = ops.LI(tau=np.full(4, 1e-4))
    graph = chain(ops.Input(shape=(4,)), ("wild", wild), ops.Output(), semantics=Semantics(dt=1e-3))
    (folder / "wild.nir").write_bytes(nir_io.write(graph))
    status, out, err = said(capsys, "validate", "wild.nir", "-t", "nir,torch", "--steps", "500", "--batch", "1")
    assert (status, err) == (1, "")
    assert "identical" not in out
    verdicts = dict(line.split()[:2] for line in out.splitlines() if line.startswith(("nir ", "torch ")))
    assert verdicts == {"nir": "wrong", "torch": "refused"}
    assert "grow beyond all numbers" in out
    assert "a time step of 0.0002 s or less (it is 0.001 s)" in out
    assert said(capsys, "validate", "wild.nir", "-t", "nir", "--steps", "100")[0] == 0


def test_numbers_that_only_one_side_lacks_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    real = snnir.compiler.CompileResult.run

    def without(self: Any, x: Any, record: Any = None) -> Any:
        values, recorded = real(self, x, record)
        return np.where(np.arange(values.shape[-1]) == 1, np.nan, values), recorded

    monkeypatch.setattr(snnir.compiler.CompileResult, "run", without)
    (verdict,) = snnir.validate(network(), ["nir"], steps=20).verdicts
    assert (verdict.verdict, verdict.ok) == ("wrong", False)
    assert verdict.first is not None
    assert verdict.first.neuron == (1,)
    assert np.isnan(verdict.first.got)
