"""Chip parts of a placement in the makers' own software, Lava 0.10 and xylosim: bit for bit as their simulators."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import snnir
from snnir.backends.lava.environment import find
from snnir.errors import UsageError
from snnir.placement.compiled import PartitionArtifact
from tests.test_placement_run import mixed, run_script, spiking_sdit

LAVA = find()
NO_LAVA = "no Lava here (make lava): parts of a placement are not run in it"


@pytest.fixture(scope="module")
def sdit_on_loihi(tmp_path_factory: pytest.TempPathFactory) -> tuple[PartitionArtifact, Path, Path]:
    """SDiT-digits cut between Loihi and ONNX, its folder, and a file with one noise image."""
    folder = tmp_path_factory.mktemp("sdit")
    graph = snnir.load(spiking_sdit())
    result = snnir.compile(graph, "lava", host="onnx")
    result.save(folder / "out")
    rng = np.random.default_rng(5)
    given = {name: rng.normal(size=(1, 1, *graph.shapes[name])) for name in graph.inputs}
    np.savez(folder / "given.npz", **given)
    assert isinstance(result.artifact, PartitionArtifact)
    return result.artifact, folder / "out", folder / "given.npz"


@pytest.mark.parametrize("number", [0, -1])
@pytest.mark.oracle
@pytest.mark.skipif(LAVA is None, reason=NO_LAVA)
def test_a_chip_part_of_sdit_in_lava_itself(sdit_on_loihi: tuple[PartitionArtifact, Path, Path], number: int) -> None:
    artifact, _, given = sdit_on_loihi
    with np.load(given) as file:
        values = artifact.run(dict(file), tuple(c.source for c in artifact.placement.crossings))[1]
    part = artifact.placement.chips[number]
    one = artifact.results[part.name].artifact
    x = {name: np.concatenate([values[name], values[name][:2]]) for name in part.graph.inputs}
    simulated, itself = one.run(x, ()), one.run_vendor(x)  # type: ignore[attr-defined]
    (end,) = part.gives.values()
    assert simulated[0][end].shape == (6, 1, 34, 48)
    assert 0.01 < simulated[0][end].mean() < 0.9
    assert np.array_equal(simulated[0][end], itself[0][end])


@pytest.mark.oracle
@pytest.mark.skipif(LAVA is None, reason=NO_LAVA)
def test_all_of_sdit_with_its_chip_parts_in_lava(
    sdit_on_loihi: tuple[PartitionArtifact, Path, Path], tmp_path: Path
) -> None:
    _, folder, given = sdit_on_loihi
    found = {}
    for name, how in (("simulated", ()), ("itself", ("--vendor", str(LAVA)))):
        done = run_script(folder, str(given), *how, "-o", str(tmp_path / f"{name}.npz"))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("(lava, in Lava itself)") == (6 if how else 0)
        with np.load(tmp_path / f"{name}.npz") as file:
            found[name] = file["output"]
    assert np.abs(found["itself"]).max() > 0.1
    assert np.array_equal(found["itself"], found["simulated"])


@pytest.mark.oracle
@pytest.mark.skipif(LAVA is None, reason=NO_LAVA)
def test_the_artifact_runs_them_in_lava_too() -> None:
    result = snnir.compile(mixed("value"), "lava", host="onnx")
    assert isinstance(result.artifact, PartitionArtifact)
    x = {"x": (np.random.default_rng(1).random((20, 2, 12)) < 0.3).astype(np.float64)}
    simulated, itself = (result.artifact.run(x, ("b",), chip=chip) for chip in ("compiled", "vendor"))  # type: ignore[arg-type]
    assert simulated[1]["b"].sum() > 50
    assert np.array_equal(simulated[1]["b"], itself[1]["b"])
    assert np.array_equal(simulated[0]["y"], itself[0]["y"])


def test_xylo_parts_in_xylosim(tmp_path: Path) -> None:
    snnir.compile(mixed("subtract"), "xylo-audio3", host="torch").save(tmp_path / "out")
    np.savez(tmp_path / "in.npz", x=(np.random.default_rng(1).random((20, 2, 12)) < 0.3).astype(np.float64))
    found = []
    for how in ((), ("--vendor",)):
        done = run_script(tmp_path / "out", str(tmp_path / "in.npz"), *how, "-o", str(tmp_path / "out.npz"))
        assert done.returncode == 0, done.stderr
        assert ("in xylosim" in done.stdout) == bool(how)
        with np.load(tmp_path / "out.npz") as file:
            found.append(file["y"])
    assert found[0].any()
    assert np.array_equal(*found)


def test_vendor_says_what_it_lacks(tmp_path: Path) -> None:
    lava, xylo = tmp_path / "lava", tmp_path / "xylo"
    snnir.compile(mixed("value"), "lava", host="onnx").save(lava)
    compiled = snnir.compile(mixed("subtract"), "xylo-audio3", host="onnx")
    compiled.save(xylo)
    assert "a Python 3.10 that has lava-nc 0.10.0" in run_script(lava, "--vendor").stderr
    assert "no/python does not run" in run_script(lava, "--vendor", "no/python").stderr
    assert "Lava does not run here" in run_script(lava, "--vendor", sys.executable).stderr
    assert "exclude each other" in run_script(lava, "--float", "--vendor", sys.executable).stderr
    assert "takes no Python" in run_script(xylo, "--vendor", sys.executable).stderr
    with pytest.raises(UsageError, match="no software of its chip's maker"):
        compiled.artifact.run({"x": np.zeros((3, 1, 12))}, chip="vendor")  # type: ignore[call-arg]
