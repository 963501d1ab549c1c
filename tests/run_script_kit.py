"""A network whose names are those of options and parameters, compiled for every target, and its scripts run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

import snnir
from snnir.graph import Graph
from snnir.ops import IF, Input, LayerNorm, Linear, Op, Output
from snnir.semantics import Semantics
from tests.backends.xylo_nets import Array, wired

DT = 1e-3
WITHOUT_SNNIR = (
    "import sys, runpy; sys.modules['snnir'] = None; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
)


def net(target: str = "torch") -> Graph:
    """Two inputs, two outputs, weights that integers hold; "placed": with a layer that no chip has."""
    rng = np.random.default_rng(0)
    semantics = Semantics(dt=DT, reset="value" if target == "lava" else "subtract", comparison=">=")
    ops: dict[str, Op] = {"file": Input(shape=(4,)), "steps": Input(shape=(4,))}
    ops |= {name: Linear(weight=rng.integers(0, 3, (6, 4)) / 2) for name in ("in", "in.npy")}
    for name, threshold in (("args", 4.0), ("structure", 8.0)):
        ops[name] = IF(r=np.full(6, 1 / DT), v_threshold=np.full(6, threshold))
    ops |= {"allow_pickle": Output(), "help": Output()}
    last = "structure > norm > help" if target == "placed" else "structure > help"
    if target == "placed":
        ops["norm"] = LayerNorm(weight=np.ones(6), bias=np.zeros(6))
    return wired(ops, "file > in > args > allow_pickle", "steps > in.npy > structure", last, semantics=semantics)


def compiled(target: str) -> snnir.CompileResult:
    """The network for a target; "placed": shared by Xylo and ONNX Runtime."""
    if target == "placed":
        return snnir.compile(net(target), "xylo-audio3", host="onnx")
    return snnir.compile(net(target), target)


class Folders(dict[str, Path]):
    """The folder of each target, made when it is asked for."""

    def __init__(self, base: Path) -> None:
        super().__init__()
        self.base = base

    def __missing__(self, target: str) -> Path:
        compiled(target).save(self.base / target)
        self[target] = self.base / target
        return self[target]


def given(**changes: Array) -> dict[str, Array]:
    """Input for the network, some of it otherwise."""
    rng = np.random.default_rng(1)
    return {name: (rng.random((30, 2, 4)) < 0.5).astype(np.float32) for name in ("file", "steps")} | changes


def run(
    folder: Path, *arguments: str | Path, script: str = "run.py", python: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    """A script of a folder, in a Python that cannot import snnir."""
    command = [python, "-c", WITHOUT_SNNIR, str(folder / script), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    return subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, check=False, env=environment)


def arguments(target: str, source: Path, into: Path) -> list[str | Path]:
    """How a target's script is told its files."""
    return [source, "-o", into] if target.startswith(("lava", "xylo", "placed")) else [source, into]


def script(target: str) -> str:
    """The script that needs no other software than it is tested with."""
    return "simulate.py" if target == "lava" else "run.py"
