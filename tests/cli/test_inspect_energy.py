"""snnir inspect --energy."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import snnir
from snnir.backends.sanafe import Estimate
from snnir.backends.sanafe.run import VARIABLE
from snnir.energy import energy, recorded
from tests.cli.kit import network, said

FOUND = Estimate(
    joules={"synapse": 2e-6, "soma": 1e-6, "dendrite": 0.0, "network": 5e-7, "total": 3.5e-6},
    seconds=2.5e-4, steps=102, packets=70, events=900, cores=3, neurons=15, synapses=56, spikes=80, expected=81,
    differing=3, moved=7, host_macs=0, version="2.2.9",
)  # fmt: skip


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("snnir.backends.sanafe.run.find_spec", lambda _: None)


def test_the_table(folder: Path, capsys: pytest.CaptureFixture[str], without: None) -> None:
    status, out, err = said(capsys, "inspect", "net.nir", "--energy", "--steps", "30", "--seed", "1")
    assert (status, err) == (0, "")
    assert "per inference, counted over random spikes, .3 per channel and step (seed 1), 30 steps, 8 samples" in out
    assert "Horowitz, ISSCC 2014" in out
    assert "4.6 pJ a MAC, 0.9 pJ an AC" in out
    assert "as the authors of FSDDIM count" in out
    assert "SANA-FE: not installed (GPL-3.0, a program of its own): pip install 'snnir[sanafe]', or SNNIR_SANAFE" in out
    assert "per image" not in out
    status, out, _ = said(capsys, "inspect", "net.nir", "--energy", "--no-sanafe")
    assert "Loihi by SANA-FE: left out" in out


def test_the_figures_are_those_of_the_api(folder: Path, capsys: pytest.CaptureFixture[str], without: None) -> None:
    x = (np.random.default_rng(0).random((20, 3, 4)) < 0.5).astype(float)
    np.savez(folder / "x.npz", input=x)
    status, out, _ = said(capsys, "inspect", "net.nir", "--energy", "--input", "x.npz", "--output-format", "json")
    assert status == 0
    document = json.loads(out)
    want = energy(network(), recorded(network(), {"input": x})).to_json()
    got = document["energy"]
    assert got["sanafe"]["missing"].startswith("not installed")
    assert got["per_inference"] == want["per_inference"]
    assert [row["name"] for row in got["ops"]] == list(network().ops)
    assert got["constants"] == want["constants"]
    assert got["input"] == "recorded input, 20 steps, 3 samples"
    assert document["schema"] == "snnir.inspect.v1"
    assert document["totals"]["acs"] * 20 == pytest.approx(got["per_inference"]["ours"]["acs"])


def test_with_a_target_its_own_spikes_count(folder: Path, capsys: pytest.CaptureFixture[str], without: None) -> None:
    plain, there = (
        json.loads(said(capsys, "inspect", "net.nir", "--energy", *more, "--output-format", "json")[1])["energy"]
        for more in ((), ("-t", "torch"))
    )
    assert there["target"] == "torch"
    assert there["per_inference"]["ours"]["acs"] == pytest.approx(plain["per_inference"]["ours"]["acs"], rel=0.01)
    assert said(capsys, "inspect", "net.nir", "--energy", "-t", "nosuch")[0] == 2
    for option in ("--calls", "--steps", "--seed"):
        status, _, err = said(capsys, "inspect", "net.nir", option, "3")
        assert (status, f"{option} belongs to --energy" in err) == (2, True)
    assert said(capsys, "inspect", "net.nir", "--sanafe")[0] == 2


def test_a_network_that_hardly_spikes_on_made_up_input(
    folder: Path, capsys: pytest.CaptureFixture[str], without: None
) -> None:
    (folder / "model.py").write_text(
        "import numpy as np\nfrom snnir import ops\nfrom snnir.graph import chain\n"
        "from snnir.semantics import Semantics\n"
        "model = chain(ops.Input(shape=(3,)), ops.Linear(weight=np.eye(3)), ops.LIF(tau=0.01, v_threshold=100.0),\n"
        "    ops.Output(), semantics=Semantics(dt=1e-3))\n"
    )
    assert (
        "hardly any on made-up input, --input takes recorded one" in said(capsys, "inspect", "model.py", "--energy")[1]
    )
    assert "hardly" not in said(capsys, "inspect", "net.nir", "--energy")[1]


def test_sanafe_that_is_asked_for_and_missing(
    folder: Path, capsys: pytest.CaptureFixture[str], without: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, err = said(capsys, "inspect", "net.nir", "--energy", "--sanafe")
    assert (status, out) == (3, "")
    assert "needs the package 'sanafe': pip install 'snnir[sanafe]'" in err
    monkeypatch.setenv(VARIABLE, "no/such/python")
    status, out, err = said(capsys, "inspect", "net.nir", "--energy")
    assert (status, out) == (2, "")
    assert f"{VARIABLE}=no/such/python: no such file" in err.replace("\n", " ")


def test_sanafes_figures_stand_beside_ours(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = SimpleNamespace(returncode=1, stdout="", stderr="Traceback:\nHardwareMappingError: no such core")
    monkeypatch.setenv(VARIABLE, sys.executable)
    monkeypatch.setattr("snnir.backends.sanafe.estimate", lambda graph, x: FOUND)
    status, out, _ = said(capsys, "inspect", "net.nir", "--energy")
    assert status == 0
    lines = {" ".join(line.split()) for line in out.splitlines()}
    assert {"energy: synapse 2 uJ", "energy: total 3.5 uJ", "time 250 us", "packets 70"} <= lines
    assert "Loihi 1 by SANA-FE 2.2.9, per inference: the first sample, 102 steps" in lines
    assert "80 spikes, 81 here; 3 at other steps or neurons" in out
    assert "7 synapses need delays" in out
    assert "MACs of a host" not in out
    _, out, _ = said(capsys, "inspect", "net.nir", "--energy", "--output-format", "json")
    assert json.loads(out)["energy"]["sanafe"] == json.loads(json.dumps(FOUND.to_json()))
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    monkeypatch.setenv(VARIABLE, sys.executable)
    monkeypatch.setattr("snnir.backends.sanafe.run.subprocess.run", lambda *_, **__: ran)
    status, out, _ = said(capsys, "inspect", "net.nir", "--energy")
    assert (status, "[sanafe-run] " in out, "HardwareMappingError: no such core" in out) == (0, True, True)
    status, out, err = said(capsys, "inspect", "net.nir", "--energy", "--sanafe")
    assert (status, out) == (1, "")
    assert "HardwareMappingError: no such core" in err


def test_a_network_that_sanafe_cannot_take(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, sys.executable)
    (folder / "model.py").write_text(
        "import numpy as np\nfrom snnir import ops\nfrom snnir.graph import chain\n"
        "from snnir.semantics import Semantics\n"
        "model = chain(ops.Input(shape=(3,)), ('li', ops.LI(tau=np.full(3, 0.01))), ops.Linear(weight=np.eye(3)),\n"
        "    ops.LIF(tau=0.01, v_threshold=1.0), ops.Output(), semantics=Semantics(dt=1e-3))\n"
    )
    status, out, _ = said(capsys, "inspect", "model.py", "--energy")
    assert status == 0
    assert "Loihi by SANA-FE: not for this network" in out
    assert "[sanafe-numbers] li: sends numbers to" in out
    status, out, err = said(capsys, "inspect", "model.py", "--energy", "--sanafe")
    assert (status, out) == (1, "")
    assert "sends numbers to" in err
    assert snnir.load("model.py")  # the network itself is sound
