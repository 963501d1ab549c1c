"""Makes every run the same, and says at its end how many tests compared with a real framework, and what was skipped."""

from __future__ import annotations

import os
import random
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

# `make test` draws the same examples everywhere, however busy a machine; `make fuzz` draws new ones (docs/testing.md).
QUIET = settings(database=None, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
settings.register_profile("same", QUIET, derandomize=True)
settings.register_profile("fuzz", QUIET, derandomize=False)
settings.load_profile("fuzz" if os.environ.get("SNNIR_FUZZ") else "same")

# Hypothesis mixes numbers and strings that stand in the code of the modules imported so far into what it draws, and
# which those are depends on the tests that the same process ran before: `derandomize` alone does not draw the same.
providers._get_local_constants = lambda: providers._local_constants

TORCH_SEED = 67280421310721
try:  # a process starts with a random seed: imported first by a test, PyTorch would start there too
    import torch
except ImportError:
    torch = None  # type: ignore[assignment, unused-ignore]
else:
    torch.manual_seed(TORCH_SEED)

# Tests that run Norse, snnTorch, Rockpool, SpikingJelly, sinabs, xylosim or nir say so by parameters, name or file.
ORACLE = re.compile(
    r"\[.*(norse|snntorch|rockpool|sinabs|spikingjelly|xylosim)|::test_\w*(norse|snntorch|rockpool|sinabs|spikingjelly|xylosim|oracle|(of|by)_nir|what_nir|nir_infers|nir_keeps)\w*"
    r"|test_live_|test_onnx|test_rockpool|test_sinabs|test_spikingjelly|test_loihi_sim\.py|test_xylo_sim\.py|test_learning_travels\.py|test_nir_backend\.py::test_a_network"
)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Random numbers of a test, and of fixtures that are made for it, do not depend on the tests before it."""
    random.seed(0)
    np.random.seed(0)
    if torch is not None:
        torch.manual_seed(TORCH_SEED)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line before pytest's own last line."""
    passed = [report for report in terminalreporter.stats.get("passed", []) if report.when == "call"]
    skipped = terminalreporter.stats.get("skipped", [])
    compared = sum(bool(ORACLE.search(report.nodeid)) for report in passed)
    terminalreporter.write_line(
        f"{compared} of {len(passed)} tests compared with a real framework or simulator; {len(skipped)} skipped"
    )
    for reason in sorted({str(report.longrepr[2]) for report in skipped if isinstance(report.longrepr, tuple)}):
        terminalreporter.write_line(f"  skipped: {reason}")
