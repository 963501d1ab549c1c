"""The command line as a process: terminals, pipes, full disks, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.kit import PYTHON, ROOT, process


def test_no_escapes_and_no_bars_off_a_terminal(folder: Path) -> None:
    done = process(folder, "inspect", "net.nir")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    done = process(folder, "inspect", "net.nir", "--dt", "3")
    assert done.returncode == 1
    assert "\x1b" not in done.stderr


def test_plain_ascii_terminals_are_served(folder: Path) -> None:
    done = process(folder, "inspect", "net.nir", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"})
    assert done.returncode == 0
    assert done.stdout.isascii()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_behind_stdout(folder: Path) -> None:
    with open("/dev/full", "w") as full:
        done = process(folder, "inspect", "net.nir", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == "error: the output: No space left on device\n"


def test_a_closed_pipe_is_no_error(folder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = process(folder, "inspect", "net.nir", capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 0


def test_ctrl_c_is_status_130(folder: Path) -> None:
    (folder / "slow.py").write_text("import sys, time; print('reading', file=sys.stderr, flush=True); time.sleep(60)")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = [*PYTHON, "compile", "slow.py", "-t", "nir", "-o", "out"]
    heard = signal.signal(signal.SIGINT, signal.SIG_DFL)  # a background process ignores it, and so do its children
    try:
        running = subprocess.Popen(arguments, cwd=folder, stderr=subprocess.PIPE, text=True, env=environment)
    finally:
        signal.signal(signal.SIGINT, heard)
    assert running.stderr is not None
    assert running.stderr.readline() == "reading\n"
    time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert err.strip() == "interrupted"
    assert not (folder / "out").exists()
