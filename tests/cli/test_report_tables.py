"""The text of a chip's compile report: a row for each population, what many share once, in lines that fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from snnir.cli.populations import merged, notes_once, short_names, skeleton, who
from tests.cli.kit import said

NETS = """
import numpy as np
from snnir import ops
from snnir.graph import chain
from snnir.semantics import Semantics


def build(reset="value", layers=5, image=False):
    rng = np.random.default_rng(0)
    if image:
        field = np.ones((4, 8, 8))
        shape, none = (8, 8), np.zeros(4)
        one = lambda n: ops.Conv2d(input_shape=shape, weight=rng.normal(0, 1, (4, n, 3, 3)), bias=none, padding=1)
        lif = lambda: ops.LIF(tau=field * 8e-3, v_threshold=field, v_leak=0 * field, r=field)
        steps = [("c0", one(1)), ("image.first", lif()), ("c1", one(4)), ("image.second", lif())]
        start, meaning = ops.Input(shape=(1, 8, 8)), Semantics(dt=1e-3, reset=reset, comparison=">=")
        return chain(start, *steps, ops.Output(shape=(4, 8, 8)), semantics=meaning)
    steps = []
    for k in range(layers):
        cuba = ops.CubaLIF(tau_syn=np.full(12, 4e-3), tau_mem=np.full(12, 8e-3), v_threshold=np.ones(12))
        steps += [(f"w{k}", ops.Linear(weight=rng.normal(0, 1, (12, 12)))), (f"stack.blocks.hidden.neurons.{k}", cuba)]
    meaning = Semantics(dt=1e-3, reset=reset, comparison=">=")
    return chain(ops.Input(shape=(12,)), *steps, ops.Output(shape=(12,)), semantics=meaning)
"""
NAMES = [f"stack.blocks.hidden.neurons.{k}" for k in range(5)]


@pytest.fixture
def nets(folder: Path) -> Path:
    (folder / "nets.py").write_text(NETS)
    return folder


@pytest.mark.parametrize("columns", [80, 100, 120])
@pytest.mark.parametrize("target", ["lava", "xylo-imu"])
def test_a_population_is_a_row(
    target: str, columns: int, nets: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    reset = "value" if target == "lava" else "subtract"
    arguments = ("compile", "nets.py", "-t", target, "-o", "out", "-S", f"reset={reset}", "--force")
    status, out, err = said(capsys, *arguments)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert max(map(len, lines)) <= columns
    report = json.loads((nets / "out" / "manifest.json").read_text())["report"]
    assert list(report["populations"]) == NAMES  # JSON keeps the names, and every fact by population
    heads = [k for k, line in enumerate(lines) if line.split()[:1] == ["population"]]
    assert len(heads) == (2 if (target, columns) == ("lava", 80) else 1)
    rows: dict[str, list[str]] = {name: [] for name in NAMES}
    for start in heads:
        for name, line in zip(NAMES, lines[start + 2 :], strict=False):
            shown, *values = line.split()
            assert shown == name or (len(shown) >= 16 and name.endswith(shown.removeprefix("…")))
            rows[name] += [shown, *values]
        assert len({line.split()[0] for line in lines[start + 2 : start + 2 + len(NAMES)]}) == len(NAMES)
    for name, facts in report["populations"].items():
        row = rows[name]
        assert row[1] == str(facts["neurons"])
        assert str(facts["lag"]) in row[2:4]
        assert f"{facts['weights']:,}" in row
    shared = [line for line in lines if line.startswith("    all: ")]
    assert len(shared) == (2 if target == "lava" else 1)  # what the neurons are; and why matrices
    assert "tau_mem 0.00" in shared[0]
    for facts in report["populations"].values():
        assert "tau_mem" in facts


def test_one_reason_for_all_projections_is_said_once(
    nets: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    status, out, _ = said(capsys, "compile", "nets.py", "-t", "lava", "-o", "out")
    assert status == 0
    assert out.count("weights are few") == 1
    assert "    all: 144 weights are few\n" in out
    assert out.count("matrix 12x12") == 5
    report = json.loads((nets / "out" / "manifest.json").read_text())["report"]
    assert [line.endswith("a matrix 12x12 (144 weights are few)") for line in report["written_as"]] == [True] * 5


def test_each_projection_has_the_letter_of_its_reason(
    nets: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = said(
        capsys, "compile", "nets.py", "-t", "lava", "-o", "out", "-S", "image=true", "-O", "conv=conv"
    )
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    report = json.loads((nets / "out" / "manifest.json").read_text())["report"]
    reasons = {skeleton(p["why"]): p["why"] for p in report["projections"]}
    rows = [line.split() for line in out.splitlines() if " Conv 4x" in line or " matrix " in line]
    assert len(rows) == len(report["projections"]) >= 2
    if len(reasons) == 1:
        assert f"    all: {next(iter(reasons.values()))}\n" in out
    else:
        assert {row[-1] for row in rows} == set("abcdef"[: len(reasons)])


def test_what_several_populations_share_is_said_with_the_range_of_its_numbers() -> None:
    notes = [
        "a: cut off 11.28 thresholds below, if they fall",
        "x: sends 12 bits, cut to -5..5",
        "b: cut off 84.79 thresholds below, if they fall",
        "c.2: cut off 9 thresholds below, if they fall",
        "a: its bias comes late",
    ]
    assert notes_once(notes, ["a", "b", "c.2", "d", "e"]) == [
        "a, b, c.2: cut off 9 to 84.79 thresholds below, if they fall",
        "x: sends 12 bits, cut to -5..5",
        "a: its bias comes late",
    ]
    assert notes_once(notes[:3], ["a", "b"])[0] == "all: cut off 11.28 to 84.79 thresholds below, if they fall"
    assert notes_once(notes, []) == notes
    assert who(["a", "b", "c"], ["a", "b", "c", "d"]) == "all but d"
    assert who(["a"], ["a"]) == "a"
    assert merged(["lif2 is 3 off", "lif2 is -1e-3 off"]) == "lif2 is -1e-3 to 3 off"


def test_names_keep_their_ends_and_stay_different() -> None:
    assert short_names(["net.blocks.0.neurons", "x"], 12) == {"net.blocks.0.neurons": "…s.0.neurons", "x": "x"}
    assert short_names(["one.neurons", "two.neurons"], 8) == {
        "one.neurons": "one.neurons",
        "two.neurons": "two.neurons",
    }
