"""docs/import.md: its example runs, and it names every layer that the tables of the frontends read."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "docs/import.md").read_text()


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert block is not None
    monkeypatch.chdir(tmp_path)
    there: dict[str, object] = {}
    exec(block[1], there)
    assert (tmp_path / "out" / "manifest.json").is_file()
    assert there["graph"].semantics.reset == "delayed-subtract"  # type: ignore[attr-defined]


@pytest.mark.parametrize("framework", ["norse", "snntorch", "spikingjelly", "sinabs"])
def test_every_layer_is_named(framework: str) -> None:
    table = import_module(f"snnir.frontends.{framework}").TABLE
    left_out = {"RecurrentOneToOne", "QuantizeLayer", "Dropout2d", "ThresholdDependentBatchNorm2d", "LIFSqueeze"}
    names = {*table.layers, *table.through} - left_out
    assert not [name for name in names if not re.search(rf"`[^`]*\b{name}\b", TEXT)]
