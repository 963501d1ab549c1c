"""Norse's, snnTorch's, sinabs's and SpikingJelly's own importers score what docs/conformance.md says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_holds_the_cases_and_the_scores_of_norse_snntorch_sinabs_spikingjelly() -> None:
    command = [sys.executable, "docs/make_conformance.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run docs/make_conformance.py:\n{done.stdout}{done.stderr}"
