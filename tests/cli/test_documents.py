"""JSON on stdout has the keys that docs/cli.md shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.kit import ROOT, said


def documented(schema: str) -> dict[str, Any]:
    """The example of a schema in docs/cli.md."""
    text = (ROOT / "docs/cli.md").read_text()
    start = text.index(f'{{"schema": "{schema}"')
    return json.JSONDecoder().raw_decode(text[start:])[0]


def test_json_has_the_documented_keys(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def document(*arguments: str) -> Any:
        return json.loads(said(capsys, *arguments, "--output-format", "json")[1])

    made = document("compile", "net.nir", "-t", "nir", "-o", "out")
    example = documented("snnir.compile.v1")
    assert set(made) == set(example)
    assert set(made["targets"]["nir"]) == set(example["targets"]["xylo-audio3"])
    assert {"target", "pipeline", "passes", "ops", "latency"} <= set(made["targets"]["nir"]["report"])

    made, example = document("validate", "net.nir", "-t", "nir"), documented("snnir.validate.v1")
    assert set(made) == set(example)
    assert set(made["verdicts"][0]) == set(example["verdicts"][0])

    made, example = document("inspect", "net.nir"), documented("snnir.inspect.v1")
    assert set(made) == set(example)
    assert set(made["ops"][0]) == set(example["ops"][0])
    assert set(made["totals"]) == set(example["totals"])

    made, example = document("passes", "simplify"), documented("snnir.passes.v1")
    assert set(made["passes"][0]) == set(example["passes"][0])
    assert made["passes"][0]["options"][0] == example["passes"][0]["options"][0]

    made, example = document("targets", "nir"), documented("snnir.targets.v1")
    assert set(made["targets"][0]) == set(example["targets"][0])

    (folder / "text.nir").write_text("no HDF5")
    made, example = document("inspect", "text.nir"), documented("snnir.error.v1")
    assert set(made) == set(example)
    assert set(made["violations"][0]) == set(example["violations"][0])
