"""Says at the end how many tests compared with a real framework or simulator, and how many were skipped and why."""

from __future__ import annotations

import re

import pytest

# Tests that run Norse, snnTorch, Rockpool, SpikingJelly, sinabs, xylosim or nir say so by parameters, name or file.
ORACLE = re.compile(
    r"\[.*(norse|snntorch|rockpool|sinabs|spikingjelly|xylosim)|::test_\w*(norse|snntorch|rockpool|sinabs|spikingjelly|xylosim|oracle|(of|by)_nir|what_nir|nir_infers|nir_keeps)\w*"
    r"|test_live_|test_onnx|test_rockpool|test_sinabs|test_spikingjelly|test_loihi_sim\.py|test_xylo_sim\.py|test_learning_travels\.py|test_nir_backend\.py::test_a_network"
)


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
