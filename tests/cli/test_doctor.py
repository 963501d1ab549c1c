"""`snnir doctor` at the prompt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from snnir.doctor import RULES, diagnose
from tests.cli.kit import ROOT, said
from tests.doctor.kit import drop, full, put, written


def test_the_text_says_what_it_means_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "dense", put("n1/tau", full(6, -1)), drop("version"))
    status, out, _ = said(capsys, "doctor", str(path))
    assert status == 1
    assert out.startswith(f"{path}: 1 fault, 1 risk, ")
    assert "\nfault  tau\n  n1: its tau is -1 s\n  means  the membrane grows without bound" in out
    assert "\nrisk  version\n  has no version\n" in out
    assert "  to do  add the dataset /version; --fix -o NEW.nir does it" in out
    assert all(len(line) <= 120 and line == line.rstrip() for line in out.splitlines()[1:])


def test_a_file_without_faults_gives_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "dense")
    status, out, _ = said(capsys, "doctor", str(path))
    assert status == 0
    assert out.startswith(f"{path}: 3 notes\n")


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "dense", put("n1/tau", full(6, -1)))
    status, out, _ = said(capsys, "doctor", str(path), "--output-format", "json")
    document = json.loads(out)
    assert status == 1
    keys = ["schema", "source", "ok", "counts", "findings", "populations", "dt", "fix"]
    assert list(document) == keys
    text = (ROOT / "docs" / "doctor.md").read_text()
    example = json.JSONDecoder().raw_decode(text[text.index('{"schema": "snnir.doctor.v1"') :])[0]
    assert list(example) == keys
    assert document["schema"] == example["schema"]
    assert list(document["findings"][0]) == list(example["findings"][0])
    assert list(document["populations"][0]) == list(example["populations"][0])
    assert document["counts"] == {"fault": 1, "risk": 0, "note": 2}
    assert document["findings"] == [finding.to_json() for finding in diagnose(path)]
    assert list(document["findings"][0]) == ["severity", "rule", "node", "what", "meaning", "todo", "fixable"]
    assert [p["node"] for p in document["populations"]] == ["n2"]
    assert document["fix"] is None


def test_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "dense", put("input/shape", [1, 4]))
    new = tmp_path / "new.nir"
    status, out, _ = said(capsys, "doctor", str(path), "--fix", "-o", str(new))
    assert status == 0
    assert f"{new}: 1 repair\n  batch-axis  input: shape [1, 4] to [4]\n{new}: 3 notes\n" in out
    status, out, err = said(capsys, "doctor", str(path), "--fix", "-o", str(new))
    assert status == 1
    assert "exists already" in err
    status, out, _ = said(capsys, "doctor", str(path), "--fix", "-o", f"{new}.2", "--output-format", "json")
    fix = json.loads(out)["fix"]
    assert status == 0
    assert fix["did"] == [{"rule": "batch-axis", "node": "input", "did": "shape [1, 4] to [4]"}]
    assert fix["after"]["ok"] is True
    assert json.loads(out)["ok"] is False


@pytest.mark.parametrize("arguments", [["--fix"], ["-o", "new.nir"], ["--fix", "-o", ""]])
def test_wrong_usage(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "dense")
    assert said(capsys, "doctor", str(path), *arguments)[0] in (1, 2)


def test_the_document_lists_every_rule() -> None:
    text = (ROOT / "docs" / "doctor.md").read_text()
    for name, rule in RULES.items():
        repair = rule.repair or "-"
        assert f"| `{name}` | {rule.severity} | {rule.title} | {rule.meaning} | {repair} |" in text, name
