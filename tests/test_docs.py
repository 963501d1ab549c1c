"""The documents say what the code does: generated tables are fresh, links lead somewhere, the README's example runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]


def test_generated_tables_are_fresh() -> None:
    run = subprocess.run(
        [sys.executable, "docs/make_tables.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)", document.read_text()):
            if not link.startswith("http") and not (document.parent / link).exists():
                broken.append(f"{document.name}: {link}")
    assert not broken


def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    (tmp_path / "example.py").write_text(block[1] + CHECK)
    run = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "out" / "manifest.json").is_file()
    said = ["torch identical", "norse identical", "snntorch identical", "xylo-audio3 spike timing differs"]
    assert run.stdout.splitlines() == said


CHECK = "assert isinstance(graph, snnir.Graph)\n"


def test_readme_names_every_target_and_pass() -> None:
    from snnir.pipeline import PASSES
    from snnir.registry import backend_names

    text = (ROOT / "README.md").read_text()
    assert not [name for name in (*backend_names(), *PASSES) if f"`{name}`" not in text]
    assert np.all([f"docs/{d}" in text for d in ("architecture.md", "targets.md", "cli.md", "benchmarks.md")])
