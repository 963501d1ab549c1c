"""`snnir conformance` and `python -m snnir.conformance` as users type them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from snnir.cli import run
from snnir.conformance.suite import FOLDER
from tests.cli.kit import said
from tests.cli.test_documents import documented


def test_one_target_as_a_table_with_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "conformance", "--target", "lava", "--case", "lif*")
    assert status == 0
    assert "lif-v-reset         refused   [lava-start]" in out
    assert out.rstrip().endswith("lava: 7/9 exact · 2 refused · 0 silently wrong")


def test_several_targets_side_by_side(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    status, out, _ = said(
        capsys, "conformance", "-t", "nir,onnx", "-t", "xylo-imu", "--group", "variants", "-o", str(file)
    )
    assert status == 0
    assert [line.split() for line in out.splitlines() if line.startswith("reset-subtract")] == [
        ["reset-subtract", "exact", "exact", "exact"]
    ]
    document = json.loads(file.read_text())
    assert document["schema"] == "snnir.conformance.v1"
    assert document["scores"][0]["summary"] == "15/15 exact · 0 silently wrong"
    assert document["scores"][2]["counts"]["wrong"] == 0


def test_json_has_the_documented_keys(capsys: pytest.CaptureFixture[str]) -> None:
    made = json.loads(said(capsys, "conformance", "-t", "nir", "--case", "lif", "--output-format", "json")[1])
    example = documented("snnir.conformance.v1")
    assert set(made) == set(example)
    assert set(made["scores"][0]) == set(example["scores"][0])
    assert set(made["scores"][0]["counts"]) == set(example["scores"][0]["counts"])
    assert set(made["scores"][0]["verdicts"][0]) == set(example["scores"][0]["verdicts"][0])


def test_wrong_libraries_end_with_status_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import numpy as np\n"
        "def run(path, inputs, dt, semantics):\n"
        "    return np.zeros((24, 2, 3))\n"
        "def crash(path, inputs, dt, semantics):\n"
        "    raise KeyError('l')\n"
    )
    status, out, _ = said(capsys, "conformance", f"{wrong}:run", "--case", "lif")
    assert status == 1
    assert "WRONG     nothing comes out (output[" in out
    status, out, _ = said(capsys, "conformance", f"{wrong}:crash", "--case", "lif", "--output-format", "json")
    assert status == 1
    assert json.loads(out)["scores"][0]["verdicts"][0]["reason"] == "KeyError: 'l'"
    assert said(capsys, "conformance", f"{wrong}:jump")[0] == 2
    refusing = ("conformance", "snnir.conformance.example_adapter:run", "--case", "delay")
    assert said(capsys, *refusing)[0] == 0
    assert said(capsys, *refusing, "--strict")[0] == 1


def test_the_list_and_the_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, _ = said(capsys, "conformance", "--list", "--case", "fan-in")
    assert status == 0
    assert "two edges into one neuron sum" in out
    folder = tmp_path / "suite"
    status, out, _ = said(capsys, "conformance", "--export", str(folder))
    assert (status, out) == (0, f"125 files in {folder}\n")
    assert {p.name for p in folder.iterdir()} == {p.name for p in FOLDER.iterdir()}
    assert said(capsys, "conformance", "--export", str(folder))[0] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name a --target of snnir, or an ADAPTER"),
        (("-t", "brian"), "no target brian; there are torch, norse"),
        (("-t", "nir", "--case", "lav"), "no case lav"),
        (("nothing",), "'nothing' names no adapter"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(("conformance", *arguments)) == 2
    assert says in capsys.readouterr().err


def test_the_module_runs_adapters_of_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from snnir.conformance.example_adapter import run as adapter\n")
    command = [sys.executable, "-m", "snnir.conformance", "mine:adapter", "--case", "lif", "--case", "delay"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("mine:adapter: 1/2 exact · 1 refused · 0 silently wrong")
