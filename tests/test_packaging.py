"""The wheel alone, in an empty environment without torch: load, inspect, compile to a chip, run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from snnir import nir_io, ops
from snnir.graph import chain
from snnir.semantics import Semantics

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: two workers would write into one folder `build`, and what lay there before came along."""
    out = tmp_path_factory.mktemp("wheel")
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("snnir", "frontends", "backends", "models"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    return next(out.glob("*.whl"))


def test_wheel_holds_every_part_under_one_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"snnir"}
    for part in (
        "py.typed",
        "draw/web/page.js",
        "draw/web/page.css",
        "frontends/nir_file.py",
        "backends/xylo/__init__.py",
        "models/__init__.py",
        "conformance/cases/manifest.json",
        "conformance/cases/lif.nir",
        "cli.py",
    ):
        assert f"snnir/{part}" in names or f"snnir/{part.removesuffix('.py')}/__init__.py" in names


def test_wheel_alone_compiles_a_nir_file_to_xylo(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--retries", "10", str(wheel)], check=True)
    rng = np.random.default_rng(0)

    def cuba(n: int) -> ops.CubaLIF:
        full = np.full(n, 1.0)
        return ops.CubaLIF(tau_syn=4e-3 * full, tau_mem=16e-3 * full, r=16 * full, w_in=4 * full, v_threshold=full)

    graph = chain(
        ops.Input(shape=(4,)),
        ops.Linear(weight=rng.normal(0, 0.2, (20, 4))),
        cuba(20),
        ops.Linear(weight=rng.normal(0, 0.2, (3, 20))),
        cuba(3),
        ops.Output(shape=(3,)),
        semantics=Semantics(dt=1e-3, reset="subtract", comparison=">="),
    )
    (tmp_path / "net.nir").write_bytes(nir_io.write(graph))
    np.savez(tmp_path / "x.npz", input=rng.integers(0, 4, (30, 2, 4)))
    snnir = [str(python), "-m", "snnir"]
    run = subprocess.run(
        [*snnir, "compile", "net.nir", "--target", "xylo-audio3", "-o", "chip", "--calibrate", "x.npz"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    manifest = json.loads((tmp_path / "chip" / "manifest.json").read_text())
    assert manifest["target"] == "xylo-audio3"
    assert manifest["latency_steps"] == 1
    inspected = subprocess.run(
        [*snnir, "inspect", "net.nir"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert inspected.returncode == 0, inspected.stderr
    missing = subprocess.run([python, "-c", "import torch"], capture_output=True, check=False)
    assert missing.returncode != 0, "the environment was meant to be without torch"
